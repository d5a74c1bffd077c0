//! The snapshot of the cluster that is planned from, kept up to date object by object.

use crate::ServicePart;
use api::{Bgp, EndpointSlice, InvalidBgp, InvalidPool, Node, Peer, Pool, ServiceKey, SliceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// All objects that decide who announces what.
#[derive(Debug, Clone, Default)]
pub struct World {
    pools: BTreeMap<String, Known>,
    services: BTreeMap<ServiceKey, ServicePart>,
    /// The names of pools that Services have as a label, each once.
    labels: BTreeSet<Arc<str>>,
    /// Those with policy Local and addresses; asked for after every change, so not sought among thousands each time.
    need_slices: BTreeSet<ServiceKey>,
    nodes: BTreeMap<String, Node>,
    fallback: BTreeMap<String, Node>,
    slices: BTreeMap<SliceKey, EndpointSlice>,
    bgp: (Option<Bgp>, Option<InvalidBgp>),
    /// The policies for BGP, as written, by the names of their ConfigMaps.
    policies: BTreeMap<String, Arc<str>>,
    /// Passwords of BGP sessions, by BgpPeer.
    passwords: BTreeMap<String, String>,
    /// Each one's last valid version, and why its newest cannot be used.
    peers: BTreeMap<String, (Option<Peer>, Option<InvalidBgp>)>,
}

/// What is known of a pool.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Its last valid version.
    pool: Option<Pool>,
    /// Why its newest version cannot be used.
    error: Option<InvalidPool>,
    /// It was deleted while Services had addresses of it. These keep what they have: a pool deleted by force, or while
    /// the webhook was down, must not end what works.
    gone: bool,
}

impl World {
    /// A pool is new or different. One that is not valid any more stays what it was.
    pub fn set_pool(&mut self, name: &str, pool: Result<Pool, InvalidPool>) {
        let known = self.pools.entry(name.to_owned()).or_default();
        known.gone = false;
        match pool {
            Ok(pool) => (known.pool, known.error) = (Some(pool), None),
            Err(error) => known.error = Some(error),
        }
        self.forget_ghosts();
    }

    /// A pool is gone. It stays in force for the Services that have addresses of it.
    pub fn remove_pool(&mut self, name: &str) {
        if let Some(known) = self.pools.get_mut(name) {
            (known.gone, known.error) = (true, None);
        }
        self.forget_ghosts();
    }

    /// A Service is new or different.
    pub fn set_service(&mut self, service: impl Into<ServicePart>) {
        let mut service = service.into();
        if let Some(label) = &mut service.pool {
            match self.labels.get(label) {
                Some(known) => *label = known.clone(),
                None => drop(self.labels.insert(label.clone())),
            }
        }
        if service.needs_slices() {
            self.need_slices.insert(service.key.clone());
        } else {
            self.need_slices.remove(&service.key);
        }
        self.services.insert(service.key.clone(), service);
        self.forget_ghosts();
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        self.services.remove(key);
        self.need_slices.remove(key);
        self.forget_ghosts();
    }

    /// A Node is new or different.
    pub fn set_node(&mut self, node: Node) {
        self.nodes.insert(node.name.clone(), node);
    }

    /// A Node is gone.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// The nodes to plan with while there is no Node object, as in a folder without them: this node and its peers, as
    /// the command line has them. All should be `ready`. Every speaker must be told the same.
    pub fn set_fallback_nodes(&mut self, nodes: impl IntoIterator<Item = Node>) {
        self.fallback = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
    }

    /// An EndpointSlice is new or different.
    pub fn set_slice(&mut self, slice: EndpointSlice) {
        self.slices.insert(slice.key.clone(), slice);
    }

    /// An EndpointSlice is gone.
    pub fn remove_slice(&mut self, key: &SliceKey) {
        self.slices.remove(key);
    }

    /// The BgpConf is new or different. One that is not valid any more stays what it was.
    pub fn set_bgp(&mut self, bgp: Result<Bgp, InvalidBgp>) {
        match bgp {
            Ok(bgp) => self.bgp = (Some(bgp), None),
            Err(error) => self.bgp.1 = Some(error),
        }
    }

    /// The BgpConf is gone.
    pub fn remove_bgp(&mut self) {
        self.bgp = (None, None);
    }

    /// A BgpPeer is new or different. One that is not valid any more stays what it was.
    pub fn set_peer(&mut self, name: &str, peer: Result<Peer, InvalidBgp>) {
        let known = self.peers.entry(name.to_owned()).or_default();
        match peer {
            Ok(peer) => *known = (Some(peer), None),
            Err(error) => known.1 = Some(error),
        }
    }

    /// A BgpPeer is gone.
    pub fn remove_peer(&mut self, name: &str) {
        self.peers.remove(name);
    }

    /// The passwords of BGP sessions, by BgpPeer, are others.
    pub fn set_passwords(&mut self, passwords: BTreeMap<String, String>) {
        self.passwords = passwords;
    }

    pub(crate) fn password(&self, peer: &str) -> Option<&String> {
        self.passwords.get(peer)
    }

    /// A policy for BGP is new or different.
    pub fn set_policy(&mut self, name: &str, text: String) {
        self.policies.insert(name.to_owned(), text.into());
    }

    /// A policy for BGP is gone.
    pub fn remove_policy(&mut self, name: &str) {
        self.policies.remove(name);
    }

    pub(crate) fn policy(&self, name: &str) -> Option<&Arc<str>> {
        self.policies.get(name)
    }

    /// All BgpPeers, also those that are not valid.
    pub fn peer_names(&self) -> BTreeSet<String> {
        self.peers.keys().cloned().collect()
    }

    pub(crate) fn bgp(&self) -> (Option<&Bgp>, Option<&InvalidBgp>) {
        (self.bgp.0.as_ref(), self.bgp.1.as_ref())
    }

    /// All valid ones, by name.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter_map(|(peer, _)| peer.as_ref())
    }

    /// BgpPeers that are invalid now, why, and whether an earlier version is still in force.
    pub(crate) fn invalid_peers(&self) -> impl Iterator<Item = (&String, &InvalidBgp, bool)> {
        self.peers.iter().filter_map(|(name, (peer, error))| Some((name, error.as_ref()?, peer.is_some())))
    }

    /// The Services whose EndpointSlices decide over candidates: those with policy Local and addresses.
    pub fn needs_slices(&self) -> &BTreeSet<ServiceKey> {
        &self.need_slices
    }

    /// All Services, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &ServicePart> {
        self.services.values()
    }

    /// A Service.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServicePart> {
        self.services.get(key)
    }

    /// All EndpointSlices, by namespace and name.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.values()
    }

    pub(crate) fn nodes(&self) -> &BTreeMap<String, Node> {
        if self.nodes.is_empty() { &self.fallback } else { &self.nodes }
    }

    /// The nodes on which each Service has an endpoint that serves, ready or terminating.
    pub(crate) fn endpoints(&self) -> BTreeMap<&ServiceKey, BTreeSet<&str>> {
        let mut endpoints: BTreeMap<&ServiceKey, BTreeSet<&str>> = BTreeMap::new();
        for slice in self.slices.values() {
            let serving = slice.nodes.iter().filter(|(_, s)| s.ready > 0 || s.terminating > 0);
            endpoints.entry(&slice.service).or_default().extend(serving.map(|(node, _)| node.as_str()));
        }
        endpoints
    }

    /// How many endpoints of a Service a node sends traffic to with policy Local: its ready ones, or if it has none those
    /// that terminate and serve.
    pub(crate) fn endpoints_on(&self, service: &ServiceKey, node: &str) -> u32 {
        let of = self.slices.values().filter(|s| s.service == *service).filter_map(|s| s.nodes.get(node));
        let (ready, terminating) = of.fold((0, 0), |(r, t), s| (r + s.ready, t + s.terminating));
        if ready > 0 { ready } else { terminating }
    }

    /// The pool of an address: that which its Services say they have, then any pool that contains it, then one that is
    /// gone. Excluded addresses are of the pool too: they may be in use since before they were excluded.
    pub(crate) fn pool_of(&self, address: IpAddr, services: &[&ServicePart]) -> Option<&Pool> {
        let contains = |gone: bool| {
            let known = self.pools.values().filter(move |k| k.gone == gone).filter_map(|k| k.pool.as_ref());
            known.filter(move |p| p.addresses.contains(address))
        };
        let said = |p: &&Pool| services.iter().any(|s| s.pool.as_deref() == Some(p.name.as_str()));
        contains(false)
            .find(said)
            .or_else(|| contains(false).next())
            .or_else(|| contains(true).find(said))
            .or_else(|| contains(true).next())
    }

    /// Pools that are invalid now, why, and whether an earlier version is still in force.
    pub(crate) fn invalid_pools(&self) -> impl Iterator<Item = (&String, &InvalidPool, bool)> {
        self.pools.iter().filter_map(|(name, known)| Some((name, known.error.as_ref()?, known.pool.is_some())))
    }

    /// Pools that are gone but in use, and the addresses.
    pub(crate) fn ghosts(&self) -> impl Iterator<Item = (&String, BTreeSet<IpAddr>)> {
        self.pools.iter().filter(|(_, known)| known.gone).map(|(name, _)| (name, self.used_of(name)))
    }

    /// The addresses of Services that have no other pool than this one.
    fn used_of(&self, pool: &str) -> BTreeSet<IpAddr> {
        let served = self.services().filter(|s| s.served);
        let of = |(ip, s): &(IpAddr, &ServicePart)| self.pool_of(*ip, &[*s]).is_some_and(|p| p.name == pool);
        served.flat_map(|s| s.ingress.iter().map(move |ip| (*ip, s))).filter(of).map(|(ip, _)| ip).collect()
    }

    fn forget_ghosts(&mut self) {
        if !self.pools.values().any(|known| known.gone) {
            return;
        }
        let unused: BTreeSet<String> =
            self.ghosts().filter(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()).collect();
        self.pools.retain(|name, _| !unused.contains(name));
    }
}
