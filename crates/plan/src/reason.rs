//! Why no node announces an address, and what else the user should know: a reason in one CamelCase word, and a message
//! that says what, where, and the mend.

use api::{ServiceKey, keys};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Why no node may announce an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum NoCandidate {
    /// No node is known.
    NoNodes,
    /// No node is Ready.
    NotReady {
        /// All nodes.
        nodes: BTreeSet<String>,
    },
    /// The network of all nodes that are Ready is unavailable.
    NetworkUnavailable {
        /// Those nodes.
        nodes: BTreeSet<String>,
    },
    /// All nodes that could are labelled to keep load balancers off, though not all nodes are.
    Excluded {
        /// The nodes that could.
        nodes: BTreeSet<String>,
    },
    /// No node that could matches the pool's nodeSelector.
    NodeSelector {
        /// The pool.
        pool: String,
        /// The nodes that could.
        nodes: BTreeSet<String>,
    },
    /// A Service with policy Local has no endpoint that serves.
    NoEndpoints {
        /// The Service.
        service: ServiceKey,
    },
    /// A Service with policy Local has endpoints only on nodes that may not announce.
    EndpointsElsewhere {
        /// The Service.
        service: ServiceKey,
        /// The nodes with its endpoints.
        nodes: BTreeSet<String>,
    },
    /// Services with policy Local share an address, and no node serves all of them.
    NoCommonNode {
        /// The Services.
        services: BTreeSet<ServiceKey>,
    },
}

/// What the user should know besides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Note {
    /// All nodes are labelled to keep load balancers off; the label is ignored.
    AllNodesExcluded,
    /// A pool cannot be used as it is written.
    PoolInvalid {
        /// The pool.
        pool: String,
        /// Why.
        error: String,
        /// Its last valid version stays in force.
        kept: bool,
    },
    /// A pool is gone, its addresses are still announced.
    PoolMissing {
        /// The pool.
        pool: String,
        /// The addresses.
        addresses: BTreeSet<IpAddr>,
    },
    /// Services have an address that is in no pool. It is not announced.
    OutsidePools {
        /// The address.
        address: IpAddr,
        /// The Services.
        services: BTreeSet<ServiceKey>,
    },
    /// A Service has an address of a family that it does not serve. It is not announced for this Service.
    Family {
        /// The address.
        address: IpAddr,
        /// The Service.
        service: ServiceKey,
    },
}

impl NoCandidate {
    /// The reason of a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            NoCandidate::NoNodes => "NoNodes",
            NoCandidate::NotReady { .. } => "NodesNotReady",
            NoCandidate::NetworkUnavailable { .. } => "NodesNetworkUnavailable",
            NoCandidate::Excluded { .. } => "NodesExcluded",
            NoCandidate::NodeSelector { .. } => "NodeSelectorMatchesNone",
            NoCandidate::NoEndpoints { .. } => "NoServingEndpoints",
            NoCandidate::EndpointsElsewhere { .. } => "EndpointsOnOtherNodes",
            NoCandidate::NoCommonNode { .. } => "NoNodeServesAll",
        }
    }
}

impl Note {
    /// The reason of a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Note::AllNodesExcluded => "AllNodesExcluded",
            Note::PoolInvalid { .. } => "PoolInvalid",
            Note::PoolMissing { .. } => "PoolMissing",
            Note::OutsidePools { .. } => "AddressOutsidePools",
            Note::Family { .. } => "FamilyMismatch",
        }
    }
}

impl fmt::Display for NoCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCandidate::NoNodes => {
                f.write_str("no node is known; add Node objects, or name the nodes that run speakers")
            }
            NoCandidate::NotReady { nodes } => {
                write!(f, "no node is Ready ({}); see why with kubectl describe node", Few(nodes))
            }
            NoCandidate::NetworkUnavailable { nodes } => {
                write!(
                    f,
                    "the network of all nodes that are Ready is unavailable ({}); look after the network plugin",
                    Few(nodes)
                )
            }
            NoCandidate::Excluded { nodes } => write!(
                f,
                "all nodes that could announce carry the label {} ({}); remove it from one of them",
                keys::EXCLUDE_NODE,
                Few(nodes)
            ),
            NoCandidate::NodeSelector { pool, nodes } => write!(
                f,
                "spec.nodeSelector of pool {pool} matches none of the nodes that could announce ({}); label one of them, or change the selector",
                Few(nodes)
            ),
            NoCandidate::NoEndpoints { service } => write!(
                f,
                "{service} has externalTrafficPolicy Local and no endpoint that serves; make one of its pods ready, or use policy Cluster"
            ),
            NoCandidate::EndpointsElsewhere { service, nodes } => write!(
                f,
                "{service} has externalTrafficPolicy Local and endpoints only on nodes that may not announce ({}); run a pod on a node that may, let these announce, or use policy Cluster",
                Few(nodes)
            ),
            NoCandidate::NoCommonNode { services } => write!(
                f,
                "{} share the address with externalTrafficPolicy Local, and no node that may announce has serving endpoints of all of them; run their pods together on a node, or give them addresses of their own",
                Few(services)
            ),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::AllNodesExcluded => write!(
                f,
                "all nodes carry the label {}, so it is ignored; remove it from the nodes that are to announce",
                keys::EXCLUDE_NODE
            ),
            Note::PoolInvalid { pool, error, kept: true } => {
                write!(f, "pool {pool} is not valid, its last valid version stays in force: {error}")
            }
            Note::PoolInvalid { pool, error, kept: false } => {
                write!(f, "pool {pool} is not valid and not used: {error}")
            }
            Note::PoolMissing { pool, addresses } => write!(
                f,
                "pool {pool} is gone while Services have addresses of it ({}); they stay announced: make a pool that contains them, or delete the Services",
                Few(addresses)
            ),
            Note::OutsidePools { address, services } => write!(
                f,
                "{address} of {} is in no pool and is not announced; add it to a pool, or let the Service get another address",
                Few(services)
            ),
            Note::Family { address, service } => write!(
                f,
                "{service} has the address {address} but not that family in spec.ipFamilies, so nothing would answer; add the family, or ask for an address of the other"
            ),
        }
    }
}

/// The first three of many.
pub(crate) struct Few<'a, T>(pub(crate) &'a BTreeSet<T>);

impl<T: fmt::Display> fmt::Display for Few<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().take(3).enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
