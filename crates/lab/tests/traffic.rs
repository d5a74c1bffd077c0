//! Services in full: through an address of ours and the real kube-proxy (nftables), traffic does what Kubernetes
//! documents for each field of a Service.

mod common;

use anyhow::{Context, Result, ensure};
use common::{Installed, SERVICES};
use lab::client::{answer_udp, ask_udp, get};
use lab::cluster::Pod;
use lab::host::{Host, Lab};
use lab::process::Process;
use lab::suite::{self, Test};
use lab::wait::{millis, secs, until};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;

const ADDRESS: &str = "eip.openelb.kubesphere.io/v1alpha1";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("source_ranges_keep_others_out_and_the_health_check_port_says_which_node_serves", reach),
        ("tcp_and_udp_ports_affinity_and_shared_addresses_work_without_node_ports", ports),
        ("sctp_is_forwarded_and_answered", sctp),
    ];
    suite::main(tests)
}

struct Scene {
    installed: Installed,
    _running: Vec<Process>,
}

impl Scene {
    fn new(lab: &Lab) -> Result<Scene> {
        let installed = Installed::with_nodes(lab, 2)?;
        let mut running = vec![installed.only_controller()?];
        for node in &installed.cluster.nodes {
            running.push(installed.speaker(node)?);
        }
        installed.pool("eip-pool", "192.168.0.180-192.168.0.190", &json!({}))?;
        Ok(Scene { installed, _running: running })
    }

    fn client(&self) -> &Host {
        &self.installed.cluster.client
    }

    fn pod(&self, node: usize, name: &str, app: &str) -> Result<Pod> {
        self.installed.cluster.pod(&self.installed.cluster.nodes[node], name, &json!({"app": app}))
    }

    /// Makes a Service of the pool; its first address.
    fn service(&self, name: &str, more: &Value, spec: &Value) -> Result<IpAddr> {
        let mut annotations = json!({"eip.openelb.kubesphere.io/v1alpha2": "eip-pool"});
        for (key, value) in more.as_object().into_iter().flatten() {
            annotations[key] = value.clone();
        }
        Ok(self.installed.service(name, 1, &annotations, spec)?[0])
    }

    fn read(&self, name: &str) -> Result<Value> {
        self.installed.control().rest.get(&format!("{SERVICES}/{name}"))
    }

    fn ask(&self, address: IpAddr, port: u16) -> Result<String> {
        let to = SocketAddr::new(address, port);
        until(&format!("{to} answers"), secs(20), || get(self.client(), to, secs(1)))
    }
}

fn reach(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let lan = &scene.installed.cluster.lan;
    let stranger = lab.host("stranger")?;
    lan.plug(&stranger, "eth0", &["192.168.0.101/22"])?;
    let _pod = scene.pod(1, "web", "web")?;

    let ranges = |list: &[&str]| json!({"loadBalancerSourceRanges": list});
    let address = scene.service("ranges", &json!({}), &ranges(&["192.168.0.100/32"]))?;
    let to = SocketAddr::new(address, 80);
    scene.ask(address, 80)?;
    ensure!(get(&stranger, to, secs(1)).is_err(), "a client outside the source ranges was answered");
    let wider = json!({"spec": ranges(&["192.168.0.100/31"])});
    scene.installed.control().rest.patch(&format!("{SERVICES}/ranges"), &wider)?;
    until("the ranges have it now", secs(20), || get(&stranger, to, secs(1)))?;

    let local = json!({"externalTrafficPolicy": "Local"});
    let address = scene.service("local", &json!({}), &local)?;
    let text = scene.ask(address, 80)?;
    ensure!(text.starts_with("pod=web node=n2 ") && text.ends_with(":192.168.0.100"), "{text}");
    let port = scene.read("local")?["spec"]["healthCheckNodePort"].as_u64().context("no healthCheckNodePort")?;
    let health = |node: usize| {
        let to = scene.installed.cluster.nodes[node].address();
        let ask = format!("curl -s -o /dev/null -w %{{http_code}} --max-time 2 http://{to}:{port}/healthz");
        scene.client().run(&ask)
    };
    for (node, code) in [(0, "503"), (1, "200")] {
        until(&format!("the health check of node {} says {code}", node + 1), secs(20), || {
            let said = health(node)?;
            ensure!(said == code, "{said}");
            Ok(())
        })?;
    }
    Ok(())
}

fn ports(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let pods = [scene.pod(0, "web1", "web")?, scene.pod(1, "web2", "web")?];
    for pod in &pods {
        answer_udp(&pod.host, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5300)), &pod.name)?;
    }
    let several = json!({"allocateLoadBalancerNodePorts": false, "ports": [
        {"name": "http", "port": 80}, {"name": "other", "port": 8080, "targetPort": 80},
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5300}]});
    let address = scene.service("several", &json!({}), &several)?;
    for port in [80, 8080] {
        scene.ask(address, port)?;
    }
    let dns = until("UDP is answered", secs(20), || ask_udp(scene.client(), SocketAddr::new(address, 53), secs(1)))?;
    ensure!(pods.iter().any(|pod| pod.name == dns), "{dns}");
    let service = scene.read("several")?;
    let ports = service["spec"]["ports"].as_array().context("no ports")?;
    ensure!(ports.len() == 3 && ports.iter().all(|p| p["nodePort"].is_null()), "{ports:?}");
    ensure!(service["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP", "{}", service["status"]);
    ensure!(get(scene.client(), SocketAddr::new(address, 81), secs(1)).is_err(), "a port that is not the Service's");

    // Without affinity both pods are met; with it, one.
    let met = |address: IpAddr, requests: usize| -> Result<BTreeSet<String>> {
        (0..requests).map(|_| get(scene.client(), SocketAddr::new(address, 80), secs(1))).collect()
    };
    until("both pods are met", secs(20), || {
        let found = met(address, 20)?;
        ensure!(found.len() == 2, "{found:?}");
        Ok(())
    })?;
    let sticky = scene.service("sticky", &json!({}), &json!({"sessionAffinity": "ClientIP"}))?;
    scene.ask(sticky, 80)?;
    let found = met(sticky, 40)?;
    ensure!(found.len() == 1, "session affinity: {found:?}");

    // One address, two Services, each with its own port and pods.
    let _db = scene.pod(0, "db1", "db")?;
    let shared = json!({ADDRESS: "192.168.0.188"});
    let web = scene.service("shared-web", &shared, &json!({}))?;
    let other = json!({"selector": {"app": "db"}, "ports": [{"port": 5432, "targetPort": 80}]});
    let db = scene.service("shared-db", &shared, &other)?;
    ensure!(web == db && web == IpAddr::from([192, 168, 0, 188]), "{web} {db}");
    let (text_web, text_db) = (scene.ask(web, 80)?, scene.ask(db, 5432)?);
    ensure!(text_web.starts_with("pod=web") && text_db.starts_with("pod=db1"), "{text_web} {text_db}");
    Ok(())
}

/// RFC 9260 §3: common header with this checksum, then one chunk; INIT (1) and INIT ACK (2) have the same fixed part.
fn init(from: u16, to: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend(TAG.to_be_bytes());
    packet.extend(65_535_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    // CRC32c, least significant octet first (RFC 9260 appendix A).
    let mut crc = u32::MAX;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

const TAG: u32 = 0x1234_5678;

/// A socket for SCTP as it is on the wire: the kernel needs no SCTP of its own.
fn raw(host: &Host) -> Result<Socket> {
    let socket = host.inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(132))))??;
    socket.set_read_timeout(Some(millis(500)))?;
    Ok(socket)
}

/// The next packet: sender, and what follows the IPv4 header.
fn receive(socket: &Socket) -> Result<(Ipv4Addr, Vec<u8>)> {
    let mut buffer = [0; 2048];
    let mut reader = socket;
    let n = reader.read(&mut buffer).context("no SCTP packet came")?;
    let header = usize::from(buffer[0] & 15) * 4;
    let from: [u8; 4] = buffer[12..16].try_into()?;
    Ok((Ipv4Addr::from(from), buffer.get(header..n).context("too short")?.to_vec()))
}

fn sctp(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let pod = scene.pod(1, "web", "web")?;
    // Policy Local: the pod sees the client's own address.
    let spec = json!({"externalTrafficPolicy": "Local",
        "ports": [{"protocol": "SCTP", "port": 7777, "targetPort": 9999}]});
    let IpAddr::V4(address) = scene.service("signalling", &json!({}), &spec)? else {
        anyhow::bail!("not an IPv4 address")
    };
    let (client, server) = (raw(scene.client())?, raw(&pod.host)?);
    let to = SockAddr::from(SocketAddrV4::new(address, 0));
    let (from, packet) = until("INIT reaches the pod", secs(20), || {
        client.send_to(&init(5000, 7777, 0, 1), &to)?;
        receive(&server)
    })
    .with_context(|| {
        let rules = scene.installed.cluster.nodes[1].host.run("nft list table ip kube-proxy | grep -i sctp || true");
        format!("kube-proxy's rules: {rules:?}")
    })?;
    ensure!(from == Ipv4Addr::new(192, 168, 0, 100), "the client's address is {from} at the pod");
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    ensure!((port(0), port(2)) == (5000, 9999), "ports {} to {}", port(0), port(2));
    ensure!(packet.get(12) == Some(&1), "not an INIT: {packet:?}");
    server.send_to(&init(9999, 5000, TAG, 2), &SockAddr::from(SocketAddrV4::new(from, 0)))?;
    let (from, packet) = receive(&client)?;
    let port = u16::from_be_bytes([packet[0], packet[1]]);
    ensure!((from, port) == (address, 7777), "the answer comes from {from} port {port}");
    ensure!(packet.get(12) == Some(&2), "not an INIT ACK: {packet:?}");
    Ok(())
}
