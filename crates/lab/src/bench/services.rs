//! Services in numbers: created and deleted on many connections, seen by a watch, and served by a bare client, the floor
//! of what a controller can do.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::rest::Rest;
use crate::wait::millis;

/// Where all Services of the benchmarks are.
pub const NAMESPACE: &str = "bench";
/// The pool that they name.
pub const POOL: &str = "bench";
/// As many writes as the controller has on their way at once.
pub const CONCURRENCY: usize = 32;
const PATH: &str = "/api/v1/namespaces/bench/services";

/// A Service named GROUP-NUMBER; one that is not `ours` differs only in the value of the opt-in.
pub fn service(group: &str, number: usize, ours: bool) -> Value {
    let opt_in = if ours { "openelb" } else { "another" };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": NAMESPACE, "name": name(group, number), "labels": {"bench": group},
            "annotations": {
                "lb.kubesphere.io/v1alpha1": opt_in,
                "protocol.openelb.kubesphere.io/v1alpha1": "layer2",
                "eip.openelb.kubesphere.io/v1alpha2": POOL,
            },
        },
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {"app": "bench"},
            "ports": [{"name": "http", "port": 80}],
        },
    })
}

/// One whose address comes from the pool `bgp`.
pub fn of_bgp(group: &str, number: usize) -> Value {
    let mut service = service(group, number, true);
    service["metadata"]["annotations"]["protocol.openelb.kubesphere.io/v1alpha1"] = json!("bgp");
    service["metadata"]["annotations"]["eip.openelb.kubesphere.io/v1alpha2"] = json!("bgp");
    service
}

/// The name of a Service of a group.
pub fn name(group: &str, number: usize) -> String {
    format!("{group}-{number:05}")
}

/// Does `work` for each item, on as many connections as the controller has writes.
pub fn on_all<T: Sync>(rest: &Rest, items: &[T], work: impl Fn(&Rest, &T) -> Result<()> + Sync) -> Result<()> {
    let next = Mutex::new(items.iter());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        let worker = || {
            let rest = rest.clone();
            while let Some(item) = take() {
                work(&rest, item)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..CONCURRENCY).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

/// Creates so many Services; returns when the last one is.
pub fn create(rest: &Rest, numbers: std::ops::Range<usize>, service: impl Fn(usize) -> Value + Sync) -> Result<()> {
    let numbers: Vec<usize> = numbers.collect();
    on_all(rest, &numbers, |rest, number| rest.create(&service(*number)).map(drop))
}

/// Deletes all Services of a group.
pub fn clear(rest: &Rest, group: &str) -> Result<()> {
    let names: Vec<String> = list(rest, group)?.into_iter().filter_map(|s| text(&s["metadata"]["name"])).collect();
    on_all(rest, &names, |rest, name| rest.delete(&format!("{PATH}/{name}")).map(drop))
}

/// All Services of a group.
pub fn list(rest: &Rest, group: &str) -> Result<Vec<Value>> {
    match rest.get(&format!("{PATH}?labelSelector=bench%3D{group}"))?["items"].take() {
        Value::Array(items) => Ok(items),
        other => bail!("not a list of Services: {other}"),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// When a Service was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The watch told of it.
    pub created: Instant,
    /// The watch told of its address.
    pub assigned: Option<(Instant, IpAddr)>,
}

/// A watch of all Services, as any other program in the cluster may have one.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    seen: Arc<(Mutex<BTreeMap<String, Seen>>, Condvar)>,
}

impl Observer {
    /// Starts to watch; ends with the program.
    pub fn start(rest: &Rest) -> Result<Observer> {
        let (observer, rest) = (Observer::default(), rest.clone());
        let mut watch = rest.watch(PATH)?;
        let own = observer.clone();
        thread::spawn(move || {
            loop {
                for event in watch.by_ref().map_while(Result::ok) {
                    own.note(&event);
                }
                // The server ended it; the next one tells of everything again.
                match rest.watch(PATH) {
                    Ok(again) => watch = again,
                    Err(_) => thread::sleep(millis(100)),
                }
            }
        });
        Ok(observer)
    }

    fn note(&self, event: &Value) {
        let now = Instant::now();
        let object = &event["object"];
        let Some(name) = text(&object["metadata"]["name"]) else { return };
        let ip = object["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().and_then(|ip| ip.parse().ok());
        let mut seen = self.lock();
        let entry = seen.entry(name).or_insert(Seen { created: now, assigned: None });
        if let Some(ip) = ip {
            entry.assigned.get_or_insert((now, ip));
        }
        drop(seen);
        self.seen.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a Service has an address: when it was created, when it had it, and which.
    pub fn assigned(&self, name: &str, within: Duration) -> Result<(Instant, Instant, IpAddr)> {
        let end = Instant::now() + within;
        let mut seen = self.lock();
        loop {
            if let Some(Seen { created, assigned: Some((at, ip)) }) = seen.get(name) {
                return Ok((*created, *at, *ip));
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{name} has no address after {} s", within.as_secs());
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until this many Services of a group have addresses: the moment of the last one, and the addresses.
    pub fn all_assigned(&self, group: &str, count: usize, within: Duration) -> Result<(Instant, Vec<IpAddr>)> {
        let end = Instant::now() + within;
        let prefix = format!("{group}-");
        loop {
            let assigned: Vec<(Instant, IpAddr)> = {
                let seen = self.lock();
                let group = seen.iter().filter(|(name, _)| name.starts_with(&prefix));
                group.filter_map(|(_, seen)| seen.assigned).collect()
            };
            if assigned.len() >= count {
                let last = assigned.iter().map(|(at, _)| *at).max().context("no Service")?;
                return Ok((last, assigned.into_iter().map(|(_, ip)| ip).collect()));
            }
            ensure!(Instant::now() < end, "{} of {count} Services have addresses", assigned.len());
            thread::sleep(millis(20));
        }
    }
}

/// What the controller writes into a Service, so that the floor writes the same.
#[derive(Clone, Debug)]
pub struct Template {
    labels: Value,
    conditions: Value,
}

impl Template {
    /// Reads it from a Service that the controller has served.
    pub fn of(rest: &Rest, name: &str) -> Result<Template> {
        let service = rest.get(&format!("{PATH}/{name}"))?;
        let mut labels = service["metadata"]["labels"].clone();
        labels.as_object_mut().context("no labels")?.remove("bench");
        let mut conditions = service["status"]["conditions"].clone();
        conditions.as_array_mut().context("no conditions")?.retain(|c| c["type"] == "openelb.io/AddressAssigned");
        Ok(Template { labels, conditions })
    }

    /// Writes it, with this address, into a Service as it was read.
    fn write(&self, rest: &Rest, service: &Value, number: u32) -> Result<()> {
        let metadata = &service["metadata"];
        let name = metadata["name"].as_str().context("a Service without name")?;
        let address = std::net::Ipv4Addr::from(0x0a41_0000 + number);
        let patch = json!({
            "metadata": {"resourceVersion": metadata["resourceVersion"], "labels": self.labels},
            "status": {
                "loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]},
                "conditions": self.conditions,
            },
        });
        rest.merge(&format!("{PATH}/{name}/status"), &patch).map(drop)
    }

    /// The floor of latency: watches a group and gives an address to every Service that appears, until the program ends.
    pub fn serve(self, rest: &Rest, group: &str) -> Result<()> {
        let watch = rest.watch(&format!("{PATH}?labelSelector=bench%3D{group}"))?;
        let rest = rest.clone();
        thread::spawn(move || {
            for (event, number) in watch.map_while(Result::ok).zip(1..) {
                let service = &event["object"];
                if event["type"] == "ADDED" && self.write(&rest, service, number).is_err() {
                    return; // who waits for the address says so
                }
            }
        });
        Ok(())
    }

    /// The floor of throughput: reads a group and gives each of its Services an address, as many at once as the
    /// controller.
    pub fn serve_all(&self, rest: &Rest, group: &str) -> Result<usize> {
        let services: Vec<(u32, Value)> = (1..).zip(list(rest, group)?).collect();
        on_all(rest, &services, |rest, (number, service)| self.write(rest, service, *number))?;
        Ok(services.len())
    }
}
