//! Each mistake is named where the user looks, and costs nobody else anything.

use super::world::{Flags, World, eip_path, layer2, service_path, stop};
use anyhow::{Result, ensure};
use lab::host::Lab;
use serde_json::json;

const ASSIGNED: &str = "openelb.io/AddressAssigned";
const POOL: &str = "eip.openelb.kubesphere.io/v1alpha2";
const ADDRESS: &str = "eip.openelb.kubesphere.io/v1alpha1";

pub fn explained(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    // Written while no webhook runs: the controller says the same as conditions (D22).
    world.default_eip("a-first", "10.0.0.0/30")?;
    world.default_eip("b-second", "10.1.0.0/24")?;
    world.eip("c-overlaps", json!({}), layer2("10.0.0.2-10.0.0.9"))?;
    world.eip("d-overlaps", json!({}), layer2("10.1.0.7,10.0.0.3"))?;
    world.eip("e-disabled", json!({}), json!({"address": "10.4.0.0/24", "disable": true}))?;
    world.eip("f-off", json!({}), json!({"address": "10.5.0.0/24", "exclude": "10.5.0.1"}))?;
    world.control.rest.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}))?;
    let address = json!([{"type": "InternalIP", "address": "10.5.0.9"}]);
    world.control.rest.patch("/api/v1/nodes/n1/status", &json!({"status": {"addresses": address}}))?;

    let controller = world.controller("controller", &Flags::default())?;
    for (name, status, reason, text) in [
        ("a-first", "True", "Valid", ""),
        ("b-second", "False", "SecondDefault", "a-first"),
        ("c-overlaps", "False", "OverlapsWith", "10.0.0.2-10.0.0.3"),
        ("d-overlaps", "False", "OverlapsWith", "overlap with"),
        ("e-disabled", "True", "Disabled", ""),
    ] {
        let message = world.says(&eip_path(name), "Ready", status, reason)?;
        ensure!(message.contains(text), "{name}: {message}");
    }
    world.event("b-second", "add/update eip")?;
    let message = world.says(&eip_path("f-off"), "Healthy", "False", "HasNodeAddress")?;
    ensure!(message.contains("10.5.0.9 is an address of node n1"), "{message}");

    world.service("good", json!({}), json!({}))?;
    ensure!(world.address("good")? == "10.0.0.0");
    let long = "x".repeat(4000);
    let ask = |key: &str, value: &str| json!({key: value});
    for (name, annotations, spec, reason, text) in [
        ("outside", ask(ADDRESS, "192.0.2.1"), json!({}), "AddressOutsideEveryPool", "192.0.2.1"),
        ("disabled", ask(ADDRESS, "10.4.0.1"), json!({}), "PoolDisabled", "e-disabled"),
        ("taken", ask(ADDRESS, "10.0.0.0"), json!({}), "AddressInUse", "default/good"),
        ("excluded", ask(ADDRESS, "10.5.0.1"), json!({}), "AddressExcluded", "10.5.0.1"),
        ("nodes", ask(ADDRESS, "10.5.0.9"), json!({}), "AddressReserved", "node n1"),
        ("nopool", ask(POOL, "nowhere"), json!({}), "PoolNotFound", "nowhere"),
        ("family", ask(POOL, "a-first"), json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}), "", "IPv6"),
        ("no-address", ask(ADDRESS, "ten"), json!({}), "InvalidRequest", "ten"),
        ("long-pool", ask(POOL, &long), json!({}), "PoolNotFound", "xxx"),
        ("long-address", ask(ADDRESS, &long), json!({}), "InvalidRequest", "xxx"),
    ] {
        world.service(name, annotations, spec)?;
        let message = if reason.is_empty() {
            lab::wait::until("it says why", super::world::LONG, || {
                let service = world.get(name)?;
                let condition = super::world::condition(&service, ASSIGNED).filter(|c| c["status"] == "False");
                condition
                    .map(|c| c["message"].as_str().unwrap_or_default().to_owned())
                    .ok_or_else(|| anyhow::anyhow!("{service}"))
            })?
        } else {
            world.says(&service_path(name), ASSIGNED, "False", reason)?
        };
        ensure!(message.contains(text) && message.len() < 1500, "{name}: {message}");
    }
    for name in ["outside", "taken", "long-address"] {
        let found = world.event(name, "AssignIPFailed").or_else(|_| world.event(name, "ConstructRequest"))?;
        ensure!(found.len() <= 1024, "{name}: {found}");
    }
    // A full pool.
    for name in ["two", "three", "four"] {
        world.service(name, json!({}), json!({}))?;
        world.address(name)?;
    }
    world.service("five", json!({}), json!({}))?;
    world.says(&service_path("five"), ASSIGNED, "False", "PoolFull")?;
    ensure!(world.address("good")? == "10.0.0.0");

    // A pool that is deleted while in use: who has an address keeps it and is told.
    world.control.rest.delete(&eip_path("a-first"))?;
    world.says(&service_path("good"), ASSIGNED, "True", "PoolMissing")?;
    ensure!(world.address("good")? == "10.0.0.0");
    world.no_address_twice()?;
    stop(controller)
}
