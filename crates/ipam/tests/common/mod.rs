//! A cluster of two objects' kinds, kept by hand: what [`Decision`]s write is what is read next.
#![allow(dead_code)] // each test program uses a part
#![allow(clippy::unwrap_used, clippy::panic)]

use api::service::{FamilyPolicy, Port};
use api::{Condition, Eip, EipSpec, Family, InvalidPool, Pool, Service, ServiceKey, keys};
use oxelb_ipam::{Decision, Ipam, Plan};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

/// A pool for bgp, the default one.
pub fn eip(name: &str, address: &str) -> Eip {
    let mut eip = Eip::new(name, EipSpec { address: address.to_owned(), ..EipSpec::default() });
    eip.metadata.annotations = Some([(keys::DEFAULT_POOL.to_owned(), "true".to_owned())].into());
    eip
}

/// Not the default pool.
pub fn plain(name: &str, address: &str) -> Eip {
    Eip { metadata: Eip::new(name, EipSpec::default()).metadata, ..eip(name, address) }
}

pub fn with(mut eip: Eip, change: impl FnOnce(&mut EipSpec)) -> Eip {
    change(&mut eip.spec);
    eip
}

/// A Service with TCP/80, IPv4.
pub fn service(name: &str) -> Service {
    Service {
        key: key(name),
        uid: format!("uid of {name}"),
        served: true,
        families: vec![Family::V4],
        ports: vec![Port { protocol: "TCP".to_owned(), port: 80 }],
        selector: [("app".to_owned(), name.replace('/', "-"))].into(),
        ..Service::default()
    }
}

pub fn asking(name: &str, address: &str) -> Service {
    Service {
        wanted_addresses: address.split(',').map(|a| a.parse().map_err(|_| a.to_owned())).collect(),
        ..service(name)
    }
}

pub fn in_pool(name: &str, pool: &str) -> Service {
    Service { wanted_pool: Some(pool.to_owned()), ..service(name) }
}

pub fn on_port(mut service: Service, port: u16) -> Service {
    service.ports = vec![Port { protocol: "TCP".to_owned(), port }];
    service
}

pub fn dual(policy: FamilyPolicy, mut service: Service) -> Service {
    service.families = vec![Family::V4, Family::V6];
    service.family_policy = policy;
    service
}

/// What an API server would hold, and an allocator that reads from it and writes to it.
#[derive(Default)]
pub struct Cluster {
    pub ipam: Ipam,
    pub pools: BTreeMap<String, Eip>,
    pub services: BTreeMap<ServiceKey, Service>,
    pub reserved: BTreeMap<IpAddr, String>,
    /// The allocator reads Services only when told to, by [`Cluster::observe`].
    pub late: bool,
    version: u64,
    /// Every event that was told, as `key warning? reason: message`.
    pub events: Vec<String>,
}

impl Cluster {
    pub fn new(pools: impl IntoIterator<Item = Eip>) -> Cluster {
        let mut cluster = Cluster::default();
        pools.into_iter().for_each(|p| cluster.pool(p));
        cluster
    }

    pub fn pool(&mut self, eip: Eip) {
        let name = eip.metadata.name.clone().unwrap();
        self.ipam.set_pool(&name, read(&eip));
        self.pools.insert(name, eip);
    }

    pub fn change_pool(&mut self, name: &str, change: impl FnOnce(&mut EipSpec)) {
        let eip = with(self.pools[name].clone(), change);
        self.pool(eip);
    }

    pub fn delete_pool(&mut self, name: &str) {
        self.pools.remove(name);
        self.ipam.remove_pool(name);
    }

    pub fn reserve(&mut self, address: &str, why: &str) {
        self.reserved.insert(ip(address), why.to_owned());
        self.ipam.set_reserved(self.reserved.clone());
    }

    /// The user applies a Service; its status, label and finalizers stay as they are.
    pub fn apply(&mut self, new: Service) {
        self.write(new, |new, old| {
            new.ingress = old.ingress.clone();
            new.has_ingress = old.has_ingress;
            new.pool_label = old.pool_label.clone();
            new.legacy_finalizer = old.legacy_finalizer;
            new.conditions = old.conditions.clone();
        });
    }

    pub fn edit(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        let mut service = self.services[&key(name)].clone();
        change(&mut service);
        self.write(service, |_, _| {});
    }

    fn write(&mut self, mut new: Service, keep: impl FnOnce(&mut Service, &Service)) {
        if let Some(old) = self.services.get(&new.key) {
            keep(&mut new, old);
        }
        self.version += 1;
        new.resource_version = self.version.to_string();
        self.services.insert(new.key.clone(), new.clone());
        if !self.late {
            self.ipam.set_service(new);
        }
    }

    pub fn delete(&mut self, name: &str) {
        self.services.remove(&key(name));
        if !self.late {
            self.ipam.remove_service(&key(name));
        }
    }

    /// Plans and lets every write land, until there is nothing to write.
    pub fn settle(&mut self) -> Plan {
        let first = self.ipam.plan();
        let mut plan = first.clone();
        for _ in 0..10 {
            if plan.services.is_empty() {
                return first;
            }
            for decision in &plan.services {
                assert!(self.land(decision));
                self.observe(&decision.service);
            }
            plan = self.ipam.plan();
        }
        panic!("never settles: {plan:?}");
    }

    /// The API server takes the write, unless the Service has changed.
    pub fn land(&mut self, decision: &Decision) -> bool {
        let Some(service) = self.services.get_mut(&decision.service) else { return false };
        if service.resource_version != decision.resource_version {
            return false;
        }
        self.version += 1;
        let time = format!("2026-11-23T00:00:{:02}.{:09}Z", 0, self.version);
        service.resource_version = self.version.to_string();
        if let Some(ingress) = &decision.ingress {
            service.ingress = ingress.clone();
            service.has_ingress = !ingress.is_empty();
        }
        if let Some(label) = &decision.pool_label {
            service.pool_label = label.clone();
        }
        if let Some(condition) = &decision.condition {
            let stamped = condition.clone().stamped(service.condition(&condition.type_), &time);
            service.conditions.retain(|c| c.type_ != stamped.type_);
            service.conditions.push(stamped);
        }
        service.conditions.retain(|c| !decision.remove_conditions.contains(&c.type_));
        service.legacy_finalizer &= !decision.remove_finalizer;
        for e in &decision.events {
            let warning = if e.warning { "Warning " } else { "" };
            self.events.push(format!("{} {warning}{}: {}", decision.service, e.reason, e.message));
        }
        true
    }

    /// The allocator reads a Service as it is now.
    pub fn observe(&mut self, key: &ServiceKey) {
        match self.services.get(key) {
            Some(service) => self.ipam.set_service(service.clone()),
            None => self.ipam.remove_service(key),
        }
    }

    /// A new process, which reads everything; pools with the status that was last written, if any.
    pub fn restart(&mut self) {
        self.ipam = Ipam::new();
        self.ipam.set_reserved(self.reserved.clone());
        for (name, eip) in self.pools.iter().rev() {
            self.ipam.set_pool(name, read(eip));
        }
        for service in self.services.values().rev() {
            self.ipam.set_service(service.clone());
        }
    }

    /// What OpenELB left: a Service with address, label and finalizer, and the record in the pool.
    pub fn openelb_gave(&mut self, service: Service, pool: &str, address: &str) {
        self.openelb_recorded(pool, address, &service.key);
        let ingress = vec![ip(address)];
        let service = Service {
            ingress,
            has_ingress: true,
            pool_label: Some(pool.to_owned()),
            legacy_finalizer: true,
            ..service
        };
        self.write(service, |_, _| {});
    }

    pub fn openelb_recorded(&mut self, pool: &str, address: &str, key: &ServiceKey) {
        let eip = self.pools.get_mut(pool).unwrap();
        let used = eip.status.get_or_insert_default().used.entry(address.to_owned()).or_default();
        *used = if used.is_empty() { key.to_string() } else { format!("{used};{key}") };
    }

    /// The addresses in the status of a Service, joined by a comma.
    pub fn has(&self, name: &str) -> String {
        let addresses = self.services[&key(name)].ingress.iter().map(ToString::to_string);
        addresses.collect::<Vec<_>>().join(",")
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.services[&key(name)].pool_label.as_deref()
    }

    pub fn condition(&self, name: &str) -> &Condition {
        self.services[&key(name)].condition(keys::ADDRESS_ASSIGNED).unwrap()
    }

    /// Asserts that the condition has this status and reason and that its message has this part.
    #[track_caller]
    pub fn says(&self, name: &str, status: &str, reason: &str, part: &str) {
        let c = self.condition(name);
        assert_eq!((c.status.as_str(), c.reason.as_str()), (status, reason), "{}", c.message);
        assert!(c.message.contains(part), "{:?} lacks {part:?}", c.message);
    }

    pub fn told(&self, part: &str) -> bool {
        self.events.iter().any(|e| e.contains(part))
    }

    pub fn used(&self, pool: &str) -> Vec<(String, String)> {
        self.ipam.report(pool).unwrap().status.used.into_iter().collect()
    }
}

pub fn read(eip: &Eip) -> Result<Pool, InvalidPool> {
    Pool::try_from(eip)
}
