//! A cluster as OpenELB left it is taken over: not one address moves, finalizers go, and everything can be deleted afterwards.
#![allow(clippy::print_stdout, reason = "tells what it measured")]

use anyhow::{Context, Result, ensure};
use lab::cluster::Cluster;
use lab::host::Lab;
use lab::oxelb::{self, Source};
use lab::process::Process;
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, ExitCode};

const SERVICE_FINALIZER: &str = "finalizer.lb.kubesphere.io/v1alpha1";
const POOL_FINALIZER: &str = "finalizer.ipam.kubesphere.io/v1alpha1";
const BGP_FINALIZER: &str = SERVICE_FINALIZER;
const POOL_LABEL: &str = "eip.openelb.kubesphere.io/v1alpha2";
const POOL: &str = "/apis/network.kubesphere.io/v1alpha2/eips/eip-pool";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Services and the addresses that OpenELB gave them: not in the order in which a fresh allocation would.
const GIVEN: [(&str, &str); 4] =
    [("first", "192.168.0.190"), ("second", "192.168.0.180"), ("third", "192.168.0.185"), ("shares", "192.168.0.185")];
/// This one's address is only in the pool's `status.used`: it was lost on the Service.
const LOST: (&str, &str) = ("lost", "192.168.0.188");

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![("a_cluster_as_openelb_left_it_is_taken_over_without_one_address_moving", take_over)];
    suite::main(tests)
}

fn take_over(lab: &Lab) -> Result<()> {
    let cluster = Cluster::with_nodes(lab, 1)?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/openelb.yaml");
    cluster.control.kubectl(&["apply", "-f", &manifest.display().to_string()])?;
    // Pods of the manifest have no node to run on here; the webhook's configuration names nobody then, and lets all pass.
    leave_as_openelb_did(&cluster)?;
    let before = watched(&cluster)?;
    let version = before["metadata"]["resourceVersion"].as_str().context("no version")?.to_owned();

    let started = std::time::Instant::now();
    let controller = start(&cluster)?;
    for (name, address) in GIVEN.iter().chain([&LOST]) {
        controller.until("the Service is taken over", secs(20), || {
            let service = cluster.control.rest.get(&format!("{SERVICES}/{name}"))?;
            ensure!(service["metadata"]["finalizers"].is_null(), "{name} has {}", service["metadata"]["finalizers"]);
            ensure!(service["metadata"]["labels"][POOL_LABEL] == "eip-pool", "{}", service["metadata"]["labels"]);
            ensure!(ip(&service) == *address, "{name} has {}", service["status"]);
            Ok(())
        })?;
    }
    controller.until("the pool is taken over", secs(20), || {
        let pool = cluster.control.rest.get(POOL)?;
        ensure!(pool["metadata"]["finalizers"].is_null(), "{}", pool["metadata"]["finalizers"]);
        ensure!(pool["status"]["usage"] == 4 && pool["status"]["poolSize"] == 11, "{}", pool["status"]);
        ensure!(pool["status"]["used"]["192.168.0.185"] == "default/shares;default/third", "{}", pool["status"]);
        Ok(())
    })?;
    println!("taken over in {} ms", started.elapsed().as_millis());
    // Not even for a moment: every write since is looked at.
    for write in writes_since(&cluster, &version)? {
        let name = write["metadata"]["name"].as_str().unwrap_or_default();
        if let Some((_, address)) = GIVEN.iter().find(|(given, _)| *given == name) {
            ensure!(ip(&write) == *address, "{name} had {} for a moment", write["status"]);
        }
        ensure!(name != LOST.0 || [LOST.1, ""].contains(&ip(&write)), "{name} had {}", write["status"]);
    }
    // A new Service gets what nobody has, and not the lowest.
    cluster.control.rest.create(&service("new"))?;
    controller.until("the new Service has an address", secs(10), || {
        let new = cluster.control.rest.get(&format!("{SERVICES}/new"))?;
        ensure!(ip(&new) == "192.168.0.181", "{}", new["status"]);
        Ok(())
    })?;
    deletable(&cluster, &controller)?;
    controller.stop()
}

/// All of it goes at once when deleted.
fn deletable(cluster: &Cluster, controller: &Process) -> Result<()> {
    let names = GIVEN.iter().chain([&LOST]).map(|(name, _)| *name).chain(["new"]);
    let mut words = vec!["delete", "service", "--timeout=20s"];
    words.extend(names);
    cluster.control.kubectl(&words)?;
    controller.until("the pool is free", secs(10), || {
        let pool = cluster.control.rest.get(POOL)?;
        ensure!(pool["status"]["usage"].is_null() && pool["status"]["used"].is_null(), "{}", pool["status"]);
        Ok(())
    })?;
    cluster.control.kubectl(&["delete", "eip", "eip-pool", "--timeout=20s"])?;
    cluster.control.kubectl(&["delete", "bgpconf/default", "bgppeer/tor", "--timeout=20s"]).map(drop)
}

fn start(cluster: &Cluster) -> Result<Process> {
    let kubeconfig = cluster.control.kubeconfig_for("openelb-system", "openelb-controller")?;
    let command: Command = oxelb::controller(&Source::Cluster(kubeconfig))?;
    cluster.nodes[0].host.spawn("controller", command)
}

/// Writes the objects, statuses and finalizers of OpenELB 0.6 (compat §1.2, §2.5).
fn leave_as_openelb_did(cluster: &Cluster) -> Result<()> {
    let rest = &cluster.control.rest;
    let pool = json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip",
        "metadata": {
            "name": "eip-pool",
            "annotations": {"eip.openelb.kubesphere.io/is-default-eip": "true"},
            "finalizers": [POOL_FINALIZER],
        },
        "spec": {"address": "192.168.0.180-192.168.0.190", "protocol": "layer2", "interface": "ens160", "disable": false},
    });
    until("the CRD is served", secs(20), || rest.create(&pool))?;
    rest.patch(&format!("{POOL}/status"), &json!({"status": {
        "firstIP": "192.168.0.180", "lastIP": "192.168.0.190", "poolSize": 11, "usage": 4, "ready": true, "v4": true,
        "used": {
            "192.168.0.180": "default/second", "192.168.0.185": "default/third;default/shares",
            "192.168.0.188": "default/lost", "192.168.0.190": "default/first",
        },
    }}))?;
    for (kind, name, spec) in [
        ("BgpConf", "default", json!({"as": 50000, "listenPort": 17900})),
        ("BgpPeer", "tor", json!({"conf": {"peerAs": 50001, "neighborAddress": "192.168.0.5"}})),
    ] {
        rest.create(&json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": kind, "spec": spec,
            "metadata": {"name": name, "finalizers": [BGP_FINALIZER]},
        }))?;
    }
    for (name, address) in GIVEN.iter().chain([&LOST]) {
        let mut left = service(name);
        left["metadata"]["finalizers"] = json!([SERVICE_FINALIZER]);
        left["metadata"]["labels"] = json!({POOL_LABEL: "eip-pool", "app": name});
        rest.create(&left)?;
        if *name != LOST.0 {
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
            rest.patch(&format!("{SERVICES}/{name}/status"), &status)?;
        }
    }
    Ok(())
}

/// A Service that opts in; ports differ so that two may share an address.
fn service(name: &str) -> Value {
    let mut annotations = json!({
        "lb.kubesphere.io/v1alpha1": "openelb",
        "protocol.openelb.kubesphere.io/v1alpha1": "layer2",
        "eip.openelb.kubesphere.io/v1alpha2": "eip-pool",
    });
    if name == "shares" {
        annotations["eip.openelb.kubesphere.io/v1alpha1"] = json!("192.168.0.185");
    }
    let port = if name == "shares" { 81 } else { 80 };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": port}]},
    })
}

fn ip(service: &Value) -> &str {
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().unwrap_or_default()
}

fn watched(cluster: &Cluster) -> Result<Value> {
    cluster.control.rest.get(SERVICES)
}

/// Every version of a Service that was written after `version`, up to one written now as a mark.
fn writes_since(cluster: &Cluster, version: &str) -> Result<Vec<Value>> {
    cluster.control.rest.create(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "mark"},
        "spec": {"ports": [{"port": 1}]},
    }))?;
    let mut writes = Vec::new();
    for event in cluster.control.rest.watch(&format!("{SERVICES}?resourceVersion={version}"))? {
        let mut event = event?;
        let object = event["object"].take();
        if object["metadata"]["name"] == "mark" {
            ensure!(!writes.is_empty(), "no write was seen");
            return Ok(writes);
        }
        writes.push(object);
    }
    anyhow::bail!("the watch ended early")
}
