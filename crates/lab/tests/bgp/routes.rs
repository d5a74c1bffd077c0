//! What routers are told of routes: attributes of pools, and policies.

use crate::scene::*;
use anyhow::{Context, Result, bail, ensure};
use lab::host::Lab;
use lab::router::{Frr, next_hops};
use lab::wait::{secs, until};
use serde_json::Value;
use std::collections::BTreeMap;

/// What FRR knows of the paths to a prefix, by their neighbour.
fn paths(frr: &Frr, family: &str, prefix: &str) -> Result<BTreeMap<String, Value>> {
    let value = frr.json(&format!("show bgp {family} unicast {prefix}"))?;
    let paths = value["paths"].as_array().with_context(|| format!("no {prefix}: {value}"))?;
    Ok(paths.iter().map(|p| (p["peer"]["peerId"].as_str().unwrap_or_default().to_owned(), p.clone())).collect())
}

pub fn attributes(lab: &Lab) -> Result<()> {
    let (scene, frr, before) = with_frr(lab)?;
    // One pod on the first node, two on the second: the router sends twice as much to the second.
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[0, 1, 1])?;
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
        ensure!((1.8..=2.2).contains(&(second / first)), "{route}");
        println!("one pod and two: weights {first} and {second}");
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

pub fn policy(lab: &Lab) -> Result<()> {
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
