//! What goes into the engine and what comes out.

use crate::key::Key;
use crate::types::{Epoch, EpochId, Node, Partition, Preset};
use crate::wire::Reject;
use engine::MacAddr;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// All that a speaker must know; each replaces the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Config {
    /// The name of this node; 1 to [`MAX_NODE_NAME`](crate::MAX_NODE_NAME) octets, or it cannot speak to others.
    pub node: Node,
    /// The other nodes that may run speakers, and where to send to; packets go to each of the addresses. Names that are
    /// empty, too long or our own are left out.
    pub peers: BTreeMap<Node, Vec<SocketAddr>>,
    /// The keys that authenticate packets: the first is used to send, the first two are accepted. Without any, those of
    /// the configuration before stay in use.
    #[serde(skip)] // a recording must not carry secrets
    pub keys: Vec<Key>,
    /// The acceptors. Without members a speaker that has no peers is its own acceptor, and any other owns nothing.
    pub epoch: Epoch,
    /// The addresses of this domain.
    pub addresses: BTreeMap<IpAddr, Address>,
    /// Addresses that this node cannot announce although it is a candidate: it has no such interface, say.
    pub unable: BTreeSet<IpAddr>,
    /// The interfaces from which this node answers; of more than eight the first.
    pub macs: BTreeSet<MacAddr>,
    /// The addresses from which this node says by VRRP what it owns.
    pub advertises: BTreeSet<IpAddr>,
    /// Addresses that went over to another domain: nobody is granted them here any more. See [`View::left`].
    ///
    /// [`View::left`]: crate::View::left
    pub elsewhere: BTreeSet<IpAddr>,
    /// How many addresses each node is to own in relation to others, 1 and up; 100 where nothing is said.
    pub weights: BTreeMap<Node, u32>,
}

/// What this node found on its links; each replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sight {
    /// Some gateway does not answer: this node is the last to get an address.
    pub cut: bool,
    /// Those of the addresses that this node owns whose gateway does not answer.
    pub silent: BTreeSet<IpAddr>,
    /// Those of [`Lease::asked_to_reach`](crate::Lease::asked_to_reach) whose gateway answers.
    pub reached: BTreeSet<IpAddr>,
    /// The addresses of others for which nobody or somebody else answers.
    pub doubted: BTreeSet<IpAddr>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Address {
    /// Who may own it.
    pub candidates: Arc<BTreeSet<Node>>,
    /// How fast it gets another owner.
    pub preset: Preset,
    /// What happens to it without a majority of acceptors.
    pub partition: Partition,
}

/// What is certain when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Start {
    /// Names this start of the process: not zero, and no other start has it. 128 random bits will do.
    pub boot: u128,
    /// The epoch that this node confirmed, as it is on its disk.
    pub recorded: Option<EpochId>,
}

/// What can happen to [`Lease`](crate::Lease).
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
    /// The epoch of [`Effect::Record`] is on disk, synced.
    Recorded(EpochId),
    /// What the segment says of an address: the answer to [`Effect::Ask`], or an answer or announcement of somebody
    /// else that was heard unasked.
    Wire {
        /// The address.
        address: IpAddr,
        /// Somebody else answers for it. False only after asking, and only where the gateway, if there is one, answers.
        heard: bool,
    },
    /// What this node found out of gateways, and of others' addresses.
    Sight(Box<Sight>),
    /// Another speaker's answer for any address of the pool was seen on the segment: so it is not empty.
    Overheard,
    /// Give an address up for another speaker, if that one lives and may own it.
    Release {
        /// The address.
        address: IpAddr,
        /// Who is to have it.
        to: Node,
    },
    /// Give to others what placement would give to them were it done anew.
    Rebalance,
    /// Stop in good order: hand over what is owned, say goodbye. The engine is done when it has no deadline any more.
    Leave,
}

/// What [`Lease`](crate::Lease) wants done, and what it found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Send a datagram.
    Send {
        /// Its destination.
        to: SocketAddr,
        /// Its payload, at most [`MAX_PACKET`](crate::MAX_PACKET) octets.
        bytes: Vec<u8>,
    },
    /// This node owns the address: announce it, and answer while [`until`](crate::Lease::until) lies ahead.
    Own(IpAddr),
    /// This node does not own the address any more: stop answering before anything else is done.
    Lose(IpAddr, Reason),
    /// This node owns the address on, but hosts may have learned another: a speaker that was not heard for a while may
    /// have owned it too, or one that asked for it got no answer or another's. Announce it again.
    Settled(IpAddr),
    /// A speaker is heard.
    Alive(Node),
    /// A speaker is not heard any more, or said goodbye.
    Dead(Node),
    /// A datagram was refused. Each reason is told at most every 10 s for each source.
    Rejected {
        /// Its source.
        from: SocketAddr,
        /// Why.
        reason: Reject,
    },
    /// Write this epoch to disk and sync it, then say [`Input::Recorded`]. It is confirmed only then.
    Record(Epoch),
    /// Ask for the address on the wire three times within one lease of its preset, then say [`Input::Wire`].
    Ask(IpAddr),
}

/// Why an address is not owned any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No majority of acceptors granted it in time.
    NoMajority,
    /// Without a majority: not every speaker that is heard agreed in time.
    NoConsent,
    /// Without a majority: another speaker owns it too.
    Yielded {
        /// That speaker, where it is known.
        to: Option<Node>,
    },
    /// A planned move.
    Moved {
        /// The successor.
        to: Node,
    },
    /// The gateway answers the successor and not this node.
    Unreached {
        /// The successor.
        to: Node,
    },
    /// This node is not among the candidates any more.
    NotCandidate,
    /// This node cannot announce it any more.
    Unable,
    /// No node is to own it any more.
    Gone,
    /// It belongs to another domain now.
    Elsewhere,
    /// This speaker was paused until the lease was over.
    Late,
    /// This speaker leaves, and there is no successor.
    Left,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoMajority => f.write_str("no majority of the acceptors granted it in time"),
            Reason::NoConsent => {
                f.write_str("there is no majority, and not every speaker that is heard agreed in time")
            }
            Reason::Yielded { to: Some(to) } => write!(f, "there was no majority, and {to} owns it too"),
            Reason::Yielded { to: None } => f.write_str("there was no majority, and another node answers for it"),
            Reason::Moved { to } => write!(f, "it was handed over to {to}"),
            Reason::Unreached { to } => {
                write!(f, "its gateway does not answer this node, but {to}: it was handed over")
            }
            Reason::NotCandidate => f.write_str("this node is not a candidate any more"),
            Reason::Unable => f.write_str("this node cannot announce it: its interface is missing here or down"),
            Reason::Gone => f.write_str("it is not to be announced any more"),
            Reason::Elsewhere => f.write_str("it belongs to another domain now"),
            Reason::Late => f.write_str("this speaker was paused until its lease was over"),
            Reason::Left => f.write_str("this speaker leaves, and nobody else can own it"),
        }
    }
}
