//! What one node is to do in BGP: whom to talk to, as whom, and which addresses to announce.

use crate::reason::Few;
use crate::{Announcement, Plan, World};
use api::bgp::Restart;
use api::peer::{NextHopMode, PASSWORD, Place};
use api::{Bgp, Family, Node, Peer, Protocol, RouteOptions, ServiceKey, keys};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What a node is to do in BGP, and what the user should know of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BgpPlan {
    /// `None` when it is to do nothing.
    pub speaks: Option<Speaks>,
    /// What is wrong or has no effect.
    pub notes: BTreeSet<BgpNote>,
}

/// Whom a node talks to, as whom, and what it announces.
#[derive(Debug, Clone, PartialEq)]
pub struct Speaks {
    /// Our AS number, where a peer has no other; never 0.
    pub asn: u32,
    /// Who we are.
    pub router_id: Ipv4Addr,
    /// The port to listen on; `None` listens nowhere.
    pub port: Option<u16>,
    /// The addresses to listen on; none is all.
    pub listen: Vec<IpAddr>,
    /// The families that may be spoken.
    pub families: BTreeSet<Family>,
    /// For peers that say nothing of it themselves.
    pub graceful_restart: Option<Restart>,
    /// The node's own addresses, for routes of another family than the session.
    pub next_hops: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// The routers that this node talks to, by name. No two are in the same place.
    pub peers: BTreeMap<String, Peer>,
    /// The addresses that this node announces.
    pub addresses: BTreeMap<IpAddr, Announced>,
    /// The addresses that other nodes announce, each with the nodes' own addresses of its family, for routers that are
    /// told all next hops; empty where there is no such router.
    pub of_others: BTreeMap<IpAddr, BTreeMap<IpAddr, Announced>>,
    /// The policy that decides what each router is told of them, as written; `None`: everything.
    pub policy: Option<Arc<str>>,
}

/// What routers are told of an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// As its pool says.
    pub routes: Arc<RouteOptions>,
    /// How many endpoints on this node serve, where only those of this node do (policy Local).
    pub endpoints: Option<u32>,
}

/// What the user should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum BgpNote {
    /// There are routers or addresses for BGP, and no BgpConf.
    NoConf,
    /// The BgpConf says no AS number for this node.
    NoAsn,
    /// The BgpConf is not valid.
    ConfInvalid {
        /// Why.
        error: String,
        /// An earlier version is still in force.
        kept: bool,
    },
    /// A BgpPeer is not valid.
    PeerInvalid {
        /// Its name.
        peer: String,
        /// Why.
        error: String,
        /// An earlier version is still in force.
        kept: bool,
    },
    /// Two BgpPeers for this node are of the same place.
    PeerTwice {
        /// The one that is not used.
        peer: String,
        /// The one that is.
        used: String,
        /// Their address, interface or network.
        place: String,
    },
    /// Addresses are to be announced, and no BgpPeer selects this node.
    NoPeer,
    /// The router id is written down, so all nodes have the same.
    SharedRouterId {
        /// It.
        router_id: Ipv4Addr,
    },
    /// The node has no IPv4 address to take the router id from.
    DerivedRouterId {
        /// What is used.
        router_id: Ipv4Addr,
    },
    /// A policy is named that is not there.
    NoPolicy {
        /// The ConfigMap.
        name: String,
    },
    /// The Secret with passwords has one that cannot be used.
    Password {
        /// The BgpPeer.
        peer: String,
    },
    /// The Secret with passwords has no key for BFD that is to be authenticated.
    BfdKey {
        /// The BgpPeer.
        peer: String,
    },
    /// Fields that mean nothing.
    Ignored {
        /// The BgpPeer; `None` for the BgpConf.
        peer: Option<String>,
        /// The fields.
        fields: BTreeSet<String>,
    },
}

/// What `node` is to do. A node that is not Ready keeps its sessions and withdraws everything (D8): it is no candidate.
pub fn bgp(world: &World, plan: &Plan, node: &str) -> BgpPlan {
    let of_bgp = || plan.addresses.iter().filter(|(_, a)| a.pool.protocol == Protocol::Bgp);
    let mut notes = BTreeSet::new();
    let (conf, error) = world.bgp();
    if let Some(error) = error {
        notes.insert(BgpNote::ConfInvalid { error: error.to_string(), kept: conf.is_some() });
    }
    for (peer, error, kept) in world.invalid_peers() {
        notes.insert(BgpNote::PeerInvalid { peer: peer.clone(), error: error.to_string(), kept });
    }
    let Some(conf) = conf else {
        if error.is_none() && (world.peers().next().is_some() || of_bgp().next().is_some()) {
            notes.insert(BgpNote::NoConf);
        }
        return BgpPlan { speaks: None, notes };
    };
    let unknown = Node::default();
    let own = world.nodes().get(node).unwrap_or(&unknown);
    let rack = own.labels.get(keys::RACK).filter(|r| !r.is_empty() && !conf.racks.is_empty());
    let asn = rack.and_then(|r| conf.racks.get(r).copied()).or(conf.asn);
    let peers = peers(world, own, &mut notes);
    let local: BTreeSet<&ServiceKey> = world.services().filter(|s| s.local).map(|s| &s.key).collect();
    let announced = |a: &Announcement, node: &str| {
        let mut of_local = a.services.iter().filter(|s| local.contains(s)).peekable();
        let some = of_local.peek().is_some();
        let endpoints = some.then(|| of_local.map(|s| world.endpoints_on(s, node)).sum());
        Announced { routes: a.pool.routes.clone().unwrap_or_default(), endpoints }
    };
    let addresses: BTreeMap<IpAddr, Announced> =
        of_bgp().filter(|(_, a)| a.candidates.contains(node)).map(|(ip, a)| (*ip, announced(a, node))).collect();
    // What a node that is not ready knows of the others may be old.
    let tells_all = own.ready && peers.values().any(|p| p.next_hops == NextHopMode::OpenElb);
    // compat §5.3: of nodes in racks only those of the same rack.
    let near = |n: &Node| rack.is_none() || n.labels.get(keys::RACK) == rack;
    let hops = |ip: &IpAddr, a: &Announcement| -> BTreeMap<IpAddr, Announced> {
        let others = a.candidates.iter().filter(|n| *n != node).filter_map(|n| world.nodes().get(n));
        let hop = |n: &Node| n.addresses.iter().copied().find(|hop| hop.is_ipv4() == ip.is_ipv4());
        others.filter(|n| near(n)).filter_map(|n| Some((hop(n)?, announced(a, &n.name)))).collect()
    };
    let of_others = of_bgp().filter(|_| tells_all).map(|(ip, a)| (*ip, hops(ip, a))).collect();
    if peers.is_empty() && !addresses.is_empty() {
        notes.insert(BgpNote::NoPeer);
    }
    let policy = conf.policy.as_ref().and_then(|name| world.policy(name).cloned());
    if let Some(name) = conf.policy.clone().filter(|_| policy.is_none()) {
        notes.insert(BgpNote::NoPolicy { name });
    }
    if !conf.ignored.is_empty() {
        notes.insert(BgpNote::Ignored { peer: None, fields: conf.ignored.clone() });
    }
    let Some(asn) = asn else {
        notes.insert(BgpNote::NoAsn);
        return BgpPlan { speaks: None, notes };
    };
    let first = |pick: fn(&IpAddr) -> bool| own.addresses.iter().copied().find(pick);
    let v4 = if let Some(IpAddr::V4(ip)) = first(IpAddr::is_ipv4) { Some(ip) } else { None };
    let v6 = if let Some(IpAddr::V6(ip)) = first(IpAddr::is_ipv6) { Some(ip) } else { None };
    let several = world.nodes().len() > 1;
    let router_id = router_id(conf, rack.is_some(), own, node, v4, several, &mut notes);
    let speaks = Speaks {
        asn,
        router_id,
        port: conf.port,
        listen: conf.addresses.clone(),
        families: conf.families.clone(),
        graceful_restart: conf.graceful_restart,
        next_hops: (v4, v6),
        peers,
        addresses,
        of_others,
        policy,
    };
    BgpPlan { speaks: Some(speaks), notes }
}

/// Those that select the node.
fn peers(world: &World, node: &Node, notes: &mut BTreeSet<BgpNote>) -> BTreeMap<String, Peer> {
    let mut by_place: BTreeMap<&Place, &str> = BTreeMap::new();
    let mut peers = BTreeMap::new();
    for peer in world.peers().filter(|p| p.nodes.matches(&node.labels)) {
        if let Some(used) = by_place.get(&peer.place) {
            let (peer, place) = (peer.name.clone(), peer.place.to_string());
            notes.insert(BgpNote::PeerTwice { peer, used: (*used).to_owned(), place });
            continue;
        }
        by_place.insert(&peer.place, &peer.name);
        if !peer.ignored.is_empty() {
            notes.insert(BgpNote::Ignored { peer: Some(peer.name.clone()), fields: peer.ignored.clone() });
        }
        let mut peer = peer.clone();
        match world.password(&peer.name).map(|password| (password, PASSWORD.contains(&password.len()))) {
            Some((password, true)) => peer.password = Some(password.clone()),
            // Not the one of the object either: that would be a session with less protection than asked for.
            Some((_, false)) => {
                notes.insert(BgpNote::Password { peer: peer.name.clone() });
                continue;
            }
            None => {}
        }
        if let Some(bfd) = peer.bfd.as_mut().filter(|b| b.authentication.is_some()) {
            bfd.key = world.password(&format!("{}{}", peer.name, keys::BFD_KEY)).cloned();
            if bfd.key.is_none() {
                notes.insert(BgpNote::BfdKey { peer: peer.name.clone() });
                continue;
            }
        }
        peers.insert(peer.name.clone(), peer);
    }
    peers
}

/// compat §5.3. No two speakers of an AS may have the same (RFC 6286).
fn router_id(
    conf: &Bgp,
    in_rack: bool,
    own: &Node,
    node: &str,
    v4: Option<Ipv4Addr>,
    several: bool,
    notes: &mut BTreeSet<BgpNote>,
) -> Ipv4Addr {
    if let Some(router_id) = conf.router_id.filter(|_| !in_rack) {
        if several {
            notes.insert(BgpNote::SharedRouterId { router_id });
        }
        return router_id;
    }
    if let Some(v4) = v4 {
        return v4;
    }
    // Of what is as much its own as an IPv4 address would be.
    let text = own.addresses.first().map_or_else(|| node.to_owned(), ToString::to_string);
    let router_id = Ipv4Addr::from(fnv1a(&text).max(1));
    notes.insert(BgpNote::DerivedRouterId { router_id });
    router_id
}

/// The hash by which OpenELB made identifiers of text (FNV-1a, compat §5.3 and §5.4).
pub fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

impl BgpNote {
    /// Why, in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            BgpNote::NoConf => "NoBgpConf",
            BgpNote::NoAsn => "NoAsNumber",
            BgpNote::ConfInvalid { .. } => "BgpConfInvalid",
            BgpNote::PeerInvalid { .. } => "BgpPeerInvalid",
            BgpNote::PeerTwice { .. } => "BgpPeerTwice",
            BgpNote::NoPeer => "NoBgpPeer",
            BgpNote::SharedRouterId { .. } => "SharedRouterId",
            BgpNote::DerivedRouterId { .. } => "DerivedRouterId",
            BgpNote::NoPolicy { .. } => "NoBgpPolicy",
            BgpNote::Password { .. } | BgpNote::BfdKey { .. } => "BgpPasswordInvalid",
            BgpNote::Ignored { .. } => "FieldsIgnored",
        }
    }
}

impl fmt::Display for BgpNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BgpNote::NoConf => f.write_str("BGP is not configured: apply a BgpConf named default with spec.as"),
            BgpNote::NoAsn => {
                f.write_str("BgpConf default has no AS number for this node: set spec.as, or spec.asPerRack for its rack")
            }
            BgpNote::ConfInvalid { error, kept: true } => {
                write!(f, "BgpConf default is not valid, its last valid version stays in force: {error}")
            }
            BgpNote::ConfInvalid { error, kept: false } => write!(f, "BgpConf default is not valid and not used: {error}"),
            BgpNote::PeerInvalid { peer, error, kept: true } => {
                write!(f, "BgpPeer {peer} is not valid, its last valid version stays in force: {error}")
            }
            BgpNote::PeerInvalid { peer, error, kept: false } => {
                write!(f, "BgpPeer {peer} is not valid and not used: {error}")
            }
            BgpNote::PeerTwice { peer, used, place } => write!(
                f,
                "BgpPeer {peer} is not used on this node, since {used} has the same address {place}; delete one, or give them nodeSelectors"
            ),
            BgpNote::NoPeer => {
                f.write_str("no BgpPeer selects this node, so no router hears of the addresses; apply one, or correct spec.nodeSelector")
            }
            BgpNote::SharedRouterId { router_id } => write!(
                f,
                "spec.routerId of BgpConf default makes {router_id} the router id of every node; routers of the same AS refuse that: leave it out, and each node uses its own address"
            ),
            BgpNote::DerivedRouterId { router_id } => write!(
                f,
                "this node has no IPv4 address, so its router id {router_id} is made from its name or IPv6 address; set spec.routerId of BgpConf where that clashes"
            ),
            BgpNote::NoPolicy { name } => write!(
                f,
                "spec.policy of BgpConf default names the ConfigMap {name}, and there is none with a key gobgp.conf in the namespace of oxelb: every route is announced to every peer"
            ),
            BgpNote::Password { peer } => write!(
                f,
                "the password of BgpPeer {peer} in the Secret {} is empty or longer than 80 octets: the router is not talked to",
                keys::BGP_PASSWORDS
            ),
            BgpNote::BfdKey { peer } => write!(
                f,
                "BFD of BgpPeer {peer} is to be authenticated, and the Secret {} has no key {peer}{}: the router is not talked to",
                keys::BGP_PASSWORDS,
                keys::BFD_KEY
            ),
            BgpNote::Ignored { peer, fields } => {
                match peer {
                    Some(peer) => write!(f, "BgpPeer {peer}")?,
                    None => f.write_str("BgpConf default")?,
                }
                write!(f, " has fields without effect: {}", Few(fields))
            }
        }
    }
}
