//! Routers whose addresses nobody wrote down, and next hops that are other nodes.

use crate::scene::*;
use anyhow::{Context, Result, ensure};
use lab::host::Lab;
use lab::router::Frr;
use lab::wait::{secs, until};

/// Two nodes have a cable to the router, with no address but the link-local ones.
pub fn unnumbered(lab: &Lab) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    let profile = quick(100);
    let mut text = format!(
        "router bgp 50001\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n bgp bestpath as-path multipath-relax\n"
    );
    for number in [0, 1] {
        let (port, node) = (format!("to{number}"), &scene.nodes[number].host);
        scene.router.cable(&port, node, "uplink")?;
        text += &format!(
            " neighbor {port} interface remote-as external\n neighbor {port} timers connect 1\n \
             neighbor {port} bfd profile quick\n address-family ipv6 unicast\n  neighbor {port} activate\n \
             exit-address-family\n"
        );
    }
    let peer = "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {name: cable}\n\
        spec:\n  conf: {neighborInterface: uplink}\n  timers: {config: {connectRetry: '1'}}\n  \
        bfd: {transmitInterval: 100, receiveInterval: 100}\n";
    scene.apply("conf", &conf("").replace("17900", "179"))?;
    scene.apply("peer", peer)?;
    scene.said("Speaker", "n4", &["BgpSessionDown", "BgpPeer cable", "the interface uplink"])?;
    scene.said("Speaker", "n2", &["BgpSessionDown", "no router advertises itself on uplink"])?;
    let frr = Frr::start(&scene.lab, &scene.router, &text, Some(&profile))?;
    let routed = |scene: &Scene, family: &str, wanted: &[&str]| {
        let address = if family == "-4" { V4 } else { V6 };
        until(&format!("{address} is reached over {wanted:?}"), secs(40), || {
            let route = scene.router.ip(&format!("{family} route show {address}"))?;
            let over = |port: &&str| route.contains(&format!("dev {port} "));
            let there: Vec<&str> = ["to0", "to1"].into_iter().filter(over).collect();
            ensure!(there == wanted && route.matches("fe80::").count() == wanted.len(), "{route}");
            Ok(())
        })
        .with_context(|| scene.logs())
    };
    routed(&scene, "-4", &["to0", "to1"])?;
    routed(&scene, "-6", &["to0", "to1"])?;
    scene.answers(V4, &[0, 1])?;
    scene.answers(V6, &[0, 1])?;
    scene.said("BgpPeer", "cable", &["n2:", "ESTABLISHED", "neighborAddress: fe80::", "bfdState", "state: UP"])?;
    // The one cable loses everything without its link going down; then it is back.
    scene.nodes[1].host.lose("uplink", 100)?;
    routed(&scene, "-4", &["to0"])?;
    scene.nodes[1].host.heal("uplink")?;
    routed(&scene, "-4", &["to0", "to1"])?;
    // Another router takes its place, with another link-local address: it is found anew.
    frr.stop()?;
    routed(&scene, "-4", &[])?;
    scene.router.run("ip link set to0 down; ip link set to0 address 06:00:00:00:00:01; ip link set to0 up")?;
    let _frr = Frr::start(&scene.lab, &scene.router, &text, Some(&profile))?;
    routed(&scene, "-4", &["to0", "to1"])?;
    scene.said("BgpPeer", "cable", &["neighborAddress: fe80::400:ff:fe00:1"])?;
    // A speaker that is started when both ends have long been there.
    scene.nodes[0].speaker.take().context("no speaker")?.stop()?;
    routed(&scene, "-4", &["to1"])?;
    scene.start_speaker(0)?;
    routed(&scene, "-4", &["to0", "to1"])?;
    scene.delete("peer")?;
    routed(&scene, "-4", &[])
}

pub fn of_a_network(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let frr = frr(&scene, "password s3cret")?;
    let network = |range: &str, more: &str| {
        format!(
            "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {{name: leaves}}\n\
             spec:\n  conf: {{neighborRange: {range}, authPassword: s3cret{more}}}\n{BOTH}"
        )
    };
    scene.apply("conf", &conf("").replace("17900", "179"))?;
    scene.apply("peer", &network("192.168.0.0/29", ""))?;
    scene.hops(&[0, 1, 2])?;
    scene.hops6(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    scene.said("BgpPeer", "leaves", &["n2:", "ESTABLISHED", "neighborAddress: \"192.168.0.5\"", "peerAs: 50001"])?;
    scene.said("Speaker", "n2", &["established: 1", "peer: leaves/192.168.0.5"])?;
    let before = established(&frr)?;
    // A Service more, and a wider network, say the same of this router.
    scene.service("more", "bgp-eip", "IPv4", "Cluster", &[0])?;
    scene.apply("peer", &network("192.168.0.0/22", ""))?;
    until("the other Service is announced too", secs(20), || {
        ensure!(frr.json("show bgp ipv4 unicast 172.22.0.3/32")?["paths"].as_array().is_some_and(|p| p.len() == 3));
        Ok(())
    })?;
    ensure!(established(&frr)? == before, "a session was reset");
    // The router goes and comes back; meanwhile nothing is left of it.
    frr.configure(&["router bgp 50001", "neighbor nodes shutdown"])?;
    scene.hops(&[])?;
    until("it is forgotten", secs(20), || {
        ensure!(!scene.status("Speaker", "n2")?.contains("leaves/"));
        Ok(())
    })?;
    frr.configure(&["router bgp 50001", "no neighbor nodes shutdown"])?;
    scene.hops(&[0, 1, 2])?;
    // Of another AS than that it may have, and outside the network: not talked to.
    scene.apply("peer", &network("192.168.0.0/22", ", peerAs: 50009"))?;
    scene.hops(&[])?;
    scene.apply("peer", &network("192.168.0.0/22", ", peerAs: 50001"))?;
    scene.hops(&[0, 1, 2])?;
    scene.apply("peer", &network("192.168.0.0/30", ""))?;
    scene.hops(&[])
}

/// One session, and all nodes are next hops, as with OpenELB.
pub fn next_hops_of_others(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let frr = frr(&scene, "")?;
    let at_one =
        |more: &str| peer("tor", ROUTER, &format!("{BOTH}  nodeSelector: {{matchLabels: {{rack: leaf1}}}}\n{more}"));
    for number in [1, 2] {
        scene.node(number, true, "leaf2")?;
    }
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &at_one(""))?;
    scene.hops(&[0])?;
    let session = || frr.json("show bgp neighbors").map(|all| all["192.168.0.2"]["connectionsEstablished"].clone());
    let before = session()?;
    scene.apply("peer", &at_one("  nextHopMode: OpenELB\n"))?;
    scene.hops(&[0, 1, 2])?;
    scene.answers(V4, &[0, 1, 2])?;
    ensure!(session()? == before, "the session was reset");
    // Only those with endpoints, ready (D8), also where the one that tells is none of them.
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[1, 2])?;
    scene.hops(&[1, 2])?;
    scene.answers(V4, &[1, 2])?;
    scene.node(1, false, "leaf2")?;
    scene.hops(&[2])?;
    scene.node(1, true, "leaf2")?;
    scene.hops(&[1, 2])?;
    // What a node knows that is not ready itself may be old.
    scene.node(0, false, "leaf1")?;
    scene.hops(&[])?;
    scene.node(0, true, "leaf1")?;
    scene.hops(&[1, 2])?;
    scene.apply("peer", &at_one(""))?;
    scene.hops(&[])?;
    ensure!(session()? == before, "the session was reset");
    // IPv6 without add-path (the list of families does not offer it): one path, and that is the node's own.
    scene.hops6(&[0])
}
