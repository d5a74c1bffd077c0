//! Taking over what Services already have: by their status, else by what OpenELB recorded in the pool (compat §13).

use crate::decision::marked_as_ours;
use crate::ipam::Ipam;
use crate::sharing::clash;
use crate::table::{Entry, Holders, Id};
use api::service::FamilyPolicy;
use api::{Family, Service, ServiceKey, keys};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The reason of the condition of a Service that keeps an address although it clashes with another at it.
pub(crate) const SHARING_CONFLICT: &str = "SharingConflict";

/// Claims of the lower rank come first: what a status shows before what is only recorded; who is known to clash last;
/// then by the place in `status.used`, which is that of arrival; then who carries the pool label.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    only_recorded: bool,
    tolerated: bool,
    place: usize,
    unlabelled: bool,
}

impl Ipam {
    /// Brings in line with their status what these Services hold.
    pub(crate) fn claim(&mut self, turn: &BTreeSet<Id>) {
        let mut claims: Vec<(Rank, ServiceKey, IpAddr, Id)> = Vec::new();
        for &id in turn {
            let Some(entry) = self.services.get_mut(id) else { continue };
            if !entry.service.served {
                entry.target.clear();
            }
            let Some(entry) = self.services.get(id) else { continue };
            if entry.service.served && entry.target.is_empty() {
                claims.extend(self.claims(entry));
            }
            let shown: Vec<IpAddr> =
                entry.service.ingress.iter().filter(|ip| self.ours(entry, **ip)).copied().collect();
            shown.into_iter().for_each(|ip| self.hold(ip, id));
            self.let_go(id);
        }
        claims.sort();
        for (.., ip, id) in claims {
            self.settle(id, ip);
        }
    }

    /// Whether an address in the status of a Service came from us, as far as can be known.
    fn ours(&self, entry: &Entry, ip: IpAddr) -> bool {
        let service = &entry.service;
        if entry.held.contains(&ip) {
            return true;
        }
        if !service.served && !marked_as_ours(service) {
            return false;
        }
        // Our condition names what oxelb gave, also when the pool has lost the address since.
        let named = |text: &str| {
            text.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':')
                .any(|w| w.trim_end_matches('.').parse() == Ok(ip))
        };
        let by_oxelb = service.condition(keys::ADDRESS_ASSIGNED).is_some_and(|c| named(&c.message));
        let no_pool = || service.pool_label.as_ref().is_none_or(|p| self.pool(p).is_none());
        let pool_unknown = || service.served || by_oxelb || no_pool();
        self.pool_with(ip, None).is_some() || (marked_as_ours(service) && pool_unknown())
    }

    fn claims(&self, entry: &Entry) -> Vec<(Rank, ServiceKey, IpAddr, Id)> {
        let service = &entry.service;
        let recorded = self.recorded.get(&service.key).map(Vec::as_slice).unwrap_or_default();
        let wanted = |ip: &&IpAddr| families(service).contains(&Family::of(**ip)) && !lost(entry, **ip);
        let rank = |only_recorded, ip: IpAddr| Rank {
            only_recorded,
            tolerated: service.condition(keys::ADDRESS_ASSIGNED).is_some_and(|c| c.reason == SHARING_CONFLICT),
            place: recorded.iter().find(|(_, r)| *r == ip).map_or(usize::MAX, |(place, _)| *place),
            unlabelled: service.pool_label.is_none(),
        };
        let claim = |only_recorded, ip: &IpAddr| (rank(only_recorded, *ip), service.key.clone(), *ip, entry.id);
        let shown: Vec<_> = service
            .ingress
            .iter()
            .filter(|ip| self.ours(entry, **ip))
            .filter(wanted)
            .map(|ip| claim(false, ip))
            .collect();
        if !shown.is_empty() {
            return shown;
        }
        let given = |ip: &&IpAddr| self.pool_with(**ip, None).is_some() && !self.reserved.contains_key(*ip);
        recorded.iter().map(|(_, ip)| ip).filter(given).filter(wanted).map(|ip| claim(true, ip)).collect()
    }

    /// Lets the Service have what it claims, unless another got there first and both cannot have it.
    fn settle(&mut self, id: Id, ip: IpAddr) {
        let Some(entry) = self.services.get(id) else { return };
        let service = &entry.service;
        if entry.target.iter().any(|has| Family::of(*has) == Family::of(ip)) {
            return;
        }
        let conflict = self.clash_at(entry, ip);
        // OpenELB did not look at ports (D27): who asked for the address by name keeps it, and is told. One that oxelb
        // has given an address is never let into a clash.
        let condition = service.condition(keys::ADDRESS_ASSIGNED);
        let tolerated =
            service.wanted_addresses.contains(&Ok(ip)) && condition.is_none_or(|c| c.reason == SHARING_CONFLICT);
        let label = service.pool_label.clone();
        let position = families(service).iter().position(|f| *f == Family::of(ip)).unwrap_or(usize::MAX);
        let Some(entry) = self.services.get_mut(id) else { return };
        match conflict {
            Some((other, why)) if !tolerated => {
                entry.lost.push((ip, format!("Service {other} has it too, and {why}")));
                return;
            }
            conflict => entry.tolerated |= conflict.is_some(),
        }
        entry.target.insert(position.min(entry.target.len()), ip);
        entry.pool = label;
        self.hold(ip, id);
    }

    /// The first other Service that should have the address too although both cannot, and why. Those that are
    /// tolerated there do not count: they are the ones that are told.
    pub(crate) fn clash_at(&self, entry: &Entry, ip: IpAddr) -> Option<(ServiceKey, String)> {
        let others = self.others(entry.id, ip).filter(|o| o.target.contains(&ip));
        let others = others.filter(|o| entry.tolerated || !o.tolerated);
        let clashes = others.filter_map(|o| Some((o.service.key.clone(), clash(&entry.service, &o.service)?)));
        clashes.min()
    }

    /// Everybody else who holds the address.
    pub(crate) fn others(&self, id: Id, ip: IpAddr) -> impl Iterator<Item = &Entry> {
        let holders = self.holders.get(&ip).into_iter().flat_map(Holders::iter);
        holders.filter(move |other| *other != id).filter_map(|other| self.services.get(other))
    }

    /// The name of the pool that has the address: `first` if it does, else the first in list order.
    pub(crate) fn pool_with(&self, ip: IpAddr, first: Option<&str>) -> Option<&str> {
        let first = first.and_then(|name| self.pool(name));
        let state = first.into_iter().chain(self.valid_pools()).find(|s| s.pool.addresses.contains(ip))?;
        Some(&state.pool.name)
    }
}

fn lost(entry: &Entry, ip: IpAddr) -> bool {
    entry.lost.iter().any(|(lost, _)| *lost == ip)
}

/// The families of which a Service gets an address, in order.
pub(crate) fn families(service: &Service) -> &'static [Family] {
    use FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
    let v6_first = service.families.first() == Some(&Family::V6);
    let both: &[Family] = if v6_first { &[Family::V6, Family::V4] } else { &[Family::V4, Family::V6] };
    let has_both = both.iter().all(|f| service.families.contains(f));
    match service.family_policy {
        RequireDualStack => both,
        PreferDualStack if has_both => both,
        SingleStack | PreferDualStack => both.get(..1).unwrap_or_default(),
    }
}
