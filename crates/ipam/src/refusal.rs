//! Why a Service does not get the address that it asks for: the reason, and what to do. Where OpenELB had a text that
//! users search for, the message starts with it (compat §2.6).

use api::{Family, ServiceKey, keys};
use std::net::IpAddr;

/// At most 200 characters of a text that a user wrote: annotations may have 256 KiB, an event takes 1 KiB.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the requested address {0:?} is not an IP address; write one address, or one of each family joined by a comma"
    )]
    NotAnAddress(String),
    #[error("two {0} addresses are requested; ask for one of each family")]
    TwoOfOneFamily(Family),
    #[error("service can't use different family eip: {0} is requested, but the Service has no {family} cluster IP; ask for another address, or set spec.ipFamilies and spec.ipFamilyPolicy", family = Family::of(*.0))]
    RequestedFamily(IpAddr),
    #[error(
        "service can't use different family eip: pool {pool} has no {family} address; name a pool that has, two pools may be joined by a comma"
    )]
    PoolFamily { pool: String, family: Family },
    #[error(
        "service can't use different family eip: no pool for namespace {namespace} and no default pool has {family} addresses; add a range of {family} addresses to one"
    )]
    NoPoolOfFamily { namespace: String, family: Family },
    #[error("no available default eip found: no pool that gives out addresses serves namespace {namespace}, and none is the default; name a pool with the annotation {pool}, add the namespace to a pool's spec.namespaces, or annotate a pool with {default}: \"true\"", pool = keys::POOL, default = keys::DEFAULT_POOL)]
    NoDefaultPool { namespace: String },
    #[error(
        "no available eip was found containing the ip:[{0}]: ask for an address of a pool, or add this one to a pool"
    )]
    OutsideEveryPool(IpAddr),
    #[error(
        "the specified ip:{ip} is beyond the range of eip[{pool}:{addresses}]: ask for an address of that pool, name another pool, or name none"
    )]
    OutsidePool { ip: IpAddr, pool: String, addresses: String },
    #[error("eip:{0} not found: make the pool, or name another one with the annotation {key}", key = keys::POOL)]
    PoolNotFound(String),
    #[error("eip:{pool} is invalid: {why}")]
    PoolInvalid { pool: String, why: String },
    #[error("eip:{0} is disabled: set spec.disable of the pool to false, or use another pool")]
    PoolDisabled(String),
    #[error("eip:{0} is deleting: use another pool")]
    PoolDeleting(String),
    #[error(
        "no suitable ip to allocate: every {family} address of {pools} is in use, excluded or taken by something else; add addresses to the pool, or delete a Service that uses it"
    )]
    PoolFull { pools: String, family: Family },
    #[error(
        "{ip} is excluded by spec.exclude or spec.avoidBuggyIPs of pool {pool}; ask for another address, or exclude less"
    )]
    Excluded { ip: IpAddr, pool: String },
    #[error("{ip} belongs to something else: {why}; ask for another address, and exclude this one from its pool")]
    Reserved { ip: IpAddr, why: String },
    #[error("{ip} is in use by Service {other}, and {why}")]
    InUse { ip: IpAddr, other: ServiceKey, why: String },
}

impl Refusal {
    /// In CamelCase, for the condition.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::NotAnAddress(_) | Refusal::TwoOfOneFamily(_) => "InvalidRequest",
            Refusal::RequestedFamily(_) | Refusal::PoolFamily { .. } | Refusal::NoPoolOfFamily { .. } => {
                "FamilyMismatch"
            }
            Refusal::NoDefaultPool { .. } => "NoPool",
            Refusal::OutsideEveryPool(_) => "AddressOutsideEveryPool",
            Refusal::OutsidePool { .. } => "AddressOutsidePool",
            Refusal::PoolNotFound(_) => "PoolNotFound",
            Refusal::PoolInvalid { .. } => "PoolInvalid",
            Refusal::PoolDisabled(_) => "PoolDisabled",
            Refusal::PoolDeleting(_) => "PoolDeleting",
            Refusal::PoolFull { .. } => "PoolFull",
            Refusal::Excluded { .. } => "AddressExcluded",
            Refusal::Reserved { .. } => "AddressReserved",
            Refusal::InUse { .. } => "AddressInUse",
        }
    }

    /// The reason of the event: OpenELB tells apart that no pool was found from that the pool did not give (compat §2.6).
    pub(crate) fn event(&self) -> &'static str {
        match self {
            Refusal::PoolFull { .. }
            | Refusal::Excluded { .. }
            | Refusal::Reserved { .. }
            | Refusal::InUse { .. }
            | Refusal::OutsidePool { .. }
            | Refusal::PoolNotFound(_)
            | Refusal::PoolInvalid { .. }
            | Refusal::PoolFamily { .. } => "AssignIPFailed",
            _ => "ConstructRequest",
        }
    }
}
