//! Mode bgp against real routers: three nodes on a folder of YAML, a router that is FRR, BIRD or GoBGP, and a client
//! behind it. What counts is what the router's kernel does and what the client gets.

#![allow(clippy::print_stdout, reason = "tells what it measured")]

mod bfd;
#[path = "../common/mod.rs"]
mod common;
mod interop;
mod places;
mod routes;
mod scene;

use anyhow::{Context, Result, bail, ensure};
use common::{Installed, SERVICES, SPEAKERS};
use lab::client;
use lab::host::Lab;
use lab::router::{Bird, ExaBgp, Frr, GoBgp, next_hops, until_next_hops};
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use scene::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("frr_spreads_over_all_nodes_and_a_killed_speaker_loses_its_share", frr_spreads),
        ("with_policy_local_only_nodes_with_endpoints_are_next_hops", local_follows_endpoints),
        ("an_edit_changes_what_it_says_and_resets_no_session", edits),
        ("what_is_not_valid_is_named_and_everything_else_goes_on", bad_input),
        ("sessions_come_up_with_a_password_and_with_ttl_security_and_not_without", protected),
        ("bird_works_with_openelbs_own_example", bird),
        ("gobgp_spreads_over_all_nodes", gobgp),
        ("exabgp_hears_of_routes_and_of_their_end_and_what_it_says_is_counted", exabgp),
        ("a_router_behind_another_has_a_session_and_bfd_with_every_node", bfd::behind_a_router),
        ("a_speaker_that_restarts_gracefully_is_never_withdrawn", restarts),
        ("in_a_cluster_nodes_write_their_own_status_and_traffic_follows_pods", in_a_cluster),
        ("routes_say_what_their_pool_says_to_whom_it_says_and_an_edit_resets_nothing", routes::attributes),
        ("a_policy_says_what_a_router_is_told_and_one_that_is_not_valid_changes_nothing", routes::policy),
        ("an_internal_session_over_ipv6_carries_both_families", internal),
        ("bfd_with_frr_takes_a_silent_path_down_at_once_and_no_edit_or_restart_does", bfd::bfd_with_frr),
        ("bfd_with_bird_takes_a_silent_path_down_at_once", bfd::bfd_with_bird),
        ("with_frr_every_kind_of_session_comes_up_and_bears_what_may_happen", interop::frr),
        ("with_bird_every_kind_of_session_comes_up_and_bears_what_may_happen", interop::bird),
        ("with_gobgp_every_kind_of_session_comes_up_and_bears_what_may_happen", interop::gobgp),
        ("a_router_without_addresses_is_found_by_its_advertisements", places::unnumbered),
        ("routers_of_a_network_connect_by_themselves", places::of_a_network),
        ("with_next_hop_mode_openelb_one_session_tells_of_all_nodes", places::next_hops_of_others),
        ("bfd_with_bird_is_authenticated_where_a_key_is_given", bfd::authenticated),
        ("a_port_that_is_taken_is_named_and_the_node_connects_by_itself", port_taken),
    ];
    suite::some_at_once(3, tests)
}

fn frr_spreads(lab: &Lab) -> Result<()> {
    let (mut scene, _frr, _) = with_frr(lab)?;
    scene.answers(V4, &[0, 1, 2])?;
    scene.answers(V6, &[0, 1, 2])?;

    // What is said of it: in both statuses, in the Speaker, in the Service, by the metrics, and by gobgp.
    for node in ["n2", "n3", "n4"] {
        scene.said("BgpPeer", "tor", &[&format!("{node}:"), "ESTABLISHED", "negotiatedHoldTime"])?;
        scene.said("BgpConf", "default", &[&format!("{node}:"), "50000"])?;
        scene.said("Speaker", node, &["established: 1", "peer: tor"])?;
    }
    scene.said("Service", "default.web4", &["openelb.io/Announced", "reason: Announced"])?;
    let metrics = scene.metrics(0)?;
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
    let (scene, frr, before) = with_frr(lab)?;
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

fn exabgp(lab: &Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let of = |node: &Node| {
        let more = format!(
            " router-id {ROUTER};\n local-address {ROUTER};\n local-as 50001;\n peer-as 50000;\n connect 17900;\n \
             family {{ ipv4 unicast; ipv6 unicast; }}\n"
        );
        (node.v4, more)
    };
    let neighbours: Vec<_> = scene.nodes.iter().map(of).collect();
    let route = format!("198.51.100.0/24 next-hop {ROUTER}");
    let router = ExaBgp::start(lab, &scene.router, &neighbours, &route)?;
    scene.apply("conf", &conf(""))?;
    scene.apply("peer", &peer("tor", ROUTER, BOTH))?;
    let mut last = 0;
    for (number, node) in scene.nodes.iter().enumerate() {
        // Each node is its own next hop, for both families over one session.
        let (v4, v6) = (format!("\"{}\"", node.v4), format!("\"{}\"", node.v6));
        let of = format!("\"peer\": \"{}\"", node.v4);
        last = last.max(router.hears(0, &["announce", "\"ipv4 unicast\"", "172.22.0.2/32", &v4, "50000"])?);
        last = last.max(router.hears(0, &["announce", "\"ipv6 unicast\"", "fd00:22::2/128", &v6, &of])?);
        until("its route is counted", secs(20), || {
            let text = scene.metrics(number)?;
            ensure!(text.contains("oxelb_bgp_prefixes_received{peer=\"tor\"} 1"), "{text}");
            ensure!(node.host.ip("route show 198.51.100.0/24")?.is_empty(), "it is used");
            Ok(())
        })?;
    }
    scene.delete("web4")?;
    last = router.hears(last, &["withdraw", "172.22.0.2/32"])?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[1])?;
    router.hears(last, &["announce", "172.22.0.2/32", "\"192.168.0.3\""])?;
    router.stop()
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
