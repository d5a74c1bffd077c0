//! `lab bench`: speed and memory on a real API server, each figure beside a floor measured in the same run.
//!
//! ```text
//! control .0.2   etcd, kube-apiserver; controller; the bare client, which watches and patches, nothing else
//! n1 n2 n3       speakers (their kube-proxy is left out: it would measure itself)
//! client .0.100  hears ARP, floods with ARP
//! ```
//! Mode vip is measured on clusters of its own, of speakers on a folder, beside pairs of keepalived.
//! Figures are told and compared with their aims, never asserted; only what could not be measured is a failure.

mod arp;
mod bfd;
mod bgp;
mod clock;
pub mod failover;
mod gobgp;
mod latency;
mod memory;
mod services;
mod table;
mod throughput;
mod vip;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use crate::cluster::{Cluster, DEVICE};
use crate::host::Lab;
use crate::kube::Options as Plane;
use crate::oxelb::{self, Source};
use crate::process::{Process, require};
use crate::rest::Rest;
use crate::sandbox::Sandbox;
use crate::wait::secs;
use arp::{Flood, Port, Tap};
use services::{NAMESPACE, Observer, POOL, Template};
use table::{Aim, Row};

/// What to measure, and how to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many Services are assigned at once.
    pub services: usize,
    /// Print nothing but JSON.
    pub json: bool,
}

impl Options {
    /// Reads the words after `bench`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        match words {
            [] => Ok(Options { services: 10_000, json: false }),
            [rest @ .., "--output", "json"] => Ok(Options { json: true, ..Options::parse(rest)? }),
            [rest @ .., "--services", number] => {
                let services = number.parse().ok().filter(|n| (10..=20_000).contains(n));
                let services = services.with_context(|| format!("--services {number}: from 10 to 20000"))?;
                Ok(Options { services, ..Options::parse(rest)? })
            }
            _ => bail!("usage: lab bench [--services NUMBER] [--output json]"),
        }
    }
}

/// A line on standard error: what is going on, and since when.
fn progress(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    eprintln!("bench: [{:5.1} s] {text}", start.elapsed().as_secs_f64());
}

/// The cluster, and who runs in it.
struct Rig {
    cluster: Cluster,
    /// Of the controller's service account, by certificate, so that the bare client has the very same place in the API
    /// server's queues.
    account: PathBuf,
    speakers: Vec<Process>,
}

impl Rig {
    fn start(lab: &Lab) -> Result<Rig> {
        // No kube-controller-manager: what it does for each Service would be measured with it.
        let mut cluster = Cluster::start(lab, Plane { controllers: false, ..Plane::default() })?;
        apply(&cluster)?;
        for _ in 0..3 {
            let node = cluster.machine()?;
            cluster.register(&node)?;
            cluster.nodes.push(node);
        }
        let account = cluster.control.kubeconfig(CONTROLLER, Some(ACCOUNTS))?;
        Ok(Rig { cluster, account, speakers: Vec::new() })
    }

    /// A controller as it is deployed; returns when it leads.
    fn controller(&self) -> Result<Process> {
        let mut command = Command::new(oxelb::binary()?);
        command.arg("controller").arg(format!("--kubeconfig={}", self.account.display()));
        command.arg("--metrics-addr=127.0.0.1:50052");
        self.cluster.control.host.spawn("controller", command)
    }

    fn start_speakers(&mut self, lab: &Lab) -> Result<()> {
        let source = Source::Cluster(self.cluster.control.kubeconfig_for("openelb-system", "openelb-speaker")?);
        for node in &self.cluster.nodes {
            let state = lab.folder(&format!("state.{}", node.name))?;
            let speaker = node.host.spawn("speaker", oxelb::speaker(&source, &node.name, &state)?)?;
            self.speakers.push(speaker);
        }
        for (node, speaker) in self.cluster.nodes.iter().zip(&self.speakers) {
            let path = format!("/apis/oxelb.io/v1alpha1/speakers/{}", node.name);
            speaker.until("the speaker reports", secs(20), || self.cluster.control.rest.get(&path))?;
        }
        Ok(())
    }

    /// The port of a node.
    fn node(&self, number: usize) -> Result<Port> {
        let node = self.cluster.nodes.get(number).context("no such node")?;
        Port::of(&node.host, DEVICE, node.address())
    }

    /// Floods the first node for its own address, and for one that nobody has.
    fn flood_kernel(&self, client: &Port) -> Result<(Flood, Flood)> {
        let node = self.node(0)?;
        let own = self.cluster.nodes.first().context("no node")?.address();
        Ok((arp::flood(client, &node, own)?, arp::unanswered(client, &node, Ipv4Addr::new(192, 168, 3, 250))?))
    }
}

const CONTROLLER: &str = "system:serviceaccount:openelb-system:openelb-controller";
const ACCOUNTS: &str = "system:serviceaccounts";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What deploy/openelb.yaml has, without the pods: the programs run as processes here; and a pool.
fn apply(cluster: &Cluster) -> Result<()> {
    let path = workspace().join("deploy/openelb.yaml");
    let yaml = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let pods = |document: &str| document.contains("\nkind: Deployment\n") || document.contains("\nkind: DaemonSet\n");
    let kept: Vec<&str> = yaml.split("\n---\n").filter(|document| !pods(&format!("\n{document}\n"))).collect();
    let control = &cluster.control;
    control.apply(&kept.join("\n---\n"))?;
    control.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    control.rest.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))?;
    control.apply(&format!(
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {{name: {POOL}}}\n\
         spec: {{address: 10.64.0.0/16, protocol: layer2, interface: {DEVICE}}}\n"
    ))?;
    Ok(())
}

/// Measures everything, prints it, and fails when something could not be measured.
pub fn run(sandbox: &Sandbox, options: Options) -> Result<()> {
    require(&["ip", "nft", "keepalived", "arping", "curl", "vtysh", "bird", "gobgpd"])?;
    let program = oxelb::binary()?;
    progress(&format!("{}; {}", program.display(), machine()));
    let mut told = Told::default();
    let lab = Lab::new(sandbox, "bench")?;
    match Rig::start(&lab) {
        Ok(mut rig) => measure(&lab, &mut rig, options, &mut told),
        Err(error) => told.add("the control plane", Err(error)),
    }
    let many = || gobgp::peers(&Lab::new(sandbox, "peers")?);
    told.add("many routers", many());
    told.add("BFD", bfd::rows(sandbox));
    told.add("vip", vip::rows(sandbox));
    told.add("allocation", allocation());
    told.add("heartbeats", heartbeats());
    let json = table::json(&told.rows, &told.failures);
    if !options.json {
        println!("\n{}", table::text(&told.rows));
    }
    println!("{json}");
    ensure!(told.failures.is_empty(), "could not be measured: {}", told.failures.join("; "));
    Ok(())
}

/// What was measured, and what could not be.
#[derive(Default)]
struct Told {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Told {
    fn add(&mut self, what: &str, result: Result<Vec<Row>>) {
        match result {
            Ok(rows) => {
                rows.iter().for_each(|row| progress(&row.line()));
                self.rows.extend(rows);
            }
            Err(error) => {
                progress(&format!("{what} could not be measured: {error:#}"));
                self.failures.push(format!("{what}: {error:#}").lines().next().unwrap_or(what).to_owned());
            }
        }
    }
}

fn measure(lab: &Lab, rig: &mut Rig, options: Options, told: &mut Told) {
    let template = match small(lab, rig, told) {
        Ok(template) => template,
        Err(error) => return told.add("the cluster", Err(error)),
    };
    progress("speakers and Services go; then many Services");
    let many = || {
        let rest = &rig.cluster.control.rest;
        let bare = bare(rig)?;
        let observer = Observer::start(rest)?;
        throughput::measure(rig, &bare, &observer, &template, options.services)
    };
    told.add("many Services", many());
    told.add("many routes", gobgp::routes(lab, rig, options.services));
}

/// The bare client: the controller's own identity.
fn bare(rig: &Rig) -> Result<Rest> {
    let control = &rig.cluster.control;
    let to = std::net::SocketAddr::from(([192, 168, 0, 2], 6443));
    Ok(Rest::new(&control.host, to, control.pki().tls(CONTROLLER, Some(ACCOUNTS))?))
}

/// All that is measured with up to a thousand Services. Returns what the controller writes into one.
fn small(lab: &Lab, rig: &mut Rig, told: &mut Told) -> Result<Template> {
    let client = Port::of(&rig.cluster.client, "eth0", Ipv4Addr::new(192, 168, 0, 100))?;
    let kernel = rig.flood_kernel(&client);
    let controller = rig.controller()?;
    let rest = rig.cluster.control.rest.clone();
    let observer = Observer::start(&rest)?;
    rest.create(&services::service("x", 0, true))?;
    let first = services::name("x", 0);
    controller.until("the first Service has an address", secs(30), || observer.assigned(&first, secs(1)))?;
    let template = Template::of(&rest, &first)?;
    template.clone().serve(&bare(rig)?, "f")?;
    progress("Service → address, against a bare client");
    told.add("Service → address", latency::to_address(&rest, &observer));

    progress("Service → first ARP, with three speakers");
    let tap = Tap::start(&client)?;
    rig.start_speakers(lab)?;
    told.add("Service → first ARP", latency::to_arp(&rest, &observer, &tap));
    progress("the speakers' memory");
    let have = ["x", "a", "w"].iter().map(|group| Ok(services::list(&rest, group)?.len())).sum::<Result<usize>>()?;
    told.add("the speakers' memory", memory::speakers(rig, &observer, &tap, have));

    progress("ARP: a flood for the speaker, one for the kernel");
    let speaker = flood_speaker(rig, &client, &tap);
    progress("Service → route, with FRR");
    told.add("Service → route", bgp::rows(lab, rig, &observer));
    for speaker in std::mem::take(&mut rig.speakers) {
        speaker.stop()?;
    }
    let floods = || {
        let ((kernel, nobody), (more, more_nobody)) = (kernel?, rig.flood_kernel(&client)?);
        arp::rows(speaker?, kernel.and(more), nobody.and(more_nobody))
    };
    told.add("ARP", floods());
    for group in ["x", "a", "w", "m", "f"] {
        services::clear(&rest, group)?;
    }
    controller.stop()?;
    Ok(template)
}

fn flood_speaker(rig: &Rig, client: &Port, tap: &Tap) -> Result<(Flood, u64)> {
    let node = rig.node(0)?;
    let target = tap.of(node.mac()).context("the first node owns no address")?;
    arp::flood_speaker(client, &node, target, rig.speakers.first().context("no speaker")?)
}

/// Allocation alone, as its own benchmark counts it.
fn allocation() -> Result<Vec<Row>> {
    progress("allocation");
    let found = example("oxelb-ipam", "rate")?;
    let row = |what: &str, key: &str, part: &str| {
        let nanoseconds = found[key][part].as_f64().with_context(|| format!("no {part} of {key} in {found}"))?;
        anyhow::Ok(Row::new(what, nanoseconds / 1e3, "µs"))
    };
    let (v4, v6) = ("ipv4_16_filled_99_percent", "ipv6_64");
    Ok(vec![
        row("allocate one address, /16 at 99 %", v4, "allocation")?
            .aim(Aim::AtMost(2.0))
            .note("CPU time of choosing, the median of fifteen rounds"),
        row("… with what is told of it", v4, "decision")?
            .note("the whole decision: address, condition, label and event, as text"),
        row("allocate one address, /64", v6, "allocation")?.aim(Aim::AtMost(2.0)),
        row("… with what is told of it", v6, "decision")?,
    ])
}

/// What speakers send to each other while nothing happens, as the engines' own benchmark counts it.
fn heartbeats() -> Result<Vec<Row>> {
    progress("heartbeats of up to 100 speakers, by a simulated clock");
    let found = example("oxelb-lease", "cost")?;
    let rows = found.as_array().into_iter().flatten().flat_map(|case| {
        let what = format!("{} speakers, {} addresses", case["speakers"], case["addresses"]);
        let note = "preset normal; what the busiest node sends, UDP payload, while nothing happens";
        let packets = case["packets"].as_f64().map(|n| Row::new(&format!("{what}: packets"), n, "a second").note(note));
        let sent = case["bytes"].as_f64().map(|n| Row::new(&format!("{what}: sent"), n / 1024.0, "KiB a second"));
        [packets, sent].into_iter().flatten()
    });
    Ok(rows.collect())
}

/// Runs the benchmark that a crate has of its own; its last line is JSON.
fn example(package: &str, name: &str) -> Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--release", "--package", package, "--example", name]);
    // As hack/build does it, so that what that has compiled is taken.
    cargo.arg(format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH));
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(workspace());
    let text = crate::host::command(&mut cargo)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("not JSON: {text}"))
}

/// The machine and how busy it is with other things.
fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cpus} CPUs, load {}", load.split_whitespace().next().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_order() -> Result<()> {
        assert_eq!(Options::parse(&[])?, Options { services: 10_000, json: false });
        let both = Options { services: 50, json: true };
        assert_eq!(Options::parse(&["--services", "50", "--output", "json"])?, both);
        assert_eq!(Options::parse(&["--output", "json", "--services", "50"])?, both);
        for wrong in [&["--services", "9"][..], &["--services"], &["--output", "xml"], &["fast"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }
}
