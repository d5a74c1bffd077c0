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
//! that wait in the queue are taken back.

use crate::counters::Counters;
use crate::schedule::Schedule;
use crate::wire::ethernet::{self, Frame};
use crate::wire::ndp::{self, Message};
use crate::wire::{Malformed, arp};
use engine::{Engine, IfIndex, MacAddr, Tick};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Longer frames are not looked at. The longest that ARP or NDP needs is far shorter; a usual link carries 1514 octets.
pub const MAX_FRAME: usize = 2048;
/// At most so many frames wait to be drained; more are dropped and counted. One input makes at most 41.
pub const MAX_QUEUE: usize = 1024;
/// At most so many strangers that claim one address are told apart within a minute.
pub const MAX_STRANGERS: usize = 16;

/// A conflict is reported again after so long.
const CONFLICT_AGAIN: Duration = Duration::from_secs(60);

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its Ethernet address. An interface without one (`lo`, tunnels: zero) is never spoken on.
    pub mac: MacAddr,
    /// It can carry frames now.
    pub up: bool,
    /// Its name, for people.
    pub name: String,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// All interfaces as they are now. Where a link comes up or changes its MAC address, all is announced again.
    Links(BTreeMap<IfIndex, Link>),
    /// All addresses that this node owns now, and on which interfaces it answers for each. What is missing is lost and
    /// not answered for any more. Addresses that no host can own (unspecified, loopback, groups) are left out.
    Addresses(BTreeMap<IpAddr, BTreeSet<IfIndex>>),
    /// A frame came in.
    Frame {
        /// Where.
        on: IfIndex,
        /// From its Ethernet header on, as a packet socket gives it.
        bytes: Vec<u8>,
    },
    /// The gateway of an interface, or the gateway's MAC address, changed: it may not know our addresses.
    Gateway {
        /// Which interface.
        on: IfIndex,
    },
}

/// What is to be done, and what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Send this frame.
    Send {
        /// Where.
        on: IfIndex,
        /// From its Ethernet header on, without padding.
        frame: Vec<u8>,
    },
    /// Join a solicited-node group; comes once for each group and interface, before anything needs it.
    Join {
        /// Where.
        on: IfIndex,
        /// The group.
        group: Ipv6Addr,
    },
    /// Leave a group: no address there needs it any more. The interface may be gone already.
    Leave {
        /// Where.
        on: IfIndex,
        /// The group.
        group: Ipv6Addr,
    },
    /// From now on it is answered for here.
    Announcing {
        /// The address.
        address: IpAddr,
        /// Where.
        on: IfIndex,
    },
    /// It is not answered for here any more: lost, or the link is down or gone.
    Withdrawn {
        /// The address.
        address: IpAddr,
        /// Where.
        on: IfIndex,
    },
    /// Another host claims an address that we answer for. Comes at most once a minute for each address and stranger,
    /// while the address is owned.
    Conflict {
        /// The address.
        address: IpAddr,
        /// Where it was seen.
        on: IfIndex,
        /// The stranger.
        mac: MacAddr,
    },
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    pub(crate) on: IfIndex,
}

/// The engine.
#[derive(Debug)]
pub struct L2 {
    links: BTreeMap<IfIndex, Link>,
    /// The MAC addresses of all our links: a frame from one of them is no stranger's, on whichever link it comes in.
    macs: BTreeSet<MacAddr>,
    addresses: BTreeMap<IpAddr, Owned>,
    /// Where we answer: what is owned, where the link is up. Always follows from `links` and `addresses`.
    active: BTreeSet<Place>,
    /// How many active addresses need a group.
    groups: BTreeMap<(IfIndex, Ipv6Addr), usize>,
    schedule: Schedule,
    /// Facts that changed, in order. They follow from inputs that the caller gave, so they need no bound of their own.
    facts: VecDeque<Effect>,
    frames: VecDeque<(Place, Vec<u8>)>,
    counters: Counters,
    rng: fastrand::Rng,
}

#[derive(Debug, Default)]
struct Owned {
    on: BTreeSet<IfIndex>,
    /// Who else claimed it, and when that was reported.
    strangers: BTreeMap<MacAddr, Tick>,
}

impl Link {
    fn usable_mac(&self) -> Option<MacAddr> {
        (self.up && self.mac != MacAddr::ZERO && !self.mac.is_group()).then_some(self.mac)
    }
}

impl Engine for L2 {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Tick, input: Input) {
        match input {
            Input::Links(links) => self.set_links(now, links),
            Input::Addresses(addresses) => self.set_addresses(now, addresses),
            Input::Frame { on, bytes } => self.receive(now, on, &bytes),
            Input::Gateway { on } => self.announce_again(now, on),
        }
        self.timeout(now);
    }

    fn timeout(&mut self, now: Tick) {
        while let Some(place) = self.schedule.take(now, &mut self.rng) {
            self.announce(place);
        }
    }

    fn deadline(&self) -> Option<Tick> {
        self.schedule.deadline()
    }

    fn poll(&mut self) -> Option<Effect> {
        self.facts
            .pop_front()
            .or_else(|| self.frames.pop_front().map(|(place, frame)| Effect::Send { on: place.on, frame }))
    }
}

impl L2 {
    /// An engine that owns nothing; `rng` spreads the announcements.
    pub fn new(rng: fastrand::Rng) -> L2 {
        L2 {
            links: BTreeMap::new(),
            macs: BTreeSet::new(),
            addresses: BTreeMap::new(),
            active: BTreeSet::new(),
            groups: BTreeMap::new(),
            schedule: Schedule::default(),
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
            self.take_back(|place| place.on == on);
            self.announce_again(now, on);
        }
    }

    fn set_addresses(&mut self, now: Tick, addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>>) {
        let mut before = std::mem::take(&mut self.addresses);
        for (address, on) in addresses.into_iter().filter(|(address, _)| can_be_owned(*address)) {
            let strangers = before.remove(&address).unwrap_or_default().strangers;
            self.addresses.insert(address, Owned { on, strangers });
        }
        self.counters.by_address.retain(|address, _| self.addresses.contains_key(address));
        for &address in self.addresses.keys() {
            self.counters.by_address.entry(address).or_default();
        }
        self.settle(now);
    }

    /// Makes `active` follow from what is owned and which links are up.
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
            self.take_back(|place| lost.binary_search(place).is_ok());
        }
        for place in lost {
            self.withdraw(place);
        }
        for place in gained {
            self.begin(now, place);
        }
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

    fn announce(&mut self, place: Place) {
        let Some(mac) = self.mac_of(place.on) else { return };
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
        let for_us = frame.destination.is_group() || frame.destination == mac;
        if !for_us || self.macs.contains(&frame.source) {
            return Ok(false);
        }
        match frame.ethertype {
            ethernet::ARP => self.read_arp(now, on, mac, &arp::Packet::parse(frame.payload)?),
            ethernet::IPV6 => match ndp::Packet::parse(frame.payload)? {
                Some(packet) => self.read_ndp(now, on, mac, frame.source, &packet),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }

    fn read_arp(&mut self, now: Tick, on: IfIndex, mac: MacAddr, packet: &arp::Packet) -> Result<bool, Malformed> {
        let Some(sender) = self.stranger(packet.sender_mac)? else { return Ok(false) };
        // RFC 5227 §2.4: whoever names itself by our address, in whatever packet, claims it.
        let claims = self.conflict(now, on, packet.sender_ip.into(), sender);
        let place = Place { address: packet.target_ip.into(), on };
        let asks = packet.operation == arp::Operation::Request && packet.sender_ip != packet.target_ip;
        if asks && self.active.contains(&place) {
            self.counters.request(place.address);
            self.answer(place, packet.reply(mac).frame(sender));
            return Ok(true);
        }
        Ok(claims)
    }

    fn read_ndp(
        &mut self,
        now: Tick,
        on: IfIndex,
        mac: MacAddr,
        from: MacAddr,
        packet: &ndp::Packet,
    ) -> Result<bool, Malformed> {
        match packet.message {
            Message::Solicitation { target, source_mac } => {
                let Some(sender) = self.stranger(source_mac.unwrap_or(from))? else { return Ok(false) };
                let claims = self.conflict(now, on, packet.source.into(), sender);
                let place = Place { address: target.into(), on };
                let addressed = packet.destination.is_multicast() || packet.destination == target;
                if !addressed || packet.source == target || !self.active.contains(&place) {
                    return Ok(claims);
                }
                self.counters.request(place.address);
                // From `::` somebody asks whether the address is free (RFC 4862 §5.4.3); it cannot be answered alone.
                let to = (!packet.source.is_unspecified()).then_some((packet.source, sender));
                self.answer(place, advertisement(mac, target, to));
                Ok(true)
            }
            Message::Advertisement { target, target_mac, .. } => {
                let Some(sender) = self.stranger(target_mac.unwrap_or(from))? else { return Ok(false) };
                Ok(self.conflict(now, on, target.into(), sender))
            }
        }
    }

    /// The sender, unless it is ourselves. An answer to a group would reach hosts that did not ask.
    fn stranger(&self, mac: MacAddr) -> Result<Option<MacAddr>, Malformed> {
        if mac.is_group() || mac == MacAddr::ZERO {
            return Err(Malformed::HardwareAddress);
        }
        Ok((!self.macs.contains(&mac)).then_some(mac))
    }

    /// Somebody claims an address; whether we answer for it there.
    fn conflict(&mut self, now: Tick, on: IfIndex, address: IpAddr, mac: MacAddr) -> bool {
        if !self.active.contains(&Place { address, on }) {
            return false;
        }
        let Some(owned) = self.addresses.get_mut(&address) else { return false };
        owned.strangers.retain(|_, reported| now.since(*reported) < CONFLICT_AGAIN);
        if owned.strangers.contains_key(&mac) {
            return true;
        }
        if owned.strangers.len() >= MAX_STRANGERS {
            self.counters.dropped += 1;
            return true;
        }
        owned.strangers.insert(mac, now);
        self.counters.conflicts += 1;
        self.facts.push_back(Effect::Conflict { address, on, mac });
        true
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
        self.frames.push_back((place, frame));
        true
    }

    /// Takes frames back that were not drained yet.
    fn take_back(&mut self, stale: impl Fn(&Place) -> bool) {
        let before = self.frames.len();
        self.frames.retain(|(place, _)| !stale(place));
        self.counters.dropped += (before - self.frames.len()) as u64;
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

/// Whether a host can have this address: never answer for what means nobody, oneself or many.
fn can_be_owned(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}
