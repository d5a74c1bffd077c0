//! Numbers of BGP that cannot be wrong once they exist.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// The number of an autonomous system, 1 to 4294967295 (RFC 6793). 0 is none (RFC 7607).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Asn(NonZeroU32);

/// A BGP identifier: any 32 bits but zero (RFC 6286).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv4Addr", into = "Ipv4Addr")]
pub struct RouterId(NonZeroU32);

/// After how many seconds of silence a session ends: 3 to 65535, or 0 for never (RFC 4271 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct HoldTime(u16);

/// A number that its type does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumber {
    /// An AS number that is 0 or no number.
    #[error("an AS number is from 1 to 4294967295")]
    Asn,
    /// A router id that is 0.0.0.0 or no IPv4 address.
    #[error("a router id is written like an IPv4 address and is not 0.0.0.0")]
    RouterId,
    /// A hold time of 1 or 2 seconds.
    #[error("a hold time is 0 (never) or from 3 to 65535 seconds")]
    HoldTime,
}

impl Asn {
    /// What stands where a number of four octets does not fit (RFC 6793 §9).
    pub const TRANS: Asn = Asn(NonZeroU32::MIN.saturating_add(23455));

    /// `None` for 0.
    pub const fn new(number: u32) -> Option<Asn> {
        match NonZeroU32::new(number) {
            Some(n) => Some(Asn(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// As two octets can say it: the number itself or [`Asn::TRANS`].
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.get()).unwrap_or(23456)
    }

    /// Reserved for use inside of an organisation (RFC 6996).
    pub fn is_private(self) -> bool {
        matches!(self.get(), 64512..=65534 | 4_200_000_000..=4_294_967_294)
    }
}

impl RouterId {
    /// `None` for 0.0.0.0.
    pub fn new(id: Ipv4Addr) -> Option<RouterId> {
        NonZeroU32::new(u32::from(id)).map(RouterId)
    }

    /// As it is written.
    pub fn address(self) -> Ipv4Addr {
        self.0.get().into()
    }
}

impl HoldTime {
    /// The session never ends because of silence.
    pub const NEVER: HoldTime = HoldTime(0);
    /// What RFC 4271 §10 suggests: 90 s.
    pub const DEFAULT: HoldTime = HoldTime(90);

    /// `None` for 1 and 2.
    pub const fn new(seconds: u16) -> Option<HoldTime> {
        if matches!(seconds, 1 | 2) { None } else { Some(HoldTime(seconds)) }
    }

    /// In seconds.
    pub const fn seconds(self) -> u16 {
        self.0
    }

    /// `None` for never.
    pub fn duration(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl TryFrom<u32> for Asn {
    type Error = InvalidNumber;
    fn try_from(number: u32) -> Result<Asn, InvalidNumber> {
        Asn::new(number).ok_or(InvalidNumber::Asn)
    }
}

impl From<Asn> for u32 {
    fn from(asn: Asn) -> u32 {
        asn.get()
    }
}

impl TryFrom<Ipv4Addr> for RouterId {
    type Error = InvalidNumber;
    fn try_from(id: Ipv4Addr) -> Result<RouterId, InvalidNumber> {
        RouterId::new(id).ok_or(InvalidNumber::RouterId)
    }
}

impl From<RouterId> for Ipv4Addr {
    fn from(id: RouterId) -> Ipv4Addr {
        id.address()
    }
}

impl TryFrom<u16> for HoldTime {
    type Error = InvalidNumber;
    fn try_from(seconds: u16) -> Result<HoldTime, InvalidNumber> {
        HoldTime::new(seconds).ok_or(InvalidNumber::HoldTime)
    }
}

impl From<HoldTime> for u16 {
    fn from(hold: HoldTime) -> u16 {
        hold.0
    }
}

impl FromStr for Asn {
    type Err = InvalidNumber;
    fn from_str(s: &str) -> Result<Asn, InvalidNumber> {
        s.parse().ok().and_then(Asn::new).ok_or(InvalidNumber::Asn)
    }
}

impl FromStr for RouterId {
    type Err = InvalidNumber;
    fn from_str(s: &str) -> Result<RouterId, InvalidNumber> {
        s.parse().ok().and_then(RouterId::new).ok_or(InvalidNumber::RouterId)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address(), f)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_numbers_do_not_exist() {
        assert_eq!((Asn::new(0), HoldTime::new(1), HoldTime::new(2)), (None, None, None));
        assert_eq!(RouterId::new(Ipv4Addr::UNSPECIFIED), None);
        assert_eq!(HoldTime::new(3).map(HoldTime::seconds), Some(3));
        assert_eq!(HoldTime::NEVER.duration(), None);
        assert_eq!(Asn::TRANS.get(), 23456);
        assert!(serde_json::from_str::<Asn>("0").is_err());
        assert!(serde_json::from_str::<HoldTime>("2").is_err());
        assert!(serde_json::from_str::<RouterId>("\"0.0.0.0\"").is_err());
        assert!("4294967296".parse::<Asn>().is_err());
    }

    #[test]
    fn what_does_not_fit_into_two_octets_is_as_trans() {
        let two = |n| Asn::new(n).map(Asn::two_octets);
        assert_eq!((two(65535), two(65536)), (Some(65535), Some(23456)));
    }
}
