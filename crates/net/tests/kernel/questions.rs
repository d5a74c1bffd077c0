//! The questions of `l2` as a real host answers them: who has an address, and what asking does to its owner.

use crate::frames::{A, B};
use crate::{index, ip, plug, sysctl, tests};
use engine::{Engine, MacAddr};
use l2::{Effect, Input, L2, Link, Question};
use net::{Groups, PacketSocket, Poller, now};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroU8;
use std::time::Duration;

tests![
    a_host_is_found_by_every_kind_of_question_and_silence_is_told,
    a_host_that_uses_an_address_is_seen_and_when_it_is_ours_that_is_defended,
    a_question_of_nobody_takes_an_address_from_a_host_that_probes_for_it_and_one_by_name_does_not,
];

/// A speaker at the end `b` of the cable; at `a` is the kernel.
struct Speaker {
    l2: L2,
    socket: PacketSocket,
    groups: Groups,
    poller: Poller,
    facts: Vec<Effect>,
}

impl Speaker {
    fn new() -> Speaker {
        let (on, poller) = (index("b"), Poller::new().unwrap());
        let socket = PacketSocket::open(on).unwrap();
        poller.add(&socket, 1).unwrap();
        let mut l2 = L2::new(fastrand::Rng::with_seed(1));
        let link = Link { mac: MacAddr(B), up: true, name: "b".to_owned() };
        l2.handle(now(), Input::Links(BTreeMap::from([(on, link)])));
        Speaker { l2, socket, groups: Groups::new(), poller, facts: Vec::new() }
    }

    fn handle(&mut self, input: Input) {
        self.l2.handle(now(), input);
        self.effects();
    }

    fn effects(&mut self) {
        while let Some(effect) = self.l2.poll() {
            match effect {
                Effect::Send { frame, .. } => self.socket.send(&frame).unwrap(),
                // Where the kernel has no IPv6 it says so, and joins on the device.
                Effect::Join { on, group } => drop(self.groups.join(on, group)),
                fact => self.facts.push(fact),
            }
        }
    }

    /// Runs for so long, or until `enough`; in the order that `l2` asks for: frames first, then time.
    fn run(&mut self, time: Duration, enough: impl Fn(&Effect) -> bool) -> Option<Effect> {
        let (end, mut buffer) = (now() + time, [0; 2048]);
        while now() < end {
            if let Some(found) = self.facts.iter().position(&enough) {
                return Some(self.facts.remove(found));
            }
            self.poller.wait(self.l2.deadline().into_iter().chain([end]).min()).unwrap();
            while let Some(length) = self.socket.receive(&mut buffer).unwrap() {
                let bytes = buffer[..length].to_vec();
                self.handle(Input::Frame { on: self.socket.index(), bytes });
            }
            self.l2.timeout(now());
            self.effects();
        }
        None
    }

    fn ask(&mut self, question: Question) -> BTreeSet<MacAddr> {
        let text = format!("{question:?}");
        self.handle(Input::Ask(question));
        let ended = self.run(Duration::from_secs(10), |e| matches!(e, Effect::Asked { .. }));
        let Some(Effect::Asked { by, .. }) = ended else { panic!("{text} does not end") };
        by.unwrap_or_else(|why| panic!("{text}: {why}"))
    }
}

fn question(address: &str, from: Option<&str>, times: u8) -> Question {
    let parse = |s: &str| -> IpAddr { s.parse().unwrap() };
    let (times, every) = (NonZeroU8::new(times).unwrap(), Duration::from_millis(50));
    Question { id: 0, address: parse(address), on: index("b"), from: from.map(parse), times, every, first: false }
}

fn a_host_is_found_by_every_kind_of_question_and_silence_is_told() {
    plug();
    ip("address add 192.0.2.1/24 dev a");
    ip("address add 2001:db8::1/64 dev a nodad");
    for ipv6_at_the_speaker in [true, false] {
        sysctl("ipv6/conf/b/disable_ipv6", u8::from(!ipv6_at_the_speaker));
        let mut speaker = Speaker::new();
        let watched = "2001:db8::99".parse().unwrap();
        speaker.handle(Input::Watch(BTreeMap::from([(watched, BTreeSet::from([index("b")]))])));
        for (address, from, found) in [
            ("192.0.2.1", None, true),
            ("192.0.2.1", Some("192.0.2.77"), true),
            ("192.0.2.2", None, false),
            ("192.0.2.2", Some("192.0.2.77"), false),
            ("2001:db8::1", None, true),
            ("2001:db8::1", Some("fe80::77"), true),
            ("2001:db8::2", None, false),
            ("2001:db8::2", Some("fe80::77"), false),
        ] {
            let by = speaker.ask(question(address, from, 2));
            let expected = if found { BTreeSet::from([MacAddr(A)]) } else { BTreeSet::new() };
            assert_eq!(by, expected, "{address} asked for by {from:?}, IPv6 at the speaker: {ipv6_at_the_speaker}");
        }
    }
}

fn a_host_that_uses_an_address_is_seen_and_when_it_is_ours_that_is_defended() {
    plug();
    ip("address add 192.0.2.1/24 dev a");
    ip("address add 2001:db8::1/64 dev a nodad");
    // The host looks for a neighbour, in the name of its address.
    let speaks = |host: &str, other: &str| {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.send_to(b"?", (other, 9)).unwrap();
    };
    let (on, mac) = (index("b"), MacAddr(A));
    for (host, others) in [("192.0.2.1", ["192.0.2.2", "192.0.2.3"]), ("2001:db8::1", ["2001:db8::2", "2001:db8::3"])] {
        let mut speaker = Speaker::new();
        let address: IpAddr = host.parse().unwrap();
        let all = BTreeMap::from([(address, BTreeSet::from([on]))]);
        speaker.handle(Input::Watch(all.clone()));
        speaks(host, others[0]);
        let seen = speaker.run(Duration::from_secs(5), |e| matches!(e, Effect::Seen { .. }));
        assert_eq!(seen, Some(Effect::Seen { address, on, mac }));

        speaker.handle(Input::Addresses(all));
        speaks(host, others[1]);
        let conflict = speaker.run(Duration::from_secs(5), |e| matches!(e, Effect::Conflict { .. }));
        assert_eq!(conflict, Some(Effect::Conflict { address, on, mac }));
        assert_eq!(speaker.l2.counters().defences, 1);
    }
}

fn a_question_of_nobody_takes_an_address_from_a_host_that_probes_for_it_and_one_by_name_does_not() {
    plug();
    let mut speaker = Speaker::new();
    for (address, from, fails) in [("2001:db8::5", None, true), ("2001:db8::6", Some("fe80::77"), false)] {
        ip(&format!("address add {address}/64 dev a"));
        // Longer than a host probes: it waits up to a second, and asks for another.
        speaker.ask(question(address, from, 50));
        let state = ip("-6 -o address show dev a");
        let line = state.lines().find(|l| l.contains(address)).unwrap();
        assert_eq!(line.contains("dadfailed"), fails, "{line}");
        assert!(fails || !line.contains("tentative"), "{line}");
    }
}
