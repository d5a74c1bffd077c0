//! What keepalived 2.2.7 (Debian bookworm) put on the wire, whole IP packets. It is read field by field and made again
//! to the octet; and a router with the same settings makes the same.

use super::*;

struct Capture {
    what: &'static str,
    /// Its first advertisement, and the one that it stops with.
    packets: [&'static str; 2],
    version: Version,
    vrid: u8,
    priority: u8,
    interval: u64,
    addresses: &'static [&'static str],
    password: Option<&'static str>,
    to: &'static str,
    ttl: u8,
}

const SOURCE_V4: &str = "192.0.2.1";
const SOURCE_V6: &str = "fe80::a";
const ONE: &[&str] = &["198.51.100.10"];
const THREE: &[&str] = &["198.51.100.10", "198.51.100.11", "203.0.113.200"];
const TWO_V6: &[&str] = &["fe80::7", "2001:db8::7"];
const THREE_V6: &[&str] = &["fe80::7", "2001:db8::7", "2001:db8:1::abcd"];

const CAPTURES: [Capture; 10] = [
    Capture {
        what: "version 2",
        packets: [
            "45c0002800010000ff701891c0000201e000001221076401000150b8c633640a0000000000000000",
            "45c00028000a0000ff701888c0000201e0000012210700010001b4b8c633640a0000000000000000",
        ],
        version: Version::V2,
        vrid: 7,
        priority: 100,
        interval: 1000,
        addresses: ONE,
        password: None,
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 2, three addresses",
        packets: [
            "45c0003000010000ff701889c0000201e000001221fffe0300024eb4c633640ac633640bcb0071c80000000000000000",
            "45c0003000040000ff701886c0000201e000001221ff000300024cb5c633640ac633640bcb0071c80000000000000000",
        ],
        version: Version::V2,
        vrid: 255,
        priority: 254,
        interval: 2000,
        addresses: THREE,
        password: None,
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 2, auth_type PASS",
        packets: [
            "45c0002800010000ff701891c0000201e0000012213396010101e171c633640a7333637265740000",
            "45c00028000a0000ff701888c0000201e00000122133000101017772c633640a7333637265740000",
        ],
        version: Version::V2,
        vrid: 51,
        priority: 150,
        interval: 1000,
        addresses: ONE,
        password: Some("s3cret"),
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 2, owner",
        packets: [
            "45c0002800010000ff701891c0000201e00000122101ff010001b5bdc633640a0000000000000000",
            "45c00028000a0000ff701888c0000201e0000012210100010001b4bec633640a0000000000000000",
        ],
        version: Version::V2,
        vrid: 1,
        priority: 255,
        interval: 1000,
        addresses: ONE,
        password: None,
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 3",
        packets: [
            "45c0002000010000ff701899c0000201e00000123107640100649dc4c633640a",
            "45c00020000a0000ff701890c0000201e000001231070001006401c5c633640a",
        ],
        version: Version::V3,
        vrid: 7,
        priority: 100,
        interval: 1000,
        addresses: ONE,
        password: None,
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 3, 0.1 s, three addresses",
        packets: [
            "45c0002800010000ff701891c0000201e000001231c80103000a994bc633640ac633640bcb0071c8",
            "45c0002800730000ff70181fc0000201e000001231c80003000a9a4bc633640ac633640bcb0071c8",
        ],
        version: Version::V3,
        vrid: 200,
        priority: 1,
        interval: 100,
        addresses: THREE,
        password: None,
        to: "224.0.0.18",
        ttl: 255,
    },
    Capture {
        what: "version 3, unicast",
        packets: [
            "45c0002000010000ff7036a9c0000201c0000202312178010032a7ecc633640a",
            "45c0002000160000ff703694c0000201c00002023121000100321fedc633640a",
        ],
        version: Version::V3,
        vrid: 33,
        priority: 120,
        interval: 500,
        addresses: ONE,
        password: None,
        to: "192.0.2.2",
        ttl: 255,
    },
    Capture {
        what: "IPv6",
        packets: [
            "6c06fc35002870fffe80000000000000000000000000000aff020000000000000000000000000012\
             3107640200644012fe80000000000000000000000000000720010db8000000000000000000000007",
            "6c06fc35002870fffe80000000000000000000000000000aff020000000000000000000000000012\
             310700020064a412fe80000000000000000000000000000720010db8000000000000000000000007",
        ],
        version: Version::V3,
        vrid: 7,
        priority: 100,
        interval: 1000,
        addresses: TWO_V6,
        password: None,
        to: "ff02::12",
        ttl: 255,
    },
    Capture {
        what: "IPv6, 0.2 s, three addresses",
        packets: [
            "6c06fc35003870fffe80000000000000000000000000000aff020000000000000000000000000012\
             314d320300149883fe80000000000000000000000000000720010db8000000000000000000000007\
             20010db800010000000000000000abcd",
            "6c06fc35003870fffe80000000000000000000000000000aff020000000000000000000000000012\
             314d00030014ca83fe80000000000000000000000000000720010db8000000000000000000000007\
             20010db800010000000000000000abcd",
        ],
        version: Version::V3,
        vrid: 77,
        priority: 50,
        interval: 200,
        addresses: THREE_V6,
        password: None,
        to: "ff02::12",
        ttl: 255,
    },
    Capture {
        what: "IPv6, unicast: with a hop limit that was forgotten",
        packets: [
            "6c0413b500287040fe80000000000000000000000000000afe80000000000000000000000000000b\
             314e630200324186fe80000000000000000000000000000720010db8000000000000000000000007",
            "6c0413b500287040fe80000000000000000000000000000afe80000000000000000000000000000b\
             314e00020032a486fe80000000000000000000000000000720010db8000000000000000000000007",
        ],
        version: Version::V3,
        vrid: 78,
        priority: 99,
        interval: 500,
        addresses: TWO_V6,
        password: None,
        to: "fe80::b",
        ttl: 64,
    },
];

pub fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// What the IP header says, and the rest.
pub fn split(packet: &[u8]) -> (Meta, Vec<u8>) {
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    if packet[0] >> 4 == 6 {
        assert_eq!(packet[6], oxelb_vrrp::packet::PROTOCOL);
        (Meta { source: v6(8), destination: v6(24), ttl: packet[7] }, packet[40..].to_vec())
    } else {
        assert_eq!((packet[0], packet[9]), (0x45, oxelb_vrrp::packet::PROTOCOL));
        (Meta { source: v4(12), destination: v4(16), ttl: packet[8] }, packet[20..].to_vec())
    }
}

/// All of them, as a corpus.
pub fn all() -> Vec<(Meta, Vec<u8>)> {
    CAPTURES.iter().flat_map(|c| c.packets).map(|p| split(&octets(p))).collect()
}

impl Capture {
    fn settings(&self) -> Settings {
        let source = if self.addresses[0].contains(':') { SOURCE_V6 } else { SOURCE_V4 };
        let to = ip(self.to);
        Settings {
            vrid: Vrid::try_from(self.vrid).unwrap(),
            version: self.version,
            priority: priority(self.priority),
            interval: Centis::try_from((self.interval / 10) as u16).unwrap(),
            addresses: self.addresses.iter().map(|a| ip(a)).collect(),
            peers: [to].into_iter().filter(|a| !a.is_multicast()).collect(),
            password: self.password.map(|p| p.parse().unwrap()),
            ..settings(source)
        }
    }
}

#[test]
fn every_field_of_keepaliveds_advertisements_is_read() {
    for c in CAPTURES {
        for (hex, priority) in c.packets.iter().zip([Some(priority(c.priority)), None]) {
            let (meta, message) = split(&octets(hex));
            assert_eq!((meta.destination, meta.ttl), (ip(c.to), c.ttl), "{}", c.what);
            let advert = Advert::parse(&meta, &message).unwrap_or_else(|e| panic!("{}: {e}", c.what));
            assert_eq!((advert.version(), advert.vrid.get(), advert.priority), (c.version, c.vrid, priority));
            assert_eq!((advert.interval(), advert.addresses()), (ms(c.interval), c.settings().addresses), "{}", c.what);
        }
    }
}

#[test]
fn they_are_made_again_to_the_octet() {
    for (meta, message) in all() {
        let advert = Advert::parse(&meta, &message).unwrap();
        assert_eq!(advert.emit(meta.source, meta.destination), message, "{advert:?}");
    }
}

#[test]
fn a_router_with_keepaliveds_settings_sends_what_keepalived_sends() {
    for c in CAPTURES {
        let mut router = Router::new(Config::new(c.settings()).unwrap(), fastrand::Rng::with_seed(1));
        router.handle(Tick::ZERO, Input::Start);
        let first: Vec<Effect> = run(&mut router, at(9000)).into_iter().map(|(_, e)| e).collect();
        let last = act(&mut router, at(9000), Input::Stop);
        for (effects, hex) in [(first, c.packets[0]), (last, c.packets[1])] {
            let (meta, message) = split(&octets(hex));
            let send = Effect::Send { to: meta.destination, message };
            assert_eq!(effects.iter().find(|e| matches!(e, Effect::Send { .. })), Some(&send), "{}", c.what);
        }
    }
}

#[test]
fn keepalived_is_followed_as_a_backup() {
    for c in CAPTURES {
        let mut settings = c.settings();
        let to = c.settings().peers.first().copied();
        (settings.source, settings.priority) =
            (to.unwrap_or(ip(if c.ttl == 64 || c.to == "ff02::12" { "fe80::b" } else { "192.0.2.2" })), priority(1));
        settings.peers = to.map(|_| c.settings().source).into_iter().collect();
        settings.unicast_ttl = c.ttl;
        let mut router = Router::new(Config::new(settings).unwrap(), fastrand::Rng::with_seed(1));
        router.handle(Tick::ZERO, Input::Start);
        for _ in 0..2 {
            let (meta, message) = split(&octets(c.packets[0]));
            router.handle(at(1), Input::Packet { meta, message });
        }
        let effects = drain(&mut router);
        assert_eq!(router.counters().received, 2, "{}: {effects:?}", c.what);
        assert!(router.masters().contains_key(&c.settings().source), "{}", c.what);
        let (meta, message) = split(&octets(c.packets[1]));
        let now = at(c.interval);
        router.handle(now, Input::Packet { meta, message });
        let follows = mastery(&mut router, now + ms(1000)).unwrap_or_else(|| panic!("{}", c.what));
        assert!(follows.since(now) < ms(1000), "{}: not within the skew", c.what);
    }
}

#[test]
fn from_its_virtual_mac_a_router_sends_what_keepalived_sends() {
    for c in CAPTURES.iter().filter(|c| ip(c.to).is_multicast()) {
        for hex in c.packets {
            let mut theirs = octets(hex);
            let (meta, message) = split(&theirs);
            let frame = oxelb_vrrp::packet::frame(meta.source, &message).unwrap();
            let (ethernet, ours) = frame.split_at(14);
            let (group, family, kind) = match meta.source {
                IpAddr::V4(_) => ([1, 0, 0x5e, 0, 0, 0x12], 1, [8, 0]),
                IpAddr::V6(_) => ([0x33, 0x33, 0, 0, 0, 0x12], 2, [0x86, 0xdd]),
            };
            // RFC 9568 §7.3.
            assert_eq!(ethernet, [&group[..], &[0, 0, 0x5e, 0, family, c.vrid], &kind].concat(), "{}", c.what);
            let mut ours = ours.to_vec();
            if meta.source.is_ipv4() {
                let words = ours[..20].as_chunks::<2>().0.iter().map(|w| u32::from(u16::from_be_bytes(*w)));
                let sum = words.sum::<u32>();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header's checksum");
                // They number packets, and ours may not be fragmented; so the checksum differs too.
                for packet in [&mut ours, &mut theirs] {
                    packet[4..8].fill(0);
                    packet[10..12].fill(0);
                }
            } else {
                // The class of traffic, and the kernel's flow label.
                for packet in [&mut ours, &mut theirs] {
                    packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                }
            }
            assert_eq!(ours, theirs, "{}", c.what);
        }
    }
}
