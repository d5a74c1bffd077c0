//! The addresses of a pool that are free, as ranges: what is lowest, taken or given back costs the logarithm of the
//! number of holes, whatever the size of the pool (D25).

use api::address::number;
use api::{AddressSet, Family};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub(crate) struct FreeSet {
    v4: Ranges,
    v6: Ranges,
}

/// Ranges that neither touch nor overlap, by their last number: so taking the lowest changes only a value.
type Ranges = BTreeMap<u128, u128>;

impl FreeSet {
    pub(crate) fn new(all: &AddressSet) -> FreeSet {
        let mut free = FreeSet::default();
        for range in all.ranges() {
            let (first, last) = range.numbers();
            free.ranges_mut(range.family()).insert(last, first);
        }
        free
    }

    fn ranges_mut(&mut self, family: Family) -> &mut Ranges {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The lowest free address of a family.
    pub(crate) fn first(&self, family: Family) -> Option<IpAddr> {
        let ranges = if family == Family::V4 { &self.v4 } else { &self.v6 };
        ranges.first_key_value().map(|(_, first)| family.address(*first))
    }

    pub(crate) fn remove(&mut self, ip: IpAddr) {
        let n = number(ip);
        let ranges = self.ranges_mut(Family::of(ip));
        let Some((&last, first)) = ranges.range_mut(n..).next().filter(|(_, first)| **first <= n) else { return };
        let before = std::mem::replace(first, n.saturating_add(1));
        if n == last {
            ranges.remove(&last);
        }
        if before < n {
            ranges.insert(n - 1, before);
        }
    }

    pub(crate) fn insert(&mut self, ip: IpAddr) {
        let n = number(ip);
        let ranges = self.ranges_mut(Family::of(ip));
        if ranges.range(n..).next().is_some_and(|(_, first)| *first <= n) {
            return;
        }
        let first = n.checked_sub(1).and_then(|before| ranges.remove(&before)).unwrap_or(n);
        match n.checked_add(1).and_then(|next| ranges.range_mut(next..).next().filter(|(_, f)| **f == next)) {
            Some((_, after)) => *after = first,
            None => {
                ranges.insert(n, first);
            }
        }
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
            prop_assert_eq!(free.v4.len(), starts.count());
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
        assert_eq!((free.v4.len(), free.v6.len()), (0, 1));
        assert_eq!(free.first(Family::V6), Some("::".parse().unwrap()));
        assert_eq!(free.first(Family::V4), None);
    }
}
