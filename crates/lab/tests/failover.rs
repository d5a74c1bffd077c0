//! Who answers for an address, on real packets: after a power failure, a shutdown, a return; with nodes that may not; with
//! policy Local; with interfaces that vanish; with the API server away; with both families.

#![allow(clippy::print_stdout, reason = "tells what it measured")]

mod common;

use anyhow::{Context, Result, bail, ensure};
use common::{Installed, SERVICES, SPEAKERS, addresses};
use lab::census::Census;
use lab::client::{self, Asking, get};
use lab::cluster::{DEVICE, Node, Pod};
use lab::host::Lab;
use lab::process::Process;
use lab::suite::{self, Test};
use lab::wait::{millis, secs, until};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// Three heartbeats of 150 ms missed and 15 ms of delivery, then the heir's first announcement. The rest is for a machine
/// that runs a whole cluster on two processors.
const GAP: Duration = millis(1500);
/// Who counts answers.
const COUNTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 102);
const POOL: &str = "192.168.0.180-192.168.0.190";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("an_address_survives_the_death_and_the_shutdown_of_its_owner_and_does_not_move_back", owners_end),
        ("only_nodes_that_may_announce_do", candidates),
        ("policy_local_is_announced_by_nodes_with_serving_endpoints_alone", local),
        ("interfaces_are_found_by_route_and_may_vanish_and_come_back", interfaces),
        ("speakers_start_from_their_snapshot_while_the_api_server_is_away", snapshot),
        ("both_families_are_answered_on_one_interface", families),
    ];
    suite::main(tests)
}

/// Three nodes with everything running.
struct Scene {
    installed: Installed,
    _controller: Process,
    speakers: Vec<Process>,
}

impl Scene {
    fn new(lab: &Lab) -> Result<Scene> {
        let installed = Installed::with_nodes(lab, 3)?;
        let controller = installed.only_controller()?;
        let nodes = &installed.cluster.nodes;
        let speakers = nodes.iter().map(|node| installed.speaker(node)).collect::<Result<_>>()?;
        Ok(Scene { installed, _controller: controller, speakers })
    }

    fn nodes(&self) -> &[Node] {
        &self.installed.cluster.nodes
    }

    /// The name of the only node that answers; waits until there is one.
    fn owner(&self, address: IpAddr) -> Result<String> {
        until("one node answers", secs(60), || Ok(self.installed.owner(address)?.name.clone()))
            .with_context(|| self.logs())
    }

    /// Waits until this node, and no other, answers.
    fn owned_by(&self, address: IpAddr, names: &[&str]) -> Result<()> {
        until(&format!("{address} is answered by one of {names:?}"), secs(60), || {
            let owner = &self.installed.owner(address)?.name;
            ensure!(names.contains(&owner.as_str()), "{owner} answers");
            Ok(())
        })
        .with_context(|| self.logs())
    }

    fn silent(&self, address: IpAddr) -> Result<()> {
        until(&format!("nobody answers for {address}"), secs(60), || {
            let found = client::arp(&self.installed.cluster.client, "eth0", address)?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })
    }

    fn announced(&self, service: &str, reason: &str) -> Result<String> {
        self.installed.said(&format!("{SERVICES}/{service}"), "openelb.io/Announced", reason)
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes().iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    fn patch_node(&self, name: &str, what: &str, change: &Value) -> Result<()> {
        self.installed.control().rest.patch(&format!("/api/v1/nodes/{name}{what}"), change).map(drop)
    }

    fn pod(&self, node: &str, name: &str) -> Result<Pod> {
        self.installed.cluster.pod(self.node(node)?, name, &json!({"app": "web"}))
    }

    fn logs(&self) -> String {
        self.speakers.iter().map(|s| format!("{}:\n{}\n", s.name(), s.tail(12))).collect()
    }
}

fn asked(asking: &Asking, more: usize) -> Result<()> {
    let end = asking.seen().sent + more;
    until("the client has asked for a while", secs(20), || {
        ensure!(asking.seen().sent >= end);
        Ok(())
    })
}

fn owners_end(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.installed.pool("eip-pool", POOL, &json!({}))?;
    let address = scene.installed.service("web", 1, &pool_of("eip-pool"), &json!({}))?[0];
    let first = scene.owner(address)?;
    let server = scene.nodes().iter().map(|n| n.name.clone()).find(|n| *n != first).context("no other node")?;
    let _pod = scene.pod(&server, "web")?;
    let client = scene.installed.cluster.client.clone();
    let to = SocketAddr::new(address, 80);
    until("the client reaches the pod", secs(20), || get(&client, to, millis(500)))?;

    // A host of its own, so that nobody else's answers are counted.
    let counter = lab.host("counter")?;
    scene.installed.cluster.lan.plug(&counter, "eth0", &["192.168.0.102/22"])?;

    // Power off, no goodbye.
    let census = Census::start(&counter, COUNTER, v4(address)?, millis(10))?;
    let asking = Asking::start(&client, to, millis(5), millis(3000));
    asked(&asking, 100)?;
    let dead = scene.nodes().iter().position(|n| n.name == first).context("no such node")?;
    scene.installed.cluster.lan.link(&scene.nodes()[dead].host, false)?;
    scene.speakers[dead].kill()?;
    let answered = asking.seen();
    until("the client is answered again", secs(20), || {
        ensure!(asking.seen().gap > millis(100), "{:?}", asking.seen());
        Ok(())
    })
    .with_context(|| format!("before: {answered:?}\n{}", scene.logs()))?;
    asked(&asking, 100)?;
    let seen = asking.finish()?;
    let heir = scene.owner(address)?;
    ensure!(heir != first && seen.gap < GAP, "{heir} after {first}: {seen:?}");
    println!("owner's power off: {first} -> {heir}, the client saw nothing for {} ms", seen.gap.as_millis());

    // It returns, and takes nothing back.
    let asking = Asking::start(&client, to, millis(5), millis(3000));
    scene.installed.cluster.lan.link(&scene.nodes()[dead].host, true)?;
    let back = scene.installed.speaker(&scene.nodes()[dead])?;
    scene.speakers[dead] = back;
    let alive = format!("{SPEAKERS}/{first}");
    until("the node says that it owns nothing", secs(20), || {
        let speaker = scene.installed.control().rest.get(&alive)?;
        ensure!(speaker["status"]["owns"] == 0, "{}", speaker["status"]);
        Ok(())
    })?;
    for _ in 0..3 {
        scene.owned_by(address, &[&heir])?;
    }
    let seen = asking.finish()?;
    ensure!(seen.lost == 0, "while {first} came back: {seen:?}");
    println!("owner back: nothing moved, {} requests, none lost, longest gap {} ms", seen.sent, seen.gap.as_millis());

    told(census)?;

    // Shutdown: handed over.
    let census = Census::start(&counter, COUNTER, v4(address)?, millis(10))?;
    let asking = Asking::start(&client, to, millis(5), millis(3000));
    asked(&asking, 100)?;
    let leaving = scene.nodes().iter().position(|n| n.name == heir).context("no such node")?;
    scene.speakers.remove(leaving).stop()?;
    asked(&asking, 200)?;
    let seen = asking.finish()?;
    let next = scene.owner(address)?;
    // Connections that are open at that moment end: the next owner does not know them.
    ensure!(next != heir && seen.gap < millis(400), "{next} after {heir}: {seen:?}");
    println!(
        "owner's shutdown: {heir} -> {next}, longest gap {} ms, lost {} of {}",
        seen.gap.as_millis(),
        seen.lost,
        seen.sent
    );
    told(census)
}

/// D1: one owner, then the other.
fn told(census: Census) -> Result<()> {
    let answers = census.finish()?;
    let owners: Vec<String> = answers.owners().iter().map(ToString::to_string).collect();
    println!("{} questions by ARP: {} answers, of {owners:?} one after the other", answers.questions, answers.by.len());
    ensure!(owners.len() == 2 && answers.by.len() <= answers.questions, "{owners:?}");
    Ok(())
}

fn v4(address: IpAddr) -> Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("{address} is not an IPv4 address"),
    }
}

fn pool_of(name: &str) -> Value {
    json!({"eip.openelb.kubesphere.io/v1alpha2": name})
}

fn candidates(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    scene.installed.pool("eip-pool", POOL, &json!({}))?;
    let address = scene.installed.service("web", 1, &pool_of("eip-pool"), &json!({}))?[0];
    let ready =
        |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "Lab"}]}});
    let label = |value: Value| json!({"metadata": {"labels": {EXCLUDE: value}}});

    // D8: a node that is not Ready is withdrawn, though its speaker lives; cordon alone changes nothing.
    let first = scene.owner(address)?;
    scene.patch_node(&first, "", &json!({"spec": {"unschedulable": true}}))?;
    scene.owned_by(address, &[&first])?;
    scene.patch_node(&first, "/status", &ready("False"))?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|n| *n != first).collect();
    scene.owned_by(address, &others)?;
    scene.patch_node(&first, "/status", &ready("True"))?;
    scene.patch_node(&first, "", &json!({"spec": {"unschedulable": null}}))?;

    // The label keeps load balancers away; when every node has it, it is ignored.
    let second = scene.owner(address)?;
    scene.patch_node(&second, "", &label(json!("")))?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|n| *n != second).collect();
    scene.owned_by(address, &others)?;
    for name in &others {
        scene.patch_node(name, "", &label(json!("")))?;
    }
    scene.owned_by(address, &["n1", "n2", "n3"])?;
    for name in ["n1", "n2", "n3"] {
        scene.patch_node(name, "", &label(Value::Null))?;
    }

    // D29: the pool says which nodes may; none is withdrawn with the reason.
    let rest = &scene.installed.control().rest;
    let path = format!("{}/eip-pool", common::POOLS);
    let select = |name: &str| json!({"spec": {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": name}}}});
    for name in ["n2", "n3"] {
        rest.patch(&path, &select(name))?;
        scene.owned_by(address, &[name])?;
    }
    rest.patch(&path, &select("n9"))?;
    scene.silent(address)?;
    let message = scene.announced("web", "NodeSelectorMatchesNone")?;
    ensure!(message.contains("eip-pool") && message.contains("nodeSelector"), "{message}");
    rest.patch(&path, &json!({"spec": {"nodeSelector": null}}))?;
    scene.owner(address)?;
    scene.announced("web", "Announced").map(drop)
}

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn local(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let cluster = &scene.installed.cluster;
    scene.installed.pool("eip-pool", POOL, &json!({}))?;
    let spec = json!({"externalTrafficPolicy": "Local"});
    let address = scene.installed.service("web", 1, &pool_of("eip-pool"), &spec)?[0];
    let message = scene.announced("web", "NoServingEndpoints")?;
    ensure!(message.contains(&address.to_string()), "{message}");
    scene.silent(address)?;

    let mut wherever = Vec::new();
    for name in ["n3", "n1"] {
        // The only serving endpoint is here, and the pod sees who asks.
        let pod = scene.pod(name, &format!("web-{name}"))?;
        scene.owned_by(address, &[name])?;
        let text = until("the pod answers", secs(20), || get(&cluster.client, SocketAddr::new(address, 80), secs(1)))?;
        let right = text.starts_with(&format!("pod=web-{name} ")) && text.ends_with(":192.168.0.100");
        ensure!(right, "{text}");
        // D2: none left.
        cluster.set_ready(scene.node(name)?, &pod, false)?;
        scene.silent(address)?;
        wherever.push((name, pod));
    }
    scene.announced("web", "NoServingEndpoints")?;
    let (name, pod) = wherever.pop().context("no pod")?;
    cluster.set_ready(scene.node(name)?, &pod, true)?;
    scene.owned_by(address, &[name])?;
    scene.announced("web", "Announced")?;

    // The pod is told to end; it serves until it does, and the address stays until then.
    let asking = Asking::start(&cluster.client, SocketAddr::new(address, 80), millis(10), millis(3000));
    scene.installed.control().kubectl(&["delete", "pod", &pod.name, "--grace-period=600", "--wait=false"])?;
    until("the endpoint is terminating and serves", secs(20), || {
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let slices = scene.installed.control().list(slices)?;
        let mut endpoints = slices.iter().flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
        let conditions = |e: &Value| e["conditions"]["terminating"] == true && e["conditions"]["serving"] == true;
        ensure!(endpoints.any(conditions), "{slices:?}");
        Ok(())
    })?;
    for _ in 0..2 {
        scene.owned_by(address, &[name])?;
    }
    let seen = asking.finish()?;
    ensure!(seen.lost == 0, "{seen:?}");
    println!("terminating endpoint: {} requests, none lost, longest gap {} ms", seen.sent, seen.gap.as_millis());
    cluster.set_ready(scene.node(name)?, &pod, false)?;
    scene.silent(address)
}

fn interfaces(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let cluster = &scene.installed.cluster;
    // A second network, which is no way to the API server.
    let second = lab.switch("second")?;
    second.plug(&cluster.client, "eth1", &["172.20.0.100/24"])?;
    let plug = |node: &Node| second.plug(&node.host, "ens256", &[&format!("172.20.0.{}/24", node.number)]);
    for node in scene.nodes() {
        plug(node)?;
    }
    // The Service's nodes: one, so that nobody else can step in.
    let one = json!({"matchLabels": {"kubernetes.io/hostname": "n2"}});
    let more = json!({"interface": "can_reach:172.20.0.100", "nodeSelector": one});
    scene.installed.pool("routed", "172.20.0.200-172.20.0.210", &more)?;
    let more = json!({"interface": "ens256", "nodeSelector": one});
    scene.installed.pool("named", "172.20.0.220-172.20.0.230", &more)?;
    let n2 = scene.node("n2")?;
    let both = [
        scene.installed.service("routed", 1, &pool_of("routed"), &json!({}))?[0],
        scene.installed.service("named", 1, &pool_of("named"), &json!({}))?[0],
    ];
    let answered = || {
        for address in both {
            until(&format!("n2 answers for {address} on the second network"), secs(20), || {
                let found = client::arp(&cluster.client, "eth1", address)?;
                ensure!(found.into_iter().eq([n2.host.mac("ens256")?]), "not n2 alone");
                Ok(())
            })
            .with_context(|| scene.logs())?;
            let found = client::arp(&cluster.client, "eth0", address)?;
            ensure!(found.is_empty(), "{address} is answered on the first network by {found:?}");
        }
        Ok(())
    };
    answered()?;
    n2.host.ip("link del ens256")?;
    let message = scene.announced("named", "InterfaceMissing")?;
    ensure!(message.contains("ens256") && message.contains("n2"), "{message}");
    plug(n2)?;
    answered()?;
    for name in ["named", "routed"] {
        scene.announced(name, "Announced")?;
    }
    // Where another node may, it takes over.
    let path = format!("{}/named", common::POOLS);
    let two = json!({"nodeSelector": {"matchLabels": null, "matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2", "n3"]}]}});
    scene.installed.control().rest.patch(&path, &json!({"spec": two}))?;
    answered()?;
    n2.host.ip("link del ens256")?;
    let n3 = scene.node("n3")?.host.mac("ens256")?;
    until("n3 answers", secs(20), || {
        let found = client::arp(&cluster.client, "eth1", both[1])?;
        ensure!(found.contains(&n3), "{found:?}");
        Ok(())
    })
    .with_context(|| scene.logs())
}

fn snapshot(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.installed.pool("eip-pool", POOL, &json!({}))?;
    let address = scene.installed.service("web", 1, &pool_of("eip-pool"), &json!({}))?[0];
    scene.owner(address)?;
    scene.announced("web", "Announced")?;
    scene.installed.cluster.control.stop_api()?;
    // With the API server away an owner stays owner …
    scene.owner(address)?;
    // … also after every speaker was killed and started again.
    for speaker in &scene.speakers {
        speaker.kill()?;
    }
    scene.silent(address)?;
    let start = |node: &Node| scene.installed.start_speaker(node);
    let again = scene.nodes().iter().map(start).collect::<Result<Vec<_>>>()?;
    scene.speakers = again;
    let owner = scene.owner(address)?;
    println!("the API server is away, all speakers are new: {owner} answers");
    scene.installed.cluster.control.start_api()?;
    scene.owned_by(address, &[&owner])
}

fn families(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let cluster = &scene.installed.cluster;
    let both = format!("{POOL}, fd00:192:168::180-fd00:192:168::190");
    scene.installed.pool("eip-pool", &both, &json!({}))?;
    // D12: a second pool on the same interface.
    scene.installed.pool("second", "192.168.1.0/28", &json!({}))?;
    let _pod = scene.pod("n1", "web")?;
    let spec = json!({"ipFamilyPolicy": "PreferDualStack"});
    let found = scene.installed.service("dual", 2, &pool_of("eip-pool"), &spec)?;
    let other = scene.installed.service("other", 1, &pool_of("second"), &json!({}))?;
    let (Some(v4), Some(v6)) =
        (found.iter().find(|ip| ip.is_ipv4()).copied(), found.iter().find(|ip| ip.is_ipv6()).copied())
    else {
        bail!("not one of each family: {found:?}");
    };
    for address in [v4, other[0]] {
        scene.owner(address)?;
    }
    let macs = scene.nodes().iter().map(|n| n.host.mac(DEVICE)).collect::<Result<Vec<_>>>()?;
    let neighbour = until("a node answers the neighbour solicitation", secs(20), || {
        cluster.client.run(&format!("ndisc6 -m -q {v6} eth0"))
    })
    .with_context(|| scene.logs())?;
    let answers: Vec<String> = neighbour.lines().map(str::to_lowercase).collect();
    ensure!(answers.len() == 1 && macs.contains(&answers[0]), "{answers:?} of {macs:?}");
    for address in [v4, v6, other[0]] {
        let text = until("the pod answers", secs(20), || get(&cluster.client, SocketAddr::new(address, 80), secs(2)))?;
        ensure!(text.starts_with("pod=web node=n1"), "{text}");
    }
    let curl = cluster.client.run(&format!("curl -6 -sS --max-time 2 http://[{v6}]/"))?;
    ensure!(curl.starts_with("pod=web node=n1"), "{curl}");
    // One pool of one family: what there is.
    let single = scene.installed.service("single", 1, &pool_of("second"), &spec)?;
    let service = scene.installed.control().rest.get(&format!("{SERVICES}/single"))?;
    ensure!(addresses(&service) == single && single[0].is_ipv4(), "{single:?}");
    // Both or nothing: it waits, and says for what.
    let both = json!({"ipFamilyPolicy": "RequireDualStack"});
    scene.installed.control().rest.create(&common::service("require", &pool_of("second"), &both))?;
    let path = format!("{SERVICES}/require");
    let message = scene.installed.said(&path, "openelb.io/AddressAssigned", "FamilyMismatch")?;
    ensure!(message.contains("RequireDualStack") && message.contains("IPv6"), "{message}");
    ensure!(addresses(&scene.installed.control().rest.get(&path)?).is_empty(), "it took one family");
    println!("{v4} by ARP, {v6} by neighbour discovery: both reached");
    Ok(())
}
