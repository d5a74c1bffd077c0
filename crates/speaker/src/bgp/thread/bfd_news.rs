//! What BFD says of routers, and which of them it is to watch.

use super::{Peer, Thread};
use crate::bgp::liveness::{FAREWELL, Liveness, Order, Watch, Watched};
use bgp::{Input, State};
use engine::Tick;
use net::TcpOptions;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an order waits for which the other thread had no room.
const BUSY: Duration = Duration::from_millis(100);
/// BFD that could not be started is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Bfd {
    /// Runs from the first router that wants it on.
    watch: Option<Watch>,
    ordered: BTreeMap<String, Watched>,
    /// What is to be watched has perhaps changed.
    pub(super) differs: bool,
    pub(super) order_again: Option<Tick>,
    /// The last loss of each path that was heard of.
    heard: BTreeMap<String, u64>,
    /// Peers are told until then that BFD ends by our will.
    farewell_until: Option<Tick>,
}

impl Bfd {
    pub(super) fn peers(&self) -> BTreeMap<String, Liveness> {
        self.watch.as_ref().map(Watch::peers).unwrap_or_default()
    }

    pub(super) fn leave(&mut self, now: Tick) {
        if self.watch.as_ref().is_some_and(|w| w.order(Order::Leave)) {
            self.farewell_until = Some(now + FAREWELL);
        }
    }
}

impl Thread {
    /// When this thread ends: a planned end is known to the peers' BFD first, so that it is not taken for a broken path
    /// (RFC 5882 §4.3).
    pub(super) fn leaves_at(&self) -> Option<Tick> {
        let said = self.bfd.watch.as_ref().is_none_or(Watch::ended);
        let farewell = self.bfd.farewell_until.filter(|_| !said);
        self.leave_at.map(|at| farewell.map_or(at, |until| until.max(at)))
    }

    /// The other thread has something to tell. A path that was lost takes its session down at once, and never the other
    /// way round (RFC 5882 §4.2).
    pub(super) fn bfd_news(&mut self) {
        for (name, liveness) in self.bfd.peers() {
            let heard = self.bfd.heard.entry(name.clone()).or_default();
            self.news = true;
            if liveness.lost > std::mem::replace(heard, liveness.lost) {
                self.tell(&name, Input::BfdDown);
            }
        }
    }

    /// Says whom to watch, when that has changed: each router as soon as there is a way to it. Some, as FRR 10, open no
    /// session of BGP before that of BFD is up.
    pub(super) fn order_bfd(&mut self, now: Tick) {
        let again = self.bfd.order_again.is_some_and(|at| at <= now);
        if self.leave_at.is_some() || !(std::mem::take(&mut self.bfd.differs) || again) {
            return;
        }
        self.bfd.order_again = None;
        let wanted: BTreeMap<String, Watched> = self
            .peers
            .iter()
            .filter_map(|(name, peer)| Some((name.clone(), watched(peer, self.bfd.ordered.get(name))?)))
            .collect();
        let wants = |p: &Peer| p.router.bfd.is_some() && !p.router.down;
        if self.peers.iter().any(|(name, peer)| wants(peer) && !wanted.contains_key(name)) {
            self.bfd.order_again = Some(now + AGAIN);
        }
        if wanted == self.bfd.ordered {
            return;
        }
        if self.bfd.watch.is_none() {
            match Watch::start(self.poller.waker()) {
                Ok(watch) => self.bfd.watch = Some(watch),
                Err(error) => {
                    tracing::error!(%error, "there is no BFD; the hold time of BGP still counts");
                    self.bfd.order_again = Some(now + AGAIN);
                    return;
                }
            }
        }
        if self.bfd.watch.as_ref().is_some_and(|w| w.order(Order::Watch(wanted.clone()))) {
            self.bfd.ordered = wanted;
        } else {
            self.bfd.order_again = Some(now + BUSY);
        }
    }
}

/// `before` is how the router is watched now: that goes on while BGP is down, for BFD says when the path is back.
fn watched(peer: &Peer, before: Option<&Watched>) -> Option<Watched> {
    let config = peer.router.bfd.clone().filter(|_| !peer.router.down)?;
    let connected = peer.local.filter(|_| peer.session.state() == State::Established);
    let TcpOptions { source, device, .. } = &peer.router.transport;
    let to = peer.router.address;
    let guessed = || source.or_else(|| net::source_towards(to, device.as_deref()));
    let local = connected.or_else(|| before.map(|b| b.local)).or_else(guessed)?;
    Some(Watched { peer: to, local, device: device.clone(), config })
}
