//! Takes everything of ours off the cluster's objects, after an uninstall: `oxelb clean`.

use api::{Eip, Scope, Service, keys};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use source::{Change, Event, Interest, Object, ServicePatch, Store, Write, WriteError};
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
    /// Pools from which OpenELB's finalizer was taken.
    pub pools: usize,
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
/// conditions, and OpenELB's finalizers from pools. To be run when no controller runs any more: one that runs would give
/// everything back.
pub async fn clean(store: &Store, namespace: &str) -> Result<Cleaned, CleanError> {
    let (services, pools) = match store.client() {
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
    for name in pools {
        match write(store, Write::PoolFinalizer { name: name.clone() }).await {
            Ok(()) => cleaned.pools += 1,
            Err(e) => {
                warn!(pool = name, "the finalizer could not be removed: {e}");
                cleaned.failed += 1;
            }
        }
    }
    Ok(cleaned)
}

type Found = (Vec<Service>, Vec<String>);

/// Services, and the pools that have OpenELB's finalizer, once. After an uninstall the pools' CRD is gone: then there are
/// none.
async fn read_cluster(client: &kube::Client) -> Result<Found, CleanError> {
    let (mut services, mut pools): Found = (vec![], vec![]);
    let take = |found: core::Service| services.extend(Service::read(&found, Scope::default()));
    list(&Api::all(client.clone()), take).await.map_err(unreachable)?;
    let take = |found: Eip| pools.extend(to_clean(&found));
    match list(&Api::all(client.clone()), take).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        read => read.map_err(unreachable)?,
    }
    Ok((services, pools))
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

/// The pool's name, when OpenELB's finalizer is on it.
fn to_clean(eip: &Eip) -> Option<String> {
    let ours = eip.metadata.finalizers.iter().flatten().any(|f| f == keys::LEGACY_POOL_FINALIZER);
    eip.metadata.name.clone().filter(|_| ours)
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
    };
    let (_needs, needed) = watch::channel(BTreeSet::new());
    let mut events = store.watch(interest, needed);
    let (mut services, mut pools): Found = (vec![], vec![]);
    loop {
        match events.recv().await {
            Some(Event::Change(Change::Apply(Object::Service(service)))) => {
                services.push(Arc::unwrap_or_clone(service))
            }
            Some(Event::Change(Change::Apply(Object::Pool(eip)))) => {
                pools.extend(to_clean(&eip));
            }
            Some(Event::Synced) => return Ok((services, pools)),
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
