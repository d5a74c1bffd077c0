//! BFD with routers, on a thread of its own that runs ahead of all ordinary ones. It is not the thread that talks BGP: a
//! router that sends a whole Internet table may hold that one up for longer than BFD waits. And it is not the deadline
//! thread: what is wrong with a router's BFD keeps nobody's ARP waiting.
//!
//! ```text
//!  Order (whom to watch) ──► epoll, timerfd ──► Table ──► bfd::Session of each router ──► UDP
//!                                                           │
//!  thread that talks BGP ◄──(woken)── Board: the latest of each router, and how often its path was lost
//! ```

use crate::orders::Orders;
use bfd::{Cause, Discriminator, Effect, Input, MULTI_HOP_PORT, Path, SINGLE_HOP_PORT, SOURCE_PORTS, Session};
use engine::{Engine, IfIndex, Tick};
use net::{Error, HopReceiver, HopSender, Poller, Routes, Waker};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

const STACK: usize = 256 * 1024;
/// Longer than any Control packet.
const PACKET: usize = 512;
/// How many packets of one socket are read in a turn. After a pause all that waited is to be heard before anybody is found
/// to be silent.
const BATCH: usize = 4096;
/// What could not be begun is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// So long at most a peer is told that the session ends by our will.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// Who is to be watched, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Watched {
    /// The router; the port does not count.
    pub peer: SocketAddr,
    /// Our end of the BGP connection, or what it would be.
    pub local: IpAddr,
    /// Only through this device.
    pub device: Option<String>,
    /// The session.
    pub config: bfd::Config,
}

/// An order to the thread.
#[derive(Debug)]
pub(super) enum Order {
    /// These routers, by name, and no others.
    Watch(BTreeMap<String, Watched>),
    /// Tell all that it ends by our will (RFC 5882 §4.3), and end.
    Leave,
}

/// What is known of one router.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    /// Packets go both ways.
    pub up: bool,
    /// Since when it is so, or not.
    pub since: SystemTime,
    /// Why it is down.
    pub reason: Option<String>,
    /// The number of the last loss of the path; numbers rise over all routers, and 0 is none. An operator's doing on
    /// either side is no loss (RFC 5882 §3.2).
    pub lost: u64,
    /// What was counted.
    pub counters: bfd::Counters,
}

impl Default for Liveness {
    fn default() -> Liveness {
        Liveness {
            up: false,
            since: SystemTime::now(),
            reason: Some("there is no way to the router yet".to_owned()),
            lost: 0,
            counters: bfd::Counters::default(),
        }
    }
}

/// The latest of each router.
#[derive(Debug, Default)]
struct Board {
    peers: BTreeMap<String, Liveness>,
    losses: u64,
    ended: bool,
}

/// The end of the thread that talks BGP.
#[derive(Debug)]
pub(super) struct Watch {
    orders: Orders<Order>,
    board: Arc<Mutex<Board>>,
}

impl Watch {
    /// Starts the thread; it wakes this one when something changed.
    pub(super) fn start(waker: Waker) -> Result<Watch, Error> {
        let poller = Poller::new()?;
        let (orders, given) = Orders::new(poller.waker());
        let board = Arc::<Mutex<Board>>::default();
        let mut thread = Thread {
            poller,
            orders: given,
            board: board.clone(),
            waker,
            routes: Routes::new()?,
            table: bfd::Table::default(),
            sessions: BTreeMap::new(),
            receivers: BTreeMap::new(),
            next_token: 1,
            wanted: BTreeMap::new(),
            again: None,
            rng: fastrand::Rng::new(),
        };
        let started = std::thread::Builder::new().name("bfd".to_owned()).stack_size(STACK).spawn(move || {
            if let Err(error) = net::prefer_deadlines() {
                tracing::warn!(%error, "the thread of BFD has no raised priority: under load it may find routers dead that are not");
            }
            if let Err(error) = thread.run() {
                tracing::error!(%error, "BFD has ended; the hold time of BGP still counts");
            }
            thread.board().ended = true;
            thread.waker.wake();
        });
        started.map_err(|source| Error::Kernel { what: "start the thread of BFD".to_owned(), source })?;
        Ok(Watch { orders, board })
    }

    /// False when it is too busy: what matters is sent again later.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.send(order)
    }

    /// The latest of each router.
    pub(super) fn peers(&self) -> BTreeMap<String, Liveness> {
        lock(&self.board).peers.clone()
    }

    /// The thread is done.
    pub(super) fn ended(&self) -> bool {
        lock(&self.board).ended
    }
}

/// Who panicked while it held the lock ended the process.
fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Thread {
    poller: Poller,
    orders: Receiver<Order>,
    board: Arc<Mutex<Board>>,
    waker: Waker,
    routes: Routes,
    table: bfd::Table,
    sessions: BTreeMap<Discriminator, Running>,
    /// By port, family and device.
    receivers: BTreeMap<Port, (u64, HopReceiver)>,
    next_token: u64,
    wanted: BTreeMap<String, Watched>,
    /// Something could not be begun.
    again: Option<Tick>,
    rng: fastrand::Rng,
}

type Port = (u16, bool, Option<String>);

struct Running {
    name: String,
    watched: Watched,
    session: Session,
    sender: HopSender,
    /// It is not wanted any more; until then the peer is told so.
    farewell: Option<Tick>,
}

impl Running {
    fn place(&self) -> (SocketAddr, IpAddr, &Option<String>, u16) {
        place(&self.watched)
    }
}

fn port(config: &bfd::Config) -> u16 {
    if config.hops == bfd::Hops::Single { SINGLE_HOP_PORT } else { MULTI_HOP_PORT }
}

fn place(watched: &Watched) -> (SocketAddr, IpAddr, &Option<String>, u16) {
    (watched.peer, watched.local, &watched.device, port(&watched.config))
}

/// The link of a router that has a link-local address; 0 for others.
pub(super) fn link(peer: SocketAddr) -> IfIndex {
    IfIndex(if let SocketAddr::V6(peer) = peer { peer.scope_id() } else { 0 })
}

impl Thread {
    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut buffer = [0; PACKET];
        let mut leaving = false;
        loop {
            if leaving && self.sessions.is_empty() {
                return Ok(());
            }
            let farewells = self.sessions.values().filter_map(|r| r.farewell);
            let sessions = self.sessions.values().filter_map(|r| r.session.deadline());
            let deadline = sessions.chain(farewells).chain(self.again).min();
            for token in self.poller.wait(deadline)? {
                self.packets(token, &mut buffer);
            }
            loop {
                match self.orders.try_recv() {
                    Ok(Order::Watch(wanted)) => {
                        self.wanted = wanted;
                        self.begin_and_end();
                    }
                    Ok(Order::Leave) => {
                        leaving = true;
                        self.wanted.clear();
                        self.begin_and_end();
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = net::now();
            if self.again.is_some_and(|at| at <= now) {
                self.begin_and_end();
            }
            for running in self.sessions.values_mut().filter(|r| r.session.deadline().is_some_and(|at| at <= now)) {
                running.session.timeout(now);
            }
            self.effects();
            self.forget(now);
        }
    }

    fn packets(&mut self, token: u64, buffer: &mut [u8]) {
        let Some((port, (_, receiver))) = self.receivers.iter().find(|(_, (t, _))| *t == token) else { return };
        for _ in 0..BATCH {
            // An error here is about a packet that was sent earlier.
            let Ok(Some(arrival)) = receiver.receive(buffer) else { return };
            let message = buffer.get(..arrival.length.min(PACKET)).unwrap_or_default();
            let peer = arrival.from.ip();
            let by = |interface| Path::Single { interface, peer };
            let came_by: &[Path] = match port {
                (SINGLE_HOP_PORT, _, None) => &[by(arrival.on)],
                // A device is a path of its own, since in a VRF it is not the interface by which packets come in. What is
                // for a session without a device comes to this socket too.
                (SINGLE_HOP_PORT, ..) => &[by(IfIndex(0)), by(arrival.on)],
                _ => &[Path::Multi { local: arrival.to, peer }],
            };
            let found = self.table.find(came_by, message).ok();
            if let Some(running) = found.and_then(|d| self.sessions.get_mut(&d)) {
                let input = Input::Packet { ttl: arrival.ttl, message: message.to_vec() };
                running.session.handle(net::now(), input);
            }
        }
    }

    /// Brings what runs to what is wanted; only what is different is touched.
    fn begin_and_end(&mut self) {
        let now = net::now();
        self.again = None;
        for running in self.sessions.values_mut() {
            match self.wanted.get(&running.name) {
                Some(wanted) if running.farewell.is_none() && place(wanted) == running.place() => {
                    if wanted.config != running.watched.config {
                        running.session.handle(now, Input::Configure(Box::new(wanted.config.clone())));
                    }
                    running.watched = wanted.clone();
                }
                _ if running.farewell.is_none() => {
                    // The path is not to blame, and the peer is to know that (RFC 5882 §4.3).
                    running.session.handle(now, Input::AdminDown);
                    running.farewell = Some(now + FAREWELL);
                }
                _ => {}
            }
        }
        self.forget(now);
        lock(&self.board).peers.retain(|name, _| self.wanted.contains_key(name));
        for (name, watched) in self.wanted.clone() {
            if self.sessions.values().any(|r| r.name == name && r.farewell.is_none()) {
                continue;
            }
            if let Err(error) = self.begin(now, &name, watched) {
                tracing::warn!(peer = name, error, "BFD with the router cannot begin; it is tried again");
                self.board().peers.entry(name).or_default().reason = Some(error);
                self.again = Some(now + AGAIN);
                self.waker.wake();
            }
        }
        let used: BTreeSet<Port> =
            self.sessions.values().map(|r| listens(&r.watched)).chain(self.wanted.values().map(listens)).collect();
        self.receivers.retain(|port, _| used.contains(port));
        self.effects();
    }

    fn begin(&mut self, now: Tick, name: &str, watched: Watched) -> Result<(), String> {
        let text = |e: Error| e.to_string();
        let port = listens(&watched);
        if !self.receivers.contains_key(&port) {
            let ours = self.receivers.iter().filter(|(p, _)| (p.0, p.1) == (port.0, port.1)).map(|(_, (_, r))| r);
            let receiver = HopReceiver::bind(port.1, port.0, port.2.as_deref(), ours).map_err(text)?;
            self.poller.add(&receiver, self.next_token).map_err(text)?;
            self.receivers.insert(port, (self.next_token, receiver));
            self.next_token += 1;
        }
        let (peer, link) = (watched.peer.ip(), link(watched.peer));
        let path = match (watched.config.hops, &watched.device) {
            (bfd::Hops::Single, None) if link != IfIndex(0) => Path::Single { interface: link, peer },
            (bfd::Hops::Single, None) => {
                let interface = self.routes.to(peer).map_err(|e| e.to_string())?;
                Path::Single { interface, peer }
            }
            (bfd::Hops::Single, Some(_)) => Path::Single { interface: IfIndex(0), peer },
            (bfd::Hops::Multi { .. }, _) => Path::Multi { local: watched.local, peer },
        };
        let (rng, device) = (&mut self.rng, watched.device.as_deref());
        let sender = HopSender::bind((watched.local, link), SOURCE_PORTS, device, |ports| rng.u16(ports));
        let sender = sender.map_err(text)?;
        let Some(discriminator) = self.table.insert(path, &mut self.rng) else {
            return Err("the session before is still being ended".to_owned());
        };
        let session = Session::new(now, watched.config.clone(), discriminator, self.rng.fork());
        tracing::info!(peer = name, local = %watched.local, "BFD with the router begins");
        let running = Running { name: name.to_owned(), watched, session, sender, farewell: None };
        self.sessions.insert(discriminator, running);
        let reason = Some("the router's BFD is not heard; is it on there?".to_owned());
        self.board().peers.insert(name.to_owned(), Liveness { reason, ..Liveness::default() });
        self.waker.wake();
        Ok(())
    }

    /// Sessions whose peer knows that they have ended, or had the time to hear of it.
    fn forget(&mut self, now: Tick) {
        let over = |r: &Running| r.farewell.is_some_and(|at| at <= now || r.session.peer_knows());
        let gone: Vec<Discriminator> = self.sessions.iter().filter(|(_, r)| over(r)).map(|(d, _)| *d).collect();
        if gone.is_empty() {
            return;
        }
        for discriminator in gone {
            self.sessions.remove(&discriminator);
            self.table.remove(discriminator);
        }
        // A session in the same place may have waited for this one.
        if self.again.is_some() {
            self.again = Some(now);
        }
    }

    fn effects(&mut self) {
        for running in self.sessions.values_mut() {
            let mut to = running.watched.peer;
            to.set_port(port(&running.watched.config));
            let mut changed = false;
            while let Some(effect) = running.session.poll() {
                if let Effect::Send { message } = effect {
                    // Not sent is lost, and BFD is there to find out.
                    let _ = running.sender.send(&message, to);
                } else if running.farewell.is_none() {
                    changed |= told(&mut lock(&self.board), &running.name, effect);
                }
            }
            if let Some(liveness) = lock(&self.board).peers.get_mut(&running.name) {
                liveness.counters = running.session.counters().clone();
            }
            if changed {
                self.waker.wake();
            }
        }
    }
}

fn listens(watched: &Watched) -> Port {
    (port(&watched.config), watched.peer.is_ipv6(), watched.device.clone())
}

/// Takes down what a session says of itself. True when it is news.
fn told(board: &mut Board, name: &str, effect: Effect) -> bool {
    let Board { peers, losses, .. } = board;
    let liveness = peers.entry(name.to_owned()).or_default();
    match effect {
        Effect::Up => {
            tracing::info!(peer = name, "BFD with the router is up");
            (liveness.up, liveness.since, liveness.reason) = (true, SystemTime::now(), None);
        }
        Effect::Down { diagnostic, cause } => {
            let why = match cause {
                Cause::Silence => "nothing was heard for the detection time".to_owned(),
                Cause::Peer(theirs) => format!("the router says that it is down: {theirs}"),
                Cause::PeerAdmin => "the router's operator holds it down; BGP goes on".to_owned(),
                Cause::Admin | Cause::Link => diagnostic.to_string(),
            };
            tracing::warn!(peer = name, why, "BFD with the router is down");
            // RFC 5882 §3.2: an operator's doing says nothing of the path.
            if !matches!(cause, Cause::PeerAdmin | Cause::Admin) {
                *losses += 1;
                liveness.lost = *losses;
            }
            (liveness.up, liveness.since, liveness.reason) = (false, SystemTime::now(), Some(why));
        }
        Effect::Refused { reason } => {
            tracing::warn!(peer = name, %reason, "a BFD packet of the router does not count");
            if liveness.up {
                return false;
            }
            liveness.reason = Some(format!("a packet of the router does not count: {reason}"));
        }
        Effect::Send { .. } => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use bfd::Diagnostic;

    #[test]
    fn only_what_says_something_of_the_path_counts_as_a_loss() {
        let mut board = Board::default();
        let down = |cause| Effect::Down { diagnostic: Diagnostic::NONE, cause };
        for (cause, losses) in [
            (Cause::PeerAdmin, 0),
            (Cause::Admin, 0),
            (Cause::Silence, 1),
            (Cause::Peer(Diagnostic::EXPIRED), 2),
            (Cause::Link, 3),
        ] {
            assert!(told(&mut board, "tor", Effect::Up));
            assert_eq!((board.peers["tor"].up, &board.peers["tor"].reason), (true, &None));
            assert!(told(&mut board, "tor", down(cause)));
            assert!(!board.peers["tor"].up && board.peers["tor"].reason.is_some());
            assert_eq!((board.losses, cause), (losses, cause));
        }
        assert_eq!(board.peers["tor"].lost, 3, "the number of its last loss");
    }
}
