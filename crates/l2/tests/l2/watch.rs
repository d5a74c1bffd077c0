//! Who claims the addresses of the cluster that others own.

use super::*;
use oxelb_l2::{MAX_QUEUE, MAX_STRANGERS};

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
const HOST: &str = "198.51.100.200";
const T: Tick = Tick::from_millis(5_000);

fn watching(owns: &[(&str, &[IfIndex])], watches: &[(&str, &[IfIndex])]) -> L2 {
    let mut l2 = node(owns);
    l2.handle(Tick::ZERO, watch(watches));
    run(&mut l2, Tick::from_millis(1_000));
    drain(&mut l2);
    l2
}

fn seen(l2: &mut L2, now: Tick, on: IfIndex, bytes: Vec<u8>) -> Vec<(IpAddr, IfIndex, MacAddr)> {
    let effects = act(l2, now, Input::Frame { on, bytes });
    let one = |e: &Effect| match *e {
        Effect::Seen { address, on, mac } => Some((address, on, mac)),
        _ => None,
    };
    effects.iter().filter_map(one).collect()
}

#[test]
fn every_way_to_claim_a_watched_address_is_seen() {
    for bytes in [
        arp_reply(STRANGER, A, HOST),
        arp_request(STRANGER, A, A),
        arp_request(STRANGER, A, HOST),
        arp::Packet::gratuitous_reply(STRANGER, v4(A)).frame(MacAddr::BROADCAST),
    ] {
        let mut l2 = watching(&[], &[(A, &[ETH0])]);
        assert_eq!(seen(&mut l2, T, ETH0, bytes), [(ip(A), ETH0, STRANGER)]);
        assert_eq!((l2.counters().seen, l2.counters().ignored, l2.counters().conflicts), (1, 0, 0));
    }
    for bytes in [
        advertisement(STRANGER, B, Some(STRANGER)),
        advertisement(STRANGER, B, None),
        solicitation(STRANGER, B, "2001:db8::99", Some(STRANGER)),
    ] {
        let mut l2 = watching(&[], &[(B, &[ETH0])]);
        assert_eq!(seen(&mut l2, T, ETH0, bytes), [(ip(B), ETH0, STRANGER)]);
    }
}

#[test]
fn questions_for_it_claims_elsewhere_and_our_own_frames_are_not_seen() {
    let mut l2 = watching(&[], &[(A, &[ETH0]), (B, &[ETH0])]);
    for (on, bytes) in [
        (ETH0, arp_request(CLIENT, HOST, A)),
        (ETH0, arp_request(CLIENT, "0.0.0.0", A)),
        (ETH0, solicitation(CLIENT, "::", B, None)),
        (ETH0, arp_reply(STRANGER, "198.51.100.8", HOST)),
        (ETH1, arp_reply(STRANGER, A, HOST)),
        (ETH0, arp_reply(MAC1, A, HOST)),
        (ETH0, advertisement(MAC1, B, Some(MAC1))),
    ] {
        assert_eq!(seen(&mut l2, T, on, bytes), []);
    }
    assert_eq!(l2.counters().ignored, 7);
}

#[test]
fn what_we_own_is_a_conflict_and_what_we_lost_is_seen() {
    let mut l2 = watching(&[(A, &[ETH0])], &[(A, &[ETH0, ETH1]), (B, &[ETH0])]);
    let claim = || Input::Frame { on: ETH0, bytes: arp_request(STRANGER, A, A) };
    let effects = act(&mut l2, T, claim());
    assert!(matches!(effects[0], Effect::Conflict { .. }), "{effects:?}");
    // Not even where it is not answered for.
    assert_eq!(seen(&mut l2, T, ETH1, arp_request(STRANGER, A, A)), []);
    act(&mut l2, T, owned(&[]));
    assert_eq!(act(&mut l2, T, claim()), [Effect::Seen { address: ip(A), on: ETH0, mac: STRANGER }]);
}

#[test]
fn each_host_is_told_once_a_second_for_each_address() {
    let mut l2 = watching(&[], &[(A, &[ETH0]), ("198.51.100.8", &[ETH0])]);
    let ms = Tick::from_millis;
    let mut told = Vec::new();
    for t in (10_000..13_000).step_by(50) {
        told.extend(seen(&mut l2, ms(t), ETH0, arp_reply(STRANGER, A, HOST)).into_iter().map(|_| t));
    }
    assert_eq!(told, [10_000, 11_000, 12_000]);
    assert_eq!(seen(&mut l2, ms(12_950), ETH0, arp_reply(CLIENT, A, HOST)).len(), 1);
    assert_eq!(seen(&mut l2, ms(12_950), ETH0, arp_reply(STRANGER, "198.51.100.8", HOST)).len(), 1);
    // Watching other addresses as well does not make it news; forgetting it does.
    act(&mut l2, ms(12_960), watch(&[(A, &[ETH0])]));
    assert_eq!(seen(&mut l2, ms(12_970), ETH0, arp_reply(STRANGER, A, HOST)), []);
    act(&mut l2, ms(12_980), watch(&[]));
    assert_eq!(seen(&mut l2, ms(12_980), ETH0, arp_reply(STRANGER, A, HOST)), []);
    act(&mut l2, ms(12_990), watch(&[(A, &[ETH0])]));
    assert_eq!(seen(&mut l2, ms(12_990), ETH0, arp_reply(STRANGER, A, HOST)).len(), 1);
}

#[test]
fn a_flood_of_strangers_costs_bounded_memory_and_hides_no_other_address() {
    let mut l2 = watching(&[], &[(A, &[ETH0]), (B, &[ETH0])]);
    let told: usize = (0..1_000u16)
        .map(|i| {
            let [high, low] = i.to_be_bytes();
            seen(&mut l2, T, ETH0, arp_reply(MacAddr([2, 1, 1, 1, high, low]), A, HOST)).len()
        })
        .sum();
    assert_eq!(told, MAX_STRANGERS);
    assert_eq!(l2.counters().dropped, 1_000 - MAX_STRANGERS as u64);
    assert_eq!(seen(&mut l2, T, ETH0, advertisement(STRANGER, B, None)).len(), 1);
}

#[test]
fn what_is_seen_and_not_drained_is_bounded() {
    let all: Vec<String> = (0..2_000u32).map(|i| Ipv4Addr::from(0x0a00_0000 + i).to_string()).collect();
    let on: &[IfIndex] = &[ETH0];
    let mut l2 = watching(&[], &all.iter().map(|a| (a.as_str(), on)).collect::<Vec<_>>());
    for a in &all {
        l2.handle(T, Input::Frame { on: ETH0, bytes: arp_reply(STRANGER, a, HOST) });
    }
    assert_eq!(drain(&mut l2).len(), MAX_QUEUE);
    assert_eq!(l2.counters().dropped, 2_000 - MAX_QUEUE as u64);
    // What was dropped was not told, so it still is news.
    assert_eq!(seen(&mut l2, T, ETH0, arp_reply(STRANGER, &all[1_999], HOST)).len(), 1);
}

#[test]
fn advertisements_to_all_nodes_are_listened_for_where_an_ipv6_address_is_watched() {
    let mut l2 = node(&[]);
    let group = ndp::ALL_NODES;
    let join = |on| Effect::Join { on, group };
    let leave = |on| Effect::Leave { on, group };
    assert_eq!(act(&mut l2, T, watch(&[(A, &[ETH0])])), []);
    assert_eq!(act(&mut l2, T, watch(&[(B, &[ETH0]), ("2001:db8::8", &[ETH0, ETH1])])), [join(ETH0), join(ETH1)]);
    assert_eq!(act(&mut l2, T, watch(&[(B, &[ETH0])])), [leave(ETH1)]);
    let mut down = both_up();
    down.insert(ETH0, link(MAC0, false));
    assert_eq!(act(&mut l2, T, Input::Links(down)), [leave(ETH0)]);
    assert_eq!(act(&mut l2, T, Input::Links(both_up())), [join(ETH0)]);
    assert_eq!(act(&mut l2, T, watch(&[])), [leave(ETH0)]);
    // Nobody can own a group, so nobody watches one.
    assert_eq!(act(&mut l2, T, watch(&[("ff02::5", &[ETH0]), ("::", &[ETH0])])), []);
}

#[test]
fn an_answer_to_a_question_is_seen_too() {
    let mut l2 = watching(&[], &[(A, &[ETH0])]);
    act(&mut l2, T, Input::Ask(Question { first: true, ..question(A, ETH0) }));
    let effects = act(&mut l2, T, Input::Frame { on: ETH0, bytes: arp_reply(STRANGER, A, "0.0.0.0") });
    let by = Ok(BTreeSet::from([STRANGER]));
    assert_eq!(
        effects,
        [
            Effect::Seen { address: ip(A), on: ETH0, mac: STRANGER },
            Effect::Asked { id: 1, address: ip(A), on: ETH0, by }
        ]
    );
}
