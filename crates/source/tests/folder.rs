//! The source on a folder of YAML.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

#[expect(dead_code, reason = "the API server is of no use here")]
mod support;

use api::{Condition, EipStatus, Ownership, Scope, ServiceKey, SpeakerStatus, keys};
use oxelb_source::{Event, Interest, Object, ObjectRef, ServicePatch, Store, Write, WriteError};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Told, until};
use tempfile::TempDir;
use tokio::sync::watch;

const POOL: &str =
    "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: p}\nspec: {address: 10.0.0.0/24}\n";

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations: {{{}: openelb}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n",
        keys::OPT_IN
    )
}

fn slice(name: &str, service: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: {name}, labels: {{{}: {service}}}}}\nendpoints: [{{addresses: [10.1.0.1], nodeName: n}}]\n",
        keys::SLICE_SERVICE
    )
}

fn put(dir: &TempDir, name: &str, text: &str) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

fn open(dir: &Path) -> Store {
    Store::folder(dir.to_owned()).unwrap()
}

type Needs = watch::Sender<BTreeSet<ServiceKey>>;

fn start(store: &Store) -> (Told, Needs) {
    let interest = Interest {
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
    };
    let (needs, needed) = watch::channel(BTreeSet::new());
    (Told::new(store.watch(interest, needed)), needs)
}

fn patch(told: &Told, name: &str, address: &str) -> ServicePatch {
    let service = told.service("default", name).unwrap();
    let mut patch = ServicePatch::of(service);
    patch.ingress = Some(vec![address.parse().unwrap()]);
    patch.pool_label = Some(Some("p".into()));
    patch.set_condition(service, Condition::new(keys::ADDRESS_ASSIGNED, true, "Assigned", "it has an address"));
    patch
}

fn address(told: &Told, name: &str) -> Option<String> {
    told.service("default", name)?.ingress.first().map(ToString::to_string)
}

#[tokio::test]
async fn everything_in_the_folder_is_read_and_kept_current() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "pool.yaml", POOL);
    put(
        &dir,
        "services.yml",
        &format!("{}---\n{}---\nkind: Deployment\napiVersion: apps/v1\n", service("a"), service("b")),
    );
    put(&dir, "node.json", r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#);
    put(&dir, "README.md", "not: [yaml");
    put(&dir, ".hidden.yaml", "not: [yaml");
    let (mut told, _needs) = start(&open(dir.path()));
    told.until_event(Event::Reachable(Ok(()))).await;
    assert!(told.all.contains(&Event::Synced));
    let there: Vec<String> = told.objects.keys().map(ToString::to_string).collect();
    assert_eq!(there, ["Eip p", "Service default/a", "Service default/b", "Node n"]);

    put(&dir, "services.yml", &service("b"));
    told.until("a's end", |told| told.service("default", "a").is_none()).await;
    put(&dir, "pool.yaml", &POOL.replace("/24", "/25"));
    told.until("the new range", |told| {
        matches!(&told.objects[&ObjectRef::Pool("p".into())], Object::Pool(pool) if pool.spec.address == "10.0.0.0/25")
    })
    .await;
    std::fs::remove_file(dir.path().join("pool.yaml")).unwrap();
    told.until("the pool's end", |told| !told.objects.contains_key(&ObjectRef::Pool("p".into()))).await;
    assert_eq!(
        told.all
            .iter()
            .filter(|e| format!("{e:?}").contains("Apply(Service(Service { key: ServiceKey(\"default/b\")"))
            .count(),
        1,
        "b never changed"
    );
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_version_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.yaml", &service("a"));
    put(&dir, "b.yaml", &service("b"));
    let store = open(dir.path());
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    store.write(Write::Service(patch(&told, "a", "10.0.0.1"))).await.unwrap();
    told.until("the address", |told| address(told, "a").is_some()).await;

    put(&dir, "a.yaml", &format!("{}  bad: [\n", service("a")));
    let broken = |told: &Told, line: &str| {
        told.all
            .iter()
            .any(|e| matches!(e, Event::Broken { file, message: Some(m) } if file == "a.yaml" && m.starts_with(line)))
    };
    told.until("the complaint", |told| broken(told, "line 7:")).await;
    let text = std::fs::read_to_string(dir.path().join("status/broken.txt")).unwrap();
    assert!(text.starts_with("a.yaml: line 7:"), "{text}");
    assert_eq!(address(&told, "a").as_deref(), Some("10.0.0.1"));

    // Other files go on, and a process that starts now knows the good version too.
    put(&dir, "b.yaml", &service("c"));
    told.until("the other file", |told| told.service("default", "c").is_some()).await;
    let (mut second, _needs) = start(&open(dir.path()));
    second.until_event(Event::Synced).await;
    assert_eq!(address(&second, "a").as_deref(), Some("10.0.0.1"));
    assert!(broken(&second, "line 7:"));

    put(&dir, "a.yaml", &service("a"));
    told.until_event(Event::Broken { file: "a.yaml".into(), message: None }).await;
    until("the end of broken.txt", async || !dir.path().join("status/broken.txt").exists()).await;
    assert_eq!(address(&told, "a").as_deref(), Some("10.0.0.1"));
}

#[tokio::test]
async fn while_an_unknown_file_is_broken_no_status_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.yaml", &service("a"));
    put(&dir, "b.yaml", &service("b"));
    {
        let store = open(dir.path());
        let (mut told, _needs) = start(&store);
        told.until_event(Event::Synced).await;
        for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
            store.write(Write::Service(patch(&told, name, ip))).await.unwrap();
        }
    }
    std::fs::remove_dir_all(dir.path().join("status/last-good")).unwrap();
    put(&dir, "a.yaml", "broken: [");
    let (mut told, _needs) = start(&open(dir.path()));
    told.until_event(Event::Synced).await;
    std::fs::remove_file(dir.path().join("b.yaml")).unwrap();
    told.until("b's end", |told| told.service("default", "b").is_none()).await;
    put(&dir, "a.yaml", &service("a"));
    told.until("a", |told| told.service("default", "a").is_some()).await;
    assert_eq!(address(&told, "a").as_deref(), Some("10.0.0.1"));
}

#[tokio::test]
async fn status_comes_back_to_every_reader_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "all.yaml", &format!("{POOL}---\n{}", service("a")));
    let (controller, speaker) = (open(dir.path()), open(dir.path()));
    let (mut told, _needs) = start(&controller);
    let (mut other, _needs) = start(&speaker);
    told.until_event(Event::Synced).await;
    other.until_event(Event::Synced).await;

    let version = controller.write(Write::Service(patch(&told, "a", "10.0.0.1"))).await.unwrap().unwrap();
    for told in [&mut told, &mut other] {
        told.until("the address", |told| address(told, "a").is_some()).await;
        let service = told.service("default", "a").unwrap();
        assert_eq!((service.pool_label.as_deref(), &service.resource_version), (Some("p"), &version));
        assert_eq!(service.condition(keys::ADDRESS_ASSIGNED).unwrap().reason, "Assigned");
    }
    let used = [("10.0.0.1".to_owned(), "default/a".to_owned())].into();
    let status = EipStatus { usage: 1, pool_size: 256, used, v4: true, ..EipStatus::default() };
    controller.write(Write::PoolStatus { name: "p".into(), status: Box::new(status.clone()) }).await.unwrap();
    let status_of = SpeakerStatus { version: "1".into(), owns: 3, ..SpeakerStatus::default() };
    speaker.write(Write::Speaker { node: "node.1".into(), status: Box::new(status_of.clone()) }).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("status/Service.default.a.yaml")).unwrap();
    assert!(!text.contains("spec") && !text.contains(keys::OPT_IN), "{text}");

    let (mut again, _needs) = start(&open(dir.path()));
    again.until_event(Event::Synced).await;
    assert_eq!(again.objects.len(), 3);
    assert_eq!(again.service("default", "a"), told.service("default", "a"));
    for told in [&mut told, &mut other, &mut again] {
        told.until("the pool's and the Speaker's status", |told| {
            let (pool, speaker) = (ObjectRef::Pool("p".into()), ObjectRef::Speaker("node.1".into()));
            matches!(&told.objects[&pool], Object::Pool(pool) if pool.status.as_ref() == Some(&status))
                && matches!(told.objects.get(&speaker), Some(Object::Speaker(s)) if s.status.as_ref() == Some(&status_of))
        })
        .await;
    }
}

#[tokio::test]
async fn a_write_that_rests_on_a_stale_view_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.yaml", &service("a"));
    let (one, two) = (open(dir.path()), open(dir.path()));
    let (mut told, _needs) = start(&one);
    told.until_event(Event::Synced).await;
    let stale = patch(&told, "a", "10.0.0.1");
    // Another process writes first; this one may not have seen it.
    two.write(Write::Service(patch(&told, "a", "10.0.0.2"))).await.unwrap();
    assert_eq!(one.write(Write::Service(stale.clone())).await, Err(WriteError::Conflict));
    told.until("the other's address", |told| address(told, "a").as_deref() == Some("10.0.0.2")).await;
    one.write(Write::Service(patch(&told, "a", "10.0.0.3"))).await.unwrap();
    told.until("the address", |told| address(told, "a").as_deref() == Some("10.0.0.3")).await;

    // The user's change counts as well.
    let stale = patch(&told, "a", "10.0.0.4");
    put(&dir, "a.yaml", &service("a").replace("port: 80", "port: 81"));
    told.until("the port", |told| told.service("default", "a").unwrap().ports[0].port == 81).await;
    assert_eq!(one.write(Write::Service(stale.clone())).await, Err(WriteError::Conflict));
    let gone = ServicePatch { key: ServiceKey::new("default", "nothing"), ..stale };
    assert_eq!(one.write(Write::Service(gone)).await, Err(WriteError::Gone));
}

#[tokio::test]
async fn a_deleted_service_leaves_no_status_but_one_that_is_saved_anew_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.yaml", &service("a"));
    put(&dir, "b.yaml", &service("b"));
    let store = open(dir.path());
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        store.write(Write::Service(patch(&told, name, ip))).await.unwrap();
    }
    // An editor that saves by moving the old file away.
    std::fs::rename(dir.path().join("b.yaml"), dir.path().join("b.yaml~")).unwrap();
    put(&dir, "b.yaml", &service("b").replace("port: 80", "port: 81"));
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    told.until("a's end", |told| told.service("default", "a").is_none()).await;
    assert!(!dir.path().join("status/Service.default.a.yaml").exists());
    put(&dir, "a.yaml", &service("a"));
    told.until("a's return", |told| told.service("default", "a").is_some()).await;
    assert_eq!(address(&told, "a"), None);
    told.until("b's port", |told| told.service("default", "b").is_some_and(|b| b.ports[0].port == 81)).await;
    assert_eq!(address(&told, "b").as_deref(), Some("10.0.0.2"));
    assert!(
        told.all.iter().all(
            |e| !matches!(e, Event::Change(oxelb_source::Change::Delete(r)) if r.to_string() == "Service default/b")
        )
    );
}

#[tokio::test]
async fn an_object_in_two_files_is_read_from_the_first_and_the_second_is_named() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.yaml", &service("s"));
    put(&dir, "b.yaml", &service("s").replace("port: 80", "port: 81"));
    let (mut told, _needs) = start(&open(dir.path()));
    let complaint = "Service default/s is in a.yaml too, which counts".to_owned();
    told.until_event(Event::Broken { file: "b.yaml".into(), message: Some(complaint) }).await;
    assert_eq!(told.service("default", "s").unwrap().ports[0].port, 80);
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    told.until("the second", |told| told.service("default", "s").unwrap().ports[0].port == 81).await;
    told.until_event(Event::Broken { file: "b.yaml".into(), message: None }).await;
}

#[tokio::test]
async fn slices_come_and_go_with_the_need() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "slices.yaml", &format!("{}---\n{}", slice("a-1", "a"), slice("b-1", "b")));
    let (mut told, needs) = start(&open(dir.path()));
    told.until_event(Event::Synced).await;
    assert!(told.objects.is_empty());
    needs.send_replace([ServiceKey::new("default", "a")].into());
    told.until_event(Event::SlicesRead(ServiceKey::new("default", "a"))).await;
    let names: Vec<String> = told.objects.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["EndpointSlice default/a-1"]);
    needs.send_replace(BTreeSet::new());
    told.until("the end of the need", |told| told.objects.is_empty()).await;
}

#[tokio::test]
async fn the_first_memberlist_key_stays_and_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    one.write(Write::Memberlist { key: vec![1, 2, 255] }).await.unwrap();
    two.write(Write::Memberlist { key: vec![4] }).await.unwrap();
    let (mut told, _needs) = start(&two);
    told.until_event(Event::Synced).await;
    assert_eq!(told.objects[&ObjectRef::Memberlist], Object::Memberlist(vec![vec![1, 2, 255]]));
    let file = dir.path().join("status/Secret.memberlist.yaml");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    // A manifest of the user goes before it, with the key to rotate from.
    put(
        &dir,
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: memberlist}\nstringData: {key: new, old: old}\n",
    );
    let keys = Object::Memberlist(vec![b"new".to_vec(), b"old".to_vec()]);
    told.until("the user's keys", |told| told.objects[&ObjectRef::Memberlist] == keys).await;
}

#[tokio::test]
async fn acceptors_are_replaced_only_as_they_were_read_and_a_manifest_is_where_they_begin() {
    let dir = tempfile::tempdir().unwrap();
    put(
        &dir,
        "acceptors.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: oxelb-ownership}\ndata: {epoch: \"4\", members: n1 n2 n3}\n",
    );
    let store = open(dir.path());
    let (mut told, _needs) = start(&store);
    told.until_event(Event::Synced).await;
    let begin = Ownership { epoch: 4, members: ["n1", "n2", "n3"].map(str::to_owned).into(), ..Default::default() };
    assert_eq!(told.objects[&ObjectRef::Ownership], Object::Ownership(Ok(begin.clone())));
    let next = Ownership { epoch: 5, members: ["n1".to_owned()].into(), ..begin.clone() };
    let write = |read: Option<&Ownership>, write: &Ownership| Write::Ownership {
        read: read.cloned().map(Box::new),
        write: Box::new(write.clone()),
    };
    assert_eq!(store.write(write(None, &next)).await, Err(WriteError::Conflict));
    store.write(write(Some(&begin), &next)).await.unwrap();
    assert_eq!(store.write(write(Some(&begin), &next)).await, Err(WriteError::Conflict));
    told.until("the next set", |told| told.objects[&ObjectRef::Ownership] == Object::Ownership(Ok(next.clone()))).await;
    put(
        &dir,
        "acceptors.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: oxelb-ownership}\ndata: {epoch: \"9\", members: \"\"}\n",
    );
    told.until("nonsense is told", |told| matches!(told.objects[&ObjectRef::Ownership], Object::Ownership(Err(_))))
        .await;
}

#[tokio::test]
async fn a_folder_that_vanishes_is_told_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.yaml"), service("a")).unwrap();
    let (mut told, _needs) = start(&open(&folder));
    told.until_event(Event::Reachable(Ok(()))).await;
    let away = dir.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    told.until("the complaint", |told| matches!(told.all.last(), Some(Event::Reachable(Err(_))))).await;
    assert!(told.service("default", "a").is_some());
    std::fs::rename(&away, &folder).unwrap();
    told.until("its return", |told| matches!(told.all.last(), Some(Event::Reachable(Ok(()))))).await;
    assert!(told.service("default", "a").is_some());
    assert!(Store::folder(dir.path().join("nothing")).is_err());
}

#[tokio::test]
async fn the_tasks_end_with_their_reader() {
    let dir = tempfile::tempdir().unwrap();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (mut told, _needs) = start(&open(dir.path()));
    told.until_event(Event::Synced).await;
    drop(told);
    until("the end", async || tokio::runtime::Handle::current().metrics().num_alive_tasks() == before).await;
}
