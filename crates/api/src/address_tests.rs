use super::*;
use proptest::prelude::*;

fn set(text: &str) -> AddressSet {
    text.parse().unwrap()
}

#[test]
fn every_form_that_openelb_takes_has_the_same_size() {
    for (text, size) in [
        ("10.0.0.5", 1),
        ("10.0.0.5/24", 256),
        ("10.0.0.5/32", 1),
        ("0.0.0.0/0", 1 << 32),
        ("10.0.0.1-10.0.0.9", 9),
        ("FD00::/120", 256),
        ("fd00::1-fd00::ff", 255),
        ("fd00::/66", 1 << 62),
        ("fd00::/64", 1 << 64), // D25
        ("::/1", 1 << 127),
        (" 10.0.0.1 - 10.0.0.2 , 10.0.0.3", 3),
    ] {
        assert_eq!(set(text).size(), size, "{text}");
    }
    assert_eq!(set("::/0").size(), u128::MAX);
}

#[test]
fn bad_text_is_refused_by_what_is_wrong_with_it() {
    use InvalidAddresses::*;
    for (text, want) in [
        ("", Empty),
        (" , 10.0.0.1", Empty),
        ("10.0.0.1,", Empty),
        ("10.0.0.9-10.0.0.1", Reversed("10.0.0.9-10.0.0.1".into())),
        ("10.0.0.1-fd00::1", MixedFamilies("10.0.0.1-fd00::1".into())),
        ("10.0.0.1-10.0.0.2-10.0.0.3", Unparsable("10.0.0.1-10.0.0.2-10.0.0.3".into())),
        ("10.0.0.0/255.255.255.0", Unparsable("10.0.0.0/255.255.255.0".into())),
        ("10.0.0.0/33", Unparsable("10.0.0.0/33".into())),
        ("10.0.0.0/+8", Unparsable("10.0.0.0/+8".into())),
        ("10.0.0.0/", Unparsable("10.0.0.0/".into())),
        ("010.0.0.1", Unparsable("010.0.0.1".into())),
        ("fe80::1%eth0", Unparsable("fe80::1%eth0".into())),
    ] {
        assert_eq!(text.parse::<AddressSet>(), Err(want), "{text}");
    }
}

#[test]
fn text_of_a_set_is_short_and_sorted() {
    assert_eq!(set("10.0.0.4,fd00::1,10.0.0.0/30").to_string(), "10.0.0.0-10.0.0.4,fd00::1");
}

fn small_set() -> impl Strategy<Value = AddressSet> {
    proptest::collection::vec((any::<bool>(), 0u128..64, 0u128..16), 0..8).prop_map(|v| {
        AddressSet::new(v.into_iter().map(|(v4, first, more)| {
            let family = if v4 { Family::V4 } else { Family::V6 };
            Range::new(family.address(first), family.address(first + more)).unwrap()
        }))
    })
}

fn members(set: &AddressSet) -> Vec<IpAddr> {
    [Family::V4, Family::V6]
        .iter()
        .flat_map(|f| (0..100).map(|n| f.address(n)))
        .filter(|ip| set.contains(*ip))
        .collect()
}

proptest! {
    #[test]
    fn sets_behave_as_sets(a in small_set(), b in small_set()) {
        let (in_a, in_b) = (members(&a), members(&b));
        prop_assert_eq!(a.size(), in_a.len() as u128);
        prop_assert_eq!(members(&a.minus(&b)), in_a.iter().copied().filter(|ip| !in_b.contains(ip)).collect::<Vec<_>>());
        prop_assert_eq!(a.overlap(&b).map(|r| r.first()), in_a.iter().copied().find(|ip| in_b.contains(ip)));
        prop_assert_eq!(a.overlap(&b).is_some(), b.overlap(&a).is_some());
    }

    #[test]
    fn text_round_trips(a in small_set()) {
        prop_assume!(!a.is_empty());
        prop_assert_eq!(a.to_string().parse::<AddressSet>().unwrap(), a);
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,40}") {
        let _ = text.parse::<AddressSet>();
    }
}
