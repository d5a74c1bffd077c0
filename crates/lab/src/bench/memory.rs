//! Resident memory.

use anyhow::{Context, Result};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::arp::Tap;
use super::services::{self, Observer};
use super::table::{Aim, Row};
use super::{Rig, progress};
use crate::process::Process;
use crate::wait::{millis, secs};

const SERVICES: usize = 1000;

/// A line of /proc/PID/status, in MiB.
pub fn status_mib(process: &Process, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib: f64 = found.context("no such line")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// The CPU time that it has used.
pub fn cpu(process: &Process) -> Result<Duration> {
    // Linux shows it in hundredths of a second everywhere.
    Ok(millis(10 * ticks(process)?))
}

fn ticks(process: &Process) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    // utime and stime, the 14th and 15th of all fields
    fields.split_whitespace().skip(11).take(2).map(|n| Ok(n.parse::<u64>()?)).sum()
}

/// Resident memory in MiB when the process has used next to no CPU for ten seconds; after a minute, what it then is.
pub fn settled(process: &Process) -> Result<f64> {
    quiet(process, secs(10))?;
    status_mib(process, "VmRSS")
}

/// Waits until the process has used next to no CPU for so long, a minute at most.
pub fn quiet(process: &Process, long: Duration) -> Result<()> {
    let end = Instant::now() + secs(60);
    let mut since = Instant::now();
    let mut before = ticks(process)?;
    while since.elapsed() < long && Instant::now() < end {
        thread::sleep(millis(500));
        let now = ticks(process)?;
        if now - before > 3 {
            since = Instant::now();
        }
        before = now;
    }
    Ok(())
}

/// The speaker that has the most, of three that know a thousand Services: `a` and `w` of those before, and `m`.
pub fn speakers(rig: &Rig, observer: &Observer, tap: &Tap, have: usize) -> Result<Vec<Row>> {
    let missing = SERVICES.saturating_sub(have);
    progress(&format!("creating {missing} Services more"));
    services::create(&rig.cluster.control.rest, 0..missing, |n| services::service("m", n, true))?;
    let (_, addresses) = observer.all_assigned("m", missing, secs(60))?;
    for address in addresses {
        if let std::net::IpAddr::V4(ip) = address {
            tap.heard(ip, secs(30))?;
        }
    }
    progress("all of them are announced");
    let mut most: Option<[f64; 4]> = None;
    for speaker in &rig.speakers {
        let now = settled(speaker)?;
        let [heap, peak, locked] = ["RssAnon", "VmHWM", "VmLck"].map(|line| status_mib(speaker, line));
        let found = [now, heap?, peak?, locked?];
        most = Some(most.map_or(found, |most| if found[0] > most[0] { found } else { most }));
    }
    let [now, heap, peak, locked] = most.context("no speaker")?;
    Ok(vec![
        Row::new("speaker, 1000 Services, resident", now, "MiB").aim(Aim::AtMost(15.0)).note(&format!(
            "the largest of three, each announces a third; {locked:.1} MiB of its address space locked"
        )),
        Row::new("… of that heap and stacks", heap, "MiB").note("the rest is the program itself"),
        Row::new("… at its peak", peak, "MiB"),
    ])
}
