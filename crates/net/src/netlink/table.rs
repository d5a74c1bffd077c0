//! What the kernel says of its links, addresses and default routes, as a table; and what a message changed in it.

use super::wire::{Link, Message};
use engine::{IfIndex, MacAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The network of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Every interface.
    pub links: BTreeMap<IfIndex, LinkState>,
    /// The addresses of each interface that has any, with the length of their prefix.
    pub addresses: BTreeMap<IfIndex, BTreeSet<(IpAddr, u8)>>,
    /// The routers of the default routes of all routing tables, with the Ethernet address that each was last seen with.
    pub gateways: BTreeMap<(IfIndex, IpAddr), Option<MacAddr>>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Its name.
    pub name: String,
    /// Its further names (`ip link property add altname`).
    pub other_names: Vec<String>,
    /// Its Ethernet address; zero when it is not an Ethernet.
    pub mac: MacAddr,
    /// Switched on, and the cable or the other end is there.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// The bridge, bond or VRF that it is part of.
    pub master: Option<IfIndex>,
    /// What it is: `bridge`, `bond`, `veth`, `vlan`, `ipvs`; empty for hardware.
    pub kind: String,
    /// It leads to this node itself.
    pub loopback: bool,
}

/// What changed in the [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// An interface came or went or is another than before, perhaps only for a moment.
    Link(IfIndex),
    /// Addresses of an interface came or went.
    Addresses(IfIndex),
    /// A router on this interface came or went, or has another Ethernet address.
    Gateway {
        /// The interface.
        on: IfIndex,
    },
    /// Somebody took away an address that we had put on an interface, or its time was over.
    Ours,
    /// Some route changed: what an address is reached by may be another interface than before.
    Routes,
}

impl Table {
    /// The interface of this name; further names count too.
    pub fn index_of(&self, name: &str) -> Option<IfIndex> {
        let named = |l: &LinkState| l.name == name;
        let also_named = |l: &LinkState| l.other_names.iter().any(|n| n == name);
        self.links
            .iter()
            .find(|(_, l)| named(l))
            .or_else(|| self.links.iter().find(|(_, l)| also_named(l)))
            .map(|(i, _)| *i)
    }

    /// The name of an interface, or its number when there is none with that number.
    pub fn name_of(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| format!("number {index}"), |l| l.name.clone())
    }

    /// The addresses of one interface.
    pub fn addresses_of(&self, index: IfIndex) -> impl Iterator<Item = (IpAddr, u8)> {
        self.addresses.get(&index).into_iter().flatten().copied()
    }

    /// Takes over what one message says.
    pub(crate) fn apply(&mut self, message: Message, changes: &mut BTreeSet<Change>) {
        match message {
            Message::Link { gone: true, link } => {
                let index = link.index;
                if self.links.remove(&index).is_some() {
                    changes.insert(Change::Link(index));
                }
                if self.addresses.remove(&index).is_some() {
                    changes.insert(Change::Addresses(index));
                }
            }
            Message::Link { gone: false, link } => {
                let (index, state) = (link.index, LinkState::from(link));
                if self.links.get(&index) != Some(&state) {
                    self.links.insert(index, state);
                    changes.insert(Change::Link(index));
                }
            }
            // What we put there for Services is not the node's own.
            Message::Address { ours: true, gone, .. } => {
                if gone {
                    changes.insert(Change::Ours);
                }
            }
            Message::Address { gone, index, ip, prefix, ours: false } => {
                let of_link = self.addresses.entry(index).or_default();
                let changed = if gone { of_link.remove(&(ip, prefix)) } else { of_link.insert((ip, prefix)) };
                if of_link.is_empty() {
                    self.addresses.remove(&index);
                }
                if changed {
                    changes.insert(Change::Addresses(index));
                }
            }
            Message::Neighbour { index, ip, mac } => {
                if let Some(known) = self.gateways.get_mut(&(index, ip)) {
                    // To learn it the first time is no change: nobody used another one before.
                    if known.replace(mac).is_some_and(|old| old != mac) {
                        changes.insert(Change::Gateway { on: index });
                    }
                }
            }
            Message::Route(_) => {
                changes.insert(Change::Routes);
            }
            Message::Done(_) | Message::Other => {}
        }
    }

    /// Takes over the routers of the default routes; what is known of those that stay is kept.
    pub(crate) fn set_gateways(&mut self, found: BTreeSet<(IfIndex, IpAddr)>, changes: &mut BTreeSet<Change>) {
        let known: BTreeSet<(IfIndex, IpAddr)> = self.gateways.keys().copied().collect();
        for (on, _) in known.symmetric_difference(&found) {
            changes.insert(Change::Gateway { on: *on });
        }
        self.gateways = found.into_iter().map(|g| (g, self.gateways.get(&g).copied().flatten())).collect();
    }
}

impl LinkState {
    /// Addresses can be announced on it: it is an Ethernet and leads out of the node.
    pub fn announces(&self) -> bool {
        self.mac != MacAddr::ZERO && !self.loopback
    }
}

impl From<Link> for LinkState {
    fn from(link: Link) -> LinkState {
        let has = |flag: i32| link.flags & flag as u32 != 0;
        LinkState {
            up: has(libc::IFF_UP) && has(libc::IFF_RUNNING) && has(libc::IFF_LOWER_UP),
            loopback: has(libc::IFF_LOOPBACK),
            name: link.name,
            other_names: link.other_names,
            mac: link.mac.unwrap_or(MacAddr::ZERO),
            mtu: link.mtu,
            master: link.master,
            kind: link.kind,
        }
    }
}
