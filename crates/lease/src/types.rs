//! The words of the protocol: presets, epochs, and the stamp that names a request.

use crate::digest::first_64_bits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The name of a node that runs a speaker.
pub type Node = String;

/// For how long an acceptor that has started grants nothing: no grant of its former life runs longer.
pub const SILENCE: Duration = Duration::from_secs(3);

/// How fast an address gets another owner, and how sensitive that is to a network or a CPU that stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Preset {
    /// A lease of 90 ms.
    Fast,
    /// A lease of 600 ms.
    #[default]
    Normal,
    /// A lease of 3 s.
    Relaxed,
}

impl Preset {
    /// All of them, the fastest first.
    pub const ALL: [Preset; 3] = [Preset::Fast, Preset::Normal, Preset::Relaxed];

    /// L: how long a grant runs on the clock of the acceptor, from when it was given.
    pub const fn lease(self) -> Duration {
        Duration::from_millis(match self {
            Preset::Fast => 90,
            Preset::Normal => 600,
            Preset::Relaxed => 3000,
        })
    }

    /// How long the holder counts on a grant, on its own clock, from when it asked. The 256th part that is missing is
    /// the drift bound: it bears clocks of which one runs 1,000 ppm too fast and another as much too slow, twice.
    pub fn held(self) -> Duration {
        self.lease() - self.lease() / 256
    }

    /// h: the time between two renewals.
    pub const fn heartbeat(self) -> Duration {
        Duration::from_millis(match self {
            Preset::Fast => 20,
            Preset::Normal => 150,
            Preset::Relaxed => 700,
        })
    }
}

/// What to do without a majority of acceptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Partition {
    /// Take the address when nobody on the segment answers for it and every speaker that is heard agrees.
    #[default]
    Available,
    /// Leave it without an owner: never two anywhere, at the price of silence.
    SingleOwner,
}

/// The acceptors of one time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Rises by one with each change.
    pub number: u64,
    /// Who grants: one to five speakers.
    pub members: BTreeSet<Node>,
}

/// Names an epoch: two sets with one number are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EpochId {
    /// The number of the epoch.
    pub number: u64,
    /// The digest of its members.
    pub digest: u64,
}

impl Epoch {
    /// The epoch with this number and these members.
    pub fn new(number: u64, members: impl IntoIterator<Item = impl Into<Node>>) -> Epoch {
        Epoch { number, members: members.into_iter().map(Into::into).collect() }
    }

    /// What names it.
    pub fn id(&self) -> EpochId {
        let mut input = Vec::new();
        for member in &self.members {
            input.extend_from_slice(member.as_bytes());
            input.push(0);
        }
        EpochId { number: self.number, digest: first_64_bits(&input) }
    }

    /// How many acceptors are more than half.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// Whether it may come right after `previous`: one member more or one less, or the same. Two majorities then share
    /// an acceptor; after a swap they need not.
    pub fn follows(&self, previous: &Epoch) -> bool {
        self.members.symmetric_difference(&previous.members).count() <= 1
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:08x})", self.number, self.digest >> 32)
    }
}

/// Names a request, for ever: no start of a process has the number of another, and its counter only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The start of the process.
    pub boot: u128,
    /// Counts the packets of that process.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_gives_up_before_the_grant_ends_however_the_clocks_drift() {
        for preset in Preset::ALL {
            let slow_holder = preset.held().as_secs_f64() / (1.0 - 0.001);
            let fast_acceptor = preset.lease().as_secs_f64() / (1.0 + 0.001);
            assert!(slow_holder < fast_acceptor, "{preset:?}");
            assert!(preset.heartbeat() * 3 < preset.held());
            assert!(preset.lease() <= SILENCE);
        }
    }

    #[test]
    fn majorities_of_neighbours_share_an_acceptor_and_a_swap_is_no_neighbour() {
        let of = |names: &str| Epoch::new(1, names.split(' '));
        for (before, after, follows) in [
            ("a b c", "a b c d", true),
            ("a b c", "a b", true),
            ("a b c", "a b c", true),
            ("a b c", "a b d", false),
            ("a b c", "a", false),
        ] {
            assert_eq!(of(after).follows(&of(before)), follows, "{before} {after}");
        }
        for size in 1..=5usize {
            let majority = |n: usize| n / 2 + 1;
            let (smaller, larger) = (majority(size), majority(size + 1));
            assert!(smaller + larger > size + 1, "{size}");
        }
    }
}
