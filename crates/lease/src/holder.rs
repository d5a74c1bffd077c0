//! What one speaker asked for and was granted, and so until when it owns.
//!
//! ```text
//!            ask                answer names the request           asked + L' has passed on our clock
//!   nothing ─────► asked, open ──────────────────────► granted ──────────────────────────────► nothing counts
//!                     │                                 │  ▲ renewed: counts from when that was asked
//!                     └──────── abandon ────────────────┴────► no answer to it counts any more
//! ```
//!
//! An address is ours until the moment at which, for some one epoch, the grants asked in that epoch stop forming a
//! majority of its set. Each grant counts from when we *asked*, less the drift bound; an acceptor counts from later.
//!
//! A renewal that the acceptor confirms lengthens what was in its set and ours when it was sent: both had the same
//! digest. What joined since is not covered, nor is what was abandoned since, because it is in the book no more.

use crate::digest::SetDigest;
use crate::fault::{Fault, Faults};
use crate::message::{Answer, Verdict};
use crate::types::{Epoch, EpochId, Node, Preset, SILENCE};
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Questions without an answer that are remembered; older ones go first, and their answers count for nothing.
const OPEN: usize = 4096;

/// A granted address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    asked: Tick,
    preset: Preset,
    /// Our counter when the grant was booked: only renewals sent later cover it.
    joined: u64,
}

/// What one acceptor granted in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Book {
    entries: BTreeMap<IpAddr, Entry>,
    sets: BTreeMap<Preset, Renewed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Renewed {
    digest: SetDigest,
    members: usize,
    /// The newest renewal that was confirmed, and when it was asked.
    newest: Option<(u64, Tick)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    /// What it asked for, and what of that was not abandoned since.
    Addresses {
        asked: Vec<IpAddr>,
        open: BTreeSet<IpAddr>,
    },
    Set(SetDigest),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    to: Node,
    epoch: EpochId,
    preset: Preset,
    asked: Tick,
    what: What,
}

/// What an answer meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Addresses that were granted, now booked.
    pub granted: Vec<IpAddr>,
    /// Addresses that were not, by whom they are held, and for how many milliseconds at least.
    pub refused: Vec<(IpAddr, Option<Node>, u16)>,
    /// The acceptor's set of this preset is another one: renew once more where the digest is right by now, else ask for
    /// the whole set.
    pub differs: Option<(Preset, SetDigest)>,
}

/// The books of one speaker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Holder {
    /// The sets of the epochs in which anything was asked.
    epochs: BTreeMap<EpochId, Epoch>,
    /// By epoch and acceptor.
    books: BTreeMap<EpochId, BTreeMap<Node, Book>>,
    open: BTreeMap<u64, Question>,
    faults: Faults,
}

impl Book {
    fn until(&self, address: IpAddr, faults: Faults) -> Option<Tick> {
        let entry = self.entries.get(&address)?;
        let renewed = self.sets.get(&entry.preset).and_then(|s| s.newest);
        let asked =
            renewed.filter(|(counter, _)| *counter > entry.joined).map_or(entry.asked, |(_, at)| at.max(entry.asked));
        let held = if faults.has(Fault::NoDriftBound) { entry.preset.lease() } else { entry.preset.held() };
        Some(asked + held)
    }

    fn insert(&mut self, address: IpAddr, entry: Entry) {
        self.remove(address);
        let set = self.sets.entry(entry.preset).or_default();
        set.digest.add(&address);
        set.members += 1;
        self.entries.insert(address, entry);
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address)
            && let Some(set) = self.sets.get_mut(&entry.preset)
        {
            set.digest.take(&address);
            set.members -= 1;
        }
    }
}

impl Holder {
    /// Nothing asked, nothing granted.
    pub fn new(faults: Faults) -> Holder {
        Holder { faults, ..Holder::default() }
    }

    fn question(&mut self, counter: u64, epoch: &Epoch, question: Question) {
        self.epochs.entry(epoch.id()).or_insert_with(|| epoch.clone());
        let old = question.asked - SILENCE;
        while self.open.len() >= OPEN || self.open.first_key_value().is_some_and(|(_, q)| q.asked < old) {
            self.open.pop_first();
        }
        self.open.insert(counter, question);
    }

    /// Notes that these addresses are asked for, in the packet of this number.
    pub fn asks(&mut self, now: Tick, counter: u64, to: &str, epoch: &Epoch, preset: Preset, addresses: &[IpAddr]) {
        let what = What::Addresses { asked: addresses.to_vec(), open: addresses.iter().copied().collect() };
        self.question(counter, epoch, Question { to: to.to_owned(), epoch: epoch.id(), preset, asked: now, what });
    }

    /// Notes that all that this acceptor granted is asked for anew, in the packet of this number. Gives the digest to
    /// ask with.
    pub fn renews(&mut self, now: Tick, counter: u64, to: &str, epoch: &Epoch, preset: Preset) -> SetDigest {
        let digest = self.digest(epoch.id(), to, preset);
        let (to, what) = (to.to_owned(), What::Set(digest));
        self.question(counter, epoch, Question { to, epoch: epoch.id(), preset, asked: now, what });
        digest
    }

    fn book(&self, epoch: EpochId, of: &str) -> Option<&Book> {
        self.books.get(&epoch)?.get(of)
    }

    fn set(&self, epoch: EpochId, of: &str, preset: Preset) -> Option<&Renewed> {
        self.book(epoch, of)?.sets.get(&preset)
    }

    /// The digest of what an acceptor granted.
    pub fn digest(&self, epoch: EpochId, of: &str, preset: Preset) -> SetDigest {
        self.set(epoch, of, preset).map(|s| s.digest).unwrap_or_default()
    }

    /// How many addresses an acceptor granted.
    pub fn members(&self, epoch: EpochId, of: &str, preset: Preset) -> usize {
        self.set(epoch, of, preset).map_or(0, |s| s.members)
    }

    /// Whether an acceptor granted this one in this preset.
    pub fn has(&self, epoch: EpochId, of: &str, preset: Preset, address: IpAddr) -> bool {
        self.book(epoch, of).and_then(|b| b.entries.get(&address)).is_some_and(|e| e.preset == preset)
    }

    /// An answer came to the packet of this number. One that answers nothing that is open, or is not exactly what was
    /// asked, counts for nothing.
    pub fn answer(&mut self, now: Tick, from: &str, counter: u64, answer: &Answer) -> Outcome {
        let mut outcome = Outcome::default();
        if self.open.get(&counter).is_none_or(|q| q.to != from) {
            return outcome;
        }
        let Some(question) = self.open.remove(&counter) else { return outcome };
        let Question { to, epoch, preset, mut asked, what } = question;
        if self.faults.has(Fault::CountFromAnswer) {
            asked = now;
        }
        let book = self.books.entry(epoch).or_default().entry(to).or_default();
        match (what, answer) {
            (What::Addresses { asked: list, open }, Answer::Asked { granted, verdicts }) => {
                let given = || list.iter().zip(verdicts).filter(|(_, v)| **v == Verdict::Granted).map(|(a, _)| a);
                if list.len() != verdicts.len() || *granted != given().collect() {
                    return outcome;
                }
                for (address, verdict) in list.iter().zip(verdicts).filter(|(a, _)| open.contains(a)) {
                    match verdict {
                        Verdict::Granted => {
                            book.insert(*address, Entry { asked, preset, joined: counter });
                            outcome.granted.push(*address);
                        }
                        Verdict::Held { by, left } => {
                            book.remove(*address);
                            outcome.refused.push((*address, by.clone(), *left));
                        }
                        Verdict::Elsewhere => {
                            book.remove(*address);
                            outcome.refused.push((*address, None, u16::MAX));
                        }
                    }
                }
            }
            (What::Set(digest), Answer::Renewed { preset: of, digest: theirs })
                if *of == preset && *theirs == digest =>
            {
                let set = book.sets.entry(preset).or_default();
                if set.newest.is_none_or(|(newest, _)| newest < counter) {
                    set.newest = Some((counter, asked));
                }
            }
            (What::Set(_), Answer::Differs { preset: of, digest }) if *of == preset => {
                outcome.differs = Some((preset, *digest));
            }
            _ => {}
        }
        outcome
    }

    /// Gives an address back: nothing that was granted counts any more, nor any answer that is still to come.
    pub fn abandon(&mut self, address: IpAddr) {
        self.books.values_mut().flat_map(BTreeMap::values_mut).for_each(|book| book.remove(address));
        if self.faults.has(Fault::CountAfterGivingBack) {
            return;
        }
        for question in self.open.values_mut() {
            if let What::Addresses { open, .. } = &mut question.what {
                open.remove(&address);
            }
        }
    }

    /// Whether an answer to this request may still count.
    #[cfg(test)]
    pub fn is_open(&self, counter: u64) -> bool {
        self.open.contains_key(&counter)
    }

    /// Until when the address is ours, on our own clock; what has passed may be given too.
    pub fn until(&self, address: IpAddr) -> Option<Tick> {
        if self.faults.has(Fault::MajorityOverTwoSets) {
            let all =
                self.books.values().flatten().filter_map(|(node, b)| Some((node, b.until(address, self.faults)?)));
            let mut best: BTreeMap<&Node, Tick> = BTreeMap::new();
            all.for_each(|(node, until)| {
                let known = best.entry(node).or_insert(until);
                *known = until.max(*known);
            });
            let least = self.epochs.values().map(Epoch::majority).min()?;
            return nth_latest(best.into_values().collect(), least);
        }
        let of = |(id, epoch): (&EpochId, &Epoch)| {
            let books = self.books.get(id)?;
            let grants = epoch.members.iter().filter_map(|m| books.get(m)?.until(address, self.faults));
            nth_latest(grants.collect(), epoch.majority())
        };
        self.epochs.iter().filter_map(of).max()
    }

    /// Forgets epochs before this one in which nothing runs any more.
    pub fn sweep(&mut self, now: Tick, current: EpochId) {
        let faults = self.faults;
        self.books.retain(|id, books| {
            if *id != current {
                for book in books.values_mut() {
                    let ended: Vec<_> =
                        book.entries.keys().filter(|a| book.until(**a, faults) <= Some(now)).copied().collect();
                    ended.into_iter().for_each(|a| book.remove(a));
                }
                books.retain(|_, book| !book.entries.is_empty());
            }
            *id == current || !books.is_empty()
        });
        let (books, open) = (&self.books, &self.open);
        self.epochs.retain(|id, _| *id == current || books.contains_key(id) || open.values().any(|q| q.epoch == *id));
    }
}

fn nth_latest(mut moments: Vec<Tick>, n: usize) -> Option<Tick> {
    moments.sort_unstable_by(|a, b| b.cmp(a));
    moments.get(n.checked_sub(1)?).copied()
}

#[cfg(test)]
#[path = "holder_tests.rs"]
mod tests;
