//! Counters, queue bounds, cost, and that inputs and effects can be recorded.

use super::*;
use oxelb_l2::{AddressCounters, MAX_FRAME, MAX_QUEUE};
use std::time::Instant;

const A: &str = "198.51.100.7";
const HOST: &str = "198.51.100.200";

#[test]
fn what_happens_is_counted_for_each_address_and_forgotten_with_it() {
    let mut l2 = node(&[(A, &[ETH0]), ("2001:db8::7", &[ETH0])]);
    for _ in 0..3 {
        frames(&mut l2, Tick(1), ETH0, arp_request(CLIENT, HOST, A));
    }
    let expected = AddressCounters { requests_received: 3, responses_sent: 3, gratuitous_sent: 1 };
    assert_eq!(l2.counters().by_address[&ip(A)], expected);
    assert_eq!((l2.counters().requests, l2.counters().replies, l2.counters().announcements), (3, 3, 2));
    act(&mut l2, Tick(2), owned(&[("2001:db8::7", &[ETH0])]));
    assert_eq!(l2.counters().by_address.keys().copied().collect::<Vec<_>>(), [ip("2001:db8::7")]);
    assert_eq!(l2.counters().requests, 3);
}

#[test]
fn an_oversized_frame_is_counted_and_not_looked_at_and_a_long_one_is_read() {
    let mut l2 = node(&[(A, &[ETH0])]);
    let mut frame = arp_request(CLIENT, HOST, A);
    frame.resize(MAX_FRAME, 0);
    assert_eq!(frames(&mut l2, Tick(1), ETH0, frame.clone()).len(), 1);
    frame.push(0);
    assert_eq!(frames(&mut l2, Tick(1), ETH0, frame), []);
    assert_eq!(l2.counters().oversized, 1);
}

#[test]
fn cut_frames_are_malformed_for_every_length() {
    let mut l2 = node(&[(A, &[ETH0]), ("2001:db8::7", &[ETH0])]);
    let whole = [arp_request(CLIENT, HOST, A), solicitation(CLIENT, "2001:db8::c1", "2001:db8::7", Some(CLIENT))];
    let mut cuts = 0;
    for frame in whole {
        for n in 0..frame.len() {
            assert_eq!(frames(&mut l2, Tick(1), ETH0, frame[..n].to_vec()), [], "{n} octets");
            cuts += 1;
        }
    }
    assert_eq!(l2.counters().malformed, cuts);
}

#[test]
fn the_queue_of_frames_is_bounded_and_counts_what_it_drops() {
    let mut l2 = node(&[(A, &[ETH0])]);
    for _ in 0..MAX_QUEUE + 10 {
        l2.handle(Tick(1), Input::Frame { on: ETH0, bytes: arp_request(CLIENT, HOST, A) });
    }
    assert_eq!(l2.counters().dropped, 10);
    assert_eq!(l2.counters().replies, MAX_QUEUE as u64);
    assert_eq!(drain(&mut l2).len(), MAX_QUEUE);
    assert_eq!(frames(&mut l2, Tick(1), ETH0, arp_request(CLIENT, HOST, A)).len(), 1);
}

#[test]
fn inputs_effects_and_counters_can_be_recorded_and_read_back() {
    fn same<T>(value: &T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
    }
    let inputs = [
        Input::Links(both_up()),
        owned(&[(A, &[ETH0, ETH1]), ("2001:db8::7", &[ETH0])]),
        Input::Frame { on: ETH0, bytes: arp_reply(STRANGER, A, HOST) },
        Input::Gateway { on: ETH0 },
        Input::Announce { address: ip(A) },
        owned(&[]),
        watch(&[(A, &[ETH0]), ("2001:db8::7", &[ETH0])]),
        Input::Ask(Question { from: Some(ip(HOST)), first: true, ..question(A, ETH0) }),
        Input::Frame { on: ETH0, bytes: arp_reply(STRANGER, A, HOST) },
        Input::Ask(question("224.0.0.5", ETH0)),
    ];
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    let mut kinds = Vec::new();
    for input in inputs {
        same(&input);
        let effects = act(&mut l2, Tick(1), input);
        effects.iter().for_each(same);
        kinds.extend(effects.iter().map(std::mem::discriminant));
    }
    let distinct = kinds.iter().enumerate().filter(|(i, k)| !kinds[..*i].contains(k)).count();
    assert_eq!(distinct, 8, "every kind of effect was seen");
    same(l2.counters());
}

/// The best of several rounds, so that a busy machine does not decide.
fn cost_of_an_answer(owned: u32) -> Duration {
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(both_up()));
    let all = (0..owned).map(|i| (IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i)), BTreeSet::from([ETH0]))).collect();
    l2.handle(Tick::ZERO, Input::Addresses(all));
    drain(&mut l2);
    let requests: Vec<Vec<u8>> = (0..500)
        .map(|i| arp_request(CLIENT, HOST, &Ipv4Addr::from(0x0a00_0000 + i * 7919 % owned).to_string()))
        .collect();
    let round = |_| {
        let start = Instant::now();
        for bytes in &requests {
            l2.handle(Tick(1), Input::Frame { on: ETH0, bytes: bytes.clone() });
            assert!(l2.poll().is_some());
        }
        start.elapsed()
    };
    (0..10).map(round).min().unwrap()
}

#[test]
fn an_answer_costs_no_more_than_the_logarithm_of_what_is_owned() {
    let (few, many) = (cost_of_an_answer(10), cost_of_an_answer(100_000));
    // The logarithm grows fivefold, the number ten-thousandfold.
    assert!(many < few * 50, "10 addresses: {few:?}, 100,000 addresses: {many:?}");
}
