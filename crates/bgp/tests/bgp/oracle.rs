//! Two other readers of BGP say the same of messages as ours: of what four daemons said, and of what we write.

use super::captured::{CAPTURES, messages};
use super::*;
use bgpkit_parser::Elementor;
use bgpkit_parser::models::{Asn as TheirAsn, AsnLength, BgpElem, ElemType, MetaCommunity};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::net::IpAddr;

const GENERATED: usize = 2000;

/// What a message says of prefixes and their paths; the end of one stands beside its beginning.
type Said = BTreeMap<(String, u32, bool), Option<Route>>;

#[derive(Debug, PartialEq)]
struct Route {
    next_hop: IpAddr,
    asns: Vec<u32>,
    /// 0 where there is none, as the other reader has it.
    med: u32,
    local_pref: u32,
    atomic: bool,
    /// Of each kind: usual, large, extended.
    communities: [usize; 3],
}

fn ours(update: &Update) -> Said {
    let hop = |nlri: &Nlri| {
        let multi = update.mp_reach.as_ref().filter(|reach| reach.nlri.contains(nlri)).map(|reach| reach.next_hop);
        match multi {
            Some(NextHop::V4(hop)) => hop.into(),
            Some(NextHop::V6 { global, .. }) => global.into(),
            None => update.next_hop.unwrap().into(),
        }
    };
    let a = &update.attributes;
    let route = |nlri: &Nlri| Route {
        next_hop: hop(nlri),
        asns: a.as_path.asns().map(Asn::get).collect(),
        med: a.med.unwrap_or(0),
        local_pref: a.local_pref.unwrap_or(0),
        atomic: a.atomic_aggregate,
        communities: [a.communities.len(), a.large_communities.len(), a.extended_communities.len()],
    };
    let key = |nlri: &Nlri, comes: bool| (nlri.prefix.to_string(), nlri.path, comes);
    let gone = update.gone().map(|nlri| (key(nlri, false), None));
    gone.chain(update.coming().map(|nlri| (key(nlri, true), Some(route(nlri))))).collect()
}

fn bgpkit(octets: &[u8], add_path: bool) -> Option<Said> {
    let mut octets = bytes::Bytes::copy_from_slice(octets);
    let message = bgpkit_parser::parser::bgp::parse_bgp_message(&mut octets, add_path, &AsnLength::Bits32).ok()?;
    let elements = Elementor::bgp_to_elems(message, 0.0, &IpAddr::from([192, 0, 2, 1]), &TheirAsn::from(65001u32));
    let of = |e: BgpElem| {
        let comes = e.elem_type == ElemType::ANNOUNCE;
        let key = (e.prefix.prefix.to_string(), e.prefix.path_id.unwrap_or(0), comes);
        let communities = e.communities.unwrap_or_default();
        let count = |of: fn(&MetaCommunity) -> bool| communities.iter().filter(|c| of(c)).count();
        let route = || Route {
            next_hop: e.next_hop.unwrap(),
            asns: e.as_path.iter().flat_map(|p| p.iter_segments()).flat_map(|s| s.iter()).map(|a| a.to_u32()).collect(),
            med: e.med.unwrap_or(0),
            local_pref: e.local_pref.unwrap_or(0),
            atomic: e.atomic,
            communities: [
                count(|c| matches!(c, MetaCommunity::Plain(_))),
                count(|c| matches!(c, MetaCommunity::Large(_))),
                count(|c| matches!(c, MetaCommunity::Extended(_) | MetaCommunity::Ipv6Extended(_))),
            ],
        };
        (key, comes.then(route))
    };
    Some(elements.into_iter().map(of).collect())
}

/// It reads the message without a complaint.
fn netgauze(octets: &[u8], add_path: bool) -> Result<(), String> {
    let families = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast].map(|family| (family, add_path));
    let mut context = BgpParsingContext::new(true, [].into(), families.into(), true, true, true, true);
    let message = BgpMessage::parse(&mut SliceReader::new(octets), &mut context).map_err(|e| format!("{e:?}"))?;
    drop(message);
    Ok(())
}

#[test]
fn of_what_daemons_said_others_read_the_same() {
    let both = BTreeSet::from(Family::ALL);
    for (name, octets, ..) in CAPTURES {
        // All four send path identifiers, once that was agreed upon.
        let codec = Codec { add_path_receive: both.clone(), ..modern() };
        let mut routes = 0;
        for message in messages(octets) {
            netgauze(message, true).unwrap_or_else(|error| panic!("{name}: {error}: {message:02x?}"));
            if let Message::Update(update) = decode(&codec, message).unwrap() {
                let said = ours(&update);
                assert_eq!(bgpkit(message, true), Some(said), "{name}: {message:02x?}");
                routes += update.coming().count();
            }
        }
        assert!(routes > 1, "{name}");
    }
}

#[test]
fn of_what_we_write_others_read_the_same() {
    let mut runner = TestRunner::deterministic();
    let mut routes = 0;
    for round in 0..GENERATED {
        let codec = round_trip::any_codec().new_tree(&mut runner).unwrap().current();
        // The others take either two octets or path identifiers for both families alike.
        if !codec.four_octet_as || codec.add_path_send.len() == 1 {
            continue;
        }
        let add_path = !codec.add_path_send.is_empty();
        let mut update = round_trip::any_update(&codec).new_tree(&mut runner).unwrap().current();
        // Announcements or withdrawals, in one form, as everybody writes them: of mixed ones the other reader takes a part.
        if round % 2 == 0 {
            (update.withdrawn, update.mp_unreach) = (vec![], None);
            update.mp_reach = update.mp_reach.filter(|_| update.announced.is_empty());
        } else {
            (update.announced, update.next_hop, update.mp_reach) = (vec![], None, None);
            update.attributes = Attributes::default();
            update.mp_unreach = update.mp_unreach.filter(|_| update.withdrawn.is_empty());
        }
        update.attributes.unknown.clear();
        // A list that begins with a default route one takes for one with path identifiers; the other minds multicast.
        let plain = |nlri: &Nlri| nlri.prefix.length() > 8 && !nlri.prefix.address().is_multicast();
        let lists = [&mut update.withdrawn, &mut update.announced];
        let multi =
            update.mp_reach.iter_mut().map(|r| &mut r.nlri).chain(update.mp_unreach.iter_mut().map(|u| &mut u.nlri));
        lists.into_iter().chain(multi).for_each(|list| list.retain(plain));
        let octets = encode(&codec, &Message::Update(Box::new(update.clone())));
        // It knows no confederations.
        let usual = |s: &Segment| matches!(s.kind, SegmentKind::Set | SegmentKind::Sequence);
        if update.attributes.as_path.0.iter().all(usual) {
            netgauze(&octets, add_path).unwrap_or_else(|error| panic!("{error}: {update:?}"));
        }
        assert_eq!(bgpkit(&octets, add_path), Some(ours(&update)), "{octets:02x?}");
        routes += update.coming().count();
    }
    assert!(routes > GENERATED / 4, "{routes}");
}
