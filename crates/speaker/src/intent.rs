//! What the agent wants of the shell.

use crate::Options;
use api::Protocol;
use api::pool::{Failover, Interface};
use lease::{Epoch, Partition, Preset};
use plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// An order to the shell.
#[derive(Debug)]
pub enum Command {
    /// This is all that is wanted from now on.
    Apply(Arc<Intent>),
    /// The confirmed epoch is on disk.
    Recorded(Epoch),
    /// Give to other nodes what placement would give them were it done anew.
    Rebalance,
    /// Give each of these addresses to its node, if this one owns it.
    Move(BTreeMap<IpAddr, String>),
    /// Report facts again, also when nothing changed.
    Report,
    /// Say goodbye and end.
    Leave,
}

/// All that this node is to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Intent {
    /// The other speakers, by node.
    pub peers: BTreeMap<String, SocketAddr>,
    /// The keys that authenticate heartbeats, the current one first.
    pub keys: Vec<Vec<u8>>,
    /// Whose grants make an owner.
    pub acceptors: Epoch,
    /// How many addresses nodes are to own in relation to others, where it is not 100.
    pub weights: BTreeMap<String, u32>,
    /// The addresses of the cluster that are announced by layer2.
    pub addresses: BTreeMap<IpAddr, Wanted>,
}

/// One address that some node is to own.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its pool, and where to announce it.
    pub place: Arc<Place>,
    /// The nodes that may own it.
    pub candidates: Arc<BTreeSet<String>>,
}

/// Where the addresses of a pool are announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The pool's name.
    pub pool: String,
    /// Its interface.
    pub interface: Interface,
    /// How fast its addresses get another owner.
    pub preset: Preset,
    /// What happens to them without a majority of acceptors.
    pub partition: Partition,
}

impl Intent {
    /// The part of a plan that concerns the speakers of layer2.
    pub fn new(plan: &Plan, keys: Vec<Vec<u8>>, acceptors: Epoch, options: &Options) -> Intent {
        let mut intent = Intent { keys, acceptors, weights: plan.weights.clone(), ..Intent::default() };
        for (node, addresses) in &plan.peers {
            // Heartbeats go to the first address of the family that we listen on.
            let reachable = |ip: &&IpAddr| options.bind.is_ipv6() || ip.is_ipv4();
            if let (true, Some(ip)) = (*node != options.node, addresses.iter().find(reachable)) {
                intent.peers.insert(node.clone(), SocketAddr::new(*ip, options.bind.port()));
            }
        }
        if options.layer2 {
            let mut places: BTreeMap<&str, Arc<Place>> = BTreeMap::new();
            let of_layer2 = plan.addresses.iter().filter(|(_, a)| a.pool.protocol == Protocol::Layer2);
            let wanted = of_layer2.filter_map(|(address, a)| {
                let interface = a.pool.interface.as_ref()?;
                let place = || {
                    let preset = match a.pool.failover {
                        Failover::Fast => Preset::Fast,
                        Failover::Normal => Preset::Normal,
                        Failover::Relaxed => Preset::Relaxed,
                    };
                    let partition = match a.pool.partition {
                        api::pool::Partition::Available => Partition::Available,
                        api::pool::Partition::SingleOwner => Partition::SingleOwner,
                    };
                    let (pool, interface) = (a.pool.name.clone(), interface.clone());
                    Arc::new(Place { pool, interface, preset, partition })
                };
                let place = places.entry(&a.pool.name).or_insert_with(place).clone();
                Some((*address, Wanted { place, candidates: a.candidates.clone() }))
            });
            intent.addresses = wanted.collect();
        }
        intent
    }
}
