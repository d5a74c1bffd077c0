//! Planned moves, and what moves nothing.

use crate::simulator::{Sim, ip, ms, name};
use engine::Tick;
use lease::{Effect, Input, Partition, Preset};
use std::net::IpAddr;
use std::time::Duration;

/// From when an address was given up until somebody owned it again.
fn gap(sim: &Sim, address: IpAddr, since: Tick) -> Duration {
    let all = || sim.nodes.iter().flat_map(|n| &n.log).filter(|(at, _)| *at >= since);
    let lost = all().find(|(_, e)| matches!(e, Effect::Lose(a, _) if *a == address)).map(|(at, _)| *at);
    let own = all().filter(|(_, e)| *e == Effect::Own(address)).map(|(at, _)| *at).min();
    own.unwrap_or(Tick(u64::MAX)).since(lost.unwrap())
}

#[test]
fn a_speaker_that_leaves_hands_over_within_milliseconds_and_paced() {
    let mut worst = Duration::ZERO;
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, (4, 3), 200, Preset::Normal);
        let owned = sim.nodes[0].owned.clone();
        let since = sim.now;
        sim.input(0, Input::Leave);
        assert_eq!(sim.nodes[0].owned.is_empty(), owned.len() <= 32, "not all at once");
        sim.run(ms(600));
        assert!(!sim.runs(0), "it is done");
        for address in owned {
            worst = worst.max(gap(&sim, address, since));
        }
        sim.run(ms(1000));
        assert_eq!(sim.one_owner_each(), Ok(()), "seed {seed}");
    }
    println!("a planned move: at most {worst:?} without an owner");
    assert!(worst < ms(15), "{worst:?}");
}

#[test]
fn an_address_moves_to_whom_it_is_given_and_stays() {
    let mut sim = Sim::settled(1, (4, 3), 20, Preset::Normal);
    let owner = sim.owners(ip(3))[0];
    let to = (owner + 1) % 4;
    sim.input(owner, Input::Release { address: ip(3), to: name(to) });
    sim.run(ms(20));
    assert_eq!(sim.owners(ip(3)), [to]);
    let after = sim.all();
    sim.run(ms(5000));
    assert_eq!(sim.all(), after);
}

#[test]
fn who_gave_an_address_away_takes_it_at_once_when_its_new_owner_dies() {
    let mut worst = Duration::ZERO;
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, (3, 3), 9, Preset::Normal);
        let owner = sim.owners(ip(3))[0];
        let to = (owner + 1) % 3;
        sim.input(owner, Input::Release { address: ip(3), to: name(to) });
        sim.run(ms(200));
        assert_eq!(sim.owners(ip(3)), [to]);
        sim.kill(to);
        let took = sim.run_until(ms(3000), |sim| !sim.owners(ip(3)).is_empty());
        worst = worst.max(took.unwrap_or_else(|| panic!("seed {seed}: nobody took it")));
    }
    println!("an owner that dies right after a move: at most {worst:?} without one");
    assert!(worst < ms(700), "{worst:?}");
}

#[test]
fn a_node_that_died_too_often_gets_nothing_but_what_an_operator_gives_it() {
    let mut sim = Sim::settled(1, (4, 3), 20, Preset::Normal);
    for _ in 0..4 {
        sim.kill(3);
        sim.run(ms(2000));
        sim.start(3);
        sim.run(ms(5000));
    }
    (0..4).for_each(|n| sim.input(n, Input::Rebalance));
    sim.run(ms(3000));
    assert!(sim.nodes[3].owned.is_empty(), "{:?}", sim.nodes[3].owned);
    let owner = sim.owners(ip(3))[0];
    sim.input(owner, Input::Release { address: ip(3), to: name(3) });
    sim.run(ms(50));
    assert_eq!(sim.owners(ip(3)), [3]);
    sim.run(ms(5000));
    assert_eq!(sim.owners(ip(3)), [3]);
}

#[test]
fn who_is_told_to_give_an_address_to_itself_keeps_it() {
    let mut sim = Sim::settled(1, (4, 3), 20, Preset::Normal);
    let owner = sim.owners(ip(3))[0];
    sim.input(owner, Input::Release { address: ip(3), to: name(owner) });
    for _ in 0..100 {
        sim.run(ms(5));
        assert_eq!(sim.owners(ip(3)), [owner]);
    }
}

#[test]
fn who_comes_back_takes_nothing_back_until_told_and_then_no_one_has_too_much() {
    let mut sim = Sim::settled(2, (4, 3), 80, Preset::Normal);
    sim.kill(3);
    sim.run(ms(2000));
    assert_eq!(sim.one_owner_each(), Ok(()));
    let before = sim.all();
    sim.start(3);
    sim.run(ms(6000));
    assert_eq!(sim.all(), before);
    (0..4).for_each(|n| sim.input(n, Input::Rebalance));
    sim.run(ms(3000));
    assert_eq!(sim.one_owner_each(), Ok(()));
    assert!(sim.nodes.iter().all(|n| (5..=25).contains(&n.owned.len())), "{:?}", sim.all());
    assert_eq!(sim.found, None);
}

#[test]
fn alone_it_owns_all_as_soon_as_the_epoch_is_on_disk() {
    let mut sim = Sim::new(1, 1, 1);
    (0..5).for_each(|a| sim.allow(a, 0..1, Preset::Normal, Partition::SingleOwner));
    sim.start(0);
    sim.run(ms(80));
    assert_eq!(sim.nodes[0].owned.len(), 5);
    sim.kill(0);
    sim.start(0);
    sim.run(ms(10));
    assert_eq!(sim.nodes[0].owned.len(), 5);
}

#[test]
fn who_is_held_up_for_longer_than_its_lease_stops_first() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, (4, 3), 20, Preset::Normal);
        let owned = sim.nodes[0].owned.clone();
        sim.pause(0, ms(1500));
        sim.run(ms(1490));
        assert!(owned.iter().all(|a| sim.owners(*a) != [0] && sim.owners(*a).len() == 1), "seed {seed}");
        sim.run(ms(1000));
        assert_eq!(sim.one_owner_each(), Ok(()));
        assert!(sim.nodes[0].owned.is_disjoint(&owned));
    }
}

#[test]
fn after_a_cut_the_owner_announces_again_because_the_other_side_may_have_owned_too() {
    let mut sim = Sim::settled(3, (2, 1), 20, Preset::Normal);
    sim.partition(&[1].into());
    sim.run(ms(5000));
    let owned = sim.nodes[0].owned.clone();
    assert_eq!((owned.len(), sim.nodes[1].owned.len()), (20, 20), "both sides serve their own");
    let since = sim.now;
    sim.partition(&Default::default());
    sim.run(ms(2000));
    assert_eq!(sim.one_owner_each(), Ok(()));
    let settled = |n: usize| {
        let log = sim.nodes[n].log.iter().filter(move |(at, _)| *at >= since);
        log.filter(|(_, e)| matches!(e, Effect::Settled(_))).count()
    };
    assert!(settled(0) >= sim.nodes[0].owned.len() && settled(0) > 0, "{}", settled(0));
}

#[test]
fn an_address_counts_as_used_when_another_speaker_was_seen_to_own_it() {
    let mut sim = Sim::settled(4, (3, 3), 12, Preset::Normal);
    let owned = sim.nodes[0].owned.clone();
    let engine = |sim: &Sim, n: usize, a| sim.nodes[n].engine.as_ref().unwrap().used(a);
    assert!(owned.iter().all(|a| !engine(&sim, 0, *a)), "this one alone");
    assert!(owned.iter().all(|a| engine(&sim, 1, *a)));
    sim.kill(0);
    sim.run(ms(1500));
    assert!(owned.iter().all(|a| engine(&sim, 1, *a)), "also when its owner is gone");
}

#[test]
fn who_is_no_candidate_any_more_hands_over_as_one_that_leaves_does_and_lives_on() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, (4, 3), 100, Preset::Normal);
        let owned = sim.nodes[0].owned.clone();
        let since = sim.now;
        (0..100).for_each(|a| sim.allow(a, 1..4, Preset::Normal, Partition::Available));
        sim.configure_all();
        sim.run(ms(1000));
        assert!(sim.nodes[0].owned.is_empty() && sim.runs(0));
        for address in owned {
            let gap = gap(&sim, address, since);
            assert!(gap < ms(15), "seed {seed}: {address} was {gap:?} without an owner");
        }
        assert_eq!(sim.one_owner_each(), Ok(()), "seed {seed}");
    }
}

#[test]
fn who_was_alone_becomes_one_of_three_acceptors() {
    let mut sim = Sim::new(5, 3, 3);
    (0..6).for_each(|a| sim.allow(a, 0..3, Preset::Normal, Partition::Available));
    let config = sim.nodes[0].config.clone();
    (sim.nodes[0].config.peers, sim.nodes[0].config.epoch) = Default::default();
    sim.start(0);
    sim.run(ms(100));
    assert_eq!(sim.nodes[0].owned.len(), 6, "it is alone");
    sim.nodes[0].config = config;
    sim.configure(0);
    sim.start(1);
    sim.start(2);
    sim.run(ms(6000));
    assert_eq!(sim.one_owner_each(), Ok(()));
    let view = sim.nodes[0].engine.as_ref().unwrap().view(sim.local(0));
    assert_eq!((view.refused_epoch, view.confirmed.len()), (None, 3));
}

#[test]
fn an_address_that_goes_to_another_domain_is_left_by_a_majority_and_comes_back() {
    let mut sim = Sim::settled(5, (4, 3), 20, Preset::Normal);
    let others = sim.all();
    for n in 0..4 {
        sim.nodes[n].config.elsewhere = [ip(3)].into();
        sim.configure(n);
        // They hear of it one after the other.
        sim.run(ms(150));
    }
    assert_eq!(sim.owners(ip(3)), [] as [usize; 0]);
    sim.run(ms(700));
    let now = |sim: &Sim, n: usize| sim.nodes[n].engine.as_ref().unwrap().view(sim.local(n));
    let left = (0..4).filter(|n| now(&sim, *n).left.contains(&ip(3))).count();
    assert!(left >= 2, "a majority of three acceptors has let go of it, {left} say so");
    let without = |all: Vec<std::collections::BTreeSet<IpAddr>>| -> Vec<Vec<IpAddr>> {
        all.into_iter().map(|owned| owned.into_iter().filter(|a| *a != ip(3)).collect()).collect()
    };
    assert_eq!(without(sim.all()), without(others), "nothing else moves");
    for n in 0..4 {
        sim.nodes[n].config.elsewhere.clear();
        sim.configure(n);
    }
    sim.run(ms(5000));
    assert_eq!(sim.one_owner_each(), Ok(()));
}
