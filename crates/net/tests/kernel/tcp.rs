//! TCP with passwords, near peers, addresses and devices of its own.

use crate::{ip, tests};
use net::{Error, Poller, TcpConnection, TcpListener, TcpOptions, Ttl, now};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

tests![
    octets_go_both_ways_and_the_end_is_told,
    a_slow_reader_leaves_octets_with_the_writer,
    what_was_written_last_arrives_although_the_reader_left_something_unread,
    nobody_listening_is_told,
    a_port_that_is_taken_is_refused_and_its_holder_named,
    a_port_is_bound_for_a_device_and_for_all_others_in_any_order,
    both_sides_with_the_same_password_connect,
    without_the_password_nothing_gets_through,
    a_whole_network_has_one_password,
    a_password_can_be_taken_back,
    what_comes_from_farther_than_allowed_is_dropped,
    neighbours_with_full_ttl_get_through,
    the_source_and_the_device_are_those_that_were_asked_for,
];

const LOCAL: [&str; 2] = ["127.0.0.1", "::1"];

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    ip("link set dev lo up");
    let listener = TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0), None, []).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// The other end of a connection that was begun.
fn accept(listener: &TcpListener) -> TcpConnection {
    let mut poller = Poller::new().unwrap();
    poller.add(listener, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(5))).unwrap(), [1], "nobody came");
    listener.accept().unwrap().expect("a connection")
}

/// Waits until the attempt is over.
fn outcome(connection: &TcpConnection) -> Result<IpAddr, Error> {
    let mut poller = Poller::new().unwrap();
    poller.add(connection, 1).unwrap();
    poller.writable(connection, 1, true).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(5))).unwrap(), [1], "the attempt never ends");
    connection.outcome()
}

fn pair(address: &str) -> (TcpConnection, TcpConnection) {
    let (listener, at) = listen(address);
    let ours = TcpConnection::connect(at, &TcpOptions::default()).unwrap();
    let theirs = accept(&listener);
    assert_eq!(outcome(&ours).unwrap(), at.ip());
    (ours, theirs)
}

fn read(connection: &mut TcpConnection) -> Vec<u8> {
    let mut poller = Poller::new().unwrap();
    poller.add(&*connection, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(5))).unwrap(), [1], "nothing comes");
    let mut buffer = [0; 65536];
    let n = connection.read(&mut buffer).unwrap().expect("octets or the end");
    buffer[..n].to_vec()
}

/// A counter of the kernel's TCP in this namespace.
fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|l| l.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no counter {name}")).1.parse().unwrap()
}

/// Waits until the kernel has counted a packet that it dropped for this reason.
fn dropped(names: &[&str], before: u64) {
    let deadline = now() + Duration::from_secs(5);
    while names.iter().map(|n| counter(n)).sum::<u64>() <= before {
        assert!(now() < deadline, "none of {names:?} rose");
        std::thread::yield_now();
    }
}

fn octets_go_both_ways_and_the_end_is_told() {
    for address in LOCAL {
        let (mut ours, mut theirs) = pair(address);
        assert_eq!(ours.peer().ip(), address.parse::<IpAddr>().unwrap());
        assert_eq!(theirs.local().unwrap(), address.parse::<IpAddr>().unwrap());
        let mut buffer = [0; 16];
        assert_eq!(theirs.read(&mut buffer).unwrap(), None, "there is nothing yet");
        assert_eq!(ours.write(b"there").unwrap(), 5);
        assert_eq!(read(&mut theirs), b"there");
        assert_eq!(theirs.write(b"back").unwrap(), 4);
        theirs.close();
        assert_eq!(read(&mut ours), b"back");
        assert_eq!(read(&mut ours), b"", "the end");
    }
}

fn a_slow_reader_leaves_octets_with_the_writer() {
    let (mut ours, _theirs) = pair("127.0.0.1");
    let block = vec![7; 1 << 20];
    let mut taken = 0;
    loop {
        let n = ours.write(&block).unwrap();
        if n == 0 {
            break;
        }
        taken += n;
        assert!(taken < 64 << 20, "the kernel takes without end");
    }
}

fn what_was_written_last_arrives_although_the_reader_left_something_unread() {
    let (mut ours, mut theirs) = pair("127.0.0.1");
    assert_eq!(ours.write(&[0; 1000]).unwrap(), 1000);
    let mut poller = Poller::new().unwrap();
    poller.add(&theirs, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(5))).unwrap(), [1]);
    assert_eq!(theirs.write(b"goodbye").unwrap(), 7);
    theirs.close();
    assert_eq!(read(&mut ours), b"goodbye");
}

fn nobody_listening_is_told() {
    let (listener, at) = listen("127.0.0.1");
    drop(listener);
    let error = match TcpConnection::connect(at, &TcpOptions::default()) {
        Ok(attempt) => outcome(&attempt).unwrap_err(),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(text.contains(&at.to_string()) && text.contains("refused"), "{text}");
}

fn a_port_that_is_taken_is_refused_and_its_holder_named() {
    let (_listener, at) = listen("127.0.0.1");
    let error = TcpListener::bind(at, None, []).unwrap_err();
    assert!(matches!(&error, Error::Listening { .. }), "{error}");
    let text = error.to_string();
    let pid = format!("process {} (", std::process::id());
    assert!(text.contains(&pid) && text.contains("spec.listenPort"), "{text}");
    // IPv4 and IPv6 are apart.
    TcpListener::bind(SocketAddr::new("::".parse().unwrap(), at.port()), None, []).unwrap();
}

fn alone(at: SocketAddr) -> (IpAddr, u8) {
    (at.ip(), if at.is_ipv4() { 32 } else { 128 })
}

fn with_password(password: &str) -> TcpOptions {
    TcpOptions { password: Some(password.into()), ..TcpOptions::default() }
}

const MD5_DROPS: [&str; 3] = ["TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure"];

fn a_port_is_bound_for_a_device_and_for_all_others_in_any_order() {
    ip("link set dev lo up");
    let at: SocketAddr = "0.0.0.0:1790".parse().unwrap();
    let to = SocketAddr::new(LOCAL[0].parse().unwrap(), at.port());
    for order in [[None, Some("lo")], [Some("lo"), None]] {
        let mut ours: Vec<TcpListener> = Vec::new();
        for device in order {
            let next = TcpListener::bind(at, device, &ours).unwrap_or_else(|e| panic!("{order:?}: {e}"));
            ours.push(next);
        }
        let connection = TcpConnection::connect(to, &TcpOptions::default()).unwrap();
        outcome(&connection).unwrap();
        for (device, listener) in order.iter().zip(&ours) {
            assert_eq!(
                listener.accept().unwrap().is_some(),
                device.is_some(),
                "the one that is bound to the device has it"
            );
        }
        let error = TcpListener::bind(at, None, []).unwrap_err();
        assert!(matches!(&error, Error::Listening { .. }), "nobody else has the port: {error}");
    }
}

fn both_sides_with_the_same_password_connect() {
    for address in LOCAL {
        let (listener, at) = listen(address);
        listener.set_password(alone(at), Some(b"secret")).unwrap();
        let mut ours = TcpConnection::connect(at, &with_password("secret")).unwrap();
        let mut theirs = accept(&listener);
        outcome(&ours).unwrap();
        assert_eq!(ours.write(b"signed").unwrap(), 6);
        assert_eq!(read(&mut theirs), b"signed");
    }
}

fn without_the_password_nothing_gets_through() {
    for address in LOCAL {
        let (listener, at) = listen(address);
        listener.set_password(alone(at), Some(b"secret")).unwrap();
        for options in [TcpOptions::default(), with_password("other")] {
            let before = MD5_DROPS.iter().map(|n| counter(n)).sum();
            let _attempt = TcpConnection::connect(at, &options).unwrap();
            dropped(&MD5_DROPS, before);
            assert!(listener.accept().unwrap().is_none());
        }
    }
    let (listener, at) = listen("127.0.0.1");
    for bad in [&[0; 81][..], &[0; 70000]] {
        let error = listener.set_password(alone(at), Some(bad)).unwrap_err();
        assert!(error.to_string().contains("1 to 80 octets"), "{error}");
    }
}

fn a_whole_network_has_one_password() {
    for (address, network) in [("127.0.0.1", "127.0.0.0"), ("::1", "::")] {
        let (listener, at) = listen(address);
        let network = (network.parse().unwrap(), 8);
        listener.set_password(network, Some(b"secret")).unwrap();
        let ours = TcpConnection::connect(at, &with_password("secret")).unwrap();
        accept(&listener);
        outcome(&ours).unwrap();
        let before = MD5_DROPS.iter().map(|n| counter(n)).sum();
        let _attempt = TcpConnection::connect(at, &TcpOptions::default()).unwrap();
        dropped(&MD5_DROPS, before);
        listener.set_password(network, None).unwrap();
        let _ours = TcpConnection::connect(at, &TcpOptions::default()).unwrap();
        accept(&listener);
    }
}

fn a_password_can_be_taken_back() {
    let (listener, at) = listen("127.0.0.1");
    listener.set_password(alone(at), None).unwrap();
    listener.set_password(alone(at), Some(b"secret")).unwrap();
    listener.set_password(alone(at), Some(b"another")).unwrap();
    listener.set_password(alone(at), None).unwrap();
    let _ours = TcpConnection::connect(at, &TcpOptions::default()).unwrap();
    accept(&listener);
}

fn what_comes_from_farther_than_allowed_is_dropped() {
    for address in LOCAL {
        let (listener, at) = listen(address);
        let mut ours =
            TcpConnection::connect(at, &TcpOptions { ttl: Ttl::Hops(254), ..TcpOptions::default() }).unwrap();
        let mut theirs = accept(&listener);
        outcome(&ours).unwrap();
        theirs.set_ttl(Ttl::Near(2)).unwrap();
        ours.write(b"near enough").unwrap();
        assert_eq!(read(&mut theirs), b"near enough");
        theirs.set_ttl(Ttl::Near(1)).unwrap();
        let before = counter("TCPMinTTLDrop");
        ours.write(b"too far").unwrap();
        dropped(&["TCPMinTTLDrop"], before);
        assert_eq!(theirs.read(&mut [0; 16]).unwrap(), None);
    }
}

fn neighbours_with_full_ttl_get_through() {
    for address in LOCAL {
        let (listener, at) = listen(address);
        // The answer to the SYN is checked already, so the listener must send with 255 too.
        let mut ours = TcpConnection::connect(at, &TcpOptions { ttl: Ttl::Near(1), ..TcpOptions::default() }).unwrap();
        let mut theirs = accept(&listener);
        theirs.set_ttl(Ttl::Near(1)).unwrap();
        outcome(&ours).unwrap();
        ours.write(b"one hop").unwrap();
        assert_eq!(read(&mut theirs), b"one hop");
    }
}

fn the_source_and_the_device_are_those_that_were_asked_for() {
    let (listener, at) = listen("127.0.0.1");
    let source: IpAddr = "127.0.0.9".parse().unwrap();
    let options = TcpOptions { source: Some(source), device: Some("lo".into()), ..TcpOptions::default() };
    let ours = TcpConnection::connect(at, &options).unwrap();
    let theirs = accept(&listener);
    assert_eq!((outcome(&ours).unwrap(), theirs.peer().ip()), (source, source));
    let nowhere = TcpOptions { device: Some("eth9".into()), ..TcpOptions::default() };
    let text = TcpConnection::connect(at, &nowhere).unwrap_err().to_string();
    assert!(text.contains("No such device"), "{text}");
    TcpListener::bind("127.0.0.1:0".parse().unwrap(), Some("lo"), []).unwrap();
}
