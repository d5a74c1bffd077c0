//! What it costs, and that it copes with many.

use crate::simulator::{Sim, ms};
use lease::{Partition, Preset};

/// Packets and octets that each speaker sends in a second when nothing happens.
fn cost(nodes: usize, addresses: usize) -> (u64, u64) {
    let mut sim = Sim::new(1, nodes, nodes.min(3));
    (0..addresses).for_each(|a| sim.allow(a, 0..nodes, Preset::Normal, Partition::Available));
    (0..nodes).for_each(|n| sim.start(n));
    sim.run(ms(9000));
    assert_eq!(sim.one_owner_each(), Ok(()), "{nodes} speakers, {addresses} addresses");
    let count = |s: &Sim| s.nodes.iter().fold((0, 0), |(p, b), n| (p + n.packets, b + n.bytes));
    let before = count(&sim);
    sim.run(ms(2000));
    let after = count(&sim);
    let per = |n: u64| n / 2 / nodes as u64;
    let cost = (per(after.0 - before.0), per(after.1 - before.1));
    println!("{nodes} speakers, {addresses} addresses: {} packets and {} octets a second and speaker", cost.0, cost.1);
    cost
}

#[test]
fn the_cost_grows_with_speakers_and_not_with_addresses() {
    for nodes in [3, 10] {
        let (one, many) = (cost(nodes, 1), cost(nodes, 1000));
        // One more round of requests and answers with three acceptors, at every heartbeat.
        assert!(many.0 <= one.0 + 3 * 2 * 8, "{nodes}");
    }
}
