//! Others that claim an owned address are noticed, not answered, and named once a minute.

use super::*;
use oxelb_l2::MAX_STRANGERS;

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

#[test]
fn a_conflict_is_not_answered() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    for frame in [arp_request(STRANGER, A, A), arp_reply(STRANGER, A, HOST), advertisement(STRANGER, B, None)] {
        assert_eq!(frames(&mut l2, Tick(1), ETH0, frame), []);
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
    assert!(matches!(effects[..], [Effect::Conflict { mac: STRANGER, .. }, Effect::Send { .. }]), "{effects:?}");
}
