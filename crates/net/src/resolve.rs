//! From what a pool names as its interface to the interfaces of this node.

use crate::{LinkState, Monitor, NoRoute, Table};
use engine::IfIndex;
use std::collections::BTreeSet;
use std::net::IpAddr;

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

/// The interfaces with these names, as far as the node has them; at least one.
pub fn resolve_names(names: &[String], table: &Table) -> Result<BTreeSet<IfIndex>, Unresolved> {
    let found: Vec<IfIndex> = names.iter().filter_map(|n| table.index_of(n)).collect();
    if found.is_empty() {
        return Err(Unresolved::NoInterface { wanted: names.to_vec(), present: present(table) });
    }
    able(&found, table)
}

/// The interface by which the node reaches `ip` now: what `can_reach:` means.
pub fn resolve_route(ip: IpAddr, monitor: &Monitor) -> Result<BTreeSet<IfIndex>, Unresolved> {
    able(&[monitor.route_to(ip)?], monitor.table())
}

fn able(found: &[IfIndex], table: &Table) -> Result<BTreeSet<IfIndex>, Unresolved> {
    let announces = |i: &IfIndex| table.links.get(i).is_some_and(LinkState::announces);
    let able: BTreeSet<IfIndex> = found.iter().copied().filter(announces).collect();
    match found.first() {
        Some(first) if able.is_empty() => {
            Err(Unresolved::NotEthernet { name: table.name_of(*first), present: present(table) })
        }
        _ => Ok(able),
    }
}

/// The interfaces that could announce.
fn present(table: &Table) -> Vec<String> {
    table.links.values().filter(|l| l.announces()).map(|l| l.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::MacAddr;

    #[test]
    fn a_tunnel_is_refused_and_not_offered() {
        let eth0 = LinkState { name: "eth0".into(), mac: MacAddr([2, 0, 0, 0, 0, 1]), ..LinkState::default() };
        let tunnel = LinkState { name: "tun0".into(), ..LinkState::default() };
        let links = [(IfIndex(2), eth0), (IfIndex(3), tunnel)].into();
        let table = Table { links, ..Table::default() };
        let error = resolve_names(&["tun0".to_owned()], &table).unwrap_err();
        let text = "interface tun0 is not an Ethernet, so addresses cannot be announced on it; this node has eth0";
        assert_eq!(error.to_string(), text);
    }
}
