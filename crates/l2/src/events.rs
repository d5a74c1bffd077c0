//! What goes into the engine and what comes out.

use engine::{IfIndex, MacAddr};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU8;
use std::time::Duration;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its Ethernet address. An interface without one (`lo`, tunnels: zero) is never spoken on.
    pub mac: MacAddr,
    /// It can carry frames now.
    pub up: bool,
    /// Its name, for people.
    pub name: String,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// All interfaces as they are now. Where a link comes up or changes its MAC address, all is announced again.
    Links(BTreeMap<IfIndex, Link>),
    /// All addresses that this node owns now, and on which interfaces it answers for each. What is missing is lost and
    /// not answered for any more. Addresses that no host can own (unspecified, loopback, groups) are left out.
    Addresses(BTreeMap<IpAddr, BTreeSet<IfIndex>>),
    /// With which MAC address this node speaks for some addresses while it owns them, instead of with the link's: the
    /// one of a virtual router (RFC 9568 §7.3). Frames to it are answered, frames from it are no stranger's.
    VirtualMacs(BTreeMap<IpAddr, MacAddr>),
    /// All addresses that the cluster uses now, and the interfaces on which their owners answer. While this node does
    /// not own one, whoever claims it there is told by [`Effect::Seen`].
    Watch(BTreeMap<IpAddr, BTreeSet<IfIndex>>),
    /// A frame came in.
    Frame {
        /// Where.
        on: IfIndex,
        /// From its Ethernet header on, as a packet socket gives it.
        bytes: Vec<u8>,
    },
    /// The gateway of an interface, or the gateway's MAC address, changed: it may not know our addresses.
    Gateway {
        /// Which interface.
        on: IfIndex,
    },
    /// Begin the burst of announcements of an owned address anew, wherever it is answered for.
    Announce {
        /// The address; nothing happens when it is not owned.
        address: IpAddr,
    },
    /// Ask on the wire who has an address that this node does not own. [`Effect::Asked`] comes exactly once. A question
    /// with the `id`, the address and the interface of one that is under way is that one.
    Ask(Question),
}

/// A question to all hosts of a link: who has this address?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Given back in [`Effect::Asked`]: the engine reads nothing into it.
    pub id: u64,
    /// Asked for. It need not be one of a pool.
    pub address: IpAddr,
    /// Where.
    pub on: IfIndex,
    /// Who asks: an address of this node on that link, of the same family; or, with `None`, nobody: an ARP probe
    /// (RFC 5227 §1.1) or the solicitation of duplicate address detection (RFC 4862 §5.4.2), which teaches nobody a
    /// wrong MAC address.
    ///
    /// Ask for addresses of other hosts (a gateway) always by name: a host that probes for its own address at that
    /// moment takes a question of nobody for another host that wants it, and gives the address up (RFC 5227 §2.1.1,
    /// RFC 4862 §5.4.3). For an address of a pool that is just right.
    pub from: Option<IpAddr>,
    /// How often: at once, and then `every` apart.
    pub times: NonZeroU8,
    /// Between two questions, and from the last one to the end; at least a millisecond. Questions of many addresses at
    /// once are paced, [`PER_MILLISECOND`](crate::PER_MILLISECOND), so the end may come later.
    pub every: Duration,
    /// End with the first answer instead of hearing all.
    pub first: bool,
}

/// Why it is not known who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Unasked {
    /// The link is down, gone or no Ethernet, or became so, or has another MAC address now.
    #[error("the link is down, gone or changed")]
    Link,
    /// This node owns the address, or came to own it.
    #[error("this node owns the address")]
    Owned,
    /// No host can have this address, or it and the asker's are of different families.
    #[error("no host can have the address, or the asker's is of another family")]
    Address,
    /// [`MAX_QUESTIONS`](crate::MAX_QUESTIONS) are under way.
    #[error("too many questions are under way")]
    TooMany,
    /// Nobody had answered, but the engine was woken so late that answers may wait unread: a process that was paused
    /// must not take that for silence.
    #[error("it was looked for answers too late")]
    Late,
}

/// What is to be done, and what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Send this frame.
    Send {
        /// Where.
        on: IfIndex,
        /// From its Ethernet header on, without padding.
        frame: Vec<u8>,
        /// The owned address that the frame answers for or announces: to be sent only while it is still owned at that
        /// very moment. `None` for a question.
        speaks_for: Option<IpAddr>,
    },
    /// Join a multicast group; comes once for each group and interface, before anything needs it.
    Join {
        /// Where.
        on: IfIndex,
        /// The group.
        group: Ipv6Addr,
    },
    /// Leave a group: no address there needs it any more. The interface may be gone already.
    Leave {
        /// Where.
        on: IfIndex,
        /// The group.
        group: Ipv6Addr,
    },
    /// From now on it is answered for here.
    Announcing {
        /// The address.
        address: IpAddr,
        /// Where.
        on: IfIndex,
    },
    /// It is not answered for here any more: lost, or the link is down or gone.
    Withdrawn {
        /// The address.
        address: IpAddr,
        /// Where.
        on: IfIndex,
    },
    /// Another host claims an address that we answer for. Comes at most once a minute for each address and stranger,
    /// while the address is owned.
    Conflict {
        /// The address.
        address: IpAddr,
        /// Where it was seen.
        on: IfIndex,
        /// The stranger.
        mac: MacAddr,
    },
    /// A host claims a watched address that we do not own: it answered, announced, or named itself by it. Comes at most
    /// once a second for each address and host.
    Seen {
        /// The address.
        address: IpAddr,
        /// Where it was seen.
        on: IfIndex,
        /// The host.
        mac: MacAddr,
    },
    /// A question has ended.
    Asked {
        /// Its id.
        id: u64,
        /// What was asked for.
        address: IpAddr,
        /// Where.
        on: IfIndex,
        /// Who claimed the address while the question was under way: nobody, or at most
        /// [`MAX_STRANGERS`](crate::MAX_STRANGERS), never one of our own links. Who merely asks at the same time claims
        /// nothing. Or why that is not known.
        by: Result<BTreeSet<MacAddr>, Unasked>,
    },
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    pub(crate) on: IfIndex,
}

impl Link {
    /// Its MAC address, when it can be spoken on.
    pub(crate) fn usable_mac(&self) -> Option<MacAddr> {
        (self.up && self.mac != MacAddr::ZERO && !self.mac.is_group()).then_some(self.mac)
    }
}

impl Question {
    /// Whether hosts can have both addresses, and one can ask for the other.
    pub(crate) fn is_possible(&self) -> bool {
        let from = |from: IpAddr| can_be_owned(from) && from.is_ipv4() == self.address.is_ipv4();
        can_be_owned(self.address) && self.from.is_none_or(from)
    }
}

/// Whether a host can have this address: never answer for what means nobody, oneself or many.
pub(crate) fn can_be_owned(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}
