//! What the agent wants of the shell.

use crate::Options;
use api::Vrrp;
use api::pool::{Failover, Interface};
use engine::MacAddr;
use lease::{Epoch, Partition, Preset};
use plan::{OfPool, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use vrrp::Vrid;

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
    /// The addresses of the cluster that are announced by layer2 or vip.
    pub addresses: BTreeMap<IpAddr, Wanted>,
    /// Those of vip that move together.
    pub units: BTreeMap<IpAddr, Unit>,
}

/// Addresses of vip that move together. The lease knows them by one address that no Service has.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Their id of VRRP, 1 to 255.
    pub id: u8,
    /// The addresses, at least one and all of one family.
    pub members: BTreeSet<IpAddr>,
    /// Their pool, and where to announce them.
    pub place: Arc<Place>,
    /// The nodes that may own them all.
    pub candidates: Arc<BTreeSet<String>>,
}

/// What the lease calls the addresses with this id, inside the prefix that is discarded everywhere (RFC 6666).
fn unit_of(id: u8, ipv6: bool) -> IpAddr {
    Ipv6Addr::new(0x0100, 0, 0, 0, 0, 0, u16::from(ipv6), id.into()).into()
}

/// Whether it is such an address.
pub fn is_unit(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.segments().starts_with(&[0x0100, 0, 0, 0]))
}

/// One address that some node is to own.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its pool, and where to announce it.
    pub place: Arc<Place>,
    /// The nodes that may own it.
    pub candidates: Arc<BTreeSet<String>>,
    /// What the lease knows it by: itself, or one of the [`Unit`]s.
    pub unit: IpAddr,
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
    /// How owners say so by VRRP, with protocol vip.
    pub vrrp: Option<Arc<Vrrp>>,
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
        let mut places: BTreeMap<&str, Arc<Place>> = BTreeMap::new();
        for (address, a) in plan.addresses.iter().filter(|(_, a)| options.owns(a.pool.protocol)) {
            let Some(interface) = &a.pool.interface else { continue };
            let place = places.entry(&a.pool.name).or_insert_with(|| Arc::new(place(&a.pool, interface))).clone();
            let candidates = a.candidates.clone();
            let unit = match (&place.vrrp, a.router) {
                (None, _) => *address,
                (Some(_), Some(id)) => intent.join(id, *address, &place, &candidates),
                // The controller has not given it an id yet.
                (Some(_), None) => continue,
            };
            intent.addresses.insert(*address, Wanted { place, candidates, unit });
        }
        intent
    }

    /// Adds an address to those with this id; gives what the lease knows them by.
    fn join(&mut self, id: u8, address: IpAddr, place: &Arc<Place>, candidates: &Arc<BTreeSet<String>>) -> IpAddr {
        let key = unit_of(id, address.is_ipv6());
        let unit = self.units.entry(key).or_insert_with(|| {
            let (place, candidates) = (place.clone(), candidates.clone());
            Unit { id, members: BTreeSet::new(), place, candidates }
        });
        unit.members.insert(address);
        if *unit.candidates != **candidates {
            unit.candidates = Arc::new(unit.candidates.intersection(candidates).cloned().collect());
        }
        key
    }

    /// What the lease knows an address by.
    pub fn unit(&self, address: IpAddr) -> IpAddr {
        self.addresses.get(&address).map_or(address, |wanted| wanted.unit)
    }

    /// The MAC address of the virtual router that an address belongs to, where owners are to speak with that.
    pub fn virtual_mac(&self, address: IpAddr) -> Option<MacAddr> {
        // Asked of every address at every change of owners, and most clusters have no pool of vip.
        if self.units.is_empty() {
            return None;
        }
        let unit = self.units.get(&self.addresses.get(&address)?.unit)?;
        let id = unit.place.vrrp.as_ref().filter(|vrrp| vrrp.virtual_mac).and(Vrid::try_from(unit.id).ok())?;
        Some(id.mac(vrrp::packet::family(address)))
    }

    /// One of the addresses that the lease knows by this one: who owns one of them owns all, and on the same links.
    pub fn any_member(&self, unit: IpAddr) -> IpAddr {
        self.units.get(&unit).and_then(|unit| unit.members.first().copied()).unwrap_or(unit)
    }

    /// The addresses that the lease knows by this one.
    pub fn members(&self, unit: IpAddr) -> Vec<IpAddr> {
        self.units.get(&unit).map_or_else(|| vec![unit], |unit| unit.members.iter().copied().collect())
    }
}

impl Place {
    /// VRRP itself decides who owns the addresses, not the lease.
    pub fn elects(&self) -> bool {
        self.vrrp.as_ref().is_some_and(|vrrp| vrrp.interop)
    }
}

fn place(pool: &OfPool, interface: &Interface) -> Place {
    let preset = match pool.failover {
        Failover::Fast => Preset::Fast,
        Failover::Normal => Preset::Normal,
        Failover::Relaxed => Preset::Relaxed,
    };
    let partition = match pool.partition {
        api::pool::Partition::Available => Partition::Available,
        api::pool::Partition::SingleOwner => Partition::SingleOwner,
    };
    let (pool, interface, vrrp) = (pool.name.clone(), interface.clone(), pool.vrrp.clone());
    Place { pool, interface, preset, partition, vrrp }
}
