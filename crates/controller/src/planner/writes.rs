//! Which write is next, and what comes of it.

use super::{EVENTS, Job, LOW, Memberlist, PAUSE, POOL, Planner, PoolTurn, REFUSED, ServiceTicket, Ticket};
use crate::pools::{self, READY};
use crate::virtual_routers::Wanted;
use api::{Condition, EipStatus, Protocol, ServiceKey, keys};
use engine::Tick;
use ipam::Decision;
use source::{ObjectRef, ServicePatch, Write, WriteError};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tracing::{debug, info, warn};

impl Planner {
    /// The next write, if it is the turn of one.
    pub fn next(&mut self, now: Tick) -> Option<(Ticket, Write)> {
        if !self.synced || self.paused.is_some_and(|until| now < until) {
            return None;
        }
        self.paused = None;
        self.retry_refused(now);
        if self.memberlist == Memberlist::Missing && !self.refused.contains_key(&Job::Memberlist) {
            match random_key() {
                Some(key) => {
                    self.memberlist = Memberlist::InFlight;
                    return Some((Ticket::Memberlist, Write::Memberlist { key }));
                }
                None => drop(self.refused.insert(Job::Memberlist, now + REFUSED)),
            }
        }
        if !self.refused.contains_key(&Job::Ownership)
            && let Some(step) = self.acceptors.step(now)
        {
            let members: Vec<&String> = step.write.members.iter().collect();
            info!(epoch = step.write.epoch, ?members, why = step.why, "telling the speakers");
            let (read, write) = (step.read.map(Box::new), Box::new(step.write));
            return Some((Ticket::Ownership, Write::Ownership { read, write }));
        }
        while let Some(key) = self.urgent.pop() {
            if let Some(found) = self.service_write(key) {
                return Some(found);
            }
        }
        if let Some(of) = self.legacy.pop_first() {
            return Some((Ticket::Finalizer(of.clone()), Write::Finalizer { of }));
        }
        if let Some(found) = self.pool_write(now) {
            return Some(found);
        }
        if let Some(write) = self.departed.step(now) {
            info!(?write, "said for a node that cannot");
            return Some((Ticket::Departed, write));
        }
        // The rest leaves room: an address that is decided on meanwhile does not wait for it.
        if self.low_in_flight >= LOW {
            return None;
        }
        while let Some(key) = self.later.pop() {
            if let Some(found) = self.service_write(key) {
                self.low_in_flight += usize::from(found.0.is_low());
                return Some(found);
            }
        }
        let event = self.events.pop_front()?;
        self.low_in_flight += 1;
        Some((Ticket::Event(Box::new(event.clone())), event))
    }

    fn retry_refused(&mut self, now: Tick) {
        let due: Vec<Job> = self.refused.iter().filter(|(_, at)| **at <= now).map(|(job, _)| job.clone()).collect();
        for job in due {
            self.refused.remove(&job);
            match job {
                Job::Service(key) => self.urgent.push(key),
                Job::Pool(name) => self.pool_changed(&name),
                Job::Finalizer(of) => drop(self.legacy.insert(of)),
                Job::Memberlist | Job::Ownership => {}
            }
        }
    }

    fn service_write(&mut self, key: ServiceKey) -> Option<(Ticket, Write)> {
        if self.in_flight.contains(&key) {
            return None;
        }
        let service = self.ipam.service(&key)?;
        if self.spent.get(&key) == Some(&service.resource_version) {
            return None;
        }
        let decision = self.decisions.remove(&key).filter(|d| d.resource_version == service.resource_version);
        let announced = self.announced.remove(&key);
        let mut patch = ServicePatch::of(service);
        if let Some(d) = &decision {
            patch.ingress.clone_from(&d.ingress);
            patch.pool_label.clone_from(&d.pool_label);
            patch.remove_finalizer = d.remove_finalizer;
            if let Some(condition) = &d.condition {
                patch.set_condition(service, condition.clone());
            }
            patch.remove_conditions.clone_from(&d.remove_conditions);
        }
        // Without an address nothing is announced; the same write says both.
        let loses_all = decision.as_ref().is_some_and(|d| d.addresses.is_empty());
        match &announced {
            Some(Some(condition)) if !loses_all => patch.set_condition(service, condition.clone()),
            _ if service.condition(keys::ANNOUNCED).is_some() && (loses_all || announced == Some(None)) => {
                patch.remove_conditions.retain(|c| c != keys::ANNOUNCED);
                patch.remove_conditions.push(keys::ANNOUNCED.to_owned());
            }
            _ => {}
        }
        let untouched = ServicePatch::of(service);
        if patch == untouched {
            return None;
        }
        let given = patch.ingress.iter().flatten().filter(|ip| !service.ingress.contains(ip)).copied();
        self.strangers.given(given);
        let (version, uid) = (service.resource_version.clone(), service.uid.clone());
        self.in_flight.insert(key.clone());
        self.spent.insert(key.clone(), version.clone());
        let ticket = ServiceTicket { version, uid, decision, announced };
        Some((Ticket::Service(key, Box::new(ticket)), Write::Service(patch)))
    }

    fn pool_write(&mut self, now: Tick) -> Option<(Ticket, Write)> {
        loop {
            let due = |turn: &PoolTurn| turn.dirty && !turn.in_flight && turn.not_before <= now;
            let (name, turn) = self.pool_turns.iter_mut().find(|(_, turn)| due(turn))?;
            turn.dirty = false;
            let name = name.clone();
            if self.refused.contains_key(&Job::Pool(name.clone())) {
                continue;
            }
            let mut report = self.ipam.report(&name);
            let without_id = report.as_mut().map(|r| self.number_routers(&name, &mut r.status)).unwrap_or_default();
            let Some(status) = pools::status(&name, &self.pools, report, &self.reports, &without_id) else { continue };
            let Some(known) = self.pools.get(&name) else { continue };
            let before = known.eip.status.clone().unwrap_or_default();
            if same_status(&status, &before) {
                continue;
            }
            self.tell_of_pool(&name, &status.conditions, &before.conditions);
            let pause = POOL + Duration::from_millis(u64::try_from(status.used.len()).unwrap_or(0));
            if let Some(turn) = self.pool_turns.get_mut(&name) {
                turn.in_flight = true;
                turn.not_before = now + pause;
            }
            return Some((Ticket::Pool(name.clone()), Write::PoolStatus { name, status: Box::new(status) }));
        }
    }

    /// Gives the addresses of a pool for vip their ids; gives those for which there is none.
    fn number_routers(&mut self, name: &str, status: &mut EipStatus) -> Vec<IpAddr> {
        let pool = self.pools.get(name).and_then(|known| known.pool.as_ref().ok());
        let Some(pool) = pool.filter(|pool| pool.protocol == Protocol::Vip) else {
            self.virtual_routers.remove(name);
            return Vec::new();
        };
        let used: BTreeSet<IpAddr> = status.used.keys().filter_map(|a| a.parse().ok()).collect();
        let local = self.world.services().filter(|s| s.served && s.local).flat_map(|s| s.ingress.iter().copied());
        let alone = local.filter(|ip| used.contains(ip)).collect();
        let wanted = Wanted { pool: name, ids: pool.vrrp.ids.clone(), used, alone };
        let (routers, without_id) = self.virtual_routers.assign(&wanted);
        status.virtual_routers = routers;
        without_id
    }

    /// An event when a pool becomes unusable (compat §2.6).
    fn tell_of_pool(&mut self, name: &str, now: &[Condition], before: &[Condition]) {
        let of = |list: &[Condition]| list.iter().find(|c| c.type_ == READY).cloned();
        let Some(ready) = of(now).filter(|c| c.status == "False") else { return };
        if of(before).is_some_and(|b| b.says_the_same(&ready)) {
            return;
        }
        let uid = self.pools.get(name).and_then(|k| k.eip.metadata.uid.clone()).unwrap_or_default();
        self.tell(Write::Event {
            about: ObjectRef::Pool(name.to_owned()),
            uid,
            component: "EIPController",
            warning: true,
            reason: "add/update eip",
            message: ready.message,
        });
    }

    fn tell(&mut self, event: Write) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.dropped_events += 1;
        }
    }

    fn tell_of_service(&mut self, key: &ServiceKey, uid: &str, warning: bool, reason: &'static str, message: String) {
        let (about, uid) = (ObjectRef::Service(key.clone()), uid.to_owned());
        self.tell(Write::Event { about, uid, component: "OpenELBController", warning, reason, message });
    }

    /// What came of a write.
    pub fn done(&mut self, now: Tick, ticket: Ticket, result: Result<Option<String>, WriteError>) {
        self.low_in_flight = self.low_in_flight.saturating_sub(usize::from(ticket.is_low()));
        match &result {
            Err(WriteError::Unavailable(why)) => self.pause(now, why),
            _ => self.failures = 0,
        }
        match ticket {
            Ticket::Service(key, ticket) => self.service_done(now, key, *ticket, result),
            Ticket::Pool(name) => self.pool_done(now, name, result),
            Ticket::Finalizer(of) => self.finalizer_done(now, of, result),
            Ticket::Departed => {
                if let Err(WriteError::Refused(why)) = &result {
                    warn!(
                        "what a node that is not there left could not be corrected: {why}; check the RBAC of deploy/openelb.yaml"
                    );
                }
                self.departed.done(now, &result);
            }
            Ticket::Memberlist => match result {
                Ok(_) | Err(WriteError::Conflict | WriteError::Gone) => {
                    info!("made the Secret memberlist with a random key");
                    self.memberlist = Memberlist::There;
                }
                Err(WriteError::Unavailable(_)) => self.memberlist = Memberlist::Missing,
                Err(WriteError::Refused(why)) => {
                    warn!("the Secret memberlist, which authenticates speakers, could not be made: {why}");
                    self.memberlist = Memberlist::Missing;
                    self.refused.insert(Job::Memberlist, now + REFUSED);
                }
            },
            Ticket::Ownership => {
                self.acceptors.done(result.is_ok());
                if let Err(WriteError::Refused(why)) = result {
                    warn!(
                        "the ConfigMap oxelb-ownership, which names the acceptors, could not be written: {why}; check the RBAC of deploy/openelb.yaml"
                    );
                    self.refused.insert(Job::Ownership, now + REFUSED);
                }
            }
            Ticket::Event(event) => match result {
                Err(WriteError::Unavailable(_)) if self.events.len() < EVENTS => self.events.push_front(*event),
                Err(WriteError::Unavailable(_)) => self.dropped_events += 1,
                Err(WriteError::Refused(why)) => debug!("an event was refused: {why}"),
                _ => {}
            },
        }
    }

    fn pause(&mut self, now: Tick, why: &str) {
        // One line, however many writes were on their way.
        if self.failures == 0 {
            warn!("{why}; writes pause and go on by themselves");
        }
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE.0.saturating_mul(1 << self.failures.min(10).saturating_sub(1)).min(PAUSE.1);
        let until = now + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.paused = Some(self.paused.map_or(until, |at| at.max(until)));
    }

    fn service_done(
        &mut self,
        now: Tick,
        key: ServiceKey,
        ticket: ServiceTicket,
        result: Result<Option<String>, WriteError>,
    ) {
        self.in_flight.remove(&key);
        let decision = ticket.decision;
        match result {
            Ok(_) => {
                for event in decision.map(|d| landed(&key, d)).unwrap_or_default() {
                    self.tell_of_service(&key, &ticket.uid, event.warning, event.reason, event.message);
                }
            }
            // A newer version is on its way or here, and is decided on.
            Err(WriteError::Conflict | WriteError::Gone) => debug!(service = %key, "changed meanwhile"),
            Err(WriteError::Unavailable(_)) => self.write_again(&key, &ticket.version, decision, ticket.announced),
            Err(WriteError::Refused(why)) => {
                warn!(service = %key, "the Service could not be written: {why}");
                self.write_again(&key, &ticket.version, decision, None);
                self.refused.insert(Job::Service(key.clone()), now + REFUSED);
                self.tell_of_service(&key, &ticket.uid, true, "UpdateServiceStatus", why);
                return;
            }
        }
        // What was decided while the write was on its way.
        if self.decisions.contains_key(&key) {
            self.urgent.push(key);
        } else if self.announced.contains_key(&key) {
            self.later.push(key);
        }
    }

    /// The same once more, unless the Service has changed since.
    fn write_again(
        &mut self,
        key: &ServiceKey,
        version: &str,
        decision: Option<Decision>,
        announced: Option<Option<Condition>>,
    ) {
        if self.ipam.service(key).is_none_or(|s| s.resource_version != version) {
            return;
        }
        self.spent.remove(key);
        if let Some(decision) = decision {
            self.decisions.entry(key.clone()).or_insert(decision);
        }
        if let Some(announced) = announced {
            self.announced.entry(key.clone()).or_insert(announced);
        }
    }

    fn pool_done(&mut self, now: Tick, name: String, result: Result<Option<String>, WriteError>) {
        let Some(turn) = self.pool_turns.get_mut(&name) else { return };
        turn.in_flight = false;
        match result {
            Ok(_) | Err(WriteError::Gone) => {}
            Err(WriteError::Conflict | WriteError::Unavailable(_)) => turn.dirty = true,
            Err(WriteError::Refused(why)) => {
                warn!(pool = name, "the status could not be written: {why}");
                self.refused.insert(Job::Pool(name), now + REFUSED);
            }
        }
    }

    fn finalizer_done(&mut self, now: Tick, of: ObjectRef, result: Result<Option<String>, WriteError>) {
        match result {
            Ok(_) | Err(WriteError::Gone) => {}
            Err(WriteError::Conflict | WriteError::Unavailable(_)) => drop(self.legacy.insert(of)),
            Err(WriteError::Refused(why)) => {
                warn!(?of, "OpenELB's finalizer could not be removed: {why}");
                self.refused.insert(Job::Finalizer(of), now + REFUSED);
            }
        }
    }
}

/// The log's line about a decision that was written, and what the user is told.
fn landed(key: &ServiceKey, decision: Decision) -> Vec<ipam::Event> {
    let (pool, addresses) = (decision.pool.as_deref().unwrap_or_default(), &decision.addresses);
    let why = decision.condition.as_ref().map(|c| c.message.as_str()).unwrap_or_default();
    info!(service = %key, ?addresses, pool, outcome = ?decision.outcome, "{why}");
    decision.events
}

/// Whether both say the same, whenever they were written.
fn same_status(a: &EipStatus, b: &EipStatus) -> bool {
    let timeless = |status: &EipStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|c| c.last_transition_time.clear());
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    timeless(a) == timeless(b)
}

/// 32 characters, 192 random bits: as long as OpenELB's speakers take it, and text, since it also goes into a variable
/// of their environment.
fn random_key() -> Option<Vec<u8>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 32];
    // It fails only where the system has no random numbers at all; then no key is better than a bad one.
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok()?;
    Some(bytes.iter().map(|b| LETTERS[usize::from(b & 63)]).collect())
}
