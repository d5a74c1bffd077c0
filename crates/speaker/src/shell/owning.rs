//! Between `lease` and `l2`: what this node may own, where it answers for what it owns, and what is asked on the wire.

use super::questions::{Gateway, Outcome, Subject, Why};
use super::{FEW, LOOK_AGAIN, LOOK_AGAIN_MANY, SELF_PROBE, Shell, UNCERTAIN};
use crate::facts::Conflict;
use crate::intent::{Intent, Place, is_unit};
use api::pool::Interface;
use engine::{Engine, IfIndex, MacAddr, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

/// How a stranger is looked for before an address is announced for the first time, after RFC 5227 §2.1.1.
const FIRST_USE: (u8, Duration) = (3, Duration::from_millis(20));
/// How another node's address is asked for: twice, because packets get lost.
const PROBE: (u8, Duration) = (2, Duration::from_millis(500));

impl Shell {
    fn configure(&mut self, now: Tick) {
        // Without a link nobody would hear this node, whatever heartbeats on another interface say.
        let up = |on: &IfIndex| self.facts.table.links.get(on).is_some_and(|l| l.up);
        let unable = |interface: &Interface| match self.resolved.get(interface) {
            Some(Ok(on)) => !on.iter().any(up),
            Some(Err(_)) | None => true,
        };
        let wanted = &self.intent.addresses;
        let unresolved = |w: &crate::intent::Wanted| {
            Some((w.place.pool.clone(), self.resolved.get(&w.place.interface)?.as_ref().err()?.clone()))
        };
        self.facts.unresolved = wanted.values().filter_map(unresolved).collect();
        let address = |candidates: &Arc<BTreeSet<String>>, place: &Place| lease::Address {
            candidates: candidates.clone(),
            preset: place.preset,
            partition: place.partition,
        };
        let mut addresses: BTreeMap<IpAddr, lease::Address> = wanted
            .iter()
            .filter(|(ip, w)| w.unit == **ip)
            .map(|(ip, w)| (*ip, address(&w.candidates, &w.place)))
            .collect();
        let leased = self.intent.units.iter().filter(|(_, unit)| !unit.place.elects());
        addresses.extend(leased.map(|(key, u)| (*key, address(&u.candidates, &u.place))));
        let config = lease::Config {
            node: self.node.clone(),
            peers: self.intent.peers.iter().map(|(node, to)| (node.clone(), vec![*to])).collect(),
            keys: self.intent.keys.iter().map(|k| lease::Key::new(k.clone())).collect(),
            epoch: self.intent.acceptors.clone(),
            addresses,
            unable: wanted.values().filter(|w| unable(&w.place.interface)).map(|w| w.unit).collect(),
            macs: self.macs(),
            advertises: self.routers.sources(),
            elsewhere: BTreeSet::new(),
            weights: self.intent.weights.clone(),
        };
        self.lease.handle(now, lease::Input::Configure(Box::new(config)));
    }

    /// The links of an address's pool here, if they are there.
    pub(super) fn links_of(&self, address: IpAddr) -> Option<&BTreeSet<IfIndex>> {
        self.resolved.get(&self.intent.addresses.get(&address)?.place.interface)?.as_ref().ok()
    }

    /// What is wanted, or the links, are others than before.
    pub(super) fn follow(&mut self, now: Tick) {
        self.configure_routers(now);
        self.configure(now);
        self.watch_where(now);
        self.announce_where(now);
    }

    /// The interfaces from which this node answers.
    fn macs(&self) -> BTreeSet<MacAddr> {
        let on = self.resolved.values().flatten().flatten();
        on.filter_map(|on| Some(self.facts.table.links.get(on)?.mac)).collect()
    }

    /// Until when this node may answer for an address: the end of its lease, or the moment from which VRRP may have elected
    /// another.
    pub(super) fn until(&self, address: IpAddr) -> Option<Tick> {
        match self.intent.addresses.get(&address) {
            Some(wanted) if wanted.place.elects() => self.routers.until(wanted.unit),
            wanted => self.lease.until(wanted.map_or(address, |wanted| wanted.unit)),
        }
    }

    /// Addresses that join others which this node owns: nobody has used them yet.
    pub(super) fn join_units(&mut self, now: Tick, before: &Intent) {
        for (key, unit) in &self.intent.units {
            if self.lease.owned().contains(key) {
                let known = before.units.get(key).map(|unit| &unit.members);
                let new = unit.members.iter().filter(|ip| known.is_none_or(|known| !known.contains(ip)));
                self.unproven.extend(new.map(|ip| (*ip, now)));
            }
        }
    }

    /// What the lease knows, with the addresses of Services in place of what it knows them by.
    pub(super) fn view(&self, now: Tick) -> lease::View {
        let mut view = self.lease.view(now);
        // What was known by an id that nothing has any more.
        view.moves.retain(|m| !is_unit(m.address) || self.intent.units.contains_key(&m.address));
        if self.intent.units.is_empty() {
            return view;
        }
        let members = |unit: IpAddr| self.intent.members(unit);
        let owners = std::mem::take(&mut view.owners).into_iter();
        view.owners =
            owners.flat_map(|(unit, node)| members(unit).into_iter().map(move |ip| (ip, node.clone()))).collect();
        let owned = std::mem::take(&mut view.owned).into_iter();
        view.owned = owned.flat_map(|(unit, o)| members(unit).into_iter().map(move |ip| (ip, o.clone()))).collect();
        let elected = self.routers.elected().flat_map(members);
        view.owners.extend(elected.map(|ip| (ip, self.node.clone())));
        let moves = std::mem::take(&mut view.moves).into_iter();
        let each =
            moves.flat_map(|m| members(m.address).into_iter().map(move |address| lease::Move { address, ..m.clone() }));
        view.moves = each.collect();
        view
    }

    /// Tells `l2` what it hears about, whoever owns it.
    fn watch_where(&mut self, now: Tick) {
        let watched = self.intent.addresses.keys().filter_map(|ip| Some((*ip, self.links_of(*ip)?.clone())));
        self.l2.handle(now, l2::Input::Watch(watched.collect()));
    }

    /// Tells `l2` what this node answers for, and where.
    pub(super) fn announce_where(&mut self, now: Tick) {
        let units = self.lease.owned().iter().copied().chain(self.routers.elected());
        let owned = units.flat_map(|unit| self.intent.members(unit));
        let proven = owned.filter(|ip| !self.unproven.contains_key(ip));
        let addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>> =
            proven.filter_map(|ip| Some((ip, self.links_of(ip)?.clone()))).collect();
        let name = |on: &IfIndex| self.facts.table.name_of(*on);
        let mut shared: BTreeMap<&BTreeSet<IfIndex>, Arc<BTreeSet<String>>> = BTreeMap::new();
        let mut names = |on| shared.entry(on).or_insert_with_key(|on| Arc::new(on.iter().map(name).collect())).clone();
        self.facts.owned = addresses.iter().map(|(ip, on)| (*ip, names(on))).collect();
        self.facts.conflicts.retain(|ip, _| addresses.contains_key(ip));
        let virtual_macs = self.intent.addresses.keys().filter_map(|ip| Some((*ip, self.virtual_mac(*ip)?))).collect();
        self.l2.handle(now, l2::Input::VirtualMacs(virtual_macs));
        self.l2.handle(now, l2::Input::Addresses(addresses));
        self.take_away();
        self.fence_owned(now);
        self.take_in_frames();
        self.put_there(now);
        self.news = true;
    }

    /// Has interfaces take in what is sent to the virtual routers that this node owns.
    fn take_in_frames(&mut self) {
        let owned = self.facts.owned.keys().filter_map(|ip| Some((self.virtual_mac(*ip)?, self.links_of(*ip)?)));
        let macs = owned.flat_map(|(mac, on)| on.iter().map(move |on| (*on, mac))).collect();
        if let Err(error) = self.groups.take_in(macs) {
            tracing::warn!(%error, "what is sent to a virtual router may not arrive");
        }
    }

    pub(super) fn lease_effects(&mut self, now: Tick) {
        let (mut moved, mut packets) = (false, Vec::new());
        while let Some(effect) = self.lease.poll() {
            match effect {
                lease::Effect::Send { to, bytes } => packets.push((to, bytes)),
                lease::Effect::Own(unit) => {
                    let used = self.lease.used(unit);
                    for ip in self.intent.members(unit) {
                        self.facts.lost.remove(&ip);
                        if !used {
                            self.unproven.insert(ip, now);
                        }
                    }
                    self.lead_router(now, unit, true);
                    moved = true;
                }
                lease::Effect::Lose(unit, reason) => {
                    self.lead_router(now, unit, false);
                    for ip in self.intent.members(unit) {
                        self.facts.lost.insert(ip, reason.to_string());
                        self.unproven.remove(&ip);
                        self.facts.taken.remove(&ip);
                    }
                    moved = true;
                }
                lease::Effect::Settled(unit) => {
                    for address in self.intent.members(unit) {
                        self.l2.handle(now, l2::Input::Announce { address });
                    }
                }
                lease::Effect::Alive(_) | lease::Effect::Dead(_) => self.news = true,
                lease::Effect::Rejected { from, reason } => {
                    let of_sender = self.facts.rejected.entry((from.ip(), reason.to_string())).or_default();
                    *of_sender = (of_sender.0 + 1, now);
                    self.news = true;
                }
                lease::Effect::Record(epoch) => self.unrecorded = Some(epoch),
                lease::Effect::Ask(unit) => {
                    let address = self.intent.any_member(unit);
                    let preset = self.intent.addresses.get(&address).map(|w| w.place.preset).unwrap_or_default();
                    self.ask(now, Why::TakeOver, address, (3, preset.lease() / 4));
                }
            }
        }
        // What was lost is silent before a packet says so to others.
        if moved {
            self.gateways.untold = true;
            self.announce_where(now);
        }
        for (to, bytes) in packets {
            // Not sent is not heard: the other side counts on that.
            drop(self.udp.send(&bytes, to));
        }
        // The disk may be slow; what it has no time for now is given to it in a later turn, unless a newer one comes.
        if let Some(epoch) = self.unrecorded.take()
            && let Err(TrySendError::Full(epoch)) = self.recorder.try_send(epoch)
        {
            self.unrecorded = Some(epoch);
        }
    }

    pub(super) fn l2_effects(&mut self) {
        let mut outcomes = Vec::new();
        while let Some(effect) = self.l2.poll() {
            let now = net::now();
            match effect {
                l2::Effect::Send { on, frame, speaks_for } => {
                    let over = |ip| self.until(ip).is_none_or(|until| until <= now);
                    if speaks_for.is_some_and(over) {
                        self.facts.withheld += 1;
                    } else if let Some(socket) = self.sockets.get(&on) {
                        // A link that is down loses it; the announcement comes again when the link is back.
                        let _ = socket.send(&frame);
                    }
                }
                l2::Effect::Join { on, group } => {
                    if let Err(error) = self.groups.join(on, group) {
                        tracing::warn!(%error, %group, "neighbour solicitations of this group may not arrive");
                    }
                }
                l2::Effect::Leave { on, group } => self.groups.leave(on, group),
                l2::Effect::Announcing { .. } | l2::Effect::Withdrawn { .. } => {}
                l2::Effect::Seen { address, .. } => {
                    self.lease.handle(now, lease::Input::Overheard);
                    self.lease.handle(now, lease::Input::Wire { address: self.intent.unit(address), heard: true });
                }
                l2::Effect::Asked { id, address, on, by } => {
                    outcomes.extend(self.questions.ended(id, address, on, &by));
                }
                l2::Effect::Conflict { address, on, mac } => {
                    let node = self.lease.node_with(mac).map(str::to_owned);
                    tracing::warn!(%address, %mac, ?node, "somebody else answers for an address that this node owns");
                    self.facts.conflicts.insert(address, Conflict { on, mac, node, at: now });
                    self.lease.handle(now, lease::Input::Wire { address: self.intent.unit(address), heard: true });
                    self.news = true;
                }
            }
        }
        let unproven = self.unproven.len();
        outcomes.into_iter().for_each(|outcome| self.learned(outcome));
        if self.unproven.len() != unproven {
            self.announce_where(net::now());
        }
    }

    /// Looks for strangers that have an address that this node is to announce for the first time.
    pub(super) fn look_for_strangers(&mut self, now: Tick) {
        let again = if self.unproven.len() > FEW { LOOK_AGAIN_MANY } else { LOOK_AGAIN };
        let due: Vec<IpAddr> = self.unproven.iter().filter(|(_, at)| **at <= now).map(|(ip, _)| *ip).collect();
        for address in due {
            self.unproven.insert(address, now + again);
            self.ask(now, Why::FirstUse, address, FIRST_USE);
        }
    }

    /// Asks for addresses of others: each is asked for by one speaker that does not own it.
    pub(super) fn probe_others(&mut self, now: Tick) {
        if self.next_self_probe.is_some_and(|at| now < at) {
            return;
        }
        self.next_self_probe = Some(now + SELF_PROBE);
        let view = self.view(now);
        let of_others = |ip: &IpAddr| view.owners.get(ip).is_some_and(|owner| *owner != self.node);
        let before = self.facts.probed.len();
        self.facts.probed.retain(|ip, _| of_others(ip));
        self.gateways.untold |= self.facts.probed.len() != before;
        let mut probes = Vec::new();
        for (address, owner) in &view.owners {
            let Some(wanted) = self.intent.addresses.get(address).filter(|_| *owner != self.node) else { continue };
            let live = |node: &&String| **node != *owner && (**node == self.node || view.alive.contains(*node));
            let able: Vec<&String> = wanted.candidates.iter().filter(live).collect();
            let turn = last_octet(*address).checked_rem(able.len());
            if turn.and_then(|n| able.get(n)).is_some_and(|node| **node == self.node) {
                probes.push(*address);
            }
        }
        probes.into_iter().for_each(|address| self.ask(now, Why::SelfProbe, address, PROBE));
    }

    fn ask(&mut self, now: Tick, why: Why, address: IpAddr, (times, every): (u8, Duration)) {
        let Some(on) = self.links_of(address).cloned() else { return };
        let on = &on;
        let gateways = if why == Why::TakeOver { self.gateways(on, address) } else { Vec::new() };
        let questions = self.questions.begin(Subject { why, address, on, gateways, times, every });
        questions.into_iter().for_each(|question| self.l2.handle(now, l2::Input::Ask(question)));
    }

    /// The gateways of these links that a host with such an address would use.
    pub(super) fn gateways(&self, on: &BTreeSet<IfIndex>, address: IpAddr) -> Vec<Gateway> {
        let table = &self.facts.table;
        let here = table.gateways.keys().filter(|(link, ip)| on.contains(link) && ip.is_ipv4() == address.is_ipv4());
        let asked = here.filter_map(|(link, gateway)| {
            let own =
                table.addresses.get(link)?.iter().map(|(ip, _)| *ip).filter(|ip| ip.is_ipv4() == gateway.is_ipv4());
            let local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            Some((*link, *gateway, own.max_by_key(|ip| local(ip) == local(gateway))?))
        });
        asked.collect()
    }

    fn learned(&mut self, outcome: Outcome) {
        let Outcome { why, address, claims, certain, gateway } = outcome;
        let now = net::now();
        match why {
            Why::TakeOver => {
                let silent = claims.is_empty() && certain && gateway;
                if silent || !claims.is_empty() {
                    let address = self.intent.unit(address);
                    self.lease.handle(now, lease::Input::Wire { address, heard: !silent });
                }
            }
            Why::FirstUse => {
                let Some(look) = self.unproven.get_mut(&address) else { return };
                if claims.is_empty() && !certain {
                    // Of a thousand at once some are answered later than silence would count.
                    *look = now + UNCERTAIN;
                    return;
                }
                self.news = true;
                if let Some((on, mac)) = claims.first() {
                    if self.facts.taken.insert(address, (*on, *mac)).is_none() {
                        tracing::warn!(%address, %mac, "a stranger has the address, which was to be announced for the first time: it is not announced");
                    }
                } else {
                    self.unproven.remove(&address);
                    self.facts.taken.remove(&address);
                }
            }
            Why::SelfProbe if certain || !claims.is_empty() => self.probed(address, claims),
            Why::Gateway(on) if certain || gateway => {
                self.gateways.answered(now, (on, address.is_ipv4()), gateway);
            }
            Why::SelfProbe | Why::Gateway(_) => {}
        }
    }
}

fn last_octet(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]),
        IpAddr::V6(ip) => usize::from(ip.octets()[15]),
    }
}
