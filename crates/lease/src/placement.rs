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

    fn seat<'a>(&self, node: &'a str) -> Seat<'a> {
        let (hash, weight) = self.seats.get(node).copied().unwrap_or_else(|| (first_64_bits(node.as_bytes()), WEIGHT));
        Seat { node, hash, weight }
    }

    fn cost(&self, address: u64, seat: &Seat<'_>) -> u64 {
        let fraction = mix(seat.hash ^ address);
        if self.equal { !fraction } else { minus_log2(fraction) / u64::from(seat.weight) }
    }

    /// These nodes, as candidates for any number of addresses.
    pub fn group<'a>(&self, candidates: impl IntoIterator<Item = &'a str>) -> Group<'a> {
        Group { seats: candidates.into_iter().map(|node| self.seat(node)).collect() }
    }

    /// Whether `node` comes before `other` in placement order; those of one cost go by name.
    pub fn before(&self, address: IpAddr, node: &str, other: &str) -> bool {
        let address = of_address(address);
        (self.cost(address, &self.seat(node)), node) < (self.cost(address, &self.seat(other)), other)
    }

    /// How many of the group come before `node` in placement order.
    pub fn rank(&self, address: IpAddr, group: &Group<'_>, node: &str) -> usize {
        let address = of_address(address);
        let own = (self.cost(address, &self.seat(node)), node);
        group.seats.iter().filter(|seat| (self.cost(address, seat), seat.node) < own).count()
    }

    /// Gives every address in `unclaimed` to one of its candidates, the group of this place in `groups`: the first in
    /// placement order that owns less than 1.25 times its fair share (rounded up); when all are full, the one that is
    /// least full. `loads` says how many addresses each node owns already, with a zero for those that might own some but
    /// do not. What is in `loads` does not move. Addresses with few candidates choose first.
    pub fn place<'a>(
        &self,
        unclaimed: &[(IpAddr, usize)],
        groups: &[Group<'a>],
        loads: &BTreeMap<&'a str, usize>,
    ) -> BTreeMap<IpAddr, &'a str> {
        let mut loads = loads.clone();
        for seat in groups.iter().flat_map(|g| &g.seats) {
            loads.entry(seat.node).or_default();
        }
        let mut turn: Vec<(usize, IpAddr, usize)> = unclaimed
            .iter()
            .filter_map(|(address, n)| Some((groups.get(*n)?.seats.len(), *address, *n)))
            .filter(|(size, _, _)| *size > 0)
            .collect();
        turn.sort_unstable();
        let total = loads.values().sum::<usize>() + turn.len();
        let weights: u64 = loads.keys().map(|n| u64::from(self.seat(n).weight)).sum();
        // How many each node owns and may own, by its place among all of them.
        let mut rooms: Vec<(u64, u64)> = Vec::with_capacity(loads.len());
        for (node, load) in &loads {
            let share = 5 * total as u64 * u64::from(self.seat(node).weight);
            rooms.push((*load as u64, share.div_ceil((4 * weights).max(1))));
        }
        let places: BTreeMap<&str, usize> = loads.keys().enumerate().map(|(place, node)| (*node, place)).collect();
        let place_of = |seat: &Seat<'_>| places.get(seat.node).copied().unwrap_or_default();
        let placed_seats: Vec<Vec<usize>> = groups.iter().map(|g| g.seats.iter().map(place_of).collect()).collect();
        let mut placed = BTreeMap::new();
        for (_, address, n) in turn {
            let hash = of_address(address);
            let (Some(group), Some(at)) = (groups.get(n), placed_seats.get(n)) else { continue };
            // Who has room comes first, by cost; who is full last, by how full it is in parts of its weight.
            let rank = |(seat, place): (&Seat<'a>, &usize)| {
                let (load, most) = rooms.get(*place).copied().unwrap_or_default();
                let full = if load < most { 0 } else { 1 + load * 1_000_000 / u64::from(seat.weight) };
                (full, self.cost(hash, seat), seat.node, *place)
            };
            let Some((_, _, node, place)) = group.seats.iter().zip(at).map(rank).min() else { continue };
            if let Some((load, _)) = rooms.get_mut(place) {
                *load += 1;
            }
            placed.insert(address, node);
        }
        placed
    }
}

#[derive(Debug, Clone, Copy)]
struct Seat<'a> {
    node: &'a str,
    hash: u64,
    weight: u32,
}

/// Candidates.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    seats: Vec<Seat<'a>>,
}

impl Group<'_> {
    /// Whether this node is one of them.
    pub fn contains(&self, node: &str) -> bool {
        self.seats.iter().any(|seat| seat.node == node)
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
