//! Who owns what, from what one speaker knows: a pure function.

use crate::Reason;
use crate::placement::{before, order, place};
use engine::Tick;
use quorum::statement::Statement;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a candidate waits for the one to which placement gives an address, and as long again for each candidate
/// that comes before it in placement order. When speakers agree nobody waits in vain; when they do not, because one
/// cannot read the API server, an address must not stay without an owner for ever. Longer than a speaker that has just
/// started listens.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What one speaker knows.
#[derive(Debug)]
pub struct Situation<'a> {
    pub now: Tick,
    pub node: &'a str,
    pub candidates: &'a BTreeMap<IpAddr, Arc<BTreeSet<String>>>,
    /// For how many addresses each node is a candidate.
    pub may_own: &'a BTreeMap<String, usize>,
    /// What this node says of itself.
    pub own: &'a Statement,
    /// The other speakers that are alive, and what they say of themselves.
    pub live: BTreeMap<&'a str, &'a Statement>,
    /// Addresses may be taken now, not only given up.
    pub may_take: bool,
    /// Since when addresses have no owner.
    pub waiting: &'a BTreeMap<IpAddr, Tick>,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    pub lose: Vec<(IpAddr, Reason)>,
    pub own: Vec<IpAddr>,
    /// Addresses that this node keeps although others claim them too; they will yield.
    pub contested: BTreeSet<IpAddr>,
    /// Since when addresses have no owner, after this decision.
    pub waiting: BTreeMap<IpAddr, Tick>,
    /// When to decide anew though nothing happened.
    pub again: Option<Tick>,
}

/// All claims of live peers by address.
struct Claims<'a>(Vec<(IpAddr, &'a str)>);

impl<'a> Claims<'a> {
    fn new(live: &BTreeMap<&'a str, &'a Statement>) -> Claims<'a> {
        let mut all: Vec<_> = live.iter().flat_map(|(node, says)| says.owned.iter().map(|a| (*a, *node))).collect();
        all.sort_unstable();
        Claims(all)
    }

    fn on(&self, address: IpAddr) -> impl Iterator<Item = &'a str> {
        let start = self.0.partition_point(|(a, _)| *a < address);
        self.0.iter().skip(start).take_while(move |(a, _)| *a == address).map(|(_, node)| *node)
    }
}

/// The first of the claimants in placement order.
pub fn first<'a>(address: IpAddr, claimants: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    claimants.reduce(|a, b| if before(address, a, b) { a } else { b })
}

/// Decides. Of several claimants the first in placement order keeps an address, whether our configuration calls it a
/// candidate or not: so both of two speakers with different configurations come to the same end.
pub fn decide(s: &Situation<'_>) -> Decision {
    let mut decision = Decision::default();
    let claims = Claims::new(&s.live);
    for address in &s.own.owned {
        let rival = first(*address, claims.on(*address));
        match (s.candidates.get(address), rival) {
            (None, _) => decision.lose.push((*address, Reason::Gone)),
            (Some(c), _) if !c.contains(s.node) => decision.lose.push((*address, Reason::NotCandidate)),
            (Some(_), _) if s.own.unable.contains(address) => decision.lose.push((*address, Reason::Unable)),
            (Some(_), Some(rival)) if before(*address, rival, s.node) => {
                decision.lose.push((*address, Reason::Yielded { to: rival.to_owned() }));
            }
            (Some(_), Some(_)) => {
                decision.contested.insert(*address);
            }
            (Some(_), None) => {}
        }
    }
    if s.may_take {
        take(s, &claims, &mut decision);
    }
    decision
}

/// Its cost grows with the number of addresses and claims; what each candidate may own is looked at only for addresses
/// that nobody owns.
fn take(s: &Situation<'_>, claims: &Claims<'_>, decision: &mut Decision) {
    let says = |c: &str| if c == s.node { Some(s.own) } else { s.live.get(c).copied() };
    // Who owns nothing yet counts for the mean, or all speakers would not compute the same.
    let may_own_any = |(node, n): &(&String, &usize)| says(node).is_some_and(|says| says.unable.len() < **n);
    let mut loads: BTreeMap<&str, usize> = s.may_own.iter().filter(may_own_any).map(|(n, _)| (n.as_str(), 0)).collect();
    let lost: BTreeSet<IpAddr> = decision.lose.iter().map(|(address, _)| *address).collect();
    let mut unclaimed: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
    for (address, candidates) in s.candidates {
        let own = (s.own.owned.contains(address) && !lost.contains(address)).then_some(s.node);
        if let Some(owner) = first(*address, claims.on(*address).chain(own)) {
            *loads.entry(owner).or_default() += 1;
        } else {
            let able = |c: &&str| says(c).is_some_and(|says| !says.unable.contains(address));
            unclaimed.insert(*address, candidates.iter().map(String::as_str).filter(able).collect());
        }
    }
    if unclaimed.is_empty() {
        return;
    }
    let placed = place(&unclaimed, &loads);
    for (address, candidates) in &unclaimed {
        if !candidates.contains(s.node) {
            continue;
        }
        let since = s.waiting.get(address).copied().unwrap_or(s.now);
        let rank = order(*address, candidates.iter().copied()).iter().position(|n| *n == s.node).unwrap_or(0);
        let turn = since + PATIENCE * u32::try_from(rank + 1).unwrap_or(u32::MAX);
        if placed.get(address) == Some(&s.node) || turn <= s.now {
            decision.own.push(*address);
        } else {
            decision.waiting.insert(*address, since);
            decision.again = Some(decision.again.map_or(turn, |t| t.min(turn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: usize) -> String {
        format!("node-{n}")
    }

    /// What each of the nodes owns after all have decided once: at the same moment, or one after another, so that each
    /// sees what those before it took.
    fn decided(
        nodes: usize,
        candidates: &BTreeMap<IpAddr, Arc<BTreeSet<String>>>,
        one_by_one: bool,
    ) -> Vec<BTreeSet<IpAddr>> {
        let mut may_own = BTreeMap::new();
        candidates.values().flat_map(|c| c.iter()).for_each(|n| *may_own.entry(n.clone()).or_default() += 1);
        let names: Vec<String> = (0..nodes).map(name).collect();
        let mut said = vec![Statement::default(); nodes];
        let mut after = said.clone();
        for (n, node) in names.iter().enumerate() {
            let live = names.iter().map(String::as_str).zip(&said).filter(|(other, _)| other != node).collect();
            let own = Statement::default();
            let (now, waiting) = (Tick::ZERO, BTreeMap::new());
            let s = Situation {
                now,
                node,
                candidates,
                may_own: &may_own,
                own: &own,
                live,
                may_take: true,
                waiting: &waiting,
            };
            after[n].owned.extend(decide(&s).own);
            if one_by_one {
                said.clone_from(&after);
            }
        }
        after.into_iter().map(|s| s.owned).collect()
    }

    proptest! {
        /// Survivors notice a death one after another; they must not take from each other.
        #[test]
        fn speakers_that_decide_at_once_or_one_after_another_agree(
            nodes in 1..8usize, masks in prop::collection::vec(1..256usize, 1..60),
        ) {
            let may = |mask: &usize| (0..nodes).filter(|n| mask >> n & 1 == 1).map(name).collect::<BTreeSet<_>>().into();
            let address = |n: usize| IpAddr::from([192, 0, 2, n as u8]);
            let candidates: BTreeMap<_, Arc<_>> = masks.iter().enumerate().map(|(n, mask)| (address(n), may(mask))).collect();
            let at_once = decided(nodes, &candidates, false);
            for (address, c) in &candidates {
                let owners = at_once.iter().filter(|o| o.contains(address)).count();
                prop_assert_eq!(owners, usize::from(!c.is_empty()));
            }
            // Where few may own much the bound cannot hold, and then a later one may choose otherwise.
            let wanted = candidates.values().filter(|c| !c.is_empty()).count();
            let able = candidates.values().flat_map(|c| c.iter()).collect::<BTreeSet<_>>().len();
            let most = (5 * wanted).div_ceil(4 * able.max(1));
            if at_once.iter().all(|o| o.len() <= most) {
                prop_assert_eq!(at_once, decided(nodes, &candidates, true));
            }
        }
    }
}
