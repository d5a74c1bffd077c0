//! More changes than the kernel could tell.

use crate::{cable, index, ip, tests};
use net::{Change, Monitor};
use std::io::Write;
use std::process::{Command, Stdio};

tests![when_changes_were_lost_all_is_read_anew_and_counts_as_changed];

fn when_changes_were_lost_all_is_read_anew_and_counts_as_changed() {
    cable();
    ip("address add 192.0.2.10/24 dev a");
    ip("route add default via 192.0.2.1");
    let (mut monitor, a, b) = (Monitor::new().unwrap(), index("a"), index("b"));
    ip("link del dev b");
    ip("link add name c address 02:00:00:00:00:0c type veth peer name d");
    ip("link set dev c up");
    ip("link set dev d up");
    let c = index("c");
    // This is heard, and that it is taken back falls into the gap.
    ip("link set dev d mtu 1400");
    // Far more than the socket's buffer holds.
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut batch = child.stdin.take().unwrap();
    for n in 0..6_000 {
        writeln!(batch, "address add 10.1.{}.{}/32 dev c", n / 250, n % 250 + 1).unwrap();
    }
    drop(batch);
    assert!(child.wait().unwrap().success());
    ip("link set dev d mtu 1500");
    let changes = monitor.read().unwrap();
    assert_eq!(*monitor.table(), *Monitor::new().unwrap().table());
    assert_eq!(monitor.table().addresses_of(c).filter(|(ip, _)| ip.is_ipv4()).count(), 6_000);
    for gone in [a, b] {
        assert!(changes.contains(&Change::Link(gone)), "a link that went");
    }
    let everything =
        [Change::Link(c), Change::Link(index("lo")), Change::Addresses(c), Change::Gateway { on: a }, Change::Routes];
    for change in everything {
        assert!(changes.contains(&change), "{change:?}");
    }
    // It works on as before.
    ip("link set dev c down");
    assert!(monitor.read().unwrap().contains(&Change::Link(c)));
}
