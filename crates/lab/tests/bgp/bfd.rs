//! BFD with routers: a silent path is left at once.

use crate::scene::*;
use anyhow::{Context, Result, ensure};
use lab::host::Lab;
use lab::router::{Bird, Frr, next_hops};
use lab::wait::{secs, until};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

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

pub fn bfd_with_frr(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let profile = quick(100);
    let frr = frr_with(&scene, "bfd profile quick", Some(&profile))?;
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
    let metrics = scene.metrics(1)?;
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

pub fn bfd_with_bird(lab: &Lab) -> Result<()> {
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

/// BIRD takes packets of BFD only with a digest; without the key, or with another, nothing comes up.
pub fn authenticated(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let bfd = "protocol bfd {\n    interface \"eth0\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; \
        authentication meticulous keyed sha1; password \"k3y\" { id 7; }; };\n}\n";
    let bird = Bird::start(&scene.lab, &scene.router, &bird_config(&scene, bfd, "bfd on; error wait time 1, 2;"))?;
    let signed =
        BFD.replace("detectMultiplier: 3", "detectMultiplier: 3, authentication: MeticulousKeyedSHA1, keyId: 7");
    let secret = |key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: bgp-passwords, namespace: openelb-system}}\nstringData: {{{key}}}\n"
        )
    };
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, &signed))?;
    scene.said("Speaker", "n2", &["BgpPasswordInvalid", "no key tor.bfd"])?;
    scene.hops(&[])?;
    scene.apply("passwords", &secret("tor.bfd: other"))?;
    scene.hops(&[0, 1, 2])?;
    scene.said("Speaker", "n2", &["BfdDown"])?;
    scene.apply("passwords", &secret("tor.bfd: k3y"))?;
    until("three sessions of BFD are up", secs(20), || {
        let said = bird.show("show bfd sessions")?;
        ensure!(said.matches(" Up ").count() == 3, "{said}");
        Ok(())
    })
    .with_context(|| scene.logs())?;
    let took = cut(&scene, 1)?;
    ensure!(took < secs(3), "{took:?}");
    Ok(())
}

/// The client's host is the router that speaks BGP; what is in between only forwards.
pub fn behind_a_router(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let mut text = "router bgp 50001\n bgp router-id 203.0.113.2\n no bgp ebgp-requires-policy\n \
         bgp bestpath as-path multipath-relax\n neighbor nodes peer-group\n neighbor nodes remote-as 50000\n \
         neighbor nodes ebgp-multihop 4\n neighbor nodes timers connect 1\n neighbor nodes bfd profile quick\n"
        .to_owned();
    scene.nodes.iter().for_each(|node| text.push_str(&format!(" neighbor {} peer-group nodes\n", node.v4)));
    let profile = quick(100);
    let frr = Frr::start(&scene.lab, &scene.client, &text, Some(&profile))?;
    scene.apply("conf", &conf(""))?;
    let far = format!("  ebgpMultihop: {{enabled: true, multihopTtl: 4}}\n{BFD}");
    scene.apply("peer", &peer("tor", "203.0.113.2", &far))?;
    let paths = |wanted: usize| {
        until(&format!("the router has {wanted} paths, and BFD with each"), secs(30), || {
            let value = frr.json(&format!("show bgp ipv4 unicast {V4}/32"))?;
            let hops = value["paths"].as_array().map_or(0, Vec::len);
            let peers = frr.json("show bfd peers")?;
            let up = peers.as_array().into_iter().flatten().filter(|p| p["status"] == "up" && p["multihop"] == true);
            ensure!(hops == wanted && up.count() == wanted, "{value} {peers}");
            Ok(())
        })
        .with_context(|| scene.logs())
    };
    paths(3)?;
    // What is in between knows the nodes as this router does.
    let hops: String = scene.nodes.iter().map(|node| format!(" nexthop via {}", node.v4)).collect();
    scene.router.ip(&format!("route add {V4}{hops}"))?;
    scene.answers(V4, &[0, 1, 2])?;
    // The path to one node is cut beyond the first router: no link goes down anywhere.
    scene.router.run(
        "nft add table inet cut\n\
         nft 'add chain inet cut f { type filter hook forward priority 0; }'\n\
         nft add rule inet cut f ip saddr 192.168.0.3 drop\n\
         nft add rule inet cut f ip daddr 192.168.0.3 drop",
    )?;
    let start = Instant::now();
    paths(2)?;
    println!("FRR behind a router: a silent path is left after {} ms", start.elapsed().as_millis());
    ensure!(start.elapsed() < secs(3), "{:?}", start.elapsed());
    scene.said("BgpPeer", "tor", &["nothing was heard for the detection time"])?;
    scene.router.run("nft delete table inet cut")?;
    paths(3)?;
    // Packets go no farther than they may: one hop is not enough.
    scene.apply("peer", &peer("tor", "203.0.113.2", BFD))?;
    paths(0)
}
