//! Takes everything of ours off the cluster's objects, after an uninstall: `oxelb clean`.

use api::{Scope, Service, keys};
use source::{Change, Event, Interest, Object, ServicePatch, Store, Write, WriteError};
use std::collections::BTreeSet;
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

/// Removes our label, addresses, conditions and OpenELB's finalizers from Services that carry our label or our
/// conditions, and OpenELB's finalizers from pools. To be run when no controller runs any more: one that runs would give
/// everything back.
pub async fn clean(store: &Store, namespace: &str) -> Result<Cleaned, CleanError> {
    let interest = Interest {
        scope: Scope::default(),
        namespace: namespace.to_owned(),
        namespaces: false,
        nodes: false,
        slices: false,
        speakers: false,
        memberlist: false,
    };
    let (_needs, needed) = watch::channel(BTreeSet::new());
    let mut events = store.watch(interest, needed);
    let (mut services, mut pools): (Vec<Service>, Vec<String>) = (vec![], vec![]);
    loop {
        match events.recv().await {
            Some(Event::Change(Change::Apply(Object::Service(service)))) => services.push(*service),
            Some(Event::Change(Change::Apply(Object::Pool(eip)))) => {
                if eip.metadata.finalizers.iter().flatten().any(|f| f == keys::LEGACY_POOL_FINALIZER) {
                    pools.extend(eip.metadata.name);
                }
            }
            Some(Event::Synced) => break,
            Some(Event::Reachable(Err(reason))) => return Err(CleanError::Unreachable(reason)),
            Some(_) => {}
            None => return Err(CleanError::Unreachable("the reading of objects ended".to_owned())),
        }
    }
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
