//! What the shell reports: facts read back from the wire and the kernel, as one value that replaces the last.

use engine::{IfIndex, MacAddr, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What is true on this node now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// When this was true.
    pub now: Tick,
    /// Counts commands that the shell has carried out.
    pub commands: u64,
    /// It only listens yet, as in the time after a start.
    pub listening: bool,
    /// The addresses that this node owns, and where it announces them.
    pub owned: BTreeMap<IpAddr, Arc<BTreeSet<String>>>,
    /// The other speakers that are heard.
    pub alive: BTreeSet<String>,
    /// Which live speaker says that it owns an address.
    pub owners: BTreeMap<IpAddr, String>,
    /// The node's interfaces, their addresses and its gateways.
    pub table: net::Table,
    /// Pools whose interface could not be found here, and why.
    pub unresolved: BTreeMap<String, String>,
    /// Strangers that answered for an address of ours: the latest for each, and when.
    pub conflicts: BTreeMap<IpAddr, (IfIndex, MacAddr, Tick)>,
    /// Why this node does not own an address any more.
    pub lost: BTreeMap<IpAddr, String>,
    /// Heartbeats that were refused, by sender's address and reason, and the last one's time.
    pub rejected: BTreeMap<(IpAddr, String), (u64, Tick)>,
    /// Packets counted by the engine.
    pub counters: l2::Counters,
}
