//! How long an address is without an owner after its owner died.

use crate::simulator::{Sim, ms};
use lease::Preset;
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
