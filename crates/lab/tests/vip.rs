//! Mode vip: addresses on the owner's interface, VRRP that keepalived understands, ids that clash with nobody's; and still
//! one owner.

#![allow(clippy::print_stdout, reason = "tells what it measured")]

use anyhow::{Context, Result, ensure};
use lab::client;
use lab::cluster::DEVICE;
use lab::faults::{Fault, Scene};
use lab::host::{Host, Lab};
use lab::keepalived::{self, Instance};
use lab::process::Process;
use lab::router::Frr;
use lab::suite::{self, Test, at_once};
use lab::wait::{millis, secs, until};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Instant;

const ADDRESS: &str = "192.168.0.180";
/// Of keepalived beside us.
const THEIRS: &str = "192.168.0.240";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("an_address_of_vip_is_on_its_owners_interface_alone_and_no_fault_makes_two_nodes_answer", faults),
        ("keepalived_stays_backup_while_an_owner_advertises_and_is_master_when_none_does", backup),
        ("while_openelbs_keepalived_has_an_address_ours_wait_and_follow_it", taken_over),
        ("an_id_that_a_stranger_uses_is_named_and_another_one_is_taken", foreign),
        ("with_interop_vrrp_elects_one_master_among_our_nodes_and_keepalived", interop),
        ("with_interop_vrrp_elects_one_master_among_our_nodes_and_frr", interop_frr),
        ("with_interop_a_better_router_preempts_and_of_equals_the_higher_address_stays_master", interop_rules),
        ("with_virtualmac_clients_and_switch_keep_the_mac_and_it_is_one_nodes_at_a_time", virtual_mac),
        ("addresses_spread_over_nodes_with_few_ids", spread),
    ];
    suite::some_at_once(2, tests)
}

fn spec(more: &str) -> String {
    format!("{{address: {ADDRESS}-192.168.1.40, protocol: vip, interface: {DEVICE}{more}}}")
}

fn only(scene: &Scene, address: &str) -> Result<String> {
    until(&format!("{address} is on its owner's interface"), secs(20), || {
        let (owner, have) = (scene.owner()?, scene.have(address)?);
        ensure!(have == [owner.clone()], "{owner} owns it, {have:?} have it");
        Ok(owner)
    })
}

fn faults(lab: &Lab) -> Result<()> {
    let mut scene = Scene::with_pool(lab, 3, &spec(""), 1, true)?;
    only(&scene, ADDRESS)?;
    for fault in [Fault::Kill, Fault::Pause, Fault::Cable, Fault::Port, Fault::Upgrade] {
        // The speaker is dead or cut off, and the kernel of its node still has the address: it must not answer.
        let outcome = scene.run(fault)?;
        println!("{}: nobody answered for {} ms", fault.name(), outcome.gap.as_millis());
        ensure!(outcome.doubled == 0, "{}: two nodes answered in {} times 10 ms", fault.name(), outcome.doubled);
        ensure!(outcome.gap < millis(1500), "{}: nobody answered for {:?}", fault.name(), outcome.gap);
        only(&scene, ADDRESS)?;
    }
    // What somebody flushes is put back; what a dead speaker left goes by itself.
    let owner = scene.owner()?;
    scene.host(&owner)?.ip(&format!("addr del {ADDRESS}/32 dev {DEVICE}"))?;
    only(&scene, ADDRESS)?;
    scene.kill(&owner)?;
    until("the dead one's address is gone", secs(45), || {
        ensure!(!scene.have(ADDRESS)?.contains(&owner));
        Ok(())
    })
}

/// How keepalived and our owner speak with each other.
struct Way {
    name: &'static str,
    version: u8,
    address: &'static str,
    unicast: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "v3", version: 3, address: "192.168.0.180", unicast: false },
    Way { name: "v2", version: 2, address: "192.168.0.180", unicast: false },
    Way { name: "v3-unicast", version: 3, address: "192.168.0.180", unicast: true },
    Way { name: "v3-ipv6", version: 3, address: "fd00::180", unicast: false },
];

fn backup(lab: &Lab) -> Result<()> {
    let one = |way: &Way| {
        let lab = Lab::new(&lab.sandbox, &format!("backup.{}", way.name))?;
        backup_by(&lab, way).with_context(|| way.name)
    };
    at_once(WAYS.iter().collect(), one)?;
    println!("a backup while we advertise, master when we do not: {}", WAYS.map(|way| way.name).join(", "));
    Ok(())
}

fn backup_by(lab: &Lab, way: &Way) -> Result<()> {
    let peers = if way.unicast { ", unicastPeers: [\"192.168.0.1\"]" } else { "" };
    let spec = format!(
        "{{address: \"{ADDRESS},fd00::180\", protocol: vip, interface: {DEVICE}, vrrp: {{routerId: \"51-52\", version: {}{peers}}}}}",
        way.version
    );
    let dual = if way.address.contains(':') { 2 } else { 1 };
    let scene = Scene::with_pool(lab, 3, &spec, 1, true)?;
    if dual == 2 {
        scene.edit(
            "spec: {type: LoadBalancer,",
            "spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6],",
        )?;
    }
    let owner = until("the owner has the address", secs(20), || {
        let have = scene.have(way.address)?;
        ensure!(have.len() == 1, "{have:?} have {}", way.address);
        Ok(have[0].clone())
    })?;
    let id = if dual == 2 { 52 } else { 51 };
    ensure!(scene.pool()?.contains(&format!("id: {id}")), "{}", scene.pool()?);
    let beside = scene.router().clone();
    let of_owner = scene.host(&owner)?.ip(&format!("-4 -o addr show dev {DEVICE} scope global"))?;
    let of_owner = of_owner.split_whitespace().find_map(|w| w.strip_suffix("/22")).unwrap_or_default().to_owned();
    let address = format!("{}/{}", way.address, if dual == 2 { 128 } else { 32 });
    let unicast = way.unicast.then_some(("192.168.0.1", of_owner.as_str()));
    let instance = Instance { on: "eth0", version: way.version, unicast, ..Instance::new(id, 50, &address) };
    let keepalived = keepalived::start(lab, &beside, instance)?;
    let is_master = || Ok::<_, anyhow::Error>(beside.ip("addr show dev eth0")?.contains(&format!(" {}/", way.address)));
    keepalived::until_backup(&keepalived)?;
    // It waits for three advertisements and a bit before it takes over.
    let end = Instant::now() + secs(6);
    while Instant::now() < end {
        ensure!(!is_master()?, "it took the address although {owner} advertises\n{}", keepalived.tail(20));
        std::thread::sleep(millis(100));
    }
    for node in scene.names() {
        scene.kill(&node)?;
    }
    keepalived.until("it is master", secs(15), || {
        ensure!(is_master()?);
        Ok(())
    })?;
    keepalived.stop()
}

/// A node still runs keepalived with OpenELB's configuration, while our speakers start.
fn taken_over(lab: &Lab) -> Result<()> {
    let mut scene = Scene::with_pool(lab, 3, &spec(""), 1, true)?;
    let owner = only(&scene, ADDRESS)?;
    // An address that was never announced would be exchanged for one that nobody has.
    until("the Service says who owns it", secs(20), || {
        let service = scene.status("Service.default.web0000.yaml")?;
        ensure!(service.contains(&format!("node {owner} owns {ADDRESS}")), "{service}");
        Ok(())
    })?;
    for node in scene.names() {
        scene.stop(&node)?;
    }
    let old = scene.names().into_iter().find(|n| *n != owner).unwrap_or_default();
    let theirs = format!("{ADDRESS}/32");
    let host = scene.host(&old)?.clone();
    let keepalived = keepalived::start(lab, &host, Instance::new(174, 100, &theirs))?;
    keepalived.until("OpenELB's keepalived is master", secs(15), || {
        ensure!(scene.have(ADDRESS)? == std::slice::from_ref(&old));
        Ok(())
    })?;
    let census = scene.census()?;
    // OpenELB's DaemonSet is gone from the other nodes already.
    for node in scene.names().iter().filter(|n| **n != old) {
        scene.restart(node)?;
    }
    until("it is said who has the address", secs(30), || {
        let taken = scene
            .names()
            .iter()
            .filter(|n| **n != old)
            .any(|n| scene.count(n, "oxelb_addresses_taken").is_ok_and(|n| n == 1));
        ensure!(taken);
        Ok(())
    })?;
    let end = Instant::now();
    keepalived.stop()?;
    let heir = until("one of ours has it", secs(20), || {
        let have = scene.have(ADDRESS)?;
        ensure!(have.len() == 1 && have[0] != old, "{have:?}");
        Ok(have[0].clone())
    })?;
    std::thread::sleep(millis(300));
    let gap = {
        let now = Instant::now();
        let answers = census.finish()?;
        ensure!(
            answers.doubled() == 0 && answers.owners() == [scene.mac(&old)?, scene.mac(&heir)?],
            "{:?}",
            answers.owners()
        );
        answers.gap(end, now)
    };
    println!("keepalived of OpenELB on {old}, then {heir}: nobody answered for {} ms", gap.as_millis());
    ensure!(gap < millis(1500), "{gap:?}");
    scene.restart(&old)
}

fn foreign(lab: &Lab) -> Result<()> {
    let scene = Scene::with_pool(lab, 3, &spec(", vrrp: {routerId: \"51\"}"), 1, true)?;
    let owner = only(&scene, ADDRESS)?;
    ensure!(scene.pool()?.contains("id: 51"), "{}", scene.pool()?);
    let theirs = format!("{THEIRS}/32");
    let instance = Instance { on: "eth0", ..Instance::new(60, 200, &theirs) };
    let keepalived = keepalived::start(lab, scene.router(), instance)?;
    keepalived.until("it is master", secs(15), || {
        ensure!(keepalived.tail(50).contains("Entering MASTER STATE"));
        Ok(())
    })?;
    scene.edit("routerId: \"51\"", "routerId: \"60-70\"")?;
    keepalived.until("the id that keepalived has is left", secs(60), || {
        let pool = scene.pool()?;
        ensure!(pool.contains("id: 61"), "{pool}");
        Ok(())
    })?;
    let now = only(&scene, ADDRESS)?;
    println!("a stranger has an id of ours: {owner} had the address, {now} has it with another id");
    keepalived.stop()
}

/// Who alone answers.
fn answers(scene: &Scene, beside: &Host) -> Result<String> {
    let found = scene.answering()?;
    ensure!(found.len() == 1, "{found:?} answer");
    let mac = found.into_iter().next().unwrap_or_default();
    if mac == beside.mac("eth0")? {
        return Ok("keepalived".to_owned());
    }
    let of = |node: &String| scene.mac(node).is_ok_and(|of| of.to_string() == mac);
    scene.names().into_iter().find(of).with_context(|| format!("{mac} is nobody's"))
}

fn interop(lab: &Lab) -> Result<()> {
    let spec = spec(", vrrp: {routerId: \"51\", mode: interop}");
    let mut scene = Scene::with_pool(lab, 2, &spec, 1, true)?;
    let beside = scene.router().clone();
    let until_answers = |scene: &Scene, who: &str| {
        until(&format!("{who} answers, and nobody else"), secs(15), || {
            let now = answers(scene, &beside)?;
            ensure!(now == who, "{now}");
            let have = scene.have(ADDRESS)?;
            ensure!(have.iter().all(|node| node == who), "{have:?} have it");
            Ok(())
        })
    };
    // Nobody preempts: of equals the first one stays.
    let first = answers(&scene, &beside)?;
    until_answers(&scene, &first)?;
    // A better router takes over, and gives back when it stops.
    let better = Instance { on: "eth0", ..Instance::new(51, 150, "192.168.0.180/32") };
    let (census, start) = (scene.census()?, Instant::now());
    let keepalived = keepalived::start(lab, &beside, better)?;
    until_answers(&scene, "keepalived")?;
    let stopped = Instant::now();
    keepalived.stop()?;
    let first = until("one of ours answers", secs(15), || {
        let now = answers(&scene, &beside)?;
        ensure!(now != "keepalived");
        Ok(now)
    })?;
    until_answers(&scene, &first)?;
    let (end, seen) = (Instant::now(), census.finish()?);
    println!("keepalived stopped: nobody answered for {} ms", seen.gap(stopped, end).as_millis());
    // VRRP itself has two masters until the one's advertisement has reached the other.
    ensure!(seen.doubled() <= 2, "two answered in {} times 10 ms within {:?}", seen.doubled(), start.elapsed());
    ensure!(seen.gap(stopped, end) < millis(2000), "{:?}", seen.gap(stopped, end));
    // A worse one waits until the last of ours is dead. None of ours hears from its own kernel that it still has the address.
    let worse = Instance { on: "eth0", ..Instance::new(51, 50, "192.168.0.180/32") };
    let keepalived = keepalived::start(lab, &beside, worse)?;
    keepalived::until_backup(&keepalived)?;
    let census = scene.census()?;
    let second = scene.names().into_iter().find(|name| *name != first).context("there are two")?;
    for (dies, follows) in [(first.as_str(), second.as_str()), (second.as_str(), "keepalived")] {
        let since = Instant::now();
        scene.kill(dies)?;
        until(&format!("{follows} answers"), secs(15), || {
            let now = answers(&scene, &beside)?;
            ensure!(now == follows, "{now}");
            Ok(())
        })?;
        println!("{dies} killed: {follows} answers after {} ms", since.elapsed().as_millis());
    }
    let seen = census.finish()?;
    ensure!(seen.doubled() == 0, "two answered in {} times 10 ms", seen.doubled());
    // It stays where it is when ours come back: nobody preempts.
    scene.restart("n1")?;
    until("the speaker is back", secs(20), || {
        ensure!(scene.count("n1", "oxelb_vrrp_masters")? == 0 && answers(&scene, &beside)? == "keepalived");
        scene.host("n1")?.run("curl -sSf --max-time 2 http://127.0.0.1:50053/readyz").map(drop)
    })?;
    std::thread::sleep(secs(5));
    ensure!(answers(&scene, &beside)? == "keepalived", "it was taken back");
    keepalived.stop()?;
    // The dead one's kernel may have the address for a while; it does not answer.
    until("ours answers again", secs(15), || {
        let now = answers(&scene, &beside)?;
        ensure!(now == "n1", "{now}");
        Ok(())
    })
}

fn interop_rules(lab: &Lab) -> Result<()> {
    let spec = spec(", vrrp: {routerId: \"51\", mode: interop, priority: 150, preempt: true}");
    let mut scene = Scene::with_pool(lab, 2, &spec, 1, true)?;
    let beside = scene.router().clone();
    beside.ip("addr add 192.168.0.200/22 dev eth0")?;
    let until_answers = |scene: &Scene, ours: bool| {
        until(if ours { "one of ours answers alone" } else { "keepalived answers alone" }, secs(20), || {
            let now = answers(scene, &beside)?;
            ensure!((now != "keepalived") == ours, "{now}");
            Ok(now)
        })
    };
    // A worse one is master as long as none of ours is there, and no longer.
    for node in scene.names() {
        scene.kill(&node)?;
    }
    let keepalived =
        keepalived::start(lab, &beside, Instance { on: "eth0", ..Instance::new(51, 100, "192.168.0.180/32") })?;
    until_answers(&scene, false)?;
    scene.restart("n1")?;
    until_answers(&scene, true)?;
    // Of equals each stays what it is, until both are master because they did not hear each other.
    scene.edit("priority: 150, preempt: true", "priority: 100")?;
    keepalived.stop()?;
    for (source, ours) in [("192.168.0.1", true), ("192.168.0.200", false)] {
        let equal = Instance { on: "eth0", source: Some(source), ..Instance::new(51, 100, "192.168.0.180/32") };
        let keepalived = keepalived::start(lab, &beside, equal)?;
        keepalived::until_backup(&keepalived)?;
        let masters = || keepalived::told(&keepalived).matches("Entering MASTER STATE").count();
        std::thread::sleep(secs(5));
        ensure!(masters() == 0, "an equal one took over\n{}", keepalived.tail(20));
        beside.run(
            "nft add table inet deaf\n\
             nft 'add chain inet deaf i { type filter hook input priority 0; }'\n\
             nft 'add chain inet deaf o { type filter hook output priority 0; }'\n\
             nft add rule inet deaf i ip protocol 112 drop\n\
             nft add rule inet deaf o ip protocol 112 drop",
        )?;
        keepalived.until("both are master", secs(15), || {
            ensure!(masters() == 1 && scene.count("n1", "oxelb_vrrp_masters")? == 1);
            Ok(())
        })?;
        beside.run("nft delete table inet deaf")?;
        until_answers(&scene, ours).with_context(|| format!("keepalived at {source}\n{}", keepalived.tail(10)))?;
        println!(
            "an equal keepalived at {source}, n1 at 192.168.0.11: {} stays",
            if ours { "n1" } else { "keepalived" }
        );
        keepalived.stop()?;
        until_answers(&scene, true)?;
    }
    // A node that is drained says that it goes, and the other router follows at once.
    let worse = Instance { on: "eth0", ..Instance::new(51, 50, "192.168.0.180/32") };
    let keepalived = keepalived::start(lab, &beside, worse)?;
    keepalived::until_backup(&keepalived)?;
    // It has heard of a master, else it would wait for one.
    std::thread::sleep(secs(2));
    let (census, since) = (scene.census()?, Instant::now());
    scene.drain("n1", true)?;
    until_answers(&scene, false)?;
    let (end, seen) = (Instant::now(), census.finish()?);
    println!("n1 drained: nobody answered for {} ms", seen.gap(since, end).as_millis());
    ensure!(
        seen.gap(since, end) < millis(2000) && seen.doubled() <= 2,
        "{:?} {}",
        seen.gap(since, end),
        seen.doubled()
    );
    keepalived.stop()?;
    scene.drain("n1", false)?;
    until_answers(&scene, true).map(drop)
}

fn interop_frr(lab: &Lab) -> Result<()> {
    let scene = Scene::with_pool(lab, 2, &spec(", vrrp: {routerId: \"51\", mode: interop}"), 1, true)?;
    let beside = scene.router().clone();
    // FRR answers from the virtual router's own MAC, on a macvlan that it switches on and off.
    beside.run(&format!(
        "ip link add vrrp4-2-1 link eth0 type macvlan mode bridge\n\
         ip link set dev vrrp4-2-1 address {FRR_MAC}\n\
         ip addr add {ADDRESS}/32 dev vrrp4-2-1\n\
         ip link set dev vrrp4-2-1 up"
    ))?;
    // Its address is for that interface alone.
    beside.sysctl("net/ipv4/conf/eth0/arp_ignore", "1")?;
    let ours = |scene: &Scene| {
        let found = scene.answering()?;
        ensure!(found.len() == 1 && !found.contains(FRR_MAC), "{found:?} answer");
        Ok(())
    };
    let config = "interface eth0\n vrrp 51 version 3\n vrrp 51 priority 150\n vrrp 51 ip 192.168.0.180\n";
    let frr = Frr::vrrp(lab, &beside, config)?;
    let theirs = |scene: &Scene| {
        until("FRR answers, and nobody else", secs(20), || {
            let found = scene.answering()?;
            ensure!(found.iter().eq([FRR_MAC]), "{found:?} answer");
            ensure!(scene.have(ADDRESS)?.is_empty(), "{:?} have it", scene.have(ADDRESS)?);
            Ok(())
        })
    };
    theirs(&scene)?;
    let since = Instant::now();
    frr.configure(&["interface eth0", "vrrp 51 shutdown"])?;
    until("ours answer", secs(20), || ours(&scene))?;
    println!("FRR gave up: one of ours answers after {} ms", since.elapsed().as_millis());
    frr.configure(&["interface eth0", "no vrrp 51 shutdown"])?;
    theirs(&scene)?;
    frr.stop()?;
    beside.ip("link delete vrrp4-2-1")?;
    until("ours answer again", secs(20), || ours(&scene))
}

/// The MAC of virtual router 51 (RFC 9568 §7.3).
const FRR_MAC: &str = "00:00:5e:00:01:33";

const BOTH: [(&str, &str); 2] = [(ADDRESS, "00:00:5e:00:01:33"), ("fd00::180", "00:00:5e:00:02:34")];

/// What left one node from virtual MAC addresses.
struct Heard<'a> {
    node: String,
    tcpdump: &'a Process,
}

/// Who sent from this MAC address, in order.
fn senders(heard: &[Heard<'_>], mac: &str) -> Vec<String> {
    let mut frames: Vec<(f64, &str)> = Vec::new();
    for Heard { node, tcpdump } in heard {
        let log = tcpdump.log();
        let from = |line: &str| line.split_whitespace().nth(1).is_some_and(|from| from == mac);
        let at = |line: &str| line.split_whitespace().next()?.parse::<f64>().ok();
        frames.extend(log.lines().filter(|l| from(l)).filter_map(at).map(|at| (at, node.as_str())));
    }
    frames.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut senders: Vec<String> = frames.into_iter().map(|(_, node)| node.to_owned()).collect();
    senders.dedup();
    senders
}

fn virtual_mac(lab: &Lab) -> Result<()> {
    let spec = format!(
        "{{address: \"{ADDRESS},fd00::180\", protocol: vip, interface: {DEVICE}, vrrp: {{routerId: \"51-52\"}}}}"
    );
    let mut scene = Scene::with_pool(lab, 3, &spec, 1, true)?;
    let client = scene.router().clone();
    client.ip("addr add fd00::1/64 dev eth0 nodad")?;
    let mut dumps = Vec::new();
    for (name, number) in scene.names().into_iter().zip(11..) {
        let host = scene.host(&name)?.clone();
        host.ip(&format!("addr add fd00::{number}/64 dev {DEVICE} nodad"))?;
        // In place of kube-proxy.
        host.run(
            "nft add table inet p\n\
             nft 'add chain inet p c { type nat hook prerouting priority dstnat; }'\n\
             nft add rule inet p c udp dport 80 redirect to 8080",
        )?;
        client::answer_udp(&host, "[::]:8080".parse()?, &name)?;
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-Q", "out", "-i", DEVICE, "-l", "-n", "-e", "-tt", "ether[6:4] == 0x5e00"]);
        dumps.push(host.spawn("tcpdump", tcpdump)?);
    }
    for tcpdump in &dumps {
        tcpdump.until("it listens", secs(10), || {
            ensure!(tcpdump.log().contains("listening on"));
            Ok(())
        })?;
    }
    let heard: Vec<Heard<'_>> =
        scene.names().into_iter().zip(&dumps).map(|(node, tcpdump)| Heard { node, tcpdump }).collect();
    scene.edit(
        "spec: {type: LoadBalancer,",
        "spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6],",
    )?;
    scene.edit("routerId: \"51-52\"", "routerId: \"51-52\", virtualMac: true")?;
    let socket = |address: &str| Ok::<_, anyhow::Error>(SocketAddr::new(address.parse()?, 80));
    let known = || client.ip("neigh show dev eth0");
    let mut owners = BTreeMap::new();
    for (address, mac) in BOTH {
        let owner = until(&format!("{address} is answered for from {mac}"), secs(20), || {
            let owner = client::ask_udp(&client, socket(address)?, millis(200))?;
            ensure!(known()?.contains(&format!("{address} lladdr {mac}")), "{}", known()?);
            ensure!(scene.have(address)?.is_empty(), "{:?} have it", scene.have(address)?);
            Ok(owner)
        })?;
        owners.insert(address, owner);
    }
    ensure!(scene.answering()?.iter().eq([BOTH[0].1]), "{:?}", scene.answering()?);
    // From here on the clients' tables do not change, whatever happens to the owner.
    let changes = {
        let mut monitor = Command::new("ip");
        monitor.args(["-t", "monitor", "neigh", "dev", "eth0"]);
        client.spawn("neigh", monitor)?
    };
    for what in ["moved", "killed", "paused"] {
        for (address, mac) in BOTH {
            let owner = owners.get(address).cloned().unwrap_or_default();
            let before = senders(&heard, mac).len();
            let since = Instant::now();
            match what {
                "moved" => {
                    let to = scene.names().into_iter().find(|name| *name != owner).unwrap_or_default();
                    scene.oxelb(&["move", address, "--to", &to])?;
                }
                "killed" => scene.kill(&owner)?,
                _ => scene.pause(&owner, secs(2))?,
            }
            let heir = until(&format!("{what}: another one than {owner} answers"), secs(10), || {
                let now = client::ask_udp(&client, socket(address)?, millis(50))?;
                ensure!(now != owner);
                Ok(now)
            })?;
            println!("{address} {what}: {owner}, within {} ms {heir}", since.elapsed().as_millis());
            if what == "killed" {
                scene.restart(&owner)?;
            }
            until("all speakers are ready", secs(20), || {
                for name in scene.names() {
                    scene.host(&name)?.run("curl -sSf --max-time 2 http://127.0.0.1:50053/readyz")?;
                }
                Ok(())
            })?;
            owners.insert(address, heir.clone());
            // A dead one shares its other address with it.
            for (address, _) in BOTH {
                let now = client::ask_udp(&client, socket(address)?, millis(500))?;
                owners.insert(address, now);
            }
            let senders = senders(&heard, mac);
            ensure!(
                senders.len() == before + 1 && senders.last() == Some(&heir),
                "{what}: {senders:?} sent from {mac}"
            );
            ensure!(known()?.contains(&format!("{address} lladdr {mac}")), "{}", known()?);
        }
    }
    let other =
        |line: &&str| BOTH.iter().any(|(a, mac)| line.starts_with(a) && line.contains("lladdr") && !line.contains(mac));
    let log = changes.log();
    ensure!(!log.lines().any(|line| other(&line)), "{log}");
    changes.stop()?;
    dumps.into_iter().try_for_each(Process::stop)
}

fn spread(lab: &Lab) -> Result<()> {
    let scene = Scene::with_pool(lab, 3, &spec(""), 100, true)?;
    let counted = || {
        until("100 addresses are owned", secs(60), || {
            let owner = scene.owner()?;
            let said = scene.said(&owner)?;
            let mut count: BTreeMap<String, usize> = BTreeMap::new();
            for address in said["addresses"].as_array().into_iter().flatten() {
                *count.entry(address["owner"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
            ensure!(count.values().sum::<usize>() == 100, "{count:?}");
            Ok(count)
        })
    };
    // What has no owner yet is not moved.
    counted()?;
    let moved = scene.oxelb(&["rebalance"])?["moved"].as_array().map_or(0, Vec::len);
    let count = counted()?;
    let pool = scene.pool()?;
    let ids: BTreeSet<&str> =
        pool.lines().filter_map(|l| l.trim().trim_start_matches("- ").strip_prefix("id: ")).collect();
    println!("100 addresses over 3 nodes: {count:?}, with {} ids; to rebalance moved {moved}", ids.len());
    ensure!(ids.len() == 32, "{ids:?}");
    ensure!(count.len() == 3 && count.values().all(|n| (20..=50).contains(n)), "{count:?}");
    // Every one is on one node's interface.
    until("every address is on an interface", secs(20), || {
        let mut there = Vec::new();
        for node in scene.names() {
            let shown = scene.host(&node)?.ip(&format!("-4 addr show dev {DEVICE} deprecated"))?;
            let inet = shown.lines().filter_map(|l| l.trim().strip_prefix("inet ")?.split(['/', ' ']).next());
            there.extend(inet.map(str::to_owned));
        }
        let once: BTreeSet<&String> = there.iter().collect();
        ensure!(there.len() == 100 && once.len() == 100, "{} of {}", once.len(), there.len());
        Ok(())
    })
}
