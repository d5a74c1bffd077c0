//! What the agent wants of the shell.

use crate::Options;
use api::Protocol;
use api::pool::Interface;
use plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// An order to the shell.
#[derive(Debug)]
pub enum Command {
    /// This is all that is wanted from now on.
    Apply(Box<Intent>),
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
    /// The addresses of the cluster that are announced by layer2.
    pub addresses: BTreeMap<IpAddr, Wanted>,
}

/// One address that some node is to own.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The pool that it is from.
    pub pool: String,
    /// Where to announce it.
    pub interface: Interface,
    /// The nodes that may own it.
    pub candidates: Arc<BTreeSet<String>>,
}

impl Intent {
    /// The part of a plan that concerns the speakers of layer2.
    pub fn new(plan: &Plan, keys: Vec<Vec<u8>>, options: &Options) -> Intent {
        let mut intent = Intent { keys, ..Intent::default() };
        for (node, addresses) in &plan.peers {
            // Heartbeats go to the first address of the family that we listen on.
            let reachable = |ip: &&IpAddr| options.bind.is_ipv6() || ip.is_ipv4();
            if let (true, Some(ip)) = (*node != options.node, addresses.iter().find(reachable)) {
                intent.peers.insert(node.clone(), SocketAddr::new(*ip, options.bind.port()));
            }
        }
        if options.layer2 {
            for (address, a) in &plan.addresses {
                let Some(interface) = a.interface.clone().filter(|_| a.protocol == Protocol::Layer2) else { continue };
                let candidates = a.candidates.clone();
                intent.addresses.insert(*address, Wanted { pool: a.pool.clone(), interface, candidates });
            }
        }
        intent
    }
}
