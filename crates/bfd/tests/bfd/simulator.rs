//! Two sessions and what is between them: virtual time, seeded loss, delay, reordering, cuts and pauses. What came in
//! while a side was paused is given to it before its timers, as the engine asks for.

use super::*;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub struct Side {
    pub session: Session,
    pub config: Config,
    /// What its effects say.
    pub up: bool,
    /// Its clock is ahead by so much.
    offset: Duration,
    paused_until: Option<Tick>,
    inbox: Vec<Vec<u8>>,
    /// When the last packet for it will arrive.
    busy_until: Tick,
    /// Packets of it that were lost in a row.
    lost: u32,
    /// When the last packet for it arrived.
    pub last_arrival: Tick,
    pub log: Vec<(Tick, Effect)>,
}

pub struct Sim {
    pub now: Tick,
    pub rng: fastrand::Rng,
    /// Percent of packets that are lost.
    pub loss: u64,
    /// At most so many in a row of one side.
    pub most_lost: u32,
    /// Microseconds.
    pub delay: RangeInclusive<u64>,
    /// Whether a slower packet is overtaken. On one link none is.
    pub overtakes: bool,
    /// Nothing arrives that was sent by this side.
    pub cut: [bool; 2],
    pub sides: [Side; 2],
    queue: BTreeMap<(Tick, u64), (usize, Vec<u8>)>,
    sent: u64,
}

impl Sim {
    pub fn new(seed: u64, configs: [Config; 2]) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut n = 0;
        let sides = configs.map(|config| {
            n += 1;
            let offset = ms(rng.u64(0..1_000_000));
            let session = Session::new(Tick::ZERO + offset, config.clone(), name(n), rng.fork());
            Side {
                session,
                config,
                up: false,
                offset,
                paused_until: None,
                inbox: Vec::new(),
                busy_until: Tick::ZERO,
                lost: 0,
                last_arrival: Tick::ZERO,
                log: Vec::new(),
            }
        });
        Sim {
            now: Tick::ZERO,
            rng,
            loss: 0,
            most_lost: u32::MAX,
            delay: 20..=2000,
            overtakes: false,
            cut: [false; 2],
            sides,
            queue: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Another process in its place: another name, no memory.
    pub fn restart(&mut self, n: usize) {
        let side = &mut self.sides[n];
        (side.paused_until, side.up) = (None, false);
        side.inbox.clear();
        let fresh = name(self.rng.u32(100..));
        side.session = Session::new(self.now + side.offset, side.config.clone(), fresh, self.rng.fork());
    }

    pub fn pause(&mut self, n: usize, time: Duration) {
        self.sides[n].paused_until = Some(self.now + time);
    }

    pub fn handle(&mut self, n: usize, input: Input) {
        let local = self.now + self.sides[n].offset;
        self.sides[n].session.handle(local, input);
        self.drain(n);
    }

    fn drain(&mut self, n: usize) {
        while let Some(effect) = self.sides[n].session.poll() {
            match &effect {
                Effect::Send { message } => self.transmit(n, message),
                Effect::Up | Effect::Down { .. } => {
                    let side = &mut self.sides[n];
                    assert_ne!(side.up, effect == Effect::Up, "it is told what it was told");
                    side.up = effect == Effect::Up;
                }
                Effect::Refused { .. } => {}
            }
            self.sides[n].log.push((self.now, effect));
        }
        let side = &self.sides[n];
        assert_eq!(side.session.state() == State::Up, side.up, "effects and state of {n} differ");
        assert!(side.session.deadline().is_none_or(|d| d > self.now + side.offset), "{n} has not done what was due");
    }

    fn transmit(&mut self, from: usize, message: &[u8]) {
        let lose = self.rng.u64(0..100) < self.loss && self.sides[from].lost < self.most_lost;
        if lose || self.cut[from] {
            self.sides[from].lost += 1;
            return;
        }
        self.sides[from].lost = 0;
        self.sent += 1;
        let when = self.now + Duration::from_micros(self.rng.u64(self.delay.clone()));
        let busy_until = &mut self.sides[1 - from].busy_until;
        let when = if self.overtakes { when } else { when.max(*busy_until) };
        *busy_until = when.max(*busy_until);
        self.queue.insert((when, self.sent), (1 - from, message.to_vec()));
    }

    fn wakes(&self, n: usize) -> Option<Tick> {
        let side = &self.sides[n];
        if side.paused_until.is_some() {
            return side.paused_until;
        }
        Some(side.session.deadline()? - side.offset)
    }

    fn step(&mut self, until: Tick) -> bool {
        let packet = self.queue.first_key_value().map(|((when, _), _)| *when);
        let timer = (0..2).filter_map(|n| Some((self.wakes(n)?, n))).min();
        let Some(next) = packet.into_iter().chain(timer.map(|t| t.0)).min().filter(|t| *t <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if packet == Some(next) {
            let Some((_, (to, message))) = self.queue.pop_first() else { return false };
            self.sides[to].last_arrival = self.now;
            if self.sides[to].paused_until.is_some() {
                self.sides[to].inbox.push(message);
            } else {
                self.give(to, message);
            }
        } else if let Some((_, n)) = timer {
            self.sides[n].paused_until = None;
            for message in std::mem::take(&mut self.sides[n].inbox) {
                self.give(n, message);
            }
            let local = self.now + self.sides[n].offset;
            self.sides[n].session.timeout(local);
            self.drain(n);
        }
        true
    }

    /// What the table of sessions would give to it.
    fn give(&mut self, to: usize, message: Vec<u8>) {
        let your = Control::parse(&message).unwrap().your;
        if your.is_none_or(|your| your == self.sides[to].session.discriminator()) {
            self.handle(to, Input::Packet { ttl: TTL, message });
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs as long as it holds after every step.
    pub fn run_while(&mut self, time: Duration, holds: impl Fn(&Sim) -> bool) -> Result<(), String> {
        let until = self.now + time;
        while self.step(until) {
            if !holds(self) {
                return Err(self.story("it ceased to hold"));
            }
        }
        Ok(())
    }

    pub fn both_up(&self) -> bool {
        self.sides.iter().all(|s| s.up)
    }

    pub fn expect_up(&self) -> Result<(), String> {
        if self.both_up() { Ok(()) } else { Err(self.story("not both are up")) }
    }

    pub fn story(&self, what: &str) -> String {
        let facts = |s: &Side| {
            let facts = s.log.iter().filter(|(_, e)| !matches!(e, Effect::Send { .. }));
            facts.rev().take(4).map(|(t, e)| format!("{:?} {e:?}", Duration::from_nanos(t.0))).collect::<Vec<_>>()
        };
        let states = self.sides.each_ref().map(|s| (s.session.state(), s.session.remote().state, facts(s)));
        format!("{what} at {:?}: {states:?}", Duration::from_nanos(self.now.0))
    }

    /// How often a side went down.
    pub fn downs(&self, n: usize) -> usize {
        self.sides[n].log.iter().filter(|(_, e)| matches!(e, Effect::Down { .. })).count()
    }
}
