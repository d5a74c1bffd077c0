//! Answers and announcements for the addresses that this node owns.
//!
//! ```text
//!                      owned, and the link is up
//!   silent ───────────────────────────────────────────► announcing      for each place: an address on an interface
//!     ▲                                                  │  ▲  │
//!     │   lost, or the link is down or gone:             │  └──┘ the burst, then every 60 s; the burst again when
//!     └──────────────────────────────────────────────────┘       the MAC address or the gateway changed
//!         sends nothing
//! ```
//!
//! Only an announcing place answers. Nothing of it is still sent once the input that ended it was handled: also frames
//! that wait in the queue are taken back. What others claim is a conflict at an announcing place, and there it is
//! defended; elsewhere it is only told, where the address is watched or asked for.

use crate::claims::{Claim, Claims};
use crate::counters::Counters;
use crate::events::{Effect, Input, Link, Place, Question, Unasked, can_be_owned};
use crate::questions::Questions;
use crate::schedule::Schedule;
use crate::wire::ethernet::{self, Frame};
use crate::wire::ndp::{self, Message};
use crate::wire::{Malformed, arp};
use engine::{Engine, IfIndex, MacAddr, Tick};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Longer frames are not looked at. The longest that ARP or NDP needs is far shorter; a usual link carries 1514 octets.
pub const MAX_FRAME: usize = 2048;
/// At most so many frames, and so many facts about others, wait to be drained; more are dropped and counted. One input
/// makes at most 63 frames and one such fact.
pub const MAX_QUEUE: usize = 1024;
/// An address is defended at most once in so long on each interface (RFC 5227 §2.4), so that two hosts that both
/// believe in an address do not flood the link.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// A conflict is reported again after so long.
const CONFLICT_AGAIN: Duration = Duration::from_secs(60);
/// Another owner of a watched address is reported again after so long.
const SEEN_AGAIN: Duration = Duration::from_secs(1);

/// The engine.
#[derive(Debug)]
pub struct L2 {
    links: BTreeMap<IfIndex, Link>,
    /// The MAC addresses of all our links: a frame from one of them is no stranger's, on whichever link it comes in.
    macs: BTreeSet<MacAddr>,
    /// With what their owners speak for some addresses instead of with a link's MAC address.
    virtual_macs: BTreeMap<IpAddr, MacAddr>,
    /// Those of them that we speak with now. Always follows from `virtual_macs` and `active`.
    borrowed: BTreeSet<MacAddr>,
    addresses: BTreeMap<IpAddr, Owned>,
    watched: BTreeMap<IpAddr, Watched>,
    /// Where we answer: what is owned, where the link is up. Always follows from `links` and `addresses`.
    active: BTreeSet<Place>,
    /// Where unsolicited advertisements must be heard: an IPv6 address is watched, and the link is up.
    hearing: BTreeSet<IfIndex>,
    /// How many active addresses need a group.
    groups: BTreeMap<(IfIndex, Ipv6Addr), usize>,
    schedule: Schedule,
    questions: Questions,
    /// Facts that changed, in order. What follows from frames is bounded; the rest follows from inputs that the caller
    /// gave, so it needs no bound.
    facts: VecDeque<Effect>,
    frames: VecDeque<Outgoing>,
    counters: Counters,
    rng: fastrand::Rng,
}

/// A frame that waits to be drained.
#[derive(Debug)]
struct Outgoing {
    place: Place,
    /// It asks for the address; else it speaks for it.
    asks: bool,
    frame: Vec<u8>,
}

#[derive(Debug, Default)]
struct Owned {
    on: BTreeSet<IfIndex>,
    strangers: Claims,
    /// When it was last defended, and where.
    defended: BTreeMap<IfIndex, Tick>,
}

#[derive(Debug, Default)]
struct Watched {
    on: BTreeSet<IfIndex>,
    claims: Claims,
}

impl Engine for L2 {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        match input {
            Input::Links(links) => self.set_links(now, links),
            Input::Addresses(addresses) => self.set_addresses(now, addresses),
            Input::Frame { on, bytes } => self.receive(now, on, &bytes),
            Input::VirtualMacs(macs) => self.set_virtual_macs(now, macs),
            Input::Watch(addresses) => self.set_watched(addresses),
            Input::Gateway { on } => self.announce_again(now, on),
            Input::Announce { address } => self.announce_address(now, address),
            Input::Ask(question) => self.ask(now, question),
        }
        self.send_due(now);
    }

    fn timeout(&mut self, now: Tick) {
        self.send_due(now);
        self.questions.end(now);
    }

    fn deadline(&self) -> Option<Tick> {
        self.schedule.deadline().into_iter().chain(self.questions.deadline()).min()
    }

    fn poll(&mut self) -> Option<Effect> {
        self.facts.pop_front().or_else(|| self.questions.poll()).or_else(|| {
            let Outgoing { place, asks, frame } = self.frames.pop_front()?;
            Some(Effect::Send { on: place.on, frame, speaks_for: (!asks).then_some(place.address) })
        })
    }
}

impl L2 {
    /// An engine that owns nothing; `rng` spreads the announcements.
    pub fn new(rng: fastrand::Rng) -> L2 {
        L2 {
            links: BTreeMap::new(),
            macs: BTreeSet::new(),
            virtual_macs: BTreeMap::new(),
            borrowed: BTreeSet::new(),
            addresses: BTreeMap::new(),
            watched: BTreeMap::new(),
            active: BTreeSet::new(),
            hearing: BTreeSet::new(),
            groups: BTreeMap::new(),
            schedule: Schedule::default(),
            questions: Questions::default(),
            facts: VecDeque::new(),
            frames: VecDeque::new(),
            counters: Counters::default(),
            rng,
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn set_links(&mut self, now: Tick, links: BTreeMap<IfIndex, Link>) {
        let before = std::mem::replace(&mut self.links, links);
        self.macs = self.links.values().map(|l| l.mac).filter(|m| *m != MacAddr::ZERO).collect();
        self.settle(now);
        let changed: Vec<IfIndex> = self
            .links
            .iter()
            .filter(|(on, link)| before.get(on).is_some_and(|old| old.mac != link.mac))
            .map(|(&on, _)| on)
            .collect();
        for on in changed {
            // An answer to the old MAC address would not arrive any more.
            self.questions.cancel(|place| (place.on == on).then_some(Unasked::Link));
            self.take_back(|frame| frame.place.on == on);
            self.announce_again(now, on);
        }
    }

    fn set_addresses(&mut self, now: Tick, addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>>) {
        let mut before = std::mem::take(&mut self.addresses);
        for (address, on) in addresses.into_iter().filter(|(address, _)| can_be_owned(*address)) {
            let kept = before.remove(&address).unwrap_or_default();
            self.addresses.insert(address, Owned { on, ..kept });
        }
        self.counters.by_address.retain(|address, _| self.addresses.contains_key(address));
        for &address in self.addresses.keys() {
            self.counters.by_address.entry(address).or_default();
        }
        self.settle(now);
    }

    fn set_virtual_macs(&mut self, now: Tick, macs: BTreeMap<IpAddr, MacAddr>) {
        let before = std::mem::replace(&mut self.virtual_macs, macs);
        let (old, new) = (&before, &self.virtual_macs);
        let changed: Vec<Place> =
            self.active.iter().filter(|p| old.get(&p.address) != new.get(&p.address)).copied().collect();
        self.borrow();
        self.take_back(|frame| !frame.asks && changed.binary_search(&frame.place).is_ok());
        changed.into_iter().for_each(|place| self.schedule.start(now, place));
    }

    fn borrow(&mut self) {
        let speaking = self.active.iter().filter_map(|place| self.virtual_macs.get(&place.address));
        self.borrowed = if self.virtual_macs.is_empty() { BTreeSet::new() } else { speaking.copied().collect() };
    }

    fn set_watched(&mut self, addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>>) {
        let mut before = std::mem::take(&mut self.watched);
        for (address, on) in addresses.into_iter().filter(|(address, _)| can_be_owned(*address)) {
            let kept = before.remove(&address).unwrap_or_default();
            self.watched.insert(address, Watched { on, ..kept });
        }
        self.hear();
    }

    /// Makes `hearing` follow from what is watched and which links are up. The kernel's IPv6 is a member of this group
    /// wherever it is switched on, but only there.
    fn hear(&mut self) {
        let watched = self.watched.iter().filter(|(address, _)| address.is_ipv6());
        let hearing = watched.flat_map(|(_, w)| &w.on).copied().filter(|on| self.mac_of(*on).is_some()).collect();
        let before = std::mem::replace(&mut self.hearing, hearing);
        let gained = self.hearing.difference(&before).map(|&on| Effect::Join { on, group: ndp::ALL_NODES });
        let lost = before.difference(&self.hearing).map(|&on| Effect::Leave { on, group: ndp::ALL_NODES });
        self.facts.extend(gained.chain(lost));
    }

    fn ask(&mut self, now: Tick, question: Question) {
        let refused = if !question.is_possible() {
            Some(Unasked::Address)
        } else if self.addresses.contains_key(&question.address) {
            Some(Unasked::Owned)
        } else if self.mac_of(question.on).is_none() {
            Some(Unasked::Link)
        } else {
            None
        };
        match refused {
            Some(why) => self.questions.refuse(&question, why),
            None => self.questions.ask(now, question, &mut self.counters),
        }
    }

    /// Ends questions that the state as it is now forbids. Their frames are taken back.
    fn end_questions(&mut self) {
        let (links, addresses) = (&self.links, &self.addresses);
        self.questions.cancel(|place| {
            if addresses.contains_key(&place.address) {
                return Some(Unasked::Owned);
            }
            links.get(&place.on).and_then(Link::usable_mac).is_none().then_some(Unasked::Link)
        });
        let questions = &self.questions;
        let before = self.frames.len();
        self.frames.retain(|frame| !frame.asks || questions.about(frame.place));
        self.counters.dropped += (before - self.frames.len()) as u64;
    }

    /// Makes `active` and all else follow from what is owned and which links are up.
    fn settle(&mut self, now: Tick) {
        let active: BTreeSet<Place> = self
            .addresses
            .iter()
            .flat_map(|(&address, owned)| owned.on.iter().map(move |&on| Place { address, on }))
            .filter(|place| self.mac_of(place.on).is_some())
            .collect();
        let before = std::mem::replace(&mut self.active, active);
        let lost: Vec<Place> = before.difference(&self.active).copied().collect();
        let gained: Vec<Place> = self.active.difference(&before).copied().collect();
        if !lost.is_empty() {
            self.take_back(|frame| !frame.asks && lost.binary_search(&frame.place).is_ok());
        }
        self.borrow();
        self.end_questions();
        for place in lost {
            self.withdraw(place);
        }
        for place in gained {
            self.begin(now, place);
        }
        self.hear();
    }

    fn begin(&mut self, now: Tick, place: Place) {
        let Place { address, on } = place;
        if let IpAddr::V6(ip) = address {
            let group = ndp::solicited_node(ip);
            let users = self.groups.entry((on, group)).or_default();
            *users += 1;
            if *users == 1 {
                self.facts.push_back(Effect::Join { on, group });
            }
        }
        self.facts.push_back(Effect::Announcing { address, on });
        self.schedule.start(now, place);
    }

    fn withdraw(&mut self, place: Place) {
        let Place { address, on } = place;
        self.schedule.stop(place);
        self.facts.push_back(Effect::Withdrawn { address, on });
        if let IpAddr::V6(ip) = address {
            let group = ndp::solicited_node(ip);
            let users = self.groups.entry((on, group)).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.groups.remove(&(on, group));
                self.facts.push_back(Effect::Leave { on, group });
            }
        }
    }

    fn announce_again(&mut self, now: Tick, on: IfIndex) {
        for &place in self.active.iter().filter(|p| p.on == on) {
            self.schedule.start(now, place);
        }
    }

    fn announce_address(&mut self, now: Tick, address: IpAddr) {
        let at = |on| Place { address, on: IfIndex(on) };
        for &place in self.active.range(at(u32::MIN)..=at(u32::MAX)) {
            self.schedule.start(now, place);
        }
    }

    fn send_due(&mut self, now: Tick) {
        while let Some(place) = self.schedule.take(now, &mut self.rng) {
            self.announce(place);
        }
        // A question that finds no room waits: one that was never sent must not count.
        while self.frames.len() < MAX_QUEUE
            && let Some(question) = self.questions.take(now)
        {
            let place = Place { address: question.address, on: question.on };
            let mac = self.links.get(&place.on).and_then(Link::usable_mac);
            if let Some(frame) = mac.and_then(|mac| question.frame(mac)) {
                self.frames.push_back(Outgoing { place, asks: true, frame });
                self.counters.questions += 1;
            }
        }
    }

    /// Whether an announcement waits to be drained now.
    fn announce(&mut self, place: Place) -> bool {
        let Some(mac) = self.mac_for(place) else { return false };
        let queued = match place.address {
            // Both forms: some hosts and switches learn from the one only, some from the other.
            IpAddr::V4(ip) => {
                let forms = [arp::Packet::announcement(mac, ip), arp::Packet::gratuitous_reply(mac, ip)];
                forms.map(|packet| self.send(place, packet.frame(MacAddr::BROADCAST))).contains(&true)
            }
            // RFC 4861 §7.2.6 would have these a second apart, at most three. That is too slow for a failover within
            // milliseconds, and too few for one that a busy switch loses.
            IpAddr::V6(ip) => self.send(place, advertisement(mac, ip, None)),
        };
        if queued {
            self.counters.announcement(place.address);
        }
        queued
    }

    fn receive(&mut self, now: Tick, on: IfIndex, bytes: &[u8]) {
        if bytes.len() > MAX_FRAME {
            self.counters.oversized += 1;
            return;
        }
        match self.read(now, on, bytes) {
            Ok(true) => {}
            Ok(false) => self.counters.ignored += 1,
            Err(_) => self.counters.malformed += 1,
        }
    }

    /// Whether the frame was any concern of ours.
    fn read(&mut self, now: Tick, on: IfIndex, bytes: &[u8]) -> Result<bool, Malformed> {
        let Some(mac) = self.mac_of(on) else { return Ok(false) };
        let frame = Frame::parse(bytes)?;
        // A promiscuous interface also hears what is meant for others.
        let to = frame.destination;
        let for_us = to.is_group() || to == mac || self.borrowed.contains(&to);
        if !for_us || self.is_ours(frame.source) {
            return Ok(false);
        }
        match frame.ethertype {
            ethernet::ARP => self.read_arp(now, on, &arp::Packet::parse(frame.payload)?),
            ethernet::IPV6 => match ndp::Packet::parse(frame.payload)? {
                Some(packet) => self.read_ndp(now, on, frame.source, &packet),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }

    fn read_arp(&mut self, now: Tick, on: IfIndex, packet: &arp::Packet) -> Result<bool, Malformed> {
        let Some(sender) = self.stranger(packet.sender_mac)? else { return Ok(false) };
        // RFC 5227 §2.4: whoever names itself by our address, in whatever packet, claims it.
        let claims = self.claimed(now, Place { address: packet.sender_ip.into(), on }, sender);
        let place = Place { address: packet.target_ip.into(), on };
        let asks = packet.operation == arp::Operation::Request && packet.sender_ip != packet.target_ip;
        if asks
            && self.active.contains(&place)
            && let Some(mac) = self.mac_for(place)
        {
            self.counters.request(place.address);
            self.answer(place, packet.reply(mac).frame(sender));
            return Ok(true);
        }
        Ok(claims || (asks && packet.sender_ip.is_unspecified() && self.rival(place)))
    }

    fn read_ndp(&mut self, now: Tick, on: IfIndex, from: MacAddr, packet: &ndp::Packet) -> Result<bool, Malformed> {
        match packet.message {
            Message::Solicitation { target, source_mac } => {
                let Some(sender) = self.stranger(source_mac.unwrap_or(from))? else { return Ok(false) };
                let claims = self.claimed(now, Place { address: packet.source.into(), on }, sender);
                let place = Place { address: target.into(), on };
                let addressed = packet.destination.is_multicast() || packet.destination == target;
                let answers = addressed && packet.source != target && self.active.contains(&place);
                let Some(mac) = self.mac_for(place).filter(|_| answers) else {
                    return Ok(claims || (packet.source.is_unspecified() && self.rival(place)));
                };
                self.counters.request(place.address);
                // From `::` somebody asks whether the address is free (RFC 4862 §5.4.3); it cannot be answered alone.
                let to = (!packet.source.is_unspecified()).then_some((packet.source, sender));
                self.answer(place, advertisement(mac, target, to));
                Ok(true)
            }
            Message::Advertisement { target, target_mac, .. } => {
                let Some(sender) = self.stranger(target_mac.unwrap_or(from))? else { return Ok(false) };
                Ok(self.claimed(now, Place { address: target.into(), on }, sender))
            }
        }
    }

    /// The sender, unless it is ourselves. An answer to a group would reach hosts that did not ask.
    fn stranger(&self, mac: MacAddr) -> Result<Option<MacAddr>, Malformed> {
        if mac.is_group() || mac == MacAddr::ZERO {
            return Err(Malformed::HardwareAddress);
        }
        Ok((!self.is_ours(mac)).then_some(mac))
    }

    fn is_ours(&self, mac: MacAddr) -> bool {
        self.macs.contains(&mac) || self.borrowed.contains(&mac)
    }

    /// Somebody claims an address; whether that is any concern of ours.
    fn claimed(&mut self, now: Tick, place: Place, mac: MacAddr) -> bool {
        if self.active.contains(&place) {
            self.conflict(now, place, mac);
            return true;
        }
        let asked = self.questions.heard(place, mac, &mut self.counters);
        self.seen(now, place, mac) || asked
    }

    /// Somebody else claims an address that we answer for.
    fn conflict(&mut self, now: Tick, place: Place, mac: MacAddr) {
        let Place { address, on } = place;
        let Some(owned) = self.addresses.get_mut(&address) else { return };
        let defended = owned.defended.get(&on).is_some_and(|t| now.since(*t) < DEFEND_INTERVAL);
        let room = self.facts.len() < MAX_QUEUE;
        match if room { owned.strangers.note(now, mac, CONFLICT_AGAIN) } else { Claim::TooMany } {
            Claim::News => {
                self.counters.conflicts += 1;
                self.facts.push_back(Effect::Conflict { address, on, mac });
            }
            Claim::Known => {}
            Claim::TooMany => self.counters.dropped += 1,
        }
        if !defended && self.announce(place) {
            self.counters.defences += 1;
            if let Some(owned) = self.addresses.get_mut(&address) {
                owned.defended.insert(on, now);
            }
        }
    }

    /// Somebody claims an address that we do not answer for there; whether it is watched.
    fn seen(&mut self, now: Tick, place: Place, mac: MacAddr) -> bool {
        let Place { address, on } = place;
        let Some(watched) = self.watched.get_mut(&address).filter(|w| w.on.contains(&on)) else { return false };
        if self.addresses.contains_key(&address) {
            return false;
        }
        let room = self.facts.len() < MAX_QUEUE;
        match if room { watched.claims.note(now, mac, SEEN_AGAIN) } else { Claim::TooMany } {
            Claim::News => {
                self.counters.seen += 1;
                self.facts.push_back(Effect::Seen { address, on, mac });
            }
            Claim::Known => {}
            Claim::TooMany => self.counters.dropped += 1,
        }
        true
    }

    /// Somebody else probes for an address; whether we ask for it at the same time. It claims nothing yet.
    fn rival(&mut self, place: Place) -> bool {
        let rival = self.questions.about(place);
        self.counters.rival_probes += u64::from(rival);
        rival
    }

    fn answer(&mut self, place: Place, frame: Vec<u8>) {
        if self.send(place, frame) {
            self.counters.reply(place.address);
        }
    }

    /// Queues a frame; false when the queue is full.
    fn send(&mut self, place: Place, frame: Vec<u8>) -> bool {
        if self.frames.len() >= MAX_QUEUE {
            self.counters.dropped += 1;
            return false;
        }
        self.frames.push_back(Outgoing { place, asks: false, frame });
        true
    }

    /// Takes frames back that were not drained yet.
    fn take_back(&mut self, stale: impl Fn(&Outgoing) -> bool) {
        let before = self.frames.len();
        self.frames.retain(|frame| !stale(frame));
        self.counters.dropped += (before - self.frames.len()) as u64;
    }

    /// The MAC address with which we speak for an address.
    fn mac_for(&self, place: Place) -> Option<MacAddr> {
        let of_link = self.mac_of(place.on)?;
        Some(self.virtual_macs.get(&place.address).copied().unwrap_or(of_link))
    }

    /// The MAC address of an interface that can be spoken on.
    fn mac_of(&self, on: IfIndex) -> Option<MacAddr> {
        self.links.get(&on).and_then(Link::usable_mac)
    }
}

/// The advertisement of an address: in answer to somebody, or to all nodes.
///
/// The override flag is set in both: RFC 4861 §4.4 leaves it out only in solicited advertisements for anycast addresses
/// and by proxies. An address here has one owner, and that is us; a client that still knows the owner before must
/// replace it.
fn advertisement(mac: MacAddr, target: Ipv6Addr, to: Option<(Ipv6Addr, MacAddr)>) -> Vec<u8> {
    let (destination, to_mac) = to.unwrap_or((ndp::ALL_NODES, ndp::group_mac(ndp::ALL_NODES)));
    let message = Message::Advertisement {
        router: false,
        solicited: to.is_some(),
        overrides: true,
        target,
        target_mac: Some(mac),
    };
    ndp::Packet { source: target, destination, message }.frame(mac, to_mac)
}
