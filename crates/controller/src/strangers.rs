//! Addresses that somebody else on the segment had before any node announced them: their Services get others, and they
//! are not given out for a while.
//!
//! Only what this process gave and nobody announced yet is replaced. An address that was in use stays with its Service
//! whatever answers for it now, because clients know it; so does one that the user asked for. Both are told in conditions.
//!
//! A Service gets three at most: what answers for each new address is no stranger but something that answers for all, as
//! the kernels of nodes do with kube-proxy in IPVS mode, and then no other address helps.

use api::ServiceKey;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How long an address is not given out after it was last found with somebody else. Then it may be tried, and is looked
/// for anew.
const AVOIDED: Duration = Duration::from_secs(600);

/// So often a Service gets another address.
const REPLACED: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Strangers {
    fresh: BTreeSet<IpAddr>,
    replaced: BTreeMap<ServiceKey, u8>,
    avoided: BTreeMap<IpAddr, (String, Tick)>,
}

impl Strangers {
    /// A Service was given these.
    pub fn given(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.fresh.extend(addresses);
    }

    /// Some node announces these.
    pub fn announced<'a>(&mut self, addresses: impl Iterator<Item = &'a IpAddr>) {
        if !self.fresh.is_empty() {
            for ip in addresses {
                self.fresh.remove(ip);
            }
        }
    }

    /// What nodes found with others: gives what of it is to be replaced, and why.
    pub fn found(&mut self, now: Tick, taken: BTreeMap<IpAddr, String>) -> Vec<(IpAddr, String)> {
        let mut replaced = Vec::new();
        for (ip, whose) in taken {
            if self.fresh.remove(&ip) {
                replaced.push((ip, format!("{ip} belongs to {whose}")));
            }
            self.avoided.insert(ip, (whose, now + AVOIDED));
        }
        replaced
    }

    /// Whether this Service may get another address; each time counts.
    pub fn may_replace(&mut self, service: &ServiceKey) -> bool {
        let times = self.replaced.entry(service.clone()).or_default();
        let may = *times < REPLACED;
        *times = times.saturating_add(1);
        may
    }

    /// A Service is gone.
    pub fn remove(&mut self, service: &ServiceKey) {
        self.replaced.remove(service);
    }

    /// What is not to be given out, and whose it is.
    pub fn avoided(&self) -> impl Iterator<Item = (IpAddr, String)> {
        self.avoided.iter().map(|(ip, (whose, _))| (*ip, whose.clone()))
    }

    /// Lets go of what was found too long ago; true when that was something.
    pub fn forget(&mut self, now: Tick) -> bool {
        let before = self.avoided.len();
        self.avoided.retain(|_, (_, until)| now < *until);
        self.avoided.len() != before
    }

    /// When something is to be let go of.
    pub fn deadline(&self) -> Option<Tick> {
        self.avoided.values().map(|(_, until)| *until).min()
    }
}
