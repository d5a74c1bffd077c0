//! Who may announce, case by case.

use api::pool::Interface;
use api::{EndpointSlice, Family, Node, Pool, Protocol, Service, ServiceKey, SliceKey, keys};
use oxelb_plan::{NoCandidate, Note, Plan, World, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

fn eip(json: serde_json::Value) -> Result<Pool, api::InvalidPool> {
    let json = serde_json::json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "p"}, "spec": json
    });
    Pool::try_from(&serde_json::from_value::<api::Eip>(json).unwrap_or_default())
}

fn pool() -> serde_json::Value {
    serde_json::json!({"address": "10.0.0.0/24,fd00::/64", "protocol": "layer2", "interface": "eth0"})
}

fn node(name: &str) -> Node {
    let last = name.bytes().last().unwrap_or_default();
    Node { name: name.to_owned(), addresses: vec![IpAddr::from([192, 0, 2, last])], ready: true, ..Node::default() }
}

fn excluded(name: &str) -> Node {
    let labels = [(keys::EXCLUDE_NODE.to_owned(), String::new())].into();
    Node { excluded: true, labels, ..node(name) }
}

fn service(name: &str, address: &str) -> Service {
    Service {
        key: key(name),
        served: true,
        families: vec![Family::V4, Family::V6],
        ingress: address.split(',').filter_map(|a| a.parse().ok()).collect(),
        has_ingress: true,
        ..Service::default()
    }
}

fn local(name: &str, address: &str) -> Service {
    Service { local: true, ..service(name, address) }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("n", name)
}

/// A slice with ready and terminating endpoints on nodes.
fn slice(name: &str, of: &str, nodes: &[(&str, u32, u32)]) -> EndpointSlice {
    let serving = |(n, ready, terminating): &(&str, u32, u32)| {
        ((*n).to_owned(), api::endpoints::Serving { ready: *ready, terminating: *terminating })
    };
    let key = SliceKey::new("n", name);
    EndpointSlice { key, service: self::key(of), nodes: nodes.iter().map(serving).collect() }
}

/// Three nodes and the pool.
fn world() -> World {
    let mut world = World::default();
    ["a", "b", "c"].iter().for_each(|n| world.set_node(node(n)));
    world.set_pool("p", eip(pool()));
    world
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn candidates(world: &World, address: &str) -> Result<BTreeSet<String>, NoCandidate> {
    let address: IpAddr = address.parse().unwrap_or(IpAddr::from([0; 4]));
    let plan = plan(world);
    let Some(a) = plan.addresses.get(&address) else { return Ok(set(&["not announced"])) };
    assert_eq!(a.none_because.is_some(), a.candidates.is_empty());
    a.none_because.clone().map_or_else(|| Ok(a.candidates.as_ref().clone()), |why| Err(*why))
}

fn notes(world: &World) -> Vec<Note> {
    plan(world).notes.into_iter().collect()
}

#[test]
fn every_eligible_node_may_announce_an_address_of_policy_cluster() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1,fd00::1"));
    let plan = plan(&world);
    let [v4, v6] = ["10.0.0.1", "fd00::1"].map(|a| plan.addresses[&a.parse::<IpAddr>().unwrap()].clone());
    assert_eq!(v4, v6);
    assert_eq!(*v4.candidates, set(&["a", "b", "c"]));
    assert_eq!((v4.pool.name.as_str(), v4.pool.protocol), ("p", Protocol::Layer2));
    assert_eq!(v4.pool.interface, Some(Interface::Names(vec!["eth0".to_owned()])));
    assert_eq!(v4.services, [key("s")]);
    assert_eq!((v4.none_because, plan.notes.len(), plan.addresses.len()), (None, 0, 2));
    let peers: BTreeMap<_, _> = ["a", "b", "c"].map(|n| (n.to_owned(), node(n).addresses)).into();
    assert_eq!(plan.peers, peers);
}

#[test]
fn only_addresses_of_served_services_are_announced() {
    let mut world = world();
    world.set_service(Service { served: false, ..service("was-ours", "10.0.0.1") });
    world.set_service(service("pending", ""));
    assert_eq!(plan(&world).addresses, BTreeMap::new());
    world.set_service(service("s", "10.0.0.1"));
    world.remove_service(&key("s"));
    assert_eq!(plan(&world).addresses, BTreeMap::new());
}

#[test]
fn d8_a_node_that_is_not_ready_or_without_network_is_no_candidate_but_still_heard() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    world.set_node(Node { ready: false, ..node("a") });
    world.set_node(Node { network_unavailable: true, ..node("b") });
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["c"])));
    assert_eq!(plan(&world).peers.len(), 3);
    world.set_node(Node { ready: false, ..node("c") });
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NetworkUnavailable { nodes: set(&["b"]) }));
    world.set_node(Node { ready: false, ..node("b") });
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NotReady { nodes: set(&["a", "b", "c"]) }));
    world.set_node(node("b"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b"])));
    ["a", "b", "c"].iter().for_each(|n| world.remove_node(n));
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NoNodes));
}

#[test]
fn a_cordon_takes_nothing_and_makes_the_node_the_last_to_get_an_address() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    let before = plan(&world);
    world.set_node(Node { unschedulable: true, weight: Some(300), ..node("a") });
    world.set_node(Node { weight: Some(200), ..node("b") });
    let after = plan(&world);
    assert_eq!(after.addresses, before.addresses);
    assert_eq!(after.weights, [("a".to_owned(), 1), ("b".to_owned(), 200)].into());
}

#[test]
fn a_drained_node_is_no_candidate_while_another_is() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    world.set_node(Node { drained: true, ..node("a") });
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b", "c"])));
    world.set_node(Node { ready: false, ..node("b") });
    world.set_node(Node { ready: false, ..node("c") });
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a"])), "a drain makes no outage");
}

#[test]
fn the_exclude_label_counts_unless_all_nodes_carry_it_and_then_it_is_said() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    world.set_node(excluded("a"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b", "c"])));
    world.set_node(excluded("b"));
    world.set_node(Node { ready: false, ..node("c") });
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::Excluded { nodes: set(&["a", "b"]) }));
    assert_eq!(notes(&world), []);
    world.set_node(excluded("c"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a", "b", "c"])));
    assert_eq!(notes(&world), [Note::AllNodesExcluded]);
}

#[test]
fn d29_the_pools_node_selector_restricts_who_may_announce() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    let mut json = pool();
    json["nodeSelector"] = serde_json::json!({"matchLabels": {"edge": "yes"}});
    world.set_pool("p", eip(json));
    let because = NoCandidate::NodeSelector { pool: "p".to_owned(), nodes: set(&["a", "b", "c"]) };
    assert_eq!(candidates(&world, "10.0.0.1"), Err(because));
    world.set_node(Node { labels: [("edge".to_owned(), "yes".to_owned())].into(), ..node("b") });
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b"])));
}

#[test]
fn d2_a_local_service_is_announced_where_its_endpoints_serve_and_withdrawn_when_none_does() {
    let mut world = world();
    world.set_service(local("s", "10.0.0.1"));
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NoEndpoints { service: key("s") }));
    world.set_slice(slice("s-1", "s", &[("a", 2, 0), ("gone", 1, 0)]));
    world.set_slice(slice("s-2", "s", &[("b", 1, 0)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a", "b"])));
    // Endpoints move.
    world.set_slice(slice("s-1", "s", &[("c", 1, 0)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b", "c"])));
    world.remove_slice(&SliceKey::new("n", "s-2"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["c"])));
    // None is left.
    world.set_slice(slice("s-1", "s", &[]));
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NoEndpoints { service: key("s") }));
    world.set_slice(slice("s-1", "s", &[("gone", 1, 0)]));
    let because = NoCandidate::EndpointsElsewhere { service: key("s"), nodes: set(&["gone"]) };
    assert_eq!(candidates(&world, "10.0.0.1"), Err(because));
    // The policy is switched.
    world.set_service(service("s", "10.0.0.1"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a", "b", "c"])));
}

#[test]
fn a_node_whose_endpoints_terminate_stays_a_candidate_while_they_serve() {
    let mut world = world();
    world.set_service(local("s", "10.0.0.1"));
    world.set_slice(slice("s-1", "s", &[("a", 0, 1), ("b", 1, 1), ("c", 0, 0)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a", "b"])));
    world.set_slice(slice("s-1", "s", &[("a", 0, 1)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a"])));
}

#[test]
fn d33_a_shared_address_needs_a_node_that_serves_all_local_services() {
    let mut world = world();
    world.set_service(local("s", "10.0.0.1"));
    world.set_service(local("t", "10.0.0.1"));
    world.set_service(service("u", "10.0.0.1"));
    world.set_slice(slice("s-1", "s", &[("a", 1, 0), ("b", 1, 0)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NoEndpoints { service: key("t") }));
    world.set_slice(slice("t-1", "t", &[("b", 1, 0), ("c", 1, 0)]));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["b"])));
    world.set_slice(slice("t-1", "t", &[("c", 1, 0)]));
    let because = NoCandidate::NoCommonNode { services: [key("s"), key("t")].into() };
    assert_eq!(candidates(&world, "10.0.0.1"), Err(because));
    assert_eq!(plan(&world).addresses[&IpAddr::from([10, 0, 0, 1])].services.len(), 3);
}

#[test]
fn slices_are_needed_for_local_services_with_addresses_only() {
    let mut world = world();
    world.set_service(service("cluster", "10.0.0.1"));
    world.set_service(local("pending", ""));
    world.set_service(Service { served: false, ..local("was-ours", "10.0.0.2") });
    world.set_service(local("s", "10.0.0.3"));
    assert_eq!(*world.needs_slices(), [key("s")].into());
}

#[test]
fn an_invalid_pool_stays_what_it_was_and_one_that_never_was_valid_is_not_used() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    let before = plan(&world);
    let broken = || eip(serde_json::json!({"address": "10.0.0.9-10.0.0.1", "protocol": "layer2", "interface": "eth0"}));
    world.set_pool("p", broken());
    assert_eq!(plan(&world).addresses, before.addresses);
    let kept =
        |notes: Vec<Note>| notes.iter().map(|n| matches!(n, Note::PoolInvalid { kept: true, .. })).collect::<Vec<_>>();
    assert_eq!(kept(notes(&world)), [true]);
    world.set_pool("p", eip(pool()));
    assert_eq!(plan(&world), before);

    let mut fresh = World::default();
    fresh.set_node(node("a"));
    fresh.set_service(service("s", "10.0.0.1"));
    fresh.set_pool("p", broken());
    assert_eq!(kept(notes(&fresh)), [false, false]);
    assert_eq!(plan(&fresh).addresses.len(), 0);
}

#[test]
fn a_pool_that_is_gone_stays_in_force_for_those_who_use_it() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    world.set_service(service("t", "10.0.0.2"));
    let before = plan(&world);
    world.remove_pool("p");
    assert_eq!(plan(&world).addresses, before.addresses);
    let addresses = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
    assert_eq!(notes(&world), [Note::PoolMissing { pool: "p".to_owned(), addresses: addresses.into() }]);
    // Another pool takes one of them over.
    let mut q = eip(serde_json::json!({"address": "10.0.0.2", "protocol": "layer2", "interface": "eth0"}));
    q.iter_mut().for_each(|q| "q".clone_into(&mut q.name));
    world.set_pool("q", q);
    assert_eq!(plan(&world).addresses[&addresses[1]].pool.name, "q");
    assert_eq!(notes(&world), [Note::PoolMissing { pool: "p".to_owned(), addresses: [addresses[0]].into() }]);
    // Nobody uses it any more: it is forgotten.
    world.remove_service(&key("s"));
    world.set_service(service("s", "10.0.0.1"));
    assert_eq!(notes(&world), [Note::OutsidePools { address: addresses[0], services: [key("s")].into() }]);
}

#[test]
fn a_disabled_pool_and_an_excluded_address_are_still_announced() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    let before = plan(&world);
    let mut json = pool();
    json["disable"] = true.into();
    json["exclude"] = "10.0.0.1".into();
    world.set_pool("p", eip(json));
    assert_eq!(plan(&world), before);
}

#[test]
fn the_pool_that_the_service_says_it_has_goes_before_others_that_contain_the_address() {
    let mut world = world();
    for name in ["a", "z"] {
        let mut other = eip(pool());
        other.iter_mut().for_each(|p| name.clone_into(&mut p.name));
        world.set_pool(name, other);
    }
    let pool = |world: &World| plan(world).addresses[&IpAddr::from([10, 0, 0, 1])].pool.name.clone();
    world.set_service(service("s", "10.0.0.1"));
    assert_eq!(pool(&world), "a");
    world.set_service(Service { pool_label: Some("z".to_owned()), ..service("s", "10.0.0.1") });
    assert_eq!(pool(&world), "z");
}

#[test]
fn an_address_in_no_pool_or_of_another_family_is_not_announced_and_said() {
    let mut world = world();
    world.set_service(service("s", "10.9.9.9"));
    world.set_service(Service { families: vec![Family::V4], ..service("t", "10.0.0.1,fd00::1") });
    assert_eq!(plan(&world).addresses.keys().collect::<Vec<_>>(), [&IpAddr::from([10, 0, 0, 1])]);
    let address: IpAddr = "fd00::1".parse().unwrap();
    assert_eq!(
        notes(&world),
        [
            Note::OutsidePools { address: IpAddr::from([10, 9, 9, 9]), services: [key("s")].into() },
            Note::Family { address, service: key("t") },
        ]
    );
}

#[test]
fn without_node_objects_the_named_nodes_count() {
    let mut world = World::default();
    world.set_pool("p", eip(pool()));
    world.set_service(service("s", "10.0.0.1"));
    assert_eq!(candidates(&world, "10.0.0.1"), Err(NoCandidate::NoNodes));
    world.set_fallback_nodes([node("x"), node("y")]);
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["x", "y"])));
    assert_eq!(plan(&world).peers.len(), 2);
    world.set_node(node("a"));
    assert_eq!(candidates(&world, "10.0.0.1"), Ok(set(&["a"])));
}

#[test]
fn bgp_and_vip_are_planned_alike() {
    let mut world = world();
    world.set_service(service("s", "10.0.0.1"));
    world.set_pool("p", eip(serde_json::json!({"address": "10.0.0.0/24"})));
    let announced = plan(&world).addresses[&IpAddr::from([10, 0, 0, 1])].clone();
    assert_eq!(
        (announced.pool.protocol, &announced.pool.interface, announced.candidates.len()),
        (Protocol::Bgp, &None, 3)
    );
}

#[test]
fn every_reason_is_one_word_and_every_message_says_the_mend() {
    let (nodes, service) = (set(&["a", "b", "c", "d", "e"]), key("s"));
    let services: BTreeSet<ServiceKey> = [key("s"), key("t")].into();
    let pool = "p".to_owned();
    let (address, addresses) = (IpAddr::from([10, 0, 0, 1]), BTreeSet::from([IpAddr::from([10, 0, 0, 1])]));
    let none = [
        NoCandidate::NoNodes,
        NoCandidate::NotReady { nodes: nodes.clone() },
        NoCandidate::NetworkUnavailable { nodes: nodes.clone() },
        NoCandidate::Excluded { nodes: nodes.clone() },
        NoCandidate::NodeSelector { pool: pool.clone(), nodes: nodes.clone() },
        NoCandidate::NoEndpoints { service: service.clone() },
        NoCandidate::EndpointsElsewhere { service: service.clone(), nodes },
        NoCandidate::NoCommonNode { services: services.clone() },
    ];
    let notes = [
        Note::AllNodesExcluded,
        Note::PoolInvalid { pool: pool.clone(), error: "spec.address: …".to_owned(), kept: true },
        Note::PoolMissing { pool, addresses },
        Note::OutsidePools { address, services },
        Note::Family { address, service },
    ];
    let said =
        none.iter().map(|n| (n.reason(), n.to_string())).chain(notes.iter().map(|n| (n.reason(), n.to_string())));
    let said: Vec<_> = said.collect();
    for (reason, message) in &said {
        assert!(reason.chars().all(|c| c.is_ascii_alphabetic()) && reason.starts_with(char::is_uppercase), "{reason}");
        assert!(message.contains(';') || message.contains(':'), "{message}");
    }
    assert_eq!(said.iter().map(|(reason, _)| reason).collect::<BTreeSet<_>>().len(), said.len());
    assert_eq!(said[1].1, "no node is Ready (a, b, c and 2 more); see why with kubectl describe node");
}

#[test]
fn a_plan_can_be_written_down() {
    let mut world = world();
    world.set_service(local("s", "10.0.0.1"));
    let json = serde_json::to_value(plan(&world)).unwrap();
    assert_eq!(json["addresses"]["10.0.0.1"]["none_because"]["NoEndpoints"]["service"]["name"], "s");
    assert_eq!(Plan::default().addresses.len(), 0);
}
