//! From a pool's interface to the interfaces of a node.

use crate::network::addr;
use crate::{cable, index, ip, tests};
use engine::IfIndex;
use net::{Monitor, Unresolved, resolve_names, resolve_route};
use std::collections::BTreeSet;

tests![
    names_and_further_names_are_found_as_far_as_the_node_has_them,
    a_missing_interface_is_named_beside_those_that_there_are,
    an_interface_without_arp_is_refused,
    can_reach_follows_the_route,
];

fn names(text: &str, monitor: &Monitor) -> Result<BTreeSet<IfIndex>, Unresolved> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    resolve_names(&names, monitor.table())
}

fn names_and_further_names_are_found_as_far_as_the_node_has_them() {
    cable();
    ip("link property add dev a altname enp0s1");
    let monitor = Monitor::new().unwrap();
    let (a, b) = (index("a"), index("b"));
    assert_eq!(names("a", &monitor).unwrap(), BTreeSet::from([a]));
    assert_eq!(names("enp0s1", &monitor).unwrap(), BTreeSet::from([a]));
    assert_eq!(names("a,b,ens160", &monitor).unwrap(), BTreeSet::from([a, b]));
}

fn a_missing_interface_is_named_beside_those_that_there_are() {
    cable();
    let error = names("ens160,ens192", &Monitor::new().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "no interface ens160, ens192 on this node; it has b, a");
}

fn an_interface_without_arp_is_refused() {
    cable();
    let monitor = Monitor::new().unwrap();
    let error = names("lo", &monitor).unwrap_err();
    assert!(matches!(error, Unresolved::NotEthernet { .. }), "{error}");
    assert!(error.to_string().contains("interface lo is not an Ethernet"), "{error}");
    // Beside one that can, it does no harm.
    assert_eq!(names("lo,a", &monitor).unwrap(), BTreeSet::from([index("a")]));
}

fn can_reach_follows_the_route() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("address add 198.51.100.10/24 dev b");
    let mut monitor = Monitor::new().unwrap();
    let reach = |monitor: &Monitor, text| resolve_route(addr(text), monitor).map_err(|e| e.to_string());
    assert_eq!(reach(&monitor, "192.0.2.1"), Ok(BTreeSet::from([index("a")])));
    let error = reach(&monitor, "203.0.113.1").unwrap_err();
    assert_eq!(
        error,
        "can_reach: no route leads to 203.0.113.1; name an address that this node reaches (ip route get 203.0.113.1)"
    );
    assert!(reach(&monitor, "192.0.2.10").unwrap_err().contains("an address of this node itself"));
    ip("route add 203.0.113.0/24 via 198.51.100.1");
    assert!(monitor.read().unwrap().contains(&net::Change::Routes));
    assert_eq!(reach(&monitor, "203.0.113.1"), Ok(BTreeSet::from([index("b")])));
    ip("route add 203.0.113.7 dev lo");
    monitor.read().unwrap();
    assert!(reach(&monitor, "203.0.113.7").unwrap_err().contains("interface lo is not an Ethernet"));
}
