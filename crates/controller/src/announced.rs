//! The condition `openelb.io/Announced`: what the speakers say of a Service's addresses, against what is planned.

use api::speaker::Warning;
use api::{Condition, Protocol, Service, Speaker, keys};
use jiff::Timestamp;
use plan::{Announcement, Note, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Warnings of a node with which an address does not work as it should, although its owner announces it.
const HARMFUL: [&str; 2] = ["KernelAnswers", "AddressConflict"];

/// What every node's speaker says.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    by_node: BTreeMap<String, Report>,
}

/// What one node's speaker says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// It runs, as far as it could say.
    pub alive: bool,
    /// The addresses that it owns, and since when, in seconds since 1970.
    pub owns: BTreeMap<IpAddr, i64>,
    /// Some router hears it.
    pub heard: bool,
    /// What is in the way on its node.
    pub warnings: Vec<Warning>,
}

fn seconds(since: &str) -> i64 {
    since.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

impl From<&Speaker> for Report {
    fn from(speaker: &Speaker) -> Report {
        let Some(status) = &speaker.status else { return Report::default() };
        Report {
            alive: status.conditions.iter().any(|c| c.type_ == "Alive" && c.status == "True"),
            owns: status.addresses.iter().filter_map(|a| Some((a.address.parse().ok()?, seconds(&a.since)))).collect(),
            heard: status.bgp.as_ref().is_some_and(|b| b.established > 0),
            warnings: status.warnings.clone(),
        }
    }
}

impl Reports {
    /// What a node's speaker says has changed. True when it says something else than before.
    pub fn set(&mut self, node: &str, report: Report) -> bool {
        self.by_node.insert(node.to_owned(), report.clone()).as_ref() != Some(&report)
    }

    /// A Speaker is gone.
    pub fn remove(&mut self, node: &str) {
        self.by_node.remove(node);
    }

    /// Every warning, with its node.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &Warning)> {
        self.by_node.iter().flat_map(|(node, report)| report.warnings.iter().map(move |w| (node.as_str(), w)))
    }

    /// Addresses inside pools that nodes have themselves or by which they reach the world. They must not be given out.
    pub fn occupied(&self) -> BTreeMap<IpAddr, String> {
        let of = |(node, w): (&str, &Warning)| {
            let what = match w.reason.as_str() {
                "AddressOnNode" => "an address of",
                "GatewayInPool" => "a gateway of",
                _ => return None,
            };
            Some((w.subject.as_ref()?.parse().ok()?, format!("{what} node {node}")))
        };
        self.warnings().filter_map(of).collect()
    }

    /// Addresses that some node is to announce and does not, because somebody else on the segment has them.
    pub fn taken(&self) -> BTreeMap<IpAddr, String> {
        // Where kernels of nodes answer, whatever a node finds may be another node.
        let kernels: BTreeSet<&Option<String>> =
            self.warnings().filter(|(_, w)| w.reason == "KernelAnswers").map(|(_, w)| &w.pool).collect();
        let taken = self.warnings().filter(|(_, w)| w.reason == "AddressTaken" && !kernels.contains(&w.pool));
        let of = |(node, w): (&str, &Warning)| {
            Some((w.subject.as_ref()?.parse().ok()?, format!("another host, which node {node} found")))
        };
        taken.filter_map(of).collect()
    }

    /// Ids of virtual routers with which nodes hear strangers.
    pub fn taken_ids(&self) -> impl Iterator<Item = u8> {
        self.warnings()
            .filter(|(_, w)| w.reason == "RouterIdTaken")
            .filter_map(|(_, w)| w.subject.as_ref()?.parse().ok())
    }

    fn of<'a>(&'a self, nodes: &'a BTreeSet<String>) -> impl Iterator<Item = (&'a str, &'a Report)> {
        nodes.iter().filter_map(|n| Some((n.as_str(), self.by_node.get(n)?)))
    }
}

/// The condition of a Service that has addresses.
pub fn condition(service: &Service, plan: &Plan, reports: &Reports) -> Condition {
    let nobody =
        |ip: &&IpAddr| plan.addresses.get(*ip).is_some_and(|a| elected(a) && owner(**ip, a, reports).is_none());
    if let Some(ip) = service.ingress.iter().find(nobody) {
        let message = format!(
            "VRRP itself elects who has {ip} (spec.vrrp.mode of the pool is interop); no node is master now: another router is, or none"
        );
        return Condition::new(keys::ANNOUNCED, true, "ElectedByVRRP", message);
    }
    let trouble = service.ingress.iter().find_map(|ip| trouble(*ip, service, plan, reports));
    match trouble {
        Some((reason, message)) => Condition::new(keys::ANNOUNCED, false, &reason, message),
        None => {
            let owners = service.ingress.iter().map(|ip| owned(*ip, plan, reports)).collect::<Vec<_>>();
            Condition::new(keys::ANNOUNCED, true, "Announced", owners.join("; "))
        }
    }
}

/// The candidate that owns an address, and since when. Who lost it may say so later than who has it.
fn owner<'a>(ip: IpAddr, announcement: &'a Announcement, reports: &'a Reports) -> Option<(i64, &'a str)> {
    let candidates = reports.of(&announcement.candidates);
    candidates.filter_map(|(node, r)| Some((*r.owns.get(&ip)?, node))).max()
}

/// Who announces an address, and since when, in words. Not under which epoch: that changes for all addresses at once, and
/// each node's Speaker says it.
fn owned(ip: IpAddr, plan: &Plan, reports: &Reports) -> String {
    match plan.addresses.get(&ip).and_then(|announcement| owner(ip, announcement, reports)) {
        Some((since, node)) => match Timestamp::from_second(since) {
            Ok(since) => format!("node {node} owns {ip} since {since}"),
            Err(_) => format!("node {node} owns {ip}"),
        },
        None => format!("the nodes that may announce {ip} tell their routers of it"),
    }
}

/// Not the speakers alone decide who has the address.
fn elected(announcement: &Announcement) -> bool {
    announcement.pool.vrrp.as_ref().is_some_and(|vrrp| vrrp.interop)
}

/// Why an address is not announced, or does not work though it is: a reason, and the same in plain words.
fn trouble(ip: IpAddr, service: &Service, plan: &Plan, reports: &Reports) -> Option<(String, String)> {
    let Some(announcement) = plan.addresses.get(&ip) else {
        let about = |note: &&Note| match note {
            Note::OutsidePools { address, .. } => *address == ip,
            Note::Family { address, service: key } => *address == ip && *key == service.key,
            _ => false,
        };
        let note = plan.notes.iter().find(about);
        let text = |n: &Note| (n.reason().to_owned(), n.to_string());
        return Some(note.map_or_else(|| ("NotPlanned".to_owned(), format!("{ip} is not announced yet")), text));
    };
    if let Some(because) = &announcement.none_because {
        return Some((because.reason().to_owned(), format!("no node announces {ip}: {because}")));
    }
    let candidates: Vec<_> = reports.of(&announcement.candidates).collect();
    let of_pool = |w: &&Warning| w.pool.as_deref() == Some(announcement.pool.name.as_str()) && concerns(w, ip);
    let first = |wanted: &dyn Fn(&Warning) -> bool| {
        let found = |(node, r): &(&str, &Report)| {
            r.warnings.iter().filter(of_pool).find(|w| wanted(w)).map(|w| ((*node).to_owned(), w.clone()))
        };
        candidates.iter().find_map(found)
    };
    if owner(ip, announcement, reports).is_some() {
        let (node, w) = first(&|w| HARMFUL.contains(&w.reason.as_str()))?;
        return Some((w.reason, format!("node {node}: {}", w.message)));
    }
    // Every candidate announces what is for BGP, to all routers that it has a session with.
    if announcement.pool.protocol == Protocol::Bgp && candidates.iter().any(|(_, r)| r.alive && r.heard) {
        return None;
    }
    if !candidates.iter().any(|(_, r)| r.alive) {
        return Some(("NoSpeaker".to_owned(), no_speaker(ip, announcement)));
    }
    if let Some((node, w)) = first(&|w| matches!(w.reason.as_str(), "InterfaceMissing" | "NoSpeaker" | "AddressTaken"))
    {
        return Some((w.reason, format!("no node announces {ip}; node {node}: {}", w.message)));
    }
    if announcement.pool.protocol == Protocol::Bgp {
        let message = format!(
            "no router hears of {ip} yet: none of the nodes that announce it has a BGP session; see kubectl get speakers -o yaml, and kubectl get bgppeers -o yaml"
        );
        return Some(("NoSession".to_owned(), message));
    }
    let message = format!("no speaker announces {ip} yet; see kubectl get speakers, and the log of the speakers");
    Some(("NotYetAnnounced".to_owned(), message))
}

/// Whether a warning about an address's pool is about that address. One about no address or about more than one range is
/// about all of them.
fn concerns(warning: &Warning, ip: IpAddr) -> bool {
    let subject = warning.subject.as_ref().and_then(|s| s.parse::<api::Range>().ok());
    subject.is_none_or(|range| range.first() <= ip && ip <= range.last())
}

fn no_speaker(ip: IpAddr, announcement: &Announcement) -> String {
    let mend = match announcement.pool.protocol {
        Protocol::Layer2 => "kubectl -n openelb-system get pods -l component=speaker -o wide",
        Protocol::Bgp | Protocol::Vip => "kubectl get speakers",
    };
    format!("no speaker runs on the nodes that may announce {ip} ({}); see {mend}", Few(&announcement.candidates))
}

/// The first three of many.
pub struct Few<'a, T>(pub &'a BTreeSet<T>);

impl<T: fmt::Display> fmt::Display for Few<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().take(3).enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Pool, ServiceKey};
    use plan::World;
    use serde_json::json;

    fn world() -> World {
        let mut world = World::default();
        let eip = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "p"},
            "spec": {"address": "10.0.0.0/24", "protocol": "layer2", "interface": "eth0"}
        });
        let eip: api::Eip = serde_json::from_value(eip).unwrap();
        world.set_pool("p", Pool::try_from(&eip));
        for name in ["n1", "n2"] {
            world.set_node(api::Node { name: name.into(), ready: true, ..Default::default() });
        }
        world.set_service(service());
        world
    }

    fn service() -> Service {
        Service {
            key: ServiceKey::new("d", "s"),
            served: true,
            families: vec![api::Family::V4],
            ingress: vec!["10.0.0.7".parse().unwrap()],
            pool_label: Some("p".into()),
            ..Default::default()
        }
    }

    fn report(owns: &[&str], warnings: &[(&str, &str)]) -> Report {
        let warning = |(reason, message): &(&str, &str)| Warning {
            reason: (*reason).into(),
            pool: Some("p".into()),
            subject: message.split_whitespace().next().map(str::to_owned),
            message: (*message).into(),
        };
        Report {
            alive: true,
            heard: false,
            owns: owns.iter().map(|ip| (ip.parse().unwrap(), 1_800_000_000)).collect(),
            warnings: warnings.iter().map(warning).collect(),
        }
    }

    fn said(world: &World, reports: &Reports) -> (String, String) {
        let c = condition(&service(), &plan::plan(world), reports);
        (c.status, c.reason)
    }

    #[test]
    fn announced_is_what_a_candidates_speaker_says_not_what_is_planned() {
        let (world, mut reports) = (world(), Reports::default());
        assert_eq!(said(&world, &reports), ("False".into(), "NoSpeaker".into()));
        reports.set("n1", report(&[], &[]));
        assert_eq!(said(&world, &reports), ("False".into(), "NotYetAnnounced".into()));
        assert!(reports.set("n1", report(&["10.0.0.7"], &[])));
        assert!(!reports.set("n1", report(&["10.0.0.7"], &[])));
        assert_eq!(said(&world, &reports), ("True".into(), "Announced".into()));
        let message = condition(&service(), &plan::plan(&world), &reports).message;
        assert_eq!(message, "node n1 owns 10.0.0.7 since 2027-01-15T08:00:00Z");
        // A node that died says for ever that it owns the address.
        let mut after = world.clone();
        after.set_node(api::Node { name: "n1".into(), ready: false, ..Default::default() });
        reports.set("n2", report(&[], &[]));
        assert_eq!(said(&after, &reports), ("False".into(), "NotYetAnnounced".into()));
    }

    #[test]
    fn what_is_in_the_way_is_named_with_its_node() {
        let (world, mut reports) = (world(), Reports::default());
        reports.set("n1", report(&[], &[("InterfaceMissing", "no interface eth0")]));
        let c = condition(&service(), &plan::plan(&world), &reports);
        assert_eq!(c.reason, "InterfaceMissing");
        assert!(c.message.contains("10.0.0.7") && c.message.contains("node n1"), "{}", c.message);
        reports.set("n2", report(&["10.0.0.7"], &[("OutsideSubnet", "10.0.0.0-10.0.0.255 of the pool is not")]));
        assert_eq!(said(&world, &reports).0, "True"); // D13: a warning, and it works
        reports.set("n2", report(&["10.0.0.7"], &[("KernelAnswers", "10.0.0.7 of the pool")]));
        assert_eq!(said(&world, &reports), ("False".into(), "KernelAnswers".into()));
    }

    #[test]
    fn what_is_wrong_with_one_address_is_not_said_of_its_neighbours() {
        let (world, mut reports) = (world(), Reports::default());
        reports.set("n1", report(&["10.0.0.7"], &[("AddressConflict", "10.0.0.8 is answered for by 02:…")]));
        assert_eq!(said(&world, &reports).0, "True");
        reports.set("n1", report(&["10.0.0.7"], &[("AddressConflict", "10.0.0.7 is answered for by 02:…")]));
        assert_eq!(said(&world, &reports), ("False".into(), "AddressConflict".into()));
        reports.set("n1", report(&[], &[("AddressTaken", "10.0.0.7 is another's")]));
        assert_eq!(said(&world, &reports), ("False".into(), "AddressTaken".into()));
    }

    #[test]
    fn what_is_for_bgp_is_announced_as_soon_as_a_candidate_has_a_session() {
        let (mut world, mut reports) = (world(), Reports::default());
        let eip = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "p"},
            "spec": {"address": "10.0.0.0/24"}
        });
        let eip: api::Eip = serde_json::from_value(eip).unwrap();
        world.set_pool("p", Pool::try_from(&eip));
        reports.set("n1", report(&[], &[("NoSpeaker", "BGP is not configured")]));
        assert_eq!(said(&world, &reports), ("False".into(), "NoSpeaker".into()));
        reports.set("n1", report(&[], &[]));
        assert_eq!(said(&world, &reports), ("False".into(), "NoSession".into()));
        reports.set("n1", Report { heard: true, ..report(&[], &[]) });
        assert_eq!(said(&world, &reports), ("True".into(), "Announced".into()));
    }

    #[test]
    fn where_vrrp_elects_another_router_may_have_the_address() {
        let (mut world, mut reports) = (world(), Reports::default());
        let eip = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "p"},
            "spec": {"address": "10.0.0.0/24", "protocol": "vip", "interface": "eth0", "vrrp": {"mode": "interop"}}
        });
        let eip: api::Eip = serde_json::from_value(eip).unwrap();
        world.set_pool("p", Pool::try_from(&eip));
        reports.set("n1", report(&[], &[]));
        assert_eq!(said(&world, &reports), ("True".into(), "ElectedByVRRP".into()));
        reports.set("n1", report(&["10.0.0.7"], &[]));
        assert_eq!(said(&world, &reports), ("True".into(), "Announced".into()));
    }

    #[test]
    fn no_candidate_is_explained() {
        let mut world = world();
        let mut local = service();
        local.local = true;
        world.set_service(local);
        assert_eq!(said(&world, &Reports::default()), ("False".into(), "NoServingEndpoints".into()));
        world.remove_node("n1");
        world.remove_node("n2");
        assert_eq!(said(&world, &Reports::default()), ("False".into(), "NoNodes".into()));
    }

    #[test]
    fn addresses_of_nodes_and_gateways_inside_pools_are_found() {
        let mut reports = Reports::default();
        let message = "10.0.0.1 is in the pool, but it is a gateway of this node";
        reports.set("n1", report(&[], &[("GatewayInPool", message), ("InterfaceMissing", "10.0.0.9 of")]));
        reports.set("n2", report(&[], &[("AddressOnNode", "fd00::2 is in the pool")]));
        let found: Vec<_> = reports.occupied().into_iter().map(|(ip, what)| format!("{ip}: {what}")).collect();
        assert_eq!(found, ["10.0.0.1: a gateway of node n1", "fd00::2: an address of node n2"]);
    }
}
