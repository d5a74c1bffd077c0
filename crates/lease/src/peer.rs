//! What is known of another speaker.

use crate::packet::Packet;
use crate::statement::{Assembly, Digest, EMPTY, Statement};
use engine::Tick;
use std::net::SocketAddr;

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
    /// What it says of itself, as far as we know; complete, but not the newest while `stale_since` is set.
    pub says: Statement,
    /// The digest of `says`; zero while nothing is known.
    pub known: Digest,
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
            says: Statement::default(),
            known: 0,
            stale_since: None,
            acknowledged: 0,
            cursor: 0,
            assembly: None,
        }
    }

    /// Whether a packet is newer than all that were accepted. `fresh` says that its sender has just heard us, so it
    /// cannot be a recording: then a start that seems to lie before the newest is that of a node whose clock went back,
    /// and it is accepted unless the newest still speaks.
    pub fn accepts(&self, packet: &Packet, fresh: bool) -> bool {
        (packet.boot, packet.counter) > (self.boot, self.counter) || (packet.boot < self.boot && fresh && !self.alive)
    }

    /// Learns what the peer says of itself. True when that, or whether we know it, has changed.
    pub fn learn(&mut self, now: Tick, packet: &Packet) -> bool {
        let before = (self.known, self.stale_since.is_some());
        if packet.statement == EMPTY {
            self.says = Statement::default();
            self.known = EMPTY;
            self.assembly = None;
        } else if let Some(fragment) = packet.fragment.as_ref().filter(|_| packet.statement != self.known)
            && let Some(statement) = Assembly::add(&mut self.assembly, packet.statement, fragment)
        {
            self.says = statement;
            self.known = packet.statement;
        }
        if self.known == packet.statement {
            self.stale_since = None;
        } else {
            self.stale_since.get_or_insert(now);
        }
        before != (self.known, self.stale_since.is_some())
    }
}
