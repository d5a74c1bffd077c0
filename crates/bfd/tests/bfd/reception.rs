//! RFC 5880 §6.8.6 and RFC 5881 §5, rule by rule: what breaks one is counted by its reason and changes nothing.

use super::*;
use bfd::packet::Section;

/// A message that is good but for one thing, on a session that is up.
fn refuses(reason: Refusal, break_it: impl Fn(&mut Vec<u8>)) {
    refuses_on(&|_| {}, TTL, reason, &break_it);
}

fn refuses_on(settings: &dyn Fn(&mut Settings), ttl: u8, reason: Refusal, break_it: &dyn Fn(&mut Vec<u8>)) {
    let (mut session, now) =
        if settings_have_key(settings) { (self::session(settings), at(300)) } else { up(settings) };
    let (state, remote, timeout) = (session.state(), *session.remote(), session.deadline());
    // Down, so that it would do something were it accepted.
    let mut message = heard_bytes(State::Down);
    break_it(&mut message);
    let effects = act(&mut session, now + ms(1), Input::Packet { ttl, message: message.clone() });
    assert_eq!(effects, [Effect::Refused { reason }]);
    assert_eq!((session.state(), *session.remote(), session.deadline()), (state, remote, timeout));
    assert_eq!(session.counters().refused, [(reason, 1)].into());
    let again = act(&mut session, now + ms(2), Input::Packet { ttl, message });
    assert_eq!((again, refused(&session, reason)), (vec![], 2), "told once, counted twice");
}

fn settings_have_key(change: &dyn Fn(&mut Settings)) -> bool {
    config(change).authentication.is_some()
}

fn heard_bytes(state: State) -> Vec<u8> {
    peer(state).emit()
}

#[test]
fn an_untouched_packet_is_accepted() {
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now + ms(1), heard(State::Down));
    assert_eq!(facts(&effects), down(Diagnostic::NEIGHBOR, Cause::Peer(Diagnostic::NONE)));
    assert!(session.counters().refused.is_empty());
}

#[test]
fn another_version_is_refused() {
    for version in [0, 2, 7] {
        refuses(Refusal::Version, |m| m[0] = version << 5);
    }
}

#[test]
fn a_length_below_the_least_is_refused() {
    refuses(Refusal::Length, |m| m[3] = 23);
    refuses(Refusal::Length, |m| m[1] |= 4); // with the A bit 26 is the least
    refuses(Refusal::Length, Vec::clear);
    refuses(Refusal::Length, |m| m.truncate(3));
}

#[test]
fn a_length_beyond_the_payload_is_refused() {
    refuses(Refusal::Length, |m| m[3] = 25);
    refuses(Refusal::Length, |m| m.truncate(23));
}

#[test]
fn a_multiplier_of_zero_is_refused() {
    refuses(Refusal::Multiplier, |m| m[2] = 0);
}

#[test]
fn multipoint_is_refused() {
    refuses(Refusal::Multipoint, |m| m[1] |= 1);
}

#[test]
fn my_discriminator_of_zero_is_refused() {
    refuses(Refusal::MyDiscriminator, |m| m[4..8].fill(0));
}

#[test]
fn your_discriminator_of_another_session_is_refused() {
    refuses(Refusal::YourDiscriminator, |m| m[11] = 99);
}

#[test]
fn without_your_discriminator_only_down_and_admin_down_are_heard() {
    for bits in [0x80, 0xc0] {
        refuses(Refusal::StateWithoutDiscriminator, |m| {
            m[1] = bits;
            m[8..12].fill(0);
        });
    }
    for state in [State::Down, State::AdminDown] {
        let (mut session, now) = up(|_| {});
        act(&mut session, now, heard_with(state, |c| c.your = None));
        assert_eq!(session.state(), State::Down, "{state:?}");
    }
}

#[test]
fn authentication_that_is_not_configured_is_refused() {
    refuses(Refusal::AuthUnexpected, |m| {
        m[1] |= 4;
        m[3] = 28;
        m.extend([1, 4, 7, b'x']);
    });
}

#[test]
fn a_packet_without_the_authentication_that_is_configured_is_refused() {
    refuses_on(&|s| s.authentication = Some(auth(Method::KeyedSha1)), TTL, Refusal::AuthMissing, &|_| {});
}

#[test]
fn a_section_of_another_length_than_its_packet_leaves_is_refused() {
    for length in [0, 3, 5, 255] {
        refuses(Refusal::AuthLength, |m| {
            m[1] |= 4;
            m[3] = 28;
            m.extend([1, length, 7, b'x']);
        });
    }
}

#[test]
fn over_one_hop_any_other_ttl_than_255_is_refused() {
    for ttl in [0, 1, 64, 254] {
        refuses_on(&|_| {}, ttl, Refusal::Ttl, &|_| {});
    }
}

#[test]
fn over_many_hops_a_ttl_below_the_least_is_refused() {
    let multi = |s: &mut Settings| s.hops = Hops::Multi { least_ttl: 250 };
    refuses_on(&multi, 249, Refusal::Ttl, &|_| {});
    let (mut session, now) = up(multi);
    act(&mut session, now, Input::Packet { ttl: 250, message: heard_bytes(State::Down) });
    assert_eq!(session.state(), State::Down);
}

#[test]
fn a_packet_sets_what_is_known_of_the_peer() {
    let (mut session, now) = up(|_| {});
    let change = |c: &mut Control| {
        (c.my, c.demand, c.independent) = (name(0xc), true, true);
        (c.desired_min_tx, c.required_min_rx) = (400_000, 500_000);
        (c.multiplier, c.diagnostic) = (times(5), Diagnostic::NEIGHBOR);
    };
    act(&mut session, now, heard_with(State::Up, change));
    let r = session.remote();
    assert_eq!((r.discriminator, r.demand, r.independent), (Some(name(0xc)), true, true));
    assert_eq!((r.desired_min_tx, r.required_min_rx, r.multiplier), (400_000, 500_000, 5));
    assert_eq!((r.state, r.diagnostic), (State::Up, Diagnostic::NEIGHBOR));
    assert_eq!(session.detection_time(), Some(ms(2000)));
    assert_eq!(session.transmit_interval(), ms(500));
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down() {
    for state in [State::Down, State::Init, State::Up] {
        let mut session = session(|_| {});
        let poll = |s| heard_with(s, |c: &mut Control| c.poll = true);
        match state {
            State::Down => drop(act(&mut session, at(100), heard(State::AdminDown))),
            State::Init => drop(act(&mut session, at(100), heard(State::Down))),
            _ => session = up(|_| {}).0,
        }
        let said = if state == State::Up { State::Up } else { State::Down };
        let said = if state == State::Down { State::AdminDown } else { said };
        let answers = sent(&act(&mut session, at(300), poll(said)));
        assert_eq!(session.state(), state);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert!(answer.is_final && !answer.poll && answer.state == state, "{answer:?}");
    }
    let mut session = session(|_| {});
    act(&mut session, at(100), Input::AdminDown);
    let effects = act(&mut session, at(300), heard_with(State::Down, |c| c.poll = true));
    assert!(sent(&effects).iter().all(|c| !c.is_final), "§6.8.6 discards it before it comes to that");
    assert_eq!(session.counters().ignored, 1);
}

#[test]
fn a_flood_of_polls_makes_no_flood_of_answers() {
    let (mut session, now) = up(|_| {});
    let before = session.counters().sent;
    for n in 0..10_000 {
        let now = now + Duration::from_micros(n * 100); // a second in all
        run(&mut session, now);
        act(&mut session, now, heard_with(State::Up, |c| c.poll = true));
    }
    let answers = session.counters().sent - before;
    assert!((95..=106).contains(&answers), "{answers}");
}

#[test]
fn a_link_that_is_down_hears_nothing() {
    let mut session = session(|_| {});
    act(&mut session, at(50), Input::Link(false));
    assert_eq!(act(&mut session, at(100), heard(State::Down)), []);
    assert_eq!((session.state(), session.counters().ignored), (State::Down, 1));
}

#[test]
fn each_refusal_is_told_again_after_a_while() {
    let (mut session, now) = up(|_| {});
    let bad = || Input::Packet { ttl: 64, message: heard_bytes(State::Up) };
    let told = |e: Vec<Effect>| e.contains(&Effect::Refused { reason: Refusal::Ttl });
    assert!(told(act(&mut session, now, bad())));
    assert!(!told(act(&mut session, now + ms(9_999), bad())));
    assert!(told(act(&mut session, now + ms(10_000), bad())));
}

#[test]
fn a_section_that_is_longer_than_any_packet_is_cut() {
    let mut control = peer(State::Up);
    control.section = Some(Section { kind: 1, body: vec![0; 1000] });
    assert_eq!(control.emit().len(), 255);
    assert!(Control::parse(&control.emit()).is_ok());
}
