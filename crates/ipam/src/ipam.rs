//! The index: what was read, who holds what, and whose turn it is.

use crate::decision::{Decision, Plan, Verdict, difference};
use crate::free::FreeSet;
use api::service::FamilyPolicy::RequireDualStack;
use api::{InvalidPool, Pool, Service, ServiceKey, keys, selector::Labels};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All pools and Services, and who holds which address.
#[derive(Debug, Default)]
pub struct Ipam {
    pub(crate) pools: BTreeMap<String, Result<PoolState, InvalidPool>>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) services: BTreeMap<ServiceKey, Entry>,
    /// Who holds an address, in the order in which they came. Over all pools: no address is given twice, even where
    /// pools overlap because the webhook was down.
    pub(crate) holders: BTreeMap<IpAddr, Vec<ServiceKey>>,
    pub(crate) reserved: BTreeMap<IpAddr, String>,
    /// What new pools' `status.used` says, with the place in its list; for the next plan only.
    pub(crate) recorded: BTreeMap<ServiceKey, Vec<(usize, IpAddr)>>,
    /// Services that lack something.
    waiting: BTreeSet<ServiceKey>,
    dirty: BTreeSet<ServiceKey>,
    dirty_pools: BTreeSet<String>,
    /// Something became free, or a pool or a namespace changed: who waits may be served now (D7).
    retry: bool,
    /// Something was taken: some of those who wait now wait for another reason.
    taken: bool,
}

/// A valid pool.
#[derive(Debug)]
pub(crate) struct PoolState {
    pub(crate) pool: Pool,
    pub(crate) free: FreeSet,
}

/// A Service.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As last read.
    pub(crate) service: Service,
    /// What it should have, at most one address of a family.
    pub(crate) target: Vec<IpAddr>,
    /// What nobody else may be given: its target, and what of ours its status still shows.
    pub(crate) held: Vec<IpAddr>,
    /// The pool that the first address of its target was given from.
    pub(crate) pool: Option<String>,
    /// What it does not get back although its status may still show it, and why.
    pub(crate) lost: Vec<(IpAddr, String)>,
    /// With whom it can share has changed since it was last decided about: a clash is its own doing.
    pub(crate) edited: bool,
    /// It clashes with another Service at its address since OpenELB's days, at the user's word, and keeps it.
    pub(crate) tolerated: bool,
}

impl Entry {
    fn new(service: Service) -> Entry {
        Entry { service, target: vec![], held: vec![], pool: None, lost: vec![], edited: false, tolerated: false }
    }
}

impl Ipam {
    /// An empty index.
    pub fn new() -> Ipam {
        Ipam::default()
    }

    /// A pool is new or different. An invalid one gives nothing; what was given from it stays.
    pub fn set_pool(&mut self, name: &str, pool: Result<Pool, InvalidPool>) {
        let pool = pool.map(|mut pool| {
            let recorded = std::mem::take(&mut pool.recorded);
            // Later on `used` only repeats what was written from here.
            if self.pool(name).is_none() {
                for (ip, services) in recorded {
                    for (place, service) in services.into_iter().enumerate() {
                        self.recorded.entry(service).or_default().push((place, ip));
                    }
                }
            }
            pool
        });
        let state = match (pool, self.pools.get(name)) {
            (Ok(new), Some(Ok(old))) if old.pool == new => return,
            (Err(new), Some(Err(old))) if *old == new => return,
            (Err(error), _) => Err(error),
            (Ok(pool), _) => {
                let mut free = FreeSet::new(&pool.allocatable);
                self.held_in(&pool.addresses).for_each(|(ip, _)| free.remove(*ip));
                self.reserved.keys().for_each(|ip| free.remove(*ip));
                Ok(PoolState { pool, free })
            }
        };
        self.pools.insert(name.to_owned(), state);
        self.pools_changed(name);
    }

    /// A pool is gone. What was given from it stays.
    pub fn remove_pool(&mut self, name: &str) {
        if self.pools.remove(name).is_some() {
            self.pools_changed(name);
        }
    }

    fn pools_changed(&mut self, name: &str) {
        self.dirty_pools.insert(name.to_owned());
        self.dirty.extend(self.services.keys().cloned());
    }

    /// A namespace is new or has other labels.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) {
        if self.namespaces.get(name) != Some(&labels) {
            self.namespaces.insert(name.to_owned(), labels);
            self.retry = true;
        }
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A Service is new or different.
    pub fn set_service(&mut self, service: Service) {
        let key = service.key.clone();
        match self.services.get_mut(&key) {
            Some(entry) if entry.service == service => return,
            Some(entry) if entry.service.uid == service.uid => {
                let before = std::mem::replace(&mut entry.service, service);
                let now = &entry.service;
                if (&before.ports, before.local, &before.selector) != (&now.ports, now.local, &now.selector) {
                    // Whoever could not share with it may do so now, and the other way round.
                    entry.edited = true;
                    let held = entry.held.clone();
                    held.iter().for_each(|ip| self.sharers_changed(*ip));
                }
            }
            _ => {
                self.remove_service(&key);
                self.services.insert(key.clone(), Entry::new(service));
            }
        }
        self.dirty.insert(key);
    }

    /// A Service is gone, or none of our business any more. Its addresses are free at once.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        self.dirty.remove(key);
        self.waiting.remove(key);
        if let Some(entry) = self.services.remove(key) {
            entry.held.iter().for_each(|ip| self.free(*ip, key));
        }
    }

    /// Addresses that must not be given out because something else has them (a node, the gateway, a stranger), and what.
    /// Services that have one keep it.
    pub fn set_reserved(&mut self, reserved: BTreeMap<IpAddr, String>) {
        let before = std::mem::replace(&mut self.reserved, reserved);
        let now = &self.reserved;
        let changed = before.iter().filter(|(ip, why)| now.get(ip) != Some(why)).map(|(ip, _)| *ip);
        let changed: BTreeSet<IpAddr> =
            changed.chain(now.iter().filter(|(ip, _)| !before.contains_key(ip)).map(|(ip, _)| *ip)).collect();
        for ip in changed {
            self.address_changed(ip);
            self.sharers_changed(ip);
        }
    }

    /// A Service, as last read.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key).map(|entry| &entry.service)
    }

    /// The write that followed a decision did not happen: decide once more, on the Service as it is now.
    pub fn retry(&mut self, key: &ServiceKey) {
        if self.services.contains_key(key) {
            self.dirty.insert(key.clone());
        }
    }

    /// An address that a Service was given turned out to be somebody else's before it was ever announced: give it
    /// another one. The address should be among the reserved ones by now. `why` goes into the event.
    pub fn replace(&mut self, key: &ServiceKey, ip: IpAddr, why: &str) {
        if let Some(entry) = self.services.get_mut(key) {
            entry.target.retain(|has| *has != ip);
            entry.lost.push((ip, why.to_owned()));
            self.dirty.insert(key.clone());
        }
    }

    /// Forgets what was assumed: what Services' status says is the truth again. For a controller that becomes the
    /// leader, since another one has decided in the meantime.
    pub fn restart(&mut self) {
        self.holders.clear();
        self.waiting.clear();
        for state in self.pools.values_mut().flatten() {
            state.free = FreeSet::new(&state.pool.allocatable);
            self.reserved.keys().for_each(|ip| state.free.remove(*ip));
        }
        self.dirty = self.services.keys().cloned().collect();
        self.dirty_pools = self.pools.keys().cloned().collect();
        for entry in self.services.values_mut() {
            *entry = Entry::new(std::mem::take(&mut entry.service));
        }
    }

    /// Decides for all Services whose situation has changed since the last call. To be called first when everything
    /// that there is was read, and no write of a former process can land any more: the leader's lease sees to that.
    ///
    /// Among those that wait, who asks for a certain address goes first, since nothing else helps it; then who waits
    /// longest by its condition's transition time, so that a restart changes no order; then by namespace and name.
    pub fn plan(&mut self) -> Plan {
        let mut verdicts: BTreeMap<ServiceKey, Option<Verdict>> = BTreeMap::new();
        loop {
            let mut turn = std::mem::take(&mut self.dirty);
            self.claim(&turn);
            if std::mem::take(&mut self.retry) {
                turn.extend(self.waiting.iter().cloned());
            }
            if std::mem::take(&mut self.taken) {
                let several_reasons = |key: &&ServiceKey| {
                    let service = self.service(key);
                    service.is_some_and(|s| !s.wanted_addresses.is_empty() || s.family_policy == RequireDualStack)
                };
                turn.extend(self.waiting.iter().filter(several_reasons).cloned());
            }
            if turn.is_empty() {
                break;
            }
            for key in self.in_order(turn) {
                let verdict = self.decide(&key);
                verdicts.insert(key, verdict);
            }
        }
        self.recorded.clear();
        let decisions = verdicts.into_iter().filter_map(|(key, verdict)| self.decision(&key, verdict));
        Plan { services: decisions.collect(), pools: std::mem::take(&mut self.dirty_pools).into_iter().collect() }
    }

    fn decision(&self, key: &ServiceKey, verdict: Option<Verdict>) -> Option<Decision> {
        difference(self.services.get(key)?, verdict)
    }

    fn in_order(&self, turn: BTreeSet<ServiceKey>) -> Vec<ServiceKey> {
        let mut ranked: Vec<_> = turn
            .iter()
            .filter_map(|key| {
                let Entry { service, edited, .. } = self.services.get(key)?;
                let waits = service.condition(keys::ADDRESS_ASSIGNED).filter(|c| c.status == "False");
                // RFC 3339 in UTC sorts as text; without a time it has just begun.
                let since = waits.map_or("~", |c| c.last_transition_time.as_str());
                Some((!edited, service.wanted_addresses.is_empty(), since, key))
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., key)| key.clone()).collect()
    }

    /// `None` when it is not served.
    fn decide(&mut self, key: &ServiceKey) -> Option<Verdict> {
        let entry = self.services.get(key)?;
        if !entry.service.served {
            self.waiting.remove(key);
            return None;
        }
        let choice = self.choose(entry);
        if choice.waits {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
        for ip in &choice.target {
            self.hold(*ip, key);
        }
        let entry = self.services.get_mut(key)?;
        entry.lost.retain(|(ip, _)| !choice.target.contains(ip));
        entry.lost.extend(choice.lost);
        entry.target = choice.target;
        entry.pool = choice.pool;
        entry.tolerated &= choice.clashes;
        entry.edited = false;
        self.let_go(key);
        Some(choice.verdict)
    }

    /// Frees what a Service neither should have nor shows in its status. A write of it that is on its way fails: it
    /// rests on a version of the Service that is gone.
    pub(crate) fn let_go(&mut self, key: &ServiceKey) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let stays = |ip: &IpAddr| entry.target.contains(ip) || entry.service.ingress.contains(ip);
        if entry.held.iter().all(stays) {
            return;
        }
        let (kept, gone): (Vec<IpAddr>, Vec<IpAddr>) = entry.held.iter().partition(|ip| stays(ip));
        entry.held = kept;
        gone.into_iter().for_each(|ip| self.free(ip, key));
    }

    pub(crate) fn hold(&mut self, ip: IpAddr, key: &ServiceKey) {
        let Some(entry) = self.services.get_mut(key).filter(|e| !e.held.contains(&ip)) else { return };
        entry.held.push(ip);
        self.holders.entry(ip).or_default().push(key.clone());
        self.taken = true;
        self.address_changed(ip);
    }

    fn free(&mut self, ip: IpAddr, key: &ServiceKey) {
        if let Some(holders) = self.holders.get_mut(&ip) {
            holders.retain(|holder| holder != key);
            if holders.is_empty() {
                self.holders.remove(&ip);
            }
        }
        self.address_changed(ip);
        self.sharers_changed(ip);
    }

    fn sharers_changed(&mut self, ip: IpAddr) {
        self.dirty.extend(self.holders.get(&ip).into_iter().flatten().cloned());
        self.retry = true;
    }

    fn address_changed(&mut self, ip: IpAddr) {
        let taken = self.holders.contains_key(&ip) || self.reserved.contains_key(&ip);
        for (name, state) in &mut self.pools {
            let Ok(state) = state else { continue };
            if !state.pool.addresses.contains(ip) {
                continue;
            }
            if taken {
                state.free.remove(ip);
            } else if state.pool.allocatable.contains(ip) {
                state.free.insert(ip);
            }
            if !self.dirty_pools.contains(name) {
                self.dirty_pools.insert(name.clone());
            }
        }
    }

    /// A valid pool.
    pub(crate) fn pool(&self, name: &str) -> Option<&PoolState> {
        self.pools.get(name)?.as_ref().ok()
    }

    /// The valid pools, by name: OpenELB's list order.
    pub(crate) fn valid_pools(&self) -> impl Iterator<Item = &PoolState> {
        self.pools.values().flatten()
    }
}
