//! The index: what was read, who holds what, and whose turn it is.

use crate::decision::{Plan, Verdict, difference};
use crate::free::FreeSet;
use crate::table::{Entry, Holders, Id, Table};
use api::service::FamilyPolicy::RequireDualStack;
use api::{InvalidPool, Pool, Service, ServiceKey, keys, selector::Labels};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All pools and Services, and who holds which address.
#[derive(Debug, Default)]
pub struct Ipam {
    pub(crate) pools: BTreeMap<String, Result<PoolState, InvalidPool>>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) services: Table,
    /// Who holds an address, in the order in which they came. Over all pools: no address is given twice, even where
    /// pools overlap because the webhook was down.
    pub(crate) holders: BTreeMap<IpAddr, Holders>,
    pub(crate) reserved: BTreeMap<IpAddr, String>,
    /// What new pools' `status.used` says, with the place in its list; for the next plan only.
    pub(crate) recorded: BTreeMap<ServiceKey, Vec<(usize, IpAddr)>>,
    /// Services that lack something.
    waiting: BTreeSet<Id>,
    dirty: BTreeSet<Id>,
    /// Those that the last plan did not get to.
    rest: BTreeSet<Id>,
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
        self.dirty.extend(self.services.iter().map(|entry| entry.id));
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
        let id = self.services.id(&service.key);
        let id = match id.and_then(|id| self.services.get_mut(id)) {
            Some(entry) if entry.service == service => return,
            Some(entry) if entry.service.uid == service.uid => {
                let before = std::mem::replace(&mut entry.service, service);
                let now = &entry.service;
                if before.resource_version != now.resource_version {
                    entry.offered.clear();
                }
                let id = entry.id;
                if (&before.ports, before.local, &before.selector) != (&now.ports, now.local, &now.selector) {
                    // Whoever could not share with it may do so now, and the other way round.
                    entry.edited = true;
                    let held = entry.held.clone();
                    held.iter().for_each(|ip| self.sharers_changed(*ip));
                }
                id
            }
            _ => {
                self.remove_service(&service.key);
                self.services.insert(service)
            }
        };
        self.dirty.insert(id);
    }

    /// A Service is gone, or none of our business any more. Its addresses are free at once.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        if let Some(entry) = self.services.remove(key) {
            self.dirty.remove(&entry.id);
            self.rest.remove(&entry.id);
            self.waiting.remove(&entry.id);
            entry.held.iter().for_each(|ip| self.free(*ip, entry.id));
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
            let taken = self.reserved.contains_key(&ip) || self.holders.contains_key(&ip);
            self.address_changed(ip, taken);
            self.sharers_changed(ip);
        }
    }

    /// A Service, as last read.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        Some(&self.services.get(self.services.id(key)?)?.service)
    }

    /// The write that followed a decision did not happen: decide once more, on the Service as it is now.
    pub fn retry(&mut self, key: &ServiceKey) {
        self.dirty.extend(self.services.id(key));
    }

    /// An address that a Service was given turned out to be somebody else's before it was ever announced: give it
    /// another one. The address should be among the reserved ones by now. `why` goes into the event.
    pub fn replace(&mut self, key: &ServiceKey, ip: IpAddr, why: &str) {
        let Some(id) = self.services.id(key) else { return };
        if let Some(entry) = self.services.get_mut(id) {
            entry.target.retain(|has| *has != ip);
            entry.lost.push((ip, why.to_owned()));
            self.dirty.insert(id);
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
        self.dirty = self.services.iter().map(|entry| entry.id).collect();
        self.rest.clear();
        self.dirty_pools = self.pools.keys().cloned().collect();
        for entry in self.services.iter_mut() {
            *entry = Entry::new(entry.id, std::mem::take(&mut entry.service));
        }
    }

    /// Decides for all Services whose situation has changed since the last call. To be called first when everything
    /// that there is was read, and no write of a former process can land any more: the leader's lease sees to that.
    ///
    /// Among those that wait, who asks for a certain address goes first, since nothing else helps it; then who waits
    /// longest by its condition's transition time, so that a restart changes no order; then by namespace and name.
    pub fn plan(&mut self) -> Plan {
        self.plan_up_to(usize::MAX)
    }

    /// As [`Ipam::plan`], for at most that many Services; [`Ipam::undecided`] says whether some are left. What all of
    /// them have is taken over first, so that nobody is given what one of the rest has.
    pub fn plan_up_to(&mut self, most: usize) -> Plan {
        let mut verdicts: BTreeMap<Id, Option<Verdict>> = BTreeMap::new();
        loop {
            let mut turn = std::mem::take(&mut self.dirty);
            self.claim(&turn);
            turn.append(&mut self.rest);
            if std::mem::take(&mut self.retry) {
                turn.extend(&self.waiting);
            }
            if std::mem::take(&mut self.taken) {
                let several_reasons = |id: &&Id| {
                    let entry = self.services.get(**id).map(|entry| &entry.service);
                    entry.is_some_and(|s| !s.wanted_addresses.is_empty() || s.family_policy == RequireDualStack)
                };
                turn.extend(self.waiting.iter().filter(several_reasons));
            }
            let left = most.saturating_sub(verdicts.len());
            if turn.is_empty() || left == 0 {
                self.rest = turn;
                break;
            }
            let mut order = self.in_order(&turn);
            self.rest = order.split_off(left.min(order.len())).into_iter().collect();
            for id in order {
                let verdict = self.decide(id);
                verdicts.insert(id, verdict);
            }
        }
        self.recorded.clear();
        let mut services = Vec::with_capacity(verdicts.len());
        let decide = |(id, verdict)| difference(self.services.get(id)?, verdict);
        services.extend(verdicts.into_iter().filter_map(decide));
        services.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        Plan { services, pools: std::mem::take(&mut self.dirty_pools).into_iter().collect() }
    }

    /// Whether there are Services for which [`Ipam::plan_up_to`] has not decided yet.
    pub fn undecided(&self) -> bool {
        !self.rest.is_empty() || !self.dirty.is_empty() || self.retry || self.taken
    }

    fn in_order(&self, turn: &BTreeSet<Id>) -> Vec<Id> {
        let ranked = turn.iter().filter_map(|id| {
            let Entry { service, edited, .. } = self.services.get(*id)?;
            let waits = service.condition(keys::ADDRESS_ASSIGNED).filter(|c| c.status == "False");
            // RFC 3339 in UTC sorts as text; without a time it has just begun.
            let since = waits.map_or("~", |c| c.last_transition_time.as_str());
            Some((!edited, service.wanted_addresses.is_empty(), since, &service.key, *id))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., id)| id).collect()
    }

    /// `None` when it is not served.
    fn decide(&mut self, id: Id) -> Option<Verdict> {
        let entry = self.services.get(id)?;
        if !entry.service.served {
            self.waiting.remove(&id);
            return None;
        }
        let choice = self.choose(entry);
        if choice.waits {
            self.waiting.insert(id);
        } else {
            self.waiting.remove(&id);
        }
        for ip in &choice.target {
            self.hold(*ip, id);
        }
        let entry = self.services.get_mut(id)?;
        entry.lost.retain(|(ip, _)| !choice.target.contains(ip));
        entry.lost.extend(choice.lost);
        for ip in &choice.target {
            if !entry.offered.contains(ip) {
                entry.offered.push(*ip);
            }
        }
        entry.target = choice.target;
        entry.pool = choice.pool;
        entry.tolerated &= choice.clashes;
        entry.edited = false;
        self.let_go(id);
        Some(choice.verdict)
    }

    /// Frees what a Service neither should have nor shows in its status, unless a write of it may still land: one that
    /// rests on the version as read. Writes that rest on older versions fail.
    pub(crate) fn let_go(&mut self, id: Id) {
        let Some(entry) = self.services.get_mut(id) else { return };
        let stays =
            |ip: &IpAddr| entry.target.contains(ip) || entry.service.ingress.contains(ip) || entry.offered.contains(ip);
        if entry.held.iter().all(stays) {
            return;
        }
        let (kept, gone): (Vec<IpAddr>, Vec<IpAddr>) = entry.held.iter().partition(|ip| stays(ip));
        entry.held = kept;
        gone.into_iter().for_each(|ip| self.free(ip, id));
    }

    pub(crate) fn hold(&mut self, ip: IpAddr, id: Id) {
        let Some(entry) = self.services.get_mut(id).filter(|e| !e.held.contains(&ip)) else { return };
        entry.held.push(ip);
        self.holders.entry(ip).and_modify(|holders| holders.push(id)).or_insert_with(|| Holders::new(id));
        self.taken = true;
        self.address_changed(ip, true);
    }

    fn free(&mut self, ip: IpAddr, id: Id) {
        let rest = self.holders.remove(&ip).and_then(|holders| holders.without(id));
        let taken = rest.is_some() || self.reserved.contains_key(&ip);
        self.holders.extend(rest.map(|rest| (ip, rest)));
        self.address_changed(ip, taken);
        self.sharers_changed(ip);
    }

    fn sharers_changed(&mut self, ip: IpAddr) {
        self.dirty.extend(self.holders.get(&ip).into_iter().flat_map(Holders::iter));
        self.retry = true;
    }

    fn address_changed(&mut self, ip: IpAddr, taken: bool) {
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
