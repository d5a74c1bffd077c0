//! OpenELB's walk-through on real nodes: `deploy/openelb.yaml` as it is, our image in real pods under exactly its service accounts, a
//! real nginx, a real kubectl; and its removal, in any order.
#![allow(clippy::print_stdout, reason = "tells what it measured")]

use anyhow::{Context, Result, bail, ensure};
use lab::client::Asking;
use lab::host::Lab;
use lab::suite::{self, Test};
use lab::wait::{millis, secs, until};
use lab::walkthrough::{NAMESPACE, Walk};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the removal may take, whatever its order.
const REMOVAL: Duration = secs(90);
/// How long a client may see nothing when the owner's node dies; the lab's machine is busy.
const FAILOVER: Duration = secs(3);

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("the_walk_through_works_as_written", walk_through),
        ("it_is_removed_in_any_order_and_nothing_remains_or_hangs", removal),
    ];
    suite::main(tests)
}

fn walk_through(lab: &Lab) -> Result<()> {
    let walk = Walk::start(lab, 3, false)?;
    let applied = Instant::now();
    walk.kubectl("apply -f deploy/openelb.yaml")?;
    walk.ready()?;
    let ready = applied.elapsed();

    walk.kubectl("apply -f eip.yaml")?;
    let created = Instant::now();
    walk.kubectl("apply -f nginx.yaml")?;
    let (address, given, reached) = walk.reached(created)?;
    ensure!(address == IpAddr::from([192, 168, 0, 180]), "{address} is not the first of the pool");
    what_is_shown(&walk, address)?;
    overlap_is_refused(&walk)?;
    let owner = walk.owner(address)?;
    let (moved, gap) = pod_deleted(&walk, address, &owner)?;
    let (heir, failover) = node_dies(&walk, address, &moved)?;
    allowed(&walk)?;
    fenced(&walk)?;
    println!(
        "walk-through: apply-to-ready {} ms, create-to-address {} ms, create-to-curl {} ms; {owner} → {moved} (pod deleted) {} ms, → {heir} (node dead) {} ms",
        ready.as_millis(),
        given.as_millis(),
        reached.as_millis(),
        gap.as_millis(),
        failover.as_millis()
    );

    removed(&walk, Some(address), &["delete -f deploy/openelb.yaml"])?;
    let cleaned = walk.clean()?;
    ensure!(cleaned.contains("cleaned 1 Services"), "{cleaned}");
    ensure!(walk.external_ip().is_err(), "the Service still has an address");
    let service = walk.kubectl("get service nginx -o yaml")?;
    ensure!(!service.contains("openelb.io/"), "a condition of ours remains:\n{service}");
    ensure!(!service.contains("labels:"), "a label of ours remains:\n{service}");
    walk.kubectl("delete -f nginx.yaml --timeout=60s").map(drop)
}

/// What `kubectl` shows a user.
fn what_is_shown(walk: &Walk, address: IpAddr) -> Result<()> {
    let row = walk.kubectl("get svc nginx --no-headers")?;
    ensure!(row.split_whitespace().nth(3) == Some(&address.to_string()), "EXTERNAL-IP is not {address}: {row}");
    until("the pool's status", secs(10), || {
        let text = walk.kubectl("get eip")?;
        let words: Vec<&str> = text.split_whitespace().collect();
        // 2.190 is 2 · 256 + 190 − 180 + 1 addresses after 0.180.
        ensure!(
            words == ["NAME", "CIDR", "USAGE", "TOTAL", "eip-pool", "192.168.0.180-192.168.2.190", "1", "523"],
            "{text}"
        );
        Ok(())
    })?;
    until("the event", secs(10), || {
        let text = walk.kubectl("describe svc nginx")?;
        ensure!(text.contains("AssignIP") && text.contains(&address.to_string()), "{text}");
        Ok(())
    })?;
    until("the speakers' table", secs(10), || {
        let text = walk.kubectl("get speakers")?;
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        ensure!(lines.next().is_some_and(|head| head.starts_with(&["NAME", "OWNS", "ALIVE"])), "{text}");
        let rows: Vec<_> = lines.collect();
        ensure!(rows.iter().map(|row| row[0]).eq(["n1", "n2", "n3"]), "{text}");
        ensure!(rows.iter().all(|row| row[2] == "True"), "{text}");
        // A node in trouble has one column more.
        let trouble = || walk.kubectl("get speakers -o jsonpath={.items[*].status.warnings}").unwrap_or_default();
        ensure!(rows.iter().all(|row| row.len() == 4), "{text}{}", trouble());
        ensure!(rows.iter().map(|row| row[1]).filter(|owns| *owns == "1").count() == 1, "{text}");
        Ok(())
    })?;
    until("the Service's conditions", secs(10), || {
        for condition in ["AddressAssigned", "Announced"] {
            walk.kubectl(&format!("wait svc/nginx --for=condition=openelb.io/{condition} --timeout=1s"))?;
        }
        Ok(())
    })
}

/// The webhook answers over its real Service.
fn overlap_is_refused(walk: &Walk) -> Result<()> {
    let overlapping = lab::walkthrough::EIP.replace("name: eip-pool", "name: second").replace("\"true\"", "\"false\"");
    let path = walk.write("second.yaml", &overlapping)?;
    let error = match walk.kubectl(&format!("apply -f {path}")) {
        Ok(text) => bail!("an overlapping pool was taken: {text}\n{}", walk.logs()?),
        Err(error) => format!("{error:#}"),
    };
    ensure!(error.contains("validate.eip.network.kubesphere.io") && error.contains("overlap"), "{error}");
    ensure!(error.contains("eip-pool"), "it does not name the other pool: {error}");
    let error = walk.kubectl("delete eip eip-pool").err().context("a pool in use was deleted")?;
    ensure!(format!("{error:#}").contains("default/nginx"), "it does not name the Service: {error:#}");
    Ok(())
}

/// The owner's pod is deleted, as in an update: another node takes over, and the old one takes nothing back. Who, and how long the
/// client saw nothing.
fn pod_deleted(walk: &Walk, address: IpAddr, owner: &str) -> Result<(String, Duration)> {
    let asking = asks(walk, address)?;
    let pod = walk.speaker(owner)?;
    walk.kubectl(&format!("delete pod -n {NAMESPACE} {pod} --timeout=60s"))?;
    walk.ready()?;
    let now = walk.owner(address)?;
    let gap = asking.finish()?.gap;
    ensure!(gap < FAILOVER, "the client saw nothing for {} ms\n{}", gap.as_millis(), walk.logs()?);
    Ok((now, gap))
}

/// The owner's node loses its network: another takes over; it comes back, and one node answers.
fn node_dies(walk: &Walk, address: IpAddr, owner: &str) -> Result<(String, Duration)> {
    let node = walk.cluster.nodes.iter().find(|node| node.name == owner).context("no such node")?;
    let asking = asks(walk, address)?;
    walk.cluster.lan.link(&node.host, false)?;
    let heir = walk.owner(address)?;
    ensure!(heir != owner, "{owner} is dead and answers");
    let sent = asking.seen().sent;
    until("the client asks on", secs(10), || enough(&asking, sent + 100))?;
    let gap = asking.finish()?.gap;
    ensure!(gap < FAILOVER, "the client saw nothing for {} ms\n{}", gap.as_millis(), walk.logs()?);
    walk.cluster.lan.link(&node.host, true)?;
    walk.kubectl(&format!("wait node/{owner} --for=condition=Ready --timeout=60s"))?;
    // It heard nobody and went on owning: of the two the first in placement order keeps the address, the other yields.
    let after = walk.owner(address)?;
    ensure!([owner, &heir].contains(&after.as_str()), "{after} took {address}, which had an owner");
    Ok((heir, gap))
}

fn asks(walk: &Walk, address: IpAddr) -> Result<Asking> {
    let asking = Asking::start(&walk.cluster.client, SocketAddr::new(address, 80), millis(10), millis(500));
    until("the client asks", secs(10), || enough(&asking, 100))?;
    Ok(asking)
}

fn enough(asking: &Asking, wanted: usize) -> Result<()> {
    let sent = asking.seen().sent;
    ensure!(sent >= wanted, "{sent} requests");
    Ok(())
}

/// With the two capabilities of docs/src/failover.md the kernel's fence stands in a real container, and an address of vip
/// is on its owner's interface.
fn fenced(walk: &Walk) -> Result<()> {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/failover.md"))?;
    let patch = docs.split("--type=json -p '").nth(1).and_then(|rest| rest.split('\'').next());
    let patch = patch.context("the patch is not in docs/src/failover.md any more")?;
    let control = &walk.cluster.control;
    control.kubectl(&["patch", "daemonset", "openelb-speaker", "-n", NAMESPACE, "--type=json", "-p", patch])?;
    let rollout = ["rollout", "status", "daemonset/openelb-speaker", "-n", NAMESPACE, "--timeout=120s"];
    control.kubectl(&rollout)?;
    for node in &walk.cluster.nodes {
        let metrics = node.host.run("curl -sSf --max-time 2 http://127.0.0.1:50053/metrics")?;
        ensure!(metrics.lines().any(|line| line == "oxelb_fenced 1"), "{}: no fence\n{}", node.name, walk.logs()?);
    }
    let pool = walk.write("vip.yaml", VIP)?;
    walk.kubectl(&format!("apply -f {pool}"))?;
    until("the address is on one node's interface", secs(60), || {
        let mut names = Vec::new();
        for node in &walk.cluster.nodes {
            if node.host.ip("addr show")?.contains(" 192.168.3.91/32") {
                names.push(node.name.as_str());
            }
        }
        ensure!(names.len() == 1, "{names:?}");
        Ok(())
    })?;
    walk.kubectl("delete service vip --timeout=60s")?;
    until("the pool can be deleted", secs(20), || walk.kubectl("delete eip vip-pool --timeout=10s").map(drop))
}

/// A pool for vip, and a Service that has its only address.
const VIP: &str = "apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: vip-pool}
spec: {address: 192.168.3.91, protocol: vip, interface: ens160}
---
apiVersion: v1
kind: Service
metadata:
  name: vip
  annotations: {lb.kubesphere.io/v1alpha1: openelb, eip.openelb.kubesphere.io/v1alpha2: vip-pool}
spec: {type: LoadBalancer, selector: {app: nginx}, ports: [{port: 80}]}
";

/// The pods' service accounts may do all that the pods try to do.
fn allowed(walk: &Walk) -> Result<()> {
    let logs = walk.logs()?;
    let denied: Vec<&str> = logs.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    ensure!(denied.is_empty(), "{}", denied.join("\n"));
    ensure!(logs.contains("openelb-controller") && logs.contains("openelb-speaker"), "no logs: {logs}");
    Ok(())
}

/// Removes with these lines of kubectl: each ends in time, nothing of ours remains, no node answers.
fn removed(walk: &Walk, address: Option<IpAddr>, lines: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    for line in lines {
        let command = format!("{line} --ignore-not-found --timeout={}s", REMOVAL.as_secs() / 4);
        while let Err(error) = walk.kubectl(&command) {
            let held = || format!("{lines:?}: {error:#}; {:?}", walk.remains());
            ensure!(start.elapsed() < REMOVAL, "{}", held());
            wake_api_server(walk).with_context(held)?;
        }
    }
    let took = start.elapsed();
    ensure!(took < REMOVAL, "{lines:?} took {} s", took.as_secs());
    until("all is gone", secs(10), || {
        let remains = walk.remains()?;
        ensure!(remains.is_empty(), "{remains:?}");
        Ok(())
    })?;
    if let Some(address) = address {
        let answering = walk.answering(address)?;
        ensure!(answering.is_empty(), "{answering:?} still answer for {address}");
    }
    println!("removed by {lines:?} in {} ms", took.as_millis());
    Ok(took)
}

/// The API server sometimes fails to finish the removal of a CRD that it has just made and that has no object ("storage
/// is (re)initializing"), and looks again only when the CRD changes. What is held by anything of ours is not touched.
fn wake_api_server(walk: &Walk) -> Result<()> {
    for crd in walk.cluster.control.list("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")? {
        let name = crd["metadata"]["name"].as_str().unwrap_or_default();
        let own = serde_json::json!(["customresourcecleanup.apiextensions.k8s.io"]);
        ensure!(crd["metadata"]["finalizers"] == own, "{name} is held by {}", crd["metadata"]["finalizers"]);
        println!("the API server has not finished the removal of {name}: it is asked again");
        walk.kubectl(&format!("annotate crd {name} --overwrite asked-again=yes"))?;
    }
    Ok(())
}

fn removal(lab: &Lab) -> Result<()> {
    let walk = Walk::start(lab, 1, false)?;
    let all = "delete -f deploy/openelb.yaml";
    let orders: [&[&str]; 4] = [
        &["delete namespace openelb-system", all],
        &[
            "delete crd eips.network.kubesphere.io bgpconfs.network.kubesphere.io bgppeers.network.kubesphere.io speakers.oxelb.io",
            all,
        ],
        &["delete clusterrolebinding openelb-controller openelb-speaker", all],
        // In the foreground: while its pod still runs, the controller rightly refuses to delete a pool in use.
        &["delete deployment -n openelb-system openelb-controller --cascade=foreground", "delete eip eip-pool", all],
    ];
    for order in orders {
        walk.kubectl("apply -f deploy/openelb.yaml")?;
        walk.ready()?;
        walk.kubectl("apply -f eip.yaml")?;
        walk.kubectl("apply -f nginx.yaml")?;
        let (address, ..) = walk.reached(Instant::now())?;
        removed(&walk, Some(address), order)?;
        // The Service keeps its address, as its status says; it can be deleted all the same.
        walk.kubectl("delete -f nginx.yaml --timeout=60s")?;
    }
    // At any moment: before anything runs.
    walk.kubectl("apply -f deploy/openelb.yaml")?;
    removed(&walk, None, &[all]).map(drop)
}
