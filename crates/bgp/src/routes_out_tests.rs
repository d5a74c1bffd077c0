//! Replaying what is sent onto an empty table gives what is wanted, whatever changes in between; nothing is sent twice.

use super::*;
use crate::config::NextHops;
use crate::types::Asn;
use crate::wire::{AsPath, Framer};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::net::Ipv6Addr;

fn codec(add_path: bool) -> Codec {
    let add_path: BTreeSet<Family> = if add_path { BTreeSet::from(Family::ALL) } else { BTreeSet::new() };
    Codec {
        four_octet_as: true,
        families: BTreeSet::from(Family::ALL),
        add_path_receive: add_path.clone(),
        add_path_send: add_path,
        ..Codec::default()
    }
}

fn export() -> Export {
    let next_hops = NextHops { ipv6: Some(Ipv6Addr::LOCALHOST), ..NextHops::default() };
    Export { local_as: Asn::TRANS, next_hops, local: "192.0.2.1".parse().unwrap(), draining: false }
}

fn limits(add_path: bool) -> Limits {
    Family::ALL.into_iter().map(|f| (f, add_path.then_some(2))).collect()
}

/// A peer that only listens.
#[derive(Default)]
struct Listener {
    table: BTreeMap<Nlri, Attributes>,
    ended: BTreeSet<Family>,
    messages: usize,
    announced: bool,
}

impl Listener {
    fn hear(&mut self, codec: &Codec, message: &Message) {
        let mut bytes = vec![];
        codec.emit(message, &mut bytes);
        assert!(bytes.len() <= codec.max_send(), "{} octets", bytes.len());
        let mut framer = Framer::default();
        framer.push(&bytes);
        let (kind, body) = framer.next(codec.extended_send).unwrap().unwrap();
        self.messages += 1;
        let Message::Update(update) = codec.parse(kind, body).unwrap() else { return };
        assert!(update.faults.is_empty(), "{:?}", update.faults);
        self.ended.extend(update.ends_rib_of());
        for nlri in update.gone() {
            assert!(!self.announced, "a withdrawal after an announcement");
            assert!(self.table.remove(nlri).is_some(), "{nlri:?} was withdrawn but never told");
        }
        self.announced |= update.coming().next().is_some();
        for nlri in update.coming() {
            self.table.insert(*nlri, update.attributes.clone());
        }
    }

    fn hear_all(&mut self, out: &mut RoutesOut, add_path: bool, most: usize) {
        self.announced = false;
        for _ in 0..most {
            let Some(message) = out.next_message(&codec(add_path), &export(), true) else { return };
            self.hear(&codec(add_path), &message);
        }
    }
}

/// What the peer is to have.
fn shown(wanted: &Routes, add_path: bool) -> BTreeMap<Nlri, Attributes> {
    let mut shown: BTreeMap<Nlri, Attributes> = BTreeMap::new();
    for (nlri, path) in wanted {
        let several = shown.keys().filter(|n| n.prefix == nlri.prefix).count();
        let mut attributes = path.attributes.clone();
        attributes.as_path.prepend(Asn::TRANS, 1);
        attributes.local_pref = None;
        if several < if add_path { 2 } else { 1 } {
            shown.insert(if add_path { *nlri } else { Nlri::of(nlri.prefix) }, attributes);
        }
    }
    shown
}

#[derive(Debug, Clone)]
enum Step {
    Set(Routes),
    Change(Vec<(Nlri, Option<Arc<Path>>)>),
    Hear(usize),
    Again(Family, bool),
    Begin,
}

fn any_nlri() -> impl Strategy<Value = Nlri> {
    (0u8..6, 1u32..4).prop_map(|(n, path)| {
        let address = if n < 3 { format!("10.0.{n}.0/24") } else { format!("2001:db8:{n}::/48") };
        Nlri { prefix: address.parse().unwrap(), path }
    })
}

fn any_path() -> impl Strategy<Value = Arc<Path>> {
    (0u32..3).prop_map(|med| {
        let attributes = Attributes { med: Some(med), as_path: AsPath::default(), ..Attributes::default() };
        Arc::new(Path { attributes, next_hop: None })
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    prop_oneof![
        btree_map(any_nlri(), any_path(), 0..8).prop_map(Step::Set),
        vec((any_nlri(), proptest::option::of(any_path())), 0..5).prop_map(Step::Change),
        (0usize..4).prop_map(Step::Hear),
        (family, any::<bool>()).prop_map(|(f, marked)| Step::Again(f, marked)),
        Just(Step::Begin),
    ]
}

proptest! {
    #[test]
    fn replaying_the_messages_gives_what_is_wanted(steps in vec(any_step(), 0..30), add_path: bool) {
        let mut out = RoutesOut::default();
        out.begin(limits(add_path));
        let mut peer = Listener::default();
        for step in steps {
            match step {
                Step::Set(routes) => out.set(routes),
                Step::Change(changes) => out.change(changes),
                Step::Hear(most) => peer.hear_all(&mut out, add_path, most),
                Step::Again(family, marked) => out.again(family, marked),
                Step::Begin => {
                    out.begin(limits(add_path));
                    peer = Listener::default();
                }
            }
        }
        let wanted = out.wanted().clone();
        out.set(wanted.clone());
        peer.hear_all(&mut out, add_path, 1000);
        prop_assert_eq!(&peer.table, &shown(&wanted, add_path));
        prop_assert_eq!(&peer.ended, &BTreeSet::from(Family::ALL));
        prop_assert!(out.said_all() && out.queued() == 0 && out.groups.is_empty() && out.withdrawals.is_empty());
        // No news, no octets.
        let before = peer.messages;
        out.set(wanted);
        peer.hear_all(&mut out, add_path, 1000);
        prop_assert_eq!(peer.messages, before);
    }
}

fn many(n: u32, med: u32) -> Routes {
    let path = Arc::new(Path { attributes: Attributes { med: Some(med), ..Attributes::default() }, next_hop: None });
    let host = |i: u32| Nlri::of(Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).into()));
    (0..n).map(|i| (host(i), path.clone())).collect()
}

#[test]
fn many_prefixes_with_the_same_attributes_leave_in_full_messages() {
    let mut out = RoutesOut::default();
    out.set(many(10_000, 1));
    out.begin(limits(false));
    let mut peer = Listener::default();
    peer.hear_all(&mut out, false, 1000);
    assert_eq!(peer.table.len(), 10_000);
    // 5 octets each, in messages of 4096, and two ends.
    assert_eq!(peer.messages, 10_000usize.div_ceil((4096 - 23 - 4 - 9 - 7 - 7) / 5) + 2);
    let before = peer.messages;
    out.set(Routes::new());
    peer.hear_all(&mut out, false, 1000);
    assert_eq!((peer.table.len(), peer.messages - before), (0, 10_000usize.div_ceil((4096 - 23) / 5)));
}

#[test]
fn what_is_asked_for_again_comes_family_by_family_each_between_its_beginning_and_its_end() {
    let (mut out, codec) = (RoutesOut::default(), codec(false));
    let path = Arc::new(Path::default());
    let all = ["10.0.0.0/8", "fd00::/16"].map(|p| (Nlri::of(p.parse().unwrap()), path.clone()));
    out.set(all.into());
    out.begin(limits(false));
    while out.next_message(&codec, &export(), true).is_some() {}
    Family::ALL.into_iter().for_each(|family| out.again(family, true));
    let said: Vec<String> = std::iter::from_fn(|| out.next_message(&codec, &export(), true))
        .map(|message| match message {
            Message::RouteRefresh { family, refresh } => format!("{:?} {refresh:?}", family.family().unwrap()),
            Message::Update(update) => format!("{:?}", update.coming().next().unwrap().prefix.family()),
            other => panic!("{other:?}"),
        })
        .collect();
    let of = |family: &str| [format!("{family} Some(Begin)"), family.to_owned(), format!("{family} Some(End)")];
    assert_eq!(said, [of("Ipv4"), of("Ipv6")].concat());
}

#[test]
fn one_change_of_many_is_one_small_message() {
    let mut out = RoutesOut::default();
    out.set(many(10_000, 1));
    out.begin(limits(false));
    let mut peer = Listener::default();
    peer.hear_all(&mut out, false, 1000);
    let mut changed = many(10_000, 1);
    changed.pop_last();
    let before = peer.messages;
    out.set(changed);
    peer.hear_all(&mut out, false, 1000);
    assert_eq!((peer.table.len(), peer.messages - before), (9_999, 1));
}

#[test]
fn what_has_no_next_hop_for_the_peer_is_named_and_withdrawn() {
    let mut out = RoutesOut::default();
    out.begin(limits(false));
    out.set(many(3, 1));
    let mut peer = Listener::default();
    peer.hear_all(&mut out, false, 10);
    assert_eq!(peer.table.len(), 3);
    let other = Arc::new(Path {
        next_hop: Some(NextHop::V6 { global: Ipv6Addr::LOCALHOST, link_local: None }),
        ..Path::default()
    });
    let all: Vec<_> = out.wanted().keys().map(|n| (*n, Some(other.clone()))).collect();
    out.change(all);
    peer.hear_all(&mut out, false, 10);
    assert_eq!((peer.table.len(), out.unsendable().len()), (0, 3));
    out.set(Routes::new());
    assert_eq!((out.unsendable().len(), out.queued()), (0, 0));
}

#[test]
fn attributes_that_fill_a_message_are_named() {
    let mut out = RoutesOut::default();
    out.begin(limits(false));
    let communities = (0..1100).map(crate::Community).collect();
    let path = Path { attributes: Attributes { communities, ..Attributes::default() }, next_hop: None };
    out.set(Routes::from([(Nlri::of("10.0.0.0/8".parse().unwrap()), Arc::new(path))]));
    let mut peer = Listener::default();
    peer.hear_all(&mut out, false, 10);
    assert_eq!(out.unsendable().values().copied().collect::<Vec<_>>(), [Unsendable::TooLong]);
    assert_eq!(peer.ended.len(), 2, "the session goes on");
}
