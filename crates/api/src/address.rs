//! Sets of addresses, as ranges: what `Eip.spec.address` and `Eip.spec.exclude` say.
//!
//! ```text
//! 192.0.2.7, 198.51.100.0/24, 203.0.113.10-203.0.113.20, 2001:db8::/64
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address with this number in the family; for IPv4 only the low 32 bits count.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from((number & u128::from(u32::MAX)) as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// The number of an address within its family.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The addresses from `first` to `last`, both included, of one family; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    family: Family,
    first: u128,
    last: u128,
}

impl Range {
    /// `None` when the families differ or `last` comes before `first`.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Range> {
        let family = Family::of(first);
        let range = Range { family, first: number(first), last: number(last) };
        (family == Family::of(last) && range.first <= range.last).then_some(range)
    }

    /// The range of one address.
    pub fn single(ip: IpAddr) -> Range {
        Range { family: Family::of(ip), first: number(ip), last: number(ip) }
    }

    /// The family of all of its addresses.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.family.address(self.first)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.family.address(self.last)
    }

    /// The numbers of the lowest and the highest address.
    pub fn numbers(&self) -> (u128, u128) {
        (self.first, self.last)
    }

    /// How many addresses; saturates at `u128::MAX` for all of IPv6.
    pub fn size(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The addresses that both have.
    pub fn intersection(&self, other: &Range) -> Option<Range> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family == other.family && first <= last).then_some(Range { family: self.family, first, last })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first())
        } else {
            write!(f, "{}-{}", self.first(), self.last())
        }
    }
}

impl FromStr for Range {
    type Err = InvalidAddresses;

    /// One address, one CIDR (host bits are ignored, as OpenELB does) or `first-last`, spaces allowed (compat §3.3).
    fn from_str(text: &str) -> Result<Range, InvalidAddresses> {
        let text = text.trim();
        let unparsable = || InvalidAddresses::Unparsable(text.to_owned());
        if text.is_empty() {
            return Err(InvalidAddresses::Empty);
        }
        if let Some((address, length)) = text.split_once('/') {
            let ip: IpAddr = address.trim().parse().map_err(|_| unparsable())?;
            let family = Family::of(ip);
            let length = Some(length.trim())
                .filter(|l| l.bytes().all(|b| b.is_ascii_digit()) && (l.len() == 1 || !l.starts_with('0')))
                .and_then(|l| l.parse::<u32>().ok())
                .filter(|l| *l <= family.bits())
                .ok_or_else(unparsable)?;
            let host =
                if length == 0 && family == Family::V6 { u128::MAX } else { (1u128 << (family.bits() - length)) - 1 };
            let first = number(ip) & !host;
            return Ok(Range { family, first, last: first | host });
        }
        if let Some((first, last)) = text.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| unparsable())?;
            let last: IpAddr = last.trim().parse().map_err(|_| unparsable())?;
            if Family::of(first) != Family::of(last) {
                return Err(InvalidAddresses::MixedFamilies(text.to_owned()));
            }
            return Range::new(first, last).ok_or_else(|| InvalidAddresses::Reversed(text.to_owned()));
        }
        text.parse().map(Range::single).map_err(|_| unparsable())
    }
}

/// Why a text names no set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddresses {
    /// Nothing, or nothing between two commas.
    #[error(
        "invalid eip address format: an address is missing; write an address, a CIDR, a range first-last, or several joined by commas"
    )]
    Empty,
    /// Not an address, a CIDR or a range.
    #[error("invalid eip address format: {0:?} is neither an address, nor a CIDR, nor a range first-last")]
    Unparsable(String),
    /// The last address comes before the first.
    #[error("invalid eip address format: the range {0:?} is reversed; write the lower address first")]
    Reversed(String),
    /// One end is IPv4, the other IPv6.
    #[error("invalid eip address format: the range {0:?} mixes IPv4 and IPv6; write one range for each")]
    MixedFamilies(String),
}

/// Any number of addresses of both families, kept as ascending ranges that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressSet {
    ranges: Vec<Range>,
}

impl AddressSet {
    /// The set of the addresses in any of `ranges`.
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> AddressSet {
        let mut all: Vec<Range> = ranges.into_iter().collect();
        all.sort_unstable();
        let mut merged: Vec<Range> = Vec::with_capacity(all.len());
        for range in all {
            match merged.last_mut() {
                Some(end) if end.family == range.family && range.first <= end.last.saturating_add(1) => {
                    end.last = end.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        AddressSet { ranges: merged }
    }

    /// Its ranges, IPv4 first, ascending.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// True without any address.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many addresses; saturates at `u128::MAX`.
    pub fn size(&self) -> u128 {
        self.ranges.iter().fold(0, |sum, r| sum.saturating_add(r.size()))
    }

    /// Whether the address is in the set.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (family, n) = (Family::of(ip), number(ip));
        let after = self.ranges.partition_point(|r| (r.family, r.first) <= (family, n));
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|r| r.family == family && n <= r.last)
    }

    /// Whether it has any address of the family.
    pub fn has_family(&self, family: Family) -> bool {
        self.ranges.iter().any(|r| r.family == family)
    }

    /// The lowest addresses that both have, as one range; `None` when they have none in common.
    pub fn overlap(&self, other: &AddressSet) -> Option<Range> {
        self.ranges.iter().flat_map(|a| other.ranges.iter().filter_map(|b| a.intersection(b))).min()
    }

    /// Its addresses that are not in `other`.
    pub fn minus(&self, other: &AddressSet) -> AddressSet {
        let mut left = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let mut rest = Some(*range);
            for hole in other.ranges.iter().filter_map(|h| range.intersection(h)) {
                let Some(now) = rest else { break };
                if now.first < hole.first {
                    left.push(Range { last: hole.first - 1, ..now });
                }
                rest = (hole.last < now.last).then(|| Range { first: hole.last + 1, ..now });
            }
            left.extend(rest);
        }
        AddressSet { ranges: left }
    }
}

impl FromStr for AddressSet {
    type Err = InvalidAddresses;
    fn from_str(text: &str) -> Result<AddressSet, InvalidAddresses> {
        Ok(AddressSet::new(text.split(',').map(Range::from_str).collect::<Result<Vec<_>, _>>()?))
    }
}

impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
