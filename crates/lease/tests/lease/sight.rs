//! What speakers find on their links moves addresses only where that helps.

use crate::simulator::{Sim, ip, ms, name};
use engine::MacAddr;
use lease::{Effect, Input, Preset, Reason, Sight};
use std::collections::BTreeSet;
use std::net::IpAddr;

fn silent(sim: &mut Sim, n: usize, silent: &BTreeSet<IpAddr>) {
    let owned = &sim.nodes[n].owned;
    let (cut, silent) = (!silent.is_empty(), silent.intersection(owned).copied().collect());
    sim.input(n, Input::Sight(Box::new(Sight { cut, silent, ..Sight::default() })));
}

/// This node's gateway answers; it says so of whatever it is asked to reach.
fn reaches(sim: &mut Sim, n: usize) {
    let reached = sim.nodes[n].engine.as_ref().unwrap().asked_to_reach();
    sim.input(n, Input::Sight(Box::new(Sight { reached, ..Sight::default() })));
}

#[test]
fn an_owner_whose_gateway_is_silent_hands_over_only_to_who_reaches_it() {
    for seed in 0..10 {
        let mut sim = Sim::settled(seed, (4, 3), 40, Preset::Normal);
        let all: BTreeSet<IpAddr> = (0..40).map(ip).collect();
        let (before, owned) = (sim.all(), sim.nodes[0].owned.clone());
        silent(&mut sim, 0, &all);
        sim.run(ms(10_000));
        assert_eq!(sim.all(), before, "seed {seed}: nobody reaches it either, so it stays");
        silent(&mut sim, 1, &all);
        sim.run(ms(500));
        reaches(&mut sim, 2);
        sim.run(ms(2000));
        assert_eq!(sim.all(), before, "seed {seed}: it may come back for all at this moment");
        sim.run(ms(3000));
        assert_eq!((sim.nodes[0].owned.len(), sim.nodes[1].owned.len()), (0, 0), "seed {seed}");
        assert_eq!(sim.one_owner_each(), Ok(()));
        let why = |a: &IpAddr| {
            let log = sim.nodes[0].log.iter().rev();
            log.map(|(_, e)| e).find_map(|e| match e {
                Effect::Lose(lost, reason) if lost == a => Some(reason.clone()),
                _ => None,
            })
        };
        assert!(owned.iter().all(|a| matches!(why(a), Some(Reason::Unreached { .. }))), "seed {seed}");
        let after = sim.all();
        silent(&mut sim, 0, &BTreeSet::new());
        silent(&mut sim, 1, &BTreeSet::new());
        sim.run(ms(5000));
        assert_eq!(sim.all(), after, "seed {seed}: a gateway that is back moves nothing");
    }
}

#[test]
fn a_gateway_that_comes_back_for_one_a_little_later_moves_nothing() {
    let mut sim = Sim::settled(1, (3, 3), 20, Preset::Normal);
    let all: BTreeSet<IpAddr> = (0..20).map(ip).collect();
    let before = sim.all();
    (0..3).for_each(|n| silent(&mut sim, n, &all));
    sim.run(ms(10_000));
    reaches(&mut sim, 1);
    sim.run(ms(2500));
    silent(&mut sim, 0, &BTreeSet::new());
    silent(&mut sim, 2, &BTreeSet::new());
    sim.run(ms(10_000));
    assert_eq!(sim.all(), before);
}

#[test]
fn an_address_of_an_owner_that_dies_goes_to_who_reaches_the_gateway() {
    let mut sim = Sim::settled(2, (4, 3), 40, Preset::Normal);
    let all: BTreeSet<IpAddr> = (0..40).map(ip).collect();
    silent(&mut sim, 1, &all);
    sim.run(ms(200));
    reaches(&mut sim, 2);
    sim.run(ms(200));
    let of_one = sim.nodes[1].owned.clone();
    sim.kill(0);
    sim.run(ms(1500));
    assert!(sim.nodes[1].owned.is_subset(&of_one), "who does not reach it takes none");
    assert_eq!(sim.one_owner_each(), Ok(()));
}

#[test]
fn an_address_that_another_speaker_doubts_is_announced_again_once() {
    let mut sim = Sim::settled(3, (3, 3), 12, Preset::Normal);
    let owner = sim.owners(ip(5))[0];
    let by = (owner + 1) % 3;
    let doubted = BTreeSet::from([ip(5)]);
    let since = sim.now;
    sim.input(by, Input::Sight(Box::new(Sight { doubted, ..Sight::default() })));
    sim.run(ms(3000));
    let again = |n: usize| {
        let log = sim.nodes[n].log.iter().filter(move |(at, _)| *at >= since);
        log.filter(|(_, e)| matches!(e, Effect::Settled(_))).count()
    };
    assert_eq!((0..3).map(again).sum::<usize>(), 1);
    assert_eq!(again(owner), 1);
    sim.input(by, Input::Sight(Box::default()));
    sim.run(ms(1000));
    assert_eq!(sim.one_owner_each(), Ok(()));
}

#[test]
fn speakers_learn_from_which_interfaces_the_others_answer() {
    let mut sim = Sim::settled(4, (3, 3), 3, Preset::Normal);
    let macs = BTreeSet::from([MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
    sim.nodes[1].config.macs = macs.clone();
    sim.configure(1);
    sim.run(ms(200));
    assert_eq!(sim.nodes[0].engine.as_ref().unwrap().macs(&name(1)), macs);
    assert_eq!(sim.nodes[0].engine.as_ref().unwrap().macs(&name(2)), BTreeSet::new());
}
