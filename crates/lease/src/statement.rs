//! What a speaker says of itself: which addresses it owns, which it cannot announce, and what it found on its links. Here
//! are the digest that names such a statement, its parts that fit into a packet, and how they are put together again.
//!
//! A statement is known by its digest alone. So it needs no version: packets are ordered by their counter, and what was
//! learned stays right when a speaker restarts or comes back after a partition.

use crate::digest::first_64_bits;
use engine::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A statement has at most so many parts: about 120,000 IPv4 or 30,000 IPv6 addresses on one node.
pub const MAX_FRAGMENTS: u16 = 1024;

/// A statement names at most so many interfaces; they share the first part with addresses.
pub const MAX_MACS: usize = 8;

/// How many sets of addresses a statement has.
pub const SETS: usize = 6;

/// Names a statement: 64 bits of SHA-256. Zero stands for "none known".
pub type Digest = u64;

/// The digest of the empty statement.
pub const EMPTY: Digest = 0xe3b0_c442_98fc_1c14;

/// What a speaker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Statement {
    /// The addresses that it owns.
    pub owned: BTreeSet<IpAddr>,
    /// The addresses that it cannot announce although it is a candidate.
    pub unable: BTreeSet<IpAddr>,
    /// Those of the addresses that it owns whose gateway does not answer it.
    pub silent: BTreeSet<IpAddr>,
    /// The addresses whose gateway answers it; said only where another speaker calls it silent.
    pub reached: BTreeSet<IpAddr>,
    /// The addresses of others for which nobody or somebody else answers when it asks.
    pub doubted: BTreeSet<IpAddr>,
    /// The addresses from which it says by VRRP what it owns.
    pub advertises: BTreeSet<IpAddr>,
    /// The interfaces from which it answers, at most [`MAX_MACS`].
    pub macs: BTreeSet<MacAddr>,
}

impl Statement {
    fn sets(&self) -> [&BTreeSet<IpAddr>; SETS] {
        [&self.owned, &self.unable, &self.silent, &self.reached, &self.doubted, &self.advertises]
    }

    fn sets_mut(&mut self) -> [&mut BTreeSet<IpAddr>; SETS] {
        [
            &mut self.owned,
            &mut self.unable,
            &mut self.silent,
            &mut self.reached,
            &mut self.doubted,
            &mut self.advertises,
        ]
    }

    /// The digest that names it.
    pub fn digest(&self) -> Digest {
        let addresses: usize = self.sets().iter().map(|set| set.len()).sum();
        let mut input = Vec::with_capacity(addresses * 17 + self.macs.len() * 7);
        for (set, mark) in self.sets().into_iter().zip((0u8..).step_by(0x10)) {
            for address in set {
                match address {
                    IpAddr::V4(v4) => {
                        input.push(mark | 4);
                        input.extend_from_slice(&v4.octets());
                    }
                    IpAddr::V6(v6) => {
                        input.push(mark | 6);
                        input.extend_from_slice(&v6.octets());
                    }
                }
            }
        }
        for mac in &self.macs {
            input.push(0xff);
            input.extend_from_slice(&mac.0);
        }
        first_64_bits(&input)
    }
}

/// A part of a statement, as in a packet: of each set the addresses, in the order in which [`Statement`] has the sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Part {
    pub sets: [Vec<IpAddr>; SETS],
    pub macs: Vec<MacAddr>,
}

/// How many octets an address takes in a packet.
fn octets(address: &IpAddr) -> usize {
    if address.is_ipv4() { 4 } else { 16 }
}

/// The own statement, ready to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub digest: Digest,
    /// None for the empty statement: its digest says all.
    pub parts: Vec<Part>,
}

impl Outgoing {
    /// In parts whose addresses take at most `most` octets, 64 or more.
    pub fn new(statement: &Statement, most: usize) -> Outgoing {
        let mut parts: Vec<Part> = Vec::new();
        let mut room = 0;
        if !statement.macs.is_empty() {
            let macs: Vec<MacAddr> = statement.macs.iter().copied().collect();
            room = most.saturating_sub(macs.len() * 6);
            parts.push(Part { macs, ..Part::default() });
        }
        for (n, set) in statement.sets().into_iter().enumerate() {
            for address in set {
                let need = octets(address);
                if need > room {
                    parts.push(Part::default());
                    room = most;
                }
                room -= need;
                if let Some(list) = parts.last_mut().and_then(|part| part.sets.get_mut(n)) {
                    list.push(*address);
                }
            }
        }
        parts.truncate(usize::from(MAX_FRAGMENTS));
        Outgoing { digest: statement.digest(), parts }
    }
}

/// One of the parts of a statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fragment {
    /// Counts from 0.
    pub index: u16,
    /// How many parts there are, 1 to [`MAX_FRAGMENTS`].
    pub count: u16,
    pub part: Part,
}

/// The parts of a statement that have come so far.
#[derive(Debug, Clone)]
pub struct Assembly {
    digest: Digest,
    count: u16,
    parts: BTreeMap<u16, Part>,
}

impl Assembly {
    /// Adds a part, after forgetting the parts of another statement. Gives the statement once it is complete.
    pub fn add(slot: &mut Option<Assembly>, digest: Digest, fragment: &Fragment) -> Option<Statement> {
        let known = slot.take().filter(|a| a.digest == digest && a.count == fragment.count);
        let mut assembly = known.unwrap_or(Assembly { digest, count: fragment.count, parts: BTreeMap::new() });
        assembly.parts.insert(fragment.index, fragment.part.clone());
        if assembly.parts.len() < usize::from(assembly.count) {
            *slot = Some(assembly);
            return None;
        }
        let mut statement = Statement::default();
        for part in assembly.parts.into_values() {
            statement.sets_mut().into_iter().zip(part.sets).for_each(|(set, list)| set.extend(list));
            statement.macs.extend(part.macs);
        }
        (statement.digest() == digest).then_some(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ROOM;

    fn addresses(v4: u32, v6: u128) -> BTreeSet<IpAddr> {
        let v4 = (0..v4).map(|n| IpAddr::V4((0x0a00_0000 + n).into()));
        v4.chain((0..v6).map(|n| IpAddr::V6(n.into()))).collect()
    }

    fn owns(owned: BTreeSet<IpAddr>) -> Statement {
        Statement { owned, ..Statement::default() }
    }

    #[test]
    fn a_statement_is_put_together_from_its_parts_in_any_order_and_with_doubles() {
        let sizes = [(1, 0), (0, 1), (140, 0), (146, 1), (1000, 1000)];
        // What `lease` has room for, and what this crate has.
        for ((v4, v6), room) in [578, ROOM].iter().flat_map(|room| sizes.iter().map(move |s| (*s, *room))) {
            let (unable, silent) = (addresses(v4 / 2, v6 / 3), addresses(v4 / 4, v6 / 5));
            let (reached, doubted) = (addresses(v4 / 5, v6 / 6), addresses(v4 / 6, v6 / 7));
            let advertises = addresses(v4.min(2), v6.min(2));
            let macs = (0..v4.min(8) as u8).map(|n| MacAddr([2, 0, 0, 0, 0, n])).collect();
            let owned = addresses(v4, v6);
            let statement = Statement { owned, unable, silent, reached, doubted, advertises, macs };
            let out = Outgoing::new(&statement, room);
            let size = |p: &Part| p.sets.iter().flatten().map(octets).sum::<usize>() + p.macs.len() * 6;
            assert!(out.parts.iter().all(|p| size(p) <= room));
            let count = out.parts.len() as u16;
            let mut slot = None;
            let mut got = None;
            for (index, part) in out.parts.iter().enumerate().rev().chain(out.parts.iter().enumerate().skip(1)) {
                let fragment = Fragment { index: index as u16, count, part: part.clone() };
                got = got.or(Assembly::add(&mut slot, out.digest, &fragment));
            }
            assert_eq!(got, Some(statement));
        }
    }

    #[test]
    fn the_empty_statement_needs_no_part() {
        let out = Outgoing::new(&Statement::default(), ROOM);
        assert_eq!((out.digest, out.parts.len()), (EMPTY, 0));
    }

    #[test]
    fn the_same_address_in_another_set_is_another_statement() {
        let of = |n: usize| {
            let mut statement = Statement::default();
            *statement.sets_mut()[n] = addresses(1, 0);
            statement.digest()
        };
        let macs = Statement { macs: [MacAddr([2; 6])].into(), ..Statement::default() }.digest();
        let all: BTreeSet<Digest> = (0..SETS).map(of).chain([macs, EMPTY]).collect();
        assert_eq!(all.len(), SETS + 2);
    }

    #[test]
    fn parts_of_different_statements_never_mix() {
        let (old, new) = (owns(addresses(300, 0)), owns(addresses(301, 0)));
        let (a, b) = (Outgoing::new(&old, ROOM), Outgoing::new(&new, ROOM));
        let part = |o: &Outgoing, i: u16| {
            let part = o.parts[usize::from(i)].clone();
            Fragment { index: i, count: o.parts.len() as u16, part }
        };
        let mut slot = None;
        assert_eq!(Assembly::add(&mut slot, a.digest, &part(&a, 0)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 1)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 2)), None);
        assert_eq!(Assembly::add(&mut slot, b.digest, &part(&b, 0)), Some(new));
    }

    #[test]
    fn parts_that_do_not_have_the_digest_are_no_statement() {
        let mut part = Part::default();
        part.sets[0] = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(Assembly::add(&mut None, 7, &Fragment { index: 0, count: 1, part }), None);
    }
}
