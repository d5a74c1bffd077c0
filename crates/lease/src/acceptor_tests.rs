use super::*;

const EPOCH: EpochId = EpochId { number: 1, digest: 1 };
const ASK: (EpochId, Preset, bool) = (EPOCH, Preset::Normal, false);
const L: Duration = Preset::Normal.lease();

fn ms(n: u64) -> Tick {
    Tick::from_millis(n)
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn stamp(counter: u64) -> Stamp {
    Stamp { boot: 1, counter }
}

fn acceptor() -> Acceptor {
    Acceptor::new(Tick::ZERO, Some(EPOCH), Faults::default())
}

fn granted(answer: &Answer) -> Vec<bool> {
    let Answer::Asked { verdicts, .. } = answer else { panic!("{answer:?}") };
    verdicts.iter().map(|v| *v == Verdict::Granted).collect()
}

#[test]
fn an_address_is_granted_to_one_speaker_until_its_lease_has_passed() {
    let mut a = acceptor();
    assert_eq!(granted(&a.ask(ms(0), "x", stamp(1), ASK, &[ip(1), ip(2)])), [true, true]);
    let answer = a.ask(ms(100), "y", stamp(1), ASK, &[ip(2), ip(3)]);
    let held = Verdict::Held { by: Some("x".to_owned()), left: 500 };
    assert_eq!(
        answer,
        Answer::Asked { granted: [&ip(3)].into_iter().collect(), verdicts: vec![held, Verdict::Granted] }
    );
    assert_eq!(granted(&a.ask(ms(0) + L, "y", stamp(2), ASK, &[ip(2)])), [true]);
}

#[test]
fn a_release_ends_only_a_grant_that_is_older() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(5), ASK, &[ip(1)]);
    a.release(ms(1), "y", stamp(9), None, &[ip(1)]);
    a.release(ms(1), "x", stamp(4), None, &[ip(1)]);
    assert!(a.running(ms(2), ip(1)).is_some());
    // An old copy of a request does not make the grant older.
    a.ask(ms(2), "x", stamp(3), ASK, &[ip(1)]);
    a.release(ms(3), "x", stamp(4), None, &[ip(1)]);
    assert!(a.running(ms(3), ip(1)).is_some());
    a.release(ms(4), "x", stamp(6), None, &[ip(1)]);
    assert!(a.running(ms(4), ip(1)).is_none());
}

#[test]
fn a_renewal_counts_against_an_older_release_too() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1)]);
    let set = (Preset::Normal, [&ip(1)].into_iter().collect());
    assert!(matches!(a.renew(ms(100), "x", stamp(3), EPOCH, set), Answer::Renewed { .. }));
    a.release(ms(101), "x", stamp(2), None, &[ip(1)]);
    assert_eq!(a.running(ms(101), ip(1)).unwrap().until, ms(100) + L);
}

#[test]
fn a_renewal_of_another_set_lengthens_nothing() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1), ip(2)]);
    for digest in [SetDigest::default(), [&ip(1)].into_iter().collect()] {
        let set = (Preset::Normal, digest);
        assert!(matches!(a.renew(ms(100), "x", stamp(2), EPOCH, set), Answer::Differs { .. }));
    }
    assert_eq!(a.running(ms(100), ip(1)).unwrap().until, ms(0) + L);
    // What somebody else got has left the set.
    a.ask(ms(700), "y", stamp(1), ASK, &[ip(2)]);
    let set = (Preset::Normal, [&ip(1), &ip(2)].into_iter().collect());
    assert!(matches!(a.renew(ms(701), "x", stamp(3), EPOCH, set), Answer::Differs { .. }));
    let set = (Preset::Normal, [&ip(1)].into_iter().collect());
    assert!(matches!(a.renew(ms(701), "x", stamp(4), EPOCH, set), Answer::Renewed { .. }));
}

#[test]
fn a_grant_is_never_made_shorter() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), (EPOCH, Preset::Relaxed, false), &[ip(1)]);
    a.ask(ms(1), "x", stamp(2), (EPOCH, Preset::Fast, false), &[ip(1)]);
    assert_eq!(a.running(ms(2), ip(1)).unwrap().until, ms(3000));
    let set = (Preset::Relaxed, SetDigest::default());
    assert!(
        matches!(a.renew(ms(3), "x", stamp(3), EPOCH, set), Answer::Renewed { .. }),
        "it has moved to the other set"
    );
}

#[test]
fn what_is_whole_leaves_the_rest_to_its_end() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1), ip(2)]);
    a.ask(ms(10), "x", stamp(2), (EPOCH, Preset::Normal, true), &[ip(1)]);
    let set = (Preset::Normal, [&ip(1)].into_iter().collect());
    assert!(matches!(a.renew(ms(20), "x", stamp(3), EPOCH, set), Answer::Renewed { .. }));
    assert_eq!(a.running(ms(20), ip(2)).unwrap().until, ms(0) + L);
    assert_eq!(a.running(ms(20), ip(1)).unwrap().until, ms(20) + L);
}

#[test]
fn only_the_own_epoch_is_granted_and_nothing_in_silence_or_without_a_record() {
    let mut a = Acceptor::new(ms(3000), Some(EPOCH), Faults::default());
    assert_eq!(a.ask(ms(2999), "x", stamp(1), ASK, &[ip(1)]), Answer::Refused(Refusal::Silent));
    assert_eq!(granted(&a.ask(ms(3000), "x", stamp(2), ASK, &[ip(1)])), [true]);
    let next = EpochId { number: 2, digest: 2 };
    let later = (next, Preset::Normal, false);
    assert_eq!(a.ask(ms(3001), "x", stamp(3), later, &[ip(1)]), Answer::Refused(Refusal::Epoch));
    a.adopt(next);
    assert_eq!(a.ask(ms(3002), "x", stamp(4), ASK, &[ip(1)]), Answer::Refused(Refusal::Epoch));
    assert_eq!(granted(&a.ask(ms(3003), "y", stamp(1), later, &[ip(1)])), [false], "what runs is honoured");
    a.adopt(EPOCH);
    assert_eq!(a.epoch(), Some(next), "there is no way back");
    let mut lost = Acceptor::new(Tick::ZERO, None, Faults::default());
    assert_eq!(lost.ask(ms(9999), "x", stamp(1), ASK, &[ip(1)]), Answer::Refused(Refusal::NoRecord));
}

#[test]
fn what_is_released_for_a_successor_is_kept_for_it() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1)]);
    a.release(ms(10), "x", stamp(2), Some("y"), &[ip(1)]);
    assert_eq!(granted(&a.ask(ms(11), "z", stamp(1), ASK, &[ip(1)])), [false]);
    assert_eq!(granted(&a.ask(ms(12), "y", stamp(1), ASK, &[ip(1)])), [true]);
    a.release(ms(13), "y", stamp(2), Some("gone"), &[ip(1)]);
    assert_eq!(granted(&a.ask(ms(13) + RESERVED, "z", stamp(2), ASK, &[ip(1)])), [true]);
}

#[test]
fn an_address_of_another_domain_is_granted_to_nobody_and_is_left_when_its_grant_has_ended() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1)]);
    a.set_elsewhere([ip(1)].into());
    let set = (Preset::Normal, [&ip(1)].into_iter().collect());
    assert!(matches!(a.renew(ms(10), "x", stamp(2), EPOCH, set), Answer::Differs { .. }));
    assert_eq!(granted(&a.ask(ms(10), "x", stamp(3), ASK, &[ip(1)])), [false]);
    assert_eq!(a.left(ms(599)).count(), 0);
    assert_eq!(a.left(ms(600)).collect::<Vec<_>>(), [ip(1)]);
}

#[test]
fn what_is_owned_without_a_majority_is_as_good_as_granted() {
    let mut a = Acceptor::new(ms(3000), None, Faults::default());
    a.heard(ms(0), "x", Preset::Normal, ip(1));
    assert_eq!(a.running(ms(599), ip(1)).unwrap().holder, "x");
    a.heard(ms(500), "y", Preset::Normal, ip(1));
    assert_eq!(a.running(ms(599), ip(1)).unwrap().holder, "x");
    assert_eq!(granted(&a.consent(ms(599), "y", stamp(1), Preset::Normal, &[ip(1)])), [false]);
    assert_eq!(granted(&a.consent(ms(600), "y", stamp(2), Preset::Normal, &[ip(1)])), [true]);
}

#[test]
fn what_has_long_ended_takes_no_memory() {
    let mut a = acceptor();
    a.ask(ms(0), "x", stamp(1), ASK, &[ip(1), ip(2)]);
    a.sweep(ms(600) + FORGET);
    assert_eq!(a, acceptor());
}
