//! Prefixes, and the families that they belong to.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address family and what its routes are for, as numbers of IANA (RFC 4760 §6): also of families unknown to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AfiSafi {
    /// 1 for IPv4, 2 for IPv6.
    pub afi: u16,
    /// 1 for unicast.
    pub safi: u8,
}

/// The families that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

/// A prefix whose host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// A prefix as it stands in an UPDATE: network layer reachability information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nlri {
    /// Where to.
    pub prefix: Prefix,
    /// Tells several paths to one prefix apart (RFC 7911); 0 and meaningless where add-path was not negotiated.
    pub path: u32,
}

/// The text is not a prefix such as 192.0.2.0/24, or has host bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a prefix such as 192.0.2.0/24 with no bit set behind its length")]
pub struct InvalidPrefix(String);

impl Family {
    /// All of them.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The numbers on the wire.
    pub const fn afi_safi(self) -> AfiSafi {
        match self {
            Family::Ipv4 => AfiSafi { afi: 1, safi: 1 },
            Family::Ipv6 => AfiSafi { afi: 2, safi: 1 },
        }
    }

    /// The length of an address in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }

    /// Which family an address belongs to.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }
}

impl AfiSafi {
    /// The family, if it is one of those spoken here.
    pub fn family(self) -> Option<Family> {
        Family::ALL.into_iter().find(|f| f.afi_safi() == self)
    }
}

impl Prefix {
    /// The prefix of `length` bits that contains `address`; `None` when the family has not so many bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        if length > Family::of(address).bits() {
            return None;
        }
        let address = match address {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask(length, 32) as u32)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask(length, 128))),
        };
        Some(Prefix { address, length })
    }

    /// The prefix that holds this address alone.
    pub const fn host(address: IpAddr) -> Prefix {
        Prefix { address, length: Family::of(address).bits() }
    }

    /// Its first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Its family.
    pub const fn family(self) -> Family {
        Family::of(self.address)
    }

    /// Whether every address of `other` is in it.
    pub fn contains(self, other: Prefix) -> bool {
        self.length <= other.length && Prefix::new(other.address, self.length) == Some(self)
    }
}

/// The highest `length` of `bits` bits.
fn mask(length: u8, bits: u32) -> u128 {
    let host = bits.saturating_sub(length.into());
    let all = u128::MAX >> (128 - bits);
    all.checked_shr(host).map_or(0, |m| (m << host) & all)
}

impl Nlri {
    /// The only path to a prefix.
    pub const fn of(prefix: Prefix) -> Nlri {
        Nlri { prefix, path: 0 }
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;
    fn from_str(s: &str) -> Result<Prefix, InvalidPrefix> {
        let parse = || {
            let (address, length) = s.split_once('/')?;
            let length = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse().ok())??;
            let address = address.parse().ok()?;
            Prefix::new(address, length).filter(|p| p.address == address)
        };
        parse().ok_or_else(|| InvalidPrefix(s.to_owned()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = InvalidPrefix;
    fn try_from(s: String) -> Result<Prefix, InvalidPrefix> {
        s.parse()
    }
}

impl From<Prefix> for String {
    fn from(p: Prefix) -> String {
        p.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4-unicast",
            Family::Ipv6 => "ipv6-unicast",
        })
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Some(family) => fmt::Display::fmt(&family, f),
            None => write!(f, "AFI {} SAFI {}", self.afi, self.safi),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_host_bits_are_refused() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/33", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        for bad in ["192.0.2.1/24", "192.0.2.0/33", "::/129", "192.0.2.0", "192.0.2.0/", "192.0.2.0/+8", "x/8", ""] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_bits_are_cut_off() {
        let p = |a: &str, l| Prefix::new(a.parse().unwrap(), l).map(|p| p.to_string());
        assert_eq!(p("192.0.2.255", 25).as_deref(), Some("192.0.2.128/25"));
        assert_eq!(p("255.255.255.255", 0).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(p("ffff::1", 0).as_deref(), Some("::/0"));
        assert_eq!(p("2001:db8:ffff::1", 33).as_deref(), Some("2001:db8:8000::/33"));
        assert_eq!(p("192.0.2.1", 33), None);
    }

    #[test]
    fn a_prefix_contains_itself_and_longer_ones_of_its_family() {
        let p = |s: &str| s.parse::<Prefix>().unwrap();
        assert!(p("10.0.0.0/8").contains(p("10.0.0.0/8")));
        assert!(p("10.0.0.0/8").contains(p("10.255.0.1/32")));
        assert!(p("0.0.0.0/0").contains(p("192.0.2.0/24")));
        assert!(!p("10.0.0.0/8").contains(p("11.0.0.0/9")));
        assert!(!p("10.0.0.0/8").contains(p("0.0.0.0/0")));
        assert!(!p("0.0.0.0/0").contains(p("2001:db8::/32")));
    }
}
