//! What is written is read as the same value, whatever was agreed upon.

use super::*;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) fn any_asn(four: bool) -> impl Strategy<Value = Asn> {
    (if four { 1..=u32::MAX } else { 1..=65535 }).prop_map(asn)
}

pub(crate) fn any_prefix(family: Family) -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0..=family.bits()).prop_map(move |(bits, length)| {
        let address = match family {
            Family::Ipv4 => IpAddr::from(Ipv4Addr::from_bits(bits as u32)),
            Family::Ipv6 => IpAddr::from(Ipv6Addr::from_bits(bits)),
        };
        Prefix::new(address, length).unwrap()
    })
}

fn any_nlri(family: Family, add_path: bool) -> impl Strategy<Value = Vec<Nlri>> {
    let path = if add_path { 0..=u32::MAX } else { 0..=0 };
    vec((any_prefix(family), path).prop_map(|(prefix, path)| Nlri { prefix, path }), 0..6)
}

fn any_path(four: bool, internal: bool) -> impl Strategy<Value = AsPath> {
    let kinds = if internal { 4usize } else { 2 };
    let kind = (0..kinds).prop_map(|k| {
        [SegmentKind::Set, SegmentKind::Sequence, SegmentKind::ConfedSequence, SegmentKind::ConfedSet][k]
    });
    vec((kind, vec(any_asn(four), 1..5)).prop_map(|(kind, asns)| Segment { kind, asns }), 0..4).prop_map(AsPath)
}

fn any_unknown() -> impl Strategy<Value = Unknown> {
    let codes = prop_oneof![33u8..128, 129u8..=255];
    let value = prop_oneof![9 => vec(any::<u8>(), 0..9), 1 => vec(any::<u8>(), 250..300)];
    (codes, any::<bool>(), any::<bool>(), value).prop_map(|(code, transitive, partial, value)| Unknown {
        code,
        transitive,
        partial,
        value,
    })
}

pub(crate) fn any_attributes(four: bool, internal: bool) -> impl Strategy<Value = Attributes> {
    let ip = || any::<u32>().prop_map(Ipv4Addr::from);
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator = (any_asn(four), ip()).prop_map(|(asn, id)| Aggregator { asn, id });
    let large = any::<(u32, u32, u32)>();
    let large = large.prop_map(|(global, local_1, local_2)| LargeCommunity { global, local_1, local_2 });
    let first = (
        origin,
        any_path(four, internal),
        option::of(any::<u32>()),
        option::of(any::<u32>()).prop_map(move |n| n.filter(|_| internal)),
        any::<bool>(),
        option::of(aggregator),
    );
    let second = (
        btree_set(any::<u32>().prop_map(Community), 0..80),
        option::of(ip()).prop_map(move |n| n.filter(|_| internal)),
        vec(ip(), if internal { 0..4 } else { 0..1 }),
        btree_set(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..4),
        btree_set(large, 0..4),
        vec(any_unknown(), 0..3),
    );
    (first, second).prop_map(|(first, second)| {
        let (origin, as_path, med, local_pref, atomic_aggregate, aggregator) = first;
        let (communities, originator_id, cluster_list, extended_communities, large_communities, mut unknown) = second;
        let mut seen = BTreeSet::new();
        unknown.retain(|u| seen.insert(u.code));
        Attributes {
            origin,
            as_path,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            communities,
            originator_id,
            cluster_list,
            extended_communities,
            large_communities,
            unknown,
        }
    })
}

fn any_next_hop(family: Family) -> impl Strategy<Value = NextHop> {
    let v6 = (any::<u128>(), option::of(any::<u128>()))
        .prop_map(|(g, l)| NextHop::V6 { global: Ipv6Addr::from_bits(g), link_local: l.map(Ipv6Addr::from_bits) });
    let v4 = any::<u32>().prop_map(|n| NextHop::V4(n.into()));
    if family == Family::Ipv4 { prop_oneof![v4, v6].boxed() } else { v6.boxed() }
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

pub(crate) fn any_codec() -> impl Strategy<Value = Codec> {
    let families = || btree_set(family(), 0..3);
    (any::<bool>(), any::<bool>(), families()).prop_map(|(four_octet_as, internal, add_path)| Codec {
        four_octet_as,
        internal,
        extended_send: true,
        extended_receive: true,
        add_path_receive: add_path.clone(),
        add_path_send: add_path,
        ..modern()
    })
}

pub(crate) fn any_update(codec: &Codec) -> impl Strategy<Value = Update> + use<> {
    let (four, internal, paths) = (codec.four_octet_as, codec.internal, codec.add_path_send.clone());
    let ipv4 = paths.contains(&Family::Ipv4);
    let (reach_paths, unreach_paths) = (paths.clone(), paths);
    let reach = family().prop_flat_map(move |family| {
        (any_next_hop(family), any_nlri(family, reach_paths.contains(&family)))
            .prop_map(move |(next_hop, nlri)| Reach { family, next_hop, nlri })
    });
    let unreach = family().prop_flat_map(move |family| {
        any_nlri(family, unreach_paths.contains(&family)).prop_map(move |nlri| Unreach { family, nlri })
    });
    let parts = (any_nlri(Family::Ipv4, ipv4), any_nlri(Family::Ipv4, ipv4), any::<u32>());
    // Through two octets a path of four comes back only where it has no confederations.
    (parts, option::of(reach), option::of(unreach), any_attributes(true, internal && four)).prop_map(
        move |((withdrawn, announced, hop), mp_reach, mp_unreach, mut attributes)| {
            let next_hop = (!announced.is_empty()).then_some(hop.into());
            if announced.is_empty() && mp_reach.is_none() {
                attributes = Attributes::default();
            }
            if !four {
                attributes.as_path = AsPath::sequence(attributes.as_path.asns());
            }
            Update { withdrawn, mp_unreach, attributes, next_hop, announced, mp_reach, faults: vec![] }
        },
    )
}

fn any_capability() -> impl Strategy<Value = Capability> {
    let numbers = || (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| AfiSafi { afi, safi });
    let way = prop_oneof![Just(AddPath::Receive), Just(AddPath::Send), Just(AddPath::Both)];
    let restart = (any::<bool>(), any::<bool>(), 0u16..4096, vec((numbers(), any::<bool>()), 0..4)).prop_map(
        |(restarting, notification, restart_time, families)| {
            Capability::GracefulRestart(GracefulRestart { restarting, notification, restart_time, families })
        },
    );
    let long_lived = (numbers(), any::<bool>(), 0u32..1 << 24).prop_map(|(family, forwarding, stale_time)| LongLived {
        family,
        forwarding,
        stale_time,
    });
    prop_oneof![
        numbers().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        vec((numbers(), any::<u16>()), 0..4).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        restart,
        any_asn(true).prop_map(Capability::FourOctetAs),
        vec((numbers(), way), 0..4).prop_map(Capability::AddPath),
        Just(Capability::EnhancedRouteRefresh),
        vec(long_lived, 0..4).prop_map(Capability::LongLived),
        (128u8..=255, vec(any::<u8>(), 0..40)).prop_map(|(code, data)| Capability::Unknown { code, data }),
    ]
}

proptest! {
    #[test]
    fn updates((codec, update) in any_codec().prop_flat_map(|c| { let u = any_update(&c); (Just(c), u) })) {
        let message = Message::Update(Box::new(update));
        let bytes = encode(&codec, &message);
        prop_assert_eq!(decode(&codec, &bytes), Ok(message));
    }

    #[test]
    fn opens(two in any_asn(false), hold in prop_oneof![Just(0u16), 3..=u16::MAX], id in 1..=u32::MAX,
             capabilities in vec(any_capability(), 0..20)) {
        let message = Message::Open(Open {
            my_as: two,
            hold_time: HoldTime::new(hold).unwrap(),
            router_id: RouterId::new(id.into()).unwrap(),
            capabilities,
        });
        prop_assert_eq!(decode(&modern(), &encode(&modern(), &message)), Ok(message));
    }

    #[test]
    fn notifications_and_refreshes(octets: [u8; 2], data in vec(any::<u8>(), 0..40), afi: u16, safi: u8, n in 0usize..3) {
        let notification = Message::Notification(Notification { code: Code::from_octets(octets), data });
        prop_assert_eq!(decode(&modern(), &encode(&modern(), &notification)), Ok(notification));
        let refresh = Some([Refresh::Request, Refresh::Begin, Refresh::End][n]);
        let message = Message::RouteRefresh { family: AfiSafi { afi, safi }, refresh };
        prop_assert_eq!(decode(&modern(), &encode(&modern(), &message)), Ok(message));
    }
}
