//! Who is answered, with what, and above all who is not.

use super::*;
use oxelb_l2::wire::ethernet::Frame;
use oxelb_l2::wire::ndp::Message;

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
const HOST: &str = "198.51.100.200";
const HOST6: &str = "2001:db8::c1";
const T: Tick = Tick(1);

fn read_arp(frame: &[u8]) -> (MacAddr, arp::Packet) {
    let ethernet = Frame::parse(frame).unwrap();
    assert_eq!(ethernet.source, arp::Packet::parse(ethernet.payload).unwrap().sender_mac);
    (ethernet.destination, arp::Packet::parse(ethernet.payload).unwrap())
}

fn read_ndp(frame: &[u8]) -> (MacAddr, ndp::Packet) {
    let ethernet = Frame::parse(frame).unwrap();
    (ethernet.destination, ndp::Packet::parse(ethernet.payload).unwrap().unwrap())
}

fn advert(to: &str, solicited: bool) -> ndp::Packet {
    let target = v6(B);
    let message = Message::Advertisement { router: false, solicited, overrides: true, target, target_mac: Some(MAC0) };
    ndp::Packet { source: target, destination: v6(to), message }
}

#[test]
fn a_request_for_an_owned_address_is_answered_to_the_asker_alone() {
    let mut l2 = node(&[(A, &[ETH0])]);
    let answers = frames(&mut l2, T, ETH0, arp_request(CLIENT, HOST, A));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, ETH0);
    let expected = arp::Packet {
        operation: arp::Operation::Reply,
        sender_mac: MAC0,
        sender_ip: v4(A),
        target_mac: CLIENT,
        target_ip: v4(HOST),
    };
    assert_eq!(read_arp(&answers[0].1), (CLIENT, expected));
}

#[test]
fn a_unicast_request_is_answered_too() {
    let mut l2 = node(&[(A, &[ETH0])]);
    let mut request = arp_request(CLIENT, HOST, A);
    request[..6].copy_from_slice(&MAC0.0);
    assert_eq!(frames(&mut l2, T, ETH0, request).len(), 1);
}

#[test]
fn the_answer_goes_to_the_hardware_address_in_the_request() {
    // RFC 826. A bond or a proxy may send from another Ethernet address than it asks with.
    let mut l2 = node(&[(A, &[ETH0])]);
    let mut request = arp_request(CLIENT, HOST, A);
    request[6..12].copy_from_slice(&STRANGER.0);
    assert_eq!(read_arp(&frames(&mut l2, T, ETH0, request)[0].1).0, CLIENT);
}

#[test]
fn a_probe_from_nobody_is_answered_so_that_its_sender_looks_for_another_address() {
    let mut l2 = node(&[(A, &[ETH0])]);
    let answers = frames(&mut l2, T, ETH0, arp_request(CLIENT, "0.0.0.0", A));
    let (to, reply) = read_arp(&answers[0].1);
    assert_eq!((to, reply.sender_ip, reply.target_ip), (CLIENT, v4(A), v4("0.0.0.0")));
}

#[test]
fn gratuitous_requests_replies_and_other_operations_are_not_answered() {
    let mut l2 = node(&[(A, &[ETH0])]);
    // It claims our address: that is defended to all, and its sender gets no answer.
    let defence = frames(&mut l2, T, ETH0, arp_request(CLIENT, A, A));
    assert!(!defence.is_empty() && defence.iter().all(|(_, f)| !said(f).answers));
    assert_eq!(frames(&mut l2, T, ETH0, arp_reply(CLIENT, HOST, A)), []);
    let mut rarp = arp_request(CLIENT, HOST, A);
    rarp[21] = 3;
    assert_eq!(frames(&mut l2, T, ETH0, rarp), []);
}

#[test]
fn nothing_is_answered_for_addresses_of_others_or_on_other_interfaces() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    assert_eq!(frames(&mut l2, T, ETH0, arp_request(CLIENT, HOST, "198.51.100.8")), []);
    assert_eq!(frames(&mut l2, T, ETH1, arp_request(CLIENT, HOST, A)), []);
    assert_eq!(frames(&mut l2, T, IfIndex(9), arp_request(CLIENT, HOST, A)), []);
    assert_eq!(frames(&mut l2, T, ETH0, solicitation(CLIENT, HOST6, "2001:db8::8", Some(CLIENT))), []);
    assert_eq!(frames(&mut l2, T, ETH1, solicitation(CLIENT, HOST6, B, Some(CLIENT))), []);
    assert_eq!(l2.counters().ignored, 5);
    assert_eq!(l2.counters().requests, 0);
}

#[test]
fn frames_for_other_hosts_and_our_own_frames_are_ignored() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    let mut promiscuous = arp_request(CLIENT, HOST, A);
    promiscuous[..6].copy_from_slice(&STRANGER.0);
    assert_eq!(frames(&mut l2, T, ETH0, promiscuous), []);
    // Also what our other interface on the same segment sends.
    assert_eq!(frames(&mut l2, T, ETH0, arp_request(MAC0, HOST, A)), []);
    assert_eq!(frames(&mut l2, T, ETH0, arp_request(MAC1, HOST, A)), []);
    assert_eq!(frames(&mut l2, T, ETH0, solicitation(MAC1, HOST6, B, Some(MAC1))), []);
    assert_eq!(l2.counters().ignored, 4);
}

#[test]
fn a_frame_that_names_us_as_its_sender_anywhere_is_ours() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    // Reflected or rewritten on its way, or sent by our own bridge or proxy for somebody.
    for (ethernet, named) in [(CLIENT, MAC0), (MAC0, CLIENT)] {
        for mut frame in [
            arp_request(named, HOST, A),
            arp_reply(named, A, HOST),
            solicitation(named, HOST6, B, Some(named)),
            advertisement(named, B, Some(named)),
        ] {
            frame[6..12].copy_from_slice(&ethernet.0);
            assert_eq!(act(&mut l2, T, Input::Frame { on: ETH0, bytes: frame }), []);
        }
    }
    assert_eq!(l2.counters().ignored, 8);
}

#[test]
fn tagged_frames_are_ignored() {
    let mut l2 = node(&[(A, &[ETH0])]);
    for tag in [[0x81, 0x00], [0x88, 0xa8]] {
        let mut tagged = arp_request(CLIENT, HOST, A);
        tagged.splice(12..12, [tag[0], tag[1], 0, 5]);
        assert_eq!(frames(&mut l2, T, ETH0, tagged), []);
    }
    assert_eq!(l2.counters().ignored, 2);
}

#[test]
fn nothing_is_answered_or_announced_on_a_link_that_is_down_or_has_no_ethernet_address() {
    for bad in [link(MAC0, false), link(MacAddr::ZERO, true), link(MacAddr::BROADCAST, true)] {
        let mut l2 = L2::new(fastrand::Rng::with_seed(1));
        l2.handle(Tick::ZERO, Input::Links(BTreeMap::from([(ETH0, bad.clone())])));
        assert_eq!(act(&mut l2, Tick::ZERO, owned(&[(A, &[ETH0])])), [], "{bad:?}");
        assert_eq!(frames(&mut l2, T, ETH0, arp_request(CLIENT, HOST, A)), []);
        assert_eq!(l2.deadline(), None);
    }
}

#[test]
fn addresses_that_no_host_can_have_are_never_answered_for() {
    let nonsense = ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.5"];
    let nonsense6 = ["::", "::1", "ff02::1"];
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(both_up()));
    let all: Vec<(&str, &[IfIndex])> = nonsense.iter().chain(&nonsense6).map(|a| (*a, &[ETH0][..])).collect();
    assert_eq!(act(&mut l2, Tick::ZERO, owned(&all)), []);
    for a in nonsense {
        assert_eq!(frames(&mut l2, T, ETH0, arp_request(CLIENT, HOST, a)), [], "{a}");
    }
}

#[test]
fn losing_an_address_stops_its_answers_in_the_same_turn() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0]), ("198.51.100.8", &[ETH0])]);
    // Answers that were not drained yet are lost with it, and nothing is sent to say good-bye.
    l2.handle(T, Input::Frame { on: ETH0, bytes: arp_request(CLIENT, HOST, A) });
    l2.handle(T, Input::Frame { on: ETH0, bytes: arp_request(CLIENT, HOST, "198.51.100.8") });
    l2.handle(T, Input::Frame { on: ETH0, bytes: solicitation(CLIENT, HOST6, B, Some(CLIENT)) });
    let effects = act(&mut l2, T, owned(&[("198.51.100.8", &[ETH0])]));
    let group = ndp::solicited_node(v6(B));
    assert_eq!(
        effects[..3],
        [
            Effect::Withdrawn { address: ip(A), on: ETH0 },
            Effect::Withdrawn { address: ip(B), on: ETH0 },
            Effect::Leave { on: ETH0, group },
        ]
    );
    let kept: Vec<_> = sent(&effects).iter().map(|(_, f)| said(f).address).collect();
    assert_eq!(kept, [ip("198.51.100.8")]);
    assert_eq!(l2.counters().dropped, 2);

    assert_eq!(frames(&mut l2, T, ETH0, arp_request(CLIENT, HOST, A)), []);
    assert_eq!(frames(&mut l2, T, ETH0, solicitation(CLIENT, HOST6, B, Some(CLIENT))), []);
    let later = run(&mut l2, Tick::from_millis(200_000));
    assert!(
        later
            .iter()
            .all(|(_, e)| !matches!(e, Effect::Send { frame, .. } if said(frame).address != ip("198.51.100.8")))
    );
}

#[test]
fn d1_the_loser_of_an_address_stops_answering_and_the_winner_begins() {
    let (a, b) = (MAC0, STRANGER);
    let nodes = |mac| {
        let mut l2 = L2::new(fastrand::Rng::with_seed(1));
        l2.handle(Tick::ZERO, Input::Links(BTreeMap::from([(ETH0, link(mac, true))])));
        l2
    };
    let (mut old, mut new) = (nodes(a), nodes(b));
    act(&mut old, Tick::ZERO, owned(&[(A, &[ETH0])]));
    let answering = |old: &mut L2, new: &mut L2, now| {
        let request = || arp_request(CLIENT, HOST, A);
        [frames(old, now, ETH0, request()), frames(new, now, ETH0, request())]
            .concat()
            .iter()
            .map(|(_, f)| said(f))
            .filter(|s| s.answers)
            .map(|s| s.mac)
            .collect::<Vec<_>>()
    };
    assert_eq!(answering(&mut old, &mut new, T), [a]);
    // The election goes to the other node, whose announcement reaches the first one.
    act(&mut old, T, owned(&[]));
    let announced = sent(&act(&mut new, T, owned(&[(A, &[ETH0])])));
    assert_eq!(announced.len(), 2);
    for (_, frame) in announced {
        assert_eq!(act(&mut old, T, Input::Frame { on: ETH0, bytes: frame }), []);
    }
    for now in [Tick(2), Tick::from_millis(1_000), Tick::from_millis(100_000)] {
        assert_eq!(answering(&mut old, &mut new, now), [b]);
    }
}

#[test]
fn a_solicitation_is_answered_with_and_without_its_source_option() {
    let mut l2 = node(&[(B, &[ETH0])]);
    let with = frames(&mut l2, T, ETH0, solicitation(CLIENT, HOST6, B, Some(CLIENT)));
    assert_eq!(with.len(), 1);
    assert_eq!(read_ndp(&with[0].1), (CLIENT, advert(HOST6, true)));
    // Without the option the asker is who sent the frame.
    let without = frames(&mut l2, T, ETH0, solicitation(STRANGER, HOST6, B, None));
    assert_eq!(read_ndp(&without[0].1), (STRANGER, advert(HOST6, true)));
}

#[test]
fn unicast_reachability_probes_are_answered() {
    // RFC 4861 §7.3.3: they go to the address itself and usually have no option.
    let mut l2 = node(&[(B, &[ETH0])]);
    let message = Message::Solicitation { target: v6(B), source_mac: None };
    let packet = ndp::Packet { source: v6("fe80::c1"), destination: v6(B), message };
    let answers = frames(&mut l2, T, ETH0, packet.frame(CLIENT, MAC0));
    assert_eq!(read_ndp(&answers[0].1), (CLIENT, advert("fe80::c1", true)));
    // One that went to another address is not for us.
    let stray = ndp::Packet { destination: v6("2001:db8::99"), ..packet };
    assert_eq!(frames(&mut l2, T, ETH0, stray.frame(CLIENT, MAC0)), []);
}

#[test]
fn duplicate_address_detection_of_others_is_defended_to_all_nodes() {
    let mut l2 = node(&[(B, &[ETH0])]);
    let answers = frames(&mut l2, T, ETH0, solicitation(CLIENT, "::", B, None));
    assert_eq!(answers.len(), 1);
    let (to, packet) = read_ndp(&answers[0].1);
    assert_eq!((to, packet), ("33:33:00:00:00:01".parse().unwrap(), advert("ff02::1", false)));
}

#[test]
fn solicitations_from_beyond_the_link_or_with_a_wrong_checksum_are_dropped_and_counted() {
    let mut l2 = node(&[(B, &[ETH0])]);
    let good = solicitation(CLIENT, HOST6, B, Some(CLIENT));
    for (at, octet) in [(14 + 7, 64), (14 + 40 + 2, 0), (14 + 40 + 25, 0)] {
        let mut bad = good.clone();
        bad[at] = octet;
        assert_eq!(frames(&mut l2, T, ETH0, bad), []);
    }
    assert_eq!(l2.counters().malformed, 3);
    assert_eq!(frames(&mut l2, T, ETH0, good).len(), 1);
}

#[test]
fn an_asker_with_a_group_or_zero_for_its_hardware_address_gets_no_answer() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    for mac in [MacAddr::BROADCAST, MacAddr::ZERO, "33:33:00:00:00:01".parse().unwrap()] {
        assert_eq!(frames(&mut l2, T, ETH0, arp_request(mac, HOST, A)), []);
        assert_eq!(frames(&mut l2, T, ETH0, solicitation(CLIENT, HOST6, B, Some(mac))), []);
    }
    assert_eq!(l2.counters().malformed, 6);
}

#[test]
fn d12_both_families_on_one_interface_and_several_interfaces() {
    let mut l2 = node(&[(A, &[ETH0, ETH1]), (B, &[ETH0, ETH1]), ("2001:db8::8", &[ETH1])]);
    for (on, mac) in [(ETH0, MAC0), (ETH1, MAC1)] {
        let arp = frames(&mut l2, T, on, arp_request(CLIENT, HOST, A));
        let ndp = frames(&mut l2, T, on, solicitation(CLIENT, HOST6, B, None));
        for (answers, address) in [(arp, ip(A)), (ndp, ip(B))] {
            assert_eq!(answers.len(), 1);
            assert_eq!(answers[0].0, on);
            assert_eq!(said(&answers[0].1), Said { to: CLIENT, from: mac, address, mac, answers: true });
        }
    }
    assert_eq!(frames(&mut l2, T, ETH0, solicitation(CLIENT, HOST6, "2001:db8::8", None)), []);
    assert_eq!(frames(&mut l2, T, ETH1, solicitation(CLIENT, HOST6, "2001:db8::8", None)).len(), 1);
}

#[test]
fn d13_an_address_outside_the_subnet_of_the_asker_is_answered_for() {
    let mut l2 = node(&[("203.0.113.250", &[ETH0])]);
    assert_eq!(frames(&mut l2, T, ETH0, arp_request(CLIENT, "10.0.0.5", "203.0.113.250")).len(), 1);
}

#[test]
fn a_group_is_joined_before_its_first_address_and_left_after_its_last() {
    // All but the last 24 bits differ: they share a group.
    let (x, y) = ("2001:db8:1::aa:7", "2001:db8:2::aa:7");
    let group = v6("ff02::1:ffaa:7");
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(both_up()));
    let facts = |effects: Vec<Effect>| -> Vec<Effect> {
        effects.into_iter().filter(|e| !matches!(e, Effect::Send { .. })).collect()
    };
    let announcing = |a, on| Effect::Announcing { address: ip(a), on };
    let withdrawn = |a, on| Effect::Withdrawn { address: ip(a), on };
    let first = act(&mut l2, Tick::ZERO, owned(&[(x, &[ETH0])]));
    assert_eq!(first[0], Effect::Join { on: ETH0, group });
    assert_eq!(facts(first).len(), 2);
    // On another interface it is another membership.
    let second = facts(act(&mut l2, T, owned(&[(x, &[ETH0]), (y, &[ETH0, ETH1])])));
    assert_eq!(second, [announcing(y, ETH0), Effect::Join { on: ETH1, group }, announcing(y, ETH1)]);
    let third = facts(act(&mut l2, T, owned(&[(y, &[ETH0, ETH1])])));
    assert_eq!(third, [withdrawn(x, ETH0)]);
    let fourth = facts(act(&mut l2, T, owned(&[(y, &[ETH1])])));
    assert_eq!(fourth, [withdrawn(y, ETH0), Effect::Leave { on: ETH0, group }]);
    let fifth = facts(act(&mut l2, T, owned(&[])));
    assert_eq!(fifth, [withdrawn(y, ETH1), Effect::Leave { on: ETH1, group }]);
}

#[test]
fn a_link_that_goes_down_is_withdrawn_from_and_comes_back_by_itself() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    let down = act(&mut l2, T, Input::Links(BTreeMap::from([(ETH0, link(MAC0, false))])));
    let group = ndp::solicited_node(v6(B));
    let withdrawn = |a| Effect::Withdrawn { address: ip(a), on: ETH0 };
    assert_eq!(down, [withdrawn(A), withdrawn(B), Effect::Leave { on: ETH0, group }]);
    assert_eq!(l2.deadline(), None);
    let up = act(&mut l2, Tick(2), Input::Links(both_up()));
    assert!(up.contains(&Effect::Announcing { address: ip(A), on: ETH0 }));
    assert!(up.contains(&Effect::Join { on: ETH0, group }));
    assert_eq!(frames(&mut l2, Tick(3), ETH0, arp_request(CLIENT, HOST, A)).len(), 1);
    // A link that vanishes is as one that is down.
    assert_eq!(act(&mut l2, Tick(4), Input::Links(BTreeMap::new())).len(), 3);
    assert_eq!(frames(&mut l2, Tick(5), ETH0, arp_request(CLIENT, HOST, A)), []);
}
