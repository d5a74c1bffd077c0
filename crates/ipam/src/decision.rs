//! What was decided, as the difference to each Service as it was read.

use crate::table::Entry;
use api::{Condition, Service, ServiceKey, keys};
use std::net::IpAddr;

/// What [`crate::Ipam::plan`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What is to be written, by namespace and name; nothing for Services that are as they should be.
    pub services: Vec<Decision>,
    /// The pools whose status may differ from what it was: see [`crate::Ipam::report`].
    pub pools: Vec<String>,
}

/// Where a Service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has what it asked for.
    Assigned,
    /// It does not have what it asked for. It keeps what it had.
    Waiting,
    /// It is not served any more; what it had is taken off it.
    Released,
}

/// What is to be written to one Service, in one request that must fail when the Service has changed since.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Which Service.
    pub service: ServiceKey,
    /// Its UID, as read.
    pub uid: String,
    /// The version that the decision rests on.
    pub resource_version: String,
    /// Where it stands.
    pub outcome: Outcome,
    /// The addresses that it has, in the order of its families.
    pub addresses: Vec<IpAddr>,
    /// The pool of the first of them.
    pub pool: Option<String>,
    /// The whole of `status.loadBalancer.ingress`; `None` leaves it alone.
    pub ingress: Option<Vec<IpAddr>>,
    /// The pool label: `Some(None)` removes it; `None` leaves it alone.
    pub pool_label: Option<Option<String>>,
    /// The condition [`keys::ADDRESS_ASSIGNED`] to set, without times; `None` leaves it alone.
    pub condition: Option<Condition>,
    /// Types of our conditions to remove.
    pub remove_conditions: Vec<String>,
    /// Remove OpenELB's finalizer.
    pub remove_finalizer: bool,
    /// To be told to the user when the write has landed.
    pub events: Vec<Event>,
}

/// An event about a Service, from the component `OpenELBController` (compat §2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Something went wrong.
    pub warning: bool,
    /// As OpenELB had it.
    pub reason: &'static str,
    /// In plain words.
    pub message: String,
}

/// What the condition of a served Service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) assigned: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The reason of the event when it is not assigned.
    pub(crate) event: &'static str,
}

/// Whether the Service says that what it has came from us.
pub(crate) fn marked_as_ours(service: &Service) -> bool {
    service.pool_label.is_some() || service.condition(keys::ADDRESS_ASSIGNED).is_some_and(|c| c.status == "True")
}

/// The difference between a Service as read and as it should be; `None` when there is none. Without a verdict it is not
/// served.
pub(crate) fn difference(entry: &Entry, verdict: Option<Verdict>) -> Option<Decision> {
    let service = &entry.service;
    let (target, found) = (&entry.target, &service.ingress);
    let loses = |ip: &&IpAddr| entry.held.contains(ip) && !target.contains(ip);
    let same = target.len() == found.len() && target.iter().all(|ip| found.contains(ip));
    let ingress = if !target.is_empty() && !same {
        Some(target.clone())
    } else if target.is_empty() && found.iter().any(|ip| loses(&ip)) {
        // What others wrote there stays.
        Some(found.iter().filter(|ip| !loses(ip)).copied().collect())
    } else {
        None
    };
    let pool = entry.pool.clone().filter(|_| !target.is_empty());
    let pool_label = (pool != service.pool_label).then(|| pool.clone());

    let mut events = Vec::with_capacity(1);
    let mut tell = |warning, reason, message| events.push(Event { warning, reason, message });
    for ip in found.iter().filter(loses) {
        let why = entry.lost.iter().find(|(lost, _)| lost == ip).map(|(_, why)| format!(": {why}")).unwrap_or_default();
        tell(!why.is_empty(), "ReleaseIP", format!("success to release ip: {ip}{why}"));
    }
    for ip in target.iter().filter(|ip| !found.contains(ip)) {
        tell(false, "AssignIP", format!("success to assign ip: {ip}"));
    }

    let before = service.condition(keys::ADDRESS_ASSIGNED);
    let outcome = match &verdict {
        None => Outcome::Released,
        Some(verdict) if verdict.assigned => Outcome::Assigned,
        Some(_) => Outcome::Waiting,
    };
    let ours = [keys::ADDRESS_ASSIGNED, keys::ANNOUNCED].into_iter();
    let ours = ours.filter(|type_| verdict.is_none() && service.condition(type_).is_some());
    let remove_conditions: Vec<String> = ours.map(str::to_owned).collect();
    let condition = verdict.and_then(|v| {
        let condition = Condition::new(keys::ADDRESS_ASSIGNED, v.assigned, v.reason, v.message);
        if before.is_some_and(|b| b.says_the_same(&condition)) {
            return None;
        }
        if !v.assigned {
            let lead = if v.event == "ConstructRequest" { "failed to construct allocate request: " } else { "" };
            tell(true, v.event, format!("{lead}{}", condition.message));
        }
        Some(condition)
    });

    let remove_finalizer = service.legacy_finalizer;
    let nothing = ingress.is_none()
        && pool_label.is_none()
        && condition.is_none()
        && remove_conditions.is_empty()
        && !remove_finalizer;
    (!nothing).then(|| Decision {
        service: service.key.clone(),
        uid: service.uid.clone(),
        resource_version: service.resource_version.clone(),
        outcome,
        addresses: target.clone(),
        pool,
        ingress,
        pool_label,
        condition,
        remove_conditions,
        remove_finalizer,
        events,
    })
}
