//! ARP for IPv4 over Ethernet (RFC 826), and the forms that announce an address.

use super::ethernet::{self, Frame};
use super::{Malformed, Reader};
use engine::MacAddr;
use std::net::Ipv4Addr;

/// Octets of a packet.
pub const PACKET_LEN: usize = 28;

const ETHERNET: u16 = 1;
const IPV4: u16 = 0x0800;

/// What the packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target?
    Request,
    /// The sender has its address.
    Reply,
    /// RARP, InARP and others.
    Other(u16),
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// What it is for.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's IP; 0.0.0.0 in a probe (RFC 5227 §2.1.1).
    pub sender_ip: Ipv4Addr,
    /// The target's Ethernet address; without meaning in a request.
    pub target_mac: MacAddr,
    /// The IP that is asked for, or to whom the reply goes.
    pub target_ip: Ipv4Addr,
}

impl From<u16> for Operation {
    fn from(n: u16) -> Operation {
        match n {
            1 => Operation::Request,
            2 => Operation::Reply,
            n => Operation::Other(n),
        }
    }
}

impl From<Operation> for u16 {
    fn from(o: Operation) -> u16 {
        match o {
            Operation::Request => 1,
            Operation::Reply => 2,
            Operation::Other(n) => n,
        }
    }
}

impl Packet {
    /// The request that announces `ip` (RFC 5227 §2.3).
    pub fn announcement(mac: MacAddr, ip: Ipv4Addr) -> Packet {
        let operation = Operation::Request;
        Packet { operation, sender_mac: mac, sender_ip: ip, target_mac: MacAddr::ZERO, target_ip: ip }
    }

    /// The reply that announces `ip`. Its target is its sender (RFC 5944 §4.6): Linux takes a reply that nobody asked
    /// for as gratuitous, and updates an entry younger than a second by it, only then.
    pub fn gratuitous_reply(mac: MacAddr, ip: Ipv4Addr) -> Packet {
        Packet { operation: Operation::Reply, sender_mac: mac, sender_ip: ip, target_mac: mac, target_ip: ip }
    }

    /// The request for `target`. From 0.0.0.0 it is a probe (RFC 5227 §1.1).
    pub fn question(mac: MacAddr, from: Ipv4Addr, target: Ipv4Addr) -> Packet {
        let operation = Operation::Request;
        Packet { operation, sender_mac: mac, sender_ip: from, target_mac: MacAddr::ZERO, target_ip: target }
    }

    /// The reply to this request: `mac` has what it asks for.
    pub fn reply(&self, mac: MacAddr) -> Packet {
        Packet {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Reads the payload of a frame; padding after the packet is allowed.
    ///
    /// # Errors
    /// When it is cut short or not for Ethernet and IPv4.
    pub fn parse(payload: &[u8]) -> Result<Packet, Malformed> {
        let mut r = Reader(payload);
        if (r.u16()?, r.u16()?, r.u8()?, r.u8()?) != (ETHERNET, IPV4, 6, 4) {
            return Err(Malformed::NotEthernetIpv4);
        }
        Ok(Packet {
            operation: r.u16()?.into(),
            sender_mac: r.mac()?,
            sender_ip: r.ipv4()?,
            target_mac: r.mac()?,
            target_ip: r.ipv4()?,
        })
    }

    /// Appends the packet.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&ETHERNET.to_be_bytes());
        out.extend_from_slice(&IPV4.to_be_bytes());
        out.extend_from_slice(&[6, 4]);
        out.extend_from_slice(&u16::from(self.operation).to_be_bytes());
        out.extend_from_slice(&self.sender_mac.0);
        out.extend_from_slice(&self.sender_ip.octets());
        out.extend_from_slice(&self.target_mac.0);
        out.extend_from_slice(&self.target_ip.octets());
    }

    /// The packet in a frame from its sender to `destination`.
    pub fn frame(&self, destination: MacAddr) -> Vec<u8> {
        let mut out = Vec::with_capacity(ethernet::HEADER_LEN + PACKET_LEN);
        Frame { destination, source: self.sender_mac, ethertype: ethernet::ARP, payload: &[] }.emit(&mut out);
        self.emit(&mut out);
        out
    }
}
