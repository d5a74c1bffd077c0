//! The Speaker: what one node says of itself. Written by that node alone, and only when something changed.

use crate::condition::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the speaker on a node owns, and what on that node is in its way. Nobody writes it by hand.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "oxelb.io",
    version = "v1alpha1",
    kind = "Speaker",
    plural = "speakers",
    singular = "speaker",
    derive = "PartialEq",
    derive = "Default",
    status = "SpeakerStatus",
    printcolumn = r#"{"name":"owns","type":"integer","jsonPath":".status.owns"}"#,
    printcolumn = r#"{"name":"alive","type":"string","jsonPath":".status.conditions[?(@.type==\"Alive\")].status"}"#,
    printcolumn = r#"{"name":"trouble","type":"string","jsonPath":".status.warnings[0].reason"}"#,
    printcolumn = r#"{"name":"version","type":"string","jsonPath":".status.version"}"#
)]
pub struct SpeakerSpec {}

/// What the node says.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// The version of oxelb that runs there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How many addresses it owns.
    #[serde(default)]
    pub owns: i64,
    /// The addresses that it owns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<OwnedAddress>,
    /// The last ten times that it gained or lost an address, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<SpeakerMove>,
    /// The node's own addresses, by interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<String, Vec<String>>,
    /// This node as one of those whose grants make an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptor: Option<AcceptorStatus>,
    /// BGP on this node, where it is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpSummary>,
    /// What on this node is in the way, with the mend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Standard conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An address that a node answers for.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnedAddress {
    /// The address.
    pub address: String,
    /// The pool that it comes from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// The interfaces on which it is announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// It is owned because all speakers that are heard agreed: no majority of acceptors is heard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_majority: bool,
}

/// A node as one of those whose grants make an owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptorStatus {
    /// The number of the set of acceptors that this node has recorded on its disk; 0 when there is none.
    #[serde(default)]
    pub epoch: i64,
    /// The members of that set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// The silence after its start is over: it may become an acceptor.
    #[serde(default)]
    pub ready: bool,
    /// It was an acceptor, and its record is gone: it grants nothing until it is taken out and added anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost_record: bool,
    /// The other nodes whose speakers this one does not hear; they may run none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<String>,
}

/// A node gained or lost an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerMove {
    /// The address.
    pub address: String,
    /// It was gained, not lost.
    pub gained: bool,
    /// When, RFC 3339, to the millisecond.
    pub at: String,
    /// Why it was lost.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// BGP on a node. What it announces is every address of pools for BGP for which it may.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpSummary {
    /// Its AS number.
    #[serde(rename = "as")]
    pub asn: i64,
    /// Its BGP identifier.
    pub router_id: String,
    /// How many routers hear it.
    pub established: i64,
    /// The routers that it talks to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<BgpSession>,
}

/// A router that a node talks to.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpSession {
    /// The BgpPeer.
    pub peer: String,
    /// The router's address.
    pub address: String,
    /// ESTABLISHED, ACTIVE (no session yet) or IDLE (kept down).
    pub state: String,
    /// Since when it is ESTABLISHED, or is not, RFC 3339.
    pub since: String,
    /// UP or DOWN, where BFD is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<String>,
}

/// Something on the node that keeps addresses from working.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Why, in one CamelCase word: InterfaceMissing, KernelAnswers, OutsideSubnet, AddressOnNode, …
    pub reason: String,
    /// The pool that it is about, when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The address, range of addresses or interface that it is about, when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// In plain words: what, where, and the mend.
    pub message: String,
}
