//! What is pure in the speaker: from a plan to an intent, from facts to warnings and status.

use crate::facts::{Conflict, Facts, Foreign, Probed};
use crate::intent::{Intent, is_unit};
use crate::status::Status;
use crate::{Options, warnings};
use api::{Eip, Node, Pool, Service};
use engine::{IfIndex, MacAddr, Tick};
use lease::{Epoch, Owned, View};
use plan::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

fn options() -> Options {
    Options {
        node: "n1".into(),
        namespace: "openelb-system".into(),
        scope: api::Scope::default(),
        bind: SocketAddr::from(([0, 0, 0, 0], 7946)),
        secret: None,
        layer2: true,
        vip: true,
        control: None,
        http: None,
        state: None,
    }
}

fn pool(name: &str, spec: Value) -> Pool {
    let eip: Eip = serde_json::from_value(json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": name}, "spec": spec
    }))
    .unwrap();
    Pool::try_from(&eip).unwrap()
}

fn service(name: &str, ip: &str) -> Service {
    let object = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "annotations": {api::keys::OPT_IN: "openelb"}},
        "spec": {"type": "LoadBalancer", "ipFamilies": [if ip.contains(':') { "IPv6" } else { "IPv4" }]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}
    }))
    .unwrap();
    Service::read(&object, api::Scope::default()).unwrap()
}

fn world() -> World {
    let mut world = World::default();
    for (name, addresses) in [("n1", ["10.0.0.1", "fd00::1"]), ("n2", ["fd00::2", "10.0.0.2"])] {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        world.set_node(Node { name: name.into(), ready: true, addresses, ..Node::default() });
    }
    world.set_pool(
        "l2",
        Ok(pool("l2", json!({"address": "10.0.0.100-10.0.0.109", "protocol": "layer2", "interface": "eth0"}))),
    );
    world.set_pool("routed", Ok(pool("routed", json!({"address": "10.9.0.0/24"}))));
    world.set_service(service("a", "10.0.0.100"));
    world.set_service(service("b", "10.9.0.1"));
    world
}

#[test]
fn an_intent_holds_the_addresses_of_layer2_and_the_other_nodes() {
    let intent = Intent::new(&plan::plan(&world()), vec![b"k".to_vec()], Epoch::new(1, ["n1"]), &options());
    assert_eq!(intent.addresses.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.100"]);
    let peers: Vec<_> = intent.peers.iter().map(|(n, a)| format!("{n} {a}")).collect();
    assert_eq!(peers, ["n2 10.0.0.2:7946"], "not this node, and an address of the family that is listened on");
}

fn vip_pool(routers: Value) -> Pool {
    let eip: Eip = serde_json::from_value(json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "v"},
        "spec": {"address": "10.1.0.0/24", "protocol": "vip", "interface": "eth0"},
        "status": {"virtualRouters": routers}
    }))
    .unwrap();
    Pool::try_from(&eip).unwrap()
}

#[test]
fn addresses_of_vip_with_one_id_are_one_to_the_lease_and_those_without_wait() {
    let mut world = world();
    world.set_pool(
        "v",
        Ok(vip_pool(json!([{"id": 7, "addresses": ["10.1.0.1", "10.1.0.2"]}, {"id": 8, "addresses": ["10.1.0.3"]}]))),
    );
    for n in 1..=4 {
        world.set_service(service(&format!("v{n}"), &format!("10.1.0.{n}")));
    }
    let intent = Intent::new(&plan::plan(&world), vec![], Epoch::default(), &options());
    let ips = |last: &[u8]| last.iter().map(|n| IpAddr::from([10, 1, 0, *n])).collect::<Vec<_>>();
    let units: Vec<_> = intent.units.iter().map(|(key, unit)| (*key, unit.id)).collect();
    assert_eq!(units.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(intent.members(units[0].0), ips(&[1, 2]));
    assert_eq!((intent.unit(ips(&[2])[0]), intent.unit(ips(&[3])[0])), (units[0].0, units[1].0));
    assert!(!intent.addresses.contains_key(&ips(&[4])[0]), "it has no id yet");
    assert!(is_unit(units[0].0) && !is_unit(ips(&[1])[0]));
    let of_layer2 = "10.0.0.100".parse().unwrap();
    assert_eq!((intent.unit(of_layer2), intent.members(of_layer2)), (of_layer2, vec![of_layer2]));
}

#[test]
fn what_keeps_vip_from_being_whole_is_named_while_the_pool_is_used() {
    let mut world = world();
    let pool = vip_pool(json!([{"id": 7, "addresses": ["10.1.0.1"]}]));
    world.set_pool("v", Ok(pool.clone()));
    let mut facts = Facts::default();
    facts.foreign_routers.insert(Foreign { id: 7, pool: "v".into(), from: "10.1.0.99".parse().unwrap() });
    facts.not_put.insert("10.1.0.1".parse().unwrap(), "because".to_owned());
    let find = |world: &World, facts: &Facts, options: &Options| {
        let found = warnings::find(std::slice::from_ref(&pool), &plan::plan(world), facts, options, None);
        found.into_iter().map(|w| (w.reason, w.subject.unwrap_or_default())).collect::<BTreeSet<_>>()
    };
    let named = |found: &BTreeSet<(String, String)>, reason: &str, subject: &str| {
        found.contains(&(reason.to_owned(), subject.to_owned()))
    };
    assert!(!named(&find(&world, &facts, &options()), "NotFenced", ""), "nobody uses the pool");
    world.set_service(service("v", "10.1.0.1"));
    let found = find(&world, &facts, &options());
    assert!(named(&found, "NotFenced", "") && named(&found, "RouterIdTaken", "7"), "{found:?}");
    assert!(named(&found, "NotOnInterface", "10.1.0.1"), "{found:?}");
    facts.fenced = true;
    assert!(!named(&find(&world, &facts, &options()), "NotFenced", ""));
    let off = Options { vip: false, ..options() };
    let found = find(&world, &facts, &off);
    assert!(named(&found, "NoSpeaker", "") && !named(&found, "RouterIdTaken", "7"), "{found:?}");
}

#[test]
fn without_layer2_nothing_is_announced_and_the_pool_is_named() {
    let options = Options { layer2: false, ..options() };
    let plan = plan::plan(&world());
    assert!(Intent::new(&plan, vec![], Epoch::default(), &options).addresses.is_empty());
    let pools = [pool("l2", json!({"address": "10.0.0.100-10.0.0.109", "protocol": "layer2", "interface": "eth0"}))];
    let found = warnings::find(&pools, &plan, &Facts::default(), &options, None);
    assert!(found[0].message.contains("no registered speaker:[layer2] eip:[l2]"), "{found:?}");
}

#[test]
fn a_pool_in_use_whose_protocol_nobody_speaks_is_named() {
    let plan = plan::plan(&world());
    let pools = [pool("routed", json!({"address": "10.9.0.0/24"}))];
    let find = |no_bgp| warnings::find(&pools, &plan, &Facts::default(), &options(), no_bgp);
    assert_eq!(find(None), []);
    let found = find(Some("BGP is not configured"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].reason.as_str(), found[0].pool.as_deref()), ("NoSpeaker", Some("routed")));
    assert!(found[0].message.contains("no registered speaker:[bgp] eip:[routed]"), "{found:?}");
}

#[test]
fn a_missing_interface_is_named_only_where_the_node_could_announce() {
    let mut world = world();
    let spec = json!({"address": "10.0.0.100-10.0.0.109", "protocol": "layer2", "interface": "nope"});
    let elsewhere = json!({"address": "10.0.0.100-10.0.0.109", "protocol": "layer2", "interface": "nope",
        "nodeSelector": {"matchLabels": {"rack": "1"}}});
    world.set_pool("l2", Ok(pool("l2", spec.clone())));
    let found = warnings::find(&[pool("l2", spec)], &plan::plan(&world), &Facts::default(), &options(), None);
    assert_eq!(found[0].reason, "InterfaceMissing");
    assert!(found[0].message.contains("no interface nope on this node"), "{found:?}");
    world.set_pool("l2", Ok(pool("l2", elsewhere.clone())));
    let found = warnings::find(&[pool("l2", elsewhere)], &plan::plan(&world), &Facts::default(), &options(), None);
    assert_eq!(found, []);
}

#[test]
fn a_stranger_that_answers_is_named_with_its_mac() {
    let mut facts = Facts::default();
    let conflict = Conflict { on: IfIndex(2), mac: MacAddr([2, 0, 0, 0, 0, 9]), node: None, at: Tick::ZERO };
    facts.conflicts.insert("10.0.0.100".parse().unwrap(), conflict);
    let found = warnings::find(&[], &plan::plan(&world()), &facts, &options(), None);
    assert_eq!(found[0].reason, "AddressConflict");
    assert!(found[0].message.contains("02:00:00:00:00:09") && found[0].message.contains("10.0.0.100"), "{found:?}");
    facts.conflicts.values_mut().for_each(|c| c.node = Some("n2".to_owned()));
    let found = warnings::find(&[], &plan::plan(&world()), &facts, &options(), None);
    assert!(found[0].message.contains("02:00:00:00:00:09 of node n2"), "{found:?}");
    facts.now = Tick::from_millis(151_000);
    assert_eq!(warnings::find(&[], &plan::plan(&world()), &facts, &options(), None), [], "it was not seen again");
}

/// Of a speaker that has started, and knows these acceptors.
fn started(members: &[&str]) -> Facts {
    let view = View { ready: true, members: Epoch::new(1, members.iter().copied()).members, ..View::default() };
    Facts { commands: 1, view, ..Facts::default() }
}

fn reasons(facts: &Facts) -> Vec<String> {
    let found = warnings::find(&[], &plan::plan(&world()), facts, &options(), None);
    found.into_iter().map(|w| w.reason).collect()
}

#[test]
fn a_node_that_hears_no_other_says_which_port_may_be_blocked() {
    let mut facts = started(&["n1"]);
    let found = warnings::find(&[], &plan::plan(&world()), &facts, &options(), None);
    assert_eq!(found[0].reason, "HearsNobody");
    assert!(found[0].message.contains("UDP port 7946"), "{found:?}");
    facts.view.blocked = true;
    assert_eq!(reasons(&facts), ["PortBlocked"], "others answer for addresses, so they are there");
    facts = started(&["n1"]);
    facts.view.alive.insert("n2".to_owned());
    assert!(reasons(&facts).is_empty());
}

#[test]
fn what_keeps_speakers_from_agreeing_is_named() {
    let mut facts = started(&[]);
    facts.view.alive.insert("n2".to_owned());
    assert_eq!(reasons(&facts), ["NoAcceptors"]);
    facts.view.members.insert("n2".to_owned());
    facts.view.lost_record = true;
    facts.view.refused_epoch = Some(Epoch::new(2, ["n1"]).id());
    let owned = Owned { since: Tick::ZERO, until: Tick::ZERO, without_majority: true };
    facts.view.owned.insert("10.0.0.100".parse().unwrap(), owned);
    assert_eq!(reasons(&facts), ["EpochRefused", "RecordLost", "WithoutMajority"]);
}

#[test]
fn addresses_that_nobody_or_several_answer_for_are_named_while_another_node_owns_them() {
    let mut facts = started(&["n1"]);
    facts.view.alive.insert("n2".to_owned());
    let ip = "10.0.0.100".parse().unwrap();
    facts.probed.insert(ip, Probed::Unanswered);
    assert!(reasons(&facts).is_empty(), "nobody owns it");
    facts.view.owners.insert(ip, "n2".into());
    assert_eq!(reasons(&facts), ["NotAnswered"]);
    facts.probed.insert(ip, Probed::Right);
    assert!(reasons(&facts).is_empty());
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    facts.probed.insert(ip, Probed::Foreign { mac, times: 1 });
    assert!(reasons(&facts).is_empty(), "the owner may have changed meanwhile");
    facts.probed.insert(ip, Probed::Foreign { mac, times: 2 });
    assert_eq!(reasons(&facts), ["AnsweredByStranger"]);
    facts.probed.insert(ip, Probed::Several([mac, MacAddr([2, 0, 0, 0, 0, 2])].into()));
    assert_eq!(reasons(&facts), ["AnsweredTwice"]);
    facts.silent_gateways.insert((IfIndex(2), "10.0.0.1".parse().unwrap()));
    assert_eq!(reasons(&facts), ["AnsweredTwice", "GatewaySilent"]);
    facts.silent_gateways.clear();
    facts.probed.clear();
    facts.taken.insert(ip, (IfIndex(2), MacAddr([2, 0, 0, 0, 0, 9])));
    assert_eq!(reasons(&facts), ["AddressTaken"]);
}

#[test]
fn the_speaker_says_since_when_it_owns_an_address_and_forgets_what_it_lost() {
    let plan = plan::plan(&world());
    let mut status = Status::new(&options());
    let mut facts = Facts::default();
    facts.owned.insert("10.0.0.100".parse().unwrap(), Arc::new(["eth0".to_owned()].into()));
    status.observe(&facts, &plan);
    let first = status.status(&facts, &plan, None, Vec::new(), true);
    assert_eq!((first.owns, first.addresses[0].pool.as_str(), first.addresses[0].interfaces.len()), (1, "l2", 1));
    assert!(!first.addresses[0].since.is_empty());
    assert_eq!(status.status(&facts, &plan, None, Vec::new(), true), first, "nothing changed, so nothing is written");
    facts.owned.clear();
    status.observe(&facts, &plan);
    let stopped = status.status(&facts, &plan, None, Vec::new(), false);
    assert_eq!((stopped.owns, stopped.conditions[0].status.as_str()), (0, "False"));
}
