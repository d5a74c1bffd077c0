//! What comes in and goes out.

use super::{Lease, Phase};
use crate::config::Effect;
use crate::message::{Answer, Message, Verdict};
use crate::peer::Peer;
use crate::session::{Mark, Order};
use crate::statement::{Fragment, Outgoing};
use crate::types::{Node, Partition};
use crate::wire::{Packet, ROOM, Reject, fits};
use engine::Tick;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Speakers that are not configured, at most.
const GUESTS: usize = 64;
/// A speaker is not told the same thing again more often than this, however often it shows that it does not know.
const AGAIN: Duration = Duration::from_millis(5);
/// The parts of the own statement that a peer gets with one heartbeat; one that is silent gets one, because it may hear us.
const PARTS: usize = 32;
const PARTS_UNHEARD: usize = 1;
/// How long it is remembered when heartbeats left: three times the longest lease.
const REMEMBER: Duration = Duration::from_secs(9);
/// Goodbyes, and the time between them: packets get lost.
pub const GOODBYES: u32 = 3;
const GOODBYE_EVERY: Duration = Duration::from_millis(20);
/// Other speakers decide anew a little after somebody's statement changed: often several change at once, and where many
/// addresses have no owner deciding takes its time.
const SOON: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(50);
const MANY: usize = 200;

impl Lease {
    pub(super) fn packet(&mut self, now: Tick, from: SocketAddr, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Running | Phase::Leaving) {
            return;
        }
        if let Err(reason) = self.accept(now, from, bytes)
            && self.rejections.tell(now, from.ip(), &reason)
        {
            self.effects.push_back(Effect::Rejected { from, reason });
        }
    }

    fn accept(&mut self, now: Tick, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        let packet = Packet::decode(bytes, &self.config.keys)?;
        if packet.from == self.config.node {
            return Err(Reject::OwnName);
        }
        if packet.to != self.config.node {
            return Err(Reject::NotForUs(packet.to));
        }
        let guests = || self.peers.values().filter(|p| !p.configured).count();
        if !self.peers.contains_key(&packet.from) && guests() >= GUESTS {
            return Err(Reject::Stranger(packet.from));
        }
        let peer = self.peers.entry(packet.from.clone()).or_default();
        let before = peer.session.boot();
        let order = peer.session.judge(self.boot, packet.mark);
        if !peer.configured && matches!(order, Order::New | Order::Unproven) {
            peer.to = vec![from];
        }
        match order {
            Order::Twice => return Ok(()),
            Order::Old => return Err(Reject::Replay(packet.from)),
            Order::Unproven => {
                self.answer_at_once(now, &packet.from);
                return Ok(());
            }
            Order::Late => {}
            Order::New => {
                self.newest(now, &packet, before == packet.mark.boot);
                if before != packet.mark.boot {
                    self.answer_at_once(now, &packet.from);
                }
            }
        }
        if let Some(message) = packet.message {
            self.message(now, &packet.from, packet.mark, packet.statement, message);
        }
        Ok(())
    }

    fn soon(&self) -> Duration {
        if self.waiting.len() < MANY { SOON } else { LATER }
    }

    /// Lets a speaker prove itself, and us.
    fn answer_at_once(&mut self, now: Tick, to: &Node) {
        let Some(peer) = self.peers.get_mut(to) else { return };
        if peer.answered.is_none_or(|at| now >= at + AGAIN) {
            peer.answered = Some(now);
            self.sent.push_back((self.counter + 1, now));
            self.send(to, None);
        }
    }

    /// Learns from the head of a packet that is newer than all before, of the same start of its sender or of a new one.
    fn newest(&mut self, now: Tick, packet: &Packet, same_start: bool) {
        let (sent, ours) = (&self.sent, self.epochs.known.number);
        let Some(peer) = self.peers.get_mut(&packet.from) else { return };
        let proven = peer.session.proven();
        let arrived = sent.partition_point(|(first, _)| *first <= proven);
        if let Some((_, at)) = arrived.checked_sub(1).and_then(|n| sent.get(n)) {
            peer.contact = peer.contact.max(Some(*at));
        }
        peer.heard = Some(now);
        let changed = peer.learn(now, packet);
        let alive = !packet.goodbye;
        let (came, went) = (alive && !peer.alive, !alive && peer.alive);
        peer.alive = alive;
        let behind = packet.known.number != ours && peer.told_epoch.is_none_or(|at| now >= at + AGAIN * 10);
        if behind {
            peer.told_epoch = Some(now);
        }
        if came {
            self.effects.push_back(Effect::Alive(packet.from.clone()));
            if same_start {
                self.settled(&packet.from);
            }
            self.ask_again(now);
        }
        if went {
            self.effects.push_back(Effect::Dead(packet.from.clone()));
        }
        if went {
            self.all_hopeless(now);
            self.decide_by(now);
        } else if came || changed {
            self.decide_by(now + self.soon());
        }
        if behind {
            let newer = packet.known.number < ours;
            let members = newer.then(|| Message::Members(self.epochs.known.clone()));
            self.send(&packet.from, members);
        }
    }

    /// Somebody is heard again that has run on all the time: without a majority it may have owned what we own.
    fn settled(&mut self, other: &Node) {
        let may = |address: &&IpAddr| {
            let wanted = self.config.addresses.get(*address);
            wanted.is_some_and(|a| a.partition == Partition::Available && a.candidates.contains(other))
        };
        self.effects.extend(self.own.owned.iter().filter(may).map(|a| Effect::Settled(*a)));
    }

    fn message(&mut self, now: Tick, from: &Node, mark: Mark, statement: u64, message: Message) {
        let stamp = crate::types::Stamp { boot: mark.boot, counter: mark.counter };
        let answer = match message {
            Message::Part(fragment) => {
                let Some(peer) = self.peers.get_mut(from) else { return };
                let doubted = peer.says.doubted.clone();
                if peer.part(statement, &fragment) {
                    self.doubted(from, &doubted);
                    self.decide_by(now + self.soon());
                }
                return;
            }
            Message::Answer { to, answer } => {
                if to.boot == self.boot && !self.consent_answered(now, from, to.counter, &answer) {
                    self.answered(now, from, to.counter, &answer);
                }
                return;
            }
            Message::Offer { addresses } => return self.offered(now, &addresses),
            Message::Members(epoch) => return self.learn_epoch(now, epoch, false),
            Message::Consent { preset, owning, addresses } => {
                self.judge_consent(now, from, stamp, (preset, owning), &addresses)
            }
            request => self.judge(now, from, stamp, &request),
        };
        self.send(from, Some(Message::Answer { to: stamp, answer }));
    }

    /// What our acceptor says to a request.
    fn judge(&mut self, now: Tick, from: &Node, stamp: crate::types::Stamp, request: &Message) -> Answer {
        match request {
            // It would not hear that it got them, and nobody else could have them meanwhile.
            Message::Ask { addresses, .. } if self.in_vain(from, addresses) => {
                let verdicts = addresses.iter().map(|_| Verdict::Held { by: None, left: 0 }).collect();
                Answer::Asked { granted: Default::default(), verdicts }
            }
            Message::Ask { epoch, preset, whole, addresses } => {
                self.acceptor.ask(now, from, stamp, (*epoch, *preset, *whole), addresses)
            }
            Message::Renew { epoch, preset, digest } => {
                self.acceptor.renew(now, from, stamp, *epoch, (*preset, *digest))
            }
            Message::Release { to, addresses } => {
                addresses.iter().for_each(|a| self.wire.release(from, *a));
                self.acceptor.release(now, from, stamp, to.as_deref(), addresses)
            }
            _ => Answer::Released,
        }
    }

    /// A speaker that does not hear us asks for addresses that must have one owner, which it cannot become.
    fn in_vain(&self, from: &Node, addresses: &[IpAddr]) -> bool {
        let single =
            |a: &IpAddr| self.config.addresses.get(a).is_some_and(|wanted| wanted.partition == Partition::SingleOwner);
        self.peers.get(from).is_some_and(|p| p.deaf) && addresses.iter().any(single)
    }

    /// Sends a request, or asks our own acceptor. Gives the number of the request.
    pub(super) fn request(&mut self, now: Tick, to: &Node, request: Message) -> u64 {
        if *to != self.config.node {
            return self.send(to, Some(request));
        }
        self.counter += 1;
        let node = self.config.node.clone();
        let answer = self.judge(now, &node, self.stamp(self.counter), &request);
        self.inbox.push_back((self.counter, answer));
        self.counter
    }

    /// Takes the answers of our own acceptor. Never in the middle of asking the others.
    pub(super) fn settle_own(&mut self, now: Tick) {
        let node = self.config.node.clone();
        while let Some((counter, answer)) = self.inbox.pop_front() {
            self.answered(now, &node, counter, &answer);
        }
    }

    /// Sends a packet. Gives its number, also where there is nowhere to send it.
    pub(super) fn send(&mut self, to: &Node, message: Option<Message>) -> u64 {
        self.counter += 1;
        let known = self.epochs.known.id();
        let (Some(peer), Some(key)) = (self.peers.get(to), self.config.keys.first()) else { return self.counter };
        if !fits(&self.config.node) {
            return self.counter;
        }
        let (you, echo) = peer.session.named();
        let packet = Packet {
            mark: Mark { boot: self.boot, counter: self.counter, you, echo },
            from: self.config.node.clone(),
            to: to.clone(),
            goodbye: matches!(self.phase, Phase::Left { .. }),
            ready: self.last_heartbeat.is_some_and(|at| at >= self.acceptor.silent_until()),
            held_down: self.last_heartbeat.is_some_and(|at| peer.flaps(at)),
            rests: self.rests(),
            pace: u16::try_from(self.pace().as_millis()).unwrap_or(u16::MAX),
            known: if self.epochs.known.members.is_empty() { Default::default() } else { known },
            confirmed: self.acceptor.epoch().unwrap_or_default(),
            statement: self.outgoing.digest,
            acknowledged: peer.learned,
            message,
        };
        let bytes = packet.encode(key);
        self.effects.extend(peer.to.iter().map(|to| Effect::Send { to: *to, bytes: bytes.clone() }));
        self.counter
    }

    /// Tells every peer that this speaker lives, and its statement to those that do not know it.
    pub(super) fn heartbeat(&mut self, now: Tick) {
        if std::mem::take(&mut self.changed) {
            self.outgoing = Outgoing::new(&self.own, ROOM);
            self.peers.values_mut().for_each(|peer| peer.cursor = 0);
        }
        self.sent.push_back((self.counter + 1, now));
        while self.sent.front().is_some_and(|(_, at)| now.since(*at) > REMEMBER) {
            self.sent.pop_front();
        }
        self.last_heartbeat = Some(now);
        self.notice_deaf(now);
        let names: Vec<Node> = self.peers.keys().cloned().collect();
        for name in names {
            for message in self.parts(&name) {
                self.send(&name, message);
            }
        }
        let early = self.rng.u64(0..=self.pace().as_micros() as u64 / 10);
        self.next_heartbeat = now + self.pace() - Duration::from_micros(early);
    }

    /// What a peer says it has heard of us comes with its next heartbeat: so it is late by two of them at most.
    fn notice_deaf(&mut self, now: Tick) {
        let pace = self.pace();
        let mut changed = false;
        for peer in self.peers.values_mut() {
            let late = |at: Tick| now.since(at) > peer.detection() + pace;
            let deaf = peer.alive && peer.contact.is_some_and(late);
            changed |= deaf != std::mem::replace(&mut peer.deaf, deaf);
        }
        if changed {
            self.decide_by(now);
        }
    }

    /// The parts of our statement that a peer is to get with a heartbeat; at least one packet.
    fn parts(&mut self, to: &Node) -> Vec<Option<Message>> {
        let Some(peer) = self.peers.get_mut(to) else { return Vec::new() };
        let all = &self.outgoing.parts;
        let most = if peer.alive { PARTS } else { PARTS_UNHEARD };
        let wanted = if peer.acknowledged == self.outgoing.digest { 0 } else { most.min(all.len()) };
        if wanted == 0 {
            return vec![None];
        }
        let count = u16::try_from(all.len()).unwrap_or(0);
        let from = peer.cursor;
        peer.cursor = (from + wanted) % all.len();
        let indices = (0..wanted).map(|n| (from + n) % all.len());
        let part = |i: usize| {
            Some(Message::Part(Fragment { index: u16::try_from(i).ok()?, count, part: all.get(i)?.clone() }))
        };
        indices.map(part).collect()
    }

    pub(super) fn say_goodbye(&mut self, now: Tick, goodbyes: u32) {
        if goodbyes > 0 && now >= self.next_heartbeat {
            self.heartbeat(now);
            self.phase = Phase::Left { goodbyes: goodbyes - 1 };
            self.next_heartbeat = now + GOODBYE_EVERY;
        }
    }

    /// Notices who is not heard any more.
    pub(super) fn bury(&mut self, now: Tick) {
        let mut dead = Vec::new();
        for (name, peer) in &mut self.peers {
            if peer.dies().is_some_and(|at| at <= now) {
                peer.alive = false;
                peer.died(now);
                dead.push(name.clone());
            }
        }
        if !dead.is_empty() {
            self.all_hopeless(now);
            self.decide_by(now);
        }
        self.effects.extend(dead.into_iter().map(Effect::Dead));
        self.peers.retain(|_, p: &mut Peer| p.configured || p.alive || p.heard_within(now, REMEMBER));
    }
}
