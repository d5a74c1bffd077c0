//! One virtual router on one link.
//!
//! ```text
//!                start, link up                 listened
//!   Stopped ────────────────────► Listening ───────────────┐
//!      ▲ stop, link down                                    ▼
//!      ├────────────────────────────────────────────────► Backup ◄────────────────────────┐
//!      │                                                    │ nobody was heard for         │ a better one is heard,
//!      │                                                    │ 3 intervals and the skew     │ or it was paused
//!      │                                                    ▼                              │
//!      └────────────────────────────────────────────────► Master ──────────────────────────┘
//!        says so with priority zero                         every interval: advertise
//! ```
//!
//! That is [`Mode::Interop`]. In [`Mode::Led`] it goes from Backup to Master when it leads and hears no stranger, and
//! back when it leads no more; nothing that it hears makes it cease.

use crate::config::{Config, Mode};
use crate::counters::Counters;
use crate::masters::{Change, Master, Masters};
use crate::packet::{self, Advert, Body, Meta, Version};
use crate::refusals::{Refusal, Refusals};
use crate::types::Priority;
use engine::{Engine, Tick};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// At most so many advertisements wait to be drained; more are dropped and counted.
pub const MAX_QUEUE: usize = 512;

/// An advertisement leaves up to this part of its interval early, so that many virtual routers do not march in step.
/// Never late: others count three intervals.
const EARLY: u32 = 20;
/// What is sent at once to answer others is sent at most so often: else a flood of theirs makes one of ours.
const AT_ONCE: Duration = Duration::from_millis(10);
/// A master that has not advertised for so many intervals was paused: others have taken over, or are about to.
const PAUSED: u32 = 3;

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Begin.
    Start,
    /// Cease in good order: a master says so, and a backup takes over within the skew, far below one interval.
    Stop,
    /// The link is up or down. It counts as up until this comes.
    Link(bool),
    /// Led: somebody decided that this router is master, or is not any more. With `false` nothing is sent from then on,
    /// also nothing that waits: another may be master already. Without meaning in [`Mode::Interop`].
    Lead(bool),
    /// Cease to be master in good order, saying so, and stay as a backup. In [`Mode::Interop`] a router that preempts
    /// takes it back from a lower priority after 3 intervals and the skew: to drain a node, [`Input::Stop`].
    Release,
    /// Another configuration. Unless the id, the version, the primary address or the mode changed, a master stays it.
    Configure(Box<Config>),
    /// An IP packet of protocol 112 came in.
    Packet {
        /// What its IP header said.
        meta: Meta,
        /// Its payload.
        message: Vec<u8>,
    },
}

/// What is to be done, and what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The state is another one. What changed back before it was drained is left out.
    Become(State),
    /// Send this, from our primary address, with TTL or hop limit 255.
    Send {
        /// The group or a peer.
        to: IpAddr,
        /// The payload of the IP packet.
        message: Vec<u8>,
    },
    /// Tell the link whose the addresses are: gratuitous ARP, unsolicited neighbour advertisements.
    Announce,
    /// Another router is master of this virtual router, or one that is changed its priority or addresses. In
    /// [`Mode::Led`] only strangers are reported: the id is taken.
    MasterHeard {
        /// Its primary address.
        from: IpAddr,
        /// Its priority.
        priority: Priority,
        /// The addresses that it advertises.
        addresses: Vec<IpAddr>,
    },
    /// It said that it stops, or was silent for four of its intervals.
    MasterGone {
        /// Its primary address.
        from: IpAddr,
    },
    /// An advertisement of this virtual router did not count. Comes at most every 10 s for each sender and reason.
    Refused {
        /// Its source.
        from: IpAddr,
        /// Why.
        reason: Refusal,
    },
}

/// What the router is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Not started, or the link is down (Initialize in the RFCs).
    Stopped,
    /// It hears who else is there.
    Listening,
    /// It is not master.
    Backup,
    /// It is master.
    Master,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Stopped,
    Listening {
        until: Tick,
    },
    /// Led, and not master.
    Standby,
    Backup(Wait),
    Master {
        /// When it advertised last.
        last: Tick,
        next: Tick,
    },
}

/// What a backup waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    since: Tick,
    /// Of the master (RFC 9568 §6.1 Active_Adver_Interval).
    interval: Duration,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The master is silent for three intervals and the skew.
    Silence,
    /// The master said that it stops: the skew decides who follows.
    Stopped,
    /// The silence may have been our own: one interval shows whether there is a master, then the skew.
    Paused,
}

/// The engine.
#[derive(Debug)]
pub struct Router {
    config: Config,
    started: bool,
    link: bool,
    leads: bool,
    phase: Phase,
    told: State,
    masters: Masters,
    refusals: Refusals,
    packets: VecDeque<(IpAddr, Vec<u8>)>,
    announce: bool,
    /// From then on something may be sent at once again.
    at_once: Tick,
    counters: Counters,
    rng: fastrand::Rng,
}

impl Engine for Router {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        self.look_for_pause(now);
        match input {
            Input::Start => self.started = true,
            Input::Stop => self.started = false,
            Input::Link(up) => self.link = up,
            Input::Lead(leads) => self.lead(leads),
            Input::Release => self.release(now),
            Input::Configure(config) => self.configure(now, *config),
            Input::Packet { meta, message } => self.receive(now, &meta, &message),
        }
        self.follow(now);
        self.timeout(now);
    }

    fn timeout(&mut self, now: Tick) {
        self.look_for_pause(now);
        self.masters.expire(now);
        match self.phase {
            Phase::Listening { until } if until <= now => self.listened(now),
            Phase::Backup(wait) if self.patience(&wait) <= now => self.silence(now, wait),
            Phase::Master { next, .. } if next <= now => self.advertise(now),
            _ => {}
        }
        if self.phase == Phase::Standby && self.leads && self.masters.known.is_empty() {
            self.become_master(now);
        }
    }

    fn deadline(&self) -> Option<Tick> {
        let own = match self.phase {
            Phase::Stopped | Phase::Standby => None,
            Phase::Listening { until } => Some(until),
            Phase::Backup(wait) => Some(self.patience(&wait)),
            Phase::Master { next, .. } => Some(next),
        };
        [own, self.masters.deadline()].into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<Effect> {
        if self.told != self.state() {
            self.told = self.state();
            return Some(Effect::Become(self.told));
        }
        if let Some((to, message)) = self.packets.pop_front() {
            return Some(Effect::Send { to, message });
        }
        if std::mem::take(&mut self.announce) {
            return Some(Effect::Announce);
        }
        if let Some((from, reason)) = self.refusals.next() {
            return Some(Effect::Refused { from, reason });
        }
        self.masters.next().map(|change| match change {
            Change::Heard(from, priority, addresses) => Effect::MasterHeard { from, priority, addresses },
            Change::Gone(from) => Effect::MasterGone { from },
        })
    }
}

impl Router {
    /// A router that is stopped; `rng` spreads its advertisements.
    pub fn new(config: Config, rng: fastrand::Rng) -> Router {
        Router {
            config,
            started: false,
            link: true,
            leads: false,
            phase: Phase::Stopped,
            told: State::Stopped,
            masters: Masters::default(),
            refusals: Refusals::default(),
            packets: VecDeque::new(),
            announce: false,
            at_once: Tick::ZERO,
            counters: Counters::default(),
            rng,
        }
    }

    /// What it is now.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Listening { .. } => State::Listening,
            Phase::Standby | Phase::Backup(_) => State::Backup,
            Phase::Master { .. } => State::Master,
        }
    }

    /// Whether packets to the virtual router's addresses are for this node (RFC 9568 §6.1 Accept_Mode). Neighbour
    /// solicitations and advertisements are in any case, while it is master.
    pub fn accepts(&self) -> bool {
        self.state() == State::Master && (self.config.accept || self.owns())
    }

    /// The other routers that are master now; in [`Mode::Led`] only strangers.
    pub fn masters(&self) -> &BTreeMap<IpAddr, Master> {
        &self.masters.known
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn owns(&self) -> bool {
        self.config.priority == Priority::OWNER
    }

    fn interop(&self) -> bool {
        self.config.mode == Mode::Interop
    }

    /// Spreads who takes over: the highest priority first (RFC 9568 §6.1; in version 2 up to a second, RFC 3768 §6.1).
    fn skew(&self, interval: Duration) -> Duration {
        let base = if self.config.version == Version::V2 { Duration::from_secs(1) } else { interval };
        base * (256 - u32::from(self.config.priority.get())) / 256
    }

    /// When a backup becomes master if nothing is heard. Not jittered: the skew is what spreads.
    fn patience(&self, wait: &Wait) -> Tick {
        let most = match wait.reason {
            Reason::Silence => wait.interval * 3,
            Reason::Stopped => Duration::ZERO,
            Reason::Paused => wait.interval,
        };
        wait.since + most + self.skew(wait.interval)
    }

    fn back_up(&mut self, now: Tick, interval: Duration, reason: Reason) {
        if self.state() == State::Master {
            self.take_back();
        }
        self.phase = Phase::Backup(Wait { since: now, interval, reason });
    }

    /// Nothing of what a master said is sent once it is none.
    fn take_back(&mut self) {
        self.counters.dropped += self.packets.len() as u64;
        self.packets.clear();
        self.announce = false;
    }

    /// Starts or stops, where that is due after an input.
    fn follow(&mut self, now: Tick) {
        match (self.started && self.link, self.phase) {
            (true, Phase::Stopped) => self.phase = Phase::Listening { until: now + self.config.listen },
            (true, Phase::Backup(_)) if self.owns() => self.become_master(now),
            (false, phase) if phase != Phase::Stopped => {
                // Without a link there is nobody to be told.
                self.cease(Phase::Stopped, self.link);
                self.masters.forget_if(|_, _| true);
            }
            _ => {}
        }
    }

    fn cease(&mut self, phase: Phase, say: bool) {
        let was_master = self.state() == State::Master;
        self.take_back();
        self.phase = phase;
        if was_master && say {
            self.counters.stops_sent += self.send(None);
        }
    }

    fn lead(&mut self, leads: bool) {
        self.leads = leads;
        if self.interop() || leads {
            return;
        }
        let phase = if self.state() == State::Master { Phase::Standby } else { self.phase };
        self.cease(phase, false);
    }

    fn release(&mut self, now: Tick) {
        self.leads = false;
        if self.state() == State::Master && self.interop() {
            let interval = self.config.interval.duration();
            self.cease(Phase::Backup(Wait { since: now, interval, reason: Reason::Silence }), true);
        } else if self.state() == State::Master {
            self.cease(Phase::Standby, true);
        }
    }

    fn configure(&mut self, now: Tick, config: Config) {
        let kind = |c: &Config| (c.vrid, c.version, c.source, c.mode == Mode::Interop);
        if kind(&config) != kind(&self.config) {
            self.cease(Phase::Stopped, true);
            self.masters.forget_if(|_, _| true);
            self.config = config;
            return; // and `follow` starts it anew
        }
        let before = std::mem::replace(&mut self.config, config);
        if let Mode::Led { members } = &self.config.mode {
            self.masters.forget_if(|from, _| members.contains(from));
        }
        if self.state() == State::Master && before != self.config {
            self.announce |= before.addresses != self.config.addresses;
            self.advertise(now);
        }
    }

    fn listened(&mut self, now: Tick) {
        match self.interop() {
            true if self.owns() => self.become_master(now),
            true => self.back_up(now, self.config.interval.duration(), Reason::Silence),
            false => self.phase = Phase::Standby,
        }
    }

    fn silence(&mut self, now: Tick, wait: Wait) {
        let late = now.since(self.patience(&wait)) > wait.interval;
        if late && wait.reason != Reason::Paused {
            self.counters.paused += 1;
            self.back_up(now, wait.interval, Reason::Paused);
        } else {
            self.become_master(now);
        }
    }

    /// A master that was paused is one among two, or about to be: it steps back before it looks at anything else.
    fn look_for_pause(&mut self, now: Tick) {
        let Phase::Master { last, .. } = self.phase else { return };
        let interval = self.config.interval.duration();
        if self.interop() && !self.owns() && now.since(last) > interval * PAUSED {
            self.counters.paused += 1;
            self.back_up(now, interval, Reason::Paused);
        }
    }

    fn become_master(&mut self, now: Tick) {
        self.counters.became_master += 1;
        self.announce = true;
        self.advertise(now);
    }

    fn advertise(&mut self, now: Tick) {
        let interval = self.config.interval.duration();
        let early = u64::try_from((interval / EARLY).as_nanos()).unwrap_or(0);
        let next = now + interval - Duration::from_nanos(self.rng.u64(0..=early));
        self.phase = Phase::Master { last: now, next };
        self.send(Some(self.config.priority));
    }

    /// How many advertisements that were.
    fn send(&mut self, priority: Option<Priority>) -> u64 {
        let advert = self.config.advert(priority);
        let mut sent = 0;
        for to in self.config.destinations() {
            if self.packets.len() < MAX_QUEUE {
                self.packets.push_back((to, advert.emit(self.config.source, to)));
                sent += 1;
            } else {
                self.counters.dropped += 1;
            }
        }
        self.counters.sent += sent;
        sent
    }

    fn receive(&mut self, now: Tick, meta: &Meta, message: &[u8]) {
        let ours = packet::vrid(message) == Some(self.config.vrid);
        if self.state() == State::Stopped || !ours || packet::family(meta.source) != self.config.family() {
            self.counters.other += 1;
            return;
        }
        if meta.source == self.config.source {
            self.counters.own += 1;
            return;
        }
        let advert = match Advert::parse(meta, message) {
            Ok(advert) => advert,
            Err(reason) => {
                self.counters.malformed += 1;
                self.refuse(now, meta.source, Refusal::Malformed(reason));
                return;
            }
        };
        if !meta.destination.is_multicast() && meta.ttl < self.config.unicast_ttl {
            self.counters.refused += 1;
            self.refuse(now, meta.source, Refusal::Ttl(meta.ttl));
        } else if let Mode::Led { members } = &self.config.mode {
            let member = members.contains(&meta.source);
            self.count(&advert);
            if !member {
                self.hear(now, meta.source, &advert);
            }
        } else if let Err(reason) = self.check(meta, &advert) {
            self.counters.refused += 1;
            self.refuse(now, meta.source, reason);
        } else {
            self.count(&advert);
            self.hear(now, meta.source, &advert);
            self.elect(now, meta.source, &advert);
        }
    }

    fn count(&mut self, advert: &Advert) {
        self.counters.received += 1;
        self.counters.stops_received += u64::from(advert.priority.is_none());
        self.counters.addresses_differ += u64::from(!self.same_addresses(advert));
    }

    fn hear(&mut self, now: Tick, from: IpAddr, advert: &Advert) {
        if !self.masters.hear(now, from, advert) {
            self.counters.dropped += 1;
        }
    }

    fn refuse(&mut self, now: Tick, from: IpAddr, reason: Refusal) {
        if !self.refusals.add(now, from, reason) {
            self.counters.dropped += 1;
        }
    }

    fn same_addresses(&self, advert: &Advert) -> bool {
        let (mut ours, mut theirs) = (self.config.addresses.clone(), advert.addresses());
        ours.sort_unstable();
        theirs.sort_unstable();
        ours == theirs
    }

    /// Whether it counts in the election (RFC 9568 §7.1, RFC 3768 §7.1).
    fn check(&self, meta: &Meta, advert: &Advert) -> Result<(), Refusal> {
        let config = &self.config;
        if !config.peers.is_empty() && !config.peers.contains(&meta.source) {
            return Err(Refusal::Peer);
        }
        let expected = if config.peers.is_empty() { packet::group(config.family()) } else { config.source };
        if meta.destination != expected {
            return Err(Refusal::Destination(meta.destination));
        }
        if advert.version() != config.version {
            return Err(Refusal::Version(advert.version()));
        }
        if let Body::V2 { password, .. } = &advert.body {
            if *password != config.password {
                return Err(Refusal::Password);
            }
            if advert.interval() != config.interval.duration() {
                return Err(Refusal::Interval(advert.interval()));
            }
            if !self.same_addresses(advert) && advert.priority != Some(Priority::OWNER) {
                return Err(Refusal::Addresses);
            }
        }
        if self.owns() && advert.priority == Some(Priority::OWNER) {
            return Err(Refusal::TwoOwners);
        }
        Ok(())
    }

    /// RFC 9568 §6.4.2 and §6.4.3.
    fn elect(&mut self, now: Tick, from: IpAddr, advert: &Advert) {
        let ours = self.config.priority;
        match (self.phase, advert.priority) {
            // RFC 9568 §7.1: who owns the addresses listens to nobody.
            _ if self.owns() => {}
            (Phase::Backup(wait), None) => {
                self.phase = Phase::Backup(Wait { since: now, reason: Reason::Stopped, ..wait });
            }
            (Phase::Backup(_), Some(theirs)) if !self.config.preempt || theirs >= ours => {
                self.back_up(now, advert.interval(), Reason::Silence);
            }
            (Phase::Master { .. }, Some(theirs)) if (theirs, from) > (ours, self.config.source) => {
                self.back_up(now, advert.interval(), Reason::Silence);
            }
            // Whoever stops or is worse learns at once who is master, and so do bridges that were led astray.
            (Phase::Master { .. }, theirs) if self.at_once <= now => {
                self.at_once = now + AT_ONCE;
                self.announce |= theirs.is_some();
                self.advertise(now);
            }
            _ => {}
        }
    }
}
