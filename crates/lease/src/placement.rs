//! Who takes an address that nobody owns: rendezvous hashing with bounded loads, as a pure function. Every speaker
//! computes the same answer from the same view, in whatever order it learned it.
//!
//! The weight of a node for an address is the first 64 bits, big endian, of SHA-256 over the node's name, one zero
//! octet and the 4 or 16 octets of the address. The highest weight comes first; equal weights go by name. This never
//! changes: speakers of different versions have to agree.

use ring::digest;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The weight of a node for an address.
pub(crate) fn weight(address: IpAddr, node: &str) -> u64 {
    let mut input = Vec::with_capacity(node.len() + 17);
    input.extend_from_slice(node.as_bytes());
    input.push(0);
    match address {
        IpAddr::V4(v4) => input.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => input.extend_from_slice(&v6.octets()),
    }
    first_64_bits(&input)
}

/// The first 64 bits, big endian, of the SHA-256 of `input`.
pub(crate) fn first_64_bits(input: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA256, input);
    digest.as_ref().iter().take(8).fold(0, |n, octet| n << 8 | u64::from(*octet))
}

/// The candidates in placement order for an address.
pub fn order<'a>(address: IpAddr, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<_> = candidates.into_iter().map(|node| (Reverse(weight(address, node)), node)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().map(|(_, node)| node).collect()
}

/// Whether `node` comes before `other` in placement order.
pub(crate) fn before(address: IpAddr, node: &str, other: &str) -> bool {
    (Reverse(weight(address, node)), node) < (Reverse(weight(address, other)), other)
}

/// Gives every address in `unclaimed` to one of its candidates: the first in placement order that owns less than
/// 1.25 times the mean (rounded up); when all are full, the one that owns least. `loads` says how many addresses each
/// node owns already, with a zero for those that might own some but do not; the mean is over all nodes named in either
/// map. An address without candidates is left out.
///
/// What is in `loads` does not move, so when a node is lost only its addresses do. Addresses with few candidates choose
/// first.
pub fn place<'a>(
    unclaimed: &BTreeMap<IpAddr, BTreeSet<&'a str>>,
    loads: &BTreeMap<&'a str, usize>,
) -> BTreeMap<IpAddr, &'a str> {
    let mut loads = loads.clone();
    for node in unclaimed.values().flatten() {
        loads.entry(node).or_default();
    }
    let total = loads.values().sum::<usize>() + unclaimed.values().filter(|c| !c.is_empty()).count();
    let most = (5 * total).div_ceil(4 * loads.len().max(1));
    let mut turn: Vec<_> =
        unclaimed.iter().map(|(address, candidates)| (candidates.len(), *address, candidates)).collect();
    turn.sort_unstable_by_key(|(n, address, _)| (*n, *address));
    let mut placed = BTreeMap::new();
    for (_, address, candidates) in turn {
        let ranked = order(address, candidates.iter().copied());
        let load = |node: &&&str| loads.get(**node).copied().unwrap_or(0);
        // min_by_key takes the first of equals, so the order decides between them.
        let Some(node) = ranked.iter().find(|n| load(n) < most).or_else(|| ranked.iter().min_by_key(load)) else {
            continue;
        };
        *loads.entry(node).or_default() += 1;
        placed.insert(address, *node);
    }
    placed
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
