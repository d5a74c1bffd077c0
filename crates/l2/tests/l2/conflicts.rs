//! Others that claim an owned address are noticed, not answered, named once a minute, and the address is defended.

use super::*;
use oxelb_l2::{DEFEND_INTERVAL, MAX_STRANGERS};

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
const HOST: &str = "198.51.100.200";

fn conflicts(l2: &mut L2, now: Tick, on: IfIndex, bytes: Vec<u8>) -> Vec<(IpAddr, IfIndex, MacAddr)> {
    let effects = act(l2, now, Input::Frame { on, bytes });
    let conflict = |e: &Effect| match *e {
        Effect::Conflict { address, on, mac } => Some((address, on, mac)),
        _ => None,
    };
    effects.iter().filter_map(conflict).collect()
}

#[test]
fn every_way_to_claim_an_address_is_a_conflict() {
    let reply = arp_reply(STRANGER, A, HOST);
    let gratuitous = arp_request(STRANGER, A, A);
    let asks_as_us = arp_request(STRANGER, A, HOST);
    for frame in [reply, gratuitous, asks_as_us] {
        let mut l2 = node(&[(A, &[ETH0])]);
        assert_eq!(conflicts(&mut l2, Tick(1), ETH0, frame), [(ip(A), ETH0, STRANGER)]);
    }
    let with_option = advertisement(STRANGER, B, Some(STRANGER));
    let without_option = advertisement(STRANGER, B, None);
    let asks_as_us = solicitation(STRANGER, B, "2001:db8::99", Some(STRANGER));
    for frame in [with_option, without_option, asks_as_us] {
        let mut l2 = node(&[(B, &[ETH0])]);
        assert_eq!(conflicts(&mut l2, Tick(1), ETH0, frame), [(ip(B), ETH0, STRANGER)]);
        assert_eq!(l2.counters().conflicts, 1);
    }
}

/// The announcements that a frame brings about; the two frames of an IPv4 announcement count as one.
fn defences(l2: &mut L2, now: Tick, on: IfIndex, bytes: Vec<u8>) -> Vec<(IpAddr, IfIndex)> {
    let mut places: Vec<_> = frames(l2, now, on, bytes)
        .iter()
        .map(|(on, frame)| (said(frame), *on))
        .inspect(|(said, _)| assert!(!said.answers && said.to.is_group(), "{said:?}"))
        .map(|(said, on)| (said.address, on))
        .collect();
    places.dedup();
    places
}

#[test]
fn a_conflict_is_defended_to_all_and_the_stranger_gets_no_answer() {
    // RFC 5227 §2.4 and, for a reply that somebody has just learned from, the form that Linux believes.
    let mut l2 = node(&[(A, &[ETH0, ETH1]), (B, &[ETH0])]);
    let claim = arp_reply(STRANGER, A, HOST);
    let forms = [arp::Packet::announcement(MAC0, v4(A)), arp::Packet::gratuitous_reply(MAC0, v4(A))];
    let sent = frames(&mut l2, Tick(1), ETH0, claim);
    assert_eq!(sent, forms.map(|p| (ETH0, p.frame(MacAddr::BROADCAST))));
    // RFC 4862 §5.4.4 leaves open what to do for IPv6.
    let sent = frames(&mut l2, Tick(1), ETH0, advertisement(STRANGER, B, Some(STRANGER)));
    assert_eq!(sent, [(ETH0, advertisement(MAC0, B, Some(MAC0)))]);
    assert_eq!(l2.counters().defences, 2);
    assert_eq!(l2.counters().by_address[&ip(A)].gratuitous_sent, 3, "two links, and the defence");
}

#[test]
fn an_address_is_defended_once_in_ten_seconds_while_conflicts_go_on_whoever_they_come_from() {
    assert_eq!(DEFEND_INTERVAL, Duration::from_secs(10));
    let mut l2 = node(&[(A, &[ETH0, ETH1]), (B, &[ETH0])]);
    run(&mut l2, Tick::from_millis(1_000));
    let mut defended = Vec::new();
    for ms in (1_000..40_000).step_by(100) {
        let now = Tick::from_millis(ms);
        let claimant = if ms % 200 == 0 { STRANGER } else { CLIENT };
        if !defences(&mut l2, now, ETH0, arp_request(claimant, A, A)).is_empty() {
            defended.push(ms);
        }
    }
    assert_eq!(defended, [1_000, 11_000, 21_000, 31_000]);
    assert_eq!(l2.counters().defences, 4);
    // Another link and another address are defended by themselves.
    let now = Tick::from_millis(40_000);
    let claim = arp_request(STRANGER, A, A);
    assert_eq!(defences(&mut l2, now, ETH1, claim.clone()), [(ip(A), ETH1)]);
    assert_eq!(defences(&mut l2, now, ETH0, advertisement(STRANGER, B, None)), [(ip(B), ETH0)]);
    // What is lost is not defended; what comes back is, at once.
    act(&mut l2, now, owned(&[]));
    assert_eq!(defences(&mut l2, now, ETH0, claim.clone()), []);
    act(&mut l2, now, owned(&[(A, &[ETH0])]));
    assert_eq!(defences(&mut l2, now, ETH0, claim), [(ip(A), ETH0)]);
}

#[test]
fn two_nodes_that_both_believe_in_an_address_do_not_flood_the_link() {
    let mut nodes = [(MAC0, 1), (STRANGER, 2)].map(|(mac, seed)| {
        let mut l2 = L2::new(fastrand::Rng::with_seed(seed));
        act(&mut l2, Tick::ZERO, Input::Links(BTreeMap::from([(ETH0, link(mac, true))])));
        l2
    });
    let mut wire: Vec<(usize, Vec<u8>)> = Vec::new();
    let put = |wire: &mut Vec<(usize, Vec<u8>)>, from: usize, effects: &[Effect]| {
        wire.extend(sent(effects).into_iter().map(|(_, frame)| (from, frame)));
    };
    for (i, l2) in nodes.iter_mut().enumerate() {
        put(&mut wire, i, &act(l2, Tick::ZERO, owned(&[(A, &[ETH0])])));
    }
    let mut total = 0;
    for ms in 0..50_000 {
        let now = Tick::from_millis(ms);
        for (i, l2) in nodes.iter_mut().enumerate() {
            put(&mut wire, i, &run(l2, now).into_iter().map(|(_, e)| e).collect::<Vec<_>>());
        }
        while let Some((from, frame)) = wire.pop() {
            total += 1;
            let other = 1 - from;
            put(&mut wire, other, &act(&mut nodes[other], now, Input::Frame { on: ETH0, bytes: frame }));
        }
        assert!(total < 100, "{total} frames after {ms} ms");
    }
    for l2 in &nodes {
        assert!(l2.counters().defences >= 1 && l2.counters().conflicts == 1, "{:?}", l2.counters());
    }
}

#[test]
fn probes_our_own_frames_and_claims_elsewhere_are_no_conflict() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    for (on, frame) in [
        (ETH0, arp_request(STRANGER, "0.0.0.0", A)),
        (ETH0, solicitation(STRANGER, "::", B, None)),
        (ETH0, arp_request(MAC0, A, A)),
        (ETH0, arp_reply(MAC1, A, HOST)),
        (ETH0, advertisement(MAC1, B, Some(MAC1))),
        (ETH0, arp_reply(STRANGER, "198.51.100.8", HOST)),
        (ETH1, arp_reply(STRANGER, A, HOST)),
        (ETH1, advertisement(STRANGER, B, None)),
    ] {
        assert_eq!(conflicts(&mut l2, Tick(1), on, frame), []);
    }
}

#[test]
fn each_stranger_is_named_once_a_minute_for_each_address() {
    let mut l2 = node(&[(A, &[ETH0]), ("198.51.100.8", &[ETH0])]);
    let claim = |a| arp_reply(STRANGER, a, HOST);
    let ms = Tick::from_millis;
    assert_eq!(conflicts(&mut l2, ms(1), ETH0, claim(A)).len(), 1);
    assert_eq!(conflicts(&mut l2, ms(2), ETH0, claim(A)).len(), 0);
    assert_eq!(conflicts(&mut l2, ms(2), ETH0, claim("198.51.100.8")).len(), 1);
    assert_eq!(conflicts(&mut l2, ms(3), ETH0, arp_reply(CLIENT, A, HOST)).len(), 1);
    assert_eq!(conflicts(&mut l2, ms(60_000), ETH0, claim(A)).len(), 0);
    assert_eq!(conflicts(&mut l2, ms(60_001), ETH0, claim(A)).len(), 1);
    assert_eq!(conflicts(&mut l2, ms(60_002), ETH0, claim(A)).len(), 0);
    // A change of other addresses does not make it news; losing the address and getting it again does.
    act(&mut l2, ms(60_003), owned(&[(A, &[ETH0])]));
    assert_eq!(conflicts(&mut l2, ms(60_003), ETH0, claim(A)).len(), 0);
    act(&mut l2, ms(60_004), owned(&[]));
    act(&mut l2, ms(60_005), owned(&[(A, &[ETH0])]));
    assert_eq!(conflicts(&mut l2, ms(60_005), ETH0, claim(A)).len(), 1);
}

#[test]
fn a_flood_of_strangers_for_one_address_hides_no_conflict_of_another() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    let named: usize = (0..1_000u16)
        .map(|i| {
            let [high, low] = i.to_be_bytes();
            conflicts(&mut l2, Tick(1), ETH0, arp_reply(MacAddr([2, 1, 1, 1, high, low]), A, HOST)).len()
        })
        .sum();
    assert_eq!(named, MAX_STRANGERS);
    assert_eq!(l2.counters().dropped, 1_000 - MAX_STRANGERS as u64);
    assert_eq!(conflicts(&mut l2, Tick(1), ETH0, advertisement(STRANGER, B, None)).len(), 1);
}

#[test]
fn a_request_of_a_host_that_claims_one_address_for_another_is_a_conflict_and_answered() {
    let mut l2 = node(&[(A, &[ETH0]), ("198.51.100.8", &[ETH0])]);
    let effects = act(&mut l2, Tick(1), Input::Frame { on: ETH0, bytes: arp_request(STRANGER, A, "198.51.100.8") });
    assert!(matches!(effects[0], Effect::Conflict { mac: STRANGER, .. }), "{effects:?}");
    let said: Vec<_> = sent(&effects).iter().map(|(_, f)| said(f)).map(|s| (s.address, s.answers)).collect();
    assert_eq!(said, [(ip(A), false), (ip(A), false), (ip("198.51.100.8"), true)]);
}
