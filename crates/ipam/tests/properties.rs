//! What holds for any pools and Services, read in any order.
#![allow(clippy::unwrap_used)]

mod common;
use api::service::FamilyPolicy;
use api::{Eip, Family, Service};
use common::*;
use oxelb_ipam::Ipam;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

fn pools() -> impl Strategy<Value = Vec<Eip>> {
    let pool = |name: &'static str, address: &'static str| {
        let change = (any::<bool>(), prop::option::of(-1i64..2), any::<bool>(), any::<bool>(), any::<bool>());
        change.prop_map(move |(default, priority, own, disable, exclude)| {
            with(if default { eip(name, address) } else { plain(name, address) }, |s| {
                s.priority = priority;
                s.namespaces = own.then(|| vec!["n".to_owned()]);
                s.disable = Some(disable);
                s.exclude = exclude.then(|| "10.0.0.2,10.0.0.10-10.0.0.12,fd00::1".to_owned());
            })
        })
    };
    // Two overlap, as they may while no webhook is there.
    (pool("a", "10.0.0.0-10.0.0.5"), pool("b", "10.0.0.4-10.0.0.12"), pool("c", "fd00::/126,10.0.1.0/30"))
        .prop_map(|(a, b, c)| vec![a, b, c])
}

fn wish(index: usize) -> impl Strategy<Value = Service> {
    let address = prop::option::of(prop::sample::select(vec!["10.0.0.1", "10.0.0.4", "10.0.0.11", "10.0.9.9"]));
    let pool = prop::option::of(prop::sample::select(vec!["a", "b", "c", "a,c", "none"]));
    (address, pool, 80u16..83, 0..4, any::<bool>()).prop_map(move |(address, pool, port, policy, own)| {
        let name = format!("{}/{index}", if own { "n" } else { "m" });
        let mut s = on_port(address.map_or_else(|| service(&name), |a| asking(&name, a)), port);
        s.wanted_pool = pool.map(str::to_owned);
        match policy {
            0 => s.families = vec![Family::V6],
            1 => s = dual(FamilyPolicy::PreferDualStack, s),
            2 => s = dual(FamilyPolicy::RequireDualStack, s),
            _ => {}
        }
        s
    })
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    (0..24).map(|i| wish(i).boxed()).collect::<Vec<_>>()
}

/// Who has an address, by the Services' status.
fn given(c: &Cluster) -> BTreeMap<IpAddr, Vec<&Service>> {
    let mut given: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for s in c.services.values() {
        s.ingress.iter().for_each(|ip| given.entry(*ip).or_default().push(s));
    }
    given
}

proptest! {
    #[test]
    fn an_address_is_given_once_from_an_open_pool_and_never_when_excluded(pools in pools(), services in services()) {
        let mut c = Cluster::new(pools);
        services.into_iter().for_each(|s| c.apply(s));
        c.settle();
        for (ip, holders) in given(&c) {
            let open = c.pools.values().map(|p| read(p).unwrap()).filter(|p| !p.disabled);
            prop_assert!(open.into_iter().any(|p| p.allocatable.contains(ip)), "{}", ip);
            let unasked = holders.iter().filter(|s| !s.wanted_addresses.contains(&Ok(ip))).count();
            prop_assert!(unasked <= 1, "{} was given to {} that did not ask for it", ip, unasked);
            let mut ports: Vec<_> = holders.iter().flat_map(|s| s.ports.clone()).collect();
            ports.sort();
            ports.dedup();
            prop_assert_eq!(ports.len(), holders.len(), "clashing ports at {}", ip);
        }
        for s in c.services.values() {
            prop_assert!(s.ingress.iter().all(|ip| s.families.contains(&Family::of(*ip))));
            prop_assert!(s.family_policy != FamilyPolicy::RequireDualStack || s.ingress.len() != 1);
            prop_assert_eq!(s.ingress.is_empty(), s.pool_label.is_none());
        }
    }

    #[test]
    fn the_order_of_reading_changes_nothing(
        pools in Just(()).prop_flat_map(|()| pools()).prop_shuffle(),
        services in services().prop_shuffle(),
        had in prop::collection::vec(prop::option::of(0u8..13), 24),
    ) {
        let services: Vec<Service> = services.into_iter().zip(had).map(|(mut s, had)| {
            // Any mess in the status, one address claimed by several too.
            s.ingress = had.map(|n| ip(&format!("10.0.0.{n}"))).into_iter().collect();
            s.pool_label = had.filter(|n| n % 2 == 0).map(|_| "a".to_owned());
            s
        }).collect();
        let plan = |pools: Vec<&Eip>, services: Vec<&Service>| {
            let mut ipam = Ipam::new();
            services.into_iter().for_each(|s| ipam.set_service(s.clone()));
            pools.into_iter().for_each(|p| ipam.set_pool(p.metadata.name.as_deref().unwrap(), read(p)));
            ipam.plan()
        };
        let forward = plan(pools.iter().collect(), services.iter().collect());
        prop_assert_eq!(forward, plan(pools.iter().rev().collect(), services.iter().rev().collect()));
    }

    #[test]
    fn a_restart_changes_nothing(pools in pools(), services in services(), together in any::<bool>()) {
        let mut c = Cluster::new(pools);
        for s in services {
            c.apply(s);
            if !together { c.settle(); }
        }
        c.settle();
        c.restart();
        prop_assert_eq!(c.settle().services, vec![]);
        c.ipam.restart();
        prop_assert_eq!(c.settle().services, vec![]);
    }

    #[test]
    fn what_openelb_gave_stays(pools in pools(), had in prop::collection::vec((0u8..13, any::<bool>(), any::<bool>()), 12)) {
        let mut c = Cluster::new(pools);
        let mut expected = BTreeMap::new();
        for (n, (address, asked, wiped)) in had.into_iter().enumerate() {
            // Ports differ, so that any two may have had the same address.
            let (name, address) = (format!("n/{n}"), format!("10.0.0.{address}"));
            let s = on_port(if asked { asking(&name, &address) } else { service(&name) }, n as u16);
            let pool = if ip(&address) < ip("10.0.0.6") { "a" } else { "b" };
            if wiped {
                c.apply(s);
                c.openelb_recorded(pool, &address, &key(&name));
            } else {
                c.openelb_gave(s, pool, &address);
            }
            expected.insert(name, address);
        }
        c.restart();
        c.settle();
        for (name, address) in expected {
            prop_assert_eq!(c.has(&name), address);
        }
    }

    #[test]
    fn every_release_is_found_again(sizes in prop::collection::vec(0usize..20, 1..6)) {
        let mut c = Cluster::new([eip("p", "10.0.0.0/28,fd00::/124")]);
        for size in sizes {
            let present = c.services.len();
            for n in size..present {
                if n % 2 == 0 { c.delete(&format!("n/{n:02}")) } else { c.edit(&format!("n/{n:02}"), |s| s.served = false) }
            }
            c.settle();
            c.services.retain(|_, s| s.served);
            (present..size).for_each(|n| c.apply(dual(FamilyPolicy::RequireDualStack, service(&format!("n/{n:02}")))));
            c.settle();
            let have = c.services.values().filter(|s| s.ingress.len() == 2).count();
            prop_assert_eq!(have, size.min(16));
            let status = c.ipam.report("p").unwrap().status;
            prop_assert_eq!((status.usage, status.occupied), (2 * have as i64, have == 16));
        }
    }
}
