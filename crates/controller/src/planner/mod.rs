//! What the leading controller knows and what it has to write, without a clock or a connection.
//!
//! ```text
//!  source::Event ──► event ──┐                          ┌──► next: the writes whose turn it is, one per object
//!                            ├─ ipam, plan::World ─ plan┤
//!  what came of a write ► done ┘                        └──► deadline: when to ask again
//! ```
//!
//! Order: addresses of Services, then pools' status, then [`keys::ANNOUNCED`], then events. A write of a Service rests
//! on the version that was read; until a newer one has come there is no other write of that Service.

mod writes;

use crate::acceptors::Acceptors;
use crate::announced::{self, Report, Reports};
use crate::departed::Departed;
use crate::metrics::PoolCounts;
use crate::pools::{Known, READY};
use crate::queue::Queue;
use crate::strangers::Strangers;
use crate::virtual_routers::VirtualRouters;
use api::{Condition, Eip, Pool, Protocol, Service, ServiceKey, keys};
use engine::Tick;
use ipam::{Decision, Ipam};
use plan::ServicePart;
use source::{Change, Event, Object, ObjectRef, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// A pool's status is written at most that often, and by one millisecond less often for each address in use.
const POOL: Duration = Duration::from_secs(1);
/// Announcements are looked at that long after something changed, so that much is looked at once.
const LOOK: Duration = Duration::from_secs(1);
/// That an address is not announced must last that long to be written: the first answer and every failover take a while.
const LASTS: Duration = Duration::from_secs(3);
/// So many Services whose owner changed are told so at each look: a failover of ten thousand addresses must not keep the
/// API server from anything else.
const OWNERS: usize = 50;
/// Writes pause after the API server did not take one: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// What was refused is tried again after this time.
const REFUSED: Duration = Duration::from_secs(60);
/// That many events may wait; more are dropped and counted.
const EVENTS: usize = 4096;
/// That many decisions, and as many conditions, are made in advance: all for ten thousand Services at once would take
/// more memory than everything else.
const AHEAD: usize = 512;
/// At most that many writes of conditions [`keys::ANNOUNCED`] and events are on their way at once.
const LOW: usize = 8;

/// See the module.
pub struct Planner {
    ipam: Ipam,
    world: plan::World,
    pools: BTreeMap<String, Known>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    reports: Reports,
    strangers: Strangers,
    virtual_routers: VirtualRouters,
    departed: Departed,
    memberlist: Memberlist,
    acceptors: Acceptors,
    synced: bool,
    services_changed: bool,
    /// Services whose EndpointSlices have all been read.
    sliced: BTreeSet<ServiceKey>,

    /// Decisions that have not been written.
    decisions: BTreeMap<ServiceKey, Decision>,
    /// What [`keys::ANNOUNCED`] should say and does not; `None`: it should not be there.
    announced: BTreeMap<ServiceKey, Option<Condition>>,
    urgent: Queue<ServiceKey>,
    later: Queue<ServiceKey>,
    /// Services of which a write is on its way.
    in_flight: BTreeSet<ServiceKey>,
    /// The version from which a Service was written last: nothing more can be written from it.
    spent: BTreeMap<ServiceKey, String>,
    pool_turns: BTreeMap<String, PoolTurn>,
    /// Objects with a finalizer of OpenELB that is to be removed.
    legacy: BTreeSet<ObjectRef>,
    /// How many writes of the last two priorities are on their way.
    low_in_flight: usize,
    events: VecDeque<Write>,
    dropped_events: u64,

    look_at: Option<Tick>,
    /// Services whose address is not announced, why, and since when.
    unannounced: BTreeMap<ServiceKey, (String, Tick)>,
    paused: Option<Tick>,
    failures: u32,
    refused: BTreeMap<Job, Tick>,
}

/// The Secret that authenticates speakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memberlist {
    Missing,
    InFlight,
    There,
}

/// When a pool's status may be written.
#[derive(Debug, Clone, Default)]
struct PoolTurn {
    dirty: bool,
    in_flight: bool,
    not_before: Tick,
}

/// What can be refused and tried again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Service(ServiceKey),
    Pool(String),
    Finalizer(ObjectRef),
    Memberlist,
    Ownership,
}

/// Names a write that is on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum Ticket {
    /// Of a Service, and what it does.
    Service(ServiceKey, Box<ServiceTicket>),
    /// Of a pool's status.
    Pool(String),
    /// Of a legacy finalizer.
    Finalizer(ObjectRef),
    /// Of the Secret.
    Memberlist,
    /// Of the ConfigMap with the acceptors.
    Ownership,
    /// Of what a node that is not there cannot say itself.
    Departed,
    /// Of an event.
    Event(Box<Write>),
}

/// What a write of a Service does.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceTicket {
    version: String,
    uid: String,
    decision: Option<Decision>,
    announced: Option<Option<Condition>>,
}

impl Ticket {
    /// It counts among those that leave room for others.
    fn is_low(&self) -> bool {
        match self {
            Ticket::Service(_, ticket) => ticket.decision.is_none(),
            Ticket::Event(_) => true,
            Ticket::Pool(_) | Ticket::Finalizer(_) | Ticket::Memberlist | Ticket::Ownership | Ticket::Departed => false,
        }
    }

    /// The kind of object, for metrics.
    pub fn object(&self) -> &'static str {
        match self {
            Ticket::Service(..) => "service",
            Ticket::Pool(_) | Ticket::Finalizer(ObjectRef::Pool(_)) => "eip",
            Ticket::Finalizer(ObjectRef::BgpPeer(_)) => "bgppeer",
            Ticket::Finalizer(_) => "bgpconf",
            Ticket::Memberlist => "secret",
            Ticket::Ownership => "configmap",
            Ticket::Departed => "speaker",
            Ticket::Event(_) => "event",
        }
    }
}

impl Default for Planner {
    fn default() -> Planner {
        Planner {
            ipam: Ipam::new(),
            world: plan::World::default(),
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            reports: Reports::default(),
            strangers: Strangers::default(),
            virtual_routers: VirtualRouters::default(),
            departed: Departed::default(),
            memberlist: Memberlist::Missing,
            acceptors: Acceptors::default(),
            synced: false,
            services_changed: false,
            sliced: BTreeSet::new(),
            decisions: BTreeMap::new(),
            announced: BTreeMap::new(),
            urgent: Queue::default(),
            later: Queue::default(),
            in_flight: BTreeSet::new(),
            spent: BTreeMap::new(),
            pool_turns: BTreeMap::new(),
            legacy: BTreeSet::new(),
            low_in_flight: 0,
            events: VecDeque::new(),
            dropped_events: 0,
            look_at: None,
            unannounced: BTreeMap::new(),
            paused: None,
            failures: 0,
            refused: BTreeMap::new(),
        }
    }
}

impl Planner {
    /// Whether everything that there was has been read; before, nothing is decided.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// The Services whose EndpointSlices must be read, when they may be others than at the last call.
    pub fn new_needs(&mut self) -> Option<&BTreeSet<ServiceKey>> {
        std::mem::take(&mut self.services_changed).then(|| self.world.needs_slices())
    }

    /// Something was read.
    pub fn event(&mut self, now: Tick, event: Event) {
        match event {
            Event::Change(Change::Apply(object)) => self.apply(now, object),
            Event::Change(Change::Delete(reference)) => self.delete(now, reference),
            Event::Synced => {
                info!(pools = self.pools.len(), "everything has been read; giving addresses from now on");
                self.synced = true;
                self.pools.keys().cloned().collect::<Vec<_>>().iter().for_each(|p| self.pool_changed(p));
                self.look(now);
            }
            Event::Reachable(Ok(())) => self.paused = None,
            Event::Reachable(Err(reason)) => warn!("the source of objects cannot be read: {reason}"),
            Event::SlicesRead(key) => {
                self.sliced.insert(key);
                self.look(now);
            }
            Event::Broken { file, message: Some(message) } => warn!(file, "{message}; what it last said well stays"),
            Event::Broken { file, message: None } => info!(file, "the file is good again, or gone"),
        }
    }

    fn apply(&mut self, now: Tick, object: Object) {
        self.departed.read(&object);
        if object.has_legacy_finalizer() {
            self.legacy.insert(object.reference());
        }
        match object {
            Object::Pool(eip) => self.set_pool(eip),
            Object::Service(service) => {
                if !self.set_service(Arc::unwrap_or_clone(service)) {
                    return;
                }
            }
            Object::Node(node) => {
                if self.nodes.insert(node.name.clone(), node.addresses.clone()).as_ref() != Some(&node.addresses) {
                    self.reserve();
                }
                self.acceptors.set_node(&node);
                self.world.set_node(node);
            }
            Object::Slice(slice) => self.world.set_slice(slice),
            Object::Namespace(namespace) => self.ipam.set_namespace(&namespace.name, namespace.labels),
            Object::Speaker(speaker) => {
                let node = speaker.metadata.name.clone().unwrap_or_default();
                self.acceptors.set_speaker(now, &speaker);
                let report = Report::from(&*speaker);
                self.strangers.announced(report.owns.keys());
                if !self.reports.set(&node, report) {
                    return;
                }
                self.replace_taken(now);
                self.virtual_routers.avoid(self.reports.taken_ids());
                self.all_pools_changed();
            }
            Object::Memberlist(_) => self.memberlist = Memberlist::There,
            Object::Ownership(read) => {
                self.acceptors.set(read);
                return;
            }
            // They give no addresses.
            Object::BgpConf(_) | Object::BgpPeer(_) | Object::Policy(_) | Object::Passwords(_) => return,
        }
        self.look(now);
    }

    fn delete(&mut self, now: Tick, reference: ObjectRef) {
        self.legacy.remove(&reference);
        self.departed.gone(&reference);
        match reference {
            ObjectRef::Pool(name) => {
                self.ipam.remove_pool(&name);
                self.virtual_routers.remove(&name);
                self.world.remove_pool(&name);
                self.pools.remove(&name);
                self.pool_turns.remove(&name);
                self.all_pools_changed();
            }
            ObjectRef::Service(key) => {
                self.services_changed = true;
                self.ipam.remove_service(&key);
                self.strangers.remove(&key);
                self.world.remove_service(&key);
                self.decisions.remove(&key);
                self.announced.remove(&key);
                self.spent.remove(&key);
                self.unannounced.remove(&key);
                self.sliced.remove(&key);
                self.refused.remove(&Job::Service(key));
            }
            ObjectRef::Node(name) => {
                self.nodes.remove(&name);
                self.acceptors.remove_node(&name);
                self.world.remove_node(&name);
                self.reserve();
            }
            ObjectRef::Slice(key) => self.world.remove_slice(&key),
            ObjectRef::Namespace(name) => self.ipam.remove_namespace(&name),
            ObjectRef::Speaker(node) => {
                self.reports.remove(&node);
                self.acceptors.remove_speaker(&node);
                self.reserve();
                self.all_pools_changed();
            }
            ObjectRef::Memberlist => self.memberlist = Memberlist::Missing,
            ObjectRef::Ownership => self.acceptors.unset(),
            ObjectRef::BgpConf(_) | ObjectRef::BgpPeer(_) | ObjectRef::Policy(_) | ObjectRef::Passwords => return,
        }
        self.look(now);
    }

    fn set_pool(&mut self, eip: Box<Eip>) {
        let name = eip.metadata.name.clone().unwrap_or_default();
        // What OpenELB recorded counts, for the take-over. What oxelb records is late by design: it may name a Service
        // that was deleted and made again, while its address has been given to another.
        let by_oxelb = eip.status.iter().flat_map(|s| &s.conditions).any(|c| c.type_ == READY);
        let recorded = Pool::try_from(&*eip);
        if let Ok(Pool { protocol: Protocol::Vip, .. }) = &recorded {
            let status = eip.status.as_ref().map(|s| s.virtual_routers.as_slice()).unwrap_or_default();
            self.virtual_routers.read(&name, status);
        }
        let known = Known::new(eip);
        let same = self.pools.get(&name).is_some_and(|before| before.pool == known.pool);
        if !same {
            self.ipam.set_pool(&name, if by_oxelb { known.pool.clone() } else { recorded });
            self.world.set_pool(&name, known.pool.clone());
            if let Err(e) = &known.pool {
                warn!(pool = name, "{e}");
            }
        }
        self.pools.insert(name.clone(), known);
        if same { self.pool_changed(&name) } else { self.all_pools_changed() }
    }

    /// True when something has changed that decides over its announcement, or over the condition that says so.
    fn set_service(&mut self, mut service: Service) -> bool {
        let key = service.key.clone();
        // Decisions rest on versions. A new one is made for this version if one is necessary.
        self.decisions.remove(&key);
        self.announced.remove(&key);
        self.refused.remove(&Job::Service(key.clone()));
        let (before, now) = (self.ipam.service(&key), ServicePart::from(&service));
        let announcement = before.is_none_or(|before| ServicePart::from(before) != now);
        let condition = before.and_then(|b| b.condition(keys::ANNOUNCED)) != service.condition(keys::ANNOUNCED);
        // What comes back of our own write is no news.
        let news = announcement || (condition && !self.spent.contains_key(&key));
        if self.spent.get(&key).is_some_and(|version| *version != service.resource_version) {
            self.spent.remove(&key);
        }
        self.services_changed |= announcement;
        self.world.set_service(now);
        // Others' conditions are never compared, so they are not kept.
        service.conditions.retain(|c| c.type_ == keys::ADDRESS_ASSIGNED || c.type_ == keys::ANNOUNCED);
        service.conditions.shrink_to_fit();
        self.ipam.set_service(service);
        // What was decided on the last version and not written must be decided again.
        self.ipam.retry(&key);
        news
    }

    fn reserve(&mut self) {
        let of_node = |(name, ips): (&String, &Vec<IpAddr>)| {
            let what = format!("an address of node {name}");
            ips.iter().map(move |ip| (*ip, what.clone())).collect::<Vec<_>>()
        };
        let mut reserved: BTreeMap<IpAddr, String> = self.strangers.avoided().collect();
        reserved.extend(self.reports.occupied());
        reserved.extend(self.nodes.iter().flat_map(of_node));
        self.ipam.set_reserved(reserved);
    }

    /// What speakers found is not given out. Services whose new address turned out to be somebody else's get another one,
    /// unless they asked for that one.
    fn replace_taken(&mut self, now: Tick) {
        let taken = self.strangers.found(now, self.reports.taken());
        // First, so that none of these is given instead of another.
        self.reserve();
        for (ip, why) in taken {
            let services = self.world.services().filter_map(|s| self.ipam.service(&s.key));
            let asks = |s: &Service| s.wanted_addresses.iter().flatten().any(|wanted| *wanted == ip);
            let has = services.filter(|s| s.ingress.contains(&ip) && !asks(s));
            for key in has.map(|s| s.key.clone()).collect::<Vec<_>>() {
                if !self.strangers.may_replace(&key) {
                    warn!(service = %key, "{why}, as others that the Service had before; it gets no other one");
                    continue;
                }
                info!(service = %key, "{why}; it was not announced yet, so the Service gets another one");
                self.ipam.replace(&key, ip, &why);
            }
        }
    }

    fn pool_changed(&mut self, name: &str) {
        self.pool_turns.entry(name.to_owned()).or_default().dirty = true;
    }

    fn all_pools_changed(&mut self) {
        for name in self.pools.keys() {
            self.pool_turns.entry(name.clone()).or_default().dirty = true;
        }
    }

    fn look(&mut self, now: Tick) {
        self.look_at.get_or_insert(now + LOOK);
    }

    /// Asks the speakers to spread all addresses anew, under this name.
    pub fn rebalance(&mut self, now: Tick, request: String) {
        self.acceptors.rebalance(now, request);
    }

    /// Decides. To be called after events, before [`Planner::next`].
    pub fn plan(&mut self, now: Tick) {
        if !self.synced {
            return;
        }
        if self.strangers.forget(now) {
            self.reserve();
        }
        while self.urgent.len() < AHEAD && self.ipam.undecided() {
            let plan = self.ipam.plan_up_to(AHEAD);
            for decision in plan.services {
                let key = decision.service.clone();
                debug!(service = %key, outcome = ?decision.outcome, addresses = ?decision.addresses, "decided");
                self.decisions.insert(key.clone(), decision);
                self.urgent.push(key);
            }
            for name in &plan.pools {
                if self.pools.contains_key(name) {
                    self.pool_changed(name);
                }
            }
        }
        if self.look_at.is_some_and(|at| at <= now) && self.urgent.is_empty() && !self.ipam.undecided() {
            self.look_at = None;
            self.look_now(now);
        }
    }

    /// Compares what Services say of their announcement with what is so.
    fn look_now(&mut self, now: Tick) {
        let needs = self.world.needs_slices();
        self.sliced.retain(|key| needs.contains(key));
        let plan = plan::plan(&self.world);
        let mut owners = 0;
        for service in self.world.services().filter_map(|s| self.ipam.service(&s.key)) {
            let key = &service.key;
            if self.announced.len() >= AHEAD {
                self.look_at = Some(now + LOOK);
                break;
            }
            let found = service.condition(keys::ANNOUNCED);
            let should = service.served && !service.ingress.is_empty();
            let wanted = if !should {
                None
            } else if needs.contains(key) && !self.sliced.contains(key) {
                continue;
            } else {
                Some(announced::condition(service, &plan, &self.reports))
            };
            let since = match wanted.as_ref().filter(|c| c.status != "True") {
                Some(c) => {
                    let before = self.unannounced.get(key).filter(|(reason, _)| *reason == c.reason);
                    let since = before.map_or(now, |(_, since)| *since);
                    self.unannounced.insert(key.clone(), (c.reason.clone(), since));
                    Some(since)
                }
                None => {
                    self.unannounced.remove(key);
                    None
                }
            };
            let same = match (&wanted, found) {
                (None, None) => true,
                (Some(wanted), Some(found)) => wanted.says_the_same(found),
                _ => false,
            };
            if same || self.refused.contains_key(&Job::Service(key.clone())) {
                self.announced.remove(key);
            } else if let Some(again) = since.map(|since| since + LASTS).filter(|again| now < *again) {
                self.look_at = Some(self.look_at.map_or(again, |at| at.min(again)));
            } else {
                if wanted.as_ref().zip(found).is_some_and(|(wanted, found)| wanted.status == found.status) {
                    owners += 1;
                    if owners > OWNERS {
                        self.look_at = Some(now + LOOK);
                        continue;
                    }
                }
                self.announced.insert(key.clone(), wanted);
                self.later.push(key.clone());
            }
        }
    }

    /// When [`Planner::plan`] and [`Planner::next`] would do something that they do not do now.
    pub fn deadline(&self) -> Option<Tick> {
        if !self.synced {
            return None;
        }
        // While writes pause, what is due waits for the end of the pause, and that may be all there is to wait for.
        if self.paused.is_some() {
            return self.paused;
        }
        if self.urgent.len() < AHEAD && self.ipam.undecided() {
            return Some(Tick::ZERO);
        }
        let pools = self.pool_turns.values().filter(|t| t.dirty && !t.in_flight).map(|t| t.not_before);
        let timed = [self.look_at, self.acceptors.deadline(), self.strangers.deadline(), self.departed.deadline()]
            .into_iter()
            .flatten();
        pools.chain(timed).chain(self.refused.values().copied()).min()
    }

    /// Pools, and Services with and without addresses, for metrics.
    pub fn counts(&self) -> (Vec<(String, PoolCounts)>, usize, usize) {
        let of = |name: &String| {
            let report = self.ipam.report(name)?;
            let services = report.status.used.values().map(|s| s.split(';').count()).sum::<usize>();
            let counts = PoolCounts {
                addresses: report.status.pool_size,
                in_use: report.status.usage,
                services: i64::try_from(services).unwrap_or(i64::MAX),
            };
            Some((name.clone(), counts))
        };
        let served = || self.world.services().filter_map(|s| self.ipam.service(&s.key)).filter(|s| s.served);
        let has = |s: &&Service| s.condition(keys::ADDRESS_ASSIGNED).is_some_and(|c| c.status == "True");
        let assigned = served().filter(has).count();
        (self.pools.keys().filter_map(of).collect(), assigned, served().count() - assigned)
    }

    /// How many acceptors there are, and the number of their set.
    pub fn acceptors(&self) -> (usize, u64) {
        self.acceptors.counts()
    }

    /// How many events were dropped because too many waited.
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }
}

#[cfg(test)]
mod tests;
