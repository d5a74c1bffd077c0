//! The engine of one speaker: acceptor, holder and everything around them. What is claimed of it is at the top of the
//! crate.
//!
//! ```text
//!  packet ──► packets: order, keys ──┬─ request ──► acceptor ──► answer
//!                                    ├─ answer ───► holder ────► own
//!                                    └─ statement, life ─► decide ──► want ──► ask
//!  one address:
//!              placement, patience       majority grants
//!    nobody's ───────────────► Asking ───────────────────► Owned ──► lapse, move, yield: lost
//!       ▲  given back, later ◄───┘ │ no majority for 3 L      ▲
//!       │                       Wire asked ──silent──► Consent┘ all that are heard agree
//!       └───── somebody answers ───┴────────────────────┘
//! ```

mod alone;
mod decide;
mod epochs;
mod hold;
mod moves;
mod packets;
mod sight;
mod view;

pub use view::{Move, Owned, View};

use crate::acceptor::Acceptor;
use crate::config::{Config, Effect, Input, Reason, Start};
use crate::fault::Faults;
use crate::holder::Holder;
use crate::message::Answer;
use crate::peer::Peer;
use crate::placement::Seats;
use crate::rejections::Rejections;
use crate::statement::{MAX_MACS, Outgoing, Statement};
use crate::types::{Epoch, EpochId, Node, Preset, SILENCE, Stamp};
use crate::wire::{ROOM, Reject, fits};
use alone::Wire;
use engine::{Engine, MacAddr, Tick};
use hold::{Held, Want};
use moves::Handing;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// A changed statement is sent at once, but not more often than this.
const AT_ONCE: Duration = Duration::from_millis(20);
/// Who comes so much later than its deadline was paused.
const LATE: Duration = Duration::from_millis(40);
/// What ended long ago is swept out so often.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Idle,
    Running,
    /// Hands over what it owns.
    Leaving,
    Left {
        goodbyes: u32,
    },
}

/// The engine of one speaker.
#[derive(Debug)]
pub struct Lease {
    boot: u128,
    counter: u64,
    rng: fastrand::Rng,
    faults: Faults,
    phase: Phase,
    started: Tick,
    config: Config,
    seats: Seats,
    /// For how many addresses each node is a candidate.
    may_own: BTreeMap<Node, usize>,
    /// The presets in use.
    presets: BTreeSet<Preset>,
    peers: BTreeMap<Node, Peer>,
    acceptor: Acceptor,
    holder: Holder,
    epochs: epochs::Epochs,
    /// What it says of itself, the same as it is sent, and whether the second lags behind.
    own: Statement,
    outgoing: Outgoing,
    changed: bool,
    held: BTreeMap<IpAddr, Held>,
    wants: BTreeMap<IpAddr, Want>,
    /// Nothing that is wanted needs attention before.
    next_pursuit: Option<Tick>,
    /// Since when addresses have no owner.
    waiting: BTreeMap<IpAddr, Tick>,
    /// Addresses that some speaker said that it owns.
    used: BTreeSet<IpAddr>,
    /// Some gateway of ours is silent.
    cut: bool,
    /// Since when another candidate's gateway answers and ours does not, for addresses that we own.
    unreached: BTreeMap<IpAddr, Tick>,
    decide_at: Option<Tick>,
    /// No lease lapses before.
    lapses: Option<Tick>,
    wire: Wire,
    handing: Vec<Handing>,
    to_move: VecDeque<(IpAddr, Node)>,
    next_move: Tick,
    /// Addresses that were given up on purpose, and until when they are not wanted back.
    given_up: BTreeMap<IpAddr, Tick>,
    next_heartbeat: Tick,
    last_heartbeat: Option<Tick>,
    next_renewal: BTreeMap<Preset, Tick>,
    /// The first numbers of the heartbeats of late, and when they left.
    sent: VecDeque<(u64, Tick)>,
    next_sweep: Tick,
    moves: VecDeque<Move>,
    /// Answers of our own acceptor.
    inbox: VecDeque<(u64, Answer)>,
    rejections: Rejections<Reject>,
    effects: VecDeque<Effect>,
}

impl Lease {
    /// An engine that waits for its first configuration.
    pub fn new(start: Start, rng: fastrand::Rng) -> Lease {
        Lease::build(start, rng, Faults::default())
    }

    /// The same with one rule broken.
    #[cfg(feature = "faults")]
    pub fn with_fault(start: Start, rng: fastrand::Rng, fault: Option<crate::Fault>) -> Lease {
        Lease::build(start, rng, Faults(fault))
    }

    fn build(start: Start, rng: fastrand::Rng, faults: Faults) -> Lease {
        Lease {
            boot: start.boot.max(1),
            counter: 0,
            rng,
            faults,
            phase: Phase::Idle,
            started: Tick::ZERO,
            config: Config::default(),
            seats: Seats::default(),
            may_own: BTreeMap::new(),
            presets: BTreeSet::new(),
            peers: BTreeMap::new(),
            acceptor: Acceptor::new(Tick(u64::MAX), start.recorded, faults),
            holder: Holder::new(faults),
            epochs: epochs::Epochs::default(),
            own: Statement::default(),
            outgoing: Outgoing::new(&Statement::default(), ROOM),
            changed: false,
            held: BTreeMap::new(),
            wants: BTreeMap::new(),
            next_pursuit: None,
            waiting: BTreeMap::new(),
            used: BTreeSet::new(),
            cut: false,
            unreached: BTreeMap::new(),
            decide_at: None,
            lapses: None,
            wire: Wire::default(),
            handing: Vec::new(),
            to_move: VecDeque::new(),
            next_move: Tick::ZERO,
            given_up: BTreeMap::new(),
            next_heartbeat: Tick::ZERO,
            last_heartbeat: None,
            next_renewal: BTreeMap::new(),
            sent: VecDeque::new(),
            next_sweep: Tick::ZERO,
            moves: VecDeque::new(),
            inbox: VecDeque::new(),
            rejections: Rejections::default(),
            effects: VecDeque::new(),
        }
    }

    fn configure(&mut self, now: Tick, mut config: Config) {
        if !matches!(self.phase, Phase::Idle | Phase::Running) {
            return;
        }
        config.peers.retain(|name, _| fits(name) && *name != config.node);
        config.keys.retain(|key| !key.is_empty());
        config.keys.truncate(2);
        if config.keys.is_empty() {
            config.keys = std::mem::take(&mut self.config.keys);
        }
        let candidate = |a: &IpAddr| config.addresses.get(a).is_some_and(|c| c.candidates.contains(&config.node));
        let unable: BTreeSet<IpAddr> = config.unable.iter().copied().filter(candidate).collect();
        let macs: BTreeSet<MacAddr> = config.macs.iter().take(MAX_MACS).copied().collect();
        let advertises = config.advertises.clone();
        self.changed |= (&self.own.unable, &self.own.macs, &self.own.advertises) != (&unable, &macs, &advertises);
        (self.own.unable, self.own.macs, self.own.advertises) = (unable, macs, advertises);
        self.may_own.clear();
        for node in config.addresses.values().flat_map(|a| a.candidates.iter()) {
            match self.may_own.get_mut(node) {
                Some(n) => *n += 1,
                None => drop(self.may_own.insert(node.clone(), 1)),
            }
        }
        self.presets = config.addresses.values().map(|a| a.preset).collect();
        self.seats = Seats::new(self.may_own.keys().chain(config.peers.keys()).chain([&config.node]), &config.weights);
        self.acceptor.set_elsewhere(config.elsewhere.clone());
        self.used.retain(|address| config.addresses.contains_key(address));
        self.config = config;
        // A node that was removed may still own addresses: while it speaks, its claims count.
        self.peers.retain(|name, peer| {
            peer.configured = self.config.peers.contains_key(name);
            peer.configured || peer.alive
        });
        for (name, to) in &self.config.peers {
            let peer = self.peers.entry(name.clone()).or_default();
            (peer.to, peer.configured) = (to.clone(), true);
        }
        for (address, held) in &mut self.held {
            if let Some(wanted) = self.config.addresses.get(address) {
                held.preset = wanted.preset;
            }
        }
        if self.phase == Phase::Idle {
            self.phase = Phase::Running;
            self.started = now;
            (self.next_heartbeat, self.next_sweep) = (now, now + SWEEP);
            self.acceptor = Acceptor::new(now + SILENCE, self.acceptor.epoch(), self.faults);
        }
        for preset in &self.presets {
            self.next_renewal.entry(*preset).or_insert(now);
        }
        self.next_renewal.retain(|p, _| self.presets.contains(p));
        self.learn_epoch(now, self.config.epoch.clone(), true);
        self.decide_by(now);
    }

    /// Decides anew not later than this.
    fn decide_by(&mut self, at: Tick) {
        self.decide_at = Some(self.decide_at.map_or(at, |t| t.min(at)));
    }

    /// Notices that this speaker was late or paused, before anything else is done: what has lapsed is given up first.
    fn wake(&mut self, now: Tick) {
        if self.phase == Phase::Idle {
            return;
        }
        let paused = self.deadline().is_some_and(|d| now > d + LATE);
        self.lapse(now, if paused { Reason::Late } else { Reason::NoMajority });
        if paused {
            // It was not they who were silent: we did not listen.
            self.peers.values_mut().filter(|p| p.alive).for_each(|p| p.heard = Some(now));
            let wanted: Vec<IpAddr> = self.wants.keys().copied().collect();
            let later = now + self.pace();
            for address in wanted {
                self.retry(now, address, later);
            }
            self.decide_at = Some(later);
        }
    }

    /// Does all that is due.
    fn run(&mut self, now: Tick) {
        match self.phase {
            Phase::Idle => return,
            Phase::Left { goodbyes } => return self.say_goodbye(now, goodbyes),
            Phase::Running | Phase::Leaving => {}
        }
        self.bury(now);
        self.settle_epoch(now);
        if self.decide_at.is_some_and(|t| t <= now) {
            self.decide_at = None;
            self.decide(now);
        }
        self.hand_over(now);
        self.renew(now);
        self.settle_own(now);
        // What our own acceptor says at once may lead to the next step; more than three would be no hurry.
        for _ in 0..3 {
            if self.next_pursuit.is_none_or(|at| at > now) {
                break;
            }
            self.pursue(now);
            self.settle_own(now);
        }
        if self.changed {
            let soon = self.last_heartbeat.map_or(now, |last| now.max(last + AT_ONCE));
            self.next_heartbeat = self.next_heartbeat.min(soon);
        }
        if now >= self.next_heartbeat {
            self.heartbeat(now);
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.acceptor.sweep(now);
            self.holder.sweep(now, self.epochs.known.id());
            self.given_up.retain(|_, until| *until > now);
        }
    }

    /// The time between two heartbeats.
    fn pace(&self) -> Duration {
        self.presets.first().copied().unwrap_or_default().heartbeat()
    }

    fn stamp(&self, counter: u64) -> Stamp {
        Stamp { boot: self.boot, counter }
    }

    fn preset(&self, address: IpAddr) -> Preset {
        self.config.addresses.get(&address).map(|a| a.preset).unwrap_or_default()
    }

    /// There is nobody else.
    fn solo(&self) -> bool {
        self.config.peers.is_empty() && self.config.epoch.members.iter().all(|m| *m == self.config.node)
    }

    fn known(&self) -> (EpochId, Epoch) {
        (self.epochs.known.id(), self.epochs.known.clone())
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
            Input::Recorded(epoch) => self.recorded(now, epoch),
            Input::Wire { address, heard } => self.heard_on_wire(now, address, heard),
            Input::Sight(sight) => self.saw(now, *sight),
            Input::Overheard => self.wire.overheard = Some(now),
            Input::Release { address, to } => self.plan_move(address, &to),
            Input::Rebalance => self.rebalance(now),
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
            Phase::Running | Phase::Leaving => {
                let first =
                    [Some(self.next_heartbeat), self.decide_at, self.lapses, Some(self.next_sweep), self.next_pursuit];
                let renewals = self.next_renewal.values().copied();
                let deaths = self.peers.values().filter_map(Peer::dies);
                let silence = self.epochs.due(&self.acceptor);
                let all = first.into_iter().flatten().chain(renewals).chain(deaths).chain(silence);
                all.chain(self.handovers()).min()
            }
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
