//! A router to talk to, as the planner reads it: a [`BgpPeer`] whose every field was understood.

use crate::address::{Family, Range};
use crate::admission::{Refusal, check_bgp_peer};
use crate::bgp::{PORT, Restart, of_no_use, restart_of};
use crate::bgp_peer::{AfiSafi, BgpPeer, BgpPeerSpec, PeerConf};
use crate::selector::Selector;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

/// So many paths are sent where the user says nothing (compat §5.2).
const SEND_MAX: u8 = 10;

/// How many octets a password of TCP-MD5 has (RFC 2385; Linux).
pub const PASSWORD: std::ops::RangeInclusive<usize> = 1..=80;

/// A router to talk to.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// The BgpPeer's name.
    pub name: String,
    /// Where the router is.
    pub place: Place,
    /// Its port.
    pub port: u16,
    /// Its AS number, never 0; `None` accepts any.
    pub asn: Option<u32>,
    /// Our AS number towards it, never 0, where it is not that of BgpConf.
    pub local_asn: Option<u32>,
    /// The password of TCP-MD5, 1 to 80 octets.
    pub password: Option<String>,
    /// Keep the session down.
    pub admin_down: bool,
    /// Wait for the router to connect.
    pub passive: bool,
    /// Our own address, where it matters.
    pub source: Option<IpAddr>,
    /// The interface or VRF to talk through.
    pub device: Option<String>,
    /// How far away it may be.
    pub distance: Distance,
    /// Between two attempts to connect.
    pub connect_retry: Duration,
    /// In seconds: 0 (never) or 3 and more.
    pub hold_time: u16,
    /// Between two keepalives, where it is not a third of the hold time.
    pub keepalive: Option<Duration>,
    /// Between two runs of announcements; zero sends at once.
    pub advertisement_interval: Duration,
    /// What is spoken of.
    pub families: BTreeMap<Family, PeerFamily>,
    /// What the peer says of it; `None` when it says nothing, and then BgpConf does.
    pub graceful_restart: Option<Option<Restart>>,
    /// How it is found out that the router is not reached any more, beside the hold time.
    pub bfd: Option<Bfd>,
    /// Whose next hops it is told.
    pub next_hops: NextHopMode,
    /// The nodes that talk to it.
    pub nodes: Selector,
    /// Fields that are set and mean nothing here.
    pub ignored: BTreeSet<String>,
}

/// Where a router is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At this address.
    Address(IpAddr),
    /// Alone at the other end of this interface, at whatever link-local address (unnumbered).
    Interface(String),
    /// At any address of this network, from which it connects by itself; there may be many.
    Range {
        /// The first address.
        network: IpAddr,
        /// How many bits all addresses share.
        length: u8,
    },
}

/// Whose next hops a router is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NextHopMode {
    /// The node that tells it.
    #[default]
    Node,
    /// All nodes that serve an address, from each node (D9).
    OpenElb,
}

/// How far away a router may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// A neighbour when it is of another AS, anywhere when it is of ours.
    Usual,
    /// Packets go so many hops.
    Multihop(u8),
    /// At most so many hops, and both sides send with 255 (RFC 5082).
    Security(u8),
}

/// How BFD packets are authenticated (RFC 5880 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BfdAuthentication {
    /// In clear.
    Password,
    /// By a digest; packets may be replayed for as long as nothing changes.
    KeyedSha1,
    /// By a digest that no packet has in common with another.
    MeticulousKeyedSha1,
}

/// BFD with a router (RFC 5880).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bfd {
    /// What we would like between two of our packets, 10 ms to a minute.
    pub transmit: Duration,
    /// The least that we can take between two of the router's, 10 ms to a minute.
    pub receive: Duration,
    /// So many packets in a row may be missing.
    pub multiplier: NonZeroU8,
    /// The least TTL of the packets of a router that is behind others (RFC 5883); `None` for a neighbour (RFC 5881).
    pub multihop: Option<u8>,
    /// How packets are authenticated, and the number of the key.
    pub authentication: Option<(BfdAuthentication, u8)>,
    /// The key, which is not in the object.
    pub key: Option<String>,
}

/// What is agreed upon for one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerFamily {
    /// Take several paths to a prefix.
    pub add_path_receive: bool,
    /// Offer to send so many paths to a prefix; 0 does not offer it.
    pub add_path_send: u8,
    /// Part of graceful restart, where there is any.
    pub graceful_restart: bool,
}

/// Why a BgpConf or BgpPeer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidBgp(pub Vec<Refusal>);

impl InvalidBgp {
    pub(crate) fn of(field: &str, problem: impl Into<String>) -> InvalidBgp {
        InvalidBgp(vec![Refusal::Field { field: field.to_owned(), problem: problem.into() }])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::Interface(name) => write!(f, "interface {name}"),
            Place::Range { network, length } => write!(f, "{network}/{length}"),
        }
    }
}

impl Place {
    /// What a [`BgpPeer`] says of it; an address counts more than an interface.
    fn of(conf: &PeerConf) -> Result<Place, InvalidBgp> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(text) = given(&conf.neighbor_range) {
            let problem =
                || format!("{text:?} is not a network such as 192.0.2.0/24 with no bit set behind its length");
            let network: Option<Range> = text.parse().ok();
            let (address, length) = text.split_once('/').unzip();
            return match (network, address.and_then(|a| a.parse().ok()), length.and_then(|l| l.parse().ok())) {
                (Some(range), Some(network), Some(length)) if range.first() == network => {
                    Ok(Place::Range { network, length })
                }
                _ => Err(InvalidBgp::of("spec.conf.neighborRange", problem())),
            };
        }
        match (given(&conf.neighbor_address), given(&conf.neighbor_interface)) {
            (Some(text), _) => text
                .parse()
                .map(Place::Address)
                .map_err(|_| InvalidBgp::of("spec.conf.neighborAddress", format!("{text:?} is not an IP address"))),
            (None, Some(name)) => Ok(Place::Interface(name)),
            (None, None) => Err(InvalidBgp::of("spec.conf.neighborAddress", "the router's address is missing")),
        }
    }

    /// The family of the sessions with it.
    pub fn is_ipv4(&self) -> bool {
        match self {
            Place::Address(address) | Place::Range { network: address, .. } => address.is_ipv4(),
            Place::Interface(_) => false,
        }
    }

    /// What is spoken of where nothing is said: over an interface both, for there is no address to go by.
    fn families(&self) -> Vec<Family> {
        match self {
            Place::Address(address) | Place::Range { network: address, .. } => vec![Family::of(*address)],
            Place::Interface(_) => vec![Family::V4, Family::V6],
        }
    }
}

impl fmt::Display for InvalidBgp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl TryFrom<&BgpPeer> for Peer {
    type Error = InvalidBgp;
    fn try_from(peer: &BgpPeer) -> Result<Peer, InvalidBgp> {
        check_bgp_peer(peer, None).map_err(InvalidBgp)?;
        let spec = &peer.spec;
        let conf = spec.conf.clone().unwrap_or_default();
        let transport = spec.transport.clone().unwrap_or_default();
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let place = Place::of(&conf)?;
        let asn = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let peer_asn = asn(conf.peer_as);
        if peer_asn.is_none() && matches!(place, Place::Address(_)) {
            return Err(InvalidBgp::of("spec.conf.peerAs", "the router's AS number is missing"));
        }
        let password = given(&conf.auth_password);
        if password.as_ref().is_some_and(|p| !PASSWORD.contains(&p.len())) {
            return Err(InvalidBgp::of(
                "spec.conf.authPassword",
                "is longer than 80 octets, the most that TCP-MD5 takes",
            ));
        }
        let source: Option<IpAddr> = given(&transport.local_address).and_then(|a| a.parse().ok());
        if source.is_some_and(|s| s.is_ipv4() != place.is_ipv4()) {
            return Err(InvalidBgp::of(
                "spec.transport.localAddress",
                "is of another address family than the router's address",
            ));
        }
        let timers = spec.timers.clone().and_then(|t| t.config).unwrap_or_default();
        let seconds = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<u32>().ok());
        // As in GoBGP, 0 is the same as nothing.
        let some = |text: &Option<String>| seconds(text).filter(|s| *s > 0);
        let hold_time = match some(&timers.hold_time) {
            None => 90,
            Some(hold) => u16::try_from(hold).ok().filter(|h| *h >= 3).ok_or_else(|| {
                InvalidBgp::of("spec.timers.config.holdTime", format!("{hold} is not from 3 to 65535 seconds"))
            })?,
        };
        Ok(Peer {
            name: peer.metadata.name.clone().unwrap_or_default(),
            port: transport.remote_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(PORT),
            asn: peer_asn,
            local_asn: asn(conf.local_as),
            password,
            admin_down: conf.admin_down.unwrap_or(false),
            passive: transport.passive_mode.unwrap_or(false),
            source,
            device: given(&transport.bind_interface).or(given(&conf.vrf)),
            distance: distance(spec),
            connect_retry: Duration::from_secs(some(&timers.connect_retry).unwrap_or(120).into()),
            hold_time,
            keepalive: some(&timers.keepalive_interval).map(|s| Duration::from_secs(s.into())),
            advertisement_interval: Duration::from_secs(
                some(&timers.minimum_advertisement_interval).unwrap_or(0).into(),
            ),
            families: families(spec, &place.families())?,
            place,
            graceful_restart: spec.graceful_restart.as_ref().map(restart_of),
            bfd: spec.bfd.as_ref().map(|given| bfd(given, distance(spec))),
            next_hops: match given(&spec.next_hop_mode).as_deref() {
                Some("OpenELB") => NextHopMode::OpenElb,
                _ => NextHopMode::Node,
            },
            nodes: spec
                .node_selector
                .as_ref()
                .map_or_else(|| Ok(Selector::default()), Selector::try_from)
                .map_err(|e| InvalidBgp(vec![Refusal::NodeSelector(e)]))?,
            ignored: ignored(spec),
        })
    }
}

fn distance(spec: &BgpPeerSpec) -> Distance {
    let ttl = |given: Option<i64>| given.and_then(|t| u8::try_from(t).ok()).filter(|t| *t > 0).unwrap_or(255);
    match (&spec.ttl_security, &spec.ebgp_multihop) {
        (Some(security), _) if security.enabled == Some(true) => {
            Distance::Security(256u16.saturating_sub(ttl(security.ttl_min).into()).try_into().unwrap_or(255))
        }
        (_, Some(multihop)) if multihop.enabled == Some(true) => Distance::Multihop(ttl(multihop.multihop_ttl)),
        _ => Distance::Usual,
    }
}

fn bfd(given: &crate::bgp_peer::Bfd, distance: Distance) -> Bfd {
    let millis = |given: Option<i64>| Duration::from_millis(given.and_then(|m| m.try_into().ok()).unwrap_or(300));
    let octet = |given: Option<i64>| given.and_then(|n| u8::try_from(n).ok()).and_then(NonZeroU8::new);
    let hops = match distance {
        Distance::Usual => 1,
        Distance::Multihop(hops) | Distance::Security(hops) => hops,
    };
    let method = match given.authentication.as_deref() {
        Some("Password") => Some(BfdAuthentication::Password),
        Some("KeyedSHA1") => Some(BfdAuthentication::KeyedSha1),
        Some("MeticulousKeyedSHA1") => Some(BfdAuthentication::MeticulousKeyedSha1),
        _ => None,
    };
    let behind = given.multihop.unwrap_or(hops > 1);
    // The router sends with 255, as we do. How far it is, only ebgpMultihop or ttlSecurity can say.
    let least = if hops > 1 { 255 - (hops - 1) } else { 1 };
    Bfd {
        transmit: millis(given.transmit_interval),
        receive: millis(given.receive_interval),
        multiplier: octet(given.detect_multiplier).unwrap_or(NonZeroU8::MIN.saturating_add(2)),
        multihop: behind.then(|| octet(given.minimum_ttl).map_or(least, NonZeroU8::get)),
        authentication: method.map(|method| (method, given.key_id.and_then(|id| id.try_into().ok()).unwrap_or(1))),
        key: None,
    }
}

fn families(spec: &BgpPeerSpec, own: &[Family]) -> Result<BTreeMap<Family, PeerFamily>, InvalidBgp> {
    let usual = AfiSafi::default();
    let entries = spec.afi_safis.as_deref().filter(|e| !e.is_empty());
    let mut families = BTreeMap::new();
    for entry in entries.unwrap_or(std::slice::from_ref(&usual)) {
        // An entry without `config` is of the family of the router's address, and on (compat §5.2).
        let spoken = match &entry.config {
            None => own.to_vec(),
            Some(config) => {
                let name = config.family.clone().unwrap_or_default();
                let (afi, safi) = (name.afi.unwrap_or_default(), name.safi.unwrap_or_default());
                if !config.enabled.unwrap_or(false) {
                    continue;
                }
                match (afi.as_str(), safi.as_str()) {
                    ("AFI_IP", "SAFI_UNICAST") => vec![Family::V4],
                    ("AFI_IP6", "SAFI_UNICAST") => vec![Family::V6],
                    _ => {
                        let problem =
                            format!("{afi:?} {safi:?} is not spoken here; AFI_IP or AFI_IP6 with SAFI_UNICAST are");
                        return Err(InvalidBgp::of("spec.afiSafis.config.family", problem));
                    }
                }
            }
        };
        let add_paths = entry.add_paths.clone().and_then(|a| a.config);
        let send_max = match &add_paths {
            None if entries.is_none() => SEND_MAX,
            None => 0,
            Some(config) => u8::try_from(config.send_max.unwrap_or(0).max(0)).unwrap_or(u8::MAX),
        };
        let restart = entry.mp_graceful_restart.as_ref().and_then(|r| r.config.as_ref()?.enabled);
        let agreed = PeerFamily {
            add_path_receive: add_paths.and_then(|c| c.receive).unwrap_or(false),
            add_path_send: send_max,
            graceful_restart: restart.unwrap_or(true),
        };
        families.extend(spoken.into_iter().map(|family| (family, agreed)));
    }
    if families.is_empty() {
        return Err(InvalidBgp::of("spec.afiSafis", "no entry is enabled; leave afiSafis out, or enable one"));
    }
    Ok(families)
}

/// Fields that are set and mean nothing, most of them also not in GoBGP (compat §1.4), the others because nothing but our
/// own routes is sent.
fn ignored(spec: &BgpPeerSpec) -> BTreeSet<String> {
    let conf = spec.conf.clone().unwrap_or_default();
    let transport = spec.transport.clone().unwrap_or_default();
    let text = |t: &Option<String>| t.as_ref().is_some_and(|t| !t.is_empty());
    let set = [
        ("conf.peerGroup", text(&conf.peer_group)),
        ("conf.peerType", conf.peer_type.is_some()),
        ("conf.removePrivateAs", conf.remove_private_as.as_ref().is_some_and(|r| !r.is_empty() && r != "NONE")),
        ("conf.routeFlapDamping", conf.route_flap_damping == Some(true)),
        ("conf.sendCommunity", conf.send_community.is_some()),
        ("conf.neighborInterface", text(&conf.neighbor_interface) && text(&conf.neighbor_address)),
        ("conf.allowOwnAs", conf.allow_own_as.is_some()),
        ("conf.replacePeerAs", conf.replace_peer_as == Some(true)),
        ("transport.mtuDiscovery", transport.mtu_discovery.is_some()),
        ("transport.remoteAddress", text(&transport.remote_address)),
        ("transport.tcpMss", transport.tcp_mss.is_some()),
    ];
    let restart = spec.graceful_restart.iter().flat_map(|g| of_no_use(g, "gracefulRestart"));
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned()).chain(restart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::Bgp;
    use crate::bgp_conf::BgpConf;
    use serde_json::{Value, json};

    fn peer(spec: Value) -> Result<Peer, String> {
        let object = json!({"apiVersion": "network.kubesphere.io/v1alpha2", "kind": "BgpPeer",
            "metadata": {"name": "p"}, "spec": spec});
        Peer::try_from(&serde_json::from_value::<BgpPeer>(object).unwrap()).map_err(|e| e.to_string())
    }

    fn bgp(spec: Value) -> Result<Bgp, String> {
        let object = json!({"apiVersion": "network.kubesphere.io/v1alpha2", "kind": "BgpConf",
            "metadata": {"name": "default"}, "spec": spec});
        Bgp::try_from(&serde_json::from_value::<BgpConf>(object).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn openelbs_samples_mean_what_its_documents_say() {
        let bgp = bgp(json!({"as": 50000, "listenPort": 17900, "routerId": "192.168.0.2"})).unwrap();
        assert_eq!((bgp.asn, bgp.port, bgp.router_id), (Some(50000), Some(17900), Some([192, 168, 0, 2].into())));
        assert_eq!(bgp.families.len(), 2);
        let sample = json!({"conf": {"peerAs": 50001, "neighborAddress": "192.168.0.5"}, "afiSafis": [{
            "config": {"family": {"afi": "AFI_IP", "safi": "SAFI_UNICAST"}, "enabled": true},
            "addPaths": {"config": {"sendMax": 10}}}], "nodeSelector": {"matchLabels": {"rack": "leaf1"}}});
        let peer = peer(sample).unwrap();
        assert_eq!((peer.asn, peer.port, peer.hold_time), (Some(50001), 179, 90));
        assert_eq!((peer.families[&Family::V4].add_path_send, peer.families.len()), (10, 1));
        assert!(peer.nodes.matches(&[("rack".to_owned(), "leaf1".to_owned())].into()));
        assert!(!peer.nodes.matches(&Default::default()));
        assert!(peer.ignored.is_empty());
    }

    #[test]
    fn what_is_left_out_is_as_in_openelb() {
        let peer = peer(json!({"conf": {"peerAs": 1, "neighborAddress": "fd00::1"}})).unwrap();
        assert_eq!(peer.families.keys().collect::<Vec<_>>(), [&Family::V6]);
        assert_eq!(peer.families[&Family::V6].add_path_send, 10);
        assert_eq!((peer.distance, peer.connect_retry), (Distance::Usual, Duration::from_secs(120)));
        let bgp = bgp(json!({})).unwrap();
        assert_eq!((bgp.asn, bgp.port), (None, Some(179)));
        assert_eq!(self::bgp(json!({"listenPort": -1})).unwrap().port, None);
    }

    #[test]
    fn fields_are_understood_or_named() {
        let peer = peer(json!({
            "conf": {"peerAs": 4_200_000_000_u32, "localAs": 65001, "neighborAddress": "10.0.0.1", "authPassword": "s",
                "peerGroup": "g", "adminDown": true, "vrf": "red"},
            "ebgpMultihop": {"enabled": true}, "transport": {"passiveMode": true, "remotePort": 17900,
                "localAddress": "10.0.0.2", "tcpMss": 1400},
            "timers": {"config": {"holdTime": "9", "keepaliveInterval": "0", "connectRetry": "5"}},
            "gracefulRestart": {"enabled": true, "restartTime": 9999, "mode": "x"},
            "afiSafis": [{}, {"config": {"enabled": true, "family": {"afi": "AFI_IP6", "safi": "SAFI_UNICAST"}},
                "mpGracefulRestart": {"config": {"enabled": false}}},
                {"config": {"enabled": false, "family": {"afi": "AFI_L2VPN", "safi": "SAFI_EVPN"}}}],
        }))
        .unwrap();
        assert_eq!((peer.local_asn, peer.distance, peer.hold_time), (Some(65001), Distance::Multihop(255), 9));
        assert_eq!((peer.keepalive, peer.admin_down, peer.passive), (None, true, true));
        assert_eq!((peer.device.as_deref(), peer.source), (Some("red"), Some([10, 0, 0, 2].into())));
        let on: Vec<bool> = peer.families.values().map(|f| f.graceful_restart).collect();
        assert_eq!(on, [true, false]);
        assert_eq!(peer.graceful_restart.unwrap().unwrap().time, Some(4095));
        let ignored: Vec<&str> = peer.ignored.iter().map(String::as_str).collect();
        assert_eq!(ignored, ["conf.peerGroup", "gracefulRestart.mode", "transport.tcpMss"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let conf = json!({"peerAs": 1, "neighborAddress": "10.0.0.1"});
        for (spec, want) in [
            (json!({"conf": {"neighborAddress": "10.0.0.1"}}), "spec.conf.peerAs"),
            (json!({"conf": {"neighborRange": "10.0.0.1/24"}}), "spec.conf.neighborRange"),
            (json!({"conf": {"neighborRange": "10.0.0.0-10.0.0.9"}}), "spec.conf.neighborRange"),
            (
                json!({"conf": {"neighborRange": "10.0.0.0/24", "neighborAddress": "10.0.0.1"}}),
                "spec.conf.neighborRange",
            ),
            (json!({"conf": conf, "nextHopMode": "self"}), "spec.nextHopMode"),
            (json!({"conf": conf, "timers": {"config": {"holdTime": "2"}}}), "spec.timers.config.holdTime"),
            (json!({"conf": conf, "transport": {"localAddress": "fd00::1"}}), "spec.transport.localAddress"),
            (json!({"conf": conf, "afiSafis": [{"config": {"enabled": false}}]}), "spec.afiSafis: no entry"),
            (
                json!({"conf": conf, "afiSafis": [{"config": {"enabled": true, "family": {"afi": "AFI_L2VPN", "safi": "SAFI_EVPN"}}}]}),
                "AFI_L2VPN",
            ),
            (json!({"conf": conf, "ttlSecurity": {"enabled": true}, "ebgpMultihop": {"enabled": true}}), "ttlSecurity"),
            (json!({}), "spec.conf.neighborAddress"),
        ] {
            let error = peer(spec.clone()).unwrap_err();
            assert!(error.contains(want), "{spec}: {error}");
        }
        assert!(bgp(json!({"families": [9]})).unwrap_err().contains("spec.families"));
        assert!(bgp(json!({"routerId": "x"})).unwrap_err().contains("spec.routerId"));
    }

    #[test]
    fn a_router_may_be_anywhere_on_an_interface_or_in_a_network() {
        let unnumbered = peer(json!({"conf": {"neighborInterface": "eth1"}})).unwrap();
        assert_eq!((unnumbered.place.to_string(), unnumbered.asn), ("interface eth1".to_owned(), None));
        assert_eq!(unnumbered.families.keys().collect::<Vec<_>>(), [&Family::V4, &Family::V6]);
        let range = peer(json!({"conf": {"neighborRange": "fd00::/64", "peerAs": 7}})).unwrap();
        assert_eq!((range.place.to_string(), range.asn), ("fd00::/64".to_owned(), Some(7)));
        assert_eq!(range.families.keys().collect::<Vec<_>>(), [&Family::V6]);
        let both = json!({"conf": {"neighborInterface": "eth1", "neighborAddress": "10.0.0.1", "peerAs": 7}});
        let both = peer(both).unwrap();
        assert_eq!(both.place.to_string(), "10.0.0.1");
        assert!(both.ignored.contains("conf.neighborInterface"));
        assert_eq!(both.next_hops, NextHopMode::Node);
        let old = json!({"conf": {"neighborAddress": "10.0.0.1", "peerAs": 7}, "nextHopMode": "OpenELB"});
        assert_eq!(peer(old).unwrap().next_hops, NextHopMode::OpenElb);
    }

    #[test]
    fn bfd_is_of_a_neighbour_unless_the_session_goes_over_many_hops() {
        let bfd = |more: Value| {
            let mut spec = json!({"conf": {"peerAs": 1, "neighborAddress": "10.0.0.1"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            peer(spec).map(|p| p.bfd)
        };
        assert_eq!(bfd(json!({})), Ok(None));
        let usual = bfd(json!({"bfd": {}})).unwrap().unwrap();
        let three = NonZeroU8::new(3).unwrap();
        assert_eq!((usual.transmit, usual.multiplier, usual.multihop), (Duration::from_millis(300), three, None));
        for (more, multihop) in [
            (json!({"bfd": {}, "ebgpMultihop": {"enabled": true, "multihopTtl": 3}}), Some(253)),
            (json!({"bfd": {}, "ebgpMultihop": {"enabled": true}}), Some(1)),
            (json!({"bfd": {}, "ttlSecurity": {"enabled": true, "ttlMin": 254}}), Some(254)),
            (json!({"bfd": {"multihop": true}}), Some(1)),
            (json!({"bfd": {"multihop": true, "minimumTTL": 60}}), Some(60)),
            (json!({"bfd": {"multihop": false}, "ebgpMultihop": {"enabled": true}}), None),
        ] {
            assert_eq!(bfd(more.clone()).unwrap().unwrap().multihop, multihop, "{more}");
        }
        let signed = bfd(json!({"bfd": {"authentication": "KeyedSHA1", "keyId": 7}})).unwrap().unwrap();
        assert_eq!(signed.authentication, Some((BfdAuthentication::KeyedSha1, 7)));
        let error = bfd(json!({"bfd": {"authentication": "KeyedMD5"}})).unwrap_err();
        assert!(error.contains("spec.bfd.authentication: \"KeyedMD5\" is not one of"), "{error}");
        for (field, value) in
            [("transmitInterval", 9), ("receiveInterval", 60_001), ("detectMultiplier", 0), ("keyId", 256)]
        {
            let error = bfd(json!({"bfd": {field: value}})).unwrap_err();
            assert!(error.contains(&format!("spec.bfd.{field}: {value} is not from")), "{error}");
        }
    }

    #[test]
    fn the_least_ttl_says_how_far_a_router_may_be() {
        let near = |ttl: Value| {
            let conf = json!({"peerAs": 1, "neighborAddress": "10.0.0.1"});
            peer(json!({"conf": conf, "ttlSecurity": ttl})).unwrap().distance
        };
        assert_eq!(near(json!({"enabled": true})), Distance::Security(1));
        assert_eq!(near(json!({"enabled": true, "ttlMin": 254})), Distance::Security(2));
        assert_eq!(near(json!({"ttlMin": 254})), Distance::Usual);
    }
}
