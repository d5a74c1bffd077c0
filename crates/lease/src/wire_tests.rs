use super::*;
use crate::digest::SetDigest;
use crate::message::{Answer, Refusal, Verdict};
use crate::statement::{Fragment, MAX_FRAGMENTS, MAX_MACS, Part, SETS};
use crate::types::{Epoch, Preset, Stamp};
use engine::MacAddr;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn key() -> Key {
    Key::new(*b"a key of some 24 octets.")
}

fn plain() -> Packet {
    Packet {
        mark: Mark { boot: 1 << 64 | 2, counter: 3, you: 4, echo: 5 },
        from: "node-a".to_owned(),
        to: "node-b".to_owned(),
        goodbye: false,
        ready: true,
        held_down: false,
        rests: false,
        pace: 150,
        known: EpochId { number: 6, digest: 7 },
        confirmed: EpochId { number: 8, digest: 9 },
        statement: 10,
        acknowledged: 11,
        message: None,
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

/// As many as fit into one message.
fn list() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::btree_set(address(), 0..200)
        .prop_map(|all: BTreeSet<IpAddr>| chunks(&all).into_iter().next().unwrap_or_default())
}

fn name() -> impl Strategy<Value = Node> {
    prop_oneof!["[a-z0-9.-]{1,20}", "[a-z0-9.-]{253}"]
}

fn epoch() -> impl Strategy<Value = EpochId> {
    (any::<u64>(), any::<u64>()).prop_map(|(number, digest)| EpochId { number, digest })
}

fn digest() -> impl Strategy<Value = SetDigest> {
    any::<u128>().prop_map(SetDigest)
}

fn preset() -> impl Strategy<Value = Preset> {
    prop::sample::select(&Preset::ALL[..])
}

fn answer() -> impl Strategy<Value = Answer> {
    let verdict = prop_oneof![
        Just(Verdict::Granted),
        Just(Verdict::Elsewhere),
        any::<u16>().prop_map(|left| Verdict::Held { by: None, left }),
        (0..3u8, any::<u16>()).prop_map(|(n, left)| Verdict::Held { by: Some(format!("node-{n}")), left }),
    ];
    prop_oneof![
        (digest(), prop::collection::vec(verdict, 0..VERDICTS))
            .prop_map(|(granted, verdicts)| Answer::Asked { granted, verdicts }),
        (preset(), digest()).prop_map(|(preset, digest)| Answer::Renewed { preset, digest }),
        (preset(), digest()).prop_map(|(preset, digest)| Answer::Differs { preset, digest }),
        Just(Answer::Released),
        prop::sample::select(vec![Refusal::Silent, Refusal::Epoch, Refusal::NoRecord]).prop_map(Answer::Refused),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (1..=MAX_FRAGMENTS, any::<u16>(), list(), 0..SETS, 0..=MAX_MACS as u8).prop_map(|(count, i, all, n, macs)| {
            let mut part = Part { macs: (0..macs).map(|n| MacAddr([2, 0, 0, 0, 0, n])).collect(), ..Part::default() };
            part.sets[n] = all;
            Message::Part(Fragment { index: i % count, count, part })
        }),
        (epoch(), preset(), any::<bool>(), list()).prop_map(|(epoch, preset, whole, addresses)| Message::Ask {
            epoch,
            preset,
            whole,
            addresses
        }),
        (epoch(), preset(), digest()).prop_map(|(epoch, preset, digest)| Message::Renew { epoch, preset, digest }),
        (prop::option::of(name()), list()).prop_map(|(to, addresses)| Message::Release { to, addresses }),
        (preset(), any::<bool>(), list()).prop_map(|(preset, owning, addresses)| Message::Consent {
            preset,
            owning,
            addresses
        }),
        (any::<u128>(), any::<u64>(), answer())
            .prop_map(|(boot, counter, answer)| Message::Answer { to: Stamp { boot, counter }, answer }),
        list().prop_map(|addresses| Message::Offer { addresses }),
        (any::<u64>(), prop::collection::btree_set("[a-z]{1,30}", 0..5))
            .prop_map(|(number, members)| Message::Members(Epoch { number, members })),
    ]
}

prop_compose! {
    fn packet()(
        goodbye: bool, ready: bool, held_down: bool, rests: bool, pace: u16, statement: u64, acknowledged: u64,
        boot in 1..=u128::MAX, rest: (u64, u128, u64), from in name(), to in name(),
        known in epoch(), confirmed in epoch(), message in prop::option::of(message()),
    ) -> Packet {
        let mark = Mark { boot, counter: rest.0, you: rest.1, echo: rest.2 };
        Packet {
            mark, from, to, goodbye, ready, held_down, rests, pace, known, confirmed, statement, acknowledged, message,
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_fits(packet in packet()) {
        let bytes = packet.encode(&key());
        prop_assert!(bytes.len() <= MAX_PACKET, "{}", bytes.len());
        prop_assert_eq!(Packet::decode(&bytes, &[Key::new(*b"other"), key()]), Ok(packet));
    }

    #[test]
    fn a_packet_that_was_cut_or_lengthened_or_changed_is_refused(packet in packet(), at: prop::sample::Index, bit in 0..8u8) {
        let bytes = packet.encode(&key());
        prop_assert!(Packet::decode(&bytes[..at.index(bytes.len())], &[key()]).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert!(Packet::decode(&longer, &[key()]).is_err());
        let mut mutated = bytes;
        let at = at.index(mutated.len());
        mutated[at] ^= 1 << bit;
        prop_assert!(Packet::decode(&mutated, &[key()]).is_err());
    }

    /// Somebody with the key sends what is nearly right: whatever comes, it is an answer and no panic.
    #[test]
    fn authenticated_damage_is_refused_or_read_as_it_stands(
        packet in packet(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: Option<prop::sample::Index>,
    ) {
        let mut bytes = packet.encode(&key());
        bytes.truncate(bytes.len() - TAG);
        for (at, to) in changes {
            let at = 5 + at.index(bytes.len() - 5);
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let tag = key().sign(&bytes);
        bytes.extend_from_slice(&tag);
        if let Ok(packet) = Packet::decode(&bytes, &[key()]) {
            let again = Packet::decode(&packet.encode(&key()), &[key()]);
            prop_assert_eq!(again, Ok(packet));
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(Packet::decode(&bytes, &[key()]).is_err());
    }

    #[test]
    fn chunks_are_all_in_order_and_fit(all in prop::collection::btree_set(address(), 0..600)) {
        let chunks = chunks(&all);
        prop_assert!(chunks.iter().all(|c| !c.is_empty() && c.len() <= VERDICTS));
        prop_assert_eq!(chunks.concat(), all.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn each_refusal_is_named() {
    let bytes = plain().encode(&key());
    let other = Key::new(*b"another key");
    assert_eq!(Packet::decode(&bytes, std::slice::from_ref(&other)), Err(Reject::Key));
    assert_eq!(Packet::decode(&bytes, &[]), Err(Reject::Key));
    let mut newer = bytes.clone();
    newer[4] = 3;
    assert_eq!(Packet::decode(&newer, &[key()]), Err(Reject::Version(3)));
    assert_eq!(Packet::decode(&bytes[..20], &[key()]), Err(Reject::Malformed));
    assert_eq!(Packet::decode(b"GET / HTTP/1.1\r\nHost: node-a.example.org\r\n\r\n", &[key()]), Err(Reject::Malformed));
}

#[test]
fn a_holder_whose_name_does_not_fit_is_somebody() {
    let by = |n: u8| Some(format!("{n}{}", "x".repeat(200)));
    let verdicts = (0..4).map(|n| Verdict::Held { by: by(n), left: 5 }).collect();
    let answer = Answer::Asked { granted: SetDigest(1), verdicts };
    let packet = Packet { message: Some(Message::Answer { to: Stamp::default(), answer }), ..plain() };
    let read = Packet::decode(&packet.encode(&key()), &[key()]).unwrap();
    let Some(Message::Answer { answer: Answer::Asked { verdicts, .. }, .. }) = read.message else { panic!("{read:?}") };
    assert!(verdicts.contains(&Verdict::Held { by: None, left: 5 }));
}

/// The layout is a promise to speakers of other versions.
#[test]
fn the_layout_of_version_2() {
    let addresses = vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let ask =
        Message::Ask { epoch: EpochId { number: 12, digest: 13 }, preset: Preset::Normal, whole: true, addresses };
    let bytes = Packet { message: Some(ask), ..plain() }.encode(&key());
    let hex: String = bytes[..bytes.len() - TAG].iter().map(|b| format!("{b:02x}")).collect();
    let parts = [
        "6f786c71 02 02",                                    // magic, version, ready
        "00000000000000010000000000000002 0000000000000003", // boot, counter
        "00000000000000000000000000000004 0000000000000005", // you, echo
        "066e6f64652d61 066e6f64652d62 0096",                // from, to, pace
        "0000000000000006 0000000000000007",                 // known
        "0000000000000008 0000000000000009",                 // confirmed
        "000000000000000a 000000000000000b",                 // statement, acknowledged
        "02 000000000000000c000000000000000d 02 01",         // ask, epoch, preset, whole
        "0001 0001 0a000001 20010db8000000000000000000000001",
    ];
    assert_eq!(hex, parts.concat().replace(' ', ""));
}
