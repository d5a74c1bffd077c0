//! Annotations are where most mistakes are made: nothing refuses one that is misspelt or stands in the wrong place.

use super::document::{Entry, Node, Value};
use super::nearest::nearest;
use super::report::Finding;
use api::{Scope, keys};
use std::net::IpAddr;

/// Every annotation that OpenELB or oxelb knows on a Service.
const ON_SERVICES: &[&str] = &[
    keys::OPT_IN,
    keys::POOL,
    keys::ADDRESS,
    keys::PROTOCOL,
    keys::NODE_PROXY,
    "layer2.openelb.kubesphere.io/v1alpha1",
    "node-proxy.openelb.kubesphere.io/external-ip",
    "node-proxy.openelb.kubesphere.io/internal-ip",
];
/// The same on Eip, BgpConf and BgpPeer.
const ON_OTHERS: &[&str] =
    &[keys::DEFAULT_POOL, keys::FORCE_DELETE, keys::OPT_IN, "openelb.io/alias", "openelb.io/description"];
/// The names of PorterLB, as OpenELB was called up to 0.4.
const PORTER: &[(&str, &str)] = &[
    ("protocol.porter.kubesphere.io/v1alpha1", keys::PROTOCOL),
    ("eip.porter.kubesphere.io/v1alpha2", keys::POOL),
    ("eip.porter.kubesphere.io/v1alpha1", keys::ADDRESS),
];
/// The fields of `metadata` that people write.
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Findings about `metadata` of an object that oxelb reads.
pub fn check(object: &Node, kind: &str, scope: Scope, found: &mut Vec<Finding>) {
    let known = if kind == "Service" { ON_SERVICES } else { ON_OTHERS };
    let Some(metadata) = object.get("metadata") else { return };
    for entry in metadata.entries().iter().filter(|e| !METADATA.contains(&e.key.as_str())) {
        let key = &entry.key;
        let meant = if key.contains('/') || known.contains(&key.as_str()) {
            format!(
                "stands straight under metadata, where it has no effect; move it under metadata.annotations{}",
                spelt(key, known)
            )
        } else if let Some(field) = nearest(key, METADATA.iter().copied()) {
            format!("there is no such field; did you mean {field}?")
        } else {
            "there is no such field".to_owned()
        };
        found.push(Finding::error(entry.at, format!("metadata.{key}: {meant}")));
    }
    let Some(annotations) = metadata.get("annotations") else { return };
    for entry in annotations.entries() {
        let Entry { key, at, node } = entry;
        let path = format!("metadata.annotations[{key}]");
        if let Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) = node.value {
            let text = node.json().to_string();
            found.push(Finding::error(node.at, format!("{path}: must be text: write {:?}, with quotes", text)));
        }
        if let Some((_, now)) = PORTER.iter().find(|(old, _)| old == key) {
            found.push(Finding::error(*at, format!("{path}: is PorterLB's name and has no effect; write {now}")));
        } else if !known.contains(&key.as_str())
            && let Some(meant) = nearest(key, known.iter().copied())
        {
            found.push(Finding::error(*at, format!("{path}: has no effect; did you mean {meant}?")));
        }
    }
    if kind == "Service" {
        service(object, annotations, scope, found);
    } else if let Some(entry) = annotations.entry(keys::DEFAULT_POOL)
        && let Some(value) = entry.node.text().filter(|v| !["true", "false"].contains(v))
    {
        let message =
            format!("metadata.annotations[{}]: {value:?} makes no default pool; write \"true\"", keys::DEFAULT_POOL);
        found.push(Finding::error(entry.node.at, message));
    }
}

fn spelt(key: &str, known: &[&str]) -> String {
    match nearest(key, known.iter().copied()) {
        Some(meant) if meant != key => format!(" and write {meant}"),
        _ => String::new(),
    }
}

fn service(object: &Node, annotations: &Node, scope: Scope, found: &mut Vec<Finding>) {
    let value = |key: &str| annotations.entry(key).and_then(|e| Some((e, e.node.text()?)));
    let class = object.text_at(&["spec", "loadBalancerClass"]);
    let ours = class.map_or(scope.default_load_balancer, |class| class == keys::CLASS);
    let opted_in = value(keys::OPT_IN).is_some_and(|(_, v)| v == keys::OPT_IN_VALUE) || ours;
    if let Some((entry, wrong)) = value(keys::OPT_IN).filter(|(_, v)| *v != keys::OPT_IN_VALUE) {
        let message = format!(
            "metadata.annotations[{}]: {wrong:?} opts in to nothing; write {}",
            keys::OPT_IN,
            keys::OPT_IN_VALUE
        );
        found.push(Finding::error(entry.node.at, message));
    }
    if let Some((entry, pool)) = value(keys::POOL) {
        let path = format!("metadata.annotations[{}]", keys::POOL);
        if pool.parse::<IpAddr>().is_ok() {
            let message = format!("{path}: {pool} is an address, and this names a pool; write it to {}", keys::ADDRESS);
            found.push(Finding::error(entry.at, message));
        } else if !opted_in && value(keys::OPT_IN).is_none() {
            let message = format!(
                "{path}: has no effect without the annotation {}: {}; add it",
                keys::OPT_IN,
                keys::OPT_IN_VALUE
            );
            found.push(Finding::error(entry.at, message));
        }
    }
    if let Some((entry, text)) = value(keys::ADDRESS) {
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty() && p.parse::<IpAddr>().is_err()) {
            let message = format!(
                "metadata.annotations[{}]: {part:?} is no IP address; a pool is named by {}",
                keys::ADDRESS,
                keys::POOL
            );
            found.push(Finding::error(entry.node.at, message));
        }
    }
    if let Some((entry, protocol)) = value(keys::PROTOCOL)
        && !["bgp", "layer2", "vip"].contains(&protocol)
    {
        let message = format!(
            "metadata.annotations[{}]: {protocol:?} is none of bgp, layer2, vip; leave it out, the pool decides",
            keys::PROTOCOL
        );
        found.push(Finding::warning(entry.node.at, message));
    }
    let kind = object.text_at(&["spec", "type"]).unwrap_or("ClusterIP");
    let named = value(keys::OPT_IN).is_some() || value(keys::POOL).is_some();
    if opted_in && named && kind != "LoadBalancer" {
        let message = format!("spec.type: {kind} gets no address from a pool; write LoadBalancer");
        let at = object.place_of(&message);
        found.push(Finding::warning(at, message));
    }
}
