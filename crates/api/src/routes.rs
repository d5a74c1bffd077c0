//! How routers are told of a pool's addresses, as users write it, and as the rest of oxelb reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What routes to a pool's addresses say besides the address, and to whom.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesSpec {
    /// Communities: 65000:1 (RFC 1997), 65000:1:2 (large, RFC 8092), or a well-known name such as no-export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<Vec<String>>,
    /// LOCAL_PREF, said to routers of our own AS; 100 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<i64>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<i64>,
    /// So many times more our AS number is in the path, for routers of another AS; 0 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_path_prepend: Option<i64>,
    /// Announce prefixes of this length instead of single IPv4 addresses, 1 to 32: each while an address in it is
    /// announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_length: Option<i64>,
    /// The same for IPv6, 1 to 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_length_v6: Option<i64>,
    /// The names of the BgpPeers that are told. Empty means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<String>>,
}

/// A [`RoutesSpec`] that was understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteOptions {
    /// Of RFC 1997.
    pub communities: BTreeSet<u32>,
    /// Of RFC 8092.
    pub large_communities: BTreeSet<(u32, u32, u32)>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// 0 to 10.
    pub prepend: u8,
    /// The length of IPv4 prefixes, 1 to 32.
    pub length_v4: u8,
    /// The length of IPv6 prefixes, 1 to 128.
    pub length_v6: u8,
    /// The BgpPeers that are told; none is all.
    pub peers: BTreeSet<String>,
}

/// Why a [`RoutesSpec`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoutes {
    /// No community.
    #[error(
        "communities: {0:?} is none; write 65000:1, 65000:1:2, or one of {names}", names = WELL_KNOWN.map(|(name, _)| name).join(", ")
    )]
    Community(String),
    /// Out of range.
    #[error("{field} is from {least} to {most}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// The least.
        least: i64,
        /// The most.
        most: i64,
        /// What was written.
        value: i64,
    },
}

/// IANA's registry of well-known communities, as far as it makes sense to send them.
const WELL_KNOWN: [(&str, u32); 6] = [
    ("graceful-shutdown", 0xffff_0000),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

impl Default for RouteOptions {
    fn default() -> RouteOptions {
        RouteOptions {
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            local_pref: None,
            med: None,
            prepend: 0,
            length_v4: 32,
            length_v6: 128,
            peers: BTreeSet::new(),
        }
    }
}

impl TryFrom<&RoutesSpec> for RouteOptions {
    type Error = InvalidRoutes;
    fn try_from(spec: &RoutesSpec) -> Result<RouteOptions, InvalidRoutes> {
        let u32 = |field, value: Option<i64>| value.map(|v| within(field, v, 0, u32::MAX.into())).transpose();
        let u8 = |field, value: Option<i64>, least, most: u8, otherwise| match value {
            Some(value) => within(field, value, least, most.into()).map(|n| u8::try_from(n).unwrap_or(most)),
            None => Ok(otherwise),
        };
        let mut options = RouteOptions {
            local_pref: u32("localPref", spec.local_pref)?,
            med: u32("med", spec.med)?,
            prepend: u8("asPathPrepend", spec.as_path_prepend, 0, 10, 0)?,
            length_v4: u8("aggregationLength", spec.aggregation_length, 1, 32, 32)?,
            length_v6: u8("aggregationLengthV6", spec.aggregation_length_v6, 1, 128, 128)?,
            peers: spec.peers.iter().flatten().cloned().collect(),
            ..RouteOptions::default()
        };
        for text in spec.communities.iter().flatten() {
            let invalid = || InvalidRoutes::Community(text.clone());
            let known = WELL_KNOWN.iter().find(|(name, _)| name == text);
            let parts: Vec<&str> = text.split(':').collect();
            match (known, parts.as_slice()) {
                (Some((_, community)), _) => drop(options.communities.insert(*community)),
                (None, [a, b]) => {
                    let half = |part: &str| part.parse::<u16>().map_err(|_| invalid());
                    options.communities.insert(u32::from(half(a)?) << 16 | u32::from(half(b)?));
                }
                (None, [a, b, c]) => {
                    let part = |part: &str| part.parse::<u32>().map_err(|_| invalid());
                    options.large_communities.insert((part(a)?, part(b)?, part(c)?));
                }
                _ => return Err(invalid()),
            }
        }
        Ok(options)
    }
}

fn within(field: &'static str, value: i64, least: i64, most: i64) -> Result<u32, InvalidRoutes> {
    let valid = u32::try_from(value).ok().filter(|_| (least..=most).contains(&value));
    valid.ok_or(InvalidRoutes::Range { field, least, most, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value) -> Result<RouteOptions, InvalidRoutes> {
        let spec: RoutesSpec = serde_json::from_value(spec).unwrap();
        RouteOptions::try_from(&spec)
    }

    #[test]
    fn communities_are_of_two_or_three_numbers_or_known_by_name() {
        let options = read(json!({"communities": ["65000:1", "65000:4000000000:2", "no-export"]})).unwrap();
        assert_eq!(options.communities, [65000 << 16 | 1, 0xffff_ff01].into());
        assert_eq!(options.large_communities, [(65000, 4_000_000_000, 2)].into());
        for bad in ["", "1", "65536:1", "1:2:3:4", "a:b", "no-such", "-1:2", "1:"] {
            assert_eq!(read(json!({"communities": [bad]})), Err(InvalidRoutes::Community(bad.to_owned())));
        }
        let text = InvalidRoutes::Community("x".into()).to_string();
        assert!(text.contains("no-export") && text.contains("65000:1"), "{text}");
    }

    #[test]
    fn numbers_have_their_ranges() {
        assert_eq!(read(json!({})), Ok(RouteOptions::default()));
        for (field, bad) in [
            ("localPref", json!(-1)),
            ("med", json!(4_294_967_296_i64)),
            ("asPathPrepend", json!(11)),
            ("aggregationLength", json!(33)),
            ("aggregationLength", json!(0)),
            ("aggregationLengthV6", json!(129)),
        ] {
            let error = read(json!({ field: bad })).unwrap_err();
            assert!(matches!(error, InvalidRoutes::Range { field: f, .. } if f == field), "{error}");
        }
    }
}
