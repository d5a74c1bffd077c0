//! A pool as the allocator and the planner read it: an [`Eip`] whose every field was understood.

use crate::address::{AddressSet, InvalidAddresses, Range};
use crate::eip::{Eip, ProtocolName, SharingName};
use crate::keys;
use crate::routes::{InvalidRoutes, RouteOptions};
use crate::selector::{InvalidSelector, Labels, Selector};
use crate::service::ServiceKey;
use crate::vrrp::{InvalidVrrp, VirtualRouter, Vrrp};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub use crate::eip::{
    FailoverName as Failover, PartitionName as Partition, ProtocolName as Protocol, SharingName as Sharing,
};

/// A valid pool of addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The Eip's name.
    pub name: String,
    /// All addresses that the user wrote; what `poolSize`, `firstIP` and `lastIP` are about.
    pub addresses: AddressSet,
    /// The addresses that may be given out: without excluded and buggy ones.
    pub allocatable: AddressSet,
    /// How they are announced; an Eip without a protocol is for bgp.
    pub protocol: Protocol,
    /// Where they are announced; `None` only with protocol bgp.
    pub interface: Option<Interface>,
    /// No new addresses are given out.
    pub disabled: bool,
    /// Among the pools of a namespace the smallest goes first.
    pub priority: i64,
    /// Namespaces that are served without naming the pool.
    pub namespaces: Vec<String>,
    /// Labels of namespaces that are served without naming the pool. An empty map matches every namespace with labels.
    pub namespace_labels: Option<Labels>,
    /// The nodes that may announce.
    pub nodes: Selector,
    /// Who may share an address.
    pub sharing: Sharing,
    /// How fast addresses get another owner.
    pub failover: Failover,
    /// What happens to them without a majority of acceptors.
    pub partition: Partition,
    /// What routers are told of addresses of bgp.
    pub routes: RouteOptions,
    /// How the owners of addresses of vip say so.
    pub vrrp: Vrrp,
    /// Of a pool for vip the id under which each address moves, as in its status.
    pub routers: BTreeMap<IpAddr, u8>,
    /// The cluster's default pool.
    pub default: bool,
    /// Being deleted: nothing new is given out.
    pub deleting: bool,
    /// `status.used` as found, for take-over: who used an address according to the object (compat §13).
    pub recorded: BTreeMap<IpAddr, Vec<ServiceKey>>,
}

/// Where a pool is announced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Interface {
    /// On these interfaces, where a node has them.
    Names(Vec<String>),
    /// On the interface of the route to this address.
    CanReach(IpAddr),
}

/// Why an Eip cannot be used. The texts that OpenELB had are kept (compat §2.6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// `spec.address`
    #[error("spec.address: {0}")]
    Address(InvalidAddresses),
    /// `spec.exclude`
    #[error("spec.exclude: {0}")]
    Exclude(InvalidAddresses),
    /// `spec.interface` is missing.
    #[error(
        "spec.interface: if protocol is layer2 or vip, interface should not be empty; name the NIC that faces the network, or write can_reach:<address of the gateway>"
    )]
    NoInterface,
    /// `spec.interface` makes no sense.
    #[error(
        "spec.interface: {0:?} is neither interface names joined by commas nor can_reach:<address> (now only support can_reach)"
    )]
    Interface(String),
    /// `spec.nodeSelector`
    #[error("spec.nodeSelector: {0}")]
    NodeSelector(InvalidSelector),
    /// `spec.bgp`
    #[error("spec.bgp: {0}")]
    Routes(InvalidRoutes),
    /// `spec.vrrp`
    #[error("spec.vrrp: {0}")]
    Vrrp(InvalidVrrp),
    /// The name cannot be recorded on a Service: a label takes 63 characters.
    #[error(
        "metadata.name: {0:?} is longer than 63 characters, so that no Service can carry it as a label; make the pool anew with a shorter name"
    )]
    Name(String),
    /// Nothing is left to give out.
    #[error("spec.exclude: no address of {0} is left to give out; exclude fewer")]
    NothingLeft(String),
}

impl Pool {
    /// Whether Services of this namespace get addresses from the pool without naming it (compat §2.3).
    pub fn serves_namespace(&self, name: &str, labels: Option<&Labels>) -> bool {
        let by_labels = self.namespace_labels.as_ref().is_some_and(|wanted| {
            labels.is_some_and(|has| !has.is_empty() && wanted.iter().all(|(k, v)| has.get(k) == Some(v)))
        });
        by_labels || self.namespaces.iter().any(|n| n == name)
    }
}

impl TryFrom<&Eip> for Pool {
    type Error = InvalidPool;
    fn try_from(eip: &Eip) -> Result<Pool, InvalidPool> {
        let spec = &eip.spec;
        let name = eip.metadata.name.clone().unwrap_or_default();
        if name.len() > 63 {
            return Err(InvalidPool::Name(name));
        }
        let addresses: AddressSet = spec.address.parse().map_err(InvalidPool::Address)?;
        let excluded: AddressSet = match spec.exclude.as_deref().map(str::trim) {
            None | Some("") => AddressSet::default(),
            Some(text) => text.parse().map_err(InvalidPool::Exclude)?,
        };
        let mut allocatable = addresses.minus(&excluded);
        if spec.avoid_buggy_ips == Some(true) {
            allocatable = allocatable.minus(&buggy(&allocatable));
        }
        if allocatable.is_empty() {
            return Err(InvalidPool::NothingLeft(addresses.to_string()));
        }
        let protocol = spec.protocol.unwrap_or(ProtocolName::Bgp);
        let interface =
            spec.interface.as_deref().map(str::trim).filter(|i| !i.is_empty()).map(parse_interface).transpose()?;
        if interface.is_none() && protocol != ProtocolName::Bgp {
            return Err(InvalidPool::NoInterface);
        }
        let nodes =
            spec.node_selector.as_ref().map(Selector::try_from).transpose().map_err(InvalidPool::NodeSelector)?;
        let annotated = |key: &str| eip.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
        Ok(Pool {
            name,
            addresses,
            allocatable,
            protocol,
            interface,
            disabled: spec.disable == Some(true),
            priority: spec.priority.unwrap_or(0),
            namespaces: spec.namespaces.clone().unwrap_or_default(),
            namespace_labels: spec.namespace_selector.clone(),
            nodes: nodes.unwrap_or_default(),
            sharing: spec.sharing.unwrap_or(SharingName::Cluster),
            failover: spec.failover.unwrap_or_default(),
            partition: spec.partition.unwrap_or_default(),
            routes: spec
                .bgp
                .as_ref()
                .map(RouteOptions::try_from)
                .transpose()
                .map_err(InvalidPool::Routes)?
                .unwrap_or_default(),
            vrrp: spec.vrrp.as_ref().map(Vrrp::try_from).transpose().map_err(InvalidPool::Vrrp)?.unwrap_or_default(),
            routers: match (protocol, &eip.status) {
                (ProtocolName::Vip, Some(status)) => routers(&status.virtual_routers),
                _ => BTreeMap::new(),
            },
            default: annotated(keys::DEFAULT_POOL) == Some("true"),
            deleting: eip.metadata.deletion_timestamp.is_some(),
            recorded: eip.status.as_ref().map(|s| recorded(&s.used)).unwrap_or_default(),
        })
    }
}

fn parse_interface(text: &str) -> Result<Interface, InvalidPool> {
    let invalid = || InvalidPool::Interface(text.to_owned());
    if let Some((prefix, ip)) = text.split_once(':') {
        let ip = ip.trim().parse().map_err(|_| invalid())?;
        return if prefix == "can_reach" { Ok(Interface::CanReach(ip)) } else { Err(invalid()) };
    }
    // IFNAMSIZ is 16 with its final NUL; '/' and white space never occur in a name.
    let valid = |n: &str| !n.is_empty() && n.len() < 16 && !n.contains(|c: char| c == '/' || c.is_whitespace());
    let names: Vec<String> = text.split(',').map(|n| n.trim().to_owned()).collect();
    if names.iter().all(|n| valid(n)) { Ok(Interface::Names(names)) } else { Err(invalid()) }
}

/// The IPv4 addresses of the set that end in .0 or .255.
fn buggy(set: &AddressSet) -> AddressSet {
    let single = |n: u32| Range::single(IpAddr::V4(Ipv4Addr::from(n)));
    let mut found = Vec::new();
    for range in set.ranges().iter().filter(|r| r.first().is_ipv4()) {
        let (first, last) = range.numbers();
        let (first, last) = (first as u32, last as u32);
        for net in (first >> 8)..=(last >> 8) {
            found.extend([net << 8, net << 8 | 255].into_iter().filter(|n| (first..=last).contains(n)).map(single));
        }
    }
    AddressSet::new(found)
}

/// Entries that name no Service are dropped, as OpenELB's own clean-up does (compat §3.2).
fn recorded(used: &BTreeMap<String, String>) -> BTreeMap<IpAddr, Vec<ServiceKey>> {
    let mut recorded: BTreeMap<IpAddr, Vec<ServiceKey>> = BTreeMap::new();
    for (ip, services) in used {
        let Ok(ip) = ip.parse() else { continue };
        let keys: Vec<ServiceKey> = services.split(';').filter_map(|s| s.parse().ok()).collect();
        if !keys.is_empty() {
            recorded.entry(ip).or_default().extend(keys);
        }
    }
    recorded
}

/// Ids and addresses that make no sense are dropped: whoever wrote them, the controller writes them anew.
fn routers(recorded: &[VirtualRouter]) -> BTreeMap<IpAddr, u8> {
    let of = |router: &VirtualRouter| {
        let id = u8::try_from(router.id).ok().filter(|id| *id > 0)?;
        Some(router.addresses.iter().filter_map(move |a| Some((a.parse().ok()?, id))).collect::<Vec<_>>())
    };
    recorded.iter().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eip(spec: serde_json::Value) -> Eip {
        let json = serde_json::json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "p"}, "spec": spec
        });
        serde_json::from_value(json).unwrap()
    }

    fn pool(spec: serde_json::Value) -> Result<Pool, InvalidPool> {
        Pool::try_from(&eip(spec))
    }

    #[test]
    fn excluded_and_buggy_addresses_are_of_the_pool_but_not_given_out() {
        let p =
            pool(serde_json::json!({"address": "10.0.0.254-10.0.1.2", "exclude": "10.0.1.2", "avoidBuggyIPs": true}))
                .unwrap();
        assert_eq!(p.addresses.size(), 5);
        assert_eq!(p.allocatable.to_string(), "10.0.0.254,10.0.1.1");
    }

    #[test]
    fn without_a_protocol_a_pool_is_for_bgp_and_needs_no_interface() {
        assert_eq!(pool(serde_json::json!({"address": "10.0.0.1"})).unwrap().protocol, Protocol::Bgp);
        for protocol in ["layer2", "vip"] {
            let error = pool(serde_json::json!({"address": "10.0.0.1", "protocol": protocol})).unwrap_err();
            assert_eq!(error, InvalidPool::NoInterface);
        }
    }

    #[test]
    fn a_name_that_no_label_can_carry_is_refused() {
        let mut e = eip(serde_json::json!({"address": "10.0.0.1"}));
        e.metadata.name = Some("n".repeat(63));
        assert!(Pool::try_from(&e).is_ok());
        e.metadata.name = Some("n".repeat(64));
        assert_eq!(Pool::try_from(&e).unwrap_err(), InvalidPool::Name("n".repeat(64)));
    }

    #[test]
    fn interfaces_are_names_or_a_route() {
        let interface =
            |text: &str| pool(serde_json::json!({"address": "10.0.0.1", "interface": text})).map(|p| p.interface);
        assert_eq!(interface("eth0, bond0.7"), Ok(Some(Interface::Names(vec!["eth0".into(), "bond0.7".into()]))));
        assert_eq!(interface("can_reach:10.0.0.254"), Ok(Some(Interface::CanReach("10.0.0.254".parse().unwrap()))));
        assert_eq!(interface("can_reach: fd00::1"), Ok(Some(Interface::CanReach("fd00::1".parse().unwrap()))));
        for bad in ["eth0,", "a_name_of_16_char", "can_reach:gw", "reach:10.0.0.1", "et h0"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn status_used_is_read_in_openelbs_format() {
        let mut e = eip(serde_json::json!({"address": "10.0.0.0/24"}));
        let used = [("10.0.0.1", "a/x;b/y"), ("10.0.0.2", "nonsense"), ("what", "a/x")];
        let used = used.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        e.status = Some(crate::EipStatus { used, ..Default::default() });
        let recorded = Pool::try_from(&e).unwrap().recorded;
        assert_eq!(recorded.len(), 1);
        let keys: Vec<_> = recorded.values().flatten().map(ToString::to_string).collect();
        assert_eq!(keys, ["a/x", "b/y"]);
    }

    #[test]
    fn an_empty_namespace_selector_matches_every_namespace_with_labels() {
        let p = pool(serde_json::json!({"address": "10.0.0.1", "namespaces": ["a"], "namespaceSelector": {}})).unwrap();
        let labelled: Labels = [("k".to_owned(), "v".to_owned())].into();
        assert!(p.serves_namespace("a", None));
        assert!(p.serves_namespace("b", Some(&labelled)));
        assert!(!p.serves_namespace("b", Some(&Labels::new())));
    }
}
