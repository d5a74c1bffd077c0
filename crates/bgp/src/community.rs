//! Communities: of RFC 1997, extended (RFC 4360) and large (RFC 8092).

use crate::types::Asn;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A community of RFC 1997: `65000:1`, or a well-known name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Community(pub u32);

/// An extended community of RFC 4360, as its eight octets. Text: `rt:65000:1` (route target), `soo:65000:1` (site of
/// origin), `lb:65000:125000000` (link bandwidth, octets a second), or sixteen hexadecimal digits after `0x`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExtendedCommunity(pub [u8; 8]);

/// A large community of RFC 8092: `65000:1:2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LargeCommunity {
    /// Who defines it, an AS number as a rule.
    pub global: u32,
    /// What it means, first half.
    pub local_1: u32,
    /// What it means, second half.
    pub local_2: u32,
}

/// The text is no community of the kind that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommunity {
    /// RFC 1997.
    #[error("{0:?} is not a community such as 65000:1 or no-export")]
    Standard(String),
    /// RFC 4360.
    #[error("{0:?} is not an extended community such as rt:65000:1, soo:65000:1 or lb:65000:125000000")]
    Extended(String),
    /// RFC 8092.
    #[error("{0:?} is not a large community such as 65000:1:2")]
    Large(String),
}

/// IANA's registry of well-known communities, as far as routers know names for them.
const WELL_KNOWN: [(&str, Community); 10] = [
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("accept-own", Community(0xffff_0001)),
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
    ("blackhole", Community(0xffff_029a)),
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("local-as", Community::NO_EXPORT_SUBCONFED),
    ("no-peer", Community(0xffff_ff04)),
];

impl Community {
    /// Use this path only when there is no other (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);
    /// A stale route of long-lived graceful restart (RFC 9494).
    pub const LLGR_STALE: Community = Community(0xffff_0006);
    /// Never keep this route as a long-lived stale one (RFC 9494).
    pub const NO_LLGR: Community = Community(0xffff_0007);
    /// Not outside of the confederation (RFC 1997).
    pub const NO_EXPORT: Community = Community(0xffff_ff01);
    /// To no other peer (RFC 1997).
    pub const NO_ADVERTISE: Community = Community(0xffff_ff02);
    /// To no external peer (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xffff_ff03);
}

impl ExtendedCommunity {
    /// The bandwidth of the link that the route was learned on, in octets a second. It weighs paths against each other.
    /// Of a four-octet AS number only AS_TRANS is said. Receivers must take the transitive one and the other alike (RFC
    /// 10005); this is the transitive one, since FRR 10 up to 10.5 shows the other and does not weigh by it.
    pub fn link_bandwidth(asn: Asn, octets_per_second: f32) -> ExtendedCommunity {
        let [a, b] = asn.two_octets().to_be_bytes();
        let [c, d, e, f] = octets_per_second.to_be_bytes();
        ExtendedCommunity([0x00, 0x04, a, b, c, d, e, f])
    }
}

fn split<const N: usize>(s: &str) -> Option<[&str; N]> {
    let parts: Vec<&str> = s.split(':').collect();
    parts.try_into().ok()
}

/// Digits alone: `+1` is no number here.
fn number<T: FromStr>(s: &str) -> Option<T> {
    s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok())?
}

impl FromStr for Community {
    type Err = InvalidCommunity;
    fn from_str(s: &str) -> Result<Community, InvalidCommunity> {
        let name = s.to_ascii_lowercase().replace('_', "-");
        if let Some((_, community)) = WELL_KNOWN.iter().find(|(n, _)| *n == name) {
            return Ok(*community);
        }
        let parse = || match split::<2>(s) {
            Some([high, low]) => Some(u32::from(number::<u16>(high)?) << 16 | u32::from(number::<u16>(low)?)),
            None => number(s),
        };
        parse().map(Community).ok_or_else(|| InvalidCommunity::Standard(s.to_owned()))
    }
}

impl FromStr for ExtendedCommunity {
    type Err = InvalidCommunity;
    fn from_str(s: &str) -> Result<ExtendedCommunity, InvalidCommunity> {
        extended(s).map(ExtendedCommunity).ok_or_else(|| InvalidCommunity::Extended(s.to_owned()))
    }
}

fn extended(s: &str) -> Option<[u8; 8]> {
    if let Some(hex) = s.strip_prefix("0x") {
        let all = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        return all.then(|| u64::from_str_radix(hex, 16).ok().map(u64::to_be_bytes))?;
    }
    let [kind, administrator, value] = split::<3>(s)?;
    let subtype = match kind.to_ascii_lowercase().as_str() {
        "rt" => 2,
        "soo" => 3,
        "lb" => {
            let octets = number::<u64>(value)? as f32;
            let asn = u32::from(number::<u16>(administrator)?);
            return Some(ExtendedCommunity::link_bandwidth(Asn::new(asn)?, octets).0);
        }
        _ => return None,
    };
    let mut octets = [0, subtype, 0, 0, 0, 0, 0, 0];
    let (kind, six) = if let Some(asn) = number::<u16>(administrator) {
        (0, u64::from(asn) << 32 | u64::from(number::<u32>(value)?))
    } else if let Ok(ip) = administrator.parse::<Ipv4Addr>() {
        (1, u64::from(ip.to_bits()) << 16 | u64::from(number::<u16>(value)?))
    } else {
        (2, u64::from(number::<u32>(administrator)?) << 16 | u64::from(number::<u16>(value)?))
    };
    let [_, _, rest @ ..] = six.to_be_bytes();
    let [first, _, tail @ ..] = &mut octets;
    *first = kind;
    *tail = rest;
    Some(octets)
}

impl FromStr for LargeCommunity {
    type Err = InvalidCommunity;
    fn from_str(s: &str) -> Result<LargeCommunity, InvalidCommunity> {
        let parse = || {
            let [global, local_1, local_2] = split::<3>(s)?;
            Some(LargeCommunity { global: number(global)?, local_1: number(local_1)?, local_2: number(local_2)? })
        };
        parse().ok_or_else(|| InvalidCommunity::Large(s.to_owned()))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, c)| c == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, subtype, a, b, c, d, e, g] = self.0;
        let name = match subtype {
            2 => "rt",
            3 => "soo",
            _ => "",
        };
        let asn = u16::from_be_bytes([a, b]);
        let (high, low) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]));
        match (kind, subtype) {
            (0, 2 | 3) => write!(f, "{name}:{asn}:{}", u32::from_be_bytes([c, d, e, g])),
            (1, 2 | 3) => write!(f, "{name}:{}:{low}", Ipv4Addr::from(high)),
            // A small number would be read back as one of two octets.
            (2, 2 | 3) if high > 0xffff => write!(f, "{name}:{high}:{low}"),
            (0, 4) if asn > 0 && exact(f32::from_be_bytes([c, d, e, g])).is_some() => {
                write!(f, "lb:{asn}:{}", exact(f32::from_be_bytes([c, d, e, g])).unwrap_or_default())
            }
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// The whole number that a bandwidth is, if text can say it without loss.
fn exact(bandwidth: f32) -> Option<u64> {
    let whole = bandwidth as u64;
    ((whole as f32).to_bits() == bandwidth.to_bits()).then_some(whole)
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local_1, self.local_2)
    }
}

macro_rules! as_text {
    ($($kind:ident),*) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<String> for $kind {
            type Error = InvalidCommunity;
            fn try_from(s: String) -> Result<$kind, InvalidCommunity> {
                s.parse()
            }
        }
        impl From<$kind> for String {
            fn from(c: $kind) -> String {
                c.to_string()
            }
        }
    )*};
}
as_text!(Community, ExtendedCommunity, LargeCommunity);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_known_names_and_numbers_are_the_same() {
        let c = |s: &str| s.parse::<Community>().unwrap();
        assert_eq!(c("no-export"), c("65535:65281"));
        assert_eq!(c("GRACEFUL_SHUTDOWN"), c("65535:0"));
        assert_eq!(c("4259840001"), c("65000:1"));
        assert_eq!(c("65535:666").to_string(), "blackhole");
        for bad in ["", "1:2:3", "65536:1", "1:65536", "+1:2", "no-such", ":"] {
            assert!(bad.parse::<Community>().is_err(), "{bad}");
        }
    }

    #[test]
    fn extended_communities_have_the_octets_of_their_rfc() {
        let e = |s: &str| s.parse::<ExtendedCommunity>().unwrap().0;
        assert_eq!(e("rt:65000:1"), [0, 2, 0xfd, 0xe8, 0, 0, 0, 1]);
        assert_eq!(e("RT:192.0.2.1:7"), [1, 2, 192, 0, 2, 1, 0, 7]);
        assert_eq!(e("soo:4200000000:1"), [2, 3, 0xfa, 0x56, 0xea, 0, 0, 1]);
        assert_eq!(e("lb:65000:125000000"), [0, 4, 0xfd, 0xe8, 0x4c, 0xee, 0x6b, 0x28]);
        for bad in ["", "rt:1", "rt:x:1", "xx:1:2", "0x12", "rt:65536:65536", "lb:0:1"] {
            assert!(bad.parse::<ExtendedCommunity>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(a: u32, b: [u8; 8], kind in 0u8..3, subtype in 2u8..4, c: (u32, u32, u32)) {
            let community = Community(a);
            prop_assert_eq!(community.to_string().parse(), Ok(community));
            let [_, _, rest @ ..] = b;
            let [p, q, r, s, t, u] = rest;
            for octets in [b, [kind, subtype, p, q, r, s, t, u], [0, 4, p, q, r, s, t, u], [0x40, 4, p, q, r, s, t, u]] {
                let extended = ExtendedCommunity(octets);
                prop_assert_eq!(extended.to_string().parse(), Ok(extended));
            }
            let large = LargeCommunity { global: c.0, local_1: c.1, local_2: c.2 };
            prop_assert_eq!(large.to_string().parse(), Ok(large));
        }
    }
}
