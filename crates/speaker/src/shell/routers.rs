//! Pools with protocol vip: their owners say by VRRP that they own, and strangers with one of our ids are noticed.
//!
//! The lease decides who owns; VRRP only tells. So a router of ours never becomes master by itself, and what other
//! masters say moves nothing: an id that a stranger uses is reported, and the controller takes another one.
//!
//! In a pool with `mode: interop` VRRP itself elects, together with routers that are not ours, and the lease knows nothing
//! of it: this node owns what it is master of, for three intervals after each of its advertisements.

use super::{Shell, TOKEN_ROUTERS};
use crate::facts::Foreign;
use crate::intent::Unit;
use engine::{Engine, IfIndex, Tick};
use net::RawIp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use vrrp::packet::{self, Meta, Version};
use vrrp::{Centis, Config, Effect, Input, Mode, Priority, Router, Settings, State, Vrid};

/// How often it is looked who is a stranger and whether one has gone.
const LOOK: Duration = Duration::from_secs(1);
/// Another speaker may be heard by VRRP before its heartbeats say that it is one.
const STRANGE: Duration = Duration::from_secs(4);
/// The octet of an advertisement that has its sender's priority; zero says that it stops being master.
const PRIORITY: usize = 2;

/// The virtual routers of this node.
#[derive(Debug, Default)]
pub(super) struct Routers {
    /// By what the lease knows them by.
    running: BTreeMap<IpAddr, Running>,
    sockets: BTreeMap<(IfIndex, bool), (IpAddr, RawIp)>,
    /// Masters that are none of our speakers, since when.
    strangers: BTreeMap<(IpAddr, IpAddr), Tick>,
    look_at: Option<Tick>,
}

#[derive(Debug)]
struct Running {
    router: Router,
    on: IfIndex,
    id: u8,
    pool: String,
    /// When it advertised last, as master.
    advertised: Tick,
}

impl Running {
    fn elects(&self) -> bool {
        self.router.config().mode == Mode::Interop
    }

    fn is_master(&self) -> bool {
        self.router.state() == State::Master
    }
}

impl Routers {
    /// What this node is master of because VRRP elected it.
    pub(super) fn elected(&self) -> impl Iterator<Item = IpAddr> {
        self.running.iter().filter(|(_, r)| r.elects() && r.is_master()).map(|(key, _)| *key)
    }

    /// Until when it may answer for that: from then on others take over.
    pub(super) fn until(&self, key: IpAddr) -> Option<Tick> {
        let running = self.running.get(&key).filter(|r| r.elects() && r.is_master())?;
        Some(running.advertised + running.router.config().interval.duration() * 3)
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        let routers = self.running.values().filter_map(|r| r.router.deadline());
        routers.chain(self.look_at.filter(|_| !self.running.is_empty())).min()
    }

    /// The addresses from which advertisements of this node come.
    pub(super) fn sources(&self) -> BTreeSet<IpAddr> {
        self.running.values().map(|r| r.router.config().source).collect()
    }

    fn token((on, v6): (IfIndex, bool)) -> u64 {
        TOKEN_ROUTERS + 2 * u64::from(on.0) + u64::from(v6)
    }

    /// An interface went away and may be back: what was opened on it is dead.
    pub(super) fn forget(&mut self, on: IfIndex) {
        self.sockets.retain(|(of, _), _| *of != on);
    }
}

/// What a virtual router is to be, if it makes sense.
fn config(unit: &Unit, source: IpAddr, members: BTreeSet<IpAddr>) -> Option<Config> {
    let of_pool = unit.place.vrrp.as_ref()?;
    let interval = Centis::try_from(of_pool.interval).ok()?;
    let same_family = |ip: &&IpAddr| ip.is_ipv4() == source.is_ipv4();
    let settings = Settings {
        vrid: Vrid::try_from(unit.id).ok()?,
        version: if of_pool.version2 && source.is_ipv4() { Version::V2 } else { Version::V3 },
        mode: if of_pool.interop { Mode::Interop } else { Mode::Led { members } },
        priority: Priority::try_from(of_pool.priority).unwrap_or(Priority::DEFAULT),
        interval,
        source,
        addresses: unit.members.iter().copied().collect(),
        peers: of_pool.peers.iter().filter(same_family).copied().collect(),
        // keepalived 2.2 sends unicast IPv6 with 64.
        unicast_ttl: if of_pool.interop && source.is_ipv6() { 64 } else { packet::TTL },
        preempt: of_pool.preempt,
        accept: true,
        checksum: packet::Checksum::default(),
        password: None,
        listen: interval.duration() + interval.duration() / 4,
    };
    match Config::new(settings) {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::warn!(id = unit.id, pool = unit.place.pool, %error, "the owner does not say so by VRRP");
            None
        }
    }
}

impl Shell {
    /// The address of a link from which advertisements come: its own lowest one, with IPv6 the link-local one.
    fn primary(&self, on: IfIndex, ipv6: bool) -> Option<IpAddr> {
        let own = self.facts.table.addresses_of(on).filter(|(ip, prefix)| match ip {
            IpAddr::V4(_) => !ipv6 && *prefix < 32,
            IpAddr::V6(ip) => ipv6 && ip.is_unicast_link_local(),
        });
        own.map(|(ip, _)| ip).min()
    }

    /// From where our speakers advertise: as they say, and their nodes' addresses, should their words not come through.
    fn advertisers(&self) -> BTreeSet<IpAddr> {
        let nodes = self.intent.peers.values().map(SocketAddr::ip);
        self.lease.advertisers().into_iter().chain(nodes).collect()
    }

    /// Starts, changes and stops routers, as the intent and the links demand.
    pub(super) fn configure_routers(&mut self, now: Tick) {
        let members = self.advertisers();
        let mut wanted = BTreeMap::new();
        for (key, unit) in &self.intent.units {
            let on = self.resolved.get(&unit.place.interface).and_then(|on| on.as_ref().ok()?.first().copied());
            let Some(on) = on.filter(|_| unit.candidates.contains(&self.node)) else { continue };
            let Some(source) = self.primary(on, unit.members.iter().any(IpAddr::is_ipv6)) else { continue };
            let Some(config) = config(unit, source, members.clone()) else { continue };
            wanted.insert(*key, (on, config, unit.id, unit.place.pool.clone()));
        }
        let gone: Vec<IpAddr> = self.routers.running.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            self.drive_router(now, key, Input::Stop);
            self.routers.running.remove(&key);
            self.routers.strangers.retain(|(of, _), _| *of != key);
        }
        for (key, (on, config, id, pool)) in wanted {
            if !self.open_routers(on, &config) {
                continue;
            }
            match self.routers.running.get_mut(&key) {
                Some(running) if running.on == on => {
                    running.pool = pool;
                    if *running.router.config() != config {
                        self.drive_router(now, key, Input::Configure(Box::new(config)));
                    }
                }
                _ => {
                    let router = Router::new(config, fastrand::Rng::new());
                    self.routers.running.insert(key, Running { router, on, id, pool, advertised: now });
                    self.drive_router(now, key, Input::Start);
                    let leads = self.lease.owned().contains(&key);
                    self.drive_router(now, key, Input::Lead(leads));
                }
            }
        }
        let used: BTreeSet<(IfIndex, bool)> =
            self.routers.running.values().map(|r| (r.on, r.router.config().source.is_ipv6())).collect();
        self.routers.sockets.retain(|place, _| used.contains(place));
        self.routers.look_at.get_or_insert(now + LOOK);
        let running = &self.routers.running;
        self.facts.foreign_routers.retain(|foreign| running.values().any(|r| r.id == foreign.id));
    }

    /// Opens what advertisements of this link and family need; false where that fails.
    fn open_routers(&mut self, on: IfIndex, config: &Config) -> bool {
        let (source, place) = (config.source, (on, config.source.is_ipv6()));
        if self.routers.sockets.get(&place).is_some_and(|(from, _)| *from == source) {
            return true;
        }
        self.routers.sockets.remove(&place);
        let name = self.facts.table.name_of(on);
        let opened = RawIp::open(packet::PROTOCOL, (on, &name), packet::group(config.family()), source);
        match opened.and_then(|s| self.poller.add(&s, Routers::token(place)).map(|()| s)) {
            Ok(socket) => {
                self.routers.sockets.insert(place, (source, socket));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "owners on this link do not say so by VRRP");
                false
            }
        }
    }

    /// The lease says that this node owns these addresses, or does not any more.
    pub(super) fn lead_router(&mut self, now: Tick, key: IpAddr, leads: bool) {
        self.drive_router(now, key, Input::Lead(leads));
    }

    /// Reads advertisements.
    pub(super) fn advertisements(&mut self, token: u64, buffer: &mut [u8]) {
        let number = token - TOKEN_ROUTERS;
        let place = (IfIndex((number / 2) as u32), number % 2 == 1);
        for _ in 0..super::BATCH {
            let Some((_, socket)) = self.routers.sockets.get(&place) else { return };
            let Ok(Some((arrival, message))) = socket.receive(buffer) else { return };
            let meta = Meta { source: arrival.from.ip(), destination: arrival.to, ttl: arrival.ttl };
            let Some(id) = packet::vrid(message) else { continue };
            let message = message.to_vec();
            let of = |r: &Running| r.on == place.0 && r.id == id.get() && r.router.config().source.is_ipv6() == place.1;
            let key = self.routers.running.iter().find(|(_, r)| of(r)).map(|(key, _)| *key);
            if let Some(key) = key {
                self.drive_router(net::now(), key, Input::Packet { meta, message });
            }
        }
    }

    /// Does what is due.
    pub(super) fn run_routers(&mut self, now: Tick) {
        let due = |r: &Running| r.router.deadline().is_some_and(|at| at <= now);
        let due: Vec<IpAddr> = self.routers.running.iter().filter(|(_, r)| due(r)).map(|(key, _)| *key).collect();
        for key in due {
            if let Some(running) = self.routers.running.get_mut(&key) {
                running.router.timeout(now);
            }
            self.router_effects(now, key);
        }
        if self.routers.look_at.is_none_or(|at| now < at) || self.routers.running.is_empty() {
            return;
        }
        self.routers.look_at = Some(now + LOOK);
        let members = self.advertisers();
        let known = |r: &Running| {
            r.elects() || matches!(&r.router.config().mode, Mode::Led { members: known } if *known == members)
        };
        if !self.routers.running.values().all(known) {
            self.configure_routers(now);
        }
        self.routers.strangers.retain(|(_, from), _| !members.contains(from));
        let strangers = self.routers.strangers.iter().filter(|(_, since)| now.since(**since) >= STRANGE);
        let named = strangers.filter_map(|((key, from), _)| {
            let running = self.routers.running.get(key)?;
            Some(Foreign { id: running.id, pool: running.pool.clone(), from: *from })
        });
        let named: BTreeSet<Foreign> = named.collect();
        self.news |= named != self.facts.foreign_routers;
        self.facts.foreign_routers = named;
    }

    fn drive_router(&mut self, now: Tick, key: IpAddr, input: Input) {
        if let Some(running) = self.routers.running.get_mut(&key) {
            running.router.handle(now, input);
            self.router_effects(now, key);
        }
    }

    /// Has VRRP elect others, in good order.
    pub(super) fn leave_elections(&mut self, now: Tick) {
        let elected: Vec<IpAddr> =
            self.routers.running.iter().filter(|(_, r)| r.elects()).map(|(key, _)| *key).collect();
        elected.into_iter().for_each(|key| self.drive_router(now, key, Input::Stop));
    }

    fn router_effects(&mut self, now: Tick, key: IpAddr) {
        let mut elected = false;
        let virtual_mac = self.virtual_mac(self.intent.any_member(key)).is_some();
        while let Some(running) = self.routers.running.get_mut(&key)
            && let Some(effect) = running.router.poll()
        {
            match effect {
                Effect::Send { to, message } => {
                    // A farewell is none of the owner's words.
                    let farewell = message.get(PRIORITY) == Some(&0);
                    let owned = match running.elects() {
                        true => running.is_master(),
                        false => self.lease.until(key).is_some_and(|until| until > net::now()),
                    };
                    if owned && !farewell {
                        running.advertised = now;
                    }
                    // Nothing comes from the virtual router's MAC address when it is no longer owned.
                    if owned && !farewell && virtual_mac {
                        let frame = packet::frame(running.router.config().source, &message);
                        if let (Some(frame), Some(socket)) = (frame, self.sockets.get(&running.on)) {
                            drop(socket.send(&frame));
                        }
                        continue;
                    }
                    let place = (running.on, to.is_ipv6());
                    match self.routers.sockets.get(&place) {
                        // A link that is down loses it; there is another one soon.
                        Some((_, socket)) if owned || farewell => drop(socket.send(to, &message)),
                        _ => {}
                    }
                }
                Effect::Become(state) => {
                    if state == State::Master {
                        running.advertised = now;
                        self.facts.advertised.insert(running.id);
                    } else {
                        self.facts.advertised.remove(&running.id);
                    }
                    elected |= running.elects();
                    self.news = true;
                }
                Effect::MasterHeard { from, priority, .. } if !running.elects() => {
                    let (id, pool) = (running.id, running.pool.clone());
                    if self.routers.strangers.insert((key, from), now).is_none() {
                        tracing::info!(id, pool, %from, priority = priority.get(), "another VRRP master is heard with an id of ours");
                    }
                }
                Effect::MasterHeard { from, priority, .. } => {
                    let id = running.id;
                    tracing::info!(id, %from, priority = priority.get(), "another VRRP router is master");
                    for ip in self.intent.members(key) {
                        self.facts.lost.insert(ip, format!("VRRP elected {from}"));
                    }
                }
                Effect::MasterGone { from } => drop(self.routers.strangers.remove(&(key, from))),
                Effect::Refused { from, reason } => {
                    tracing::debug!(id = running.id, %from, ?reason, "an advertisement did not count");
                }
                // `l2` announces what this node owns.
                Effect::Announce => {}
            }
        }
        if elected {
            self.announce_where(now);
        }
    }
}
