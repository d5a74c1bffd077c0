//! From a plan to orders, from facts to words, and two threads that talk to each other.

use super::facts::{Facts, PeerFacts};
use super::intent::{Command, Filter, Intent};
use super::thread;
use super::{Known, Part, control, status};
use crate::orders::Orders;
use api::{Bgp, BgpConf, BgpPeer, Node, Peer, Service, ServiceKey};
use bgp::{Family, Nlri, Path, Prefix, Routes, State};
use net::Ttl;
use plan::{Speaks, World};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const GROUP: &str = "network.kubesphere.io/v1alpha2";

fn conf(spec: Value) -> Bgp {
    let object = json!({"apiVersion": GROUP, "kind": "BgpConf", "metadata": {"name": "default"}, "spec": spec});
    Bgp::try_from(&serde_json::from_value::<BgpConf>(object).unwrap()).unwrap()
}

fn peer(name: &str, spec: Value) -> Peer {
    let object = json!({"apiVersion": GROUP, "kind": "BgpPeer", "metadata": {"name": name}, "spec": spec});
    Peer::try_from(&serde_json::from_value::<BgpPeer>(object).unwrap()).unwrap()
}

fn speaks(conf_spec: Value, peers: &[(&str, Value)]) -> Speaks {
    speaks_of(json!({}), conf_spec, peers)
}

fn speaks_of(of_pool: Value, conf_spec: Value, peers: &[(&str, Value)]) -> Speaks {
    let world = world_of(of_pool, conf_spec, peers);
    plan::bgp(&world, &plan::plan(&world), "n1").speaks.unwrap()
}

fn world_of(of_pool: Value, conf_spec: Value, peers: &[(&str, Value)]) -> World {
    let mut world = World::default();
    let addresses = ["10.0.0.1", "fd00::1"].iter().map(|a| a.parse().unwrap()).collect();
    world.set_node(Node { name: "n1".into(), ready: true, addresses, ..Node::default() });
    let eip = json!({"apiVersion": GROUP, "kind": "Eip", "metadata": {"name": "p"}, "spec": {"address": "10.9.0.0/24,fd09::/64", "bgp": of_pool}});
    world.set_pool("p", api::Pool::try_from(&serde_json::from_value::<api::Eip>(eip).unwrap()));
    let ingress = ["10.9.0.1", "fd09::1"].iter().map(|a| a.parse().unwrap()).collect();
    world.set_service(Service { key: ServiceKey::new("d", "s"), served: true, ingress, ..Service::default() });
    world.set_bgp(Ok(conf(conf_spec)));
    for (name, spec) in peers {
        world.set_peer(name, Ok(peer(name, spec.clone())));
    }
    world
}

fn router(address: &str, asn: u32) -> Value {
    json!({"conf": {"peerAs": asn, "neighborAddress": address}})
}

#[test]
fn an_order_says_how_each_router_is_talked_to_and_what_it_is_told() {
    let mut far = router("10.0.1.1", 65001);
    far["ebgpMultihop"] = json!({"enabled": true, "multihopTtl": 3});
    let mut six = router("fd00::9", 65002);
    six["gracefulRestart"] = json!({"enabled": false});
    let peers =
        [("far", far), ("inside", router("10.0.0.3", 65000)), ("near", router("10.0.0.2", 65001)), ("six", six)];
    let conf = json!({"as": 65000, "listenPort": 17900, "gracefulRestart": {"enabled": true, "restartTime": 60}});
    let (intent, refused) = Intent::new(&speaks(conf, &peers), &Filter::Everything);
    assert!(refused.is_empty());
    let listen: Vec<String> = intent.listen.iter().map(|(a, _)| a.to_string()).collect();
    assert_eq!(listen, ["0.0.0.0:17900", "[::]:17900"]);
    let ttl = |name: &str| intent.peers[name].transport.ttl;
    assert_eq!((ttl("far"), ttl("inside"), ttl("near")), (Ttl::Hops(3), Ttl::System, Ttl::Hops(1)));
    let near = &intent.peers["near"].config;
    assert_eq!(near.graceful_restart.map(|r| r.restart_time), Some(60));
    assert_eq!((near.next_hops.ipv4, near.next_hops.ipv6), (None, "fd00::1".parse().ok()));
    let six = &intent.peers["six"].config;
    assert_eq!((six.graceful_restart, six.next_hops.ipv4, six.next_hops.ipv6), (None, "10.0.0.1".parse().ok(), None));
    assert_eq!(six.families.keys().collect::<Vec<_>>(), [&Family::Ipv6]);
    let routes: Vec<String> = intent.routes.keys().map(|n| n.prefix.to_string()).collect();
    assert_eq!(routes, ["10.9.0.1/32", "fd09::1/128"]);
}

#[test]
fn routers_are_told_what_the_pool_says_each_in_its_way() {
    let of_pool = json!({"communities": ["65000:7", "65000:1:2"], "localPref": 300, "med": 5, "asPathPrepend": 2,
        "aggregationLength": 24, "aggregationLengthV6": 64, "peers": ["inside", "near"]});
    let peers = [
        ("inside", router("10.0.0.3", 65000)),
        ("near", router("10.0.0.2", 65001)),
        ("other", router("10.0.0.4", 65001)),
    ];
    let intent = Intent::new(&speaks_of(of_pool, json!({"as": 65000}), &peers), &Filter::Everything).0;
    let told = |name: &str| intent.peers[name].routes.clone();
    assert_eq!(told("other").len(), 0);
    assert_eq!(told("near").keys().map(|n| n.prefix.to_string()).collect::<Vec<_>>(), ["10.9.0.0/24", "fd09::/64"]);
    assert_eq!(intent.routes.len(), 2, "what gobgp shows is all that is announced");
    let path = |name: &str| told(name).values().next().unwrap().attributes.clone();
    assert_eq!((path("inside").as_path.hops(), path("near").as_path.hops()), (0, 2));
    for name in ["inside", "near"] {
        let path = path(name);
        assert_eq!((path.local_pref, path.med), (Some(300), Some(5)));
        assert_eq!((path.communities.len(), path.large_communities.len(), path.extended_communities.len()), (1, 1, 0));
    }
}

#[test]
fn of_addresses_in_one_prefix_the_endpoints_count_together_where_only_local_ones_serve() {
    let with = |endpoints: [Option<u32>; 2]| {
        let mut speaks =
            speaks_of(json!({"aggregationLength": 24}), json!({"as": 65000}), &[("near", router("10.0.0.2", 65001))]);
        let first = speaks.addresses.values().next().unwrap().clone();
        speaks.addresses.clear();
        for (n, endpoints) in endpoints.into_iter().enumerate() {
            speaks.addresses.insert(IpAddr::from([10, 9, 0, n as u8]), plan::Announced { endpoints, ..first.clone() });
        }
        let routes = Intent::new(&speaks, &Filter::Everything).0.peers["near"].routes.clone();
        assert_eq!(routes.len(), 1);
        let path = routes.values().next().unwrap();
        path.attributes.extended_communities.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with([Some(2), Some(3)]), ["lb:65000:5000000"]);
    assert_eq!(with([Some(2), None]), Vec::<String>::new(), "one of them is served everywhere");
}

#[test]
fn a_policy_decides_for_each_router_and_when_it_breaks_the_last_good_one_stays() {
    let peers = [("near", router("10.0.0.2", 65001)), ("other", router("10.0.0.4", 65001))];
    let conf = json!({"as": 65000, "policy": "rules"});
    let only_near = "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"near\"\nneighbor-info-list = [\"10.0.0.2\"]\n\
        [global.apply-policy.config]\nexport-policy-list = [\"p\"]\ndefault-export-policy = \"reject-route\"\n\
        [[policy-definitions]]\nname = \"p\"\n[[policy-definitions.statements]]\n\
        [policy-definitions.statements.conditions.match-neighbor-set]\nneighbor-set = \"near\"\n\
        [policy-definitions.statements.actions]\nroute-disposition = \"accept-route\"\n";
    let told = |part: &Part| {
        let sent = part.waiting.as_ref().unwrap_or(&part.sent);
        ["near", "other"].map(|name| sent.peers.get(name).map_or(0, |r| r.routes.len()))
    };
    let world = |policy: &str| {
        let mut world = world_of(json!({}), conf.clone(), &peers);
        if !policy.is_empty() {
            world.set_policy("rules", policy.to_owned());
        }
        world
    };
    let replan = |part: &mut Part, policy: &str| {
        let world = world(policy);
        // The thread cannot reach these routers; what it is told is what counts.
        drop(part.replan(&world, &plan::plan(&world), Known::All));
    };
    let mut part = Part::new("n1");
    replan(&mut part, "not a policy");
    assert_eq!(told(&part), [0, 0], "what was to be kept from a router is not told to it");
    assert!(part.bad_policy.as_ref().is_some_and(|why| why.contains("nothing is announced")));
    replan(&mut part, only_near);
    assert_eq!((told(&part), &part.bad_policy), ([2, 0], &None));
    replan(&mut part, "not a policy");
    assert_eq!(told(&part), [2, 0]);
    assert!(part.bad_policy.as_ref().is_some_and(|why| why.contains("last good version")));
    replan(&mut part, "");
    assert_eq!(
        (told(&part), &part.bad_policy),
        ([2, 2], &None),
        "as with OpenELB, without the ConfigMap there is no policy"
    );
    replan(&mut part, "not a policy");
    assert_eq!(told(&part), [2, 2], "as before");
}

#[test]
fn a_router_of_which_no_family_is_left_is_refused_and_the_others_are_not() {
    let peers = [("four", router("10.0.0.2", 65001)), ("six", router("fd00::9", 65001))];
    let (intent, refused) = Intent::new(&speaks(json!({"as": 65000, "families": [0]}), &peers), &Filter::Everything);
    assert_eq!(intent.peers.keys().collect::<Vec<_>>(), ["four"]);
    assert!(refused["six"].contains("spec.families"), "{refused:?}");
    assert_eq!(intent.listen.len(), 1, "nobody comes over IPv6");
}

#[test]
fn without_routers_there_is_nothing_to_do() {
    assert_eq!(Intent::new(&speaks(json!({"as": 65000}), &[]), &Filter::Everything).0, Intent::default());
}

#[test]
fn gobgp_is_told_that_it_is_not_ready_and_what_it_may_ask() {
    let facts = Facts::default();
    assert!(control::say("global", false, &facts).unwrap_err().contains("not ready"));
    assert!(control::say("global", true, &facts).unwrap().starts_with("AS:        0\n"));
    assert_eq!(control::say("global rib", true, &facts).unwrap(), "Network not in table\n");
    assert_eq!(control::say("neighbor -j", true, &facts).unwrap(), "[]\n");
    let error = control::say("global policy", true, &facts).unwrap_err();
    assert!(error.contains("global policy") && error.contains("neighbor [ADDRESS]"), "{error}");
    assert!(control::say("neighbor 10.0.0.2", true, &facts).unwrap_err().contains("10.0.0.2"));
}

/// A speaker on an address of the loopback, and its facts.
struct Talker {
    handle: Orders<Command>,
    facts: watch::Receiver<Arc<Facts>>,
    intent: Intent,
}

impl Talker {
    /// One that talks to the other from its own address; the passive one listens.
    fn start(own: &str, asn: u32, port: u16, other: (&str, u32), passive: bool, more: &Value) -> Talker {
        let mut spec = router(other.0, other.1);
        spec["transport"] = json!({"remotePort": port, "localAddress": own, "passiveMode": passive});
        spec["timers"] = json!({"config": {"connectRetry": "1"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let listen = if passive { i64::from(port) } else { -1 };
        let conf = json!({"as": asn, "routerId": own, "listenPort": listen, "listenAddresses": [own]});
        let (mut intent, refused) = Intent::new(&speaks(conf, &[("other", spec)]), &Filter::Everything);
        assert!(refused.is_empty());
        intent.peers.values_mut().for_each(|router| router.routes = Arc::default());
        let (out, facts) = watch::channel(Arc::default());
        Talker { handle: thread::start(out).unwrap(), facts, intent }
    }

    fn apply(&self) {
        assert!(self.handle.send(Command::Apply(Box::new(self.intent.clone()))));
    }

    fn announce(&mut self, count: u32) {
        let path = Arc::new(Path::default());
        let host = |i: u32| Nlri { prefix: Prefix::host(Ipv4Addr::from_bits(0x0a10_0000 + i).into()), path: 1 };
        let routes: Arc<Routes> = Arc::new((0..count).map(|i| (host(i), path.clone())).collect());
        self.intent.peers.values_mut().for_each(|router| router.routes = routes.clone());
        self.apply();
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&PeerFacts) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                self.handle.send(Command::Report);
                self.facts.changed().await.unwrap();
                if self.facts.borrow_and_update().peers.get("other").is_some_and(&holds) {
                    return;
                }
                // Whoever asks without pause keeps the thread from its work.
                tokio::task::yield_now().await;
            }
        });
        let done = waited.await;
        assert!(done.is_ok(), "{what}: {:?}", self.facts.borrow().peers.get("other"));
    }

    async fn leave(mut self) {
        self.handle.send(Command::Leave);
        while self.facts.changed().await.is_ok() {}
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn received(facts: &PeerFacts) -> usize {
    facts.view.routes[&Family::Ipv4].received
}

#[tokio::test]
async fn two_speakers_come_together_and_only_differences_are_said() {
    let port = free_port();
    let mut a = Talker::start("127.0.0.1", 65001, port, ("127.0.0.2", 65002), true, &json!({}));
    let mut b = Talker::start("127.0.0.2", 65002, port, ("127.0.0.1", 65001), false, &json!({}));
    a.apply();
    b.announce(3);
    a.until("a session and three routes", |p| p.established() && received(p) == 3).await;
    b.announce(2);
    a.until("one less", |p| received(p) == 2 && p.counters.received.withdraw_prefix == 1).await;
    let updates = a.facts.borrow().peers["other"].counters.received.update;
    // Nothing new, and what the OPEN does not say: not an octet, and no new session.
    b.apply();
    b.intent.peers.get_mut("other").unwrap().config.connect_retry = Duration::from_secs(9);
    b.apply();
    b.announce(4);
    a.until("two more", |p| received(p) == 4).await;
    let facts = a.facts.borrow().peers["other"].clone();
    assert_eq!((facts.counters.established, facts.counters.received.update), (1, updates + 1));
    let said = status::peer(&facts);
    let text = serde_json::to_value(&said).unwrap();
    assert_eq!(text["peerState"]["sessionState"], "ESTABLISHED");
    assert_eq!((&text["peerState"]["peerType"], &text["timersState"]["negotiatedHoldTime"]), (&json!(1), &json!("90")));
    assert_eq!(text["peerState"]["adminState"], Value::Null);
    b.leave().await;
    a.until("the end, and why", |p| {
        p.view.state != State::Established && p.trouble.as_ref().is_some_and(|t| t.contains("the speaker was stopped"))
    })
    .await;
    a.leave().await;
}

#[tokio::test]
async fn two_hundred_thousand_routes_are_received_counted_and_bounded() {
    let port = free_port();
    let mut a = Talker::start("127.0.0.3", 65001, port, ("127.0.0.4", 65002), true, &json!({}));
    let mut b = Talker::start("127.0.0.4", 65002, port, ("127.0.0.3", 65001), false, &json!({}));
    a.apply();
    b.announce(200_000);
    let limit = bgp::DEFAULT_MAX_PREFIXES as usize;
    a.until("all were seen", |p| received(p) == limit && p.counters.ignored_prefixes == 200_000 - limit as u64).await;
    b.announce(1);
    a.until("all but one are gone", |p| received(p) == 1 && p.counters.established == 1).await;
}

#[tokio::test]
async fn a_router_that_is_not_configured_any_more_is_told_and_its_connection_closed() {
    let port = free_port();
    let mut a = Talker::start("127.0.0.5", 65001, port, ("127.0.0.6", 65002), true, &json!({}));
    let mut b = Talker::start("127.0.0.6", 65002, port, ("127.0.0.5", 65001), false, &json!({}));
    a.apply();
    b.apply();
    a.until("a session", PeerFacts::established).await;
    b.intent = Intent::default();
    b.apply();
    a.until("the reason", |p| p.trouble.as_ref().is_some_and(|t| t.contains("peer de-configured"))).await;
    assert!(b.facts.wait_for(|facts| facts.peers.is_empty()).await.is_ok());
}

#[tokio::test]
async fn strangers_are_not_talked_to() {
    let port = free_port();
    let mut a = Talker::start("127.0.0.7", 65001, port, ("127.0.0.8", 65002), true, &json!({}));
    a.apply();
    a.until("it listens", |p| p.view.started).await;
    let to = SocketAddr::new(IpAddr::from([127, 0, 0, 7]), port);
    // From 127.0.0.1, which is no router of it.
    let mut stranger = std::net::TcpStream::connect(to).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(std::io::Read::read(&mut stranger, &mut [0; 16]).unwrap(), 0, "closed without a word");
}

#[test]
fn a_router_that_wants_all_next_hops_is_told_ours_first_and_others_are_not() {
    let old = json!({"conf": {"peerAs": 65001, "neighborAddress": "10.0.0.2"}, "nextHopMode": "OpenELB"});
    let mut speaks = speaks(json!({"as": 65000}), &[("old", old), ("usual", router("10.0.0.3", 65001))]);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let announced = speaks.addresses.values().next().unwrap().clone();
    let others = ["10.0.0.8", "10.0.0.9"].map(|hop| (ip(hop), announced.clone()));
    speaks.of_others = [(ip("10.9.0.1"), others.into()), (ip("10.9.0.2"), [(ip("10.0.0.9"), announced)].into())].into();
    let intent = Intent::new(&speaks, &Filter::Everything).0;
    let told: Vec<(String, u32, Option<String>)> = intent.peers["old"]
        .routes
        .iter()
        .filter(|(n, _)| n.prefix.family() == Family::Ipv4)
        .map(|(n, p)| (n.prefix.to_string(), n.path, p.next_hop.map(|hop| format!("{hop:?}"))))
        .collect();
    let hop = |hop: &str| Some(format!("V4({hop})"));
    // The path identifiers are those of OpenELB (compat §5.4).
    let mut wanted = vec![
        ("10.9.0.1/32".to_owned(), 1, None),
        ("10.9.0.1/32".to_owned(), plan::fnv1a("10.0.0.8"), hop("10.0.0.8")),
        ("10.9.0.1/32".to_owned(), plan::fnv1a("10.0.0.9"), hop("10.0.0.9")),
        ("10.9.0.2/32".to_owned(), plan::fnv1a("10.0.0.9"), hop("10.0.0.9")),
    ];
    wanted.sort();
    assert_eq!(told, wanted);
    assert_eq!(plan::fnv1a("192.168.0.2"), 4_170_314_614);
    assert_eq!(intent.peers["usual"].routes, intent.routes);
}

#[test]
fn routers_without_an_address_are_waited_for_on_their_interface_or_from_their_network() {
    let unnumbered = json!({"conf": {"neighborInterface": "eth1"}});
    let network = json!({"conf": {"neighborRange": "10.0.0.0/24", "peerAs": 65001, "authPassword": "s"}});
    let speaks = speaks(json!({"as": 65000}), &[("cable", unnumbered), ("leaves", network)]);
    let intent = Intent::new(&speaks, &Filter::Everything).0;
    assert!(intent.peers.is_empty() && intent.has("cable") && intent.has("leaves") && !intent.has("leaves/10.0.0.1"));
    let (cable, leaves) = (&intent.found["cable"].1, &intent.found["leaves"].1);
    assert_eq!((cable.config.peer_as, cable.config.passive, cable.config.next_hops), (None, false, Default::default()));
    assert_eq!(cable.config.families.len(), 2);
    assert!(leaves.config.passive);
    let listen: Vec<String> = intent.listen.iter().map(|(a, _)| a.to_string()).collect();
    assert_eq!(listen, ["0.0.0.0:179", "[::]:179"]);
}
