//! One session with one peer.
//!
//! ```text
//!                       peer says Down, or
//!                      ┌─── is silent ─────┐
//!                      ▼                   │
//!   AdminDown ──────► Down ────────────► Init ──────────────► Up
//!       ▲   enabled    │  peer says Down    peer says Init, Up │
//!       │              │  peer says Init                       │
//!       │              ├──────────────────────────────────────►│
//!       │              │◄──────────────────────────────────────┤
//!       │ disabled     │   peer says Down or AdminDown, or is silent; link down
//!       └──────────────┴──────────── from all states ──────────┘
//! ```
//!
//! That is RFC 5880 §6.2, but that Init heeds no Down: the peer says it until it hears our Init. AdminDown of the peer
//! leads to Down from all states.

mod types;

pub use types::{Cause, Effect, Input, Remote};

use crate::auth::Sequence;
use crate::config::Config;
use crate::counters::Counters;
use crate::packet::Control;
use crate::refusals::{Refusal, Refusals};
use crate::timing::{Intervals, Timing};
use crate::types::{Diagnostic, Discriminator, Interval, State};
use engine::{Engine, Tick};
use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::time::Duration;
use types::UNHEARD;

/// At most so many packets wait to be drained; of more the oldest are dropped and counted.
pub const MAX_QUEUE: usize = 16;

/// What is sent between two periodic packets, be it an answer to a Poll or because of what changed, is sent at most so
/// often, one of each: else a flood of the peer's makes one of ours. No more than [`Interval`] can be, as RFC 5880 §6.8.7 demands.
const AT_ONCE: Duration = Duration::from_millis(10);

/// The engine.
#[derive(Debug)]
pub struct Session {
    config: Config,
    discriminator: Discriminator,
    state: State,
    diagnostic: Diagnostic,
    link: bool,
    remote: Remote,
    timing: Timing,
    /// When the last packet that counts came, and the detection time then.
    heard: Option<(Tick, Duration)>,
    sequence: Sequence,
    /// What was said last, without P and F.
    said: Option<Control>,
    /// When the last packet was sent that was no mere answer, and the interval that the next one waits for.
    sent: (Tick, Duration),
    next: Tick,
    /// When something is to be sent between two periodic packets.
    soon: Option<Tick>,
    /// It is an answer to a Poll.
    answer: bool,
    /// From then on something may be sent between two periodic packets again.
    at_once: Tick,
    /// Packets that are yet to say AdminDown at the interval of before.
    farewell: Option<(Duration, NonZeroU8)>,
    facts: VecDeque<Effect>,
    messages: VecDeque<Vec<u8>>,
    refusals: Refusals,
    counters: Counters,
    rng: fastrand::Rng,
}

impl Engine for Session {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        match input {
            Input::Packet { ttl, message } => self.packet(now, ttl, &message),
            Input::Configure(config) => self.configure(*config),
            Input::AdminDown => self.admin_down(),
            Input::AdminUp if self.state == State::AdminDown => self.turn(State::Down, Diagnostic::NONE, Cause::Admin),
            Input::AdminUp => {}
            Input::Link(up) => self.link(now, up),
        }
        self.follow(now);
        self.timeout(now);
    }

    fn timeout(&mut self, now: Tick) {
        if self.expires().is_some_and(|t| t <= now) {
            self.silence();
            self.follow(now);
        }
        if self.soon.is_some_and(|t| t <= now) {
            self.soon = None;
            self.at_once = now + AT_ONCE;
            if !self.answer || self.timing.is_due() {
                self.send(now, false);
            }
            if std::mem::take(&mut self.answer) {
                self.send(now, true);
            }
        }
        if self.periodic().is_some_and(|t| t <= now) {
            self.send(now, false);
        }
    }

    fn deadline(&self) -> Option<Tick> {
        [self.expires(), self.soon, self.periodic()].into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<Effect> {
        if let Some(fact) = self.facts.pop_front() {
            return Some(fact);
        }
        if let Some(message) = self.messages.pop_front() {
            return Some(Effect::Send { message });
        }
        self.refusals.next().map(|reason| Effect::Refused { reason })
    }
}

impl Session {
    /// A session that is down and says so from `now` on. The discriminator is this session's alone on this system
    /// ([`Table`](crate::Table) draws it); `rng` spreads its packets.
    pub fn new(now: Tick, config: Config, discriminator: Discriminator, mut rng: fastrand::Rng) -> Session {
        let intervals = intervals(&config, State::Down);
        Session {
            config,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            link: true,
            remote: UNHEARD,
            timing: Timing::new(intervals),
            heard: None,
            sequence: Sequence::new(rng.u32(..)),
            said: None,
            sent: (now, micros(intervals.desired)),
            next: now,
            soon: None,
            answer: false,
            at_once: Tick::ZERO,
            farewell: None,
            facts: VecDeque::new(),
            messages: VecDeque::new(),
            refusals: Refusals::default(),
            counters: Counters::default(),
            rng,
        }
    }

    /// What it is now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it left its state last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Its name on this system.
    pub fn discriminator(&self) -> Discriminator {
        self.discriminator
    }

    /// What is known of the peer.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Whether the peer has heard that the session is not up here, or is not heard itself.
    pub fn peer_knows(&self) -> bool {
        !matches!(self.remote.state, State::Up | State::Init)
    }

    /// After so long without a packet the peer is gone; none while it is not heard (RFC 5880 §6.8.4).
    pub fn detection_time(&self) -> Option<Duration> {
        self.remote.discriminator.map(|_| self.detection())
    }

    /// Between two of our packets, before jitter (RFC 5880 §6.8.2).
    pub fn transmit_interval(&self) -> Duration {
        let own = match self.farewell {
            // RFC 5880 §6.8.16 wants AdminDown sent for as long as the peer's detection takes. At an interval of a
            // second (§6.8.3) that is one packet, and if it is lost the peer finds the path to be broken.
            Some((before, _)) if self.state == State::AdminDown && !self.peer_knows() => before,
            _ => micros(self.timing.used().desired),
        };
        own.max(micros(self.remote.required_min_rx))
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn detection(&self) -> Duration {
        let theirs = self.timing.used().required.max(self.remote.desired_min_tx);
        micros(theirs) * self.remote.multiplier.into()
    }

    fn expires(&self) -> Option<Tick> {
        let (last, _) = self.heard.filter(|_| self.remote.discriminator.is_some())?;
        Some(last + self.detection())
    }

    /// When the next periodic packet is due (RFC 5880 §6.8.7).
    fn periodic(&self) -> Option<Tick> {
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let unwanted = self.remote.demand && both_up && !self.timing.is_polling();
        (self.link && self.remote.required_min_rx != 0 && !unwanted).then_some(self.next)
    }

    /// What a packet says now, without P and F.
    fn control(&self) -> Control {
        let Intervals { desired, required } = self.timing.said();
        Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: false,
            is_final: false,
            independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my: self.discriminator,
            your: self.remote.discriminator,
            desired_min_tx: desired,
            required_min_rx: required,
            required_min_echo_rx: 0,
            section: None,
        }
    }

    /// Draws the conclusions of what happened: other intervals, another moment to send, something new to say.
    fn follow(&mut self, now: Tick) {
        let wanted = intervals(&self.config, self.state);
        let known = self.remote.discriminator.is_some();
        self.counters.polls += u64::from(self.timing.want(wanted, self.state == State::Up, known));
        let (sent, waits) = self.sent;
        if self.said.is_some() && waits != self.transmit_interval() {
            self.schedule(sent);
        }
        if self.link && self.said.as_ref().is_some_and(|said| *said != self.control()) {
            self.hurry(now);
        }
    }

    /// At once, or as soon as it may.
    fn hurry(&mut self, now: Tick) {
        self.soon.get_or_insert(now.max(self.at_once));
    }

    /// The next periodic packet: three quarters of the interval to all of it after this one, or nine tenths where the
    /// peer misses a single one (RFC 5880 §6.8.7).
    fn schedule(&mut self, sent: Tick) {
        let interval = self.transmit_interval();
        let most = if self.config.multiplier == NonZeroU8::MIN { 900 } else { 1000 };
        self.sent = (sent, interval);
        self.next = sent + interval * self.rng.u32(750..=most) / 1000;
    }

    fn send(&mut self, now: Tick, answer: bool) {
        let mut control = self.control();
        let changed = self.said.as_ref() != Some(&control);
        self.said = Some(control.clone());
        control.is_final = answer;
        control.poll = self.timing.is_polling() && !answer;
        if control.poll {
            self.timing.asked();
        }
        if !answer {
            self.farewell = self
                .farewell
                .filter(|_| self.state == State::AdminDown)
                .and_then(|(before, left)| Some((before, NonZeroU8::new(left.get() - 1)?)));
            self.schedule(now);
        }
        let message = match &self.config.authentication {
            Some(authentication) => authentication.sign(control, changed, &mut self.sequence),
            None => control.emit(),
        };
        if self.messages.len() >= MAX_QUEUE {
            self.messages.pop_front();
            self.counters.dropped += 1;
        }
        self.messages.push_back(message);
        self.counters.sent += 1;
    }

    fn configure(&mut self, config: Config) {
        let method = |c: &Config| c.authentication.as_ref().map(|a| a.method);
        if method(&config) != method(&self.config) {
            self.sequence.forget();
        }
        self.config = config;
    }

    fn admin_down(&mut self) {
        if self.state != State::AdminDown {
            self.farewell = Some((self.transmit_interval(), self.config.multiplier));
            self.turn(State::AdminDown, Diagnostic::ADMIN, Cause::Admin);
        }
    }

    fn link(&mut self, now: Tick, up: bool) {
        if up && !self.link {
            self.hurry(now);
        }
        self.link = up;
        if !up {
            (self.soon, self.answer) = (None, false);
            self.forget();
            if matches!(self.state, State::Init | State::Up) {
                self.turn(State::Down, Diagnostic::PATH_DOWN, Cause::Link);
            }
        }
    }

    /// RFC 5880 §6.8.4 and, of what is known of the peer, §6.8.1.
    fn silence(&mut self) {
        self.forget();
        if matches!(self.state, State::Init | State::Up) {
            self.turn(State::Down, Diagnostic::EXPIRED, Cause::Silence);
        }
    }

    /// All but its sequence number, and when it was heard: see [`Session::packet`].
    fn forget(&mut self) {
        self.remote = UNHEARD;
        self.timing.settle();
    }

    fn turn(&mut self, state: State, diagnostic: Diagnostic, cause: Cause) {
        let was_up = std::mem::replace(&mut self.state, state) == State::Up;
        self.diagnostic = diagnostic;
        let fact = match (was_up, state == State::Up) {
            (false, true) => Effect::Up,
            (true, false) => Effect::Down { diagnostic, cause },
            _ => return,
        };
        self.timing.settle();
        self.counters.ups += u64::from(!was_up);
        self.counters.downs += u64::from(was_up);
        // They alternate: of three that nobody has drained, the first two cancel each other.
        if self.facts.len() == 2 {
            self.facts.clear();
        }
        self.facts.push_back(fact);
    }

    fn packet(&mut self, now: Tick, ttl: u8, message: &[u8]) {
        if !self.link {
            self.counters.ignored += 1;
        } else if let Err(reason) = self.receive(now, ttl, message) {
            *self.counters.refused.entry(reason).or_default() += 1;
            self.refusals.add(now, reason);
        }
    }

    /// RFC 5880 §6.8.6, in its order.
    fn receive(&mut self, now: Tick, ttl: u8, message: &[u8]) -> Result<(), Refusal> {
        if ttl < self.config.hops.least_ttl() {
            return Err(Refusal::Ttl);
        }
        let control = Control::parse(message)?;
        if control.your.is_some_and(|your| your != self.discriminator) {
            return Err(Refusal::YourDiscriminator);
        }
        match (&self.config.authentication, &control.section) {
            (None, None) => {}
            (None, Some(_)) => return Err(Refusal::AuthUnexpected),
            (Some(_), None) => return Err(Refusal::AuthMissing),
            (Some(authentication), Some(_)) => {
                // RFC 5880 §6.8.1 bfd.AuthSeqKnown
                if self.heard.is_some_and(|(last, detection)| now >= last + detection * 2) {
                    self.sequence.forget();
                }
                authentication.verify(&control, message, &mut self.sequence)?;
            }
        }
        self.remote = Remote {
            discriminator: Some(control.my),
            state: control.state,
            diagnostic: control.diagnostic,
            required_min_rx: control.required_min_rx,
            desired_min_tx: control.desired_min_tx,
            multiplier: control.multiplier.get(),
            demand: control.demand,
            independent: control.independent,
        };
        self.timing.heard(control.is_final);
        self.heard = Some((now, self.detection()));
        if self.state == State::AdminDown {
            self.counters.ignored += 1;
            return Ok(());
        }
        self.counters.received += 1;
        self.hear_state(&control);
        if control.poll {
            self.answer = true;
            self.hurry(now);
        }
        Ok(())
    }

    fn hear_state(&mut self, control: &Control) {
        let told = control.diagnostic;
        match (self.state, control.state) {
            (State::Init | State::Up, State::AdminDown) => {
                self.turn(State::Down, Diagnostic::NEIGHBOR, Cause::PeerAdmin);
            }
            (State::Down, State::Down) => self.turn(State::Init, self.diagnostic, Cause::Peer(told)),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.turn(State::Up, Diagnostic::NONE, Cause::Peer(told));
            }
            (State::Up, State::Down) => self.turn(State::Down, Diagnostic::NEIGHBOR, Cause::Peer(told)),
            _ => {}
        }
    }
}

/// bfd.DesiredMinTxInterval is at least a second while the session is not up (RFC 5880 §6.8.3).
fn intervals(config: &Config, state: State) -> Intervals {
    let desired = if state == State::Up { config.transmit } else { config.transmit.max(Interval::SECOND) };
    Intervals { desired: desired.get(), required: config.receive.get() }
}

const fn micros(n: u32) -> Duration {
    Duration::from_micros(n as u64)
}
