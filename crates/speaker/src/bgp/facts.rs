//! What the thread that talks BGP reports, as one value that replaces the last.

use super::liveness::Liveness;
use bgp::{Asn, Counters, RouterId, Routes, State, View};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

/// What is true on this node now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Counts commands that were carried out.
    pub commands: u64,
    /// Who we are.
    pub own: Option<(Asn, RouterId)>,
    /// What every router is to know.
    pub routes: Arc<Routes>,
    /// The routers, by name; those of a network by [`member`].
    pub peers: BTreeMap<String, PeerFacts>,
    /// BgpPeers whose router is not found yet, and why.
    pub unfound: BTreeMap<String, String>,
    /// Where nobody can connect to, and why.
    pub deaf: BTreeMap<SocketAddr, String>,
    /// The thread ended, for this reason, although nobody asked it to.
    pub ended: Option<String>,
}

/// The name of a router that connected from the network that a BgpPeer names. No BgpPeer is called so.
pub(crate) fn member(peer: &str, address: IpAddr) -> String {
    format!("{peer}/{address}")
}

impl Facts {
    /// What is said in the status of a BgpPeer: of a network's routers the first with a session stands for all.
    pub(crate) fn of_peer(&self, name: &str) -> Option<&PeerFacts> {
        let members = || self.peers.range(format!("{name}/")..format!("{name}0")).map(|(_, of)| of);
        self.peers.get(name).or_else(|| members().find(|of| of.established())).or_else(|| members().next())
    }
}

/// A router.
#[derive(Debug, Clone)]
pub(crate) struct PeerFacts {
    /// Where it is.
    pub address: SocketAddr,
    /// Its AS number as it is configured.
    pub asn: Option<Asn>,
    /// Ours towards it.
    pub local_asn: Asn,
    /// The session.
    pub view: View,
    /// What was counted.
    pub counters: Counters,
    /// It is kept down.
    pub down: bool,
    /// Since when it is established, or is not.
    pub since: SystemTime,
    /// Why it is not established; `None` also before anything failed.
    pub trouble: Option<String>,
    /// BFD, where it is on.
    pub bfd: Option<Liveness>,
}

impl PeerFacts {
    /// Routes go.
    pub(crate) fn established(&self) -> bool {
        self.view.state == State::Established
    }

    /// Routes that the router was told.
    pub(crate) fn advertised(&self) -> usize {
        self.view.routes.values().map(|r| r.advertised).sum()
    }

    /// Routes that the router is still to be told, or to be told the end of.
    pub(crate) fn queued(&self) -> usize {
        self.view.routes.values().map(|r| r.queued).max().unwrap_or_default()
    }
}
