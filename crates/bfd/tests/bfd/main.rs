//! The engine and its wire format, seen from outside. Here is what the tests share.

// Clippy allows these in tests, and does not see that the helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod authentication;
mod captured;
mod chaos;
mod mutated;
mod packets;
mod properties;
mod reception;
mod scripted;
mod simulator;
mod states;
mod table;
mod timers;

use bfd::packet::{Control, TTL};
use bfd::{
    Authentication, Cause, Config, Diagnostic, Discriminator, Effect, Hops, Input, Interval, Key, Method, Refusal,
    Session, Settings, State,
};
use engine::{Engine, Tick};
use std::num::NonZeroU8;
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Tick {
    Tick::from_millis(n)
}

fn interval(ms: u32) -> Interval {
    Interval::try_from(ms * 1000).unwrap()
}

fn times(n: u8) -> NonZeroU8 {
    NonZeroU8::new(n).unwrap()
}

fn name(n: u32) -> Discriminator {
    Discriminator::new(n).unwrap()
}

fn ours() -> Discriminator {
    name(0xa)
}

fn theirs() -> Discriminator {
    name(0xb)
}

/// One hop, 3 times 300 ms, no authentication.
fn settings() -> Settings {
    Settings {
        hops: Hops::Single,
        transmit: interval(300),
        receive: interval(300),
        multiplier: times(3),
        authentication: None,
    }
}

fn config(change: impl Fn(&mut Settings)) -> Config {
    let mut settings = settings();
    change(&mut settings);
    Config::new(settings).unwrap()
}

fn configure(change: impl Fn(&mut Settings)) -> Input {
    Input::Configure(Box::new(config(change)))
}

fn auth(method: Method) -> Authentication {
    Authentication { method, send: 7, keys: [(7, "s3cret".parse::<Key>().unwrap())].into() }
}

/// Made at zero, and has sent its first packet.
fn session(change: impl Fn(&mut Settings)) -> Session {
    let mut session = Session::new(Tick::ZERO, config(change), ours(), fastrand::Rng::with_seed(1));
    session.timeout(Tick::ZERO);
    assert_eq!(sent(&drain(&mut session)).len(), 1);
    session
}

/// What a peer with our settings would send in that state.
fn peer(state: State) -> Control {
    let up = state == State::Up;
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        independent: false,
        demand: false,
        multiplier: times(3),
        my: theirs(),
        your: Some(ours()),
        desired_min_tx: if up { 300_000 } else { 1_000_000 },
        required_min_rx: 300_000,
        required_min_echo_rx: 0,
        section: None,
    }
}

fn packet(control: &Control) -> Input {
    Input::Packet { ttl: TTL, message: control.emit() }
}

fn heard(state: State) -> Input {
    packet(&peer(state))
}

fn heard_with(state: State, change: impl Fn(&mut Control)) -> Input {
    let mut control = peer(state);
    change(&mut control);
    packet(&control)
}

/// Up at the returned moment, both Poll Sequences over.
fn up(change: impl Fn(&mut Settings)) -> (Session, Tick) {
    let mut session = session(change);
    act(&mut session, at(100), heard(State::Down));
    assert_eq!(session.state(), State::Init);
    let effects = act(&mut session, at(200), heard_with(State::Up, |c| c.poll = true));
    assert_eq!((facts(&effects), session.state()), (vec![Effect::Up], State::Up));
    act(&mut session, at(210), heard_with(State::Up, |c| c.is_final = true));
    act(&mut session, at(220), heard(State::Up));
    (session, at(220))
}

fn drain(session: &mut Session) -> Vec<Effect> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn act(session: &mut Session, now: Tick, input: Input) -> Vec<Effect> {
    session.handle(now, input);
    let effects = drain(session);
    assert!(session.deadline().is_none_or(|next| next > now), "still due after it was handled");
    effects
}

/// Lets time pass until `until`, waking the engine exactly when it wants.
fn run(session: &mut Session, until: Tick) -> Vec<(Tick, Effect)> {
    let mut seen = Vec::new();
    while let Some(now) = session.deadline().filter(|t| *t <= until) {
        session.timeout(now);
        seen.extend(drain(session).into_iter().map(|e| (now, e)));
        assert!(session.deadline().is_none_or(|next| next > now), "still due after its timeout");
    }
    seen
}

/// The same with a peer that is heard every 100 ms.
fn run_with(session: &mut Session, from: Tick, time: Duration, peer: &Control) -> Vec<(Tick, Effect)> {
    let mut seen = Vec::new();
    let mut now = from;
    while now < from + time {
        now = now + ms(100);
        seen.extend(run(session, now));
        seen.extend(act(session, now, packet(peer)).into_iter().map(|e| (now, e)));
    }
    seen
}

fn sent(effects: &[Effect]) -> Vec<Control> {
    let parse =
        |e: &Effect| if let Effect::Send { message } = e { Some(Control::parse(message).unwrap()) } else { None };
    effects.iter().filter_map(parse).collect()
}

/// When packets were sent that are no answers.
fn moments(seen: &[(Tick, Effect)]) -> Vec<Tick> {
    let of = |(t, e): &(Tick, Effect)| sent(std::slice::from_ref(e)).first().filter(|c| !c.is_final).map(|_| *t);
    seen.iter().filter_map(of).collect()
}

fn facts(effects: &[Effect]) -> Vec<Effect> {
    effects.iter().filter(|e| matches!(e, Effect::Up | Effect::Down { .. })).cloned().collect()
}

fn down(diagnostic: Diagnostic, cause: Cause) -> Vec<Effect> {
    vec![Effect::Down { diagnostic, cause }]
}

fn effects(seen: Vec<(Tick, Effect)>) -> Vec<Effect> {
    seen.into_iter().map(|(_, e)| e).collect()
}

fn refused(session: &Session, reason: Refusal) -> u64 {
    session.counters().refused.get(&reason).copied().unwrap_or(0)
}
