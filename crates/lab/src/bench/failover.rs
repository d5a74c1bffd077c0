//! `lab bench-failover`: faults done to owners again and again, several clusters at a time, and keepalived on the same
//! kind of switch for the same pulled cable. For each kind how long nobody answered, and whether ever two did.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::table::percentile;
use super::{bfd, progress};
use crate::census::Census;
use crate::client;
use crate::cluster::DEVICE;
use crate::faults::{Fault, Outcome, Scene};
use crate::host::Lab;
use crate::keepalived::{self, Instance};
use crate::oxelb;
use crate::process::require;
use crate::sandbox::Sandbox;
use crate::wait::{millis, secs, until};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 180);
const COUNTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 102);
const CABLE: &str = "cable pulled";

/// How much to measure, and where to draw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Runs of each kind of fault with preset normal; others have fewer.
    pub runs: usize,
    /// For how many minutes all processors are busy, without a fault.
    pub busy: u64,
    /// A picture of the times, SVG.
    pub picture: Option<PathBuf>,
}

impl Options {
    /// Reads the words after `bench-failover`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        match words {
            [] => Ok(Options { runs: 12, busy: 10, picture: None }),
            [rest @ .., "--picture", path] => Ok(Options { picture: Some(path.into()), ..Options::parse(rest)? }),
            [rest @ .., "--runs", number] => {
                let runs = number.parse().ok().filter(|n| (1..=1000).contains(n));
                let runs = runs.with_context(|| format!("--runs {number}: from 1 to 1000"))?;
                Ok(Options { runs, ..Options::parse(rest)? })
            }
            [rest @ .., "--busy", minutes] => {
                let busy = minutes.parse().ok().filter(|n| (1..=600).contains(n));
                let busy = busy.with_context(|| format!("--busy {minutes}: from 1 to 600 minutes"))?;
                Ok(Options { busy, ..Options::parse(rest)? })
            }
            _ => bail!("usage: lab bench-failover [--runs NUMBER] [--busy MINUTES] [--picture FILE]"),
        }
    }
}

/// Which cluster, and what happens to it.
type Key = (&'static str, &'static str);
type Times = Mutex<BTreeMap<Key, Vec<Outcome>>>;

/// A cluster and the faults that it gets, in order.
struct Job {
    name: &'static str,
    nodes: u8,
    preset: &'static str,
    faults: Vec<Fault>,
}

fn jobs(runs: usize) -> Vec<Job> {
    let quiet = Fault::ALL.into_iter().filter(|f| *f != Fault::Starved);
    let all = |n: usize| (0..n).flat_map(|_| quiet.clone()).collect::<Vec<Fault>>();
    let half = runs.div_ceil(2);
    let job = |name, nodes, preset, faults| Job { name, nodes, preset, faults };
    vec![
        job("normal", 3, "normal", all(half)),
        job("normal", 3, "normal", all(runs - half)),
        job("fast", 3, "fast", all(half)),
        job("fast", 3, "fast", all(half.div_ceil(2))),
        job("two nodes", 2, "normal", [Fault::Kill, Fault::Cable].repeat(runs)),
    ]
}

/// Measures, prints a table and JSON, and fails when something could not be measured or two nodes answered.
pub fn run(sandbox: &Sandbox, options: &Options) -> Result<()> {
    require(&["ip", "nft", "keepalived", "arping", "curl"])?;
    oxelb::binary()?;
    let times: Times = Mutex::new(BTreeMap::new());
    let jobs = jobs(options.runs);
    progress(&format!("{} clusters, {} faults", jobs.len(), jobs.iter().map(|j| j.faults.len()).sum::<usize>()));
    std::thread::scope(|scope| {
        let running = jobs.iter().enumerate().map(|(n, job)| {
            let times = &times;
            scope.spawn(move || work(sandbox, n, job, times))
        });
        let running: Vec<_> = running.collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a cluster panicked"))?)
    })?;
    progress("both processors busy: alone, or it would be done to all");
    let faults = vec![Fault::Starved; options.runs];
    work(sandbox, 90, &Job { name: "normal", nodes: 3, preset: "normal", faults }, &times)?;
    let calm = starved(sandbox, options.busy)?;
    for (n, (name, interval)) in [("keepalived 1 s", "1"), ("keepalived 0.1 s", "0.1")].into_iter().enumerate() {
        progress(name);
        let mut outcomes = Vec::new();
        for _ in 0..options.runs.div_ceil(2) {
            let lab = Lab::new(sandbox, &format!("keepalived.{n}.{}", outcomes.len()))?;
            outcomes.push(pair_of_keepalived(&lab, interval, End::Cable)?);
        }
        locked(&times).insert((name, CABLE), outcomes);
    }
    let times = times.into_inner().map_err(|_| anyhow::anyhow!("a cluster panicked"))?;
    println!("\n{}{}", table(&times), calm.line());
    println!("{}", document(&times, &calm));
    if let Some(path) = &options.picture {
        fs::write(path, picture(&times)).with_context(|| path.display().to_string())?;
        progress(&format!("drawn: {}", path.display()));
    }
    let doubled: usize = times.iter().filter(|((n, _), _)| !n.starts_with("keepalived")).map(|(_, o)| twice(o)).sum();
    let doubled = doubled + calm.outcome.doubled;
    ensure!(doubled == 0, "two nodes answered in {doubled} times 10 ms");
    Ok(())
}

fn locked(times: &Times) -> std::sync::MutexGuard<'_, BTreeMap<Key, Vec<Outcome>>> {
    times.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn work(sandbox: &Sandbox, number: usize, job: &Job, times: &Times) -> Result<()> {
    let lab = Lab::new(sandbox, &format!("faults.{number}"))?;
    let mut scene = Scene::start(&lab, job.nodes, job.preset, true)?;
    for fault in &job.faults {
        let outcome = scene.run(*fault)?;
        let mut times = locked(times);
        times.entry((job.name, fault.name())).or_default().push(outcome);
        let done: usize = times.values().map(Vec::len).sum();
        if done.is_multiple_of(20) {
            progress(&format!("{done} faults"));
        }
    }
    Ok(())
}

/// An owner whose processors were busy for long: how often the address moved without a reason.
struct Calm {
    lasted: Duration,
    outcome: Outcome,
    moves: usize,
    /// How often BFD at its usual 3 x 300 ms took a router for dead.
    flaps: u64,
}

impl Calm {
    fn line(&self) -> String {
        let (minutes, gap) = (self.lasted.as_secs_f64() / 60.0, self.outcome.gap.as_millis());
        format!(
            "normal, all processors busy for {minutes:.0} min: moved {} times, longest without an answer {gap} ms\n\
             BFD at 3 x 300 ms on three nodes meanwhile: lost {} times\n",
            self.moves, self.flaps
        )
    }
}

fn starved(sandbox: &Sandbox, minutes: u64) -> Result<Calm> {
    progress(&format!("all processors busy for {minutes} minutes"));
    let lasted = secs(60 * minutes);
    let lab = Lab::new(sandbox, "faults.busy")?;
    let scene = Scene::start(&lab, 3, "normal", true)?;
    let _bird = bfd::watched(&lab, &scene, 300)?;
    let (outcome, moves) = scene.starve(lasted)?;
    Ok(Calm { lasted, outcome, moves, flaps: bfd::lost(&scene)? })
}

/// How a master ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its cable is pulled.
    Cable,
    /// It is killed, and its node lives on.
    Killed,
    /// It is stopped in good order.
    Stopped,
}

/// A pair of keepalived, whose master ends in this way.
pub fn pair_of_keepalived(lab: &Lab, interval: &str, end: End) -> Result<Outcome> {
    let lan = lab.switch("lan")?;
    let counter = lab.host("counter")?;
    lan.plug(&counter, "eth0", &[&format!("{COUNTER}/22")])?;
    let mut pair = Vec::new();
    for (number, priority) in [(1, 150), (2, 100)] {
        let host = lab.host(&format!("n{number}"))?;
        lan.plug(&host, DEVICE, &[&format!("192.168.0.{}/22", 10 + number)])?;
        let address = format!("{ADDRESS}/32");
        let instance = Instance { interval, ..Instance::new(51, priority, &address) };
        let process = keepalived::start(lab, &host, instance)?;
        pair.push((host, process));
    }
    let first = pair[0].0.mac(DEVICE)?;
    until("the first keepalived is master", secs(30), || {
        let found = client::arp(&counter, "eth0", IpAddr::V4(ADDRESS))?;
        ensure!(found.into_iter().eq([first.clone()]), "not it alone");
        Ok(())
    })?;
    let census = Census::start(&counter, COUNTER, ADDRESS, millis(2))?;
    std::thread::sleep(millis(200));
    let since = Instant::now();
    match end {
        End::Cable => lan.link(&pair[0].0, false)?,
        End::Killed => pair[0].1.kill()?,
        End::Stopped => pair[0].1.signal(Signal::SIGTERM)?,
    }
    std::thread::sleep(secs(6));
    let (over, answers) = (Instant::now(), census.finish()?);
    // Of a killed one the kernel answers on, in turn with the backup.
    let owners = answers.owners().len();
    ensure!(owners == 2 || (end == End::Killed && owners > 2), "keepalived's backup did not take over");
    Ok(Outcome { gap: answers.gap(since, over), doubled: answers.doubled() })
}

fn gaps(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|o| o.gap.as_secs_f64() * 1000.0).collect()
}

fn twice(outcomes: &[Outcome]) -> usize {
    outcomes.iter().map(|o| o.doubled).sum()
}

fn figures(outcomes: &[Outcome]) -> [f64; 3] {
    [0.5, 0.99, 1.0].map(|share| percentile(&gaps(outcomes), share))
}

fn table(times: &BTreeMap<Key, Vec<Outcome>>) -> String {
    let mut text = format!(
        "{:<17} {:<42} {:>5} {:>8} {:>8} {:>8} {:>11}\n",
        "cluster", "fault", "runs", "p50 ms", "p99 ms", "worst ms", "two answer"
    );
    for ((name, fault), outcomes) in times {
        let [p50, p99, worst] = figures(outcomes);
        let two = twice(outcomes);
        let runs = outcomes.len();
        let _ = writeln!(text, "{name:<17} {fault:<42} {runs:>5} {p50:>8.0} {p99:>8.0} {worst:>8.0} {two:>11}");
    }
    let of = |name| times.get(&(name, CABLE)).map(|o| figures(o)[0]);
    for (ours, theirs) in [("normal", "keepalived 1 s"), ("fast", "keepalived 0.1 s")] {
        if let (Some(own), Some(floor)) = (of(ours), of(theirs)) {
            let _ = writeln!(text, "{CABLE}: {theirs} takes {:.1} times as long as {ours}", floor / own);
        }
    }
    text
}

fn document(times: &BTreeMap<Key, Vec<Outcome>>, calm: &Calm) -> Value {
    let row = |((name, fault), outcomes): (&Key, &Vec<Outcome>)| {
        let [p50, p99, worst] = figures(outcomes);
        json!({
            "cluster": name, "fault": fault, "runs": outcomes.len(), "p50Ms": p50, "p99Ms": p99, "worstMs": worst,
            "bucketsWithTwo": twice(outcomes),
        })
    };
    json!({
        "bench": "oxelb-failover",
        "figures": times.iter().map(row).collect::<Vec<_>>(),
        "busy": {"seconds": calm.lasted.as_secs(), "moves": calm.moves, "longestGapMs": calm.outcome.gap.as_millis() as u64, "bfdLost": calm.flaps},
    })
}

/// A histogram for each kind, on one logarithmic axis from 1 ms to 10 s.
fn picture(times: &BTreeMap<Key, Vec<Outcome>>) -> String {
    const LEFT: f64 = 380.0;
    const WIDTH: f64 = 560.0;
    const ROW: f64 = 34.0;
    const BINS: usize = 56;
    let place = |ms: f64| (ms.clamp(1.0, 10_000.0).log10() / 4.0).clamp(0.0, 0.999);
    let height = 40.0 + ROW * times.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"960\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (ms, label) in [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s"), (10_000.0, "10 s")] {
        let x = LEFT + WIDTH * place(ms);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.0}\" y1=\"22\" x2=\"{x:.0}\" y2=\"{height}\" stroke=\"#ddd\"/><text x=\"{x:.0}\" y=\"16\" text-anchor=\"middle\">{label}</text>"
        );
    }
    for (number, ((name, fault), outcomes)) in times.iter().enumerate() {
        let base = 40.0 + ROW * (number as f64 + 0.8);
        let mut bins = [0usize; BINS];
        for ms in gaps(outcomes) {
            if let Some(bin) = bins.get_mut((place(ms) * BINS as f64) as usize) {
                *bin += 1;
            }
        }
        let most = bins.iter().copied().max().unwrap_or(1).max(1) as f64;
        let _ = writeln!(svg, "<text x=\"10\" y=\"{base:.0}\">{name}: {fault}</text>");
        for (bin, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (w, h) = (WIDTH / BINS as f64, (ROW - 8.0) * *count as f64 / most);
            let (x, y) = (LEFT + w * bin as f64, base - h);
            let colour = if name.starts_with("keepalived") { "#999" } else { "#2a6f97" };
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{h:.1}\" fill=\"{colour}\"/>",
                w - 1.0
            );
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_compares_the_same_fault_and_the_picture_has_a_bar_for_each_time() {
        let of = |ms: &[u64]| ms.iter().map(|ms| Outcome { gap: millis(*ms), doubled: 0 }).collect::<Vec<_>>();
        let times = BTreeMap::from([
            (("normal", CABLE), of(&[500, 510])),
            (("keepalived 1 s", CABLE), of(&[3500])),
            (("normal", "speaker killed (-9)"), of(&[5, 480, 9000])),
        ]);
        let text = table(&times);
        assert!(text.contains("keepalived 1 s takes 7.0 times as long as normal"), "{text}");
        assert_eq!(picture(&times).matches("fill=\"#2a6f97\"").count(), 4, "500 and 510 ms share a bar");
        let calm = Calm { lasted: secs(600), outcome: Outcome { gap: millis(30), doubled: 0 }, moves: 0, flaps: 0 };
        assert_eq!(document(&times, &calm)["figures"].as_array().map(Vec::len), Some(3));
        assert!(calm.line().contains("busy for 10 min: moved 0 times, longest without an answer 30 ms"));
    }

    #[test]
    fn words_are_read() -> Result<()> {
        let read = Options::parse(&["--runs", "3", "--busy", "2", "--picture", "x.svg"])?;
        assert_eq!(read, Options { runs: 3, busy: 2, picture: Some("x.svg".into()) });
        assert!(Options::parse(&["--runs", "0"]).is_err());
        Ok(())
    }
}
