//! The webhook, called by a real API server over TLS.

use super::world::{Flags, LONG, World, eip_path, layer2, refused, stop};
use anyhow::{Context, Result, ensure};
use lab::host::Lab;
use lab::wait::until;
use serde_json::{Value, json};

const CONFIG: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/openelb-admission";
const SECRET: &str = "/api/v1/namespaces/openelb-system/secrets/openelb-admission";
const DEFAULT: &str = "eip.openelb.kubesphere.io/is-default-eip";

fn bundles(world: &World) -> Result<Vec<Value>> {
    let config = world.control.rest.get(CONFIG)?;
    let webhooks = config["webhooks"].as_array().context("no webhooks")?.clone();
    Ok(webhooks.iter().map(|w| w["clientConfig"]["caBundle"].clone()).collect())
}

/// Waits until the API server asks the webhook: `probe` is refused by nothing else.
fn asked(world: &World) -> Result<()> {
    until("the webhook is asked", LONG, || {
        let dry = "/apis/network.kubesphere.io/v1alpha2/eips?dryRun=All";
        let probe = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "probe"},
            "spec": layer2("10.0.0.1"),
        });
        let message = refused(world.control.rest.post(dry, &probe))?;
        ensure!(message.contains("validate.eip.network.kubesphere.io"), "{message}");
        Ok(())
    })
}

pub fn refuses(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    let rest = &world.control.rest;
    world.default_eip("pool", "10.0.0.0/24")?;
    let controller = world.controller("controller", &Flags { webhook: true, ..Flags::default() })?;
    asked(&world)?;

    let says = |result: Result<Value>, texts: &[&str]| {
        let message = refused(result)?;
        ensure!(texts.iter().all(|t| message.contains(t)), "{message}");
        Ok(())
    };
    says(world.eip("b", json!({}), layer2("10.0.0.7")), &["eip address overlap with pool", "10.0.0.7"])?;
    says(world.eip("b", json!({DEFAULT: "True"}), layer2("10.1.0.7")), &["already exists a default EIP"])?;
    world.eip("b", json!({}), layer2("10.1.0.0/24"))?;
    says(rest.patch(&eip_path("b"), &json!({"spec": {"address": "10.0.0.0/30"}})), &["overlap with pool"])?;

    // The address is mutable, but none in use may go (D26).
    world.service("s", json!({}), json!({}))?;
    ensure!(world.address("s")? == "10.0.0.0");
    let change = json!({"spec": {"address": "10.0.0.8/29"}});
    let texts = ["the address field is not allowed to be modified", "10.0.0.0", "default/s"];
    says(rest.patch(&eip_path("pool"), &change), &texts)?;
    rest.patch(&eip_path("pool"), &json!({"spec": {"address": "10.0.0.0/25, 10.2.0.0/24"}}))?;
    says(rest.delete(&eip_path("pool")), &["is in use", "default/s", "openelb.io/force-delete"])?;
    rest.patch(&eip_path("pool"), &json!({"metadata": {"annotations": {"openelb.io/force-delete": "true"}}}))?;
    rest.delete(&eip_path("pool"))?;
    world.says(&super::world::service_path("s"), "openelb.io/AddressAssigned", "True", "PoolMissing")?;
    rest.delete(&eip_path("b"))?;

    let bgp = |kind: &str, spec: Value| {
        rest.create(&json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": kind, "metadata": {"name": "default"}, "spec": spec,
        }))
    };
    bgp("BgpConf", json!({"as": 65000, "listenPort": 17900}))?;
    bgp("BgpPeer", json!({"conf": {"peerAs": 65001, "neighborAddress": "192.0.2.1"}}))?;
    let text = world.http(50052, "/metrics")?;
    for kind in ["BgpConf", "BgpPeer"] {
        let line = format!("admission_reviews_total{{kind=\"{kind}\",allowed=\"true\"}} 1");
        ensure!(text.contains(&line), "{line} is not in {text}");
    }
    stop(controller)?;
    // Without a webhook nothing is blocked (D22).
    world.eip("while-away", json!({}), layer2("10.8.0.0/24")).map(drop)
}

pub fn certificates(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    let rest = &world.control.rest;
    world.default_eip("pool", "10.0.0.0/24")?;
    // What OpenELB's job left behind has no key of its authority, so it cannot be used.
    rest.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "openelb-system", "name": "openelb-admission"},
        "data": {"ca": "b2xk", "cert": "b2xk", "key": "b2xk"},
    }))?;
    let first = world.controller("first", &Flags { webhook: true, ..Flags::default() })?;
    asked(&world)?;
    let before = bundles(&world)?;
    ensure!(before.iter().all(|b| b.is_string() && *b == before[0]), "{before:?}");
    let secret = rest.get(SECRET)?;
    ensure!(secret["data"]["ca"] == before[0], "the API server trusts another authority than the Secret's");
    stop(first)?;

    // Another start uses the same authority.
    let second = world.controller("second", &Flags { webhook: true, ..Flags::default() })?;
    asked(&world)?;
    ensure!(bundles(&world)? == before);
    stop(second)?;

    // Somebody deletes the Secret and empties the configuration.
    rest.delete(SECRET)?;
    let remove = json!({"webhooks": null});
    rest.patch(CONFIG, &remove)?;
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/openelb.yaml");
    world.control.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &manifest.display().to_string()])?;
    ensure!(bundles(&world)?.iter().all(Value::is_null));
    let third = world.controller("third", &Flags { webhook: true, ..Flags::default() })?;
    asked(&world)?;
    let after = bundles(&world)?;
    ensure!(after[0].is_string() && after[0] != before[0]);
    stop(third)
}
