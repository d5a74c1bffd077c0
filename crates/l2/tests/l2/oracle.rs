//! Another implementation (smoltcp) reads what we write and writes what we read.

use super::wire::{any_arp, any_ndp};
use super::*;
use oxelb_l2::wire::ndp::Message;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

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
