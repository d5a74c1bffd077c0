//! Neighbour solicitations and advertisements of IPv6 (RFC 4861 §4.3, §4.4), in their IPv6 packets.

use super::ethernet::{self, Frame};
use super::{Malformed, Reader};
use engine::MacAddr;
use std::net::Ipv6Addr;

/// ff02::1, all nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IPV6_HEADER_LEN: usize = 40;
const ICMPV6: u8 = 58;
/// Only who sits on the link can send it with this hop limit (RFC 4861 §3.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour message and the addresses of the IPv6 packet around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// From whom; `::` from a node that has no address yet (RFC 4862 §5.4.2).
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What it says.
    pub message: Message,
}

/// A neighbour message. Options that are not named here are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Who has the target?
    Solicitation {
        /// The address that is asked for.
        target: Ipv6Addr,
        /// The sender's Ethernet address, when it says it.
        source_mac: Option<MacAddr>,
    },
    /// The target is here.
    Advertisement {
        /// The sender routes.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces an Ethernet address that the receiver knows.
        overrides: bool,
        /// Whose Ethernet address this is about.
        target: Ipv6Addr,
        /// That Ethernet address, when it says it.
        target_mac: Option<MacAddr>,
    },
}

/// The group on which solicitations for `address` arrive (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
pub fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

impl Packet {
    /// The solicitation for `target`, to its solicited-node group. From `::` it is the one of duplicate address
    /// detection (RFC 4862 §5.4.2), which may not name its sender's MAC address.
    pub fn question(mac: MacAddr, from: Ipv6Addr, target: Ipv6Addr) -> Packet {
        let source_mac = (!from.is_unspecified()).then_some(mac);
        let message = Message::Solicitation { target, source_mac };
        Packet { source: from, destination: solicited_node(target), message }
    }

    /// Reads an IPv6 packet; padding after it is allowed. `None` when it is no neighbour message. Messages behind
    /// extension headers are none: nobody sends them so, and RFC 6980 forbids it for fragments.
    ///
    /// # Errors
    /// When it must be dropped by RFC 4861 §7.1.1 or §7.1.2.
    pub fn parse(payload: &[u8]) -> Result<Option<Packet>, Malformed> {
        let mut r = Reader(payload);
        let [version, ..] = r.take::<4>()?;
        if version >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let (length, next_header, hop_limit) = (r.u16()?, r.u8()?, r.u8()?);
        let (source, destination) = (r.ipv6()?, r.ipv6()?);
        let body = r.rest().get(..usize::from(length)).ok_or(Malformed::Truncated)?;
        let mut r = Reader(body);
        let kind = match (next_header, body.first()) {
            (ICMPV6, Some(&kind @ (SOLICITATION | ADVERTISEMENT))) => kind,
            _ => return Ok(None),
        };
        if hop_limit != HOP_LIMIT {
            return Err(Malformed::HopLimit);
        }
        if checksum(source, destination, body) != 0 {
            return Err(Malformed::Checksum);
        }
        let [_, code, _, _] = r.take::<4>()?;
        if code != 0 {
            return Err(Malformed::Code);
        }
        let [flags, ..] = r.take::<4>()?;
        let target = r.ipv6()?;
        if source.is_multicast() || target.is_multicast() {
            return Err(Malformed::Address);
        }
        let message = if kind == SOLICITATION {
            let source_mac = link_layer_address(r, SOURCE_LINK_LAYER_ADDRESS)?;
            // `::` asks a solicited-node group, and such a group is its own solicited-node group.
            if source.is_unspecified() && destination != solicited_node(destination) {
                return Err(Malformed::Address);
            }
            if source.is_unspecified() && source_mac.is_some() {
                return Err(Malformed::Option);
            }
            Message::Solicitation { target, source_mac }
        } else {
            if destination.is_multicast() && flags & SOLICITED != 0 {
                return Err(Malformed::Address);
            }
            Message::Advertisement {
                router: flags & ROUTER != 0,
                solicited: flags & SOLICITED != 0,
                overrides: flags & OVERRIDE != 0,
                target,
                target_mac: link_layer_address(r, TARGET_LINK_LAYER_ADDRESS)?,
            }
        };
        Ok(Some(Packet { source, destination, message }))
    }

    /// Appends the IPv6 packet.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (kind, flags, target, option) = match self.message {
            Message::Solicitation { target, source_mac } => {
                (SOLICITATION, 0, target, source_mac.map(|m| (SOURCE_LINK_LAYER_ADDRESS, m)))
            }
            Message::Advertisement { router, solicited, overrides, target, target_mac } => {
                let flag = |set: bool, bit: u8| if set { bit } else { 0 };
                let flags = flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(overrides, OVERRIDE);
                (ADVERTISEMENT, flags, target, target_mac.map(|m| (TARGET_LINK_LAYER_ADDRESS, m)))
            }
        };
        let length: u16 = if option.is_some() { 32 } else { 24 };
        let mut icmp = [0; 32];
        icmp[0] = kind;
        icmp[4] = flags;
        icmp[8..24].copy_from_slice(&target.octets());
        if let Some((option, mac)) = option {
            icmp[24] = option;
            icmp[25] = 1; // in units of 8 octets
            icmp[26..].copy_from_slice(&mac.0);
        }
        let icmp = &mut icmp[..usize::from(length)];
        let sum = checksum(self.source, self.destination, icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());

        out.extend_from_slice(&[0x60, 0, 0, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[ICMPV6, HOP_LIMIT]);
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
        out.extend_from_slice(icmp);
    }

    /// The packet in a frame.
    pub fn frame(&self, source: MacAddr, destination: MacAddr) -> Vec<u8> {
        let mut out = Vec::with_capacity(ethernet::HEADER_LEN + IPV6_HEADER_LEN + 32);
        Frame { destination, source, ethertype: ethernet::IPV6, payload: &[] }.emit(&mut out);
        self.emit(&mut out);
        out
    }
}

/// The first option of this kind among the options; all of them are checked.
fn link_layer_address(mut r: Reader<'_>, wanted: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    while !r.rest().is_empty() {
        let (kind, units) = (r.u8()?, r.u8()?);
        // RFC 4861 §4.6: a length of zero would also never end.
        let length = usize::from(units).checked_mul(8).filter(|l| *l > 0).ok_or(Malformed::Option)?;
        let (value, rest) = r.rest().split_at_checked(length - 2).ok_or(Malformed::Truncated)?;
        r = Reader(rest);
        if kind == wanted && found.is_none() {
            found = Some(MacAddr(value.try_into().map_err(|_| Malformed::Option)?));
        }
    }
    Ok(found)
}

/// The Internet checksum over the pseudo-header (RFC 8200 §8.1) and an ICMPv6 message; 0 when the message contains its
/// right checksum.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u64 {
        octets.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]))).sum()
    };
    let mut sum = words(&source.octets()) + words(&destination.octets()) + words(icmp);
    sum += icmp.len() as u64 + u64::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
