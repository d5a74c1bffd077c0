//! What a session counts, and what it shows.

use crate::negotiated::Negotiated;
use crate::prefix::Family;
use crate::session::{Down, State};
use crate::wire::{Kind, Message};
use engine::Tick;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Messages of one direction, since the session was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// OPEN
    pub open: u64,
    /// UPDATE
    pub update: u64,
    /// NOTIFICATION
    pub notification: u64,
    /// KEEPALIVE
    pub keepalive: u64,
    /// ROUTE-REFRESH
    pub refresh: u64,
    /// UPDATEs that withdraw something.
    pub withdraw_update: u64,
    /// Prefixes that were withdrawn.
    pub withdraw_prefix: u64,
    /// Messages that were ignored.
    pub discarded: u64,
}

/// Counts since the session was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// From the peer.
    pub received: Messages,
    /// To the peer.
    pub sent: Messages,
    /// How often the session was established.
    pub established: u64,
    /// How often it was lost.
    pub lost: u64,
    /// Attributes with damage that ended no session (RFC 7606).
    pub damaged: u64,
    /// Announcements beyond the limit of prefixes.
    pub ignored_prefixes: u64,
    /// KEEPALIVEs that were left out because older octets still waited.
    pub skipped_keepalives: u64,
}

/// What a session is like now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Where it is.
    pub state: State,
    /// It was told to run.
    pub started: bool,
    /// A limit of prefixes ended it, and it waits.
    pub prefix_limit_reached: bool,
    /// Since when it is established, or is not.
    pub since: Tick,
    /// What was agreed upon, while it is established.
    pub negotiated: Option<Negotiated>,
    /// Why the last session or attempt ended, and when.
    pub last_down: Option<(Tick, Down)>,
    /// By family.
    pub routes: BTreeMap<Family, RouteCounts>,
    /// Octets that the kernel has not taken yet.
    pub unsent: usize,
}

/// Routes of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCounts {
    /// Sent by the peer, and remembered.
    pub received: usize,
    /// Of these, kept from before a restart of the peer.
    pub stale: usize,
    /// Told to the peer.
    pub advertised: usize,
    /// Still to be told or withdrawn; of all families together.
    pub queued: usize,
    /// Cannot be told to this peer.
    pub unsendable: usize,
}

impl Messages {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.open + self.update + self.notification + self.keepalive + self.refresh
    }

    pub(crate) fn count(&mut self, message: &Message) {
        *match message.kind() {
            Kind::Open => &mut self.open,
            Kind::Update => &mut self.update,
            Kind::Notification => &mut self.notification,
            Kind::Keepalive => &mut self.keepalive,
            Kind::RouteRefresh => &mut self.refresh,
        } += 1;
        if let Message::Update(update) = message {
            let gone = update.gone().count() as u64;
            self.withdraw_update += u64::from(gone > 0);
            self.withdraw_prefix += gone;
        }
    }
}
