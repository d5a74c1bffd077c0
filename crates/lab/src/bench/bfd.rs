//! BFD with BIRD: how long until a path is found dead whose link stays up, on both sides; and whether it bears that all
//! processors are busy.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use super::table::{Aim, Row, percentile};
use super::{clock, progress};
use crate::cluster::DEVICE;
use crate::faults::Scene;
use crate::host::Lab;
use crate::router::Bird;
use crate::sandbox::Sandbox;
use crate::suite::at_once;
use crate::wait::{millis, secs, until};

const PAIRS: usize = 8;
const CUTS: usize = 25;
const INTERVAL: u32 = 50;
const OURS: &str = "BFD with the router is down";
const OURS_UP: &str = "BFD with the router is up";
const THEIRS: &str = "changed state from Up to Down";

/// BIRD on the scene's gateway, with BGP and BFD to so many nodes, and the objects for it.
pub fn watched(lab: &Lab, scene: &Scene, milliseconds: u32) -> Result<Bird> {
    let mut config = format!(
        "log stderr all;\ntimeformat log iso long us;\nrouter id 192.168.0.1;\nprotocol device {{}}\n\
         protocol bfd {{ debug {{ events }}; interface \"eth0\" {{ min rx interval {milliseconds} ms; \
         min tx interval {milliseconds} ms; multiplier 3; }}; }}\n"
    );
    for number in 1..=scene.names().len() {
        writeln!(
            config,
            "protocol bgp {{ local as 50001; neighbor 192.168.0.{} port 17900 as 50000; bfd on; connect delay time 1; \
             connect retry time 1; error wait time 1, 2; ipv4 {{ import all; export none; }}; }}",
            10 + number
        )?;
    }
    let bird = Bird::start(lab, scene.router(), &config)?;
    let group = "apiVersion: network.kubesphere.io/v1alpha2";
    scene.apply(
        "bgp",
        &format!(
            "{group}\nkind: BgpConf\nmetadata: {{name: default}}\nspec: {{as: 50000, listenPort: 17900}}\n---\n\
             {group}\nkind: BgpPeer\nmetadata: {{name: tor}}\nspec:\n  \
             conf: {{peerAs: 50001, neighborAddress: 192.168.0.1}}\n  timers: {{config: {{connectRetry: '1'}}}}\n  \
             bfd: {{transmitInterval: {milliseconds}, receiveInterval: {milliseconds}, detectMultiplier: 3}}\n"
        ),
    )?;
    until("BFD is up on every node", secs(30), || {
        for name in scene.names() {
            ensure!(scene.count(&name, "oxelb_bfd_session_up")? == 1, "not on {name}");
        }
        let up = bird.show("show bfd sessions")?.matches(" Up ").count();
        ensure!(up == scene.names().len(), "{up} at the router");
        Ok(())
    })?;
    ensure!(lost(scene)? == 0, "BFD was lost before anything happened");
    Ok(bird)
}

/// How often BFD went down on all nodes together.
pub fn lost(scene: &Scene) -> Result<u64> {
    scene.names().iter().map(|name| scene.count(name, "oxelb_bfd_sessions_lost_total")).sum()
}

/// All rows.
pub fn rows(sandbox: &Sandbox) -> Result<Vec<Row>> {
    progress(&format!("BFD: {} silent cuts at 3 x {INTERVAL} ms", PAIRS * CUTS));
    let found = Mutex::new(Vec::new());
    at_once((0..PAIRS).collect(), |pair| {
        let lab = Lab::new(sandbox, &format!("bfd.{pair}"))?;
        let scene = Scene::start(&lab, 1, "normal", true)?;
        let bird = watched(&lab, &scene, INTERVAL)?;
        for _ in 0..CUTS {
            let both = cut(&scene, &bird)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).push(both);
        }
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (ours, theirs): (Vec<f64>, Vec<f64>) =
        found.iter().map(|(us, them)| (us.as_secs_f64() * 1e3, them.as_secs_f64() * 1e3)).unzip();
    let row = |share: f64, what: &str| {
        Row::new(&format!("BFD at 3 x {INTERVAL} ms: a silent cut is found, {what}"), percentile(&ours, share), "ms")
            .floor(percentile(&theirs, share))
    };
    let note = format!(
        "{} cuts, {PAIRS} at a time; from before nft is called; floor: BIRD's side of the same cuts",
        ours.len()
    );
    Ok(vec![row(0.5, "p50").note(&note), row(0.99, "p99").aim(Aim::AtMost(200.0)), row(1.0, "longest")])
}

/// Everything is lost at once, and no link goes down: how long until either side knows.
fn cut(scene: &Scene, bird: &Bird) -> Result<(Duration, Duration)> {
    let (host, speaker) = (scene.host("n1")?, || scene.log("n1"));
    let count = |log: &str, what: &str| log.lines().filter(|line| line.contains(what)).count();
    let (downs, ups, their_downs) = (count(&speaker()?, OURS), count(&speaker()?, OURS_UP), count(&bird.log(), THEIRS));
    let start = clock::now()?;
    host.lose(DEVICE, 100)?;
    let found = |log: &str, what: &str, before: usize| {
        let line = log.lines().filter(|line| line.contains(what)).nth(before).context("not found yet")?;
        Ok(clock::between(start, clock::of(line).with_context(|| line.to_owned())?))
    };
    let ours = until("the speaker finds the path dead", secs(5), || found(&speaker()?, OURS, downs))?;
    let theirs = until("BIRD finds the path dead", secs(5), || found(&bird.log(), THEIRS, their_downs))?;
    host.heal(DEVICE)?;
    until("BFD is up again", secs(20), || {
        ensure!(count(&speaker()?, OURS_UP) > ups);
        ensure!(bird.show("show bfd sessions")?.contains(" Up "));
        Ok(())
    })?;
    // Another moment between two packets each time.
    sleep(millis(200 + 7 * (downs as u64 % 8)));
    Ok((ours, theirs))
}
