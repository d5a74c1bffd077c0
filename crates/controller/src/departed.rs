//! What a node cannot say itself any more: that its speaker is not heard, or that it is gone for good.
//!
//! ```text
//!  Node gone for a minute ──► what it said of BgpConf and BgpPeers goes, and last its Speaker
//!  most others do not hear it, while it says that it runs ──► its Speaker says Alive False, Unheard; True when it is heard
//! ```
//!
//! One write at a time: nothing here is urgent, and a cut through the network must not become a storm of writes.

use api::speaker::Speaker;
use api::{Condition, Node};
use engine::Tick;
use source::{Object, ObjectRef, Write, WriteError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A Node that is registered anew was not gone.
const GONE: Duration = Duration::from_secs(60);
/// A speaker that starts is not heard for a while, nor is one that just came back.
const UNHEARD: Duration = Duration::from_secs(6);
/// Between two writes, and after one that was refused.
const PACE: Duration = Duration::from_secs(1);
const REFUSED: Duration = Duration::from_secs(60);

const REASON: &str = "Unheard";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    /// What a node that is gone may have said of a BgpConf or a BgpPeer.
    Entry(String, ObjectRef),
    /// The Speaker of such a node.
    Speaker(String),
    Unheard(String),
    HeardAgain(String),
}

/// What is known of nodes and their speakers.
#[derive(Debug, Default)]
pub struct Departed {
    /// Whether each is Ready.
    nodes: BTreeMap<String, bool>,
    speakers: BTreeMap<String, Said>,
    /// BgpConf and BgpPeers.
    bgp: BTreeSet<ObjectRef>,
    /// What was removed of nodes that are gone.
    removed: BTreeSet<(String, ObjectRef)>,
    since: BTreeMap<Finding, Tick>,
    /// Something was read since it was last looked: a step is taken before every write of the controller.
    changed: bool,
    in_flight: Option<Finding>,
    not_before: Tick,
}

#[derive(Debug, Default)]
struct Said {
    /// It says that it runs.
    alive: bool,
    /// We said that nobody hears it.
    unheard: bool,
    hears_not: BTreeSet<String>,
}

impl Departed {
    /// Something was read.
    pub fn read(&mut self, object: &Object) {
        match object {
            Object::Node(node) => self.set_node(node),
            Object::Speaker(speaker) => self.set_speaker(speaker),
            Object::BgpConf(_) | Object::BgpPeer(_) => drop(self.bgp.insert(object.reference())),
            _ => return,
        }
        self.changed = true;
    }

    fn set_node(&mut self, node: &Node) {
        self.nodes.insert(node.name.clone(), node.ready);
        self.removed.retain(|(name, _)| *name != node.name);
    }

    fn set_speaker(&mut self, speaker: &Speaker) {
        let name = speaker.metadata.name.clone().unwrap_or_default();
        let status = speaker.status.as_ref();
        let alive = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == "Alive"));
        let said = Said {
            alive: alive.is_some_and(|c| c.status == "True"),
            unheard: alive.is_some_and(|c| c.reason == REASON),
            hears_not: status
                .and_then(|s| s.acceptor.as_ref())
                .map(|a| a.unheard.iter().cloned().collect())
                .unwrap_or_default(),
        };
        self.speakers.insert(name, said);
    }

    /// Something is not there any more.
    pub fn gone(&mut self, reference: &ObjectRef) {
        match reference {
            ObjectRef::Node(name) => drop(self.nodes.remove(name)),
            ObjectRef::Speaker(name) => {
                self.speakers.remove(name);
                self.removed.retain(|(node, _)| node != name);
            }
            ObjectRef::BgpConf(_) | ObjectRef::BgpPeer(_) => drop(self.bgp.remove(reference)),
            _ => return,
        }
        self.changed = true;
    }

    fn findings(&self) -> BTreeSet<Finding> {
        let mut found = BTreeSet::new();
        // A folder may do without Node objects.
        if self.nodes.is_empty() {
            return found;
        }
        let is_gone = |name: &&String| !self.nodes.contains_key(*name);
        for name in self.speakers.keys().filter(is_gone) {
            let entry = |of: &ObjectRef| (name.clone(), of.clone());
            let left = self.bgp.iter().map(entry).filter(|entry| !self.removed.contains(entry));
            let left: Vec<Finding> = left.map(|(name, of)| Finding::Entry(name, of)).collect();
            // The Speaker last: should this controller end before, the next one knows what is left to do.
            found.extend(if left.is_empty() { vec![Finding::Speaker(name.clone())] } else { left });
        }
        // Who hears nobody says more of itself: where the port is blocked everywhere, BGP may work all the same.
        let hears_some = |(name, s): &(&String, &Said)| {
            self.speakers.keys().any(|other| other != *name && !s.hears_not.contains(other))
        };
        let witnesses: BTreeSet<&String> = self.speakers.iter().filter(hears_some).map(|(name, _)| name).collect();
        for (name, said) in self.speakers.iter().filter(|(name, _)| !is_gone(name)) {
            let others: Vec<_> = self.speakers.iter().filter(|(other, s)| *other != name && s.alive).collect();
            let most_are_deaf =
                |of: &[(&String, &Said)]| of.iter().filter(|(_, s)| s.hears_not.contains(name)).count() * 2 > of.len();
            let trusted: Vec<_> = others.iter().copied().filter(|(other, _)| witnesses.contains(other)).collect();
            // Of two each would say it of the other: then it counts only where Kubernetes does not hear it either.
            let ready = self.nodes.get(name).copied().unwrap_or_default();
            let unheard = (trusted.len() > 1 && most_are_deaf(&trusted)) || (!ready && most_are_deaf(&others));
            let heard = !others.is_empty() && others.iter().all(|(_, s)| !s.hears_not.contains(name));
            match (said.alive, said.unheard) {
                (true, _) if unheard => drop(found.insert(Finding::Unheard(name.clone()))),
                (false, true) if heard => drop(found.insert(Finding::HeardAgain(name.clone()))),
                _ => {}
            }
        }
        found
    }

    /// What is to be written now, if anything is.
    pub fn step(&mut self, now: Tick) -> Option<Write> {
        if std::mem::take(&mut self.changed) {
            let found = self.findings();
            self.since.retain(|finding, _| found.contains(finding));
            for finding in found {
                self.since.entry(finding).or_insert(now);
            }
        }
        if self.in_flight.is_some() || now < self.not_before {
            return None;
        }
        let finding = self.since.iter().find(|(f, since)| **since + lasts(f) <= now).map(|(f, _)| f.clone())?;
        self.in_flight = Some(finding.clone());
        let alive = |yes, reason, message| Box::new(Condition::new("Alive", yes, reason, message));
        Some(match finding {
            Finding::Entry(node, of) => Write::BgpEntryGone { of, node },
            Finding::Speaker(node) => Write::SpeakerGone { node },
            Finding::Unheard(node) => {
                let message = "it says that it runs, but most other speakers do not hear it: look at the node, at its network, and at UDP port 7946";
                Write::SpeakerAlive { node, condition: alive(false, REASON, message) }
            }
            Finding::HeardAgain(node) => {
                Write::SpeakerAlive { node, condition: alive(true, "Running", "the speaker runs; it is heard again") }
            }
        })
    }

    /// What came of the write.
    pub fn done<T>(&mut self, now: Tick, result: &Result<T, WriteError>) {
        if let Some(finding) = self.in_flight.take() {
            self.since.remove(&finding);
            if let (Finding::Entry(node, of), Ok(_) | Err(WriteError::Gone)) = (finding, result) {
                self.removed.insert((node, of));
            }
            // Should it not have helped, it is found again.
            self.changed = true;
        }
        let refused = matches!(result, Err(WriteError::Refused(_)));
        self.not_before = now + if refused { REFUSED } else { PACE };
    }

    /// When [`Departed::step`] may have something.
    pub fn deadline(&self) -> Option<Tick> {
        let first = self.since.iter().map(|(finding, since)| *since + lasts(finding)).min();
        first.filter(|_| self.in_flight.is_none()).map(|at| at.max(self.not_before))
    }
}

fn lasts(finding: &Finding) -> Duration {
    match finding {
        Finding::Entry(..) | Finding::Speaker(_) => GONE,
        Finding::Unheard(_) | Finding::HeardAgain(_) => UNHEARD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::speaker::{AcceptorStatus, SpeakerStatus};

    const OK: Result<(), WriteError> = Ok(());

    fn secs(n: u64) -> Tick {
        Tick::ZERO + Duration::from_secs(n)
    }

    fn node(name: &str, ready: bool) -> Object {
        Object::Node(Node { name: name.into(), ready, ..Node::default() })
    }

    fn speaker(name: &str, alive: Condition, hears_not: &[&str]) -> Object {
        let mut speaker = Speaker::new(name, Default::default());
        let unheard = hears_not.iter().map(|n| (*n).to_owned()).collect();
        let acceptor = Some(AcceptorStatus { unheard, ..AcceptorStatus::default() });
        speaker.status = Some(SpeakerStatus { acceptor, conditions: vec![alive], ..SpeakerStatus::default() });
        Object::Speaker(Box::new(speaker))
    }

    fn running() -> Condition {
        Condition::new("Alive", true, "Running", "")
    }

    fn three() -> Departed {
        let mut departed = Departed::default();
        for name in ["n1", "n2", "n3"] {
            departed.read(&node(name, true));
            departed.read(&speaker(name, running(), &[]));
        }
        departed
    }

    #[test]
    fn a_speaker_that_most_do_not_hear_is_not_called_alive_and_one_that_they_hear_again_is() {
        let mut departed = three();
        assert_eq!((departed.step(secs(0)), departed.deadline()), (None, None));
        departed.read(&speaker("n1", running(), &["n3"]));
        assert_eq!(departed.step(secs(1)), None, "one of two is not most");
        departed.read(&speaker("n2", running(), &["n3"]));
        assert_eq!((departed.step(secs(2)), departed.deadline()), (None, Some(secs(8))));
        let Some(Write::SpeakerAlive { node, condition }) = departed.step(secs(8)) else { panic!() };
        assert_eq!((node.as_str(), condition.status.as_str(), condition.reason.as_str()), ("n3", "False", "Unheard"));
        assert_eq!(departed.step(secs(9)), None, "it is on its way");
        departed.done(secs(9), &OK);
        departed.read(&speaker("n3", *condition, &[]));
        assert_eq!((departed.step(secs(60)), departed.deadline()), (None, None));
        departed.read(&speaker("n1", running(), &[]));
        departed.read(&speaker("n2", running(), &[]));
        assert_eq!(departed.step(secs(61)), None);
        let Some(Write::SpeakerAlive { condition, .. }) = departed.step(secs(67)) else { panic!() };
        assert_eq!(condition.status, "True");
    }

    #[test]
    fn of_two_the_other_ones_word_counts_where_the_node_is_not_ready() {
        let mut departed = Departed::default();
        for (name, other) in [("n1", "n2"), ("n2", "n1")] {
            departed.read(&node(name, true));
            departed.read(&speaker(name, running(), &[other]));
        }
        assert_eq!((departed.step(secs(0)), departed.deadline()), (None, None));
        departed.read(&node("n2", false));
        departed.step(secs(1));
        assert!(matches!(departed.step(secs(7)), Some(Write::SpeakerAlive { node, .. }) if node == "n2"));
    }

    #[test]
    fn where_no_speaker_hears_any_other_the_port_is_blocked_and_nobody_is_called_dead() {
        let mut departed = three();
        for (name, others) in [("n1", ["n2", "n3"]), ("n2", ["n1", "n3"]), ("n3", ["n1", "n2"])] {
            departed.read(&speaker(name, running(), &others));
        }
        assert_eq!((departed.step(secs(1)), departed.deadline()), (None, None));
        departed.read(&node("n3", false));
        departed.step(secs(2));
        assert!(matches!(departed.step(secs(8)), Some(Write::SpeakerAlive { node, .. }) if node == "n3"));
    }

    #[test]
    fn the_speaker_of_a_gone_node_goes_after_a_minute_one_write_at_a_time() {
        let mut departed = three();
        departed.gone(&ObjectRef::Node("n3".into()));
        assert_eq!((departed.step(secs(10)), departed.deadline()), (None, Some(secs(70))));
        // Registered anew in between, it was not gone.
        departed.read(&node("n3", true));
        assert_eq!((departed.step(secs(20)), departed.deadline()), (None, None));
        departed.gone(&ObjectRef::Node("n3".into()));
        departed.step(secs(30));
        assert_eq!(departed.step(secs(90)), Some(Write::SpeakerGone { node: "n3".into() }));
        assert_eq!(departed.step(secs(95)), None);
        departed.done(secs(95), &OK);
        departed.gone(&ObjectRef::Speaker("n3".into()));
        assert_eq!((departed.step(secs(1000)), departed.deadline()), (None, None));
    }

    #[test]
    fn before_its_speaker_goes_what_a_gone_node_said_of_bgp() {
        let mut departed = three();
        let peer = api::BgpPeer::new("tor", Default::default());
        departed.read(&Object::BgpPeer(Box::new(peer)));
        departed.gone(&ObjectRef::Node("n3".into()));
        departed.step(secs(10));
        let entry = Write::BgpEntryGone { of: ObjectRef::BgpPeer("tor".into()), node: "n3".into() };
        assert_eq!(departed.step(secs(70)), Some(entry.clone()));
        let unavailable: Result<(), _> = Err(WriteError::Unavailable("away".into()));
        departed.done(secs(71), &unavailable);
        departed.step(secs(72));
        assert_eq!(departed.step(secs(132)), Some(entry), "it is tried again");
        departed.done(secs(133), &OK);
        departed.step(secs(134));
        assert_eq!(departed.step(secs(194)), Some(Write::SpeakerGone { node: "n3".into() }));
        // Registered anew and gone again, it may have said something meanwhile.
        departed.read(&node("n3", true));
        departed.done(secs(195), &OK);
        departed.gone(&ObjectRef::Node("n3".into()));
        departed.step(secs(200));
        assert!(matches!(departed.step(secs(260)), Some(Write::BgpEntryGone { .. })));
    }

    #[test]
    fn without_node_objects_nobody_is_gone() {
        let mut departed = Departed::default();
        departed.read(&speaker("n1", running(), &[]));
        assert_eq!((departed.step(secs(1000)), departed.deadline()), (None, None));
    }
}
