//! Planned moves: the successor is ready, the owner stops answering and releases, a majority of acceptors confirms
//! that, and the successor, for whom the address is kept, is told to take it. Moves are paced.

use super::packets::GOODBYES;
use super::{Lease, Phase};
use crate::config::Reason;
use crate::message::Message;
use crate::types::Node;
use crate::wire::chunks;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// So many addresses move at once, and the next ones after this.
const BATCH: usize = 32;
const EVERY: Duration = Duration::from_millis(20);
/// The successor is told after this even when not enough acceptors have confirmed the release.
const CONFIRM: Duration = Duration::from_millis(50);
/// What was given up is not wanted back for as long.
const GIVEN_UP: Duration = Duration::from_secs(2);
/// How long an offer counts more than what its former owner says of itself.
const OFFERED: Duration = Duration::from_millis(500);

/// Addresses on their way to a successor.
#[derive(Debug)]
pub struct Handing {
    to: Node,
    addresses: Vec<IpAddr>,
    /// The releases, and who confirmed one.
    numbers: BTreeSet<u64>,
    confirmed: BTreeSet<Node>,
    until: Tick,
}

impl Lease {
    pub(super) fn plan_move(&mut self, address: IpAddr, to: &Node) {
        // All speakers are told of a move. The one that is to have the address may have it before it is told.
        let elsewhere = *to != self.config.node;
        if elsewhere && self.held.contains_key(&address) && self.can_have(address, to) {
            self.to_move.push_back((address, to.clone()));
        }
    }

    /// Where addresses of ours would go, among the other candidates or among all.
    pub(super) fn successors<'a>(
        &'a self,
        but: Option<&'a str>,
        loads: &BTreeMap<&'a str, usize>,
    ) -> BTreeMap<IpAddr, Node> {
        let (addresses, groups) = self.groups(self.held.keys().map(|a| (*a, but)));
        let placed = self.seats.place(&addresses, &groups, loads);
        placed.into_iter().map(|(address, node)| (address, node.to_owned())).collect()
    }

    /// Every speaker places all addresses anew, and gives up those of its own that placement gives to others.
    pub(super) fn rebalance(&mut self, now: Tick) {
        let (all, groups) = self.groups(self.config.addresses.keys().map(|a| (*a, None)));
        let empty = self.loads().into_keys().map(|node| (node, 0)).collect();
        let placed = self.seats.place(&all, &groups, &empty);
        let mine = |(a, to): &(IpAddr, &str)| self.held.contains_key(a) && *to != self.config.node;
        let moves: Vec<(IpAddr, Node)> =
            placed.into_iter().filter(mine).map(|(address, to)| (address, to.to_owned())).collect();
        self.to_move.extend(moves);
        self.next_move = self.next_move.max(now);
    }

    pub(super) fn leave(&mut self, now: Tick) {
        if !matches!(self.phase, Phase::Idle | Phase::Running) {
            return;
        }
        let wanted: Vec<IpAddr> = self.wants.keys().copied().collect();
        wanted.into_iter().for_each(|a| self.forget(now, a));
        let mut loads = self.loads();
        loads.remove(self.config.node.as_str());
        let successors = self.successors(Some(&self.config.node), &loads);
        let alone: Vec<IpAddr> = self.held.keys().filter(|a| !successors.contains_key(a)).copied().collect();
        self.to_move = successors.into_iter().collect();
        self.phase = Phase::Leaving;
        alone.iter().for_each(|a| self.lose(now, *a, Reason::Left));
        self.give_back(now, &alone, None);
    }

    /// Does the moves that are due, and tells successors.
    pub(super) fn hand_over(&mut self, now: Tick) {
        if !self.to_move.is_empty() && self.next_move <= now {
            self.next_move = now + EVERY;
            let batch: Vec<(IpAddr, Node)> = (0..BATCH).filter_map(|_| self.to_move.pop_front()).collect();
            let mut by_successor: BTreeMap<Node, Vec<IpAddr>> = BTreeMap::new();
            for (address, to) in batch {
                if !self.held.contains_key(&address) {
                    continue;
                }
                if self.can_have(address, &to) {
                    by_successor.entry(to).or_default().push(address);
                } else if self.phase == Phase::Running {
                    self.decide_by(now); // another one may have it, if it is to go at all
                } else {
                    self.lose(now, address, Reason::Left);
                    self.give_back(now, &[address], None);
                }
            }
            by_successor.into_iter().for_each(|(to, addresses)| self.give_to(now, to, addresses));
        }
        let (over, open) = std::mem::take(&mut self.handing).into_iter().partition(|h: &Handing| h.until <= now);
        self.handing = open;
        over.into_iter().for_each(|h| self.offer(&h));
        if self.phase == Phase::Leaving && self.to_move.is_empty() && self.handing.is_empty() {
            let heard = self.started != Tick::ZERO || !self.peers.is_empty();
            self.phase = Phase::Left { goodbyes: if heard { GOODBYES } else { 0 } };
            self.next_heartbeat = now;
            self.say_goodbye(now, if heard { GOODBYES } else { 0 });
        }
    }

    fn give_to(&mut self, now: Tick, to: Node, addresses: Vec<IpAddr>) {
        let by_consent = addresses.iter().any(|a| self.held.get(a).is_some_and(|h| h.consent.is_some()));
        for address in &addresses {
            let reason = match self.unreached.remove(address) {
                Some(_) => Reason::Unreached { to: to.clone() },
                None => Reason::Moved { to: to.clone() },
            };
            self.lose(now, *address, reason);
            self.given_up.insert(*address, now + GIVEN_UP);
        }
        let numbers = if by_consent {
            self.give_back_everywhere(now, &addresses, Some(&to))
        } else {
            self.give_back(now, &addresses, Some(&to))
        };
        self.handing.push(Handing { to, addresses, numbers, confirmed: BTreeSet::new(), until: now + CONFIRM });
    }

    /// An acceptor confirmed a release.
    pub(super) fn release_confirmed(&mut self, now: Tick, by: &Node, number: u64) {
        let majority = self.epochs.known.majority();
        for handing in self.handing.iter_mut().filter(|h| h.numbers.contains(&number)) {
            handing.confirmed.insert(by.clone());
            if handing.confirmed.len() >= majority {
                handing.until = now;
            }
        }
    }

    fn offer(&mut self, handing: &Handing) {
        let sorted: BTreeSet<IpAddr> = handing.addresses.iter().copied().collect();
        for addresses in chunks(&sorted) {
            self.send(&handing.to, Some(Message::Offer { addresses }));
        }
    }

    /// Somebody gave addresses up for us.
    pub(super) fn offered(&mut self, now: Tick, addresses: &[IpAddr]) {
        if self.phase != Phase::Running {
            return;
        }
        for address in addresses {
            let mine = self.can_have(*address, &self.config.node);
            if mine && !self.held.contains_key(address) {
                self.given_up.remove(address);
                self.want(*address, now, Some(now + OFFERED));
            }
        }
    }

    /// When a move or an offer is due.
    pub(super) fn handovers(&self) -> impl Iterator<Item = Tick> {
        let next = (!self.to_move.is_empty()).then_some(self.next_move);
        next.into_iter().chain(self.handing.iter().map(|h| h.until))
    }
}
