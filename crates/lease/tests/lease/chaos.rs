//! Many faults at once, from a seed: never two that answer; and when the faults stop, every address has one owner, and
//! gets another within the time of its preset when that one dies.

use crate::simulator::{Net, Sim, ip, ms, name};
use lease::{Fault, Input, Partition, Preset, Sight};
use std::collections::BTreeSet;
use std::time::Duration;

/// Runs from this seed only: `OXELB_SEED=7 cargo test -p oxelb-lease --test lease chaos`. A range such as
/// `0..50000` searches.
const SEED: &str = "OXELB_SEED";
const SEEDS: u64 = 200;

pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var(SEED) else { return 0..usual };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => text.parse().map(|seed: u64| seed..seed + 1).unwrap(),
    }
}

/// One run: its simulation, and what may happen in it.
pub struct Chaos {
    pub sim: Sim,
    nodes: usize,
    addresses: usize,
    pub faults: u64,
}

impl Chaos {
    pub fn new(seed: u64, fault: Option<Fault>) -> Chaos {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (nodes, addresses) = match seed % 200 {
            199 => (100, 2000),
            49 => (rng.usize(20..=40), rng.usize(100..400)),
            _ => (rng.usize(1..=9), rng.usize(1..=30)),
        };
        let members = rng.usize(1..=nodes.min(5));
        let mut sim = Sim::new(rng.u64(..), nodes, members);
        sim.nodes.iter_mut().for_each(|n| n.fault = fault);
        let mut chaos = Chaos { sim, nodes, addresses, faults: 0 };
        (0..addresses).for_each(|a| chaos.allow(a));
        for n in 0..nodes {
            chaos.sim.start(n);
            let wait = ms(chaos.sim.rng.u64(0..300) / nodes as u64);
            chaos.sim.run(wait);
        }
        chaos
    }

    /// Candidates, preset and policy of an address, at random. The policy of an address never changes: what is claimed
    /// of it is not the same for both.
    fn allow(&mut self, address: usize) {
        let rng = &mut self.sim.rng;
        let large = self.nodes > 50;
        let candidates: Vec<usize> = if large || rng.u8(0..4) > 0 {
            (0..self.nodes).collect()
        } else {
            (0..self.nodes).filter(|_| rng.bool()).collect()
        };
        let preset = match rng.u8(0..10) {
            0..3 if self.nodes < 20 => Preset::Fast,
            3 => Preset::Relaxed,
            _ => Preset::Normal,
        };
        let partition = if address.is_multiple_of(2) { Partition::SingleOwner } else { Partition::Available };
        self.sim.allow(address, candidates, preset, partition);
    }

    /// One fault, or one change by a user.
    pub fn disturb(&mut self) {
        self.faults += 1;
        self.sim.disturbed();
        let n = self.sim.rng.usize(0..self.nodes);
        let other = self.sim.rng.usize(0..self.nodes);
        let sim = &mut self.sim;
        // The largest run has enough to do with the first ones.
        match sim.rng.u8(0..if self.nodes > 50 { 22 } else { 25 }) {
            0 => {
                let most = sim.rng.u64(1_000..100_000);
                sim.net.loss = sim.rng.u64(0..300);
                sim.net.doubled = sim.rng.u64(0..200);
                sim.net.late = sim.rng.u64(0..100);
                sim.net.delay = 50..=most;
            }
            1 => sim.net = Net { cut: sim.net.cut.clone(), ..Net::default() },
            2 | 3 => {
                let side = (0..self.nodes).filter(|_| sim.rng.bool()).collect();
                sim.partition(&side);
            }
            4 => drop(sim.net.cut.insert((n, other))),
            5 => drop(sim.net.blocked.insert((n, other))),
            6..9 => {
                sim.net.cut.clear();
                sim.net.blocked.clear();
            }
            9 => sim.kill(n),
            10 | 11 => {
                sim.kill(n);
                sim.start(n);
            }
            12 => self.start_some(),
            13 | 14 => {
                let time = ms(sim.rng.u64(0..3000));
                sim.pause(n, time);
            }
            15 => {
                // A rolling update: each leaves and comes back.
                sim.input(n, Input::Leave);
                sim.run(ms(300));
                self.sim.kill(n);
                self.sim.start(n);
            }
            16 => {
                let some = sim.rng.usize(0..=self.addresses);
                let able = sim.rng.bool();
                sim.nodes[n].config.unable = (0..some).filter(|_| able).map(ip).collect();
                sim.configure(n);
            }
            17 | 18 => {
                if sim.change_epoch(n) {
                    // Others learn it from each other, or later.
                    sim.configure(other);
                }
            }
            19 => {
                let address = sim.rng.usize(0..self.addresses);
                self.allow(address);
                self.sim.configure(n);
            }
            20 => {
                let address = ip(sim.rng.usize(0..self.addresses));
                for owner in sim.owners(address) {
                    sim.input(owner, Input::Release { address, to: name(other) });
                }
            }
            21 | 22 if self.nodes <= 50 => {
                let mut some = || -> BTreeSet<std::net::IpAddr> {
                    // A node says it of what it owns, a part of all.
                    let most = if sim.rng.bool() { sim.rng.usize(0..=self.addresses.min(60)) } else { 0 };
                    (0..most).map(ip).collect()
                };
                let (silent, reached, doubted) = (some(), some(), some());
                let sight = Sight { cut: !silent.is_empty(), silent, reached, doubted };
                sim.input(n, Input::Sight(Box::new(sight)));
            }
            23 if self.nodes <= 50 => {
                // Some addresses go over to another domain, as this node has heard; or they are back.
                let some = sim.rng.usize(0..=self.addresses);
                let away = sim.rng.bool();
                sim.nodes[n].config.elsewhere = (0..some).filter(|_| away).map(ip).collect();
                sim.configure(n);
            }
            _ => sim.input(n, Input::Rebalance),
        }
    }

    fn start_some(&mut self) {
        for n in (0..self.nodes).filter(|n| !self.sim.runs(*n)).collect::<Vec<_>>() {
            if self.sim.rng.bool() {
                self.sim.start(n);
            }
        }
    }

    fn heal(&mut self) {
        self.sim.disturbed();
        self.sim.net = Net::default();
        self.sim.nodes.iter_mut().for_each(|n| n.config.elsewhere.clear());
        self.sim.configure_all();
        (0..self.nodes).for_each(|n| self.sim.input(n, Input::Sight(Box::default())));
        for n in (0..self.nodes).filter(|n| !self.sim.runs(*n)).collect::<Vec<_>>() {
            self.sim.start(n);
        }
    }

    fn found(&self) -> Result<(), String> {
        self.sim.found.clone().map_or(Ok(()), Err)
    }

    pub fn faults(&mut self) -> Result<(), String> {
        let faults = if self.nodes > 50 { 10 } else { self.sim.rng.u64(20..80) };
        for _ in 0..faults {
            self.disturb();
            let longest = if self.sim.rng.u8(0..5) == 0 { 4000 } else { 500 };
            let wait = ms(self.sim.rng.u64(0..longest));
            self.sim.run(wait);
            self.found()?;
        }
        Ok(())
    }
}

fn survive(seed: u64) -> Result<(u64, u64), String> {
    let mut chaos = Chaos::new(seed, None);
    chaos.faults()?;
    chaos.heal();
    chaos.sim.run(ms(3000)); // the longest pause
    chaos.sim.run(ms(18_000));
    chaos.sim.one_owner_each()?;
    let before = chaos.sim.all();
    chaos.sim.run(ms(4000));
    chaos.sim.one_owner_each()?;
    if chaos.sim.all() != before {
        return Err("addresses moved although nothing happened".to_owned());
    }
    chaos.bury_one()?;
    Ok((chaos.faults, chaos.sim.checks))
}

impl Chaos {
    /// Kills a speaker where that leaves a majority; its addresses have other owners as soon as their presets demand.
    fn bury_one(&mut self) -> Result<(), String> {
        let n = self.sim.rng.usize(0..self.nodes);
        let epoch = self.sim.epochs.last().cloned().unwrap_or_default();
        let grants = |m: &&String| **m != name(n) && self.sim.confirms(m, epoch.number);
        let left = epoch.members.iter().filter(grants).count();
        if left < epoch.majority() {
            return Ok(());
        }
        let owned: BTreeSet<_> = self.sim.nodes[n].owned.clone();
        let addresses = self.sim.nodes[n].config.addresses.clone();
        self.sim.kill(n);
        self.faults += 1;
        let mut passed = Duration::ZERO;
        for (preset, within) in [(Preset::Fast, ms(150)), (Preset::Normal, ms(700)), (Preset::Relaxed, ms(3200))] {
            self.sim.run(within - passed);
            passed = within;
            let wanted = self.sim.wanted();
            for address in owned.iter().filter(|a| addresses[*a].preset == preset && wanted.contains_key(*a)) {
                if self.sim.owners(*address).len() != 1 {
                    return Err(format!("{address} has no owner {within:?} after {} died", name(n)));
                }
            }
        }
        self.found()
    }
}

#[test]
fn whatever_happens_at_most_one_answers_and_when_faults_stop_each_address_has_an_owner() {
    let (mut faults, mut checks, mut failed) = (0, 0, Vec::new());
    let seeds = seeds(SEEDS);
    let run =
        |seed| std::panic::catch_unwind(|| survive(seed)).unwrap_or_else(|_| Err("see the panic above".to_owned()));
    let half = |n: u64| seeds.clone().filter(move |s| s % 2 == n).map(|s| (s, run(s))).collect::<Vec<_>>();
    let (even, odd) = std::thread::scope(|scope| {
        let even = scope.spawn(|| half(0));
        (half(1), even.join().unwrap())
    });
    for (seed, result) in even.into_iter().chain(odd) {
        match result {
            Ok((f, c)) => (faults, checks) = (faults + f, checks + c),
            Err(error) => failed.push(format!(
                "seed {seed}: {error}\nreplay it: {SEED}={seed} cargo test -p oxelb-lease --test lease chaos"
            )),
        }
    }
    println!("{faults} faults in {} runs, looked for two owners {checks} times", seeds.end - seeds.start);
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}

/// The model has no wire and no consent; here is the rule that it cannot break.
#[test]
fn without_consent_two_speakers_without_a_majority_answer_and_that_is_noticed() {
    let noticed = |seed, fault| {
        let mut sim = Sim::new(seed, 3, 2);
        sim.nodes.iter_mut().for_each(|n| n.fault = fault);
        // Each of the two that will be left has heard of itself only, and so asks the wire as soon as the other.
        (0..20).for_each(|a| sim.allow(a, 0..1, Preset::Normal, Partition::Available));
        (0..3).for_each(|n| sim.start(n));
        sim.run(ms(9000));
        for n in 1..3 {
            (0..20).for_each(|a| sim.allow(a, n..=n, Preset::Normal, Partition::Available));
            sim.configure(n);
        }
        sim.kill(0);
        sim.run(ms(6000));
        sim.found.is_some()
    };
    assert!((0..20).any(|seed| noticed(seed, Some(Fault::TakeWithoutConsent))));
    assert!(!(0..20).any(|seed| noticed(seed, None)));
}
