//! Getting, keeping and giving up addresses.

use super::{Lease, alone};
use crate::config::{Effect, Reason};
use crate::message::{Answer, Message};
use crate::types::{Epoch, Node, Preset};
use crate::wire::chunks;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A request that is not answered is given back after a third of the lease, and after this at the latest.
const ANSWER: Duration = Duration::from_millis(200);
/// An acceptor is told the whole set again not more often than this.
const RESYNC: Duration = Duration::from_millis(10);

/// An address that this node owns.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub since: Tick,
    pub preset: Preset,
    /// Set while it is owned without a majority.
    pub consent: Option<alone::Consent>,
}

/// An address that this node wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Want {
    pub state: Pursuit,
    /// How often it was given back.
    pub fails: u32,
    /// Until when it is wanted although its former owner may still seem to own it: it was offered.
    pub offered: Option<Tick>,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Pursuit {
    /// To be asked for then.
    Later(Tick),
    /// Acceptors are asked; some refused and named the moment when they may grant it.
    Asking { at: Tick, refused: BTreeMap<Node, Tick> },
    /// Without a majority: the wire is asked.
    Wire { at: Tick },
    /// Without a majority: the speakers that are heard are asked.
    Consent(alone::Round),
}

fn answer_time(preset: Preset) -> Duration {
    ANSWER.min(preset.lease() / 3)
}

impl Lease {
    /// Until when the lease of an address runs that this node owns, on its own clock: it may answer while that lies
    /// ahead. None where it does not own the address.
    pub fn until(&self, address: IpAddr) -> Option<Tick> {
        let held = self.held.get(&address)?;
        self.holder.until(address).max(held.consent.as_ref().map(|c| c.until))
    }

    /// Gives up what has lapsed.
    pub(super) fn lapse(&mut self, now: Tick, reason: Reason) {
        if self.lapses.is_none_or(|at| now < at) {
            return;
        }
        let mut next: Option<Tick> = None;
        let mut lapsed = Vec::new();
        for address in self.held.keys() {
            match self.until(*address) {
                Some(until) if until > now => next = Some(next.map_or(until, |n| n.min(until))),
                _ => lapsed.push(*address),
            }
        }
        self.lapses = next;
        for address in lapsed {
            let consent = self.held.get(&address).is_some_and(|h| h.consent.is_some());
            let reason = if consent && reason == Reason::NoMajority { Reason::NoConsent } else { reason.clone() };
            self.lose(now, address, reason);
            if consent {
                self.give_back_everywhere(now, &[address], None);
            } else {
                self.give_back(now, &[address], None);
            }
        }
    }

    /// Stops owning an address. Whoever calls this gives it back afterwards.
    pub(super) fn lose(&mut self, now: Tick, address: IpAddr, reason: Reason) {
        if self.held.remove(&address).is_some() {
            self.note(now, address, Some(reason.clone()));
            self.effects.push_back(Effect::Lose(address, reason));
            self.own.owned.remove(&address);
            self.used.insert(address);
            self.changed = true;
            self.decide_by(now);
        }
    }

    /// Forgets all grants of these addresses, then releases them at every acceptor, whether it granted them or not.
    pub(super) fn give_back(&mut self, now: Tick, addresses: &[IpAddr], to: Option<&Node>) -> BTreeSet<u64> {
        let nodes = self.acceptors().into_iter().map(|(node, _)| node).collect();
        self.release_at(now, addresses, to, &nodes)
    }

    /// The same at every speaker, after asking for their consent.
    pub(super) fn give_back_everywhere(&mut self, now: Tick, addresses: &[IpAddr], to: Option<&Node>) -> BTreeSet<u64> {
        let nodes = self.peers.keys().chain([&self.config.node]).cloned().collect();
        self.release_at(now, addresses, to, &nodes)
    }

    fn release_at(
        &mut self,
        now: Tick,
        addresses: &[IpAddr],
        to: Option<&Node>,
        nodes: &BTreeSet<Node>,
    ) -> BTreeSet<u64> {
        addresses.iter().for_each(|a| self.holder.abandon(*a));
        let mut numbers = BTreeSet::new();
        let sorted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        for addresses in chunks(&sorted) {
            for node in nodes {
                let message = Message::Release { to: to.cloned(), addresses: addresses.clone() };
                numbers.insert(self.request(now, node, message));
            }
        }
        numbers
    }

    /// Owns an address if a majority granted it.
    fn try_own(&mut self, now: Tick, address: IpAddr) {
        let Some(until) = self.holder.until(address).filter(|until| *until > now) else { return };
        if let Some(held) = self.held.get_mut(&address) {
            held.consent = None;
            return;
        }
        if !self.wants.contains_key(&address) {
            return;
        }
        if self.wire.promised(now, address) {
            self.retry(now, address, now + self.preset(address).lease());
            return;
        }
        self.own(now, address, until, None);
    }

    pub(super) fn own(&mut self, now: Tick, address: IpAddr, until: Tick, consent: Option<alone::Consent>) {
        self.wants.remove(&address);
        self.waiting.remove(&address);
        self.held.insert(address, Held { since: now, preset: self.preset(address), consent });
        self.lapses = Some(self.lapses.map_or(until, |n| n.min(until)));
        self.own.owned.insert(address);
        self.changed = true;
        self.note(now, address, None);
        self.effects.push_back(Effect::Own(address));
    }

    /// Wants an address from this moment on.
    pub(super) fn want(&mut self, address: IpAddr, at: Tick, offered: Option<Tick>) {
        self.look();
        let want = self.wants.entry(address).or_insert(Want { state: Pursuit::Later(at), fails: 0, offered: None });
        want.offered = want.offered.max(offered);
        if let (Pursuit::Later(then), true) = (&mut want.state, offered.is_some()) {
            *then = at.min(*then);
        }
    }

    /// Wants it no more.
    pub(super) fn forget(&mut self, now: Tick, address: IpAddr) {
        self.retry(now, address, now);
        self.wants.remove(&address);
    }

    /// Gives a request back and wants the address later.
    pub(super) fn retry(&mut self, now: Tick, address: IpAddr, at: Tick) {
        let Some(want) = self.wants.get_mut(&address) else { return };
        self.next_pursuit = Some(Tick::ZERO);
        let before = std::mem::replace(&mut want.state, Pursuit::Later(at));
        match before {
            Pursuit::Later(_) => return,
            Pursuit::Consent(_) => drop(self.give_back_everywhere(now, &[address], None)),
            Pursuit::Asking { .. } | Pursuit::Wire { .. } => drop(self.give_back(now, &[address], None)),
        }
        if let Some(want) = self.wants.get_mut(&address) {
            want.fails += 1;
        }
    }

    /// Two that hinder each other wait for different times, longer each time.
    fn jitter(&mut self, preset: Preset, fails: u32) -> Duration {
        let most = (Duration::from_millis(1) * (1 << fails.min(12))).min(preset.lease() / 3);
        Duration::from_micros(self.rng.u64(0..=most.as_micros() as u64))
    }

    /// Something that is wanted has come to another step.
    pub(super) fn look(&mut self) {
        self.next_pursuit = Some(Tick::ZERO);
    }

    fn due(&self, last_majority: Tick, address: &IpAddr, want: &Want) -> Tick {
        match &want.state {
            Pursuit::Later(at) => *at,
            Pursuit::Asking { at, .. } => {
                let given_up = *at + answer_time(self.preset(*address));
                self.alone_at(last_majority, *address)
                    .filter(|alone| alone > at)
                    .map_or(given_up, |alone| alone.min(given_up))
            }
            Pursuit::Wire { at } => *at + self.preset(*address).lease() * 3,
            Pursuit::Consent(round) => round.asked + answer_time(self.preset(*address)),
        }
    }

    /// Asks for what is wanted, and gives back what was asked for in vain.
    pub(super) fn pursue(&mut self, now: Tick) {
        let last = self.last_majority(Tick(u64::MAX));
        let mut due = Vec::new();
        let mut next: Option<Tick> = None;
        for (address, want) in &self.wants {
            let at = self.due(last, address, want);
            if at <= now {
                due.push((*address, want.state.clone()));
            } else {
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        }
        self.next_pursuit = next;
        if !due.is_empty() {
            self.look();
        }
        let mut ask: BTreeMap<Preset, BTreeSet<IpAddr>> = BTreeMap::new();
        for (address, state) in due {
            match state {
                Pursuit::Later(_) if self.alone(now, address) => self.ask_wire(now, address),
                Pursuit::Later(_) => drop(ask.entry(self.preset(address)).or_default().insert(address)),
                Pursuit::Asking { refused, .. } => self.asked_in_vain(now, address, &refused),
                Pursuit::Wire { .. } => self.retry(now, address, now),
                Pursuit::Consent(_) => self.retry(now, address, now + self.preset(address).lease()),
            }
        }
        for (preset, addresses) in ask {
            for address in &addresses {
                if let Some(want) = self.wants.get_mut(address) {
                    want.state = Pursuit::Asking { at: now, refused: BTreeMap::new() };
                }
            }
            for (node, epoch) in self.acceptors() {
                self.ask(now, &node, &epoch, preset, false, &addresses);
            }
        }
    }

    fn ask(
        &mut self,
        now: Tick,
        node: &Node,
        epoch: &Epoch,
        preset: Preset,
        whole: bool,
        addresses: &BTreeSet<IpAddr>,
    ) {
        let mut lists = chunks(addresses);
        if lists.is_empty() && whole {
            lists.push(Vec::new());
        }
        for (n, addresses) in lists.into_iter().enumerate() {
            let whole = whole && n == 0;
            self.holder.asks(now, self.counter + 1, node, epoch, preset, &addresses);
            self.request(now, node, Message::Ask { epoch: epoch.id(), preset, whole, addresses });
        }
    }

    /// Not enough acceptors granted it: gives it back, and tries again when enough of them can.
    fn asked_in_vain(&mut self, now: Tick, address: IpAddr, refused: &BTreeMap<Node, Tick>) {
        let preset = self.preset(address);
        let soon = now + Duration::from_millis(1);
        let free = |(node, _): (Node, Epoch)| refused.get(&node).copied().or_else(|| self.hears(&node).then_some(soon));
        let mut free: Vec<Tick> = self.acceptors().into_iter().filter_map(free).collect();
        free.sort_unstable();
        let enough = free.get(self.epochs.known.majority() - 1).copied();
        let enough = enough.unwrap_or(now + answer_time(preset)).clamp(soon, now + preset.lease() * 2);
        let fails = self.wants.get(&address).map_or(0, |w| w.fails);
        // Whom the grants of somebody else hinder asks in the moment they end. Where there are none, two hinder each
        // other.
        let hindered = enough > now + preset.lease() / 8;
        let wait = self.jitter(preset, if hindered { 0 } else { fails + 1 });
        let last = self.last_majority(Tick(u64::MAX));
        let at = self.alone_at(last, address).map_or(enough + wait, |alone| alone.max(soon).min(enough + wait));
        self.retry(now, address, at);
    }

    fn hears(&self, acceptor: &Node) -> bool {
        *acceptor == self.config.node || self.peers.get(acceptor).is_some_and(|p| p.alive)
    }

    /// An acceptor has answered one of our requests.
    pub(super) fn answered(&mut self, now: Tick, from: &Node, counter: u64, answer: &Answer) {
        if *answer == Answer::Released {
            self.release_confirmed(now, from, counter);
            return;
        }
        let outcome = self.holder.answer(now, from, counter, answer);
        for address in outcome.granted {
            self.try_own(now, address);
        }
        for (address, by, left) in outcome.refused {
            // Who lives and does not say that it owns it has asked at the same time, and gives it back if it fails.
            let rival =
                by.and_then(|by| self.peers.get(&by)).is_some_and(|p| p.alive && !p.says.owned.contains(&address));
            let left = if rival { 0 } else { left };
            let at = now + Duration::from_millis(u64::from(left));
            if let Some(Want { state: Pursuit::Asking { refused, .. }, .. }) = self.wants.get_mut(&address) {
                refused.insert(from.clone(), at);
                self.hopeless(now, address);
            }
        }
        if let Some((preset, digest)) = outcome.differs {
            self.resync(now, from, preset, digest);
        }
    }

    /// Gives a request back as soon as those that may still grant it are no majority.
    fn hopeless(&mut self, now: Tick, address: IpAddr) {
        let Some(Want { state: Pursuit::Asking { refused, .. }, offered, .. }) = self.wants.get(&address) else {
            return;
        };
        if refused.is_empty() {
            return;
        }
        // The release of the one who offered it comes in any moment.
        if offered.is_some_and(|until| now < until) {
            let soon = now + Duration::from_millis(2);
            let refused = refused.iter().map(|(node, at)| (node.clone(), soon.min(*at))).collect();
            return self.asked_in_vain(now, address, &refused);
        }
        let acceptors = self.acceptors();
        let lost = acceptors.iter().filter(|(n, _)| refused.contains_key(n) || !self.hears(n)).count();
        if lost + self.epochs.known.majority() > acceptors.len() {
            let refused = refused.clone();
            self.asked_in_vain(now, address, &refused);
        }
    }

    /// An acceptor may have died that was asked.
    pub(super) fn all_hopeless(&mut self, now: Tick) {
        let wanted: Vec<IpAddr> = self.wants.keys().copied().collect();
        wanted.into_iter().for_each(|a| self.hopeless(now, a));
    }

    /// The acceptor's set is not what we asked with.
    fn resync(&mut self, now: Tick, node: &Node, preset: Preset, theirs: crate::digest::SetDigest) {
        let Some(epoch) = self.epoch_of(node) else { return };
        let resynced = if *node == self.config.node {
            &mut self.epochs.resynced
        } else {
            let Some(peer) = self.peers.get_mut(node) else { return };
            &mut peer.resynced
        };
        if resynced.is_some_and(|at| now < at + RESYNC) {
            return;
        }
        *resynced = Some(now);
        if self.holder.digest(epoch.id(), node, preset) == theirs {
            // It granted something between our request and its answer.
            self.renew_at(now, node, &epoch, preset);
            return;
        }
        let asking = self.wants.iter().filter(|(_, w)| matches!(w.state, Pursuit::Asking { .. })).map(|(a, _)| *a);
        let held = self.held.iter().filter(|(_, h)| h.preset == preset).map(|(a, _)| *a);
        let all = held.chain(asking.filter(|a| self.preset(*a) == preset)).collect();
        self.ask(now, node, &epoch, preset, true, &all);
    }

    fn renew_at(&mut self, now: Tick, node: &Node, epoch: &Epoch, preset: Preset) {
        let digest = self.holder.renews(now, self.counter + 1, node, epoch, preset);
        self.request(now, node, Message::Renew { epoch: epoch.id(), preset, digest });
    }

    /// Renews all that is held, and asks for what an acceptor has not granted yet.
    pub(super) fn renew(&mut self, now: Tick) {
        let due: Vec<Preset> = self.next_renewal.iter().filter(|(_, at)| **at <= now).map(|(p, _)| *p).collect();
        for preset in due {
            let early = Duration::from_micros(self.rng.u64(0..=preset.heartbeat().as_micros() as u64 / 10));
            self.next_renewal.insert(preset, now + preset.heartbeat() - early);
            let held: BTreeSet<IpAddr> =
                self.held.iter().filter(|(_, h)| h.preset == preset).map(|(a, _)| *a).collect();
            if held.is_empty() {
                continue;
            }
            for (node, epoch) in self.acceptors() {
                let members = self.holder.members(epoch.id(), &node, preset);
                if members > 0 {
                    self.renew_at(now, &node, &epoch, preset);
                }
                if self.hears(&node) && members != held.len() {
                    let missing = |a: &&IpAddr| !self.holder.has(epoch.id(), &node, preset, **a);
                    let missing = held.iter().filter(missing).copied().collect();
                    self.ask(now, &node, &epoch, preset, false, &missing);
                }
            }
            self.renew_consent(now, preset);
        }
    }
}
