//! The state machine of RFC 5880 §6.2, all sixteen pairs of it, and what may happen besides.

use super::*;

fn in_state(state: State) -> Session {
    let mut session = session(|_| {});
    match state {
        State::Down => {}
        State::Init => drop(act(&mut session, at(100), heard(State::Down))),
        State::Up => session = up(|_| {}).0,
        State::AdminDown => drop(act(&mut session, at(100), Input::AdminDown)),
    }
    assert_eq!(session.state(), state);
    session
}

#[test]
fn every_state_of_the_peer_leads_where_the_rfc_says() {
    use State::{AdminDown, Down, Init, Up};
    let table = [
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
    ];
    for (from, leads_to) in table {
        for (said, to) in [AdminDown, Down, Init, Up].into_iter().zip(leads_to) {
            let mut session = in_state(from);
            act(&mut session, at(300), heard(said));
            assert_eq!(session.state(), to, "{from:?} hears {said:?}");
        }
    }
}

#[test]
fn silence_leads_from_init_and_up_to_down() {
    for state in [State::Init, State::Up] {
        let mut session = in_state(state);
        let last = if state == State::Up { 220 } else { 100 };
        let detection = session.detection_time().unwrap();
        run(&mut session, at(last) + detection - Duration::from_nanos(1));
        assert_eq!(session.state(), state);
        let seen = effects(run(&mut session, at(last) + detection));
        assert_eq!((session.state(), session.diagnostic()), (State::Down, Diagnostic::EXPIRED));
        let expected = if state == State::Up { down(Diagnostic::EXPIRED, Cause::Silence) } else { vec![] };
        assert_eq!(facts(&seen), expected);
        let last = sent(&seen).pop().unwrap();
        assert_eq!((last.state, last.diagnostic, last.your), (State::Down, Diagnostic::EXPIRED, None), "said at once");
        assert_eq!(session.remote().discriminator, None);
    }
}

#[test]
fn a_peer_that_says_down_is_told_apart_from_one_that_an_operator_holds_down() {
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now, heard_with(State::Down, |c| c.diagnostic = Diagnostic::EXPIRED));
    assert_eq!(facts(&effects), down(Diagnostic::NEIGHBOR, Cause::Peer(Diagnostic::EXPIRED)));
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now, heard(State::AdminDown));
    assert_eq!(facts(&effects), down(Diagnostic::NEIGHBOR, Cause::PeerAdmin));
    let said = sent(&effects).pop().unwrap();
    assert_eq!((said.state, said.diagnostic, said.desired_min_tx), (State::Down, Diagnostic::NEIGHBOR, 1_000_000));
}

#[test]
fn it_comes_up_again_after_every_kind_of_down() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, heard(State::AdminDown));
    act(&mut session, now + ms(100), heard(State::Down));
    assert_eq!((session.state(), session.diagnostic()), (State::Init, Diagnostic::NEIGHBOR), "still says why");
    let effects = act(&mut session, now + ms(200), heard(State::Init));
    assert_eq!(facts(&effects), [Effect::Up]);
    assert_eq!(session.diagnostic(), Diagnostic::NONE);
    run(&mut session, now + ms(60_000));
    assert_eq!(session.state(), State::Down);
    act(&mut session, now + ms(60_001), heard_with(State::Down, |c| c.your = None));
    assert_eq!(facts(&act(&mut session, now + ms(60_002), heard(State::Up))), [Effect::Up]);
    assert_eq!((session.counters().ups, session.counters().downs), (3, 2));
}

#[test]
fn admin_down_is_said_at_once_and_goes_on_being_said() {
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now, Input::AdminDown);
    assert_eq!(facts(&effects), down(Diagnostic::ADMIN, Cause::Admin));
    let [first] = &sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((first.state, first.diagnostic), (State::AdminDown, Diagnostic::ADMIN));
    assert!(!session.peer_knows());
    // The peer has not heard it: said again as often as its detection wants it, then every second.
    let seen = run_with(&mut session, now, ms(5000), &peer(State::Up));
    let moments = moments(&seen);
    assert!(moments[1] <= now + ms(600), "three within three intervals: {moments:?}");
    assert!(moments[2..].windows(2).all(|w| w[1].since(w[0]) >= ms(750)), "{moments:?}");
    assert!(moments.len() >= 6, "for ever");
    assert!(sent(&effects_of(&seen)).iter().all(|c| c.state == State::AdminDown));
    act(&mut session, now + ms(6000), heard(State::Down));
    assert!(session.peer_knows());
}

fn effects_of(seen: &[(Tick, Effect)]) -> Vec<Effect> {
    seen.iter().map(|(_, e)| e.clone()).collect()
}

#[test]
fn when_the_peer_knows_admin_down_is_said_no_more_than_once_a_second() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, Input::AdminDown);
    let seen = run_with(&mut session, now, ms(10_000), &peer(State::Down));
    let moments = moments(&seen);
    assert!(moments.windows(2).all(|w| w[1].since(w[0]) >= ms(750)), "{moments:?}");
    assert!(facts(&effects(seen)).is_empty());
}

#[test]
fn admin_up_lets_it_come_up_again_and_only_then() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, Input::AdminDown);
    act(&mut session, now, Input::AdminDown);
    act(&mut session, now + ms(10), heard(State::Down));
    assert_eq!(session.state(), State::AdminDown);
    let effects = act(&mut session, now + ms(1000), Input::AdminUp);
    assert_eq!((session.state(), session.diagnostic()), (State::Down, Diagnostic::NONE));
    assert_eq!(sent(&effects).pop().unwrap().state, State::Down);
    act(&mut session, now + ms(1100), heard(State::Down));
    assert_eq!(session.state(), State::Init);
    act(&mut session, now + ms(1200), Input::AdminUp);
    assert_eq!(session.state(), State::Init, "it was up already");
    assert_eq!(session.counters().downs, 1);
}

#[test]
fn a_link_that_goes_takes_the_session_down_and_silences_it() {
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now, Input::Link(false));
    assert_eq!(effects, down(Diagnostic::PATH_DOWN, Cause::Link));
    assert_eq!(session.deadline(), None);
    let effects = act(&mut session, now + ms(5000), Input::Link(true));
    let [said] = &sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((said.state, said.diagnostic, said.your), (State::Down, Diagnostic::PATH_DOWN, None));
    session.handle(now + ms(5050), Input::Link(true));
    assert_eq!(drain(&mut session), [], "it was up");
    act(&mut session, now + ms(5100), heard_with(State::Down, |c| c.your = None));
    assert_eq!(session.state(), State::Init);
}

#[test]
fn facts_that_nobody_drained_cancel_out() {
    let (mut session, now) = up(|_| {});
    let flap = |session: &mut Session, n: u64| {
        session.handle(now + ms(n), heard(State::AdminDown));
        session.handle(now + ms(n + 1), heard(State::Init));
    };
    flap(&mut session, 1);
    let pair = [down(Diagnostic::NEIGHBOR, Cause::PeerAdmin), vec![Effect::Up]].concat();
    assert_eq!(facts(&drain(&mut session)), pair);
    flap(&mut session, 3);
    flap(&mut session, 5);
    assert_eq!(facts(&drain(&mut session)), pair, "down and up, once");
    flap(&mut session, 7);
    session.handle(now + ms(9), Input::AdminDown);
    assert_eq!(facts(&drain(&mut session)), down(Diagnostic::ADMIN, Cause::Admin));
}

#[test]
fn a_peer_that_was_restarted_takes_the_session_down_and_up_with_its_new_name() {
    let (mut session, now) = up(|_| {});
    let fresh = |c: &mut Control| (c.my, c.your) = (name(0x77), None);
    let effects = act(&mut session, now, heard_with(State::Down, fresh));
    assert_eq!(facts(&effects), down(Diagnostic::NEIGHBOR, Cause::Peer(Diagnostic::NONE)));
    assert_eq!(sent(&effects).pop().unwrap().your, Some(name(0x77)));
    act(&mut session, now + ms(50), heard_with(State::Down, fresh));
    let effects = act(&mut session, now + ms(60), heard_with(State::Up, |c| c.my = name(0x77)));
    assert_eq!(facts(&effects), [Effect::Up]);
}
