//! Mode bgp against real routers: three nodes on a folder of YAML, a router that is FRR, BIRD or GoBGP, and a client
//! behind it. What counts is what the router's kernel does and what the client gets.

#![allow(clippy::print_stdout, reason = "tells what it measured")]

mod common;

use anyhow::{Context, Result, bail, ensure};
use common::{Installed, SERVICES, SPEAKERS};
use lab::client;
use lab::cluster::nginx;
use lab::host::{Host, Lab, Switch};
use lab::oxelb::{self, Source, binary};
use lab::process::Process;
use lab::router::{Bird, Frr, GoBgp, next_hops, until_next_hops};
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const V4: &str = "172.22.0.2";
const V6: &str = "fd00:22::2";
/// The router, as OpenELB's documents have it.
const ROUTER: &str = "192.168.0.5";
const ROUTER6: &str = "fd00::5";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("frr_spreads_over_all_nodes_and_a_killed_speaker_loses_its_share", frr_spreads),
        ("with_policy_local_only_nodes_with_endpoints_are_next_hops", local_follows_endpoints),
        ("an_edit_changes_what_it_says_and_resets_no_session", edits),
        ("what_is_not_valid_is_named_and_everything_else_goes_on", bad_input),
        ("sessions_come_up_with_a_password_and_with_ttl_security_and_not_without", protected),
        ("bird_works_with_openelbs_own_example", bird),
        ("gobgp_spreads_over_all_nodes", gobgp),
        ("a_speaker_that_restarts_gracefully_is_never_withdrawn", restarts),
        ("in_a_cluster_nodes_write_their_own_status_and_traffic_follows_pods", in_a_cluster),
        ("routes_say_what_their_pool_says_to_whom_it_says_and_an_edit_resets_nothing", attributes),
        ("a_policy_says_what_a_router_is_told_and_one_that_is_not_valid_changes_nothing", policy),
        ("an_internal_session_over_ipv6_carries_both_families", internal),
        ("bfd_with_frr_takes_a_silent_path_down_at_once_and_no_edit_or_restart_does", bfd_with_frr),
        ("bfd_with_bird_takes_a_silent_path_down_at_once", bfd_with_bird),
        ("a_port_that_is_taken_is_named_and_the_node_connects_by_itself", port_taken),
    ];
    suite::main(tests)
}

struct Node {
    name: String,
    host: Host,
    v4: IpAddr,
    v6: IpAddr,
    _nginx: Process,
    speaker: Option<Process>,
}

struct Scene {
    lab: Lab,
    folder: PathBuf,
    _lan: Switch,
    router: Host,
    client: Host,
    nodes: Vec<Node>,
    _controller: Process,
}

fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| text.to_owned())
}

impl Scene {
    /// Everything but the router's program and the objects of BGP.
    fn new(lab: &Lab) -> Result<Scene> {
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

    fn start_speaker(&mut self, number: usize) -> Result<()> {
        let node = &self.nodes[number];
        let state = self.lab.folder(&format!("state.{}", node.name))?;
        let command = oxelb::speaker(&Source::Folder(self.folder.clone()), &node.name, &state)?;
        self.nodes[number].speaker = Some(node.host.spawn("speaker", command)?);
        Ok(())
    }

    /// Writes a manifest as an editor does: whole, or not at all.
    fn apply(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.folder.join(format!(".{name}"));
        fs::write(&draft, text)?;
        fs::rename(&draft, self.folder.join(format!("{name}.yaml")))?;
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder.join(format!("{name}.yaml")))?)
    }

    fn node(&self, number: usize, ready: bool, rack: &str) -> Result<()> {
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
    fn service(&self, name: &str, pool: &str, family: &str, policy: &str, on: &[usize]) -> Result<()> {
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

    fn hops(&self, numbers: &[usize]) -> Result<()> {
        let v4 = numbers.iter().map(|n| self.nodes[*n].v4).collect();
        until_next_hops(&self.router, ip(V4)?, &v4).with_context(|| self.logs())
    }

    fn hops6(&self, numbers: &[usize]) -> Result<()> {
        let v6 = numbers.iter().map(|n| self.nodes[*n].v6).collect();
        until_next_hops(&self.router, ip(V6)?, &v6).with_context(|| self.logs())
    }

    /// The client gets answers, and from exactly these nodes.
    fn answers(&self, address: &str, numbers: &[usize]) -> Result<()> {
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

    fn status(&self, kind: &str, name: &str) -> Result<String> {
        let path = self.folder.join("status").join(format!("{kind}.{name}.yaml"));
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Waits until the status file has all of these.
    fn said(&self, kind: &str, name: &str, wanted: &[&str]) -> Result<String> {
        until(&format!("{kind} {name} says {wanted:?}"), secs(20), || {
            let text = self.status(kind, name)?;
            match wanted.iter().find(|w| !text.contains(**w)) {
                None => Ok(text),
                Some(missing) => bail!("no {missing:?} in:\n{text}"),
            }
        })
        .with_context(|| self.logs())
    }

    fn logs(&self) -> String {
        let tails =
            self.nodes.iter().filter_map(|n| n.speaker.as_ref()).map(|s| format!("{}:\n{}", s.name(), s.tail(15)));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// `gobgp` on a node.
    fn gobgp(&self, number: usize, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary()?);
        command.arg("gobgp").args(arguments);
        self.nodes[number].host.output(command)
    }
}

const POOLS: &str = "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: bgp-eip}\n\
    spec: {address: 172.22.0.2-172.22.0.10}\n---\n\
    apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: bgp-eip6}\n\
    spec: {address: 'fd00:22::2-fd00:22::10', protocol: bgp}\n";

/// What OpenELB's documents apply, less the router id that would be the same on all nodes.
fn conf(more: &str) -> String {
    format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpConf\nmetadata: {{name: default}}\n\
         spec:\n  as: 50000\n  listenPort: 17900\n{more}"
    )
}

fn peer(name: &str, address: &str, more: &str) -> String {
    format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {{name: {name}}}\n\
         spec:\n  conf: {{peerAs: 50001, neighborAddress: '{address}'}}\n  \
         timers: {{config: {{connectRetry: '1'}}}}\n{more}"
    )
}

const BOTH: &str = "  afiSafis:\n  \
    - {config: {family: {afi: AFI_IP, safi: SAFI_UNICAST}, enabled: true}, addPaths: {config: {sendMax: 10}}}\n  \
    - {config: {family: {afi: AFI_IP6, safi: SAFI_UNICAST}, enabled: true}}\n";

/// FRR with the nodes as neighbours; `of_each` are more lines of each neighbour.
fn frr(scene: &Scene, of_each: &str) -> Result<Frr> {
    frr_with(scene, of_each, None)
}

fn frr_with(scene: &Scene, of_each: &str, bfdd: Option<&str>) -> Result<Frr> {
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

/// How often each session of FRR came up, by neighbour. All must be up now.
fn established(frr: &Frr) -> Result<Vec<(String, u64)>> {
    let value = frr.json("show bgp neighbors")?;
    let all = value.as_object().context("no neighbours")?;
    let of = |(name, n): (&String, &serde_json::Value)| {
        ensure!(n["bgpState"] == "Established", "{name} is {}", n["bgpState"]);
        Ok((name.clone(), n["connectionsEstablished"].as_u64().context("no count")?))
    };
    all.iter().map(of).collect()
}

/// What FRR knows of the paths to a prefix, by their neighbour.
fn paths(frr: &Frr, family: &str, prefix: &str) -> Result<BTreeMap<String, Value>> {
    let value = frr.json(&format!("show bgp {family} unicast {prefix}"))?;
    let paths = value["paths"].as_array().with_context(|| format!("no {prefix}: {value}"))?;
    Ok(paths.iter().map(|p| (p["peer"]["peerId"].as_str().unwrap_or_default().to_owned(), p.clone())).collect())
}

fn attributes(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    let before = established(&frr)?;
    // Two pods on the first node, one on the second: the router sends twice as much to the first.
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[0, 0, 1])?;
    let said = POOLS
        .replace(
            "172.22.0.10}",
            "172.22.0.10, bgp: {communities: ['50000:77', '50000:1:2', no-peer], med: 20, asPathPrepend: 2}}",
        )
        .replace("protocol: bgp}", "protocol: bgp, bgp: {peers: [another]}}");
    scene.apply("pools", &said)?;
    scene.hops(&[0, 1])?;
    until("the paths say what the pool says", secs(20), || {
        let paths = paths(&frr, "ipv4", &format!("{V4}/32"))?;
        ensure!(paths.len() == 2, "{paths:?}");
        for path in paths.values() {
            let text = |key: &str| path[key]["string"].as_str().unwrap_or_default().to_owned();
            ensure!(text("aspath") == "50000 50000 50000" && path["metric"] == 20, "{path}");
            ensure!(text("community").contains("50000:77") && text("community").contains("no-peer"), "{path}");
            ensure!(text("largeCommunity") == "50000:1:2", "{path}");
            ensure!(text("extendedCommunity").contains("LB:50000:"), "{path}");
        }
        Ok(())
    })?;
    until("the router's weights are those of the pods", secs(20), || {
        let route = scene.router.ip(&format!("route show {V4}"))?;
        let weight = |node: &Node| {
            let mut words = route.split_whitespace().skip_while(|w| *w != node.v4.to_string());
            words.find(|w| *w == "weight").and_then(|_| words.next()).and_then(|w| w.parse::<f64>().ok())
        };
        let (Some(first), Some(second)) = (weight(&scene.nodes[0]), weight(&scene.nodes[1])) else { bail!("{route}") };
        ensure!((1.8..=2.2).contains(&(first / second)), "{route}");
        println!("two pods and one: weights {first} and {second}");
        Ok(())
    })?;
    until("a pool for another router is not announced to this one", secs(20), || {
        ensure!(next_hops(&scene.router, ip(V6)?)?.is_empty());
        Ok(())
    })?;
    // All addresses of the pool as one prefix.
    scene.apply("pools", &POOLS.replace("172.22.0.10}", "172.22.0.10, bgp: {aggregationLength: 24}}"))?;
    scene.hops6(&[0, 1, 2])?;
    until("the prefix is announced, and the address alone is not", secs(20), || {
        let paths = paths(&frr, "ipv4", "172.22.0.0/24")?;
        ensure!(paths.len() == 2 && paths.values().all(|p| p["aspath"]["string"] == "50000"), "{paths:?}");
        let host = frr.json(&format!("show bgp ipv4 unicast {V4}/32"))?;
        ensure!(host["paths"].as_array().is_none_or(Vec::is_empty), "{host}");
        Ok(())
    })?;
    scene.answers(V4, &[0, 1])?;
    ensure!(established(&frr)? == before, "a session was reset");
    Ok(())
}

/// As OpenELB takes it: IPv4 of the pool goes with a community and a MED, everything else does not go.
const POLICY: &str = r#"
[[defined-sets.prefix-sets]]
prefix-set-name = "ours"
[[defined-sets.prefix-sets.prefix-list]]
ip-prefix = "172.22.0.0/24"
masklength-range = "24..32"
[[defined-sets.neighbor-sets]]
neighbor-set-name = "tor"
neighbor-info-list = ["192.168.0.5"]
[global.apply-policy.config]
export-policy-list = ["out"]
default-export-policy = "reject-route"
[[policy-definitions]]
name = "out"
[[policy-definitions.statements]]
name = "ipv4"
[policy-definitions.statements.conditions.match-prefix-set]
prefix-set = "ours"
[policy-definitions.statements.conditions.match-neighbor-set]
neighbor-set = "tor"
[policy-definitions.statements.actions]
route-disposition = "accept-route"
[policy-definitions.statements.actions.bgp-actions]
set-med = "77"
[policy-definitions.statements.actions.bgp-actions.set-community]
options = "add"
[policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]
communities-list = ["50000:9"]
"#;

fn policy(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    let map = |text: &str| {
        let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: rules}}\ndata:\n  gobgp.conf: |\n{lines}")
    };
    scene.apply("conf", &conf("  policy: rules\n"))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    // Without the ConfigMap there is no policy, as with OpenELB; it is said.
    scene.hops6(&[0, 1, 2])?;
    scene.said("BgpConf", "default", &["NoBgpPolicy"])?;
    let before = established(&frr)?;
    scene.apply("rules", &map(POLICY))?;
    let applied = |scene: &Scene, med: u64| {
        until("the router is told what the policy says", secs(20), || {
            let paths = paths(&frr, "ipv4", &format!("{V4}/32"))?;
            ensure!(paths.len() == 3, "{paths:?}");
            let good = |p: &Value| p["metric"] == med && p["community"]["string"] == "50000:9";
            ensure!(paths.values().all(good), "{paths:?}");
            ensure!(next_hops(&scene.router, ip(V6)?)?.is_empty(), "what the policy rejects is announced");
            Ok(())
        })
    };
    applied(&scene, 77)?;
    scene.apply("rules", &map(&POLICY.replace("\"77\"", "\"78\"")))?;
    applied(&scene, 78)?;
    // Not valid: named, and nothing changes, for nobody.
    scene.apply("rules", &map(&POLICY.replace("set-med", "set-mood")))?;
    scene.said("BgpConf", "default", &["BgpPolicyInvalid", "set-mood", "last good version stays in force"])?;
    applied(&scene, 78)?;
    ensure!(established(&frr)? == before, "a session was reset");
    // After a restart the last good version is not known: nothing is announced, rather than everything.
    scene.nodes[0].speaker.take().context("no speaker")?.stop()?;
    scene.start_speaker(0)?;
    scene.said("Speaker", "n2", &["nothing is announced to any router"])?;
    scene.hops(&[1, 2])?;
    scene.apply("rules", &map(POLICY))?;
    scene.hops(&[0, 1, 2])?;
    scene.delete("rules")?;
    scene.hops6(&[0, 1, 2])
}

fn frr_spreads(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let _frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    scene.answers(V6, &[0, 1, 2])?;

    // What is said of it: in both statuses, in the Speaker, in the Service, by the metrics, and by gobgp.
    for node in ["n2", "n3", "n4"] {
        scene.said("BgpPeer", "tor", &[&format!("{node}:"), "ESTABLISHED", "negotiatedHoldTime"])?;
        scene.said("BgpConf", "default", &[&format!("{node}:"), "50000"])?;
        scene.said("Speaker", node, &["established: 1", "peer: tor"])?;
    }
    scene.said("Service", "default.web4", &["openelb.io/Announced", "reason: Announced"])?;
    let metrics = scene.nodes[0].host.run("curl -sS --max-time 5 http://127.0.0.1:50053/metrics")?;
    for wanted in [
        "session_up{peerIP=\"192.168.0.5\",nodeName=\"n2\"} 5",
        "announced_prefixes_total",
        "oxelb_bgp_prefixes_advertised{peer=\"tor\"} 2",
    ] {
        ensure!(metrics.contains(wanted), "no {wanted} in:\n{metrics}");
    }
    let said = scene.gobgp(0, &["-p", "50051", "global"])?;
    ensure!(said.contains("AS:        50000") && said.contains("192.168.0.2"), "{said}");
    let said = scene.gobgp(0, &["neighbor"])?;
    ensure!(said.contains(ROUTER) && said.contains("Establ"), "{said}");
    let said = scene.gobgp(0, &["global", "rib", "-a", "ipv6"])?;
    ensure!(said.contains("fd00:22::2/128"), "{said}");

    // Killed: the kernel closes its connections, and the router knows.
    let speaker = scene.nodes[1].speaker.take().context("no speaker")?;
    speaker.kill()?;
    scene.hops(&[0, 2])?;
    scene.hops6(&[0, 2])?;
    scene.answers(V4, &[0, 2])?;
    scene.start_speaker(1)?;
    scene.hops(&[0, 1, 2])?;

    // Stopped in good order, a node whose API object says that it is not ready, and one that goes away.
    scene.nodes[0].speaker.take().context("no speaker")?.stop()?;
    scene.hops(&[1, 2])?;
    scene.node(2, false, "leaf1")?;
    scene.hops(&[1])?;
    scene.hops6(&[1])?;
    scene.node(2, true, "leaf1")?;
    scene.hops(&[1, 2])?;

    // Without the Service there is no route.
    scene.delete("web4")?;
    scene.hops(&[])?;
    scene.hops6(&[1, 2])
}

fn local_follows_endpoints(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[1])?;
    let _frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[1])?;
    scene.hops6(&[0, 1, 2])?;
    scene.answers(V4, &[1])?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[0, 2])?;
    scene.hops(&[0, 2])?;
    scene.answers(V4, &[0, 2])?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[])?;
    scene.hops(&[])?;
    scene.service("web4", "bgp-eip", "IPv4", "Cluster", &[2])?;
    scene.hops(&[0, 1, 2])
}

fn edits(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    let before = established(&frr)?;
    ensure!(before.len() == 3, "{before:?}");

    // Fields that the OPEN does not say: another port to listen on, and of the peer how often it is tried.
    let listens = |port: u16| {
        until(&format!("port {port} is listened on"), secs(20), || {
            let text = scene.nodes[0].host.run("ss -Hltn")?;
            ensure!(text.contains(&format!(":{port} ")), "{text}");
            Ok(())
        })
    };
    listens(17900)?;
    scene.apply("conf", &conf("").replace("17900", "17901"))?;
    listens(17901)?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH).replace("connectRetry: '1'", "connectRetry: '7'"))?;
    // A peer that only some nodes have, and a Service more.
    scene.apply("other", &peer("other", "192.168.0.99", "  nodeSelector: {matchLabels: {rack: none}}\n"))?;
    scene.service("more", "bgp-eip", "IPv4", "Cluster", &[0])?;
    let more = ip("172.22.0.3")?;
    let all = scene.nodes.iter().map(|n| n.v4).collect();
    until_next_hops(&scene.router, more, &all)?;
    ensure!(established(&frr)? == before, "a session was reset: {before:?} {:?}", established(&frr)?);

    // The label of one node changes what that node alone does.
    let routed = "  nodeSelector: {matchLabels: {rack: leaf1}}\n";
    scene.apply("peer", &peer("tor", ROUTER, &format!("{BOTH}{routed}")))?;
    scene.node(1, true, "leaf2")?;
    scene.hops(&[0, 2])?;
    scene.said("BgpPeer", "tor", &["n2:", "n4:"])?;
    until("n3 says nothing of the peer any more", secs(20), || {
        let text = scene.status("BgpPeer", "tor")?;
        ensure!(!text.contains("n3:"), "{text}");
        Ok(())
    })?;
    scene.node(1, true, "leaf1")?;
    scene.hops(&[0, 1, 2])?;
    let kept: Vec<_> = established(&frr)?.into_iter().filter(|(name, _)| name != "192.168.0.3").collect();
    ensure!(kept == [before[0].clone(), before[2].clone()], "{before:?} {kept:?}");

    // The hold time is said in the OPEN, so that edit does what it must.
    let hold = BOTH.to_owned() + "  nodeSelector: {matchLabels: {rack: leaf1}}\n";
    let edited = peer("tor", ROUTER, &hold).replace("connectRetry: '1'", "connectRetry: '1', holdTime: '30'");
    scene.apply("peer", &edited)?;
    until("the hold time is agreed upon anew", secs(20), || {
        let value = frr.json("show bgp neighbors")?;
        let times: Vec<_> =
            value.as_object().into_iter().flatten().map(|(_, n)| n["bgpTimerHoldTimeMsecs"].clone()).collect();
        ensure!(times.len() == 3 && times.iter().all(|t| *t == 30_000), "{times:?}");
        Ok(())
    })?;
    scene.hops(&[0, 1, 2])?;

    // Kept down, and gone.
    let down = edited.replace("peerAs: 50001,", "peerAs: 50001, adminDown: true,");
    scene.apply("peer", &down)?;
    scene.hops(&[])?;
    scene.said("BgpPeer", "tor", &["adminState: DOWN", "sessionState: IDLE"])?;
    scene.apply("peer", &edited)?;
    scene.hops(&[0, 1, 2])?;
    scene.delete("conf")?;
    scene.hops(&[])?;
    scene.apply("conf", &conf(""))?;
    scene.hops(&[0, 1, 2])?;
    scene.delete("peer")?;
    scene.hops(&[])
}

fn bad_input(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    scene.said(
        "Speaker",
        "n2",
        &["reason: NoSpeaker", "no registered speaker:[bgp] eip:[bgp-eip]", "apply a BgpConf"],
    )?;
    let frr = frr(&scene, "")?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    let before = established(&frr)?;
    scene.apply("bad", &peer("bad", "nowhere", ""))?;
    scene.said(
        "Speaker",
        "n2",
        &["BgpPeerInvalid", "BgpPeer bad is not valid and not used", "spec.conf.neighborAddress"],
    )?;
    scene.said("BgpPeer", "bad", &["n2:", "type: Accepted", "status: \"False\"", "reason: BgpPeerInvalid"])?;
    scene.apply("peer", &peer("tor", ROUTER, "  afiSafis: [{config: {enabled: false}}]\n"))?;
    scene.said("Speaker", "n2", &["BgpPeer tor is not valid, its last valid version stays in force"])?;
    scene.apply("conf", &conf("  routerId: nonsense\n"))?;
    scene.said("Speaker", "n2", &["BgpConfInvalid", "its last valid version stays in force: spec.routerId"])?;
    scene.apply("lonely", &peer("lonely", "192.168.3.254", ""))?;
    scene.said("Speaker", "n2", &["BgpSessionDown", "no session with BgpPeer lonely (192.168.3.254:179)"])?;
    ensure!(established(&frr)? == before, "a session was reset");
    scene.answers(V4, &[0, 1, 2])?;
    for name in ["bad", "lonely"] {
        scene.delete(name)?;
    }
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.apply("conf", &conf(""))?;
    until("nothing is wrong any more", secs(20), || {
        let text = scene.status("Speaker", "n2")?;
        ensure!(!text.contains("Bgp"), "{text}");
        for (kind, name) in [("BgpPeer", "tor"), ("BgpConf", "default")] {
            let text = scene.status(kind, name)?;
            ensure!(!text.contains("Accepted"), "{text}");
        }
        Ok(())
    })?;
    ensure!(established(&frr)? == before, "a session was reset");
    Ok(())
}

fn protected(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let _frr = frr(&scene, "password s3cret\nttl-security hops 1")?;
    scene.apply("conf", &conf(""))?;
    let security = format!("{BOTH}  ttlSecurity: {{enabled: true}}\n");
    let with = |password: &str| {
        peer("tor", ROUTER, &security).replace("peerAs: 50001,", &format!("peerAs: 50001, authPassword: {password},"))
    };
    scene.apply("peer", &with("s3cret"))?;
    scene.hops(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    // The other side connects too: the listener has the password and the TTL.
    scene.apply("peer", &with("s3cret").replace("  timers:", "  transport: {passiveMode: true}\n  timers:"))?;
    scene.apply("conf", &conf("").replace("17900", "179"))?;
    scene.hops(&[0, 1, 2])?;
    scene.apply("peer", &with("other"))?;
    scene.hops(&[])?;
    scene.said("BgpPeer", "tor", &["ACTIVE"])?;
    ensure!(!scene.status("BgpPeer", "tor")?.contains("other"), "the password is in the status");
    scene.apply("peer", &with("s3cret"))?;
    scene.hops(&[0, 1, 2])?;
    // Without ttlSecurity packets go out with 1, which the router drops.
    scene.apply("peer", &with("s3cret").replace("  ttlSecurity: {enabled: true}\n", ""))?;
    scene.hops(&[])?;
    scene.apply("peer", &with("s3cret"))?;
    scene.hops(&[0, 1, 2])?;
    // The password of the Secret counts more.
    let secret = |password: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: bgp-passwords, namespace: openelb-system}}\nstringData: {{tor: {password}}}\n"
        )
    };
    scene.apply("passwords", &secret("wrong"))?;
    scene.hops(&[])?;
    scene.apply("passwords", &secret("s3cret"))?;
    scene.apply("peer", &with("other"))?;
    scene.hops(&[0, 1, 2])
}

/// What OpenELB's documents give, word for word and for each node, but that BIRD 2 wants what is of IPv4 in a block of
/// its own and a device protocol; with `more`, and `of_each` neighbour.
fn bird_config(scene: &Scene, more: &str, of_each: &str) -> String {
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

fn bird(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let bird = Bird::start(&scene.lab, &scene.router, &bird_config(&scene, "", ""))?;
    scene.apply("conf", &conf("  routerId: 192.168.0.2\n"))?;
    scene.apply(
        "peer",
        &format!(
            "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {{name: bgppeer-sample}}\nspec:\n  \
             conf:\n    peerAs: 50001\n    neighborAddress: {ROUTER}\n  afiSafis:\n  - config:\n      family:\n        \
             afi: AFI_IP\n        safi: SAFI_UNICAST\n      enabled: true\n    addPaths:\n      config:\n        \
             sendMax: 10\n  nodeSelector:\n    matchLabels:\n      rack: leaf1\n"
        ),
    )?;
    scene.hops(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    let said = bird.show("show protocols all")?;
    ensure!(said.matches("Established").count() >= 3, "{said}");
    scene.said("Speaker", "n2", &["SharedRouterId"])?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[2])?;
    scene.hops(&[2])?;
    scene.answers(V4, &[2])
}

fn gobgp(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let mut text = format!(
        "[global.config]\n  as = 50001\n  router-id = \"{ROUTER}\"\n[global.use-multiple-paths.config]\n  enabled = true\n"
    );
    for node in &scene.nodes {
        text.push_str(&format!(
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = 50000\n    \
             auth-password = \"s3cret\"\n  [neighbors.timers.config]\n    connect-retry = 1\n",
            node.v4
        ));
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            text.push_str(&format!(
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n"
            ));
        }
    }
    let gobgp = GoBgp::start(&scene.lab, &scene.router, &text)?;
    scene.apply("conf", &conf(""))?;
    let with = peer("tor", ROUTER, BOTH).replace("peerAs: 50001,", "peerAs: 50001, authPassword: s3cret,");
    scene.apply("peer", &with)?;
    let has = |prefix: &str, wanted: BTreeSet<IpAddr>| {
        until(&format!("GoBGP has {prefix} over {wanted:?}"), secs(30), || {
            let found = gobgp.next_hops(prefix)?;
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .with_context(|| scene.logs())
    };
    has("172.22.0.2/32", scene.nodes.iter().map(|n| n.v4).collect())?;
    has("fd00:22::2/128", scene.nodes.iter().map(|n| n.v6).collect())?;
    // What GoBGP knows is put into the kernel in its place.
    let hops = gobgp.next_hops("172.22.0.2/32")?;
    let hops: String = hops.iter().map(|hop| format!(" nexthop via {hop}")).collect();
    scene.router.ip(&format!("route replace {V4}{hops}"))?;
    scene.answers(V4, &[0, 1, 2])?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[0])?;
    has("172.22.0.2/32", [scene.nodes[0].v4].into())?;
    scene.delete("web6")?;
    has("fd00:22::2/128", BTreeSet::new())
}

fn internal(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let mut text = format!("router bgp 50000\n bgp router-id {ROUTER}\n");
    for node in &scene.nodes {
        text.push_str(&format!(" neighbor {0} remote-as 50000\n neighbor {0} timers connect 1\n", node.v6));
    }
    for family in ["ipv4", "ipv6"] {
        text.push_str(&format!(" address-family {family} unicast\n  maximum-paths ibgp 8\n"));
        scene.nodes.iter().for_each(|node| text.push_str(&format!("  neighbor {} activate\n", node.v6)));
        text.push_str(" exit-address-family\n");
    }
    let frr = Frr::start(&scene.lab, &scene.router, &text, None)?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER6, BOTH).replace("50001", "50000"))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    scene.answers(V6, &[0, 1, 2])?;
    let route = frr.show(&format!("show bgp ipv4 unicast {V4}/32"))?;
    ensure!(route.contains("localpref 100") && route.contains("internal"), "{route}");
    Ok(())
}

fn restarts(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    scene.apply("conf", &conf("  gracefulRestart: {enabled: true, restartTime: 60}\n"))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    let before = established(&frr)?;
    let all: BTreeSet<IpAddr> = scene.nodes.iter().map(|n| n.v4).collect();
    scene.nodes[1].speaker.take().context("no speaker")?.stop()?;
    scene.start_speaker(1)?;
    let mut withdrawn = None;
    until("the session is there anew", secs(30), || {
        let now = next_hops(&scene.router, ip(V4)?)?;
        if now != all {
            withdrawn = Some(now);
        }
        let after = established(&frr)?;
        ensure!(after[1].1 > before[1].1, "{after:?}");
        Ok(())
    })
    .with_context(|| scene.logs())?;
    ensure!(withdrawn.is_none(), "while it restarted the next hops were {withdrawn:?}");
    // A Service that went while the speaker was down is withdrawn when it has said all that it has.
    scene.nodes[1].speaker.take().context("no speaker")?.stop()?;
    scene.delete("web4")?;
    scene.hops(&[1])?;
    scene.start_speaker(1)?;
    scene.hops(&[])?;
    scene.hops6(&[0, 1, 2])
}

fn in_a_cluster(lab: &Lab) -> Result<()> {
    let installed = Installed::with_nodes(lab, 2)?;
    let (cluster, rest) = (&installed.cluster, &installed.control().rest);
    let _controller = installed.only_controller()?;
    let _speakers = cluster.nodes.iter().map(|n| installed.speaker(n)).collect::<Result<Vec<_>>>()?;
    let _pods = [
        cluster.pod(&cluster.nodes[0], "web1", &json!({"app": "web"}))?,
        cluster.pod(&cluster.nodes[1], "web2", &json!({"app": "web"}))?,
    ];
    // The client is its own router.
    let router = &cluster.client;
    let mut text = "router bgp 50001\n bgp router-id 192.168.0.100\n no bgp ebgp-requires-policy\n".to_owned();
    for node in &cluster.nodes {
        let address = node.address();
        text.push_str(&format!(" neighbor {address} remote-as 50000\n neighbor {address} timers connect 1\n"));
    }
    let _frr = Frr::start(lab, router, &text, None)?;
    let group = "network.kubesphere.io/v1alpha2";
    let of = |kind: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec});
    rest.create(&of("Eip", "bgp-eip", json!({"address": "172.22.0.2-172.22.0.10"})))?;
    let annotations = json!({"eip.openelb.kubesphere.io/v1alpha2": "bgp-eip"});
    let address = installed.service("web", 1, &annotations, &json!({}))?[0];
    installed.said(&format!("{SERVICES}/web"), "openelb.io/Announced", "NoSpeaker")?;
    rest.create(&of("BgpConf", "default", json!({"as": 50000, "listenPort": 17900})))?;
    // Without conf every speaker of OpenELB crashed (D17).
    match rest.create(&of("BgpPeer", "none", json!({}))) {
        Err(refused) => ensure!(format!("{refused:#}").contains("spec.conf.neighborAddress"), "{refused:#}"),
        Ok(made) => bail!("a BgpPeer without conf was let through: {made}"),
    }
    rest.create(&of("BgpPeer", "tor", json!({"conf": {"peerAs": 50001, "neighborAddress": "192.168.0.100"}})))?;
    let hops = |numbers: &[usize]| {
        let wanted = numbers.iter().map(|n| IpAddr::from(cluster.nodes[*n].address())).collect();
        until_next_hops(router, address, &wanted)
    };
    hops(&[0, 1])?;
    until("the Service is reached", secs(20), || client::get(router, SocketAddr::new(address, 80), secs(1)))?;
    installed.said(&format!("{SERVICES}/web"), "openelb.io/Announced", "Announced")?;
    let read = |path: &str| rest.get(&format!("/apis/{group}/{path}"));
    until("both nodes say so in the status", secs(20), || {
        let (peer, conf) = (read("bgppeers/tor")?, read("bgpconfs/default")?);
        for node in ["n1", "n2"] {
            let state = &peer["status"]["nodesPeerStatus"][node]["peerState"];
            ensure!(state["sessionState"] == "ESTABLISHED" && state["neighborAddress"] == "192.168.0.100", "{state}");
            ensure!(conf["status"]["nodesConfStatus"][node]["as"] == 50000, "{conf}");
        }
        Ok(())
    })?;
    // Counters cost no writes: nothing but a session that comes or goes is a new version.
    let version = read("bgppeers/tor")?["metadata"]["resourceVersion"].clone();
    let local = json!({"spec": {"externalTrafficPolicy": "Local"}});
    rest.patch(&format!("{SERVICES}/web"), &local)?;
    drop(_pods);
    rest.delete("/api/v1/namespaces/default/pods/web1")?;
    hops(&[1])?;
    ensure!(read("bgppeers/tor")?["metadata"]["resourceVersion"] == version, "the status was written without need");
    // A node that is not ready withdraws, says the control plane and not its speaker (D8).
    let path = "/api/v1/nodes/n2/status";
    let not_ready =
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Test", "message": ""}]}});
    rest.patch(path, &not_ready)?;
    hops(&[])?;
    rest.delete(&format!("/apis/{group}/bgppeers/tor"))?;
    until("nobody talks any more", secs(20), || {
        let speaker = rest.get(&format!("{SPEAKERS}/n1"))?;
        ensure!(speaker["status"]["bgp"].is_null(), "{}", speaker["status"]);
        Ok(())
    })
}

const BFD: &str = "  bfd: {transmitInterval: 100, receiveInterval: 100, detectMultiplier: 3}\n";

/// Cuts a node off without its link going down; returns how long its share of the traffic was lost.
fn cut(scene: &Scene, number: usize) -> Result<Duration> {
    let (left, others): (usize, Vec<usize>) = (number, (0..3).filter(|n| *n != number).collect());
    let wanted: BTreeSet<IpAddr> = others.iter().map(|n| scene.nodes[*n].v4).collect();
    scene.nodes[left].host.lose("eth0", 100)?;
    let start = Instant::now();
    until("the router goes by the others alone", secs(20), || {
        ensure!(next_hops(&scene.router, ip(V4)?)? == wanted);
        Ok(())
    })
    .with_context(|| scene.logs())?;
    Ok(start.elapsed())
}

fn bfd_with_frr(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let profile = "bfd\n profile quick\n  transmit-interval 100\n  receive-interval 100\n  detect-multiplier 3\n";
    let frr = frr_with(&scene, "bfd profile quick", Some(profile))?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, &format!("{BOTH}{BFD}")))?;
    scene.hops(&[0, 1, 2])?;
    let up = |frr: &Frr, wanted: usize| {
        until(&format!("{wanted} sessions of BFD are up"), secs(20), || {
            let peers = frr.json("show bfd peers")?;
            let up = peers.as_array().into_iter().flatten().filter(|p| p["status"] == "up").count();
            ensure!(up == wanted, "{peers}");
            Ok(())
        })
    };
    up(&frr, 3).with_context(|| scene.logs())?;
    scene.said("BgpPeer", "tor", &["bfdState", "state: UP"])?;
    scene.said("Speaker", "n3", &["bfd: UP"])?;
    let metrics = scene.nodes[1].host.run("curl -sS --max-time 5 http://127.0.0.1:50053/metrics")?;
    ensure!(metrics.contains("oxelb_bfd_session_up{peer=\"tor\"} 1"), "{metrics}");

    // The hold time is 90 s; nobody could wait for that.
    let took = cut(&scene, 1)?;
    println!("FRR: a silent path is left after {} ms", took.as_millis());
    ensure!(took < secs(3), "{took:?}");
    scene.said("BgpPeer", "tor", &["nothing was heard for the detection time"])?;
    scene.nodes[1].host.heal("eth0")?;
    scene.hops(&[0, 1, 2])?;
    up(&frr, 3).with_context(|| scene.logs())?;

    // Neither other times, nor BFD that the router's operator holds down, nor its end resets a session.
    let before = established(&frr)?;
    let slower = BFD.replace("detectMultiplier: 3", "detectMultiplier: 5");
    scene.apply("peer", &peer("tor", ROUTER, &format!("{BOTH}{slower}")))?;
    until("the router knows of the other multiplier", secs(20), || {
        let peers = frr.json("show bfd peers")?;
        let all = peers.as_array().into_iter().flatten();
        ensure!(all.filter(|p| p["remote-detect-multiplier"] == 5).count() == 3, "{peers}");
        Ok(())
    })?;
    up(&frr, 3)?;
    frr.configure(&["bfd", "profile quick", "shutdown"])?;
    scene.said("Speaker", "n2", &["BfdDown", "operator holds it down"])?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.said("Speaker", "n2", &["established: 1"])?;
    until("BFD is said of no session any more", secs(20), || {
        ensure!(!scene.status("Speaker", "n2")?.contains("bfd"));
        Ok(())
    })?;
    ensure!(established(&frr)? == before, "the end of BFD reset a session");
    frr.configure(&["bfd", "profile quick", "no shutdown"])?;
    scene.apply("peer", &peer("tor", ROUTER, &format!("{BOTH}{BFD}")))?;
    up(&frr, 3).with_context(|| scene.logs())?;
    ensure!(established(&frr)? == before, "the beginning of BFD reset a session");

    // A frozen process is found too, by the router.
    scene.nodes[2].speaker.as_ref().context("no speaker")?.signal(Signal::SIGSTOP)?;
    scene.hops(&[0, 1])?;
    scene.nodes[2].speaker.as_ref().context("no speaker")?.signal(Signal::SIGCONT)?;
    scene.hops(&[0, 1, 2])?;
    scene.nodes[0].speaker.take().context("no speaker")?.stop()?;
    scene.hops(&[1, 2])
}

fn bfd_with_bird(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let bfd = "protocol bfd {\n    interface \"eth0\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; };\n}\n";
    let bird = Bird::start(&scene.lab, &scene.router, &bird_config(&scene, bfd, "bfd on; error wait time 1, 2;"))?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BFD))?;
    scene.hops(&[0, 1, 2])?;
    let up = || {
        until("three sessions of BFD are up", secs(20), || {
            let said = bird.show("show bfd sessions")?;
            ensure!(said.matches(" Up ").count() == 3, "{said}");
            Ok(())
        })
        .with_context(|| scene.logs())
    };
    up()?;
    let took = cut(&scene, 1)?;
    println!("BIRD: a silent path is left after {} ms", took.as_millis());
    ensure!(took < secs(3), "{took:?}");
    scene.nodes[1].host.heal("eth0")?;
    scene.hops(&[0, 1, 2])?;
    up()
}

fn port_taken(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let _frr = frr(&scene, "")?;
    let holder = scene.nodes[0].host.inside(|| std::net::TcpListener::bind("0.0.0.0:17900"))??;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    scene.hops(&[0, 1, 2])?;
    scene.said("Speaker", "n2", &["BgpPortTaken", "TCP port 17900 is taken", "spec.listenPort"])?;
    drop(holder);
    until("the port is listened on once it is free", secs(20), || {
        let text = scene.status("Speaker", "n2")?;
        ensure!(!text.contains("BgpPortTaken"), "{text}");
        Ok(())
    })
}
