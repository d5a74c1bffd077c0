//! BgpPeer: a router to talk to, as users write it (compat §1.4). The names are those of GoBGP's peers.

use crate::bgp_conf::GracefulRestart;
use crate::condition::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A router that nodes talk to.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "network.kubesphere.io",
    version = "v1alpha2",
    kind = "BgpPeer",
    plural = "bgppeers",
    singular = "bgppeer",
    derive = "PartialEq",
    derive = "Default",
    status = "BgpPeerStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// Who the router is. Required, although the schema of OpenELB does not say so (D17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<PeerConf>,
    /// Routers that are more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<EbgpMultihop>,
    /// Routers at most so many hops away, whose packets and ours begin with a TTL of 255 (GTSM, RFC 5082). Not together
    /// with ebgpMultihop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// Timers of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers: Option<Timers>,
    /// The TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Graceful restart with this router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// Address families. Empty means unicast of the family of the router's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afi_safis: Option<Vec<AfiSafi>>,
    /// Find out within milliseconds that the router is not reached any more (BFD, RFC 5880); the router must have it on
    /// too. Empty means no BFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// What routes say of where to: Node (the node that announces them; the default), or OpenELB, all nodes that serve an
    /// address, from each of them, as OpenELB did. That needs add-path on the router, or it takes one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<String>,
    /// The nodes that talk to the router. Empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// BFD with a router.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// The least that we can take between two packets of the router, in milliseconds, 10 to 60000; 300 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_interval: Option<i64>,
    /// What we would like between two of our packets, in milliseconds, 10 to 60000; 300 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_interval: Option<i64>,
    /// So many packets in a row may be missing, 1 to 255; 3 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_multiplier: Option<i64>,
    /// Whether the router is behind others (RFC 5883); as ebgpMultihop or ttlSecurity say when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multihop: Option<bool>,
    /// The least TTL of packets of a router that is behind others, 1 to 255; 255 less the hops when not given. BIRD
    /// sends with 64.
    #[serde(default, rename = "minimumTTL", skip_serializing_if = "Option::is_none")]
    pub minimum_ttl: Option<i64>,
    /// How packets are authenticated: Password, KeyedSHA1 or MeticulousKeyedSHA1 (RFC 5880); not when empty. The key, up to
    /// 20 octets, is in the Secret bgp-passwords under the BgpPeer's name and `.bfd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<String>,
    /// The number of the key, 0 to 255; 1 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<i64>,
}

/// Who a router is.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerConf {
    /// The password of TCP-MD5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_password: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Another local AS number than that of BgpConf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_as: Option<i64>,
    /// The router's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor_address: Option<String>,
    /// The addresses of routers that connect to the nodes by themselves, as a CIDR; in place of neighborAddress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor_range: Option<String>,
    /// The router's AS number. With neighborRange or neighborInterface it may be left out: then any is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_as: Option<i64>,
    /// Accepted; there are no groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_group: Option<String>,
    /// Accepted; it follows from the AS numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<i64>,
    /// NONE, ALL or REPLACE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_private_as: Option<String>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_flap_damping: Option<bool>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_community: Option<i64>,
    /// The interface that leads to a router without an address of its own there (unnumbered): it is found by its router
    /// advertisements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor_interface: Option<String>,
    /// The VRF to talk in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// How often the own AS number may be in a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_own_as: Option<i64>,
    /// Replace the router's AS number in paths by ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_peer_as: Option<bool>,
    /// Keep the session down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_down: Option<bool>,
}

/// Routers that are more than one hop away.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EbgpMultihop {
    /// Whether they are talked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The TTL of packets; 255 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multihop_ttl: Option<i64>,
}

/// Packets that come from too far are dropped (RFC 5082).
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TtlSecurity {
    /// Whether it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The least TTL that is taken; 255, a neighbour, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_min: Option<i64>,
}

/// Timers of a session.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timers {
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TimersConfig>,
}

/// Timers in seconds, as text.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimersConfig {
    /// Between attempts to connect; 120 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_retry: Option<String>,
    /// Without a message the session is down; 90 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    /// Between keepalives; a third of the hold time when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_interval: Option<String>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_advertisement_interval: Option<String>,
}

/// The TCP connection to a router.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Our own address; without it that of the interface that leads to the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    /// Talk only through this interface, for example a VRF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_interface: Option<String>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_discovery: Option<bool>,
    /// Wait for the router to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// The router's port; 179 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<i64>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_mss: Option<i64>,
}

/// An address family with a router.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AfiSafi {
    /// Which, and whether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AfiSafiConfig>,
    /// Several paths for a prefix (RFC 7911).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_paths: Option<AddPaths>,
    /// Graceful restart of this family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mp_graceful_restart: Option<MpGracefulRestart>,
}

/// Which address family, and whether.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AfiSafiConfig {
    /// Whether it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<FamilyName>,
}

/// An address family.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyName {
    /// AFI_IP or AFI_IP6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afi: Option<String>,
    /// SAFI_UNICAST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safi: Option<String>,
}

/// Several paths for a prefix.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddPaths {
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<AddPathsConfig>,
}

/// Several paths for a prefix, as configured.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddPathsConfig {
    /// Accept several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<bool>,
    /// Send so many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_max: Option<i64>,
}

/// Graceful restart of one address family.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MpGracefulRestart {
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<MpGracefulRestartConfig>,
}

/// Graceful restart of one address family, as configured.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MpGracefulRestartConfig {
    /// Whether it is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// What each node says.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerStatus {
    /// By node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes_peer_status: BTreeMap<String, NodePeerStatus>,
}

/// What one node says of a router.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePeerStatus {
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_state: Option<PeerState>,
    /// Its timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timers_state: Option<TimersState>,
    /// BFD, where it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd_state: Option<BfdState>,
    /// What is wrong with the BgpPeer, or has no effect, as this node sees it: type Accepted. None when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// BFD with a router.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdState {
    /// UP or DOWN.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerState {
    /// Never filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_password: Option<String>,
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Our AS number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_as: Option<i64>,
    /// The router's AS number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_as: Option<i64>,
    /// 1 is external; internal is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<i64>,
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_private_as: Option<i64>,
    /// As configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_community: Option<i64>,
    /// Messages that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_q: Option<i64>,
    /// How often the session went down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<i64>,
    /// The router's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor_address: Option<String>,
    /// Never filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_group: Option<String>,
    /// The router's BGP identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Never filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_flap_damping: Option<bool>,
    /// IDLE, CONNECT, ACTIVE, OPENSENT, OPENCONFIRM or ESTABLISHED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_state: Option<String>,
    /// DOWN or PFX_CT; left out while up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_state: Option<String>,
    /// Messages that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Queues>,
    /// Messages counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
}

/// Messages that wait.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    /// Received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<i64>,
    /// To be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<i64>,
}

/// Messages counted.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// From the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<MessageCounters>,
    /// To the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<MessageCounters>,
}

/// Counters, as text.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounters {
    /// NOTIFICATION.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<String>,
    /// UPDATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
    /// OPEN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<String>,
    /// KEEPALIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<String>,
    /// ROUTE-REFRESH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// Discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<String>,
    /// All.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// UPDATE with withdrawals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_update: Option<String>,
    /// Prefixes withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_prefix: Option<String>,
}

/// Timers of a session, as text.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimersState {
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_retry: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_interval: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_advertisement_interval: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiated_hold_time: Option<String>,
    /// Since when it is up, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<String>,
    /// Since when it is down, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<String>,
}
