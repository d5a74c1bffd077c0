//! The addresses of a pool that are free, as ranges: what is lowest, taken or given back costs the logarithm of the
//! number of holes, whatever the size of the pool (D25).

use api::address::number;
use api::{AddressSet, Family};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Ranges that neither touch nor overlap: (family, first) to last.
#[derive(Debug, Default)]
pub(crate) struct FreeSet {
    ranges: BTreeMap<(Family, u128), u128>,
}

impl FreeSet {
    pub(crate) fn new(all: &AddressSet) -> FreeSet {
        let ranges = all.ranges().iter().map(|range| {
            let (first, last) = range.numbers();
            ((range.family(), first), last)
        });
        FreeSet { ranges: ranges.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest free address of a family.
    pub(crate) fn first(&self, family: Family) -> Option<IpAddr> {
        let ((found, first), _) = self.ranges.range((family, 0)..).next()?;
        (*found == family).then(|| family.address(*first))
    }

    pub(crate) fn remove(&mut self, ip: IpAddr) {
        let (family, n) = (Family::of(ip), number(ip));
        let Some((&(_, first), &last)) = self.ranges.range((family, 0)..=(family, n)).next_back() else { return };
        if last < n {
            return;
        }
        if first < n {
            self.ranges.insert((family, first), n - 1);
        } else {
            self.ranges.remove(&(family, first));
        }
        if n < last {
            self.ranges.insert((family, n + 1), last);
        }
    }

    pub(crate) fn insert(&mut self, ip: IpAddr) {
        let (family, n) = (Family::of(ip), number(ip));
        let before = self.ranges.range((family, 0)..=(family, n)).next_back().map(|(&(_, first), &last)| (first, last));
        if before.is_some_and(|(_, last)| n <= last) {
            return;
        }
        let first = before.filter(|(_, last)| last + 1 == n).map_or(n, |(first, _)| first);
        let after = n.checked_add(1).and_then(|next| self.ranges.remove(&(family, next)));
        self.ranges.insert((family, first), after.unwrap_or(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ip(n: u8) -> IpAddr {
        Family::V4.address(u128::from(n))
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_single_addresses(steps in prop::collection::vec((any::<bool>(), 0u8..24), 0..200)) {
            let mut free = FreeSet::new(&"0.0.0.4-0.0.0.9".parse().unwrap());
            let mut model: BTreeSet<IpAddr> = (4..=9).map(ip).collect();
            for (insert, n) in steps {
                if insert { free.insert(ip(n)); model.insert(ip(n)); } else { free.remove(ip(n)); model.remove(&ip(n)); }
                prop_assert_eq!(free.first(Family::V4), model.first().copied());
                prop_assert_eq!(free.is_empty(), model.is_empty());
            }
            // Ranges are maximal: as many as there are addresses without a free one right before them.
            let starts = model.iter().filter(|a| match number(**a) { 0 => true, n => !model.contains(&ip(n as u8 - 1)) });
            prop_assert_eq!(free.ranges.len(), starts.count());
        }
    }

    #[test]
    fn both_ends_of_ipv6_can_be_taken_and_given_back() {
        let mut free = FreeSet::new(&"::/0".parse().unwrap());
        for end in ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            let end: IpAddr = end.parse().unwrap();
            free.remove(end);
            free.insert(end);
        }
        assert_eq!(free.ranges.len(), 1);
        assert_eq!(free.first(Family::V6), Some("::".parse().unwrap()));
        assert_eq!(free.first(Family::V4), None);
    }
}
