use super::*;
use proptest::prelude::*;

fn key() -> Key {
    Key::new(*b"a key of some 24 octets.")
}

fn plain() -> Packet {
    Packet {
        kind: Kind::Heartbeat,
        boot: 1 << 64 | 2,
        counter: 3,
        from: "node-a".to_owned(),
        to: "node-b".to_owned(),
        statement: 4,
        heard: Heard { boot: 5, counter: 6, statement: 7 },
        fragment: None,
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

/// As many as fit, IPv4 first, as the decoder gives them back.
fn part(owned: Vec<IpAddr>, unable: Vec<IpAddr>) -> Part {
    let mut room = ROOM;
    let mut fit = |list: Vec<IpAddr>| {
        let size = |a: &IpAddr| if a.is_ipv4() { 4 } else { 16 };
        let mut list: Vec<IpAddr> =
            list.into_iter().filter(|a| room.checked_sub(size(a)).map(|r| room = r).is_some()).collect();
        list.sort_by_key(IpAddr::is_ipv6);
        list
    };
    Part { owned: fit(owned), unable: fit(unable) }
}

prop_compose! {
    fn packet()(
        goodbye: bool, boot: u128, counter: u64, statement: u64, heard: (u128, u64, u64),
        from in "[a-z0-9.-]{1,253}", to in "[a-z0-9.-]{1,253}",
        fragment in prop::option::of((1..=MAX_FRAGMENTS, any::<u16>())),
        owned in prop::collection::vec(address(), 0..60), unable in prop::collection::vec(address(), 0..60),
    ) -> Packet {
        let kind = if goodbye { Kind::Goodbye } else { Kind::Heartbeat };
        let fragment = fragment.map(|(count, i)| Fragment { index: i % count, count, part: part(owned, unable) });
        let heard = Heard { boot: heard.0, counter: heard.1, statement: heard.2 };
        Packet { kind, boot, counter, from, to, statement, heard, fragment }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_fits(packet in packet()) {
        let bytes = packet.encode(&key());
        prop_assert!(bytes.len() <= MAX_PACKET);
        prop_assert_eq!(Packet::decode(&bytes, &[Key::new(*b"other"), key()]), Ok(packet));
    }

    #[test]
    fn a_packet_that_was_cut_or_lengthened_or_changed_is_refused(packet in packet(), at: prop::sample::Index, bit in 0..8u8) {
        let bytes = packet.encode(&key());
        prop_assert!(Packet::decode(&bytes[..at.index(bytes.len())], &[key()]).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert!(Packet::decode(&longer, &[key()]).is_err());
        let mut mutated = bytes;
        let at = at.index(mutated.len());
        mutated[at] ^= 1 << bit;
        prop_assert!(Packet::decode(&mutated, &[key()]).is_err());
    }

    /// Somebody with the key sends nonsense: whatever comes, it is an answer and no panic.
    #[test]
    fn authenticated_nonsense_is_refused_or_read_but_never_panics(body in prop::collection::vec(any::<u8>(), 0..1100)) {
        let mut bytes = [&MAGIC[..], &[VERSION], &body].concat();
        let tag = key().sign(&bytes);
        bytes.extend_from_slice(&tag);
        if let Ok(packet) = Packet::decode(&bytes, &[key()]) {
            prop_assert_eq!(packet.encode(&key()), bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(Packet::decode(&bytes, &[key()]).is_err());
    }
}

#[test]
fn each_refusal_is_named() {
    let bytes = plain().encode(&key());
    let other = Key::new(*b"another key");
    assert_eq!(Packet::decode(&bytes, std::slice::from_ref(&other)), Err(Reject::Key));
    assert_eq!(Packet::decode(&bytes, &[]), Err(Reject::Key));
    let mut newer = bytes.clone();
    newer[4] = 2;
    assert_eq!(Packet::decode(&newer, &[key()]), Err(Reject::Version(2)));
    assert_eq!(Packet::decode(&bytes[..20], &[key()]), Err(Reject::Malformed));
    assert_eq!(Packet::decode(b"GET / HTTP/1.1\r\nHost: node-a.example.org\r\n\r\n", &[key()]), Err(Reject::Malformed));
    let last = bytes.len() - 40;
    let mut mutated = bytes;
    mutated[last] ^= 1;
    assert_eq!(Packet::decode(&mutated, &[key()]), Err(Reject::Key));
}

/// The layout is a promise to speakers of other versions.
#[test]
fn the_layout_of_version_1() {
    let part = Part { owned: vec!["10.0.0.1".parse().unwrap()], unable: vec!["2001:db8::1".parse().unwrap()] };
    let packet = Packet { fragment: Some(Fragment { index: 0, count: 1, part }), ..plain() };
    let bytes = packet.encode(&key());
    let hex: String = bytes[..bytes.len() - TAG].iter().map(|b| format!("{b:02x}")).collect();
    let parts = [
        "6f786c62",
        "01",
        "01", // magic, version, heartbeat
        "00000000000000010000000000000002",
        "0000000000000003", // boot, counter
        "066e6f64652d61",
        "066e6f64652d62",   // from, to
        "0000000000000004", // statement
        "00000000000000000000000000000005",
        "0000000000000006",
        "0000000000000007", // heard
        "0000",
        "0001",
        "0001",
        "0000",
        "0000",
        "0001", // index, count, owned v4 and v6, unable v4 and v6
        "0a000001",
        "20010db8000000000000000000000001",
    ];
    assert_eq!(hex, parts.concat());
}
