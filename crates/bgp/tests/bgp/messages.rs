//! Headers, OPEN, NOTIFICATION and ROUTE-REFRESH: what is refused, and with which NOTIFICATION.

use super::*;

fn refused(bytes: &[u8]) -> ([u8; 2], Vec<u8>) {
    let notification = decode(&modern(), bytes).unwrap_err().notification();
    (notification.code.octets(), notification.data)
}

fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut out = vec![marker; 16];
    out.extend(length.to_be_bytes());
    out.push(kind);
    out
}

#[test]
fn headers() {
    assert_eq!(refused(&header(0, 19, 4)), ([1, 1], vec![]));
    assert_eq!(refused(&header(0xff, 18, 4)), ([1, 2], vec![0, 18]));
    assert_eq!(refused(&header(0xff, 20, 4)), ([1, 2], vec![0, 20]), "a KEEPALIVE has no body");
    assert_eq!(refused(&header(0xff, 4097, 2)), ([1, 2], vec![0x10, 1]));
    assert_eq!(refused(&header(0xff, 22, 2)), ([1, 2], vec![0, 22]));
    assert_eq!(refused(&header(0xff, 28, 1)), ([1, 2], vec![0, 28]));
    assert_eq!(refused(&header(0xff, 20, 3)), ([1, 2], vec![0, 20]));
    assert_eq!(refused(&header(0xff, 19, 6)), ([1, 3], vec![6]));
    assert_eq!(refused(&[0xff, 0xff, 0xfe]), ([1, 1], vec![]), "told before the header is there as a whole");
}

#[test]
fn a_length_that_lies_keeps_nothing_but_what_came() {
    let mut framer = Framer::default();
    framer.push(&header(0xff, 65535, 2));
    assert!(framer.next(true).unwrap().is_none());
    assert_eq!(framer.waiting(), 19);
    assert!(framer.next(false).is_err());
}

#[test]
fn messages_are_found_however_they_are_cut() {
    let codec = modern();
    let update = Update { withdrawn: vec![nlri("10.0.0.0/8")], ..Update::default() };
    let all = [Message::Keepalive, Message::Update(Box::new(update)), Message::Keepalive];
    let bytes: Vec<u8> = all.iter().flat_map(|m| encode(&codec, m)).collect();
    for size in 1..=bytes.len() {
        let (mut framer, mut seen) = (Framer::default(), vec![]);
        for chunk in bytes.chunks(size) {
            framer.push(chunk);
            while let Some((kind, body)) = framer.next(false).unwrap() {
                seen.push(codec.parse(kind, body).unwrap());
            }
        }
        assert_eq!(seen, all, "in pieces of {size}");
    }
}

/// An OPEN of these fields.
fn open(version: u8, my_as: u16, hold: u16, id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(my_as.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id);
    body.push(parameters.len() as u8);
    body.extend(parameters);
    framed(1, &body)
}

const ID: [u8; 4] = [192, 0, 2, 1];

#[test]
fn opens() {
    assert_eq!(refused(&open(3, 1, 90, ID, &[])), ([2, 1], vec![0, 4]));
    assert_eq!(refused(&open(4, 0, 90, ID, &[])), ([2, 2], vec![]));
    assert_eq!(refused(&open(4, 1, 90, [0; 4], &[])), ([2, 3], vec![]));
    assert_eq!(refused(&open(4, 1, 90, ID, &[1, 2, 0, 0])), ([2, 4], vec![]));
    assert_eq!(refused(&open(4, 1, 2, ID, &[])), ([2, 6], vec![]));
    assert_eq!(refused(&open(4, 1, 90, ID, &[2, 6, 65, 4, 0, 0, 0, 0])), ([2, 2], vec![]), "AS 0 in four octets");
    for bad in [&[2][..], &[2, 3, 1, 4, 0], &[2, 4, 1, 9, 0, 1], &[2, 9, 1, 4, 0, 1, 0, 1]] {
        assert_eq!(refused(&open(4, 1, 90, ID, bad)).0, [2, 0], "{bad:?}");
    }
    let mut longer = open(4, 1, 90, ID, &[]);
    longer[28] = 4;
    assert_eq!(refused(&longer).0, [2, 0], "fewer parameters than announced");
}

#[test]
fn capabilities_with_octets_as_their_rfcs_show_them() {
    let parameters = [
        &[2, 6, 1, 4, 0, 2, 0, 1][..],            // multiprotocol, IPv6 unicast
        &[2, 2, 2, 0],                            // route refresh, in a parameter of its own
        &[2, 6, 65, 4, 0, 3, 0xd, 0x40],          // AS 200000
        &[2, 8, 64, 6, 0xc0, 120, 0, 1, 1, 0x80], // graceful restart, R and N, 120 s
        &[2, 6, 69, 4, 0, 1, 1, 3],               // add-path, both ways
        &[2, 8, 5, 6, 0, 1, 0, 1, 0, 2],          // IPv4 with next hops of IPv6
        &[2, 9, 71, 7, 0, 1, 1, 0x80, 1, 2, 3],   // long-lived, 66051 s
        &[2, 4, 6, 0, 70, 0],                     // extended messages, enhanced refresh
        &[2, 3, 1, 1, 0],                         // a length that its RFC does not allow
    ];
    let Ok(Message::Open(open)) = decode(&modern(), &open(4, 23456, 90, ID, &parameters.concat())) else { panic!() };
    assert_eq!(open.asn(), asn(200_000));
    let (v4, v6) = (Family::Ipv4.afi_safi(), Family::Ipv6.afi_safi());
    let restart =
        GracefulRestart { restarting: true, notification: true, restart_time: 120, families: vec![(v4, true)] };
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol(v6),
            Capability::RouteRefresh,
            Capability::FourOctetAs(asn(200_000)),
            Capability::GracefulRestart(restart),
            Capability::AddPath(vec![(v4, AddPath::Both)]),
            Capability::ExtendedNextHop(vec![(v4, 2)]),
            Capability::LongLived(vec![LongLived { family: v4, forwarding: true, stale_time: 66051 }]),
            Capability::ExtendedMessage,
            Capability::EnhancedRouteRefresh,
            Capability::Unknown { code: 1, data: vec![0] },
        ]
    );
}

#[test]
fn a_route_refresh_of_a_wrong_length_is_sent_back() {
    let bytes = framed(5, &[0, 1, 0]);
    assert_eq!(refused(&bytes), ([7, 1], bytes));
    let later = decode(&modern(), &framed(5, &[0, 1, 9, 1])).unwrap();
    assert_eq!(later, Message::RouteRefresh { family: Family::Ipv4.afi_safi(), refresh: None });
}

#[test]
fn an_end_of_rib_is_told_from_an_update_that_says_something() {
    for family in Family::ALL {
        let bytes = encode(&modern(), &Message::Update(Box::new(Update::end_of_rib(family))));
        let Ok(Message::Update(update)) = decode(&modern(), &bytes) else { panic!() };
        assert_eq!(update.ends_rib_of(), Some(family));
    }
    let Ok(Message::Update(damaged)) = decode(&modern(), &super::update(&[], &[0x40], &[])) else { panic!() };
    assert_eq!(damaged.ends_rib_of(), None);
}
