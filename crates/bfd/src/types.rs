//! Numbers that cannot be wrong, and those that the RFCs fix.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The UDP port of Control packets over one hop (RFC 5881 §4).
pub const SINGLE_HOP_PORT: u16 = 3784;
/// The UDP port of Control packets over many hops (RFC 5883 §5).
pub const MULTI_HOP_PORT: u16 = 4784;
/// Where the source port of a session is taken from (RFC 5881 §4).
pub const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;

/// The state of a session, with its number on the wire (RFC 5880 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// An operator holds it down. It says nothing of the path.
    AdminDown,
    /// Down, or just made.
    Down,
    /// The peer is heard; whether it hears us is not known.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    /// Its two bits.
    pub const fn bits(self) -> u8 {
        self as u8
    }

    pub(crate) const fn from_bits(bits: u8) -> State {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

/// Names a session on one of the two systems: not zero, and of one session only (RFC 5880 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Discriminator(pub NonZeroU32);

impl Discriminator {
    /// None for zero, which on the wire stands for one that is not known.
    pub const fn new(n: u32) -> Option<Discriminator> {
        match NonZeroU32::new(n) {
            Some(n) => Some(Discriminator(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a session left its state last, 0 to 31 (RFC 5880 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// None.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Diagnostic = Diagnostic(1);
    /// The other side said that it is down.
    pub const NEIGHBOR: Diagnostic = Diagnostic(3);
    /// The path is down: the link is.
    pub const PATH_DOWN: Diagnostic = Diagnostic(5);
    /// An operator holds the session down.
    pub const ADMIN: Diagnostic = Diagnostic(7);

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Diagnostic {
        Diagnostic(bits & 0x1f)
    }
}

impl TryFrom<u8> for Diagnostic {
    type Error = OutOfRange;
    fn try_from(n: u8) -> Result<Diagnostic, OutOfRange> {
        in_range("a diagnostic", n.into(), 0, 31).map(|()| Diagnostic(n))
    }
}

impl From<Diagnostic> for u8 {
    fn from(d: Diagnostic) -> u8 {
        d.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            9 => "mis-connectivity defect",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.0)
    }
}

/// The time between two packets in microseconds, 10 ms to 60 s. Detection is tested down to three times 50 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Interval(u32);

impl Interval {
    /// One second: the least, while the session is not up (RFC 5880 §6.8.3).
    pub const SECOND: Interval = Interval(1_000_000);
    const LEAST: u32 = 10_000;
    const MOST: u32 = 60_000_000;

    /// Microseconds.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The same as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

impl TryFrom<u32> for Interval {
    type Error = OutOfRange;
    fn try_from(micros: u32) -> Result<Interval, OutOfRange> {
        in_range("an interval in microseconds", micros, Interval::LEAST, Interval::MOST).map(|()| Interval(micros))
    }
}

impl From<Interval> for u32 {
    fn from(i: Interval) -> u32 {
        i.0
    }
}

/// A number outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is from {least} to {most}, not {value}")]
pub struct OutOfRange {
    what: &'static str,
    least: u32,
    most: u32,
    value: u32,
}

fn in_range(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), OutOfRange> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(OutOfRange { what, least, most, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_the_protocol_exist() {
        for (n, good) in [(0, false), (9_999, false), (10_000, true), (60_000_000, true), (60_000_001, false)] {
            assert_eq!(Interval::try_from(n).is_ok(), good, "{n}");
        }
        let error = Interval::try_from(5).unwrap_err().to_string();
        assert_eq!(error, "an interval in microseconds is from 10000 to 60000000, not 5");
        assert!(Diagnostic::try_from(31).is_ok() && Diagnostic::try_from(32).is_err());
        assert!(Discriminator::new(0).is_none());
        assert_eq!(Diagnostic::EXPIRED.to_string(), "control detection time expired");
    }

    #[test]
    fn states_have_the_numbers_of_the_wire() {
        for (bits, state) in [State::AdminDown, State::Down, State::Init, State::Up].into_iter().enumerate() {
            assert_eq!(usize::from(state.bits()), bits);
            assert_eq!(State::from_bits(state.bits()), state);
        }
    }
}
