//! For any inputs in any order: only a master advertises, one that leads no more is silent, the engine never asks to be
//! woken in the past, its queues are bounded, and a recorded run repeats.

use super::*;
use oxelb_vrrp::{MAX_MASTERS, MAX_QUEUE};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Do(Input),
    /// The next inputs come before its effects are drained.
    Hold(Input),
    Pass(u64),
}

fn any_config() -> impl Strategy<Value = Config> {
    let v2 =
        (any::<bool>(), 1u16..4).prop_map(|(v2, n)| if v2 { (Version::V2, n * 100) } else { (Version::V3, n * 33) });
    (v2, 1u8.., 0u8..3, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |((version, interval), p, vrid, led, preempt, listen)| {
            config(|s| {
                (s.version, s.interval) = (version, Centis::try_from(interval).unwrap());
                (s.priority, s.preempt) = (priority(p), preempt);
                s.vrid = Vrid::try_from(7 + vrid / 2).unwrap();
                s.listen = if listen { ms(2000) } else { Duration::ZERO };
                if led {
                    s.mode = Mode::Led { members: [ip(LOWER)].into() };
                }
            })
        },
    )
}

fn any_input() -> impl Strategy<Value = Input> {
    let source = (1u8..40).prop_map(|n| IpAddr::from([192, 0, 2, n]));
    let advert = (source, any_config(), any::<u8>()).prop_map(|(source, config, p)| {
        let mut settings = Settings::from(config);
        settings.source = source;
        packet(&Config::new(settings).unwrap(), Priority::try_from(p).ok())
    });
    prop_oneof![
        6 => advert,
        1 => any_config().prop_map(|c| Input::Configure(Box::new(c))),
        1 => any::<bool>().prop_map(Input::Link),
        2 => any::<bool>().prop_map(Input::Lead),
        1 => Just(Input::Release),
        1 => Just(Input::Start),
        1 => Just(Input::Stop),
    ]
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any_input().prop_map(Step::Do),
        1 => any_input().prop_map(Step::Hold),
        4 => (0u64..3000).prop_map(Step::Pass),
        1 => (0u64..60_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

/// Advertisements of effects in order, each with the state that was told last.
fn check(effects: &[Effect], state: &mut State, leads: Option<bool>) -> Result<(), TestCaseError> {
    for effect in effects {
        match effect {
            Effect::Become(s) => {
                prop_assert_ne!(*s, *state);
                *state = *s;
                prop_assert!(*s != State::Master || leads != Some(false), "it leads not");
            }
            Effect::Send { message, .. } => {
                prop_assert!(message[2] == 0 || *state == State::Master, "{:?} advertises", state);
                prop_assert!(message[2] == 0 || leads != Some(false), "it leads not");
            }
            Effect::Announce => prop_assert_eq!(*state, State::Master),
            _ => {}
        }
    }
    Ok(())
}

/// Effects by moment; what an engine does with these steps.
fn go(steps: &[Step], replay: bool) -> Result<Vec<(Tick, Effect)>, TestCaseError> {
    let (mut router, mut now, mut state, mut leads) = (router(|_| {}), at(1), State::Stopped, false);
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Do(input) | Step::Hold(input) => {
                match input {
                    Input::Lead(l) => leads = *l,
                    Input::Release => leads = false,
                    _ => {}
                }
                let text = serde_json::to_string(input).unwrap();
                let recorded = if replay { serde_json::from_str(&text).unwrap() } else { input.clone() };
                router.handle(now, recorded);
            }
            Step::Pass(n) => {
                now = now + ms(*n);
                router.timeout(now);
                let (deadline, before) = (router.deadline(), drain(&mut router));
                seen.extend(before.iter().map(|e| (now, e.clone())));
                check(&before, &mut state, led(&router).then_some(leads))?;
                router.timeout(now);
                prop_assert!(drain(&mut router).is_empty(), "a second timeout did something");
                prop_assert_eq!(router.deadline(), deadline);
            }
        }
        prop_assert!(router.deadline().is_none_or(|d| d > now));
        prop_assert!(router.masters().len() <= MAX_MASTERS);
        if !matches!(step, Step::Hold(_)) {
            let effects = drain(&mut router);
            prop_assert!(effects.len() <= MAX_QUEUE + 2 * MAX_MASTERS + 128);
            check(&effects, &mut state, led(&router).then_some(leads))?;
            seen.extend(effects.into_iter().map(|e| (now, e)));
            prop_assert_eq!(state, router.state());
        }
    }
    Ok(seen)
}

fn led(router: &Router) -> bool {
    router.config().mode != Mode::Interop
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_only_a_master_advertises_and_a_recording_repeats(steps in any_steps()) {
        prop_assert_eq!(go(&steps, false)?, go(&steps, true)?);
    }
}

#[test]
fn an_engine_that_is_never_drained_takes_bounded_memory() {
    let mut router =
        started(|s| (s.priority, s.peers) = (Priority::OWNER, (1..=60).map(|n| IpAddr::from([10, 0, 0, n])).collect()));
    for second in 1..1000 {
        router.timeout(at(second * 1000));
    }
    assert!(router.counters().dropped > 50_000);
    assert_eq!(drain(&mut router).len(), MAX_QUEUE);
}
