//! Why a packet does not count, and which refusals are worth telling: each reason once in a while, so that a flood of
//! bad packets does not flood the log.

use engine::Tick;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Each reason is told again after so long.
const EVERY: Duration = Duration::from_secs(10);

/// Why a packet is discarded, by RFC 5880 §6.8.6 where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// RFC 5881 §5, RFC 5883 §5.
    #[error("its TTL is lower than allowed: it came through more routers")]
    Ttl,
    /// Another version than 1.
    #[error("its version is not 1")]
    Version,
    /// Shorter than its least length, or than it says.
    #[error("it is not as long as it must be, or as it says")]
    Length,
    /// Detect Mult is zero.
    #[error("its detection multiplier is 0")]
    Multiplier,
    /// The M bit.
    #[error("it is of a multipoint session")]
    Multipoint,
    /// My Discriminator is zero.
    #[error("its sender's discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator is of another session.
    #[error("it is for another session")]
    YourDiscriminator,
    /// Your Discriminator is zero, and the state is one in which it is known.
    #[error("its sender is past Down, and names no session of ours")]
    StateWithoutDiscriminator,
    /// It is authenticated, and the session is not.
    #[error("it is authenticated, and no authentication is configured here")]
    AuthUnexpected,
    /// It is not authenticated, and the session is.
    #[error("it is not authenticated, and authentication is configured here")]
    AuthMissing,
    /// Another method (§6.7).
    #[error("it is authenticated by another method than ours")]
    AuthMethod,
    /// None of our keys (§6.7).
    #[error("it is authenticated with a key id that is none of ours")]
    AuthKeyId,
    /// Not as long as the method demands (§6.7).
    #[error("its authentication section has the wrong length")]
    AuthLength,
    /// Behind, or too far ahead: replayed, or its sender was restarted (§6.7.4).
    #[error("its sequence number is not one that can come next: it is a replay, or its sender was restarted")]
    AuthSequence,
    /// Another key or password (§6.7).
    #[error("it is authenticated with another key than ours")]
    AuthKey,
}

/// What was refused and is yet to be told. Each reason is in it once at most.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: BTreeMap<Refusal, Tick>,
    waiting: VecDeque<Refusal>,
}

impl Refusals {
    pub(crate) fn add(&mut self, now: Tick, reason: Refusal) {
        let silent = self.told.get(&reason).is_some_and(|when| now.since(*when) < EVERY);
        if silent || self.waiting.contains(&reason) {
            return;
        }
        self.told.insert(reason, now);
        self.waiting.push_back(reason);
    }

    pub(crate) fn next(&mut self) -> Option<Refusal> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_for_each_reason_and_again_after_a_while() {
        let mut r = Refusals::default();
        let now = Tick::from_millis(1);
        for _ in 0..1000 {
            r.add(now, Refusal::Ttl);
            r.add(now, Refusal::AuthKey);
        }
        assert_eq!([r.next(), r.next(), r.next()], [Some(Refusal::Ttl), Some(Refusal::AuthKey), None]);
        for n in 0..3 {
            r.add(now + EVERY * (n + 1), Refusal::Ttl);
        }
        assert_eq!([r.next(), r.next()], [Some(Refusal::Ttl), None], "it was not drained in between");
        r.add(now + EVERY * 9, Refusal::Ttl);
        assert_eq!(r.next(), Some(Refusal::Ttl));
    }
}
