//! Ten thousand Services that wait for addresses, and what a controller that knows them needs of memory.

use anyhow::{Context, Result};
use std::time::Instant;

use super::services::{self, Observer, Template};
use super::table::{Aim, Row};
use super::{Rig, memory, progress};
use crate::process::Process;
use crate::rest::Rest;
use crate::wait::secs;

/// The memory that a controller may have with ten thousand Services.
const MEMORY: f64 = 60.0;

/// Services that all wait when the controller starts, against a bare client that starts likewise: both read them all,
/// then write, with the same number of writes on their way at once. The floor is measured half before and half after.
pub fn measure(rig: &Rig, bare: &Rest, observer: &Observer, template: &Template, count: usize) -> Result<Vec<Row>> {
    let rest = &rig.cluster.control.rest;
    // Creating takes longest by far (the API server gives cluster addresses one after the other), and a rate is known
    // well from fewer.
    let few = (count / 8).max(1);
    progress(&format!("creating {} Services", count + 2 * few));
    for floor in ["g", "h"] {
        services::create(rest, 0..few, |n| services::service(floor, n, false))?;
    }
    services::create(rest, 0..count, |n| services::of_bgp("b", n))?;
    let floor = |group: &str| {
        let start = Instant::now();
        let written = template.serve_all(bare, group)?;
        anyhow::Ok((written as f64, start.elapsed().as_secs_f64()))
    };
    let before = floor("g")?;
    progress(&format!("bare client: {:.0} Services a second", before.0 / before.1));
    let start = Instant::now();
    let controller = rig.controller()?;
    let (last, _) = observer
        .all_assigned("b", count, secs(180))
        .with_context(|| format!("the controller says:\n{}", controller.tail(10)))?;
    let rate = count as f64 / last.saturating_duration_since(start).as_secs_f64();
    progress(&format!("controller: {rate:.0} Services a second"));
    let rows = memory_rows(&controller, count)?;
    controller.stop()?;
    let after = floor("h")?;
    progress(&format!("bare client: {:.0} Services a second", after.0 / after.1));
    let bare = (before.0 + after.0) / (before.1 + after.1);
    let rate = Row::new(&format!("{count} Services → all assigned"), rate, "a second")
        .floor(bare)
        .aim(Aim::OfFloor(0.8))
        .note(
            "all wait; from the start of the controller, reading and election included, to the last address; floor: a \
             bare client reads a quarter as many and writes the same patches, 32 at once, as the controller",
        );
    Ok(std::iter::once(rate).chain(rows).collect())
}

fn memory_rows(controller: &Process, count: usize) -> Result<Vec<Row>> {
    let now = memory::settled(controller)?;
    let peak = memory::status_mib(controller, "VmHWM")?;
    let what = format!("controller, {count} Services, resident");
    Ok(vec![
        Row::new(&what, now, "MiB").aim(Aim::AtMost(MEMORY)),
        Row::new("… at its peak", peak, "MiB").note("VmHWM since its start, with all events and conditions written"),
    ])
}
