//! What is known of another speaker.

use crate::session::Session;
use crate::statement::{Assembly, Digest, EMPTY, Fragment, Statement};
use crate::types::EpochId;
use crate::wire::Packet;
use engine::Tick;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Who dies so often within this time is flapping, and gets nothing until it lived as long.
const FLAPS: usize = 3;
const FLAPPING: Duration = Duration::from_secs(60);

/// Another speaker.
#[derive(Debug, Default)]
pub struct Peer {
    /// Where to send to.
    pub to: Vec<SocketAddr>,
    /// The configuration names it. Others are answered and respected, and are no candidates.
    pub configured: bool,
    /// It was heard within its detection time and did not say goodbye.
    pub alive: bool,
    /// When the last packet of it was accepted; none before the first.
    pub heard: Option<Tick>,
    /// When a packet left us that is known to have arrived there.
    pub contact: Option<Tick>,
    /// We hear it, and it does not hear us.
    pub deaf: bool,
    pub session: Session,
    /// The time between its heartbeats.
    pub pace: Duration,
    pub known: EpochId,
    pub confirmed: EpochId,
    pub ready: bool,
    /// It holds us down because we died too often.
    pub holds_us_down: bool,
    /// Somebody holds it down.
    pub rests: bool,
    deaths: VecDeque<Tick>,
    /// What it says of itself, as far as we know.
    pub says: Statement,
    /// The digest of `says`; zero while nothing is known.
    pub learned: Digest,
    newest: Digest,
    /// Since when it says something else than what we know.
    pub stale_since: Option<Tick>,
    /// The digest of what it knows of us.
    pub acknowledged: Digest,
    /// The next part of our statement to send to it.
    pub cursor: usize,
    assembly: Option<Assembly>,
    /// When we last answered a packet that proved nothing, told it our epoch, and asked for its whole set.
    pub answered: Option<Tick>,
    pub told_epoch: Option<Tick>,
    pub resynced: Option<Tick>,
}

impl Peer {
    /// After so long without a packet it is dead: three heartbeats, and a margin for the delay of the third.
    pub fn detection(&self) -> Duration {
        self.pace * 3 + Duration::from_millis(15)
    }

    /// When it will be dead.
    pub fn dies(&self) -> Option<Tick> {
        self.heard.filter(|_| self.alive).map(|heard| heard + self.detection())
    }

    /// It was heard within this time.
    pub fn heard_within(&self, now: Tick, time: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < time)
    }

    /// It died without a goodbye.
    pub fn died(&mut self, now: Tick) {
        self.deaths.push_back(now);
        while self.deaths.len() > FLAPS {
            self.deaths.pop_front();
        }
    }

    /// It dies so often that it had better get nothing.
    pub fn flaps(&self, now: Tick) -> bool {
        self.deaths.len() >= FLAPS && self.deaths.iter().all(|at| now.since(*at) < FLAPPING)
    }

    /// Learns a part of what the peer said in this packet. True when that completes a statement.
    pub fn part(&mut self, statement: Digest, fragment: &Fragment) -> bool {
        if statement == self.newest
            && statement != self.learned
            && let Some(says) = Assembly::add(&mut self.assembly, statement, fragment)
        {
            (self.says, self.learned, self.stale_since) = (says, statement, None);
            return true;
        }
        false
    }

    /// Learns from the head of the newest packet. True when what is known of its statement has changed.
    pub fn learn(&mut self, now: Tick, packet: &Packet) -> bool {
        self.acknowledged = packet.acknowledged;
        self.pace = Duration::from_millis(u64::from(packet.pace.clamp(10, 1000)));
        (self.known, self.confirmed) = (packet.known, packet.confirmed);
        let before = (self.learned, self.stale_since.is_some(), self.rests, self.holds_us_down);
        (self.ready, self.holds_us_down, self.rests) = (packet.ready, packet.held_down, packet.rests);
        self.newest = packet.statement;
        if packet.statement == EMPTY {
            (self.says, self.learned, self.assembly) = (Statement::default(), EMPTY, None);
        }
        if self.learned == packet.statement {
            self.stale_since = None;
        } else {
            self.stale_since.get_or_insert(now);
        }
        before != (self.learned, self.stale_since.is_some(), self.rests, self.holds_us_down)
    }
}
