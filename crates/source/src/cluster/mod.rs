//! The API server as a source.

mod connect;
pub(crate) mod kinds;
mod reach;
mod slices;
mod watch;
mod write;

pub(crate) use write::stamp;

use crate::types::{Event, Interest, Object, ObjectRef, Write, WriteError};
use crate::{OpenError, QUEUE};
use api::{BgpConf, BgpPeer, Eip, ServiceKey, Speaker, keys};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1 as core;
use kinds::{Closed, Outlet, name};
use kube::Client;
use kube::api::ObjectMeta;
use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// A Kubernetes API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    pub(crate) async fn open(kubeconfig: Option<PathBuf>, namespace: String) -> Result<Cluster, OpenError> {
        let client = connect::client(connect::config(kubeconfig).await?)?;
        Ok(Cluster { client, namespace })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Boxed, so that its code is there once and not in every place that waits for it.
    pub(crate) fn write(&self, write: Write) -> BoxFuture<'_, Result<Option<String>, WriteError>> {
        Box::pin(write::write(&self.client, &self.namespace, write))
    }

    pub(crate) fn watch(
        &self,
        interest: Interest,
        needs: tokio::sync::watch::Receiver<BTreeSet<ServiceKey>>,
    ) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(QUEUE);
        let (reports, reported) = mpsc::channel(QUEUE);
        let mut tasks = Tasks { client: self.client(), outlet: Outlet { events, reports }, kinds: vec![] };
        tasks.follow::<Eip>("eips", None, None, |m| ObjectRef::Pool(name(m)), |o| Some(kinds::pool(o)));
        let (service, scope) = (|m: &ObjectMeta| ObjectRef::Service(kinds::service_key(m)), interest.scope);
        tasks.follow::<core::Service>("services", None, None, service, move |o| kinds::service(&o, scope));
        if interest.nodes {
            tasks.follow::<core::Node>("nodes", None, None, |m| ObjectRef::Node(name(m)), |o| Some(kinds::node(&o)));
        }
        if interest.namespaces {
            let reference = |m: &ObjectMeta| ObjectRef::Namespace(name(m));
            tasks.follow::<core::Namespace>("namespaces", None, None, reference, |o| Some(kinds::namespace(o)));
        }
        if interest.speakers {
            tasks.follow::<Speaker>(
                "speakers",
                None,
                None,
                |m| ObjectRef::Speaker(name(m)),
                |o| Some(kinds::speaker(o)),
            );
        }
        if interest.bgp {
            let one = Some(format!("metadata.name={}", keys::BGP_CONF));
            let reference = |m: &ObjectMeta| ObjectRef::BgpConf(name(m));
            tasks.follow::<BgpConf>("bgpconfs", None, one, reference, kinds::bgp_conf);
            let reference = |m: &ObjectMeta| ObjectRef::BgpPeer(name(m));
            tasks.follow::<BgpPeer>("bgppeers", None, None, reference, kinds::bgp_peer);
        }
        if interest.memberlist {
            let (namespace, one) = (Some(&*interest.namespace), format!("metadata.name={}", keys::MEMBERLIST_SECRET));
            let reduce = |o: core::Secret| kinds::memberlist(o.data);
            tasks.follow::<core::Secret>("secrets", namespace, Some(one), |_| ObjectRef::Memberlist, reduce);
        }
        if interest.policies {
            let (namespace, one) = (Some(&*interest.namespace), format!("metadata.name={}", keys::BGP_PASSWORDS));
            let reduce = |o: core::Secret| Some(kinds::passwords(o.data));
            tasks.follow::<core::Secret>(
                "secret bgp-passwords",
                namespace,
                Some(one),
                |_| ObjectRef::Passwords,
                reduce,
            );
        }
        if interest.ownership || interest.policies {
            // Policies have any name.
            let one = (!interest.policies).then(|| format!("metadata.name={}", keys::OWNERSHIP));
            let reference = |m: &ObjectMeta| match name(m) {
                ownership if ownership == keys::OWNERSHIP => ObjectRef::Ownership,
                policy => ObjectRef::Policy(policy),
            };
            let reduce = |o: core::ConfigMap| match o.metadata.name.as_deref() {
                Some(keys::OWNERSHIP) => Some(kinds::ownership(o.data)),
                _ => kinds::policy(&o),
            };
            tasks.follow::<core::ConfigMap>("configmaps", Some(&*interest.namespace), one, reference, reduce);
        }
        if interest.slices {
            tasks.kinds.push(slices::KIND);
            tasks.spawn(slices::follow(tasks.client.clone(), tasks.outlet.clone(), needs));
        }
        let (kinds, events) = (tasks.kinds.clone(), tasks.outlet.events.clone());
        tasks.spawn(async move {
            reach::run(&kinds, reported, events).await;
            Ok(())
        });
        receiver
    }
}

struct Tasks {
    client: Client,
    outlet: Outlet,
    kinds: Vec<&'static str>,
}

impl Tasks {
    fn follow<K: watch::Kind>(
        &mut self,
        kind: &'static str,
        namespace: Option<&str>,
        fields: Option<String>,
        reference: impl Fn(&ObjectMeta) -> ObjectRef + Send + 'static,
        reduce: impl Fn(K) -> Option<Object> + Send + 'static,
    ) {
        self.kinds.push(kind);
        let from = (kind, K::url_path(&(), namespace), fields);
        self.spawn(kinds::follow(self.client.clone(), from, self.outlet.clone(), reference, reduce));
    }

    /// Runs the task until the reader is gone.
    fn spawn(&self, task: impl Future<Output = Result<(), Closed>> + Send + 'static) {
        let events = self.outlet.events.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = events.closed() => {}
                _ = task => {}
            }
        });
    }
}
