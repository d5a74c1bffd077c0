//! One peer: connections, timers, and the session that comes of them (RFC 4271 §8).
//!
//! ```text
//!            Start                 Connect answered, or the peer connects
//!   Idle ───────────► Connect/Active ──────────────────────────────► OpenSent     each connection goes its own way
//!    ▲  ▲                 ▲   │ it failed: wait, twice as long each time  │         from here, at most one of each
//!    │  │                 │   └──┐                                        │ OPEN    direction, until one of them wins
//!    │  │ after an error: │ ◄────┘                                        ▼
//!    │  └─ refuse for ────┤ ◄──────── loser of a collision ────────── OpenConfirm
//!    │     as long        │                                               │ KEEPALIVE
//!    │                    │   NOTIFICATION, silence, TCP gone, BFD        ▼
//!    └── Stop ────────────┴─────────────────────────────────────────── Established ──► routes out, routes in
//! ```
//!
//! A connection that is lost leaves no trace but in [`View::last_down`](crate::View). The peer's routes may outlive its
//! session (graceful restart, `helper.rs`); what it is to know of ours is kept always and told anew.

mod connection;
mod helper;
mod messages;
mod sending;
mod types;

pub use types::{ConnectionId, Direction, Down, Effect, Input, State, Stop};

use crate::config::Config;
use crate::counters::{Counters, RouteCounts, View};
use crate::export::Unsendable;
use crate::negotiated::{self, Negotiated};
use crate::prefix::{Family, Nlri};
use crate::routes_in::RoutesIn;
use crate::routes_out::{Routes, RoutesOut};
use crate::wire::{Cease, Code, Message, Notification};
use connection::{Connection, Phase};
use engine::{Engine, Tick};
use helper::Helper;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// A connection is given no more routes while so many octets wait to be taken by the kernel; one message may exceed it.
pub const SEND_WINDOW: usize = 64 * 1024;

/// The peer's OPEN comes within this time of a connection. RFC 4271 §8.2.2 suggests four minutes; a peer that is there
/// answers at once, and until then a dead connection stands in the way.
const OPEN_HOLD: Duration = Duration::from_secs(60);
/// The winner of a collision that has not said OPEN yet gets so much: the loser had.
const WINNER_HOLD: Duration = Duration::from_secs(5);
/// The first wait between two attempts.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A session that lasted so long starts with the first wait again.
const STABLE: Duration = Duration::from_secs(30);
/// RFC 9687 §3: when nothing could be sent for so long, or twice the hold time, the session ends.
const SEND_HOLD: Duration = Duration::from_secs(480);
/// At most so many faults of a session are told one by one; all are counted.
const TOLD_FAULTS: u32 = 16;

/// The engine of one peer.
#[derive(Debug)]
pub struct Session {
    config: Config,
    rng: fastrand::Rng,
    started: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    /// An attempt to connect runs, and is given up then.
    connecting: Option<Tick>,
    /// When to connect next.
    retry: Option<Tick>,
    /// After an error: connections of the peer are refused until then.
    refuse_until: Option<Tick>,
    prefix_limit_reached: bool,
    /// Attempts and short sessions in a row.
    failures: u32,
    /// We have just restarted, and say so until then.
    restarting_until: Option<Tick>,
    draining: bool,
    out: RoutesOut,
    /// Families that the peer asked for again.
    refresh_due: BTreeSet<Family>,
    /// Families that the peer is to be asked for again.
    ask_due: BTreeSet<Family>,
    announce_after: Option<Tick>,
    received: RoutesIn,
    helper: Helper,
    /// Families whose routes are not listened to any more in this session (RFC 7606).
    disabled: BTreeSet<Family>,
    told_faults: u32,
    told_excess: BTreeSet<Family>,
    counters: Counters,
    since: Tick,
    last_down: Option<(Tick, Down)>,
    /// As it was last told.
    state: State,
    /// Drained after every call; what one input leads to is bounded by the windows of the connections.
    effects: VecDeque<Effect>,
}

impl Engine for Session {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Stop(stop) => self.stop(now, stop),
            Input::Configure(config) => self.configure(now, *config),
            Input::TcpUp { connection, direction, local } => self.tcp_up(now, connection, direction, local),
            Input::ConnectFailed => self.connect_failed(now),
            Input::TcpDown { connection } => self.end(now, connection, Down::Closed),
            Input::Bytes { connection, bytes } => self.receive(now, connection, &bytes),
            Input::Sent { connection, bytes } => {
                if let Some(c) = self.connections.get_mut(&connection) {
                    c.unsent = c.unsent.saturating_sub(bytes);
                    c.progress = now;
                }
            }
            Input::Routes(routes) => self.out.set(Routes::clone(&routes)),
            Input::Change(changes) => self.out.change(changes),
            Input::BfdDown => self.bfd_down(now),
            Input::Refresh(family) => self.ask_again(family),
            Input::Drain => {
                self.draining = true;
                self.say_all_again();
            }
        }
        self.settle(now);
    }

    fn timeout(&mut self, now: Tick) {
        let due = |at: Option<Tick>| at.is_some_and(|at| at <= now);
        if due(self.refuse_until) {
            self.refuse_until = None;
            self.prefix_limit_reached = false;
        }
        if due(self.restarting_until) {
            self.restarting_until = None;
        }
        if due(self.announce_after) {
            self.announce_after = None;
        }
        if due(self.connecting) {
            self.connect_failed(now);
        }
        self.connection_timers(now);
        self.helper.timeout(now, &mut self.received);
        if due(self.retry) && self.wants_to_connect() {
            self.retry = None;
            let patience = self.jitter(self.config.connect_retry.max(FIRST_RETRY));
            self.connecting = Some(now + patience);
            self.effects.push_back(Effect::Connect);
        }
        self.settle(now);
    }

    fn deadline(&self) -> Option<Tick> {
        let retry = self.retry.filter(|_| self.wants_to_connect());
        let announce = self.announce_after.filter(|_| self.established().is_some());
        let of_session = [self.refuse_until, self.restarting_until, announce, self.connecting, retry];
        let of_connections = self.connections.values().flat_map(|c| [c.hold, c.keepalive, send_hold(c)]);
        of_session.into_iter().chain(of_connections).chain([self.helper.deadline()]).flatten().min()
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}

impl Session {
    /// A session that waits for [`Input::Start`]; `rng` spreads its timers.
    pub fn new(now: Tick, config: Config, rng: fastrand::Rng) -> Session {
        Session {
            config,
            rng,
            started: false,
            connections: BTreeMap::new(),
            connecting: None,
            retry: None,
            refuse_until: None,
            prefix_limit_reached: false,
            failures: 0,
            restarting_until: None,
            draining: false,
            out: RoutesOut::default(),
            refresh_due: BTreeSet::new(),
            ask_due: BTreeSet::new(),
            announce_after: None,
            received: RoutesIn::default(),
            helper: Helper::default(),
            disabled: BTreeSet::new(),
            told_faults: 0,
            told_excess: BTreeSet::new(),
            counters: Counters::default(),
            since: now,
            last_down: None,
            state: State::Idle,
            effects: VecDeque::new(),
        }
    }

    /// What it is to do.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters { ignored_prefixes: self.received.ignored, ..self.counters.clone() }
    }

    /// Where it is. For each family of the configuration all routes are gone through: not for every turn of a loop.
    pub fn view(&self) -> View {
        let negotiated = self.established().and_then(|(_, c)| c.established());
        let counts = |family: Family| RouteCounts {
            received: self.received.count(family),
            stale: self.received.stale(family),
            advertised: self.out.told(family),
            queued: self.out.queued(),
            unsendable: self.out.unsendable().keys().filter(|n| n.prefix.family() == family).count(),
        };
        View {
            state: self.state(),
            started: self.started,
            prefix_limit_reached: self.prefix_limit_reached,
            since: self.since,
            negotiated: negotiated.cloned(),
            last_down: self.last_down.clone(),
            routes: self.config.families.keys().map(|f| (*f, counts(*f))).collect(),
            unsent: self.connections.values().map(|c| c.unsent).sum(),
        }
    }

    /// Where it is: the state of the connection that is furthest.
    pub fn state(&self) -> State {
        let without = || match (self.started && self.refuse_until.is_none(), self.connecting) {
            (false, _) => State::Idle,
            (true, Some(_)) => State::Connect,
            (true, None) => State::Active,
        };
        self.connections.values().map(Connection::state).max().unwrap_or_else(without)
    }

    /// What the peer sent, as far as it is remembered.
    pub fn received(&self) -> impl Iterator<Item = &Nlri> {
        self.received.all()
    }

    /// What the peer is to know.
    pub fn routes(&self) -> &Routes {
        self.out.wanted()
    }

    /// Which routes cannot be told to this peer, and why.
    pub fn unsendable(&self) -> &BTreeMap<Nlri, Unsendable> {
        self.out.unsendable()
    }

    fn start(&mut self, now: Tick) {
        if !self.started && self.config.graceful_restart.is_some_and(|r| r.restarting) {
            let time = self.config.graceful_restart.map_or(0, |r| r.restart_time);
            self.restarting_until = Some(now + Duration::from_secs(time.into()));
        }
        self.started = true;
        self.draining = false;
        self.begin_anew(now);
    }

    /// As if nothing had failed before.
    fn begin_anew(&mut self, now: Tick) {
        (self.failures, self.refuse_until, self.prefix_limit_reached) = (0, None, false);
        if self.connections.is_empty() && self.connecting.is_none() {
            self.retry = Some(now);
        }
    }

    fn stop(&mut self, now: Tick, stop: Stop) {
        let restart = stop == Stop::Restart;
        let (cease, words, back) = match stop {
            Stop::Shutdown(words) => (Cease::AdministrativeShutdown, words, false),
            Stop::Reset(words) => (Cease::AdministrativeReset, words, true),
            Stop::Deconfigured => (Cease::PeerDeconfigured, String::new(), false),
            Stop::Restart => (Cease::AdministrativeReset, String::new(), false),
        };
        self.started &= back;
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in all {
            let graceful = |c: &Connection| c.established().is_some_and(|n| n.graceful_restart.is_some());
            if restart && self.connections.get(&id).is_some_and(graceful) {
                self.end(now, id, Down::Restarting);
            } else {
                self.refuse(now, id, Notification::shutdown(cease, &words), String::new());
            }
        }
        if self.started {
            self.begin_anew(now);
        } else {
            (self.connecting, self.retry, self.refuse_until) = (None, None, None);
            self.helper.end(&mut self.received);
        }
    }

    fn configure(&mut self, now: Tick, config: Config) {
        let before = std::mem::replace(&mut self.config, config);
        if !before.says_the_same(&self.config) {
            let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
            for id in &all {
                self.refuse(now, *id, Notification::cease(Cease::OtherConfigurationChange), String::new());
            }
            if self.started {
                self.begin_anew(now);
            }
            return;
        }
        if before.next_hops != self.config.next_hops {
            self.say_all_again();
        }
        if let Some((_, c)) = self.established()
            && let Some(negotiated) = c.established()
        {
            let limits = self.limits(negotiated);
            self.out.limit(limits);
        }
        if before.passive && !self.config.passive && self.started && self.retry.is_none() && self.connecting.is_none() {
            self.retry = Some(now);
        }
        if self.config.passive {
            self.connecting = None;
        }
    }

    fn wants_to_connect(&self) -> bool {
        self.started && !self.config.passive && self.connections.is_empty() && self.connecting.is_none()
    }

    fn connect_failed(&mut self, now: Tick) {
        if self.connecting.take().is_some() && self.connections.is_empty() {
            self.failed(now, Down::ConnectFailed);
        }
    }

    fn tcp_up(&mut self, now: Tick, id: ConnectionId, direction: Direction, local: IpAddr) {
        let others = |s: &Session, state: State| s.connections.values().any(|c| c.state() >= state);
        let refused = match direction {
            _ if !self.started => true,
            Direction::Outgoing => {
                self.connecting = None;
                // The peer got through meanwhile: another connection would only have to be closed again.
                others(self, State::OpenConfirm)
            }
            Direction::Incoming => self.refuse_until.is_some() || self.incoming(State::OpenConfirm).is_some(),
        };
        if refused {
            self.effects.push_back(Effect::Close { connection: id });
            return;
        }
        // An older connection of the same direction that never said OPEN is one that the peer has forgotten.
        let same = |c: &Connection| c.direction == direction && c.state() == State::OpenSent;
        let forgotten: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, c)| same(c)).map(|(id, _)| *id).collect();
        for old in forgotten {
            self.connections.remove(&old);
            self.effects.push_back(Effect::Close { connection: old });
        }
        if let Some(established) = self.established().filter(|(_, c)| c.unsent < SEND_WINDOW).map(|(id, _)| id) {
            // If the peer was restarted it answers this with a reset, and the dead connection is gone.
            self.write(now, established, &Message::Keepalive);
        }
        let hold = now + OPEN_HOLD;
        self.connections.insert(id, Connection::new(now, direction, local, hold));
        let open = negotiated::open(&self.config, self.restarting_until.is_some());
        self.write(now, id, &Message::Open(open));
    }

    /// An incoming connection in exactly this state.
    fn incoming(&self, state: State) -> Option<ConnectionId> {
        let all = self.connections.iter();
        all.filter(|(_, c)| c.direction == Direction::Incoming && c.state() == state).map(|(id, _)| *id).next()
    }

    fn established(&self) -> Option<(ConnectionId, &Connection)> {
        self.connections.iter().find(|(_, c)| c.established().is_some()).map(|(id, c)| (*id, c))
    }

    fn connection_timers(&mut self, now: Tick) {
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in all {
            let Some(c) = self.connections.get(&id) else { continue };
            if c.hold.is_some_and(|at| at <= now) {
                let detail = if c.negotiated().is_none() { "the peer sent no OPEN" } else { "" };
                self.refuse(now, id, Notification::new(Code::HoldTimer), detail.to_owned());
            } else if send_hold(c).is_some_and(|at| at <= now) {
                self.refuse(now, id, Notification::new(Code::SendHoldTimer), String::new());
            } else if c.keepalive.is_some_and(|at| at <= now) {
                if c.unsent < SEND_WINDOW {
                    self.write(now, id, &Message::Keepalive);
                } else {
                    // It would only wait behind octets that say the same.
                    self.counters.skipped_keepalives += 1;
                    self.restart_keepalive(now, id);
                }
            }
        }
    }

    /// RFC 4271 §10: up to a quarter less.
    fn jitter(&mut self, time: Duration) -> Duration {
        let quarter = u64::try_from(time.as_nanos() / 4).unwrap_or(u64::MAX);
        time.saturating_sub(Duration::from_nanos(self.rng.u64(0..=quarter)))
    }

    /// Ends a connection with a NOTIFICATION.
    fn refuse(&mut self, now: Tick, id: ConnectionId, notification: Notification, detail: String) {
        let hard = matches!(
            notification.code,
            Code::Cease(Cease::AdministrativeShutdown | Cease::PeerDeconfigured | Cease::BfdDown | Cease::MaxPrefixes)
        );
        let keeps = self.connections.get(&id).and_then(Connection::established);
        let hard = hard && keeps.is_some_and(|n| n.restart_on_notification);
        let notification = if hard { notification.hard() } else { notification };
        self.write(now, id, &Message::Notification(notification.clone()));
        self.end(now, id, Down::Sent { notification, detail });
    }

    /// A connection ends, with whatever was written to it before.
    fn end(&mut self, now: Tick, id: ConnectionId, down: Down) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if down != Down::Closed {
            self.effects.push_back(Effect::Close { connection: id });
        }
        match connection.phase {
            Phase::Established(negotiated) => self.session_down(now, &negotiated, down),
            // The loser of a collision is no failure, nor is one connection of two.
            Phase::OpenSent | Phase::OpenConfirm(_) if self.connections.is_empty() => self.failed(now, down),
            Phase::OpenSent | Phase::OpenConfirm(_) => {}
        }
    }

    fn session_down(&mut self, now: Tick, negotiated: &Negotiated, down: Down) {
        self.helper.session_down(now, negotiated, &down, &mut self.received);
        self.out.end();
        self.refresh_due.clear();
        self.ask_due.clear();
        self.announce_after = None;
        self.counters.lost += 1;
        if now.since(self.since) >= STABLE {
            self.failures = 0;
        }
        self.since = now;
        self.last_down = Some((now, down.clone()));
        self.effects.push_back(Effect::Down(down.clone()));
        self.wait(now, &down);
    }

    fn failed(&mut self, now: Tick, down: Down) {
        self.last_down = Some((now, down.clone()));
        self.effects.push_back(Effect::Failed(down.clone()));
        self.wait(now, &down);
    }

    /// Sets when to try again: each time twice as late, up to the configured time.
    fn wait(&mut self, now: Tick, down: &Down) {
        if !self.started {
            return;
        }
        let longest = self.config.connect_retry.max(FIRST_RETRY);
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let again = now + self.jitter(wait);
        self.retry = Some(again);
        if down.is_error() {
            self.refuse_until = Some(again);
        }
    }

    fn bfd_down(&mut self, now: Tick) {
        if let Some(id) = self.established().map(|(id, _)| id) {
            self.refuse(now, id, Notification::cease(Cease::BfdDown), String::new());
        }
        // RFC 5882 §4.3: that the path is down ends graceful restart, whoever restarts.
        self.helper.end(&mut self.received);
    }

    /// What follows from any change: routes go out, the state is told.
    fn settle(&mut self, now: Tick) {
        self.pump(now);
        let state = self.state();
        if state != self.state {
            self.state = state;
            self.effects.push_back(Effect::State(state));
        }
    }

    /// The limit of prefixes ends the session, and it stays down for `time`.
    fn cease_for_prefixes(&mut self, now: Tick, id: ConnectionId, family: Family, time: Duration) {
        let numbers = family.afi_safi();
        let mut data = numbers.afi.to_be_bytes().to_vec();
        data.push(numbers.safi);
        data.extend(self.config.max_prefixes.limit.to_be_bytes());
        let notification = Notification { code: Code::Cease(Cease::MaxPrefixes), data };
        self.refuse(now, id, notification, format!("more than {} of {family}", self.config.max_prefixes.limit));
        self.prefix_limit_reached = true;
        let until = now + self.jitter(time);
        (self.retry, self.refuse_until) = (Some(until), Some(until));
    }
}

/// When a connection that cannot be written to ends (RFC 9687).
fn send_hold(c: &Connection) -> Option<Tick> {
    let hold = c.established()?.hold_time.duration()?;
    (c.unsent > 0).then(|| c.progress + SEND_HOLD.max(hold * 2))
}
