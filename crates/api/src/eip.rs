//! The Eip: a pool of addresses as users write it (compat §1.1, §1.2), and what oxelb adds, all optional.

use crate::condition::Condition;
use crate::routes::RoutesSpec;
use crate::vrrp::{VirtualRouter, VrrpSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pool of addresses for Services.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha2",
    kind = "Eip",
    plural = "eips",
    singular = "eip",
    category = "networking",
    derive = "PartialEq",
    derive = "Default",
    status = "EipStatus",
    printcolumn = r#"{"name":"cidr","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"usage","type":"integer","jsonPath":".status.usage"}"#,
    printcolumn = r#"{"name":"total","type":"integer","jsonPath":".status.poolSize"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EipSpec {
    /// The addresses of the pool: addresses, CIDRs and ranges first-last, joined by commas, IPv4 and IPv6.
    pub address: String,
    /// Addresses that are never given out; same syntax as address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    /// Never give out IPv4 addresses that end in .0 or .255, which some old equipment drops.
    #[serde(default, rename = "avoidBuggyIPs", skip_serializing_if = "Option::is_none")]
    pub avoid_buggy_ips: Option<bool>,
    /// How the addresses are announced: bgp, layer2 or vip. Empty means bgp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolName>,
    /// The interfaces that announce, by name and joined by commas, or can_reach: and an address. Required for layer2
    /// and vip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Give out no address from this pool any more. Addresses already given stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable: Option<bool>,
    /// Ignored, as OpenELB does.
    #[serde(default, rename = "usingKnownIPs", skip_serializing_if = "Option::is_none")]
    pub using_known_ips: Option<bool>,
    /// Among the pools of a namespace the one with the smallest number is used first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Namespaces whose Services get addresses from this pool without naming it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Labels of namespaces whose Services get addresses from this pool without naming it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<BTreeMap<String, String>>,
    /// Which nodes may announce the addresses of this pool. Empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Which Services may share an address: all of the Cluster (default), those of one Namespace, or None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingName>,
    /// How fast an address of layer2 or vip gets another owner when its node fails, and how sensitive that is to a network or
    /// a CPU that stalls: fast (0.15 s), normal (0.7 s, default) or relaxed (3.2 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverName>,
    /// What happens to an address of layer2 or vip when no majority of the acceptors is heard: available (default) lets a node
    /// own it when nobody answers for it and every speaker that is heard agrees; single-owner leaves it without an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionName>,
    /// What routers are told of addresses of bgp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<RoutesSpec>,
    /// How the owners of addresses of vip say so by VRRP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<VrrpSpec>,
}

/// A protocol, as written in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolName {
    /// Routes to routers.
    Bgp,
    /// ARP and neighbour discovery.
    Layer2,
    /// VRRP.
    Vip,
}

/// Who may share an address, as written in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
pub enum SharingName {
    /// Any Services of the cluster.
    #[default]
    Cluster,
    /// Services of the same namespace.
    Namespace,
    /// No two Services.
    None,
}

/// How fast addresses get another owner, as written in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverName {
    /// For networks and machines that never stall.
    Fast,
    /// For most.
    #[default]
    Normal,
    /// For those that often do.
    Relaxed,
}

/// What happens to addresses without a majority, as written in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionName {
    /// Better two owners on two sides of a cut than none.
    #[default]
    Available,
    /// Never two, at the price of none.
    SingleOwner,
}

/// What oxelb says of a pool. Fields that are false or zero are absent, as OpenELB's clients expect.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EipStatus {
    /// All addresses are in use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub occupied: bool,
    /// How many addresses are in use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usage: i64,
    /// How many addresses the pool has; the largest integer when it has more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pool_size: i64,
    /// Which Services use an address: namespace/name, joined by semicolons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, String>,
    /// The lowest address.
    #[serde(default, rename = "firstIP", skip_serializing_if = "String::is_empty")]
    pub first_ip: String,
    /// The highest address.
    #[serde(default, rename = "lastIP", skip_serializing_if = "String::is_empty")]
    pub last_ip: String,
    /// Written by OpenELB before 0.6 only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready: bool,
    /// The pool has IPv4 addresses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub v4: bool,
    /// The addresses of a pool for vip in groups that move together, each under an id of VRRP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_routers: Vec<VirtualRouter>,
    /// What is right or wrong with the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
