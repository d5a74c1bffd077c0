//! Sets of addresses on the wire: the digest that names a set, its parts that fit into a packet, and how they are put
//! together again.
//!
//! A set is known by its digest alone. So it needs no version: packets are ordered by their counter, and what was
//! learned of a set stays right when its owner restarts or comes back after a partition.

use crate::packet::{MAX_FRAGMENTS, ROOM};
use crate::placement::first_64_bits;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Names a set of addresses: 64 bits of SHA-256. Zero stands for "none known".
pub type Digest = u64;

/// The digest of the empty set.
pub const EMPTY: Digest = 0xe3b0_c442_98fc_1c14;

/// The digest of a set.
pub fn digest(set: &BTreeSet<IpAddr>) -> Digest {
    let mut input = Vec::with_capacity(set.len() * 16);
    for address in set {
        match address {
            IpAddr::V4(v4) => {
                input.push(4);
                input.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                input.push(6);
                input.extend_from_slice(&v6.octets());
            }
        }
    }
    first_64_bits(&input)
}

/// How many octets an address takes in a packet.
pub fn octets(address: &IpAddr) -> usize {
    if address.is_ipv4() { 4 } else { 16 }
}

/// The own set, ready to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub digest: Digest,
    /// None for the empty set: its digest says all.
    pub parts: Vec<Vec<IpAddr>>,
}

impl Outgoing {
    pub fn new(set: &BTreeSet<IpAddr>) -> Outgoing {
        let mut parts: Vec<Vec<IpAddr>> = Vec::new();
        let mut room = 0;
        for address in set {
            let need = octets(address);
            match parts.last_mut().filter(|_| need <= room) {
                Some(part) => part.push(*address),
                None => {
                    parts.push(vec![*address]);
                    room = ROOM;
                }
            }
            room -= need;
        }
        parts.truncate(usize::from(MAX_FRAGMENTS));
        Outgoing { digest: digest(set), parts }
    }
}

/// A part of a set, as in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Counts from 0.
    pub index: u16,
    /// How many parts the set has, 1 to [`MAX_FRAGMENTS`].
    pub count: u16,
    pub addresses: Vec<IpAddr>,
}

/// The parts of a set that have come so far.
#[derive(Debug, Clone)]
pub struct Assembly {
    digest: Digest,
    count: u16,
    parts: BTreeMap<u16, Vec<IpAddr>>,
}

impl Assembly {
    /// Adds a part, after forgetting the parts of another set. Gives the set once it is complete.
    pub fn add(slot: &mut Option<Assembly>, digest: Digest, fragment: &Fragment) -> Option<BTreeSet<IpAddr>> {
        let known = slot.take().filter(|a| a.digest == digest && a.count == fragment.count);
        let mut assembly = known.unwrap_or(Assembly { digest, count: fragment.count, parts: BTreeMap::new() });
        assembly.parts.insert(fragment.index, fragment.addresses.clone());
        if assembly.parts.len() < usize::from(assembly.count) {
            *slot = Some(assembly);
            return None;
        }
        let set: BTreeSet<IpAddr> = assembly.parts.into_values().flatten().collect();
        (self::digest(&set) == digest).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(v4: u32, v6: u128) -> BTreeSet<IpAddr> {
        let v4 = (0..v4).map(|n| IpAddr::V4((0x0a00_0000 + n).into()));
        v4.chain((0..v6).map(|n| IpAddr::V6(n.into()))).collect()
    }

    #[test]
    fn a_set_is_put_together_from_its_parts_in_any_order_and_with_doubles() {
        for (v4, v6) in [(1, 0), (0, 1), (145, 0), (146, 1), (1000, 1000)] {
            let set = addresses(v4, v6);
            let out = Outgoing::new(&set);
            assert!(out.parts.iter().all(|p| p.iter().map(octets).sum::<usize>() <= ROOM));
            let count = out.parts.len() as u16;
            let mut slot = None;
            let mut got = None;
            for (index, part) in out.parts.iter().enumerate().rev().chain(out.parts.iter().enumerate().skip(1)) {
                let fragment = Fragment { index: index as u16, count, addresses: part.clone() };
                got = got.or(Assembly::add(&mut slot, out.digest, &fragment));
            }
            assert_eq!(got, Some(set));
        }
    }

    #[test]
    fn the_empty_set_needs_no_part() {
        let out = Outgoing::new(&BTreeSet::new());
        assert_eq!((out.digest, out.parts.len()), (EMPTY, 0));
    }

    #[test]
    fn parts_of_different_sets_never_mix() {
        let (old, new) = (addresses(300, 0), addresses(301, 0));
        let (a, b) = (Outgoing::new(&old), Outgoing::new(&new));
        let part = |o: &Outgoing, i: u16| Fragment {
            index: i,
            count: o.parts.len() as u16,
            addresses: o.parts[usize::from(i)].clone(),
        };
        let mut slot = None;
        assert_eq!(Assembly::add(&mut slot, a.digest, &part(&a, 0)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 1)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 2)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 0)), Some(new));
    }

    #[test]
    fn parts_that_do_not_have_the_digest_are_no_set() {
        let fragment = Fragment { index: 0, count: 1, addresses: vec!["10.0.0.1".parse().unwrap()] };
        assert_eq!(Assembly::add(&mut None, 7, &fragment), None);
    }
}
