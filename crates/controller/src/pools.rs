//! The conditions of a pool: the webhook's checks repeated, because a webhook can be away (D22), and what nodes say.

use crate::announced::Reports;
use api::{Condition, Eip, EipStatus, InvalidPool, Pool};
use ipam::PoolReport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Condition on an Eip: it can be used as it is written.
pub const READY: &str = "Ready";
/// Condition on an Eip: no node has anything to say against it.
pub const HEALTHY: &str = "Healthy";

/// Messages name that many things and count the rest.
const NAMED: usize = 3;

/// A pool as written, and as understood.
#[derive(Debug, Clone)]
pub struct Known {
    /// As written.
    pub eip: Box<Eip>,
    /// As understood, without what its status records.
    pub pool: Result<Pool, InvalidPool>,
}

impl Known {
    /// Reads an Eip.
    pub fn new(eip: Box<Eip>) -> Known {
        let pool =
            Pool::try_from(&*eip).map(|pool| Pool { recorded: BTreeMap::new(), routers: BTreeMap::new(), ..pool });
        Known { eip, pool }
    }
}

/// The status that a pool should have. Conditions of others stay. For some addresses there may be no id of VRRP.
pub fn status(
    name: &str,
    pools: &BTreeMap<String, Known>,
    report: Option<PoolReport>,
    reports: &Reports,
    without_id: &[IpAddr],
) -> Option<EipStatus> {
    let before = pools.get(name)?.eip.status.clone().unwrap_or_default();
    let healthy = healthy(name, report.as_ref(), reports, without_id);
    // An invalid pool keeps the numbers of its last valid version.
    let mut status = report.map_or_else(|| EipStatus { conditions: vec![], ..before.clone() }, |r| r.status);
    let ours = [ready(name, pools)?, healthy];
    let of = |type_: &str| before.conditions.iter().find(|c| c.type_ == type_);
    let generation = pools.get(name)?.eip.metadata.generation;
    status.conditions = before.conditions.iter().filter(|c| c.type_ != READY && c.type_ != HEALTHY).cloned().collect();
    status.conditions.extend(ours.into_iter().map(|c| {
        let before = of(&c.type_);
        Condition { observed_generation: generation, ..c }.stamped(before, "")
    }));
    Some(status)
}

fn ready(name: &str, pools: &BTreeMap<String, Known>) -> Option<Condition> {
    let known = pools.get(name)?;
    let no = |reason: &str, message: String| Some(Condition::new(READY, false, reason, message));
    let pool = match &known.pool {
        Ok(pool) => pool,
        Err(e) => return no(reason(e), e.to_string()),
    };
    // Of two that clash the one that was there first is undisturbed.
    let age = |k: &Known, name: &str| (k.eip.metadata.creation_timestamp.clone().map(|t| t.0), name.to_owned());
    let older = pools.iter().filter(|(other, k)| *other != name && age(k, other) < age(known, name));
    let overlap =
        older.filter_map(|(other, k)| Some((other, k.pool.as_ref().ok()?.addresses.overlap(&pool.addresses)?)));
    if let Some((other, range)) = overlap.into_iter().next() {
        return no(
            "OverlapsWith",
            format!(
                "eip address overlap with {other}: both have {range}; no address is given twice, but which of the two gives it is left to chance: take {range} out of one of them"
            ),
        );
    }
    // The first by name is the one that counts, as in OpenELB.
    let first = pools.iter().find(|(_, k)| k.pool.as_ref().is_ok_and(|p| p.default && !p.deleting));
    if let Some((first, _)) = first.filter(|(first, _)| pool.default && !pool.deleting && *first != name) {
        return no(
            "SecondDefault",
            format!(
                "already exists a default EIP: {first} is used; remove the annotation {} from one of them",
                api::keys::DEFAULT_POOL
            ),
        );
    }
    if pool.deleting {
        return no("Deleting", "the pool is being deleted; nothing new is given out".to_owned());
    }
    if pool.disabled {
        return Some(Condition::new(
            READY,
            true,
            "Disabled",
            "spec.disable is true: nothing new is given out, what was given stays",
        ));
    }
    Some(Condition::new(READY, true, "Valid", "the pool can be used"))
}

fn reason(error: &InvalidPool) -> &'static str {
    match error {
        InvalidPool::Address(_) => "InvalidAddress",
        InvalidPool::Exclude(_) => "InvalidExclude",
        InvalidPool::NoInterface => "NoInterface",
        InvalidPool::Interface(_) => "InvalidInterface",
        InvalidPool::NodeSelector(_) => "InvalidNodeSelector",
        InvalidPool::Routes(_) => "InvalidBgp",
        InvalidPool::Vrrp(_) => "InvalidVrrp",
        InvalidPool::Name(_) => "NameTooLong",
        InvalidPool::NothingLeft(_) => "NothingLeft",
    }
}

fn healthy(name: &str, report: Option<&PoolReport>, reports: &Reports, without_id: &[IpAddr]) -> Condition {
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for (ip, what) in report.iter().flat_map(|r| &r.reserved) {
        let reason = match what {
            _ if what.starts_with("a gateway") => "HasGateway",
            _ if what.starts_with("another host") => "HasStranger",
            _ => "HasNodeAddress",
        };
        let keeps = report.and_then(|r| r.kept.get(ip)).into_iter().flatten().next();
        let fate = keeps.map_or_else(
            || "is not given out".to_owned(),
            |s| format!("is kept by the Service {s} until it lets it go"),
        );
        found.insert((reason.to_owned(), format!("{ip} is {what} and {fate}; add {ip} to spec.exclude")));
    }
    if let Some(first) = without_id.first() {
        let message = format!(
            "no id of VRRP is left for {first} ({} addresses in all), which is not announced; let spec.vrrp.routerId of the pool be a wider range",
            without_id.len()
        );
        found.insert(("NoRouterId".to_owned(), message));
    }
    for (node, w) in reports.warnings().filter(|(_, w)| w.pool.as_deref() == Some(name)) {
        // Named above already, for all nodes that see them.
        if !matches!(w.reason.as_str(), "AddressOnNode" | "GatewayInPool") {
            found.insert((w.reason.clone(), format!("node {node}: {}", w.message)));
        }
    }
    let Some((reason, _)) = found.first() else {
        return Condition::new(HEALTHY, true, "NoWarnings", "no node has anything against the pool");
    };
    let mut message: Vec<&str> = found.iter().take(NAMED).map(|(_, m)| m.as_str()).collect();
    let rest = format!("and {} more; see kubectl get speakers -o yaml", found.len().saturating_sub(NAMED));
    if found.len() > NAMED {
        message.push(&rest);
    }
    Condition::new(HEALTHY, false, reason, message.join(". "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announced::Report;
    use api::speaker::Warning;
    use serde_json::{Value, json};

    fn pools(eips: &[(&str, Value, Value)]) -> BTreeMap<String, Known> {
        let known = |(n, (name, annotations, spec)): (usize, &(&str, Value, Value))| {
            let eip = json!({
                "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "spec": spec,
                "metadata": {"name": name, "annotations": annotations, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", n + 1)}
            });
            ((*name).to_owned(), Known::new(Box::new(serde_json::from_value(eip).unwrap())))
        };
        eips.iter().enumerate().map(known).collect()
    }

    fn said(pools: &BTreeMap<String, Known>, name: &str) -> (String, String) {
        let status = status(name, pools, None, &Reports::default(), &[]).unwrap();
        let c = status.conditions.iter().find(|c| c.type_ == READY).unwrap();
        (format!("{} {}", c.status, c.reason), c.message.clone())
    }

    #[test]
    fn each_mistake_in_a_pool_has_its_reason() {
        for (spec, reason) in [
            (json!({"address": "10.0.0.1"}), "True Valid"),
            (json!({"address": "10.0.0.1", "disable": true}), "True Disabled"),
            (json!({"address": "ten"}), "False InvalidAddress"),
            (json!({"address": "10.0.0.9-10.0.0.1"}), "False InvalidAddress"),
            (json!({"address": "10.0.0.1-fd00::1"}), "False InvalidAddress"),
            (json!({"address": ""}), "False InvalidAddress"),
            (json!({"address": "10.0.0.1", "exclude": "x"}), "False InvalidExclude"),
            (json!({"address": "10.0.0.1", "exclude": "10.0.0.1"}), "False NothingLeft"),
            (json!({"address": "10.0.0.1", "protocol": "layer2"}), "False NoInterface"),
            (json!({"address": "10.0.0.1", "protocol": "layer2", "interface": "et h0"}), "False InvalidInterface"),
        ] {
            assert_eq!(said(&pools(&[("p", json!({}), spec.clone())]), "p").0, reason, "{spec}");
        }
    }

    #[test]
    fn of_pools_that_overlap_the_younger_ones_say_so() {
        let three = [
            ("c", json!({}), json!({"address": "10.0.0.0/24"})),
            ("b", json!({}), json!({"address": "10.0.0.8-10.0.1.8"})),
            ("a", json!({}), json!({"address": "10.0.0.9,10.9.0.0/24"})),
        ];
        let pools = pools(&three);
        assert_eq!(said(&pools, "c").0, "True Valid");
        for (name, range) in [("b", "10.0.0.8-10.0.0.255"), ("a", "10.0.0.9")] {
            let (reason, message) = said(&pools, name);
            assert_eq!(reason, "False OverlapsWith");
            assert!(message.contains(range), "{message}");
        }
    }

    #[test]
    fn of_two_default_pools_the_one_that_is_not_used_says_so() {
        let default = json!({api::keys::DEFAULT_POOL: "true"});
        let pools = pools(&[
            ("b", default.clone(), json!({"address": "10.0.0.1"})),
            ("a", default, json!({"address": "10.0.0.2"})),
        ]);
        assert_eq!(said(&pools, "a").0, "True Valid");
        let (reason, message) = said(&pools, "b");
        assert_eq!(reason, "False SecondDefault");
        assert!(message.contains("a is used"), "{message}");
    }

    #[test]
    fn addresses_of_nodes_in_a_pool_and_warnings_of_nodes_are_named() {
        let pools = pools(&[("p", json!({}), json!({"address": "10.0.0.0/24"}))]);
        let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
        let report = PoolReport {
            status: EipStatus { usage: 1, ..EipStatus::default() },
            reserved: [
                (ip("10.0.0.1"), "a gateway of node n1".to_owned()),
                (ip("10.0.0.5"), "an address of node n2".to_owned()),
            ]
            .into(),
            kept: [(ip("10.0.0.5"), vec![api::ServiceKey::new("d", "s")])].into(),
        };
        let mut reports = Reports::default();
        let warning = |reason: &str, pool: &str| Warning {
            reason: reason.into(),
            pool: Some(pool.into()),
            subject: None,
            message: "m".into(),
        };
        let warnings =
            vec![warning("OutsideSubnet", "p"), warning("OutsideSubnet", "q"), warning("AddressOnNode", "p")];
        reports.set("n1", Report { warnings, ..Report::default() });
        let status = status("p", &pools, Some(report), &reports, &[]).unwrap();
        assert_eq!(status.usage, 1);
        let c = status.conditions.iter().find(|c| c.type_ == HEALTHY).unwrap();
        assert_eq!((c.status.as_str(), c.reason.as_str()), ("False", "HasGateway"));
        for part in ["10.0.0.1 is a gateway of node n1 and is not given out", "kept by the Service d/s", "node n1: m"] {
            assert!(c.message.contains(part), "{part}: {}", c.message);
        }
        assert_eq!(c.message.matches("node n1: m").count(), 1);
    }

    #[test]
    fn conditions_of_others_and_times_stay() {
        let mut pools = pools(&[("p", json!({}), json!({"address": "10.0.0.1"}))]);
        let others = Condition { last_transition_time: "t0".into(), ..Condition::new("Mine", true, "R", "m") };
        let ready = Condition { last_transition_time: "t1".into(), ..Condition::new(READY, true, "Other", "m") };
        let before = EipStatus { conditions: vec![others.clone(), ready], usage: 7, ..EipStatus::default() };
        pools.get_mut("p").unwrap().eip.status = Some(before);
        let after = status("p", &pools, None, &Reports::default(), &[]).unwrap();
        assert_eq!(after.conditions[0], others);
        assert_eq!(after.conditions[1].last_transition_time, "t1");
        assert_eq!(after.usage, 7);
    }
}
