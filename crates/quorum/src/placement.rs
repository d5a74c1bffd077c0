//! Who asks first for an address that nobody owns: rendezvous hashing with weights and bounded loads, as a pure
//! function. Every speaker computes the same answer from the same view, in whatever order it learned it; where views
//! differ the lease decides.
//!
//! A node's number for an address is a hash of both, read as a fraction f of 2^64. Its cost is -log2(f) divided by its
//! weight, and the cheapest comes first: so a node of twice the weight comes first twice as often, and a weight that
//! changes moves no address between two other nodes. All of it is whole numbers, alike on every processor.

use crate::digest::first_64_bits;
use crate::types::Node;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The weight of a node that is given no other.
pub const WEIGHT: u32 = 100;

/// Spreads the bits of a number over all of it (the finalizer of SplitMix64).
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn of_address(address: IpAddr) -> u64 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) | 1 << 127,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    mix(bits as u64 ^ mix((bits >> 64) as u64))
}

/// -log2(n / 2^64), in units of 2^-32.
fn minus_log2(n: u64) -> u64 {
    let n = n.max(1);
    let whole = n.ilog2();
    let mut mantissa = u128::from(n) << (63 - whole); // in [2^63, 2^64)
    let mut fraction = 0u64;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (64 << 32) - (u64::from(whole) << 32 | fraction)
}

/// The nodes that are known, with what of their order does not depend on the address.
#[derive(Debug, Clone, Default)]
pub struct Seats {
    seats: BTreeMap<Node, (u64, u32)>,
    /// All have one weight, so there is no need to divide by it.
    equal: bool,
}

impl Seats {
    /// These nodes with their weights; a weight of 0 counts as 1.
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>, weights: &BTreeMap<Node, u32>) -> Seats {
        let weight = |n: &Node| weights.get(n).copied().unwrap_or(WEIGHT).max(1);
        let seat = |n: &Node| (n.clone(), (first_64_bits(n.as_bytes()), weight(n)));
        let seats: BTreeMap<Node, (u64, u32)> = nodes.into_iter().map(seat).collect();
        let equal = seats.values().all(|(_, weight)| *weight == WEIGHT);
        Seats { seats, equal }
    }

    fn weight(&self, node: &str) -> u32 {
        self.seats.get(node).map_or(WEIGHT, |(_, weight)| *weight)
    }

    fn cost(&self, address: u64, node: &str) -> u64 {
        let (hash, weight) = self.seats.get(node).copied().unwrap_or_else(|| (first_64_bits(node.as_bytes()), WEIGHT));
        let fraction = mix(hash ^ address);
        if self.equal { !fraction } else { minus_log2(fraction) / u64::from(weight) }
    }

    /// The candidates in placement order for an address; those of one cost go by name.
    pub fn order<'a>(&self, address: IpAddr, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let address = of_address(address);
        let mut ranked: Vec<_> = candidates.into_iter().map(|node| (self.cost(address, node), node)).collect();
        ranked.sort_unstable();
        ranked.dedup();
        ranked.into_iter().map(|(_, node)| node).collect()
    }

    /// Whether `node` comes before `other` in placement order.
    pub fn before(&self, address: IpAddr, node: &str, other: &str) -> bool {
        let address = of_address(address);
        (self.cost(address, node), node) < (self.cost(address, other), other)
    }

    /// Gives every address in `unclaimed` to one of its candidates: the first in placement order that owns less than
    /// 1.25 times its fair share (rounded up); when all are full, the one that is least full. `loads` says how many
    /// addresses each node owns already, with a zero for those that might own some but do not. What is in `loads`
    /// does not move. Addresses with few candidates choose first.
    pub fn place<'a>(
        &self,
        unclaimed: &BTreeMap<IpAddr, Vec<&'a str>>,
        loads: &BTreeMap<&'a str, usize>,
    ) -> BTreeMap<IpAddr, &'a str> {
        let mut loads = loads.clone();
        for node in unclaimed.values().flatten() {
            loads.entry(node).or_default();
        }
        let total = loads.values().sum::<usize>() + unclaimed.values().filter(|c| !c.is_empty()).count();
        let weights: u64 = loads.keys().map(|n| u64::from(self.weight(n))).sum();
        let most = |node: &str| {
            let share = 5 * total as u64 * u64::from(self.weight(node));
            usize::try_from(share.div_ceil((4 * weights).max(1))).unwrap_or(usize::MAX)
        };
        let most: BTreeMap<&str, usize> = loads.keys().map(|n| (*n, most(n))).collect();
        let mut turn: Vec<_> = unclaimed.iter().map(|(address, c)| (c.len(), *address, c)).collect();
        turn.sort_unstable_by_key(|(n, address, _)| (*n, *address));
        let mut placed = BTreeMap::new();
        for (_, address, candidates) in turn {
            let ranked = self.order(address, candidates.iter().copied());
            let load = |node: &str| loads.get(node).copied().unwrap_or(0);
            let room = |node: &&&str| load(node) < most.get(**node).copied().unwrap_or(0);
            // How full it is, in parts of its weight. The first of equals wins, so the order decides between them.
            let full = |node: &&&str| load(node) as u64 * 1_000_000 / u64::from(self.weight(node));
            let Some(node) = ranked.iter().find(room).or_else(|| ranked.iter().min_by_key(full)) else { continue };
            *loads.entry(node).or_default() += 1;
            placed.insert(address, *node);
        }
        placed
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
