//! Routes out (Adj-RIB-Out): what a peer is to know, what it was told, and the shortest way from one to the other.
//!
//! ```text
//!              set, change                        next_message
//!   wanted ─────────────────► queued (difference) ─────────────► told
//!                                    ▲                             │
//!                                    └───────── forget ────────────┘   the peer asks again, or we look different
//! ```
//!
//! Nothing is encoded before the peer can take it: a slow reader costs one entry in a queue for each route.

use crate::export::{Export, Unsendable};
use crate::prefix::{Family, Nlri, Prefix};
use crate::wire::{Attributes, Codec, Message, NextHop, Refresh, Unreach, Update, nlri};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a prefix leads. Shared by all prefixes that lead there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Path {
    /// As they are within our own autonomous system: the session adds our AS number and what else its peer needs.
    pub attributes: Attributes,
    /// Where packets are to go; `None` for this speaker itself.
    pub next_hop: Option<NextHop>,
}

/// What a peer is to know. Of several paths to a prefix the first is the best.
pub type Routes = BTreeMap<Nlri, Arc<Path>>;

/// How many paths to a prefix each family of a session may have; `None` where the peer takes one, without identifier.
pub(crate) type Limits = BTreeMap<Family, Option<usize>>;

/// The fixed part of an UPDATE: the header and two lengths.
const OVERHEAD: usize = crate::wire::HEADER + 4;

/// Marks in the stream of routes of one family.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    end_of_rib: bool,
    /// An answer to a request with beginning and end: the beginning is due.
    begin: bool,
    /// The end is due.
    end: bool,
}

#[derive(Debug, Default)]
pub(crate) struct RoutesOut {
    wanted: Routes,
    /// All of `wanted` was given at least once: before that no End-of-RIB may say so.
    complete: bool,
    /// The families of the session; none while there is no session.
    limits: Limits,
    /// What the peer has; `None` where it has something that is to be sent again.
    told: BTreeMap<Nlri, Option<Arc<Path>>>,
    /// The difference: what is to become of each prefix. `None` is to be withdrawn.
    queued: BTreeMap<Nlri, Option<Arc<Path>>>,
    /// The announcements in `queued`, by what they share.
    groups: BTreeMap<(Family, Arc<Path>), BTreeSet<Nlri>>,
    withdrawals: BTreeSet<Nlri>,
    marks: BTreeMap<Family, Marks>,
    /// What cannot be said to this peer, and why.
    unsendable: BTreeMap<Nlri, Unsendable>,
}

impl RoutesOut {
    /// Everything that the peer is to know.
    pub(crate) fn set(&mut self, wanted: Routes) {
        self.complete = true;
        let before = std::mem::replace(&mut self.wanted, wanted);
        let changed = |a: &Routes, b: &Routes| -> Vec<Prefix> {
            let same = |n: &Nlri, p: &Arc<Path>| b.get(n).is_some_and(|q| Arc::ptr_eq(p, q) || p == q);
            a.iter().filter(|(n, p)| !same(n, p)).map(|(n, _)| n.prefix).collect()
        };
        let touched: BTreeSet<Prefix> =
            changed(&before, &self.wanted).into_iter().chain(changed(&self.wanted, &before)).collect();
        touched.into_iter().for_each(|p| self.touch(p));
    }

    /// A few routes that changed; `None` is gone.
    pub(crate) fn change(&mut self, changes: Vec<(Nlri, Option<Arc<Path>>)>) {
        for (nlri, path) in changes {
            match path {
                Some(path) => drop(self.wanted.insert(nlri, path)),
                None => drop(self.wanted.remove(&nlri)),
            }
            self.touch(nlri.prefix);
        }
    }

    /// A session begins: the peer knows nothing.
    pub(crate) fn begin(&mut self, limits: Limits) {
        self.end();
        self.marks = limits.keys().map(|f| (*f, Marks { end_of_rib: true, ..Marks::default() })).collect();
        self.limits = limits;
        self.touch_all(|_| true);
    }

    /// The session is over.
    pub(crate) fn end(&mut self) {
        self.limits.clear();
        self.told.clear();
        self.queued.clear();
        self.groups.clear();
        self.withdrawals.clear();
        self.marks.clear();
        self.unsendable.clear();
    }

    /// The limits changed while the session goes on.
    pub(crate) fn limit(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            self.touch_all(|_| true);
        }
    }

    /// All routes of a family are to be sent again; with a beginning and an end around them where `marked`.
    pub(crate) fn again(&mut self, family: Family, marked: bool) {
        let Some(marks) = self.marks.get_mut(&family) else { return };
        marks.begin |= marked;
        self.told.iter_mut().filter(|(n, _)| n.prefix.family() == family).for_each(|(_, p)| *p = None);
        self.touch_all(|f| f == family);
    }

    /// Is everything said?
    pub(crate) fn settled(&self) -> bool {
        self.queued.is_empty() && !self.marks.values().any(|m| m.begin || m.end || (m.end_of_rib && self.complete))
    }

    /// Everything was given at least once, and all of it is said.
    pub(crate) fn said_all(&self) -> bool {
        self.complete && self.settled()
    }

    pub(crate) fn wanted(&self) -> &Routes {
        &self.wanted
    }

    /// How many routes of a family the peer has been told.
    pub(crate) fn told(&self, family: Family) -> usize {
        self.told.keys().filter(|n| n.prefix.family() == family).count()
    }

    /// How many routes wait to be told or withdrawn.
    pub(crate) fn queued(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn unsendable(&self) -> &BTreeMap<Nlri, Unsendable> {
        &self.unsendable
    }

    fn touch_all(&mut self, which: impl Fn(Family) -> bool) {
        let all = self.wanted.keys().chain(self.told.keys()).map(|n| n.prefix);
        let prefixes: BTreeSet<Prefix> = all.filter(|p| which(p.family())).collect();
        prefixes.into_iter().for_each(|p| self.touch(p));
    }

    /// Finds out anew what the peer is to be told of a prefix.
    fn touch(&mut self, prefix: Prefix) {
        let Some(limit) = self.limits.get(&prefix.family()).copied() else { return };
        let range = Nlri { prefix, path: 0 }..=Nlri { prefix, path: u32::MAX };
        let shown = |nlri: &Nlri| if limit.is_some() { *nlri } else { Nlri::of(prefix) };
        let wanted: BTreeMap<Nlri, Arc<Path>> =
            self.wanted.range(range.clone()).take(limit.unwrap_or(1)).map(|(n, p)| (shown(n), p.clone())).collect();
        let refused: Vec<Nlri> = self.unsendable.range(range.clone()).map(|(n, _)| *n).collect();
        for nlri in refused {
            self.unsendable.remove(&nlri);
        }
        let known: Vec<Nlri> =
            self.told.range(range.clone()).chain(self.queued.range(range)).map(|(n, _)| *n).collect();
        for nlri in known.into_iter().chain(wanted.keys().copied()) {
            self.unqueue(&nlri);
            match (wanted.get(&nlri), self.told.get(&nlri)) {
                (Some(path), Some(Some(told))) if Arc::ptr_eq(path, told) || path == told => {}
                (Some(path), _) => {
                    self.groups.entry((prefix.family(), path.clone())).or_default().insert(nlri);
                    self.queued.insert(nlri, Some(path.clone()));
                }
                (None, Some(_)) => {
                    self.withdrawals.insert(nlri);
                    self.queued.insert(nlri, None);
                }
                (None, None) => {}
            }
        }
    }

    fn unqueue(&mut self, nlri: &Nlri) {
        match self.queued.remove(nlri) {
            None => {}
            Some(None) => drop(self.withdrawals.remove(nlri)),
            Some(Some(path)) => {
                let key = (nlri.prefix.family(), path);
                if let Some(group) = self.groups.get_mut(&key) {
                    group.remove(nlri);
                    if group.is_empty() {
                        self.groups.remove(&key);
                    }
                }
            }
        }
    }

    /// The next message, as full as it can be: withdrawals first. `announce` may hold announcements back.
    pub(crate) fn next_message(&mut self, codec: &Codec, export: &Export, announce: bool) -> Option<Message> {
        if let Some(message) = self.next_begin() {
            return Some(message);
        }
        loop {
            if let Some(first) = self.withdrawals.first().copied() {
                return Some(self.withdraw(codec, first.prefix.family()));
            }
            let Some((family, path)) = self.next_group().filter(|_| announce) else { break };
            // Where nothing of a group can be said, there may be something to withdraw instead.
            if let Some(message) = self.announce(codec, export, family, &path) {
                return Some(message);
            }
        }
        self.next_end()
    }

    /// What is said before the beginning of its family would be forgotten at the end (RFC 7313 §4).
    fn next_group(&self) -> Option<(Family, Arc<Path>)> {
        let begins = |family: &Family| self.marks.get(family).is_some_and(|m| m.begin);
        self.groups.keys().find(|(family, _)| !begins(family)).cloned()
    }

    /// One family after the other: FRR takes the beginning of a second one for a mistake.
    fn next_begin(&mut self) -> Option<Message> {
        let under_way = self.marks.iter().find(|(_, m)| m.end).map(|(family, _)| *family);
        let mut marks = self.marks.iter_mut();
        let (family, marks) = marks.find(|(f, m)| m.begin && under_way.is_none_or(|other| other == **f))?;
        (marks.begin, marks.end) = (false, true);
        Some(Message::RouteRefresh { family: family.afi_safi(), refresh: Some(Refresh::Begin) })
    }

    fn next_end(&mut self) -> Option<Message> {
        let waiting: BTreeSet<Family> = self.queued.keys().map(|n| n.prefix.family()).collect();
        let complete = self.complete;
        let due = |m: &Marks| m.end || (m.end_of_rib && complete);
        let (family, marks) = self.marks.iter_mut().find(|(f, m)| !waiting.contains(f) && due(m))?;
        if std::mem::take(&mut marks.end) {
            return Some(Message::RouteRefresh { family: family.afi_safi(), refresh: Some(Refresh::End) });
        }
        marks.end_of_rib = false;
        Some(Message::Update(Box::new(Update::end_of_rib(*family))))
    }

    fn withdraw(&mut self, codec: &Codec, family: Family) -> Message {
        let add_path = codec.add_path_send.contains(&family);
        // MP_UNREACH_NLRI: flags, code, length of two octets, family.
        let mut room = codec.max_send() - OVERHEAD - if family == Family::Ipv4 { 0 } else { 7 };
        let all = self.withdrawals.iter().copied();
        let gone: Vec<Nlri> = all.take_while(|n| n.prefix.family() == family && fits(n, add_path, &mut room)).collect();
        for nlri in &gone {
            self.unqueue(nlri);
            self.told.remove(nlri);
        }
        let mut update = Update::default();
        match family {
            Family::Ipv4 => update.withdrawn = gone,
            Family::Ipv6 => update.mp_unreach = Some(Unreach { family, nlri: gone }),
        }
        Message::Update(Box::new(update))
    }

    /// One message of a group; `None` when nothing of it can be said.
    fn announce(&mut self, codec: &Codec, export: &Export, family: Family, path: &Arc<Path>) -> Option<Message> {
        let exported = export.update(family, path, codec);
        let group = self.groups.get(&(family, path.clone()))?;
        let add_path = codec.add_path_send.contains(&family);
        let (mut update, size) = match exported {
            Ok(exported) => exported,
            Err(why) => return self.refuse(family, path, why),
        };
        let mut room = codec.max_send().saturating_sub(OVERHEAD + size);
        let coming: Vec<Nlri> = group.iter().copied().take_while(|n| fits(n, add_path, &mut room)).collect();
        if coming.is_empty() {
            return self.refuse(family, path, Unsendable::TooLong);
        }
        for nlri in &coming {
            self.unqueue(nlri);
            self.told.insert(*nlri, Some(path.clone()));
        }
        match &mut update.mp_reach {
            Some(reach) => reach.nlri = coming,
            None => update.announced = coming,
        }
        Some(Message::Update(Box::new(update)))
    }

    /// Nothing of a group can be said to this peer: what it may have of it from before is withdrawn.
    fn refuse(&mut self, family: Family, path: &Arc<Path>, why: Unsendable) -> Option<Message> {
        for nlri in self.groups.remove(&(family, path.clone())).unwrap_or_default() {
            self.queued.remove(&nlri);
            self.unsendable.insert(nlri, why);
            if self.told.contains_key(&nlri) {
                self.withdrawals.insert(nlri);
                self.queued.insert(nlri, None);
            }
        }
        None
    }
}

fn fits(nlri: &Nlri, add_path: bool, room: &mut usize) -> bool {
    match room.checked_sub(nlri::length(nlri, add_path)) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

#[cfg(test)]
#[path = "routes_out_tests.rs"]
mod tests;
