//! Another implementation (smoltcp) reads what we write and writes what we read.

use super::wire::{any_arp, any_ndp};
use super::*;
use oxelb_l2::wire::ndp::Message;
use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device};
use smoltcp::time::Instant;
use smoltcp::wire::*;
use std::collections::VecDeque;

fn arp_repr(p: &arp::Packet) -> ArpRepr {
    ArpRepr::EthernetIpv4 {
        operation: u16::from(p.operation).into(),
        source_hardware_addr: EthernetAddress(p.sender_mac.0),
        source_protocol_addr: p.sender_ip,
        target_hardware_addr: EthernetAddress(p.target_mac.0),
        target_protocol_addr: p.target_ip,
    }
}

fn ndp_repr(p: &ndp::Packet) -> Icmpv6Repr<'static> {
    let hardware = |m: Option<MacAddr>| m.map(|m| EthernetAddress(m.0).into());
    Icmpv6Repr::Ndisc(match p.message {
        Message::Solicitation { target, source_mac } => {
            NdiscRepr::NeighborSolicit { target_addr: target, lladdr: hardware(source_mac) }
        }
        Message::Advertisement { router, solicited, overrides, target, target_mac } => {
            let mut flags = NdiscNeighborFlags::empty();
            flags.set(NdiscNeighborFlags::ROUTER, router);
            flags.set(NdiscNeighborFlags::SOLICITED, solicited);
            flags.set(NdiscNeighborFlags::OVERRIDE, overrides);
            NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: hardware(target_mac) }
        }
    })
}

proptest! {
    #[test]
    fn smoltcp_and_we_agree_on_arp(packet in any_arp()) {
        let repr = arp_repr(&packet);
        let mut theirs = vec![0; repr.buffer_len()];
        repr.emit(&mut ArpPacket::new_unchecked(&mut theirs));
        let mut ours = Vec::new();
        packet.emit(&mut ours);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(arp::Packet::parse(&theirs), Ok(packet));
        prop_assert_eq!(ArpRepr::parse(&ArpPacket::new_checked(&ours[..]).unwrap()).unwrap(), repr);
    }

    #[test]
    fn smoltcp_and_we_agree_on_neighbour_messages(packet in any_ndp()) {
        let capabilities = ChecksumCapabilities::default();
        let icmp = ndp_repr(&packet);
        let ipv6 = Ipv6Repr {
            src_addr: packet.source,
            dst_addr: packet.destination,
            next_header: IpProtocol::Icmpv6,
            payload_len: icmp.buffer_len(),
            hop_limit: 255,
        };
        let mut theirs = vec![0; ipv6.buffer_len() + icmp.buffer_len()];
        ipv6.emit(&mut Ipv6Packet::new_unchecked(&mut theirs));
        let mut message = Icmpv6Packet::new_unchecked(&mut theirs[ipv6.buffer_len()..]);
        icmp.emit(&packet.source, &packet.destination, &mut message, &capabilities);
        let mut ours = Vec::new();
        packet.emit(&mut ours);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(ndp::Packet::parse(&theirs), Ok(Some(packet)));

        let read = Ipv6Packet::new_checked(&ours[..]).unwrap();
        prop_assert_eq!(Ipv6Repr::parse(&read).unwrap(), ipv6);
        let message = Icmpv6Packet::new_checked(read.payload()).unwrap();
        prop_assert_eq!(Icmpv6Repr::parse(&packet.source, &packet.destination, &message, &capabilities).unwrap(), icmp);
    }

    #[test]
    fn smoltcp_and_we_agree_which_arp_is_readable(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), fix: bool) {
        // Random octets hardly ever begin as Ethernet and IPv4 must.
        if fix && bytes.len() >= 6 {
            bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        }
        let theirs = ArpPacket::new_checked(&bytes[..]).and_then(|p| ArpRepr::parse(&p));
        prop_assert_eq!(arp::Packet::parse(&bytes).ok().as_ref().map(arp_repr), theirs.ok());
    }
}

#[test]
fn a_host_of_smoltcp_resolves_our_addresses() {
    let mut l2 = node(&[("198.51.100.7", &[ETH0]), ("2001:db8::7", &[ETH0])]);
    let answers = |l2: &mut L2, request: Vec<u8>| -> Vec<Said> {
        frames(l2, Tick(1), ETH0, request).iter().map(|(_, frame)| said(frame)).collect()
    };
    let to_client = |address| Said { to: CLIENT, from: MAC0, address, mac: MAC0, answers: true };
    let arp = answers(&mut l2, arp_request(CLIENT, "198.51.100.200", "198.51.100.7"));
    assert_eq!(arp, [to_client(ip("198.51.100.7"))]);
    let ndp = answers(&mut l2, solicitation(CLIENT, "2001:db8::c1", "2001:db8::7", Some(CLIENT)));
    assert_eq!(ndp, [to_client(ip("2001:db8::7"))]);
}

/// A host of smoltcp and the frames on their way to it and from it.
struct Host {
    interface: Interface,
    wire: Wire,
}

#[derive(Default)]
struct Wire {
    to_host: VecDeque<Vec<u8>>,
    from_host: Vec<Vec<u8>>,
}

struct Receive(Vec<u8>);

struct Transmit<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Receive {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Receive;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Receive, Transmit<'_>)> {
        Some((Receive(self.to_host.pop_front()?), Transmit(&mut self.from_host)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit(&mut self.from_host))
    }

    fn capabilities(&self) -> phy::DeviceCapabilities {
        let mut capabilities = phy::DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (phy::Medium::Ethernet, 1514);
        capabilities
    }
}

impl Host {
    fn new(mac: MacAddr, addresses: &[&str]) -> Host {
        let mut wire = Wire::default();
        let mut interface = Interface::new(Config::new(EthernetAddress(mac.0).into()), &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|own| addresses.iter().for_each(|a| own.push(a.parse().unwrap()).unwrap()));
        Host { interface, wire }
    }

    fn answers(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.wire.to_host.push_back(frame);
        self.interface.poll(Instant::ZERO, &mut self.wire, &mut SocketSet::new(vec![]));
        std::mem::take(&mut self.wire.from_host)
    }
}

#[test]
fn a_host_of_smoltcp_answers_a_question_by_name_and_is_found() {
    for (address, from) in [("198.51.100.1", "198.51.100.200"), ("fe80::1", "fe80::10")] {
        for (held, by) in [(address, vec![STRANGER]), ("198.51.100.99", vec![])] {
            let prefix = if held.contains(':') { 64 } else { 24 };
            let mut host = Host::new(STRANGER, &[&format!("{held}/{prefix}")]);
            host.answers(vec![]); // what a host that starts has to say
            let mut l2 = node(&[]);
            let ask = Question { from: Some(ip(from)), ..question(address, ETH0) };
            let mut effects = act(&mut l2, Tick::ZERO, Input::Ask(ask));
            for (_, frame) in sent(&effects) {
                for answer in host.answers(frame) {
                    effects.extend(act(&mut l2, Tick(1), Input::Frame { on: ETH0, bytes: answer }));
                }
            }
            effects.extend(run(&mut l2, Tick::from_millis(100)).into_iter().map(|(_, e)| e));
            let by = Ok(by.into_iter().collect());
            let asked = Effect::Asked { id: 1, address: ip(address), on: ETH0, by };
            assert_eq!(effects.last(), Some(&asked), "with {held}");
        }
    }
}
