//! Mode vip beside keepalived's own pair, on the same kind of switch in the same run: how long nobody answers when the
//! owner dies and when it is moved on purpose; how addresses spread; what a move costs; many addresses at once.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::failover::{End, pair_of_keepalived};
use super::table::{Row, percentile};
use super::{Aim, progress};
use crate::cluster::DEVICE;
use crate::faults::{Fault, Outcome, Scene};
use crate::host::{Host, Lab};
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::suite::at_once;
use crate::wait::{millis, secs, until};

const RUNS: usize = 3;
const ADDRESS: &str = "192.168.0.180";
const MANY: usize = 1000;

/// All rows.
pub fn rows(sandbox: &Sandbox) -> Result<Vec<Row>> {
    let mut rows = times(sandbox)?;
    rows.extend(spread(&Lab::new(sandbox, "vip.spread")?)?);
    rows.push(many(&Lab::new(sandbox, "vip.many")?)?);
    Ok(rows)
}

fn spec(more: &str) -> String {
    format!("{{address: {ADDRESS}-192.168.4.200, protocol: vip, interface: {DEVICE}{more}}}")
}

/// What happened to which cluster.
type Seen = Mutex<Vec<(&'static str, End, Outcome)>>;

fn times(sandbox: &Sandbox) -> Result<Vec<Row>> {
    progress("vip: owners die and are moved, and keepalived's");
    let seen: Seen = Mutex::default();
    let note = |name, end, outcome| {
        seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, end, outcome));
    };
    at_once(vec!["normal", "fast"], |preset| {
        let lab = Lab::new(sandbox, &format!("vip.{preset}"))?;
        let mut scene = Scene::with_pool(&lab, 3, &spec(&format!(", failover: {preset}")), 1, true)?;
        for _ in 0..RUNS {
            note(preset, End::Cable, scene.run(Fault::Cable)?);
            note(preset, End::Killed, scene.run(Fault::Kill)?);
            note(preset, End::Stopped, moved(&scene)?);
        }
        Ok(())
    })?;
    for run in 0..RUNS {
        let both = [("keepalived 1 s", "1"), ("keepalived 0.1 s", "0.1")];
        let all = both.into_iter().flat_map(|pair| [End::Cable, End::Killed, End::Stopped].map(|end| (pair, end)));
        at_once(all.collect(), |((name, interval), end)| {
            let lab = Lab::new(sandbox, &format!("vip.{interval}.{end:?}.{run}"))?;
            note(name, end, pair_of_keepalived(&lab, interval, end)?);
            Ok(())
        })?;
    }
    let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let of = |name: &str, end: End| -> Vec<Outcome> {
        seen.iter().filter(|(n, e, _)| *n == name && *e == end).map(|(_, _, outcome)| *outcome).collect()
    };
    let gap = |name: &str, end: End| {
        percentile(&of(name, end).iter().map(|o| o.gap.as_secs_f64() * 1e3).collect::<Vec<_>>(), 0.5)
    };
    let doubled = |name: &str, end: End| of(name, end).iter().map(|o| o.doubled).sum::<usize>();
    let mut rows = Vec::new();
    for (end, what, least) in [
        (End::Cable, "cable pulled", Some([0.33, 1.0])),
        (End::Killed, "killed (-9)", None),
        (End::Stopped, "moved on purpose", None),
    ] {
        for (n, (preset, theirs)) in
            [("normal", "keepalived 1 s"), ("fast", "keepalived 0.1 s")].into_iter().enumerate()
        {
            let (ours, floor) = (gap(preset, end), gap(theirs, end));
            let two = doubled(preset, end);
            ensure!(two == 0, "vip, {preset}, {what}: two nodes answered in {two} times 10 ms");
            let row = Row::new(&format!("vip, {preset}, {what}: nobody answers"), ours, "ms");
            let times = doubled(theirs, end);
            rows.push(match (end, least) {
                // A floor that is no service: the dead one's kernel answers for ever.
                (End::Killed, _) => row.note(&format!(
                    "median of {RUNS}; of {theirs}, whose dead router answers on, two answered in {times} times 10 ms"
                )),
                (_, Some(least)) => row.floor(floor).aim(Aim::TimesFloor(least[n])).note(&format!("floor: {theirs}")),
                (_, None) => row.floor(floor).note(&format!("floor: {theirs}, stopped in good order")),
            });
        }
    }
    Ok(rows)
}

/// The address is given to another node by an operator.
fn moved(scene: &Scene) -> Result<Outcome> {
    let to = other(scene)?;
    let census = scene.census()?;
    std::thread::sleep(millis(100));
    let since = Instant::now();
    scene.oxelb(&["move", ADDRESS, "--to", &to])?;
    std::thread::sleep(millis(1000));
    let (end, answers) = (Instant::now(), census.finish()?);
    ensure!(answers.owners().len() == 2, "it was not moved");
    Ok(Outcome { gap: answers.gap(since, end), doubled: answers.doubled() })
}

fn other(scene: &Scene) -> Result<String> {
    let owner = scene.owner()?;
    scene.names().into_iter().find(|name| *name != owner).context("one node alone")
}

fn spread(lab: &Lab) -> Result<Vec<Row>> {
    progress("vip: 100 addresses over three nodes, and what a move of one costs");
    let scene = Scene::with_pool(lab, 3, &spec(""), 100, true)?;
    let counts = || -> Result<Vec<usize>> { scene.names().iter().map(|name| there(scene.host(name)?)).collect() };
    let all = |what: &str| {
        until(what, secs(60), || {
            let counts = counts()?;
            ensure!(counts.iter().sum::<usize>() == 100, "{counts:?}");
            Ok(counts)
        })
    };
    all("100 addresses are on interfaces")?;
    scene.oxelb(&["rebalance"])?;
    let counts = all("they are again")?;
    let to = other(&scene)?;
    let monitors: Vec<Process> = scene
        .names()
        .iter()
        .map(|name| {
            let mut ip = Command::new("ip");
            ip.args(["-o", "monitor", "address", "dev", DEVICE]);
            scene.host(name)?.spawn("monitor", ip)
        })
        .collect::<Result<_>>()?;
    scene.oxelb(&["move", ADDRESS, "--to", &to])?;
    let ours = |line: &&str| line.contains(&format!(" {ADDRESS}/"));
    let changes = || monitors.iter().map(|m| m.log().lines().filter(ours).count()).sum::<usize>();
    // Renewals come every 10 s, and are none of it.
    let seen = until("the address has moved", secs(5), || {
        ensure!(scene.have(ADDRESS)? == [to.clone()] && changes() >= 2);
        Ok(changes())
    })?;
    monitors.into_iter().try_for_each(Process::stop)?;
    let most = counts.iter().max().copied().unwrap_or_default();
    Ok(vec![
        Row::new("vip, 100 addresses over 3 nodes: most on one", most as f64, "addresses")
            .note(&format!("after oxelb rebalance; {counts:?}; keepalived has all on one node")),
        Row::new("vip, changes of interfaces for a move", seen as f64, "netlink messages")
            .note("one address: taken from the one, put on the other, as the kernel tells by netlink"),
    ])
}

/// How many of our addresses are on a node's interface.
fn there(host: &Host) -> Result<usize> {
    Ok(host.ip(&format!("-4 -o addr show dev {DEVICE} deprecated"))?.lines().count())
}

/// A node that is alone comes back.
fn many(lab: &Lab) -> Result<Row> {
    progress("vip: 1,000 addresses come up on one node");
    let mut scene = Scene::with_pool(lab, 1, &spec(""), MANY, true)?;
    let host = scene.host("n1")?.clone();
    let at_least = |number: usize| {
        until(&format!("{number} addresses are there"), secs(60), || {
            let there = there(&host)?;
            ensure!(there >= number, "{there}");
            Ok(Instant::now())
        })
    };
    at_least(MANY)?;
    scene.stop("n1")?;
    until("they are gone", secs(20), || {
        ensure!(there(&host)? == 0);
        Ok(())
    })?;
    scene.restart("n1")?;
    let first = at_least(1)?;
    let took = at_least(MANY)?.duration_since(first);
    let floor = by_iproute2(lab, scene.router())?;
    Ok(Row::new("vip, 1,000 addresses come up on one node", took.as_secs_f64() * 1e3, "ms")
        .floor(floor.as_secs_f64() * 1e3)
        .note("from the first that is seen on the interface to the last, announced and answered for; floor: ip -batch puts as many there"))
}

fn by_iproute2(lab: &Lab, host: &Host) -> Result<Duration> {
    let batch: String = (0..MANY).map(|n| format!("addr add 10.9.{}.{}/32 dev eth0\n", n / 250, 1 + n % 250)).collect();
    let file = lab.folder("batch")?.join("addresses");
    std::fs::write(&file, batch)?;
    let since = Instant::now();
    host.ip(&format!("-batch {}", file.display()))?;
    Ok(since.elapsed())
}
