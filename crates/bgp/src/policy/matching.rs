//! Conditions, and the sets that they name.

use super::{InvalidPolicy, To, all, file, invalid, lower};
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::prefix::{Family, Prefix};
use crate::routes_out::Path;
use crate::types::Asn;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

type Named<T> = BTreeMap<String, T>;

/// A prefix, and how long those inside it may be.
type Range = (Prefix, RangeInclusive<u8>);

/// All sets of a file.
pub(super) struct Sets {
    prefixes: Named<Vec<Range>>,
    neighbors: Named<Vec<Prefix>>,
    communities: Named<BTreeSet<Community>>,
    extended: Named<BTreeSet<ExtendedCommunity>>,
    large: Named<BTreeSet<LargeCommunity>>,
    as_paths: Named<Vec<AsPattern>>,
}

/// How many of a set must match.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Match {
    Any,
    All,
    /// None.
    Invert,
}

/// The forms of as-path-list that are understood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AsPattern {
    asn: Asn,
    first: bool,
    last: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Prefix(Match, Vec<Range>),
    Neighbor(Match, Vec<Prefix>),
    Communities(Match, BTreeSet<Community>),
    Extended(Match, BTreeSet<ExtendedCommunity>),
    Large(Match, BTreeSet<LargeCommunity>),
    AsPath(Match, Vec<AsPattern>),
    /// From so many to so many.
    AsPathLength(RangeInclusive<usize>),
    /// Our routes are local ones.
    Local(bool),
    NextHop(Vec<Prefix>),
    Families(BTreeSet<Family>),
}

impl Sets {
    pub(super) fn new(written: &file::DefinedSets) -> Result<Sets, InvalidPolicy> {
        let bgp = &written.bgp_defined_sets;
        let mut sets = Sets {
            prefixes: Named::new(),
            neighbors: Named::new(),
            communities: Named::new(),
            extended: Named::new(),
            large: Named::new(),
            as_paths: Named::new(),
        };
        for set in &written.prefix_sets {
            let ranges = set.prefix_list.iter().map(range).collect::<Result<_, _>>()?;
            sets.prefixes.insert(set.prefix_set_name.clone(), ranges);
        }
        for set in &written.neighbor_sets {
            let all = set.neighbor_info_list.iter().map(|text| prefix("neighbor-info-list", text));
            sets.neighbors.insert(set.neighbor_set_name.clone(), all.collect::<Result<_, _>>()?);
        }
        for set in &bgp.community_sets {
            let list =
                all("community-list", &set.community_list, "a community such as 65000:1; patterns are not supported")?;
            sets.communities.insert(set.community_set_name.clone(), list);
        }
        for set in &bgp.ext_community_sets {
            let expected = "an extended community such as rt:65000:1; patterns are not supported";
            let list = all("ext-community-list", &lower(&set.ext_community_list), expected)?;
            sets.extended.insert(set.ext_community_set_name.clone(), list);
        }
        for set in &bgp.large_community_sets {
            let expected = "a large community such as 65000:1:2; patterns are not supported";
            sets.large.insert(
                set.large_community_set_name.clone(),
                all("large-community-list", &set.large_community_list, expected)?,
            );
        }
        for set in &bgp.as_path_sets {
            let list = set.as_path_list.iter().map(|text| as_pattern(text)).collect::<Result<_, _>>()?;
            sets.as_paths.insert(set.as_path_set_name.clone(), list);
        }
        Ok(sets)
    }

    pub(super) fn conditions(&self, written: &file::Conditions) -> Result<Vec<Condition>, InvalidPolicy> {
        let mut found = Vec::new();
        if let Some(m) = &written.match_prefix_set {
            let set = named("prefix-set", &self.prefixes, &m.prefix_set)?;
            found.push(Condition::Prefix(any_or_invert(m.match_set_options.as_deref())?, set));
        }
        if let Some(m) = &written.match_neighbor_set {
            let set = named("neighbor-set", &self.neighbors, &m.neighbor_set)?;
            found.push(Condition::Neighbor(any_or_invert(m.match_set_options.as_deref())?, set));
        }
        let bgp = &written.bgp_conditions;
        if let Some(m) = &bgp.match_community_set {
            let set = named("community-set", &self.communities, &m.community_set)?;
            found.push(Condition::Communities(options(m.match_set_options.as_deref())?, set));
        }
        if let Some(m) = &bgp.match_ext_community_set {
            let set = named("ext-community-set", &self.extended, &m.ext_community_set)?;
            found.push(Condition::Extended(options(m.match_set_options.as_deref())?, set));
        }
        if let Some(m) = &bgp.match_large_community_set {
            let set = named("large-community-set", &self.large, &m.large_community_set)?;
            found.push(Condition::Large(options(m.match_set_options.as_deref())?, set));
        }
        if let Some(m) = &bgp.match_as_path_set {
            let set = named("as-path-set", &self.as_paths, &m.as_path_set)?;
            found.push(Condition::AsPath(options(m.match_set_options.as_deref())?, set));
        }
        if let Some(length) = &bgp.as_path_length {
            let value = usize::try_from(length.value).unwrap_or(usize::MAX);
            found.push(Condition::AsPathLength(match length.operator.trim_start_matches("attribute-") {
                "eq" => value..=value,
                "ge" => value..=usize::MAX,
                "le" => 0..=value,
                other => return Err(invalid("as-path-length", other, "eq, ge or le")),
            }));
        }
        match bgp.route_type.as_deref() {
            None | Some("none") => {}
            Some("local") => found.push(Condition::Local(true)),
            Some("internal" | "external") => found.push(Condition::Local(false)),
            Some(other) => return Err(invalid("route-type", other, "local, internal or external")),
        }
        if !bgp.next_hop_in_list.is_empty() {
            let all = bgp.next_hop_in_list.iter().map(|text| prefix("next-hop-in-list", text));
            found.push(Condition::NextHop(all.collect::<Result<_, _>>()?));
        }
        if !bgp.afi_safi_in_list.is_empty() {
            let family = |text: &String| match text.as_str() {
                "ipv4-unicast" => Ok(Family::Ipv4),
                "ipv6-unicast" => Ok(Family::Ipv6),
                other => Err(invalid("afi-safi-in-list", other, "ipv4-unicast or ipv6-unicast")),
            };
            found.push(Condition::Families(bgp.afi_safi_in_list.iter().map(family).collect::<Result<_, _>>()?));
        }
        Ok(found)
    }
}

fn named<T: Clone>(kind: &'static str, sets: &Named<T>, name: &str) -> Result<T, InvalidPolicy> {
    sets.get(name).cloned().ok_or_else(|| InvalidPolicy::Missing { kind, name: name.to_owned() })
}

fn options(text: Option<&str>) -> Result<Match, InvalidPolicy> {
    match text.unwrap_or("any") {
        "any" => Ok(Match::Any),
        "all" => Ok(Match::All),
        "invert" => Ok(Match::Invert),
        other => Err(invalid("match-set-options", other, "any, all or invert")),
    }
}

/// Of prefixes and neighbours all of a set cannot match.
fn any_or_invert(text: Option<&str>) -> Result<Match, InvalidPolicy> {
    options(text).and_then(|m| match m {
        Match::All => Err(invalid("match-set-options", "all", "any or invert")),
        other => Ok(other),
    })
}

/// A prefix, or an address alone.
fn prefix(field: &'static str, text: &str) -> Result<Prefix, InvalidPolicy> {
    let address = text.parse::<IpAddr>().ok().map(Prefix::host);
    let whole = || text.parse().ok();
    address.or_else(whole).ok_or_else(|| invalid(field, text, "an address or a prefix"))
}

fn range(entry: &file::PrefixEntry) -> Result<Range, InvalidPolicy> {
    let prefix = prefix("ip-prefix", &entry.ip_prefix)?;
    let Some(text) = entry.masklength_range.as_deref().filter(|t| !t.is_empty()) else {
        return Ok((prefix, prefix.length()..=prefix.length()));
    };
    let lengths = text.split_once("..").and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let valid = lengths.filter(|(a, b): &(u8, u8)| a <= b && *b <= prefix.family().bits());
    let (least, most) = valid.ok_or_else(|| invalid("masklength-range", text, "two lengths such as 24..32"))?;
    Ok((prefix, least..=most))
}

/// `_65000_` somewhere, `^65000` first, `65000$` last, `^65000$` alone.
fn as_pattern(text: &str) -> Result<AsPattern, InvalidPolicy> {
    let (first, last) = (text.starts_with('^'), text.ends_with('$'));
    let number = text.trim_start_matches(['^', '_']).trim_end_matches(['$', '_']);
    let asn = number.parse::<u32>().ok().and_then(Asn::new);
    let asn =
        asn.ok_or_else(|| invalid("as-path-list", text, "one AS number, as in _65000_, ^65000_, _65000$ or ^65000$"))?;
    Ok(AsPattern { asn, first, last })
}

impl AsPattern {
    fn matches(self, path: &[Asn]) -> bool {
        match (self.first, self.last) {
            (true, true) => path == [self.asn],
            (true, false) => path.first() == Some(&self.asn),
            (false, true) => path.last() == Some(&self.asn),
            (false, false) => path.contains(&self.asn),
        }
    }
}

/// Whether so many of a set match.
fn matches<T>(how: Match, set: impl IntoIterator<Item = T>, one: impl FnMut(T) -> bool) -> bool {
    let mut set = set.into_iter();
    match how {
        Match::Any => set.any(one),
        Match::All => set.all(one),
        Match::Invert => !set.any(one),
    }
}

impl Condition {
    pub(super) fn holds(&self, to: To, prefix: Prefix, path: &Path) -> bool {
        let a = &path.attributes;
        let within = |list: &[Prefix], ip: IpAddr| list.iter().any(|p| p.contains(Prefix::host(ip)));
        match self {
            Condition::Prefix(how, set) => {
                matches(*how, set, |(p, lengths)| p.contains(prefix) && lengths.contains(&prefix.length()))
            }
            Condition::Neighbor(how, set) => matches(*how, set, |p| p.contains(Prefix::host(to.neighbor))),
            Condition::Communities(how, set) => matches(*how, set, |c| a.communities.contains(c)),
            Condition::Extended(how, set) => matches(*how, set, |c| a.extended_communities.contains(c)),
            Condition::Large(how, set) => matches(*how, set, |c| a.large_communities.contains(c)),
            Condition::AsPath(how, set) => {
                let asns: Vec<Asn> = a.as_path.asns().collect();
                matches(*how, set, |pattern| pattern.matches(&asns))
            }
            Condition::AsPathLength(lengths) => lengths.contains(&a.as_path.hops()),
            Condition::Local(local) => *local,
            Condition::NextHop(list) => {
                let (v4, v6) = to.next_hops;
                let own = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
                own.into_iter().any(|ip| within(list, ip))
            }
            Condition::Families(families) => families.contains(&prefix.family()),
        }
    }
}
