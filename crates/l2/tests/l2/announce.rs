//! When what is announced, in virtual time.

use super::*;
use oxelb_l2::wire::ethernet::Frame;
use oxelb_l2::{BURST, PER_MILLISECOND};

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
const BURST_MS: [u64; 5] = [0, 10, 40, 100, 300];

/// When each address was announced on each interface.
type Times = BTreeMap<(IpAddr, IfIndex), Vec<Tick>>;

/// Announcements of these effects; the two frames of an IPv4 announcement count as one.
fn announcements(effects: &[(Tick, Effect)]) -> Times {
    let mut times = Times::new();
    for (now, effect) in effects {
        let Effect::Send { on, frame, .. } = effect else { continue };
        let reply_form = Frame::parse(frame).unwrap().ethertype == 0x0806 && frame[21] == 2;
        if !reply_form {
            times.entry((said(frame).address, *on)).or_default().push(*now);
        }
    }
    times
}

/// What an input makes happen at once and until `until`.
fn from_input(l2: &mut L2, now: Tick, input: Input, until: Tick) -> Vec<(Tick, Effect)> {
    let mut effects: Vec<_> = act(l2, now, input).into_iter().map(|e| (now, e)).collect();
    effects.extend(run(l2, until));
    effects
}

fn fresh() -> L2 {
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(both_up()));
    l2
}

fn millis(start: Tick) -> Vec<Tick> {
    BURST_MS.iter().map(|ms| start + Duration::from_millis(*ms)).collect()
}

#[test]
fn the_published_schedule_is_the_one_that_is_tested() {
    assert_eq!(BURST.map(|d| d.as_millis() as u64), BURST_MS);
}

#[test]
fn an_announcement_of_ipv4_is_a_broadcast_request_and_a_broadcast_reply() {
    let mut l2 = fresh();
    let frames = sent(&act(&mut l2, Tick::ZERO, owned(&[(A, &[ETH0])])));
    let expect = |operation, target_mac| arp::Packet {
        operation,
        sender_mac: MAC0,
        sender_ip: v4(A),
        target_mac,
        target_ip: v4(A),
    };
    let forms = [
        expect(arp::Operation::Request, MacAddr::ZERO).frame(MacAddr::BROADCAST),
        expect(arp::Operation::Reply, MAC0).frame(MacAddr::BROADCAST),
    ];
    assert_eq!(frames, forms.map(|f| (ETH0, f)));
}

#[test]
fn an_announcement_of_ipv6_is_an_unsolicited_advertisement_with_override() {
    let mut l2 = fresh();
    let frames = sent(&act(&mut l2, Tick::ZERO, owned(&[(B, &[ETH0])])));
    assert_eq!(frames, [(ETH0, advertisement(MAC0, B, Some(MAC0)))]);
    assert_eq!(frames[0].1[..6], [0x33, 0x33, 0, 0, 0, 1]);
}

#[test]
fn d24_a_burst_is_sent_exactly_on_time_and_then_every_minute() {
    let mut l2 = fresh();
    let start = Tick::from_millis(7);
    let hour = Tick::from_millis(3_600_000);
    let effects = from_input(&mut l2, start, owned(&[(A, &[ETH0]), (B, &[ETH0, ETH1])]), hour);
    let times = announcements(&effects);
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), [(ip(A), ETH0), (ip(B), ETH0), (ip(B), ETH1)]);
    for (place, times) in &times {
        assert_eq!(times[..5], millis(start), "{place:?}");
        let gaps: Vec<Duration> = times[4..].windows(2).map(|w| w[1].since(w[0])).collect();
        assert!(gaps.iter().all(|g| (54..=66).contains(&g.as_secs())), "{gaps:?}");
        assert!((54..=67).contains(&gaps.len()), "{}", gaps.len());
        assert!(gaps.iter().any(|g| *g != gaps[0]), "without jitter");
    }
    assert_eq!(l2.counters().announcements, times.values().map(|t| t.len() as u64).sum::<u64>());
}

#[test]
fn a_thousand_addresses_are_paced_and_every_first_announcement_comes_within_50_ms() {
    let mut l2 = fresh();
    let addresses = |i: u32| match i % 2 {
        0 => IpAddr::from(Ipv4Addr::from(0xc633_0000 + i)),
        _ => IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(i))),
    };
    let all = (0..1_000).map(|i| (addresses(i), BTreeSet::from([ETH0]))).collect();
    let effects = from_input(&mut l2, Tick::ZERO, Input::Addresses(all), Tick::from_millis(130_000));
    let times = announcements(&effects);
    assert_eq!(times.len(), 1_000);

    let mut every: Vec<Tick> = times.values().flatten().copied().collect();
    every.sort_unstable();
    for w in every.windows(PER_MILLISECOND + 1) {
        assert!(
            w[PER_MILLISECOND].since(w[0]) >= Duration::from_millis(1),
            "more than {PER_MILLISECOND} at {:?}",
            w[0]
        );
    }
    let last_first = times.values().map(|t| t[0]).max().unwrap();
    assert!(last_first < Tick::from_millis(50), "{last_first:?}");
    assert!(times.values().all(|t| t[1] >= last_first), "a second announcement before a first one");
    for t in times.values() {
        assert!(t[4] < Tick::from_millis(500), "{t:?}");
        let gaps = t[..5].windows(2).map(|w| w[1].since(w[0]).as_millis());
        assert!(gaps.zip([10, 30, 60, 200]).all(|(gap, least)| gap >= least), "sent closer together than meant: {t:?}");
    }
    // The repetitions are spread over their 12 seconds.
    let mut by_second = BTreeMap::<u64, u64>::new();
    for t in times.values() {
        *by_second.entry(t[5].0 / 1_000_000_000).or_default() += 1;
    }
    assert!(by_second.len() >= 12 && by_second.values().all(|n| *n < 140), "{by_second:?}");
}

#[test]
fn an_address_that_comes_later_does_not_wait_behind_the_repetitions_of_others() {
    let mut l2 = fresh();
    let mut all: BTreeMap<_, _> =
        (0..1_000u32).map(|i| (IpAddr::from(Ipv4Addr::from(0xc633_0000 + i)), BTreeSet::from([ETH0]))).collect();
    act(&mut l2, Tick::ZERO, Input::Addresses(all.clone()));
    run(&mut l2, Tick::from_millis(60));
    // Hundreds of second announcements are overdue now.
    all.insert(ip(B), BTreeSet::from([ETH0]));
    let effects = from_input(&mut l2, Tick::from_millis(60), Input::Addresses(all), Tick::from_millis(62));
    assert!(announcements(&effects)[&(ip(B), ETH0)][0] <= Tick::from_millis(61));
}

#[test]
fn what_is_kept_is_not_announced_again_when_other_addresses_change() {
    let mut l2 = node(&[(A, &[ETH0])]);
    run(&mut l2, Tick::from_millis(1_000));
    let effects =
        from_input(&mut l2, Tick::from_millis(1_000), owned(&[(A, &[ETH0]), (B, &[ETH0])]), Tick::from_millis(2_000));
    assert_eq!(announcements(&effects).keys().copied().collect::<Vec<_>>(), [(ip(B), ETH0)]);
}

#[test]
fn a_change_of_mac_link_or_gateway_begins_the_burst_anew_where_it_happened() {
    let later = Tick::from_millis(20_000);
    let until = Tick::from_millis(21_000);
    let both: &[(&str, &[IfIndex])] = &[(A, &[ETH0, ETH1]), (B, &[ETH0, ETH1])];
    let mut changed_mac = both_up();
    changed_mac.insert(ETH0, link(STRANGER, true));

    let mut down_and_up = node(both);
    run(&mut down_and_up, Tick::from_millis(10_000));
    act(&mut down_and_up, Tick::from_millis(10_000), Input::Links(BTreeMap::from([(ETH1, link(MAC1, true))])));
    let undisturbed = || {
        let mut l2 = node(both);
        run(&mut l2, Tick::from_millis(10_000));
        l2
    };
    let cases = [
        ("link up", &mut down_and_up, Input::Links(both_up()), MAC0),
        ("MAC", &mut undisturbed(), Input::Links(changed_mac), STRANGER),
        ("gateway", &mut undisturbed(), Input::Gateway { on: ETH0 }, MAC0),
    ];
    for (what, l2, input, mac) in cases {
        let effects = from_input(l2, later, input, until);
        let times = announcements(&effects);
        let expected = Times::from([((ip(A), ETH0), millis(later)), ((ip(B), ETH0), millis(later))]);
        assert_eq!(times, expected, "{what}");
        for (_, effect) in &effects {
            if let Effect::Send { frame, .. } = effect {
                assert_eq!((said(frame).mac, said(frame).from), (mac, mac), "{what}");
            }
        }
    }
}

#[test]
fn one_address_is_announced_again_on_demand_wherever_it_is_answered_for_and_no_other() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0, ETH1]), ("2001:db8::8", &[ETH0])]);
    run(&mut l2, Tick::from_millis(10_000));
    let now = Tick::from_millis(20_000);
    let effects = from_input(&mut l2, now, Input::Announce { address: ip(B) }, Tick::from_millis(21_000));
    assert_eq!(announcements(&effects), Times::from([((ip(B), ETH0), millis(now)), ((ip(B), ETH1), millis(now))]));
    // What is not owned is never announced, nor what waits for a link.
    let later = Tick::from_millis(30_000);
    assert_eq!(act(&mut l2, later, Input::Announce { address: ip("198.51.100.8") }), []);
    act(&mut l2, later, Input::Links(BTreeMap::new()));
    assert_eq!(act(&mut l2, later, Input::Announce { address: ip(A) }), []);
    assert_eq!(l2.deadline(), None);
}

#[test]
fn after_a_change_of_mac_answers_carry_the_new_one_and_queued_frames_with_the_old_one_are_taken_back() {
    let mut l2 = node(&[(A, &[ETH0])]);
    l2.handle(Tick(1), Input::Frame { on: ETH0, bytes: arp_request(CLIENT, "198.51.100.200", A) });
    let mut links = both_up();
    links.insert(ETH0, link(STRANGER, true));
    l2.handle(Tick(1), Input::Links(links));
    l2.handle(Tick(1), Input::Frame { on: ETH0, bytes: arp_request(CLIENT, "198.51.100.200", A) });
    let said: Vec<_> = sent(&drain(&mut l2)).iter().map(|(_, f)| said(f)).collect();
    assert!(said.iter().all(|s| s.mac == STRANGER && s.from == STRANGER), "{said:?}");
    assert_eq!(said.iter().filter(|s| s.answers).count(), 1);
    // And a change of the name alone changes nothing.
    let mut renamed = both_up();
    renamed.insert(ETH0, Link { mac: STRANGER, up: true, name: "wan".to_owned() });
    assert_eq!(act(&mut l2, Tick(2), Input::Links(renamed)), []);
}

#[test]
fn gateway_changes_in_quick_succession_hold_no_first_announcement_back() {
    let mut l2 = fresh();
    let all: BTreeMap<_, _> =
        (0..400u32).map(|i| (IpAddr::from(Ipv4Addr::from(0xc633_0000 + i)), BTreeSet::from([ETH0]))).collect();
    let mut effects: Vec<_> =
        act(&mut l2, Tick::ZERO, Input::Addresses(all)).into_iter().map(|e| (Tick::ZERO, e)).collect();
    for ms in 1..40 {
        effects.extend(from_input(&mut l2, Tick::from_millis(ms), Input::Gateway { on: ETH0 }, Tick::from_millis(ms)));
    }
    assert_eq!(announcements(&effects).len(), 400);
}

#[test]
fn a_timeout_too_early_does_nothing_and_a_late_one_sends_each_step_once() {
    let mut l2 = node(&[(A, &[ETH0])]);
    let deadline = l2.deadline();
    assert_eq!(deadline, Some(Tick::from_millis(10)));
    l2.timeout(Tick::from_millis(9));
    assert_eq!(drain(&mut l2), []);
    assert_eq!(l2.deadline(), deadline);
    // The process slept through the whole burst.
    l2.timeout(Tick::from_millis(5_000));
    assert_eq!(sent(&drain(&mut l2)).len(), 2);
    l2.timeout(Tick::from_millis(5_000));
    assert_eq!(drain(&mut l2), []);
    assert_eq!(l2.deadline(), Some(Tick::from_millis(5_030)));
}

#[test]
fn it_ends_at_the_end_of_the_clock() {
    let mut l2 = node(&[(A, &[ETH0]), (B, &[ETH0])]);
    l2.timeout(Tick(u64::MAX));
    let count = sent(&drain(&mut l2)).len();
    assert!((3..=2 * PER_MILLISECOND).contains(&count), "{count}");
}
