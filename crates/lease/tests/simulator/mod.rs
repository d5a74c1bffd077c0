//! Speakers on a network that loses, delays, doubles and reorders, with clocks of their own, that are paused, killed
//! and started again; all from one seed, so that every run repeats exactly.

#![allow(dead_code)] // each test file uses a part of it

use engine::{Engine, Tick};
use oxelb_lease::{Config, Effect, Input, Key, Lease, Reason, Reject};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub const KEY: &[u8] = b"0123456789abcdef";

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn ip(n: usize) -> IpAddr {
    if n % 4 == 3 {
        IpAddr::V6((0x2001_0db8_u128 << 96 | n as u128).into())
    } else {
        IpAddr::V4((0xc633_6400 + n as u32).into())
    }
}

pub fn name(n: usize) -> String {
    format!("node-{n}")
}

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct Net {
    /// Of 100 packets so many are lost, and so many come twice.
    pub loss: u64,
    pub doubled: u64,
    pub delay: std::ops::RangeInclusive<u64>, // microseconds
    /// From whom to whom nothing passes.
    pub cut: BTreeSet<(usize, usize)>,
}

impl Default for Net {
    fn default() -> Net {
        Net { loss: 0, doubled: 0, delay: 100..=1000, cut: BTreeSet::new() }
    }
}

pub struct Node {
    pub engine: Option<Lease>,
    pub config: Config,
    /// What its effects said.
    pub owned: BTreeSet<IpAddr>,
    pub log: Vec<(Tick, Effect)>,
    pub bytes: u64,
    offset: Duration,
    paused_until: Option<Tick>,
    inbox: Vec<(SocketAddr, Vec<u8>)>,
}

pub struct Sim {
    pub now: Tick,
    pub rng: fastrand::Rng,
    pub net: Net,
    pub nodes: Vec<Node>,
    /// Packets by the time at which they arrive.
    queue: BTreeMap<(Tick, u64), (usize, SocketAddr, Vec<u8>)>,
    sent: u64,
    /// Every packet that passed is kept for who wants to replay it.
    pub tap: Option<Vec<(usize, SocketAddr, Vec<u8>)>>,
}

impl Sim {
    pub fn new(seed: u64, nodes: usize) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let node = |n: usize, rng: &mut fastrand::Rng| {
            let peers = (0..nodes).filter(|p| *p != n).map(|p| (name(p), addr(p))).collect();
            let config = Config { node: name(n), peers, keys: vec![Key::new(KEY)], ..Config::default() };
            let (owned, log, inbox) = Default::default();
            let offset = ms(rng.u64(0..1_000_000_000));
            Node { engine: None, config, owned, log, bytes: 0, offset, paused_until: None, inbox }
        };
        let nodes = (0..nodes).map(|n| node(n, &mut rng)).collect();
        Sim { now: Tick::ZERO, rng, net: Net::default(), nodes, queue: BTreeMap::new(), sent: 0, tap: None }
    }

    /// `nodes` speakers that all may own `addresses` addresses, started and settled.
    pub fn settled(seed: u64, nodes: usize, addresses: usize) -> Sim {
        let mut sim = Sim::new(seed, nodes);
        (0..addresses).for_each(|a| sim.allow(a, 0..nodes));
        (0..nodes).for_each(|n| sim.start(n));
        sim.run(ms(2000));
        sim.assert_one_owner_each();
        sim
    }

    /// In the configurations from now on, these nodes may own the address. To be told with `configure`.
    pub fn allow(&mut self, address: usize, candidates: impl IntoIterator<Item = usize>) {
        let candidates: Arc<BTreeSet<String>> = Arc::new(candidates.into_iter().map(name).collect());
        self.nodes.iter_mut().for_each(|n| drop(n.config.candidates.insert(ip(address), candidates.clone())));
    }

    pub fn start(&mut self, n: usize) {
        // Seconds since 1970 that rise with the time, as on a real node.
        let boot = u128::from(1_000_000 + self.now.0 / 1_000_000_000) << 64 | u128::from(self.rng.u64(..));
        self.start_as(n, boot);
    }

    pub fn start_as(&mut self, n: usize, boot: u128) {
        let rng = self.rng.fork();
        let node = &mut self.nodes[n];
        node.engine = Some(Lease::new(boot, rng));
        node.owned.clear();
        self.configure(n);
    }

    pub fn configure(&mut self, n: usize) {
        let config = Box::new(self.nodes[n].config.clone());
        self.handle(n, Input::Configure(config));
    }

    pub fn configure_all(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.configure(n));
    }

    /// It is gone without a word.
    pub fn kill(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.engine, node.paused_until) = (None, None);
        node.owned.clear();
        node.inbox.clear();
    }

    pub fn leave(&mut self, n: usize) {
        self.handle(n, Input::Leave);
    }

    /// It neither runs nor loses what comes in.
    pub fn pause(&mut self, n: usize, time: Duration) {
        self.nodes[n].paused_until = Some(self.now + time);
    }

    /// Nothing passes between the two sides.
    pub fn partition(&mut self, side: &BTreeSet<usize>) {
        for a in 0..self.nodes.len() {
            for b in (0..self.nodes.len()).filter(|b| side.contains(&a) != side.contains(b)) {
                self.net.cut.insert((a, b));
            }
        }
    }

    pub fn handle(&mut self, n: usize, input: Input) {
        let local = self.now + self.nodes[n].offset;
        if let Some(engine) = &mut self.nodes[n].engine {
            engine.handle(local, input);
            self.drain(n);
        }
    }

    fn drain(&mut self, n: usize) {
        let now = self.now;
        let local = now + self.nodes[n].offset;
        while let Some(effect) = self.nodes[n].engine.as_mut().and_then(Engine::poll) {
            let node = &mut self.nodes[n];
            match &effect {
                Effect::Send { to, bytes } => {
                    assert!(bytes.len() <= oxelb_lease::MAX_PACKET);
                    node.bytes += bytes.len() as u64;
                    self.transmit(n, *to, bytes);
                    continue;
                }
                Effect::Own(address) => assert!(node.owned.insert(*address), "{address} is owned twice"),
                Effect::Lose(address, _) => assert!(node.owned.remove(address), "{address} was not owned"),
                Effect::Settled(address) => assert!(node.owned.contains(address)),
                Effect::Alive(_) | Effect::Dead(_) | Effect::Rejected { .. } => {}
            }
            self.nodes[n].log.push((now, effect));
        }
        let node = &self.nodes[n];
        let Some(engine) = &node.engine else { return };
        assert_eq!(engine.owned(), &node.owned, "effects and state of {n} differ");
        assert!(engine.deadline().is_none_or(|d| d > local), "{n} has not done what was due");
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, bytes: &[u8]) {
        let to = usize::from(to.port() - 1000);
        if let Some(tap) = &mut self.tap {
            tap.push((to, addr(from), bytes.to_vec()));
        }
        let copies = 1 + u64::from(self.rng.u64(0..100) < self.net.doubled);
        for _ in 0..copies {
            if self.rng.u64(0..100) < self.net.loss || self.net.cut.contains(&(from, to)) {
                continue;
            }
            self.sent += 1;
            let at = self.now + Duration::from_micros(self.rng.u64(self.net.delay.clone()));
            self.queue.insert((at, self.sent), (to, addr(from), bytes.to_vec()));
        }
    }

    fn deadline(&self, n: usize) -> Option<Tick> {
        let node = &self.nodes[n];
        let deadline = node.engine.as_ref()?.deadline()? - node.offset;
        Some(node.paused_until.map_or(deadline, |until| until.max(deadline)))
    }

    fn step(&mut self, until: Tick) -> bool {
        let packet = self.queue.first_key_value().map(|((at, _), _)| *at);
        let resumes = |n: &usize| self.nodes[*n].paused_until.is_some();
        let resume = (0..self.nodes.len()).filter(resumes).filter_map(|n| Some((self.nodes[n].paused_until?, n))).min();
        let timer = (0..self.nodes.len()).filter_map(|n| Some((self.deadline(n)?, n))).min();
        let next = [packet, resume.map(|r| r.0), timer.map(|t| t.0)].into_iter().flatten().min();
        let Some(next) = next.filter(|t| *t <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        if let Some((_, n)) = resume.filter(|r| r.0 <= next) {
            self.nodes[n].paused_until = None;
            // Timers or packets, whatever the loop looks at first.
            if self.rng.bool() {
                self.timeout(n);
            }
            for (from, bytes) in std::mem::take(&mut self.nodes[n].inbox) {
                self.handle(n, Input::Packet { from, bytes });
            }
        } else if packet == Some(next) {
            let Some((_, (to, from, bytes))) = self.queue.pop_first() else { return false };
            if self.nodes[to].paused_until.is_some() {
                self.nodes[to].inbox.push((from, bytes));
            } else {
                self.handle(to, Input::Packet { from, bytes });
            }
        } else if let Some((_, n)) = timer {
            self.timeout(n);
        }
        true
    }

    fn timeout(&mut self, n: usize) {
        let local = self.now + self.nodes[n].offset;
        if let Some(engine) = &mut self.nodes[n].engine {
            engine.timeout(local);
            self.drain(n);
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until it holds; how long that took. Panics after `most`.
    pub fn run_until(&mut self, most: Duration, what: &str, holds: impl Fn(&Sim) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.now < start + most, "not within {most:?}: {what}");
            self.step(start + most);
        }
        self.now.since(start)
    }

    pub fn owners(&self, address: IpAddr) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].owned.contains(&address)).collect()
    }

    /// Who owns what, all of it.
    pub fn all(&self) -> Vec<BTreeSet<IpAddr>> {
        self.nodes.iter().map(|n| n.owned.clone()).collect()
    }

    /// By the configuration of the first node that runs: addresses with a running candidate that can announce them.
    pub fn wanted(&self) -> BTreeMap<IpAddr, Vec<usize>> {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|n| self.runs(*n)).collect();
        let Some(first) = running.first() else { return BTreeMap::new() };
        let candidates = self.nodes[*first].config.candidates.iter().map(|(a, c)| {
            let able = |n: &&usize| c.contains(&name(**n)) && !self.nodes[**n].config.unable.contains(a);
            (*a, running.iter().filter(able).copied().collect::<Vec<_>>())
        });
        candidates.filter(|(_, c)| !c.is_empty()).collect()
    }

    pub fn runs(&self, n: usize) -> bool {
        self.nodes[n].engine.as_ref().is_some_and(|e| e.deadline().is_some())
    }

    pub fn one_owner_each(&self) -> Result<(), String> {
        let wanted = self.wanted();
        for (address, candidates) in &wanted {
            let owners = self.owners(*address);
            if owners.len() != 1 || !candidates.contains(&owners[0]) {
                return Err(format!("{address} has owners {owners:?} and candidates {candidates:?}"));
            }
        }
        for (n, node) in self.nodes.iter().enumerate() {
            if let Some(address) = node.owned.iter().find(|a| !wanted.contains_key(a)) {
                return Err(format!("{n} owns {address} without being asked"));
            }
        }
        Ok(())
    }

    pub fn assert_one_owner_each(&self) {
        assert_eq!(self.one_owner_each(), Ok(()));
    }

    pub fn lost(&self, n: usize) -> Vec<(IpAddr, Reason)> {
        let lost = |(_, e): &(Tick, Effect)| if let Effect::Lose(a, r) = e { Some((*a, r.clone())) } else { None };
        self.nodes[n].log.iter().filter_map(lost).collect()
    }

    pub fn rejected(&self, n: usize) -> Vec<Reject> {
        let r =
            |(_, e): &(Tick, Effect)| if let Effect::Rejected { reason, .. } = e { Some(reason.clone()) } else { None };
        self.nodes[n].log.iter().filter_map(r).collect()
    }
}

pub fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 1000 + n as u16))
}
