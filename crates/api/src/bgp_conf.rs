//! BgpConf: how BGP runs on every node, as users write it (compat §1.3, §1.5). Only the object `default` counts.

use crate::condition::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How BGP runs on every node.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha2",
    kind = "BgpConf",
    plural = "bgpconfs",
    singular = "bgpconf",
    derive = "PartialEq",
    derive = "Default",
    status = "BgpConfStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct BgpConfSpec {
    /// The local AS number; 0 means that BGP is not configured.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub asn: Option<i64>,
    /// The local AS number of nodes with the rack label openelb.kubesphere.io/rack, by its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_per_rack: Option<BTreeMap<String, i64>>,
    /// The BGP identifier. Empty means the node's first InternalIP, which is right nearly always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// The TCP port to listen on: 0 or nothing means 179, a negative one none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<i64>,
    /// The addresses to listen on. Empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_addresses: Option<Vec<String>>,
    /// Address families: 0 is IPv4 unicast, 1 is IPv6 unicast. Empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<i64>>,
    /// Accepted: routes that are received are never installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_multiple_paths: Option<bool>,
    /// Graceful restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// The ConfigMap in the namespace of oxelb whose key gobgp.conf holds the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Graceful restart, as GoBGP's configuration names it.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GracefulRestart {
    /// Whether it is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long peers keep routes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_time: Option<i64>,
    /// Help peers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper_only: Option<bool>,
    /// How long route selection waits, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferral_time: Option<i64>,
    /// Keep routes also after a NOTIFICATION (RFC 8538).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_enabled: Option<bool>,
    /// Long-lived graceful restart (RFC 9494).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longlived_enabled: Option<bool>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_routes_time: Option<i64>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_restart_time: Option<i64>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_restarting: Option<bool>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_restarting: Option<bool>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What each node says.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpConfStatus {
    /// By node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes_conf_status: BTreeMap<String, NodeConfStatus>,
}

/// What one node uses.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfStatus {
    /// Its BGP identifier.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub router_id: String,
    /// Its AS number.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub asn: Option<i64>,
    /// What is wrong with the BgpConf, or has no effect, as this node sees it: type Accepted. None when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
