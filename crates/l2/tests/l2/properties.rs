//! For any inputs in any order: nothing leaves that the last inputs do not allow, every request that must be answered
//! is, facts agree with what is owned, every question ends once, and a run repeats exactly.

use super::*;
use oxelb_l2::Unasked;
use proptest::prelude::*;

const POOL: [&str; 6] =
    ["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::a:1", "2001:db8:1::a:1", "2001:db8::b:2"];

#[derive(Debug, Clone)]
enum Step {
    Do(Input),
    /// A request for an address of the pool.
    Ask(IfIndex, usize),
    Pass(u64),
    /// Leaves what waits in the queue: the next inputs come before it is drained.
    Hold(Input),
}

fn any_links() -> impl Strategy<Value = Input> {
    let link = (0usize..3, any::<bool>()).prop_map(|(m, up)| link([MAC0, MAC1, MacAddr([2, 9, 9, 9, 9, 9])][m], up));
    proptest::collection::btree_map((2u32..5).prop_map(IfIndex), link, 0..4).prop_map(Input::Links)
}

fn any_addresses() -> impl Strategy<Value = Input> {
    let on = proptest::collection::btree_set((2u32..5).prop_map(IfIndex), 0..3);
    let address = (0..POOL.len()).prop_map(|i| ip(POOL[i]));
    proptest::collection::btree_map(address, on, 0..6).prop_map(Input::Addresses)
}

fn any_virtual_macs() -> impl Strategy<Value = Input> {
    let one = (0..POOL.len(), 1u8..3).prop_map(|(a, id)| (ip(POOL[a]), MacAddr([0, 0, 0x5e, 0, 1, id])));
    proptest::collection::vec(one, 0..3).prop_map(|macs| Input::VirtualMacs(macs.into_iter().collect()))
}

fn any_frame() -> impl Strategy<Value = Input> {
    let mac = (0usize..4).prop_map(|m| [CLIENT, STRANGER, MAC0, MAC1][m]);
    (2u32..6, mac, 0usize..7, 0..3usize, 3..6usize).prop_map(|(on, mac, kind, a, b)| {
        let (a, b) = (POOL[a], POOL[b]);
        let bytes = match kind {
            0 => arp_request(mac, "198.51.100.200", a),
            1 => arp_request(mac, "0.0.0.0", a),
            2 => arp_request(mac, a, a),
            3 => arp_reply(mac, a, "198.51.100.200"),
            4 => solicitation(mac, "2001:db8::c1", b, Some(mac)),
            5 => solicitation(mac, "::", b, None),
            _ => advertisement(mac, b, Some(mac)),
        };
        Input::Frame { on: IfIndex(on), bytes }
    })
}

fn any_watch() -> impl Strategy<Value = Input> {
    any_addresses().prop_map(|input| match input {
        Input::Addresses(all) => Input::Watch(all),
        other => other,
    })
}

fn any_question() -> impl Strategy<Value = Input> {
    let from = proptest::option::of((0usize..2).prop_map(|i| ip(["198.51.100.200", "fe80::10"][i])));
    (0..2u64, 0..POOL.len(), 2u32..6, from, 1u8..4, 1u64..200, any::<bool>()).prop_map(
        |(id, address, on, from, times, every, first)| {
            let (times, every) = (NonZeroU8::new(times).unwrap(), Duration::from_millis(every));
            Input::Ask(Question { id, address: ip(POOL[address]), on: IfIndex(on), from, times, every, first })
        },
    )
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => any_links(),
        2 => any_addresses(),
        1 => any_watch(),
        1 => any_virtual_macs(),
        3 => any_frame(),
        2 => any_question(),
        1 => (2u32..6).prop_map(|on| Input::Gateway { on: IfIndex(on) }),
        1 => (0..POOL.len()).prop_map(|a| Input::Announce { address: ip(POOL[a]) }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_input().prop_map(Step::Do),
        2 => any_input().prop_map(Step::Hold),
        3 => (2u32..6, 0..POOL.len()).prop_map(|(on, a)| Step::Ask(IfIndex(on), a)),
        2 => (0u64..70_000).prop_map(Step::Pass),
    ]
}

/// What the last inputs allow, kept in the plainest way.
#[derive(Default)]
struct Allowed {
    links: BTreeMap<IfIndex, Link>,
    addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>>,
    watched: BTreeMap<IpAddr, BTreeSet<IfIndex>>,
    virtual_macs: BTreeMap<IpAddr, MacAddr>,
    /// Asked, and not ended.
    questions: BTreeSet<(u64, IpAddr, IfIndex)>,
    announcing: BTreeSet<(IpAddr, IfIndex)>,
    groups: BTreeSet<(IfIndex, Ipv6Addr)>,
    /// From whom frames came that were not from one of our links at that moment.
    strangers: BTreeSet<MacAddr>,
}

impl Allowed {
    fn learn(&mut self, input: &Input) {
        match input {
            Input::Links(l) => self.links = l.clone(),
            Input::Addresses(a) => self.addresses = a.clone(),
            Input::Watch(a) => self.watched = a.clone(),
            Input::VirtualMacs(macs) => self.virtual_macs = macs.clone(),
            Input::Ask(q) => drop(self.questions.insert((q.id, q.address, q.on))),
            Input::Frame { bytes, .. } => {
                let from = MacAddr(bytes[6..12].try_into().unwrap());
                if self.links.values().all(|link| link.mac != from) {
                    self.strangers.insert(from);
                }
            }
            _ => {}
        }
    }

    /// The MAC address to answer with.
    fn answers(&self, address: IpAddr, on: IfIndex) -> Option<MacAddr> {
        let link = self.links.get(&on).filter(|l| l.up)?;
        let mac = self.virtual_macs.get(&address).copied().unwrap_or(link.mac);
        self.addresses.get(&address)?.contains(&on).then_some(mac)
    }

    fn usable(&self, on: IfIndex) -> Option<MacAddr> {
        self.links.get(&on).filter(|l| l.up).map(|l| l.mac)
    }

    fn check_frame(&self, on: IfIndex, frame: &[u8], speaks_for: Option<IpAddr>) -> Result<(), TestCaseError> {
        if let Some((_, address)) = asked_for(frame) {
            prop_assert_eq!(speaks_for, None);
            prop_assert!(self.questions.iter().any(|(_, a, o)| (*a, *o) == (address, on)), "{} on {}", address, on);
            prop_assert!(!self.addresses.contains_key(&address), "{} is ours", address);
            prop_assert_eq!(self.usable(on).map(|m| m.0.to_vec()), Some(frame[6..12].to_vec()));
            return Ok(());
        }
        let said = said(frame);
        let mac = self.answers(said.address, on);
        prop_assert_eq!(mac, Some(said.mac), "{:?} on {}", said, on);
        prop_assert_eq!(mac, Some(said.from));
        prop_assert_eq!(speaks_for, Some(said.address));
        Ok(())
    }

    /// What is drained agrees with the last inputs; `held` says that several came before it.
    fn check(&mut self, held: bool, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Send { on, frame, speaks_for } => self.check_frame(*on, frame, *speaks_for)?,
                Effect::Announcing { address, on } => prop_assert!(self.announcing.insert((*address, *on))),
                Effect::Withdrawn { address, on } => prop_assert!(self.announcing.remove(&(*address, *on))),
                Effect::Join { on, group } => prop_assert!(self.groups.insert((*on, *group))),
                Effect::Leave { on, group } => prop_assert!(self.groups.remove(&(*on, *group))),
                Effect::Conflict { address, on, .. } => {
                    prop_assert!(held || self.answers(*address, *on).is_some());
                }
                Effect::Seen { address, on, .. } => {
                    let watched = self.watched.get(address).is_some_and(|w| w.contains(on));
                    let ours = self.addresses.contains_key(address);
                    prop_assert!(held || (watched && !ours && self.usable(*on).is_some()), "{} on {}", address, on);
                }
                Effect::Asked { id, address, on, by } => {
                    prop_assert!(self.questions.remove(&(*id, *address, *on)), "ended twice");
                    prop_assert!(
                        held || by.is_ok() || *by != Err(Unasked::Owned) || self.addresses.contains_key(address)
                    );
                    let named = by.iter().flatten().copied().filter(|mac| *mac != CLIENT);
                    prop_assert!(named.into_iter().all(|mac| self.strangers.contains(&mac)), "one of our own is named");
                }
            }
        }
        for (_, address, on) in &self.questions {
            prop_assert!(self.usable(*on).is_some() && !self.addresses.contains_key(address));
        }
        let mut announcing = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for (&address, on) in &self.addresses {
            for &on in on.iter().filter(|on| self.answers(address, **on).is_some()) {
                announcing.insert((address, on));
                if let IpAddr::V6(a) = address {
                    groups.insert((on, ndp::solicited_node(a)));
                }
            }
        }
        for (_, on) in self.watched.iter().filter(|(address, _)| address.is_ipv6()) {
            groups.extend(on.iter().filter(|on| self.usable(**on).is_some()).map(|on| (*on, ndp::ALL_NODES)));
        }
        prop_assert_eq!(&self.announcing, &announcing);
        prop_assert_eq!(&self.groups, &groups);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_answers_for_exactly_what_it_owns_in_any_order_of_inputs(steps in proptest::collection::vec(any_step(), 1..40)) {
        let mut l2 = L2::new(fastrand::Rng::with_seed(7));
        let mut allowed = Allowed::default();
        let mut now = Tick(1);
        let mut held = false;
        for step in steps {
            // Else a question could end and be asked again before anybody looks.
            if matches!(step, Step::Do(Input::Ask(_)) | Step::Hold(Input::Ask(_))) {
                allowed.check(std::mem::take(&mut held), &drain(&mut l2))?;
            }
            match step {
                Step::Do(input) => {
                    allowed.learn(&input);
                    l2.handle(now, input);
                    allowed.check(std::mem::take(&mut held), &drain(&mut l2))?;
                }
                Step::Hold(input) => {
                    allowed.learn(&input);
                    l2.handle(now, input);
                    held = true;
                }
                Step::Ask(on, a) => {
                    let address = ip(POOL[a]);
                    let bytes = match address {
                        IpAddr::V4(_) => arp_request(CLIENT, "198.51.100.200", POOL[a]),
                        IpAddr::V6(_) => solicitation(CLIENT, "2001:db8::c1", POOL[a], Some(CLIENT)),
                    };
                    allowed.check(std::mem::take(&mut held), &drain(&mut l2))?;
                    let effects = act(&mut l2, now, Input::Frame { on, bytes });
                    allowed.check(false, &effects)?;
                    let answers: Vec<_> = sent(&effects)
                        .iter()
                        .filter(|(_, f)| asked_for(f).is_none())
                        .map(|(_, f)| said(f))
                        .filter(|s| s.answers)
                        .collect();
                    let mac = allowed.answers(address, on);
                    let expected = mac.map(|mac| Said { to: CLIENT, from: mac, address, mac, answers: true });
                    prop_assert_eq!(answers, expected.into_iter().collect::<Vec<_>>());
                }
                Step::Pass(ms) => {
                    allowed.check(std::mem::take(&mut held), &drain(&mut l2))?;
                    let until = now + Duration::from_millis(ms);
                    for (_, effect) in run(&mut l2, until) {
                        allowed.check(false, &[effect])?;
                    }
                    now = until;
                }
            }
            if !held {
                prop_assert_eq!(
                    l2.deadline().is_some(),
                    !allowed.announcing.is_empty() || !allowed.questions.is_empty()
                );
            }
        }
        allowed.check(held, &drain(&mut l2))?;
        for (_, effect) in run(&mut l2, now + Duration::from_secs(10)) {
            allowed.check(false, &[effect])?;
        }
        prop_assert!(allowed.questions.is_empty(), "never ended: {:?}", allowed.questions);
    }

    #[test]
    fn the_same_seed_and_inputs_give_the_same_effects(inputs in proptest::collection::vec(any_input(), 1..30), seed: u64) {
        let record = || {
            let mut l2 = L2::new(fastrand::Rng::with_seed(seed));
            let mut effects = Vec::new();
            for (i, input) in inputs.iter().enumerate() {
                let now = Tick::from_millis(i as u64 * 20_000);
                effects.extend(act(&mut l2, now, input.clone()).into_iter().map(|e| (now, e)));
                effects.extend(run(&mut l2, now + Duration::from_millis(19_999)));
            }
            effects
        };
        prop_assert_eq!(record(), record());
    }
}
