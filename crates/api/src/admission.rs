//! Which objects may be written: the rules of OpenELB's webhook (compat §3.4), relaxed where they were in the way.
//! Pure, so that the webhook, the controller's conditions and `oxelb check` say the same.
//!
//! An update is refused only for what it makes worse: an object that was wrong already can still be mended step by
//! step, and always lose a finalizer.

use crate::address::{AddressSet, Range};
use crate::bgp_conf::BgpConf;
use crate::bgp_peer::BgpPeer;
use crate::eip::Eip;
use crate::keys;
use crate::pool::{InvalidPool, Pool};
use crate::selector::{InvalidSelector, Selector};
use crate::service::ServiceKey;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Who uses which address.
pub type InUse = BTreeMap<IpAddr, Vec<ServiceKey>>;

/// So many addresses in use are named; the rest are counted, so that the message stays readable.
const NAMED: usize = 5;

/// Why an object may not be written, with the field, and what to do. The texts that OpenELB had are kept (compat §2.6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pool alone makes no sense.
    #[error(transparent)]
    Pool(#[from] InvalidPool),
    /// Addresses that another pool has.
    #[error("spec.address: eip address overlap with {other}: both have {range}; take it out of one of the two")]
    Overlap {
        /// The other pool.
        other: String,
        /// The lowest addresses that both have.
        range: Range,
    },
    /// A second default pool.
    #[error(
        "metadata.annotations[{}]: already exists a default EIP: {other}; remove the annotation there first",
        keys::DEFAULT_POOL
    )]
    SecondDefault {
        /// The pool that is the default.
        other: String,
    },
    /// An update takes addresses out of the pool that Services use.
    #[error(
        "spec.address: the address field is not allowed to be modified so that it loses addresses in use: {0}; keep these, or delete the Services first"
    )]
    DropsAddresses(Uses),
    /// A pool that Services use is deleted.
    #[error(
        "eip {pool} is in use: {uses}; delete these Services or move them to another pool first, or force it and let them keep their addresses: kubectl annotate eip {pool} {}=true",
        keys::FORCE_DELETE
    )]
    PoolInUse {
        /// The pool.
        pool: String,
        /// Who uses it.
        uses: Uses,
    },
    /// A field of a BgpConf or BgpPeer.
    #[error("{field}: {problem}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong with it, and the mend.
        problem: String,
    },
    /// `spec.nodeSelector` of a BgpPeer.
    #[error("spec.nodeSelector: {0}")]
    NodeSelector(#[from] InvalidSelector),
}

/// Addresses and the Services that use them; as text only the first few are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uses(pub Vec<(IpAddr, Vec<ServiceKey>)>);

impl Uses {
    fn of(in_use: &InUse, affected: impl Fn(IpAddr) -> bool) -> Option<Uses> {
        let uses = in_use.iter().filter(|(ip, services)| !services.is_empty() && affected(**ip));
        let uses: Vec<_> = uses.map(|(ip, services)| (*ip, services.clone())).collect();
        (!uses.is_empty()).then_some(Uses(uses))
    }
}

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (ip, services)) in self.0.iter().take(NAMED).enumerate() {
            let named: Vec<String> = services.iter().take(NAMED).map(ToString::to_string).collect();
            let more = services.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            write!(f, "{}{ip} by {}{more}", if i == 0 { "" } else { ", " }, named.join(" and "))?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            1 => f.write_str(", and one more address"),
            more => write!(f, ", and {more} more addresses"),
        }
    }
}

/// Whether a pool may be created (`old` is `None`) or updated. `others` are the other pools, of which broken ones are
/// skipped, and `in_use` all addresses that Services use.
pub fn check_pool(new: &Eip, old: Option<&Eip>, others: &[Eip], in_use: &InUse) -> Result<(), Vec<Refusal>> {
    let mut refusals = Vec::new();
    // What is being deleted only loses finalizers.
    if old.is_some_and(|old| old.metadata.deletion_timestamp.is_some()) {
        return Ok(());
    }
    let name = new.metadata.name.as_deref().unwrap_or_default();
    let others = || others.iter().filter(|o| o.metadata.name.as_deref() != Some(name));
    if old.is_none_or(|old| old.spec != new.spec) {
        match Pool::try_from(new) {
            Ok(pool) => {
                let before = old.map(addresses).unwrap_or_default();
                let added = pool.addresses.minus(&before);
                refusals.extend(others().filter_map(|other| {
                    let range = addresses(other).overlap(&added)?;
                    Some(Refusal::Overlap { other: other.metadata.name.clone().unwrap_or_default(), range })
                }));
                let dropped = before.minus(&pool.addresses);
                refusals.extend(Uses::of(in_use, |ip| dropped.contains(ip)).map(Refusal::DropsAddresses));
            }
            Err(invalid) => refusals.push(invalid.into()),
        }
    }
    if is_default(new) && !old.is_some_and(is_default) {
        refusals.extend(
            others()
                .find(|o| is_default(o))
                .map(|other| Refusal::SecondDefault { other: other.metadata.name.clone().unwrap_or_default() }),
        );
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// Whether a pool may be deleted: not while Services use it, unless it is annotated [`keys::FORCE_DELETE`].
pub fn check_pool_delete(eip: &Eip, in_use: &InUse) -> Result<(), Refusal> {
    let pool = addresses(eip);
    match Uses::of(in_use, |ip| pool.contains(ip)) {
        Some(uses) if !annotated(eip, keys::FORCE_DELETE) => {
            Err(Refusal::PoolInUse { pool: eip.metadata.name.clone().unwrap_or_default(), uses })
        }
        _ => Ok(()),
    }
}

/// What is allowed but hardly meant.
pub fn pool_warnings(eip: &Eip) -> Vec<String> {
    let mut warnings = Vec::new();
    let exact = eip.metadata.annotations.as_ref().and_then(|a| a.get(keys::DEFAULT_POOL));
    if let Some(value) = exact.filter(|v| *v != "true" && v.eq_ignore_ascii_case("true")) {
        warnings.push(format!(
            "metadata.annotations[{}]: {value:?} does not make this the default pool; write \"true\" in small letters",
            keys::DEFAULT_POOL
        ));
    }
    if eip.spec.using_known_ips.is_some() {
        warnings.push("spec.usingKnownIPs: has no effect, as in OpenELB; leave it out".to_owned());
    }
    warnings
}

/// Whether a BgpConf may be created or updated.
pub fn check_bgp_conf(new: &BgpConf, old: Option<&BgpConf>) -> Result<(), Vec<Refusal>> {
    if old.is_some_and(|old| old.spec == new.spec) {
        return Ok(());
    }
    let (spec, mut found) = (&new.spec, Fields::default());
    found.asn("spec.as", spec.asn);
    for (rack, asn) in spec.as_per_rack.iter().flatten() {
        found.asn(&format!("spec.asPerRack[{rack}]"), Some(*asn));
    }
    let router_id = spec.router_id.as_deref().filter(|id| !id.is_empty());
    if let Some(id) = router_id.filter(|id| id.parse::<Ipv4Addr>().is_err()) {
        found.push(
            "spec.routerId",
            format!("{id:?} is not four numbers such as 192.0.2.1; leave it out to use the node's address"),
        );
    }
    if let Some(port) = spec.listen_port.filter(|p| *p > 65535) {
        found.push("spec.listenPort", format!("{port} is not a TCP port; the highest is 65535"));
    }
    for address in spec.listen_addresses.iter().flatten().filter(|a| a.parse::<IpAddr>().is_err()) {
        found.push("spec.listenAddresses", format!("{address:?} is not an IP address"));
    }
    found.0.is_empty().then_some(()).ok_or(found.0)
}

/// What is allowed but hardly meant.
pub fn bgp_conf_warnings(conf: &BgpConf) -> Vec<String> {
    let name = conf.metadata.name.as_deref().unwrap_or_default();
    let other = name != "default";
    other
        .then(|| format!("metadata.name: a BgpConf named {name:?} has no effect; only the one named default is used"))
        .into_iter()
        .collect()
}

/// Whether a BgpPeer may be created or updated.
pub fn check_bgp_peer(new: &BgpPeer, old: Option<&BgpPeer>) -> Result<(), Vec<Refusal>> {
    if old.is_some_and(|old| old.spec == new.spec) {
        return Ok(());
    }
    let (spec, mut found) = (&new.spec, Fields::default());
    let given = |text: &Option<String>| text.as_ref().filter(|t| !t.is_empty()).cloned();
    let conf = spec.conf.clone().unwrap_or_default();
    // D17: without it every speaker of OpenELB crashes.
    let range = given(&conf.neighbor_range);
    match (given(&conf.neighbor_address), given(&conf.neighbor_interface)) {
        (None, None) if range.is_none() => {
            found.push(
                "spec.conf.neighborAddress",
                "the router's address is missing; write neighborAddress, neighborInterface for an unnumbered router, or neighborRange for routers that connect by themselves",
            );
        }
        (Some(_), _) | (_, Some(_)) if range.is_some() => {
            found.push("spec.conf.neighborRange", "cannot be used together with neighborAddress or neighborInterface");
        }
        (Some(address), _) if address.parse::<IpAddr>().is_err() => {
            found.push("spec.conf.neighborAddress", format!("{address:?} is not an IP address"));
        }
        _ => {}
    }
    if let Some(mode) = given(&spec.next_hop_mode).filter(|m| !["Node", "OpenELB"].contains(&m.as_str())) {
        found.push("spec.nextHopMode", format!("{mode:?} is not one of Node, OpenELB"));
    }
    found.asn("spec.conf.peerAs", conf.peer_as);
    found.asn("spec.conf.localAs", conf.local_as);
    if let Some(value) = given(&conf.remove_private_as).filter(|v| !["NONE", "ALL", "REPLACE"].contains(&v.as_str())) {
        found.push("spec.conf.removePrivateAs", format!("{value:?} is not one of NONE, ALL, REPLACE"));
    }
    if let Some(ttl) = spec.ebgp_multihop.as_ref().and_then(|m| m.multihop_ttl).filter(|t| !(0..=255).contains(t)) {
        found.push("spec.ebgpMultihop.multihopTtl", format!("{ttl} is not a TTL; it goes from 1 to 255"));
    }
    if let Some(ttl) = spec.ttl_security.as_ref().and_then(|t| t.ttl_min).filter(|t| !(0..=255).contains(t)) {
        found.push("spec.ttlSecurity.ttlMin", format!("{ttl} is not a TTL; it goes from 1 to 255"));
    }
    let on = |enabled: Option<bool>| enabled.unwrap_or(false);
    if spec.ttl_security.as_ref().is_some_and(|t| on(t.enabled))
        && spec.ebgp_multihop.as_ref().is_some_and(|m| on(m.enabled))
    {
        found.push("spec.ttlSecurity", "cannot be used together with ebgpMultihop; lower ttlMin by the hops instead");
    }
    let bfd = spec.bfd.clone().unwrap_or_default();
    for (name, value, range) in [
        ("receiveInterval", bfd.receive_interval, 10..=60_000),
        ("transmitInterval", bfd.transmit_interval, 10..=60_000),
        ("detectMultiplier", bfd.detect_multiplier, 1..=255),
        ("minimumTTL", bfd.minimum_ttl, 1..=255),
        ("keyId", bfd.key_id, 0..=255),
    ] {
        if let Some(value) = value.filter(|v| !range.contains(v)) {
            let (least, most) = range.into_inner();
            found.push(&format!("spec.bfd.{name}"), format!("{value} is not from {least} to {most}"));
        }
    }
    const METHODS: [&str; 3] = ["Password", "KeyedSHA1", "MeticulousKeyedSHA1"];
    if let Some(method) = given(&bfd.authentication).filter(|m| !METHODS.contains(&m.as_str())) {
        found.push("spec.bfd.authentication", format!("{method:?} is not one of {}", METHODS.join(", ")));
    }
    let source = spec.transport.as_ref().and_then(|t| given(&t.local_address));
    if let Some(address) = source.filter(|a| a.parse::<IpAddr>().is_err()) {
        found.push("spec.transport.localAddress", format!("{address:?} is not an IP address"));
    }
    if let Some(port) = spec.transport.as_ref().and_then(|t| t.remote_port).filter(|p| !(0..=65535).contains(p)) {
        found.push("spec.transport.remotePort", format!("{port} is not a TCP port; it goes from 1 to 65535"));
    }
    let timers = spec.timers.clone().and_then(|t| t.config).unwrap_or_default();
    for (name, value) in [
        ("connectRetry", timers.connect_retry),
        ("holdTime", timers.hold_time),
        ("keepaliveInterval", timers.keepalive_interval),
        ("minimumAdvertisementInterval", timers.minimum_advertisement_interval),
    ] {
        if let Some(value) = value.filter(|v| !v.is_empty() && v.parse::<u32>().is_err()) {
            found.push(
                &format!("spec.timers.config.{name}"),
                format!("{value:?} is not a number of seconds, such as \"90\""),
            );
        }
    }
    let mut refusals = found.0;
    refusals.extend(spec.node_selector.as_ref().and_then(|s| Selector::try_from(s).err()).map(Refusal::from));
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

#[derive(Default)]
struct Fields(Vec<Refusal>);

impl Fields {
    fn push(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(Refusal::Field { field: field.to_owned(), problem: problem.into() });
    }

    fn asn(&mut self, field: &str, asn: Option<i64>) {
        if let Some(asn) = asn.filter(|n| u32::try_from(*n).is_err()) {
            self.push(field, format!("{asn} is not an AS number; they go from 1 to 4294967295"));
        }
    }
}

/// The addresses of a pool however the rest of it looks; none when they cannot be read.
fn addresses(eip: &Eip) -> AddressSet {
    eip.spec.address.parse().unwrap_or_default()
}

/// As OpenELB's webhook reads it; its allocator takes only the exact `true` (compat §2.1).
fn is_default(eip: &Eip) -> bool {
    annotated(eip, keys::DEFAULT_POOL)
}

fn annotated(eip: &Eip, key: &str) -> bool {
    let value = eip.metadata.annotations.as_ref().and_then(|a| a.get(key));
    value.is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
