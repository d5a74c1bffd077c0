//! What FRR 8.4, BIRD 2.0, GoBGP 3.10 and ExaBGP 4.2 said in whole sessions, as captured: OPEN, routes of both families
//! with all their attributes, several paths to a prefix, refresh, withdrawals, farewell.

use super::scripted::{OUT, Scripted, us};
use super::*;

pub(crate) const CAPTURES: [(&str, &[u8], usize, &str); 4] = [
    ("FRR", include_bytes!("../captures/frr.bin"), 6, "maintenance until noon"),
    ("BIRD", include_bytes!("../captures/bird.bin"), 6, "maintenance"),
    ("GoBGP", include_bytes!("../captures/gobgp.bin"), 4, "administrative shutdown"),
    ("ExaBGP", include_bytes!("../captures/exabgp.bin"), 2, ""),
];

/// As the speaker was configured when they were captured.
fn config() -> Config {
    let family = FamilyConfig { add_path_receive: true, add_path_send: 10, graceful_restart: true, long_lived: 0 };
    Config {
        families: Family::ALL.into_iter().map(|f| (f, family)).collect(),
        graceful_restart: Some(RestartConfig { restart_time: 60, ..RestartConfig::default() }),
        ..Config::new(asn(50000), us(), asn(50001))
    }
}

/// The messages of a capture, each whole.
pub(crate) fn messages(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut all = vec![];
    while octets.len() >= 19 {
        let (message, rest) = octets.split_at(u16::from_be_bytes([octets[16], octets[17]]).into());
        all.push(message);
        octets = rest;
    }
    assert!(octets.is_empty());
    all
}

#[test]
fn whole_sessions_of_four_daemons_are_understood() {
    for (name, octets, routes, farewell) in CAPTURES {
        let mut s = Scripted::started(config());
        s.up(OUT);
        let mut most = 0;
        for message in messages(octets) {
            s.say_bytes(OUT, message);
            most = most.max(s.received());
        }
        assert_eq!(most, routes, "{name}");
        assert!(s.effects.iter().any(|e| matches!(e, Effect::Established(_))), "{name}: {:?}", s.effects);
        assert!(!s.effects.iter().any(|e| matches!(e, Effect::Damaged(_))), "{name}: {:?}", s.effects);
        if farewell.is_empty() {
            assert_eq!(s.session.state(), State::Established, "{name}");
        } else {
            assert!(s.down().to_string().contains(farewell), "{name}: {}", s.down());
        }
    }
}

#[test]
fn octets_one_by_one_say_the_same() {
    for (name, octets, ..) in CAPTURES {
        let told = |size: usize| {
            let mut s = Scripted::started(config());
            s.up(OUT);
            octets.chunks(size).for_each(|some| s.say_bytes(OUT, some));
            // States that last for no time are not told.
            s.effects.retain(|e| !matches!(e, Effect::State(_)));
            (s.session.received().copied().collect::<Vec<_>>(), s.effects)
        };
        assert_eq!(told(1), told(octets.len()), "{name}");
    }
}

#[test]
fn every_captured_message_can_be_said_again() {
    for (name, octets, ..) in CAPTURES {
        let both = BTreeSet::from(Family::ALL);
        // Who sends path identifiers is seen from the OPENs alone, so each way is tried.
        let codec = |add_path: bool| Codec {
            add_path_receive: if add_path { both.clone() } else { BTreeSet::new() },
            add_path_send: if add_path { both.clone() } else { BTreeSet::new() },
            ..modern()
        };
        for message in messages(octets) {
            let again = [codec(false), codec(true)].iter().any(|codec| {
                let Ok(read) = decode(codec, message) else { return false };
                decode(codec, &encode(codec, &read)).as_ref() == Ok(&read)
            });
            assert!(again, "{name}: {message:02x?}");
        }
    }
}
