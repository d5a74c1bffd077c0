//! How long an address is without an owner after its owner died.

use crate::simulator::{Sim, ms};
use lease::{Partition, Preset};
use std::time::Duration;

/// Kills owners again and again; the times until each address of the dead one had another owner.
fn times(nodes: usize, members: usize, preset: Preset, seeds: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    for seed in 0..seeds {
        let mut sim = Sim::settled(seed, (nodes, members), 24, preset);
        sim.run(Duration::from_micros(sim.rng.clone().u64(0..700_000)));
        let dead = sim.rng.usize(0..nodes);
        let owned = sim.nodes[dead].owned.clone();
        sim.kill(dead);
        let took = sim.run_until(ms(8000), |s| owned.iter().all(|a| s.owners(*a).len() == 1));
        times.push(took.unwrap_or_else(|| panic!("seed {seed}: no owner after 8 s")));
        assert_eq!(sim.found, None, "seed {seed}");
    }
    times.sort_unstable();
    times
}

fn print(what: &str, times: &[Duration]) -> Duration {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}, worst {:?} of {}", at(50), at(90), at(99), at(100), times.len());
    at(100)
}

#[test]
fn where_a_majority_survives_normal_takes_less_than_700_ms() {
    assert!(print("normal, 5 speakers", &times(5, 3, Preset::Normal, 60)) < ms(700));
}

#[test]
fn where_a_majority_survives_fast_takes_less_than_150_ms() {
    assert!(print("fast, 5 speakers", &times(5, 3, Preset::Fast, 60)) < ms(150));
}

#[test]
fn where_a_majority_survives_relaxed_takes_less_than_3200_ms() {
    assert!(print("relaxed, 5 speakers", &times(5, 3, Preset::Relaxed, 30)) < ms(3200));
}

#[test]
fn of_two_speakers_the_one_left_takes_less_than_2600_ms() {
    assert!(print("normal, 2 speakers", &times(2, 2, Preset::Normal, 60)) < ms(2600));
}

/// The owner of half of the addresses hears nobody any more, while everybody hears it; the worst time without an owner.
fn deaf(partition: Partition) -> Duration {
    let mut worst = Duration::ZERO;
    for seed in 0..30 {
        let mut sim = Sim::settled(seed, (3, 3), 12, Preset::Normal);
        (0..12).for_each(|a| sim.allow(a, 0..3, Preset::Normal, partition));
        sim.configure_all();
        sim.run(Duration::from_micros(sim.rng.clone().u64(0..700_000)));
        let owned = sim.nodes[0].owned.clone();
        sim.disturbed();
        sim.net.cut = [(1, 0), (2, 0)].into();
        let since = sim.now;
        let mut last = owned.iter().map(|a| (*a, sim.now)).collect::<std::collections::BTreeMap<_, _>>();
        while sim.now.since(since) < ms(6000) {
            sim.run(ms(1));
            for address in &owned {
                let owners = sim.owners(*address).len();
                // Who yields to a deaf one hears of it one delivery later.
                assert!(owners < 2 || partition == Partition::Available, "seed {seed}: {owners} own {address}");
                if owners > 0 {
                    let before = last.insert(*address, sim.now).unwrap();
                    worst = worst.max(sim.now.since(before));
                }
            }
        }
        for address in &owned {
            assert_eq!(sim.owners(*address).len(), 1, "seed {seed}: {address}");
            let goes_on = sim.owners(*address) == [0];
            assert_eq!(goes_on, partition == Partition::Available, "seed {seed}: {address}");
        }
        sim.net.cut.clear();
        sim.run(ms(3000));
        assert_eq!(sim.one_owner_each(), Ok(()), "seed {seed}");
    }
    worst
}

#[test]
fn an_owner_that_hears_nobody_is_followed_by_another_where_there_must_be_one_owner() {
    let worst = deaf(Partition::SingleOwner);
    println!("deaf, single-owner: {worst:?}");
    assert!(worst < ms(1300), "{worst:?}");
}

#[test]
fn an_owner_that_hears_nobody_may_go_on_where_service_counts_more_and_the_others_yield_to_it() {
    let worst = deaf(Partition::Available);
    println!("deaf, available: {worst:?}");
    assert!(worst < ms(2600), "{worst:?}");
}
