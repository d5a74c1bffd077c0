//! Multicast groups: what the kernel and the neighbours know of our membership.

use crate::{index, ip, plug, tests};
use engine::MacAddr;
use net::{Groups, now};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

tests![
    a_group_is_joined_in_the_kernel_and_on_the_device_until_it_is_left,
    neighbours_hear_of_it_by_mld,
    hundreds_of_groups_can_be_joined,
    where_there_is_no_ipv6_it_joins_on_the_device_and_says_so,
    a_link_that_came_back_can_be_joined_again,
    an_interface_takes_in_frames_to_other_macs_until_they_are_given_up,
];

/// The solicited-node group of 2001:db8::12:3456.
const GROUP: &str = "ff02::1:ff12:3456";
const ON_DEVICE: &str = "33:33:ff:12:34:56";

fn group() -> Ipv6Addr {
    GROUP.parse().unwrap()
}

fn in_kernel() -> bool {
    let table = std::fs::read_to_string("/proc/net/igmp6").unwrap();
    table.lines().any(|l| l.contains(" a ") && l.contains("ff0200000000000000000001ff123456"))
}

fn on_device() -> bool {
    ip("maddr show dev a").contains(ON_DEVICE)
}

fn a_group_is_joined_in_the_kernel_and_on_the_device_until_it_is_left() {
    plug();
    let mut groups = Groups::new();
    assert!(!in_kernel() && !on_device());
    groups.join(index("a"), group()).unwrap();
    groups.join(index("a"), group()).unwrap();
    assert!(in_kernel() && on_device());
    groups.leave(index("a"), group());
    assert!(!in_kernel() && !on_device());
    groups.leave(index("a"), group());
    groups.join(index("a"), group()).unwrap();
    drop(groups);
    assert!(!in_kernel() && !on_device(), "dropping it leaves all");
}

fn neighbours_hear_of_it_by_mld() {
    plug();
    // A report has to come from a link-local address that is no longer tentative (RFC 3810 §5.2.13).
    let deadline = now() + Duration::from_secs(10);
    while !ip("-6 -o address show dev a").contains("fe80") || ip("-6 -o address show dev a").contains("tentative") {
        assert!(now() < deadline, "no link-local address");
    }
    let reports = || -> u64 {
        let counters = std::fs::read_to_string("/proc/net/dev_snmp6/a").unwrap();
        let line = counters.lines().find(|l| l.starts_with("Icmp6OutMLDv2Reports")).expect("the counter").to_owned();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let before = reports();
    let mut groups = Groups::new();
    groups.join(index("a"), group()).unwrap();
    while reports() == before {
        assert!(now() < deadline + Duration::from_secs(10), "no report");
    }
}

fn hundreds_of_groups_can_be_joined() {
    plug();
    // What one socket may take up for memberships, as on older kernels, where it can be set for a namespace.
    let limit = "/proc/sys/net/core/optmem_max";
    if std::path::Path::new(limit).exists() {
        std::fs::write(limit, "20480").unwrap();
    }
    let mut groups = Groups::new();
    let nth = |n: u16| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff01, n);
    for n in 0..1000 {
        groups.join(index_of_a(), nth(n)).unwrap_or_else(|e| panic!("group {n}: {e}"));
    }
    let joined =
        || std::fs::read_to_string("/proc/net/igmp6").unwrap().lines().filter(|l| l.contains("00000001ff01")).count();
    assert_eq!(joined(), 1000);
    (0..1000).for_each(|n| groups.leave(index_of_a(), nth(n)));
    assert_eq!(joined(), 0);
}

/// Asked once: a process for each would take long.
fn index_of_a() -> engine::IfIndex {
    static INDEX: std::sync::OnceLock<engine::IfIndex> = std::sync::OnceLock::new();
    *INDEX.get_or_init(|| index("a"))
}

fn where_there_is_no_ipv6_it_joins_on_the_device_and_says_so() {
    plug();
    // An interface too small for IPv6 has none (RFC 8200 §5).
    ip("link set dev a mtu 1200");
    let mut groups = Groups::new();
    let error = groups.join(index("a"), group()).unwrap_err().to_string();
    assert!(error.contains(GROUP) && error.contains("no IPv6"), "{error}");
    assert!(on_device() && !in_kernel());
    groups.leave(index("a"), group());
    assert!(!on_device());
}

fn a_link_that_came_back_can_be_joined_again() {
    plug();
    let mut groups = Groups::new();
    let before = index("a");
    groups.join(before, group()).unwrap();
    ip("link del dev a");
    groups.forget(before);
    ip(&format!("link add name a index {before} type veth peer name b"));
    ip("link set dev a up");
    groups.join(before, group()).unwrap();
    assert!(in_kernel() && on_device());
}

fn an_interface_takes_in_frames_to_other_macs_until_they_are_given_up() {
    plug();
    let [one, other] = [51, 52].map(|id| (index("a"), MacAddr([0, 0, 0x5e, 0, 1, id])));
    let taken_in = || -> Vec<u8> {
        let shown = std::process::Command::new("bridge").args(["fdb", "show", "dev", "a"]).output().expect("iproute2");
        let shown = String::from_utf8(shown.stdout).expect("text");
        [51, 52].into_iter().filter(|id| shown.contains(&format!("00:00:5e:00:01:{id:x}"))).collect()
    };
    let mut groups = Groups::new();
    groups.take_in(BTreeSet::from([one, other])).unwrap();
    assert_eq!(taken_in(), [51, 52]);
    groups.take_in(BTreeSet::from([other])).unwrap();
    groups.take_in(BTreeSet::from([other])).unwrap();
    assert_eq!(taken_in(), [52]);
    groups.forget(index("a"));
    assert_eq!(taken_in(), []);
    groups.take_in(BTreeSet::from([one])).unwrap();
    assert_eq!(taken_in(), [51]);
    drop(groups);
    assert_eq!(taken_in(), []);
}
