//! Who owns what when speakers start, die, leave, are paused and hear each other again.

mod simulator;

use oxelb_lease::{DETECTION, Effect, HEARTBEAT, Reason};
use simulator::{Sim, addr, ip, ms, name};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const DELIVERY: Duration = Duration::from_millis(1);

#[test]
fn a_starting_speaker_owns_nothing_until_it_could_hear_who_does() {
    let mut sim = Sim::new(1, 3);
    (0..20).for_each(|a| sim.allow(a, 0..3));
    (0..3).for_each(|n| sim.start(n));
    sim.run(DETECTION - ms(1));
    assert!(sim.nodes.iter().all(|n| n.owned.is_empty()));
    sim.run(ms(1) + 2 * DELIVERY);
    sim.assert_one_owner_each();
    assert!(sim.nodes.iter().all(|n| !n.owned.is_empty() && n.owned.len() <= 9), "the load is bounded");
}

#[test]
fn d1_a_speaker_that_starts_beside_owners_takes_nothing_and_they_lose_nothing() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 5, 100);
        sim.kill(2);
        sim.run(ms(2000));
        let before = sim.all();
        sim.start(2);
        sim.run(ms(3000));
        assert_eq!(sim.all(), before, "seed {seed}: a returning node takes nothing back");
    }
}

#[test]
fn alone_it_waits_as_long_and_owns_all() {
    let mut sim = Sim::new(1, 1);
    (0..5).for_each(|a| sim.allow(a, 0..1));
    sim.start(0);
    sim.run(DETECTION - ms(1));
    assert!(sim.nodes[0].owned.is_empty());
    sim.run(ms(1));
    assert_eq!(sim.nodes[0].owned.len(), 5);
}

#[test]
fn what_a_dead_node_owned_has_its_next_owner_within_450_ms_and_two_heartbeats() {
    let mut worst = Duration::ZERO;
    for seed in 0..60 {
        let nodes = 2 + (seed as usize % 9);
        let mut sim = Sim::settled(seed, nodes, 50);
        sim.run(Duration::from_micros(seed * 7919 % 150_000));
        let before = sim.all();
        sim.kill(0);
        let took = sim.run_until(ms(450) + 2 * HEARTBEAT, "a new owner each", |s| s.one_owner_each().is_ok());
        worst = worst.max(took);
        for (n, owned) in before.iter().enumerate().skip(1) {
            assert!(sim.nodes[n].owned.is_superset(owned), "seed {seed}: only what the dead node owned moves");
        }
    }
    assert!(worst <= DETECTION + 2 * DELIVERY, "{worst:?}");
}

#[test]
fn after_a_goodbye_the_next_owner_is_there_within_one_delivery() {
    for seed in 0..60 {
        let mut sim = Sim::settled(seed, 2 + (seed as usize % 9), 50);
        sim.run(Duration::from_micros(seed * 7919 % 150_000));
        sim.leave(0);
        assert!(sim.nodes[0].owned.is_empty(), "who leaves stops answering before it says so");
        sim.run_until(DELIVERY, "a new owner each", |s| s.one_owner_each().is_ok());
        sim.run(ms(100));
        assert!(!sim.runs(0), "it is done");
        assert!(sim.lost(0).iter().all(|(_, r)| *r == Reason::Left));
    }
}

#[test]
fn a_goodbye_that_is_lost_is_repeated() {
    for seed in 0..40 {
        let mut sim = Sim::settled(seed, 2, 10);
        sim.net.cut.insert((0, 1));
        sim.leave(0);
        sim.run(ms(30));
        sim.net.cut.clear();
        sim.run_until(ms(12), "a new owner each", |s| s.one_owner_each().is_ok());
    }
}

#[test]
fn d38_after_a_partition_one_of_two_claimants_yields_within_one_heartbeat_and_its_delivery() {
    for seed in 0..60 {
        let mut sim = Sim::settled(seed, 4, 40);
        sim.partition(&[0, 1].into());
        sim.run(ms(3000));
        assert!((0..40).all(|a| sim.owners(ip(a)).len() == 2), "not claimed: a partition shows two owners");
        sim.net.cut.clear();
        sim.run_until(HEARTBEAT + 2 * DELIVERY, "one owner each", |s| s.one_owner_each().is_ok());
        let kept = sim.all();
        sim.run(ms(2000));
        assert_eq!(sim.all(), kept, "seed {seed}");
        let is_yield = |e: &Effect, a| matches!(e, Effect::Lose(lost, Reason::Yielded { .. }) if *lost == a);
        let last =
            |n: usize, is: &dyn Fn(&Effect) -> bool| sim.nodes[n].log.iter().rfind(|(_, e)| is(e)).map(|(at, _)| *at);
        for a in (0..40).map(ip) {
            let yielded = (0..4).filter_map(|n| last(n, &|e| is_yield(e, a))).max().unwrap();
            let settled = last(sim.owners(a)[0], &|e| *e == Effect::Settled(a)).unwrap();
            assert!(settled >= yielded, "seed {seed}: who keeps {a} is told to announce it again");
        }
    }
}

#[test]
fn adding_an_address_moves_no_other() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 4, 30);
        let before = sim.all();
        sim.allow(30, 0..4);
        // Not all know at once.
        for n in 0..4 {
            sim.configure(n);
            sim.run(ms(seed * 10));
        }
        sim.run(ms(3000));
        sim.assert_one_owner_each();
        for (n, owned) in before.iter().enumerate() {
            assert!(sim.nodes[n].owned.is_superset(owned), "seed {seed}");
        }
    }
}

#[test]
fn removing_an_address_or_a_candidate_moves_only_that() {
    let mut sim = Sim::settled(3, 3, 30);
    let before = sim.all();
    let owner = sim.owners(ip(0))[0];
    sim.allow(0, (0..3).filter(|n| *n != owner));
    sim.nodes.iter_mut().for_each(|n| drop(n.config.candidates.remove(&ip(1))));
    sim.configure_all();
    sim.run(ms(500));
    sim.assert_one_owner_each();
    assert_eq!(sim.lost(owner).iter().find(|(a, _)| *a == ip(0)), Some(&(ip(0), Reason::NotCandidate)));
    for (n, owned) in before.iter().enumerate() {
        let rest: BTreeSet<_> = owned.iter().filter(|a| **a != ip(0) && **a != ip(1)).copied().collect();
        assert!(sim.nodes[n].owned.is_superset(&rest));
    }
}

#[test]
fn a_node_that_cannot_announce_is_passed_over_at_once() {
    let mut sim = Sim::settled(5, 4, 40);
    let before = sim.nodes[1].owned.clone();
    assert!(!before.is_empty());
    sim.nodes[1].config.unable = (0..40).map(ip).collect();
    sim.configure(1);
    assert!(sim.nodes[1].owned.is_empty());
    assert!(sim.lost(1).iter().all(|(_, r)| *r == Reason::Unable));
    sim.run_until(2 * DELIVERY + ms(50), "a new owner each", |s| s.one_owner_each().is_ok());
    sim.kill(0);
    sim.run_until(DETECTION + 2 * DELIVERY, "nobody waits for it", |s| s.one_owner_each().is_ok());
}

#[test]
fn a_frozen_speaker_gives_up_what_others_may_have_taken_before_it_does_anything_else() {
    for seed in 0..40 {
        let mut sim = Sim::settled(seed, 3, 30);
        // An address that only the frozen node may own stays with it.
        sim.allow(30, 0..1);
        sim.configure_all();
        sim.run(ms(1000));
        let owned = sim.nodes[0].owned.clone();
        sim.pause(0, ms(700 + seed * 10));
        sim.run(ms(690 + seed * 10));
        assert!(owned.iter().filter(|a| **a != ip(30)).all(|a| sim.owners(*a).len() == 2), "its owner is frozen");
        let wakes = sim.now + ms(10);
        sim.run(ms(10));
        assert!(sim.nodes[0].owned.is_subset(&[ip(30)].into()), "seed {seed}");
        let late = sim.nodes[0].log.iter().filter(|(at, e)| *at == wakes && matches!(e, Effect::Lose(_, Reason::Late)));
        assert_eq!(late.count(), owned.len() - 1);
        sim.run_until(ms(100), "one owner each", |s| s.one_owner_each().is_ok());
        assert_eq!(sim.owners(ip(30)), [0]);
        let after = sim.all();
        sim.run(ms(2000));
        assert_eq!(sim.all(), after);
    }
}

#[test]
fn a_short_delay_moves_nothing() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 3, 30);
        let before = sim.all();
        for n in 0..3 {
            sim.pause(n, ms(140));
            sim.run(ms(1000));
        }
        assert_eq!(sim.all(), before, "seed {seed}");
    }
}

#[test]
fn two_lost_heartbeats_move_nothing() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 2, 10);
        let before = sim.all();
        sim.net.loss = 100;
        sim.run(ms(265));
        sim.net.loss = 0;
        sim.run(ms(2000));
        assert_eq!(sim.all(), before, "seed {seed}");
    }
}

/// A new node knows all others; they cannot read the API server and have not heard of it.
#[test]
fn a_node_that_the_others_do_not_know_takes_nothing_from_them() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, 4);
        (0..150).for_each(|a| sim.allow(a, 0..4));
        for n in 0..3 {
            sim.nodes[n].config.peers.remove(&name(3));
            sim.nodes[n].config.candidates.values_mut().for_each(|c| Arc::make_mut(c).retain(|n| *n != name(3)));
            sim.start(n);
        }
        sim.run(ms(2000));
        let before = sim.all();
        sim.start(3);
        sim.run(ms(5000));
        assert_eq!(sim.all(), before, "seed {seed}");
        assert!(sim.nodes[0].log.iter().any(|(_, e)| *e == Effect::Alive(name(3))));
        // Once it is known it may own what is new.
        for n in 0..3 {
            sim.nodes[n].config.peers.insert(name(3), addr(3));
        }
        sim.allow(200, [3]);
        (0..150).for_each(|a| sim.allow(a, 0..4));
        sim.configure_all();
        sim.run(ms(1000));
        sim.assert_one_owner_each();
        assert_eq!(sim.owners(ip(200)), [3]);
    }
}

/// The owner's configuration is old: it does not know that it is no candidate any more.
#[test]
fn an_address_is_not_taken_from_a_live_owner_that_has_not_heard_that_it_may_not() {
    let mut sim = Sim::settled(7, 3, 10);
    let owner = sim.owners(ip(0))[0];
    sim.allow(0, (0..3).filter(|n| *n != owner));
    (0..3).filter(|n| *n != owner).for_each(|n| sim.configure(n));
    sim.run(ms(10_000));
    assert_eq!(sim.owners(ip(0)), [owner]);
    sim.configure(owner);
    sim.run_until(ms(60), "it is handed over", |s| s.one_owner_each().is_ok());
}

/// The node that placement chooses has an old configuration without the address: the next one does not wait for ever.
#[test]
fn an_address_gets_an_owner_although_its_first_candidate_does_not_know_of_it() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 4, 10);
        let stale = seed as usize % 4;
        (10..40).for_each(|a| sim.allow(a, 0..4));
        (0..4).filter(|n| *n != stale).for_each(|n| sim.configure(n));
        sim.run_until(ms(4500), "an owner each", |s| s.one_owner_each().is_ok());
        sim.run(ms(100)); // so that the last to take has told it
        let before = sim.all();
        sim.configure(stale);
        sim.run(ms(2000));
        assert_eq!(sim.all(), before, "seed {seed}");
    }
}

#[test]
fn a_removed_node_that_still_speaks_keeps_what_it_has_until_it_stops() {
    let mut sim = Sim::settled(2, 3, 30);
    let owned = sim.nodes[2].owned.clone();
    for n in 0..2 {
        sim.nodes[n].config.peers.remove(&name(2));
        sim.nodes[n].config.candidates.values_mut().for_each(|c| Arc::make_mut(c).retain(|n| *n != name(2)));
        sim.configure(n);
    }
    sim.run(ms(3000));
    assert_eq!(sim.nodes[2].owned, owned);
    assert!(owned.iter().all(|a| sim.owners(*a) == [2]));
    sim.kill(2);
    sim.run_until(DETECTION + 2 * DELIVERY, "others take it", |s| s.one_owner_each().is_ok());
}

#[test]
fn a_node_whose_clock_went_back_is_heard_again() {
    let mut sim = Sim::settled(4, 3, 30);
    sim.kill(1);
    sim.run(ms(1000));
    sim.start_as(1, 17);
    let before = sim.all();
    sim.run(ms(2000));
    assert_eq!(sim.all(), before);
    let alive = |n: usize| sim.nodes[n].engine.as_ref().unwrap().view().alive;
    assert!(alive(0).contains(&name(1)) && alive(2).contains(&name(1)));
}

#[test]
fn the_view_says_who_lives_and_who_owns() {
    let mut sim = Sim::settled(9, 3, 12);
    sim.run(ms(500));
    for n in 0..3 {
        let view = sim.nodes[n].engine.as_ref().unwrap().view();
        assert_eq!(view.alive, (0..3).filter(|p| *p != n).map(name).collect());
        assert_eq!(view.owners, (0..12).map(|a| (ip(a), name(sim.owners(ip(a))[0]))).collect());
    }
    sim.kill(2);
    sim.run(ms(1000));
    let engine = sim.nodes[0].engine.as_ref().unwrap();
    assert_eq!(engine.view().alive, [name(1)].into());
    assert!(engine.view().owners.values().all(|o| *o != name(2)));
}

/// Cost grows with speakers, not with addresses.
#[test]
fn in_steady_state_a_heartbeat_has_the_same_size_for_any_number_of_addresses() {
    let cost = |addresses: usize| {
        let mut sim = Sim::settled(1, 3, addresses);
        sim.run(ms(3000));
        sim.tap = Some(Vec::new());
        sim.run(ms(3000));
        let sizes: BTreeSet<usize> = sim.tap.unwrap_or_default().iter().map(|(_, _, bytes)| bytes.len()).collect();
        assert_eq!(sizes.len(), 1, "{sizes:?}");
        sizes.into_iter().next()
    };
    assert_eq!(cost(1), cost(1000));
    assert!(cost(1) < Some(150), "{:?}", cost(1));
}

/// More addresses than fit into one turn of packets.
#[test]
fn ten_thousand_addresses_are_told_and_taken_over() {
    let mut sim = Sim::settled(1, 2, 10_000);
    sim.kill(0);
    sim.run_until(DETECTION + DELIVERY, "a new owner each", |s| s.nodes[1].owned.len() == 10_000);
    sim.start(0);
    sim.run(ms(3000));
    assert_eq!(sim.nodes[1].owned.len(), 10_000);
    assert!(sim.nodes[0].owned.is_empty());
}
