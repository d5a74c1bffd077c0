//! What speakers find on their links, and tell each other.
//!
//! A gateway that is silent for all is the gateway's trouble, and moving addresses would not help. So an owner whose
//! gateway is silent says so; who else may own the address asks its own gateway, and says if that answers; and only when
//! both have lasted is the address handed over.

use super::Lease;
use crate::config::{Effect, Sight};
use crate::types::Node;
use engine::{MacAddr, Tick};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// A gateway that comes back answers some nodes a little before it answers others.
const UNREACHED: Duration = Duration::from_secs(3);

impl Lease {
    pub(super) fn saw(&mut self, now: Tick, sight: Sight) {
        let Sight { cut, silent, reached, doubted } = sight;
        let known = (self.cut, &self.own.silent, &self.own.reached, &self.own.doubted);
        if known == (cut, &silent, &reached, &doubted) {
            return;
        }
        self.changed = true;
        self.cut = cut;
        (self.own.silent, self.own.reached, self.own.doubted) = (silent, reached, doubted);
        self.decide_by(now);
    }

    /// Those of our addresses whose gateway has for a while answered a candidate that lives, but not us.
    pub(super) fn unreached(&mut self, now: Tick) -> BTreeSet<IpAddr> {
        if self.own.silent.is_empty() {
            self.unreached.clear();
            return BTreeSet::new();
        }
        let live: Vec<_> = self.peers.iter().filter(|(_, p)| p.alive && !p.says.reached.is_empty()).collect();
        let reaches = |address: &IpAddr| {
            let Some(wanted) = self.config.addresses.get(address) else { return false };
            live.iter().any(|(node, p)| wanted.candidates.contains(*node) && p.says.reached.contains(address))
        };
        let now_unreached: BTreeSet<IpAddr> =
            self.own.owned.intersection(&self.own.silent).filter(|a| reaches(a)).copied().collect();
        self.unreached.retain(|a, _| now_unreached.contains(a));
        for address in now_unreached {
            self.unreached.entry(address).or_insert(now);
        }
        if let Some(next) = self.unreached.values().map(|at| *at + UNREACHED).filter(|at| *at > now).min() {
            self.decide_by(next);
        }
        self.unreached.iter().filter(|(_, at)| **at + UNREACHED <= now).map(|(a, _)| *a).collect()
    }

    /// Addresses for which this node is a candidate and whose gateway another speaker calls silent: ask our own, and
    /// say whether it answers.
    pub fn asked_to_reach(&self) -> BTreeSet<IpAddr> {
        let silent = self.peers.values().filter(|p| p.alive).flat_map(|p| p.says.silent.iter());
        let ours = |address: &&IpAddr| {
            self.config.addresses.get(*address).is_some_and(|a| a.candidates.contains(&self.config.node))
        };
        silent.filter(ours).copied().collect()
    }

    /// The interfaces from which a speaker says that it answers; none where it is not known.
    pub fn macs(&self, node: &str) -> BTreeSet<MacAddr> {
        self.peers.get(node).map(|p| p.says.macs.clone()).unwrap_or_default()
    }

    /// The addresses from which the other speakers say by VRRP what they own.
    pub fn advertisers(&self) -> BTreeSet<IpAddr> {
        self.peers.values().flat_map(|p| p.says.advertises.iter().copied()).collect()
    }

    /// The speaker that says that it answers from this interface.
    pub fn node_with(&self, mac: MacAddr) -> Option<&str> {
        self.peers.iter().find(|(_, p)| p.says.macs.contains(&mac)).map(|(node, _)| node.as_str())
    }

    /// A speaker asked for our addresses and got no answer, or another's.
    pub(super) fn doubted(&mut self, by: &Node, before: &BTreeSet<IpAddr>) {
        let Some(peer) = self.peers.get(by) else { return };
        let anew = peer.says.doubted.difference(before).filter(|a| self.own.owned.contains(a));
        self.effects.extend(anew.map(|a| Effect::Settled(*a)));
    }
}
