//! A Node as oxelb reads it.

use crate::keys;
use crate::selector::Labels;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its InternalIPs, in order.
    pub addresses: Vec<IpAddr>,
    /// Condition Ready is True (or there is no such condition, as in a folder of manifests).
    pub ready: bool,
    /// Condition NetworkUnavailable is True.
    pub network_unavailable: bool,
    /// It carries the label that keeps load balancers off.
    pub excluded: bool,
    /// It is cordoned.
    pub unschedulable: bool,
    /// It is to hand its addresses over ([`keys::DRAIN`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// How many addresses it is to own in relation to others ([`keys::WEIGHT`]); none where nothing valid is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Its labels.
    pub labels: Labels,
}

impl From<&core::Node> for Node {
    fn from(object: &core::Node) -> Node {
        let status = object.status.as_ref();
        let condition = |type_: &str| {
            status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == type_)).map(|c| c.status == "True")
        };
        let addresses = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
        let annotation = |key: &str| object.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(|v| v.trim());
        let labels = object.metadata.labels.clone().unwrap_or_default();
        Node {
            name: object.metadata.name.clone().unwrap_or_default(),
            addresses: addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect(),
            ready: condition("Ready").unwrap_or(true),
            network_unavailable: condition("NetworkUnavailable").unwrap_or(false),
            excluded: labels.contains_key(keys::EXCLUDE_NODE),
            unschedulable: object.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false),
            drained: annotation(keys::DRAIN) == Some("true"),
            weight: annotation(keys::WEIGHT).and_then(|w| w.parse().ok()).filter(|w| (1..=1000).contains(w)),
            labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn annotations_drain_a_node_and_weigh_it_and_nonsense_counts_for_nothing() {
        let read = |annotations: serde_json::Value| {
            let object = serde_json::from_value(json!({"metadata": {"name": "n1", "annotations": annotations}}));
            let node = Node::from(&object.unwrap());
            (node.drained, node.weight)
        };
        assert_eq!(read(json!({keys::DRAIN: "true", keys::WEIGHT: "200"})), (true, Some(200)));
        assert_eq!(read(json!({keys::DRAIN: "false", keys::WEIGHT: "0"})), (false, None));
        assert_eq!(read(json!({keys::WEIGHT: "heavy"})), (false, None));
    }
}
