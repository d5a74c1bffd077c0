//! One acceptor: grants each address to one speaker at a time.
//!
//! ```text
//!            ask ── free, or its own ──► Granted to X until T ── T is over: free
//!   free ──────────────────────────────►   │  ▲ ask or renew by X: until the later of T and now + L
//!    ▲                                     │  └─ ask by Y: held, for so long
//!    └── release by X, newer than the grant┘
//! ```
//!
//! **Why it is safe.** A grant is only ever made longer, or ended by its holder with a release that was sent after the
//! newest request that the grant stands on. So no copy of an old packet can end what the holder counts on. Which start
//! of a speaker's process is the living one is not decided here, see `session`.
//!
//! **Renewal.** For each speaker and preset there is the set of addresses granted to it. A renewal names the digest of
//! that set and lengthens all of it at once, at no cost for each address. An address leaves the set when somebody else
//! gets it, so what a matching renewal lengthens was given to nobody else meanwhile.

use crate::digest::SetDigest;
use crate::fault::{Fault, Faults};
use crate::message::{Answer, Refusal, Verdict};
use crate::types::{EpochId, Node, Preset, Stamp};
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// For how long an address that was released for a successor is kept for it.
pub const RESERVED: Duration = Duration::from_millis(300);
/// The sets of a speaker that asks for nothing any more are dropped after so long.
const FORGET: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Grant {
    holder: Node,
    /// The newest request for this address; none for what was reserved or heard of.
    stamp: Option<Stamp>,
    until: Tick,
    /// The set that it belongs to.
    preset: Option<Preset>,
}

/// All that one speaker has in one preset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Set {
    addresses: BTreeSet<IpAddr>,
    digest: SetDigest,
    /// What renewals gave to all of it, and the newest of them.
    until: Tick,
    stamp: Option<Stamp>,
}

/// A grant that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Who has it.
    pub holder: Node,
    /// Until when, on the acceptor's clock.
    pub until: Tick,
}

/// One acceptor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acceptor {
    /// The epoch that is on disk; none while the record is lost.
    epoch: Option<EpochId>,
    silent_until: Tick,
    grants: BTreeMap<IpAddr, Grant>,
    sets: BTreeMap<(Node, Preset), Set>,
    /// Addresses that belong to another domain now.
    elsewhere: BTreeSet<IpAddr>,
    faults: Faults,
}

fn newer(than: Option<Stamp>, stamp: Stamp) -> bool {
    than.is_none_or(|than| stamp.boot != than.boot || stamp.counter > than.counter)
}

/// The newer of the number of a grant and that of its set. Of two starts, that of the grant is the later: a set is
/// renewed only by who has asked for all that is in it.
fn newest(of_grant: Option<Stamp>, of_set: Option<Stamp>) -> Option<Stamp> {
    match (of_grant, of_set) {
        (Some(grant), Some(set)) if set.boot == grant.boot => Some(grant.max(set)),
        (grant, set) => grant.or(set),
    }
}

impl Acceptor {
    /// An acceptor that has just started and grants nothing before `silent_until`; without a record of its epoch,
    /// nothing at all.
    pub fn new(silent_until: Tick, recorded: Option<EpochId>, faults: Faults) -> Acceptor {
        let silent_until = if faults.has(Fault::NoSilence) { Tick::ZERO } else { silent_until };
        let (grants, sets, elsewhere) = Default::default();
        Acceptor { epoch: recorded, silent_until, grants, sets, elsewhere, faults }
    }

    /// The epoch that it confirmed.
    pub fn epoch(&self) -> Option<EpochId> {
        self.epoch
    }

    /// When its silence ends, or ended.
    pub fn silent_until(&self) -> Tick {
        self.silent_until
    }

    /// Nobody could have got anything from it in a former life.
    pub fn end_silence(&mut self) {
        self.silent_until = Tick::ZERO;
    }

    /// Goes over to an epoch that is on disk. Grants that run are honoured to their end.
    pub fn adopt(&mut self, epoch: EpochId) {
        if self.epoch.is_none_or(|e| e.number < epoch.number) {
            self.epoch = Some(epoch);
            if self.faults.has(Fault::AdoptDropsGrants) {
                self.grants.clear();
                self.sets.clear();
            }
        }
    }

    /// Grants these to nobody any more: they belong to another domain. What runs runs to its end.
    pub fn set_elsewhere(&mut self, addresses: BTreeSet<IpAddr>) {
        self.elsewhere = addresses;
    }

    /// Addresses of other domains for which nothing granted here runs any more.
    pub fn left(&self, now: Tick) -> impl Iterator<Item = IpAddr> {
        self.elsewhere.iter().filter(move |a| self.running(now, **a).is_none()).copied()
    }

    /// Who has the address.
    pub fn running(&self, now: Tick, address: IpAddr) -> Option<Running> {
        let grant = self.grants.get(&address)?;
        let until = self.until(grant);
        (until > now).then(|| Running { holder: grant.holder.clone(), until })
    }

    fn set(&self, grant: &Grant) -> Option<&Set> {
        self.sets.get(&(grant.holder.clone(), grant.preset?))
    }

    fn stands_on(&self, grant: &Grant) -> Option<Stamp> {
        newest(grant.stamp, self.set(grant).and_then(|s| s.stamp))
    }

    fn until(&self, grant: &Grant) -> Tick {
        grant.until.max(self.set(grant).map_or(Tick::ZERO, |s| s.until))
    }

    fn refusal(&self, now: Tick, epoch: EpochId) -> Option<Refusal> {
        match self.epoch {
            None => Some(Refusal::NoRecord),
            Some(own) if own != epoch => Some(Refusal::Epoch),
            Some(_) => (now < self.silent_until).then_some(Refusal::Silent),
        }
    }

    /// A speaker asks for addresses. `whole`: it keeps no others in its set.
    pub fn ask(
        &mut self,
        now: Tick,
        from: &str,
        stamp: Stamp,
        (epoch, preset, whole): (EpochId, Preset, bool),
        addresses: &[IpAddr],
    ) -> Answer {
        if let Some(why) = self.refusal(now, epoch) {
            return Answer::Refused(why);
        }
        if whole && let Some(set) = self.sets.get(&(from.to_owned(), preset)) {
            // They run to their end, but are not renewed.
            for address in set.addresses.clone() {
                self.leave_set(address);
            }
        }
        self.grant_all(now, from, stamp, preset, addresses)
    }

    /// A speaker without a majority asks; nobody here has anything against it. This is a promise like any grant, and
    /// given in silence too: who asks was told of no other owner by all that it hears.
    pub fn consent(&mut self, now: Tick, from: &str, stamp: Stamp, preset: Preset, addresses: &[IpAddr]) -> Answer {
        self.grant_all(now, from, stamp, preset, addresses)
    }

    fn grant_all(&mut self, now: Tick, from: &str, stamp: Stamp, preset: Preset, addresses: &[IpAddr]) -> Answer {
        let verdicts: Vec<Verdict> = addresses.iter().map(|a| self.grant(now, from, stamp, preset, *a)).collect();
        let granted = addresses.iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Granted).map(|(a, _)| a);
        Answer::Asked { granted: granted.collect(), verdicts }
    }

    fn grant(&mut self, now: Tick, from: &str, stamp: Stamp, preset: Preset, address: IpAddr) -> Verdict {
        if self.elsewhere.contains(&address) {
            return Verdict::Elsewhere;
        }
        let mut until = now + preset.lease();
        let mut stands_on = Some(stamp);
        match self.running(now, address) {
            Some(other) if other.holder != from => {
                let left = other.until.since(now).as_nanos().div_ceil(1_000_000);
                let left = u16::try_from(left).unwrap_or(u16::MAX).min(u16::MAX - 1);
                return Verdict::Held { by: Some(other.holder), left };
            }
            // A grant is never made shorter, and does not take an older number.
            Some(own) => {
                until = until.max(own.until);
                let before = self.grants.get(&address).and_then(|g| self.stands_on(g));
                if !newer(before, stamp) && !self.faults.has(Fault::OldCopyRenames) {
                    stands_on = before;
                }
            }
            None => {}
        }
        self.leave_set(address);
        let set = self.sets.entry((from.to_owned(), preset)).or_default();
        set.addresses.insert(address);
        set.digest.add(&address);
        let grant = Grant { holder: from.to_owned(), stamp: stands_on, until, preset: Some(preset) };
        self.grants.insert(address, grant);
        Verdict::Granted
    }

    /// Takes an address out of its set, keeping what the set gave it.
    fn leave_set(&mut self, address: IpAddr) {
        let Some(grant) = self.grants.get_mut(&address) else { return };
        let Some(preset) = grant.preset.take() else { return };
        if let Some(set) = self.sets.get_mut(&(grant.holder.clone(), preset))
            && set.addresses.remove(&address)
        {
            set.digest.take(&address);
            grant.until = grant.until.max(set.until);
            grant.stamp = newest(grant.stamp, set.stamp);
        }
    }

    /// A speaker asks for all that it has, anew.
    pub fn renew(&mut self, now: Tick, from: &str, stamp: Stamp, epoch: EpochId, set: (Preset, SetDigest)) -> Answer {
        if let Some(why) = self.refusal(now, epoch) {
            return Answer::Refused(why);
        }
        let (preset, digest) = set;
        match self.sets.get_mut(&(from.to_owned(), preset)) {
            Some(set) if set.digest == digest && self.elsewhere.is_disjoint(&set.addresses) => {
                set.until = set.until.max(now + preset.lease());
                if newer(set.stamp, stamp) {
                    set.stamp = Some(stamp);
                }
                Answer::Renewed { preset, digest }
            }
            set => Answer::Differs { preset, digest: set.map(|s| s.digest).unwrap_or_default() },
        }
    }

    /// A speaker gives addresses back, for `to` if that is named.
    pub fn release(&mut self, now: Tick, from: &str, stamp: Stamp, to: Option<&str>, addresses: &[IpAddr]) -> Answer {
        for address in addresses {
            let Some(grant) = self.grants.get(address).filter(|g| g.holder == from) else { continue };
            if !newer(self.stands_on(grant), stamp) && !self.faults.has(Fault::ReleaseNamesNoGrant) {
                continue;
            }
            let runs = self.until(grant) > now;
            self.leave_set(*address);
            self.grants.remove(address);
            if let Some(to) = to.filter(|_| runs) {
                self.keep(now + RESERVED, to, *address);
            }
        }
        Answer::Released
    }

    /// Another speaker is heard to own the address without a majority: that is as good as a grant, unless somebody
    /// else has one.
    pub fn heard(&mut self, now: Tick, owner: &str, preset: Preset, address: IpAddr) {
        match self.running(now, address) {
            Some(other) if other.holder != owner => {}
            Some(_) => {
                if let Some(grant) = self.grants.get_mut(&address) {
                    grant.until = grant.until.max(now + preset.lease());
                }
            }
            None => {
                self.leave_set(address);
                self.keep(now + preset.lease(), owner, address);
            }
        }
    }

    fn keep(&mut self, until: Tick, holder: &str, address: IpAddr) {
        self.grants.insert(address, Grant { holder: holder.to_owned(), stamp: None, until, preset: None });
    }

    /// Drops what has long ended. Nothing depends on when that is done.
    pub fn sweep(&mut self, now: Tick) {
        let ended: Vec<IpAddr> =
            self.grants.iter().filter(|(_, g)| self.until(g) + FORGET <= now).map(|(a, _)| *a).collect();
        for address in ended {
            self.leave_set(address);
            self.grants.remove(&address);
        }
        self.sets.retain(|_, set| !set.addresses.is_empty());
    }
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;
