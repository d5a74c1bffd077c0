//! Two replicas.

use super::world::{Flags, LONG, World, service_path, stop};
use anyhow::{Result, ensure};
use lab::host::Lab;
use lab::wait::{millis, until};
use oxelb_controller::election::Timing;
use serde_json::json;
use std::time::Instant;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/openelb-system/leases/openelb-controller";

fn flags(n: u16) -> Flags {
    let timing = Timing { lease: millis(2000), renew: millis(1300), retry: millis(200) };
    Flags { webhook: false, port: 50060 + n, timing }
}

pub fn killed(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    world.default_eip("pool", "10.0.0.0/24")?;
    let mut leader = world.controller("c0", &flags(0))?;
    world.leads(&leader, 50060)?;
    let mut made = 0;
    for round in 1..=4u16 {
        let standby = world.controller(&format!("c{round}"), &flags(round))?;
        world.ready(&standby, 50060 + round)?;
        ensure!(world.http(50060 + round, "/readyz")?.ends_with("standing by"));
        // Services come and go while the leader is killed in the middle of its writes.
        for n in 0..40 {
            world.service(&format!("s{made}"), json!({}), json!({}))?;
            made += 1;
            if n == 25 {
                leader.kill()?;
            }
            if n % 4 == 0 && made > 8 {
                world.control.rest.delete(&service_path(&format!("s{}", made - 7)))?;
            }
        }
        world.leads(&standby, 50060 + round)?;
        let services = || world.control.list("/api/v1/namespaces/default/services");
        until("every Service has an address, and none is given twice", LONG, || {
            let owners = world.no_address_twice()?;
            let services = services()?.iter().filter(|s| s["spec"]["type"] == "LoadBalancer").count();
            ensure!(owners.len() == services, "{} of {services}", owners.len());
            Ok(())
        })?;
        leader = standby;
    }
    let lease = world.control.rest.get(LEASE)?;
    ensure!(lease["spec"]["leaseTransitions"].as_i64() >= Some(4), "{lease}");
    stop(leader)
}

pub fn handed_over(lab: &Lab) -> Result<()> {
    let world = World::start(lab)?;
    world.default_eip("pool", "10.0.0.0/24")?;
    // So long that only a release explains a quick change.
    let timing = Timing { lease: millis(120_000), renew: millis(100_000), retry: millis(300) };
    let first = world.controller("c1", &Flags { port: 50061, timing, ..Flags::default() })?;
    world.leads(&first, 50061)?;
    let second = world.controller("c2", &Flags { port: 50062, timing, ..Flags::default() })?;
    world.ready(&second, 50062)?;
    let asked = Instant::now();
    stop(first)?;
    world.leads(&second, 50062)?;
    ensure!(asked.elapsed() < LONG, "it took {:?}", asked.elapsed());
    world.service("s", json!({}), json!({}))?;
    world.address("s")?;
    stop(second)?;
    // Nobody holds it now, and the next leads at once.
    ensure!(world.control.rest.get(LEASE)?["spec"]["holderIdentity"] == "");
    let third = world.controller("c3", &Flags { port: 50063, timing, ..Flags::default() })?;
    world.leads(&third, 50063)?;
    stop(third)
}
