//! One router among others, in [`Mode::Interop`].

use super::*;
use oxelb_vrrp::{InvalidConfig, Refusal};

fn refusals(effects: &[Effect]) -> Vec<Refusal> {
    effects.iter().filter_map(|e| if let Effect::Refused { reason, .. } = e { Some(*reason) } else { None }).collect()
}

/// A master-down interval of priority 100 at one second, in version 3 and as it happens in version 2 too.
const DOWN: Duration = Duration::from_nanos(3_609_375_000);
const SKEW: Duration = Duration::from_nanos(609_375_000);

#[test]
fn who_hears_nobody_is_master_after_three_intervals_and_the_skew() {
    for version in [Version::V2, Version::V3] {
        let mut router = started(|s| s.version = version);
        assert_eq!(router.state(), State::Backup);
        assert_eq!(mastery(&mut router, at(10_000)), Some(Tick::ZERO + DOWN), "{version:?}");
    }
    // Version 3 has the skew in the measure of the interval, version 2 in seconds.
    let mut fast = started(|s| s.interval = Centis::try_from(10).unwrap());
    assert_eq!(mastery(&mut fast, at(10_000)), Some(Tick::ZERO + DOWN / 10));
    let mut slow = started(|s| (s.version, s.interval) = (Version::V2, Centis::try_from(1000).unwrap()));
    assert_eq!(mastery(&mut slow, at(40_000)), Some(Tick::ZERO + ms(30_000) + SKEW));
}

#[test]
fn a_new_master_says_so_first_and_then_announces() {
    let mut router = started(|_| {});
    let effects: Vec<Effect> = run(&mut router, Tick::ZERO + DOWN).into_iter().map(|(_, e)| e).collect();
    let [Effect::Become(State::Master), Effect::Send { .. }, Effect::Announce] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(priorities(&effects), [100]);
}

#[test]
fn a_master_advertises_every_interval_and_never_late() {
    let (mut router, mut last) = master(|_| {});
    for (now, effect) in run(&mut router, at(60_000)) {
        assert!(matches!(effect, Effect::Send { .. }), "{effect:?}");
        assert!((ms(950)..=ms(1000)).contains(&now.since(last)), "{:?}", now.since(last));
        last = now;
    }
    assert_eq!(router.counters().became_master, 1);
}

#[test]
fn an_owner_is_master_at_once_and_hears_nobody() {
    let mut router = router(|s| s.priority = Priority::OWNER);
    let effects = act(&mut router, Tick::ZERO, Input::Start);
    assert_eq!((became(&effects), priorities(&effects)), (vec![State::Master], vec![255]));
    let effects = act(&mut router, at(10), heard(HIGHER, 254));
    assert!(sent(&effects, ip(US)).is_empty() && router.state() == State::Master);
    let effects = act(&mut router, at(20), heard(HIGHER, 255));
    assert_eq!((refusals(&effects), router.state()), (vec![Refusal::TwoOwners], State::Master));
}

#[test]
fn a_backup_waits_while_it_hears_as_good_a_master() {
    for n in [100, 101, 254, 255] {
        let mut router = started(|_| {});
        for second in 1..100 {
            act(&mut router, at(second * 1000), heard(LOWER, n));
        }
        assert_eq!(mastery(&mut router, at(200_000)), Some(at(99_000) + DOWN), "priority {n}");
    }
}

#[test]
fn a_backup_with_preemption_takes_over_from_a_worse_master_and_without_does_not() {
    for preempt in [true, false] {
        let mut router = started(|s| s.preempt = preempt);
        let became = (1..20).find(|second| {
            run(&mut router, at(second * 1000));
            act(&mut router, at(second * 1000), heard(HIGHER, 99));
            router.state() == State::Master
        });
        assert_eq!(became, preempt.then_some(4));
    }
}

#[test]
fn when_a_master_stops_its_backup_follows_within_the_skew() {
    let mut router = started(|_| {});
    act(&mut router, at(1000), heard(HIGHER, 200));
    act(&mut router, at(1500), heard(HIGHER, 0));
    assert_eq!(mastery(&mut router, at(10_000)), Some(at(1500) + SKEW));
    assert_eq!(router.counters().stops_received, 1);
}

#[test]
fn a_master_yields_to_a_higher_priority_and_with_equal_ones_to_the_higher_address() {
    for (from, n, yields) in
        [(LOWER, 101, true), (HIGHER, 100, true), (LOWER, 100, false), (HIGHER, 99, false), (HIGHER, 255, true)]
    {
        let (mut router, last) = master(|_| {});
        let now = last + ms(100);
        let effects = act(&mut router, now, heard(from, n));
        if yields {
            assert_eq!((became(&effects), priorities(&effects)), (vec![State::Backup], vec![]), "{from} {n}");
            assert_eq!(mastery(&mut router, now + ms(10_000)), Some(now + DOWN));
        } else {
            assert_eq!((became(&effects), priorities(&effects)), (vec![], vec![100]), "{from} {n}");
            assert!(effects.contains(&Effect::Announce), "bridges learned the other");
        }
    }
    // Addresses are compared as numbers, not as text: 10 is more than 9.
    let (mut router, last) = master(|s| s.source = ip("192.0.2.9"));
    act(&mut router, last, heard("192.0.2.10", 100));
    assert_eq!(router.state(), State::Backup);
}

#[test]
fn a_master_answers_one_that_stops_but_not_a_flood() {
    let (mut router, last) = master(|_| {});
    let now = last + ms(100);
    assert_eq!(priorities(&act(&mut router, now, heard(LOWER, 0))), [100]);
    let flood: usize = (0..1000).map(|_| priorities(&act(&mut router, now + ms(1), heard(LOWER, 0))).len()).sum();
    assert_eq!(flood, 0);
    assert_eq!(priorities(&act(&mut router, now + ms(10), heard(LOWER, 1))), [100]);
}

#[test]
fn the_interval_of_the_master_is_learned_in_version_3() {
    let mut router = started(|s| s.interval = Centis::try_from(10).unwrap());
    let slow =
        config(|s| (s.source, s.interval, s.priority) = (ip(HIGHER), Centis::try_from(200).unwrap(), priority(150)));
    act(&mut router, at(300), packet(&slow, Some(priority(150))));
    let when = at(300) + DOWN * 2;
    assert_eq!(mastery(&mut router, when), Some(when));
    // It advertises at its own.
    let seen: Vec<Effect> = run(&mut router, when + ms(1000)).into_iter().map(|(_, e)| e).collect();
    let intervals: Vec<Duration> = sent(&seen, ip(US)).iter().map(Advert::interval).collect();
    assert!((10..=11).contains(&intervals.len()) && intervals.iter().all(|i| *i == ms(100)), "{intervals:?}");
}

#[test]
fn stopping_is_said_by_a_master_only_and_nothing_follows_it() {
    let (mut router, last) = master(|_| {});
    let now = last + ms(10);
    let effects = act(&mut router, now, Input::Stop);
    assert_eq!((became(&effects), priorities(&effects)), (vec![State::Stopped], vec![0]));
    assert_eq!(effects[0], Effect::Become(State::Stopped), "it stops before it says so");
    assert_eq!(router.deadline(), None);
    assert!(act(&mut router, now, heard(HIGHER, 0)).is_empty());
    let mut backup = started(|_| {});
    assert_eq!(act(&mut backup, at(1), Input::Stop), [Effect::Become(State::Stopped)]);
}

#[test]
fn without_a_link_nothing_is_sent_and_with_it_all_begins_anew() {
    let (mut router, last) = master(|_| {});
    assert_eq!(act(&mut router, last + ms(10), Input::Link(false)), [Effect::Become(State::Stopped)]);
    assert_eq!(router.deadline(), None);
    let now = last + ms(60_000);
    assert_eq!(act(&mut router, now, Input::Link(true)), [Effect::Become(State::Backup)]);
    assert_eq!(mastery(&mut router, now + ms(9000)), Some(now + DOWN));
}

#[test]
fn it_listens_before_it_begins_when_told_to() {
    let mut router = started(|s| (s.listen, s.priority) = (ms(3000), Priority::OWNER));
    assert_eq!(router.state(), State::Listening);
    let effects = act(&mut router, at(100), heard(HIGHER, 200));
    let addresses = vec![ip("198.51.100.10")];
    assert_eq!(effects, [Effect::MasterHeard { from: ip(HIGHER), priority: priority(200), addresses }]);
    assert_eq!(mastery(&mut router, at(9000)), Some(at(3000)));
}

#[test]
fn who_is_master_is_told_when_it_changes_and_when_it_falls_silent() {
    let mut router = started(|_| {});
    let told = |effects: Vec<Effect>| effects.len();
    assert_eq!(told(act(&mut router, at(100), heard(HIGHER, 200))), 1);
    assert_eq!(told(act(&mut router, at(1100), heard(HIGHER, 200))), 0);
    assert_eq!(told(act(&mut router, at(2100), heard(HIGHER, 201))), 1);
    assert_eq!(router.masters().len(), 1);
    let seen = run(&mut router, at(20_000));
    let gone = seen.iter().find(|(_, e)| *e == Effect::MasterGone { from: ip(HIGHER) });
    assert_eq!(gone.map(|(t, _)| *t), Some(at(6100)));
    act(&mut router, at(20_000), heard(HIGHER, 200));
    assert_eq!(act(&mut router, at(20_001), heard(HIGHER, 0)).last(), Some(&Effect::MasterGone { from: ip(HIGHER) }));
}

#[test]
fn a_paused_master_steps_back_and_looks_who_is_there() {
    for preempt in [true, false] {
        let (mut router, last) = master(|s| s.preempt = preempt);
        let now = last + ms(3001);
        router.timeout(now);
        assert_eq!(drain(&mut router), [Effect::Become(State::Backup)]);
        // Somebody took over meanwhile, and is heard within an interval.
        act(&mut router, now + ms(500), heard(HIGHER, 50));
        let again = now + if preempt { ms(1000) + SKEW } else { ms(500) + DOWN };
        assert_eq!(mastery(&mut router, now + ms(9000)), Some(again));
        assert_eq!(router.counters().paused, 1);
    }
    let (mut punctual, last) = master(|_| {});
    punctual.timeout(last + ms(2999));
    assert_eq!(punctual.state(), State::Master, "two intervals late: nobody has noticed");
}

#[test]
fn a_paused_backup_does_not_take_its_own_silence_for_the_masters() {
    let mut router = started(|_| {});
    act(&mut router, at(1000), heard(HIGHER, 200));
    let now = at(60_000);
    router.timeout(now);
    assert_eq!(router.state(), State::Backup);
    act(&mut router, now + ms(1), heard(HIGHER, 200));
    assert_eq!(mastery(&mut router, now + ms(9000)), Some(now + ms(1) + DOWN));
    // Who is always late becomes master all the same.
    let mut late = started(|_| {});
    late.timeout(at(10_000));
    late.timeout(at(20_000));
    assert_eq!(late.state(), State::Master);
}

#[test]
fn what_must_not_count_is_refused_with_its_reason() {
    let v2 = |s: &mut Settings| (s.version, s.source) = (Version::V2, ip(HIGHER));
    let v2_with = |change: &dyn Fn(&mut Settings)| {
        packet(
            &config(|s| {
                v2(s);
                change(s)
            }),
            Some(priority(200)),
        )
    };
    let to = |destination: &str, ttl: u8| {
        let message = config(|s| s.source = ip(HIGHER)).advert(Some(priority(200))).emit(ip(HIGHER), ip(destination));
        Input::Packet { meta: Meta { source: ip(HIGHER), destination: ip(destination), ttl }, message }
    };
    let unicast = |s: &mut Settings| s.peers = [ip(HIGHER)].into();
    let by_v2 = |s: &mut Settings| s.version = Version::V2;
    let password = |s: &mut Settings| s.password = "s3cret".parse().ok();
    type Change<'a> = &'a dyn Fn(&mut Settings);
    let cases: [(Change<'_>, Input, Refusal); 9] = [
        (&|_| {}, v2_with(&|_| {}), Refusal::Version(Version::V2)),
        (&by_v2, v2_with(&password), Refusal::Password),
        (&by_v2, v2_with(&|s| s.interval = Centis::try_from(300).unwrap()), Refusal::Interval(ms(3000))),
        (&by_v2, v2_with(&|s| s.addresses = vec![ip("198.51.100.11")]), Refusal::Addresses),
        (&|_| {}, to(US, 255), Refusal::Destination(ip(US))),
        (&unicast, to("224.0.0.18", 255), Refusal::Destination(ip("224.0.0.18"))),
        (&unicast, to(US, 254), Refusal::Ttl(254)),
        (&|s| s.peers = [ip(LOWER)].into(), to(US, 255), Refusal::Peer),
        (&|_| {}, to("224.0.0.18", 1), Refusal::Malformed(oxelb_vrrp::packet::Malformed::Ttl(1))),
    ];
    for (change, input, reason) in cases {
        let mut router = started(change);
        let effects = act(&mut router, at(1000), input.clone());
        assert_eq!(effects, [Effect::Refused { from: ip(HIGHER), reason }]);
        assert_eq!(mastery(&mut router, at(9000)), Some(Tick::ZERO + DOWN), "{reason} moved the timer");
        let counted = router.counters();
        assert_eq!((counted.refused + counted.malformed, counted.received), (1, 0));
    }
}

#[test]
fn other_addresses_are_dropped_in_version_2_and_counted_in_version_3() {
    let others = |s: &mut Settings| (s.source, s.addresses) = (ip(HIGHER), vec![ip("198.51.100.77")]);
    let mut v3 = started(|_| {});
    act(&mut v3, at(3000), packet(&config(others), Some(priority(200))));
    assert_eq!((v3.counters().addresses_differ, mastery(&mut v3, at(9000))), (1, Some(at(3000) + DOWN)));
    // The order is no matter; and what an owner says counts (RFC 3768 §7.1).
    let v2 = |s: &mut Settings| (s.version, s.addresses) = (Version::V2, vec![ip("198.51.100.1"), ip("198.51.100.2")]);
    let mut router = started(v2);
    let reversed = config(|s| {
        v2(s);
        s.addresses.reverse();
        s.source = ip(HIGHER)
    });
    act(&mut router, at(1), packet(&reversed, Some(priority(200))));
    let owner = config(|s| {
        others(s);
        s.version = Version::V2
    });
    act(&mut router, at(2), packet(&owner, Some(Priority::OWNER)));
    assert_eq!((router.counters().received, router.counters().addresses_differ), (2, 1));
}

#[test]
fn packets_of_others_are_no_concern_of_ours() {
    let mut router = started(|_| {});
    let other_id = config(|s| (s.source, s.vrid) = (ip(HIGHER), Vrid::try_from(8).unwrap()));
    assert!(act(&mut router, at(1), packet(&other_id, Some(priority(200)))).is_empty());
    let v6 = config(|s| (s.source, s.addresses) = (ip("fe80::1"), vec![ip("fe80::7")]));
    assert!(act(&mut router, at(2), packet(&v6, Some(priority(200)))).is_empty());
    assert!(act(&mut router, at(3), heard(US, 200)).is_empty(), "our own, come back");
    assert_eq!((router.counters().other, router.counters().own), (2, 1));
}

#[test]
fn in_unicast_every_peer_is_told() {
    let mut router = started(|s| (s.priority, s.peers) = (Priority::OWNER, [ip(LOWER), ip(HIGHER)].into()));
    let effects = act(&mut router, at(1), Input::Stop);
    let to: Vec<IpAddr> =
        effects.iter().filter_map(|e| if let Effect::Send { to, .. } = e { Some(*to) } else { None }).collect();
    assert_eq!(to, [ip(LOWER), ip(HIGHER)]);
}

#[test]
fn a_new_configuration_keeps_a_master_and_is_advertised_at_once() {
    let (mut router, last) = master(|_| {});
    let now = last + ms(100);
    let effects = act(&mut router, now, Input::Configure(Box::new(config(|s| s.priority = priority(90)))));
    assert_eq!((became(&effects), priorities(&effects)), (vec![], vec![90]));
    assert!(!effects.contains(&Effect::Announce));
    let two = config(|s| {
        s.priority = priority(90);
        s.addresses.push(ip("198.51.100.11"))
    });
    let effects = act(&mut router, now, Input::Configure(Box::new(two.clone())));
    assert_eq!(sent(&effects, ip(US))[0].addresses(), two.addresses);
    assert!(effects.contains(&Effect::Announce), "an address is new");
    assert_eq!(act(&mut router, now, Input::Configure(Box::new(two))), [], "nothing is new");
    // Another id is another virtual router.
    let other = config(|s| s.vrid = Vrid::try_from(9).unwrap());
    let effects = act(&mut router, now, Input::Configure(Box::new(other)));
    assert_eq!(became(&effects), [State::Backup]);
    let said = sent(&effects, ip(US));
    assert_eq!(
        (said.len(), said[0].vrid.get(), said[0].priority),
        (1, 7, None),
        "of the old one it says that it stops"
    );
    // Who now owns the addresses is master at once.
    let owner = config(|s| (s.vrid, s.priority) = (Vrid::try_from(9).unwrap(), Priority::OWNER));
    assert_eq!(became(&act(&mut router, now, Input::Configure(Box::new(owner)))), [State::Master]);
}

#[test]
fn a_released_master_comes_back_only_if_nobody_follows() {
    let (mut router, last) = master(|s| s.preempt = false);
    let effects = act(&mut router, last, Input::Release);
    assert_eq!((became(&effects), priorities(&effects)), (vec![State::Backup], vec![0]));
    act(&mut router, last + ms(700), heard(LOWER, 50));
    assert_eq!(mastery(&mut router, last + ms(9000)), Some(last + ms(700) + DOWN));
}

#[test]
fn a_master_takes_packets_to_its_addresses_when_it_may() {
    for (accept, n, takes) in [(true, 100, true), (false, 100, false), (false, 255, true)] {
        let (router, _) = master(|s| (s.accept, s.priority) = (accept, priority(n)));
        assert_eq!(router.accepts(), takes);
    }
    assert!(!started(|_| {}).accepts());
}

#[test]
fn settings_that_make_no_sense_say_why() {
    let check = |change: &dyn Fn(&mut Settings)| {
        let mut s = settings(US);
        change(&mut s);
        Config::new(s).unwrap_err()
    };
    assert_eq!(check(&|s| s.addresses.push(ip("2001:db8::1"))), InvalidConfig::Families(ip("2001:db8::1"), ip(US)));
    assert_eq!(check(&|s| s.peers = [ip("fe80::1")].into()), InvalidConfig::Families(ip("fe80::1"), ip(US)));
    assert_eq!(check(&|s| s.addresses = vec![]), InvalidConfig::Count(0));
    assert_eq!(check(&|s| s.addresses = vec![ip("198.51.100.1"); 256]), InvalidConfig::Count(256));
    assert_eq!(check(&|s| s.addresses.push(ip("0.0.0.0"))), InvalidConfig::Address(ip("0.0.0.0")));
    assert_eq!(check(&|s| s.peers = [ip("224.0.0.18")].into()), InvalidConfig::Address(ip("224.0.0.18")));
    assert_eq!(check(&|s| s.password = "x".parse().ok()), InvalidConfig::Password);
    let half = Centis::try_from(150).unwrap();
    let error = check(&|s| (s.version, s.interval) = (Version::V2, half));
    assert_eq!(error.to_string(), "version 2 counts whole seconds: 1500 ms is not one");
    let v6 = |s: &mut Settings| (s.version, s.source, s.addresses) = (Version::V2, ip("fe80::1"), vec![ip("fe80::7")]);
    assert_eq!(check(&v6), InvalidConfig::Ipv6NeedsVersion3);
    let text = serde_json::to_string(&config(|_| {})).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config(|_| {}));
    assert!(serde_json::from_str::<Config>(&text.replace("198.51.100.10", "224.0.0.1")).is_err());
}
