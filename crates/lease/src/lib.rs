//! Who owns an address now: speakers tell each other by authenticated heartbeats who is alive and who owns what, and
//! the first live candidate in placement order takes an address that nobody owns.
//!
//! ```text
//!            Configure               detection time over
//!   Idle ──────────────► Listening ─────────────────────► Deciding ──┐ a candidate is lost, an address is new:
//!    owns nothing          owns nothing, hears  ▲             │  ▲───┘ take what placement gives to this node;
//!                          who owns what (D1)   │  was late   │        another claimant comes first: yield
//!                                               └─────────────┤
//!                                                             ▼ Leave
//!                                                           Left: owns nothing, says goodbye
//! ```
//!
//! **Not claimed:** speakers that do not hear each other may both own an address (a partition shows two owners); the
//! quorum lease will end that.
//!
//! **Times.** A heartbeat leaves at most [`HEARTBEAT`] after the one before, up to a tenth of that early so that
//! speakers do not march in step. A speaker is dropped when nothing came from it for [`DETECTION`]: three heartbeats
//! and a margin of 15 ms for the delay of the third. So one that dies is dropped 315 to 465 ms, plus one delivery, after
//! its death, and what it owned is taken in the same turn. A goodbye counts at once.
//!
//! **Nothing moves without a reason.** An owner stays owner while it lives and is a candidate. Who comes back takes
//! nothing back. An address that a live speaker claims is taken by nobody else, even when the own configuration does
//! not name that speaker: its own will, and until then two owners would be worse.
//!
//! **Who speaks.** A packet's key is its passport. An authenticated speaker that the configuration does not name is
//! answered and its claims are respected, but it is never a candidate: a node that is new must learn who owns what
//! also from speakers that cannot read the API server and have not heard of it.
//!
//! **What a heartbeat costs.** Its size does not depend on what is owned: it names the sender's statement (the addresses
//! that it owns, and those that it cannot announce) by a digest, and the digest of the receiver's that it knows. Who
//! does not know the newest statement is sent its parts, until it says that it does.
//!
//! **What can still be replayed.** Recorded packets of a speaker that is dead can deceive a speaker that has started
//! since, until the dead one speaks again: it is believed alive, and nothing more.

mod decide;
mod machine;
mod packet;
mod peer;
mod placement;

pub use machine::{DETECTION, HEARTBEAT, Lease, View};
pub use packet::{MAX_NODE_NAME, MAX_PACKET, Reject};
pub use placement::{order, place};
pub use quorum::Key;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// All that a speaker must know; each replaces the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Config {
    /// The name of this node; 1 to [`MAX_NODE_NAME`] octets, or it cannot speak to others.
    pub node: String,
    /// The other nodes that may run speakers, and where to send to. Names that are empty, too long or our own are left
    /// out.
    pub peers: BTreeMap<String, SocketAddr>,
    /// The keys that authenticate heartbeats: the first is used to send, the first two are accepted. Without any, those
    /// of the configuration before stay in use; a speaker that has peers and never had a key takes nothing.
    #[serde(skip)] // a recording must not carry secrets
    pub keys: Vec<Key>,
    /// Who may own each address.
    pub candidates: BTreeMap<IpAddr, Arc<BTreeSet<String>>>,
    /// Addresses that this node cannot announce although it is a candidate: it has no such interface, say. The others
    /// are told, and do not wait for it.
    pub unable: BTreeSet<IpAddr>,
}

/// What can happen to [`Lease`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Another configuration.
    Configure(Box<Config>),
    /// A datagram came in.
    Packet {
        /// Its source.
        from: SocketAddr,
        /// Its payload.
        bytes: Vec<u8>,
    },
    /// Stop in good order: own nothing, say goodbye. The engine is done when it has no deadline any more.
    Leave,
}

/// What [`Lease`] wants done, and what it found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Send a datagram.
    Send {
        /// Its destination.
        to: SocketAddr,
        /// Its payload, at most [`MAX_PACKET`] octets.
        bytes: Vec<u8>,
    },
    /// This node owns the address from now on: answer and announce.
    Own(IpAddr),
    /// This node does not own the address any more: stop answering before anything else is done.
    Lose(IpAddr, Reason),
    /// Another speaker claimed the address too and has given it up, or may have done so while it was not heard; this node
    /// owns it on. Announce it again, because hosts may have learned the other.
    Settled(IpAddr),
    /// A speaker is heard.
    Alive(String),
    /// A speaker is not heard any more, or said goodbye.
    Dead(String),
    /// A datagram was refused. Each reason is told at most every 10 s for each source.
    Rejected {
        /// Its source.
        from: SocketAddr,
        /// Why.
        reason: Reject,
    },
}

/// Why an address is not owned any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// A live speaker that comes first in placement order claims it too.
    Yielded {
        /// That speaker.
        to: String,
    },
    /// This node is not among the candidates any more.
    NotCandidate,
    /// This node cannot announce it any more.
    Unable,
    /// No node is to own it any more.
    Gone,
    /// This speaker was paused so long that others may have taken it.
    Late,
    /// This speaker leaves.
    Left,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Yielded { to } => write!(f, "{to} claims it too and comes first in placement order"),
            Reason::NotCandidate => f.write_str("this node is not a candidate any more"),
            Reason::Unable => f.write_str("this node cannot announce it: its interface is missing here"),
            Reason::Gone => f.write_str("it is not to be announced any more"),
            Reason::Late => f.write_str("this speaker was paused, others may have taken it"),
            Reason::Left => f.write_str("this speaker leaves"),
        }
    }
}
