//! Advertisements as octets: what is refused and why, and round trips.

use super::*;
use oxelb_vrrp::packet::{Addresses, Body, Malformed, most_addresses, vrid};
use oxelb_vrrp::{Family, Password};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

fn v4_meta() -> Meta {
    Meta { source: ip("192.0.2.1"), destination: ip("224.0.0.18"), ttl: 255 }
}

fn v6_meta() -> Meta {
    Meta { source: ip("fe80::a"), destination: ip("ff02::12"), ttl: 255 }
}

/// Puts the checksum right, over the message alone: as good as any where nothing else is the matter.
fn repaired(mut message: Vec<u8>) -> Vec<u8> {
    message[6..8].fill(0);
    let mut sum =
        message.chunks(2).fold(0u32, |s, w| s + u32::from(w[0]) * 256 + w.get(1).map_or(0, |o| u32::from(*o)));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

#[test]
fn each_thing_that_can_be_wrong_has_its_name() {
    let v3 = config(|_| {}).advert(Some(priority(100))).emit(v4_meta().source, v4_meta().destination);
    let v2 = config(|s| s.version = Version::V2).advert(Some(priority(100))).emit(ip("192.0.2.1"), ip("224.0.0.18"));
    let with = |message: &[u8], at: usize, octet: u8| {
        let mut message = message.to_vec();
        message[at] = octet;
        repaired(message)
    };
    let meta = v4_meta();
    let cases = [
        (Meta { destination: ip("ff02::12"), ..meta }, v3.clone(), Malformed::Family),
        (Meta { ttl: 254, ..meta }, v3.clone(), Malformed::Ttl(254)),
        (meta, Vec::new(), Malformed::Length),
        (meta, v3[..7].to_vec(), Malformed::Length),
        (meta, v3[..11].to_vec(), Malformed::Length),
        (meta, [&v3[..], &[0]].concat(), Malformed::Length),
        (meta, v2[..12].to_vec(), Malformed::Length),
        (meta, with(&v3, 3, 2), Malformed::Length),
        (meta, with(&v3, 0, 0x41), Malformed::Version(4)),
        (meta, with(&v3, 0, 0x11), Malformed::Version(1)),
        (v6_meta(), v2.clone(), Malformed::Version(2)),
        (meta, with(&v3, 0, 0x32), Malformed::Type(2)),
        (meta, with(&v3, 1, 0), Malformed::Vrid),
        (meta, with(&v3, 5, 0), Malformed::Interval),
        (meta, with(&v2, 5, 0), Malformed::Interval),
        (meta, with(&v2, 4, 2), Malformed::Authentication(2)),
        (Meta { source: ip("192.0.2.2"), ..meta }, v3.clone(), Malformed::Checksum),
    ];
    for (meta, message, malformed) in cases {
        assert_eq!(Advert::parse(&meta, &message), Err(malformed), "{message:02x?}");
    }
    for at in 0..v2.len() {
        let mut message = v2.clone();
        message[at] ^= 0x10;
        assert!(Advert::parse(&meta, &message).is_err(), "octet {at} is not covered");
    }
}

#[test]
fn both_checksums_of_version_3_over_ipv4_are_understood_and_told_apart() {
    // The message alone, as RFC 9568 §5.2.8 has it: 0x3107 + 0x6401 + 0x0064 + 0xc633 + 0x640a = 0x1bfa9.
    let bare = captured::octets("3107640100644055c633640a");
    let advert = Advert::parse(&v4_meta(), &bare).unwrap();
    assert!(matches!(advert.body, Body::V3Ipv4 { checksum: Checksum::MessageOnly, .. }));
    assert_eq!(advert.emit(v4_meta().source, v4_meta().destination), bare);
    let pseudo = captured::octets("3107640100649dc4c633640a");
    let advert = Advert::parse(&v4_meta(), &pseudo).unwrap();
    assert!(matches!(advert.body, Body::V3Ipv4 { checksum: Checksum::PseudoHeader, .. }));
    // IPv6 was never in doubt.
    let v6 = captured::octets("3107640200644012fe80000000000000000000000000000720010db8000000000000000000000007");
    assert!(Advert::parse(&v6_meta(), &v6).is_ok());
    assert_eq!(Advert::parse(&v6_meta(), &repaired(v6)), Err(Malformed::Checksum));
}

#[test]
fn reserved_bits_are_ignored() {
    let mut message = captured::octets("3107640100644055c633640a");
    message[4] |= 0xf0;
    let advert = Advert::parse(&v4_meta(), &repaired(message)).unwrap();
    assert_eq!(advert.interval(), ms(1000));
}

#[test]
fn unicast_may_come_with_another_ttl_and_the_id_is_read_from_anything() {
    let message = config(|_| {}).advert(None).emit(ip("192.0.2.1"), ip("192.0.2.2"));
    let meta = Meta { source: ip("192.0.2.1"), destination: ip("192.0.2.2"), ttl: 3 };
    assert!(Advert::parse(&meta, &message).is_ok());
    assert_eq!(vrid(&message), Vrid::try_from(7).ok());
    assert_eq!((vrid(&[0x31]), vrid(&[0x31, 0])), (None, None));
}

#[test]
fn as_many_addresses_fit_as_the_mtu_holds() {
    for (version, family, mtu, most) in [
        (Version::V3, Family::V6, 1500, 90),
        (Version::V3, Family::V6, 1280, 77),
        (Version::V3, Family::V4, 1500, 255),
        (Version::V3, Family::V4, 576, 137),
        (Version::V2, Family::V4, 576, 135),
        (Version::V2, Family::V4, 10, 0),
    ] {
        assert_eq!(most_addresses(version, family, mtu), most, "{version:?} {family:?} {mtu}");
    }
    assert!(Addresses::try_from(vec![Ipv4Addr::LOCALHOST; 256]).is_err());
}

fn addresses<A: std::fmt::Debug>(one: impl Strategy<Value = A>) -> impl Strategy<Value = Addresses<A>> {
    proptest::collection::vec(one, 0..=255).prop_map(|v| v.try_into().unwrap())
}

fn any_body() -> impl Strategy<Value = Body> {
    let v4 = || addresses(any::<u32>().prop_map(Ipv4Addr::from));
    let v6 = || addresses(any::<u128>().prop_map(Ipv6Addr::from));
    let interval = || (1u16..=4095).prop_map(|n| Centis::try_from(n).unwrap());
    let checksum = any::<bool>().prop_map(|p| if p { Checksum::PseudoHeader } else { Checksum::MessageOnly });
    let password = proptest::option::of("[!-~]{1,8}".prop_map(|s| s.parse::<Password>().unwrap()));
    let seconds = (1u8..).prop_map(|n| NonZeroU8::new(n).unwrap());
    prop_oneof![
        (seconds, password, v4()).prop_map(|(interval, password, addresses)| Body::V2 {
            interval,
            password,
            addresses
        }),
        (interval(), checksum, v4()).prop_map(|(interval, checksum, addresses)| Body::V3Ipv4 {
            interval,
            checksum,
            addresses
        }),
        (interval(), v6()).prop_map(|(interval, addresses)| Body::V3Ipv6 { interval, addresses }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_was_made_is_read_as_the_same(vrid in 1u8.., p in any::<u8>(), body in any_body(), a: u128, b: u128) {
        let advert = Advert { vrid: Vrid::try_from(vrid).unwrap(), priority: Priority::try_from(p).ok(), body };
        let v6 = matches!(advert.body, Body::V3Ipv6 { .. });
        let address = |n: u128| if v6 { Ipv6Addr::from(n).into() } else { IpAddr::from(Ipv4Addr::from(n as u32)) };
        let meta = Meta { source: address(a), destination: address(b), ttl: 255 };
        let message = advert.emit(meta.source, meta.destination);
        let read = Advert::parse(&meta, &message);
        prop_assert_eq!(read.as_ref(), Ok(&advert));
        let json = serde_json::to_string(&advert).unwrap();
        prop_assert_eq!(serde_json::from_str::<Advert>(&json).unwrap(), advert);
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..64), v6: bool) {
        let meta = if v6 { v6_meta() } else { v4_meta() };
        if let Ok(advert) = Advert::parse(&meta, &repaired_if_possible(octets)) {
            let again = advert.emit(meta.source, meta.destination);
            prop_assert_eq!(Advert::parse(&meta, &again), Ok(advert));
        }
    }
}

fn repaired_if_possible(mut octets: Vec<u8>) -> Vec<u8> {
    if octets.len() < 8 {
        return octets;
    }
    (octets[0], octets[3]) = (octets[0] & 0x10 | 0x21, ((octets.len() - 8) / 4) as u8);
    repaired(octets)
}
