//! A Service as oxelb reads it: only what decides over its address and its announcement.

use crate::address::Family;
use crate::condition::Condition;
use crate::keys;
use crate::namespaced::Namespaced;
use crate::selector::Labels;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Namespace and name of a Service; as text `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey(Namespaced);

impl ServiceKey {
    /// The key of the Service `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> ServiceKey {
        ServiceKey(Namespaced::new(namespace, name))
    }

    /// The Service's namespace.
    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// The Service's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the namespace/name of a Service")]
pub struct InvalidServiceKey(String);

impl FromStr for ServiceKey {
    type Err = InvalidServiceKey;
    fn from_str(s: &str) -> Result<Self, InvalidServiceKey> {
        match s.split_once('/') {
            Some((ns, name)) if !ns.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ServiceKey::new(ns, name))
            }
            _ => Err(InvalidServiceKey(s.to_owned())),
        }
    }
}

/// Which Services are ours besides those that opt in by annotation or class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Also those of type LoadBalancer without a class (`--default-load-balancer`).
    pub default_load_balancer: bool,
}

/// A Service that is, was or may be ours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Tells a Service from one that was deleted and made again under the same name.
    pub uid: String,
    /// The version that was read; a write that names it fails when the Service has changed since.
    pub resource_version: String,
    /// We give it an address and announce it: type LoadBalancer, opted in, not being deleted, not in NodeProxy mode.
    pub served: bool,
    /// The pool that the user named (annotation).
    pub wanted_pool: Option<String>,
    /// The addresses that the user asked for (annotation before `spec.loadBalancerIP`), or the text that is none.
    pub wanted_addresses: Vec<Result<IpAddr, String>>,
    /// The families of its ClusterIPs, in order; never empty for a served Service.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `spec.externalTrafficPolicy` is Local: only nodes with a serving endpoint may announce.
    pub local: bool,
    /// `spec.selector`.
    pub selector: Labels,
    /// `status.loadBalancer.ingress` as found; entries without an address are left out.
    pub ingress: Vec<IpAddr>,
    /// `status.loadBalancer.ingress` has any entry, also one that is not ours to read (a hostname, `ipMode: Proxy`).
    pub has_ingress: bool,
    /// The label that records the pool (compat §2.1).
    pub pool_label: Option<String>,
    /// OpenELB's finalizer is on it.
    pub legacy_finalizer: bool,
    /// Its conditions, ours and others'.
    pub conditions: Vec<Condition>,
}

impl Default for ServiceKey {
    fn default() -> Self {
        ServiceKey::new("default", "")
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FamilyPolicy {
    /// One family.
    #[default]
    SingleStack,
    /// Both where they can be had.
    PreferDualStack,
    /// Both or nothing.
    RequireDualStack,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port on the load balancer's address.
    pub port: u16,
}

impl Service {
    /// Reads a Service. `None` when it is none of our business: not ours, and nothing on it that we would have to
    /// remove (compat §2.2).
    pub fn read(object: &core::Service, scope: Scope) -> Option<Service> {
        let meta = &object.metadata;
        let spec = object.spec.as_ref()?;
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
        let opted_in = annotation(keys::OPT_IN) == Some(keys::OPT_IN_VALUE)
            || spec.load_balancer_class.as_deref() == Some(keys::CLASS)
            || (scope.default_load_balancer && spec.load_balancer_class.is_none());
        let served = opted_in
            && spec.type_.as_deref() == Some("LoadBalancer")
            && meta.deletion_timestamp.is_none()
            && annotation(keys::NODE_PROXY).is_none();
        let pool_label = meta.labels.as_ref().and_then(|l| l.get(keys::POOL)).cloned();
        let legacy_finalizer = meta.finalizers.iter().flatten().any(|f| f == keys::LEGACY_SERVICE_FINALIZER);
        let status = object.status.as_ref();
        let conditions: Vec<Condition> =
            status.and_then(|s| s.conditions.as_ref()).into_iter().flatten().map(condition).collect();
        let marked = conditions.iter().any(|c| c.type_ == keys::ADDRESS_ASSIGNED || c.type_ == keys::ANNOUNCED);
        if !served && pool_label.is_none() && !legacy_finalizer && !marked {
            return None;
        }
        let ingress = status.and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
        Some(Service {
            key: ServiceKey::new(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            ),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            served,
            wanted_pool: annotation(keys::POOL).map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned),
            wanted_addresses: wanted_addresses(annotation(keys::ADDRESS), spec.load_balancer_ip.as_deref()),
            families: families(spec),
            family_policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
                Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
                _ => FamilyPolicy::SingleStack,
            },
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
            selector: spec.selector.clone().unwrap_or_default(),
            ingress: ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()?.parse().ok()).collect(),
            has_ingress: ingress.is_some_and(|i| !i.is_empty()),
            pool_label,
            legacy_finalizer,
            conditions,
        })
    }

    /// Its condition of a type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_)
    }
}

/// The annotation goes before the field (compat §2.3.1). An empty annotation asks for nothing, and hides the field as
/// OpenELB does. Two addresses, one of each family, may be joined by a comma.
fn wanted_addresses(annotation: Option<&str>, field: Option<&str>) -> Vec<Result<IpAddr, String>> {
    let text = annotation.or(field).unwrap_or_default();
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| t.parse().map_err(|_| t.to_owned())).collect()
}

fn families(spec: &core::ServiceSpec) -> Vec<Family> {
    let named: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    // Manifests in a folder need not say it: then the ClusterIP does, else IPv4.
    let cluster_ip = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    vec![cluster_ip.map_or(Family::V4, Family::of)]
}

fn port(port: &core::ServicePort) -> Option<Port> {
    Some(Port {
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: u16::try_from(port.port).ok()?,
    })
}

fn condition(c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition) -> Condition {
    Condition {
        type_: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
        observed_generation: c.observed_generation,
        last_transition_time: c.last_transition_time.0.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(json: Value) -> Option<Service> {
        Service::read(&serde_json::from_value(json).unwrap(), Scope::default())
    }

    fn service(annotations: Value, spec: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n", "annotations": annotations}, "spec": spec})
    }

    #[test]
    fn a_service_is_ours_by_annotation_or_class_or_default() {
        let opted_in = json!({keys::OPT_IN: "openelb"});
        assert!(read(service(opted_in.clone(), json!({"type": "LoadBalancer"}))).unwrap().served);
        assert!(
            read(service(opted_in.clone(), json!({"type": "LoadBalancer", "loadBalancerClass": "x"}))).unwrap().served
        );
        assert!(
            read(service(json!({}), json!({"type": "LoadBalancer", "loadBalancerClass": keys::CLASS}))).unwrap().served
        );
        assert_eq!(read(service(opted_in, json!({"type": "ClusterIP"}))), None);
        assert_eq!(read(service(json!({keys::OPT_IN: "OpenELB"}), json!({"type": "LoadBalancer"}))), None);
        let plain = serde_json::from_value(service(json!(null), json!({"type": "LoadBalancer"}))).unwrap(); // D6
        assert_eq!(Service::read(&plain, Scope::default()), None);
        assert!(Service::read(&plain, Scope { default_load_balancer: true }).unwrap().served);
    }

    #[test]
    fn a_service_that_was_ours_is_still_read_so_that_it_can_be_cleaned() {
        let json = json!({"metadata": {"name": "s", "labels": {keys::POOL: "p"}}, "spec": {"type": "ClusterIP"}});
        assert!(!read(json).unwrap().served); // D6: no annotations at all
        let json = json!({"metadata": {"name": "s", "finalizers": [keys::LEGACY_SERVICE_FINALIZER]}, "spec": {}});
        assert!(read(json).unwrap().legacy_finalizer);
        // A Service that waited for an address has no label; its condition is still ours to remove.
        let condition = json!({"type": keys::ADDRESS_ASSIGNED, "status": "False", "reason": "PoolFull", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let json = json!({"metadata": {"name": "s"}, "spec": {}, "status": {"conditions": [condition]}});
        assert!(!read(json).unwrap().served);
    }

    #[test]
    fn the_annotation_hides_the_field_even_when_empty() {
        let wanted = |annotations: Value| {
            let mut annotations = annotations;
            annotations[keys::OPT_IN] = json!("openelb");
            read(service(annotations, json!({"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1"})))
                .unwrap()
                .wanted_addresses
        };
        assert_eq!(wanted(json!({})), [Ok("10.0.0.1".parse().unwrap())]);
        assert_eq!(wanted(json!({keys::ADDRESS: "10.0.0.2"})), [Ok("10.0.0.2".parse().unwrap())]);
        assert_eq!(wanted(json!({keys::ADDRESS: ""})), []);
        assert_eq!(wanted(json!({keys::ADDRESS: "ten"})), [Err("ten".to_owned())]);
    }

    #[test]
    fn keys_round_trip() {
        assert_eq!("a/b".parse::<ServiceKey>().unwrap().to_string(), "a/b");
        for bad in ["", "a", "/b", "a/", "a/b/c"] {
            assert!(bad.parse::<ServiceKey>().is_err(), "{bad}");
        }
    }
}
