//! The second step, for addresses whose policy is `available`: what a speaker does that has no majority.
//!
//! It has been without one for three leases; nobody answers for the address on the wire; every speaker that was heard
//! of late agrees. Then it owns the address for one lease, and asks again at every heartbeat. All speakers are told
//! with that, and whoever agreed, acceptor or not, gives the address to nobody else and does not take it.

use super::{Lease, hold::Pursuit};
use crate::config::{Effect, Reason};
use crate::fault::Fault;
use crate::message::{Answer, Message, Verdict};
use crate::types::{Node, Partition, Preset, Stamp};
use crate::wire::chunks;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An address is owned because all that are heard agreed.
#[derive(Debug, Clone, PartialEq)]
pub struct Consent {
    pub until: Tick,
    /// They are asked again.
    round: Option<Round>,
}

/// All that are heard are asked at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    pub asked: Tick,
    /// Who has not agreed yet.
    waiting: BTreeSet<Node>,
}

/// What is known and promised without a majority.
#[derive(Debug, Default)]
pub struct Wire {
    /// When another speaker's answer for some address of the pool was seen on the segment.
    pub overheard: Option<Tick>,
    /// To whom we promised an address, and until when.
    promises: BTreeMap<IpAddr, (Node, Tick)>,
    /// Who was asked for what, by the number of the request.
    asked: BTreeMap<u64, (Node, Tick, Vec<IpAddr>)>,
}

impl Wire {
    /// This address was promised to somebody else.
    pub fn promised(&self, now: Tick, address: IpAddr) -> bool {
        self.promises.get(&address).is_some_and(|(_, until)| *until > now)
    }

    /// Who had our promise gives the address back.
    pub fn release(&mut self, from: &str, address: IpAddr) {
        if self.promises.get(&address).is_some_and(|(node, _)| node == from) {
            self.promises.remove(&address);
        }
    }
}

impl Lease {
    /// The last moment at which this speaker is known to have been in contact with a majority.
    pub(super) fn last_majority(&self, now: Tick) -> Tick {
        let contact = |member: &Node| {
            if *member == self.config.node {
                return (!self.epochs.lost).then_some(now);
            }
            // Who is silent yet will grant; who is not and has confirmed nothing never will.
            self.peers.get(member).filter(|p| p.confirmed.number > 0 || !p.ready).and_then(|p| p.contact)
        };
        let mut contacts: Vec<Tick> = self.epochs.known.members.iter().filter_map(contact).collect();
        contacts.sort_unstable_by(|a, b| b.cmp(a));
        contacts.get(self.epochs.known.majority() - 1).copied().unwrap_or_default().max(self.started)
    }

    /// Nobody is heard, yet the segment is not empty: the port is blocked.
    pub(super) fn blocked(&self, now: Tick) -> bool {
        let time = Preset::Relaxed.lease();
        let overheard = self.wire.overheard.is_some_and(|at| now.since(at) < time);
        overheard && !self.config.peers.is_empty() && !self.peers.values().any(|p| p.heard_within(now, time))
    }

    /// This address may be taken without a majority.
    pub(super) fn alone(&self, now: Tick, address: IpAddr) -> bool {
        self.alone_at(self.last_majority(now), address).is_some_and(|at| at <= now)
            && !self.wire.promised(now, address)
            && !self.blocked(now)
    }

    /// When that may be, if the last contact with a majority remains the last.
    pub(super) fn alone_at(&self, last_majority: Tick, address: IpAddr) -> Option<Tick> {
        let wanted = self.config.addresses.get(&address).filter(|a| a.partition == Partition::Available)?;
        (!self.config.peers.is_empty()).then(|| last_majority + wanted.preset.lease() * 3)
    }

    pub(super) fn ask_wire(&mut self, now: Tick, address: IpAddr) {
        self.look();
        if let Some(want) = self.wants.get_mut(&address) {
            want.state = Pursuit::Wire { at: now };
            self.effects.push_back(Effect::Ask(address));
        }
    }

    pub(super) fn heard_on_wire(&mut self, now: Tick, address: IpAddr, heard: bool) {
        let later = now + self.preset(address).lease();
        let step = self.wants.get(&address).map(|w| &w.state);
        if heard {
            // Whoever asks acceptors need not wait: they know when the other's lease ends.
            let without_majority = matches!(step, Some(Pursuit::Wire { .. } | Pursuit::Consent(_)));
            self.give_way(now, address, None);
            if without_majority {
                self.retry(now, address, later);
            }
        } else if matches!(step, Some(Pursuit::Wire { .. })) {
            if !self.alone(now, address) {
                return self.retry(now, address, now);
            }
            // No answer to an earlier request may count from here on: no release will follow that could end a promise.
            self.give_back(now, &[address], None);
            self.ask_all(now, self.preset(address), &[address].into());
        }
    }

    /// Stops owning an address without a majority.
    fn give_way(&mut self, now: Tick, address: IpAddr, to: Option<Node>) {
        if self.held.get(&address).is_some_and(|h| h.consent.is_some()) {
            self.lose(now, address, Reason::Yielded { to });
            self.give_back_everywhere(now, &[address], None);
        }
    }

    /// Asks every speaker for these addresses; those that were heard of late must agree.
    fn ask_all(&mut self, now: Tick, preset: Preset, addresses: &BTreeSet<IpAddr>) {
        let node = self.config.node.clone();
        let mut free = BTreeSet::new();
        for address in addresses {
            match self.acceptor.running(now, *address) {
                Some(other) if other.holder != node => {
                    self.refused_consent(now, *address, Some(other.holder), other.until)
                }
                _ => {
                    self.acceptor.heard(now, &node, preset, *address);
                    free.insert(*address);
                }
            }
        }
        let heard = |(_, p): &(&Node, &crate::peer::Peer)| p.heard_within(now, preset.lease() * 3);
        let mut waiting: BTreeSet<Node> = self.peers.iter().filter(heard).map(|(n, _)| n.clone()).collect();
        if self.faults.has(Fault::TakeWithoutConsent) {
            waiting.clear();
        }
        let old = now - preset.lease() * 3;
        self.wire.asked.retain(|_, (_, asked, _)| *asked >= old);
        for address in &free {
            let round = Round { asked: now, waiting: waiting.clone() };
            if let Some(held) = self.held.get_mut(address) {
                if let Some(consent) = &mut held.consent {
                    consent.round = Some(round);
                }
            } else if let Some(want) = self.wants.get_mut(address) {
                want.state = Pursuit::Consent(round);
            }
        }
        self.look();
        let (owned, new): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = free.iter().partition(|a| self.held.contains_key(a));
        let names: Vec<Node> = self.peers.keys().cloned().collect();
        for (owning, addresses) in [(true, owned), (false, new)] {
            for addresses in chunks(&addresses) {
                for name in &names {
                    let message = Message::Consent { preset, owning, addresses: addresses.clone() };
                    let number = self.send(name, Some(message));
                    self.wire.asked.insert(number, (name.clone(), now, addresses.clone()));
                }
            }
        }
        free.into_iter().for_each(|address| self.agreed(now, address, None));
    }

    /// Somebody agreed, or nobody needs to.
    fn agreed(&mut self, now: Tick, address: IpAddr, by: Option<(&Node, Tick)>) {
        let preset = self.preset(address);
        let held = self.held.get_mut(&address);
        let new = held.is_none();
        let round = match held {
            Some(held) => held.consent.as_mut().and_then(|c| c.round.as_mut()),
            None => match self.wants.get_mut(&address).map(|w| &mut w.state) {
                Some(Pursuit::Consent(round)) => Some(round),
                _ => None,
            },
        };
        let Some(round) = round else { return };
        if let Some((node, asked)) = by {
            if asked != round.asked {
                return;
            }
            round.waiting.remove(node);
        }
        let until = round.asked + preset.held();
        if !round.waiting.is_empty() || until <= now {
            return;
        }
        if new {
            self.own(now, address, until, Some(Consent { until, round: None }));
        } else if let Some(consent) = self.held.get_mut(&address).and_then(|h| h.consent.as_mut()) {
            consent.until = consent.until.max(until);
            consent.round = None;
        }
    }

    fn refused_consent(&mut self, now: Tick, address: IpAddr, by: Option<Node>, until: Tick) {
        self.give_way(now, address, by);
        self.retry(now, address, until.max(now + self.preset(address).lease()));
    }

    /// Takes an answer to a request for consent. False when it is none.
    pub(super) fn consent_answered(&mut self, now: Tick, from: &Node, number: u64, answer: &Answer) -> bool {
        if self.wire.asked.get(&number).is_none_or(|(node, _, _)| node != from) {
            return false;
        }
        let Some((_, asked, addresses)) = self.wire.asked.remove(&number) else { return false };
        if let Answer::Asked { verdicts, .. } = answer {
            for (address, verdict) in addresses.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Granted => self.agreed(now, address, Some((from, asked))),
                    Verdict::Held { by, .. } => self.refused_consent(now, address, by.clone(), now),
                    Verdict::Elsewhere => self.refused_consent(now, address, None, now),
                }
            }
        }
        true
    }

    /// Asks again for what is owned without a majority.
    pub(super) fn renew_consent(&mut self, now: Tick, preset: Preset) {
        let open = |c: &Consent| c.round.as_ref().is_some_and(|r| now.since(r.asked) < preset.lease() / 3);
        let due = self.held.iter().filter(|(_, h)| h.preset == preset && h.consent.as_ref().is_some_and(|c| !open(c)));
        let due: BTreeSet<IpAddr> = due.map(|(a, _)| *a).collect();
        if !due.is_empty() {
            self.ask_all(now, preset, &due);
        }
    }

    /// Somebody comes into hearing, who may own what we own without a majority: asks at once.
    pub(super) fn ask_again(&mut self, now: Tick) {
        for held in self.held.values_mut() {
            if let Some(consent) = &mut held.consent {
                consent.round = None;
                self.next_renewal.insert(held.preset, now);
            }
        }
    }

    /// Another speaker without a majority asks for addresses.
    pub(super) fn judge_consent(
        &mut self,
        now: Tick,
        from: &Node,
        stamp: Stamp,
        (preset, owning): (Preset, bool),
        addresses: &[IpAddr],
    ) -> Answer {
        let mut verdicts = Vec::new();
        for address in addresses {
            let verdict = match self.objection(now, from, owning, *address) {
                Some(by) => Verdict::Held { by, left: 0 },
                None => match self.acceptor.consent(now, from, stamp, preset, &[*address]) {
                    Answer::Asked { verdicts, .. } => verdicts.into_iter().next().unwrap_or(Verdict::Elsewhere),
                    _ => Verdict::Elsewhere,
                },
            };
            if verdict == Verdict::Granted {
                self.wire.promises.insert(*address, (from.clone(), now + preset.lease()));
                self.retry(now, *address, now + preset.lease());
            }
            verdicts.push(verdict);
        }
        let granted = addresses.iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Granted).map(|(a, _)| a);
        Answer::Asked { granted: granted.collect(), verdicts }
    }

    /// We hear this speaker, and it has not heard us for as long as it waits before it does without a majority.
    fn deaf(&self, now: Tick, node: &Node, preset: Preset) -> bool {
        let peer = self.peers.get(node);
        peer.is_some_and(|p| p.contact.is_none_or(|at| now.since(at) > preset.lease() * 2))
    }

    /// Gives an address up to a speaker that hears nobody and everybody hears.
    fn yield_to_deaf(&mut self, now: Tick, to: &Node, address: IpAddr) -> Option<Option<Node>> {
        if self.config.addresses.get(&address).is_some_and(|a| a.partition == Partition::SingleOwner) {
            return Some(None);
        }
        if self.held.contains_key(&address) {
            self.lose(now, address, Reason::Yielded { to: Some(to.clone()) });
            self.give_back_everywhere(now, &[address], None);
        }
        self.forget(now, address);
        None
    }

    /// Who else has or will have the address.
    fn objection(&mut self, now: Tick, from: &Node, owning: bool, address: IpAddr) -> Option<Option<Node>> {
        let node = self.config.node.clone();
        if self.deaf(now, from, self.preset(address)) {
            // It does not hear an objection, and will own the address. One of the two must not, so it is us.
            return self.yield_to_deaf(now, from, address);
        }
        let first = self.seats.before(address, &node, from);
        if self.config.addresses.get(&address).is_some_and(|a| a.partition == Partition::SingleOwner) {
            return Some(None);
        }
        if let Some(held) = self.held.get(&address) {
            if held.consent.is_none() || first || !owning {
                return Some(Some(node));
            }
            self.give_way(now, address, Some(from.clone()));
        }
        if let Some(want) = self.wants.get(&address) {
            let goes_first = matches!(want.state, Pursuit::Consent(_)) && first && !owning;
            if goes_first || now.since(self.last_majority(now)) < self.preset(address).lease() * 3 {
                return Some(Some(node));
            }
        }
        let claims =
            |(name, p): &(&Node, &crate::peer::Peer)| *name != from && p.alive && p.says.owned.contains(&address);
        self.peers.iter().find(claims).map(|(name, _)| Some(name.clone()))
    }
}
