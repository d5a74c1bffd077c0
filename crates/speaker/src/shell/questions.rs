//! What is asked on the wire, and why: who has an address? An inquiry is one or several questions of `l2`; when all are
//! answered, or nobody answered, there is one outcome.

use engine::{IfIndex, MacAddr};
use l2::{Question, Unasked};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

/// Why it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Without a majority of acceptors: does its owner still answer?
    TakeOver,
    /// Nobody has used the address yet: does a stranger (RFC 5227 §2.1.1)?
    FirstUse,
    /// Another node says that it owns the address: does it answer?
    SelfProbe,
    /// The gateways of this link; the address is the unspecified one of their family, and is not asked for.
    Gateway(IfIndex),
}

/// A gateway, where it is, and in whose name it is asked: one that is asked by nobody may take that for a claim.
pub(super) type Gateway = (IfIndex, IpAddr, IpAddr);

/// What is to be asked.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    pub(super) why: Why,
    pub(super) address: IpAddr,
    pub(super) on: &'a BTreeSet<IfIndex>,
    /// Those that would answer if the link worked.
    pub(super) gateways: Vec<Gateway>,
    pub(super) times: u8,
    pub(super) every: Duration,
}

/// An inquiry has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) why: Why,
    pub(super) address: IpAddr,
    /// Who claims the address, and where.
    pub(super) claims: BTreeSet<(IfIndex, MacAddr)>,
    /// Every question could be asked and listened to: then no claim means that nobody is there.
    pub(super) certain: bool,
    /// Every link that has gateways was answered by one of them.
    pub(super) gateway: bool,
}

#[derive(Debug)]
struct Inquiry {
    why: Why,
    address: IpAddr,
    open: BTreeSet<u64>,
    claims: BTreeSet<(IfIndex, MacAddr)>,
    certain: bool,
    /// Links on which no gateway has answered yet.
    deaf: BTreeSet<IfIndex>,
}

/// All inquiries under way.
#[derive(Debug, Default)]
pub(super) struct Questions {
    last: u64,
    inquiries: BTreeMap<(Why, IpAddr), Inquiry>,
    /// Which inquiries wait for a question.
    asked: BTreeMap<u64, Vec<(Why, IpAddr)>>,
    /// A gateway is asked once for all that want to know.
    gateways: BTreeMap<(IfIndex, IpAddr), u64>,
}

impl Questions {
    /// Begins an inquiry, unless it is under way already; gives what to ask.
    pub(super) fn begin(&mut self, subject: Subject<'_>) -> Vec<Question> {
        let Subject { why, address, on, gateways, times, every } = subject;
        let key = (why, address);
        if self.inquiries.contains_key(&key) || (on.is_empty() && gateways.is_empty()) {
            return Vec::new();
        }
        let times = NonZeroU8::new(times).unwrap_or(NonZeroU8::MIN);
        let mut questions = Vec::new();
        let mut open = BTreeSet::new();
        for on in on {
            self.last += 1;
            let question = Question { id: self.last, address, on: *on, from: None, times, every, first: false };
            self.asked.insert(self.last, vec![key]);
            open.insert(self.last);
            questions.push(question);
        }
        let deaf = gateways.iter().map(|(on, ..)| *on).collect();
        for (on, gateway, from) in gateways {
            let id = *self.gateways.entry((on, gateway)).or_insert_with(|| {
                self.last += 1;
                let from = Some(from);
                questions.push(Question { id: self.last, address: gateway, on, from, times, every, first: true });
                self.last
            });
            self.asked.entry(id).or_default().push(key);
            open.insert(id);
        }
        let inquiry = Inquiry { why, address, open, claims: BTreeSet::new(), certain: true, deaf };
        self.inquiries.insert(key, inquiry);
        questions
    }

    /// A question has ended; gives the inquiries that end with it.
    pub(super) fn ended(
        &mut self,
        id: u64,
        address: IpAddr,
        on: IfIndex,
        by: &Result<BTreeSet<MacAddr>, Unasked>,
    ) -> Vec<Outcome> {
        let of_gateway = self.gateways.get(&(on, address)) == Some(&id);
        if of_gateway {
            self.gateways.remove(&(on, address));
        }
        let mut outcomes = Vec::new();
        for key in self.asked.remove(&id).unwrap_or_default() {
            let Some(inquiry) = self.inquiries.get_mut(&key) else { continue };
            inquiry.open.remove(&id);
            match by {
                Ok(macs) if of_gateway && !macs.is_empty() => drop(inquiry.deaf.remove(&on)),
                Ok(_) if of_gateway => {}
                Ok(macs) => inquiry.claims.extend(macs.iter().map(|mac| (on, *mac))),
                Err(_) => inquiry.certain = false,
            }
            if inquiry.open.is_empty()
                && let Some(Inquiry { why, address, claims, certain, deaf, .. }) = self.inquiries.remove(&key)
            {
                outcomes.push(Outcome { why, address, claims, certain, gateway: deaf.is_empty() });
            }
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn subject<'a>(address: u8, on: &'a BTreeSet<IfIndex>, gateways: &[Gateway]) -> Subject<'a> {
        let every = Duration::from_millis(20);
        Subject { why: Why::TakeOver, address: ip(address), on, gateways: gateways.to_vec(), times: 3, every }
    }

    #[test]
    fn silence_on_all_links_is_certain_only_when_all_could_be_asked() {
        let on = BTreeSet::from([IfIndex(2), IfIndex(3)]);
        let mut questions = Questions::default();
        let asked = questions.begin(subject(100, &on, &[]));
        assert_eq!(asked.iter().map(|q| q.on).collect::<Vec<_>>(), [IfIndex(2), IfIndex(3)]);
        assert_eq!(questions.begin(subject(100, &on, &[])), [], "it is under way");
        assert_eq!(questions.ended(asked[0].id, ip(100), IfIndex(2), &Ok(BTreeSet::new())), []);
        let [outcome] = &questions.ended(asked[1].id, ip(100), IfIndex(3), &Err(Unasked::Link))[..] else { panic!() };
        assert_eq!((outcome.certain, outcome.gateway, outcome.claims.len()), (false, true, 0));
        assert_ne!(questions.begin(subject(100, &on, &[])), [], "it may be asked again");
    }

    #[test]
    fn who_answers_is_named_with_the_link() {
        let on = BTreeSet::from([IfIndex(2)]);
        let mut questions = Questions::default();
        let asked = questions.begin(subject(100, &on, &[]));
        let [outcome] = &questions.ended(asked[0].id, ip(100), IfIndex(2), &Ok([MAC].into()))[..] else { panic!() };
        assert_eq!(outcome.claims, [(IfIndex(2), MAC)].into());
    }

    #[test]
    fn one_question_to_a_gateway_serves_all_inquiries_and_its_silence_is_told() {
        let on = BTreeSet::from([IfIndex(2)]);
        let gateway = [(IfIndex(2), ip(1), ip(11))];
        for (answer, answers) in [(BTreeSet::from([MAC]), true), (BTreeSet::new(), false)] {
            let mut questions = Questions::default();
            let first = questions.begin(subject(100, &on, &gateway));
            let second = questions.begin(subject(101, &on, &gateway));
            assert_eq!((first.len(), second.len()), (2, 1));
            assert_eq!((first[1].address, first[1].from, first[1].first), (ip(1), Some(ip(11)), true));
            for q in [&first[0], &second[0]] {
                assert_eq!(questions.ended(q.id, q.address, q.on, &Ok(BTreeSet::new())), []);
            }
            let outcomes = questions.ended(first[1].id, ip(1), IfIndex(2), &Ok(answer));
            assert_eq!(
                outcomes.iter().map(|o| (o.address, o.gateway)).collect::<Vec<_>>(),
                [(ip(100), answers), (ip(101), answers)]
            );
        }
    }
}
