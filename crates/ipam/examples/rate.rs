//! How long an address takes, as one line of JSON, in nanoseconds on the CPU, the median of several rounds:
//! `decision` is all of [`Ipam::plan`] for a new Service, `allocation` the part of it that chooses the address and takes
//! it. The rest, which the same call needs once more for the same Services, is what to tell: label, condition, event.
//! Run it with `--release`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use api::{Eip, EipSpec, Family, Pool, Service, ServiceKey, keys};
use oxelb_ipam::Ipam;
use rustix::time::{ClockId, clock_gettime};

fn pool(address: &str) -> Pool {
    let mut eip = Eip::new("pool", EipSpec { address: address.to_owned(), ..EipSpec::default() });
    eip.metadata.annotations = Some([(keys::DEFAULT_POOL.to_owned(), "true".to_owned())].into());
    Pool::try_from(&eip).unwrap()
}

/// Nanoseconds that this thread has run: others on the machine do not count.
fn on_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn service(n: u32, family: Family) -> Service {
    let key = ServiceKey::new("default", &format!("service-{n:06}"));
    Service { key, uid: n.to_string(), served: true, families: vec![family], ..Service::default() }
}

/// Nanoseconds a Service of a plan that decides for `count`.
fn plan(ipam: &mut Ipam, count: u32) -> u64 {
    let start = on_cpu();
    let plan = ipam.plan();
    let took = on_cpu() - start;
    assert!(plan.services.iter().filter(|d| d.addresses.len() == 1).count() == count as usize);
    took / u64::from(count)
}

/// Gives `count` addresses of a pool whose first ones are `used`, but for `holes` between them.
fn measure(name: &str, range: &str, family: Family, used: u32, holes: u32, count: u32) -> String {
    let mut ipam = Ipam::new();
    let pool = pool(range);
    let (first, _) = pool.addresses.ranges()[0].numbers();
    ipam.set_pool("pool", Ok(pool));
    let every = (used + holes).checked_div(holes).unwrap_or(u32::MAX);
    for n in (0..used + holes).filter(|n| n % every != 0).take(used as usize) {
        let wanted_addresses = vec![Ok(family.address(first + u128::from(n)))];
        ipam.set_service(Service { wanted_addresses, ..service(n, family) });
    }
    ipam.plan();
    let (mut allocation, mut decision) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let new: Vec<Service> = (0..count).map(|n| service(1_000_000 + n, family)).collect();
        let names: Vec<ServiceKey> = new.iter().map(|s| s.key.clone()).collect();
        new.into_iter().for_each(|s| ipam.set_service(s));
        let first = plan(&mut ipam, count);
        names.iter().for_each(|name| ipam.retry(name));
        let rest = plan(&mut ipam, count);
        decision.push(first);
        allocation.push(first.saturating_sub(rest));
        names.iter().for_each(|name| ipam.remove_service(name));
    }
    let median = |mut rounds: Vec<u64>| {
        rounds.sort_unstable();
        rounds[rounds.len() / 2]
    };
    format!(r#""{name}":{{"allocation":{},"decision":{}}}"#, median(allocation), median(decision))
}

fn main() {
    let results = [
        measure("ipv4_16_filled_99_percent", "10.0.0.0/16", Family::V4, 64_880, 656, 656),
        measure("ipv6_64", "fd00::/64", Family::V6, 0, 0, 656),
        measure("ipv6_64_with_9000_used", "fd00::/64", Family::V6, 9_000, 1_000, 1_000),
    ];
    println!(r#"{{"bench":"ipam","unit":"ns/address",{}}}"#, results.join(","));
}
