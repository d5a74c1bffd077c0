//! How long it takes from what the API server is told to the router's kernel: FRR on the client's host, a session with
//! each of the three nodes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Instant;

use super::Rig;
use super::services::{self, NAMESPACE, Observer, name};
use super::table::{Aim, Row, percentile};
use crate::host::Lab;
use crate::router::{Frr, next_hops};
use crate::wait::{millis, secs};

const SAMPLES: usize = 100;
const WARM: usize = 5;
const GROUP: &str = "b";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices";

/// All rows. The speakers run, and go on doing what they do.
pub fn rows(lab: &Lab, rig: &Rig, observer: &Observer) -> Result<Vec<Row>> {
    let (rest, router) = (&rig.cluster.control.rest, &rig.cluster.client);
    let mut text = "router bgp 50001\n bgp router-id 192.168.0.100\n no bgp ebgp-requires-policy\n".to_owned();
    for node in &rig.cluster.nodes {
        let address = node.address();
        text.push_str(&format!(" neighbor {address} remote-as 50000\n neighbor {address} timers connect 1\n"));
    }
    let frr = Frr::start(lab, router, &text, None)?;
    for (kind, name, spec) in [
        ("Eip", "bgp", json!({"address": "10.65.0.0/16", "protocol": "bgp"})),
        ("BgpConf", "default", json!({"as": 50000, "listenPort": 17900})),
        ("BgpPeer", "tor", json!({"conf": {"peerAs": 50001, "neighborAddress": "192.168.0.100"}})),
    ] {
        let group = "network.kubesphere.io/v1alpha2";
        rest.create(&json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}))?;
    }
    let routed = |address: IpAddr, wanted: bool, patience| {
        let end = Instant::now() + patience;
        while next_hops(router, address)?.is_empty() == wanted {
            ensure!(
                Instant::now() < end,
                "{address} {} in the router's kernel",
                if wanted { "is not" } else { "is still" }
            );
            std::thread::sleep(millis(1));
        }
        Ok(Instant::now())
    };
    let (mut came, mut left) = (Vec::new(), Vec::new());
    for number in 0..WARM + SAMPLES {
        let slice = slice(number);
        rest.create(&slice)?;
        let start = Instant::now();
        rest.create(&service(number))?;
        let (_, _, address) = observer.assigned(&name(GROUP, number), secs(10))?;
        // The sessions come up with the first one.
        let here = routed(address, true, secs(if number == 0 { 60 } else { 10 }))?;
        let gone = Instant::now();
        let slice = slice["metadata"]["name"].as_str().context("no name")?.to_owned();
        rest.delete(&format!("{SLICES}/{slice}"))?;
        let away = routed(address, false, secs(10))?;
        if number >= WARM {
            came.push(here.duration_since(start).as_secs_f64() * 1e3);
            left.push(away.duration_since(gone).as_secs_f64() * 1e3);
        }
    }
    services::clear(rest, GROUP)?;
    rest.delete("/apis/network.kubesphere.io/v1alpha2/bgppeers/tor")?;
    frr.stop()?;
    let row = |what: &str, times: &[f64], share| Row::new(what, percentile(times, share), "ms");
    Ok(vec![
        row("create Service → route in FRR's kernel, p50", &came, 0.5)
            .note("looked for by ip route, which itself takes some ms"),
        row("create Service → route in FRR's kernel, p99", &came, 0.99).aim(Aim::AtMost(200.0)),
        row("last endpoint goes → no route, p50", &left, 0.5).note("policy Local; its EndpointSlice is deleted"),
        row("last endpoint goes → no route, p99", &left, 0.99).aim(Aim::AtMost(200.0)),
    ])
}

fn service(number: usize) -> Value {
    let mut service = services::of_bgp(GROUP, number);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service
}

/// One endpoint of it, on the first node.
fn slice(number: usize) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": NAMESPACE, "name": format!("{}-1", name(GROUP, number)),
            "labels": {"kubernetes.io/service-name": name(GROUP, number)},
        },
        "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.244.1.2"], "nodeName": "n1", "conditions": {"ready": true}}],
    })
}
