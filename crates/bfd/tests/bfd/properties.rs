//! For any inputs in any order: facts alternate, packets say what the session is, the engine never asks to be woken in
//! the past, its queues are bounded, and a recorded run repeats.

use super::*;
use bfd::MAX_QUEUE;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Do(Input),
    /// The next inputs come before its effects are drained.
    Hold(Input),
    Pass(u64),
}

fn any_config() -> impl Strategy<Value = Config> {
    let millis = || prop_oneof![Just(10u32), Just(50), Just(300), Just(5000)];
    let method = prop_oneof![3 => Just(None), 1 => Just(Some(Method::Password))];
    (millis(), millis(), 1u8..6, method).prop_map(|(tx, rx, mult, method)| {
        config(|s| {
            (s.transmit, s.receive, s.multiplier) = (interval(tx), interval(rx), times(mult));
            s.authentication = method.map(auth);
        })
    })
}

fn any_input() -> impl Strategy<Value = Input> {
    let number = || prop_oneof![Just(0u32), Just(50_000), Just(300_000), Just(1_000_000), any::<u32>()];
    let state = prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
    let heard = (state, any::<[bool; 4]>(), number(), number(), 1u8.., 1u32..4).prop_map(
        |(state, [poll, is_final, demand, named], tx, rx, mult, my)| {
            heard_with(state, |c| {
                (c.poll, c.is_final, c.demand) = (poll, is_final, demand && tx % 2 == 0);
                (c.desired_min_tx, c.required_min_rx, c.multiplier) = (tx, rx, times(mult));
                c.my = name(my);
                if !named {
                    c.your = None;
                }
            })
        },
    );
    prop_oneof![
        10 => heard,
        1 => any_config().prop_map(|c| Input::Configure(Box::new(c))),
        1 => any::<bool>().prop_map(Input::Link),
        1 => Just(Input::AdminDown),
        2 => Just(Input::AdminUp),
    ]
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any_input().prop_map(Step::Do),
        1 => any_input().prop_map(Step::Hold),
        4 => (0u64..400).prop_map(Step::Pass),
        1 => (0u64..20_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..80)
}

fn check(effects: &[Effect], up: &mut bool, state: State) -> Result<(), TestCaseError> {
    for effect in effects {
        if matches!(effect, Effect::Up | Effect::Down { .. }) {
            prop_assert_ne!(*effect == Effect::Up, *up, "told twice");
            *up = *effect == Effect::Up;
        }
    }
    prop_assert_eq!(*up, state == State::Up);
    for control in sent(effects) {
        prop_assert!(!control.demand && !control.independent && control.required_min_echo_rx == 0);
        prop_assert!(!(control.poll && control.is_final));
        prop_assert!(control.state == State::Up || control.desired_min_tx >= 1_000_000);
        prop_assert_eq!(control.my, ours());
    }
    Ok(())
}

/// Effects by moment; what an engine does with these steps.
fn go(steps: &[Step], replay: bool) -> Result<Vec<(Tick, Effect)>, TestCaseError> {
    let (mut session, mut now, mut up) = (session(|_| {}), at(1), false);
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Do(input) | Step::Hold(input) => {
                let text = serde_json::to_string(input).unwrap();
                let recorded = if replay { serde_json::from_str(&text).unwrap() } else { input.clone() };
                session.handle(now, recorded);
            }
            Step::Pass(n) => {
                now = now + ms(*n);
                session.timeout(now);
                let (deadline, before) = (session.deadline(), drain(&mut session));
                check(&before, &mut up, session.state())?;
                seen.extend(before.into_iter().map(|e| (now, e)));
                session.timeout(now);
                prop_assert!(drain(&mut session).is_empty(), "a second timeout did something");
                prop_assert_eq!(session.deadline(), deadline);
            }
        }
        prop_assert!(session.deadline().is_none_or(|d| d > now));
        if !matches!(step, Step::Hold(_)) {
            let effects = drain(&mut session);
            prop_assert!(effects.len() <= MAX_QUEUE + 2 + 16);
            check(&effects, &mut up, session.state())?;
            seen.extend(effects.into_iter().map(|e| (now, e)));
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn whatever_happens_facts_alternate_and_a_recording_repeats(steps in any_steps()) {
        prop_assert_eq!(go(&steps, false)?, go(&steps, true)?);
    }
}

#[test]
fn an_engine_that_is_never_drained_takes_bounded_memory() {
    let mut session = session(|_| {});
    for second in 1..1000 {
        session.timeout(at(second * 1000));
    }
    session.handle(at(1_000_000), Input::AdminDown);
    session.handle(at(1_000_020), Input::AdminUp);
    let kept = sent(&drain(&mut session));
    assert_eq!((session.counters().dropped, kept.len()), (1001 - MAX_QUEUE as u64, MAX_QUEUE));
    let newest = [kept[MAX_QUEUE - 2].state, kept[MAX_QUEUE - 1].state];
    assert_eq!(newest, [State::AdminDown, State::Down]);
}
