//! What is warned of, and what is not.

use super::*;
use crate::LinkState;
use engine::MacAddr;

const LO: IfIndex = IfIndex(1);
const ETH0: IfIndex = IfIndex(2);
const IPVS: IfIndex = IfIndex(3);
const ETH1: IfIndex = IfIndex(4);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn table() -> Table {
    let link =
        |name: &str, last| LinkState { name: name.into(), mac: MacAddr([2, 0, 0, 0, 0, last]), ..LinkState::default() };
    let lo = LinkState { name: "lo".into(), loopback: true, ..LinkState::default() };
    let mut table = Table::default();
    table.links.extend([(LO, lo), (ETH0, link("eth0", 2)), (IPVS, link("kube-ipvs0", 3)), (ETH1, link("eth1", 4))]);
    hold(&mut table, ETH0, "192.0.2.10", 24);
    hold(&mut table, ETH0, "2001:db8::10", 64);
    hold(&mut table, ETH0, "fe80::1", 64);
    table.gateways.insert((ETH0, ip("192.0.2.1")), None);
    table
}

fn hold(table: &mut Table, index: IfIndex, address: &str, prefix: u8) {
    table.addresses.entry(index).or_default().insert((ip(address), prefix));
}

const STRICT: Settings = Settings { arp_ignore: 1, arp_announce: 2, proxy_arp: false };
const DEFAULT: Settings = Settings { arp_ignore: 0, arp_announce: 0, proxy_arp: false };

fn warnings(table: &Table, settings: Settings, first: &str, last: &str) -> Vec<Warning> {
    let settings = BTreeMap::from([("eth0".to_owned(), settings)]);
    let on = BTreeSet::from([ETH0]);
    check(&[(ip(first), ip(last))], &on, table, &settings, |_| Some(ETH0)).into_iter().collect()
}

/// The one warning that there is.
fn only(found: &[Warning], reason: &str, texts: &[&str]) {
    assert_eq!(found.iter().map(|w| w.reason).collect::<Vec<_>>(), [reason], "{found:?}");
    for text in texts {
        assert!(found[0].message.contains(text), "{:?} does not say {text:?}", found[0].message);
    }
}

#[test]
fn a_pool_inside_the_subnet_of_a_plain_node_gives_no_warning() {
    assert_eq!(warnings(&table(), DEFAULT, "192.0.2.100", "192.0.2.120"), []);
    assert_eq!(warnings(&table(), DEFAULT, "2001:db8::100", "2001:db8::ffff"), []);
}

#[test]
fn kube_proxy_in_ipvs_mode_without_strict_arp_is_named_with_its_setting() {
    let mut table = table();
    hold(&mut table, IPVS, "192.0.2.100", 32);
    only(
        &warnings(&table, DEFAULT, "192.0.2.100", "192.0.2.120"),
        "KernelAnswers",
        &["192.0.2.100", "kube-ipvs0", "eth0", "ipvs.strictARP: true", "net.ipv4.conf.eth0.arp_ignore=1"],
    );
    assert_eq!(warnings(&table, STRICT, "192.0.2.100", "192.0.2.120"), []);
}

#[test]
fn a_thousand_addresses_on_one_interface_are_one_warning() {
    let mut table = table();
    (1..=200).for_each(|n| hold(&mut table, IPVS, &format!("192.0.2.{n}"), 32));
    only(&warnings(&table, DEFAULT, "192.0.2.100", "192.0.2.120"), "KernelAnswers", &["192.0.2.100 and 20 more"]);
}

#[test]
fn an_address_on_lo_is_warned_of_unless_arp_is_ignored_and_not_announced() {
    let mut table = table();
    hold(&mut table, LO, "192.0.2.100", 32);
    let with = |arp_ignore, arp_announce| {
        let settings = Settings { arp_ignore, arp_announce, proxy_arp: false };
        warnings(&table, settings, "192.0.2.100", "192.0.2.120")
    };
    for ignore in [0, 3] {
        only(&with(ignore, 2), "KernelAnswers", &["on lo", "sysctl -w net.ipv4.conf.eth0.arp_ignore=1"]);
    }
    for ignore in [1, 2, 8] {
        assert_eq!(with(ignore, 2), []);
        for announce in [0, 1] {
            only(&with(ignore, announce), "KernelAnnounces", &["sysctl -w net.ipv4.conf.eth0.arp_announce=2"]);
        }
    }
}

#[test]
fn an_ipv6_address_on_another_interface_is_no_trouble_but_on_the_announcing_one_it_is() {
    let mut table = table();
    hold(&mut table, LO, "2001:db8::100", 128);
    assert_eq!(warnings(&table, DEFAULT, "2001:db8::100", "2001:db8::1ff"), []);
    hold(&mut table, ETH0, "2001:db8::100", 128);
    only(
        &warnings(&table, STRICT, "2001:db8::100", "2001:db8::1ff"),
        "AddressOnNode",
        &["ip address del 2001:db8::100/128 dev eth0"],
    );
}

#[test]
fn the_nodes_own_address_and_the_gateway_inside_a_pool_are_named() {
    let mut table = table();
    only(&warnings(&table, STRICT, "192.0.2.5", "192.0.2.20"), "AddressOnNode", &["192.0.2.10", "spec.exclude"]);
    only(&warnings(&table, STRICT, "192.0.2.1", "192.0.2.5"), "GatewayInPool", &["192.0.2.1", "spec.exclude"]);
    // Also where another interface of the node has it with its subnet.
    hold(&mut table, ETH1, "192.0.2.200", 24);
    only(&warnings(&table, STRICT, "192.0.2.200", "192.0.2.200"), "AddressOnNode", &["eth1"]);
}

#[test]
fn d13_a_pool_outside_the_interfaces_subnet_is_a_warning() {
    only(
        &warnings(&table(), STRICT, "198.51.100.1", "198.51.100.9"),
        "OutsideSubnet",
        &["198.51.100.1-198.51.100.9", "192.0.2.0/24"],
    );
    // Partly outside counts, and the link-local subnet is nobody's pool.
    only(&warnings(&table(), STRICT, "192.0.2.250", "192.0.3.5"), "OutsideSubnet", &[]);
    only(
        &warnings(&table(), STRICT, "2001:db8:1::1", "2001:db8:1::1"),
        "OutsideSubnet",
        &["2001:db8:1::1", "2001:db8::/64"],
    );
    let mut bare = table();
    bare.addresses.clear();
    only(&warnings(&bare, STRICT, "192.0.2.100", "192.0.2.100"), "OutsideSubnet", &["it has none of this family"]);
}

#[test]
fn proxy_arp_matters_only_where_the_pool_is_routed_elsewhere() {
    let settings = BTreeMap::from([("eth0".to_owned(), Settings { proxy_arp: true, ..STRICT })]);
    let with = |route: Option<IfIndex>| {
        let ranges = [(ip("192.0.2.100"), ip("192.0.2.120"))];
        check(&ranges, &BTreeSet::from([ETH0]), &table(), &settings, |_| route).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(with(Some(ETH0)), []);
    assert_eq!(with(None), []);
    only(&with(Some(ETH1)), "KernelAnswers", &["proxy_arp", "net.ipv4.conf.eth0.proxy_arp=0"]);
}

#[test]
fn the_port_of_a_bridge_is_warned_of_and_a_member_of_a_vrf_is_not() {
    for (kind, warned) in [("bridge", true), ("bond", true), ("vrf", false)] {
        let mut table = table();
        let master = LinkState { name: "top".into(), kind: kind.into(), ..LinkState::default() };
        table.links.insert(IfIndex(9), master);
        table.links.get_mut(&ETH0).unwrap().master = Some(IfIndex(9));
        let found = warnings(&table, STRICT, "192.0.2.100", "192.0.2.120");
        if warned { only(&found, "InterfaceIsPort", &["name top in spec.interface"]) } else { assert_eq!(found, []) }
    }
}

#[test]
fn networks_of_every_prefix_length_are_computed() {
    assert_eq!(network(ip("192.0.2.200"), 0), ip("0.0.0.0"));
    assert_eq!(network(ip("192.0.2.200"), 25), ip("192.0.2.128"));
    assert_eq!(network(ip("192.0.2.200"), 32), ip("192.0.2.200"));
    assert_eq!(network(ip("2001:db8::1"), 0), ip("::"));
    assert_eq!(network(ip("2001:db8::1"), 128), ip("2001:db8::1"));
}
