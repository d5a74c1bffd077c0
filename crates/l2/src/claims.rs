//! Who else claims an address, so that the same news is told once in a while and not with every frame.

use engine::{MacAddr, Tick};
use std::collections::BTreeMap;
use std::time::Duration;

/// At most so many hosts that claim one address are told apart within the time after which they are told of again.
pub const MAX_STRANGERS: usize = 16;

/// The hosts that claim one address, and when that was told.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<MacAddr, Tick>);

/// What a claim is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// To be told.
    News,
    /// Told lately.
    Known,
    /// One more than are told apart.
    TooMany,
}

impl Claims {
    /// A host claims the address; it is news again after `again`.
    pub(crate) fn note(&mut self, now: Tick, mac: MacAddr, again: Duration) -> Claim {
        self.0.retain(|_, told| now.since(*told) < again);
        if self.0.contains_key(&mac) {
            return Claim::Known;
        }
        if self.0.len() >= MAX_STRANGERS {
            return Claim::TooMany;
        }
        self.0.insert(mac, now);
        Claim::News
    }
}
