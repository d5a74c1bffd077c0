//! UDP that is told with its TTL and its interface.

use crate::{index, ip, plug, tests};
use engine::IfIndex;
use net::{Arrival, Error, HopReceiver, HopSender, Poller, now};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

tests![
    each_datagram_is_told_with_its_hops_its_interface_and_where_it_was_sent_to,
    what_comes_from_afar_shows_by_its_hops,
    a_port_that_is_taken_is_refused_and_its_holder_named,
    a_port_is_bound_for_a_device_and_for_all_others_in_any_order,
    a_source_port_that_is_taken_is_passed_over,
];

const PORT: u16 = 3784;

fn receive(receiver: &HopReceiver) -> (Vec<u8>, Arrival) {
    let mut poller = Poller::new().unwrap();
    poller.add(receiver, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(1))).unwrap(), [1], "nothing within a second");
    let mut buffer = [0; 100];
    let arrival = receiver.receive(&mut buffer).unwrap().expect("a datagram");
    (buffer[..arrival.length].to_vec(), arrival)
}

fn each_datagram_is_told_with_its_hops_its_interface_and_where_it_was_sent_to() {
    plug();
    ip("addr add 192.0.2.1/24 dev a");
    ip("-6 addr add fd00::1/64 dev a nodad");
    for own in ["192.0.2.1", "fd00::1"] {
        let own: IpAddr = own.parse().unwrap();
        let receiver = HopReceiver::bind(own.is_ipv6(), PORT, None, []).unwrap();
        let sender = HopSender::bind((own, IfIndex(0)), 50_000..=50_000, None, |ports| *ports.start()).unwrap();
        sender.send(b"control", SocketAddr::new(own, PORT)).unwrap();
        let (bytes, arrival) = receive(&receiver);
        assert_eq!(bytes, b"control");
        // To an address of its own a node talks over lo; the kernel names that, or the interface that has the address.
        let on = arrival.on;
        assert!([index("lo"), index("a")].contains(&on), "{on}");
        assert_eq!(arrival, Arrival { length: 7, from: SocketAddr::new(own, 50_000), to: own, on, ttl: 255 });
        assert!(receiver.receive(&mut [0; 10]).unwrap().is_none());
    }
}

fn what_comes_from_afar_shows_by_its_hops() {
    ip("link set dev lo up");
    let receiver = HopReceiver::bind(false, PORT, None, []).unwrap();
    let far = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    far.set_ttl(254).unwrap();
    far.send_to(b"x", ("127.0.0.1", PORT)).unwrap();
    assert_eq!(receive(&receiver).1.ttl, 254);
}

fn a_port_that_is_taken_is_refused_and_its_holder_named() {
    ip("link set dev lo up");
    let _first = HopReceiver::bind(false, PORT, None, []).unwrap();
    let error = HopReceiver::bind(false, PORT, None, []).unwrap_err();
    assert!(matches!(&error, Error::InUse { .. }), "{error}");
    let (text, pid) = (error.to_string(), format!("process {} (", std::process::id()));
    assert!(text.contains("3784") && text.contains(&pid), "{text}");
}

fn a_port_is_bound_for_a_device_and_for_all_others_in_any_order() {
    plug();
    ip("addr add 192.0.2.1/24 dev a");
    for order in [[None, Some("lo"), Some("a")], [Some("a"), Some("lo"), None]] {
        let mut ours: Vec<HopReceiver> = Vec::new();
        for device in order {
            let next = HopReceiver::bind(false, PORT, device, &ours).unwrap_or_else(|e| panic!("{order:?}: {e}"));
            ours.push(next);
        }
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        let sender = HopSender::bind((own, IfIndex(0)), 50_000..=50_000, None, |ports| *ports.start()).unwrap();
        sender.send(b"control", SocketAddr::new(own, PORT)).unwrap();
        assert_eq!(receive(&ours[1]).0, b"control", "the one that is bound to the device has it");
        let error = HopReceiver::bind(false, PORT, None, []).unwrap_err();
        assert!(matches!(&error, Error::InUse { .. }), "nobody else has the port: {error}");
    }
}

fn a_source_port_that_is_taken_is_passed_over() {
    ip("link set dev lo up");
    let own: IpAddr = "127.0.0.1".parse().unwrap();
    let mut ports = [50_000, 50_000, 50_001].into_iter();
    let mut draw = |_| ports.next().unwrap();
    let _first = HopSender::bind((own, IfIndex(0)), 50_000..=50_001, None, &mut draw).unwrap();
    let _second = HopSender::bind((own, IfIndex(0)), 50_000..=50_001, None, &mut draw).unwrap();
    assert!(HopSender::bind((own, IfIndex(0)), 50_000..=50_001, None, |_| 50_000).is_err());
}
