//! `lab demo`: the main job without Kubernetes. Three nodes, a router and a client; a controller and three speakers on a folder of YAML;
//! an address is given, reached, and taken over when its owner dies.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use crate::client::{self, Asking};
use crate::cluster::{DEVICE, nginx};
use crate::host::{Host, Lab};
use crate::oxelb::{self, Source};
use crate::process::{Process, require};
use crate::sandbox::Sandbox;
use crate::wait::{millis, secs, until};

/// The pool, small enough to put on each node's `lo` beforehand.
const POOL: &str = "192.168.0.180-192.168.0.190";
const PICTURE: &str = "
    client 203.0.113.2 ── router 192.168.0.1 ─┬─ n1 192.168.0.11  nginx, speaker
                                              ├─ n2 192.168.0.12  nginx, speaker
                                              └─ n3 192.168.0.13  nginx, speaker   controller
";

/// One line a step, each with the time since the start.
struct Narrator(Instant);

impl Narrator {
    fn say(&self, text: &str) {
        println!("[{:6.2} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

struct Node {
    name: String,
    host: Host,
    mac: String,
    processes: Vec<Process>,
}

/// Runs the demo; the last line it prints is for scripts.
pub fn run(sandbox: &Sandbox) -> Result<()> {
    require(&["ip", "nginx", "arping", "curl"])?;
    oxelb::binary()?;
    let tell = Narrator(Instant::now());
    println!("oxelb: one address, three nodes, and the death of its owner\n{PICTURE}");
    let lab = Lab::new(sandbox, "demo")?;
    let lan = lab.switch("lan")?;
    let (router, client) = (lab.host("router")?, lab.host("client")?);
    lan.plug(&router, "eth0", &["192.168.0.1/22"])?;
    router.cable("eth1", &client, "eth0")?;
    router.address("eth1", "203.0.113.1/24")?;
    router.forward()?;
    client.address("eth0", "203.0.113.2/24")?;
    client.ip("route add default via 203.0.113.1")?;

    let folder = lab.folder("objects")?;
    let mut nodes = Vec::new();
    for number in 1..=3 {
        let (name, address) = (format!("n{number}"), format!("192.168.0.{}", 10 + number));
        let host = lab.host(&name)?;
        lan.plug(&host, DEVICE, &[&format!("{address}/22")])?;
        host.ip("route add default via 192.168.0.1")?;
        // Direct server return: each node takes packets for the pool, and none answers ARP for it by itself.
        host.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
        host.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
        for last in 180..=190 {
            host.address("lo", &format!("192.168.0.{last}/32"))?;
        }
        fs::write(folder.join(format!("{name}.yaml")), node_manifest(&name, &address))?;
        let mac = host.mac(DEVICE)?;
        let server = nginx(&lab, &host, &name)?;
        nodes.push(Node { name, host, mac, processes: vec![server] });
    }
    tell.say("three nodes, a router and a client: each a network namespace; nginx runs on the nodes");

    let source = Source::Folder(folder.clone());
    let controller = nodes[2].host.spawn("controller", oxelb::controller(&source)?)?;
    for node in &mut nodes {
        let state = lab.folder(&format!("state.{}", node.name))?;
        let speaker = node.host.spawn("speaker", oxelb::speaker(&source, &node.name, &state)?)?;
        node.processes.push(speaker);
    }
    for node in &nodes {
        let status = folder.join("status").join(format!("Speaker.{}.yaml", node.name));
        let speaker = node.processes.last().context("no speaker")?;
        speaker.until("the speaker has recorded the acceptors and is ready", secs(15), || {
            controller.check()?;
            let said = fs::read_to_string(&status)?;
            ensure!(said.contains("epoch: 1") && said.contains("ready: true"), "{said}");
            Ok(())
        })?;
    }
    tell.say("a controller and three speakers read a folder of YAML; a majority of n1, n2 and n3 makes an owner");
    apply(&folder, "eip", &eip_manifest())?;
    tell.say(&format!("applied: Eip eip-pool, {POOL}, protocol layer2, interface {DEVICE}"));
    until("the pool is known", secs(10), || {
        controller.check()?;
        Ok(fs::read_to_string(folder.join("status/Eip.eip-pool.yaml"))?)
    })
    .with_context(|| controller.tail(10))?;

    let created = Instant::now();
    apply(&folder, "nginx", &service_manifest())?;
    let address = until("the Service has an address", secs(15), || {
        controller.check()?;
        given(&fs::read_to_string(folder.join("status/Service.default.nginx.yaml"))?)
    })
    .with_context(|| controller.tail(10))?;
    let to_address = created.elapsed();
    let to = SocketAddr::new(address, 80);
    let first = until("nginx answers the client", secs(15), || client::get(&client, to, millis(20)));
    let owner = first.with_context(|| logs(&nodes))?;
    let to_curl = created.elapsed();
    tell.say("applied: Service nginx, type LoadBalancer, and its EndpointSlice");
    tell.say(&format!("EXTERNAL-IP {address}, {} ms after the Service was created", to_address.as_millis()));
    let page = client.run(&format!("curl -sS --max-time 2 http://{address}/"))?;
    tell.say(&format!(
        "client$ curl http://{address}/   → {} ({} ms after creation)",
        page.trim(),
        to_curl.as_millis()
    ));
    only(&router, address, &nodes, &owner)?;
    tell.say(&format!("the router asks by ARP who has {address}: {owner} answers, and nobody else"));

    let asking = Asking::start(&client, to, millis(5), millis(500));
    until("the client has asked for a while", secs(10), || enough(asking.seen().sent, 100))?;
    let dead = nodes.iter().position(|node| node.name == owner).with_context(|| format!("no node {owner}"))?;
    let dead = nodes.remove(dead);
    lan.link(&dead.host, false)?;
    drop(dead);
    tell.say(&format!("{owner} dies: power off, no goodbye (the client asks every 5 ms)"));
    let heir = until("another node takes over", secs(20), || {
        asking.seen().answered.into_iter().find(|name| *name != owner).context("nobody answers")
    })
    .with_context(|| logs(&nodes))?;
    let sent = asking.seen().sent;
    until("the client has asked for a while", secs(10), || enough(asking.seen().sent, sent + 100))?;
    let seen = asking.finish()?;
    only(&router, address, &nodes, &heir)?;
    tell.say(&format!(
        "{heir} took over: the client saw nothing for {} ms; {} of {} requests lost",
        seen.gap.as_millis(),
        seen.lost,
        seen.sent
    ));

    for node in nodes {
        for process in node.processes {
            process.stop()?;
        }
    }
    if owner != "n3" {
        controller.stop()?;
    }
    tell.say("all stopped; nothing remains");
    println!(
        "demo: ok external-ip={address} create-to-address-ms={} create-to-curl-ms={} owner={owner} new-owner={heir} failover-ms={} lost={}",
        to_address.as_millis(),
        to_curl.as_millis(),
        seen.gap.as_millis(),
        seen.lost
    );
    Ok(())
}

fn enough(sent: usize, wanted: usize) -> Result<()> {
    ensure!(sent >= wanted, "{sent} requests");
    Ok(())
}

fn logs(nodes: &[Node]) -> String {
    let tails = nodes.iter().flat_map(|node| &node.processes).map(|p| format!("{}:\n{}", p.name(), p.tail(8)));
    tails.collect::<Vec<_>>().join("\n")
}

/// Fails unless exactly the node called `owner` answers ARP for `address`.
fn only(router: &Host, address: IpAddr, nodes: &[Node], owner: &str) -> Result<()> {
    let names: BTreeMap<&str, &str> = nodes.iter().map(|node| (node.mac.as_str(), node.name.as_str())).collect();
    let answers = client::arp(router, "eth0", address)?;
    let who: Vec<&str> = answers.iter().map(|mac| names.get(mac.as_str()).copied().unwrap_or("a stranger")).collect();
    if who != [owner] {
        bail!("{address} is answered by {who:?}, not by {owner} alone");
    }
    Ok(())
}

/// The first address in a status file.
fn given(status: &str) -> Result<IpAddr> {
    let mut words = status.split_whitespace().skip_while(|word| *word != "ip:");
    let word = words.nth(1).context("no address yet")?;
    Ok(word.trim_matches(['"', '\'']).parse()?)
}

/// Writes a manifest as an editor does: whole, or not at all.
fn apply(folder: &Path, name: &str, text: &str) -> Result<()> {
    let draft = folder.join(format!(".{name}"));
    fs::write(&draft, text)?;
    fs::rename(&draft, folder.join(format!("{name}.yaml")))?;
    Ok(())
}

fn node_manifest(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus:\n  \
         addresses: [{{type: InternalIP, address: {address}}}]\n  conditions: [{{type: Ready, status: 'True'}}]\n"
    )
}

fn eip_manifest() -> String {
    format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata:\n  name: eip-pool\n  \
         annotations: {{eip.openelb.kubesphere.io/is-default-eip: 'true'}}\n\
         spec: {{address: {POOL}, protocol: layer2, interface: {DEVICE}, disable: false}}\n"
    )
}

fn service_manifest() -> String {
    let endpoint = |n: u8| {
        format!("- {{addresses: [192.168.0.{}], nodeName: n{n}, conditions: {{ready: true, serving: true}}}}\n", 10 + n)
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: nginx\n  namespace: default\n  annotations:\n    \
         lb.kubesphere.io/v1alpha1: openelb\n    protocol.openelb.kubesphere.io/v1alpha1: layer2\n    \
         eip.openelb.kubesphere.io/v1alpha2: eip-pool\n\
         spec: {{type: LoadBalancer, selector: {{app: nginx}}, ports: [{{name: http, port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: nginx-1\n  namespace: default\n  \
         labels: {{kubernetes.io/service-name: nginx}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints:\n{}{}{}",
        endpoint(1),
        endpoint(2),
        endpoint(3)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_a_status_file() -> Result<()> {
        let text = "status:\n  loadBalancer:\n    ingress:\n    - ip: 192.168.0.180\n      ipMode: VIP\n";
        assert_eq!(given(text)?, IpAddr::from([192, 168, 0, 180]));
        assert!(given("status: {}\n").is_err());
        Ok(())
    }
}
