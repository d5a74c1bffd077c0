//! What a speaker can say of who owns what.

use super::{Lease, Phase};
use crate::config::Reason;
use crate::peer::Peer;
use crate::types::{EpochId, Node};
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// So many moves are remembered.
const MOVES: usize = 10;

/// An address that this node owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Since when.
    pub since: Tick,
    /// Until when its lease runs, unless it is renewed.
    pub until: Tick,
    /// It is owned because all that are heard agreed, not by a majority of acceptors.
    pub without_majority: bool,
}

/// An address was gained or lost by this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// When.
    pub at: Tick,
    /// Which.
    pub address: IpAddr,
    /// Why it was lost; none when it was gained.
    pub lost: Option<Reason>,
}

/// What a speaker knows of who owns what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The other speakers that are heard.
    pub alive: BTreeSet<Node>,
    /// The live speaker, this one included, that says that it owns each address.
    pub owners: BTreeMap<IpAddr, Node>,
    /// What this one owns.
    pub owned: BTreeMap<IpAddr, Owned>,
    /// The epoch that is known, and its members.
    pub epoch: EpochId,
    /// Its members.
    pub members: BTreeSet<Node>,
    /// The epoch that each speaker has confirmed, this one included.
    pub confirmed: BTreeMap<Node, EpochId>,
    /// The silence of this acceptor is over: it may be added to an epoch.
    pub ready: bool,
    /// The speakers of which this is known.
    pub ready_peers: BTreeSet<Node>,
    /// The last moment at which it is known to have been in contact with a majority.
    pub last_majority: Tick,
    /// The record of the confirmed epoch was lost: this acceptor grants nothing until it is added anew.
    pub lost_record: bool,
    /// An epoch that is not confirmed, because it has the number of another one or swaps members.
    pub refused_epoch: Option<EpochId>,
    /// No speaker is heard, but the segment is not empty: the UDP port is blocked, and nothing is taken.
    pub blocked: bool,
    /// Addresses that went over to another domain and for which nothing granted here runs any more. When a majority of
    /// the acceptors says so of an address, the other domain may grant it.
    pub left: BTreeSet<IpAddr>,
    /// The last ten moves, the newest last.
    pub moves: Vec<Move>,
}

impl Lease {
    pub(super) fn note(&mut self, at: Tick, address: IpAddr, lost: Option<Reason>) {
        self.moves.push_back(Move { at, address, lost });
        while self.moves.len() > MOVES {
            self.moves.pop_front();
        }
    }

    /// The addresses that this node owns.
    pub fn owned(&self) -> &BTreeSet<IpAddr> {
        &self.own.owned
    }

    /// The live speaker that says that it owns the address.
    pub fn owner(&self, address: IpAddr) -> Option<&str> {
        if self.own.owned.contains(&address) {
            return Some(&self.config.node);
        }
        let owns = |(_, p): &(&Node, &Peer)| p.alive && p.says.owned.contains(&address);
        self.peers.iter().find(owns).map(|(node, _)| node.as_str())
    }

    /// Whether another speaker, or this one before, was seen to own the address since it was configured. Where not, it
    /// is to be looked for a stranger that has it before it is announced (RFC 5227 §2.1.1).
    pub fn used(&self, address: IpAddr) -> bool {
        self.used.contains(&address)
    }

    /// The silence of this acceptor is over.
    pub fn ready(&self, now: Tick) -> bool {
        self.phase != Phase::Idle && now >= self.acceptor.silent_until()
    }

    /// What it knows.
    pub fn view(&self, now: Tick) -> View {
        let live = || self.peers.iter().filter(|(_, p)| p.alive);
        let others = live().flat_map(|(node, p)| p.says.owned.iter().map(|a| (*a, node.clone())));
        let own = self.own.owned.iter().map(|a| (*a, self.config.node.clone()));
        let owned = self.held.iter().map(|(a, held)| {
            let until = self.until(*a).unwrap_or_default();
            (*a, Owned { since: held.since, until, without_majority: held.consent.is_some() })
        });
        let confirmed = live().map(|(n, p)| (n.clone(), p.confirmed));
        let us = self.acceptor.epoch().map(|e| (self.config.node.clone(), e));
        let (epoch, known) = self.known();
        View {
            alive: live().map(|(node, _)| node.clone()).collect(),
            owners: others.chain(own).collect(),
            owned: owned.collect(),
            epoch,
            members: known.members,
            confirmed: confirmed.filter(|(_, e)| e.number > 0).chain(us).collect(),
            ready: self.ready(now),
            ready_peers: live().filter(|(_, p)| p.ready).map(|(n, _)| n.clone()).collect(),
            last_majority: if self.epochs.known.members.is_empty() { self.started } else { self.last_majority(now) },
            lost_record: self.epochs.lost,
            refused_epoch: self.epochs.refused,
            blocked: self.blocked(now),
            left: self.acceptor.left(now).collect(),
            moves: self.moves.iter().cloned().collect(),
        }
    }
}
