//! The engine and its wire format, seen from outside. Here is what the tests share.

// Clippy allows these in tests, and does not see that the helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod captured;
mod chaos;
mod election;
mod led;
mod mutated;
mod packets;
mod properties;
mod simulator;

use engine::{Engine, Tick};
use oxelb_vrrp::packet::{Advert, Checksum, Meta, TTL, Version};
use oxelb_vrrp::{Centis, Config, Effect, Input, Mode, Priority, Router, Settings, State, Vrid};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const US: &str = "192.0.2.5";
const LOWER: &str = "192.0.2.4";
const HIGHER: &str = "192.0.2.6";

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Tick {
    Tick::from_millis(n)
}

fn priority(n: u8) -> Priority {
    Priority::try_from(n).unwrap()
}

/// Version 3 for IPv4, one second, priority 100, preempting.
fn settings(source: &str) -> Settings {
    Settings {
        vrid: Vrid::try_from(7).unwrap(),
        version: Version::V3,
        mode: Mode::Interop,
        priority: Priority::DEFAULT,
        interval: Centis::SECOND,
        source: ip(source),
        addresses: vec![ip("198.51.100.10")],
        peers: BTreeSet::new(),
        unicast_ttl: TTL,
        preempt: true,
        accept: true,
        checksum: Checksum::PseudoHeader,
        password: None,
        listen: Duration::ZERO,
    }
}

fn config(change: impl Fn(&mut Settings)) -> Config {
    let mut settings = settings(US);
    change(&mut settings);
    Config::new(settings).unwrap()
}

fn router(change: impl Fn(&mut Settings)) -> Router {
    Router::new(config(change), fastrand::Rng::with_seed(1))
}

/// Started at zero, and drained.
fn started(change: impl Fn(&mut Settings)) -> Router {
    let mut router = router(change);
    act(&mut router, Tick::ZERO, Input::Start);
    router
}

/// Became master some time ago; it advertised at the returned moment.
fn master(change: impl Fn(&mut Settings)) -> (Router, Tick) {
    let mut router = started(change);
    let seen = run(&mut router, at(5000));
    assert_eq!(router.state(), State::Master);
    let last = seen.iter().rev().find(|(_, e)| matches!(e, Effect::Send { .. })).unwrap().0;
    (router, last)
}

fn drain(router: &mut Router) -> Vec<Effect> {
    std::iter::from_fn(|| router.poll()).collect()
}

fn act(router: &mut Router, now: Tick, input: Input) -> Vec<Effect> {
    router.handle(now, input);
    let effects = drain(router);
    assert!(router.deadline().is_none_or(|next| next > now), "still due after it was handled");
    effects
}

/// Lets time pass until `until`, waking the engine exactly when it wants.
fn run(router: &mut Router, until: Tick) -> Vec<(Tick, Effect)> {
    let mut seen = Vec::new();
    while let Some(now) = router.deadline().filter(|t| *t <= until) {
        router.timeout(now);
        seen.extend(drain(router).into_iter().map(|e| (now, e)));
        assert!(router.deadline().is_none_or(|next| next > now), "still due after its timeout");
    }
    seen
}

/// An advertisement as another router would send it to the group or to the first peer.
fn packet(from: &Config, priority: Option<Priority>) -> Input {
    let destination = from.destinations()[0];
    let message = from.advert(priority).emit(from.source, destination);
    Input::Packet { meta: Meta { source: from.source, destination, ttl: TTL }, message }
}

/// One of a router that is set up as [`settings`], but for its address and priority; zero for the one that stops.
fn heard(source: &str, n: u8) -> Input {
    packet(&config(|s| s.source = ip(source)), Priority::try_from(n).ok())
}

/// What is sent at once.
fn sent(effects: &[Effect], source: IpAddr) -> Vec<Advert> {
    let parse = |e: &Effect| match e {
        Effect::Send { to, message } => {
            Some(Advert::parse(&Meta { source, destination: *to, ttl: TTL }, message).unwrap())
        }
        _ => None,
    };
    effects.iter().filter_map(parse).collect()
}

fn priorities(effects: &[Effect]) -> Vec<u8> {
    sent(effects, ip(US)).iter().map(|a| a.priority.map_or(0, Priority::get)).collect()
}

fn became(effects: &[Effect]) -> Vec<State> {
    effects.iter().filter_map(|e| if let Effect::Become(s) = e { Some(*s) } else { None }).collect()
}

/// When it became master, if it did until then.
fn mastery(router: &mut Router, until: Tick) -> Option<Tick> {
    run(router, until).into_iter().find(|(_, e)| *e == Effect::Become(State::Master)).map(|(t, _)| t)
}
