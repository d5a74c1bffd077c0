//! Metrics of BGP. The names of OpenELB are kept, with what their names promise (compat §3.7); ours begin with
//! `oxelb_bgp_`.

use super::facts::{Facts, PeerFacts};
use bgp::State;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// As OpenELB spells them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case, reason = "the names of labels")]
struct Theirs {
    peerIP: String,
    nodeName: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ours {
    peer: String,
}

/// A metric's name, its help, and its value.
type Row<T> = (&'static str, &'static str, fn(&PeerFacts) -> T);

const THEIRS: [Row<u64>; 4] = [
    ("session_up", "0 idle, 1 connect, 2 active, 3 open sent, 4 open confirm, 5 established", state),
    ("updates_total", "UPDATE messages received", |p| p.counters.received.update),
    ("announced_prefixes_total", "Prefixes that the router was told", |p| p.advertised() as u64),
    ("pending_prefixes_total", "Prefixes that the router is still to be told", |p| p.queued() as u64),
];

const COUNTERS: [Row<u64>; 9] = [
    ("oxelb_bgp_sessions_established", "How often the session came up", |p| p.counters.established),
    ("oxelb_bgp_sessions_lost", "How often it went down", |p| p.counters.lost),
    ("oxelb_bgp_messages_sent", "Messages to the router", |p| p.counters.sent.total()),
    ("oxelb_bgp_messages_received", "Messages from the router", |p| p.counters.received.total()),
    ("oxelb_bgp_updates_sent", "UPDATE messages to the router", |p| p.counters.sent.update),
    ("oxelb_bgp_notifications_sent", "NOTIFICATION messages to the router", |p| p.counters.sent.notification),
    ("oxelb_bgp_notifications_received", "NOTIFICATION messages from the router", |p| p.counters.received.notification),
    ("oxelb_bgp_attributes_damaged", "Damage in UPDATEs that ended no session (RFC 7606)", |p| p.counters.damaged),
    ("oxelb_bgp_prefixes_ignored", "Prefixes received beyond the limit", |p| p.counters.ignored_prefixes),
];

const GAUGES: [Row<u64>; 3] = [
    ("oxelb_bgp_session_established", "1 while routes go", |p| u64::from(p.established())),
    ("oxelb_bgp_prefixes_received", "Prefixes that the router sent, which are counted and never used", |p| {
        p.view.routes.values().map(|r| r.received as u64).sum()
    }),
    ("oxelb_bgp_prefixes_advertised", "Prefixes that the router was told", |p| p.advertised() as u64),
];

/// Of routers with BFD.
const BFD_GAUGES: [Row<u64>; 1] =
    [("oxelb_bfd_session_up", "1 while BFD packets go both ways", |p| p.bfd.as_ref().map_or(0, |b| u64::from(b.up)))];

const BFD_COUNTERS: [Row<u64>; 4] = [
    ("oxelb_bfd_sessions_lost", "How often BFD went down", |p| bfd(p, |c| c.downs)),
    ("oxelb_bfd_packets_sent", "BFD packets to the router", |p| bfd(p, |c| c.sent)),
    ("oxelb_bfd_packets_received", "BFD packets of the router", |p| bfd(p, |c| c.received)),
    ("oxelb_bfd_packets_refused", "BFD packets of the router that did not count", |p| {
        bfd(p, |c| c.refused.values().sum())
    }),
];

fn bfd(peer: &PeerFacts, of: impl Fn(&bfd::Counters) -> u64) -> u64 {
    peer.bfd.as_ref().map_or(0, |b| of(&b.counters))
}

fn state(peer: &PeerFacts) -> u64 {
    match peer.view.state {
        State::Idle => 0,
        State::Connect => 1,
        State::Active => 2,
        State::OpenSent => 3,
        State::OpenConfirm => 4,
        State::Established => 5,
    }
}

/// Adds them, where there are routers.
pub(crate) fn register(registry: &mut Registry, facts: &Facts, node: &str) {
    if facts.peers.is_empty() {
        return;
    }
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    for (name, help, of) in THEIRS {
        let family = Family::<Theirs, Gauge>::default();
        for peer in facts.peers.values() {
            let labels = Theirs { peerIP: peer.address.ip().to_string(), nodeName: node.to_owned() };
            family.get_or_create(&labels).set(gauge(of(peer)));
        }
        registry.register(name, help, family);
    }
    let all: Vec<_> = facts.peers.iter().collect();
    let with_bfd: Vec<_> = all.iter().copied().filter(|(_, p)| p.bfd.is_some()).collect();
    for (peers, gauges, counters) in [(&all, &GAUGES[..], &COUNTERS[..]), (&with_bfd, &BFD_GAUGES, &BFD_COUNTERS)] {
        if peers.is_empty() {
            continue;
        }
        for (name, help, of) in gauges {
            let family = Family::<Ours, Gauge>::default();
            for (peer, facts) in peers {
                family.get_or_create(&Ours { peer: (*peer).clone() }).set(gauge(of(facts)));
            }
            registry.register(*name, *help, family);
        }
        for (name, help, of) in counters {
            let family = Family::<Ours, Counter>::default();
            for (peer, facts) in peers {
                family.get_or_create(&Ours { peer: (*peer).clone() }).inc_by(of(facts));
            }
            registry.register(*name, *help, family);
        }
    }
}
