//! Damaged messages, hundreds of thousands: no panic, no session in two minds, and what is accepted can be said again.

use super::normal::normal;
use super::scripted::{self, OUT, Scripted};
use super::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const ROUNDS: u32 = 120_000;

fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.u32(0..5) {
        let at = rng.usize(0..bytes.len().max(1));
        match rng.u8(0..7) {
            0 => bytes.truncate(at),
            1 => bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(24).collect::<Vec<_>>()),
            2 if at < bytes.len() => bytes.insert(at, rng.u8(..)),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 if at < bytes.len() => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][rng.usize(0..6)],
            5 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            _ if at < bytes.len() => bytes[at] = rng.u8(..),
            _ => {}
        }
    }
}

/// Makes the length in the header right, so that damage behind it is reached.
fn repair(bytes: &mut [u8]) {
    let length = (bytes.len() as u16).to_be_bytes();
    if let Some(place) = bytes.get_mut(16..18) {
        place.copy_from_slice(&length);
    }
    bytes.iter_mut().take(16).for_each(|b| *b = 0xff);
}

/// Messages of every kind, each with the codec that it was written with.
pub(crate) fn corpus(some: usize) -> Vec<(Codec, Vec<u8>)> {
    let mut runner = TestRunner::deterministic();
    let mut all = vec![];
    for _ in 0..some {
        let codec = round_trip::any_codec().new_tree(&mut runner).unwrap().current();
        let update = round_trip::any_update(&codec).new_tree(&mut runner).unwrap().current();
        let bytes = encode(&codec, &Message::Update(Box::new(update)));
        all.push((codec, bytes));
    }
    all
}

#[test]
fn damaged_messages_are_refused_or_can_be_said_again() {
    let mut rng = fastrand::Rng::with_seed(0x6f78_656c);
    let mut corpus = corpus(200);
    let open = scripted::open("192.0.2.1", &[scripted::restart(60, true)]);
    let shutdown = Notification::shutdown(Cease::AdministrativeShutdown, "words").hard();
    let refresh = Message::RouteRefresh { family: Family::Ipv4.afi_safi(), refresh: Some(Refresh::Begin) };
    let others = [open, Message::Notification(shutdown), Message::Keepalive, refresh];
    for _ in 0..20 {
        corpus.extend(others.iter().map(|m| (modern(), encode(&modern(), m))));
    }
    let (mut accepted, mut faulty, mut refused) = (0, 0, 0);
    for round in 0..ROUNDS {
        let (codec, mut bytes) = corpus[rng.usize(0..corpus.len())].clone();
        mutate(&mut bytes, &mut rng);
        if rng.u8(0..8) > 0 {
            repair(&mut bytes);
        }
        let mut framer = Framer::default();
        framer.push(&bytes);
        let parsed = match framer.next(true) {
            Ok(Some((kind, body))) => codec.parse(kind, body),
            Ok(None) => continue,
            Err(malformed) => Err(malformed),
        };
        match parsed {
            Err(malformed) => {
                assert!((1..=7).contains(&malformed.notification().code.octets()[0]));
                refused += 1;
            }
            Ok(Message::Update(update)) if !update.faults.is_empty() => faulty += 1,
            Ok(Message::RouteRefresh { refresh: None, .. }) => {}
            Ok(message) => {
                accepted += 1;
                // Two octets say less, so what was put together out of them may be said in another way.
                if codec.four_octet_as {
                    let again = decode(&codec, &encode(&codec, &message)).map(normal);
                    assert_eq!(again, Ok(normal(message)), "round {round}: {bytes:02x?}");
                }
            }
        }
    }
    assert!(accepted > ROUNDS / 20 && faulty > ROUNDS / 60 && refused > ROUNDS / 20, "{accepted} {faulty} {refused}");
}

#[test]
fn a_session_that_is_told_nonsense_stays_of_one_mind() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut corpus: Vec<Vec<u8>> = corpus(60).into_iter().map(|(_, bytes)| bytes).collect();
    corpus.push(encode(&modern(), &scripted::open("192.0.2.1", &[scripted::restart(60, true)])));
    corpus.extend((0..30).map(|_| encode(&modern(), &Message::Keepalive)));
    let mut ends = 0;
    for _ in 0..300 {
        let mut s = if rng.bool() {
            Scripted::established(scripted::config(), &[scripted::restart(60, true)])
        } else {
            let mut s = Scripted::started(scripted::config());
            s.up(OUT);
            s
        };
        for _ in 0..60 {
            let mut bytes = corpus[rng.usize(0..corpus.len())].clone();
            mutate(&mut bytes, &mut rng);
            repair(&mut bytes);
            s.say_bytes(OUT, &bytes);
            s.pass(rng.u64(0..3000));
        }
        let closed = s.effects.iter().filter(|e| **e == Effect::Close { connection: OUT }).count();
        assert!(closed <= 1, "closed twice");
        ends += closed;
        // Whatever was said, it comes back.
        s.pass(60_000);
        assert!(closed == 0 || s.connects() > 0);
    }
    assert!(ends > 30, "{ends}");
}
