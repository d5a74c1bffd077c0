//! Routers that connect to this node.

use super::{ACCEPTS, LISTEN_AGAIN, ListenAt, Thread, end_of};
use bgp::Direction;
use engine::IfIndex;
use net::{TcpListener, TcpOptions};
use std::collections::BTreeSet;

/// A router for which no device is written comes by any, also by one that has a listener of its own for another's sake.
pub(super) fn may_come_by(transport: &TcpOptions, device: &Option<String>) -> bool {
    transport.device.is_none() || transport.device == *device
}

impl Thread {
    /// Opens and closes listeners, and gives each the passwords of its routers.
    pub(super) fn listen(&mut self) {
        self.listen_again = None;
        let wanted: BTreeSet<ListenAt> = self.intent.listen.clone();
        self.listeners.retain(|place, _| wanted.contains(place));
        self.news |= !self.facts.deaf.is_empty();
        self.facts.deaf.clear();
        for place in wanted {
            let (address, device) = &place;
            if !self.listeners.contains_key(&place) {
                let ours = self.listeners.values().map(|(_, listener)| listener);
                let opened = TcpListener::bind(*address, device.as_deref(), ours);
                match opened.and_then(|l| self.poller.add(&l, self.next_listener).map(|()| l)) {
                    Ok(listener) => {
                        self.listeners.insert(place.clone(), (self.next_listener, listener));
                        self.next_listener += 1;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "routers cannot connect to this node; it connects to them");
                        self.facts.deaf.insert(*address, error.to_string());
                        self.listen_again = Some(net::now() + LISTEN_AGAIN);
                        self.news = true;
                        continue;
                    }
                }
            }
            let Some((_, listener)) = self.listeners.get(&place) else { continue };
            for (name, network, transport) in self.networks(&self.intent) {
                if network.0.is_ipv4() != address.is_ipv4() || !may_come_by(transport, device) {
                    continue;
                }
                if let Err(error) = listener.set_password(network, transport.password.as_deref()) {
                    tracing::warn!(peer = name, %error, "the password is not in force");
                }
            }
        }
    }

    pub(super) fn accept(&mut self, token: u64) {
        for _ in 0..ACCEPTS {
            let Some((place, (_, listener))) = self.listeners.iter().find(|(_, (t, _))| *t == token) else { return };
            let tcp = match listener.accept() {
                Ok(Some(tcp)) => tcp,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "a connection was not accepted"),
            };
            let device = place.1.clone();
            let from = tcp.peer();
            // A link-local address may be written down too, with the device beside it.
            let written = || self.by_address.get(&(from.ip(), IfIndex(0)));
            let known = self.by_address.get(&end_of(from)).or_else(written).cloned();
            let Some(name) = known.or_else(|| self.take_in(from, &device)) else {
                tracing::debug!(%from, "a connection of a stranger was closed: no BgpPeer has this address");
                continue;
            };
            let Some(peer) = self.peers.get(&name).filter(|p| may_come_by(&p.router.transport, &device)) else {
                continue;
            };
            let ready = tcp.set_ttl(peer.router.transport.ttl).and_then(|()| tcp.local());
            let Ok(local) = ready else { continue };
            let Some(connection) = self.adopt(&name, tcp, false) else { continue };
            self.tcp_up(&name, connection, Direction::Incoming, local);
        }
    }
}
