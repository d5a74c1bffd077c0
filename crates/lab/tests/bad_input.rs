//! Bad input, as a user meets it: what `kubectl apply` answers with the webhook up, what conditions and events say when it
//! is down, and that nothing else is disturbed by it.

mod common;

use anyhow::{Context, Result, ensure};
use common::{Installed, POOLS, SERVICES, addresses, condition, pool, service};
use lab::host::Lab;
use lab::process::Process;
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::process::ExitCode;

const POOL: &str = "eip.openelb.kubesphere.io/v1alpha2";
const ADDRESS: &str = "eip.openelb.kubesphere.io/v1alpha1";
const DEFAULT: &str = "eip.openelb.kubesphere.io/is-default-eip";
const FORCE: &str = "openelb.io/force-delete";
const ASSIGNED: &str = "openelb.io/AddressAssigned";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("the_webhook_refuses_bad_pools_and_a_dead_webhook_blocks_nothing", pools_with_webhook),
        ("without_webhook_conditions_say_what_is_wrong_with_a_pool", pools_without_webhook),
        ("a_service_that_asks_for_what_cannot_be_says_why_and_disturbs_nobody", requests),
        ("nodes_say_which_pool_does_not_fit_them", nodes),
    ];
    suite::main(tests)
}

/// A Service that must not notice anything of what goes on around it.
struct Bystander {
    address: IpAddr,
    uid: Value,
}

impl Bystander {
    fn new(installed: &Installed) -> Result<Bystander> {
        let mut good = pool("good", "10.0.1.0/24");
        good["metadata"]["annotations"] = json!({DEFAULT: "true"});
        good["spec"]["sharing"] = json!("None");
        installed.control().rest.create(&good)?;
        let address = installed.service("good", 1, &json!({}), &json!({}))?[0];
        let uid = installed.control().rest.get(&format!("{SERVICES}/good"))?["metadata"]["uid"].clone();
        Ok(Bystander { address, uid })
    }

    /// It has what it had, and a new neighbour is served as before.
    fn undisturbed(&self, installed: &Installed, controller: &Process) -> Result<()> {
        controller.check()?;
        let rest = &installed.control().rest;
        let service = rest.get(&format!("{SERVICES}/good"))?;
        ensure!(addresses(&service) == [self.address] && service["metadata"]["uid"] == self.uid, "{service}");
        let (status, reason, message) = condition(&service, ASSIGNED)?;
        ensure!(status == "True", "{reason}: {message}");
        installed.service("neighbour", 1, &json!({POOL: "good"}), &json!({}))?;
        rest.delete(&format!("{SERVICES}/neighbour")).map(drop)
    }
}

/// What `kubectl apply` complains about, with every one of these texts in it.
fn refused(installed: &Installed, object: &Value, texts: &[&str]) -> Result<()> {
    let outcome = installed.control().apply(&object.to_string());
    let said =
        outcome.map_or_else(|error| Ok(format!("{error:#}")), |text| Err(anyhow::anyhow!("not refused: {text}")));
    let said = said.with_context(|| object.to_string())?;
    for text in texts {
        ensure!(said.contains(text), "{text:?} is missing in: {said}");
    }
    Ok(())
}

/// Bad by itself: refused by the API server alone, whether there is a webhook or not.
fn refused_by_schema(installed: &Installed) -> Result<()> {
    for (address, text) in [
        ("ten", "each part must be an address, a CIDR or a range first-last"),
        ("10.0.9.1/33", "each part must be an address, a CIDR or a range first-last"),
        ("10.0.9.9-10.0.9.1", "a range is reversed; write the lower address first"),
        ("10.0.9.1-fd00::9", "a range mixes IPv4 and IPv6; write one range for each"),
        ("", "an address is missing"),
        ("10.0.9.1,", "an address is missing"),
    ] {
        refused(installed, &pool("bad", address), &["invalid eip address format", text])?;
    }
    let mut bad = pool("bad", "10.0.9.1");
    bad["spec"]["interface"] = json!("");
    refused(installed, &bad, &["interface should not be empty", "can_reach:"])?;
    let mut bad = pool("bad", "10.0.9.1");
    bad["spec"]["protocol"] = json!("carrier-pigeon");
    refused(installed, &bad, &["protocol", "layer2"])
}

fn pools_with_webhook(lab: &Lab) -> Result<()> {
    let installed = Installed::bare(lab, true)?;
    let controller = installed.controller_with_webhook()?;
    let bystander = Bystander::new(&installed)?;
    let control = installed.control();
    installed.pool("other", "10.0.2.0/24", &json!({}))?;
    refused_by_schema(&installed)?;

    // All pools that it overlaps with are named, not the first only.
    let both = pool("bad", "10.0.1.9-10.0.2.9");
    refused(&installed, &both, &["overlap with good", "10.0.1.9", "overlap with other", "10.0.2.0"])?;
    let mut second = pool("bad", "10.0.9.1");
    second["metadata"]["annotations"] = json!({DEFAULT: "true"});
    refused(&installed, &second, &["already exists a default EIP: good", "remove the annotation"])?;
    refused(&installed, &pool("bad", "fd00::9-fd00::1"), &["invalid eip address format"])?;

    // Addresses in use cannot be taken out of a pool, nor the pool away.
    let mut smaller = pool("good", "10.0.1.128/25");
    smaller["spec"]["sharing"] = json!("None");
    smaller["metadata"]["annotations"] = json!({DEFAULT: "true"});
    let used = bystander.address.to_string();
    refused(&installed, &smaller, &["loses addresses in use", &used, "default/good"])?;
    let deleted = control.kubectl(&["delete", "eip", "good", "--wait=false"]);
    let said = deleted.err().map(|e| format!("{e:#}")).context("a pool in use was deleted")?;
    for text in ["in use", &used, "default/good", FORCE] {
        ensure!(said.contains(text), "{text:?} is missing in: {said}");
    }
    bystander.undisturbed(&installed, &controller)?;

    // By force: the Service keeps its address and says what is wrong, until the pool is there again.
    control.kubectl(&["annotate", "eip", "good", &format!("{FORCE}=true")])?;
    control.kubectl(&["delete", "eip", "good", "--wait=false"])?;
    let message = installed.said(&format!("{SERVICES}/good"), ASSIGNED, "PoolMissing")?;
    ensure!(message.contains(&used), "{message}");
    let service = control.rest.get(&format!("{SERVICES}/good"))?;
    ensure!(addresses(&service) == [bystander.address], "{service}");

    // D22: the webhook is down, and nothing is blocked; the controller says later what the webhook would have said.
    controller.kill()?;
    let mut good = pool("good", "10.0.1.0/24");
    good["spec"]["sharing"] = json!("None");
    control.apply(&good.to_string())?;
    control.apply(&both.to_string())?;
    let controller = installed.controller_with_webhook()?;
    let message = installed.said(&format!("{POOLS}/bad"), "Ready", "OverlapsWith")?;
    ensure!(message.contains("overlap with"), "{message}");
    installed.said(&format!("{SERVICES}/good"), ASSIGNED, "Assigned")?;
    bystander.undisturbed(&installed, &controller)
}

fn pools_without_webhook(lab: &Lab) -> Result<()> {
    let installed = Installed::bare(lab, false)?;
    let controller = installed.only_controller()?;
    let bystander = Bystander::new(&installed)?;
    let control = installed.control();
    refused_by_schema(&installed)?;
    installed.pool("other", "10.0.2.0/24", &json!({}))?;

    let said = |name: &str, reason: &str, texts: &[&str]| -> Result<()> {
        let message = installed.said(&format!("{POOLS}/{name}"), "Ready", reason)?;
        for text in texts {
            ensure!(message.contains(text), "{text:?} is missing in: {message}");
        }
        Ok(())
    };
    installed.pool("overlapping", "10.0.2.9-10.0.3.9", &json!({}))?;
    said("overlapping", "OverlapsWith", &["overlap with other", "10.0.2.9"])?;
    let mut second = pool("second", "10.0.9.1");
    second["metadata"]["annotations"] = json!({DEFAULT: "true"});
    control.apply(&second.to_string())?;
    said("second", "SecondDefault", &["good", DEFAULT])?;
    installed.pool("reversed", "fd00::9-fd00::1", &json!({}))?;
    said("reversed", "InvalidAddress", &["invalid eip address format"])?;
    installed.pool("nothing", "10.0.8.1", &json!({"exclude": "10.0.8.0/24"}))?;
    said("nothing", "NothingLeft", &["exclude"])?;
    bystander.undisturbed(&installed, &controller)?;

    // Deleted while in use: it goes at once, the Service keeps its address, and says so.
    let kept = installed.service("kept", 1, &json!({POOL: "other"}), &json!({}))?;
    control.kubectl(&["delete", "eip", "overlapping", "reversed", "nothing", "second"])?;
    control.kubectl(&["delete", "eip", "other", "--timeout=20s"])?;
    let path = format!("{SERVICES}/kept");
    let message = installed.said(&path, ASSIGNED, "PoolMissing")?;
    ensure!(message.contains("other") && message.contains(&kept[0].to_string()), "{message}");
    ensure!(addresses(&control.rest.get(&path)?) == kept, "the address went with the pool");
    installed.pool("other", "10.0.2.0/24", &json!({}))?;
    installed.said(&path, ASSIGNED, "Assigned")?;
    ensure!(addresses(&control.rest.get(&path)?) == kept, "the address moved");
    bystander.undisturbed(&installed, &controller)
}

fn requests(lab: &Lab) -> Result<()> {
    let installed = Installed::bare(lab, false)?;
    let controller = installed.only_controller()?;
    let bystander = Bystander::new(&installed)?;
    let control = installed.control();
    installed.pool("off", "10.0.3.0/24", &json!({"disable": true}))?;
    installed.pool("tiny", "10.0.4.1", &json!({}))?;
    let first = installed.service("first", 1, &json!({POOL: "tiny"}), &json!({}))?;
    let long = "x".repeat(4000);
    let taken = bystander.address.to_string();
    let six = json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"});
    let any = json!({});
    let cases: [(&str, Value, &Value, &str, &[&str]); 10] = [
        ("outside", json!({ADDRESS: "10.9.9.9"}), &any, "AddressOutsideEveryPool", &["10.9.9.9"]),
        ("beyond", json!({ADDRESS: "10.9.9.9", POOL: "good"}), &any, "AddressOutsidePool", &["10.9.9.9", "good"]),
        ("disabled", json!({ADDRESS: "10.0.3.7"}), &any, "PoolDisabled", &["off", "spec.disable"]),
        ("taken", json!({ADDRESS: taken, POOL: "good"}), &any, "AddressInUse", &[&taken, "default/good"]),
        ("full", json!({POOL: "tiny"}), &any, "PoolFull", &["tiny"]),
        ("family", json!({}), &six, "FamilyMismatch", &["IPv6"]),
        ("nopool", json!({POOL: "nowhere"}), &any, "PoolNotFound", &["nowhere"]),
        ("longpool", json!({POOL: long}), &any, "PoolNotFound", &["xxx…"]),
        ("longaddress", json!({ADDRESS: long}), &any, "InvalidRequest", &["xxx…", "is not an IP address"]),
        ("noaddress", json!({ADDRESS: "10.0.1"}), &any, "InvalidRequest", &["10.0.1", "is not an IP address"]),
    ];
    for (name, annotations, spec, _, _) in &cases {
        control.rest.create(&service(name, annotations, spec))?;
    }
    for (name, _, _, reason, texts) in &cases {
        let message = installed.said(&format!("{SERVICES}/{name}"), ASSIGNED, reason)?;
        for text in *texts {
            ensure!(message.contains(text), "{name}: {text:?} is missing in: {message}");
        }
        ensure!(message.chars().count() < 1000, "{name}: {message}");
        let object = control.rest.get(&format!("{SERVICES}/{name}"))?;
        ensure!(addresses(&object).is_empty(), "{name}: {}", object["status"]);
        until(&format!("{name} has an event"), secs(20), || {
            let events = control.list("/api/v1/namespaces/default/events")?;
            let mut of = events.iter().filter(|e| e["involvedObject"]["name"] == *name && e["type"] == "Warning");
            let said = |e: &Value| e["message"].as_str().is_some_and(|m| texts.iter().all(|t| m.contains(t)));
            ensure!(of.any(said), "{events:?}");
            Ok(())
        })?;
    }
    bystander.undisturbed(&installed, &controller)?;

    // What is mended works at once.
    control.rest.delete(&format!("{SERVICES}/first"))?;
    control.rest.patch(&format!("{POOLS}/off"), &json!({"spec": {"disable": false}}))?;
    control.rest.patch(&format!("{SERVICES}/taken"), &json!({"metadata": {"annotations": {ADDRESS: "10.0.1.200"}}}))?;
    installed.pool("six", "fd00:6::/64", &json!({}))?;
    control.rest.patch(&format!("{SERVICES}/family"), &json!({"metadata": {"annotations": {POOL: "six"}}}))?;
    let disabled: IpAddr = "10.0.3.7".parse()?;
    let asked: IpAddr = "10.0.1.200".parse()?;
    for (name, wanted) in
        [("full", Some(first[0])), ("disabled", Some(disabled)), ("taken", Some(asked)), ("family", None)]
    {
        let found = until(&format!("{name} has an address"), secs(20), || {
            let object = control.rest.get(&format!("{SERVICES}/{name}"))?;
            addresses(&object).first().copied().with_context(|| object["status"].to_string())
        })?;
        ensure!(wanted.map_or(found.is_ipv6(), |wanted| found == wanted), "{name} has {found}");
    }
    bystander.undisturbed(&installed, &controller)
}

fn nodes(lab: &Lab) -> Result<()> {
    let installed = Installed::with_nodes(lab, 1)?;
    let controller = installed.only_controller()?;
    let _speaker = installed.speaker(&installed.cluster.nodes[0])?;
    installed.pool("good", "192.168.0.180-192.168.0.190", &json!({}))?;
    let good = installed.service("good", 1, &json!({POOL: "good"}), &json!({}))?[0];
    let healthy = |name: &str, reason: &str, texts: &[&str]| -> Result<()> {
        let message = installed.said(&format!("{POOLS}/{name}"), "Healthy", reason)?;
        for text in texts {
            ensure!(message.contains(text), "{text:?} is missing in: {message}");
        }
        Ok(())
    };
    let announced =
        |name: &str, reason: &str| installed.said(&format!("{SERVICES}/{name}"), "openelb.io/Announced", reason);
    announced("good", "Announced")?;

    installed.pool("nowhere", "192.168.2.0/28", &json!({"interface": "eth7"}))?;
    installed.service("nowhere", 1, &json!({POOL: "nowhere"}), &json!({}))?;
    let message = announced("nowhere", "InterfaceMissing")?;
    ensure!(message.contains("eth7") && message.contains("n1"), "{message}");
    healthy("nowhere", "InterfaceMissing", &["node n1", "eth7"])?;

    // The node's own address is given to nobody, and named; so is the gateway's.
    installed.pool("own", "192.168.0.11-192.168.0.12", &json!({}))?;
    healthy("own", "HasNodeAddress", &["192.168.0.11", "node n1", "spec.exclude"])?;
    let found = installed.service("own", 1, &json!({POOL: "own"}), &json!({}))?[0];
    ensure!(found.to_string() == "192.168.0.12", "{found}");
    installed.pool("gateway", "192.168.0.1,192.168.0.150", &json!({}))?;
    healthy("gateway", "HasGateway", &["192.168.0.1", "node n1", "spec.exclude"])?;
    let found = installed.service("gateway", 1, &json!({POOL: "gateway"}), &json!({}))?[0];
    ensure!(found.to_string() == "192.168.0.150", "{found}");
    let asks = json!({POOL: "gateway", ADDRESS: "192.168.0.1"});
    installed.control().rest.create(&service("asks", &asks, &json!({})))?;
    let message = installed.said(&format!("{SERVICES}/asks"), ASSIGNED, "AddressReserved")?;
    ensure!(message.contains("192.168.0.1") && message.contains("gateway"), "{message}");

    announced("good", "Announced")?;
    controller.check()?;
    ensure!(installed.owner(good)?.name == "n1", "the good one is not answered");
    Ok(())
}
