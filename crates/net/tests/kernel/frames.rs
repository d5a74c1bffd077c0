//! Which frames reach a packet socket, and what it says when its link is away.

use crate::{cable, index, ip, tests};
use net::{Error, PacketSocket, Poller, now};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

tests![
    only_arp_and_neighbour_discovery_pass_the_filter,
    its_own_frames_do_not_come_back,
    a_frame_longer_than_the_buffer_is_told_by_its_length,
    a_flood_of_other_frames_hides_no_request,
    neither_family_waits_for_the_end_of_the_others_queue,
    a_flood_of_requests_starves_neither_ipv6_nor_wakers_nor_deadlines,
    frames_pass_the_hosts_filters_as_what_they_are,
    frames_that_nobody_read_are_counted,
    a_link_that_is_down_is_told_and_works_again_when_it_is_up,
    a_link_that_is_gone_is_told,
];

pub(crate) const A: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
pub(crate) const B: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const ALL: [u8; 6] = [0xff; 6];

pub(crate) fn ethernet(to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &B, &ethertype.to_be_bytes(), payload].concat()
}

/// An ARP packet (RFC 826) with this operation, from 192.0.2.77.
pub(crate) fn arp(operation: u8, target: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &B, &[192, 0, 2, 77], &[0; 6], &target].concat()
}

/// The marked request: what a test waits for. `mark` is the last octet of the target.
pub(crate) fn request(mark: u8) -> Vec<u8> {
    ethernet(ALL, 0x0806, &arp(1, [192, 0, 2, mark]))
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let addresses = [[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
    [&[0x60, 0, 0, 0, length[0], length[1], next_header, 255][..], &addresses, payload].concat()
}

fn icmpv6(kind: u8) -> Vec<u8> {
    ethernet([0x33, 0x33, 0xff, 0, 0, 1], 0x86dd, &ipv6(58, &[&[kind, 0, 0, 0][..], &[0; 20]].concat()))
}

fn vlan(tag: u16) -> Vec<u8> {
    ethernet(ALL, 0x8100, &[&tag.to_be_bytes()[..], &0x0806u16.to_be_bytes(), &arp(1, [192, 0, 2, 66])].concat())
}

fn sockets() -> (PacketSocket, PacketSocket) {
    (PacketSocket::open(index("a")).unwrap(), PacketSocket::open(index("b")).unwrap())
}

/// The next frame, within a second.
pub(crate) fn next(socket: &PacketSocket) -> Vec<u8> {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, 1).unwrap();
    let (deadline, mut buffer) = (now() + Duration::from_secs(1), [0; 2048]);
    while now() < deadline {
        if let Some(length) = socket.receive(&mut buffer).unwrap() {
            return buffer[..length].to_vec();
        }
        poller.wait(Some(deadline)).unwrap();
    }
    panic!("no frame within a second");
}

fn only_arp_and_neighbour_discovery_pass_the_filter() {
    cable();
    let (a, b) = sockets();
    let others = [
        ("an IPv4 packet", ethernet(A, 0x0800, &[0x45; 40])),
        ("RARP", ethernet(ALL, 0x8035, &arp(3, [192, 0, 2, 66]))),
        ("ARP operation 3", ethernet(ALL, 0x0806, &arp(3, [192, 0, 2, 66]))),
        ("IPv6 UDP", ethernet(A, 0x86dd, &ipv6(17, &[135; 40]))),
        ("ICMPv6 behind an extension header", ethernet(A, 0x86dd, &ipv6(0, &[58, 0, 0, 0, 0, 0, 0, 0, 135]))),
        ("an echo request", icmpv6(128)),
        ("a router solicitation", icmpv6(133)),
        ("a redirect", icmpv6(137)),
        ("a request of VLAN 5", vlan(5)),
        ("a request to another station", ethernet([2, 0, 0, 0, 0, 0x99], 0x0806, &arp(1, [192, 0, 2, 66]))),
        ("a frame that ends before its operation", ethernet(ALL, 0x0806, &[0, 1, 8, 0, 6])),
    ];
    for (mark, (what, frame)) in others.iter().enumerate() {
        b.send(frame).unwrap();
        // Frames keep their order: were the one before passed, it would be seen first.
        let marked = request(mark as u8);
        b.send(&marked).unwrap();
        assert_eq!(next(&a), marked, "{what} was passed");
    }
    let wanted = [
        request(66),
        ethernet(ALL, 0x0806, &arp(2, [192, 0, 2, 66])),
        ethernet(A, 0x0806, &arp(1, [192, 0, 2, 66])),
        icmpv6(135),
        icmpv6(136),
    ];
    for frame in wanted {
        b.send(&frame).unwrap();
        assert_eq!(next(&a), frame);
    }
    // Tag 0 is only a priority; the kernel takes it off.
    b.send(&vlan(0xe000)).unwrap();
    assert_eq!(next(&a), request(66));
}

fn its_own_frames_do_not_come_back() {
    cable();
    let (a, b) = sockets();
    a.send(&request(1)).unwrap();
    assert_eq!(next(&b), request(1));
    b.send(&request(2)).unwrap();
    assert_eq!(next(&a), request(2));
    assert_eq!(a.receive(&mut [0; 64]).unwrap(), None);
    assert_eq!(b.receive(&mut [0; 64]).unwrap(), None);
}

fn a_frame_longer_than_the_buffer_is_told_by_its_length() {
    cable();
    let (a, b) = sockets();
    let long = [request(1), vec![0xee; 1400]].concat();
    b.send(&long).unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(&a, 1).unwrap();
    assert_eq!(poller.wait(Some(now() + Duration::from_secs(1))).unwrap(), [1]);
    let mut buffer = [0; 42];
    assert_eq!(a.receive(&mut buffer).unwrap(), Some(long.len()));
    assert_eq!(buffer, long[..42]);
}

fn a_flood_of_other_frames_hides_no_request() {
    cable();
    let (a, b) = sockets();
    // Many times what the receive buffer holds.
    let other = ethernet(A, 0x0800, &[0x45; 1400]);
    for mark in 0..20 {
        (0..1000).for_each(|_| drop(b.send(&other)));
        b.send(&request(mark)).unwrap();
    }
    for mark in 0..20 {
        assert_eq!(next(&a), request(mark));
    }
    assert_eq!(a.dropped(), 0);
}

fn neither_family_waits_for_the_end_of_the_others_queue() {
    cable();
    let (a, b) = sockets();
    for (many, one) in [(request(1), icmpv6(135)), (icmpv6(135), request(1))] {
        (0..300).for_each(|_| b.send(&many).unwrap());
        b.send(&one).unwrap();
        let mut received: Vec<Vec<u8>> = (0..301).map(|_| next(&a)).collect();
        assert_eq!(received.len(), 301);
        received.truncate(64);
        assert!(received.contains(&one), "not among the first 64");
    }
}

fn a_flood_of_requests_starves_neither_ipv6_nor_wakers_nor_deadlines() {
    cable();
    let (a, b) = sockets();
    let over = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut sent = 0u64;
            while !over.load(Ordering::Relaxed) {
                // Full queues are part of a flood.
                drop(b.send(&request(9)));
                sent += 1;
            }
            sent
        }
    });
    let solicitor = PacketSocket::open(index("b")).unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(&a, 1).unwrap();
    let waker = poller.waker();
    let (mut woken, mut requests, mut solicited, mut rounds) = (0, 0, 0, 0);
    let mut buffer = [0; 2048];
    while rounds < 50 {
        rounds += 1;
        waker.wake();
        solicitor.send(&icmpv6(135)).unwrap();
        let deadline = now() + Duration::from_millis(5);
        while now() < deadline {
            for token in poller.wait(Some(deadline)).unwrap() {
                woken += u32::from(token == Poller::WOKEN);
            }
            // As the speaker does: a bounded number in each turn.
            for _ in 0..64 {
                match a.receive(&mut buffer).unwrap() {
                    Some(_) if buffer[12..14] == [0x86, 0xdd] => solicited += 1,
                    Some(_) => requests += 1,
                    None => break,
                }
            }
        }
        let late = now().since(deadline);
        assert!(late < Duration::from_millis(500), "a deadline was late by {late:?}");
    }
    over.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    assert!(sent > 1000 && requests > 100, "that was no flood: {sent} sent, {requests} received");
    assert_eq!((woken, solicited), (50, 50), "of {requests} requests");
}

fn frames_pass_the_hosts_filters_as_what_they_are() {
    cable();
    let (a, b) = sockets();
    let fence = |kind: &str| {
        let rules = format!(
            "table netdev t\ndelete table netdev t\ntable netdev t {{\nchain c {{\n\
             type filter hook egress device b priority 0\nmeta protocol {kind} drop\n}}\n}}\n"
        );
        let mut nft =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    };
    for (kind, stopped, passed) in [("ip6", icmpv6(136), request(1)), ("arp", request(2), icmpv6(135))] {
        fence(kind);
        let error = b.send(&stopped).unwrap_err();
        assert!(matches!(error, Error::Kernel { .. }), "{error}");
        b.send(&passed).unwrap();
        assert_eq!(next(&a), passed, "with {kind} dropped");
    }
}

fn frames_that_nobody_read_are_counted() {
    cable();
    let (a, b) = sockets();
    (0..20_000).for_each(|_| drop(b.send(&request(1))));
    let mut received = 0;
    while a.receive(&mut [0; 64]).unwrap().is_some() {
        received += 1;
    }
    let dropped = a.dropped();
    assert!(dropped > 0 && received > 0, "{dropped} dropped, {received} received");
    assert_eq!(dropped, a.dropped(), "it counts from the beginning");
}

fn a_link_that_is_down_is_told_and_works_again_when_it_is_up() {
    cable();
    let (a, b) = sockets();
    ip("link set dev a down");
    assert!(matches!(a.send(&request(1)), Err(Error::Down(i)) if i == index("a")));
    assert!(matches!(a.receive(&mut [0; 64]), Err(Error::Down(_))));
    // Opened while it is down, a socket works just as well later.
    let late = PacketSocket::open(index("a")).unwrap();
    assert!(matches!(late.receive(&mut [0; 64]), Err(Error::Down(_))));
    ip("link set dev a up");
    crate::wait_until_up();
    // Each of the two sockets inside had an error to tell.
    let _ = (a.receive(&mut [0; 64]), late.receive(&mut [0; 64]));
    b.send(&request(2)).unwrap();
    assert_eq!(next(&a), request(2));
    assert_eq!(next(&late), request(2));
    a.send(&request(3)).unwrap();
    assert_eq!(next(&b), request(3));
}

fn a_link_that_is_gone_is_told() {
    cable();
    let (a, gone) = (PacketSocket::open(index("a")).unwrap(), index("a"));
    ip("link del dev a");
    assert!(matches!(a.send(&request(1)), Err(Error::Gone(i)) if i == gone));
    let error = PacketSocket::open(gone).unwrap_err();
    assert!(matches!(error, Error::Gone(i) if i == gone), "{error}");
}
