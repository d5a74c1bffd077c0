//! What is known of another speaker.

use crate::packet::Packet;
use engine::Tick;
use quorum::statement::{Assembly, Digest, EMPTY, Statement};
use std::net::SocketAddr;

/// Packets may be overtaken by so many others (as in RFC 4303 §3.4.3): a statement in many parts is sent in one go.
const WINDOW: u64 = 64;

/// How a packet stands to those that were accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newer than all.
    New,
    /// Not seen before, but overtaken by a newer one.
    Late,
    /// Seen before, or so old that it cannot be known.
    Old,
}

/// Another speaker.
#[derive(Debug)]
pub struct Peer {
    /// Where to send to.
    pub to: SocketAddr,
    /// The configuration names it. Others are answered, and believed once they prove that they hear us.
    pub configured: bool,
    /// It was heard within the detection time and did not say goodbye.
    pub alive: bool,
    /// When the last packet of it was accepted.
    pub heard: Tick,
    /// The newest start of its process that was heard, and the newest packet of that.
    pub boot: u128,
    pub counter: u64,
    /// Which of the packets before the newest were accepted: the lowest bit is the newest itself.
    seen: u64,
    /// What it says of itself, as far as we know; complete, but not the newest while `stale_since` is set.
    pub says: Statement,
    /// The digest of `says`; zero while nothing is known.
    pub known: Digest,
    /// The digest of what it says now.
    newest: Digest,
    /// Since when it says something else than what we know.
    pub stale_since: Option<Tick>,
    /// The digest of what it knows of us.
    pub acknowledged: Digest,
    /// The next part of our statement to send to it.
    pub cursor: usize,
    assembly: Option<Assembly>,
}

impl Peer {
    pub fn new(to: SocketAddr, configured: bool, now: Tick) -> Peer {
        Peer {
            to,
            configured,
            alive: false,
            heard: now,
            boot: 0,
            counter: 0,
            seen: 0,
            says: Statement::default(),
            known: 0,
            newest: 0,
            stale_since: None,
            acknowledged: 0,
            cursor: 0,
            assembly: None,
        }
    }

    /// How a packet stands to those that were accepted before. `fresh` says that its sender has just heard us, so it
    /// cannot be a recording: then a start that seems to lie before the newest is that of a node whose clock went back,
    /// and it is accepted unless the newest still speaks.
    pub fn order(&self, packet: &Packet, fresh: bool) -> Order {
        if packet.boot > self.boot || (packet.boot < self.boot && fresh && !self.alive) {
            return Order::New;
        }
        if packet.boot < self.boot {
            return Order::Old;
        }
        match self.counter.checked_sub(packet.counter) {
            None => Order::New,
            Some(behind) if behind < WINDOW && self.seen >> behind & 1 == 0 => Order::Late,
            Some(_) => Order::Old,
        }
    }

    /// Notes that a packet was accepted.
    pub fn accept(&mut self, packet: &Packet) {
        if packet.boot != self.boot {
            (self.boot, self.counter, self.seen) = (packet.boot, packet.counter, 1);
        } else if let Some(behind) = self.counter.checked_sub(packet.counter) {
            self.seen |= if behind < WINDOW { 1 << behind } else { 0 };
        } else {
            let ahead = packet.counter - self.counter;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
            self.counter = packet.counter;
        }
    }

    /// Takes from a packet that was overtaken only what does not grow old: a part of what the peer says now.
    pub fn learn_late(&mut self, packet: &Packet) -> bool {
        packet.statement == self.newest && self.part(packet)
    }

    fn part(&mut self, packet: &Packet) -> bool {
        if let Some(fragment) = packet.fragment.as_ref().filter(|_| packet.statement != self.known)
            && let Some(statement) = Assembly::add(&mut self.assembly, packet.statement, fragment)
        {
            (self.says, self.known, self.stale_since) = (statement, packet.statement, None);
            return true;
        }
        false
    }

    /// Learns what the peer says of itself. True when that, or whether we know it, has changed.
    pub fn learn(&mut self, now: Tick, packet: &Packet) -> bool {
        let before = (self.known, self.stale_since.is_some());
        self.newest = packet.statement;
        if packet.statement == EMPTY {
            (self.says, self.known, self.assembly) = (Statement::default(), EMPTY, None);
        } else {
            self.part(packet);
        }
        if self.known == packet.statement {
            self.stale_since = None;
        } else {
            self.stale_since.get_or_insert(now);
        }
        before != (self.known, self.stale_since.is_some())
    }
}
