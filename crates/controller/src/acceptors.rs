//! The set of acceptors, whose grants make an owner: one of them for one or two speakers, three for three or four, five
//! for more; kept in the ConfigMap `oxelb-ownership`.
//!
//! ```text
//!  ConfigMap, Speakers, Nodes ──► Acceptors ──► the next set, and why
//! ```
//!
//! Two majorities must never be possible at once. So a step adds or removes one member, and the next step waits until a
//! majority of the members *before* the last step has the present set on its disk, and the longest lease has passed
//! since this controller saw that. What a Speaker says it recorded stays true when its node dies, because it is on its
//! disk.
//!
//! When a majority of the members is gone for good there is no safe step: an operator says so (`oxelb acceptors reset`).

use api::ownership::acceptors_for;
use api::speaker::{AcceptorStatus, Speaker};
use api::{Node, Ownership};
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No grant that was made under the set before runs any longer than this.
const SETTLES: Duration = lease::SILENCE;
/// A member that is away for so long is replaced, and one too many taken out.
const AWAY: Duration = Duration::from_secs(60);
/// The first set is made when every node has reported, or this long after the first report.
const FIRST: Duration = Duration::from_secs(5);
/// A rebalancing that could not be asked for within this time is not asked for: its hour is over.
const HOUR: Duration = Duration::from_secs(3600);
/// How often it is said that nothing can be done.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// What is known of the acceptors.
#[derive(Debug, Default)]
pub(crate) struct Acceptors {
    /// The ConfigMap as read; `None` when there is none.
    read: Option<Result<Ownership, String>>,
    /// A write is on its way, or has landed and was not read yet.
    writing: bool,
    nodes: BTreeMap<String, bool>,
    speakers: BTreeMap<String, (bool, AcceptorStatus)>,
    first_report: Option<Tick>,
    /// Since when a majority of the members before has the present set, and that set's number.
    settled: Option<(u64, Tick)>,
    /// Since when members are away.
    away: BTreeMap<String, Tick>,
    /// Since when there are more members than the number of speakers calls for.
    crowded: Option<Tick>,
    said: Option<Tick>,
    /// The name of a rebalancing that is to be asked for, and since when.
    rebalance: Option<(String, Tick)>,
    /// When time alone may make a step possible.
    wake: Option<Tick>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) read: Option<Ownership>,
    pub(crate) write: Ownership,
    /// For the log.
    pub(crate) why: String,
}

fn majority(of: usize) -> usize {
    of / 2 + 1
}

impl Acceptors {
    pub(crate) fn set(&mut self, read: Result<Ownership, String>) {
        if let Err(why) = &read {
            tracing::error!(
                why,
                "the ConfigMap oxelb-ownership is not understood and left alone; correct it, or delete it"
            );
        }
        self.read = Some(read);
        self.writing = false;
    }

    pub(crate) fn unset(&mut self) {
        (self.read, self.writing) = (None, false);
    }

    pub(crate) fn set_node(&mut self, node: &Node) {
        self.nodes.insert(node.name.clone(), node.ready);
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(crate) fn set_speaker(&mut self, now: Tick, speaker: &Speaker) {
        let node = speaker.metadata.name.clone().unwrap_or_default();
        let status = speaker.status.as_ref();
        let alive = status.is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Alive" && c.reason != "Stopped"));
        match status.and_then(|s| s.acceptor.clone()) {
            Some(said) => {
                self.first_report.get_or_insert(now);
                self.speakers.insert(node, (alive, said));
            }
            None => drop(self.speakers.remove(&node)),
        }
    }

    pub(crate) fn remove_speaker(&mut self, node: &str) {
        self.speakers.remove(node);
    }

    /// A write came back; what landed will be read.
    pub(crate) fn done(&mut self, landed: bool) {
        self.writing &= landed;
    }

    /// Has the speakers asked to spread all addresses anew.
    pub(crate) fn rebalance(&mut self, now: Tick, request: String) {
        self.rebalance = Some((request, now));
    }

    /// How many there are, and the number of the set.
    pub(crate) fn counts(&self) -> (usize, u64) {
        match &self.read {
            Some(Ok(now)) => (now.members.len(), now.epoch),
            _ => (0, 0),
        }
    }

    /// How many speakers there are, as far as they have reported.
    fn count(&self) -> usize {
        self.speakers.keys().filter(|n| self.exists(n)).count()
    }

    fn exists(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.contains_key(node)
    }

    fn ready(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.get(node) == Some(&true)
    }

    /// Most of the others that can tell hear its speaker.
    fn heard(&self, node: &str) -> bool {
        let others = self.speakers.iter().filter(|(name, (alive, _))| *alive && *name != node && self.ready(name));
        let (mut all, mut deaf) = (0, 0);
        for (_, (_, said)) in others {
            all += 1;
            deaf += usize::from(said.unheard.iter().any(|n| n == node));
        }
        deaf * 2 <= all
    }

    fn lost_record(&self, node: &str) -> bool {
        self.speakers.get(node).is_some_and(|(_, said)| said.lost_record)
    }

    /// May become a member now.
    fn fit(&self, node: &str) -> bool {
        let said = self.speakers.get(node);
        self.ready(node) && said.is_some_and(|(alive, said)| *alive && said.ready) && self.heard(node)
    }

    fn confirmed(&self, node: &str, now: &Ownership) -> bool {
        self.speakers.get(node).is_some_and(|(_, said)| {
            u64::try_from(said.epoch) == Ok(now.epoch) && said.members.iter().eq(now.members.iter())
        })
    }

    /// The highest set that any speaker has on its disk, with the one before if some other speaker has that.
    fn recorded(&self) -> Option<Ownership> {
        let set = |said: &AcceptorStatus| (said.epoch, said.members.iter().cloned().collect::<BTreeSet<_>>());
        let all: BTreeMap<i64, BTreeSet<String>> = self.speakers.values().map(|(_, said)| set(said)).collect();
        let (epoch, members) = all.last_key_value().filter(|(epoch, members)| **epoch > 0 && !members.is_empty())?;
        let previous = all.get(&(epoch - 1)).cloned().unwrap_or_default();
        let epoch = u64::try_from(*epoch).ok()?;
        Some(Ownership { epoch, members: members.clone(), previous, ..Ownership::default() })
    }

    /// The next step, if it is time for one. What it gives is on its way until [`Acceptors::done`] or the next read.
    pub(crate) fn step(&mut self, now: Tick) -> Option<Step> {
        self.wake = None;
        if self.writing {
            return None;
        }
        self.look(now);
        let due = [self.first_report.map(|at| at + FIRST), self.settled.map(|(_, at)| at + SETTLES)];
        let away = self.away.values().chain(&self.crowded).map(|at| *at + AWAY);
        self.wake = due.into_iter().flatten().chain(away).filter(|at| *at > now).min();
        let step = match self.read.clone() {
            Some(Err(_)) => None,
            None => self.first(now),
            Some(Ok(present)) => {
                let rebalance = self.ask_to_rebalance(now, &present);
                self.newer(&present).or(rebalance).or_else(|| self.change(now, &present))
            }
        }?;
        self.writing = true;
        Some(step)
    }

    /// Notes since when things are as they are.
    fn look(&mut self, now: Tick) {
        let Some(Ok(present)) = self.read.clone() else { return };
        let before = if present.previous.is_empty() { &present.members } else { &present.previous };
        let have = before.iter().filter(|m| self.confirmed(m, &present)).count();
        if have < majority(before.len()) {
            self.settled = None;
        } else if self.settled.is_none_or(|(epoch, _)| epoch != present.epoch) {
            self.settled = Some((present.epoch, now));
        }
        // A speaker that has just started does not say yet what it has on its disk, and is no less for that.
        let crowded = present.members.len() > acceptors_for(self.count());
        self.crowded = crowded.then(|| self.crowded.unwrap_or(now));
        let away = |m: &String| !self.ready(m) || !self.heard(m);
        let away: BTreeSet<String> = present.members.iter().filter(|m| away(m)).cloned().collect();
        self.away.retain(|m, _| away.contains(m));
        for member in away {
            self.away.entry(member).or_insert(now);
        }
    }

    fn first(&self, now: Tick) -> Option<Step> {
        if let Some(recorded) = self.recorded() {
            let why = "the ConfigMap is gone; the speakers remember what it said".to_owned();
            return Some(Step { read: None, write: recorded, why });
        }
        let able: BTreeSet<&String> =
            self.speakers.iter().filter(|(n, (alive, _))| *alive && self.ready(n)).map(|(n, _)| n).collect();
        let all = self.nodes.iter().filter(|(_, ready)| **ready).all(|(node, _)| able.contains(node));
        let late = self.first_report.is_some_and(|at| at + FIRST <= now);
        if able.is_empty() || !(all || late) {
            return None;
        }
        let members = able.iter().take(acceptors_for(able.len())).map(|n| (*n).clone()).collect();
        let write = Ownership { epoch: 1, members, ..Ownership::default() };
        Some(Step { read: None, write, why: "these are the first acceptors".to_owned() })
    }

    fn ask_to_rebalance(&mut self, now: Tick, present: &Ownership) -> Option<Step> {
        let over = |(request, since): &(String, Tick)| *request == present.rebalance || now.since(*since) >= HOUR;
        self.rebalance.take_if(|wanted| over(wanted));
        let (request, _) = self.rebalance.as_ref()?;
        let write = Ownership { rebalance: request.clone(), ..present.clone() };
        let why = "the hour to spread all addresses anew (--rebalance-daily)".to_owned();
        Some(Step { read: Some(present.clone()), write, why })
    }

    /// What a speaker has on its disk was once named, so it holds also where the ConfigMap is an old one.
    fn newer(&self, present: &Ownership) -> Option<Step> {
        let newer = self.recorded().filter(|r| r.epoch > present.epoch)?;
        let (rebalance, moves) = (present.rebalance.clone(), present.moves.clone());
        let write = Ownership { rebalance, moves, ..newer };
        let why = "the ConfigMap is older than what speakers remember".to_owned();
        Some(Step { read: Some(present.clone()), write, why })
    }

    fn change(&mut self, now: Tick, present: &Ownership) -> Option<Step> {
        let settled = self.settled.is_some_and(|(_, at)| at + SETTLES <= now);
        let count = self.count();
        let wanted = acceptors_for(count);
        let bad = |m: &String| -> Option<String> {
            if !self.exists(m) {
                return Some(format!("{m} is no node of the cluster any more"));
            }
            if self.lost_record(m) {
                return Some(format!("{m} lost its record of the acceptors"));
            }
            let away = self.away.get(m).is_some_and(|since| *since + AWAY <= now);
            away.then(|| format!("{m} has been away for {} s", AWAY.as_secs()))
        };
        let next = self.speakers.keys().find(|n| !present.members.contains(*n) && self.fit(n)).cloned();
        let bad: BTreeMap<&String, String> = present.members.iter().filter_map(|m| Some((m, bad(m)?))).collect();
        let good = present.members.len() - bad.len();
        if good < majority(present.members.len()) {
            if self.said.is_none_or(|at| at + SAY_AGAIN <= now) {
                let reasons: Vec<&String> = bad.values().collect();
                tracing::error!(
                    ?reasons,
                    "a majority of the acceptors is gone; if they do not come back, type: oxelb acceptors reset"
                );
                self.said = Some(now);
            }
            return None;
        }
        if !settled {
            return None;
        }
        let step = |members: BTreeSet<String>, why: String| {
            let write =
                Ownership { epoch: present.epoch + 1, members, previous: present.members.clone(), ..present.clone() };
            Some(Step { read: Some(present.clone()), write, why })
        };
        let without = |member: &String| present.members.iter().filter(|m| *m != member).cloned().collect();
        // Who is only away stays until there is somebody to come instead: it may be back.
        let gone = |m: &String| !self.exists(m) || self.lost_record(m);
        let leaves = |m: &String| gone(m) || next.is_some() || present.members.len() > wanted;
        if let Some((member, why)) = bad.iter().find(|(m, _)| leaves(m)) {
            return step(without(member), why.clone());
        }
        if present.members.len() < wanted {
            let new = next?;
            let why = format!("{new} joins: {count} speakers have {wanted} acceptors");
            return step(present.members.iter().chain([&new]).cloned().collect(), why);
        }
        if self.crowded.is_some_and(|since| since + AWAY <= now) {
            let last = present.members.iter().max_by_key(|m| (self.away.contains_key(*m), (*m).clone()))?;
            return step(without(last), format!("{last} leaves: {count} speakers have {wanted} acceptors"));
        }
        None
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(s: u64) -> Tick {
        Tick::from_millis(1_000_000 + s * 1000)
    }

    fn names(names: &str) -> BTreeSet<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// A cluster whose speakers record what they are told.
    struct Cluster {
        acceptors: Acceptors,
        map: Option<Ownership>,
        speakers: BTreeMap<String, AcceptorStatus>,
    }

    impl Cluster {
        fn new(nodes: &str) -> Cluster {
            let mut cluster = Cluster { acceptors: Acceptors::default(), map: None, speakers: BTreeMap::new() };
            for node in names(nodes) {
                cluster.node(&node, true);
                cluster.speakers.insert(node, AcceptorStatus { ready: true, ..AcceptorStatus::default() });
            }
            cluster
        }

        fn node(&mut self, name: &str, ready: bool) {
            self.acceptors.set_node(&Node { name: name.to_owned(), ready, ..Node::default() });
        }

        fn report(&mut self, now: Tick) {
            for (node, said) in &self.speakers {
                let mut speaker = Speaker::new(node, Default::default());
                let alive = api::Condition::new("Alive", true, "Running", "");
                let status = api::SpeakerStatus {
                    acceptor: Some(said.clone()),
                    conditions: vec![alive],
                    ..api::SpeakerStatus::default()
                };
                speaker.status = Some(status);
                self.acceptors.set_speaker(now, &speaker);
            }
        }

        /// These have the present set on their disks.
        fn record(&mut self, nodes: &str) {
            let map = self.map.clone().unwrap();
            for node in names(nodes) {
                let said = self.speakers.get_mut(&node).unwrap();
                (said.epoch, said.members) = (map.epoch as i64, map.members.iter().cloned().collect());
            }
        }

        /// One step, if there is one, written and read back.
        fn step(&mut self, now: Tick) -> Option<BTreeSet<String>> {
            self.report(now);
            let step = self.acceptors.step(now)?;
            assert_eq!(step.read, self.map);
            self.map = Some(step.write.clone());
            self.acceptors.set(Ok(step.write.clone()));
            Some(step.write.members)
        }

        fn members(&self) -> BTreeSet<String> {
            self.map.clone().unwrap().members
        }

        /// Steps until nothing is to be done, while all record.
        fn settle(&mut self, from: u64) -> u64 {
            let mut at = from;
            for _ in 0..30 {
                self.step(secs(at));
                let all: Vec<String> = self.speakers.keys().cloned().collect();
                self.record(&all.join(" "));
                self.report(secs(at));
                at += 4;
            }
            assert_eq!(self.step(secs(at)), None, "in steady state nothing is written");
            at
        }
    }

    #[test]
    fn the_first_set_waits_for_all_nodes_or_five_seconds() {
        let mut cluster = Cluster::new("n1 n2 n3");
        cluster.speakers.remove("n3");
        assert_eq!(cluster.step(secs(0)), None);
        assert_eq!(cluster.acceptors.deadline(), Some(secs(5)));
        assert_eq!(cluster.step(secs(5)), Some(names("n1")), "two speakers have one acceptor");
        let mut cluster = Cluster::new("n1 n2 n3 n4");
        assert_eq!(cluster.step(secs(0)), Some(names("n1 n2 n3")));
    }

    #[test]
    fn the_set_grows_with_the_cluster_by_one_member_at_a_time() {
        let mut cluster = Cluster::new("n1 n2");
        assert_eq!(cluster.step(secs(0)), Some(names("n1")));
        cluster.record("n1 n2");
        for node in ["n3", "n4", "n5"] {
            cluster.node(node, true);
            cluster.speakers.insert(node.into(), AcceptorStatus { ready: true, ..AcceptorStatus::default() });
        }
        assert_eq!(cluster.step(secs(10)), None, "confirmed, but seen just now");
        assert_eq!(cluster.step(secs(12)), None);
        assert_eq!(cluster.step(secs(13)), Some(names("n1 n2")));
        assert_eq!(cluster.step(secs(60)), None, "nobody has confirmed it");
        cluster.record("n2");
        assert_eq!(cluster.step(secs(70)), None, "of the members before, n1 alone, it has not");
        cluster.record("n1");
        cluster.step(secs(80));
        assert_eq!(cluster.step(secs(83)), Some(names("n1 n2 n3")));
        cluster.settle(90);
        assert_eq!(cluster.members(), names("n1 n2 n3 n4 n5"));
    }

    #[test]
    fn who_is_not_ready_to_grant_or_not_heard_by_most_does_not_join() {
        let mut cluster = Cluster::new("n1 n2 n3 n4");
        cluster.settle(0);
        cluster.acceptors.remove_node("n3");
        cluster.speakers.remove("n3");
        cluster.acceptors.remove_speaker("n3");
        cluster.speakers.get_mut("n4").unwrap().ready = false;
        for at in [200, 204, 208] {
            cluster.step(secs(at));
            cluster.record("n1 n2 n4");
        }
        assert_eq!(cluster.members(), names("n1 n2"), "n4 is silent yet");
        let n4 = cluster.speakers.get_mut("n4").unwrap();
        n4.ready = true;
        for node in ["n1", "n2"] {
            cluster.speakers.get_mut(node).unwrap().unheard = vec!["n4".into()];
        }
        assert_eq!(cluster.step(secs(220)), None);
        cluster.speakers.values_mut().for_each(|s| s.unheard.clear());
        assert_eq!(cluster.step(secs(221)), Some(names("n1 n2 n4")));
    }

    #[test]
    fn a_member_that_is_away_is_replaced_after_a_minute_when_somebody_can_come_instead() {
        let mut cluster = Cluster::new("n1 n2 n3");
        let at = cluster.settle(0);
        cluster.node("n2", false);
        cluster.step(secs(at));
        assert_eq!(cluster.step(secs(at + 120)), None, "nobody can come instead");
        cluster.node("n4", true);
        cluster.speakers.insert("n4".into(), AcceptorStatus { ready: true, ..AcceptorStatus::default() });
        assert_eq!(cluster.step(secs(at + 121)), Some(names("n1 n3")));
        cluster.record("n1 n3 n4");
        cluster.step(secs(at + 122));
        assert_eq!(cluster.step(secs(at + 125)), Some(names("n1 n3 n4")));
        cluster.record("n1 n3 n4");
        cluster.node("n3", false);
        cluster.step(secs(at + 130));
        cluster.node("n3", true);
        cluster.step(secs(at + 160));
        assert_eq!(cluster.step(secs(at + 200)), None, "n3 came back within the minute");
    }

    #[test]
    fn a_speaker_that_starts_anew_costs_no_member_and_one_that_is_gone_does_after_a_minute() {
        let mut cluster = Cluster::new("n1 n2 n3");
        let at = cluster.settle(0);
        // At first it has nothing to say of the acceptors.
        let started = |cluster: &mut Cluster, at| {
            cluster.report(at);
            cluster.acceptors.set_speaker(at, &Speaker::new("n1", Default::default()));
            cluster.acceptors.step(at)
        };
        assert_eq!(started(&mut cluster, secs(at)), None);
        assert_eq!(cluster.step(secs(at + 3)), None);
        assert_eq!(started(&mut cluster, secs(at + 59)), None, "it was back in between");
        cluster.speakers.remove("n1");
        assert_eq!(cluster.step(secs(at + 118)), None);
        assert_eq!(cluster.acceptors.deadline(), Some(secs(at + 119)));
        assert_eq!(cluster.step(secs(at + 119)), Some(names("n1 n2")), "two speakers have one acceptor");
    }

    #[test]
    fn a_member_that_lost_its_record_is_taken_out_and_added_anew() {
        let mut cluster = Cluster::new("n1 n2 n3");
        let at = cluster.settle(0);
        let lost = AcceptorStatus { ready: true, lost_record: true, ..AcceptorStatus::default() };
        cluster.speakers.insert("n2".into(), lost);
        assert_eq!(cluster.step(secs(at)), Some(names("n1 n3")));
        cluster.record("n1 n2 n3");
        cluster.speakers.get_mut("n2").unwrap().lost_record = false;
        cluster.step(secs(at + 1));
        assert_eq!(cluster.step(secs(at + 4)), Some(names("n1 n2 n3")));
    }

    #[test]
    fn without_a_majority_nothing_is_done() {
        let mut cluster = Cluster::new("n1 n2 n3 n4 n5");
        let at = cluster.settle(0);
        ["n1", "n2", "n3"].iter().for_each(|n| cluster.acceptors.remove_node(n));
        assert_eq!(cluster.step(secs(at)), None);
        assert_eq!(cluster.step(secs(at + 1000)), None);
    }

    #[test]
    fn a_lost_or_old_config_map_is_mended_from_what_speakers_recorded_and_a_broken_one_is_left_alone() {
        let mut cluster = Cluster::new("n1 n2 n3");
        let at = cluster.settle(0);
        let before = cluster.map.clone().unwrap();
        let old = Ownership { epoch: 1, members: names("n9"), rebalance: "r".into(), ..Ownership::default() };
        cluster.map = Some(Ownership { epoch: 0, ..old.clone() });
        cluster.acceptors.set(Ok(cluster.map.clone().unwrap()));
        assert_eq!(cluster.step(secs(at)), Some(before.members.clone()));
        assert_eq!(cluster.map.clone().unwrap().rebalance, "r");
        cluster.map = None;
        cluster.acceptors.unset();
        assert_eq!(cluster.step(secs(at + 1)), Some(before.members));
        cluster.acceptors.set(Err("nonsense".into()));
        cluster.report(secs(at + 2));
        assert_eq!(cluster.acceptors.step(secs(at + 60)), None);
    }

    proptest! {
        /// Whatever happens: one member at a time, and never a step before a majority of the members before the last
        /// one has the present set on its disk, seen for 3 s by this controller.
        #[test]
        fn no_two_majorities_are_ever_possible(
            events in prop::collection::vec((0usize..7, 0usize..6, 0u64..5), 1..200)
        ) {
            let mut cluster = Cluster::new("n0 n1 n2 n3 n4 n5");
            let (mut at, mut settled): (u64, Option<u64>) = (0, None);
            for (what, node, wait) in events {
                let name = format!("n{node}");
                match what {
                    0 => cluster.node(&name, true),
                    1 => cluster.node(&name, false),
                    2 => cluster.acceptors.remove_node(&name),
                    3 if cluster.map.is_some() => cluster.record(&name),
                    4 => {
                        let said = cluster.speakers.get_mut(&name).unwrap();
                        said.unheard = if said.unheard.is_empty() { vec!["n0".into(), "n1".into()] } else { vec![] };
                    }
                    5 => {
                        // Another controller starts: it knows nothing but what it reads.
                        let map = cluster.map.clone();
                        let fresh = Cluster::new("n0 n1 n2 n3 n4 n5");
                        cluster.acceptors = fresh.acceptors;
                        settled = None;
                        if let Some(map) = map {
                            cluster.acceptors.set(Ok(map));
                        }
                    }
                    _ => at += wait * 20,
                }
                at += wait;
                let before = cluster.map.clone();
                if let Some(before) = &before {
                    let of = if before.previous.is_empty() { &before.members } else { &before.previous };
                    let has = |m: &&String| cluster.speakers.get(*m).is_some_and(|s| s.epoch == before.epoch as i64);
                    settled = if of.iter().filter(has).count() >= majority(of.len()) { settled.or(Some(at)) } else { None };
                }
                if let (Some(members), Some(before)) = (cluster.step(secs(at)), before) {
                    prop_assert!(settled.is_some_and(|since| since + 3 <= at), "{before:?} -> {members:?}");
                    prop_assert_eq!(members.symmetric_difference(&before.members).count(), 1);
                    prop_assert!(!members.is_empty());
                    prop_assert_eq!(cluster.map.as_ref().map(|m| m.epoch), Some(before.epoch + 1));
                    settled = None;
                }
            }
        }
    }
}
