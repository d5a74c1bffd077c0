//! How a route looks to a peer.

use crate::community::Community;
use crate::config::NextHops;
use crate::prefix::Family;
use crate::routes_out::Path;
use crate::types::Asn;
use crate::wire::{Attributes, Codec, NextHop, Reach, Update};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The preference of a route on internal sessions that names none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Why a route cannot be said to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unsendable {
    /// It has no next hop of its family, and the peer takes none of the other (RFC 8950).
    NextHop,
    /// Its attributes leave no room for a prefix in a message.
    TooLong,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsendable::NextHop => {
                "it has no next hop of its address family; set one, or let the router accept IPv6 next hops for IPv4"
            }
            Unsendable::TooLong => "its attributes leave no room for a prefix in a message",
        })
    }
}

/// Who says it to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) local_as: Asn,
    pub(crate) next_hops: NextHops,
    /// Our end of the connection.
    pub(crate) local: IpAddr,
    /// We are about to leave (RFC 8326).
    pub(crate) draining: bool,
}

impl Export {
    /// A message without prefixes yet, and how many octets its attributes take.
    pub(crate) fn update(&self, family: Family, path: &Path, codec: &Codec) -> Result<(Update, usize), Unsendable> {
        let next_hop = self.next_hop(family, path, codec)?;
        let mut update = Update { attributes: self.attributes(&path.attributes, codec.internal), ..Update::default() };
        match (family, next_hop) {
            (Family::Ipv4, NextHop::V4(hop)) => update.next_hop = Some(hop),
            _ => update.mp_reach = Some(Reach { family, next_hop, nlri: Vec::new() }),
        }
        let mut octets = Vec::new();
        update.attributes.emit(codec.four_octet_as, update.next_hop, &mut octets);
        // MP_REACH_NLRI: flags, code, length of two octets, family, length of the next hop, a reserved octet.
        let multiprotocol = update.mp_reach.as_ref().map_or(0, |r| 9 + usize::from(r.next_hop.length()));
        Ok((update, octets.len() + multiprotocol))
    }

    fn attributes(&self, attributes: &Attributes, internal: bool) -> Attributes {
        let mut a = attributes.clone();
        if internal {
            let preference = a.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
            a.local_pref = Some(if self.draining { 0 } else { preference });
        } else {
            a.as_path.prepend(self.local_as, 1);
            a.local_pref = None;
            a.originator_id = None;
            a.cluster_list.clear();
        }
        if self.draining {
            a.communities.insert(Community::GRACEFUL_SHUTDOWN);
        }
        a
    }

    fn next_hop(&self, family: Family, path: &Path, codec: &Codec) -> Result<NextHop, Unsendable> {
        let v6_allowed = family == Family::Ipv6 || codec.extended_next_hop.contains(&family);
        let own = || match family {
            Family::Ipv4 => self.ipv4().or_else(|| self.ipv6()),
            Family::Ipv6 => self.ipv6(),
        };
        match path.next_hop.or_else(own) {
            Some(hop @ NextHop::V4(_)) if family == Family::Ipv4 => Ok(hop),
            Some(hop @ NextHop::V6 { .. }) if v6_allowed => Ok(hop),
            _ => Err(Unsendable::NextHop),
        }
    }

    fn ipv4(&self) -> Option<NextHop> {
        let local = if let IpAddr::V4(local) = self.local { Some(local) } else { None };
        self.next_hops.ipv4.or(local).map(NextHop::V4)
    }

    fn ipv6(&self) -> Option<NextHop> {
        let local = if let IpAddr::V6(local) = self.local { Some(local) } else { None };
        let link_local = self.next_hops.link_local.or(local.filter(Ipv6Addr::is_unicast_link_local));
        // A link-local address stands alone only where there is no other (RFC 2545 §3).
        let global = self.next_hops.ipv6.or(local.filter(|l| !l.is_unicast_link_local())).or(link_local)?;
        Some(NextHop::V6 { global, link_local: link_local.filter(|l| *l != global) })
    }
}
