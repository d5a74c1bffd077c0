//! Three nodes on a folder of YAML, a router, and a client behind it; and what is applied to them.

use anyhow::{Context, Result, bail, ensure};
use lab::client;
use lab::cluster::nginx;
use lab::host::{Host, Lab, Switch};
use lab::oxelb::{self, Source, binary};
use lab::process::Process;
use lab::router::{Frr, until_next_hops};
use lab::wait::{secs, until};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

pub const V4: &str = "172.22.0.2";
pub const V6: &str = "fd00:22::2";
/// The router, as OpenELB's documents have it.
pub const ROUTER: &str = "192.168.0.5";
pub const ROUTER6: &str = "fd00::5";

pub struct Node {
    pub name: String,
    pub host: Host,
    pub v4: IpAddr,
    pub v6: IpAddr,
    pub _nginx: Process,
    pub speaker: Option<Process>,
}

pub struct Scene {
    pub lab: Lab,
    pub folder: PathBuf,
    pub _lan: Switch,
    pub router: Host,
    pub client: Host,
    pub nodes: Vec<Node>,
    pub _controller: Process,
}

pub fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| text.to_owned())
}

impl Scene {
    /// Everything but the router's program and the objects of BGP.
    pub fn new(lab: &Lab) -> Result<Scene> {
        let lan = lab.switch("lan")?;
        let (router, client) = (lab.host("router")?, lab.host("client")?);
        lan.plug(&router, "eth0", &[&format!("{ROUTER}/22"), &format!("{ROUTER6}/64")])?;
        router.cable("eth1", &client, "eth0")?;
        for address in ["203.0.113.1/24", "2001:db8::1/64"] {
            router.address("eth1", address)?;
        }
        for address in ["203.0.113.2/24", "2001:db8::2/64"] {
            client.address("eth0", address)?;
        }
        client.ip("route add default via 203.0.113.1")?;
        client.ip("-6 route add default via 2001:db8::1")?;
        router.forward()?;
        // Connections, not only addresses, are spread.
        router.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        router.sysctl("net/ipv6/fib_multipath_hash_policy", "1")?;
        let folder = lab.folder("objects")?;
        let mut nodes = Vec::new();
        for number in 2..=4 {
            let name = format!("n{number}");
            let (v4, v6) = (format!("192.168.0.{number}"), format!("fd00::{number}"));
            let host = lab.host(&name)?;
            lan.plug(&host, "eth0", &[&format!("{v4}/22"), &format!("{v6}/64")])?;
            host.ip(&format!("route add default via {ROUTER}"))?;
            host.ip(&format!("-6 route add default via {ROUTER6}"))?;
            // What kube-proxy does: packets for the Service are taken.
            for address in [format!("{V4}/32"), format!("{V6}/128")] {
                host.address("lo", &address)?;
            }
            let nginx = nginx(lab, &host, &name)?;
            nodes.push(Node { name, host, v4: ip(&v4)?, v6: ip(&v6)?, _nginx: nginx, speaker: None });
        }
        let source = Source::Folder(folder.clone());
        let controller = nodes[0].host.spawn("controller", oxelb::controller(&source)?)?;
        let mut scene = Scene { lab: lab.clone(), folder, _lan: lan, router, client, nodes, _controller: controller };
        for number in 0..3 {
            scene.node(number, true, "leaf1")?;
        }
        scene.apply("pools", POOLS)?;
        scene.service("web4", "bgp-eip", "IPv4", "Cluster", &[0, 1, 2])?;
        scene.service("web6", "bgp-eip6", "IPv6", "Cluster", &[0, 1, 2])?;
        for number in 0..3 {
            scene.start_speaker(number)?;
        }
        Ok(scene)
    }

    pub fn start_speaker(&mut self, number: usize) -> Result<()> {
        let node = &self.nodes[number];
        let state = self.lab.folder(&format!("state.{}", node.name))?;
        let command = oxelb::speaker(&Source::Folder(self.folder.clone()), &node.name, &state)?;
        self.nodes[number].speaker = Some(node.host.spawn("speaker", command)?);
        Ok(())
    }

    /// Writes a manifest as an editor does: whole, or not at all.
    pub fn apply(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.folder.join(format!(".{name}"));
        fs::write(&draft, text)?;
        fs::rename(&draft, self.folder.join(format!("{name}.yaml")))?;
        Ok(())
    }

    pub fn delete(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder.join(format!("{name}.yaml")))?)
    }

    pub fn node(&self, number: usize, ready: bool, rack: &str) -> Result<()> {
        let node = &self.nodes[number];
        let status = if ready { "True" } else { "False" };
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {}, labels: {{rack: {rack}}}}}\nstatus:\n  addresses:\n  \
             - {{type: InternalIP, address: {}}}\n  - {{type: InternalIP, address: '{}'}}\n  \
             conditions: [{{type: Ready, status: '{status}'}}]\n",
            node.name, node.v4, node.v6
        );
        self.apply(&node.name, &text)
    }

    /// A Service, and its endpoints on these nodes.
    pub fn service(&self, name: &str, pool: &str, family: &str, policy: &str, on: &[usize]) -> Result<()> {
        let endpoint = |n: &usize| {
            let node = &self.nodes[*n];
            let address = if family == "IPv4" { node.v4 } else { node.v6 };
            format!("- {{addresses: ['{address}'], nodeName: {}, conditions: {{ready: true}}}}\n", node.name)
        };
        let endpoints: String = on.iter().map(endpoint).collect();
        let endpoints = if endpoints.is_empty() { " []\n".to_owned() } else { format!("\n{endpoints}") };
        self.apply(
            name,
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations:\n    \
                 lb.kubesphere.io/v1alpha1: openelb\n    eip.openelb.kubesphere.io/v1alpha2: {pool}\n\
                 spec: {{type: LoadBalancer, externalTrafficPolicy: {policy}, ipFamilies: [{family}], ports: [{{port: 80}}]}}\n\
                 ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  \
                 labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nports: [{{port: 80}}]\n\
                 endpoints:{endpoints}"
            ),
        )
    }

    pub fn hops(&self, numbers: &[usize]) -> Result<()> {
        let v4 = numbers.iter().map(|n| self.nodes[*n].v4).collect();
        until_next_hops(&self.router, ip(V4)?, &v4).with_context(|| self.logs())
    }

    pub fn hops6(&self, numbers: &[usize]) -> Result<()> {
        let v6 = numbers.iter().map(|n| self.nodes[*n].v6).collect();
        until_next_hops(&self.router, ip(V6)?, &v6).with_context(|| self.logs())
    }

    /// The client gets answers, and from exactly these nodes.
    pub fn answers(&self, address: &str, numbers: &[usize]) -> Result<()> {
        let to = SocketAddr::new(ip(address)?, 80);
        let wanted: BTreeSet<String> = numbers.iter().map(|n| self.nodes[*n].name.clone()).collect();
        let mut seen = BTreeSet::new();
        until(&format!("{address} is answered by {wanted:?}"), secs(20), || {
            seen.insert(client::get(&self.client, to, secs(1))?);
            ensure!(seen == wanted, "{seen:?}");
            Ok(())
        })?;
        for _ in 0..30 {
            let who = client::get(&self.client, to, secs(1))?;
            ensure!(wanted.contains(&who), "{who} answers too");
        }
        Ok(())
    }

    /// What a node's speaker counts.
    pub fn metrics(&self, number: usize) -> Result<String> {
        self.nodes[number].host.run("curl -sS --max-time 5 http://127.0.0.1:50053/metrics")
    }

    pub fn status(&self, kind: &str, name: &str) -> Result<String> {
        let path = self.folder.join("status").join(format!("{kind}.{name}.yaml"));
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Waits until the status file has all of these.
    pub fn said(&self, kind: &str, name: &str, wanted: &[&str]) -> Result<String> {
        until(&format!("{kind} {name} says {wanted:?}"), secs(20), || {
            let text = self.status(kind, name)?;
            match wanted.iter().find(|w| !text.contains(**w)) {
                None => Ok(text),
                Some(missing) => bail!("no {missing:?} in:\n{text}"),
            }
        })
        .with_context(|| self.logs())
    }

    pub fn logs(&self) -> String {
        let tails =
            self.nodes.iter().filter_map(|n| n.speaker.as_ref()).map(|s| format!("{}:\n{}", s.name(), s.tail(15)));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// `gobgp` on a node.
    pub fn gobgp(&self, number: usize, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary()?);
        command.arg("gobgp").args(arguments);
        self.nodes[number].host.output(command)
    }
}

pub const POOLS: &str = "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: bgp-eip}\n\
    spec: {address: 172.22.0.2-172.22.0.10}\n---\n\
    apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: bgp-eip6}\n\
    spec: {address: 'fd00:22::2-fd00:22::10', protocol: bgp}\n";

/// What OpenELB's documents apply, less the router id that would be the same on all nodes.
pub fn conf(more: &str) -> String {
    format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpConf\nmetadata: {{name: default}}\n\
         spec:\n  as: 50000\n  listenPort: 17900\n{more}"
    )
}

pub fn peer(name: &str, address: &str, more: &str) -> String {
    format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {{name: {name}}}\n\
         spec:\n  conf: {{peerAs: 50001, neighborAddress: '{address}'}}\n  \
         timers: {{config: {{connectRetry: '1'}}}}\n{more}"
    )
}

pub const BOTH: &str = "  afiSafis:\n  \
    - {config: {family: {afi: AFI_IP, safi: SAFI_UNICAST}, enabled: true}, addPaths: {config: {sendMax: 10}}}\n  \
    - {config: {family: {afi: AFI_IP6, safi: SAFI_UNICAST}, enabled: true}}\n";

/// FRR with the nodes as neighbours; `of_each` are more lines of each neighbour.
pub fn frr(scene: &Scene, of_each: &str) -> Result<Frr> {
    frr_with(scene, of_each, None)
}

pub fn frr_with(scene: &Scene, of_each: &str, bfdd: Option<&str>) -> Result<Frr> {
    let mut text = format!(
        "router bgp 50001\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n bgp bestpath as-path multipath-relax\n \
         neighbor nodes peer-group\n neighbor nodes remote-as 50000\n neighbor nodes timers connect 1\n"
    );
    for line in of_each.lines() {
        text.push_str(&format!(" neighbor nodes {line}\n"));
    }
    for node in &scene.nodes {
        text.push_str(&format!(" neighbor {} peer-group nodes\n", node.v4));
    }
    text.push_str(" address-family ipv6 unicast\n  neighbor nodes activate\n exit-address-family\n");
    Frr::start(&scene.lab, &scene.router, &text, bfdd)
}

/// FRR's BFD, for neighbours with the profile `quick`.
pub fn quick(milliseconds: u32) -> String {
    format!(
        "bfd\n profile quick\n  transmit-interval {milliseconds}\n  receive-interval {milliseconds}\n  detect-multiplier 3\n"
    )
}

/// How often each session of a router came up, by neighbour.
pub type Sessions = Vec<(String, u64)>;

/// How often each session of FRR came up. All must be up now.
pub fn established(frr: &Frr) -> Result<Sessions> {
    let value = frr.json("show bgp neighbors")?;
    let all = value.as_object().context("no neighbours")?;
    let of = |(name, n): (&String, &serde_json::Value)| {
        ensure!(n["bgpState"] == "Established", "{name} is {}", n["bgpState"]);
        Ok((name.clone(), n["connectionsEstablished"].as_u64().context("no count")?))
    };
    all.iter().map(of).collect()
}

/// FRR has a session with each node, which announces both families: the scene, FRR, and how often each session came up.
pub fn with_frr(lab: &Lab) -> Result<(Scene, Frr, Sessions)> {
    let scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    let before = established(&frr)?;
    Ok((scene, frr, before))
}

/// What OpenELB's documents give, word for word and for each node, but that BIRD 2 wants what is of IPv4 in a block of
/// its own and a device protocol; with `more`, and `of_each` neighbour.
pub fn bird_config(scene: &Scene, more: &str, of_each: &str) -> String {
    let mut text = format!(
        "router id {ROUTER};\nprotocol kernel {{\n    scan time 60;\n    ipv4 {{ import none; export all; }};\n    \
         merge paths on;\n}}\nprotocol device {{\n    scan time 60;\n}}\n{more}"
    );
    for node in &scene.nodes {
        text.push_str(&format!(
            "protocol bgp neighbor_{} {{\n    local as 50001;\n    neighbor {} port 17900 as 50000;\n    \
             source address {ROUTER};\n    enable route refresh off;\n    {of_each}\n    ipv4 {{\n        import all;\n        \
             export all;\n        add paths on;\n    }};\n}}\n",
            node.name, node.v4
        ));
    }
    text
}
