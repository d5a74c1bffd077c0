//! The engine and its wire formats, seen from outside. Here is what the tests share.

// Clippy allows these in tests, and does not see that the helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod announce;
mod answers;
mod ask;
mod bounds;
mod conflicts;
mod mutated;
mod oracle;
mod properties;
mod virtual_macs;
mod watch;
mod wire;

use engine::{Engine, IfIndex, MacAddr, Tick};
use oxelb_l2::wire::{arp, ndp};
use oxelb_l2::{Effect, Input, L2, Link, Question};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::time::Duration;

const ETH0: IfIndex = IfIndex(2);
const ETH1: IfIndex = IfIndex(3);
const MAC0: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x10]);
const MAC1: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0xc, 1]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0xd, 1]);

fn v4(s: &str) -> Ipv4Addr {
    s.parse().unwrap()
}

fn v6(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn link(mac: MacAddr, up: bool) -> Link {
    Link { mac, up, name: "eth".to_owned() }
}

fn both_up() -> BTreeMap<IfIndex, Link> {
    BTreeMap::from([(ETH0, link(MAC0, true)), (ETH1, link(MAC1, true))])
}

fn owned(addresses: &[(&str, &[IfIndex])]) -> Input {
    let set = |on: &[IfIndex]| on.iter().copied().collect::<BTreeSet<_>>();
    Input::Addresses(addresses.iter().map(|(a, on)| (ip(a), set(on))).collect())
}

fn watch(addresses: &[(&str, &[IfIndex])]) -> Input {
    match owned(addresses) {
        Input::Addresses(all) => Input::Watch(all),
        other => other,
    }
}

/// Three questions from nobody, 20 ms apart.
fn question(address: &str, on: IfIndex) -> Question {
    let (times, every) = (NonZeroU8::new(3).unwrap(), Duration::from_millis(20));
    Question { id: 1, address: ip(address), on, from: None, times, every, first: false }
}

fn drain(l2: &mut L2) -> Vec<Effect> {
    std::iter::from_fn(|| l2.poll()).collect()
}

fn act(l2: &mut L2, now: Tick, input: Input) -> Vec<Effect> {
    l2.handle(now, input);
    drain(l2)
}

/// Gives a frame and takes what is sent at once.
fn frames(l2: &mut L2, now: Tick, on: IfIndex, bytes: Vec<u8>) -> Vec<(IfIndex, Vec<u8>)> {
    sent(&act(l2, now, Input::Frame { on, bytes }))
}

fn sent(effects: &[Effect]) -> Vec<(IfIndex, Vec<u8>)> {
    let frame = |e: &Effect| match e {
        Effect::Send { on, frame, speaks_for } => {
            assert_eq!(*speaks_for, asked_for(frame).is_none().then(|| said(frame).address));
            Some((*on, frame.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(frame).collect()
}

/// A node with two links that has just announced what it owns; nothing is due for the next 10 ms.
fn node(addresses: &[(&str, &[IfIndex])]) -> L2 {
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(both_up()));
    l2.handle(Tick::ZERO, owned(addresses));
    drain(&mut l2);
    l2
}

/// Lets time pass until `until`, waking the engine exactly when it wants.
fn run(l2: &mut L2, until: Tick) -> Vec<(Tick, Effect)> {
    let mut seen = Vec::new();
    while let Some(now) = l2.deadline().filter(|t| *t <= until) {
        l2.timeout(now);
        seen.extend(drain(l2).into_iter().map(|e| (now, e)));
        assert!(l2.deadline().is_none_or(|next| next > now), "still due after its timeout");
    }
    seen
}

fn arp_request(from: MacAddr, sender: &str, target: &str) -> Vec<u8> {
    let (sender_ip, target_ip) = (v4(sender), v4(target));
    let operation = arp::Operation::Request;
    arp::Packet { operation, sender_mac: from, sender_ip, target_mac: MacAddr::ZERO, target_ip }
        .frame(MacAddr::BROADCAST)
}

fn arp_reply(from: MacAddr, sender: &str, target: &str) -> Vec<u8> {
    let (sender_ip, target_ip) = (v4(sender), v4(target));
    let operation = arp::Operation::Reply;
    arp::Packet { operation, sender_mac: from, sender_ip, target_mac: MAC0, target_ip }.frame(MAC0)
}

/// A solicitation to the solicited-node group.
fn solicitation(from: MacAddr, source: &str, target: &str, source_mac: Option<MacAddr>) -> Vec<u8> {
    let (source, target) = (v6(source), v6(target));
    let destination = ndp::solicited_node(target);
    let message = ndp::Message::Solicitation { target, source_mac };
    ndp::Packet { source, destination, message }.frame(from, ndp::group_mac(destination))
}

fn advertisement(from: MacAddr, target: &str, target_mac: Option<MacAddr>) -> Vec<u8> {
    let target = v6(target);
    let message = ndp::Message::Advertisement { router: false, solicited: false, overrides: true, target, target_mac };
    ndp::Packet { source: target, destination: ndp::ALL_NODES, message }.frame(from, ndp::group_mac(ndp::ALL_NODES))
}

/// Who asks for what by a frame of the engine, if it is a question; read by a library of others.
fn asked_for(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            let repr = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap();
            let ArpRepr::EthernetIpv4 { operation, source_protocol_addr: from, target_protocol_addr: to, .. } = repr
            else {
                panic!("not Ethernet and IPv4")
            };
            (operation == ArpOperation::Request && from != to).then_some((from.into(), to.into()))
        }
        EthernetProtocol::Ipv6 => {
            let ipv6 = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            let icmp = Icmpv6Packet::new_checked(ipv6.payload()).unwrap();
            let capabilities = ChecksumCapabilities::default();
            match Icmpv6Repr::parse(&ipv6.src_addr(), &ipv6.dst_addr(), &icmp, &capabilities).unwrap() {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }) => {
                    Some((ipv6.src_addr().into(), target_addr.into()))
                }
                _ => None,
            }
        }
        other => panic!("ethertype {other}"),
    }
}

/// What a frame of the engine says about which address, read by a library of others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    to: MacAddr,
    from: MacAddr,
    address: IpAddr,
    /// The hardware address that it gives for the address.
    mac: MacAddr,
    /// It answers somebody, where an announcement tells all.
    answers: bool,
}

fn said(frame: &[u8]) -> Said {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    let mac = |a: EthernetAddress| MacAddr(a.0);
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    let (to, from) = (mac(ethernet.dst_addr()), mac(ethernet.src_addr()));
    match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, target_protocol_addr, .. } =
                ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap()
            else {
                panic!("not Ethernet and IPv4")
            };
            Said {
                to,
                from,
                address: source_protocol_addr.into(),
                mac: mac(source_hardware_addr),
                answers: source_protocol_addr != target_protocol_addr,
            }
        }
        EthernetProtocol::Ipv6 => {
            let ipv6 = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            assert_eq!(ipv6.hop_limit(), 255);
            let icmp = Icmpv6Packet::new_checked(ipv6.payload()).unwrap();
            let capabilities = ChecksumCapabilities::default();
            let repr = Icmpv6Repr::parse(&ipv6.src_addr(), &ipv6.dst_addr(), &icmp, &capabilities).unwrap();
            let Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr, lladdr: Some(lladdr) }) = repr else {
                panic!("not an advertisement with a link-layer address: {repr:?}")
            };
            assert_eq!(ipv6.src_addr(), target_addr);
            Said {
                to,
                from,
                address: target_addr.into(),
                mac: MacAddr(lladdr.as_bytes().try_into().unwrap()),
                answers: flags.contains(NdiscNeighborFlags::SOLICITED),
            }
        }
        other => panic!("ethertype {other}"),
    }
}
