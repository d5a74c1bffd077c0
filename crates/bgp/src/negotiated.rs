//! What two OPENs agree upon.

use crate::config::Config;
use crate::prefix::Family;
use crate::types::{Asn, HoldTime, RouterId};
use crate::wire::{AddPath, Capability, Code, Codec, GracefulRestart, LongLived, Malformed, Notification, Open};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The AFI of IPv6, as the next hop of IPv4 prefixes (RFC 8950).
const AFI_IPV6: u16 = 2;

/// What both sides can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiated {
    /// The peer's autonomous system.
    pub peer_as: Asn,
    /// The peer.
    pub router_id: RouterId,
    /// The smaller of both.
    pub hold_time: HoldTime,
    /// Between two KEEPALIVEs; `None` with a hold time of 0.
    pub keepalive: Option<Duration>,
    /// How messages are written.
    pub codec: Codec,
    /// Routes can be asked for again (RFC 2918).
    pub route_refresh: bool,
    /// With a beginning and an end (RFC 7313).
    pub enhanced_refresh: bool,
    /// What the peer said of graceful restart, if both do it.
    pub graceful_restart: Option<GracefulRestart>,
    /// Both keep routes also after a NOTIFICATION (RFC 8538).
    pub restart_on_notification: bool,
    /// For how long the peer's routes may be kept after its restart time (RFC 9494).
    pub long_lived: BTreeMap<Family, Duration>,
    /// Everything that the peer said it can do.
    pub capabilities: Vec<Capability>,
}

/// Our OPEN; `restarting` sets the R bit.
pub(crate) fn open(config: &Config, restarting: bool) -> Open {
    let families = || config.families.iter().map(|(f, c)| (f.afi_safi(), *f, *c));
    let mut capabilities: Vec<Capability> = families().map(|(n, ..)| Capability::Multiprotocol(n)).collect();
    capabilities.extend([Capability::RouteRefresh, Capability::EnhancedRouteRefresh, Capability::ExtendedMessage]);
    if config.families.contains_key(&Family::Ipv4) {
        capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4.afi_safi(), AFI_IPV6)]));
    }
    capabilities.push(Capability::FourOctetAs(config.local_as));
    let add_path: Vec<_> = families()
        .filter_map(|(numbers, _, c)| {
            let way = match (c.add_path_receive, c.add_path_send > 0) {
                (true, true) => AddPath::Both,
                (true, false) => AddPath::Receive,
                (false, true) => AddPath::Send,
                (false, false) => return None,
            };
            Some((numbers, way))
        })
        .collect();
    if !add_path.is_empty() {
        capabilities.push(Capability::AddPath(add_path));
    }
    if let Some(restart) = config.graceful_restart {
        // RFC 4724 §3: who only helps names no family.
        let kept = || families().filter(|(_, _, c)| c.graceful_restart && !restart.helper_only);
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting,
            notification: restart.notification,
            restart_time: restart.restart_time,
            families: kept().map(|(numbers, ..)| (numbers, true)).collect(),
        }));
        let long: Vec<_> = kept()
            .filter(|(_, _, c)| c.long_lived > 0)
            .map(|(family, _, c)| LongLived { family, forwarding: true, stale_time: c.long_lived })
            .collect();
        if !long.is_empty() {
            capabilities.push(Capability::LongLived(long));
        }
    }
    let my_as = Asn::new(config.local_as.two_octets().into()).unwrap_or(Asn::TRANS);
    Open { my_as, hold_time: config.hold_time, router_id: config.router_id, capabilities }
}

/// What our configuration and the peer's OPEN agree upon, or why they do not.
pub(crate) fn negotiate(config: &Config, open: &Open) -> Result<Negotiated, Notification> {
    let peer_as = open.asn();
    if config.peer_as.is_some_and(|a| a != peer_as) {
        return Err(Malformed::PeerAs.notification());
    }
    let internal = peer_as == config.local_as;
    if internal && open.router_id == config.router_id {
        return Err(Malformed::RouterId.notification());
    }
    let families = families(config, open);
    if families.is_empty() {
        // RFC 5492 §5: the data are the capabilities that are missed.
        let mut data = Vec::new();
        config.families.keys().for_each(|f| Capability::Multiprotocol(f.afi_safi()).emit(&mut data));
        return Err(Notification { code: Code::Open(7), data });
    }
    let has = |capability: &Capability| open.capabilities.contains(capability);
    let extended = has(&Capability::ExtendedMessage);
    let graceful_restart = graceful_restart(config, open);
    let (add_path_receive, add_path_send) = add_path(config, open, &families);
    let hold_time = config.hold_time.min(open.hold_time);
    let third = hold_time.duration().map(|h| h / 3);
    Ok(Negotiated {
        peer_as,
        router_id: open.router_id,
        hold_time,
        keepalive: third.map(|t| config.keepalive.map_or(t, |k| k.clamp(Duration::from_secs(1), t))),
        route_refresh: has(&Capability::RouteRefresh),
        enhanced_refresh: has(&Capability::EnhancedRouteRefresh),
        restart_on_notification: graceful_restart.as_ref().is_some_and(|r| r.notification)
            && config.graceful_restart.is_some_and(|r| r.notification),
        long_lived: long_lived(open, graceful_restart.as_ref()),
        graceful_restart,
        codec: Codec {
            four_octet_as: open.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_))),
            internal,
            extended_send: extended,
            // We always say that we can.
            extended_receive: true,
            extended_next_hop: extended_next_hop(open, &families),
            families,
            add_path_receive,
            add_path_send,
        },
        capabilities: open.capabilities.clone(),
    })
}

fn families(config: &Config, open: &Open) -> BTreeSet<Family> {
    let multiprotocol = |c: &Capability| if let Capability::Multiprotocol(f) = c { Some(*f) } else { None };
    let mut theirs: Vec<_> = open.capabilities.iter().filter_map(multiprotocol).collect();
    if theirs.is_empty() {
        // RFC 4760 §8: who says nothing of it speaks of IPv4 alone.
        theirs.push(Family::Ipv4.afi_safi());
    }
    config.families.keys().copied().filter(|f| theirs.contains(&f.afi_safi())).collect()
}

fn add_path(config: &Config, open: &Open, families: &BTreeSet<Family>) -> (BTreeSet<Family>, BTreeSet<Family>) {
    let pairs = |c: &Capability| if let Capability::AddPath(pairs) = c { pairs.clone() } else { vec![] };
    let theirs: BTreeMap<_, _> = open.capabilities.iter().flat_map(pairs).collect();
    let of = |family: &Family| Some((config.families.get(family)?, theirs.get(&family.afi_safi())?));
    let receive = families.iter().filter(|f| of(f).is_some_and(|(our, their)| our.add_path_receive && their.sends()));
    let send = families.iter().filter(|f| of(f).is_some_and(|(our, their)| our.add_path_send > 0 && their.receives()));
    (receive.copied().collect(), send.copied().collect())
}

fn extended_next_hop(open: &Open, families: &BTreeSet<Family>) -> BTreeSet<Family> {
    let says = |family: &Family, c: &Capability| matches!(c, Capability::ExtendedNextHop(pairs) if pairs.contains(&(family.afi_safi(), AFI_IPV6)));
    let both = |f: &&Family| **f == Family::Ipv4 && open.capabilities.iter().any(|c| says(f, c));
    families.iter().filter(both).copied().collect()
}

fn graceful_restart(config: &Config, open: &Open) -> Option<GracefulRestart> {
    config.graceful_restart?;
    // RFC 4724 §3: of several the last counts.
    let restart = |c: &Capability| if let Capability::GracefulRestart(r) = c { Some(r.clone()) } else { None };
    open.capabilities.iter().rev().find_map(restart)
}

fn long_lived(open: &Open, restart: Option<&GracefulRestart>) -> BTreeMap<Family, Duration> {
    // RFC 9494 §4.1: it means nothing without the other capability.
    let Some(_) = restart else { return BTreeMap::new() };
    let long = |c: &Capability| if let Capability::LongLived(l) = c { l.clone() } else { vec![] };
    let families = open.capabilities.iter().flat_map(long);
    families.filter_map(|l| Some((l.family.family()?, Duration::from_secs(l.stale_time.into())))).collect()
}
