//! What the status of a pool says.

use crate::ipam::Ipam;
use crate::table::Holders;
use api::{AddressSet, EipStatus, ServiceKey};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An object of the API server takes 1.5 MiB; `used` is for readers, and what does not fit is only counted.
const LONGEST_USED: usize = 1_000_000;

/// What is so with a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolReport {
    /// Its status, without conditions. `used` names the Services of an address in the order in which they came; above
    /// one megabyte of text the highest addresses are left out, `usage` counts them.
    pub status: EipStatus,
    /// Its addresses that something else has, and what; they are not given out.
    pub reserved: BTreeMap<IpAddr, String>,
    /// The addresses that Services keep although they are excluded or something else has them.
    pub kept: BTreeMap<IpAddr, Vec<ServiceKey>>,
}

impl Ipam {
    /// What is so with a pool; `None` when there is none of the name or it is invalid. Its cost grows with the number of
    /// its addresses in use.
    pub fn report(&self, pool: &str) -> Option<PoolReport> {
        let state = self.pool(pool)?;
        let pool = &state.pool;
        let ranges = pool.addresses.ranges();
        let mut status = EipStatus {
            occupied: state.free.is_empty(),
            pool_size: i64::try_from(pool.addresses.size()).unwrap_or(i64::MAX),
            first_ip: ranges.first().map(|r| r.first().to_string()).unwrap_or_default(),
            last_ip: ranges.last().map(|r| r.last().to_string()).unwrap_or_default(),
            v4: pool.addresses.has_family(api::Family::V4),
            ..EipStatus::default()
        };
        let (mut length, mut kept) = (0, BTreeMap::new());
        for (ip, services) in self.held_in(&pool.addresses) {
            status.usage += 1;
            let services: Vec<&ServiceKey> = self.keys(services).collect();
            let names: Vec<String> = services.iter().map(ToString::to_string).collect();
            let (ip_text, names) = (ip.to_string(), names.join(";"));
            length += ip_text.len() + names.len() + 8;
            if length <= LONGEST_USED {
                status.used.insert(ip_text, names);
            }
            if !pool.allocatable.contains(*ip) || self.reserved.contains_key(ip) {
                kept.insert(*ip, services.into_iter().cloned().collect());
            }
        }
        let reserved = ranges.iter().flat_map(|r| self.reserved.range(r.first()..=r.last()));
        Some(PoolReport { status, reserved: reserved.map(|(ip, why)| (*ip, why.clone())).collect(), kept })
    }

    /// Who has which of these addresses, also before the first [`Ipam::plan`]. Its cost grows with the number of Services.
    pub fn in_use(&self, addresses: &AddressSet) -> BTreeMap<IpAddr, Vec<ServiceKey>> {
        let mut found: BTreeMap<IpAddr, Vec<ServiceKey>> = BTreeMap::new();
        for entry in self.services.iter() {
            let has: &[IpAddr] = if entry.held.is_empty() { &entry.service.ingress } else { &entry.held };
            for ip in has.iter().filter(|ip| addresses.contains(**ip)) {
                found.entry(*ip).or_default().push(entry.service.key.clone());
            }
        }
        found
    }

    pub(crate) fn held_in(&self, addresses: &AddressSet) -> impl Iterator<Item = (&IpAddr, &Holders)> {
        addresses.ranges().iter().flat_map(|r| self.holders.range(r.first()..=r.last()))
    }

    fn keys(&self, holders: &Holders) -> impl Iterator<Item = &ServiceKey> {
        holders.iter().filter_map(|id| Some(&self.services.get(id)?.service.key))
    }
}
