//! Speakers on a network that loses, delays, doubles and reorders, with clocks that drift, disks and a segment that can
//! be asked; all from one seed, so that every run repeats exactly. Two that answer for one address are found in the
//! moment when the second begins to, and at every millisecond.

mod checks;

use engine::{Engine, Tick};
use lease::{Address, Config, Effect, Epoch, EpochId, Input, Key, Lease, Partition, Preset, Start};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const KEY: &[u8] = b"0123456789abcdef";
const MS: Duration = Duration::from_millis(1);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn ip(n: usize) -> IpAddr {
    if n % 4 == 3 {
        IpAddr::V6((0x2001_0db8_u128 << 96 | n as u128).into())
    } else {
        IpAddr::V4((0x0a01_0000 + n as u32).into())
    }
}

pub fn name(n: usize) -> String {
    format!("node-{n}")
}

pub fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 1000 + n as u16))
}

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct Net {
    /// Of 1000 packets so many are lost, so many come twice, and so many are late by up to a second.
    pub loss: u64,
    pub doubled: u64,
    pub late: u64,
    /// In microseconds.
    pub delay: std::ops::RangeInclusive<u64>,
    /// From whom to whom nothing passes, neither datagrams nor questions for an address.
    pub cut: BTreeSet<(usize, usize)>,
    /// From whom to whom only datagrams do not pass.
    pub blocked: BTreeSet<(usize, usize)>,
}

impl Default for Net {
    fn default() -> Net {
        let (cut, blocked) = Default::default();
        Net { loss: 0, doubled: 0, late: 0, delay: 100..=1000, cut, blocked }
    }
}

pub struct Node {
    pub engine: Option<Lease>,
    pub config: Config,
    /// The epoch on its disk.
    pub disk: Option<EpochId>,
    pub owned: BTreeSet<IpAddr>,
    pub log: Vec<(Tick, Effect)>,
    pub packets: u64,
    pub bytes: u64,
    pub fault: Option<lease::Fault>,
    offset: u64,
    /// Millionths by which its clock is too fast.
    ppm: i64,
    paused_until: Option<Tick>,
    inbox: Vec<Input>,
    timer: Option<Tick>,
    life: u64,
    boots: u128,
    spins: u32,
    /// Of the presets that it has heard of.
    slowest: Preset,
}

#[derive(Debug)]
enum Event {
    Packet { to: usize, from: SocketAddr, bytes: Vec<u8> },
    Timer { n: usize, at: Tick },
    Resume { n: usize, life: u64 },
    Later { n: usize, life: u64, input: Box<Input>, disk: bool },
}

pub struct Sim {
    pub now: Tick,
    pub rng: fastrand::Rng,
    pub net: Net,
    pub nodes: Vec<Node>,
    /// All epochs that there were, the newest last, and when a majority of its predecessor had confirmed it.
    pub epochs: Vec<Epoch>,
    confirmed_at: Option<Tick>,
    /// Since when nothing is wrong.
    pub calm: Tick,
    owners: BTreeMap<IpAddr, Vec<usize>>,
    doubled: BTreeSet<IpAddr>,
    queue: BTreeMap<(Tick, u64), Event>,
    events: u64,
    next_check: Tick,
    pub checks: u64,
    pub found: Option<String>,
}

impl Sim {
    /// `members` of the nodes are the first acceptors.
    pub fn new(seed: u64, nodes: usize, members: usize) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let epoch = Epoch::new(1, (0..members).map(name));
        let mut node = |n: usize| {
            let peers = (0..nodes).filter(|p| *p != n).map(|p| (name(p), vec![addr(p)])).collect();
            let keys = vec![Key::new(KEY)];
            let config = Config { node: name(n), peers, keys, epoch: epoch.clone(), ..Config::default() };
            Node {
                engine: None,
                config,
                disk: None,
                owned: BTreeSet::new(),
                log: Vec::new(),
                packets: 0,
                bytes: 0,
                fault: None,
                offset: rng.u64(0..1_000_000_000_000_000),
                ppm: rng.i64(-1000..=1000),
                paused_until: None,
                inbox: Vec::new(),
                timer: None,
                life: 0,
                boots: 0,
                spins: 0,
                slowest: Preset::Fast,
            }
        };
        let nodes = (0..nodes).map(&mut node).collect();
        Sim {
            now: Tick::ZERO,
            rng,
            net: Net::default(),
            nodes,
            epochs: vec![epoch],
            confirmed_at: None,
            calm: Tick::ZERO,
            owners: BTreeMap::new(),
            doubled: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            next_check: Tick::ZERO,
            checks: 0,
            found: None,
        }
    }

    /// `nodes` speakers, `members` of them acceptors, that all may own `addresses` addresses, started and settled.
    pub fn settled(seed: u64, (nodes, members): (usize, usize), addresses: usize, preset: Preset) -> Sim {
        let mut sim = Sim::new(seed, nodes, members);
        (0..addresses).for_each(|a| sim.allow(a, 0..nodes, preset, Partition::Available));
        (0..nodes).for_each(|n| sim.start(n));
        sim.run(ms(9000));
        assert_eq!(sim.one_owner_each(), Ok(()));
        sim
    }

    pub fn local(&self, n: usize) -> Tick {
        let node = &self.nodes[n];
        Tick((self.now.0 as i128 * i128::from(1_000_000 + node.ppm) / 1_000_000) as u64 + node.offset)
    }

    fn global(&self, n: usize, local: Tick) -> Tick {
        let node = &self.nodes[n];
        let since = i128::from(local.0.saturating_sub(node.offset));
        Tick((since * 1_000_000 / i128::from(1_000_000 + node.ppm) + 1) as u64)
    }

    /// In the configurations from now on, these nodes may own the address. To be told with `configure`.
    pub fn allow(
        &mut self,
        address: usize,
        candidates: impl IntoIterator<Item = usize>,
        preset: Preset,
        partition: Partition,
    ) {
        let candidates = Arc::new(candidates.into_iter().map(name).collect());
        let wanted = Address { candidates, preset, partition };
        self.nodes.iter_mut().for_each(|n| drop(n.config.addresses.insert(ip(address), wanted.clone())));
    }

    /// Something goes wrong now.
    pub fn disturbed(&mut self) {
        self.calm = self.now;
    }

    pub fn start(&mut self, n: usize) {
        self.disturbed();
        let rng = self.rng.fork();
        let node = &mut self.nodes[n];
        if node.fault != Some(lease::Fault::NumbersStartAgain) || node.boots == 0 {
            node.boots = self.rng.u128(1..);
        }
        let start = Start { boot: node.boots, recorded: node.disk };
        node.engine = Some(Lease::with_fault(start, rng, node.fault));
        (node.paused_until, node.timer) = (None, None);
        node.inbox.clear();
        node.life += 1;
        self.configure(n);
    }

    pub fn configure(&mut self, n: usize) {
        let config = Box::new(self.nodes[n].config.clone());
        let slowest = config.addresses.values().map(|a| a.preset).max().unwrap_or_default();
        self.nodes[n].slowest = slowest.max(self.nodes[n].slowest);
        self.input(n, Input::Configure(config));
    }

    pub fn configure_all(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.configure(n));
    }

    /// It is gone without a word.
    pub fn kill(&mut self, n: usize) {
        self.disturbed();
        let owned = std::mem::take(&mut self.nodes[n].owned);
        owned.iter().for_each(|a| self.lost(n, *a));
        let node = &mut self.nodes[n];
        (node.engine, node.paused_until, node.timer) = (None, None, None);
        node.inbox.clear();
        node.life += 1;
    }

    /// It neither runs nor loses what comes in.
    pub fn pause(&mut self, n: usize, time: Duration) {
        self.disturbed();
        self.nodes[n].paused_until = Some(self.now + time);
        let life = self.nodes[n].life;
        self.push(self.now + time, Event::Resume { n, life });
    }

    /// Nothing passes between the two sides.
    pub fn partition(&mut self, side: &BTreeSet<usize>) {
        self.disturbed();
        self.net.cut.clear();
        for a in 0..self.nodes.len() {
            for b in (0..self.nodes.len()).filter(|b| side.contains(&a) != side.contains(b)) {
                self.net.cut.insert((a, b));
            }
        }
    }

    /// What the controller does: one acceptor more or less, when a majority of the previous set has confirmed what is
    /// now, and the longest lease has passed since.
    pub fn change_epoch(&mut self, node: usize) -> bool {
        let Some(current) = self.epochs.last().cloned() else { return false };
        let previous = self.epochs.len().checked_sub(2).and_then(|n| self.epochs.get(n)).unwrap_or(&current);
        let fault = |f| self.nodes[0].fault == Some(f);
        let confirms = |m: &&String| self.confirms(m, current.number);
        if previous.members.iter().filter(confirms).count() < previous.majority() {
            self.confirmed_at = None;
            if !fault(lease::Fault::NextUnconfirmed) {
                return false;
            }
        }
        let since = *self.confirmed_at.get_or_insert(self.now);
        if self.now.since(since) < ms(3010) && !fault(lease::Fault::NextAtOnce) {
            return false;
        }
        let mut next = Epoch { number: current.number + 1, members: current.members.clone() };
        if next.members.contains(&name(node)) {
            if next.members.len() == 1 {
                return false;
            }
            next.members.remove(&name(node));
        } else {
            let ready = self.nodes[node].engine.as_ref().is_some_and(|e| e.view(self.local(node)).ready);
            if next.members.len() == 5 || !ready {
                return false;
            }
            next.members.insert(name(node));
        }
        // Who lost its record is of no use: without a majority that has one nobody could own anything.
        let able = next.members.iter().filter(|m| self.confirms(m, current.number)).count();
        if able < next.majority() {
            return false;
        }
        self.epochs.push(next.clone());
        self.confirmed_at = None;
        self.nodes.iter_mut().for_each(|n| n.config.epoch = next.clone());
        self.disturbed();
        true
    }

    /// It has the record of this epoch or a later one.
    pub fn confirms(&self, node: &str, epoch: u64) -> bool {
        self.disk_of(node).is_some_and(|e| e.number >= epoch)
    }

    fn disk_of(&self, node: &str) -> Option<EpochId> {
        self.nodes.iter().find(|n| n.config.node == node)?.disk
    }

    fn push(&mut self, at: Tick, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    pub fn input(&mut self, n: usize, input: Input) {
        if self.nodes[n].paused_until.is_some() {
            self.nodes[n].inbox.push(input);
            return;
        }
        let local = self.local(n);
        if let Some(engine) = &mut self.nodes[n].engine {
            engine.handle(local, input);
            self.drain(n);
        }
    }

    fn drain(&mut self, n: usize) {
        let now = self.now;
        while let Some(effect) = self.nodes[n].engine.as_mut().and_then(Engine::poll) {
            match effect.clone() {
                Effect::Send { to, bytes } => {
                    self.transmit(n, to, bytes);
                    continue;
                }
                Effect::Own(address) => {
                    assert!(self.nodes[n].owned.insert(address), "{address} is owned twice");
                    let owners = self.owners.entry(address).or_default();
                    owners.push(n);
                    if owners.len() > 1 {
                        self.doubled.insert(address);
                        self.check();
                    }
                }
                Effect::Lose(address, _) => {
                    assert!(self.nodes[n].owned.remove(&address), "{address} was not owned");
                    self.lost(n, address);
                }
                Effect::Record(epoch) => {
                    let at = now + Duration::from_micros(self.rng.u64(100..60_000));
                    let (life, input) = (self.nodes[n].life, Box::new(Input::Recorded(epoch.id())));
                    self.push(at, Event::Later { n, life, input, disk: true });
                }
                Effect::Ask(address) => {
                    let preset = self.nodes[n].config.addresses.get(&address).map(|a| a.preset).unwrap_or_default();
                    let heard = (0..self.nodes.len()).any(|o| o != n && self.answers(o, address) && self.reaches(n, o));
                    let input = Box::new(Input::Wire { address, heard });
                    let life = self.nodes[n].life;
                    self.push(now + preset.lease(), Event::Later { n, life, input, disk: false });
                }
                Effect::Settled(_) | Effect::Alive(_) | Effect::Dead(_) | Effect::Rejected { .. } => {}
            }
            self.nodes[n].log.push((now, effect));
        }
        let Some(engine) = &self.nodes[n].engine else { return };
        assert_eq!(engine.owned(), &self.nodes[n].owned, "effects and state of {n} differ");
        let deadline = engine.deadline();
        let late = deadline.is_some_and(|d| d <= self.local(n));
        let timer = deadline.map(|d| self.global(n, d).max(now));
        self.nodes[n].spins = if late { self.nodes[n].spins + 1 } else { 0 };
        assert!(self.nodes[n].spins < 1000, "{n} is never done");
        if timer != self.nodes[n].timer {
            self.nodes[n].timer = timer;
            if let Some(at) = timer {
                self.push(at, Event::Timer { n, at });
            }
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        !self.net.cut.contains(&(a, b)) && !self.net.cut.contains(&(b, a))
    }

    fn lost(&mut self, n: usize, address: IpAddr) {
        if let Some(owners) = self.owners.get_mut(&address) {
            owners.retain(|o| *o != n);
            if owners.len() < 2 {
                self.doubled.remove(&address);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= lease::MAX_PACKET);
        self.nodes[from].packets += 1;
        self.nodes[from].bytes += bytes.len() as u64;
        let to = usize::from(to.port() - 1000);
        let copies = 1 + u64::from(self.rng.u64(0..1000) < self.net.doubled);
        for _ in 0..copies {
            let cut = self.net.cut.contains(&(from, to)) || self.net.blocked.contains(&(from, to));
            if cut || self.rng.u64(0..1000) < self.net.loss {
                continue;
            }
            let late = if self.rng.u64(0..1000) < self.net.late { self.rng.u64(0..1_000_000) } else { 0 };
            let at = self.now + Duration::from_micros(self.rng.u64(self.net.delay.clone()) + late);
            self.push(at, Event::Packet { to, from: addr(from), bytes: bytes.clone() });
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until it holds; how long that took. None after `most`.
    pub fn run_until(&mut self, most: Duration, holds: impl Fn(&Sim) -> bool) -> Option<Duration> {
        let start = self.now;
        while !holds(self) {
            if self.now >= start + most {
                return None;
            }
            self.step(start + most);
        }
        Some(self.now.since(start))
    }

    fn step(&mut self, until: Tick) -> bool {
        if self.found.is_some() {
            self.now = until;
            return false;
        }
        let next = self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until);
        let next = next.unwrap_or(until);
        while self.next_check <= next {
            self.now = self.now.max(self.next_check);
            self.next_check = self.next_check + MS;
            self.check();
        }
        self.now = self.now.max(next);
        let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= until) else { return false };
        match entry.remove() {
            Event::Packet { to, from, bytes } => self.input(to, Input::Packet { from, bytes }),
            Event::Timer { n, at } => {
                if self.nodes[n].timer == Some(at) && self.nodes[n].paused_until.is_none() {
                    self.nodes[n].timer = None;
                    self.timeout(n);
                }
            }
            Event::Resume { n, life } => {
                if self.nodes[n].life == life && self.nodes[n].paused_until.is_some_and(|t| t <= self.now) {
                    self.resume(n);
                }
            }
            Event::Later { n, life, input, disk } => {
                // What was on its way to the disk may or may not be there after a crash.
                if let (true, Input::Recorded(epoch)) = (disk, &*input)
                    && (self.nodes[n].life == life || self.rng.bool())
                    && self.nodes[n].disk.is_none_or(|d| d.number < epoch.number)
                {
                    self.nodes[n].disk = Some(*epoch);
                }
                if self.nodes[n].life == life {
                    self.input(n, *input);
                }
            }
        }
        true
    }

    fn resume(&mut self, n: usize) {
        self.disturbed();
        self.nodes[n].paused_until = None;
        // Timers or packets, whatever the loop looks at first.
        if self.rng.bool() {
            self.timeout(n);
        }
        for input in std::mem::take(&mut self.nodes[n].inbox) {
            self.input(n, input);
        }
        self.timeout(n);
    }

    fn timeout(&mut self, n: usize) {
        let local = self.local(n);
        if let Some(engine) = &mut self.nodes[n].engine {
            engine.timeout(local);
            self.drain(n);
        }
    }
}
