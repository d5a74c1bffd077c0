//! From what a pool names as its interface to the interfaces of this node.

use crate::{NoRoute, Table};
use engine::IfIndex;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Where a pool is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// On these interfaces, as far as the node has them.
    Names(Vec<String>),
    /// On the interface by which the node reaches this address.
    CanReach(IpAddr),
}

/// Why a pool cannot be announced on this node.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// None of the names is there.
    #[error("no interface {} on this node; it has {}", .wanted.join(", "), .present.join(", "))]
    NoInterface {
        /// The names in the pool.
        wanted: Vec<String>,
        /// The names of the node's interfaces that could announce.
        present: Vec<String>,
    },
    /// An interface on which there is no ARP.
    #[error("interface {name} is not an Ethernet, so addresses cannot be announced on it; this node has {}", .present.join(", "))]
    NotEthernet {
        /// Its name.
        name: String,
        /// The names of the node's interfaces that could announce.
        present: Vec<String>,
    },
    /// `can_reach:` leads nowhere.
    #[error("can_reach: {0}")]
    NoRoute(#[from] NoRoute),
}

/// The interfaces that a pool is announced on; at least one. `route` asks the kernel
/// ([`Monitor::route_to`](crate::Monitor::route_to)).
pub fn resolve(
    spec: &Spec,
    table: &Table,
    route: impl FnOnce(IpAddr) -> Result<IfIndex, NoRoute>,
) -> Result<BTreeSet<IfIndex>, Unresolved> {
    let found: BTreeSet<IfIndex> = match spec {
        Spec::Names(names) => names.iter().filter_map(|n| table.index_of(n)).collect(),
        Spec::CanReach(ip) => BTreeSet::from([route(*ip)?]),
    };
    let able: BTreeSet<IfIndex> = found.iter().copied().filter(|i| announces(table, *i)).collect();
    if !able.is_empty() {
        return Ok(able);
    }
    let present = table.links.iter().filter(|(i, _)| announces(table, **i)).map(|(_, l)| l.name.clone()).collect();
    match (found.first(), spec) {
        (Some(index), _) => Err(Unresolved::NotEthernet { name: table.name_of(*index), present }),
        (None, Spec::Names(names)) => Err(Unresolved::NoInterface { wanted: names.clone(), present }),
        (None, Spec::CanReach(ip)) => Err(NoRoute::Unreachable(*ip).into()),
    }
}

fn announces(table: &Table, index: IfIndex) -> bool {
    table.links.get(&index).is_some_and(|l| l.mac.is_some() && !l.loopback)
}
