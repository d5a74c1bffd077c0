//! EndpointSlices, only of the Services that need them. One watch over all slices keeps only theirs; a Service that
//! comes to need its slices later gets them by a list of its own.

use super::kinds::{Closed, Outlet};
use super::reach::Report;
use super::watch::{Failure, Step, list, watch};
use crate::changes::hash;
use crate::types::{Change, Event, Object, ObjectRef};
use api::{EndpointSlice, ServiceKey, SliceKey, keys};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch::Receiver;

/// Its name in reports.
pub(super) const KIND: &str = "endpointslices";
/// How long to wait before a Service's failed list is tried again.
const AGAIN: Duration = Duration::from_millis(500);

struct Held {
    service: ServiceKey,
    hash: u64,
}

struct Slices {
    client: Client,
    outlet: Outlet,
    wanted: BTreeSet<ServiceKey>,
    /// The version up to which a Service's slices are known by a list of its own: what the watch says of them up to
    /// there is old. 0 when the watch's own list brought, or brings, them. Services that are not here are not known.
    known: BTreeMap<ServiceKey, u64>,
    /// Services whose slices the watch's own list is bringing for the first time.
    coming: BTreeSet<ServiceKey>,
    held: BTreeMap<SliceKey, Held>,
    /// While the watch reads everything anew: what has not come again.
    missing: Option<BTreeSet<SliceKey>>,
}

/// Reads the slices of the Services in `needs` until the reader is gone.
pub(super) async fn follow(
    client: Client,
    outlet: Outlet,
    mut needs: Receiver<BTreeSet<ServiceKey>>,
) -> Result<(), Closed> {
    let wanted = needs.borrow_and_update().clone();
    let mut slices = Slices {
        client,
        outlet,
        wanted,
        known: BTreeMap::new(),
        coming: BTreeSet::new(),
        held: BTreeMap::new(),
        missing: None,
    };
    let mut steps: Option<BoxStream<'static, Step<discovery::EndpointSlice>>> = None;
    let mut open = true;
    if slices.wanted.is_empty() {
        slices.outlet.report(KIND, Report::Listed).await?;
    }
    loop {
        match (&steps, slices.wanted.is_empty()) {
            (Some(_), true) => {
                steps = None;
                slices.known.clear();
                slices.coming.clear();
                slices.missing = None;
                // Nothing is needed, so that everything that is needed was read.
                slices.outlet.report(KIND, Report::Listed).await?;
            }
            (None, false) => steps = Some(watch(slices.client.clone(), path(None), None).boxed()),
            _ => {}
        }
        let unread = steps.is_some() && slices.unread().is_some();
        let next = async {
            match &mut steps {
                Some(steps) => steps.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = needs.changed(), if open => match changed {
                Ok(()) => {
                    let wanted = needs.borrow_and_update().clone();
                    slices.want(wanted, steps.is_some()).await?;
                }
                Err(_) => open = false, // it stays as it is
            },
            step = next => if let Some(step) = step { slices.step(step).await? },
            () = tokio::time::sleep(AGAIN), if unread => slices.read_missing().await?,
        }
    }
}

fn path(namespace: Option<&str>) -> String {
    discovery::EndpointSlice::url_path(&(), namespace)
}

/// Versions are decimal numbers that rise (API conventions since Kubernetes 1.35; in fact they always were).
fn version(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Slices {
    fn unread(&self) -> Option<&ServiceKey> {
        self.wanted.iter().find(|service| !self.known.contains_key(*service))
    }

    async fn want(&mut self, wanted: BTreeSet<ServiceKey>, watching: bool) -> Result<(), Closed> {
        self.wanted = wanted;
        self.known.retain(|service, _| self.wanted.contains(service));
        self.coming.retain(|service| self.wanted.contains(service));
        let gone: Vec<SliceKey> = self
            .held
            .iter()
            .filter(|(_, held)| !self.wanted.contains(&held.service))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.drop(key).await?;
        }
        // Without a watch the list that it starts with brings them all.
        if watching { self.read_missing().await } else { Ok(()) }
    }

    /// Reads the slices of Services that came to need them after the watch began.
    async fn read_missing(&mut self) -> Result<(), Closed> {
        while let Some(service) = self.unread().cloned() {
            match self.list(&service).await {
                Ok((list, version)) => {
                    for slice in &list {
                        self.keep(slice).await?;
                    }
                    self.known.insert(service.clone(), version);
                    self.outlet.event(Event::SlicesRead(service)).await?;
                }
                Err(failure) => {
                    tracing::debug!("EndpointSlices of {service}: {}; trying on", failure.reason(&path(None)));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn list(&self, service: &ServiceKey) -> Result<(Vec<discovery::EndpointSlice>, u64), Failure> {
        let params = ListParams::default().labels(&format!("{}={}", keys::SLICE_SERVICE, service.name()));
        let list = list(&self.client, &Request::new(path(Some(service.namespace()))), &params).await?;
        Ok((list.items, version(list.metadata.resource_version)))
    }

    async fn step(&mut self, step: Step<discovery::EndpointSlice>) -> Result<(), Closed> {
        match step {
            Step::Begin => {
                self.missing = Some(self.held.keys().cloned().collect());
                for service in &self.wanted {
                    if !self.known.contains_key(service) {
                        self.known.insert(service.clone(), 0);
                        self.coming.insert(service.clone());
                    }
                }
                self.outlet.report(KIND, Report::Answered).await?;
            }
            Step::Apply(slice) => {
                if let Some(missing) = &mut self.missing {
                    missing.remove(&key(&slice));
                }
                if self.is_new(&slice) {
                    self.keep(&slice).await?;
                }
            }
            Step::Delete(slice) => {
                if self.is_new(&slice) {
                    self.drop(key(&slice)).await?;
                }
            }
            Step::Listed => {
                for key in self.missing.take().unwrap_or_default() {
                    self.drop(key).await?;
                }
                for service in std::mem::take(&mut self.coming) {
                    self.outlet.event(Event::SlicesRead(service)).await?;
                }
                self.outlet.report(KIND, Report::Listed).await?;
            }
            Step::Resumed => self.outlet.report(KIND, Report::Answered).await?,
            Step::Failed(reason) => self.outlet.report(KIND, Report::Failed(reason)).await?,
        }
        Ok(())
    }

    /// Whether the watch says something of a wanted slice that its Service's own list did not say already.
    fn is_new(&self, slice: &discovery::EndpointSlice) -> bool {
        let key = key(slice);
        let service = slice.labels().get(keys::SLICE_SERVICE).map(|name| ServiceKey::new(key.namespace(), name));
        // A slice whose label was changed is not of its old Service any more.
        if self.held.get(&key).is_some_and(|held| Some(&held.service) != service.as_ref()) {
            return true;
        }
        let Some(service) = service else { return false };
        self.known.get(&service).is_some_and(|known| version(slice.resource_version()) > *known)
    }

    async fn keep(&mut self, slice: &discovery::EndpointSlice) -> Result<(), Closed> {
        let Some(slice) = EndpointSlice::read(slice).filter(|slice| self.wanted.contains(&slice.service)) else {
            return self.drop(key(slice)).await;
        };
        let held = Held { service: slice.service.clone(), hash: hash(&slice) };
        let before = self.held.insert(slice.key.clone(), held);
        if before.is_some_and(|before| before.hash == hash(&slice)) {
            return Ok(());
        }
        self.outlet.event(Event::Change(Change::Apply(Object::Slice(slice)))).await
    }

    async fn drop(&mut self, key: SliceKey) -> Result<(), Closed> {
        match self.held.remove(&key) {
            Some(_) => self.outlet.event(Event::Change(Change::Delete(ObjectRef::Slice(key)))).await,
            None => Ok(()),
        }
    }
}

fn key(slice: &discovery::EndpointSlice) -> SliceKey {
    SliceKey::new(slice.meta().namespace.as_deref().unwrap_or_default(), &slice.name_any())
}
