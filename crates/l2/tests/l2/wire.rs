//! Frames as octets: what is written is exactly this, and what breaks a rule is refused by its name.

use super::*;
use oxelb_l2::wire::Malformed;
use oxelb_l2::wire::ethernet::{self, Frame};
use oxelb_l2::wire::ndp::Message;
use proptest::prelude::*;

const ARP_REPLY: [u8; 42] = [
    2, 0, 0, 0, 0xc, 1, 2, 0, 0, 0, 0, 0x10, 0x08, 0x06, // to the client, from us, ARP
    0, 1, 8, 0, 6, 4, 0, 2, // Ethernet, IPv4, reply
    2, 0, 0, 0, 0, 0x10, 198, 51, 100, 7, // we have it
    2, 0, 0, 0, 0xc, 1, 198, 51, 100, 200, // to the client
];

/// The checksum was computed by hand: the sum of all words is 0x17665, folded 0x7666, its complement 0x8999.
const ADVERTISEMENT: [u8; 86] = [
    2, 0, 0, 0, 0xc, 1, 2, 0, 0, 0, 0, 0x10, 0x86, 0xdd, // to the client, from us, IPv6
    0x60, 0, 0, 0, 0, 32, 58, 255, // 32 octets of ICMPv6, hop limit 255
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, // from the address itself
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc1, // to the client
    136, 0, 0x89, 0x99, 0x60, 0, 0, 0, // advertisement, solicited and override
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, // target
    2, 1, 2, 0, 0, 0, 0, 0x10, // target link-layer address
];

fn advertised() -> ndp::Packet {
    ndp::Packet {
        source: v6("2001:db8::7"),
        destination: v6("2001:db8::c1"),
        message: Message::Advertisement {
            router: false,
            solicited: true,
            overrides: true,
            target: v6("2001:db8::7"),
            target_mac: Some(MAC0),
        },
    }
}

#[test]
fn an_arp_reply_has_these_octets() {
    let request = arp::Packet {
        operation: arp::Operation::Request,
        sender_mac: CLIENT,
        sender_ip: v4("198.51.100.200"),
        target_mac: MacAddr::ZERO,
        target_ip: v4("198.51.100.7"),
    };
    assert_eq!(request.reply(MAC0).frame(CLIENT), ARP_REPLY);
    let frame = Frame::parse(&ARP_REPLY).unwrap();
    assert_eq!((frame.destination, frame.source, frame.ethertype), (CLIENT, MAC0, ethernet::ARP));
    assert_eq!(arp::Packet::parse(frame.payload), Ok(request.reply(MAC0)));
}

#[test]
fn an_advertisement_has_these_octets() {
    assert_eq!(advertised().frame(MAC0, CLIENT), ADVERTISEMENT);
    let frame = Frame::parse(&ADVERTISEMENT).unwrap();
    assert_eq!((frame.destination, frame.source, frame.ethertype), (CLIENT, MAC0, ethernet::IPV6));
    assert_eq!(ndp::Packet::parse(frame.payload), Ok(Some(advertised())));
}

#[test]
fn the_groups_of_an_address_are_those_of_the_rfcs() {
    // The example of RFC 4291 §2.7.1.
    assert_eq!(ndp::solicited_node(v6("4037::01:800:200e:8c6c")), v6("ff02::1:ff0e:8c6c"));
    assert_eq!(ndp::group_mac(v6("ff02::1:ff0e:8c6c")), "33:33:ff:0e:8c:6c".parse().unwrap());
    assert_eq!(ndp::group_mac(ndp::ALL_NODES), "33:33:00:00:00:01".parse().unwrap());
}

#[test]
fn padding_is_allowed_and_every_cut_is_refused() {
    let mut padded = ARP_REPLY.to_vec();
    padded.resize(60, 0xaa);
    assert!(arp::Packet::parse(&padded[14..]).is_ok());
    let mut padded = ADVERTISEMENT.to_vec();
    padded.resize(120, 0xaa);
    assert_eq!(ndp::Packet::parse(&padded[14..]), Ok(Some(advertised())));

    for n in 0..14 {
        assert_eq!(Frame::parse(&ARP_REPLY[..n]), Err(Malformed::Truncated));
    }
    for n in 14..42 {
        assert_eq!(arp::Packet::parse(&ARP_REPLY[14..n]), Err(Malformed::Truncated), "{n}");
    }
    for n in 14..86 {
        assert_eq!(ndp::Packet::parse(&ADVERTISEMENT[14..n]), Err(Malformed::Truncated), "{n}");
    }
}

#[test]
fn arp_for_other_networks_is_refused_and_other_operations_are_kept() {
    for (at, octet) in [(15, 6), (16, 0x86), (18, 8), (19, 16)] {
        let mut frame = ARP_REPLY;
        frame[at] = octet;
        assert_eq!(arp::Packet::parse(&frame[14..]), Err(Malformed::NotEthernetIpv4), "octet {at}");
    }
    let mut rarp = ARP_REPLY;
    rarp[21] = 3;
    assert_eq!(arp::Packet::parse(&rarp[14..]).unwrap().operation, arp::Operation::Other(3));
}

/// An IPv6 packet with this ICMPv6 message and its right checksum, made without the code under test.
fn icmpv6(source: &str, destination: &str, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    use smoltcp::wire::{Icmpv6Packet, IpProtocol, Ipv6Packet};
    let mut bytes = vec![0; 40 + message.len()];
    bytes[40..].copy_from_slice(message);
    Icmpv6Packet::new_unchecked(&mut bytes[40..]).fill_checksum(&v6(source), &v6(destination));
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
    packet.set_version(6);
    packet.set_payload_len(message.len() as u16);
    packet.set_next_header(IpProtocol::Icmpv6);
    packet.set_hop_limit(hop_limit);
    packet.set_src_addr(v6(source));
    packet.set_dst_addr(v6(destination));
    bytes
}

fn neighbour_message(kind: u8, code: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&v6(target).octets());
    message.extend_from_slice(options);
    message
}

#[test]
fn neighbour_messages_that_rfc_4861_drops_are_refused_by_reason() {
    const ME: &str = "fe80::1";
    const GROUP: &str = "ff02::1:ff00:7";
    const TARGET: &str = "2001:db8::7";
    let lladdr = [1, 1, 2, 0, 0, 0, 0xc, 1];
    let nonce_then_lladdr = [&[14, 1, 1, 2, 3, 4, 5, 6][..], &lladdr].concat();
    let ns = |source, destination, hop, code, target, options: &[u8]| {
        ndp::Packet::parse(&icmpv6(source, destination, hop, &neighbour_message(135, code, 0, target, options)))
    };
    let asked = |source: &str, source_mac| {
        let message = Message::Solicitation { target: v6(TARGET), source_mac };
        Ok(Some(ndp::Packet { source: v6(source), destination: v6(GROUP), message }))
    };
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &[]), asked(ME, None));
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &lladdr), asked(ME, Some(CLIENT)));
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &nonce_then_lladdr), asked(ME, Some(CLIENT)));
    let twice = [lladdr, [1, 1, 2, 0, 0, 0, 0xd, 1]].concat();
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &twice), asked(ME, Some(CLIENT)), "the first counts");
    assert_eq!(ns("::", GROUP, 255, 0, TARGET, &[14, 1, 1, 2, 3, 4, 5, 6]), asked("::", None), "RFC 7527's nonce");

    assert_eq!(ns(ME, GROUP, 254, 0, TARGET, &[]), Err(Malformed::HopLimit));
    assert_eq!(ns(ME, GROUP, 255, 1, TARGET, &[]), Err(Malformed::Code));
    assert_eq!(ns(ME, GROUP, 255, 0, "ff02::1", &[]), Err(Malformed::Address));
    assert_eq!(ns("ff02::2", GROUP, 255, 0, TARGET, &[]), Err(Malformed::Address));
    assert_eq!(ns("::", TARGET, 255, 0, TARGET, &[]), Err(Malformed::Address));
    assert_eq!(ns("::", "ff02::1", 255, 0, TARGET, &[]), Err(Malformed::Address));
    assert_eq!(ns("::", GROUP, 255, 0, TARGET, &lladdr), Err(Malformed::Option));
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &[1, 0, 2, 0, 0, 0, 0xc, 1]), Err(Malformed::Option));
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &[1]), Err(Malformed::Truncated));
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &[1, 2, 2, 0, 0, 0, 0xc, 1]), Err(Malformed::Truncated));
    let too_long = [1, 2, 2, 0, 0, 0, 0xc, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(ns(ME, GROUP, 255, 0, TARGET, &too_long), Err(Malformed::Option), "not an Ethernet address");

    let na = |destination, flags| {
        let message = neighbour_message(136, 0, flags, TARGET, &[]);
        ndp::Packet::parse(&icmpv6(TARGET, destination, 255, &message))
    };
    assert!(na("ff02::1", 0x20).is_ok());
    assert_eq!(na("ff02::1", 0x60), Err(Malformed::Address), "solicited, yet to a group");
    assert!(na(ME, 0x60).is_ok());

    let mut wrong_sum = icmpv6(ME, GROUP, 255, &neighbour_message(135, 0, 0, TARGET, &[]));
    wrong_sum[43] ^= 1;
    assert_eq!(ndp::Packet::parse(&wrong_sum), Err(Malformed::Checksum));
    let short = icmpv6(ME, GROUP, 255, &neighbour_message(135, 0, 0, TARGET, &[])[..20]);
    assert_eq!(ndp::Packet::parse(&short), Err(Malformed::Truncated));
    let mut version = icmpv6(ME, GROUP, 255, &neighbour_message(135, 0, 0, TARGET, &[]));
    version[0] = 0x45;
    assert_eq!(ndp::Packet::parse(&version), Err(Malformed::Version));
}

#[test]
fn other_ipv6_is_no_neighbour_message() {
    let echo = icmpv6("fe80::1", "2001:db8::7", 64, &[128, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(ndp::Packet::parse(&echo), Ok(None));
    let mut udp = echo;
    udp[6] = 17;
    assert_eq!(ndp::Packet::parse(&udp), Ok(None));
    // A fragment header before it, which RFC 6980 forbids.
    let mut fragment = icmpv6("fe80::1", "ff02::1:ff00:7", 255, &neighbour_message(135, 0, 0, "2001:db8::7", &[]));
    fragment[6] = 44;
    assert_eq!(ndp::Packet::parse(&fragment), Ok(None));
}

prop_compose! {
    fn any_mac()(octets: [u8; 6]) -> MacAddr { MacAddr(octets) }
}

pub fn any_arp() -> impl Strategy<Value = arp::Packet> {
    (any::<u16>(), any_mac(), any::<Ipv4Addr>(), any_mac(), any::<Ipv4Addr>()).prop_map(
        |(operation, sender_mac, sender_ip, target_mac, target_ip)| arp::Packet {
            operation: operation.into(),
            sender_mac,
            sender_ip,
            target_mac,
            target_ip,
        },
    )
}

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<Ipv6Addr>().prop_filter("a group", |a| !a.is_multicast() && !a.is_unspecified())
}

pub fn any_ndp() -> impl Strategy<Value = ndp::Packet> {
    let mac = || proptest::option::of(any_mac());
    let solicitation =
        (unicast(), unicast(), unicast(), any::<bool>(), mac()).prop_map(|(source, to, target, group, m)| {
            let destination = if group { ndp::solicited_node(target) } else { to };
            ndp::Packet { source, destination, message: Message::Solicitation { target, source_mac: m } }
        });
    let probe = unicast().prop_map(|target| ndp::Packet {
        source: Ipv6Addr::UNSPECIFIED,
        destination: ndp::solicited_node(target),
        message: Message::Solicitation { target, source_mac: None },
    });
    let advertisement = (unicast(), unicast(), unicast(), any::<[bool; 3]>(), mac()).prop_map(
        |(source, to, target, [router, solicited, overrides], target_mac)| ndp::Packet {
            source,
            destination: if solicited { to } else { ndp::ALL_NODES },
            message: Message::Advertisement { router, solicited, overrides, target, target_mac },
        },
    );
    prop_oneof![solicitation, probe, advertisement]
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(arp in any_arp(), ndp in any_ndp(), to in any_mac(), from in any_mac()) {
        let frame = arp.frame(to);
        let ethernet = Frame::parse(&frame).unwrap();
        prop_assert_eq!((ethernet.destination, ethernet.source), (to, arp.sender_mac));
        prop_assert_eq!(arp::Packet::parse(ethernet.payload), Ok(arp));

        let frame = ndp.frame(from, to);
        let ethernet = Frame::parse(&frame).unwrap();
        prop_assert_eq!((ethernet.destination, ethernet.source), (to, from));
        prop_assert_eq!(ndp::Packet::parse(ethernet.payload), Ok(Some(ndp)));

        let mut again = Vec::new();
        ethernet.emit(&mut again);
        prop_assert_eq!(again, frame);
    }

    #[test]
    fn any_octets_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::parse(&bytes);
        let _ = arp::Packet::parse(&bytes);
        let _ = ndp::Packet::parse(&bytes);
    }
}
