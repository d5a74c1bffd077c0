//! Many faults at once, from a seed; when they stop, every address has exactly one owner, and it stays.

mod simulator;

use oxelb_lease::Key;
use simulator::{Net, Sim, ip, ms, name};

/// Runs from this seed only: `OXELB_SEED=7 cargo test -p oxelb-lease --test chaos`.
const SEED: &str = "OXELB_SEED";
const SEEDS: u64 = 60;

fn seeds() -> Vec<u64> {
    match std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..SEEDS).collect(),
    }
}

fn random_candidates(sim: &mut Sim, nodes: usize) -> Vec<usize> {
    if sim.rng.u8(0..4) > 0 { (0..nodes).collect() } else { (0..nodes).filter(|_| sim.rng.bool()).collect() }
}

/// One fault, or one change by a user.
fn disturb(sim: &mut Sim, nodes: usize, addresses: &mut usize) {
    let n = sim.rng.usize(0..nodes);
    match sim.rng.u8(0..12) {
        0 => {
            let loss = sim.rng.u64(0..40);
            let most = sim.rng.u64(1_000..200_000);
            sim.net = Net { loss, doubled: sim.rng.u64(0..20), delay: 50..=most, cut: sim.net.cut.clone() };
        }
        1 => {
            let side = (0..nodes).filter(|_| sim.rng.bool()).collect();
            sim.partition(&side);
        }
        2 => {
            // One way only.
            let to = sim.rng.usize(0..nodes);
            sim.net.cut.insert((n, to));
        }
        3 | 4 => sim.net.cut.clear(),
        5 => sim.kill(n),
        6 => sim.leave(n),
        7 | 8 => {
            sim.kill(n);
            sim.start(n);
        }
        9 => {
            let time = ms(sim.rng.u64(0..3000));
            sim.pause(n, time);
        }
        10 => {
            let candidates = random_candidates(sim, nodes);
            let address = if sim.rng.bool() { sim.rng.usize(0..*addresses) } else { *addresses };
            *addresses = (*addresses).max(address + 1);
            sim.allow(address, candidates);
            sim.configure(n); // the others learn it later
        }
        _ => {
            let able = sim.rng.bool();
            let some = sim.rng.usize(0..*addresses);
            sim.nodes[n].config.unable = (0..some).filter(|_| able).map(ip).collect();
            sim.configure(n);
        }
    }
}

fn survive(seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed, 0);
    let nodes = sim.rng.usize(1..=12) + if seed.is_multiple_of(10) { 8 } else { 0 };
    let mut addresses = sim.rng.usize(1..=200);
    sim = Sim::new(seed, nodes);
    for a in 0..addresses {
        let candidates = random_candidates(&mut sim, nodes);
        sim.allow(a, candidates);
    }
    for n in 0..nodes {
        sim.start(n);
        let wait = ms(sim.rng.u64(0..300));
        sim.run(wait);
    }
    let faults = sim.rng.u64(5..40);
    for _ in 0..faults {
        disturb(&mut sim, nodes, &mut addresses);
        let wait = ms(sim.rng.u64(0..800));
        sim.run(wait);
    }
    // All is well from here on.
    sim.net = Net::default();
    sim.configure_all();
    (0..nodes)
        .filter(|n| !sim.runs(*n))
        .collect::<Vec<_>>()
        .into_iter()
        .filter(|n| n % 3 > 0 || *n == 0)
        .for_each(|n| sim.start(n));
    sim.run(ms(3000)); // the longest pause
    sim.run(ms(2500));
    sim.one_owner_each()?;
    let before = sim.all();
    sim.run(ms(3000));
    if sim.all() == before { Ok(()) } else { Err("addresses moved although nothing happened".to_owned()) }
}

#[test]
fn when_faults_stop_every_address_has_exactly_one_owner() {
    for seed in seeds() {
        let run = std::panic::catch_unwind(|| survive(seed)).unwrap_or_else(|_| Err("see the panic above".to_owned()));
        if let Err(error) = run {
            panic!("seed {seed}: {error}\nreplay it: {SEED}={seed} cargo test -p oxelb-lease --test chaos");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut sim = Sim::settled(42, 5, 60);
        sim.net.loss = 20;
        sim.net.doubled = 10;
        sim.nodes[1].config.keys = vec![Key::new(*b"a key that nobody has")];
        sim.configure(1);
        sim.run(ms(5000));
        (sim.all(), sim.nodes.iter().map(|n| (n.log.clone(), n.bytes)).collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
    assert!(run().1.iter().any(|(log, _)| log.iter().any(|(_, e)| *e == oxelb_lease::Effect::Dead(name(1)))));
}
