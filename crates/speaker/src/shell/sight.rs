//! What this node finds when it asks on the wire: whether gateways answer, and who answers for others' addresses. Other
//! speakers hear of it, so that an owner whose gateway answers only others hands over, and one that is not found
//! announces itself again.

use super::Shell;
use super::questions::{Subject, Why};
use crate::facts::Probed;
use engine::{Engine, IfIndex, MacAddr, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How often it is looked which gateways to ask.
const LOOK: Duration = Duration::from_secs(1);
/// How often a gateway that answers is asked; one that does not is asked at every look.
const CALM: Duration = Duration::from_secs(5);
/// How it is asked.
const ASK: (u8, Duration) = (3, Duration::from_millis(300));
/// After so many inquiries without an answer it is silent.
const MISSES: u8 = 2;

/// The gateways of one family on one link.
pub(super) type Way = (IfIndex, bool);

/// What is known of gateways.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    ways: BTreeMap<Way, Asked>,
    look_at: Option<Tick>,
    /// Something was found that the other speakers were not told yet.
    pub(super) untold: bool,
}

#[derive(Debug, Default)]
struct Asked {
    next: Tick,
    misses: u8,
    answers: Option<bool>,
}

impl Gateways {
    /// When to look next.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.look_at
    }

    pub(super) fn answered(&mut self, now: Tick, way: Way, answered: bool) {
        let Some(asked) = self.ways.get_mut(&way) else { return };
        let before = asked.answers;
        if answered {
            (asked.misses, asked.answers, asked.next) = (0, Some(true), now + CALM);
        } else {
            asked.misses = asked.misses.saturating_add(1);
            asked.next = now;
            if asked.misses >= MISSES {
                asked.answers = Some(false);
            }
        }
        self.untold |= asked.answers != before;
    }

    /// Of these ways some are known to be silent and none to answer; or one is known to answer.
    fn judge(&self, ways: impl Iterator<Item = Way>) -> Option<bool> {
        let known = ways.filter_map(|way| self.ways.get(&way)?.answers);
        known.fold(None, |so_far, answers| Some(so_far == Some(true) || answers))
    }

    fn some_silent(&self) -> bool {
        self.ways.values().any(|asked| asked.answers == Some(false))
    }
}

/// What a probe of another node's address found, after what the one before did.
pub(super) fn judge(before: Option<&Probed>, macs: &BTreeSet<MacAddr>, of_owner: &BTreeSet<MacAddr>) -> Probed {
    // An owner that has not said which its interfaces are may have any.
    let foreign: Vec<&MacAddr> = macs.iter().filter(|mac| !of_owner.is_empty() && !of_owner.contains(mac)).collect();
    match (macs.len(), foreign.first()) {
        (0, _) => Probed::Unanswered,
        (1, None) => Probed::Right,
        (1, Some(mac)) => {
            let times = match before {
                Some(Probed::Foreign { mac: same, times }) if same == *mac => times.saturating_add(1),
                _ => 1,
            };
            Probed::Foreign { mac: **mac, times }
        }
        (_, None) if !of_owner.is_empty() => Probed::Right,
        _ => Probed::Several(macs.clone()),
    }
}

impl Shell {
    fn ways_of(&self, unit: IpAddr) -> impl Iterator<Item = Way> {
        let address = self.intent.any_member(unit);
        self.links_of(address).into_iter().flatten().map(move |on| (*on, address.is_ipv4()))
    }

    /// Asks the gateways behind which this node owns addresses, or of which another node says that they are silent.
    pub(super) fn ask_gateways(&mut self, now: Tick) {
        if self.gateways.look_at.is_some_and(|at| now < at) {
            return self.tell_sight(now);
        }
        self.gateways.look_at = Some(now + LOOK);
        let there: BTreeSet<Way> = self.facts.table.gateways.keys().map(|(on, ip)| (*on, ip.is_ipv4())).collect();
        let asked_to_reach = self.lease.asked_to_reach();
        // They differ in few links, whatever they are.
        let units = self.lease.owned().iter().chain(&asked_to_reach);
        let needed: BTreeSet<Way> = units.flat_map(|unit| self.ways_of(*unit)).collect();
        let before = self.gateways.ways.len();
        self.gateways
            .ways
            .retain(|way, asked| there.contains(way) && (needed.contains(way) || asked.answers == Some(false)));
        self.gateways.untold |= self.gateways.ways.len() != before || !asked_to_reach.is_empty();
        for way in needed.intersection(&there) {
            self.gateways.ways.entry(*way).or_default();
        }
        let due: Vec<Way> = self.gateways.ways.iter().filter(|(_, a)| a.next <= now).map(|(way, _)| *way).collect();
        for (on, v4) in due {
            let family = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
            let gateways = self.gateways(&BTreeSet::from([on]), family);
            let nowhere = BTreeSet::new();
            let (times, every) = ASK;
            let subject = Subject { why: Why::Gateway(on), address: family, on: &nowhere, gateways, times, every };
            let questions = self.questions.begin(subject);
            questions.into_iter().for_each(|question| self.l2.handle(now, l2::Input::Ask(question)));
        }
        self.tell_sight(now);
    }

    /// These answered when this node asked for another's address.
    pub(super) fn probed(&mut self, address: IpAddr, claims: BTreeSet<(IfIndex, MacAddr)>) {
        let macs: BTreeSet<MacAddr> = claims.into_iter().map(|(_, mac)| mac).collect();
        let owner = self.lease.owner(self.intent.unit(address)).map(str::to_owned);
        let Some(owner) = owner.filter(|owner| *owner != self.node) else { return };
        let before = self.facts.probed.get(&address);
        let mut of_owner = self.lease.macs(&owner);
        if !of_owner.is_empty() {
            of_owner.extend(self.intent.virtual_mac(address));
        }
        let found = judge(before, &macs, &of_owner);
        // Thousands of probes end as the ones before, and are no news.
        if before != Some(&found) {
            self.facts.probed.insert(address, found);
            self.gateways.untold = true;
        }
    }

    /// Tells the other speakers what was found, if that has changed.
    fn tell_sight(&mut self, now: Tick) {
        if !std::mem::take(&mut self.gateways.untold) {
            return;
        }
        let cut = self.gateways.some_silent();
        let silent = |unit: &&IpAddr| cut && self.gateways.judge(self.ways_of(**unit)) == Some(false);
        let silent: BTreeSet<IpAddr> = self.lease.owned().iter().filter(silent).copied().collect();
        let reached = |unit: &IpAddr| self.gateways.judge(self.ways_of(*unit)) == Some(true);
        let reached = self.lease.asked_to_reach().into_iter().filter(reached).collect();
        let doubted = self
            .facts
            .probed
            .iter()
            .filter(|(_, found)| **found != Probed::Right)
            .map(|(ip, _)| self.intent.unit(*ip))
            .collect();
        let ways = self.gateways.ways.iter().filter(|(_, a)| a.answers == Some(false));
        let of_way = |(way, _): (&Way, &Asked)| self.gateways_on(*way);
        self.facts.silent_gateways = ways.flat_map(of_way).collect();
        self.lease.handle(now, lease::Input::Sight(Box::new(lease::Sight { cut, silent, reached, doubted })));
        self.lease_effects(now);
        self.news = true;
    }

    fn gateways_on(&self, (on, v4): Way) -> Vec<(IfIndex, IpAddr)> {
        let all = self.facts.table.gateways.keys();
        all.filter(|(link, ip)| *link == on && ip.is_ipv4() == v4).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = (IfIndex(2), true);

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn a_gateway_is_silent_after_the_second_inquiry_in_vain_and_answers_after_one_answer() {
        let mut gateways = Gateways { ways: [(WAY, Asked::default())].into(), ..Gateways::default() };
        let now = Tick::from_millis(1000);
        gateways.answered(now, WAY, false);
        assert_eq!(gateways.judge([WAY].into_iter()), None);
        assert_eq!(gateways.ways[&WAY].next, now, "it is asked again at once");
        gateways.answered(now, WAY, false);
        assert_eq!(gateways.judge([WAY].into_iter()), Some(false));
        assert_eq!(gateways.judge([(IfIndex(3), true)].into_iter()), None, "a link without a gateway says nothing");
        gateways.answered(now, WAY, true);
        assert_eq!(gateways.judge([WAY].into_iter()), Some(true));
        gateways.answered(now, WAY, false);
        assert_eq!(gateways.judge([WAY].into_iter()), Some(true), "one lost answer is nothing");
    }

    #[test]
    fn one_gateway_that_answers_is_enough() {
        let other = (IfIndex(3), true);
        let mut gateways =
            Gateways { ways: [(WAY, Asked::default()), (other, Asked::default())].into(), ..Gateways::default() };
        (0..2).for_each(|_| gateways.answered(Tick::ZERO, WAY, false));
        assert_eq!(gateways.judge([WAY, other].into_iter()), Some(false));
        gateways.answered(Tick::ZERO, other, true);
        assert_eq!(gateways.judge([WAY, other].into_iter()), Some(true));
    }

    #[test]
    fn an_answer_is_right_when_it_comes_from_an_interface_of_the_owner() {
        let owner = BTreeSet::from([mac(1), mac(2)]);
        assert_eq!(judge(None, &BTreeSet::new(), &owner), Probed::Unanswered);
        assert_eq!(judge(None, &[mac(1)].into(), &owner), Probed::Right);
        assert_eq!(judge(None, &[mac(1), mac(2)].into(), &owner), Probed::Right);
        assert_eq!(judge(None, &[mac(9)].into(), &BTreeSet::new()), Probed::Right, "it did not say which it has");
        let both = BTreeSet::from([mac(1), mac(9)]);
        assert_eq!(judge(None, &both, &owner), Probed::Several(both));
        let first = judge(None, &[mac(9)].into(), &owner);
        assert_eq!(first, Probed::Foreign { mac: mac(9), times: 1 });
        assert_eq!(judge(Some(&first), &[mac(9)].into(), &owner), Probed::Foreign { mac: mac(9), times: 2 });
        assert_eq!(judge(Some(&first), &[mac(8)].into(), &owner), Probed::Foreign { mac: mac(8), times: 1 });
    }
}
