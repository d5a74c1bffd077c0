//! How long it takes from a Service to its address, and to the first word of it on the wire.

use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::Instant;

use super::arp::Tap;
use super::services::{self, Observer, name};
use super::table::{Aim, Row, percentile};
use crate::rest::Rest;
use crate::wait::secs;

const SAMPLES: usize = 200;
const FIRST_ARP: usize = 100;
/// Connections, caches and code paths are warm after that many.
const WARM: usize = 10;

/// Milliseconds of one group: from the request to the address, and from the watch's word of the Service to that of the
/// address.
#[derive(Debug, Default)]
struct Times {
    request: Vec<f64>,
    watch: Vec<f64>,
}

impl Times {
    fn one(&mut self, rest: &Rest, observer: &Observer, group: &str, number: usize, ours: bool) -> Result<()> {
        let start = Instant::now();
        rest.create(&services::service(group, number, ours))?;
        let (created, assigned, _) = observer.assigned(&name(group, number), secs(10))?;
        if number >= WARM {
            self.request.push(ms(start, assigned));
            self.watch.push(ms(created, assigned));
        }
        Ok(())
    }
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// Creates Services one after the other, in turn for the controller (group `a`) and for the bare client (group `f`).
pub fn to_address(rest: &Rest, observer: &Observer) -> Result<Vec<Row>> {
    let (mut ours, mut floor) = (Times::default(), Times::default());
    for number in 0..WARM + SAMPLES {
        ours.one(rest, observer, "a", number, true).context("served by the controller")?;
        floor.one(rest, observer, "f", number, false).context("served by the bare client")?;
    }
    let row = |what: &str, share: f64, ours: &[f64], floor: &[f64]| {
        Row::new(what, percentile(ours, share), "ms").floor(percentile(floor, share)).aim(Aim::TimesFloor(1.3))
    };
    Ok(vec![
        row("create Service → address, p50", 0.5, &ours.request, &floor.request).note(
            "from the request that creates it to a third program's watch; floor: a bare client's watch and patch",
        ),
        row("create Service → address, p99", 0.99, &ours.request, &floor.request),
        row("… without the creation, p50", 0.5, &ours.watch, &floor.watch)
            .note("from the third program's word of the Service to its word of the address"),
        row("… without the creation, p99", 0.99, &ours.watch, &floor.watch),
    ])
}

/// Creates Services (group `w`) one after the other and waits for the first ARP frame in which each address speaks.
pub fn to_arp(rest: &Rest, observer: &Observer, tap: &Tap) -> Result<Vec<Row>> {
    let mut times = Vec::new();
    for number in 0..WARM + FIRST_ARP {
        let start = Instant::now();
        rest.create(&services::service("w", number, true))?;
        let (_, _, ip) = observer.assigned(&name("w", number), secs(10))?;
        let IpAddr::V4(ip) = ip else { continue };
        let (heard, _) = tap.heard(ip, secs(10))?;
        if number >= WARM {
            times.push(ms(start, heard));
        }
    }
    Ok(vec![
        Row::new("create Service → first ARP, p50", percentile(&times, 0.5), "ms")
            .aim(Aim::AtMost(100.0))
            .note("three speakers; the first announcement or answer that another host on the segment receives"),
        Row::new("create Service → first ARP, p99", percentile(&times, 0.99), "ms"),
    ])
}
