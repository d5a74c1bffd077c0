//! Random histories: users change things, the controller is killed, writes land or are lost, and are seen late.
#![allow(clippy::unwrap_used)]

mod common;
use api::service::FamilyPolicy;
use api::{Pool, Service, ServiceKey};
use common::*;
use oxelb_ipam::Decision;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const SERVICES: usize = 7;
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.5", "fd00::1"];

#[derive(Debug, Clone)]
enum Op {
    Apply {
        index: usize,
        address: Option<usize>,
        pool: Option<&'static str>,
        dual: u8,
    },
    Delete(usize),
    Unserve(usize),
    Wipe(usize),
    Pool {
        name: &'static str,
        address: &'static str,
        default: bool,
        disable: bool,
        exclude: bool,
    },
    DeletePool(&'static str),
    Reserve(Option<usize>),
    Plan,
    Land(usize),
    /// Its answer is lost; it may land at any time.
    Lose(usize),
    LandLate(usize),
    Observe(usize),
    /// Of what is in flight the API server takes what it has seen, before the next process gets the lease.
    Kill(u8),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..SERVICES;
    let pool = || prop::sample::select(vec!["a", "b"]);
    let address =
        prop::sample::select(vec!["10.0.0.1-10.0.0.3", "10.0.0.2-10.0.0.5", "10.0.0.1,fd00::1-fd00::2", "bad"]);
    prop_oneof![
        6 => (index.clone(), prop::option::of(0..4usize), prop::option::of(pool()), 0..6u8)
            .prop_map(|(index, address, pool, dual)| Op::Apply { index, address, pool, dual }),
        2 => index.clone().prop_map(Op::Delete),
        1 => index.clone().prop_map(Op::Unserve),
        1 => index.clone().prop_map(Op::Wipe),
        3 => (pool(), address, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(name, address, default, disable, exclude)| Op::Pool { name, address, default, disable, exclude }),
        1 => pool().prop_map(Op::DeletePool),
        1 => prop::option::of(0..4usize).prop_map(Op::Reserve),
        5 => Just(Op::Plan),
        8 => index.clone().prop_map(Op::Land),
        2 => index.clone().prop_map(Op::Lose),
        2 => index.clone().prop_map(Op::LandLate),
        8 => index.prop_map(Op::Observe),
        2 => any::<u8>().prop_map(Op::Kill),
        2 => Just(Op::Settle),
    ]
}

struct World {
    c: Cluster,
    in_flight: BTreeMap<ServiceKey, Decision>,
    late: Vec<Decision>,
    /// What each Service, by its uid, was ever decided to have: it may get that back.
    had: BTreeMap<String, BTreeSet<IpAddr>>,
    /// At the last rest: content Services, with what they have, until their user touches them.
    content: BTreeMap<String, Vec<IpAddr>>,
    made: usize,
}

fn name(index: usize) -> String {
    format!("n/{index}")
}

impl World {
    fn new() -> World {
        let mut c = Cluster::default();
        c.late = true;
        World { c, in_flight: BTreeMap::new(), late: vec![], had: BTreeMap::new(), content: BTreeMap::new(), made: 0 }
    }

    fn pools(&self) -> Vec<Pool> {
        self.c.pools.values().filter_map(|p| read(p).ok()).collect()
    }

    fn apply(&mut self, index: usize, address: Option<usize>, pool: Option<&'static str>, policy: u8) {
        let name = name(index);
        self.content.remove(&name);
        let mut s = address.map_or_else(|| service(&name), |a| asking(&name, ADDRESSES[a]));
        s.wanted_pool = pool.map(str::to_owned);
        s = match policy {
            0 => dual(FamilyPolicy::PreferDualStack, s),
            1 => dual(FamilyPolicy::RequireDualStack, s),
            _ => s,
        };
        // Ports never change: 0, 3 and 6 clash, and so on.
        s = on_port(s, 80 + index as u16 % 3);
        s.uid = match self.c.services.get(&s.key) {
            Some(old) => old.uid.clone(),
            None => {
                self.made += 1;
                format!("{}", self.made)
            }
        };
        self.c.apply(s);
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let exists = |w: &World, i: usize| w.c.services.contains_key(&key(&name(i)));
        match op {
            Op::Apply { index, address, pool, dual } => self.apply(index, address, pool, dual),
            Op::Delete(i) => {
                self.content.remove(&name(i));
                self.c.delete(&name(i));
            }
            Op::Unserve(i) if exists(self, i) => {
                self.content.remove(&name(i));
                self.c.edit(&name(i), |s| s.served = false);
            }
            Op::Wipe(i) if exists(self, i) => {
                // Before a restart this is lost for good, but for what `status.used` says.
                self.content.remove(&name(i));
                self.c.edit(&name(i), |s| (s.ingress, s.has_ingress) = (vec![], false));
            }
            Op::Pool { name, address, default, disable, exclude } => {
                let e = if default { eip(name, address) } else { plain(name, address) };
                self.c.pool(with(e, |s| {
                    s.disable = Some(disable);
                    s.exclude = exclude.then(|| "10.0.0.2".to_owned());
                }));
            }
            Op::DeletePool(name) => self.c.delete_pool(name),
            Op::Reserve(which) => {
                self.c.reserved =
                    which.map(|a| (ip(ADDRESSES[a]), "it is the gateway".to_owned())).into_iter().collect();
                self.c.ipam.set_reserved(self.c.reserved.clone());
            }
            Op::Plan => self.plan()?,
            Op::Land(i) => {
                if let Some(decision) = self.in_flight.remove(&key(&name(i))) {
                    self.c.land(&decision);
                }
            }
            Op::Lose(i) => {
                if let Some(decision) = self.in_flight.remove(&key(&name(i))) {
                    self.late.push(decision);
                    self.c.ipam.retry(&key(&name(i)));
                }
            }
            Op::LandLate(i) if i < self.late.len() => {
                self.c.land(&self.late.swap_remove(i));
            }
            Op::Observe(i) => self.c.observe(&key(&name(i))),
            Op::Kill(landed) => {
                let in_flight = std::mem::take(&mut self.in_flight).into_values().chain(std::mem::take(&mut self.late));
                for (n, decision) in in_flight.enumerate() {
                    if landed >> (n % 8) & 1 == 1 {
                        self.c.land(&decision);
                    }
                }
                self.restart();
            }
            Op::Settle => self.settle()?,
            Op::Unserve(_) | Op::Wipe(_) | Op::LandLate(_) => {}
        }
        self.no_address_twice()
    }

    fn restart(&mut self) {
        self.c.restart();
        self.had = self.c.services.values().map(|s| (s.uid.clone(), s.ingress.iter().copied().collect())).collect();
    }

    fn plan(&mut self) -> Result<(), TestCaseError> {
        let pools = self.pools();
        for decision in self.c.ipam.plan().services {
            let read = self.c.ipam.service(&decision.service).unwrap().clone();
            let had = self.had.entry(decision.uid.clone()).or_default();
            for ip in decision.ingress.iter().flatten().filter(|ip| !read.ingress.contains(ip) && !had.contains(ip)) {
                let open = pools.iter().any(|p| !p.disabled && p.allocatable.contains(*ip));
                prop_assert!(open && !self.c.reserved.contains_key(ip), "{:?} was given {}", read, ip);
                let shown = self.c.services.values().filter(|s| s.uid != read.uid && s.ingress.contains(ip)).count();
                prop_assert!(shown == 0 || read.wanted_addresses.contains(&Ok(*ip)), "{:?} joined at {}", read, ip);
            }
            had.extend(decision.addresses.iter().chain(&read.ingress));
            self.in_flight.insert(decision.service.clone(), decision);
        }
        Ok(())
    }

    fn no_address_twice(&self) -> Result<(), TestCaseError> {
        let mut seen: BTreeMap<(IpAddr, u16), &ServiceKey> = BTreeMap::new();
        for s in self.c.services.values() {
            for ip in &s.ingress {
                if let Some(other) = seen.insert((*ip, s.ports[0].port), &s.key) {
                    return Err(TestCaseError::fail(format!("{ip} of both {other} and {}", s.key)));
                }
            }
        }
        Ok(())
    }

    /// Every write lands and everything is seen.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.in_flight.clear();
        self.late.clear();
        (0..SERVICES).for_each(|i| {
            self.c.observe(&key(&name(i)));
            self.c.ipam.retry(&key(&name(i)));
        });
        self.c.settle();

        for (name, before) in &self.content {
            let after = &self.c.services[&key(name)].ingress;
            prop_assert!(before.iter().all(|ip| after.contains(ip)), "{} moved from {:?} to {:?}", name, before, after);
        }
        self.content = self
            .c
            .services
            .values()
            .filter(|s| s.served && !s.ingress.is_empty())
            .filter_map(|s| {
                let name = s.key.to_string();
                (self.c.condition(&name).status == "True").then(|| (name, s.ingress.clone()))
            })
            .collect();
        self.nobody_waits_needlessly()?;
        for pool in self.pools() {
            let report = self.c.ipam.report(&pool.name).unwrap();
            let shown: BTreeSet<String> = self
                .c
                .services
                .values()
                .flat_map(|s| &s.ingress)
                .filter(|ip| pool.addresses.contains(**ip))
                .map(ToString::to_string)
                .collect();
            prop_assert_eq!(shown, report.status.used.keys().cloned().collect::<BTreeSet<_>>());
        }
        self.restart();
        prop_assert_eq!(self.c.settle().services, vec![]);
        Ok(())
    }

    /// The rules again, simply: for Services with one family and without an address.
    fn nobody_waits_needlessly(&self) -> Result<(), TestCaseError> {
        let pools: Vec<Pool> = self.pools().into_iter().filter(|p| !p.disabled).collect();
        let single = |s: &&Service| s.family_policy == FamilyPolicy::SingleStack && s.served && s.ingress.is_empty();
        for s in self.c.services.values().filter(single) {
            let in_use = |ip: IpAddr| {
                let mut others = self.c.services.values().filter(|o| o.ingress.contains(&ip));
                let asked = s.wanted_addresses.contains(&Ok(ip));
                others.any(|o| !asked || o.ports == s.ports) || self.c.reserved.contains_key(&ip)
            };
            let v4: Vec<IpAddr> = (0..8).map(|n| ip(&format!("10.0.0.{n}"))).collect();
            let mut candidates = pools.iter().filter(|p| s.wanted_pool.as_ref().is_none_or(|w| *w == p.name));
            let free = match s.wanted_addresses.first() {
                Some(Ok(ip)) if ip.is_ipv6() => continue,
                Some(Ok(ip)) => {
                    // The first of all pools that contains it counts, also when that one is disabled.
                    let all = self.pools();
                    let first = all.iter().find(|p| p.addresses.contains(*ip)).map(|p| p.name.clone());
                    candidates
                        .find(|p| {
                            p.allocatable.contains(*ip) && (s.wanted_pool.is_some() || Some(&p.name) == first.as_ref())
                        })
                        .into_iter()
                        .any(|_| !in_use(*ip))
                }
                _ => {
                    let has_v4 = |p: &&Pool| p.allocatable.has_family(api::Family::V4);
                    let pool = candidates.filter(has_v4).find(|p| s.wanted_pool.is_some() || p.default);
                    pool.is_some_and(|p| v4.iter().any(|ip| p.allocatable.contains(*ip) && !in_use(*ip)))
                }
            };
            prop_assert!(!free, "{} waits needlessly: {:?}", s.key, self.c.condition(&s.key.to_string()));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_history_gives_an_address_twice_or_moves_a_content_service(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.step(op)?;
        }
        world.settle()?;
    }
}
