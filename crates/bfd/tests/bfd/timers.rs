//! When packets are sent, when silence is one, and Poll Sequences: RFC 5880 §6.5 and §6.8.2 to §6.8.4, §6.8.7.

use super::*;

fn gaps(seen: &[(Tick, Effect)]) -> Vec<Duration> {
    moments(seen).windows(2).map(|w| w[1].since(w[0])).collect()
}

fn spread(gaps: &[Duration]) -> (Duration, Duration) {
    (gaps.iter().min().copied().unwrap(), gaps.iter().max().copied().unwrap())
}

#[test]
fn the_first_packet_is_due_at_once_and_more_follow_once_a_second() {
    let mut session = Session::new(at(7), config(|s| s.transmit = interval(50)), ours(), fastrand::Rng::with_seed(1));
    assert_eq!(session.deadline(), Some(at(7)));
    let seen = run(&mut session, at(400_000));
    assert_eq!(moments(&seen)[0], at(7));
    let (least, most) = spread(&gaps(&seen));
    assert!(ms(750) <= least && least < ms(770) && ms(980) < most && most <= ms(1000), "{least:?} {most:?}");
    let first = &sent(&effects(seen))[0];
    assert_eq!((first.state, first.your, first.diagnostic), (State::Down, None, Diagnostic::NONE));
    assert_eq!((first.desired_min_tx, first.required_min_rx, first.required_min_echo_rx), (1_000_000, 300_000, 0));
    assert!(!first.poll && !first.is_final && !first.demand && !first.independent);
}

#[test]
fn an_interval_above_a_second_is_kept_while_down() {
    let mut session = Session::new(at(0), config(|s| s.transmit = interval(5000)), ours(), fastrand::Rng::with_seed(1));
    let (least, _) = spread(&gaps(&run(&mut session, at(100_000))));
    assert!(least >= ms(3750));
}

#[test]
fn while_up_packets_are_three_quarters_to_one_interval_apart() {
    let (mut session, now) = up(|s| s.transmit = interval(200));
    let mut other = peer(State::Up);
    other.required_min_rx = 50_000;
    let (least, most) = spread(&gaps(&run_with(&mut session, now, ms(60_000), &other))[2..]);
    assert!(ms(150) <= least && least < ms(155) && ms(195) < most && most <= ms(200), "{least:?} {most:?}");
}

#[test]
fn with_a_multiplier_of_one_packets_are_at_most_nine_tenths_apart() {
    let (mut session, now) = up(|s| s.multiplier = times(1));
    let (least, most) = spread(&gaps(&run_with(&mut session, now, ms(60_000), &peer(State::Up)))[2..]);
    assert!(ms(225) <= least && least < ms(235) && ms(262) < most && most <= ms(270), "{least:?} {most:?}");
}

#[test]
fn the_slower_of_what_we_want_and_the_peer_takes_is_the_interval() {
    let (mut session, now) = up(|_| {});
    for (theirs, interval) in [(100_000, 300), (300_000, 300), (700_000, 700)] {
        act(&mut session, now, heard_with(State::Up, |c| c.required_min_rx = theirs));
        assert_eq!(session.transmit_interval(), ms(interval));
    }
}

#[test]
fn detection_counts_the_peers_multiplier_and_the_slower_of_what_it_wants_and_we_take() {
    let (mut session, now) = up(|s| (s.receive, s.multiplier) = (interval(200), times(9)));
    for (wants, mult, time) in [(100_000, 3, 600), (200_000, 5, 1000), (450_000, 2, 900), (0, 1, 200)] {
        let change = |c: &mut Control| (c.desired_min_tx, c.multiplier) = (wants, times(mult));
        act(&mut session, now, heard_with(State::Up, change));
        assert_eq!(session.detection_time(), Some(ms(time)), "{wants} {mult}");
    }
    let seen = run(&mut session, now + ms(1000));
    let down = seen.iter().find(|(_, e)| matches!(e, Effect::Down { .. })).unwrap().0;
    assert_eq!(down, now + ms(200));
}

#[test]
fn a_packet_that_waited_while_we_were_paused_counts_before_the_silence_does() {
    let (mut session, now) = up(|_| {});
    let effects = act(&mut session, now + ms(5000), heard(State::Up));
    assert_eq!(facts(&effects), []);
    assert_eq!(session.state(), State::Up);
}

#[test]
fn a_peer_that_takes_packets_more_often_gets_them_at_once() {
    let (mut session, now) = up(|s| s.transmit = interval(50));
    let slow = peer(State::Up).with(|c| c.required_min_rx = 5_000_000);
    act(&mut session, now, packet(&slow));
    // Until one was sent, and half a second more.
    let mut now = now;
    while moments(&run_with(&mut session, now, ms(100), &slow)).is_empty() {
        now = now + ms(100);
    }
    let now = now + ms(600);
    assert!(moments(&run_with(&mut session, now - ms(500), ms(500), &slow)).is_empty());
    let quick = peer(State::Up).with(|c| c.required_min_rx = 50_000);
    let effects = act(&mut session, now, packet(&quick));
    assert_eq!(sent(&effects).len(), 1, "its moment has passed already");
    assert!(session.deadline().unwrap() <= now + ms(50));
}

#[test]
fn a_peer_that_takes_packets_less_often_gets_the_next_one_later() {
    let (mut session, now) = up(|s| s.transmit = interval(50));
    act(&mut session, now, heard_with(State::Up, |c| c.required_min_rx = 2_000_000));
    let seen = run_with(&mut session, now, ms(20_000), &peer(State::Up).with(|c| c.required_min_rx = 2_000_000));
    assert!(gaps(&seen).iter().all(|g| *g >= ms(1500)), "{:?}", gaps(&seen));
}

#[test]
fn a_peer_that_takes_no_periodic_packets_gets_none_but_news_and_answers() {
    let (mut session, now) = up(|_| {});
    let mute = peer(State::Up).with(|c| c.required_min_rx = 0);
    assert!(moments(&run_with(&mut session, now, ms(10_000), &mute)).is_empty());
    let now = now + ms(10_000);
    let answers = sent(&act(&mut session, now, packet(&mute.clone().with(|c| c.poll = true))));
    assert!(answers.len() == 1 && answers[0].is_final);
    let news = sent(&act(&mut session, now + ms(20), packet(&mute.with(|c| c.state = State::Down))));
    assert!(news.len() == 1 && news[0].state == State::Down);
}

#[test]
fn a_peer_in_demand_mode_gets_no_periodic_packets_while_both_are_up_and_is_still_watched() {
    let (mut session, now) = up(|_| {});
    let demands = peer(State::Up).with(|c| c.demand = true);
    let seen = run_with(&mut session, now, ms(10_000), &demands);
    assert!(moments(&seen).is_empty(), "{seen:?}");
    let now = now + ms(10_000);
    // Our own polls are sent all the same.
    let said = sent(&act(&mut session, now, configure(|s| s.transmit = interval(500))));
    assert!(said[0].poll);
    let polls = moments(&run_with(&mut session, now, ms(2000), &demands));
    assert!(polls.len() >= 3, "{polls:?}");
    act(&mut session, now + ms(2000), packet(&demands.clone().with(|c| c.is_final = true)));
    assert!(moments(&run_with(&mut session, now + ms(2000), ms(2000), &demands)).is_empty());
    // Without the bit they go on.
    let now = now + ms(4000);
    assert_eq!(sent(&act(&mut session, now, heard(State::Up))).len(), 1);
    act(&mut session, now, packet(&demands));
    let seen = effects(run(&mut session, now + ms(900)));
    assert_eq!(facts(&seen), down(Diagnostic::EXPIRED, Cause::Silence));
    assert!(sent(&seen).iter().all(|c| !c.demand));
}

#[test]
fn coming_up_begins_a_poll_that_goes_on_until_it_is_answered() {
    let mut session = session(|_| {});
    act(&mut session, at(100), heard(State::Down));
    let first = sent(&act(&mut session, at(200), heard(State::Up))).pop().unwrap();
    assert_eq!((first.poll, first.state, first.desired_min_tx), (true, State::Up, 300_000));
    let polls = sent(&effects(run_with(&mut session, at(200), ms(2000), &peer(State::Up))));
    assert!(polls.len() > 5 && polls.iter().all(|c| c.poll));
    act(&mut session, at(2200), heard_with(State::Up, |c| c.is_final = true));
    let after = sent(&effects(run_with(&mut session, at(2200), ms(2000), &peer(State::Up))));
    assert!(after.len() > 5 && after.iter().all(|c| !c.poll));
    assert_eq!(session.counters().polls, 1);
}

#[test]
fn an_answer_never_polls_also_while_a_poll_runs() {
    let mut session = session(|_| {});
    act(&mut session, at(100), heard(State::Down));
    act(&mut session, at(200), heard(State::Up));
    let answers = sent(&act(&mut session, at(250), heard_with(State::Up, |c| c.poll = true)));
    assert!(answers.len() == 1 && answers[0].is_final && !answers[0].poll);
}

#[test]
fn while_up_slower_sending_waits_for_the_answer() {
    let (mut session, now) = up(|_| {});
    let said = sent(&act(&mut session, now, configure(|s| s.transmit = interval(900)))).pop().unwrap();
    assert_eq!((said.poll, said.desired_min_tx), (true, 900_000));
    let before = gaps(&run_with(&mut session, now, ms(3000), &peer(State::Up)));
    assert!(before.iter().all(|g| *g <= ms(300)), "{before:?}");
    act(&mut session, now + ms(3000), heard_with(State::Up, |c| c.is_final = true));
    assert_eq!(session.transmit_interval(), ms(900));
}

#[test]
fn while_up_faster_sending_is_at_once() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, heard_with(State::Up, |c| c.required_min_rx = 50_000));
    act(&mut session, now, configure(|s| s.transmit = interval(100)));
    assert_eq!(session.transmit_interval(), ms(100));
}

#[test]
fn while_up_earlier_detection_waits_for_the_answer_and_later_detection_does_not() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, heard_with(State::Up, |c| c.desired_min_tx = 50_000));
    act(&mut session, now, configure(|s| s.receive = interval(100)));
    assert_eq!(session.detection_time(), Some(ms(900)), "the peer may still send slowly");
    act(&mut session, now, heard_with(State::Up, |c| (c.desired_min_tx, c.is_final) = (50_000, true)));
    assert_eq!(session.detection_time(), Some(ms(300)));
    act(&mut session, now, heard_with(State::Up, |c| c.desired_min_tx = 50_000));
    act(&mut session, now, configure(|s| s.receive = interval(1000)));
    assert_eq!(session.detection_time(), Some(ms(3000)));
}

#[test]
fn a_second_change_waits_until_the_poll_of_the_first_is_surely_over() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, configure(|s| s.transmit = interval(400)));
    let said = |e: Vec<Effect>| sent(&e).iter().map(|c| c.desired_min_tx / 1000).collect::<Vec<u32>>();
    let nothing: [u32; 0] = [];
    assert_eq!(said(act(&mut session, now + ms(20), configure(|s| s.transmit = interval(500)))), nothing);
    let answer = || heard_with(State::Up, |c| c.is_final = true);
    assert_eq!(said(act(&mut session, now + ms(40), answer())), nothing);
    assert_eq!(said(act(&mut session, now + ms(60), answer())), nothing, "it may be one of the first poll");
    assert_eq!(said(act(&mut session, now + ms(80), heard(State::Up))), [500]);
    assert_eq!(session.transmit_interval(), ms(400), "until it is answered");
}

#[test]
fn a_change_of_the_multiplier_is_said_at_once_and_without_a_poll() {
    let (mut session, now) = up(|_| {});
    let said = sent(&act(&mut session, now, configure(|s| s.multiplier = times(5)))).pop().unwrap();
    assert_eq!((said.multiplier, said.poll, session.state()), (times(5), false, State::Up));
}

#[test]
fn nothing_is_polled_when_nothing_changes_and_nobody_when_there_is_no_peer() {
    let (mut session, now) = up(|_| {});
    assert!(act(&mut session, now, configure(|_| {})).is_empty());
    let mut session = self::session(|_| {});
    let effects = act(&mut session, at(100), configure(|s| (s.transmit, s.receive) = (interval(3000), interval(50))));
    assert!(sent(&effects).iter().all(|c| !c.poll && c.desired_min_tx == 3_000_000));
}

#[test]
fn a_peer_that_died_while_it_took_no_packets_gets_them_again() {
    let (mut session, now) = up(|_| {});
    act(&mut session, now, heard_with(State::Up, |c| c.required_min_rx = 0));
    let seen = run(&mut session, now + ms(10_000));
    assert!(moments(&seen).len() >= 9, "{seen:?}");
}

#[test]
fn a_peer_that_fell_silent_while_down_is_forgotten() {
    let mut session = session(|_| {});
    act(&mut session, at(100), heard_with(State::AdminDown, |c| c.your = None));
    assert_eq!((session.state(), session.remote().discriminator), (State::Down, Some(theirs())));
    run(&mut session, at(3099));
    assert_eq!(session.remote().discriminator, Some(theirs()));
    let seen = effects(run(&mut session, at(3100)));
    assert_eq!(session.remote().discriminator, None);
    assert_eq!((session.state(), session.diagnostic(), facts(&seen)), (State::Down, Diagnostic::NONE, vec![]));
}

#[test]
fn a_peer_in_demand_mode_that_is_not_up_yet_gets_periodic_packets() {
    let (mut session, now) = up(|_| {});
    let demands = peer(State::Init).with(|c| c.demand = true);
    assert!(moments(&run_with(&mut session, now, ms(3000), &demands)).len() >= 9);
}

#[test]
fn a_poll_that_was_not_answered_while_down_holds_nothing_back_when_it_is_up() {
    let (mut session, now) = up(|_| {});
    assert!(sent(&act(&mut session, now, heard(State::Down)))[0].poll);
    act(&mut session, now + ms(20), heard(State::Down));
    let said = sent(&act(&mut session, now + ms(40), heard(State::Up)));
    assert_eq!((said[0].poll, said[0].desired_min_tx), (true, 300_000));
}

#[test]
fn no_packet_is_late_when_the_peer_changes_what_it_takes() {
    let (mut session, mut now) = up(|s| s.transmit = interval(50));
    let mut seen = Vec::new();
    for n in 0..2000 {
        now = now + ms(17);
        seen.extend(run(&mut session, now));
        let takes = [50_000, 60_000, 55_000][n % 3];
        seen.extend(
            act(&mut session, now, heard_with(State::Up, |c| c.required_min_rx = takes)).into_iter().map(|e| (now, e)),
        );
    }
    let (least, most) = spread(&gaps(&seen)[2..]);
    assert!(ms(37) < least && most <= ms(60), "{least:?} {most:?}");
}

trait With {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl With for Control {
    fn with(mut self, change: impl FnOnce(&mut Control)) -> Control {
        change(&mut self);
        self
    }
}
