//! Path attributes as values, and how they are written (RFC 4271 §4.3, §5).

use super::as_path::AsPath;
use super::reader::with_length_16;
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::types::Asn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The attributes that routes share; next hops and prefixes stand beside them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH; on a session of two octets put together with AS4_PATH (RFC 6793).
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; only on internal sessions.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// ORIGINATOR_ID (RFC 4456); only on internal sessions.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456); only on internal sessions.
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub extended_communities: BTreeSet<ExtendedCommunity>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
    /// What has no name here, as received and in that order.
    pub unknown: Vec<Unknown>,
}

/// Where a route came into BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Origin {
    /// 0: it was configured.
    #[default]
    Igp,
    /// 1: from EGP.
    Egp,
    /// 2: from somewhere else.
    Incomplete,
}

/// Who aggregated a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Aggregator {
    /// Its autonomous system.
    pub asn: Asn,
    /// Its address.
    pub id: Ipv4Addr,
}

/// An attribute that has no name here. Only optional ones can be: others end the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unknown {
    /// Its type code.
    pub code: u8,
    /// It may be passed on by who does not know it.
    pub transitive: bool,
    /// Somebody on the way did not know it.
    pub partial: bool,
    /// Its value.
    pub value: Vec<u8>,
}

/// Where packets to a route are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6 {
        /// The global address; a link-local one where the speaker has no other.
        global: Ipv6Addr,
        /// The link-local address, where the next hop shares a link with the receiver (RFC 2545 §3).
        link_local: Option<Ipv6Addr>,
    },
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> NextHop {
        match address {
            IpAddr::V4(a) => NextHop::V4(a),
            IpAddr::V6(global) => NextHop::V6 { global, link_local: None },
        }
    }
}

impl NextHop {
    pub(crate) fn emit(self, out: &mut Vec<u8>) {
        match self {
            NextHop::V4(a) => out.extend(a.octets()),
            NextHop::V6 { global, link_local } => {
                out.extend(global.octets());
                out.extend(link_local.iter().flat_map(|l| l.octets()));
            }
        }
    }

    pub(crate) fn length(self) -> u8 {
        match self {
            NextHop::V4(_) => 4,
            NextHop::V6 { link_local: None, .. } => 16,
            NextHop::V6 { .. } => 32,
        }
    }
}

pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const TRANSITIVE: u8 = 0x40;
pub(crate) const PARTIAL: u8 = 0x20;
pub(crate) const EXTENDED: u8 = 0x10;

/// Type codes of attributes.
pub(crate) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
}

/// The flags that an attribute must have, of optional and transitive; `None` for one that has no name here.
pub(crate) fn flags_of(kind: u8) -> Option<u8> {
    match kind {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => Some(TRANSITIVE),
        code::MED | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MP_REACH | code::MP_UNREACH => Some(OPTIONAL),
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITIES => Some(OPTIONAL | TRANSITIVE),
        _ => None,
    }
}

/// Writes one attribute with the flags of its kind.
pub(crate) fn emit_one(kind: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    emit_flagged(flags_of(kind).unwrap_or(OPTIONAL), kind, out, write);
}

fn emit_flagged(flags: u8, kind: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([flags | EXTENDED, kind]);
    with_length_16(out, write);
    // One octet of length where that is enough: every octet less leaves room for prefixes.
    if out.len() - at - 4 <= 255 {
        out.remove(at + 2);
        if let Some(first) = out.get_mut(at) {
            *first = flags;
        }
    }
}

impl Attributes {
    /// Writes all of them in the order of their codes, as RFC 4271 §5 wants; `next_hop` is NEXT_HOP, for prefixes of
    /// IPv4 in the message itself.
    pub(crate) fn emit(&self, four_octet_as: bool, next_hop: Option<Ipv4Addr>, out: &mut Vec<u8>) {
        let origin = match self.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        };
        emit_one(code::ORIGIN, out, |out| out.push(origin));
        emit_one(code::AS_PATH, out, |out| self.as_path.emit(four_octet_as, out));
        let mut four = |kind, value: Option<[u8; 4]>| {
            if let Some(value) = value {
                emit_one(kind, out, |out| out.extend(value));
            }
        };
        four(code::NEXT_HOP, next_hop.map(|n| n.octets()));
        four(code::MED, self.med.map(u32::to_be_bytes));
        four(code::LOCAL_PREF, self.local_pref.map(u32::to_be_bytes));
        if self.atomic_aggregate {
            emit_one(code::ATOMIC_AGGREGATE, out, |_| ());
        }
        if let Some(a) = self.aggregator {
            emit_one(code::AGGREGATOR, out, |out| a.emit(four_octet_as, out));
        }
        emit_list(code::COMMUNITIES, &self.communities, |c| c.0.to_be_bytes(), out);
        if let Some(id) = self.originator_id {
            emit_one(code::ORIGINATOR_ID, out, |out| out.extend(id.octets()));
        }
        emit_list(code::CLUSTER_LIST, &self.cluster_list, |id| id.octets(), out);
        emit_list(code::EXTENDED_COMMUNITIES, &self.extended_communities, |c| c.0, out);
        if !four_octet_as {
            self.emit_as4(out);
        }
        let large = |c: &LargeCommunity| [c.global, c.local_1, c.local_2].map(u32::to_be_bytes);
        if !self.large_communities.is_empty() {
            emit_one(code::LARGE_COMMUNITIES, out, |out| {
                self.large_communities.iter().for_each(|c| out.extend(large(c).as_flattened()));
            });
        }
        for u in &self.unknown {
            let flags = OPTIONAL | (u8::from(u.transitive) * TRANSITIVE) | (u8::from(u.partial) * PARTIAL);
            emit_flagged(flags, u.code, out, |out| out.extend(&u.value));
        }
    }

    /// RFC 6793 §4.2.2: what two octets could not say, for those behind the receiver.
    fn emit_as4(&self, out: &mut Vec<u8>) {
        let path = self.as_path.without_confederations();
        if path.needs_four_octets() {
            emit_one(code::AS4_PATH, out, |out| path.emit(true, out));
        }
        if let Some(a) = self.aggregator.filter(|a| u16::try_from(a.asn.get()).is_err()) {
            emit_one(code::AS4_AGGREGATOR, out, |out| a.emit(true, out));
        }
    }
}

impl Aggregator {
    fn emit(self, four_octet_as: bool, out: &mut Vec<u8>) {
        if four_octet_as {
            out.extend(self.asn.get().to_be_bytes());
        } else {
            out.extend(self.asn.two_octets().to_be_bytes());
        }
        out.extend(self.id.octets());
    }
}

fn emit_list<'a, T: 'a, const N: usize>(
    kind: u8,
    list: impl IntoIterator<Item = &'a T>,
    octets: impl Fn(&T) -> [u8; N],
    out: &mut Vec<u8>,
) {
    let mut list = list.into_iter().peekable();
    if list.peek().is_some() {
        emit_one(kind, out, |out| list.for_each(|one| out.extend(octets(one))));
    }
}
