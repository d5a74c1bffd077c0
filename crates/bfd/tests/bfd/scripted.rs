//! Against a bad peer: none of it makes more than two packets in 10 ms, and none of
//! it keeps the session from coming up with a good one afterwards.

use super::*;

/// Sends what `say` makes, a thousand times a second for ten seconds.
fn against(say: impl Fn(u64, &mut fastrand::Rng) -> Control) -> Session {
    let mut session = session(|s| s.transmit = interval(50));
    let mut rng = fastrand::Rng::with_seed(9);
    let before = session.counters().sent;
    for n in 1..=10_000 {
        let now = at(n);
        run(&mut session, now);
        act(&mut session, now, packet(&say(n, &mut rng)));
    }
    let sent = session.counters().sent - before;
    // Two hundred a second at once, and one for each interval of at least 50 ms less jitter.
    assert!(sent <= 10 * (200 + 27) + 2, "{sent} packets");
    let now = at(10_000);
    run(&mut session, now + ms(200_000));
    assert_eq!(session.state(), State::Down, "nothing was heard");
    for (wait, state) in [(1, State::Down), (2, State::Init), (3, State::Up)] {
        act(&mut session, now + ms(200_000 + wait), heard(state));
    }
    assert_eq!(session.state(), State::Up);
    session
}

#[test]
fn one_that_changes_its_state_with_every_packet() {
    let states = [State::AdminDown, State::Down, State::Init, State::Up];
    let session = against(|_, rng| peer(states[rng.usize(0..4)]));
    assert!(session.counters().ups > 100);
}

#[test]
fn one_that_changes_its_name_with_every_packet() {
    against(|n, _| Control { my: name(n as u32), ..peer(State::Up) });
}

#[test]
fn one_that_polls_and_answers_with_every_packet() {
    against(|_, _| Control { poll: true, is_final: true, ..peer(State::Init) });
}

#[test]
fn one_that_changes_its_intervals_with_every_packet() {
    let wild = |rng: &mut fastrand::Rng| [0, 1, 50_000, 10_000_000][rng.usize(0..4)];
    against(|n, rng| Control {
        required_min_rx: wild(rng),
        desired_min_tx: wild(rng),
        multiplier: times(rng.u8(1..)),
        demand: rng.bool(),
        ..peer(if n < 3 { State::Down } else { State::Up })
    });
}

#[test]
fn one_that_never_answers_a_poll_is_kept_up_with_the_old_intervals() {
    let mut session = session(|_| {});
    act(&mut session, at(100), heard(State::Down));
    act(&mut session, at(200), heard(State::Up));
    run_with(&mut session, at(200), ms(60_000), &peer(State::Up));
    let slower = configure(|s| (s.transmit, s.receive) = (interval(2000), interval(50)));
    act(&mut session, at(60_200), slower);
    run_with(&mut session, at(60_200), ms(60_000), &peer(State::Up));
    assert_eq!((session.state(), session.counters().downs), (State::Up, 0));
    assert_eq!((session.transmit_interval(), session.detection_time()), (ms(300), Some(ms(900))));
}

#[test]
fn one_that_asks_for_the_longest_intervals_there_are_overflows_nothing() {
    let (mut session, now) = up(|_| {});
    let slow = |c: &mut Control| (c.desired_min_tx, c.required_min_rx, c.multiplier) = (u32::MAX, u32::MAX, times(255));
    act(&mut session, now, heard_with(State::Up, slow));
    assert_eq!(session.detection_time(), Some(Duration::from_micros(u64::from(u32::MAX)) * 255));
    assert_eq!(session.transmit_interval(), Duration::from_micros(u32::MAX.into()));
    run(&mut session, now + Duration::from_secs(3_000_000));
    assert_eq!(session.state(), State::Down);
}

#[test]
fn one_that_reflects_our_own_packets_makes_no_flood_of_them() {
    let mut session = session(|_| {});
    let mut back = Vec::new();
    for n in 0..20_000 {
        run(&mut session, at(n)).into_iter().for_each(|(_, e)| back.push(e));
        for effect in std::mem::take(&mut back) {
            if let Effect::Send { message } = effect {
                back.extend(act(&mut session, at(n), Input::Packet { ttl: TTL, message }));
            }
        }
    }
    // Given to it, they even bring it up: it is the table that keeps out what has our own address.
    assert!(session.counters().sent < 20 * 127, "{}", session.counters().sent);
}
