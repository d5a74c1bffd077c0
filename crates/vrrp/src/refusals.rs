//! Why an advertisement does not count, and which refusals are worth telling: each reason once in a while for each
//! sender, so that a flood of bad packets neither floods the log nor takes memory.

use crate::packet::{Malformed, Version};
use engine::Tick;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::Duration;

/// Each reason is told again after so long.
const EVERY: Duration = Duration::from_secs(10);
/// At most so many senders are told apart, and so many reports wait.
const MOST: usize = 64;

/// Why an advertisement of this virtual router does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// It breaks a rule of its RFC.
    #[error("{0}")]
    Malformed(Malformed),
    /// Another version.
    #[error("it speaks VRRP {0:?} and we another version")]
    Version(Version),
    /// It came in unicast through more routers than is allowed.
    #[error("its TTL is {0}: it came through a router, or its sender sets none (keepalived, IPv6 in unicast)")]
    Ttl(u8),
    /// Peers are configured, and the sender is none.
    #[error("it is not among the unicast peers")]
    Peer,
    /// It was not sent to where ours go.
    #[error("it was sent to {0}, where no router of this group listens: is one of us set to unicast?")]
    Destination(IpAddr),
    /// Another password, or none, or one where we have none (RFC 3768 §7.1 demands that it is dropped).
    #[error("its password is another than ours")]
    Password,
    /// Version 2: another interval (RFC 3768 §7.1 demands that it is dropped).
    #[error("its interval is {} s and ours another: version 2 wants the same everywhere", .0.as_secs())]
    Interval(Duration),
    /// Version 2: other addresses (RFC 3768 §7.1 demands that it is dropped).
    #[error("its addresses are others than ours: version 2 wants the same everywhere")]
    Addresses,
    /// This router owns the addresses and so does the sender.
    #[error("it claims to own the addresses (priority 255), as we do")]
    TwoOwners,
}

/// What was refused and is yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: BTreeMap<IpAddr, Vec<(Discriminant<Refusal>, Tick)>>,
    waiting: VecDeque<(IpAddr, Refusal)>,
}

impl Refusals {
    /// Whether it is told, or was told a short while ago; false when there was no room for it.
    pub(crate) fn add(&mut self, now: Tick, from: IpAddr, reason: Refusal) -> bool {
        if !self.told.contains_key(&from) && self.told.len() >= MOST {
            self.told.retain(|_, told| {
                told.retain(|(_, when)| now.since(*when) < EVERY);
                !told.is_empty()
            });
        }
        if (!self.told.contains_key(&from) && self.told.len() >= MOST) || self.waiting.len() >= MOST {
            return false;
        }
        let told = self.told.entry(from).or_default();
        let kind = discriminant(&reason);
        match told.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, when)) if now.since(*when) < EVERY => return true,
            Some((_, when)) => *when = now,
            None => told.push((kind, now)),
        }
        self.waiting.push_back((from, reason));
        true
    }

    pub(crate) fn next(&mut self) -> Option<(IpAddr, Refusal)> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_for_each_reason_and_takes_bounded_memory() {
        let mut r = Refusals::default();
        let now = Tick::from_millis(1);
        let tell = |r: &mut Refusals, now, n: u32, reason| {
            r.add(now, IpAddr::V4(n.into()), reason);
            r.next().is_some()
        };
        assert!(tell(&mut r, now, 1, Refusal::Password));
        assert!(!tell(&mut r, now, 1, Refusal::Password));
        assert!(tell(&mut r, now, 1, Refusal::Peer));
        let told = (0..10_000).filter(|n| tell(&mut r, now, *n, Refusal::Password)).count();
        assert_eq!((told, r.told.len()), (MOST - 1, MOST));
        assert!(tell(&mut r, now + EVERY, 1, Refusal::Password));
        assert!(tell(&mut r, now + EVERY, 1 << 20, Refusal::Password), "old ones make room");
        let waiting = (0..10_000).filter(|n| r.add(now + EVERY * 3, IpAddr::V4((*n).into()), Refusal::Peer)).count();
        assert_eq!((waiting, r.waiting.len()), (MOST, MOST));
    }
}
