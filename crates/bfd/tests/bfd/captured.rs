//! What BIRD 2.0.12 and FRR 8.4.4 (Debian bookworm) said to each other: it is read field by field and made again to the
//! octet; and a session of ours that takes the place of one of them, with its name, hears the other one, comes up and
//! goes down with it, and says the same.

use super::*;
use std::collections::BTreeSet;

struct Line {
    at: Tick,
    from: char,
    ttl: u8,
    message: Vec<u8>,
}

fn capture(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap();
        let (at, from, ttl, hex) = (word(), word(), word(), word());
        Line {
            at: Tick::from_millis(at.parse().unwrap()),
            from: from.parse().unwrap(),
            ttl: ttl.parse().unwrap(),
            message: (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[n * 2..n * 2 + 2], 16).unwrap()).collect(),
        }
    };
    text.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

macro_rules! capture {
    ($name:literal) => {
        capture(include_str!(concat!("captures/", $name, ".txt")))
    };
}

fn all() -> Vec<Vec<Line>> {
    vec![
        capture!("bird"),
        capture!("bird_ipv6"),
        capture!("bird_multihop"),
        capture!("bird_password"),
        capture!("bird_sha1"),
        capture!("bird_meticulous_sha1"),
        capture!("frr_bird"),
    ]
}

/// For the tests with damaged packets.
pub fn messages() -> Vec<Vec<u8>> {
    all().into_iter().flatten().map(|l| l.message).collect()
}

#[test]
fn every_packet_is_made_again_to_the_octet() {
    let messages = messages();
    assert!(messages.len() > 150);
    for message in messages {
        assert_eq!(Control::parse(&message).unwrap().emit(), message);
    }
}

#[test]
fn the_fields_are_what_the_daemons_were_set_to() {
    let frr = capture!("frr_bird");
    let polls = |l: &&Line| l.from == 'a' && Control::parse(&l.message).unwrap().poll;
    let poll = Control::parse(&frr.iter().rfind(|l| polls(l) && l.at < at(3000)).unwrap().message).unwrap();
    assert_eq!((poll.my, poll.your), (name(0x6bf1266d), Discriminator::new(0xc9c1325c)));
    assert_eq!((poll.state, poll.multiplier), (State::Up, times(3)));
    assert_eq!((poll.desired_min_tx, poll.required_min_rx, poll.required_min_echo_rx), (250_000, 50_000, 50_000));
    let multihop = capture!("bird_multihop");
    assert!(multihop.iter().all(|l| l.ttl == 64), "BIRD sends what the kernel has, over many hops");
}

/// What a session of ours does in the place of `us`.
struct Replay {
    session: Session,
    facts: Vec<(Tick, Effect)>,
    said: Vec<Control>,
    refused: Vec<Refusal>,
}

fn replay(lines: &[Line], us: char, change: impl Fn(&mut Settings)) -> Replay {
    let own = lines.iter().find(|l| l.from == us).map(|l| Control::parse(&l.message).unwrap().my).unwrap();
    let mut session = Session::new(Tick::ZERO, config(change), own, fastrand::Rng::with_seed(3));
    let mut seen = Vec::new();
    for line in lines.iter().filter(|l| l.from != us) {
        seen.extend(run(&mut session, line.at));
        let input = Input::Packet { ttl: line.ttl, message: line.message.clone() };
        seen.extend(act(&mut session, line.at, input).into_iter().map(|e| (line.at, e)));
    }
    let refused =
        seen.iter().filter_map(|(_, e)| if let Effect::Refused { reason } = e { Some(*reason) } else { None });
    Replay {
        refused: refused.collect(),
        said: sent(&effects(seen.clone())),
        facts: seen.into_iter().filter(|(_, e)| matches!(e, Effect::Up | Effect::Down { .. })).collect(),
        session,
    }
}

#[test]
fn we_come_up_with_bird_in_either_place_over_either_ip_and_many_hops() {
    let multi = Hops::Multi { least_ttl: 64 };
    let of = |lines: &[Line], us, hops, multiplier| {
        let replay = replay(lines, us, |s| (s.hops, s.multiplier) = (hops, times(multiplier)));
        assert_eq!(replay.refused, []);
        assert_eq!(replay.facts.first().map(|(_, e)| e.clone()), Some(Effect::Up), "in the place of {us}");
        assert_eq!(replay.session.state(), State::Up);
        assert_eq!(replay.session.transmit_interval(), ms(300));
        assert_eq!(replay.session.detection_time(), Some(ms(300) * multiplier.into()));
    };
    for us in ['a', 'b'] {
        let bird = capture!("bird");
        // What follows is the end of a, which b is to notice by itself.
        of(&bird[..20], us, Hops::Single, 3);
        of(&capture!("bird_ipv6"), us, Hops::Single, 5);
        of(&capture!("bird_multihop"), us, multi, 3);
    }
}

#[test]
fn packets_that_bird_authenticated_are_accepted_and_with_another_key_they_are_not() {
    let cases = [
        (capture!("bird_password"), Method::Password),
        (capture!("bird_sha1"), Method::KeyedSha1),
        (capture!("bird_meticulous_sha1"), Method::MeticulousSha1),
    ];
    for (lines, method) in cases {
        for us in ['a', 'b'] {
            let good = replay(&lines, us, |s| s.authentication = Some(auth(method)));
            assert_eq!((good.refused, good.session.state()), (vec![], State::Up), "{method:?}");
            let wrong = |s: &mut Settings| {
                let keys = [(7, "s3cre7".parse().unwrap())].into();
                s.authentication = Some(Authentication { method, send: 7, keys });
            };
            let bad = replay(&lines, us, wrong);
            assert_eq!((bad.refused, bad.session.state()), (vec![Refusal::AuthKey], State::Down), "{method:?}");
        }
    }
}

#[test]
fn we_say_what_bird_says_in_the_same_place_to_the_octet() {
    for us in ['a', 'b'] {
        // Until a is set to other intervals.
        let lines = capture!("bird");
        let until = lines.iter().position(|l| Control::parse(&l.message).unwrap().desired_min_tx == 200_000).unwrap();
        let lines = &lines[..until];
        let said = |state, poll, is_final| {
            let theirs = lines.iter().filter(|l| l.from == us).map(|l| l.message.clone());
            let ours = replay(lines, us, |_| {}).said.into_iter().map(|c| c.emit());
            let of = |m: &Vec<u8>| {
                let c = Control::parse(m).unwrap();
                (c.state, c.poll, c.is_final) == (state, poll, is_final)
            };
            (theirs.filter(&of).collect::<BTreeSet<_>>(), ours.filter(&of).collect::<BTreeSet<_>>())
        };
        for (state, poll, is_final) in
            [(State::Down, false, false), (State::Up, true, false), (State::Up, false, true), (State::Up, false, false)]
        {
            let (theirs, ours) = said(state, poll, is_final);
            assert_eq!((theirs.len(), &theirs), (1, &ours), "{us} {state:?} {poll} {is_final}");
        }
    }
}

#[test]
fn we_notice_what_bird_notices_when_its_peer_is_gone() {
    let lines = capture!("bird");
    let mut replay = replay(&lines, 'b', |_| {});
    let last = lines.iter().rfind(|l| l.from == 'a').unwrap().at;
    let theirs = lines.iter().find(|l| Control::parse(&l.message).unwrap().diagnostic == Diagnostic::EXPIRED).unwrap();
    let seen = run(&mut replay.session, at(20_000));
    let down = seen.iter().find(|(_, e)| matches!(e, Effect::Down { .. })).unwrap();
    assert_eq!(down.0, last + ms(900));
    assert!(theirs.at.since(down.0) < ms(10), "BIRD at {:?}, we at {:?}", theirs.at, down.0);
    let ours = sent(&effects(seen.clone())).into_iter().find(|c| c.state == State::Down).unwrap();
    assert_eq!(ours.emit(), theirs.message, "and says the same");
}

#[test]
fn in_the_place_of_bird_we_follow_frr_through_new_intervals_shutdown_and_return() {
    let lines = capture!("frr_bird");
    let us = |s: &mut Settings| (s.transmit, s.receive, s.multiplier) = (interval(150), interval(150), times(4));
    let mut replay = replay(&lines, 'b', us);
    assert_eq!(replay.refused, []);
    let told: Vec<Effect> = replay.facts.iter().map(|(_, e)| e.clone()).collect();
    // FRR says AdminDown without a diagnostic; what remains of the capture is FRR, which found BIRD to be gone.
    let [up, shut, again, gone] = &told[..] else { panic!("{told:?}") };
    assert_eq!((up, again), (&Effect::Up, &Effect::Up));
    assert_eq!(shut, &down(Diagnostic::NEIGHBOR, Cause::PeerAdmin)[0]);
    assert_eq!(gone, &down(Diagnostic::NEIGHBOR, Cause::Peer(Diagnostic::EXPIRED))[0]);
    let answers = replay.said.iter().filter(|c| c.is_final).count();
    let polls = lines.iter().filter(|l| l.from == 'a' && Control::parse(&l.message).unwrap().poll).count();
    assert_eq!(answers, polls);
    run(&mut replay.session, at(60_000));
    assert_eq!(replay.session.remote().discriminator, None);
}

#[test]
fn in_the_place_of_frr_we_come_up_with_bird_and_notice_its_end() {
    let lines = capture!("frr_bird");
    let us = |s: &mut Settings| (s.transmit, s.receive) = (interval(100), interval(100));
    let first = lines.iter().position(|l| l.at > at(2400)).unwrap();
    let mut replay = replay(&lines[..first], 'a', us);
    assert_eq!((replay.refused, replay.session.state()), (vec![], State::Up));
    assert_eq!(replay.session.detection_time(), Some(ms(600)));
    let seen = effects(run(&mut replay.session, at(4000)));
    assert_eq!(facts(&seen), down(Diagnostic::EXPIRED, Cause::Silence));
}
