//! The host checks on settings and addresses of a real kernel.

use crate::{cable, index, ip, sysctl, tests};
use net::{Monitor, host};
use std::collections::BTreeSet;

tests![
    settings_are_those_that_take_effect,
    each_trouble_of_a_real_node_is_found_and_its_mend_mends,
    a_port_of_a_bridge_is_found,
];

fn settings_are_those_that_take_effect() {
    cable();
    let read = || host::read_settings(["a"])["a"];
    assert_eq!(read(), host::Settings { arp_ignore: 0, arp_announce: 0, proxy_arp: false });
    sysctl("ipv4/conf/a/arp_ignore", 1);
    sysctl("ipv4/conf/all/arp_ignore", 2);
    sysctl("ipv4/conf/all/arp_announce", 1);
    sysctl("ipv4/conf/a/arp_announce", 2);
    sysctl("ipv4/conf/all/proxy_arp", 1);
    assert_eq!(read(), host::Settings { arp_ignore: 2, arp_announce: 2, proxy_arp: false });
    sysctl("ipv4/conf/a/forwarding", 1);
    assert!(read().proxy_arp);
    assert_eq!(host::read_settings(["no-such-link"])["no-such-link"].arp_announce, 1);
}

fn reasons(monitor: &Monitor, first: &str, last: &str) -> Vec<(&'static str, String)> {
    let ranges = [(first.parse().unwrap(), last.parse().unwrap())];
    let on = BTreeSet::from([index("a")]);
    let settings = host::read_settings(["a"]);
    let found = host::check(&ranges, &on, monitor.table(), &settings, |ip| monitor.route_to(ip).ok());
    found.into_iter().map(|w| (w.reason, w.message)).collect()
}

/// Does what the message says after the last `; `, as a reader would.
fn mend(message: &str) {
    let command = message.rsplit("; ").next().unwrap().rsplit(", otherwise remove it: ").next().unwrap();
    let mut words = command.rsplit(" or ").next().unwrap().split_whitespace();
    match words.next() {
        Some("sysctl") => {
            for (key, value) in words.filter_map(|w| w.split_once('=')) {
                sysctl(key.strip_prefix("net.").unwrap().replace('.', "/").as_str(), value.parse().unwrap());
            }
        }
        Some("ip") => drop(ip(&words.collect::<Vec<_>>().join(" "))),
        other => panic!("{other:?} is no command: {message}"),
    }
}

fn each_trouble_of_a_real_node_is_found_and_its_mend_mends() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    // What kube-proxy does in IPVS mode; a kernel without that type of link takes another.
    ip("link add name kube-ipvs0 type bridge");
    let holders = ["lo", "kube-ipvs0", "a"];
    for holder in holders {
        ip(&format!("address add 192.0.2.100/32 dev {holder}"));
        let found = reasons(&Monitor::new().unwrap(), "192.0.2.100", "192.0.2.110");
        assert_eq!(found.len(), 1, "{found:?}");
        let (reason, message) = &found[0];
        assert_eq!(*reason, if holder == "a" { "AddressOnNode" } else { "KernelAnswers" });
        assert!(message.contains("192.0.2.100") && message.contains(holder), "{message}");
        assert_eq!(message.contains("strictARP: true"), holder == "kube-ipvs0");
        mend(message);
        assert_eq!(reasons(&Monitor::new().unwrap(), "192.0.2.100", "192.0.2.110"), [], "after: {message}");
        sysctl("ipv4/conf/a/arp_ignore", 0);
        sysctl("ipv4/conf/a/arp_announce", 0);
        if holder != "a" {
            ip(&format!("address del 192.0.2.100/32 dev {holder}"));
        }
    }
    let monitor = Monitor::new().unwrap();
    assert_eq!(reasons(&monitor, "192.0.2.1", "192.0.2.9")[0].0, "GatewayInPool");
    assert_eq!(reasons(&monitor, "192.0.2.10", "192.0.2.10")[0].0, "AddressOnNode");
    assert_eq!(reasons(&monitor, "198.51.100.1", "198.51.100.1")[0].0, "OutsideSubnet");
    assert_eq!(reasons(&monitor, "192.0.2.100", "192.0.2.110"), []);
}

fn a_port_of_a_bridge_is_found() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("link add name br0 type bridge");
    ip("link set dev a master br0");
    let found = reasons(&Monitor::new().unwrap(), "192.0.2.100", "192.0.2.110");
    assert_eq!(found.iter().map(|(r, _)| *r).collect::<Vec<_>>(), ["InterfaceIsPort"]);
    assert!(found[0].1.contains("br0"), "{}", found[0].1);
}
