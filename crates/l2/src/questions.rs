//! Questions on the wire: who has an address that is not ours?
//!
//! ```text
//!            ┌──┐ `every` after the last one, until `times` were sent
//!            │  ▼                            `every` after the last one
//!   ask ──► asking ─────────────────► hearing ─────────────────────────► Asked, by those that claimed it
//!              │                         │                               Asked, not known: noticed too late for silence
//!              ├─────────────────────────┤
//!              ├─► Asked, by one: the first claim was enough
//!              └─► Asked, not known: the link changed, or the address became ours
//! ```
//!
//! Silence is told only by `end`, which the engine calls when the caller says that time has passed: so the caller has
//! handed over the frames that waited beside.

use crate::claims::MAX_STRANGERS;
use crate::counters::Counters;
use crate::events::{Effect, Place, Question, Unasked};
use crate::pace::Pace;
use crate::wire::{arp, ndp};
use engine::{MacAddr, Tick};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// At most so many questions are under way.
pub const MAX_QUESTIONS: usize = 4096;

const SHORTEST: Duration = Duration::from_millis(1);

type Key = (Place, u64);

/// The questions under way.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    under_way: BTreeMap<Key, Asking>,
    /// When the next question of each is to be sent.
    to_send: BTreeSet<(Tick, Key)>,
    /// When each of which all were sent ends.
    to_end: BTreeSet<(Tick, Key)>,
    pace: Pace,
    /// What ended and was not taken yet. Each follows from an input that the caller gave, so it needs no bound.
    ended: VecDeque<Effect>,
}

#[derive(Debug)]
struct Asking {
    question: Question,
    sent: u8,
    /// When the next is sent, or it ends.
    due: Tick,
    by: BTreeSet<MacAddr>,
}

impl Question {
    fn place(&self) -> Place {
        Place { address: self.address, on: self.on }
    }

    fn interval(&self) -> Duration {
        self.every.max(SHORTEST)
    }

    /// The frame that asks, from this MAC address; `None` when the two addresses are of different families.
    pub(crate) fn frame(&self, mac: MacAddr) -> Option<Vec<u8>> {
        match (self.address, self.from) {
            (IpAddr::V4(ip), None) => Some(arp_question(mac, Ipv4Addr::UNSPECIFIED, ip)),
            (IpAddr::V4(ip), Some(IpAddr::V4(from))) => Some(arp_question(mac, from, ip)),
            (IpAddr::V6(ip), None) => Some(ndp_question(mac, Ipv6Addr::UNSPECIFIED, ip)),
            (IpAddr::V6(ip), Some(IpAddr::V6(from))) => Some(ndp_question(mac, from, ip)),
            _ => None,
        }
    }
}

fn arp_question(mac: MacAddr, from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp::Packet::question(mac, from, target).frame(MacAddr::BROADCAST)
}

fn ndp_question(mac: MacAddr, from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let packet = ndp::Packet::question(mac, from, target);
    packet.frame(mac, ndp::group_mac(packet.destination))
}

impl Questions {
    /// Begins a question, or refuses it.
    pub(crate) fn ask(&mut self, now: Tick, question: Question, counters: &mut Counters) {
        let key = (question.place(), question.id);
        if self.under_way.contains_key(&key) {
            return;
        }
        if self.under_way.len() >= MAX_QUESTIONS {
            counters.dropped += 1;
            self.tell(&question, Err(Unasked::TooMany));
            return;
        }
        self.under_way.insert(key, Asking { question, sent: 0, due: now, by: BTreeSet::new() });
        self.to_send.insert((now, key));
    }

    /// Tells that a question is not asked, unless it is one that is under way: that one has an end of its own.
    pub(crate) fn refuse(&mut self, question: &Question, why: Unasked) {
        if !self.under_way.contains_key(&(question.place(), question.id)) {
            self.tell(question, Err(why));
        }
    }

    /// The question to send now, if any; ask until there is none.
    pub(crate) fn take(&mut self, now: Tick) -> Option<&Question> {
        let &(due, key) = self.to_send.first().filter(|(due, _)| *due <= now)?;
        if !self.pace.allows(now) {
            return None;
        }
        let asking = self.under_way.get_mut(&key)?;
        self.to_send.remove(&(due, key));
        self.pace.count(now);
        asking.sent += 1;
        asking.due = now + asking.question.interval();
        let more = asking.sent < asking.question.times.get();
        let next = if more { &mut self.to_send } else { &mut self.to_end };
        next.insert((asking.due, key));
        Some(&asking.question)
    }

    /// Ends all whose time is over. Called late, it cannot tell silence from answers that nobody has read yet.
    pub(crate) fn end(&mut self, now: Tick) {
        while let Some(&(due, key)) = self.to_end.first().filter(|(due, _)| *due <= now) {
            let late = |asking: &Asking| now.since(due) >= asking.question.interval() / 2;
            let Some(asking) = self.remove(key) else { return };
            let known = !asking.by.is_empty() || !late(&asking);
            let Asking { question, by, .. } = asking;
            self.tell(&question, if known { Ok(by) } else { Err(Unasked::Late) });
        }
    }

    /// Ends those that cannot be answered any more.
    pub(crate) fn cancel(&mut self, why: impl Fn(Place) -> Option<Unasked>) {
        let ending: Vec<(Key, Unasked)> = self.under_way.keys().filter_map(|key| Some((*key, why(key.0)?))).collect();
        for (key, why) in ending {
            if let Some(asking) = self.remove(key) {
                self.tell(&asking.question, Err(why));
            }
        }
    }

    /// Somebody claims an address; whether that was asked for there.
    pub(crate) fn heard(&mut self, place: Place, mac: MacAddr, counters: &mut Counters) -> bool {
        let (mut about, mut enough) = (false, Vec::new());
        for (key, asking) in self.under_way.range_mut((place, 0)..=(place, u64::MAX)) {
            about = true;
            if asking.by.len() < MAX_STRANGERS {
                asking.by.insert(mac);
            } else if !asking.by.contains(&mac) {
                counters.dropped += 1;
            }
            if asking.question.first {
                enough.push(*key);
            }
        }
        for key in enough {
            if let Some(Asking { question, by, .. }) = self.remove(key) {
                self.tell(&question, Ok(by));
            }
        }
        about
    }

    /// Whether a question for this address is under way there.
    pub(crate) fn about(&self, place: Place) -> bool {
        self.under_way.range((place, 0)..=(place, u64::MAX)).next().is_some()
    }

    /// The next that ended.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.ended.pop_front()
    }

    /// When `take` or `end` has something to do.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let send = self.to_send.first().map(|&(due, _)| self.pace.earliest(due));
        let end = self.to_end.first().map(|&(due, _)| due);
        send.into_iter().chain(end).min()
    }

    fn remove(&mut self, key: Key) -> Option<Asking> {
        let asking = self.under_way.remove(&key)?;
        self.to_send.remove(&(asking.due, key));
        self.to_end.remove(&(asking.due, key));
        Some(asking)
    }

    fn tell(&mut self, question: &Question, by: Result<BTreeSet<MacAddr>, Unasked>) {
        self.ended.push_back(Effect::Asked { id: question.id, address: question.address, on: question.on, by });
    }
}
