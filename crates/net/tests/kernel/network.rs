//! What the monitor sees and says when links, addresses, routes and routers change.

use crate::{cable, index, ip, plug, tests};
use engine::{IfIndex, MacAddr};
use net::{Change, Monitor, NoRoute, Poller, now};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

tests![
    what_is_there_at_the_start_is_read,
    a_link_that_goes_down_and_up_is_told_each_time,
    a_link_that_was_down_only_for_a_moment_is_told,
    a_new_ethernet_address_mtu_name_or_master_is_told,
    links_that_come_and_go_are_told,
    addresses_that_come_and_go_are_told,
    a_change_of_the_default_route_is_told_on_the_right_interface,
    routers_of_an_ecmp_route_and_of_ipv6_are_known,
    the_routes_that_go_with_a_link_are_missed,
    another_ethernet_address_of_the_router_is_told_and_learning_it_is_not,
    a_router_that_does_not_answer_holds_nothing_up,
    any_other_route_is_only_a_change_of_routes,
    the_interface_to_an_address_is_found_and_what_leads_nowhere_is_explained,
];

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Reads until `wanted` holds, and gives all changes until then.
fn until(monitor: &mut Monitor, what: &str, wanted: impl Fn(&Monitor, &BTreeSet<Change>) -> bool) -> BTreeSet<Change> {
    let mut poller = Poller::new().unwrap();
    poller.add(&*monitor, 1).unwrap();
    let (deadline, mut all) = (now() + Duration::from_secs(5), BTreeSet::new());
    loop {
        all.extend(monitor.read().unwrap());
        if wanted(monitor, &all) {
            return all;
        }
        assert!(now() < deadline, "not seen: {what}; changes {all:?}, table {:?}", monitor.table());
        poller.wait(Some(deadline)).unwrap();
    }
}

/// Reads until nothing that was done before is still to come: netlink keeps order, so a mark suffices.
fn settle(monitor: &mut Monitor) -> BTreeSet<Change> {
    ip("link set dev lo mtu 40000");
    let lo = IfIndex(1);
    let mut seen = until(monitor, "the mark", |m, _| m.table().links[&lo].mtu == 40000);
    ip("link set dev lo mtu 65536");
    seen.extend(until(monitor, "the mark taken back", |m, _| m.table().links[&lo].mtu == 65536));
    seen.remove(&Change::Link(lo));
    seen
}

fn is_up(monitor: &Monitor, index: IfIndex) -> bool {
    monitor.table().links[&index].up
}

fn what_is_there_at_the_start_is_read() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev a");
    ip("link property add dev a altname enp0s1");
    let monitor = Monitor::new().unwrap();
    let (table, a) = (monitor.table(), index("a"));
    let link = &table.links[&a];
    assert_eq!((link.name.as_str(), link.mac), ("a", MacAddr([2, 0, 0, 0, 0, 0x0a])));
    assert_eq!((link.up, link.loopback, link.mtu, link.master), (true, false, 1500, None));
    assert_eq!((link.kind.as_str(), link.other_names.as_slice()), ("veth", &["enp0s1".to_owned()][..]));
    let lo = &table.links[&IfIndex(1)];
    assert!(lo.loopback && lo.up && lo.mac == MacAddr::ZERO);
    assert_eq!(table.addresses_of(a).collect::<Vec<_>>(), [(addr("192.0.2.10"), 24)]);
    let gateway = MacAddr([2, 0, 0, 0, 0, 1]);
    assert_eq!(table.gateways.iter().collect::<Vec<_>>(), [(&(a, addr("192.0.2.1")), &Some(gateway))]);
    assert_eq!((table.index_of("a"), table.index_of("enp0s1"), table.index_of("eth9")), (Some(a), Some(a), None));
}

fn a_link_that_goes_down_and_up_is_told_each_time() {
    cable();
    let (mut monitor, a, b) = (Monitor::new().unwrap(), index("a"), index("b"));
    assert!(is_up(&monitor, a));
    // Switched off, and then the other end: no carrier.
    for (end, seen) in [("a", a), ("b", a)] {
        ip(&format!("link set dev {end} down"));
        let changes = until(&mut monitor, "down", |m, _| !is_up(m, seen));
        assert!(changes.contains(&Change::Link(seen)));
        ip(&format!("link set dev {end} up"));
        let changes = until(&mut monitor, "up", |m, _| is_up(m, seen) && is_up(m, b));
        assert!(changes.contains(&Change::Link(seen)));
    }
    assert_eq!(monitor.read().unwrap(), BTreeSet::new());
}

fn a_link_that_was_down_only_for_a_moment_is_told() {
    cable();
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    let before = monitor.table().clone();
    ip("link set dev a down");
    ip("link set dev a up");
    crate::wait_until_up();
    let changes = settle(&mut monitor);
    assert_eq!(*monitor.table(), before);
    assert!(changes.contains(&Change::Link(a)), "{changes:?}");
}

fn a_new_ethernet_address_mtu_name_or_master_is_told() {
    cable();
    ip("link add name br0 type bridge");
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    let link = |m: &Monitor| m.table().links[&a].clone();
    ip("link set dev a address 02:00:00:00:00:ff");
    let changes = until(&mut monitor, "the address", |m, _| link(m).mac == MacAddr([2, 0, 0, 0, 0, 0xff]));
    assert!(changes.contains(&Change::Link(a)));
    ip("link set dev a mtu 1400");
    assert!(until(&mut monitor, "the MTU", |m, _| link(m).mtu == 1400).contains(&Change::Link(a)));
    ip("link set dev a master br0");
    let bridge = index("br0");
    assert!(until(&mut monitor, "the master", |m, _| link(m).master == Some(bridge)).contains(&Change::Link(a)));
    assert_eq!(monitor.table().links[&bridge].kind, "bridge");
    ip("link set dev a nomaster");
    assert!(until(&mut monitor, "no master", |m, _| link(m).master.is_none()).contains(&Change::Link(a)));
    ip("link set dev a down");
    ip("link set dev a name ens160");
    assert!(until(&mut monitor, "the name", |m, _| link(m).name == "ens160").contains(&Change::Link(a)));
    // Of further names the kernel tells only while the link is up.
    ip("link set dev ens160 up");
    ip("link property add dev ens160 altname enp3s0");
    until(&mut monitor, "the further name", |m, _| m.table().index_of("enp3s0") == Some(a));
}

fn links_that_come_and_go_are_told() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    ip("link del dev a");
    let changes = until(&mut monitor, "that it went", |m, _| !m.table().links.contains_key(&a));
    assert!(changes.is_superset(&BTreeSet::from([Change::Link(a), Change::Addresses(a)])), "{changes:?}");
    assert!(!monitor.table().addresses.contains_key(&a));
    plug();
    let again = index("a");
    assert_ne!(again, a);
    let changes = until(&mut monitor, "that it came", |m, _| m.table().links.get(&again).is_some_and(|l| l.up));
    assert!(changes.contains(&Change::Link(again)));
    // Came and went again between two reads.
    ip("link add name brief type bridge");
    let brief = index("brief");
    ip("link del dev brief");
    assert!(settle(&mut monitor).contains(&Change::Link(brief)));
    assert!(!monitor.table().links.contains_key(&brief));
}

fn addresses_that_come_and_go_are_told() {
    plug();
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    for (text, prefix) in [("192.0.2.10", 24), ("192.0.2.11", 32), ("2001:db8::1", 64)] {
        let has = |m: &Monitor| m.table().addresses_of(a).any(|held| held == (addr(text), prefix));
        ip(&format!("address add {text}/{prefix} dev a"));
        assert!(until(&mut monitor, "the address", |m, _| has(m)).contains(&Change::Addresses(a)));
        ip(&format!("address del {text}/{prefix} dev a"));
        assert!(until(&mut monitor, "no address", |m, _| !has(m)).contains(&Change::Addresses(a)));
    }
    // Of a point-to-point link it is our end that counts.
    ip("address add 192.0.2.20 peer 192.0.2.21/32 dev a");
    until(&mut monitor, "our end", |m, _| m.table().addresses_of(a).any(|held| held == (addr("192.0.2.20"), 32)));
}

/// Each router as "interface address".
fn gateways(monitor: &Monitor) -> Vec<String> {
    let table = monitor.table();
    let mut found: Vec<_> = table.gateways.keys().map(|(on, ip)| format!("{} {ip}", table.name_of(*on))).collect();
    found.sort();
    found
}

fn a_change_of_the_default_route_is_told_on_the_right_interface() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("address add 198.51.100.10/24 dev b");
    let (mut monitor, a, b) = (Monitor::new().unwrap(), index("a"), index("b"));
    assert!(gateways(&monitor).is_empty());
    ip("route add default via 192.0.2.1");
    let changes = until(&mut monitor, "the router", |m, _| gateways(m) == ["a 192.0.2.1"]);
    assert!(changes.contains(&Change::Gateway { on: a }) && changes.contains(&Change::Routes));
    // A replaced route is not told as gone.
    ip("route replace default via 192.0.2.2");
    let changes = until(&mut monitor, "another router", |m, _| gateways(m) == ["a 192.0.2.2"]);
    assert!(changes.contains(&Change::Gateway { on: a }) && !changes.contains(&Change::Gateway { on: b }));
    ip("route add default via 198.51.100.1 metric 100");
    let changes = until(&mut monitor, "one more router", |m, _| gateways(m) == ["a 192.0.2.2", "b 198.51.100.1"]);
    assert!(changes.contains(&Change::Gateway { on: b }) && !changes.contains(&Change::Gateway { on: a }));
    ip("route del default via 192.0.2.2");
    until(&mut monitor, "the other router alone", |m, _| gateways(m) == ["b 198.51.100.1"]);
}

fn routers_of_an_ecmp_route_and_of_ipv6_are_known() {
    plug();
    ip("address add 192.0.2.10/24 dev a");
    ip("address add 198.51.100.10/24 dev b");
    ip("address add 2001:db8::10/64 dev a nodad");
    let mut monitor = Monitor::new().unwrap();
    let (one, two, six) = ("a 192.0.2.1", "b 198.51.100.1", "a 2001:db8::1");
    ip("route add default nexthop via 192.0.2.1 nexthop via 198.51.100.1");
    until(&mut monitor, "both routers", |m, _| gateways(m) == [one, two]);
    ip("-6 route add default via 2001:db8::1 dev a");
    until(&mut monitor, "the router of IPv6", |m, _| gateways(m) == [one, six, two]);
    ip("-4 route replace default via inet6 2001:db8::2 dev a");
    until(&mut monitor, "a router of the other family", |m, _| gateways(m) == [six, "a 2001:db8::2"]);
}

fn the_routes_that_go_with_a_link_are_missed() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    assert_eq!(gateways(&monitor), ["a 192.0.2.1"]);
    ip("link set dev a down");
    let changes = until(&mut monitor, "no router", |m, _| gateways(m).is_empty());
    assert!(changes.contains(&Change::Gateway { on: a }));
    ip("link set dev a up");
    ip("route add default via 192.0.2.1");
    until(&mut monitor, "the router", |m, _| !gateways(m).is_empty());
    crate::wait_until_up();
    settle(&mut monitor);
    ip("address del 192.0.2.10/24 dev a");
    until(&mut monitor, "no router without our address", |m, _| gateways(m).is_empty());
}

fn another_ethernet_address_of_the_router_is_told_and_learning_it_is_not() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    let (mut monitor, a) = (Monitor::new().unwrap(), index("a"));
    let router = (a, addr("192.0.2.1"));
    let seen_with = |last: u8| {
        move |m: &Monitor, _: &BTreeSet<Change>| m.table().gateways[&router] == Some(MacAddr([2, 0, 0, 0, 0, last]))
    };
    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev a");
    let mut changes = until(&mut monitor, "it was learned", seen_with(1));
    // Another host's address is nobody's business.
    ip("neigh replace 192.0.2.50 lladdr 02:00:00:00:00:50 dev a");
    ip("neigh replace 192.0.2.50 lladdr 02:00:00:00:00:51 dev a");
    changes.extend(settle(&mut monitor));
    assert_eq!(changes, BTreeSet::new());
    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:02 dev a");
    assert_eq!(until(&mut monitor, "the new one", seen_with(2)), BTreeSet::from([Change::Gateway { on: a }]));
    // Lost and found again with the same address is no change; with another one it is.
    ip("neigh del 192.0.2.1 dev a");
    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:02 dev a");
    assert_eq!(settle(&mut monitor), BTreeSet::new());
    ip("neigh del 192.0.2.1 dev a");
    ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:03 dev a");
    assert_eq!(settle(&mut monitor), BTreeSet::from([Change::Gateway { on: a }]));
    assert!(seen_with(3)(&monitor, &BTreeSet::new()));
}

fn a_router_that_does_not_answer_holds_nothing_up() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    net::Udp::bind("0.0.0.0:0".parse().unwrap()).unwrap().send(b"x", "198.51.100.1:9".parse().unwrap()).unwrap();
    let asked = || ip("-o neigh show dev a");
    assert!(asked().contains("192.0.2.1 ") && asked().contains("INCOMPLETE"), "{}", asked());
    let before = now();
    let monitor = Monitor::new().unwrap();
    assert!(now().since(before) < Duration::from_secs(1));
    assert_eq!(monitor.table().gateways[&(index("a"), addr("192.0.2.1"))], None);
}

fn any_other_route_is_only_a_change_of_routes() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    let mut monitor = Monitor::new().unwrap();
    ip("route add 198.51.100.0/24 via 192.0.2.1");
    let changes = until(&mut monitor, "a route", |_, c| c.contains(&Change::Routes));
    assert_eq!(changes, BTreeSet::from([Change::Routes]));
    assert!(gateways(&monitor).is_empty());
}

fn the_interface_to_an_address_is_found_and_what_leads_nowhere_is_explained() {
    plug();
    ip("address add 192.0.2.10/24 dev a");
    ip("address add 2001:db8::10/64 dev b nodad");
    let monitor = Monitor::new().unwrap();
    // A new address of IPv6 gets its route a little later.
    let deadline = now() + Duration::from_secs(5);
    while monitor.route_to(addr("2001:db8::10")).is_ok() {
        assert!(now() < deadline, "our own address is not local");
    }
    assert_eq!(monitor.route_to(addr("192.0.2.1")).unwrap(), index("a"));
    assert_eq!(monitor.route_to(addr("2001:db8::1")).unwrap(), index("b"));
    for own in ["192.0.2.10", "127.0.0.1", "::1", "2001:db8::10"] {
        let error = monitor.route_to(addr(own)).unwrap_err();
        assert!(matches!(error, NoRoute::Local(_)) && error.to_string().contains(own), "{own}: {error}");
    }
    let nowhere = |text: &str| {
        let error = monitor.route_to(addr(text)).unwrap_err();
        assert!(matches!(error, NoRoute::Unreachable(_)) && error.to_string().contains(text), "{text}: {error}");
    };
    nowhere("198.51.100.1");
    nowhere("2001:db8:1::1");
    ip("route add default via 192.0.2.1");
    assert_eq!(monitor.route_to(addr("198.51.100.1")).unwrap(), index("a"));
    for (kind, target) in
        [("blackhole", "198.51.100.0/24"), ("unreachable", "203.0.113.0/24"), ("prohibit", "203.0.114.0/24")]
    {
        ip(&format!("route add {kind} {target}"));
        nowhere(&target.replace("0/24", "1"));
    }
    nowhere("224.0.0.1");
}
