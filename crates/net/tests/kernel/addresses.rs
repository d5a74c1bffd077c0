//! Addresses of Services on an interface.

use crate::{index, ip, plug, tests};
use net::{Changes, Monitor};
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

tests![
    an_address_is_there_until_it_is_removed_or_its_time_is_over,
    what_is_ours_is_known_again_and_is_none_of_the_nodes_own,
    an_address_that_is_there_lasts_longer,
    to_remove_what_is_not_there_is_no_error,
];

fn addresses() -> [IpAddr; 2] {
    ["192.0.2.50".parse().unwrap(), "2001:db8::50".parse().unwrap()]
}

fn shown() -> String {
    let output = Command::new("ip").args(["addr", "show", "dev", "b"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn has(address: IpAddr) -> bool {
    shown().contains(&format!(" {address}/"))
}

fn an_address_is_there_until_it_is_removed_or_its_time_is_over() {
    plug();
    let changes = Changes::new().unwrap();
    for address in addresses() {
        changes.put(index("b"), address, Duration::from_secs(60)).unwrap();
        let shown_now = shown();
        let line = shown_now.lines().find(|l| l.contains(&format!(" {address}/"))).unwrap();
        assert!(line.contains("deprecated") && !line.contains("tentative"), "{line}");
        changes.remove(index("b"), address).unwrap();
        assert!(!has(address), "{}", shown());
        changes.put(index("b"), address, Duration::from_millis(300)).unwrap();
    }
    let end = Instant::now() + Duration::from_secs(10);
    while addresses().into_iter().any(has) {
        assert!(Instant::now() < end, "{}", shown());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn what_is_ours_is_known_again_and_is_none_of_the_nodes_own() {
    plug();
    ip("addr add 192.0.2.77/32 dev b");
    let changes = Changes::new().unwrap();
    for address in addresses() {
        changes.put(index("b"), address, Duration::from_secs(60)).unwrap();
    }
    let mut ours = changes.ours().unwrap();
    ours.sort_unstable();
    assert_eq!(ours, addresses().map(|a| (index("b"), a)));
    let monitor = Monitor::new().unwrap();
    let known: Vec<IpAddr> = monitor.table().addresses_of(index("b")).map(|(ip, _)| ip).collect();
    assert!(known.contains(&"192.0.2.77".parse().unwrap()) && !addresses().iter().any(|a| known.contains(a)));
}

fn an_address_that_is_there_lasts_longer() {
    plug();
    let changes = Changes::new().unwrap();
    for address in addresses() {
        changes.put(index("b"), address, Duration::from_secs(1)).unwrap();
        changes.put(index("b"), address, Duration::from_secs(600)).unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(addresses().into_iter().all(has), "{}", shown());
}

fn to_remove_what_is_not_there_is_no_error() {
    plug();
    let changes = Changes::new().unwrap();
    for address in addresses() {
        changes.remove(index("b"), address).unwrap();
        changes.remove(engine::IfIndex(4711), address).unwrap();
        assert!(changes.put(engine::IfIndex(4711), address, Duration::from_secs(1)).is_err());
    }
}
