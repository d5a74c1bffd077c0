//! The engine. Its states, and what is claimed of it, are at the top of the crate.

use crate::decide::{Decision, PATIENCE, Situation, decide, first};
use crate::packet::{Heard, Kind, Packet, ROOM, Reject, fits};
use crate::peer::{Order, Peer};
use crate::{Config, Effect, Input, Reason};
use engine::{Engine, Tick};
use quorum::rejections::Rejections;
use quorum::statement::{Fragment, Outgoing, Statement};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest time between two heartbeats of a speaker.
pub const HEARTBEAT: Duration = Duration::from_millis(150);
/// A speaker of which nothing was heard for so long is dead: three heartbeats, and a margin for the delay of the third.
pub const DETECTION: Duration = Duration::from_millis(465);

/// A heartbeat leaves up to so much early.
const JITTER: Duration = Duration::from_millis(15);
/// A changed statement is sent at once, but not more often than this.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Who comes so much later than its deadline was paused. After a heartbeat that is 450 ms at most: others cannot have
/// taken anything before.
const LATE: Duration = Duration::from_millis(300);
/// Goodbyes, and the time between them: packets get lost.
const GOODBYES: u32 = 3;
const GOODBYE_EVERY: Duration = Duration::from_millis(20);
/// The parts of the own statement that a peer gets with one heartbeat; one that is silent gets one, because it may hear us.
const PARTS: usize = 32;
const PARTS_UNHEARD: usize = 1;
/// Speakers that are not configured, at most.
const GUESTS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Idle,
    Listening { until: Tick },
    Deciding,
    Left { goodbyes: u32 },
}

/// The engine of one speaker.
#[derive(Debug)]
pub struct Lease {
    boot: u128,
    counter: u64,
    rng: fastrand::Rng,
    phase: Phase,
    config: Config,
    /// For how many addresses each node is a candidate.
    may_own: BTreeMap<String, usize>,
    peers: BTreeMap<String, Peer>,
    /// What it says of itself.
    own: Statement,
    /// `own`, as it is sent.
    outgoing: Outgoing,
    /// `own` is not in `outgoing` yet.
    changed: bool,
    /// Something happened that may lead to another decision.
    dirty: bool,
    contested: BTreeSet<IpAddr>,
    waiting: BTreeMap<IpAddr, Tick>,
    decide_again: Option<Tick>,
    next_heartbeat: Tick,
    last_heartbeat: Option<Tick>,
    /// The first counters of the heartbeats of the last detection time: who has heard one of them hears us.
    recent: VecDeque<(Tick, u64)>,
    rejections: Rejections<Reject>,
    effects: VecDeque<Effect>,
}

/// What a speaker knows of who owns what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The other speakers that are heard.
    pub alive: BTreeSet<String>,
    /// The live speaker, this one included, that claims each address; where several do, the one that will keep it.
    pub owners: BTreeMap<IpAddr, String>,
}

impl Lease {
    /// An engine that waits for its first configuration. `boot` names this start of the process: seconds since 1970 in
    /// the upper half and randomness in the lower, so that a later start has the greater one.
    pub fn new(boot: u128, rng: fastrand::Rng) -> Lease {
        Lease {
            boot,
            counter: 0,
            rng,
            phase: Phase::Idle,
            config: Config::default(),
            may_own: BTreeMap::new(),
            peers: BTreeMap::new(),
            own: Statement::default(),
            outgoing: Outgoing::new(&Statement::default(), ROOM),
            changed: false,
            dirty: false,
            contested: BTreeSet::new(),
            waiting: BTreeMap::new(),
            decide_again: None,
            next_heartbeat: Tick::ZERO,
            last_heartbeat: None,
            recent: VecDeque::new(),
            rejections: Rejections::default(),
            effects: VecDeque::new(),
        }
    }

    /// The addresses that this node owns.
    pub fn owned(&self) -> &BTreeSet<IpAddr> {
        &self.own.owned
    }

    /// Only listens for now: it has just started or was paused, or it has peers but never got a key.
    pub fn listening(&self) -> bool {
        !(self.phase == Phase::Deciding && self.usable())
    }

    /// What it knows of the others.
    pub fn view(&self) -> View {
        let live = || self.peers.iter().filter(|(_, p)| p.alive);
        let mut claims: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for (node, peer) in live() {
            peer.says.owned.iter().for_each(|a| claims.entry(*a).or_default().push(node));
        }
        self.own.owned.iter().for_each(|a| claims.entry(*a).or_default().push(&self.config.node));
        let owner = |(address, claimants): (IpAddr, Vec<&str>)| {
            Some((address, first(address, claimants.into_iter())?.to_owned()))
        };
        View {
            alive: live().map(|(node, _)| node.clone()).collect(),
            owners: claims.into_iter().filter_map(owner).collect(),
        }
    }

    /// Others can be heard, or there are none.
    fn usable(&self) -> bool {
        !self.config.keys.is_empty() || self.config.peers.is_empty()
    }

    fn configure(&mut self, now: Tick, mut config: Config) {
        if matches!(self.phase, Phase::Left { .. }) {
            return;
        }
        let (was_usable, was_alone) = (self.phase != Phase::Idle && self.usable(), self.config.peers.is_empty());
        config.peers.retain(|name, _| fits(name) && *name != config.node);
        config.keys.retain(|key| !key.is_empty());
        config.keys.truncate(2);
        if config.keys.is_empty() {
            config.keys = std::mem::take(&mut self.config.keys);
        }
        let unable = std::mem::take(&mut config.unable).into_iter();
        let candidate = |a: &IpAddr| config.candidates.get(a).is_some_and(|c| c.contains(&config.node));
        let unable: BTreeSet<IpAddr> = unable.filter(candidate).collect();
        self.changed |= self.own.unable != unable;
        self.own.unable = unable;
        self.may_own.clear();
        for node in config.candidates.values().flat_map(|c| c.iter()) {
            match self.may_own.get_mut(node) {
                Some(n) => *n += 1,
                None => drop(self.may_own.insert(node.clone(), 1)),
            }
        }
        self.config = config;
        // A node that was removed may still own addresses: while it speaks, its claims count.
        self.peers.retain(|name, peer| {
            peer.configured = self.config.peers.contains_key(name);
            peer.configured || peer.alive
        });
        for (name, to) in &self.config.peers {
            let peer = self.peers.entry(name.clone()).or_insert_with(|| Peer::new(*to, true, now));
            (peer.to, peer.configured) = (*to, true);
        }
        self.dirty = true;
        if self.usable() && (!was_usable || (was_alone && !self.config.peers.is_empty())) {
            self.listen(now);
        }
    }

    fn listen(&mut self, now: Tick) {
        self.phase = Phase::Listening { until: now + DETECTION };
        self.next_heartbeat = now;
        self.waiting.clear();
        self.decide_again = None;
    }

    fn lose(&mut self, address: IpAddr, reason: Reason) {
        self.own.owned.remove(&address);
        self.contested.remove(&address);
        self.changed = true;
        self.effects.push_back(Effect::Lose(address, reason));
    }

    /// Notices that this speaker was paused, before anything else is done.
    fn wake(&mut self, now: Tick) {
        if !matches!(self.phase, Phase::Listening { .. } | Phase::Deciding)
            || self.deadline().is_none_or(|d| now <= d + LATE)
        {
            return;
        }
        let shared = |address: &&IpAddr| {
            let candidates = self.config.candidates.get(address);
            candidates.is_some_and(|c| c.iter().any(|node| self.peers.contains_key(node)))
        };
        let shared: Vec<IpAddr> = self.own.owned.iter().filter(shared).copied().collect();
        shared.into_iter().for_each(|address| self.lose(address, Reason::Late));
        // It was not they who were silent: we did not listen.
        self.peers.values_mut().for_each(|peer| peer.heard = now);
        self.listen(now);
    }

    fn packet(&mut self, now: Tick, from: SocketAddr, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Listening { .. } | Phase::Deciding) {
            return;
        }
        if let Err(reason) = self.accept(now, from, bytes)
            && self.rejections.tell(now, from.ip(), &reason)
        {
            self.effects.push_back(Effect::Rejected { from, reason });
        }
    }

    fn accept(&mut self, now: Tick, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        let packet = Packet::decode(bytes, &self.config.keys)?;
        if packet.from == self.config.node {
            return Err(Reject::OwnName);
        }
        if packet.to != self.config.node {
            return Err(Reject::NotForUs(packet.to));
        }
        let fresh =
            packet.heard.boot == self.boot && self.recent.front().is_some_and(|(_, c)| packet.heard.counter >= *c);
        if !self.peers.contains_key(&packet.from) {
            if self.peers.values().filter(|p| !p.configured).count() >= GUESTS {
                return Err(Reject::Stranger(packet.from));
            }
            self.peers.insert(packet.from.clone(), Peer::new(from, false, now));
        }
        let Some(peer) = self.peers.get_mut(&packet.from) else { return Ok(()) };
        let order = peer.order(&packet, fresh);
        if order == Order::Old {
            return Err(Reject::Replay(packet.from));
        }
        let same_boot = peer.boot == packet.boot;
        peer.accept(&packet);
        if order == Order::Late {
            self.dirty |= peer.alive && peer.learn_late(&packet);
            return Ok(());
        }
        peer.heard = now;
        peer.acknowledged = packet.heard.statement;
        if !peer.configured {
            peer.to = from;
        }
        let alive = packet.kind == Kind::Heartbeat && (peer.configured || peer.alive || fresh);
        if alive != peer.alive {
            peer.alive = alive;
            self.dirty = true;
            self.effects.push_back(if alive {
                Effect::Alive(packet.from.clone())
            } else {
                Effect::Dead(packet.from.clone())
            });
            if alive && same_boot {
                // We did not hear each other: it may have owned what we own and have given it up before we learn of it.
                let may = |a: &&IpAddr| self.config.candidates.get(*a).is_some_and(|c| c.contains(&packet.from));
                self.effects.extend(self.own.owned.iter().filter(may).map(|a| Effect::Settled(*a)));
            }
        }
        if alive {
            self.dirty |= peer.learn(now, &packet);
        }
        Ok(())
    }

    fn leave(&mut self, now: Tick) {
        if matches!(self.phase, Phase::Left { .. }) {
            return;
        }
        for address in std::mem::take(&mut self.own.owned) {
            self.lose(address, Reason::Left);
        }
        let heard = self.phase != Phase::Idle && !self.peers.is_empty() && self.can_send();
        self.phase = Phase::Left { goodbyes: if heard { GOODBYES } else { 0 } };
        self.next_heartbeat = now;
    }

    /// Does all that is due.
    fn run(&mut self, now: Tick) {
        match self.phase {
            Phase::Idle => return,
            Phase::Left { goodbyes } => {
                if goodbyes > 0 && now >= self.next_heartbeat {
                    self.publish();
                    self.send(now, Kind::Goodbye);
                    self.phase = Phase::Left { goodbyes: goodbyes - 1 };
                    self.next_heartbeat = now + GOODBYE_EVERY;
                }
                return;
            }
            Phase::Listening { until } if now >= until => {
                self.phase = Phase::Deciding;
                self.dirty = true;
            }
            Phase::Listening { .. } | Phase::Deciding => {}
        }
        self.bury(now);
        if self.dirty || self.decide_again.is_some_and(|t| t <= now) {
            self.decide(now);
        }
        if self.changed {
            let soon = self.last_heartbeat.map_or(now, |last| now.max(last + AT_ONCE));
            self.next_heartbeat = self.next_heartbeat.min(soon);
        }
        if now >= self.next_heartbeat {
            self.publish();
            self.send(now, Kind::Heartbeat);
            self.last_heartbeat = Some(now);
            let early = self.rng.u64(0..=u64::try_from(JITTER.as_nanos()).unwrap_or(0));
            self.next_heartbeat = now + HEARTBEAT - Duration::from_nanos(early);
        }
    }

    fn bury(&mut self, now: Tick) {
        for (name, peer) in self.peers.iter_mut().filter(|(_, p)| p.alive && now >= p.heard + DETECTION) {
            peer.alive = false;
            self.dirty = true;
            self.effects.push_back(Effect::Dead(name.clone()));
        }
        self.peers.retain(|_, p| p.configured || p.alive || now < p.heard + DETECTION);
    }

    fn decide(&mut self, now: Tick) {
        self.dirty = false;
        let deciding = self.phase == Phase::Deciding && self.usable();
        // Nothing is taken while somebody says that it owns what we do not know yet. Not for ever: it may be that we
        // never get to know it.
        let patient_until = self.peers.values().filter(|p| p.alive).filter_map(|p| Some(p.stale_since? + PATIENCE));
        let blocked = patient_until.filter(|t| now < *t).max();
        let live = self.peers.iter().filter(|(_, p)| p.alive).map(|(name, p)| (name.as_str(), &p.says)).collect();
        let Decision { lose, own, contested, waiting, again } = decide(&Situation {
            now,
            node: &self.config.node,
            candidates: &self.config.candidates,
            may_own: &self.may_own,
            own: &self.own,
            live,
            may_take: deciding && blocked.is_none(),
            waiting: &self.waiting,
        });
        for (address, reason) in lose {
            self.lose(address, reason);
        }
        for address in own {
            self.own.owned.insert(address);
            self.changed = true;
            self.effects.push_back(Effect::Own(address));
        }
        for address in self.contested.difference(&contested).filter(|a| self.own.owned.contains(a)) {
            self.effects.push_back(Effect::Settled(*address));
        }
        self.contested = contested;
        if blocked.is_none() {
            self.waiting = waiting;
        }
        self.decide_again = again.or(blocked.filter(|_| deciding));
    }

    /// Makes the own statement ready to be sent.
    fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.outgoing = Outgoing::new(&self.own, ROOM);
            self.peers.values_mut().for_each(|peer| peer.cursor = 0);
        }
    }

    fn can_send(&self) -> bool {
        fits(&self.config.node) && !self.config.keys.is_empty()
    }

    /// Sends to every peer; parts of the own statement only to those that do not know it.
    fn send(&mut self, now: Tick, kind: Kind) {
        if !self.can_send() {
            return;
        }
        let Some(key) = self.config.keys.first() else { return };
        self.recent.push_back((now, self.counter + 1));
        while self.recent.front().is_some_and(|(when, _)| now.since(*when) > DETECTION) {
            self.recent.pop_front();
        }
        let parts = &self.outgoing.parts;
        let count = u16::try_from(parts.len()).unwrap_or(0);
        for (name, peer) in &mut self.peers {
            let most = if peer.alive { PARTS } else { PARTS_UNHEARD };
            let wanted = if peer.acknowledged == self.outgoing.digest { 0 } else { most.min(parts.len()) };
            for n in 0..wanted.max(1) {
                let index = (peer.cursor + n).checked_rem(parts.len()).unwrap_or(0);
                let part = parts.get(index).filter(|_| n < wanted);
                let index = u16::try_from(index).unwrap_or(0);
                self.counter += 1;
                let packet = Packet {
                    kind,
                    boot: self.boot,
                    counter: self.counter,
                    from: self.config.node.clone(),
                    to: name.clone(),
                    statement: self.outgoing.digest,
                    heard: Heard { boot: peer.boot, counter: peer.counter, statement: peer.known },
                    fragment: part.map(|a| Fragment { index, count, part: a.clone() }),
                };
                self.effects.push_back(Effect::Send { to: peer.to, bytes: packet.encode(key) });
            }
            peer.cursor = (peer.cursor + wanted).checked_rem(parts.len()).unwrap_or(0);
        }
    }
}

impl Engine for Lease {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        self.wake(now);
        match input {
            Input::Configure(config) => self.configure(now, *config),
            Input::Packet { from, bytes } => self.packet(now, from, &bytes),
            Input::Leave => self.leave(now),
        }
        self.run(now);
    }

    fn timeout(&mut self, now: Tick) {
        self.wake(now);
        self.run(now);
    }

    fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Idle => None,
            Phase::Left { goodbyes } => (goodbyes > 0).then_some(self.next_heartbeat),
            Phase::Listening { .. } | Phase::Deciding => {
                let until = if let Phase::Listening { until } = self.phase { Some(until) } else { None };
                let deaths = self.peers.values().filter(|p| p.alive || !p.configured).map(|p| p.heard + DETECTION);
                let due = [Some(self.next_heartbeat), until, self.decide_again];
                due.into_iter().flatten().chain(deaths).min()
            }
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
