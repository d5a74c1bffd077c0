//! BGP beside GoBGP, which does the same job in the same run: ten thousand routes to FRR, and two hundred routers at once.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::table::{Aim, Row, percentile};
use super::{Rig, clock, memory, progress};
use crate::host::{Host, Lab, Switch};
use crate::oxelb::{self, Source};
use crate::process::Process;
use crate::router::{Bird, Frr, GoBgp};
use crate::wait::{millis, secs, until};

const ROUNDS: usize = 3;
const PEERS: usize = 200;
/// Routes of the speaker that two hundred routers are told.
const FEW: usize = 100;
const IDLE: u64 = 20;
const PEER: &str = "/apis/network.kubesphere.io/v1alpha2/bgppeers/tor";

/// What it cost to tell the router of all, or of the end of all.
#[derive(Default)]
struct Cost {
    /// From the session, or the order, to the router's table, in ms.
    time: Vec<f64>,
    /// CPU time in ms.
    cpu: Vec<f64>,
    /// What the router's interface received, in KiB.
    wire: Vec<f64>,
}

/// A speaker on one of the rig's nodes, and the FRR that hears it.
struct Side<'a> {
    frr: &'a Frr,
    router: &'a Host,
    peer: Ipv4Addr,
    speaker: &'a Process,
}

impl Side<'_> {
    /// How many routes of the speaker the router has; `None` without a session.
    fn routes(&self) -> Result<Option<usize>> {
        let summary = self.frr.json("show bgp ipv4 unicast summary")?;
        let peer = &summary["peers"][self.peer.to_string()];
        let count = peer["pfxRcd"].as_u64().context("no count")?;
        Ok((peer["state"] == "Established").then_some(count.try_into()?))
    }

    /// Does it, and waits until the router has so many routes: from the session, where there was none, or the order.
    fn until(&self, cost: &mut Cost, count: usize, order: impl FnOnce() -> Result<()>) -> Result<()> {
        let (cpu, wire, patience) = (memory::cpu(self.speaker)?, self.received()?, Instant::now() + secs(60));
        let (there, mut start) = (self.routes()?.is_some(), clock::now()?);
        order()?;
        let mut found = None;
        while found != Some(count) {
            ensure!(Instant::now() < patience, "{} has {found:?} of {count} routes", self.peer);
            found = self.routes()?;
        }
        let end = clock::now()?;
        if !there {
            // In brackets is the name that the peer has said.
            let up = format!("%ADJCHANGE: neighbor {}(", self.peer);
            let log = self.frr.log();
            let line = log
                .lines()
                .rev()
                .find(|line| line.contains(&up) && line.ends_with(" Up"))
                .context("FRR did not tell when the session came up")?;
            start = clock::of(line).with_context(|| line.to_owned())?;
        }
        cost.time.push(clock::between(start, end).as_secs_f64() * 1e3);
        thread::sleep(millis(500));
        cost.cpu.push((memory::cpu(self.speaker)? - cpu).as_secs_f64() * 1e3);
        cost.wire.push((self.received()? - wire) as f64 / 1024.0);
        Ok(())
    }

    fn received(&self) -> Result<u64> {
        let text = self.router.ip("-s -j link show dev eth0")?;
        let all: serde_json::Value = serde_json::from_str(&text)?;
        all[0]["stats64"]["rx"]["bytes"].as_u64().context("no octets are counted")
    }

    fn down(&self) -> Result<()> {
        until("the session is gone", secs(20), || {
            ensure!(self.routes()?.is_none());
            Ok(())
        })
    }
}

/// All rows of many routes: a speaker on the first node, which knows `count` Services, and GoBGP on the second.
pub fn routes(lab: &Lab, rig: &Rig, count: usize) -> Result<Vec<Row>> {
    progress(&format!("BGP: {count} routes to FRR, of the speaker and of GoBGP"));
    let (router, rest) = (&rig.cluster.client, &rig.cluster.control.rest);
    let [ours, theirs] = [0, 1].map(|n| rig.cluster.nodes.get(n).context("no such node"));
    let (ours, theirs) = (ours?, theirs?);
    let mut text =
        "log timestamp precision 6\nrouter bgp 50001\n bgp router-id 192.168.0.100\n no bgp ebgp-requires-policy\n \
         bgp log-neighbor-changes\n"
            .to_owned();
    for address in [ours.address(), theirs.address()] {
        write!(text, " neighbor {address} remote-as 50000\n neighbor {address} timers connect 1\n")?;
    }
    let frr = Frr::start(lab, router, &text, None)?;
    let source = Source::Cluster(rig.cluster.control.kubeconfig_for("openelb-system", "openelb-speaker")?);
    let state = lab.folder("state.routes")?;
    let speaker = ours.host.spawn("speaker", oxelb::speaker(&source, &ours.name, &state)?)?;
    let mut without = [memory::settled(&speaker)?, 0.0];
    let config = format!("[global.config]\n  as = 50000\n  router-id = \"{}\"\n", theirs.address());
    let gobgp = GoBgp::start(lab, &theirs.host, &config)?;
    without[1] = memory::settled(gobgp.process())?;
    let table = lab.dir.join("routes.mrt");
    fs::write(&table, mrt(theirs.address(), count)?)?;

    let side = |peer, speaker| Side { frr: &frr, router, peer, speaker };
    let (us, them) = (side(ours.address(), &speaker), side(theirs.address(), gobgp.process()));
    let (mut up, mut down, mut their_up, mut their_down) =
        (Cost::default(), Cost::default(), Cost::default(), Cost::default());
    let mut resident = [0.0; 2];
    let ready = |yes: bool| {
        let status = if yes { "True" } else { "False" };
        let conditions = json!([{"type": "Ready", "status": status, "reason": "Bench", "message": ""}]);
        let path = format!("/api/v1/nodes/{}/status", ours.name);
        rest.patch(&path, &json!({"status": {"conditions": conditions}})).map(drop)
    };
    for round in 0..ROUNDS {
        us.until(&mut up, count, || {
            rest.create(&json!({
                "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "BgpPeer", "metadata": {"name": "tor"},
                "spec": {
                    "conf": {"peerAs": 50001, "neighborAddress": "192.168.0.100"},
                    // Without add-path, as the other side has it.
                    "afiSafis": [{"config": {"enabled": true, "family": {"afi": "AFI_IP", "safi": "SAFI_UNICAST"}}}],
                },
            }))
            .map(drop)
        })?;
        if round == 0 {
            resident[0] = memory::settled(&speaker)?;
        }
        us.until(&mut down, 0, || ready(false))?;
        rest.delete(PEER)?;
        us.down()?;
        ready(true)?;
        memory::quiet(&speaker, secs(1))?;

        inject(&gobgp, &table, count)?;
        memory::quiet(gobgp.process(), secs(1))?;
        them.until(&mut their_up, count, || gobgp.show("neighbor add 192.168.0.100 as 50001").map(drop))?;
        if round == 0 {
            resident[1] = memory::settled(gobgp.process())?;
        }
        them.until(&mut their_down, 0, || gobgp.show("global rib del all").map(drop))?;
        gobgp.show("neighbor del 192.168.0.100")?;
        them.down()?;
    }
    speaker.stop()?;
    frr.stop()?;
    let beside = |what: String, unit: &'static str, ours: &[f64], theirs: &[f64]| {
        Row::new(&what, percentile(ours, 0.5), unit).floor(percentile(theirs, 0.5))
    };
    let mut rows = Vec::new();
    for (what, ours, theirs) in [("announced", &up, &their_up), ("withdrawn", &down, &their_down)] {
        let what = |of: &str| format!("{count} routes {what}: {of}");
        let note = format!("floor: GoBGP 3.10; median of {ROUNDS}; until FRR's own summary says so");
        rows.push(beside(what("time"), "ms", &ours.time, &theirs.time).aim(Aim::TimesFloor(1.0)).note(&note));
        rows.push(beside(what("CPU"), "ms", &ours.cpu, &theirs.cpu));
        rows.push(beside(what("on the wire"), "KiB", &ours.wire, &theirs.wire));
    }
    rows.push(
        Row::new(&format!("speaker with {count} routes announced, resident"), resident[0], "MiB")
            .floor(resident[1])
            .aim(Aim::TimesFloor(0.5))
            .note(
                "floor: GoBGP 3.10, which has the routes alone; the speaker has the cluster's Services in memory too",
            ),
    );
    rows.push(
        Row::new("… of that for routes and session", resident[0] - without[0], "MiB")
            .floor(resident[1] - without[1])
            .note("more than before there was a router; of GoBGP, before it had routes"),
    );
    Ok(rows)
}

/// All rows of many routers: each a BIRD on a host of its own.
pub fn peers(lab: &Lab) -> Result<Vec<Row>> {
    progress(&format!("BGP: {PEERS} routers on one speaker, and on GoBGP"));
    let lan = lab.switch("lan")?;
    let (ours, theirs) = (lab.host("n1")?, lab.host("n2")?);
    lan.plug(&ours, "eth0", &["10.1.0.1/16"])?;
    lan.plug(&theirs, "eth0", &["10.1.0.2/16"])?;
    let addresses: Vec<Ipv4Addr> = (0..PEERS).map(|n| Ipv4Addr::new(10, 1, 1, n as u8 + 1)).collect();
    let folder = lab.folder("objects")?;
    fs::write(folder.join("objects.yaml"), objects(&addresses))?;
    let _birds = addresses.iter().map(|address| bird(lab, &lan, *address)).collect::<Result<Vec<_>>>()?;
    let source = Source::Folder(folder);
    let speaker = ours.spawn("speaker", oxelb::speaker(&source, "n1", &lab.folder("state")?)?)?;
    speaker.until("all routers have a session", secs(120), || {
        let text = ours.run("curl -sS --max-time 5 http://127.0.0.1:50053/metrics")?;
        let up = |line: &&str| line.starts_with("oxelb_bgp_prefixes_advertised") && line.ends_with(&format!(" {FEW}"));
        let up = text.lines().filter(up).count();
        ensure!(up == PEERS, "{up}");
        Ok(())
    })?;
    let us = idle(&speaker)?;
    speaker.stop()?;

    let mut config = "[global.config]\n  as = 50000\n  router-id = \"10.1.0.2\"\n".to_owned();
    for address in &addresses {
        write!(
            config,
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = 50001\n  \
             [neighbors.transport.config]\n    passive-mode = true\n"
        )?;
    }
    let gobgp = GoBgp::start(lab, &theirs, &config)?;
    let table = lab.dir.join("routes.mrt");
    fs::write(&table, mrt(Ipv4Addr::new(10, 1, 0, 2), FEW)?)?;
    inject(&gobgp, &table, FEW)?;
    until("GoBGP has all sessions", secs(120), || {
        let up = gobgp.show("neighbor")?.matches("Establ").count();
        ensure!(up == PEERS, "{up}");
        Ok(())
    })?;
    let them = idle(gobgp.process())?;
    let note = format!("each is told {FEW} routes; floor: GoBGP 3.10 with the same");
    Ok(vec![
        Row::new(&format!("{PEERS} routers: resident"), us.0, "MiB").floor(them.0).note(&note),
        Row::new(&format!("{PEERS} routers: CPU at idle"), us.1, "ms a second").floor(them.1),
    ])
}

fn bird(lab: &Lab, lan: &Switch, address: Ipv4Addr) -> Result<Bird> {
    let host = lab.host(&format!("r{}", address.octets()[3]))?;
    lan.plug(&host, "eth0", &[&format!("{address}/16")])?;
    let mut config = format!("router id {address};\nprotocol device {{}}\n");
    for neighbour in ["10.1.0.1", "10.1.0.2"] {
        writeln!(
            config,
            "protocol bgp {{ local as 50001; neighbor {neighbour} as 50000; connect delay time 1; connect retry time 5; \
             ipv4 {{ import all; export none; }}; }}"
        )?;
    }
    Bird::start(lab, &host, &config)
}

/// Memory when it is quiet, and then its CPU time for each second.
fn idle(process: &Process) -> Result<(f64, f64)> {
    let resident = memory::settled(process)?;
    let before = memory::cpu(process)?;
    thread::sleep(secs(IDLE));
    Ok((resident, (memory::cpu(process)? - before).as_secs_f64() * 1e3 / IDLE as f64))
}

fn objects(routers: &[Ipv4Addr]) -> String {
    let group = "apiVersion: network.kubesphere.io/v1alpha2";
    let mut text = format!(
        "{group}\nkind: Eip\nmetadata: {{name: pool}}\nspec: {{address: 10.65.0.0/16}}\n---\n\
         {group}\nkind: BgpConf\nmetadata: {{name: default}}\nspec: {{as: 50000}}\n---\n\
         apiVersion: v1\nkind: Node\nmetadata: {{name: n1}}\n\
         status: {{addresses: [{{type: InternalIP, address: 10.1.0.1}}]}}\n"
    );
    for (n, router) in routers.iter().enumerate() {
        text += &format!(
            "---\n{group}\nkind: BgpPeer\nmetadata: {{name: r{n:03}}}\n\
             spec: {{conf: {{peerAs: 50001, neighborAddress: {router}}}, transport: {{passiveMode: true}}}}\n"
        );
    }
    for n in 0..FEW {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{n:03}\n  annotations:\n    \
             lb.kubesphere.io/v1alpha1: openelb\n    eip.openelb.kubesphere.io/v1alpha2: pool\n\
             spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: {}}}]}}}}\n",
            address(n)
        );
    }
    text
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 65, 0, 1).to_bits() + number as u32)
}

/// Gives GoBGP its routes. What its client read last it may not have sent when it ends, so it is asked again.
fn inject(gobgp: &GoBgp, table: &Path, count: usize) -> Result<()> {
    until("GoBGP has all routes", secs(60), || {
        gobgp.show(&format!("mrt inject global {}", table.display()))?;
        let summary = gobgp.show("global rib summary")?;
        ensure!(summary.contains(&format!("Destination: {count},")), "{summary}");
        Ok(())
    })
}

/// A table of so many host routes as RFC 6396 has it (TABLE_DUMP_V2), which is how GoBGP takes many at once.
fn mrt(next_hop: Ipv4Addr, count: usize) -> Result<Vec<u8>> {
    const PEER_INDEX_TABLE: u16 = 1;
    const RIB_IPV4_UNICAST: u16 = 2;
    let mut file = Vec::new();
    let mut record = |subtype: u16, body: &[u8]| -> Result<()> {
        file.extend([0; 4]);
        file.extend([13u16, subtype].map(u16::to_be_bytes).concat());
        file.extend(u32::try_from(body.len())?.to_be_bytes());
        file.extend(body);
        Ok(())
    };
    // Collector, no name of a view, one peer: of 4-octet AS and IPv4.
    let collector = next_hop.octets();
    let peer = [&[2][..], &collector, &collector, &50000u32.to_be_bytes()].concat();
    record(PEER_INDEX_TABLE, &[&collector[..], &[0, 0], &[0, 1], &peer].concat())?;
    // ORIGIN, an empty AS_PATH, NEXT_HOP.
    let attributes = [&[0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4][..], &collector].concat();
    // Again and again: the client may end before the last ones of a table are sent, also each time it is asked.
    for number in (0..count).cycle().take((2 * count).max(2000)) {
        let head = [&u32::try_from(number)?.to_be_bytes()[..], &[32], &address(number).octets(), &[0, 1]].concat();
        let entry = [&[0; 6][..], &u16::try_from(attributes.len())?.to_be_bytes(), &attributes].concat();
        record(RIB_IPV4_UNICAST, &[head, entry].concat())?;
    }
    Ok(file)
}
