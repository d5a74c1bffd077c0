//! Who else is heard as master of this virtual router.

use crate::packet::Advert;
use crate::types::Priority;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// At most so many masters are told apart; there should be one.
pub const MAX_MASTERS: usize = 16;

/// A master is gone when it was silent for so many of its own intervals: by then its backups have taken over.
const SILENT: u32 = 4;

/// A router that advertises itself as master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its priority.
    pub priority: Priority,
    /// The addresses that it advertises.
    pub addresses: Vec<IpAddr>,
    until: Tick,
    told: bool,
}

/// What changed among them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Heard(IpAddr, Priority, Vec<IpAddr>),
    Gone(IpAddr),
}

/// Those that are heard now, by primary address.
#[derive(Debug, Default)]
pub(crate) struct Masters {
    pub(crate) known: BTreeMap<IpAddr, Master>,
    /// Were told of, are not heard any more, and that is yet to be told.
    gone: BTreeSet<IpAddr>,
}

impl Masters {
    /// An advertisement came; false when there was no room for its sender.
    pub(crate) fn hear(&mut self, now: Tick, from: IpAddr, advert: &Advert) -> bool {
        let Some(priority) = advert.priority else {
            self.forget(from);
            return true;
        };
        let (addresses, until) = (advert.addresses(), now + advert.interval() * SILENT);
        if let Some(m) = self.known.get_mut(&from) {
            m.told &= m.priority == priority && m.addresses == addresses;
            (m.priority, m.addresses, m.until) = (priority, addresses, until);
            return true;
        }
        if self.known.len() >= MAX_MASTERS {
            return false;
        }
        self.gone.remove(&from);
        self.known.insert(from, Master { priority, addresses, until, told: false });
        true
    }

    fn forget(&mut self, from: IpAddr) {
        if self.known.remove(&from).is_some_and(|m| m.told) {
            self.gone.insert(from);
        }
    }

    /// Forgets all that were silent for too long.
    pub(crate) fn expire(&mut self, now: Tick) {
        self.forget_if(|_, m| m.until <= now);
    }

    /// Forgets all that this holds for.
    pub(crate) fn forget_if(&mut self, which: impl Fn(&IpAddr, &Master) -> bool) {
        let lost: Vec<IpAddr> = self.known.iter().filter(|(a, m)| which(a, m)).map(|(a, _)| *a).collect();
        lost.into_iter().for_each(|from| self.forget(from));
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.known.values().map(|m| m.until).min()
    }

    /// The next change to be told: at most one for each master.
    pub(crate) fn next(&mut self) -> Option<Change> {
        if let Some(from) = self.gone.pop_first() {
            return Some(Change::Gone(from));
        }
        let (from, m) = self.known.iter_mut().find(|(_, m)| !m.told)?;
        m.told = true;
        Some(Change::Heard(*from, m.priority, m.addresses.clone()))
    }
}
