//! RFC 5880 §6.7: what is authenticated is accepted, what is forged, replayed or of another key is not.

use super::*;
use bfd::InvalidConfig;

const METHODS: [Method; 3] = [Method::Password, Method::KeyedSha1, Method::MeticulousSha1];

/// Two sessions that hear each other, until both are up; and the messages of the second one.
fn pair(method: Method) -> (Session, Session, Vec<Vec<u8>>) {
    let config = config(|s| s.authentication = Some(auth(method)));
    let mut a = Session::new(at(0), config.clone(), ours(), fastrand::Rng::with_seed(1));
    let mut b = Session::new(at(0), config, theirs(), fastrand::Rng::with_seed(2));
    let mut log = Vec::new();
    for n in 0..300 {
        let now = at(n * 10);
        a.timeout(now);
        b.timeout(now);
        for _ in 0..4 {
            for message in messages(&mut a) {
                b.handle(now, Input::Packet { ttl: TTL, message });
            }
            for message in messages(&mut b) {
                log.push(message.clone());
                a.handle(now, Input::Packet { ttl: TTL, message });
            }
        }
    }
    assert_eq!((a.state(), b.state()), (State::Up, State::Up), "{method:?}");
    assert!(a.counters().refused.is_empty() && b.counters().refused.is_empty());
    (a, b, log)
}

fn messages(session: &mut Session) -> Vec<Vec<u8>> {
    drain(session)
        .into_iter()
        .filter_map(|e| if let Effect::Send { message } = e { Some(message) } else { None })
        .collect()
}

fn number(message: &[u8]) -> u32 {
    u32::from_be_bytes(*message[28..].first_chunk().unwrap())
}

#[test]
fn two_with_the_same_key_come_up_by_every_method() {
    for method in METHODS {
        let (_, _, log) = pair(method);
        let (kind, length) = if method == Method::Password { (1, 33) } else { (method.number(), 52) };
        assert!(log.iter().all(|m| m[24] == kind && m.len() == length && m[1] & 4 != 0 && m[26] == 7), "{method:?}");
    }
}

#[test]
fn a_sequence_number_grows_with_every_packet_or_with_every_change() {
    let (_, _, log) = pair(Method::MeticulousSha1);
    assert!(log.windows(2).all(|w| number(&w[1]) == number(&w[0]).wrapping_add(1)));
    let (_, _, log) = pair(Method::KeyedSha1);
    let says = |m: &[u8]| (m[0], m[1] & !0x30, m[2..24].to_vec());
    for w in log.windows(2) {
        let step = u32::from(says(&w[0]) != says(&w[1]));
        assert_eq!(number(&w[1]), number(&w[0]).wrapping_add(step));
    }
}

#[test]
fn any_bit_that_is_changed_is_noticed() {
    for method in [Method::KeyedSha1, Method::MeticulousSha1] {
        let (mut a, mut b, _) = pair(method);
        b.handle(at(3500), configured(method, |s| s.multiplier = times(9)));
        let message = messages(&mut b).pop().unwrap();
        for bit in 0..message.len() * 8 {
            let mut forged = message.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let before = a.counters().received;
            a.handle(at(3500), Input::Packet { ttl: TTL, message: forged });
            assert_eq!(a.counters().received, before, "{method:?}, bit {bit}");
        }
        assert_eq!(a.remote().multiplier, 3);
        a.handle(at(3500), Input::Packet { ttl: TTL, message });
        assert_eq!(a.remote().multiplier, 9);
    }
}

fn configured(method: Method, change: impl Fn(&mut Settings)) -> Input {
    configure(|s| {
        s.authentication = Some(auth(method));
        change(s);
    })
}

#[test]
fn a_replay_is_refused_and_what_the_window_lets_through_is_not() {
    let (mut a, _, log) = pair(Method::MeticulousSha1);
    let last = log.last().unwrap().clone();
    a.handle(at(3000), Input::Packet { ttl: TTL, message: last });
    a.handle(at(3000), Input::Packet { ttl: TTL, message: log[0].clone() });
    assert_eq!(refused(&a, Refusal::AuthSequence), 2);
    let (mut a, _, log) = pair(Method::KeyedSha1);
    let (last, old) = (log.last().unwrap().clone(), log[0].clone());
    assert_ne!(number(&last), number(&old));
    a.handle(at(3000), Input::Packet { ttl: TTL, message: last });
    assert_eq!(refused(&a, Refusal::AuthSequence), 0, "the same number is allowed where it is not meticulous");
    a.handle(at(3000), Input::Packet { ttl: TTL, message: old });
    assert_eq!(refused(&a, Refusal::AuthSequence), 1);
}

#[test]
fn more_packets_than_three_times_the_multiplier_may_not_be_missing() {
    for (lost, good) in [(8, true), (9, false)] {
        let (mut a, mut b, _) = pair(Method::MeticulousSha1);
        // Each change makes a packet; only the last one arrives, with a multiplier of three.
        let mut kept = Vec::new();
        for n in 0..=lost {
            let mult = times(if n == lost { 3 } else { 4 + n as u8 % 2 });
            let now = at(3000 + 10 * n);
            b.handle(now, configured(Method::MeticulousSha1, |s| s.multiplier = mult));
            kept.extend(messages(&mut b));
        }
        let ahead = number(kept.last().unwrap()).wrapping_sub(number(&kept[0])) + 1;
        assert_eq!(u64::from(ahead), lost + 1);
        a.handle(at(3100), Input::Packet { ttl: TTL, message: kept.pop().unwrap() });
        assert_eq!(refused(&a, Refusal::AuthSequence) == 0, good, "{lost} lost");
    }
}

#[test]
fn a_peer_that_starts_its_numbers_anew_is_heard_after_twice_the_detection_time() {
    let (mut a, _, log) = pair(Method::MeticulousSha1);
    let last = at(2990);
    let detection = a.detection_time().unwrap();
    let first = || Input::Packet { ttl: TTL, message: log[0].clone() };
    run(&mut a, last + detection);
    assert_eq!(a.state(), State::Down);
    a.handle(last + detection, first());
    assert_eq!(refused(&a, Refusal::AuthSequence), 1);
    let received = a.counters().received;
    run(&mut a, last + detection * 2);
    a.handle(last + detection * 2, first());
    assert_eq!((a.counters().received, a.state()), (received + 1, State::Init));
}

#[test]
fn another_key_another_id_and_another_method_are_refused_by_name() {
    let base = || Settings { authentication: Some(auth(Method::KeyedSha1)), ..settings() };
    let say = |settings: Settings| {
        let mut other = Session::new(at(0), Config::new(settings).unwrap(), theirs(), fastrand::Rng::with_seed(2));
        other.timeout(at(0));
        Input::Packet { ttl: TTL, message: messages(&mut other).pop().unwrap() }
    };
    let with = |change: &dyn Fn(&mut Authentication)| {
        let mut settings = base();
        change(settings.authentication.as_mut().unwrap());
        settings
    };
    let other: Key = "other".parse().unwrap();
    let cases = [
        (with(&|a| *a = auth(Method::MeticulousSha1)), Refusal::AuthMethod),
        (with(&|a| *a = auth(Method::Password)), Refusal::AuthMethod),
        (with(&|a| drop(a.keys.insert(7, other.clone()))), Refusal::AuthKey),
        (with(&|a| (a.send, a.keys) = (8, [(8, other.clone())].into())), Refusal::AuthKeyId),
    ];
    for (settings, reason) in cases {
        let mut a = session(|s| s.authentication = base().authentication);
        a.handle(at(10), say(settings));
        assert_eq!(a.counters().refused, [(reason, 1)].into());
        assert_eq!(a.state(), State::Down);
    }
    let password = |word: &str| {
        let mut settings = base();
        let keys = [(7, word.parse().unwrap())].into();
        settings.authentication = Some(Authentication { method: Method::Password, send: 7, keys });
        settings
    };
    for (word, reason) in
        [("s3cres", Refusal::AuthKey), ("s3cret2", Refusal::AuthLength), ("s3cre", Refusal::AuthLength)]
    {
        let mut a = session(|s| s.authentication = password("s3cret").authentication);
        a.handle(at(10), say(password(word)));
        assert_eq!(a.counters().refused, [(reason, 1)].into());
    }
}

#[test]
fn keys_are_changed_without_a_word_lost() {
    let (mut a, mut b, _) = pair(Method::MeticulousSha1);
    let both = |send: u8| {
        let keys = [(7, "s3cret".parse().unwrap()), (8, "newer".parse().unwrap())].into();
        configure(|s| {
            s.authentication = Some(Authentication { method: Method::MeticulousSha1, send, keys: Clone::clone(&keys) })
        })
    };
    let mut now = at(3000);
    for step in [both(7), both(8)] {
        a.handle(now, step.clone());
        b.handle(now, step);
        let until = now + ms(3000);
        while now < until {
            now = now + ms(10);
            a.timeout(now);
            b.timeout(now);
            messages(&mut a).into_iter().for_each(|message| b.handle(now, Input::Packet { ttl: TTL, message }));
            messages(&mut b).into_iter().for_each(|message| a.handle(now, Input::Packet { ttl: TTL, message }));
        }
    }
    assert_eq!((a.counters().downs, b.counters().downs), (0, 0));
    assert!(a.counters().refused.is_empty() && b.counters().refused.is_empty());
}

#[test]
fn another_method_begins_with_other_numbers() {
    let (mut a, b, _) = pair(Method::MeticulousSha1);
    let keyed = config(|s| s.authentication = Some(auth(Method::KeyedSha1)));
    a.handle(at(3000), Input::Configure(Box::new(keyed.clone())));
    let mut other = Session::new(at(3000), keyed, b.discriminator(), fastrand::Rng::with_seed(77));
    other.timeout(at(3000));
    let message = messages(&mut other).pop().unwrap();
    a.handle(at(3000), Input::Packet { ttl: TTL, message });
    assert_eq!((refused(&a, Refusal::AuthSequence), a.state()), (0, State::Down), "it heard that one");
}

#[test]
fn what_is_not_offered_or_makes_no_sense_is_refused_in_words() {
    let refuse = |change: &dyn Fn(&mut Authentication)| {
        let mut authentication = auth(Method::KeyedSha1);
        change(&mut authentication);
        Config::new(Settings { authentication: Some(authentication), ..settings() }).unwrap_err()
    };
    for method in [Method::KeyedMd5, Method::MeticulousMd5] {
        let error = refuse(&|a| a.method = method);
        assert_eq!(error.to_string(), "keyed MD5 is not offered: use keyed SHA1 (meticulous, where the peer can)");
    }
    assert_eq!(refuse(&|a| a.send = 9), InvalidConfig::NoKey(9));
    let long: Key = "12345678901234567".parse().unwrap();
    let password = |a: &mut Authentication| (a.method, a.keys) = (Method::Password, [(7, long.clone())].into());
    assert_eq!(refuse(&password), InvalidConfig::LongPassword(7));
    for (length, good) in [(0, false), (1, true), (20, true), (21, false)] {
        assert_eq!(Key::try_from(vec![0; length]).is_ok(), good);
    }
    assert_eq!(format!("{long:?}"), "Key(…)");
}
