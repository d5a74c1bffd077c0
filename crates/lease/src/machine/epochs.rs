//! Which acceptors there are: epochs come with the configuration and from other speakers, are recorded, and only then
//! confirmed.

use super::{Lease, Phase};
use crate::acceptor::Acceptor;
use crate::config::Effect;
use crate::fault::Fault;
use crate::types::{Epoch, EpochId};
use engine::Tick;

/// What is known of epochs.
#[derive(Debug, Default)]
pub struct Epochs {
    /// The newest, and the one that was known before.
    pub known: Epoch,
    pub previous: Epoch,
    /// On its way to the disk.
    recording: Option<EpochId>,
    /// This node may have confirmed an epoch and does not know which: it waits until it is added anew.
    pub lost: bool,
    /// An epoch that is not confirmed: it has the number of another one, or swaps members.
    pub refused: Option<EpochId>,
    /// When the first epoch may be recorded without any record before.
    first_at: Option<Tick>,
    /// When our own acceptor was last told the whole set.
    pub resynced: Option<Tick>,
}

impl Epochs {
    /// When something is to be recorded, and when the silence ends.
    pub fn due(&self, acceptor: &Acceptor) -> Option<Tick> {
        self.first_at.filter(|_| acceptor.epoch().is_none() && self.recording.is_none() && !self.lost)
    }
}

impl Lease {
    /// Learns an epoch: the highest number counts.
    pub(super) fn learn_epoch(&mut self, now: Tick, mut epoch: Epoch, configured: bool) {
        if configured && epoch.members.is_empty() && self.config.peers.is_empty() {
            epoch.members.insert(self.config.node.clone());
        }
        if epoch.members.is_empty() {
            return;
        }
        let known = &self.epochs.known;
        if !known.members.is_empty() && epoch.number <= known.number {
            if epoch.number == known.number && epoch != *known {
                self.epochs.refused = Some(epoch.id());
            }
            return;
        }
        let first = known.members.is_empty();
        let member = epoch.members.contains(&self.config.node);
        let recorded = self.acceptor.epoch();
        if recorded.is_none() {
            // Nothing was recorded before the first epoch. Later ones were, where this node is a member.
            self.epochs.lost = member && epoch.number > 1 && (first || self.epochs.lost);
            self.epochs.lost &= !self.faults.has(Fault::ForgetsEpoch);
            // Until then it hears from others whether there are later ones.
            self.epochs.first_at = Some(if self.solo() { now } else { self.acceptor.silent_until() });
        }
        if self.solo() {
            self.acceptor.end_silence();
        }
        self.epochs.previous = std::mem::replace(&mut self.epochs.known, epoch);
        self.settle_epoch(now);
        self.next_heartbeat = self.next_heartbeat.min(now);
    }

    /// Has the newest epoch recorded, if that is due.
    pub(super) fn settle_epoch(&mut self, now: Tick) {
        let known = self.epochs.known.id();
        let recorded = self.acceptor.epoch();
        let behind = recorded.is_none_or(|r| r.number < known.number);
        if self.epochs.known.members.is_empty() || self.epochs.lost || !behind || self.epochs.recording == Some(known) {
            return;
        }
        if recorded.is_none() && self.epochs.first_at.is_some_and(|at| now < at) {
            return;
        }
        // The set of one that was alone has no number: it was named by nobody, and nobody else granted in it.
        let before = &self.epochs.previous;
        let neighbour = before.number > 0 && recorded == Some(before.id()) && known.number == before.number + 1;
        if neighbour && !self.epochs.known.follows(&self.epochs.previous) && !self.faults.has(Fault::Swap) {
            self.epochs.refused = Some(known);
            return;
        }
        self.epochs.recording = Some(known);
        if known.number == 0 {
            self.recorded(now, known); // alone and told nothing: there is nothing that could be lost
        } else {
            self.effects.push_back(Effect::Record(self.epochs.known.clone()));
        }
    }

    pub(super) fn recorded(&mut self, now: Tick, epoch: EpochId) {
        if self.phase != Phase::Idle && self.epochs.recording == Some(epoch) {
            self.epochs.recording = None;
            self.acceptor.adopt(epoch);
            if self.solo() {
                self.acceptor.end_silence();
            }
            self.epochs.first_at = None;
            self.changed = true; // so that the others hear at once
            let wanted: Vec<std::net::IpAddr> = self.wants.keys().copied().collect();
            wanted.into_iter().for_each(|a| self.retry(now, a, now));
        }
    }

    /// The epoch in which this acceptor grants, if it is a member of it.
    pub(super) fn epoch_of(&self, acceptor: &str) -> Option<Epoch> {
        let Epochs { known, previous, .. } = &self.epochs;
        let confirmed = if acceptor == self.config.node {
            self.acceptor.epoch().unwrap_or_default()
        } else {
            self.peers.get(acceptor).map(|p| p.confirmed).unwrap_or_default()
        };
        let epoch = if confirmed.number > 0 && confirmed == previous.id() { previous } else { known };
        epoch.members.contains(acceptor).then(|| epoch.clone())
    }

    /// Who is asked for grants.
    pub(super) fn acceptors(&self) -> Vec<(String, Epoch)> {
        let all = self.epochs.known.members.union(&self.epochs.previous.members);
        all.filter_map(|m| Some((m.clone(), self.epoch_of(m)?))).collect()
    }
}
