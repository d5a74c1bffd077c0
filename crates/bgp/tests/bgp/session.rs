//! The state machine against a scripted peer: every message in every state, timers, collisions, restarts.

use super::scripted::*;
use super::*;
use engine::Engine;
use std::sync::Arc;
use std::time::Duration;

fn any_of(kind: u8) -> Message {
    match kind {
        1 => open("192.0.2.1", &[]),
        2 => announcement([nlri("198.51.100.0/24")]),
        3 => Message::Notification(Notification::cease(Cease::AdministrativeReset)),
        4 => Message::Keepalive,
        _ => Message::RouteRefresh { family: Family::Ipv4.afi_safi(), refresh: Some(Refresh::Request) },
    }
}

#[test]
fn every_message_in_every_state() {
    use State::*;
    /// Another state, or the NOTIFICATION that ends it; `None` ends it without one.
    type Becomes = Result<State, Option<[u8; 2]>>;
    let table: [(State, [Becomes; 5]); 3] = [
        (OpenSent, [Ok(OpenConfirm), Err(Some([5, 1])), Err(None), Err(Some([5, 1])), Err(Some([5, 1]))]),
        (OpenConfirm, [Err(Some([5, 2])), Err(Some([5, 2])), Err(None), Ok(Established), Err(Some([5, 2]))]),
        (Established, [Err(Some([5, 3])), Ok(Established), Err(None), Ok(Established), Ok(Established)]),
    ];
    for (state, row) in table {
        for (kind, expected) in (1..).zip(row) {
            let mut s = Scripted::started(config());
            s.up(OUT);
            if state != OpenSent {
                s.say(OUT, &open("192.0.2.1", &[]));
            }
            if state == Established {
                s.say(OUT, &Message::Keepalive);
            }
            assert_eq!(s.session.state(), state);
            s.heard(OUT);
            s.say(OUT, &any_of(kind));
            match expected {
                Ok(next) => assert_eq!(s.session.state(), next, "message {kind} in {state}"),
                Err(Some(code)) => assert_eq!(s.refused(OUT), code, "message {kind} in {state}"),
                Err(None) => {
                    assert!(s.effects.contains(&Effect::Close { connection: OUT }));
                    assert!(s.heard(OUT).is_empty(), "an answer to a NOTIFICATION");
                }
            }
        }
    }
}

#[test]
fn an_open_that_does_not_fit_is_refused_with_its_reason() {
    let (v4, v6) = (Family::Ipv4.afi_safi(), Family::Ipv6.afi_safi());
    let with = |my_as: u32, id: &str, capabilities: Vec<Capability>| {
        let (my_as, hold_time, router_id) = (asn(my_as), HoldTime::DEFAULT, id.parse().unwrap());
        Message::Open(Open { my_as, hold_time, router_id, capabilities })
    };
    let cases = [
        (config(), with(65002, "192.0.2.1", vec![]), [2, 2]),
        (config(), with(65001, "192.0.2.1", vec![Capability::FourOctetAs(asn(70000))]), [2, 2]),
        (Config { peer_as: Some(asn(65000)), ..config() }, with(65000, "192.0.2.10", vec![]), [2, 3]),
        (
            Config { families: [(Family::Ipv6, FamilyConfig::default())].into(), ..config() },
            with(65001, "192.0.2.1", vec![Capability::Multiprotocol(v4)]),
            [2, 7],
        ),
    ];
    for (config, open, code) in cases {
        let mut s = Scripted::started(config);
        s.up(OUT);
        s.say(OUT, &open);
        assert_eq!(s.refused(OUT), code, "{open:?}");
        assert_eq!(s.session.state(), State::Idle, "after an error it waits, and refuses meanwhile");
        s.up(IN);
        assert!(s.effects.contains(&Effect::Close { connection: IN }));
        s.pass(1000);
        assert_eq!(s.session.state(), State::Connect);
    }
    // An equal router id in another autonomous system is right (RFC 6286).
    let mut s = Scripted::started(config());
    s.up(OUT);
    s.say(OUT, &with(65001, "192.0.2.10", vec![Capability::Multiprotocol(v6)]));
    assert_eq!(s.session.state(), State::OpenConfirm);
}

#[test]
fn a_neighbour_of_any_autonomous_system_is_taken_where_none_is_configured() {
    let mut s = Scripted::started(Config { peer_as: None, passive: true, ..config() });
    assert_eq!((s.connects(), s.session.state()), (0, State::Active));
    s.up(IN);
    s.say(IN, &open("192.0.2.1", &[]));
    assert_eq!(s.session.state(), State::OpenConfirm);
}

#[test]
fn attempts_come_twice_as_late_each_time_up_to_the_configured_wait_and_with_jitter() {
    let mut s = Scripted::started(Config { connect_retry: Duration::from_secs(8), ..config() });
    let mut waits = vec![];
    for _ in 0..6 {
        s.act(Input::ConnectFailed);
        let wait = s.session.deadline().unwrap().since(s.now);
        waits.push(wait);
        s.pass(wait.as_millis() as u64 + 1);
    }
    assert_eq!(s.connects(), 7);
    for (wait, most) in waits.iter().zip([1, 2, 4, 8, 8, 8]) {
        let most = Duration::from_secs(most);
        assert!(*wait <= most && *wait >= most * 3 / 4, "{waits:?}");
    }
}

#[test]
fn an_attempt_without_an_answer_is_made_anew() {
    let mut s = Scripted::started(config());
    s.pass(120_000);
    assert!(s.connects() >= 4, "{}", s.connects());
}

#[test]
fn silence_ends_a_session_after_the_negotiated_hold_time() {
    let mut s = Scripted::established(config(), &[]);
    assert_eq!(s.session.view().negotiated.unwrap().hold_time.seconds(), 30, "the smaller of 90 and 30");
    s.pass(29_999);
    assert_eq!(s.session.state(), State::Established);
    let keepalives = s.heard(OUT).iter().filter(|m| **m == Message::Keepalive).count();
    assert!((3..=4).contains(&keepalives), "one each 7.5 to 10 s: {keepalives}");
    s.say(OUT, &Message::Keepalive);
    s.pass(29_999);
    assert_eq!(s.session.state(), State::Established);
    s.pass(1);
    assert_eq!(s.refused(OUT), [4, 0]);
}

#[test]
fn a_hold_time_of_zero_never_ends_and_sends_no_keepalive() {
    let mut s = Scripted::started(Config { hold_time: HoldTime::NEVER, ..config() });
    s.up(OUT);
    s.say(OUT, &open("192.0.2.1", &[]));
    s.say(OUT, &Message::Keepalive);
    s.heard(OUT);
    s.pass(1_000_000);
    assert_eq!((s.session.state(), s.heard(OUT).len()), (State::Established, 0));
}

#[test]
fn a_peer_that_never_says_open_is_given_up() {
    let mut s = Scripted::started(config());
    s.up(OUT);
    s.pass(60_000);
    assert_eq!(s.refused(OUT), [4, 0]);
}

#[test]
fn of_two_connections_the_one_of_the_higher_router_id_stays() {
    for (peer, winner, loser) in [("192.0.2.1", OUT, IN), ("192.0.2.99", IN, OUT)] {
        for first in [OUT, IN] {
            for heard_before in [false, true] {
                let mut s = Scripted::started(config());
                let second = if first == OUT { IN } else { OUT };
                if heard_before {
                    // The first is in OpenConfirm when the second comes.
                    s.up(first);
                    s.say(first, &open(peer, &[]));
                    s.up(second);
                    if first == IN {
                        // Ours came too late and is not even begun.
                        assert!(s.effects.contains(&Effect::Close { connection: OUT }));
                        continue;
                    }
                    s.say(second, &open(peer, &[]));
                } else {
                    s.up(first);
                    s.up(second);
                    s.say(first, &open(peer, &[]));
                    s.say(second, &open(peer, &[]));
                }
                assert_eq!(s.refused(loser), [6, 7], "{peer} {first:?} {heard_before}");
                s.say(winner, &Message::Keepalive);
                assert_eq!(s.session.state(), State::Established);
                assert!(!s.effects.contains(&Effect::Close { connection: winner }));
            }
        }
    }
}

#[test]
fn equal_router_ids_are_told_apart_by_the_autonomous_system() {
    let mut s = Scripted::started(config());
    s.up(OUT);
    s.up(IN);
    s.say(OUT, &open("192.0.2.10", &[]));
    assert_eq!(s.refused(OUT), [6, 7], "65001 is higher than 65000");
}

#[test]
fn a_new_connection_does_not_end_a_session_but_wakes_a_dead_one() {
    let mut s = Scripted::established(config(), &[]);
    s.up(IN);
    assert_eq!(s.heard(OUT), [Message::Keepalive], "a peer that was restarted answers it with a reset");
    s.say(IN, &open("192.0.2.1", &[]));
    assert_eq!((s.refused(IN), s.session.state()), ([6, 7], State::Established));
}

#[test]
fn a_new_connection_of_a_peer_that_restarts_gracefully_replaces_the_session() {
    let mut s = Scripted::established(config(), &[restart(60, true)]);
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    s.up(IN);
    s.say(IN, &open("192.0.2.1", &[restart(60, true)]));
    assert!(s.effects.contains(&Effect::Down(Down::Replaced)));
    assert!(!s.heard(OUT).iter().any(|m| matches!(m, Message::Notification(_))));
    s.say(IN, &Message::Keepalive);
    assert_eq!((s.session.state(), s.received()), (State::Established, 1));
    s.say(IN, &Message::Update(Box::new(Update::end_of_rib(Family::Ipv4))));
    assert_eq!(s.received(), 0, "it was not sent again");
}

#[test]
fn stale_routes_are_kept_for_the_restart_time_then_for_the_long_lived_one() {
    let v4 = Family::Ipv4.afi_safi();
    let long = Capability::LongLived(vec![LongLived { family: v4, forwarding: true, stale_time: 100 }]);
    for (capabilities, kept) in [(vec![], 0u64), (vec![restart(60, true)], 60), (vec![restart(60, true), long], 160)] {
        let mut s = Scripted::established(Config { passive: true, ..config() }, &capabilities);
        s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
        s.act(Input::TcpDown { connection: OUT });
        if kept > 0 {
            s.pass(kept * 1000 - 1);
            assert_eq!((s.received(), s.session.view().routes[&Family::Ipv4].stale), (1, 1), "{kept} s");
            s.pass(1);
        }
        assert_eq!(s.received(), 0, "{kept} s");
    }
}

#[test]
fn what_ends_graceful_restart_and_what_does_not() {
    let received = |code| Message::Notification(Notification::new(code));
    let soft = received(Code::Cease(Cease::AdministrativeReset));
    let hard = Message::Notification(Notification::cease(Cease::AdministrativeReset).hard());
    for (both, message, kept) in [(true, &soft, 1), (false, &soft, 0), (true, &hard, 0)] {
        let mut s = Scripted::established(config(), &[restart(60, both)]);
        s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
        s.say(OUT, message);
        assert_eq!(s.received(), kept, "both say N: {both}, {message:?}");
    }
    // BFD, in the session and after it (RFC 5882 §4.3).
    let mut s = Scripted::established(config(), &[restart(60, true)]);
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    s.act(Input::BfdDown);
    assert_eq!((s.refused(OUT), s.received()), ([6, 9], 0), "a hard reset: the peer must forget our routes too");
    assert_eq!(s.down().notification().unwrap().inner().code, Code::Cease(Cease::BfdDown));
    let mut s = Scripted::established(config(), &[restart(60, true)]);
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    s.act(Input::TcpDown { connection: OUT });
    s.act(Input::BfdDown);
    assert_eq!(s.received(), 0);
}

#[test]
fn we_restart_without_a_word_and_say_so_when_we_are_back() {
    let mut s = Scripted::established(config(), &[restart(60, true)]);
    s.act(Input::Stop(Stop::Restart));
    assert!(s.heard(OUT).is_empty() && s.effects.contains(&Effect::Close { connection: OUT }));
    // To a peer that would forget our routes anyway it is said.
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Stop(Stop::Restart));
    assert_eq!(s.refused(OUT), [6, 4]);

    let r_bit = |messages: Vec<Message>| {
        let Some(Message::Open(open)) = messages.into_iter().next() else { panic!() };
        open.capabilities.iter().any(|c| matches!(c, Capability::GracefulRestart(r) if r.restarting))
    };
    let back = RestartConfig { restarting: true, ..RestartConfig::default() };
    let mut s = Scripted::started(Config { graceful_restart: Some(back), ..config() });
    s.act(Input::Routes(Arc::default()));
    s.up(OUT);
    assert!(r_bit(s.heard(OUT)));
    s.say(OUT, &open("192.0.2.1", &[restart(60, true)]));
    s.say(OUT, &Message::Keepalive);
    s.heard(OUT);
    s.act(Input::TcpDown { connection: OUT });
    s.pass(2000);
    s.up(OUT);
    assert!(!r_bit(s.heard(OUT)), "once all was said the restart is over");
}

fn ends(messages: &[Message]) -> Vec<Family> {
    let updates = messages.iter().filter_map(|m| if let Message::Update(u) = m { u.ends_rib_of() } else { None });
    updates.collect()
}

#[test]
fn the_end_of_rib_waits_for_the_first_complete_set_of_routes() {
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Change(vec![route("203.0.113.1/32")]));
    assert!(ends(&s.heard(OUT)).is_empty());
    s.act(Input::Routes(Arc::new([("203.0.113.2/32")].map(|p| (nlri(p), Arc::default())).into())));
    assert_eq!(ends(&s.heard(OUT)), Family::ALL);
}

#[test]
fn an_operator_s_words_reach_the_peer() {
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Stop(Stop::Shutdown("rack 7 is moved".to_owned())));
    let Some(Message::Notification(n)) = s.heard(OUT).pop() else { panic!() };
    assert_eq!(n.to_string(), "cease: administrative shutdown (\"rack 7 is moved\")");
    assert_eq!(s.session.state(), State::Idle);
    s.pass(1_000_000);
    assert_eq!(s.session.state(), State::Idle);
    s.up(IN);
    assert!(s.effects.contains(&Effect::Close { connection: IN }), "who is stopped takes no connection");
    s.act(Input::Start);
    s.pass(1);
    assert_eq!(s.session.state(), State::Connect);
}

#[test]
fn draining_asks_for_other_paths_before_the_session_ends() {
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Change(vec![route("203.0.113.1/32")]));
    s.heard(OUT);
    s.act(Input::Drain);
    let all = s.heard(OUT);
    let [Message::Update(update)] = &all[..] else { panic!("{all:?}") };
    assert!(update.attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN));
    assert_eq!(update.announced, [nlri("203.0.113.1/32")]);
}

#[test]
fn only_what_was_said_in_the_open_resets_a_session() {
    let keeps = [
        Config { passive: true, ..config() },
        Config { connect_retry: Duration::from_secs(5), ..config() },
        Config { max_prefixes: MaxPrefixes { limit: 1, excess: Excess::Ignore }, ..config() },
        Config { advertisement_interval: Duration::from_secs(1), ..config() },
    ];
    for config in keeps {
        let mut s = Scripted::established(super::scripted::config(), &[]);
        s.act(Input::Change(vec![route("203.0.113.1/32")]));
        s.heard(OUT);
        s.act(Input::Configure(Box::new(config)));
        assert_eq!((s.session.state(), s.heard(OUT).len()), (State::Established, 0));
    }
    let resets = [
        Config { local_as: asn(64999), ..config() },
        Config { router_id: "192.0.2.11".parse().unwrap(), ..config() },
        Config { hold_time: HoldTime::new(9).unwrap(), ..config() },
        Config { graceful_restart: None, ..config() },
        Config { families: [(Family::Ipv4, FamilyConfig::default())].into(), ..config() },
    ];
    for config in resets {
        let mut s = Scripted::established(super::scripted::config(), &[]);
        s.act(Input::Configure(Box::new(config)));
        assert_eq!(s.refused(OUT), [6, 6]);
        s.pass(1);
        assert_eq!(s.connects(), 1, "and it begins anew at once");
    }
}

#[test]
fn another_next_hop_is_said_without_a_reset() {
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Change(vec![route("203.0.113.1/32")]));
    s.heard(OUT);
    let next_hops = NextHops { ipv4: Some([192, 0, 2, 77].into()), ..NextHops::default() };
    s.act(Input::Configure(Box::new(Config { next_hops, ..config() })));
    let all = s.heard(OUT);
    let [Message::Update(update)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(update.next_hop, Some([192, 0, 2, 77].into()));
}

#[test]
fn routes_are_said_again_on_request_between_their_marks_and_only_once_at_a_time() {
    let mut s = Scripted::established(config(), &[]);
    s.act(Input::Routes(Arc::new([(nlri("203.0.113.1/32"), Arc::default())].into())));
    s.heard(OUT);
    let ask = Message::RouteRefresh { family: Family::Ipv4.afi_safi(), refresh: Some(Refresh::Request) };
    let flood: Vec<u8> = (0..500).flat_map(|_| encode(&s.codec, &ask)).collect();
    s.say_bytes(OUT, &flood);
    let all = s.heard(OUT);
    assert_eq!(all.len(), 3, "{all:?}");
    let mark = |m: &Message| if let Message::RouteRefresh { refresh, .. } = m { *refresh } else { None };
    assert_eq!(all.iter().map(mark).collect::<Vec<_>>(), [Some(Refresh::Begin), None, Some(Refresh::End)]);
    // The other way round.
    s.say(OUT, &announcement([nlri("198.51.100.0/24"), nlri("198.51.101.0/24")]));
    s.act(Input::Refresh(Family::Ipv4));
    assert_eq!(s.heard(OUT), [ask]);
    let mark = |refresh| Message::RouteRefresh { family: Family::Ipv4.afi_safi(), refresh: Some(refresh) };
    s.say(OUT, &mark(Refresh::Begin));
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    s.say(OUT, &mark(Refresh::End));
    assert_eq!(s.received(), 1);
}

#[test]
fn prefixes_beyond_the_limit_are_counted_or_end_the_session_as_configured() {
    let limit = |excess| Config { max_prefixes: MaxPrefixes { limit: 2, excess }, ..config() };
    let three = || announcement(["198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24"].map(nlri));
    let mut s = Scripted::established(limit(Excess::Ignore), &[]);
    s.say(OUT, &three());
    assert_eq!((s.received(), s.session.counters().ignored_prefixes), (2, 1));
    assert_eq!(s.session.state(), State::Established);
    assert!(s.effects.contains(&Effect::TooManyPrefixes(Family::Ipv4)));

    let mut s = Scripted::established(limit(Excess::Cease(Duration::from_secs(100))), &[]);
    s.say(OUT, &three());
    let Some(Message::Notification(n)) = s.heard(OUT).pop() else { panic!() };
    assert_eq!((n.code.octets(), n.data), ([6, 1], vec![0, 1, 1, 0, 0, 0, 2]));
    assert!(s.session.view().prefix_limit_reached);
    s.pass(74_000);
    assert_eq!((s.session.state(), s.connects()), (State::Idle, 0));
    s.act(Input::Start);
    s.pass(1);
    assert_eq!((s.session.state(), s.connects()), (State::Connect, 1), "the operator need not wait");
}

#[test]
fn damage_in_an_update_costs_its_routes_and_no_session() {
    let mut s = Scripted::established(config(), &[]);
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    // ORIGIN of 3.
    let attributes =
        [&[0x40, 1, 1, 3][..], &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9], &[0x40, 3, 4, 192, 0, 2, 1]].concat();
    s.say_bytes(OUT, &update(&[], &attributes, &[24, 198, 51, 100]));
    assert_eq!((s.session.state(), s.received(), s.session.counters().damaged), (State::Established, 0, 1));
    // A family that cannot be read is not listened to any more, the other is.
    s.say_bytes(OUT, &update(&[], &[0x80, 15, 5, 0, 2, 1, 64, 0x20], &[]));
    assert!(s.effects.iter().any(|e| matches!(e, Effect::Damaged(f) if f.attribute == 15)));
    let reach = Reach {
        family: Family::Ipv6,
        next_hop: NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None },
        nlri: vec![nlri("2001:db8::/32")],
    };
    let attributes = Attributes { as_path: AsPath::sequence([asn(65001)]), ..Default::default() };
    s.say(OUT, &Message::Update(Box::new(Update { mp_reach: Some(reach), attributes, ..Default::default() })));
    assert_eq!(s.received(), 0);
    s.say(OUT, &announcement([nlri("198.51.100.0/24")]));
    assert_eq!(s.received(), 1);
}

#[test]
fn announcements_wait_for_their_interval_and_withdrawals_do_not() {
    let mut s = Scripted::established(Config { advertisement_interval: Duration::from_secs(4), ..config() }, &[]);
    s.act(Input::Change(vec![route("203.0.113.1/32")]));
    assert_eq!(s.heard(OUT).len(), 1);
    s.act(Input::Change(vec![route("203.0.113.2/32"), (nlri("203.0.113.1/32"), None)]));
    let all = s.heard(OUT);
    let [Message::Update(first)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((first.gone().count(), first.coming().count()), (1, 0));
    s.pass(4000);
    assert_eq!(s.heard(OUT).len(), 1);
}

#[test]
fn a_session_that_cannot_send_for_eight_minutes_ends() {
    let mut s = Scripted::established(Config { hold_time: HoldTime::DEFAULT, ..config() }, &[]);
    s.act(Input::Sent { connection: OUT, bytes: 1 << 30 });
    s.act(Input::Change(vec![route("203.0.113.1/32")]));
    for _ in 0..60 {
        s.say(OUT, &Message::Keepalive);
        if s.session.state() != State::Established {
            break;
        }
        s.pass(10_000);
    }
    assert_eq!(s.down().notification().unwrap().code, Code::SendHoldTimer);
}
