//! Packets of protocols without ports.

use crate::{index, ip, plug, tests};
use net::RawIp;
use std::net::IpAddr;
use std::time::{Duration, Instant};

tests![
    what_one_sends_to_the_group_the_other_receives_with_its_ttl,
    what_is_sent_to_the_address_alone_is_received_too,
    nothing_comes_back_to_who_sent_it,
];

const VRRP: u8 = 112;

fn pair(v6: bool) -> (RawIp, RawIp, [IpAddr; 2], IpAddr) {
    plug();
    let (group, local): (&str, [&str; 2]) =
        if v6 { ("ff02::12", ["fe80::a", "fe80::b"]) } else { ("224.0.0.18", ["192.0.2.10", "192.0.2.11"]) };
    // Both ends in one namespace: each interface is to believe what comes from an address of this host.
    for (end, address) in ["a", "b"].into_iter().zip(local) {
        ip(&format!("addr add {address}/{} dev {end} {}", if v6 { 64 } else { 24 }, if v6 { "nodad" } else { "" }));
        crate::sysctl(&format!("ipv4/conf/{end}/accept_local"), 1);
        crate::sysctl(&format!("ipv4/conf/{end}/rp_filter"), 0);
    }
    crate::sysctl("ipv4/conf/all/rp_filter", 0);
    let group = group.parse().unwrap();
    let local = local.map(|l| l.parse().unwrap());
    let open = |end: &str, local| RawIp::open(VRRP, (index(end), end), group, local).unwrap();
    (open("a", local[0]), open("b", local[1]), local, group)
}

fn next(socket: &RawIp) -> Option<(IpAddr, IpAddr, u8, Vec<u8>)> {
    let (end, mut buffer) = (Instant::now() + Duration::from_secs(2), [0; 2048]);
    while Instant::now() < end {
        if let Some((arrival, message)) = socket.receive(&mut buffer).unwrap() {
            return Some((arrival.from.ip(), arrival.to, arrival.ttl, message.to_vec()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

fn what_one_sends_to_the_group_the_other_receives_with_its_ttl() {
    for v6 in [false, true] {
        let (a, b, [from, _], group) = pair(v6);
        a.send(group, b"an advertisement").unwrap();
        assert_eq!(next(&b), Some((from, group, 255, b"an advertisement".to_vec())));
        ip("link delete dev a");
    }
}

fn what_is_sent_to_the_address_alone_is_received_too() {
    let (a, b, [from, to], _) = pair(true);
    a.send(to, b"unicast").unwrap();
    assert_eq!(next(&b), Some((from, to, 255, b"unicast".to_vec())));
}

fn nothing_comes_back_to_who_sent_it() {
    let (a, b, ..) = pair(false);
    a.send("224.0.0.18".parse().unwrap(), b"x").unwrap();
    assert!(next(&b).is_some());
    assert_eq!(a.receive(&mut [0; 100]).unwrap().map(|(arrival, _)| arrival.from), None);
}
