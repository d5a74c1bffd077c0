//! The socket of the heartbeats.

use crate::{ip, tests};
use net::{Error, Poller, Udp, now};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

tests![
    a_port_that_is_taken_is_refused_and_its_holder_named,
    one_socket_serves_both_families_and_names_senders_plainly,
    its_packets_are_network_control,
    a_datagram_that_cannot_be_sent_is_an_error_that_names_the_receiver,
];

fn receive(socket: &Udp) -> (Vec<u8>, SocketAddr) {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(1))).unwrap(), [1], "nothing within a second");
    let mut buffer = [0; 100];
    let (length, from) = socket.receive(&mut buffer).unwrap().expect("a datagram");
    (buffer[..length].to_vec(), from)
}

fn a_port_that_is_taken_is_refused_and_its_holder_named() {
    ip("link set dev lo up");
    let _first = Udp::bind("[::]:7946".parse().unwrap()).unwrap();
    for address in ["[::]:7946", "0.0.0.0:7946", "127.0.0.1:7946", "[::1]:7946"] {
        let error = Udp::bind(address.parse().unwrap()).unwrap_err();
        assert!(matches!(&error, Error::Taken { .. }), "{address}: {error}");
        let text = error.to_string();
        let pid = format!("process {} (", std::process::id());
        assert!(text.contains("7946") && text.contains(&pid) && text.contains("--bind-port"), "{text}");
    }
    // Nor may another process share it later, even when it asks to.
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    other.set_reuse_address(true).unwrap();
    other.set_reuse_port(true).unwrap();
    let address: SocketAddr = "0.0.0.0:7946".parse().unwrap();
    assert!(other.bind(&address.into()).is_err());
}

fn one_socket_serves_both_families_and_names_senders_plainly() {
    ip("link set dev lo up");
    let server = Udp::bind("[::]:7946".parse().unwrap()).unwrap();
    for (client, to) in [("127.0.0.1:7947", "127.0.0.1:7946"), ("[::1]:7948", "[::1]:7946")] {
        let (client_address, to): (SocketAddr, SocketAddr) = (client.parse().unwrap(), to.parse().unwrap());
        let client = Udp::bind(client_address).unwrap();
        client.send(b"ping", to).unwrap();
        assert_eq!(receive(&server), (b"ping".to_vec(), client_address));
        server.send(b"pong", client_address).unwrap();
        assert_eq!(receive(&client), (b"pong".to_vec(), to));
    }
    assert!(server.receive(&mut [0; 10]).unwrap().is_none());
}

fn its_packets_are_network_control() {
    let both = Udp::bind("[::]:0".parse().unwrap()).unwrap();
    assert_eq!(rustix::net::sockopt::ipv6_tclass(both.as_fd()).unwrap(), 0xc0);
    for address in ["[::]:0", "0.0.0.0:0"] {
        let socket = Udp::bind(address.parse().unwrap()).unwrap();
        assert_eq!(rustix::net::sockopt::ip_tos(socket.as_fd()).unwrap(), 0xc0);
        assert_eq!(socket2::SockRef::from(&socket.as_fd()).priority().unwrap(), 6);
    }
}

fn a_datagram_that_cannot_be_sent_is_an_error_that_names_the_receiver() {
    let socket = Udp::bind("0.0.0.0:7946".parse().unwrap()).unwrap();
    // `lo` is down: there is no way to anywhere, and the sender is told.
    let error = socket.send(b"x", "192.0.2.1:7946".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:7946"), "{error}");
    assert!(socket.receive(&mut [0; 10]).unwrap().is_none());
}
