//! What the engine counts.

use serde::{Deserialize, Serialize};

/// Counts since the router was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Advertisements made to be sent: one for each destination.
    pub sent: u64,
    /// Among them those with priority zero.
    pub stops_sent: u64,
    /// Advertisements of this virtual router that count.
    pub received: u64,
    /// Among them those with priority zero.
    pub stops_received: u64,
    /// Among those received, such whose addresses are not ours.
    pub addresses_differ: u64,
    /// How often this router became master.
    pub became_master: u64,
    /// How often it found that it had been paused for longer than others wait for it.
    pub paused: u64,
    /// Packets that must be dropped whatever the configuration: [`Malformed`](crate::packet::Malformed).
    pub malformed: u64,
    /// Packets that this configuration must drop.
    pub refused: u64,
    /// Packets of other virtual routers, or of the other family.
    pub other: u64,
    /// Packets from our own primary address: our own that came back, or of a host that has the same address.
    pub own: u64,
    /// Packets that waited to be sent when this router ceased to be master; packets and reports for which there was
    /// no room.
    pub dropped: u64,
}
