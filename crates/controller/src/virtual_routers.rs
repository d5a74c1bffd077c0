//! Which addresses of a pool for vip move together, and under which id of VRRP. Kept in the pools' status, and never
//! computed anew from what there is now (D10): an address keeps its id until it is free, or a stranger is heard with it.
//!
//! The first addresses of a pool get an id each, so that they spread over nodes; from the 33rd on they join others, since
//! there are only 255 ids, and others need some. An address of a Service with policy Local is alone: its nodes are not
//! those of others.

use api::VirtualRouter;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// So many ids a pool takes for addresses that could share one.
const IDS: usize = 32;
/// So many addresses fit into an advertisement with an MTU of 1500, with room to spare.
const MOST_V4: usize = 200;
const MOST_V6: usize = 80;

type Groups = BTreeMap<u8, BTreeSet<IpAddr>>;

/// The virtual routers of all pools.
#[derive(Debug, Default)]
pub(crate) struct VirtualRouters {
    pools: BTreeMap<String, Groups>,
    /// Ids with which strangers were heard.
    foreign: BTreeSet<u8>,
}

/// What a pool asks for.
pub(crate) struct Wanted<'a> {
    pub(crate) pool: &'a str,
    /// The ids that it may use.
    pub(crate) ids: RangeInclusive<u8>,
    /// Its addresses in use.
    pub(crate) used: BTreeSet<IpAddr>,
    /// Those that share an id with no other.
    pub(crate) alone: BTreeSet<IpAddr>,
}

impl VirtualRouters {
    /// Takes over what a pool's status says, unless that pool is known. Of two pools with one id the first keeps it.
    pub(crate) fn read(&mut self, pool: &str, status: &[VirtualRouter]) {
        if self.pools.contains_key(pool) {
            return;
        }
        let mut groups = Groups::new();
        for router in status {
            let id = u8::try_from(router.id).ok().filter(|id| *id > 0 && !self.taken(*id));
            let Some(id) = id else { continue };
            groups.entry(id).or_default().extend(router.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()));
        }
        self.pools.insert(pool.to_owned(), groups);
    }

    /// The pool is gone, or not for vip any more.
    pub(crate) fn remove(&mut self, pool: &str) {
        self.pools.remove(pool);
    }

    /// Strangers were heard with these ids: they are used only if there are no others.
    pub(crate) fn avoid(&mut self, ids: impl Iterator<Item = u8>) {
        self.foreign.extend(ids);
    }

    fn taken(&self, id: u8) -> bool {
        self.pools.values().any(|groups| groups.contains_key(&id))
    }

    /// An id that nobody has, if possible not a stranger's either.
    fn free(&self, ids: &RangeInclusive<u8>, also_foreign: bool) -> Option<u8> {
        ids.clone().find(|id| !self.taken(*id) && (also_foreign || !self.foreign.contains(id)))
    }

    /// The virtual routers that a pool should have, and the addresses for which there is no id.
    pub(crate) fn assign(&mut self, wanted: &Wanted<'_>) -> (Vec<VirtualRouter>, Vec<IpAddr>) {
        let Wanted { pool, ids, used, alone } = wanted;
        let mut groups = self.pools.remove(*pool).unwrap_or_default();
        let mut known = BTreeSet::new();
        groups.retain(|_, addresses| {
            addresses.retain(|a| used.contains(a) && known.insert(*a));
            !addresses.is_empty()
        });
        self.pools.insert((*pool).to_owned(), groups.clone());
        for (id, addresses) in groups {
            let outside = !ids.contains(&id);
            let better = if outside || self.foreign.contains(&id) { self.free(ids, outside) } else { None };
            if let (Some(better), Some(groups)) = (better, self.pools.get_mut(*pool)) {
                groups.remove(&id);
                groups.insert(better, addresses);
            }
        }
        let mut left = Vec::new();
        for address in used.difference(&known) {
            if !self.place(wanted, *address, alone) {
                left.push(*address);
            }
        }
        let groups = self.pools.get(*pool).into_iter().flatten();
        let router = |(id, addresses): (&u8, &BTreeSet<IpAddr>)| VirtualRouter {
            id: i64::from(*id),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        (groups.map(router).collect(), left)
    }

    fn place(&mut self, wanted: &Wanted<'_>, address: IpAddr, alone: &BTreeSet<IpAddr>) -> bool {
        let groups = self.pools.get(wanted.pool).cloned().unwrap_or_default();
        let most = if address.is_ipv4() { MOST_V4 } else { MOST_V6 };
        let shared = |addresses: &BTreeSet<IpAddr>| addresses.is_disjoint(alone);
        let joins = |(_, addresses): &(&u8, &BTreeSet<IpAddr>)| {
            let family = addresses.iter().all(|a| a.is_ipv4() == address.is_ipv4());
            family && addresses.len() < most && shared(addresses)
        };
        let smallest = groups.iter().filter(joins).min_by_key(|(id, addresses)| (addresses.len(), **id));
        let may_join = smallest.map(|(id, _)| *id).filter(|_| !alone.contains(&address));
        let own = groups.values().filter(|a| shared(a)).count() < IDS || may_join.is_none();
        let free =
            self.free(&wanted.ids, false).or_else(|| self.free(&wanted.ids, true).filter(|_| may_join.is_none()));
        let Some(id) = free.filter(|_| own).or(may_join) else { return false };
        self.pools.entry(wanted.pool.to_owned()).or_default().entry(id).or_default().insert(address);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(n: usize) -> IpAddr {
        IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8])
    }

    fn wanted(pool: &str, used: impl Iterator<Item = usize>) -> Wanted<'_> {
        Wanted { pool, ids: 1..=255, used: used.map(ip).collect(), alone: BTreeSet::new() }
    }

    fn ids(routers: &[VirtualRouter]) -> BTreeMap<String, i64> {
        routers.iter().flat_map(|r| r.addresses.iter().map(|a| (a.clone(), r.id))).collect()
    }

    #[test]
    fn a_thousand_addresses_take_32_ids_and_are_spread_evenly() {
        let mut all = VirtualRouters::default();
        let (routers, left) = all.assign(&wanted("p", 0..1000));
        assert_eq!((routers.len(), left), (32, vec![]));
        assert!(routers.iter().all(|r| (31..=32).contains(&r.addresses.len())));
        let (others, _) = all.assign(&wanted("q", 2000..2003));
        assert_eq!(others.iter().map(|r| r.id).collect::<Vec<_>>(), [33, 34, 35]);
    }

    #[test]
    fn an_address_keeps_its_id_whatever_comes_and_goes_and_over_a_restart() {
        let mut all = VirtualRouters::default();
        let before = ids(&all.assign(&wanted("p", 0..100)).0);
        let routers = all.assign(&wanted("p", (20..100).chain(200..300))).0;
        let after = ids(&routers);
        assert!((20..100).all(|n| before[&ip(n).to_string()] == after[&ip(n).to_string()]));
        let mut anew = VirtualRouters::default();
        anew.read("p", &routers);
        assert_eq!(anew.assign(&wanted("p", (20..100).chain(200..300))).0, routers);
    }

    #[test]
    fn an_address_of_policy_local_shares_its_id_with_no_other() {
        let mut all = VirtualRouters::default();
        let mut some = wanted("p", 0..40);
        some.alone = [ip(0), ip(39)].into();
        let routers = all.assign(&some).0;
        let of = |n: usize| routers.iter().find(|r| r.addresses.contains(&ip(n).to_string())).unwrap();
        assert_eq!((of(0).addresses.len(), of(39).addresses.len(), routers.len()), (1, 1, 34));
    }

    #[test]
    fn ids_of_strangers_and_ids_that_are_not_allowed_any_more_are_left() {
        let mut all = VirtualRouters::default();
        all.assign(&wanted("p", 0..2));
        all.avoid([1].into_iter());
        let routers = all.assign(&wanted("p", 0..3)).0;
        assert_eq!(ids(&routers).into_values().collect::<Vec<_>>(), [3, 2, 4]);
        let mut narrow = wanted("p", 0..3);
        narrow.ids = 51..=52;
        let routers = all.assign(&narrow).0;
        assert!(routers.iter().filter(|r| (51..=52).contains(&r.id)).count() == 2, "{routers:?}");
    }

    #[test]
    fn where_no_id_is_left_addresses_join_others_or_are_named() {
        let mut all = VirtualRouters::default();
        let mut one = wanted("p", 0..250);
        one.ids = 7..=7;
        let (routers, left) = all.assign(&one);
        assert_eq!((routers.len(), routers[0].addresses.len(), left.len()), (1, MOST_V4, 50));
        all.avoid([7].into_iter());
        assert_eq!(all.assign(&one).0[0].id, 7, "there is no other");
    }

    proptest! {
        #[test]
        fn no_id_is_ever_used_twice_and_no_address_is_in_two_groups(
            steps in prop::collection::vec((0..3usize, prop::collection::btree_set(0..60usize, 0..40), any::<bool>()), 1..20),
        ) {
            let mut all = VirtualRouters::default();
            let mut now: BTreeMap<usize, Vec<VirtualRouter>> = BTreeMap::new();
            for (pool, used, avoid) in steps {
                let name = format!("pool-{pool}");
                if avoid {
                    all.avoid(now.get(&pool).into_iter().flatten().take(1).filter_map(|r| u8::try_from(r.id).ok()));
                }
                let (routers, left) = all.assign(&wanted(&name, used.iter().map(|n| pool * 100 + n)));
                prop_assert_eq!(left, Vec::<IpAddr>::new());
                prop_assert_eq!(ids(&routers).len(), used.len());
                prop_assert_eq!(routers.iter().map(|r| r.addresses.len()).sum::<usize>(), used.len());
                now.insert(pool, routers);
                let every: Vec<i64> = now.values().flatten().map(|r| r.id).collect();
                prop_assert_eq!(every.iter().collect::<BTreeSet<_>>().len(), every.len());
            }
        }
    }
}
