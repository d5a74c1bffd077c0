//! What this speaker wants, from what it knows of the others. It only decides who asks first: when two are of
//! different opinions, the lease decides.

use super::Lease;
use crate::config::Reason;
use crate::placement::Group;
use crate::statement::Statement;
use crate::types::Partition;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long, beside the lease of its last owner, a candidate waits for the one to which placement gives an address, and
/// as long again for each candidate that comes before it in placement order.
const PATIENCE: Duration = Duration::from_secs(1);

impl Lease {
    /// Gives up what is not ours to own, and finds what to want.
    pub(super) fn decide(&mut self, now: Tick) {
        self.drop_forbidden(now);
        if self.phase != super::Phase::Running {
            return;
        }
        let claims = self.claims();
        let (wanted, waiting, again) = self.wanted(now, &claims);
        let claimed: Vec<IpAddr> = claims.into_iter().map(|(address, _)| address).collect();
        // It has gone where it was to go. Should its new owner die the next moment, we may have it as any other.
        self.given_up.retain(|address, _| claimed.binary_search(address).is_err());
        self.used.extend(claimed);
        let unwanted =
            |(a, w): &(&IpAddr, &super::Want)| !wanted.contains(*a) && w.offered.is_none_or(|until| until <= now);
        let unwanted: Vec<IpAddr> = self.wants.iter().filter(unwanted).map(|(a, _)| *a).collect();
        unwanted.into_iter().for_each(|a| self.forget(now, a));
        wanted.into_iter().for_each(|a| self.want(a, now, None));
        self.waiting = waiting;
        if let Some(again) = again {
            self.decide_by(again);
        }
    }

    /// Gives up what this node may not own any more. Who only is no candidate any more, or whose gateway is silent, hands
    /// over to one that is better.
    fn drop_forbidden(&mut self, now: Tick) {
        let unreached = self.unreached(now);
        let (mut forbidden, mut given) = (Vec::new(), Vec::new());
        for address in self.held.keys() {
            let reason = match self.config.addresses.get(address) {
                _ if self.config.elsewhere.contains(address) => Reason::Elsewhere,
                None => Reason::Gone,
                Some(a) if !a.candidates.contains(&self.config.node) => {
                    given.push((*address, Some(Reason::NotCandidate)));
                    continue;
                }
                Some(_) if self.own.unable.contains(address) => Reason::Unable,
                Some(_) if unreached.contains(address) => {
                    given.push((*address, None));
                    continue;
                }
                Some(_) => continue,
            };
            forbidden.push((*address, reason));
        }
        if !given.is_empty() && self.phase == super::Phase::Running {
            let successors = self.successors(Some(&self.config.node), &self.loads());
            let under_way: BTreeSet<IpAddr> = self.to_move.iter().map(|(address, _)| *address).collect();
            for (address, otherwise) in given {
                match (successors.get(&address), otherwise) {
                    (Some(_), _) if under_way.contains(&address) => {}
                    (Some(to), _) => self.to_move.push_back((address, to.clone())),
                    (None, Some(reason)) => forbidden.push((address, reason)),
                    (None, None) => {}
                }
            }
        }
        if forbidden.is_empty() {
            return;
        }
        let addresses: Vec<IpAddr> = forbidden.iter().map(|(a, _)| *a).collect();
        forbidden.into_iter().for_each(|(address, reason)| self.lose(now, address, reason));
        self.give_back(now, &addresses, None);
    }

    /// All claims of live peers, by address.
    fn claims(&self) -> Vec<(IpAddr, &str)> {
        let live = self.peers.iter().filter(|(_, p)| p.alive);
        let mut claims: Vec<_> = live.flat_map(|(n, p)| p.says.owned.iter().map(|a| (*a, n.as_str()))).collect();
        claims.sort_unstable();
        claims
    }

    /// This speaker is to get nothing while there are others: its gateway is silent, or somebody holds it down because it
    /// died too often. It says so itself, so that all are of one opinion.
    pub(super) fn rests(&self) -> bool {
        self.cut || self.peers.values().any(|p| p.alive && p.holds_us_down)
    }

    /// Whether a candidate can have an address although others may be better. An operator's word, and what the owner offers,
    /// count more than that a node rests.
    pub(super) fn can_have(&self, address: IpAddr, node: &str) -> bool {
        Able::new(self).all(address, None).iter().any(|(_, able, _)| *able == node)
    }

    /// The candidates for each of these addresses.
    pub(super) fn groups<'a>(
        &'a self,
        addresses: impl Iterator<Item = (IpAddr, Option<&'a str>)>,
    ) -> (Vec<(IpAddr, usize)>, Vec<Group<'a>>) {
        let able = Able::new(self);
        let (mut members, mut groups) = (Vec::new(), Vec::new());
        // Most addresses have the same candidates, and the same nodes that are worse for them than others, if any.
        let mut known: BTreeMap<_, usize> = BTreeMap::new();
        for (address, but) in addresses {
            let wanted = self.config.addresses.get(&address);
            let alike = (wanted.map(|a| (Arc::as_ptr(&a.candidates), a.partition)), but, able.differences(address));
            let group = *known.entry(alike).or_insert_with(|| {
                groups.push(self.seats.group(able.among(address, but)));
                groups.len() - 1
            });
            members.push((address, group));
        }
        (members, groups)
    }

    /// How many addresses each live node owns, as far as they count; who owns nothing yet counts for the mean.
    pub(super) fn loads(&self) -> BTreeMap<&str, usize> {
        let nodes = self.may_own.iter().filter_map(|(node, n)| {
            let says =
                if *node == self.config.node { &self.own } else { &self.peers.get(node).filter(|p| p.alive)?.says };
            let owned = says.owned.iter().filter(|a| self.config.addresses.contains_key(a)).count();
            (says.unable.len() < *n).then_some((node.as_str(), owned))
        });
        nodes.collect()
    }

    /// What to want now; since when the rest has no owner; when to look again though nothing happened.
    fn wanted(&self, now: Tick, claims: &[(IpAddr, &str)]) -> (BTreeSet<IpAddr>, BTreeMap<IpAddr, Tick>, Option<Tick>) {
        let claimed = |a: &IpAddr| {
            let first = claims.partition_point(|(claimed, _)| claimed < a);
            claims.get(first).is_some_and(|(claimed, _)| claimed == a)
        };
        let mut again: Option<Tick> = None;
        let mut look = |at: Tick| again = Some(again.map_or(at, |t| t.min(at)));
        let mut unclaimed = Vec::new();
        for address in self.config.addresses.keys() {
            if self.held.contains_key(address) || self.config.elsewhere.contains(address) || claimed(address) {
                continue;
            }
            let given_up = self.given_up.get(address).filter(|until| **until > now);
            given_up.into_iter().for_each(|until| look(*until));
            unclaimed.push((*address, given_up.map(|_| self.config.node.as_str())));
        }
        let (mut wanted, mut waiting) = (BTreeSet::new(), BTreeMap::new());
        if unclaimed.is_empty() {
            return (wanted, waiting, again);
        }
        let node = self.config.node.as_str();
        let (unclaimed, groups) = self.groups(unclaimed.into_iter());
        let ours: Vec<bool> = groups.iter().map(|g| g.contains(node)).collect();
        let placed = self.seats.place(&unclaimed, &groups, &self.loads());
        for (address, n) in &unclaimed {
            let Some(group) = groups.get(*n).filter(|_| ours.get(*n) == Some(&true)) else { continue };
            let since = self.waiting.get(address).copied().unwrap_or(now);
            waiting.insert(*address, since);
            if placed.get(address) == Some(&node) {
                wanted.insert(*address);
                continue;
            }
            let rank = self.seats.rank(*address, group, node);
            let patience = PATIENCE + self.preset(*address).lease();
            let turn = since + patience * u32::try_from(rank + 1).unwrap_or(u32::MAX);
            if turn <= now {
                wanted.insert(*address);
            } else {
                look(turn);
            }
        }
        (wanted, waiting, again)
    }
}

/// Nodes that are there, what they say of themselves, and whether they rest.
struct Able<'a> {
    of: &'a Lease,
    live: Vec<(&'a str, &'a Statement, bool)>,
    /// Those of them, by their place, that cannot announce some addresses or reach the gateway of some: few.
    differ: Vec<(usize, [&'a BTreeSet<IpAddr>; 2])>,
    /// Those that do not hear us: they can have what may be owned without a majority, and nothing else.
    deaf: BTreeSet<&'a str>,
}

impl<'a> Able<'a> {
    fn new(of: &'a Lease) -> Able<'a> {
        let peers = of.peers.iter().filter(|(_, p)| p.alive);
        let peers = peers.map(|(name, p)| (name.as_str(), &p.says, p.rests));
        let deaf = of.peers.iter().filter(|(_, p)| p.alive && p.deaf).map(|(name, _)| name.as_str()).collect();
        let live: Vec<_> = peers.chain([(of.config.node.as_str(), &of.own, of.rests())]).collect();
        let differs = |(n, (_, says, _)): (usize, &(&str, &'a Statement, bool))| {
            let sets = [&says.unable, &says.reached];
            sets.iter().any(|set| !set.is_empty()).then_some((n, sets))
        };
        let differ = live.iter().enumerate().filter_map(differs).collect();
        Able { of, live, differ, deaf }
    }

    /// Where a node is not as good for the address as others, or better: which, and how.
    fn differences(&self, address: IpAddr) -> Vec<(usize, [bool; 2])> {
        let how = self.differ.iter().map(|(n, sets)| (*n, sets.map(|set| set.contains(&address))));
        how.filter(|(_, how)| *how != [false; 2]).collect()
    }

    /// The candidates for an address that can have it now: where some reach the gateway that is silent to its owner, only
    /// these; and those that rest only if there are no others.
    fn among(&self, address: IpAddr, but: Option<&str>) -> Vec<&'a str> {
        let mut able = self.all(address, but);
        if able.iter().any(|(_, _, says)| says.reached.contains(&address)) {
            able.retain(|(_, _, says)| says.reached.contains(&address));
        }
        let steady = able.iter().any(|(rests, ..)| !rests);
        able.into_iter().filter(|(rests, ..)| !(steady && *rests)).map(|(_, node, _)| node).collect()
    }

    /// All candidates for an address that are there and can announce it, with whether they rest and what they say.
    fn all(&self, address: IpAddr, but: Option<&str>) -> Vec<(bool, &'a str, &'a Statement)> {
        let Some(wanted) = self.of.config.addresses.get(&address) else { return Vec::new() };
        let mut able = Vec::new();
        for (node, says, rests) in &self.live {
            if wanted.partition == Partition::SingleOwner && self.deaf.contains(node) {
                continue;
            }
            if but != Some(*node) && !says.unable.contains(&address) && wanted.candidates.contains(*node) {
                able.push((*rests, *node, *says));
            }
        }
        able
    }
}
