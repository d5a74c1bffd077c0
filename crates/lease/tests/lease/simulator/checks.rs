//! What must hold, looked for in every run.

use super::{Sim, ms, name};
use engine::{Engine, Tick};
use lease::Partition;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Sim {
    /// It may answer for the address: its lease lies ahead on its own clock, even while it is frozen.
    pub fn answers(&self, n: usize, address: IpAddr) -> bool {
        self.nodes[n].engine.as_ref().and_then(|e| e.until(address)).is_some_and(|until| until > self.local(n))
    }

    pub(super) fn check(&mut self) {
        self.checks += 1;
        for address in &self.doubled {
            let answer = |n: &&usize| self.answers(**n, *address);
            let owners: Vec<usize> = self.owners.get(address).into_iter().flatten().filter(answer).copied().collect();
            if let [a, b, ..] = owners[..]
                && !self.may_both_own(a, b, *address)
            {
                let who = format!("{} and {}", name(a), name(b));
                self.found = Some(format!("at {:?}: {who} answer for {address}", self.now.since(Tick::ZERO)));
                return;
            }
        }
    }

    /// With `available`, on two segments; and on one for a moment after it was healed.
    fn may_both_own(&self, a: usize, b: usize, address: IpAddr) -> bool {
        let single = |n: usize| {
            self.nodes[n].config.addresses.get(&address).is_some_and(|a| a.partition == Partition::SingleOwner)
        };
        if single(a) && single(b) {
            return false;
        }
        let noisy = self.net.loss > 0 || self.net.late > 0 || !self.net.blocked.is_empty();
        // Who is frozen hears nobody, until it wakes; that counts as another disturbance.
        let frozen = |n: usize| self.nodes[n].paused_until.is_some();
        let hears = |a: usize, b: usize| a == b || (self.reaches(a, b) && !frozen(a) && !frozen(b));
        let runs = |n: &usize| self.nodes[*n].engine.is_some();
        let clean = (0..self.nodes.len()).filter(runs).all(|c| hears(a, c) == hears(b, c));
        // One heartbeat and six deliveries: a speaker that has started since must prove that first, then one asks the other.
        let heals = self.nodes[a].slowest.max(self.nodes[b].slowest).heartbeat() + ms(20);
        noisy || !clean || !hears(a, b) || self.now.since(self.calm) < heals
    }

    pub fn owners(&self, address: IpAddr) -> Vec<usize> {
        self.owners.get(&address).into_iter().flatten().filter(|n| self.answers(**n, address)).copied().collect()
    }

    /// Who owns what, all of it.
    pub fn all(&self) -> Vec<BTreeSet<IpAddr>> {
        self.nodes.iter().map(|n| n.owned.clone()).collect()
    }

    pub fn runs(&self, n: usize) -> bool {
        self.nodes[n].engine.as_ref().is_some_and(|e| e.deadline().is_some())
    }

    /// Addresses that have a running candidate.
    pub fn wanted(&self) -> BTreeMap<IpAddr, Vec<usize>> {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|n| self.runs(*n)).collect();
        let Some(first) = running.first() else { return BTreeMap::new() };
        let candidates = self.nodes[*first].config.addresses.iter().map(|(a, c)| {
            let able = |n: &&usize| c.candidates.contains(&name(**n)) && !self.nodes[**n].config.unable.contains(a);
            (*a, running.iter().filter(able).copied().collect::<Vec<_>>())
        });
        candidates.filter(|(_, c)| !c.is_empty()).collect()
    }

    pub fn one_owner_each(&self) -> Result<(), String> {
        if let Some(found) = &self.found {
            return Err(found.clone());
        }
        for (address, candidates) in &self.wanted() {
            let owners = self.owners(*address);
            if owners.len() != 1 || !candidates.contains(&owners[0]) {
                return Err(format!("{address} has owners {owners:?} and candidates {candidates:?}"));
            }
        }
        Ok(())
    }
}
