//! One router in [`Mode::Led`]: the lease decides, it advertises.

use super::*;

fn led(s: &mut Settings) {
    s.mode = Mode::Led { members: [ip(LOWER), ip(US)].into() };
    s.listen = ms(3000);
}

/// Started, and it has listened; nobody is there.
fn standby() -> Router {
    let mut router = started(led);
    assert!(act(&mut router, at(1), Input::Lead(false)).is_empty());
    run(&mut router, at(3000));
    assert_eq!(router.state(), State::Backup);
    router
}

fn heard_of(effects: &[Effect]) -> Vec<IpAddr> {
    let from = |e: &Effect| if let Effect::MasterHeard { from, .. } = e { Some(*from) } else { None };
    effects.iter().filter_map(from).collect()
}

#[test]
fn it_is_master_exactly_while_it_leads() {
    let mut router = standby();
    assert_eq!(mastery(&mut router, at(60_000)), None, "silence makes no master");
    let effects = act(&mut router, at(60_000), Input::Lead(true));
    assert_eq!((became(&effects), priorities(&effects)), (vec![State::Master], vec![100]));
    assert!(effects.contains(&Effect::Announce));
    assert!(run(&mut router, at(70_000)).len() >= 10);
    assert_eq!(act(&mut router, at(70_000), Input::Lead(false)), [Effect::Become(State::Backup)], "not a word");
    assert!(run(&mut router, at(90_000)).is_empty());
}

#[test]
fn released_in_good_order_it_says_so() {
    let mut router = standby();
    act(&mut router, at(4000), Input::Lead(true));
    let effects = act(&mut router, at(4500), Input::Release);
    assert_eq!((became(&effects), priorities(&effects)), (vec![State::Backup], vec![0]));
    assert!(run(&mut router, at(60_000)).is_empty());
}

#[test]
fn nothing_that_waits_is_sent_once_the_lease_is_lost() {
    for release in [false, true] {
        let mut router = standby();
        router.handle(at(4000), Input::Lead(true));
        if release {
            router.handle(at(4000), Input::Release);
        }
        router.handle(at(4001), Input::Lead(false));
        assert_eq!(drain(&mut router), []);
        assert!(router.counters().dropped > 0);
    }
}

#[test]
fn it_listens_before_it_leads() {
    let mut router = started(led);
    assert!(act(&mut router, at(10), Input::Lead(true)).is_empty());
    assert_eq!(mastery(&mut router, at(9000)), Some(at(3000)));
}

#[test]
fn it_does_not_begin_while_a_stranger_has_the_id() {
    let mut router = started(led);
    assert_eq!(heard_of(&act(&mut router, at(100), heard(HIGHER, 1))), [ip(HIGHER)]);
    act(&mut router, at(200), Input::Lead(true));
    for second in 1..10 {
        run(&mut router, at(second * 1000));
        act(&mut router, at(second * 1000), heard(HIGHER, 1));
    }
    assert_eq!(router.state(), State::Backup);
    assert!(router.masters().contains_key(&ip(HIGHER)));
    // Until it is gone: four of its intervals.
    assert_eq!(mastery(&mut router, at(60_000)), Some(at(13_000)));
}

#[test]
fn a_stranger_that_comes_later_is_reported_and_moves_nothing() {
    let mut router = standby();
    act(&mut router, at(4000), Input::Lead(true));
    for (from, n) in [(HIGHER, 255), (HIGHER, 0), ("192.0.2.1", 1)] {
        let effects = act(&mut router, at(4100), heard(from, n));
        assert_eq!((became(&effects), priorities(&effects)), (vec![], vec![]), "{from} {n}");
    }
    assert_eq!(router.masters().keys().copied().collect::<Vec<_>>(), [ip("192.0.2.1")]);
    assert_eq!(router.state(), State::Master);
}

#[test]
fn strangers_of_any_version_password_and_way_are_seen() {
    let strangers: [&dyn Fn(&mut Settings); 4] = [
        &|s| s.version = Version::V2,
        &|s| (s.version, s.password) = (Version::V2, "x".parse().ok()),
        &|s| s.addresses = vec![ip("203.0.113.1")],
        &|s| s.peers = [ip(US)].into(),
    ];
    for stranger in strangers {
        let mut router = started(led);
        let stranger = config(|s| {
            stranger(s);
            s.source = ip(HIGHER)
        });
        let effects = act(&mut router, at(10), packet(&stranger, Some(priority(10))));
        assert_eq!(heard_of(&effects), [ip(HIGHER)], "{stranger:?}");
    }
}

#[test]
fn a_stranger_beyond_a_router_is_none() {
    let mut router = started(led);
    let message = config(|_| {}).advert(Some(priority(10))).emit(ip(HIGHER), ip(US));
    let meta = Meta { source: ip(HIGHER), destination: ip(US), ttl: 254 };
    act(&mut router, at(10), Input::Packet { meta, message });
    assert!(router.masters().is_empty());
}

#[test]
fn our_own_speakers_are_no_strangers() {
    let mut router = standby();
    assert!(act(&mut router, at(4000), heard(LOWER, 200)).is_empty());
    assert_eq!(router.counters().received, 1);
    // One that was taken for a stranger is not, as soon as the configuration names it.
    assert_eq!(heard_of(&act(&mut router, at(4100), heard(HIGHER, 200))), [ip(HIGHER)]);
    let all = config(|s| {
        led(s);
        s.mode = Mode::Led { members: [ip(LOWER), ip(HIGHER)].into() }
    });
    let effects = act(&mut router, at(4200), Input::Configure(Box::new(all)));
    assert_eq!(effects, [Effect::MasterGone { from: ip(HIGHER) }]);
}

#[test]
fn a_pause_is_the_leases_concern() {
    let mut router = standby();
    act(&mut router, at(4000), Input::Lead(true));
    router.timeout(at(60_000));
    assert_eq!((router.state(), priorities(&drain(&mut router))), (State::Master, vec![100]));
}

#[test]
fn stopped_it_says_so_and_started_anew_it_listens_anew() {
    let mut router = standby();
    act(&mut router, at(4000), Input::Lead(true));
    assert_eq!(priorities(&act(&mut router, at(5000), Input::Stop)), [0]);
    assert_eq!(became(&act(&mut router, at(6000), Input::Start)), [State::Listening]);
    assert_eq!(mastery(&mut router, at(20_000)), Some(at(9000)), "it leads still");
}

#[test]
fn the_lease_has_no_say_in_interop() {
    let (mut router, last) = master(|_| {});
    assert!(act(&mut router, last, Input::Lead(false)).is_empty());
    let mut backup = started(|_| {});
    assert!(act(&mut backup, at(1), Input::Lead(true)).is_empty());
}
