//! The packet that speakers exchange, version 1. All numbers are big endian.
//!
//! ```text
//!  "oxlb" version:1 kind:1 boot:16 counter:8         kind: 1 heartbeat, 2 goodbye
//!  from:1+n to:1+n                                   names of nodes, each with its length
//!  statement:8                                       digest of what the sender says of itself
//!  heard-boot:16 heard-counter:8 heard-statement:8   the newest that it heard from the receiver; zeros before
//!  index:2 count:2 n:2*4 addresses                   a part of the statement: how many IPv4 and IPv6 addresses it owns,
//!                                                    and cannot announce; then these. All zero where none is needed
//!  tag:32                                            HMAC-SHA-256 over all before
//! ```

use quorum::key::{Key, TAG};
use quorum::statement::{Digest, Fragment, MAX_FRAGMENTS, Part};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The octets of the longest packet: it passes every network that carries IPv6 without fragments of IP.
pub const MAX_PACKET: usize = 1200;
/// The octets of the longest name of a node (RFC 1123 subdomain, as Kubernetes has it).
pub const MAX_NODE_NAME: usize = 253;

const MAGIC: [u8; 4] = *b"oxlb";
const VERSION: u8 = 1;
/// Everything but names and addresses.
const FIXED: usize = 4 + 1 + 1 + 16 + 8 + 1 + 1 + 8 + 16 + 8 + 8 + 2 + 2 + 4 * 2 + TAG;
/// The octets that addresses may take in a packet, also with the longest names, so that all peers get the same parts.
pub const ROOM: usize = MAX_PACKET - FIXED - 2 * MAX_NODE_NAME;

/// Why a packet was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// Too short, too long, or not ours at all.
    #[error("it is no heartbeat of oxelb: cut short, too long, or from another program on this port")]
    Malformed,
    /// Another version of the packet.
    #[error("its version is {0} and ours is 1: run one version of oxelb on all nodes")]
    Version(u8),
    /// The code does not match.
    #[error("its key is not ours, or it was changed on the way: give all nodes the same Secret memberlist")]
    Key,
    /// Seen before from that speaker, or older than what can be told apart.
    #[error("{0} sent it before: it came twice, very late, or was recorded and sent again")]
    Replay(String),
    /// It is for another node.
    #[error("it is for node {0}: two nodes have the same address, or a Node object has a wrong one")]
    NotForUs(String),
    /// The sender has this node's name.
    #[error("its sender has the name of this node: give each speaker the name of its own node")]
    OwnName,
    /// The sender is not configured, and there are too many such.
    #[error("its sender {0} is not a node that is known here, and there are too many such")]
    Stranger(String),
}

/// What kind of packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Heartbeat,
    Goodbye,
}

/// The newest that the sender heard from the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    pub boot: u128,
    pub counter: u64,
    /// The digest of what the receiver says, as far as the sender knows it completely.
    pub statement: Digest,
}

/// A packet without its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    pub boot: u128,
    pub counter: u64,
    pub from: String,
    pub to: String,
    pub statement: Digest,
    pub heard: Heard,
    pub fragment: Option<Fragment>,
}

/// Whether a name fits into a packet.
pub fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NODE_NAME
}

impl Packet {
    /// The octets of the packet. Names must fit, and the addresses of a fragment take at most [`ROOM`].
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_PACKET);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(match self.kind {
            Kind::Heartbeat => 1,
            Kind::Goodbye => 2,
        });
        out.extend_from_slice(&self.boot.to_be_bytes());
        out.extend_from_slice(&self.counter.to_be_bytes());
        for name in [&self.from, &self.to] {
            out.push(u8::try_from(name.len()).unwrap_or(0));
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.statement.to_be_bytes());
        out.extend_from_slice(&self.heard.boot.to_be_bytes());
        out.extend_from_slice(&self.heard.counter.to_be_bytes());
        out.extend_from_slice(&self.heard.statement.to_be_bytes());
        let none = Fragment { index: 0, count: 0, part: Part::default() };
        let Fragment { index, count, part } = self.fragment.as_ref().unwrap_or(&none);
        let mut numbers = vec![usize::from(*index), usize::from(*count)];
        let mut octets = Vec::new();
        for addresses in [&part.owned, &part.unable] {
            numbers.extend([
                addresses.iter().filter(|a| a.is_ipv4()).count(),
                addresses.iter().filter(|a| a.is_ipv6()).count(),
            ]);
            // IPv4 comes before IPv6 whatever the order was.
            addresses.iter().for_each(|a| {
                if let IpAddr::V4(v4) = a {
                    octets.extend_from_slice(&v4.octets())
                }
            });
            addresses.iter().for_each(|a| {
                if let IpAddr::V6(v6) = a {
                    octets.extend_from_slice(&v6.octets())
                }
            });
        }
        for number in numbers {
            out.extend_from_slice(&u16::try_from(number).unwrap_or(0).to_be_bytes());
        }
        out.extend_from_slice(&octets);
        let tag = key.sign(&out);
        out.extend_from_slice(&tag);
        out
    }

    /// Reads a packet that one of the keys authenticates.
    pub fn decode(bytes: &[u8], keys: &[Key]) -> Result<Packet, Reject> {
        if bytes.len() > MAX_PACKET {
            return Err(Reject::Malformed);
        }
        let (head, tag) = bytes.split_last_chunk::<TAG>().ok_or(Reject::Malformed)?;
        let mut reader = Reader(head);
        if reader.array::<4>()? != MAGIC {
            return Err(Reject::Malformed);
        }
        // Before the tag, which another version may compute in another way.
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(Reject::Version(version));
        }
        if !keys.iter().any(|key| key.verify(head, tag)) {
            return Err(Reject::Key);
        }
        let packet = reader.packet()?;
        if reader.0.is_empty() { Ok(packet) } else { Err(Reject::Malformed) }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Reject> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Reject> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Reject> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn u128(&mut self) -> Result<u128, Reject> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    fn name(&mut self) -> Result<String, Reject> {
        let [len] = self.array()?;
        let name = std::str::from_utf8(self.take(usize::from(len))?).map_err(|_| Reject::Malformed)?;
        if fits(name) { Ok(name.to_owned()) } else { Err(Reject::Malformed) }
    }

    fn packet(&mut self) -> Result<Packet, Reject> {
        let kind = match self.array()? {
            [1] => Kind::Heartbeat,
            [2] => Kind::Goodbye,
            _ => return Err(Reject::Malformed),
        };
        Ok(Packet {
            kind,
            boot: self.u128()?,
            counter: self.u64()?,
            from: self.name()?,
            to: self.name()?,
            statement: self.u64()?,
            heard: Heard { boot: self.u128()?, counter: self.u64()?, statement: self.u64()? },
            fragment: self.fragment()?,
        })
    }

    fn fragment(&mut self) -> Result<Option<Fragment>, Reject> {
        let (index, count) = (self.u16()?, self.u16()?);
        let [o4, o6, u4, u6] = [self.u16()?, self.u16()?, self.u16()?, self.u16()?].map(usize::from);
        let octets = (o4 + u4) * 4 + (o6 + u6) * 16;
        let valid = if count == 0 { index == 0 && octets == 0 } else { index < count && count <= MAX_FRAGMENTS };
        if !valid || octets != self.0.len() {
            return Err(Reject::Malformed);
        }
        let part = Part { owned: self.addresses(o4, o6)?, unable: self.addresses(u4, u6)? };
        Ok((count > 0).then_some(Fragment { index, count, part }))
    }

    fn addresses(&mut self, v4: usize, v6: usize) -> Result<Vec<IpAddr>, Reject> {
        let mut addresses = Vec::with_capacity(v4 + v6);
        for _ in 0..v4 {
            addresses.push(IpAddr::from(self.array::<4>()?));
        }
        for _ in 0..v6 {
            addresses.push(IpAddr::from(self.array::<16>()?));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
