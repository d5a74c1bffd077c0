//! What the engine counts. Metrics are read from here, so that no packet is ever a line in a log (D31).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counts since the engine was made. Those of `by_address` begin anew when an address was lost and comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// ARP requests and neighbour solicitations for addresses that were answered for where they came in.
    pub requests: u64,
    /// Replies to them.
    pub replies: u64,
    /// Announcements of one address on one interface: two frames for IPv4, one for IPv6.
    pub announcements: u64,
    /// Conflicts that were reported.
    pub conflicts: u64,
    /// Announcements in defence of an address that somebody else claimed; they are among `announcements`.
    pub defences: u64,
    /// Claims of watched addresses that were reported.
    pub seen: u64,
    /// Questions that were sent: one for each frame.
    pub questions: u64,
    /// Probes of others for an address for which a question of ours was under way.
    pub rival_probes: u64,
    /// Frames that are in order and no concern of ours, or came in on an interface that is unknown or down.
    pub ignored: u64,
    /// Frames that break a rule of their RFC.
    pub malformed: u64,
    /// Frames longer than [`MAX_FRAME`](crate::MAX_FRAME).
    pub oversized: u64,
    /// Frames that were not sent, and claims and conflicts that were not reported, because a queue was full; questions
    /// that were refused because too many were under way; and frames that waited in the queue when their address or the
    /// MAC address in them was lost.
    pub dropped: u64,
    /// The same for each address that is owned now.
    pub by_address: BTreeMap<IpAddr, AddressCounters>,
}

/// Counts of one address, over all its interfaces. The names are those of OpenELB's metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressCounters {
    /// Requests for it.
    pub requests_received: u64,
    /// Replies to them.
    pub responses_sent: u64,
    /// Announcements of it.
    pub gratuitous_sent: u64,
}

impl Counters {
    pub(crate) fn request(&mut self, address: IpAddr) {
        self.requests += 1;
        self.by_address.entry(address).or_default().requests_received += 1;
    }

    pub(crate) fn reply(&mut self, address: IpAddr) {
        self.replies += 1;
        self.by_address.entry(address).or_default().responses_sent += 1;
    }

    pub(crate) fn announcement(&mut self, address: IpAddr) {
        self.announcements += 1;
        self.by_address.entry(address).or_default().gratuitous_sent += 1;
    }
}
