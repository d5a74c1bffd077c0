//! Several routers on one link: virtual time, seeded loss, delay, pauses and restarts. What came in while a router was
//! paused is given to it before its timers, as the engine asks for.

use super::*;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub struct Node {
    pub engine: Option<Router>,
    pub config: Config,
    /// What its effects say.
    pub state: State,
    /// Its clock is ahead by so much.
    offset: Duration,
    paused_until: Option<Tick>,
    inbox: Vec<(Meta, Vec<u8>)>,
    pub log: Vec<(Tick, Effect)>,
}

pub struct Sim {
    pub now: Tick,
    pub rng: fastrand::Rng,
    /// Percent of packets that are lost, for each receiver.
    pub loss: u64,
    /// Microseconds.
    pub delay: RangeInclusive<u64>,
    pub nodes: Vec<Node>,
    queue: BTreeMap<(Tick, u64), (usize, Meta, Vec<u8>)>,
    /// When the last packet arrives, by sender and receiver: a link keeps the order.
    last: BTreeMap<(usize, usize), Tick>,
    sent: u64,
}

impl Sim {
    pub fn new(seed: u64, configs: impl IntoIterator<Item = Config>) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let node = |config| Node {
            engine: None,
            config,
            state: State::Stopped,
            offset: ms(rng.u64(0..1_000_000)),
            paused_until: None,
            inbox: Vec::new(),
            log: Vec::new(),
        };
        let nodes = configs.into_iter().map(node).collect();
        Sim {
            now: Tick::ZERO,
            rng,
            loss: 0,
            delay: 20..=2000,
            nodes,
            queue: BTreeMap::new(),
            last: BTreeMap::new(),
            sent: 0,
        }
    }

    pub fn start(&mut self, n: usize) {
        let rng = self.rng.fork();
        let node = &mut self.nodes[n];
        node.engine = Some(Router::new(node.config.clone(), rng));
        node.state = State::Stopped;
        self.handle(n, Input::Start);
    }

    /// It is gone without a word.
    pub fn kill(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.engine, node.paused_until, node.state) = (None, None, State::Stopped);
        node.inbox.clear();
    }

    pub fn pause(&mut self, n: usize, time: Duration) {
        self.nodes[n].paused_until = Some(self.now + time);
    }

    pub fn handle(&mut self, n: usize, input: Input) {
        let local = self.now + self.nodes[n].offset;
        if let Some(engine) = &mut self.nodes[n].engine {
            engine.handle(local, input);
            self.drain(n);
        }
    }

    fn drain(&mut self, n: usize) {
        while let Some(effect) = self.nodes[n].engine.as_mut().and_then(Engine::poll) {
            if let Effect::Send { to, message } = &effect {
                self.transmit(n, *to, message);
            }
            let node = &mut self.nodes[n];
            if let Effect::Become(state) = effect {
                assert_ne!(state, node.state, "it becomes what it is");
                node.state = state;
            }
            node.log.push((self.now, effect));
        }
        let node = &self.nodes[n];
        let Some(engine) = &node.engine else { return };
        assert_eq!(engine.state(), node.state, "effects and state of {n} differ");
        assert!(engine.deadline().is_none_or(|d| d > self.now + node.offset), "{n} has not done what was due");
    }

    fn transmit(&mut self, from: usize, to: IpAddr, message: &[u8]) {
        let meta = Meta { source: self.nodes[from].config.source, destination: to, ttl: TTL };
        for receiver in 0..self.nodes.len() {
            let hears = to.is_multicast() && receiver != from || to == self.nodes[receiver].config.source;
            if hears && self.rng.u64(0..100) >= self.loss {
                self.sent += 1;
                let when = self.now + Duration::from_micros(self.rng.u64(self.delay.clone()));
                let last = self.last.entry((from, receiver)).or_default();
                let when = when.max(*last);
                *last = when;
                self.queue.insert((when, self.sent), (receiver, meta, message.to_vec()));
            }
        }
    }

    fn wakes(&self, n: usize) -> Option<Tick> {
        let node = &self.nodes[n];
        if node.paused_until.is_some() {
            return node.paused_until;
        }
        Some(node.engine.as_ref()?.deadline()? - node.offset)
    }

    fn step(&mut self, until: Tick) -> bool {
        let packet = self.queue.first_key_value().map(|((when, _), _)| *when);
        let timer = (0..self.nodes.len()).filter_map(|n| Some((self.wakes(n)?, n))).min();
        let Some(next) = packet.into_iter().chain(timer.map(|t| t.0)).min().filter(|t| *t <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if packet == Some(next) {
            let Some((_, (to, meta, message))) = self.queue.pop_first() else { return false };
            if self.nodes[to].paused_until.is_some() {
                self.nodes[to].inbox.push((meta, message));
            } else {
                self.handle(to, Input::Packet { meta, message });
            }
        } else if let Some((_, n)) = timer {
            self.nodes[n].paused_until = None;
            for (meta, message) in std::mem::take(&mut self.nodes[n].inbox) {
                self.handle(n, Input::Packet { meta, message });
            }
            let local = self.now + self.nodes[n].offset;
            if let Some(engine) = &mut self.nodes[n].engine {
                engine.timeout(local);
                self.drain(n);
            }
        }
        true
    }

    pub fn run(&mut self, time: Duration) {
        self.run_while(time, |_| Ok(())).unwrap();
    }

    /// Runs as long as it holds after every step.
    pub fn run_while(&mut self, time: Duration, holds: impl Fn(&Sim) -> Result<(), String>) -> Result<(), String> {
        let until = self.now + time;
        holds(self)?;
        while self.step(until) {
            holds(self)?;
        }
        Ok(())
    }

    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].state == State::Master).collect()
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].engine.is_some()).collect()
    }

    /// What VRRP wants when all preempt: the highest priority, of equal ones the highest address.
    pub fn best(&self) -> Option<usize> {
        self.running().into_iter().max_by_key(|n| (self.nodes[*n].config.priority, self.nodes[*n].config.source))
    }

    pub fn one_master(&self) -> Result<(), String> {
        match self.masters()[..] {
            [_] => Ok(()),
            ref other => Err(format!("at {:?} masters are {other:?}", Duration::from_nanos(self.now.0))),
        }
    }
}

/// Of node `n` in a group of a given kind.
pub fn member(n: usize, rng: &mut fastrand::Rng, kind: usize, nodes: usize) -> Config {
    let v6 = kind == 2;
    let source = |n: usize| if v6 { format!("fe80::{:x}", n + 1) } else { format!("10.0.0.{}", n + 1) };
    config(|s| {
        s.source = ip(&source(n));
        s.addresses = if v6 { vec![ip("fe80::ff"), ip("2001:db8::1")] } else { vec![ip("198.51.100.10")] };
        s.version = if kind == 0 { Version::V2 } else { Version::V3 };
        if kind == 3 {
            s.peers = (0..nodes).filter(|p| *p != n).map(|p| ip(&source(p))).collect();
        }
    })
    .with(|s| s.priority = any_priority(n, rng))
}

/// No two nodes have the same: of equal ones the first to come stays, and that is a test of its own.
pub fn any_priority(n: usize, rng: &mut fastrand::Rng) -> Priority {
    priority(rng.u8(0..=41) * 6 + 1 + n as u8)
}

/// The same with something changed.
pub trait With {
    fn with(self, change: impl FnMut(&mut Settings)) -> Self;
}

impl With for Config {
    fn with(self, mut change: impl FnMut(&mut Settings)) -> Config {
        let mut settings = Settings::from(self);
        change(&mut settings);
        Config::new(settings).unwrap()
    }
}
