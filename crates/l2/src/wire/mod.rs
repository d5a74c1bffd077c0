//! Frames as octets and as values: Ethernet, ARP, and the neighbour messages of NDP.
//!
//! Every `parse` takes octets of strangers and is total: it gives a value or says what is wrong. Every `emit` appends
//! to a buffer and cannot fail. What was emitted parses to the same value.

pub mod arp;
pub mod ethernet;
pub mod ndp;

use engine::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer octets than its own lengths say.
    #[error("it is cut short")]
    Truncated,
    /// ARP for another hardware or protocol than Ethernet and IPv4 (RFC 826).
    #[error("its hardware type, protocol or their lengths are not those of Ethernet and IPv4")]
    NotEthernetIpv4,
    /// A sender that is a group, or nobody.
    #[error("its sender's hardware address is a group's or zero")]
    HardwareAddress,
    /// The first four bits of an IPv6 packet.
    #[error("its IP version is not 6")]
    Version,
    /// It came from beyond the link (RFC 4861 §7.1.1).
    #[error("its hop limit is not 255: it may come from beyond the link")]
    HopLimit,
    /// ICMPv6 checksum (RFC 4443 §2.3).
    #[error("its checksum is wrong")]
    Checksum,
    /// The ICMPv6 code of a neighbour message is 0.
    #[error("its ICMPv6 code is not 0")]
    Code,
    /// Source, destination or target of a kind that such a message cannot have (RFC 4861 §7.1).
    #[error("its source, destination or target is of a kind that it cannot be")]
    Address,
    /// An option of length zero, or a link-layer address that is not an Ethernet address, or one where none may be.
    #[error("it has an option that cannot be")]
    Option,
}

/// Octets that are yet to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn mac(&mut self) -> Result<MacAddr, Malformed> {
        self.take().map(MacAddr)
    }

    fn ipv4(&mut self) -> Result<Ipv4Addr, Malformed> {
        self.take::<4>().map(Ipv4Addr::from)
    }

    fn ipv6(&mut self) -> Result<Ipv6Addr, Malformed> {
        self.take::<16>().map(Ipv6Addr::from)
    }

    fn rest(&self) -> &'a [u8] {
        self.0
    }
}
