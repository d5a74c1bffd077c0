//! What this node says of routers, in the words of OpenELB (compat §1.4): only what GoBGP filled in, so that absent
//! means to clients what it always did.

use super::facts::{Facts, PeerFacts};
use api::Condition;
use api::bgp_peer::{BfdState, MessageCounters, Messages, NodePeerStatus, PeerState, Queues, TimersState};
use api::speaker::{BgpSession, BgpSummary};
use bgp::{Asn, RouterId, State};
use plan::BgpNote;
use std::time::SystemTime;

/// What makes a new version of a router's status worth a write: the session is there, or is not, and since when; and what
/// is wrong with the object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    pub(super) session: Option<SessionSaid>,
    pub(super) wrong: Option<(bool, String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionSaid {
    state: &'static str,
    down: bool,
    since: String,
    router_id: Option<RouterId>,
    peer: (std::net::SocketAddr, Option<Asn>, Asn),
    bfd: Option<BfdState>,
}

impl SessionSaid {
    pub(super) fn of(peer: &PeerFacts) -> SessionSaid {
        SessionSaid {
            state: state(peer),
            down: peer.down,
            since: time(peer.since),
            router_id: peer.view.negotiated.as_ref().map(|n| n.router_id),
            peer: (peer.address, peer.asn, peer.local_asn),
            bfd: bfd(peer),
        }
    }
}

/// Attempts come and go every few seconds, and each would be a write: they are all `ACTIVE` here, and exact in metrics.
fn state(peer: &PeerFacts) -> &'static str {
    match peer.view.state {
        State::Established => "ESTABLISHED",
        _ if peer.down || !peer.view.started => "IDLE",
        _ => "ACTIVE",
    }
}

/// What comes between up and down is no news.
fn bfd(peer: &PeerFacts) -> Option<BfdState> {
    let liveness = peer.bfd.as_ref()?;
    let state = if liveness.up { "UP" } else { "DOWN" };
    Some(BfdState { state: state.to_owned(), since: time(liveness.since), reason: liveness.reason.clone() })
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What the notes say of one object, `None` being the BgpConf: whether it is in use as it is written, why, and in words.
pub(super) fn wrong<'a>(
    peer: Option<&str>,
    notes: impl IntoIterator<Item = &'a BgpNote>,
    refused: Option<&String>,
) -> Option<(bool, String, String)> {
    let about = |note: &&&BgpNote| match note {
        BgpNote::PeerInvalid { peer: p, .. } | BgpNote::PeerTwice { peer: p, .. } => Some(p.as_str()) == peer,
        BgpNote::Ignored { peer: p, .. } => p.as_deref() == peer,
        BgpNote::Password { peer: p } | BgpNote::BfdKey { peer: p } => Some(p.as_str()) == peer,
        BgpNote::ConfInvalid { .. } | BgpNote::NoAsn | BgpNote::SharedRouterId { .. } | BgpNote::NoPolicy { .. } => {
            peer.is_none()
        }
        BgpNote::NoConf | BgpNote::NoPeer | BgpNote::DerivedRouterId { .. } => false,
    };
    if let Some(reason) = refused {
        return Some((false, "BgpPeerInvalid".to_owned(), reason.clone()));
    }
    let notes: Vec<&BgpNote> = notes.into_iter().collect();
    let mine: Vec<&&BgpNote> = notes.iter().filter(about).collect();
    let first = mine.first()?;
    let harmless = |n: &BgpNote| matches!(n, BgpNote::Ignored { .. } | BgpNote::SharedRouterId { .. });
    let text: Vec<String> = mine.iter().map(ToString::to_string).collect();
    Some((mine.iter().all(|n| harmless(n)), first.reason().to_owned(), text.join("; ")))
}

/// The condition of it, changed now.
pub(super) fn conditions(wrong: Option<&(bool, String, String)>) -> Vec<Condition> {
    let now = time(SystemTime::now());
    let of = |(used, reason, text): &(bool, String, String)| {
        Condition::new("Accepted", *used, reason, text.clone()).stamped(None, &now)
    };
    wrong.map(of).into_iter().collect()
}

pub(super) fn peer(peer: &PeerFacts) -> NodePeerStatus {
    let negotiated = peer.view.negotiated.as_ref();
    let asn = peer.asn.or_else(|| negotiated.map(|n| n.peer_as));
    let admin_state = match (peer.down, peer.view.prefix_limit_reached) {
        (true, _) => Some("DOWN".to_owned()),
        (false, true) => Some("PFX_CT".to_owned()),
        (false, false) => None,
    };
    let since = time(peer.since);
    let seconds = |s: u64| Some(s.to_string());
    NodePeerStatus {
        peer_state: Some(PeerState {
            neighbor_address: Some(peer.address.ip().to_string()),
            peer_as: asn.map(|a| a.get().into()),
            // 1 is external; internal is 0, which is left out.
            peer_type: (asn != Some(peer.local_asn)).then_some(1),
            router_id: negotiated.map(|n| n.router_id.to_string()),
            session_state: Some(state(peer).to_owned()),
            admin_state,
            queues: Some(Queues::default()),
            messages: Some(Messages {
                received: Some(counters(&peer.counters.received, true)),
                sent: Some(counters(&peer.counters.sent, false)),
            }),
            ..PeerState::default()
        }),
        timers_state: Some(TimersState {
            keepalive_interval: negotiated.and_then(|n| seconds(n.keepalive?.as_secs())),
            negotiated_hold_time: negotiated.and_then(|n| seconds(n.hold_time.seconds().into())),
            uptime: peer.established().then(|| since.clone()),
            downtime: (!peer.established()).then_some(since),
            ..TimersState::default()
        }),
        bfd_state: bfd(peer),
        conditions: Vec::new(),
    }
}

/// Counters that are 0 are left out; of what was sent withdrawals were never counted.
fn counters(messages: &bgp::Messages, withdrawals: bool) -> MessageCounters {
    let some = |n: u64| (n > 0).then(|| n.to_string());
    let received = |n: u64| some(n).filter(|_| withdrawals);
    MessageCounters {
        notification: some(messages.notification),
        update: some(messages.update),
        open: some(messages.open),
        keepalive: some(messages.keepalive),
        refresh: some(messages.refresh),
        discarded: some(messages.discarded),
        total: some(messages.total()),
        withdraw_update: received(messages.withdraw_update),
        withdraw_prefix: received(messages.withdraw_prefix),
    }
}

pub(super) fn summary(asn: Asn, router_id: RouterId, facts: &Facts) -> BgpSummary {
    let session = |(name, p): (&String, &PeerFacts)| BgpSession {
        peer: name.clone(),
        address: p.address.ip().to_string(),
        state: state(p).to_owned(),
        since: time(p.since),
        bfd: bfd(p).map(|b| b.state),
    };
    BgpSummary {
        asn: asn.get().into(),
        router_id: router_id.to_string(),
        established: facts.peers.values().filter(|p| p.established()).count().try_into().unwrap_or(i64::MAX),
        sessions: facts.peers.iter().map(session).collect(),
    }
}
