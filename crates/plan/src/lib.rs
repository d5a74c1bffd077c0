//! What each node must announce: a pure function of a snapshot of the cluster.
//!
//! ```text
//!  Eip, Service, EndpointSlice, Node ──► World ──► plan() ──► Plan: for each address its pool, its interface and the
//!                                                             nodes that may announce it, or why none may
//! ```
//!
//! Every speaker computes the same plan from the same objects; which of the candidates announces an address is decided
//! among those that are alive (`lease`). All protocols are planned alike.
//!
//! **Candidates** of an address are the nodes that
//! - are Ready and whose network is available (D8); a node that is only cordoned stays one;
//! - do not carry the label `node.kubernetes.io/exclude-from-external-load-balancers`, unless all nodes do: then it is
//!   ignored, and said;
//! - match the pool's `nodeSelector` (D29);
//! - for a Service with `externalTrafficPolicy: Local`: have an endpoint of it that serves (D2).
//!
//! A node that is drained (annotation `oxelb.io/drain`) is none while others are; a drain never takes an address away.
//!
//! **Endpoints that terminate** (KEP-1669): with policy Local, kube-proxy on a node sends traffic to ready endpoints of
//! that node, and when it has none, to those that terminate and still serve. So a node whose last endpoint is
//! terminating goes on forwarding, and stays a candidate until that endpoint is gone: open connections end in their own
//! time. The rule is about each node alone; ready endpoints elsewhere do not take the address away from it, because an
//! announcement that moves cuts every connection.
//!
//! **An address shared by several Services** needs nodes that serve all of those with policy Local (D33: each packet
//! comes to the one announcing node, whichever Service it is for).
//!
//! **BGP**: every candidate announces, not one of them; what a node does there is [`bgp()`], made from plan and world.
//!
//! **Without Node objects**, as in a folder that has none, the caller names the nodes
//! ([`World::set_fallback_nodes`]): its own and its peers. They count as Ready.

mod bgp;
mod part;
mod reason;
mod world;

pub use bgp::{Announced, BgpNote, BgpPlan, Speaks, bgp, fnv1a};
pub use part::ServicePart;
pub use reason::{NoCandidate, Note};
pub use world::World;

use api::pool::{Failover, Interface, Partition};
use api::{Family, Node, Pool, Protocol, RouteOptions, ServiceKey, Vrrp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What each node must announce.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plan {
    /// Every address that a Service of ours has and a pool contains.
    pub addresses: BTreeMap<IpAddr, Announcement>,
    /// All nodes that may run speakers, and their InternalIPs, in order. Also those that are no candidates now: they may
    /// still own addresses, and must be heard.
    pub peers: BTreeMap<String, Vec<IpAddr>>,
    /// How many addresses nodes are to own in relation to others, where it is not 100.
    pub weights: BTreeMap<String, u32>,
    /// What the user should know besides.
    pub notes: BTreeSet<Note>,
}

/// The weight of a node that is cordoned: it is the last to get an address, and keeps what it has.
const CORDONED: u32 = 1;

/// How an address is announced, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Announcement {
    /// What it has in common with all addresses of its pool.
    pub pool: Arc<OfPool>,
    /// The Services that have the address, in order.
    pub services: Vec<ServiceKey>,
    /// The nodes that may announce it.
    pub candidates: Arc<BTreeSet<String>>,
    /// Of an address for vip the id under which it moves together with others; `None` while it has none.
    pub router: Option<u8>,
    /// Why no node may; set exactly when there is no candidate.
    pub none_because: Option<Box<NoCandidate>>,
}

/// How addresses of a pool are announced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfPool {
    /// The pool's name.
    pub name: String,
    /// How.
    pub protocol: Protocol,
    /// Where; `None` only with protocol bgp.
    pub interface: Option<Interface>,
    /// How fast they get another owner.
    pub failover: Failover,
    /// What happens to them without a majority of acceptors.
    pub partition: Partition,
    /// What routers are told, with protocol bgp.
    pub routes: Option<Arc<RouteOptions>>,
    /// How owners say so by VRRP, with protocol vip.
    pub vrrp: Option<Arc<Vrrp>>,
}

/// Computes the plan.
pub fn plan(world: &World) -> Plan {
    let mut plan = Plan { notes: pool_notes(world), ..Plan::default() };
    let nodes = world.nodes();
    plan.peers =
        nodes.values().filter(|n| !n.addresses.is_empty()).map(|n| (n.name.clone(), n.addresses.clone())).collect();
    let weight = |n: &Node| if n.unschedulable { Some(CORDONED) } else { n.weight };
    plan.weights = nodes.values().filter_map(|n| Some((n.name.clone(), weight(n)?))).collect();
    let drained: BTreeSet<&str> = nodes.values().filter(|n| n.drained).map(|n| n.name.as_str()).collect();
    let eligible = Eligible::new(nodes, &mut plan.notes);
    let endpoints = world.endpoints();
    let mut pools: BTreeMap<&str, Arc<OfPool>> = BTreeMap::new();
    let mut by_pool: BTreeMap<&str, Result<BTreeSet<&str>, NoCandidate>> = BTreeMap::new();
    let mut announcements = Vec::new();
    // Many addresses have the same candidates: with a hundred nodes they would be most of what a plan needs.
    let mut shared: BTreeMap<BTreeSet<&str>, Arc<BTreeSet<String>>> = BTreeMap::new();
    for (address, services) in addresses(world, &mut plan.notes) {
        let keys = services.iter().map(|s| s.key.clone());
        let Some(pool) = world.pool_of(address, &services) else {
            plan.notes.insert(Note::OutsidePools { address, services: keys.collect() });
            continue;
        };
        let for_pool = by_pool.entry(&pool.name).or_insert_with(|| eligible.of_pool(pool));
        let candidates = for_pool.clone().and_then(|nodes| serving(nodes, &services, &endpoints));
        let (candidates, none_because) = match candidates {
            Ok(mut nodes) => {
                if !nodes.is_subset(&drained) {
                    nodes.retain(|n| !drained.contains(n));
                }
                let names = || Arc::new(nodes.iter().copied().map(str::to_owned).collect());
                (shared.entry(nodes.clone()).or_insert_with(names).clone(), None)
            }
            Err(reason) => (Arc::default(), Some(Box::new(reason))),
        };
        let of_pool = || {
            let (name, interface) = (pool.name.clone(), pool.interface.clone());
            let (protocol, failover, partition) = (pool.protocol, pool.failover, pool.partition);
            let vrrp = (protocol == Protocol::Vip).then(|| Arc::new(pool.vrrp.clone()));
            let routes = (protocol == Protocol::Bgp).then(|| Arc::new(pool.routes.clone()));
            Arc::new(OfPool { name, protocol, interface, failover, partition, routes, vrrp })
        };
        let router = pool.routers.get(&address).copied();
        let (pool, services) = (pools.entry(&pool.name).or_insert_with(of_pool).clone(), keys.collect());
        announcements.push((address, Announcement { pool, services, candidates, router, none_because }));
    }
    // At once, for a map that is filled in order piece by piece is half empty.
    plan.addresses = announcements.into_iter().collect();
    plan
}

/// The addresses that Services of ours have, with those Services in order of their keys.
fn addresses<'a>(world: &'a World, notes: &mut BTreeSet<Note>) -> BTreeMap<IpAddr, Vec<&'a ServicePart>> {
    let mut addresses: BTreeMap<IpAddr, Vec<&ServicePart>> = BTreeMap::new();
    for service in world.services().filter(|s| s.served) {
        for address in service.ingress.iter().collect::<BTreeSet<_>>() {
            if service.family.is_some_and(|family| family != Family::of(*address)) {
                notes.insert(Note::Family { address: *address, service: service.key.clone() });
                continue;
            }
            addresses.entry(*address).or_default().push(service);
        }
    }
    addresses
}

fn pool_notes(world: &World) -> BTreeSet<Note> {
    let invalid = world.invalid_pools().map(|(pool, error, kept)| Note::PoolInvalid {
        pool: pool.clone(),
        error: error.to_string(),
        kept,
    });
    let missing = world.ghosts().map(|(pool, addresses)| Note::PoolMissing { pool: pool.clone(), addresses });
    invalid.chain(missing).collect()
}

/// The nodes that may announce anything, or why none may.
struct Eligible<'a>(Result<Vec<&'a Node>, NoCandidate>);

impl<'a> Eligible<'a> {
    fn new(nodes: &'a BTreeMap<String, Node>, notes: &mut BTreeSet<Note>) -> Eligible<'a> {
        let all_excluded = !nodes.is_empty() && nodes.values().all(|n| n.excluded);
        if all_excluded {
            notes.insert(Note::AllNodesExcluded);
        }
        let narrow = || {
            let nodes = some(nodes.values(), |_| true, |_| NoCandidate::NoNodes)?;
            let nodes = some(nodes, |n| n.ready, |nodes| NoCandidate::NotReady { nodes })?;
            let nodes = some(nodes, |n| !n.network_unavailable, |nodes| NoCandidate::NetworkUnavailable { nodes })?;
            some(nodes, |n| all_excluded || !n.excluded, |nodes| NoCandidate::Excluded { nodes })
        };
        Eligible(narrow())
    }

    fn of_pool(&self, pool: &Pool) -> Result<BTreeSet<&'a str>, NoCandidate> {
        let nodes = self.0.clone()?;
        let because = |nodes| NoCandidate::NodeSelector { pool: pool.name.clone(), nodes };
        let nodes = some(nodes, |n| pool.nodes.matches(&n.labels), because)?;
        Ok(nodes.into_iter().map(|n| n.name.as_str()).collect())
    }
}

/// The nodes that pass; when none does, the reason that `because` makes of the names of those that did not.
fn some<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    pass: impl Fn(&Node) -> bool,
    because: impl Fn(BTreeSet<String>) -> NoCandidate,
) -> Result<Vec<&'a Node>, NoCandidate> {
    let (pass, fail): (Vec<&Node>, Vec<&Node>) = nodes.into_iter().partition(|n| pass(n));
    if pass.is_empty() { Err(because(fail.into_iter().map(|n| n.name.clone()).collect())) } else { Ok(pass) }
}

/// Those of the nodes that serve all of the Services with policy Local.
fn serving<'a>(
    nodes: BTreeSet<&'a str>,
    services: &[&ServicePart],
    endpoints: &BTreeMap<&ServiceKey, BTreeSet<&str>>,
) -> Result<BTreeSet<&'a str>, NoCandidate> {
    let mut left = nodes.clone();
    for service in services.iter().filter(|s| s.local) {
        let on = endpoints.get(&service.key).cloned().unwrap_or_default();
        if on.is_empty() {
            return Err(NoCandidate::NoEndpoints { service: service.key.clone() });
        }
        if !nodes.iter().any(|n| on.contains(n)) {
            let on = on.into_iter().map(str::to_owned).collect();
            return Err(NoCandidate::EndpointsElsewhere { service: service.key.clone(), nodes: on });
        }
        left.retain(|n| on.contains(n));
    }
    if left.is_empty() {
        let services = services.iter().filter(|s| s.local).map(|s| s.key.clone()).collect();
        return Err(NoCandidate::NoCommonNode { services });
    }
    Ok(left)
}
