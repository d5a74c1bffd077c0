//! Every class of malformed attribute of RFC 7606, with the treatment that it demands.

use super::*;

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const NET: &[u8] = &[24, 198, 51, 100];

#[derive(Debug, PartialEq)]
enum Outcome {
    /// The routes stand; so many faults led to a discard.
    Stands(usize),
    Withdrawn,
    Disabled(Family),
    Reset(u8, u8),
}
use Outcome::*;

fn outcome(codec: &Codec, bytes: &[u8]) -> Outcome {
    match decode(codec, bytes) {
        Err(malformed) => {
            let [code, subcode] = malformed.notification().code.octets();
            Reset(code, subcode)
        }
        Ok(Message::Update(update)) => match update.faults.iter().map(|f| f.treatment).max() {
            Some(Treatment::DisableFamily(numbers)) => Disabled(numbers.family().unwrap()),
            Some(Treatment::TreatAsWithdraw) => {
                assert_eq!(update.coming().count(), 0);
                assert!(update.gone().count() > 0);
                Withdrawn
            }
            _ => {
                assert!(update.coming().count() > 0);
                Stands(update.faults.len())
            }
        },
        other => panic!("{other:?}"),
    }
}

/// An announcement with the three mandatory attributes and these.
fn with(extra: &[u8]) -> Vec<u8> {
    update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, extra].concat(), NET)
}

/// An announcement of these attributes alone.
fn of(attributes: &[&[u8]]) -> Vec<u8> {
    update(&[], &attributes.concat(), NET)
}

fn external() -> Codec {
    modern()
}

fn internal() -> Codec {
    Codec { internal: true, ..modern() }
}

fn two_octets() -> Codec {
    Codec { four_octet_as: false, ..modern() }
}

#[test]
fn what_is_right_stands() {
    assert_eq!(outcome(&external(), &with(&[])), Stands(0));
    assert_eq!(outcome(&external(), &with(&[0x80, 4, 4, 0, 0, 0, 1])), Stands(0));
    assert_eq!(outcome(&internal(), &with(&[0x40, 5, 4, 0, 0, 0, 100])), Stands(0));
    // §3 a: an extended length where none is needed is no error.
    assert_eq!(outcome(&external(), &of(&[&[0x50, 1, 0, 1, 0], AS_PATH, NEXT_HOP])), Stands(0));
    // An optional attribute that nobody knows.
    assert_eq!(outcome(&external(), &with(&[0xc0, 200, 2, 1, 2])), Stands(0));
}

#[test]
fn origin() {
    for bad in [&[0x40, 1, 1, 3][..], &[0x40, 1, 0], &[0x40, 1, 2, 0, 0]] {
        assert_eq!(outcome(&external(), &of(&[bad, AS_PATH, NEXT_HOP])), Withdrawn, "{bad:?}");
    }
}

#[test]
fn as_path() {
    for bad in [
        &[0x40, 2, 6, 5, 1, 0, 0, 0xfd, 0xe8][..], // unknown kind of segment
        &[0x40, 2, 6, 0, 1, 0, 0, 0xfd, 0xe8],     // kind 0
        &[0x40, 2, 6, 2, 2, 0, 0, 0xfd, 0xe8],     // runs over the end
        &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe8, 2],  // one octet is left
        &[0x40, 2, 2, 2, 0],                       // an empty segment
        &[0x40, 2, 6, 2, 1, 0, 0, 0, 0],           // AS 0 (RFC 7607)
        &[0x40, 2, 6, 3, 1, 0, 0, 0xfd, 0xe8],     // confederation on an external session (RFC 5065)
    ] {
        assert_eq!(outcome(&external(), &of(&[ORIGIN, bad, NEXT_HOP])), Withdrawn, "{bad:?}");
    }
    assert_eq!(outcome(&internal(), &of(&[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0xfd, 0xe8], NEXT_HOP])), Stands(0));
    assert_eq!(outcome(&internal(), &of(&[ORIGIN, &[0x40, 2, 0], NEXT_HOP])), Stands(0), "an empty path is right");
}

#[test]
fn next_hop() {
    for bad in [&[0x40, 3, 3, 192, 0, 2][..], &[0x40, 3, 5, 192, 0, 2, 1, 0], &[0x40, 3, 0]] {
        assert_eq!(outcome(&external(), &of(&[ORIGIN, AS_PATH, bad])), Withdrawn, "{bad:?}");
    }
}

#[test]
fn values_of_a_wrong_length_withdraw() {
    for bad in [
        &[0x80, 4, 3, 0, 0, 1][..], // MULTI_EXIT_DISC
        &[0xc0, 8, 0],              // COMMUNITIES
        &[0xc0, 8, 5, 0, 0, 0, 1, 0],
        &[0xc0, 16, 0], // EXTENDED COMMUNITIES
        &[0xc0, 16, 9, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        &[0xc0, 32, 0], // LARGE_COMMUNITY
        &[0xc0, 32, 4, 0, 0, 0, 1],
    ] {
        assert_eq!(outcome(&external(), &with(bad)), Withdrawn, "{bad:?}");
        assert_eq!(outcome(&internal(), &with(bad)), Withdrawn, "{bad:?}");
    }
}

#[test]
fn values_of_a_wrong_length_that_nobody_needs_are_left_out() {
    for bad in [&[0x40, 6, 1, 0][..], &[0xc0, 7, 6, 0, 1, 192, 0, 2, 1], &[0xc0, 7, 8, 0, 0, 0, 0, 192, 0, 2, 1]] {
        assert_eq!(outcome(&external(), &with(bad)), Stands(1), "{bad:?}");
    }
}

#[test]
fn attributes_of_internal_sessions() {
    for (good, bad) in [
        (&[0x40, 5, 4, 0, 0, 0, 1][..], &[0x40, 5, 3, 0, 0, 1][..]), // LOCAL_PREF
        (&[0x80, 9, 4, 192, 0, 2, 1], &[0x80, 9, 5, 192, 0, 2, 1, 0]), // ORIGINATOR_ID
        (&[0x80, 10, 4, 192, 0, 2, 1], &[0x80, 10, 0]),              // CLUSTER_LIST
        (&[0x80, 10, 4, 192, 0, 2, 1], &[0x80, 10, 5, 192, 0, 2, 1, 0]),
    ] {
        assert_eq!(outcome(&internal(), &with(good)), Stands(0), "{good:?}");
        assert_eq!(outcome(&internal(), &with(bad)), Withdrawn, "{bad:?}");
        assert_eq!(outcome(&external(), &with(good)), Stands(1), "{good:?}");
        assert_eq!(outcome(&external(), &with(bad)), Stands(1), "{bad:?}");
    }
}

#[test]
fn flags_of_another_kind_withdraw() {
    for bad in
        [&[0xc0, 4, 4, 0, 0, 0, 1][..], &[0x80, 8, 4, 0, 0, 0, 1], &[0x40, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]]
    {
        assert_eq!(outcome(&external(), &with(bad)), Withdrawn, "{bad:?}");
    }
    assert_eq!(outcome(&external(), &of(&[&[0x80, 1, 1, 0], AS_PATH, NEXT_HOP])), Withdrawn);
    let transitive =
        [0xc0, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0xd, 0xb8];
    assert_eq!(outcome(&external(), &update(&[], &[&transitive[..], ORIGIN, AS_PATH].concat(), &[])), Withdrawn);
}

#[test]
fn a_missing_mandatory_attribute_withdraws() {
    assert_eq!(outcome(&external(), &of(&[AS_PATH, NEXT_HOP])), Withdrawn);
    assert_eq!(outcome(&external(), &of(&[ORIGIN, NEXT_HOP])), Withdrawn);
    assert_eq!(outcome(&external(), &of(&[ORIGIN, AS_PATH])), Withdrawn);
    // Withdrawing alone needs none, in whatever order they stand.
    let gone = decode(&external(), &update(NET, &[], &[])).unwrap();
    let Message::Update(gone) = gone else { panic!() };
    assert!(gone.faults.is_empty() && gone.withdrawn == [nlri("198.51.100.0/24")]);
}

#[test]
fn of_attributes_that_are_there_twice_the_first_counts() {
    let twice = of(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 4, 0, 0, 0, 1], &[0x80, 4, 4, 0, 0, 0, 2]]);
    assert_eq!(outcome(&external(), &twice), Stands(1));
    let Ok(Message::Update(update)) = decode(&external(), &twice) else { panic!() };
    assert_eq!(update.attributes.med, Some(1));
}

#[test]
fn an_attribute_over_the_end_withdraws_and_lengths_that_contradict_reset() {
    assert_eq!(outcome(&external(), &with(&[0xc0, 8, 8, 0, 0, 0, 1])), Withdrawn);
    assert_eq!(outcome(&external(), &with(&[0xd0, 8, 0xff])), Withdrawn);
    assert_eq!(outcome(&external(), &with(&[0x40])), Withdrawn);
    assert_eq!(outcome(&external(), &framed(2, &[0, 9, 0, 0])), Reset(3, 1));
    assert_eq!(outcome(&external(), &framed(2, &[0, 0, 0xff, 0xff])), Reset(3, 1));
}

#[test]
fn prefixes_that_cannot_be_read() {
    assert_eq!(
        outcome(&external(), &update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), &[33, 1, 2, 3, 4, 5])),
        Reset(3, 10)
    );
    assert_eq!(outcome(&external(), &update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), &[24, 1, 2])), Reset(3, 10));
    assert_eq!(outcome(&external(), &update(&[33, 1, 2, 3, 4, 5], &[], &[])), Reset(3, 10));
}

fn reach(next_hop: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut value = vec![0, 2, 1, next_hop.len() as u8];
    value.extend(next_hop);
    value.extend(rest);
    let mut out = vec![0x80, 14, value.len() as u8];
    out.extend(value);
    out
}

#[test]
fn multiprotocol_attributes() {
    let hop = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let alone = |reach: Vec<u8>| update(&[], &[&reach[..], ORIGIN, AS_PATH].concat(), &[]);
    assert_eq!(outcome(&external(), &alone(reach(&hop, &[0, 32, 0x20, 1, 0xd, 0xb8]))), Stands(0));
    // §7.11: the length of the next hop; §5.3: prefixes.
    assert_eq!(outcome(&external(), &alone(reach(&hop[..5], &[0, 32, 0x20, 1, 0xd, 0xb8]))), Disabled(Family::Ipv6));
    assert_eq!(outcome(&external(), &alone(reach(&hop, &[0, 129, 0x20, 1]))), Disabled(Family::Ipv6));
    assert_eq!(outcome(&external(), &alone(reach(&hop, &[0, 32, 0x20]))), Disabled(Family::Ipv6));
    assert_eq!(outcome(&external(), &alone(reach(&hop, &[]))), Disabled(Family::Ipv6));
    assert_eq!(outcome(&external(), &update(&[], &[0x80, 15, 5, 0, 2, 1, 64, 0x20], &[])), Disabled(Family::Ipv6));
    // §3 g: twice; and one that does not even name its family.
    let twice = [reach(&hop, &[0, 0]), reach(&hop, &[0, 0])].concat();
    assert_eq!(outcome(&external(), &update(&[], &twice, &[])), Reset(3, 1));
    assert_eq!(outcome(&external(), &update(&[], &[0x80, 14, 2, 0, 2], &[])), Reset(3, 9));
    // A family that was not agreed upon is left out, the rest stands.
    let evpn = [0x80, 15, 3, 0, 25, 70];
    assert_eq!(outcome(&external(), &with(&evpn)), Stands(1));
}

#[test]
fn a_next_hop_of_the_other_family_needs_agreement() {
    let mut value = vec![0x80, 14, 22, 0, 1, 1, 16];
    value.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 10]);
    value[2] = (value.len() - 3) as u8;
    let message = update(&[], &[&value[..], ORIGIN, AS_PATH].concat(), &[]);
    assert_eq!(outcome(&external(), &message), Stands(0));
    let without = Codec { extended_next_hop: BTreeSet::new(), ..external() };
    assert_eq!(outcome(&without, &message), Disabled(Family::Ipv4));
}

#[test]
fn an_unknown_well_known_attribute_resets_and_is_sent_back() {
    let bytes = with(&[0x40, 99, 1, 7]);
    assert_eq!(outcome(&external(), &bytes), Reset(3, 2));
    assert_eq!(decode(&external(), &bytes).unwrap_err().notification().data, [0x40, 99, 1, 7]);
}

#[test]
fn attributes_of_two_octet_sessions() {
    const TWO: &[u8] = &[0x40, 2, 4, 2, 1, 0x5b, 0xa0];
    let message = |extra: &[u8]| of(&[ORIGIN, TWO, NEXT_HOP, extra]);
    let as4 = [0xc0, 17, 6, 2, 1, 0, 3, 0xd, 0x40];
    let Ok(Message::Update(update)) = decode(&two_octets(), &message(&as4)) else { panic!() };
    assert_eq!(update.attributes.as_path, AsPath::sequence([asn(200_000)]));
    // RFC 6793 §6: a malformed AS4_PATH is left out.
    for bad in [&[0xc0, 17, 6, 2, 2, 0, 3, 0xd, 0x40][..], &[0xc0, 17, 3, 2, 1, 0], &[0xc0, 18, 6, 0, 1, 192, 0, 2, 1]]
    {
        assert_eq!(outcome(&two_octets(), &message(bad)), Stands(1), "{bad:?}");
    }
    // On a session of four octets it has no place.
    assert_eq!(outcome(&external(), &with(&as4)), Stands(1));
}

#[test]
fn the_strongest_of_several_treatments_counts() {
    let both = with(&[0x40, 6, 1, 0, 0x80, 4, 3, 0, 0, 1]);
    assert_eq!(outcome(&external(), &both), Withdrawn);
    assert!(Treatment::AttributeDiscard < Treatment::TreatAsWithdraw);
    assert!(Treatment::TreatAsWithdraw < Treatment::DisableFamily(Family::Ipv4.afi_safi()));
}
