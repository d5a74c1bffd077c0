//! Who has an address that is not ours: what is asked, who counts, when it ends, and when silence is no answer.

use super::*;
use oxelb_l2::wire::ethernet::Frame;
use oxelb_l2::{MAX_QUESTIONS, MAX_QUEUE, MAX_STRANGERS, PER_MILLISECOND, Unasked};

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
const HOST: &str = "198.51.100.200";
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0xd, 2]);

type By = Result<BTreeSet<MacAddr>, Unasked>;

fn asked(effects: &[Effect]) -> Vec<(u64, IpAddr, IfIndex, By)> {
    let one = |e: &Effect| match e {
        Effect::Asked { id, address, on, by } => Some((*id, *address, *on, by.clone())),
        _ => None,
    };
    effects.iter().filter_map(one).collect()
}

fn ms(ms: u64) -> Tick {
    Tick::from_millis(ms)
}

fn found(macs: &[MacAddr]) -> By {
    Ok(macs.iter().copied().collect())
}

fn frame(on: IfIndex, bytes: Vec<u8>) -> Input {
    Input::Frame { on, bytes }
}

/// All that asking brings until `until`, with frames coming in at their times.
fn course(l2: &mut L2, ask: Question, mut frames: Vec<(Tick, Input)>, until: Tick) -> Vec<(Tick, Effect)> {
    frames.sort_by_key(|(at, _)| *at);
    let mut effects: Vec<_> = act(l2, Tick::ZERO, Input::Ask(ask)).into_iter().map(|e| (Tick::ZERO, e)).collect();
    for (at, input) in frames {
        effects.extend(run(l2, at));
        effects.extend(act(l2, at, input).into_iter().map(|e| (at, e)));
    }
    effects.extend(run(l2, until));
    effects
}

/// When questions were sent, and how it ended and when.
fn outcome(effects: &[(Tick, Effect)]) -> (Vec<Tick>, Vec<(Tick, By)>) {
    let mut asked_at = Vec::new();
    let mut ended = Vec::new();
    for (now, effect) in effects {
        match effect {
            Effect::Send { frame, speaks_for: None, .. } => {
                assert!(asked_for(frame).is_some());
                asked_at.push(*now);
            }
            Effect::Asked { by, .. } => ended.push((*now, by.clone())),
            _ => {}
        }
    }
    (asked_at, ended)
}

#[test]
fn a_question_of_nobody_for_ipv4_is_the_probe_of_rfc_5227() {
    let mut l2 = node(&[]);
    let effects = act(&mut l2, Tick::ZERO, Input::Ask(question(A, ETH0)));
    let probe = [
        &[0xff; 6][..],
        &MAC0.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], // a request
        &MAC0.0,
        &[0; 4], // from nobody
        &[0; 6],
        &[198, 51, 100, 7],
    ]
    .concat();
    assert_eq!(effects, [Effect::Send { on: ETH0, frame: probe, speaks_for: None }]);
}

#[test]
fn a_question_of_nobody_for_ipv6_is_that_of_duplicate_address_detection() {
    let mut l2 = node(&[]);
    let effects = act(&mut l2, Tick::ZERO, Input::Ask(question(B, ETH1)));
    assert_eq!(sent(&effects), [(ETH1, solicitation(MAC1, "::", B, None))]);
    let sent = &sent(&effects)[0].1;
    assert_eq!(asked_for(sent), Some((ip("::"), ip(B))));
    assert_eq!(Frame::parse(sent).unwrap().destination, "33:33:ff:00:00:07".parse().unwrap());
}

#[test]
fn a_question_by_name_is_an_ordinary_one_whose_answer_comes_to_us_alone() {
    let mut l2 = node(&[]);
    let gateway = |address, from| Input::Ask(Question { from: Some(ip(from)), ..question(address, ETH0) });
    let v4 = sent(&act(&mut l2, Tick::ZERO, gateway("198.51.100.1", HOST)));
    assert_eq!(v4, [(ETH0, arp_request(MAC0, HOST, "198.51.100.1"))]);
    let v6 = sent(&act(&mut l2, Tick::ZERO, gateway("fe80::1", "fe80::10")));
    assert_eq!(v6, [(ETH0, solicitation(MAC0, "fe80::10", "fe80::1", Some(MAC0)))]);
    let answers = act(&mut l2, Tick(1), frame(ETH0, arp_reply(CLIENT, "198.51.100.1", HOST)));
    assert_eq!(answers, [], "all are heard to the end");
    let ended: Vec<_> = run(&mut l2, ms(100)).into_iter().map(|(_, e)| e).collect();
    assert_eq!(asked(&ended), [(1, ip("198.51.100.1"), ETH0, found(&[CLIENT])), (1, ip("fe80::1"), ETH0, found(&[]))]);
}

#[test]
fn it_asks_at_once_and_then_at_its_interval_and_ends_one_interval_after_the_last() {
    for address in [A, B] {
        let mut l2 = node(&[]);
        let effects = course(&mut l2, question(address, ETH0), vec![], ms(10_000));
        assert_eq!(outcome(&effects), (vec![ms(0), ms(20), ms(40)], vec![(ms(60), found(&[]))]));
        assert_eq!(l2.deadline(), None);
        assert_eq!(l2.counters().questions, 3);
    }
    let mut l2 = node(&[]);
    let once = Question { times: NonZeroU8::MIN, every: Duration::ZERO, ..question(A, ETH0) };
    let effects = course(&mut l2, once, vec![], ms(10_000));
    assert_eq!(outcome(&effects), (vec![ms(0)], vec![(ms(1), found(&[]))]));
}

#[test]
fn everybody_who_claims_the_address_meanwhile_counts_and_nobody_else() {
    let to_all = |mac| arp::Packet::gratuitous_reply(mac, v4(A)).frame(MacAddr::BROADCAST);
    let counting: [(&str, Vec<u8>); 6] = [
        (A, arp_reply(STRANGER, A, "0.0.0.0")),
        (A, to_all(STRANGER)),
        (A, arp_request(STRANGER, A, A)),
        (A, arp_request(STRANGER, A, HOST)),
        (B, advertisement(STRANGER, B, Some(STRANGER))),
        (B, solicitation(STRANGER, B, "2001:db8::99", Some(STRANGER))),
    ];
    for (address, bytes) in counting {
        let mut l2 = node(&[]);
        let heard = vec![(ms(1), frame(ETH0, bytes.clone())), (ms(59), frame(ETH0, bytes))];
        let effects = course(&mut l2, question(address, ETH0), heard, ms(1_000));
        assert_eq!(outcome(&effects), (vec![ms(0), ms(20), ms(40)], vec![(ms(60), found(&[STRANGER]))]));
        assert_eq!(l2.counters().ignored, 0);
    }
    let not_counting = [
        (A, ETH1, arp_reply(STRANGER, A, "0.0.0.0")),
        (A, ETH0, arp_reply(STRANGER, "198.51.100.8", "0.0.0.0")),
        (A, ETH0, arp_reply(MAC1, A, "0.0.0.0")),
        (A, ETH0, arp_request(CLIENT, HOST, A)),
        (A, ETH0, arp_reply(STRANGER, HOST, A)),
        (B, ETH1, advertisement(STRANGER, B, Some(STRANGER))),
        (B, ETH0, advertisement(MAC1, B, Some(MAC1))),
        (B, ETH0, solicitation(CLIENT, "2001:db8::c1", B, Some(CLIENT))),
    ];
    for (address, on, bytes) in not_counting {
        let mut l2 = node(&[]);
        let effects = course(&mut l2, question(address, ETH0), vec![(ms(1), frame(on, bytes))], ms(1_000));
        assert_eq!(outcome(&effects).1, [(ms(60), found(&[]))]);
        assert_eq!(l2.counters().ignored, 1);
    }
}

#[test]
fn two_answers_are_two_owners_and_the_number_told_apart_is_bounded() {
    let mut l2 = node(&[]);
    let reply = |mac| frame(ETH0, arp_reply(mac, A, "0.0.0.0"));
    let heard = vec![(ms(1), reply(OTHER)), (ms(2), reply(STRANGER)), (ms(3), reply(OTHER))];
    let effects = course(&mut l2, question(A, ETH0), heard, ms(100));
    assert_eq!(outcome(&effects).1, [(ms(60), found(&[STRANGER, OTHER]))]);

    let many = (0..100).map(|i| (ms(1), reply(MacAddr([2, 1, 1, 1, 1, i])))).collect();
    let mut l2 = node(&[]);
    let effects = course(&mut l2, question(A, ETH0), many, ms(100));
    let Ok(by) = &outcome(&effects).1[0].1 else { panic!("{effects:?}") };
    assert_eq!(by.len(), MAX_STRANGERS);
    assert_eq!(l2.counters().dropped, 100 - MAX_STRANGERS as u64);
}

#[test]
fn where_one_answer_is_enough_it_ends_with_it_and_asks_no_more() {
    let first = Question { first: true, ..question(A, ETH0) };
    let mut l2 = node(&[]);
    let heard = vec![(ms(21), frame(ETH0, arp_reply(STRANGER, A, "0.0.0.0")))];
    let effects = course(&mut l2, first.clone(), heard, ms(1_000));
    assert_eq!(outcome(&effects), (vec![ms(0), ms(20)], vec![(ms(21), found(&[STRANGER]))]));
    let effects = course(&mut l2, first, vec![], ms(1_000));
    assert_eq!(outcome(&effects).1, [(ms(60), found(&[]))], "silence ends it as any other");
}

#[test]
fn somebody_who_asks_at_the_same_time_is_counted_and_is_no_owner() {
    for (address, probe, elsewhere) in [
        (A, arp_request(STRANGER, "0.0.0.0", A), arp_request(STRANGER, "0.0.0.0", "198.51.100.8")),
        (B, solicitation(STRANGER, "::", B, None), solicitation(STRANGER, "::", "2001:db8::8", None)),
    ] {
        let mut l2 = node(&[]);
        let heard = vec![
            (ms(5), frame(ETH0, probe.clone())),
            (ms(6), frame(ETH0, elsewhere)),
            (ms(7), frame(ETH1, probe.clone())),
            (ms(200), frame(ETH0, probe)),
        ];
        let effects = course(&mut l2, question(address, ETH0), heard, ms(1_000));
        assert_eq!(outcome(&effects).1, [(ms(60), found(&[]))]);
        assert_eq!((l2.counters().rival_probes, l2.counters().ignored), (1, 3));
    }
}

#[test]
fn what_cannot_be_asked_is_said_at_once() {
    let mut links = both_up();
    links.insert(ETH1, link(MAC1, false));
    links.insert(IfIndex(4), link(MacAddr::ZERO, true));
    let mut l2 = node(&[(A, &[ETH0])]);
    act(&mut l2, Tick::ZERO, Input::Links(links));
    let other = "198.51.100.8";
    let by_name = |from| Question { from: Some(ip(from)), ..question(other, ETH0) };
    for (ask, why) in [
        (question(other, ETH1), Unasked::Link),
        (question(other, IfIndex(4)), Unasked::Link),
        (question(other, IfIndex(9)), Unasked::Link),
        (question(A, ETH0), Unasked::Owned),
        (question("0.0.0.0", ETH0), Unasked::Address),
        (question("255.255.255.255", ETH0), Unasked::Address),
        (question("224.0.0.5", ETH0), Unasked::Address),
        (question("ff02::1", ETH0), Unasked::Address),
        (question("::1", ETH0), Unasked::Address),
        (by_name("2001:db8::1"), Unasked::Address),
        (by_name("224.0.0.5"), Unasked::Address),
        (by_name("0.0.0.0"), Unasked::Address),
    ] {
        let (address, on) = (ask.address, ask.on);
        let effects = act(&mut l2, Tick(1), Input::Ask(ask));
        assert_eq!(effects, [Effect::Asked { id: 1, address, on, by: Err(why) }]);
    }
    assert_eq!(l2.counters().questions, 0);
}

#[test]
fn a_link_that_changes_ends_its_questions_and_no_others() {
    let mut changed = both_up();
    changed.insert(ETH0, link(OTHER, true));
    let mut down = both_up();
    down.insert(ETH0, link(MAC0, false));
    for links in [changed, down, BTreeMap::from([(ETH1, link(MAC1, true))])] {
        let mut l2 = node(&[]);
        l2.handle(ms(1), Input::Ask(question(A, ETH0)));
        l2.handle(ms(1), Input::Ask(question(A, ETH1)));
        let effects = act(&mut l2, ms(2), Input::Links(links));
        assert_eq!(asked(&effects), [(1, ip(A), ETH0, Err(Unasked::Link))]);
        assert_eq!(
            sent(&effects).iter().map(|(on, _)| *on).collect::<Vec<_>>(),
            [ETH1],
            "the waiting one is taken back"
        );
        let rest = run(&mut l2, ms(1_000));
        assert_eq!(outcome(&rest), (vec![ms(21), ms(41)], vec![(ms(61), found(&[]))]));
    }
}

#[test]
fn an_address_that_becomes_ours_is_asked_for_no_more_and_announced() {
    for address in [A, B] {
        let mut l2 = node(&[]);
        l2.handle(ms(1), Input::Ask(question(address, ETH0)));
        let effects = act(&mut l2, ms(1), owned(&[(address, &[ETH0])]));
        assert_eq!(asked(&effects), [(1, ip(address), ETH0, Err(Unasked::Owned))]);
        assert!(sent(&effects).iter().all(|(_, f)| asked_for(f).is_none()), "{effects:?}");
        assert!(!sent(&effects).is_empty());
        assert_eq!(asked(&run(&mut l2, ms(1_000)).into_iter().map(|(_, e)| e).collect::<Vec<_>>()), []);
        assert_eq!(l2.counters().dropped, 1);
    }
}

#[test]
fn a_paused_process_does_not_take_unread_answers_for_silence() {
    // It comes back too late, and nothing was handed over.
    let mut l2 = node(&[]);
    act(&mut l2, ms(0), Input::Ask(question(A, ETH0)));
    for now in [20, 40] {
        l2.timeout(ms(now));
    }
    drain(&mut l2);
    l2.timeout(ms(70));
    assert_eq!(asked(&drain(&mut l2)), [(1, ip(A), ETH0, Err(Unasked::Late))]);

    // It comes back in time, or late with an answer: then it knows.
    for (late, heard) in [(69, None), (5_000, Some(STRANGER))] {
        let mut l2 = node(&[]);
        act(&mut l2, ms(0), Input::Ask(question(A, ETH0)));
        for now in [20, 40] {
            l2.timeout(ms(now));
        }
        drain(&mut l2);
        // Another frame first: only `timeout` ends, when all that waited was handed over.
        assert_eq!(act(&mut l2, ms(late), frame(ETH0, arp_request(CLIENT, HOST, "198.51.100.9"))), []);
        if let Some(mac) = heard {
            assert_eq!(act(&mut l2, ms(late), frame(ETH0, arp_reply(mac, A, "0.0.0.0"))), []);
        }
        l2.timeout(ms(late));
        let by = heard.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(asked(&drain(&mut l2)), [(1, ip(A), ETH0, Ok(by))]);
    }
}

#[test]
fn the_same_question_twice_is_one_and_different_ones_for_an_address_each_end() {
    let mut l2 = node(&[]);
    let ask = |id, times| Input::Ask(Question { id, times: NonZeroU8::new(times).unwrap(), ..question(A, ETH0) });
    for input in [ask(1, 3), ask(1, 9), ask(2, 1)] {
        l2.handle(ms(0), input);
    }
    assert_eq!(sent(&drain(&mut l2)).len(), 2);
    act(&mut l2, ms(30), frame(ETH0, arp_reply(STRANGER, A, "0.0.0.0")));
    let ended: Vec<_> = run(&mut l2, ms(1_000)).into_iter().map(|(_, e)| e).collect();
    // The handler of a frame ends nothing by time, so the second heard it too.
    assert_eq!(
        asked(&ended).iter().map(|(id, _, _, by)| (*id, by.clone())).collect::<Vec<_>>(),
        [(2, found(&[STRANGER])), (1, found(&[STRANGER]))]
    );
}

fn many(n: u32) -> impl Iterator<Item = Question> {
    (0..n).map(|i| Question { address: Ipv4Addr::from(0x0a00_0000 + i).into(), ..question(A, ETH0) })
}

#[test]
fn a_thousand_questions_at_once_are_paced_and_hold_no_announcement_back() {
    let mut l2 = node(&[]);
    let mut effects = Vec::new();
    for ask in many(1_000) {
        effects.extend(act(&mut l2, ms(0), Input::Ask(ask)).into_iter().map(|e| (ms(0), e)));
    }
    effects.extend(run(&mut l2, ms(1)));
    let owning = act(&mut l2, ms(1), owned(&[(B, &[ETH0])]));
    assert!(sent(&owning).iter().any(|(_, f)| asked_for(f).is_none()), "the first announcement waits");
    act(&mut l2, ms(1), owned(&[]));
    effects.extend(owning.into_iter().map(|e| (ms(1), e)));
    effects.extend(run(&mut l2, ms(1_000)));
    let (times, ended) = outcome(&effects);
    assert_eq!((times.len(), ended.len()), (3_000, 1_000));
    for w in times.windows(PER_MILLISECOND + 1) {
        assert!(w[PER_MILLISECOND].since(w[0]) >= Duration::from_millis(1), "at {:?}", w[0]);
    }
    assert!(ended.iter().all(|(at, by)| *at < ms(200) && *by == found(&[])), "{:?}", ended.last());
}

#[test]
fn the_number_under_way_is_bounded_and_what_is_refused_is_said_and_counted() {
    let mut l2 = node(&[]);
    let n = u32::try_from(MAX_QUESTIONS).unwrap();
    let refused: usize = many(n + 3)
        .map(|ask| {
            let effects = act(&mut l2, ms(0), Input::Ask(ask));
            let asked = asked(&effects);
            assert!(asked.iter().all(|(_, _, _, by)| *by == Err(Unasked::TooMany)));
            asked.len()
        })
        .sum();
    assert_eq!((refused, l2.counters().dropped), (3, 3));
    let ended = run(&mut l2, ms(60_000)).iter().filter(|(_, e)| matches!(e, Effect::Asked { .. })).count();
    assert_eq!(ended, MAX_QUESTIONS);
    assert_eq!(sent(&act(&mut l2, ms(60_000), Input::Ask(question(A, ETH0)))).len(), 1, "there is room again");
}

#[test]
fn a_question_that_finds_no_room_in_the_queue_waits_and_is_not_taken_for_asked() {
    let mut l2 = node(&[(B, &[ETH0])]);
    for _ in 0..MAX_QUEUE {
        l2.handle(ms(0), frame(ETH0, solicitation(CLIENT, "2001:db8::c1", B, Some(CLIENT))));
    }
    l2.handle(ms(0), Input::Ask(question(A, ETH0)));
    let effects = drain(&mut l2);
    assert!(effects.iter().all(|e| !matches!(e, Effect::Send { speaks_for: None, .. } | Effect::Asked { .. })));
    assert_eq!(l2.deadline(), Some(ms(0)));
    let effects = run(&mut l2, ms(1_000));
    assert_eq!(outcome(&effects), (vec![ms(0), ms(20), ms(40)], vec![(ms(60), found(&[]))]));
}

#[test]
fn a_question_like_one_under_way_is_that_one_also_if_it_could_not_be_asked() {
    let mut l2 = node(&[]);
    let effects = act(&mut l2, ms(0), Input::Ask(question(A, ETH0)));
    assert_eq!(asked(&effects).len(), 0);
    let of_another_family = Question { from: Some(ip("fe80::10")), ..question(A, ETH0) };
    assert_eq!(act(&mut l2, ms(1), Input::Ask(of_another_family)), []);
    let ended = run(&mut l2, ms(1_000)).iter().filter(|(_, e)| matches!(e, Effect::Asked { .. })).count();
    assert_eq!(ended, 1, "it ends once");
}
