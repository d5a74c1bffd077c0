//! Advertisements as octets and as values: versions 2 and 3.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |version|type 1 |      id       |   priority    |   addresses   |
//! +-------+-------+---------------+---------------+---------------+
//! |0|  interval, 1/100 s (v3)     |           checksum            |
//! | authentication| interval, s   |                          (v2) |
//! +-------------------------------+-------------------------------+
//! | the addresses; in version 2 eight octets more, of a password  |
//! ```
//!
//! What the checksum covers differs: in version 2 the message (RFC 3768 §5.3.8), for IPv6 also a pseudo header. For
//! version 3 over IPv4 RFC 5798 §5.2.8 was read both ways until RFC 9568 §5.2.8 said that it has no pseudo header; by
//! then keepalived and FRR had it. Both are understood, and [`Checksum`] says which one to send.

use crate::types::{Centis, Family, Password, Priority, Vrid};
use engine::MacAddr;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::ops::Deref;
use std::time::Duration;

/// IP's number for VRRP.
pub const PROTOCOL: u8 = 112;
/// The TTL or hop limit of every advertisement: one to the group that has less came through a router (RFC 9568
/// §5.1.1.3).
pub const TTL: u8 = 255;
/// Where advertisements for IPv4 go.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where advertisements for IPv6 go.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

const ADVERTISEMENT: u8 = 1;
const HEADER: usize = 8;
const PASSWORD: usize = 8;

/// What the IP header of a packet said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// From whom: its primary address.
    pub source: IpAddr,
    /// To whom: the group, or in unicast the receiver.
    pub destination: IpAddr,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// Of which virtual router.
    pub vrid: Vrid,
    /// The sender's; none when it stops being master (zero on the wire).
    pub priority: Option<Priority>,
    /// What differs by version and family.
    pub body: Body,
}

/// What differs by version and family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Version 2.
    V2 {
        /// Seconds between two advertisements.
        interval: NonZeroU8,
        /// A password, where there is one.
        password: Option<Password>,
        /// The virtual router's addresses.
        addresses: Addresses<Ipv4Addr>,
    },
    /// Version 3 for IPv4.
    V3Ipv4 {
        /// Between two advertisements.
        interval: Centis,
        /// What the checksum covers.
        checksum: Checksum,
        /// The virtual router's addresses.
        addresses: Addresses<Ipv4Addr>,
    },
    /// Version 3 for IPv6.
    V3Ipv6 {
        /// Between two advertisements.
        interval: Centis,
        /// The virtual router's addresses, its link-local one first (RFC 9568 §5.2.9).
        addresses: Addresses<Ipv6Addr>,
    },
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Version {
    /// Version 2, for IPv4 only (RFC 3768).
    V2,
    /// Version 3 (RFC 9568).
    V3,
}

/// What the checksum of version 3 over IPv4 covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Checksum {
    /// Also a pseudo header: keepalived and FRR, where they are not told otherwise.
    #[default]
    PseudoHeader,
    /// The message alone: RFC 9568, Cisco, Arista; keepalived with `v3_checksum_as_v2`.
    MessageOnly,
}

/// At most 255 addresses, as many as the message can count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<A>", into = "Vec<A>", bound = "A: Clone + Serialize + for<'a> Deserialize<'a>")]
pub struct Addresses<A>(Vec<A>);

impl<A> Default for Addresses<A> {
    fn default() -> Self {
        Addresses(Vec::new())
    }
}

/// More than 255 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an advertisement has at most 255 addresses")]
pub struct TooMany;

impl<A> TryFrom<Vec<A>> for Addresses<A> {
    type Error = TooMany;
    fn try_from(list: Vec<A>) -> Result<Self, TooMany> {
        if list.len() <= usize::from(u8::MAX) { Ok(Addresses(list)) } else { Err(TooMany) }
    }
}

impl<A> From<Addresses<A>> for Vec<A> {
    fn from(list: Addresses<A>) -> Vec<A> {
        list.0
    }
}

impl<A> Deref for Addresses<A> {
    type Target = [A];
    fn deref(&self) -> &[A] {
        &self.0
    }
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Malformed {
    /// Source and destination of different families.
    #[error("its source and its destination are of different families")]
    Family,
    /// It came from beyond the link (RFC 9568 §7.1).
    #[error("its TTL is {0}, not 255: it came through a router")]
    Ttl(u8),
    /// Shorter than its header, or not as long as its count of addresses says.
    #[error("it is not as long as it says")]
    Length,
    /// Neither 2 nor 3; or 2 over IPv6.
    #[error("its version is {0}")]
    Version(u8),
    /// Something else than an advertisement.
    #[error("its type is {0}, not advertisement")]
    Type(u8),
    /// Checksum.
    #[error("its checksum is wrong")]
    Checksum,
    /// An id of zero.
    #[error("its virtual router id is 0")]
    Vrid,
    /// An interval of zero.
    #[error("its interval is 0")]
    Interval,
    /// Neither no authentication nor a simple password.
    #[error("its authentication is of type {0}, which is neither none nor a simple password")]
    Authentication(u8),
}

impl Advert {
    /// Its version.
    pub fn version(&self) -> Version {
        match self.body {
            Body::V2 { .. } => Version::V2,
            Body::V3Ipv4 { .. } | Body::V3Ipv6 { .. } => Version::V3,
        }
    }

    /// The time between two advertisements of its sender.
    pub fn interval(&self) -> Duration {
        match self.body {
            Body::V2 { interval, .. } => Duration::from_secs(interval.get().into()),
            Body::V3Ipv4 { interval, .. } | Body::V3Ipv6 { interval, .. } => interval.duration(),
        }
    }

    /// The virtual router's addresses, in the order of the message.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.body {
            Body::V2 { addresses, .. } | Body::V3Ipv4 { addresses, .. } => {
                addresses.iter().map(|&a| a.into()).collect()
            }
            Body::V3Ipv6 { addresses, .. } => addresses.iter().map(|&a| a.into()).collect(),
        }
    }

    /// Reads the payload of an IP packet: exactly what the IP header says is its length, without padding.
    ///
    /// # Errors
    /// When it must be dropped by RFC 9568 §7.1 or RFC 3768 §7.1, whatever the receiver's configuration.
    pub fn parse(meta: &Meta, message: &[u8]) -> Result<Advert, Malformed> {
        let family = family(meta.source);
        if family != self::family(meta.destination) {
            return Err(Malformed::Family);
        }
        // No RFC knows of unicast: what TTL it must have is the receiver's to say.
        if meta.destination.is_multicast() && meta.ttl != TTL {
            return Err(Malformed::Ttl(meta.ttl));
        }
        let (&[first, vrid, priority, count, a, b, _, _], rest) =
            message.split_first_chunk::<HEADER>().ok_or(Malformed::Length)?;
        let version = match (first >> 4, family) {
            (2, Family::V4) => Version::V2,
            (3, _) => Version::V3,
            (other, _) => return Err(Malformed::Version(other)),
        };
        if first & 0xf != ADVERTISEMENT {
            return Err(Malformed::Type(first & 0xf));
        }
        if message.len() != length(version, family, count) {
            return Err(Malformed::Length);
        }
        let checksum = checksum_of(meta, version, message).ok_or(Malformed::Checksum)?;
        let vrid = Vrid::try_from(vrid).map_err(|_| Malformed::Vrid)?;
        let centis = || Centis::try_from(u16::from_be_bytes([a & 0xf, b])).map_err(|_| Malformed::Interval);
        let body = match (version, family) {
            (Version::V2, _) => Body::V2 {
                interval: NonZeroU8::new(b).ok_or(Malformed::Interval)?,
                password: password(a, rest)?,
                addresses: read(rest, count, Ipv4Addr::from),
            },
            (Version::V3, Family::V4) => {
                Body::V3Ipv4 { interval: centis()?, checksum, addresses: read(rest, count, Ipv4Addr::from) }
            }
            (Version::V3, Family::V6) => {
                Body::V3Ipv6 { interval: centis()?, addresses: read(rest, count, Ipv6Addr::from) }
            }
        };
        Ok(Advert { vrid, priority: Priority::try_from(priority).ok(), body })
    }

    /// The payload of the IP packet that carries it from `source`, a primary address, to `destination`.
    pub fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let priority = self.priority.map_or(0, Priority::get);
        let header = |version: u8, count: usize, [a, b]: [u8; 2]| {
            let count = u8::try_from(count).unwrap_or(u8::MAX);
            vec![version << 4 | ADVERTISEMENT, self.vrid.get(), priority, count, a, b, 0, 0]
        };
        let pseudo = sum(0, &pseudo_header(source, destination, self.len()));
        let (mut out, start) = match &self.body {
            Body::V2 { interval, password, addresses } => {
                let mut out = header(2, addresses.len(), [password.is_some().into(), interval.get()]);
                addresses.iter().for_each(|a| out.extend_from_slice(&a.octets()));
                out.extend_from_slice(&password.map_or([0; PASSWORD], |p| p.0));
                (out, 0)
            }
            Body::V3Ipv4 { interval, checksum, addresses } => {
                let mut out = header(3, addresses.len(), interval.get().to_be_bytes());
                addresses.iter().for_each(|a| out.extend_from_slice(&a.octets()));
                (out, if *checksum == Checksum::PseudoHeader { pseudo } else { 0 })
            }
            Body::V3Ipv6 { interval, addresses } => {
                let mut out = header(3, addresses.len(), interval.get().to_be_bytes());
                addresses.iter().for_each(|a| out.extend_from_slice(&a.octets()));
                (out, pseudo)
            }
        };
        let checksum = !sum(start, &out);
        out[6..HEADER].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Octets of the message.
    fn len(&self) -> usize {
        match &self.body {
            Body::V2 { addresses, .. } => HEADER + 4 * addresses.len() + PASSWORD,
            Body::V3Ipv4 { addresses, .. } => HEADER + 4 * addresses.len(),
            Body::V3Ipv6 { addresses, .. } => HEADER + 16 * addresses.len(),
        }
    }
}

/// The family of an address.
pub fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The group that advertisements of a family go to.
pub fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => GROUP_V4.into(),
        Family::V6 => GROUP_V6.into(),
    }
}

/// The id in a message that is otherwise unread, to find the router that it is for.
pub fn vrid(message: &[u8]) -> Option<Vrid> {
    Vrid::try_from(*message.get(1)?).ok()
}

/// The Ethernet frame that carries an advertisement to the group, from the virtual router's own MAC address (RFC 9568
/// §7.2, §7.3). `None` where source and id are of no such router.
pub fn frame(source: IpAddr, message: &[u8]) -> Option<Vec<u8>> {
    let family = family(source);
    let from = vrid(message)?.mac(family);
    let length = u16::try_from(message.len()).ok()?;
    let (to, ethertype, header) = match (source, group(family)) {
        (IpAddr::V4(source), IpAddr::V4(group)) => {
            let [_, b, c, d] = group.octets();
            let [high, low] = length.checked_add(20)?.to_be_bytes();
            // Network control, and never in fragments.
            let mut header = vec![0x45, 0xc0, high, low, 0, 0, 0x40, 0, TTL, PROTOCOL, 0, 0];
            header.extend(source.octets().into_iter().chain(group.octets()));
            let checksum = !sum(0, &header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            (MacAddr([1, 0, 0x5e, b & 0x7f, c, d]), 0x0800u16, header)
        }
        (IpAddr::V6(source), IpAddr::V6(group)) => {
            let [.., a, b, c, d] = group.octets();
            let [high, low] = length.to_be_bytes();
            let mut header = vec![0x6c, 0, 0, 0, high, low, PROTOCOL, TTL];
            header.extend(source.octets().into_iter().chain(group.octets()));
            (MacAddr([0x33, 0x33, a, b, c, d]), 0x86dd, header)
        }
        _ => return None,
    };
    Some([&to.0[..], &from.0, &ethertype.to_be_bytes(), &header, message].concat())
}

/// How many addresses fit in one advertisement on a link with this MTU (in octets).
pub fn most_addresses(version: Version, family: Family, mtu: usize) -> usize {
    let (ip, address) = match family {
        Family::V4 => (20, 4),
        Family::V6 => (40, 16),
    };
    (mtu.saturating_sub(ip + length(version, family, 0)) / address).min(u8::MAX.into())
}

fn length(version: Version, family: Family, count: u8) -> usize {
    let address = if family == Family::V4 { 4 } else { 16 };
    let password = if version == Version::V2 { PASSWORD } else { 0 };
    HEADER + address * usize::from(count) + password
}

fn read<A, const N: usize>(octets: &[u8], count: u8, address: impl Fn([u8; N]) -> A) -> Addresses<A> {
    let (chunks, _) = octets.as_chunks::<N>();
    Addresses(chunks.iter().take(count.into()).map(|&octets| address(octets)).collect())
}

fn password(kind: u8, rest: &[u8]) -> Result<Option<Password>, Malformed> {
    match (kind, rest.last_chunk()) {
        (0, _) => Ok(None),
        (1, Some(octets)) => Ok(Some(Password(*octets))),
        (other, _) => Err(Malformed::Authentication(other)),
    }
}

/// What the checksum of a message covers; `None` when it is wrong.
fn checksum_of(meta: &Meta, version: Version, message: &[u8]) -> Option<Checksum> {
    let right = |start| sum(start, message) == 0xffff;
    let pseudo = || right(sum(0, &pseudo_header(meta.source, meta.destination, message.len())));
    match (version, family(meta.source)) {
        (Version::V2, _) => right(0).then_some(Checksum::MessageOnly),
        (Version::V3, Family::V6) => pseudo().then_some(Checksum::PseudoHeader),
        (Version::V3, Family::V4) if pseudo() => Some(Checksum::PseudoHeader),
        (Version::V3, Family::V4) => right(0).then_some(Checksum::MessageOnly),
    }
}

/// RFC 8200 §8.1 and, for IPv4, the one that UDP has (RFC 768).
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
            IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
        }
    }
    // The length has four octets for IPv6 and two for IPv4; the sum is the same, as it is with the zeros around.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, PROTOCOL]);
    out
}

/// The one's complement sum of 16-bit words (RFC 1071), going on from `start`.
fn sum(start: u16, octets: &[u8]) -> u16 {
    let (words, odd) = octets.as_chunks::<2>();
    let last = odd.first().map_or(0, |o| u64::from(*o) << 8);
    let mut sum: u64 = u64::from(start) + last + words.iter().map(|w| u64::from(u16::from_be_bytes(*w))).sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
