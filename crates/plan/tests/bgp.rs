//! What a node is to do in BGP, case by case.

use api::endpoints::Serving;
use api::{Bgp, BgpConf, BgpPeer, EndpointSlice, Node, Peer, Pool, Service, ServiceKey, SliceKey};
use oxelb_plan::{BgpNote, BgpPlan, World, bgp, plan};
use serde_json::{Value, json};
use std::net::IpAddr;

const GROUP: &str = "network.kubesphere.io/v1alpha2";

fn conf(spec: Value) -> Result<Bgp, api::InvalidBgp> {
    let object = json!({"apiVersion": GROUP, "kind": "BgpConf", "metadata": {"name": "default"}, "spec": spec});
    Bgp::try_from(&serde_json::from_value::<BgpConf>(object).unwrap_or_default())
}

fn peer(name: &str, spec: Value) -> Result<Peer, api::InvalidBgp> {
    let object = json!({"apiVersion": GROUP, "kind": "BgpPeer", "metadata": {"name": name}, "spec": spec});
    Peer::try_from(&serde_json::from_value::<BgpPeer>(object).unwrap_or_default())
}

fn router(address: &str) -> Value {
    json!({"conf": {"peerAs": 50001, "neighborAddress": address}})
}

fn node(name: &str, addresses: &[&str], labels: &[(&str, &str)]) -> Node {
    Node {
        name: name.to_owned(),
        addresses: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
        ready: true,
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Node::default()
    }
}

fn service(name: &str, address: &str, local: bool) -> Service {
    let ingress = vec![address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]))];
    Service { key: ServiceKey::new("n", name), served: true, local, ingress, ..Service::default() }
}

/// Three nodes, one pool, one router, one Service of policy Cluster.
fn world() -> World {
    let mut world = World::default();
    for (name, last) in [("n1", "11"), ("n2", "12"), ("n3", "13")] {
        let v4 = format!("192.168.0.{last}");
        let v6 = format!("fd00::{last}");
        world.set_node(node(name, &[&v6, &v4], &[("rack", "leaf1")]));
    }
    let eip = json!({"apiVersion": GROUP, "kind": "Eip", "metadata": {"name": "p"},
        "spec": {"address": "172.22.0.2-172.22.0.10"}});
    world.set_pool("p", Pool::try_from(&serde_json::from_value::<api::Eip>(eip).unwrap_or_default()));
    world.set_bgp(conf(json!({"as": 50000})));
    world.set_peer("tor", peer("tor", router("192.168.0.5")));
    world.set_service(service("a", "172.22.0.2", false));
    world
}

fn of(world: &World, node: &str) -> BgpPlan {
    bgp(world, &plan(world), node)
}

fn announced(world: &World, node: &str) -> Vec<String> {
    of(world, node).speaks.iter().flat_map(|s| s.addresses.keys()).map(ToString::to_string).collect()
}

fn reasons(world: &World, node: &str) -> Vec<&'static str> {
    of(world, node).notes.iter().map(BgpNote::reason).collect()
}

#[test]
fn with_policy_cluster_every_ready_node_announces() {
    let world = world();
    for (name, id) in [("n1", "192.168.0.11"), ("n2", "192.168.0.12"), ("n3", "192.168.0.13")] {
        assert_eq!(announced(&world, name), ["172.22.0.2"]);
        let plan = of(&world, name);
        let speaks = plan.speaks.as_ref();
        assert_eq!(speaks.map(|s| (s.asn, s.router_id.to_string())), Some((50000, id.to_owned())));
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    }
    let speaks = of(&world, "n1").speaks;
    let hops = speaks.map(|s| s.next_hops);
    assert_eq!(hops, Some(("192.168.0.11".parse().ok(), "fd00::11".parse().ok())));
}

#[test]
fn with_policy_local_only_nodes_with_endpoints_announce() {
    let mut world = world();
    world.set_service(service("b", "172.22.0.3", true));
    assert_eq!(announced(&world, "n1"), ["172.22.0.2"]);
    let key = SliceKey::new("n", "b-1");
    let nodes = [("n2".to_owned(), Serving { ready: 2, terminating: 0 })].into();
    world.set_slice(EndpointSlice { key: key.clone(), service: ServiceKey::new("n", "b"), nodes });
    assert_eq!(announced(&world, "n1"), ["172.22.0.2"]);
    assert_eq!(announced(&world, "n2"), ["172.22.0.2", "172.22.0.3"]);
    let endpoints: Vec<_> =
        of(&world, "n2").speaks.iter().flat_map(|s| s.addresses.values().map(|a| a.endpoints)).collect();
    assert_eq!(endpoints, [None, Some(2)], "with policy Cluster every node serves");
    world.remove_slice(&key);
    assert_eq!(announced(&world, "n2"), ["172.22.0.2"]);
}

#[test]
fn a_node_that_is_not_ready_withdraws_everything_and_keeps_its_sessions() {
    let mut world = world();
    world.set_node(Node { ready: false, ..node("n1", &["192.168.0.11"], &[]) });
    let speaks = of(&world, "n1").speaks;
    assert_eq!(speaks.map(|s| (s.addresses.len(), s.peers.len())), Some((0, 1)));
    assert_eq!(announced(&world, "n2"), ["172.22.0.2"]);
}

#[test]
fn a_peers_node_selector_follows_the_labels() {
    let mut world = world();
    let mut spec = router("192.168.0.5");
    spec["nodeSelector"] = json!({"matchLabels": {"rack": "leaf2"}});
    world.set_peer("tor", peer("tor", spec));
    assert_eq!(of(&world, "n1").speaks.map(|s| s.peers.len()), Some(0));
    assert_eq!(reasons(&world, "n1"), ["NoBgpPeer"]);
    world.set_node(node("n1", &["192.168.0.11"], &[("rack", "leaf2")]));
    assert_eq!(of(&world, "n1").speaks.map(|s| s.peers.len()), Some(1));
    assert!(reasons(&world, "n1").is_empty());
}

#[test]
fn racks_have_their_own_as_number_and_the_nodes_own_router_id() {
    let mut world = world();
    world.set_bgp(conf(json!({"as": 50000, "asPerRack": {"leaf1": 50101}, "routerId": "1.1.1.1"})));
    world.set_node(node("n1", &["192.168.0.11"], &[(api::keys::RACK, "leaf1")]));
    world.set_node(node("n2", &["192.168.0.12"], &[(api::keys::RACK, "leaf9")]));
    let said = |name| of(&world, name).speaks.map(|s| (s.asn, s.router_id.to_string()));
    assert_eq!(said("n1"), Some((50101, "192.168.0.11".to_owned())));
    assert_eq!(said("n2"), Some((50000, "192.168.0.12".to_owned())));
    assert_eq!(said("n3"), Some((50000, "1.1.1.1".to_owned())));
    assert_eq!(reasons(&world, "n3"), ["SharedRouterId"]);
    assert!(reasons(&world, "n1").is_empty());
}

#[test]
fn a_node_without_ipv4_has_a_router_id_all_the_same_and_says_so() {
    let mut world = world();
    world.set_node(node("n1", &["fd00::11"], &[]));
    world.set_node(node("n2", &["fd00::12"], &[]));
    let id = |name| of(&world, name).speaks.map(|s| s.router_id);
    assert_ne!(id("n1"), id("n2"));
    assert_eq!(reasons(&world, "n1"), ["DerivedRouterId"]);
}

#[test]
fn without_a_bgp_conf_nothing_is_spoken_and_it_is_said_only_where_it_matters() {
    let mut world = world();
    world.remove_bgp();
    assert_eq!((of(&world, "n1").speaks, reasons(&world, "n1")), (None, vec!["NoBgpConf"]));
    world.remove_peer("tor");
    assert_eq!(reasons(&world, "n1"), ["NoBgpConf"], "an address waits for it");
    world.remove_service(&ServiceKey::new("n", "a"));
    assert!(reasons(&world, "n1").is_empty());
    world.set_bgp(conf(json!({"as": 0})));
    assert_eq!(reasons(&world, "n1"), ["NoAsNumber"]);
}

#[test]
fn what_is_not_valid_is_named_and_its_last_valid_version_stays_as_do_the_others() {
    let mut world = world();
    world.set_peer("bad", peer("bad", json!({"conf": {"neighborAddress": "192.168.0.6"}})));
    world.set_peer("tor", peer("tor", json!({"conf": {"peerAs": 50001, "neighborAddress": "nowhere"}})));
    world.set_bgp(conf(json!({"as": 50000, "routerId": "nonsense"})));
    let planned = of(&world, "n1");
    let speaks = planned.speaks.as_ref();
    assert_eq!(speaks.map(|s| (s.asn, s.peers.keys().cloned().collect())), Some((50000, vec!["tor".to_owned()])));
    let kept = |n: &BgpNote| match n {
        BgpNote::ConfInvalid { kept, .. } | BgpNote::PeerInvalid { kept, .. } => Some(*kept),
        _ => None,
    };
    assert_eq!(planned.notes.iter().filter_map(kept).collect::<Vec<_>>(), [true, false, true]);
    let text: Vec<String> = planned.notes.iter().map(ToString::to_string).collect();
    assert!(text[0].contains("spec.routerId") && text[1].contains("bad") && text[2].contains("tor"), "{text:?}");
}

#[test]
fn of_two_peers_with_one_address_one_is_used_and_the_other_named() {
    let mut world = world();
    world.set_peer("tor2", peer("tor2", router("192.168.0.5")));
    assert_eq!(of(&world, "n1").speaks.map(|s| s.peers.into_keys().collect()), Some(vec!["tor".to_owned()]));
    assert_eq!(reasons(&world, "n1"), ["BgpPeerTwice"]);
}

#[test]
fn a_password_of_the_secret_counts_more_than_that_of_the_object() {
    let mut world = world();
    let mut spec = router("192.168.0.5");
    spec["conf"]["authPassword"] = json!("in the object");
    world.set_peer("tor", peer("tor", spec));
    let password = |world: &World| of(world, "n1").speaks.and_then(|s| s.peers["tor"].password.clone());
    assert_eq!(password(&world).as_deref(), Some("in the object"));
    world.set_passwords([("tor".to_owned(), "in the Secret".to_owned())].into());
    assert_eq!(password(&world).as_deref(), Some("in the Secret"));
    world.set_passwords([("tor".to_owned(), "x".repeat(81))].into());
    assert_eq!(reasons(&world, "n1"), ["NoBgpPeer", "BgpPasswordInvalid"]);
    assert_eq!(of(&world, "n1").speaks.map(|s| s.peers.len()), Some(0), "it is not talked to without");
}

#[test]
fn what_has_no_effect_is_named() {
    let mut world = world();
    let mut spec = router("192.168.0.5");
    spec["transport"] = json!({"tcpMss": 1400});
    world.set_peer("tor", peer("tor", spec));
    world.set_bgp(conf(json!({"as": 50000, "useMultiplePaths": true, "policy": "rules"})));
    assert_eq!(reasons(&world, "n1"), ["NoBgpPolicy", "FieldsIgnored", "FieldsIgnored"]);
    world.set_policy("rules", "text".to_owned());
    assert_eq!(reasons(&world, "n1"), ["FieldsIgnored", "FieldsIgnored"]);
    assert_eq!(of(&world, "n1").speaks.and_then(|s| s.policy).as_deref(), Some("text"));
}

#[test]
fn the_next_hops_of_other_nodes_are_told_only_where_a_router_wants_them() {
    let mut world = world();
    let others = |world: &World, node: &str| -> Vec<Vec<String>> {
        let speaks = of(world, node).speaks;
        speaks
            .iter()
            .flat_map(|s| s.of_others.values())
            .map(|of| of.keys().map(ToString::to_string).collect())
            .collect()
    };
    assert!(others(&world, "n1").is_empty());
    let old = json!({"conf": {"peerAs": 50001, "neighborAddress": "192.168.0.5"}, "nextHopMode": "OpenELB"});
    world.set_peer("tor", peer("tor", old));
    assert_eq!(others(&world, "n1"), [["192.168.0.12", "192.168.0.13"]]);
    // D35: of the address's own family.
    world.set_service(service("six", "fd22::2", false));
    let six = json!({"apiVersion": GROUP, "kind": "Eip", "metadata": {"name": "q"}, "spec": {"address": "fd22::/64", "protocol": "bgp"}});
    world.set_pool("q", Pool::try_from(&serde_json::from_value::<api::Eip>(six).unwrap_or_default()));
    assert_eq!(others(&world, "n1")[1], ["fd00::12", "fd00::13"]);
    // D8: not one that is not ready; and who is not ready itself says nothing of others.
    world.set_node(Node { ready: false, ..node("n3", &["192.168.0.13"], &[]) });
    assert_eq!(others(&world, "n1")[0], ["192.168.0.12"]);
    assert!(others(&world, "n3").is_empty());
    // Of nodes in racks those of the same rack.
    let rack = |name: &str, address: &str, rack: &str| node(name, &[address], &[(api::keys::RACK, rack)]);
    world.set_bgp(conf(json!({"as": 50000, "asPerRack": {"a": 50010, "b": 50020}})));
    world.set_node(rack("n1", "192.168.0.11", "a"));
    world.set_node(rack("n2", "192.168.0.12", "b"));
    world.set_node(rack("n3", "192.168.0.13", "a"));
    assert_eq!(others(&world, "n1")[0], ["192.168.0.13"]);
}
