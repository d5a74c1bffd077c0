//! Numbers that cannot be wrong.

use engine::MacAddr;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Which of the two protocols: each has virtual routers of its own, also where the ids are the same (RFC 9568 §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A number outside the range that the protocol has for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is from {least} to {most}, not {value}")]
pub struct OutOfRange {
    what: &'static str,
    least: u16,
    most: u16,
    value: u16,
}

fn in_range(what: &'static str, value: u16, least: u16, most: u16) -> Result<(), OutOfRange> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(OutOfRange { what, least, most, value }) }
}

/// The id of a virtual router, 1 to 255; one for each link and family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Vrid(u8);

impl Vrid {
    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The virtual router's own MAC address (RFC 9568 §7.3).
    pub const fn mac(self, family: Family) -> MacAddr {
        let which = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        MacAddr([0, 0, 0x5e, 0, which, self.0])
    }
}

impl TryFrom<u8> for Vrid {
    type Error = OutOfRange;
    fn try_from(n: u8) -> Result<Vrid, OutOfRange> {
        in_range("a virtual router id", n.into(), 1, 255).map(|()| Vrid(n))
    }
}

/// Who becomes master, 1 to 255: the highest. The zero on the wire is none of these: it says that a master stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// 255: the addresses are this router's own, it is master whenever it runs.
    pub const OWNER: Priority = Priority(255);
    /// 100: of a router that is told nothing else (RFC 9568 §6.1).
    pub const DEFAULT: Priority = Priority(100);

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = OutOfRange;
    fn try_from(n: u8) -> Result<Priority, OutOfRange> {
        in_range("a priority", n.into(), 1, 255).map(|()| Priority(n))
    }
}

/// The time between two advertisements in hundredths of a second, 1 to 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Centis(u16);

impl Centis {
    /// One second, of a router that is told nothing else (RFC 9568 §6.1).
    pub const SECOND: Centis = Centis(100);

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The same as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

impl TryFrom<u16> for Centis {
    type Error = OutOfRange;
    fn try_from(n: u16) -> Result<Centis, OutOfRange> {
        in_range("an advertisement interval in hundredths of a second", n, 1, 4095).map(|()| Centis(n))
    }
}

impl From<Vrid> for u8 {
    fn from(n: Vrid) -> u8 {
        n.0
    }
}

impl From<Priority> for u8 {
    fn from(n: Priority) -> u8 {
        n.0
    }
}

impl From<Centis> for u16 {
    fn from(n: Centis) -> u16 {
        n.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The simple password of version 2 (RFC 2338 §5.3.6), 1 to 8 octets. RFC 3768 took it out, keepalived still has it.
/// It goes over the wire in clear: it keeps two groups apart, and no attacker away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Password(pub(crate) [u8; 8]);

impl std::str::FromStr for Password {
    type Err = OutOfRange;
    fn from_str(s: &str) -> Result<Password, OutOfRange> {
        in_range("the length of a VRRP password", u16::try_from(s.len()).unwrap_or(u16::MAX), 1, 8)?;
        let mut octets = [0; 8];
        octets.iter_mut().zip(s.bytes()).for_each(|(to, from)| *to = from);
        Ok(Password(octets))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_the_protocol_exist() {
        assert!(Vrid::try_from(0).is_err() && Vrid::try_from(255).is_ok());
        assert!(Priority::try_from(0).is_err() && Priority::try_from(1).is_ok());
        for (n, good) in [(0, false), (1, true), (4095, true), (4096, false)] {
            assert_eq!(Centis::try_from(n).is_ok(), good, "{n}");
        }
        let error = Centis::try_from(4096).unwrap_err().to_string();
        assert_eq!(error, "an advertisement interval in hundredths of a second is from 1 to 4095, not 4096");
        assert_eq!(Centis::try_from(4095).unwrap().duration(), Duration::from_millis(40_950));
    }

    #[test]
    fn a_password_is_short_and_not_shown() {
        for (text, good) in [("", false), ("s", true), ("12345678", true), ("123456789", false)] {
            assert_eq!(text.parse::<Password>().is_ok(), good, "{text}");
        }
        assert_eq!(format!("{:?}", "s3cret".parse::<Password>().unwrap()), "Password(…)");
    }

    #[test]
    fn each_family_has_its_own_virtual_mac() {
        let vrid = Vrid::try_from(51).unwrap();
        assert_eq!(vrid.mac(Family::V4).to_string(), "00:00:5e:00:01:33");
        assert_eq!(vrid.mac(Family::V6).to_string(), "00:00:5e:00:02:33");
    }
}
