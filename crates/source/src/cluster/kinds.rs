//! The kinds that are read, each reduced as soon as it arrives.

use super::reach::Report;
use super::watch::{Kind, Step, watch};
use crate::changes::Told;
use crate::types::{Event, Namespace, Object, ObjectRef, Policy};
use api::{BgpConf, BgpPeer, Eip, Node, Ownership, Scope, Service, ServiceKey, Speaker, keys};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::ObjectMeta;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Where a watch tells what it reads and how it fares.
#[derive(Clone)]
pub(super) struct Outlet {
    pub events: mpsc::Sender<Event>,
    pub reports: mpsc::Sender<(&'static str, Report)>,
}

/// The reader is gone.
pub(super) struct Closed;

impl Outlet {
    pub async fn event(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }

    pub async fn report(&self, kind: &'static str, report: Report) -> Result<(), Closed> {
        self.reports.send((kind, report)).await.map_err(|_| Closed)
    }
}

/// Reads one kind until the reader is gone. `reduce` gives `None` for an object that is not of interest.
pub(super) async fn follow<K: Kind>(
    client: Client,
    (kind, path, fields): (&'static str, String, Option<String>),
    outlet: Outlet,
    reference: impl Fn(&ObjectMeta) -> ObjectRef,
    reduce: impl Fn(K) -> Option<Object>,
) -> Result<(), Closed> {
    let mut told = Told::default();
    let mut steps = Box::pin(watch::<K>(client, path, fields));
    while let Some(step) = steps.next().await {
        match step {
            Step::Begin => {
                told.begin();
                // A long list takes its time, and that is no outage.
                outlet.report(kind, Report::Answered).await?;
            }
            Step::Apply(object) => {
                let key = reference(object.meta());
                let change = match reduce(object) {
                    Some(object) => told.apply(object),
                    None => told.delete(key),
                };
                if let Some(change) = change {
                    outlet.event(Event::Change(change)).await?;
                }
            }
            Step::Delete(object) => {
                if let Some(change) = told.delete(reference(object.meta())) {
                    outlet.event(Event::Change(change)).await?;
                }
            }
            Step::Listed => {
                for change in told.listed() {
                    outlet.event(Event::Change(change)).await?;
                }
                outlet.report(kind, Report::Listed).await?;
            }
            Step::Resumed => outlet.report(kind, Report::Answered).await?,
            Step::Failed(reason) => outlet.report(kind, Report::Failed(reason)).await?,
        }
    }
    Ok(())
}

/// The name of an object.
pub(crate) fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

/// The key of a Service; manifests need not name the namespace `default`.
pub(crate) fn service_key(meta: &ObjectMeta) -> ServiceKey {
    ServiceKey::new(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// A Service, when it is any of our business.
pub(crate) fn service(object: &core::Service, scope: Scope) -> Option<Object> {
    Service::read(object, scope).map(|service| Object::Service(service.into()))
}

/// A pool as written. Its version is left out: our own writes of status would change it.
pub(crate) fn pool(mut object: Eip) -> Object {
    strip(&mut object.metadata);
    Object::Pool(Box::new(object))
}

/// A Speaker, likewise.
pub(crate) fn speaker(mut object: Speaker) -> Object {
    strip(&mut object.metadata);
    Object::Speaker(Box::new(object))
}

/// The BgpConf as written; `None` for others than the one that counts, and for one that is deleted. Its status is what
/// speakers say.
pub(crate) fn bgp_conf(mut object: BgpConf) -> Option<Object> {
    let counts = name(&object.metadata) == keys::BGP_CONF;
    strip(&mut object.metadata);
    object.status = None;
    Some(Object::BgpConf(Box::new(object))).filter(|object| counts && there(object))
}

/// A BgpPeer as written, likewise.
pub(crate) fn bgp_peer(mut object: BgpPeer) -> Option<Object> {
    strip(&mut object.metadata);
    object.status = None;
    Some(Object::BgpPeer(Box::new(object))).filter(there)
}

/// What is deleted is told only for as long as a finalizer of OpenELB is to be taken off it (D15).
fn there(object: &Object) -> bool {
    !object.being_deleted() || object.has_legacy_finalizer()
}

fn strip(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.resource_version = None;
}

/// A Node.
pub(crate) fn node(object: &core::Node) -> Object {
    Object::Node(Node::from(object))
}

/// A Namespace.
pub(crate) fn namespace(object: core::Namespace) -> Object {
    Object::Namespace(Namespace { name: name(&object.metadata), labels: object.metadata.labels.unwrap_or_default() })
}

/// The keys in the Secret `memberlist`: the current one, then any other by name (rotation); `None` without a key.
pub(crate) fn memberlist(data: Option<BTreeMap<String, ByteString>>) -> Option<Object> {
    let mut data = data?;
    let mut all: Vec<Vec<u8>> = data.remove(keys::MEMBERLIST_KEY).into_iter().map(|key| key.0).collect();
    all.extend(data.into_values().map(|key| key.0));
    all.retain(|key| !key.is_empty());
    (!all.is_empty()).then_some(Object::Memberlist(all))
}

/// The ConfigMap `oxelb-ownership`.
pub(crate) fn ownership(data: Option<BTreeMap<String, String>>) -> Object {
    Object::Ownership(Ownership::read(&data.unwrap_or_default()).map_err(|e| e.to_string()))
}

/// A ConfigMap with a policy for BGP; `None` for any other.
pub(crate) fn policy(object: &core::ConfigMap) -> Option<Object> {
    let text = object.data.as_ref()?.get(keys::POLICY_FILE)?.clone();
    Some(Object::Policy(Policy { name: name(&object.metadata), text }))
}

/// The Secret `bgp-passwords`. What is no text is no password that anybody can type into a router.
pub(crate) fn passwords(data: Option<BTreeMap<String, ByteString>>) -> Object {
    let text = |(peer, password): (String, ByteString)| Some((peer, String::from_utf8(password.0).ok()?));
    Object::Passwords(data.unwrap_or_default().into_iter().filter_map(text).collect())
}
