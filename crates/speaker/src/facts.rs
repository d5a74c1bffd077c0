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
    /// What the lease knows: who lives, who owns what, which acceptors there are.
    pub view: lease::View,
    /// The epoch that this node's acceptor has on its disk; without members there is none.
    pub recorded: lease::Epoch,
    /// The addresses that this node owns and announces, and where.
    pub owned: BTreeMap<IpAddr, Arc<BTreeSet<String>>>,
    /// The node's interfaces, their addresses and its gateways.
    pub table: net::Table,
    /// Pools whose interface could not be found here, and why.
    pub unresolved: BTreeMap<String, String>,
    /// Who else answered for an address of ours: the latest for each.
    pub conflicts: BTreeMap<IpAddr, Conflict>,
    /// Strangers that have an address that this node was to announce for the first time: it is not announced.
    pub taken: BTreeMap<IpAddr, (IfIndex, MacAddr)>,
    /// Who answered when this node asked for another one's address.
    pub probed: BTreeMap<IpAddr, Probed>,
    /// Gateways that do not answer this node.
    pub silent_gateways: BTreeSet<(IfIndex, IpAddr)>,
    /// Ids of virtual routers that a stranger uses too.
    pub foreign_routers: BTreeSet<Foreign>,
    /// Ids of the virtual routers of which this node advertises that it is master.
    pub advertised: BTreeSet<u8>,
    /// Addresses that should be on an interface of this node and are not, and why.
    pub not_put: BTreeMap<IpAddr, String>,
    /// Frames that were not sent because the lease of their address was over at that moment.
    pub withheld: u64,
    /// The kernel lets nothing leave for an address whose lease is over.
    pub fenced: bool,
    /// Why this node does not own an address any more.
    pub lost: BTreeMap<IpAddr, String>,
    /// Heartbeats that were refused, by sender's address and reason, and the last one's time.
    pub rejected: BTreeMap<(IpAddr, String), (u64, Tick)>,
    /// Packets counted by the engine.
    pub counters: l2::Counters,
}

/// Who answered when this node asked for another one's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Its owner.
    Right,
    /// Nobody.
    Unanswered,
    /// An interface that its owner does not have; it may be that of an owner just before, if seen once.
    Foreign {
        /// That interface.
        mac: MacAddr,
        /// So many times in a row.
        times: u8,
    },
    /// More than the owner.
    Several(BTreeSet<MacAddr>),
}

/// Somebody else answered for an address that this node owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where it was heard.
    pub on: IfIndex,
    /// Its interface.
    pub mac: MacAddr,
    /// The node that says that this is its interface.
    pub node: Option<String>,
    /// When.
    pub at: Tick,
}

/// A VRRP master that is none of our speakers, with an id of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// The id.
    pub id: u8,
    /// The pool that has it.
    pub pool: String,
    /// The primary address of the stranger.
    pub from: IpAddr,
}
