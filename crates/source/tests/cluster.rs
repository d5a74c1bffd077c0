//! The source on a real kube-apiserver with etcd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use api::bgp_conf::NodeConfStatus;
use api::bgp_peer::{NodePeerStatus, PeerState};
use api::{
    BgpConf, BgpPeer, Condition, Eip, EipSpec, EipStatus, Ownership, Scope, Service, ServiceKey, Speaker,
    SpeakerStatus, keys,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use libtest_mimic::{Arguments, Trial};
use oxelb_source::{Event, Interest, Object, ObjectRef, ServicePatch, Store, Write, WriteError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{Server, Told, crds, free_port, until};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::sync::watch;

type Needs = watch::Sender<BTreeSet<ServiceKey>>;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1); // they share one API server, and some restart it
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let runtime = Arc::new(Runtime::new().unwrap());
    let server = Arc::new(Mutex::new(Server::start()));
    let conclusion = libtest_mimic::run(&arguments, trials(Some((runtime, server.clone()))));
    drop(server); // exit() below drops nothing
    conclusion.exit();
}

type Shared = (Arc<Runtime>, Arc<Mutex<Server>>);

fn trials(shared: Option<Shared>) -> Vec<Trial> {
    macro_rules! trials {
        ($($name:ident),* $(,)?) => { vec![$({
            let shared = shared.clone();
            Trial::test(stringify!($name), move || {
                let Some((runtime, server)) = shared else { return Err("there is no server".into()) };
                runtime.block_on(async { $name(&mut *server.lock().await).await });
                Ok(())
            })
        }),*] };
    }
    trials![
        a_missing_crd_is_told_and_waited_for,
        objects_are_read_reduced_and_kept_current,
        one_request_writes_label_ingress_and_conditions,
        a_stale_or_bad_write_is_told_apart,
        pool_status_is_replaced_as_a_whole,
        a_speaker_is_made_when_it_is_missing,
        each_node_writes_and_takes_back_its_own_entry_of_bgp,
        the_first_memberlist_key_stays,
        acceptors_are_replaced_only_as_they_were_read,
        events_are_seen_by_users,
        slices_come_and_go_with_the_need,
        what_was_deleted_while_the_api_server_was_away_is_told,
    ]
}

async fn store(server: &Server) -> (Store, Client) {
    let store = Store::cluster(Some(server.kubeconfig(server.port).await), "openelb-system".into()).await.unwrap();
    let client = store.client().unwrap();
    server.ready(&client).await;
    (store, client)
}

/// A store of a server that has the CRDs and the namespace.
async fn prepared(server: &Server) -> (Store, Client) {
    let (store, client) = store(server).await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        match api.create(&PostParams::default(), &crd).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other.unwrap()),
        }
    }
    until("the CRDs", async || {
        let eips: Api<Eip> = Api::all(client.clone());
        let speakers: Api<Speaker> = Api::all(client.clone());
        let peers: Api<BgpPeer> = Api::all(client.clone());
        let confs: Api<BgpConf> = Api::all(client.clone());
        peers.list(&ListParams::default()).await.is_ok()
            && confs.list(&ListParams::default()).await.is_ok()
            && eips.list(&ListParams::default()).await.is_ok()
            && speakers.list(&ListParams::default()).await.is_ok()
    })
    .await;
    create(&client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "openelb-system"}})).await;
    (store, client)
}

fn interest() -> Interest {
    Interest {
        scope: Scope::default(),
        namespace: "openelb-system".into(),
        namespaces: true,
        nodes: true,
        slices: true,
        speakers: true,
        memberlist: true,
        ownership: true,
        bgp: true,
        policies: true,
    }
}

fn start(store: &Store) -> (Told, Needs) {
    let (needs, needed) = watch::channel(BTreeSet::new());
    (Told::new(store.watch(interest(), needed)), needs)
}

/// Makes an object, unless it is there.
async fn create(client: &Client, object: Value) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind, namespace) = (text("/apiVersion"), text("/kind").to_lowercase(), text("/metadata/namespace"));
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let request = kube::core::Request::new(format!("{root}{within}/{kind}s"));
    let request = request.create(&PostParams::default(), object.to_string().into_bytes()).unwrap();
    match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other.unwrap()),
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": {keys::OPT_IN: "openelb"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    })
}

fn slice(name: &str, service: &str, node: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "default", "labels": {keys::SLICE_SERVICE: service}},
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": node, "conditions": {"ready": true}}],
    })
}

async fn made(client: &Client, name: &str) -> Service {
    create(client, service(name)).await;
    read(client, name).await
}

async fn read(client: &Client, name: &str) -> Service {
    Service::read(&raw(client, name).await, Scope { default_load_balancer: true }).unwrap()
}

async fn raw(client: &Client, name: &str) -> core::Service {
    Api::<core::Service>::namespaced(client.clone(), "default").get(name).await.unwrap()
}

async fn a_missing_crd_is_told_and_waited_for(server: &mut Server) {
    let (store, _) = store(server).await;
    let (mut told, _needs) = start(&store);
    told.until("the reason", |told| {
        told.all.iter().any(|e| matches!(e, Event::Reachable(Err(text)) if text.contains("apply deploy/openelb.yaml")))
    })
    .await;
    assert!(!told.all.contains(&Event::Synced));
    prepared(server).await;
    told.until_event(Event::Synced).await;
    told.until_event(Event::Reachable(Ok(()))).await;
}

async fn objects_are_read_reduced_and_kept_current(server: &mut Server) {
    let (store, client) = prepared(server).await;
    create(&client, service("ours")).await;
    create(
        &client,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "foreign", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}),
    )
    .await;
    create(&client, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"a": "b"}}}))
        .await;
    let pools: Api<Eip> = Api::all(client.clone());
    let pool = Eip::new("read", EipSpec { address: "10.9.0.1".into(), ..EipSpec::default() });
    pools.create(&PostParams::default(), &pool).await.unwrap();
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    told.until_event(Event::Reachable(Ok(()))).await;
    assert!(told.service("default", "ours").unwrap().served);
    assert_eq!(told.service("default", "foreign"), None);
    let Some(Object::Pool(pool)) = told.objects.get(&ObjectRef::Pool("read".into())) else { panic!("no pool") };
    assert_eq!((&*pool.spec.address, &pool.metadata.managed_fields), ("10.9.0.1", &None));
    assert!(told.objects.contains_key(&ObjectRef::Namespace("default".into())));

    // A change that nobody reads is not told; the next one that is read is.
    let nodes: Api<core::Node> = Api::all(client.clone());
    for patch in [json!({"metadata": {"annotations": {"x": "y"}}}), json!({"metadata": {"labels": {"a": "c"}}})] {
        nodes.patch("node-1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    let node = |told: &Told| told.objects.get(&ObjectRef::Node("node-1".into())).cloned();
    told.until("the label", |told| matches!(node(told), Some(Object::Node(n)) if n.labels["a"] == "c")).await;
    let of_node = told.all.iter().filter(|e| format!("{e:?}").contains("Apply(Node(")).count();
    assert_eq!(of_node, 2, "once at the start, once for the label");

    // A Service that is not ours any more goes, as does one that is deleted; a foreign one may become ours.
    let services: Api<core::Service> = Api::namespaced(client.clone(), "default");
    let opt = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {keys::OPT_IN: value}}}));
    services.patch("ours", &PatchParams::default(), &opt(json!(null))).await.unwrap();
    services.patch("foreign", &PatchParams::default(), &opt(json!("openelb"))).await.unwrap();
    told.until("the swap", |t| t.service("default", "ours").is_none() && t.service("default", "foreign").is_some())
        .await;
    services.delete("foreign", &DeleteParams::default()).await.unwrap();
    pools.delete("read", &DeleteParams::default()).await.unwrap();
    told.until("the deletions", |told| {
        told.service("default", "foreign").is_none() && !told.objects.contains_key(&ObjectRef::Pool("read".into()))
    })
    .await;
}

async fn one_request_writes_label_ingress_and_conditions(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let mut object = service("written");
    object["metadata"]["finalizers"] = json!([keys::LEGACY_SERVICE_FINALIZER, "other.io/finalizer"]);
    create(&client, object).await;
    let services: Api<core::Service> = Api::namespaced(client.clone(), "default");
    let time = "2026-01-02T03:04:05Z";
    let foreign =
        json!({"type": "other.io/C", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": time});
    let patch = Patch::Merge(json!({"status": {"conditions": [foreign]}}));
    services.patch_status("written", &PatchParams::default(), &patch).await.unwrap();

    let before = read(&client, "written").await;
    let mut patch = ServicePatch::of(&before);
    patch.ingress = Some(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
    patch.pool_label = Some(Some("p".into()));
    patch.remove_finalizer = true;
    patch.set_condition(&before, Condition::new(keys::ADDRESS_ASSIGNED, true, "Assigned", "it has an address"));
    patch.set_condition(&before, Condition::new(keys::ANNOUNCED, false, "NoNode", "none"));
    let version = store.write(Write::Service(patch)).await.unwrap().unwrap();

    let found = raw(&client, "written").await;
    assert_eq!(found.resource_version(), Some(version));
    assert_eq!(found.metadata.finalizers, Some(vec!["other.io/finalizer".to_owned()]));
    let ingress = found.status.as_ref().unwrap().load_balancer.as_ref().unwrap().ingress.clone().unwrap();
    let modes: Vec<_> = ingress.iter().map(|i| (i.ip.as_deref().unwrap(), i.ip_mode.as_deref().unwrap())).collect();
    assert_eq!(modes, [("10.0.0.1", "VIP"), ("fd00::1", "VIP")]);
    let first = read(&client, "written").await;
    assert_eq!(first.pool_label.as_deref(), Some("p"));
    let types: BTreeSet<&str> = first.conditions.iter().map(|c| &*c.type_).collect();
    assert_eq!(types, [keys::ADDRESS_ASSIGNED, keys::ANNOUNCED, "other.io/C"].into());
    assert_eq!(first.condition("other.io/C").unwrap().last_transition_time, time);

    // The next write takes one address away, changes a condition's text only, and removes another.
    let mut patch = ServicePatch::of(&first);
    patch.ingress = Some(vec!["fd00::1".parse().unwrap()]);
    patch.set_condition(&first, Condition::new(keys::ADDRESS_ASSIGNED, true, "Assigned", "it has one address"));
    patch.remove_conditions = vec![keys::ANNOUNCED.to_owned()];
    store.write(Write::Service(patch)).await.unwrap();
    let second = read(&client, "written").await;
    assert_eq!(second.ingress, ["fd00::1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(second.pool_label.as_deref(), Some("p"), "what is not named stays");
    assert_eq!(second.condition(keys::ANNOUNCED), None);
    let (now, then) =
        (second.condition(keys::ADDRESS_ASSIGNED).unwrap(), first.condition(keys::ADDRESS_ASSIGNED).unwrap());
    assert_eq!((&*now.message, &now.last_transition_time), ("it has one address", &then.last_transition_time));

    // And everything goes.
    let mut patch = ServicePatch::of(&second);
    patch.ingress = Some(vec![]);
    patch.pool_label = Some(None);
    patch.remove_conditions = vec![keys::ADDRESS_ASSIGNED.to_owned()];
    store.write(Write::Service(patch)).await.unwrap();
    let last = read(&client, "written").await;
    assert_eq!((last.has_ingress, last.pool_label, last.conditions.len()), (false, None, 1));
    let clear = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    services.patch("written", &PatchParams::default(), &clear).await.unwrap();
}

async fn a_stale_or_bad_write_is_told_apart(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let stale = made(&client, "stale").await;
    let services: Api<core::Service> = Api::namespaced(client.clone(), "default");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"x": "y"}}}));
    services.patch("stale", &PatchParams::default(), &patch).await.unwrap();
    let mut patch = ServicePatch::of(&stale);
    patch.ingress = Some(vec!["10.0.0.1".parse().unwrap()]);
    patch.pool_label = Some(Some("p".into()));
    assert_eq!(store.write(Write::Service(patch.clone())).await, Err(WriteError::Conflict));
    let found = read(&client, "stale").await;
    assert_eq!((found.ingress.len(), found.pool_label), (0, None), "nothing of it was done");

    patch.resource_version = read(&client, "stale").await.resource_version;
    patch.pool_label = Some(Some("not a label".into()));
    let refused = store.write(Write::Service(patch.clone())).await;
    assert!(matches!(&refused, Err(WriteError::Refused(text)) if text.contains("not a label")), "{refused:?}");

    patch.key = ServiceKey::new(patch.key.namespace(), "nothing");
    assert_eq!(store.write(Write::Service(patch)).await, Err(WriteError::Gone));
    let status = Box::new(EipStatus::default());
    assert_eq!(store.write(Write::PoolStatus { name: "nothing".into(), status }).await, Err(WriteError::Gone));
}

async fn pool_status_is_replaced_as_a_whole(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let pools: Api<Eip> = Api::all(client.clone());
    let mut pool = Eip::new("status", EipSpec { address: "10.0.0.0/30".into(), ..EipSpec::default() });
    pool.metadata.finalizers = Some(vec!["other.io/f".into(), keys::LEGACY_POOL_FINALIZER.into()]);
    pools.create(&PostParams::default(), &pool).await.unwrap();
    let write = async |status: EipStatus| {
        store.write(Write::PoolStatus { name: "status".into(), status: Box::new(status) }).await.unwrap();
        pools.get("status").await.unwrap().status.unwrap()
    };
    let used = [("10.0.0.1".to_owned(), "a/b".to_owned())].into();
    let full = EipStatus {
        occupied: true,
        usage: 1,
        pool_size: 4,
        used,
        conditions: vec![Condition::new("Ready", true, "Good", "")],
        ..EipStatus::default()
    };
    let found = write(full.clone()).await;
    assert!(!found.conditions[0].last_transition_time.is_empty());
    assert_eq!(EipStatus { conditions: vec![], ..found }, EipStatus { conditions: vec![], ..full });
    let empty = EipStatus { pool_size: 4, ..EipStatus::default() };
    assert_eq!(write(empty.clone()).await, empty);

    for _ in 0..2 {
        store.write(Write::Finalizer { of: ObjectRef::Pool("status".into()) }).await.unwrap();
    }
    assert_eq!(pools.get("status").await.unwrap().metadata.finalizers, Some(vec!["other.io/f".to_owned()]));
    let clear = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pools.patch("status", &PatchParams::default(), &clear).await.unwrap();
    pools.delete("status", &DeleteParams::default()).await.unwrap();
}

async fn a_speaker_is_made_when_it_is_missing(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    let speakers: Api<Speaker> = Api::all(client.clone());
    let status = SpeakerStatus {
        version: "1".into(),
        owns: 2,
        interfaces: [("eth0".to_owned(), vec!["10.0.0.1".to_owned()])].into(),
        conditions: vec![Condition::new("Alive", true, "Alive", "")],
        ..SpeakerStatus::default()
    };
    for status in [status, SpeakerStatus { version: "2".into(), ..SpeakerStatus::default() }] {
        let written = Box::new(status.clone());
        store.write(Write::Speaker { node: "node-1".into(), status: written }).await.unwrap();
        let found = speakers.get("node-1").await.unwrap().status.unwrap();
        assert_eq!((&found.version, found.owns, &found.interfaces), (&status.version, status.owns, &status.interfaces));
        assert_eq!(found.conditions.len(), status.conditions.len());
    }
    let speaker = |told: &Told| told.objects.get(&ObjectRef::Speaker("node-1".into())).cloned();
    told.until(
        "the Speaker",
        |told| matches!(speaker(told), Some(Object::Speaker(s)) if s.status.as_ref().is_some_and(|s| s.version == "2")),
    )
    .await;
    // Others say that it is not heard; its own next word replaces that.
    let condition = Box::new(Condition::new("Alive", false, "Unheard", ""));
    store.write(Write::SpeakerAlive { node: "node-1".into(), condition }).await.unwrap();
    let alive = async || speakers.get("node-1").await.unwrap().status.unwrap().conditions[0].status.clone();
    assert_eq!(alive().await, "False");
    let conditions = vec![Condition::new("Alive", true, "Running", "")];
    let status = Box::new(SpeakerStatus { version: "3".into(), conditions, ..SpeakerStatus::default() });
    store.write(Write::Speaker { node: "node-1".into(), status }).await.unwrap();
    assert_eq!(alive().await, "True");
    store.write(Write::SpeakerGone { node: "node-1".into() }).await.unwrap();
    told.until("the end of the Speaker", |told| speaker(told).is_none()).await;
    assert_eq!(store.write(Write::SpeakerGone { node: "node-1".into() }).await, Err(WriteError::Gone));
}

async fn each_node_writes_and_takes_back_its_own_entry_of_bgp(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let peers: Api<BgpPeer> = Api::all(client.clone());
    let confs: Api<BgpConf> = Api::all(client.clone());
    let spec = json!({"conf": {"peerAs": 65001, "neighborAddress": "192.0.2.1"}});
    for (name, kind, spec) in
        [("tor", "BgpPeer", spec), ("default", "BgpConf", json!({"as": 65000})), ("other", "BgpConf", json!({"as": 1}))]
    {
        create(&client, json!({"apiVersion": "network.kubesphere.io/v1alpha2", "kind": kind, "metadata": {"name": name}, "spec": spec})).await;
    }
    // As OpenELB leaves them: written by a manager that is not ours, of a node that is and of one that is not any more.
    let theirs =
        json!({"status": {"nodesPeerStatus": {"n1": {"peerState": {"sessionState": "IDLE", "flops": 7}}, "old": {}}}});
    peers.patch_status("tor", &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    let (peer, conf) = (ObjectRef::BgpPeer("tor".into()), ObjectRef::BgpConf("default".into()));
    let (before, all) = (told.objects.clone(), told.all.len());
    assert!(matches!(before.get(&peer), Some(Object::BgpPeer(p)) if p.status.is_none()), "{before:?}");
    assert!(before.contains_key(&conf) && !before.contains_key(&ObjectRef::BgpConf("other".into())));
    let write = async |node: &str, state: Option<&str>| {
        let peer_state = state.map(|s| PeerState { session_state: Some(s.to_owned()), ..PeerState::default() });
        let status = peer_state.map(|s| Box::new(NodePeerStatus { peer_state: Some(s), ..NodePeerStatus::default() }));
        let write = Write::BgpPeerStatus { peer: "tor".into(), node: node.into(), status };
        store.write(write).await.unwrap();
        peers.get("tor").await.unwrap().status.unwrap_or_default().nodes_peer_status
    };
    let state = |s: &NodePeerStatus| s.peer_state.clone().and_then(|p| p.session_state).unwrap_or_default();
    let long = "n".repeat(200);
    write("n1", Some("ACTIVE")).await;
    write(&long, Some("ACTIVE")).await;
    let found = write("n1", Some("ESTABLISHED")).await;
    assert_eq!((found.len(), state(&found["n1"]), state(&found[&long])), (3, "ESTABLISHED".into(), "ACTIVE".into()));
    let found = write(&long, None).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["n1", "old"]);
    assert_eq!(state(&found["n1"]), "ESTABLISHED");
    let gone = |of: &ObjectRef, node: &str| Write::BgpEntryGone { of: of.clone(), node: node.into() };
    store.write(gone(&peer, "old")).await.unwrap();
    let found = peers.get("tor").await.unwrap().status.unwrap_or_default().nodes_peer_status;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["n1"], "also what OpenELB wrote");
    let status = Some(Box::new(NodeConfStatus { router_id: "192.0.2.9".into(), asn: Some(65000), conditions: vec![] }));
    store.write(Write::BgpConfStatus { node: "n1".into(), status }).await.unwrap();
    let found = confs.get("default").await.unwrap().status.unwrap_or_default().nodes_conf_status;
    assert_eq!(found["n1"].router_id, "192.0.2.9");
    store.write(gone(&conf, "n9")).await.unwrap();
    store.write(Write::BgpConfStatus { node: "n1".into(), status: None }).await.unwrap();
    assert_eq!(confs.get("default").await.unwrap().status.unwrap_or_default().nodes_conf_status.len(), 0);
    // What speakers write wakes no reader.
    let spec = json!({"spec": {"as": 65009}});
    confs.patch("default", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
    let asn = |told: &Told| match told.objects.get(&conf) {
        Some(Object::BgpConf(c)) => c.spec.asn,
        _ => None,
    };
    told.until("the edit", |told| asn(told) == Some(65009)).await;
    let news: Vec<_> = told.all[all..].iter().filter(|e| matches!(e, Event::Change(_))).collect();
    assert_eq!(news.len(), 1, "{news:?}");
    // Deleted is gone, although a finalizer of OpenELB keeps the object (D15).
    let finalizers = json!({"metadata": {"finalizers": ["finalizer.lb.kubesphere.io/v1alpha1"]}});
    peers.patch("tor", &PatchParams::default(), &Patch::Merge(finalizers)).await.unwrap();
    peers.delete("tor", &DeleteParams::default()).await.unwrap();
    told.until("the end of the BgpPeer", |told| told.objects.get(&peer).is_some_and(Object::being_deleted)).await;
    store.write(Write::Finalizer { of: peer.clone() }).await.unwrap();
    told.until("that it is gone", |told| !told.objects.contains_key(&peer)).await;
    store.write(Write::BgpPeerStatus { peer: "none".into(), node: "n1".into(), status: None }).await.unwrap_err();
}

async fn the_first_memberlist_key_stays(server: &mut Server) {
    let (store, _client) = prepared(server).await;
    for key in [vec![1, 2, 3], vec![4, 5, 6]] {
        store.write(Write::Memberlist { key }).await.unwrap();
    }
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    assert_eq!(told.objects.get(&ObjectRef::Memberlist), Some(&Object::Memberlist(vec![vec![1, 2, 3]])));
}

async fn acceptors_are_replaced_only_as_they_were_read(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let first = Ownership { epoch: 1, members: ["n1".to_owned()].into(), ..Default::default() };
    let second = Ownership { epoch: 2, members: ["n1", "n2"].map(str::to_owned).into(), ..first.clone() };
    let write = |read: Option<&Ownership>, write: &Ownership| Write::Ownership {
        read: read.cloned().map(Box::new),
        write: Box::new(write.clone()),
    };
    store.write(write(None, &first)).await.unwrap();
    assert_eq!(store.write(write(None, &second)).await, Err(WriteError::Conflict));
    store.write(write(Some(&first), &second)).await.unwrap();
    assert_eq!(store.write(write(Some(&first), &second)).await, Err(WriteError::Conflict));
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    assert_eq!(told.objects[&ObjectRef::Ownership], Object::Ownership(Ok(second)));
    let maps: Api<core::ConfigMap> = Api::namespaced(client, "openelb-system");
    maps.delete(api::keys::OWNERSHIP, &DeleteParams::default()).await.unwrap();
    told.until("its end", |told| !told.objects.contains_key(&ObjectRef::Ownership)).await;
}

async fn events_are_seen_by_users(server: &mut Server) {
    let (store, client) = prepared(server).await;
    let service = made(&client, "eventful").await;
    let key = service.key.clone();
    for (about, uid) in [(ObjectRef::Service(key), service.uid), (ObjectRef::Pool("p".into()), String::new())] {
        let write = Write::Event {
            about,
            uid,
            component: "OpenELBController",
            warning: true,
            reason: "AssignIPFailed",
            message: "é".repeat(1000), // longer than the API takes
        };
        store.write(write).await.unwrap();
    }
    let found: Api<events::Event> = Api::namespaced(client, "default");
    let found = found.list(&ListParams::default()).await.unwrap();
    let about = |kind: &str| {
        let of_kind = |e: &&events::Event| e.regarding.as_ref().unwrap().kind.as_deref() == Some(kind);
        found.iter().filter(of_kind).find(|e| e.reporting_controller.as_deref() == Some("OpenELBController")).unwrap()
    };
    for event in [about("Service"), about("Eip")] {
        assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Warning"), Some("AssignIPFailed")));
    }
}

async fn slices_come_and_go_with_the_need(server: &mut Server) {
    let (store, client) = prepared(server).await;
    for (name, service) in [("a-1", "a"), ("b-1", "b"), ("c-1", "c")] {
        create(&client, slice(name, service, "node-1")).await;
    }
    let key = |name: &str| ServiceKey::new("default", name);
    let slices = |told: &Told| -> BTreeSet<String> {
        let names = told.objects.keys().filter_map(|r| match r {
            ObjectRef::Slice(key) => Some(key.name().to_owned()),
            _ => None,
        });
        names.collect()
    };
    let want = |needs: &Needs, names: &[&str]| drop(needs.send_replace(names.iter().map(|n| key(n)).collect()));
    let names = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|n| (*n).to_owned()).collect() };

    let (mut told, needs) = start(&store);
    told.until_event(Event::Synced).await;
    assert_eq!(slices(&told), names(&[]), "nobody needs any");
    want(&needs, &["a"]);
    told.until_event(Event::SlicesRead(key("a"))).await;
    assert_eq!(slices(&told), names(&["a-1"]));
    want(&needs, &["a", "b"]);
    told.until_event(Event::SlicesRead(key("b"))).await;
    assert_eq!(slices(&told), names(&["a-1", "b-1"]));

    // Changes of both come, those of others do not.
    let api: Api<discovery::EndpointSlice> = Api::namespaced(client.clone(), "default");
    create(&client, slice("c-2", "c", "node-1")).await;
    create(&client, slice("b-2", "b", "node-1")).await;
    api.delete("a-1", &DeleteParams::default()).await.unwrap();
    told.until("the changes", |told| slices(told) == names(&["b-1", "b-2"])).await;
    api.delete("b-2", &DeleteParams::default()).await.unwrap();
    told.until("the deletion", |told| slices(told) == names(&["b-1"])).await;

    want(&needs, &["c"]);
    told.until_event(Event::SlicesRead(key("c"))).await;
    assert_eq!(slices(&told), names(&["c-1", "c-2"]));
    want(&needs, &[]);
    told.until("the end of the need", |told| slices(told).is_empty()).await;

    // A reader that needs some from the start has them before it is told that it has everything.
    let (needs, needed) = watch::channel([key("c")].into());
    let mut told = Told::new(store.watch(interest(), needed));
    told.until_event(Event::Synced).await;
    assert_eq!(slices(&told), names(&["c-1", "c-2"]));
    assert!(told.all.contains(&Event::SlicesRead(key("c"))));
    drop(needs);
}

async fn what_was_deleted_while_the_api_server_was_away_is_told(server: &mut Server) {
    let (store, client) = prepared(server).await;
    for name in ["stays", "goes"] {
        create(&client, service(name)).await;
        create(&client, slice(&format!("{name}-1"), name, "node-1")).await;
    }
    let keys = ["stays", "goes"].map(|name| ServiceKey::new("default", name));
    let (needs, needed) = watch::channel(keys.into());
    let mut told = Told::new(store.watch(interest(), needed));
    told.until_event(Event::Synced).await;
    told.until_event(Event::Reachable(Ok(()))).await;
    let before = told.service("default", "stays").unwrap().clone();
    server.kill_api();
    told.until("the outage", |told| matches!(told.all.last(), Some(Event::Reachable(Err(_))))).await;
    let mut patch = ServicePatch::of(&before);
    patch.ingress = Some(vec![]);
    let failed = store.write(Write::Service(patch)).await;
    assert!(matches!(failed, Err(WriteError::Unavailable(_))), "{failed:?}");

    // Meanwhile somebody reaches the cluster by another way.
    let other = free_port();
    server.start_api(other);
    let config = server.kubeconfig(other).await;
    let elsewhere = Store::cluster(Some(config), "openelb-system".into()).await.unwrap().client().unwrap();
    server.ready(&elsewhere).await;
    let services: Api<core::Service> = Api::namespaced(elsewhere.clone(), "default");
    let slices: Api<discovery::EndpointSlice> = Api::namespaced(elsewhere.clone(), "default");
    services.delete("goes", &DeleteParams::default()).await.unwrap();
    slices.delete("goes-1", &DeleteParams::default()).await.unwrap();
    server.kill_api();
    server.start_api(server.port);

    let from = told.all.len();
    let gone = |told: &Told| told.objects.keys().all(|r| !r.to_string().contains("goes"));
    told.until("the deletions", |told| gone(told)).await;
    told.until("the return", |t| t.all.iter().skip(from).any(|e| *e == Event::Reachable(Ok(())))).await;
    assert!(told.service("default", "stays").is_some());
    let again = told.all.iter().skip(from).filter(|e| format!("{e:?}").contains("\"stays")).count();
    assert_eq!(again, 0, "what did not change is not told again");
    assert_eq!(told.all.iter().filter(|e| **e == Event::Synced).count(), 1);

    // And changes come as before.
    create(&client, service("new")).await;
    told.until("the new Service", |told| told.service("default", "new").is_some()).await;
    drop(needs);
}
