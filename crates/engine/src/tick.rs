//! The moment on a node's own clock.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on the clock of one node (CLOCK_BOOTTIME in a running speaker, virtual time in a simulation). Unlike
/// `std::time::Instant` it can be stored, hashed and replayed. Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Tick(pub u64);

impl Tick {
    /// The clock's beginning.
    pub const ZERO: Tick = Tick(0);

    /// The moment `ms` milliseconds after the clock's beginning.
    pub const fn from_millis(ms: u64) -> Tick {
        Tick(ms.saturating_mul(1_000_000))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;
    fn add(self, d: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Tick;
    fn sub(self, d: Duration) -> Tick {
        Tick(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Tick(5) - Duration::from_secs(1), Tick::ZERO);
        assert_eq!(Tick(u64::MAX) + Duration::from_secs(1), Tick(u64::MAX));
        assert_eq!(Tick::from_millis(2).since(Tick::from_millis(5)), Duration::ZERO);
        assert_eq!(Tick::from_millis(5).since(Tick::from_millis(2)), Duration::from_millis(3));
    }
}
