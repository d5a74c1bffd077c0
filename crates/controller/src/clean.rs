//! Takes everything of ours off the cluster's objects, after an uninstall: `oxelb clean`.

use api::{BgpConf, BgpPeer, Eip, Scope, Service, keys};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use source::{Change, Event, Interest, Object, ObjectRef, ServicePatch, Store, Write, WriteError};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Services from which something of ours was taken.
    pub services: usize,
    /// Pools, BgpConfs and BgpPeers from which OpenELB's finalizer was taken.
    pub finalizers: usize,
    /// Objects that could not be cleaned; the log says why.
    pub failed: usize,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The objects cannot be read.
    #[error("nothing was cleaned: {0}")]
    Unreachable(String),
}

/// How often a write is tried that conflicts or that the API server does not take.
const TRIES: usize = 5;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// Removes our label, addresses, conditions and OpenELB's finalizers from Services that carry our label or our
/// conditions, and OpenELB's finalizers from pools, BgpConfs and BgpPeers. To be run when no controller runs any more: one that runs would give
/// everything back.
pub async fn clean(store: &Store, namespace: &str) -> Result<Cleaned, CleanError> {
    let (services, legacy) = match store.client() {
        Some(client) => read_cluster(&client).await?,
        None => read_folder(store, namespace).await?,
    };
    let mut cleaned = Cleaned::default();
    for service in &services {
        let Some(patch) = patch(service) else { continue };
        match write(store, Write::Service(patch)).await {
            Ok(()) => {
                info!(service = %service.key, "cleaned");
                cleaned.services += 1;
            }
            Err(e) => {
                warn!(service = %service.key, "could not be cleaned: {e}");
                cleaned.failed += 1;
            }
        }
    }
    for of in legacy {
        match write(store, Write::Finalizer { of: of.clone() }).await {
            Ok(()) => cleaned.finalizers += 1,
            Err(e) => {
                warn!(?of, "the finalizer could not be removed: {e}");
                cleaned.failed += 1;
            }
        }
    }
    Ok(cleaned)
}

type Found = (Vec<Service>, Vec<ObjectRef>);

/// Services, and what has a finalizer of OpenELB, once. After an uninstall the CRDs are gone: then there is nothing of
/// them.
async fn read_cluster(client: &kube::Client) -> Result<Found, CleanError> {
    let (mut services, mut legacy): Found = (vec![], vec![]);
    let take = |found: core::Service| services.extend(Service::read(&found, Scope::default()));
    list(&Api::all(client.clone()), take).await.map_err(unreachable)?;
    let mut take = |object: Object| legacy.extend(object.has_legacy_finalizer().then(|| object.reference()));
    gone_is_none(list(&Api::all(client.clone()), |o: Eip| take(Object::Pool(Box::new(o)))).await)?;
    gone_is_none(list(&Api::all(client.clone()), |o: BgpConf| take(Object::BgpConf(Box::new(o)))).await)?;
    gone_is_none(list(&Api::all(client.clone()), |o: BgpPeer| take(Object::BgpPeer(Box::new(o)))).await)?;
    Ok((services, legacy))
}

fn gone_is_none(read: kube::Result<()>) -> Result<(), CleanError> {
    match read {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        read => read.map_err(unreachable),
    }
}

fn unreachable(error: kube::Error) -> CleanError {
    CleanError::Unreachable(error.to_string())
}

async fn list<K: Clone + DeserializeOwned + Debug>(api: &Api<K>, mut take: impl FnMut(K)) -> kube::Result<()> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(()),
        }
    }
}

async fn read_folder(store: &Store, namespace: &str) -> Result<Found, CleanError> {
    let interest = Interest {
        scope: Scope::default(),
        namespace: namespace.to_owned(),
        namespaces: false,
        nodes: false,
        slices: false,
        speakers: false,
        memberlist: false,
        ownership: false,
        bgp: false,
        policies: false,
    };
    let (_needs, needed) = watch::channel(BTreeSet::new());
    let mut events = store.watch(interest, needed);
    let mut services = vec![];
    loop {
        match events.recv().await {
            Some(Event::Change(Change::Apply(Object::Service(service)))) => {
                services.push(Arc::unwrap_or_clone(service))
            }
            // In a folder nothing hangs on a finalizer.
            Some(Event::Synced) => return Ok((services, vec![])),
            Some(Event::Reachable(Err(reason))) => return Err(CleanError::Unreachable(reason)),
            Some(_) => {}
            None => return Err(CleanError::Unreachable("the reading of objects ended".to_owned())),
        }
    }
}

/// What takes everything of ours off a Service; `None` when nothing of ours is on it.
fn patch(service: &Service) -> Option<ServicePatch> {
    let ours: Vec<String> = [keys::ADDRESS_ASSIGNED, keys::ANNOUNCED]
        .into_iter()
        .filter(|type_| service.condition(type_).is_some())
        .map(str::to_owned)
        .collect();
    let is_ours = service.pool_label.is_some() || !ours.is_empty();
    if !is_ours && !service.legacy_finalizer {
        return None;
    }
    let mut patch = ServicePatch::of(service);
    patch.ingress = (is_ours && service.has_ingress).then(Vec::new);
    patch.pool_label = service.pool_label.is_some().then_some(None);
    patch.remove_conditions = ours;
    patch.remove_finalizer = service.legacy_finalizer;
    Some(patch)
}

async fn write(store: &Store, write: Write) -> Result<(), WriteError> {
    let mut result = Ok(None);
    for _ in 0..TRIES {
        result = store.write(write.clone()).await;
        match &result {
            Err(WriteError::Unavailable(_)) => tokio::time::sleep(std::time::Duration::from_millis(500)).await,
            Ok(_) | Err(WriteError::Gone) => return Ok(()),
            Err(WriteError::Conflict | WriteError::Refused(_)) => break,
        }
    }
    result.map(drop)
}
