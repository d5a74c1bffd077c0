//! Controllers that die at any moment, against a real API server, while Services come and go: no address is ever given
//! twice, none is lost. `OXELB_SEED` repeats what a run did.

#![allow(clippy::print_stdout, reason = "tells what it measured")]

mod common;

use anyhow::{Context, Result, anyhow, ensure};
use common::{Installed, POOLS, SERVICES, addresses, condition, pool, service};
use fastrand::Rng;
use lab::host::Lab;
use lab::process::Process;
use lab::rest::Rest;
use lab::suite::{self, Test};
use lab::wait::{secs, until, until_true};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const POOL: &str = "eip.openelb.kubesphere.io/v1alpha2";
const ADDRESS: &str = "eip.openelb.kubesphere.io/v1alpha1";
/// That many Services at most.
const SERVICES_AT_ONCE: usize = 200;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("a_controller_killed_50_times_gives_no_address_twice_and_loses_none", killed_at_random),
        ("of_two_controllers_the_other_goes_on_when_the_leader_is_killed", leader_killed),
    ];
    suite::main(tests)
}

fn seed() -> Result<u64> {
    let seed = match std::env::var("OXELB_SEED") {
        Ok(text) => text.parse().context("OXELB_SEED is not a number")?,
        Err(_) => fastrand::u64(..),
    };
    println!("OXELB_SEED={seed}");
    Ok(seed)
}

/// Sees every change of every Service, in the order of the store.
struct Observer {
    stop: Arc<AtomicBool>,
    given: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Observer {
    fn start(rest: &Rest) -> Result<Observer> {
        let watch = rest.watch("/api/v1/services?resourceVersion=0")?;
        let (stop, given) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let (stopped, counter, complaints) = (Arc::clone(&stop), Arc::clone(&given), Arc::clone(&wrong));
        let thread = thread::spawn(move || {
            let complain = |what| complaints.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            let mut seen: BTreeMap<String, Value> = BTreeMap::new();
            let mut holders: BTreeMap<IpAddr, String> = BTreeMap::new();
            for event in watch {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                match event {
                    Ok(event) => observe(&event, &mut seen, &mut holders, &counter, &complain),
                    Err(error) => return complain(format!("the observer saw no more: {error:#}")),
                }
            }
            complain("the API server ended the observer's watch".to_owned());
        });
        Ok(Observer { stop, given, wrong, thread })
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// Ends it; `rest` makes one more change that wakes it.
    fn finish(self, rest: &Rest) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        rest.create(&service("the-last", &json!({}), &json!({"type": "ClusterIP"})))?;
        self.thread.join().map_err(|_| anyhow!("the observer panicked"))?;
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(wrong.is_empty(), "{} wrongs: {:#?}", wrong.len(), wrong.iter().take(10).collect::<Vec<_>>());
        Ok(())
    }
}

fn observe(
    event: &Value,
    seen: &mut BTreeMap<String, Value>,
    holders: &mut BTreeMap<IpAddr, String>,
    given: &AtomicUsize,
    complain: &impl Fn(String),
) {
    let object = &event["object"];
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let before = seen.remove(&name);
    let had = before.as_ref().map(addresses).unwrap_or_default();
    for ip in &had {
        holders.remove(ip);
    }
    if event["type"] == "DELETED" {
        return;
    }
    let has = addresses(object);
    for ip in &has {
        if let Some(other) = holders.insert(*ip, name.clone()) {
            complain(format!("{ip} is given to {other} and to {name}"));
        }
    }
    if has != had && !has.is_empty() {
        given.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(before) = before
        && before["metadata"]["uid"] == object["metadata"]["uid"]
        && !had.is_empty()
        && has != had
        && wanted(object).is_none_or(|ip| had == [ip])
    {
        complain(format!("{name} had {had:?} and has {has:?} without having asked for another"));
    }
    seen.insert(name, object.clone());
}

/// The address that a Service asks for.
fn wanted(service: &Value) -> Option<IpAddr> {
    service["metadata"]["annotations"][ADDRESS].as_str()?.parse().ok()
}

/// Makes, changes and deletes Services for as long as it is not stopped.
struct Churn {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Churn {
    fn start(rest: &Rest, mut rng: Rng) -> Churn {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counter, rest) = (Arc::clone(&stop), Arc::clone(&done), rest.clone());
        let thread = thread::spawn(move || {
            let (mut live, mut next) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                step(&rest, &mut rng, &mut live, &mut next)?;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Churn { stop, done, thread }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the churn panicked"))?
    }
}

fn step(rest: &Rest, rng: &mut Rng, live: &mut Vec<String>, next: &mut usize) -> Result<()> {
    let path = |name: &str| format!("{SERVICES}/{name}");
    // Names come again, as a Service that is deleted and applied anew.
    if live.len() < SERVICES_AT_ONCE && rng.u8(..10) < 6 || live.is_empty() {
        let name = format!("s{}", *next % (SERVICES_AT_ONCE * 2));
        *next += 1;
        if live.contains(&name) {
            return Ok(());
        }
        let annotations = match rng.u8(..4) {
            0 => json!({POOL: "b", ADDRESS: requested(rng)}),
            1 => json!({POOL: "b"}),
            _ => json!({}),
        };
        rest.create(&service(&name, &annotations, &json!({"ports": [{"port": rng.u16(1..1000)}]})))?;
        live.push(name);
        return Ok(());
    }
    let at = rng.usize(..live.len());
    match rng.u8(..10) {
        0..5 => {
            let name = live.swap_remove(at);
            rest.delete(&path(&name))?;
        }
        5..8 => {
            let change = json!({"spec": {"ports": [{"port": rng.u16(1..1000), "protocol": "TCP"}]}});
            rest.patch(&path(&live[at]), &change)?;
        }
        _ => {
            let change = json!({"metadata": {"annotations": {POOL: "b", ADDRESS: requested(rng)}}});
            rest.patch(&path(&live[at]), &change)?;
        }
    }
    Ok(())
}

fn requested(rng: &mut Rng) -> String {
    format!("10.2.0.{}", rng.u8(1..=200))
}

fn pools(installed: &Installed) -> Result<()> {
    let mut default = pool("a", "10.1.0.0/24");
    default["metadata"]["annotations"] = json!({"eip.openelb.kubesphere.io/is-default-eip": "true"});
    default["spec"]["sharing"] = json!("None");
    installed.control().rest.create(&default)?;
    installed.pool("b", "10.2.0.1-10.2.0.250", &json!({"sharing": "None"})).map(drop)
}

fn killed_at_random(lab: &Lab) -> Result<()> {
    const KILLS: usize = 50;
    let mut rng = Rng::with_seed(seed()?);
    let installed = Installed::bare(lab, false)?;
    let rest = installed.control().rest.clone();
    pools(&installed)?;
    let observer = Observer::start(&rest)?;
    let churn = Churn::start(&rest, rng.fork());
    for _ in 0..KILLS {
        let controller = installed.only_controller()?;
        // Half of the deaths come while it starts, half between two of its writes.
        if rng.bool() {
            let end = churn.done() + rng.usize(1..60);
            controller.until("Services came and went", secs(60), || enough(churn.done(), end))?;
        } else {
            let end = observer.given() + rng.usize(1..20);
            controller.until("addresses were given", secs(60), || enough(observer.given(), end))?;
        }
        controller.kill()?;
    }
    let controller = installed.only_controller()?;
    let (changes, given) = (churn.done(), observer.given());
    churn.finish()?;
    settled(&installed, &controller)?;
    println!("{KILLS} kills, {changes} changes of Services, {given} addresses given");
    all_deleted(&installed, &controller)?;
    observer.finish(&rest)
}

fn enough(count: usize, wanted: usize) -> Result<()> {
    ensure!(count >= wanted, "{count} of {wanted}");
    Ok(())
}

/// Every Service has an address of its pool, or waits for one that another has; `used` says the same.
fn settled(installed: &Installed, controller: &Process) -> Result<()> {
    let control = installed.control();
    controller.until("every Service has what it asks for, and pools say so", secs(60), || {
        let services = control.list(SERVICES)?;
        let ours = || services.iter().filter(|s| s["spec"]["type"] == "LoadBalancer");
        let name = |s: &Value| s["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut used: BTreeMap<String, BTreeMap<IpAddr, String>> = BTreeMap::new();
        for service in ours() {
            for ip in addresses(service) {
                let pool = if ip.to_string().starts_with("10.1.0.") { "a" } else { "b" };
                used.entry(pool.to_owned()).or_default().insert(ip, format!("default/{}", name(service)));
            }
        }
        for service in ours() {
            let found = addresses(service);
            let (status, reason, message) = condition(service, "openelb.io/AddressAssigned")?;
            match wanted(service) {
                Some(ip) if found != [ip] => {
                    ensure!(reason == "AddressInUse", "{}: {reason} {message}", name(service));
                    ensure!(used["b"].contains_key(&ip), "{} waits for {ip}, which nobody has", name(service));
                }
                _ => {
                    ensure!(found.len() == 1 && status == "True", "{}: {found:?} {reason} {message}", name(service));
                    let pool = service["metadata"]["annotations"][POOL].as_str().unwrap_or("a");
                    ensure!(used[pool].contains_key(&found[0]), "{}: {found:?} is not of {pool}", name(service));
                }
            }
        }
        for pool in ["a", "b"] {
            let eip = control.rest.get(&format!("{POOLS}/{pool}"))?;
            let says = eip["status"]["used"].as_object().cloned().unwrap_or_default();
            let says: BTreeMap<IpAddr, String> = says
                .into_iter()
                .map(|(ip, who)| Ok((ip.parse()?, who.as_str().unwrap_or_default().to_owned())))
                .collect::<Result<_>>()?;
            let is = used.remove(pool).unwrap_or_default();
            let differ: BTreeSet<_> = says.iter().filter(|e| is.get(e.0) != Some(e.1)).map(|e| e.0).collect();
            ensure!(says == is, "pool {pool} says {} are used, {} are; wrong: {differ:?}", says.len(), is.len());
            ensure!(eip["status"]["usage"].as_u64().unwrap_or(0) == is.len() as u64, "{}", eip["status"]);
        }
        Ok(())
    })
}

/// All Services are deleted: their addresses are free again, which a new one shows.
fn all_deleted(installed: &Installed, controller: &Process) -> Result<()> {
    let control = installed.control();
    let mut last = None;
    for service in control.list(SERVICES)? {
        if service["spec"]["type"] == "LoadBalancer" {
            last = addresses(&service).first().copied().filter(|ip| ip.to_string().starts_with("10.2.")).or(last);
            control.rest.delete(&format!("{SERVICES}/{}", service["metadata"]["name"].as_str().unwrap_or_default()))?;
        }
    }
    controller.until("no address is used", secs(30), || {
        for pool in ["a", "b"] {
            let eip = control.rest.get(&format!("{POOLS}/{pool}"))?;
            ensure!(eip["status"]["used"].is_null() && eip["status"]["usage"].is_null(), "{}", eip["status"]);
        }
        Ok(())
    })?;
    let last = last.context("no Service had an address of pool b")?;
    let again = installed.service("again", 1, &json!({POOL: "b", ADDRESS: last}), &json!({}))?;
    ensure!(again == [last], "{again:?}");
    Ok(())
}

fn leader_killed(lab: &Lab) -> Result<()> {
    const KILLS: usize = 5;
    const FLAGS: [&str; 5] = [
        "--leader-elect=true",
        "--leader-elect-lease-duration=1s",
        "--leader-elect-renew-deadline=700ms",
        "--leader-elect-retry-period=100ms",
        "--webhook-port=0",
    ];
    let rng = &mut Rng::with_seed(seed()?);
    let installed = Installed::bare(lab, false)?;
    let rest = installed.control().rest.clone();
    pools(&installed)?;
    let observer = Observer::start(&rest)?;
    let churn = Churn::start(&rest, rng.fork());
    let start = |n: usize| installed.controller(&format!("controller{n}"), 50060 + u16::try_from(n)?, &FLAGS);
    let mut running = vec![start(0)?, start(1)?];
    let mut longest = Duration::ZERO;
    for n in 0..KILLS {
        let end = observer.given() + rng.usize(5..30);
        until("addresses were given", secs(60), || enough(observer.given(), end))?;
        let leader = until("one leads", secs(20), || {
            let lease = rest.get("/apis/coordination.k8s.io/v1/namespaces/openelb-system/leases/openelb-controller")?;
            let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?.to_owned();
            running.iter().position(|c| c.log().contains(&holder)).with_context(|| format!("{holder} is unknown"))
        })?;
        running.remove(leader).kill()?;
        let (at, given) = (Instant::now(), observer.given());
        until_true("the other gives addresses", secs(20), || observer.given() > given + 1)?;
        longest = longest.max(at.elapsed());
        running.push(start(n + 2)?);
    }
    churn.finish()?;
    settled(&installed, &running[0])?;
    println!("{KILLS} leaders killed; the longest time until the other gave an address: {} ms", longest.as_millis());
    observer.finish(&rest)
}
