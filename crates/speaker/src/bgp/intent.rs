//! What the thread that talks BGP is to do, made from the plan: plain values that can be compared.

use api::bgp::Restart;
use api::peer::{Bfd, BfdAuthentication, Distance, NextHopMode, Peer, Place};
use api::{Family as ApiFamily, RouteOptions};
use bgp::policy::{Policy, To};
use bgp::wire::{Attributes, NextHop};
use bgp::{
    Asn, Community, Config, ExtendedCommunity, Family, FamilyConfig, HoldTime, InvalidNumber, LargeCommunity, NextHops,
    Nlri, Path, Prefix, RestartConfig,
};
use bgp::{RouterId, Routes};
use net::{TcpOptions, Ttl};
use plan::Speaks;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Tells our one path to a prefix from none, where several may be sent (RFC 7911).
const PATH: u32 = 1;
/// What the link-bandwidth community says for each endpoint of a Service with policy Local, in octets a second. Only the
/// shares of the nodes mean something; some routers cannot count above 4 billion.
const PER_ENDPOINT: f32 = 1e6;
/// For how long peers keep routes after the restart time where long-lived graceful restart is on: a day.
const LONG_LIVED: u32 = 86_400;
/// How long stale routes of a peer are kept at most after it is back.
const STALE_TIME: Duration = Duration::from_secs(360);

/// An order to the thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// This is all that is wanted from now on.
    Apply(Box<Intent>),
    /// Report facts again, also when nothing changed.
    Report,
    /// Say goodbye and end.
    Leave,
}

/// All that this node is to do in BGP.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Intent {
    /// Who we are: AS number and router id.
    pub own: Option<(Asn, RouterId)>,
    /// Where to listen, and through which device only.
    pub listen: BTreeSet<(SocketAddr, Option<String>)>,
    /// The routers whose addresses are written down, by name.
    pub peers: BTreeMap<String, Router>,
    /// Those whose addresses are found, by the name of the BgpPeer that stands for them.
    pub found: BTreeMap<String, (Finding, Router)>,
    /// All that is announced, to whomever.
    pub routes: Arc<Routes>,
}

/// How the addresses of routers are found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// By its advertisements on this interface.
    Interface(String),
    /// They connect, from this network.
    Range(Prefix),
}

/// A router, and how it is talked to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Router {
    /// Where it is. Of one that is to be found only the port counts.
    pub address: SocketAddr,
    /// How connections with it are.
    pub transport: TcpOptions,
    /// The session.
    pub config: Config,
    /// What it is to know.
    pub routes: Arc<Routes>,
    /// BFD, where it is on.
    pub bfd: Option<bfd::Config>,
    /// It is kept down.
    pub down: bool,
}

/// What routers are told of what is announced.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Filter {
    /// All of it.
    #[default]
    Everything,
    /// Nothing: there is a policy, and no version of it could be read.
    Nothing,
    /// What this policy says.
    By(Arc<Policy>),
}

impl Intent {
    /// What the plan asks for, and which of its routers cannot be talked to and why. Without routers nothing is done.
    pub(crate) fn new(speaks: &Speaks, filter: &Filter) -> (Intent, BTreeMap<String, String>) {
        let mut refused = BTreeMap::new();
        let (Some(asn), Some(router_id)) = (Asn::new(speaks.asn), RouterId::new(speaks.router_id)) else {
            return (Intent::default(), refused);
        };
        let mut intent = Intent { own: Some((asn, router_id)), ..Intent::default() };
        for (name, peer) in &speaks.peers {
            let finding = match &peer.place {
                Place::Address(_) => None,
                Place::Interface(name) => Some(Finding::Interface(name.clone())),
                Place::Range { network, length } => {
                    Some(Finding::Range(Prefix::new(*network, *length).unwrap_or_else(|| Prefix::host(*network))))
                }
            };
            match (router(speaks, peer, asn, router_id), finding) {
                (Ok(router), None) => drop(intent.peers.insert(name.clone(), router)),
                (Ok(router), Some(finding)) => drop(intent.found.insert(name.clone(), (finding, router))),
                (Err(reason), _) => drop(refused.insert(name.clone(), reason)),
            }
        }
        if intent.routers().next().is_none() {
            return (Intent::default(), refused);
        }
        if let Some(port) = speaks.port {
            let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            let addresses = if speaks.listen.is_empty() { &any[..] } else { &speaks.listen[..] };
            let places = intent.routers().flat_map(|router| {
                let at = addresses.iter().filter(|a| a.is_ipv4() == router.address.is_ipv4());
                at.map(|a| (SocketAddr::new(*a, port), router.transport.device.clone()))
            });
            intent.listen = places.collect();
        }
        intent.routes = Arc::new(routes(speaks, asn, None));
        let all = intent.routes.clone();
        for (name, router) in intent.routers_mut() {
            let mode = speaks.peers.get(name).map(|p| p.next_hops).unwrap_or_default();
            let routes = routes(speaks, router.config.local_as, Some((name, router, filter, mode)));
            // Most are told the same, and thousands of routes are kept once.
            router.routes = if routes == *all { all.clone() } else { Arc::new(routes) };
        }
        (intent, refused)
    }

    /// Whether a BgpPeer of this name is talked to, or waited for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.peers.contains_key(name) || self.found.contains_key(name)
    }

    fn routers(&self) -> impl Iterator<Item = &Router> {
        self.peers.values().chain(self.found.values().map(|(_, router)| router))
    }

    fn routers_mut(&mut self) -> impl Iterator<Item = (&String, &mut Router)> {
        self.peers.iter_mut().chain(self.found.iter_mut().map(|(name, (_, router))| (name, router)))
    }

    fn routes_of(&self, name: &str) -> Option<&Arc<Routes>> {
        let found = || self.found.get(name).map(|(_, router)| router);
        self.peers.get(name).or_else(found).map(|router| &router.routes)
    }

    /// Keeps once what is as it was before: to compare it then costs nothing.
    pub(crate) fn share(&mut self, before: &Intent) {
        let keep = |routes: &mut Arc<Routes>, before: Option<&Arc<Routes>>| {
            if let Some(before) = before.filter(|before| **before == *routes) {
                *routes = before.clone();
            }
        };
        keep(&mut self.routes, Some(&before.routes));
        self.routers_mut().for_each(|(name, router)| keep(&mut router.routes, before.routes_of(name)));
    }
}

/// All that tells paths apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'a> {
    options: &'a Arc<RouteOptions>,
    endpoints: Option<u32>,
    /// Another node's address.
    hop: Option<IpAddr>,
}

/// What a router is told by us as this AS, or all that is announced.
fn routes(speaks: &Speaks, asn: Asn, to: Option<(&String, &Router, &Filter, NextHopMode)>) -> Routes {
    let own = speaks.addresses.iter().map(|(ip, announced)| (ip, None, announced));
    let told_all = to.is_some_and(|(.., mode)| mode == NextHopMode::OpenElb);
    let of_others = speaks.of_others.iter().filter(|_| told_all);
    let others = of_others.flat_map(|(ip, of)| of.iter().map(move |(hop, announced)| (ip, Some(*hop), announced)));
    // By the next hop too, where that is another node.
    let mut prefixes: BTreeMap<(Prefix, Option<IpAddr>), Kind<'_>> = BTreeMap::new();
    for (ip, hop, announced) in own.chain(others) {
        let options = &announced.routes;
        if to.is_some_and(|(to, ..)| !options.peers.is_empty() && !options.peers.contains(to)) {
            continue;
        }
        let length = if ip.is_ipv4() { options.length_v4 } else { options.length_v6 };
        let prefix = Prefix::new(*ip, length).unwrap_or_else(|| Prefix::host(*ip));
        let kind = prefixes.entry((prefix, hop)).or_insert(Kind { options, endpoints: Some(0), hop });
        // Where all nodes serve, none has a share.
        kind.endpoints = kind.endpoints.zip(announced.endpoints).map(|(a, b)| a.saturating_add(b));
    }
    let external = to.is_some_and(|(_, router, ..)| router.config.peer_as != Some(asn));
    // Made once for all prefixes of which the same is said, and kept once.
    let mut paths: BTreeMap<Kind<'_>, Arc<Path>> = BTreeMap::new();
    let mut exported: BTreeSet<Arc<Path>> = BTreeSet::new();
    let routes = prefixes.into_iter().filter_map(|((prefix, hop), kind)| {
        let path = paths.entry(kind).or_insert_with(|| Arc::new(path(kind, asn, external)));
        let said = match to {
            None | Some((_, _, Filter::Everything, _)) => path.clone(),
            Some((_, _, Filter::Nothing, _)) => return None,
            Some((_, router, Filter::By(policy), _)) => {
                let next_hops = match hop {
                    None => speaks.next_hops,
                    Some(IpAddr::V4(hop)) => (Some(hop), None),
                    Some(IpAddr::V6(hop)) => (None, Some(hop)),
                };
                let to = To { neighbor: router.address.ip(), next_hops };
                let said = policy.export(to, prefix, path)?;
                exported.get(&said).cloned().unwrap_or_else(|| {
                    let said = Arc::new(said);
                    exported.insert(said.clone());
                    said
                })
            }
        };
        // Ours is the first, which is all that a router takes that takes one.
        let path = hop.map_or(PATH, |hop| plan::fnv1a(&hop.to_string()).max(PATH + 1));
        Some((Nlri { prefix, path }, said))
    });
    routes.collect()
}

fn path(Kind { options, endpoints, hop }: Kind<'_>, asn: Asn, external: bool) -> Path {
    let large = |(global, local_1, local_2): &(u32, u32, u32)| LargeCommunity {
        global: *global,
        local_1: *local_1,
        local_2: *local_2,
    };
    let mut attributes = Attributes {
        local_pref: options.local_pref,
        med: options.med,
        communities: options.communities.iter().map(|c| Community(*c)).collect(),
        large_communities: options.large_communities.iter().map(large).collect(),
        ..Attributes::default()
    };
    if let Some(endpoints) = endpoints.filter(|n| *n > 0) {
        let bandwidth = endpoints as f32 * PER_ENDPOINT;
        attributes.extended_communities.insert(ExtendedCommunity::link_bandwidth(asn, bandwidth));
    }
    // Within our own AS a path with our own number is a loop.
    if external {
        attributes.as_path.prepend(asn, options.prepend.into());
    }
    Path { attributes, next_hop: hop.map(NextHop::from) }
}

fn router(speaks: &Speaks, peer: &Peer, own: Asn, router_id: RouterId) -> Result<Router, String> {
    let number = |e: InvalidNumber| e.to_string();
    let local_as = match peer.local_asn {
        Some(asn) => Asn::try_from(asn).map_err(number)?,
        None => own,
    };
    let peer_as = peer.asn.map(Asn::try_from).transpose().map_err(number)?;
    let restart = peer.graceful_restart.unwrap_or(speaks.graceful_restart);
    let mut families = BTreeMap::new();
    for (family, of) in peer.families.iter().filter(|(f, _)| speaks.families.contains(f)) {
        let family = if *family == ApiFamily::V4 { Family::Ipv4 } else { Family::Ipv6 };
        let long_lived = restart.is_some_and(|r| r.long_lived) && of.graceful_restart;
        families.insert(
            family,
            FamilyConfig {
                add_path_receive: of.add_path_receive,
                add_path_send: of.add_path_send,
                graceful_restart: of.graceful_restart,
                long_lived: if long_lived { LONG_LIVED } else { 0 },
            },
        );
    }
    if families.is_empty() {
        return Err("spec.families of BgpConf default leaves nothing of its afiSafis".to_owned());
    }
    let (ipv4, ipv6) = speaks.next_hops;
    // Of the family of the session the connection's own address is used, which the router reaches for certain. An
    // unnumbered one reaches no other.
    let next_hops = match &peer.place {
        Place::Interface(_) => NextHops::default(),
        place if place.is_ipv4() => NextHops { ipv6, ..NextHops::default() },
        _ => NextHops { ipv4, ..NextHops::default() },
    };
    // A network stands for its routers, also in a policy's sets of neighbours.
    let (address, passive) = match &peer.place {
        Place::Address(address) => (*address, peer.passive),
        Place::Range { network, .. } => (*network, true),
        Place::Interface(_) => (Ipv6Addr::UNSPECIFIED.into(), peer.passive),
    };
    let hold_time = HoldTime::try_from(peer.hold_time).map_err(number)?;
    let config = Config {
        hold_time,
        keepalive: peer.keepalive,
        connect_retry: peer.connect_retry,
        passive,
        peer_as,
        families,
        graceful_restart: restart.map(|r| restart_config(r, peer.hold_time)),
        next_hops,
        advertisement_interval: peer.advertisement_interval,
        ..Config::new(local_as, router_id, local_as)
    };
    let ttl = match peer.distance {
        Distance::Usual if peer_as.is_none_or(|asn| asn == local_as) => Ttl::System,
        Distance::Usual => Ttl::Hops(1),
        Distance::Multihop(hops) => Ttl::Hops(hops),
        Distance::Security(hops) => Ttl::Near(hops),
    };
    let password = peer.password.clone().map(String::into_bytes);
    let transport = TcpOptions { source: peer.source, device: peer.device.clone(), ttl, password };
    let bfd = peer.bfd.as_ref().map(bfd_config).transpose()?;
    let (address, routes) = (SocketAddr::new(address, peer.port), Arc::default());
    Ok(Router { address, transport, config, routes, bfd, down: peer.admin_down })
}

fn authentication((method, id): (BfdAuthentication, u8), key: Option<&str>) -> Result<bfd::Authentication, String> {
    let method = match method {
        BfdAuthentication::Password => bfd::Method::Password,
        BfdAuthentication::KeyedSha1 => bfd::Method::KeyedSha1,
        BfdAuthentication::MeticulousKeyedSha1 => bfd::Method::MeticulousSha1,
    };
    let key: bfd::Key = key.unwrap_or_default().parse().map_err(|e| format!("its key for BFD: {e}"))?;
    Ok(bfd::Authentication { method, send: id, keys: [(id, key)].into() })
}

fn bfd_config(given: &Bfd) -> Result<bfd::Config, String> {
    let interval = |d: Duration| {
        let micros = u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        bfd::Interval::try_from(micros).map_err(|e| format!("spec.bfd: {e}"))
    };
    let settings = bfd::Settings {
        hops: given.multihop.map_or(bfd::Hops::Single, |least_ttl| bfd::Hops::Multi { least_ttl }),
        transmit: interval(given.transmit)?,
        receive: interval(given.receive)?,
        multiplier: given.multiplier,
        authentication: given.authentication.map(|with| authentication(with, given.key.as_deref())).transpose()?,
    };
    bfd::Config::new(settings).map_err(|e| format!("spec.bfd: {e}"))
}

fn restart_config(restart: Restart, hold_time: u16) -> RestartConfig {
    RestartConfig {
        restart_time: restart.time.unwrap_or(hold_time).min(4095),
        restarting: false,
        helper_only: restart.helper_only,
        notification: restart.notification,
        stale_time: STALE_TIME,
    }
}
