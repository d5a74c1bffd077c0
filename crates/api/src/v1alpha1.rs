//! The old version of the three kinds (compat §1.2 to §1.4): still served, never stored. Only its shape is of
//! interest: the API server converts by changing `apiVersion` alone.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pool of addresses.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha1",
    kind = "Eip",
    plural = "eips",
    singular = "eip",
    category = "networking",
    status = "EipStatus",
    printcolumn = r#"{"name":"cidr","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"usage","type":"integer","jsonPath":".status.usage"}"#,
    printcolumn = r#"{"name":"total","type":"integer","jsonPath":".status.poolSize"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EipSpec {
    /// An IPv4 address, CIDR or range.
    #[schemars(regex(
        pattern = r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(/(3[0-2]|[12]?\d)|-((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))?$"
    ))]
    pub address: String,
    /// How the addresses are announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolName>,
    /// Give out no address any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable: Option<bool>,
    /// Ignored.
    #[serde(default, rename = "usingKnownIPs", skip_serializing_if = "Option::is_none")]
    pub using_known_ips: Option<bool>,
}

/// A protocol of the old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolName {
    /// Routes to routers.
    Bgp,
    /// ARP.
    Layer2,
}

/// What is said of a pool.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EipStatus {
    /// All addresses are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupied: Option<bool>,
    /// How many addresses are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<i64>,
    /// How many addresses the pool has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<i64>,
}

/// How BGP runs on every node.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha1",
    kind = "BgpConf",
    plural = "bgpconfs",
    singular = "bgpconf",
    status = "EmptyStatus"
)]
pub struct BgpConfSpec {
    /// The local AS number.
    #[serde(rename = "as")]
    pub asn: i64,
    /// The BGP identifier.
    #[serde(rename = "routerID")]
    #[schemars(regex(pattern = r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$"))]
    pub router_id: String,
    /// The TCP port to listen on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i64,
}

/// Nothing is said of it.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
pub struct EmptyStatus {}

/// A router that nodes talk to.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha1",
    kind = "BgpPeer",
    plural = "bgppeers",
    singular = "bgppeer",
    status = "EmptyStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// Who the router is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PeerConfig>,
    /// Several paths for a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_paths: Option<AddPaths>,
    /// The TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using_port_forward: Option<bool>,
}

/// Who a router is.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerConfig {
    /// Its AS number.
    pub peer_as: i64,
    /// Its address.
    #[schemars(regex(pattern = r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$"))]
    pub neighbor_address: String,
}

/// Several paths for a prefix.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddPaths {
    /// Send so many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub send_max: Option<i64>,
}

/// The TCP connection.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Wait for the router to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,
    /// The router's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub remote_port: Option<i64>,
}
