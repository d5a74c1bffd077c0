//! The life of a Service, and of a cluster.

use super::world::{Flags, LONG, World, addresses, condition, eip_path, layer2, service_path, stop};
use anyhow::{Result, ensure};
use lab::host::Lab;
use lab::wait::{millis, until};
use oxelb_controller::election::Timing;
use serde_json::json;
use std::process::Command;

const LABEL: &str = "eip.openelb.kubesphere.io/v1alpha2";

pub fn walk_through(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    let rest = &world.control.rest;
    let foreign = rest.create(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "foreign"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }))?;
    let controller = world.controller("controller", &Flags::default())?;
    world.leads(&controller, 50052)?;
    world.service("early", json!({}), json!({}))?;
    world.says(&service_path("early"), "openelb.io/AddressAssigned", "False", "NoPool")?;
    world.event("early", "ConstructRequest")?;

    // A pool that appears serves who waits for one, at once (D7).
    world.default_eip("pool", "10.0.0.10-10.0.0.12")?;
    ensure!(world.address("early")? == "10.0.0.10");
    world.service("second", json!({}), json!({}))?;
    ensure!(world.address("second")? == "10.0.0.11");
    let second = world.get("second")?;
    ensure!(second["metadata"]["labels"][LABEL] == "pool", "{second}");
    ensure!(second["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP", "{second}");
    ensure!(second["metadata"]["finalizers"].is_null(), "{second}");
    ensure!(condition(&second, "openelb.io/AddressAssigned").is_some_and(|c| c["status"] == "True"), "{second}");
    ensure!(world.event("second", "AssignIP")? == "success to assign ip: 10.0.0.11");
    until("the pool's status says so", LONG, || {
        let status = world.get_eip("pool")?["status"].take();
        let used = &status["used"];
        ensure!(used["10.0.0.10"] == "default/early" && used["10.0.0.11"] == "default/second", "{status}");
        ensure!(status["usage"] == 2 && status["poolSize"] == 3 && status["firstIP"] == "10.0.0.10", "{status}");
        Ok(())
    })?;
    world.says(&eip_path("pool"), "Ready", "True", "Valid")?;
    world.says(&service_path("early"), "openelb.io/Announced", "False", "NoNodes")?;

    // D23
    until("metrics say so", LONG, || {
        let text = world.http(50052, "/metrics")?;
        ensure!(text.contains("addresses_in_use_total{eipName=\"pool\"} 2"), "{text}");
        Ok(())
    })?;

    // Given back, by deletion and by leaving us; who waits gets it.
    world.service("third", json!({}), json!({}))?;
    world.service("fourth", json!({}), json!({}))?;
    ensure!(world.address("third")? == "10.0.0.12");
    world.says(&service_path("fourth"), "openelb.io/AddressAssigned", "False", "PoolFull")?;
    rest.delete(&service_path("early"))?;
    ensure!(world.address("fourth")? == "10.0.0.10");
    rest.patch(&service_path("second"), &json!({"spec": {"type": "ClusterIP"}}))?;
    until("nothing of ours is left on it", LONG, || {
        let second = world.get("second")?;
        ensure!(addresses(&second).is_empty() && second["metadata"]["labels"][LABEL].is_null(), "{second}");
        ensure!(second["status"]["conditions"].as_array().is_none_or(Vec::is_empty), "{second}");
        Ok(())
    })?;
    ensure!(rest.get("/api/v1/namespaces/openelb-system/secrets/memberlist")?["data"]["key"].is_string());

    // Nothing moves over a restart, and nothing is written when nothing changes.
    let before = (world.get("third")?, world.get("fourth")?, world.get("foreign")?);
    stop(controller)?;
    let again = world.controller("again", &Flags::default())?;
    world.leads(&again, 50052)?;
    world.service("fifth", json!({}), json!({}))?;
    world.address("fifth")?;
    ensure!(before == (world.get("third")?, world.get("fourth")?, world.get("foreign")?));
    ensure!(before.2 == foreign, "a Service that is not ours was touched");
    stop(again)
}

pub fn take_over(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    let rest = &world.control.rest;
    // As OpenELB 0.6 leaves a cluster behind: finalizers, labels, `used`; one address shared by request.
    let mut eip = world.default_eip("pool", "10.0.0.0/24")?;
    rest.patch(&eip_path("pool"), &json!({"metadata": {"finalizers": ["finalizer.ipam.kubesphere.io/v1alpha1"]}}))?;
    eip = json!({"status": {
        "occupied": false, "usage": 2, "poolSize": 256, "firstIP": "10.0.0.0", "lastIP": "10.0.0.255", "v4": true,
        "used": {"10.0.0.77": "default/a", "10.0.0.78": "default/b;default/c"}, "unknown": eip["none"],
    }});
    rest.patch(&format!("{}/status", eip_path("pool")), &eip)?;
    let asks = json!({"eip.openelb.kubesphere.io/v1alpha1": "10.0.0.78"});
    world.service("a", json!({"layer2.openelb.kubesphere.io/v1alpha1": "n1"}), json!({}))?;
    world.service("b", asks.clone(), json!({}))?;
    world.service("c", asks, json!({"ports": [{"port": 81}]}))?;
    for (name, ip) in [("a", "10.0.0.77"), ("b", "10.0.0.78"), ("c", "10.0.0.78")] {
        let legacy = json!({"labels": {LABEL: "pool"}, "finalizers": ["finalizer.lb.kubesphere.io/v1alpha1"]});
        rest.patch(&service_path(name), &json!({"metadata": legacy}))?;
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        rest.patch(&format!("{}/status", service_path(name)), &status)?;
    }
    // This one was deleted while nobody was there to take its finalizer off (D15).
    let group = "network.kubesphere.io/v1alpha2";
    world.control.rest.create(&json!({
        "apiVersion": group, "kind": "BgpPeer",
        "metadata": {"name": "old", "finalizers": ["finalizer.lb.kubesphere.io/v1alpha1"]},
        "spec": {"conf": {"peerAs": 1, "neighborAddress": "192.0.2.1"}},
    }))?;
    world.control.rest.delete(&format!("/apis/{group}/bgppeers/old"))?;
    // OpenELB let this one leak: the annotations are gone, the finalizer is not (D6).
    rest.create(&json!({
        "apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]},
        "metadata": {"namespace": "default", "name": "stuck", "finalizers": ["finalizer.lb.kubesphere.io/v1alpha1"]},
    }))?;
    rest.delete(&service_path("stuck"))?;

    let controller = world.controller("controller", &Flags::default())?;
    world.service("new", json!({}), json!({}))?;
    ensure!(world.address("new")? == "10.0.0.0");
    until("the stuck Service is gone", LONG, || {
        ensure!(world.get("stuck").is_err(), "it is still there");
        Ok(())
    })?;
    until("the deleted BgpPeer is gone", LONG, || {
        ensure!(world.control.rest.get(&format!("/apis/{group}/bgppeers/old")).is_err(), "it is still there");
        Ok(())
    })?;
    for (name, ip) in [("a", "10.0.0.77"), ("b", "10.0.0.78"), ("c", "10.0.0.78")] {
        until("OpenELB's finalizer is gone", LONG, || {
            let service = world.get(name)?;
            ensure!(service["metadata"]["finalizers"].is_null(), "{service}");
            ensure!(addresses(&service) == [ip], "{service}");
            Ok(())
        })?;
    }
    until("OpenELB's finalizer is off the pool", LONG, || {
        let eip = world.get_eip("pool")?;
        ensure!(eip["metadata"]["finalizers"].is_null(), "{eip}");
        ensure!(eip["status"]["used"]["10.0.0.78"] == "default/b;default/c", "{eip}");
        Ok(())
    })?;

    // After an uninstall what Services say is taken off them.
    stop(controller)?;
    let mut clean = Command::new(std::env::current_exe()?);
    clean.args(["--clean", &world.control.admin().display().to_string()]);
    let text = world.control.host.output(clean)?;
    ensure!(text.contains("services: 4"), "{text}");
    for name in ["a", "b", "c", "new"] {
        let service = world.get(name)?;
        ensure!(addresses(&service).is_empty() && service["metadata"]["labels"][LABEL].is_null(), "{service}");
        ensure!(service["status"]["conditions"].as_array().is_none_or(Vec::is_empty), "{service}");
    }
    Ok(())
}

pub fn api_restart(lab: &Lab) -> Result<()> {
    let mut world = World::start(lab)?;
    world.default_eip("pool", "10.0.0.0/24")?;
    let timing = Timing { lease: millis(3000), renew: millis(2000), retry: millis(300) };
    let controller = world.controller("controller", &Flags { timing, ..Flags::default() })?;
    world.service("before", json!({}), json!({}))?;
    ensure!(world.address("before")? == "10.0.0.0");
    world.control.stop_api()?;
    // Long enough to lose the leadership.
    controller.until("it stands by and says why", LONG, || {
        let text = world.http(50052, "/readyz")?;
        ensure!(text.contains("503") && text.contains("standing by, and the Lease"), "{text}");
        Ok(())
    })?;
    world.control.start_api()?;
    world.service("after", json!({}), json!({}))?;
    ensure!(world.address("after")? == "10.0.0.1");
    ensure!(world.address("before")? == "10.0.0.0");
    controller.check()?;
    world.eip("late", json!({}), layer2("10.9.0.0/24"))?;
    world.says(&eip_path("late"), "Ready", "True", "Valid")?;
    stop(controller)
}
