//! The node's interfaces: where pools are announced here, and what of it changed.

use super::{Shell, TOKEN_FRAMES};
use api::pool::Interface;
use engine::{Engine, IfIndex};
use net::PacketSocket;
use std::collections::{BTreeMap, BTreeSet};

impl Shell {
    pub(super) fn kernel_changed(&mut self) -> Result<(), net::Error> {
        let now = net::now();
        let changes = self.monitor.read()?;
        let mut touched = BTreeSet::new();
        for change in &changes {
            match change {
                net::Change::Gateway { on } => self.l2.handle(now, l2::Input::Gateway { on: *on }),
                net::Change::Link(on) => drop(touched.insert(*on)),
                net::Change::Ours => self.renew_put_soon(now),
                net::Change::Addresses(_) | net::Change::Routes => {}
            }
        }
        if changes.iter().any(|change| *change != net::Change::Ours) {
            // A link may have been down or away for a moment between two reads: then the table looks as before, but
            // the socket and the groups went with it, and switches may have forgotten where addresses are. So what
            // was touched is taken away first, and comes back as new.
            for on in &touched {
                self.sockets.remove(on);
                self.groups.forget(*on);
                self.routers.forget(*on);
                self.fencing.forget(*on);
            }
            let links = self.links().into_iter().filter(|(on, _)| !touched.contains(on)).collect();
            self.l2.handle(now, l2::Input::Links(links));
            self.l2_effects();
            self.links_changed();
            self.follow(now);
        }
        Ok(())
    }

    pub(super) fn links_changed(&mut self) {
        self.news = true;
        self.facts.table = self.monitor.table().clone();
        self.resolve();
        self.l2.handle(net::now(), l2::Input::Links(self.links()));
    }

    fn links(&self) -> BTreeMap<IfIndex, l2::Link> {
        let links = self.facts.table.links.iter().filter(|(_, l)| !l.loopback);
        links.map(|(on, l)| (*on, l2::Link { mac: l.mac, up: l.up, name: l.name.clone() })).collect()
    }

    /// Finds the interfaces of all pools anew, and holds a packet socket on exactly those.
    pub(super) fn resolve(&mut self) {
        let specs: BTreeSet<Interface> = self.intent.addresses.values().map(|w| w.place.interface.clone()).collect();
        self.resolved.clear();
        for interface in specs {
            let found = match &interface {
                Interface::Names(names) => net::resolve_names(names, &self.facts.table),
                Interface::CanReach(ip) => net::resolve_route(*ip, &self.monitor),
            };
            self.resolved.insert(interface, found.map_err(|e| e.to_string()));
        }
        let wanted: BTreeSet<IfIndex> = self.resolved.values().flatten().flatten().copied().collect();
        self.sockets.retain(|on, _| wanted.contains(on));
        for on in wanted {
            if self.sockets.contains_key(&on) {
                continue;
            }
            let opened = PacketSocket::open(on);
            let opened = opened.and_then(|s| self.poller.add(&s, TOKEN_FRAMES + u64::from(on.0)).map(|()| s));
            match opened {
                Ok(socket) => {
                    self.sockets.insert(on, socket);
                }
                Err(error) => {
                    for result in self.resolved.values_mut().filter(|r| r.as_ref().is_ok_and(|s| s.contains(&on))) {
                        *result = Err(error.to_string());
                    }
                }
            }
        }
    }
}
