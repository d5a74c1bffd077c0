//! The thread that talks BGP: one loop that owns the TCP connections and runs the sessions. It is not the deadline
//! thread: a router that sends a whole Internet table keeps nobody's ARP waiting.
//!
//! ```text
//!  Command ──┐                    ┌─► session of router 1 ─┐
//!  listeners ├─► epoll, timerfd ──┼─► session of router 2 ─┼─► effects: connect, write, close, Facts
//!  links    ─┘                    └─► …                    ─┘
//! ```

mod bfd_news;
mod finding;
mod listening;

use super::facts::{Facts, PeerFacts};
use super::intent::{Command, Intent, Router};
use super::link::Link;
use super::liveness::link;
use crate::orders::Orders;
use bfd_news::Bfd;
use bgp::{ConnectionId, Direction, Effect, Input, Nlri, Path, Routes, Session, Stop};
use engine::{Engine, IfIndex, Tick};
use finding::Looking;
use net::{Error, Poller, TcpConnection, TcpListener};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

const STACK: usize = 512 * 1024;
/// What is read of one connection at once.
const BUFFER: usize = 64 * 1024;
/// How often a connection is read in a turn, so that a flood on one does not delay the timers of all.
const READS: usize = 4;
/// How many connections of one listener are accepted in a turn.
const ACCEPTS: usize = 16;
/// A port that was taken is tried again after this time.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// How long routers may take to choose other paths before this node leaves for good (RFC 8326).
const DRAIN: Duration = Duration::from_secs(1);

/// Connections count up from here; listeners are below.
const FIRST_CONNECTION: u64 = 1 << 32;

/// Where to listen, and through which device.
type ListenAt = (SocketAddr, Option<String>);
/// What changed of the routes: `None` is gone.
type Changes = Vec<(Nlri, Option<Arc<Path>>)>;

/// Starts the thread. It ends when told to [`Command::Leave`], or with the reason in its facts.
pub(super) fn start(out: watch::Sender<Arc<Facts>>) -> Result<Orders<Command>, String> {
    let poller = Poller::new().map_err(|e| e.to_string())?;
    let (orders, given) = Orders::new(poller.waker());
    let mut thread = Thread {
        poller,
        orders: given,
        intent: Intent::default(),
        peers: BTreeMap::new(),
        by_address: BTreeMap::new(),
        found: BTreeMap::new(),
        ended: Vec::new(),
        discoveries: BTreeMap::new(),
        links: BTreeMap::new(),
        listeners: BTreeMap::new(),
        next_connection: FIRST_CONNECTION,
        next_listener: 1,
        listen_again: None,
        leave_at: None,
        bfd: Bfd::default(),
        facts: Facts::default(),
        out,
        news: true,
    };
    let started = std::thread::Builder::new().name("bgp".to_owned()).stack_size(STACK).spawn(move || {
        if let Err(error) = thread.run() {
            thread.facts.ended = Some(error.to_string());
            thread.out.send_replace(Arc::new(thread.facts.clone()));
        }
    });
    started.map_err(|e| e.to_string())?;
    Ok(orders)
}

struct Thread {
    poller: Poller,
    orders: Receiver<Command>,
    intent: Intent,
    peers: BTreeMap<String, Peer>,
    by_address: BTreeMap<(IpAddr, IfIndex), String>,
    /// The addresses that were found of routers that a BgpPeer stands for.
    found: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// Routers of a network whose session or attempt is over.
    ended: Vec<String>,
    /// The links on which routers are looked for, by the name of the BgpPeer.
    discoveries: BTreeMap<String, Looking>,
    links: BTreeMap<ConnectionId, Link>,
    listeners: BTreeMap<ListenAt, (u64, TcpListener)>,
    next_connection: u64,
    next_listener: u64,
    /// Some port was taken.
    listen_again: Option<Tick>,
    leave_at: Option<Tick>,
    bfd: Bfd,
    facts: Facts,
    out: watch::Sender<Arc<Facts>>,
    /// The agent has not seen the facts yet.
    news: bool,
}

struct Peer {
    router: Router,
    session: Session,
    attempt: Option<ConnectionId>,
    /// Our end of its last connection.
    local: Option<IpAddr>,
    since: SystemTime,
    trouble: Option<String>,
}

impl Peer {
    /// Tells the session, and the log once for each reason. True when the reason is another than the last.
    fn connect_failed(&mut self, name: &str, why: String) -> bool {
        let new = self.trouble.as_ref() != Some(&why);
        if new {
            tracing::info!(peer = name, why, "the router cannot be connected to; it is tried again");
        }
        self.trouble = Some(why);
        self.session.handle(net::now(), Input::ConnectFailed);
        new
    }
}

impl Thread {
    fn run(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        loop {
            self.report();
            let sessions = self.peers.values().filter_map(|p| p.session.deadline());
            let own = [self.listen_again, self.leaves_at(), self.bfd.order_again, self.looks_at()];
            let deadline = sessions.chain(own.into_iter().flatten()).min();
            for token in self.poller.wait(deadline)? {
                match token {
                    Poller::WOKEN => self.bfd_news(),
                    FIRST_CONNECTION.. => self.ready(ConnectionId(token), &mut buffer),
                    link if self.hears(link, &mut buffer) => {}
                    listener => self.accept(listener),
                }
            }
            while let Ok(command) = self.orders.try_recv() {
                self.command(command);
            }
            let now = net::now();
            self.order_bfd(now);
            if self.leaves_at().is_some_and(|at| at <= now) {
                self.leave();
                return Ok(());
            }
            if self.listen_again.is_some_and(|at| at <= now) {
                self.listen();
            }
            let due = |p: &Peer| p.session.deadline().is_some_and(|at| at <= now);
            let due: Vec<String> = self.peers.iter().filter(|(_, p)| due(p)).map(|(name, _)| name.clone()).collect();
            for name in due {
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.session.timeout(now);
                }
                self.effects(&name);
            }
            self.look(now);
            self.forget_ended();
        }
    }

    fn command(&mut self, command: Command) {
        self.news = true;
        match command {
            Command::Apply(intent) => self.apply(*intent),
            Command::Report => {}
            Command::Leave => {
                let stays = |p: &&mut Peer| p.router.config.graceful_restart.is_none_or(|r| r.helper_only);
                let now = net::now();
                for peer in self.peers.values_mut().filter(stays) {
                    peer.session.handle(now, Input::Drain);
                }
                let any = self.peers.values().any(|p| p.session.state() == bgp::State::Established);
                self.leave_at = Some(if any { now + DRAIN } else { now });
                self.bfd.leave(now);
                for name in self.names() {
                    self.effects(&name);
                }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.peers.keys().cloned().collect()
    }

    /// Only what is different is touched.
    fn apply(&mut self, new: Intent) {
        let old = std::mem::replace(&mut self.intent, new);
        self.facts.commands += 1;
        (self.facts.own, self.facts.routes) = (self.intent.own, self.intent.routes.clone());
        let kept: BTreeSet<(IpAddr, u8)> = self.networks(&self.intent).map(|(_, network, _)| network).collect();
        for (_, network, _) in self.networks(&old).filter(|(_, network, _)| !kept.contains(network)) {
            let same = self.listeners.iter().filter(|((a, _), _)| a.is_ipv4() == network.0.is_ipv4());
            // What stays would make a router without a password stumble that gets the address later.
            same.for_each(|(_, (_, listener))| drop(listener.set_password(network, None)));
        }
        self.look_for(net::now());
        self.reconcile();
    }

    /// Talks to the routers of the intent, and to those that were found, and to no others.
    fn reconcile(&mut self) {
        let now = net::now();
        let routers = self.routers();
        let elsewhere = |name: &String, p: &Peer, wanted: &BTreeMap<String, Router>| {
            let place = |r: &Router| (r.address, r.transport.source, r.transport.device.clone());
            wanted.get(name).is_none_or(|r| place(r) != place(&p.router))
        };
        let gone: Vec<String> = {
            let all = self.peers.iter();
            all.filter(|(name, p)| elsewhere(name, p, &routers)).map(|(name, _)| name.clone()).collect()
        };
        for name in gone {
            self.tell(&name, Input::Stop(Stop::Deconfigured));
            self.peers.remove(&name);
            let links: Vec<ConnectionId> =
                self.links.iter().filter(|(_, l)| l.peer == name).map(|(id, _)| *id).collect();
            links.into_iter().for_each(|id| self.close(id));
            tracing::info!(peer = name, "the router is not talked to any more");
        }
        self.by_address = routers.iter().map(|(name, r)| (end_of(r.address), name.clone())).collect();
        self.listen();
        self.bfd.differs = true;
        for (name, router) in routers {
            match self.peers.get_mut(&name) {
                Some(_) => self.update(&name, router),
                None => self.add(now, name, router),
            }
        }
    }

    fn add(&mut self, now: Tick, name: String, router: Router) {
        let mut config = router.config.clone();
        // What this process begins with it may have had before it was restarted (RFC 4724 §4.1).
        if let Some(restart) = config.graceful_restart.as_mut().filter(|_| self.facts.commands == 1) {
            restart.restarting = !restart.helper_only;
        }
        let mut session = Session::new(now, config, fastrand::Rng::new());
        session.handle(now, Input::Routes(router.routes.clone()));
        if !router.down {
            session.handle(now, Input::Start);
        }
        tracing::info!(peer = name, address = %router.address, "the router is talked to");
        self.peers.insert(
            name.clone(),
            Peer { router, session, attempt: None, local: None, since: SystemTime::now(), trouble: None },
        );
        self.effects(&name);
    }

    fn update(&mut self, name: &str, router: Router) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let old = std::mem::replace(&mut peer.router, router);
        let router = peer.router.clone();
        if old.config != router.config {
            self.tell(name, Input::Configure(Box::new(router.config.clone())));
        }
        let changes = changes(&old.routes, &router.routes);
        if !changes.is_empty() {
            self.tell(name, Input::Change(changes));
        }
        match (old.down, router.down) {
            (false, true) => self.tell(name, Input::Stop(Stop::Shutdown("adminDown is set".to_owned()))),
            (true, false) => self.tell(name, Input::Start),
            // Connections that are there keep what they were made with.
            (false, false) if old.transport != router.transport => {
                let why = "password or TTL changed".to_owned();
                self.tell(name, Input::Stop(Stop::Reset(why)));
            }
            _ => {}
        }
    }

    fn tell(&mut self, name: &str, input: Input) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.session.handle(net::now(), input);
        }
        self.effects(name);
    }

    fn adopt(&mut self, peer: &str, tcp: TcpConnection, connecting: bool) -> Option<ConnectionId> {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        match Link::new(&self.poller, peer, id, tcp, connecting) {
            Ok(link) => drop(self.links.insert(id, link)),
            Err(error) => {
                tracing::warn!(peer, %error, "a connection cannot be used");
                return None;
            }
        }
        Some(id)
    }

    /// Something can be read or written, or the attempt is over.
    fn ready(&mut self, id: ConnectionId, buffer: &mut [u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let name = link.peer.clone();
        if link.connecting {
            return self.connected(id, &name);
        }
        match link.flush(&self.poller) {
            Ok(0) => {}
            Ok(bytes) => self.tell(&name, Input::Sent { connection: id, bytes }),
            Err(error) => return self.lost(id, &name, &error.to_string()),
        }
        for _ in 0..READS {
            // Any octets may end the connection.
            let Some(link) = self.links.get_mut(&id) else { return };
            match link.read(buffer) {
                Ok(None) => return,
                Ok(Some(0)) => return self.lost(id, &name, "the router closed the connection"),
                Ok(Some(n)) => {
                    let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                    self.tell(&name, Input::Bytes { connection: id, bytes });
                    if n < buffer.len() {
                        return;
                    }
                }
                Err(error) => return self.lost(id, &name, &error.to_string()),
            }
        }
    }

    fn connected(&mut self, id: ConnectionId, name: &str) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let outcome = link.tcp().outcome();
        link.connecting = false;
        let current = self.peers.get(name).is_some_and(|p| p.attempt == Some(id));
        match outcome {
            Ok(local) if current => {
                // From now on it is told when there is something to write, and not before.
                if let Err(error) = link.flush(&self.poller) {
                    return self.lost(id, name, &error.to_string());
                }
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.attempt = None;
                }
                self.tcp_up(name, id, Direction::Outgoing, local);
            }
            Ok(_) => self.close(id),
            Err(error) => {
                self.close(id);
                if current {
                    self.failed(name, error.to_string());
                }
            }
        }
    }

    fn tcp_up(&mut self, name: &str, connection: ConnectionId, direction: Direction, local: IpAddr) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.local = Some(local);
        }
        self.tell(name, Input::TcpUp { connection, direction, local });
    }

    /// The attempt to connect failed.
    fn failed(&mut self, name: &str, why: String) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.attempt = None;
            self.news |= peer.connect_failed(name, why);
        }
        self.effects(name);
    }

    /// A connection is gone, not by our doing.
    fn lost(&mut self, id: ConnectionId, name: &str, why: &str) {
        tracing::debug!(peer = name, why, "a connection is gone");
        self.close(id);
        self.tell(name, Input::TcpDown { connection: id });
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.remove(&id) {
            link.close(&self.poller);
        }
    }

    /// Does what the session wants done.
    fn effects(&mut self, name: &str) {
        loop {
            let Some(effect) = self.peers.get_mut(name).and_then(|p| p.session.poll()) else { return };
            match effect {
                Effect::Connect => self.connect(name),
                Effect::Write { connection, bytes } => {
                    let Some(link) = self.links.get_mut(&connection) else { continue };
                    let now = net::now();
                    let written = link.write(&self.poller, &bytes);
                    let Some(peer) = self.peers.get_mut(name) else { continue };
                    match written {
                        Ok(0) => {}
                        Ok(bytes) => peer.session.handle(now, Input::Sent { connection, bytes }),
                        Err(error) => {
                            tracing::debug!(peer = name, %error, "a connection is gone");
                            self.close(connection);
                            if let Some(peer) = self.peers.get_mut(name) {
                                peer.session.handle(now, Input::TcpDown { connection });
                            }
                        }
                    }
                }
                Effect::Close { connection } => self.close(connection),
                told => self.told(name, told),
            }
        }
    }

    fn connect(&mut self, name: &str) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        if let Some(attempt) = peer.attempt.take() {
            self.close(attempt);
        }
        let Some(peer) = self.peers.get(name) else { return };
        match TcpConnection::connect(peer.router.address, &peer.router.transport) {
            Ok(tcp) => {
                let id = self.adopt(name, tcp, true);
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.attempt = id;
                }
            }
            Err(error) => {
                if let Some(peer) = self.peers.get_mut(name) {
                    self.news |= peer.connect_failed(name, error.to_string());
                }
            }
        }
    }

    /// What the session says of itself.
    fn told(&mut self, name: &str, effect: Effect) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        self.news = true;
        match effect {
            Effect::Established(negotiated) => {
                (peer.since, peer.trouble) = (SystemTime::now(), None);
                self.bfd.differs = true;
                let (asn, id) = (negotiated.peer_as, negotiated.router_id);
                tracing::info!(peer = name, %asn, router_id = %id, hold_time = negotiated.hold_time.seconds(), "established");
            }
            Effect::Down(down) => {
                self.ended.push(name.to_owned());
                let why = down.to_string();
                tracing::warn!(peer = name, why, "the session is down");
                (peer.since, peer.trouble) = (SystemTime::now(), Some(why));
            }
            Effect::Failed(down) => {
                self.ended.push(name.to_owned());
                // Why no connection could be made is known better than the session knows it.
                if down != bgp::Down::ConnectFailed {
                    let why = down.to_string();
                    if peer.trouble.as_ref() != Some(&why) {
                        tracing::warn!(peer = name, why, "no session came about");
                    }
                    peer.trouble = Some(why);
                }
            }
            Effect::Damaged(fault) => {
                tracing::warn!(peer = name, ?fault, "an UPDATE was damaged; the session goes on");
            }
            Effect::TooManyPrefixes(family) => {
                tracing::info!(peer = name, %family, "the router sends more routes than are remembered; they are not used anyway");
            }
            Effect::State(_) | Effect::Connect | Effect::Write { .. } | Effect::Close { .. } => {}
        }
    }

    /// The end. Routers that keep routes over a restart are left without a word.
    fn leave(&mut self) {
        for name in self.names() {
            let Some(peer) = self.peers.get(&name) else { continue };
            let back = peer.router.config.graceful_restart.is_some_and(|r| !r.helper_only);
            let stop = if back { Stop::Restart } else { Stop::Shutdown("the speaker was stopped".to_owned()) };
            self.tell(&name, Input::Stop(stop));
        }
        let all: Vec<ConnectionId> = self.links.keys().copied().collect();
        all.into_iter().for_each(|id| self.close(id));
        self.news = true;
        self.report();
    }

    fn report(&mut self) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let bfd = self.bfd.peers();
        let facts = |(name, p): (&String, &Peer)| {
            let facts = PeerFacts {
                address: p.router.address,
                asn: p.router.config.peer_as,
                local_asn: p.router.config.local_as,
                view: p.session.view(),
                counters: p.session.counters(),
                down: p.router.down,
                since: p.since,
                trouble: p.trouble.clone(),
                bfd: p.router.bfd.is_some().then(|| bfd.get(name).cloned().unwrap_or_default()),
            };
            (name.clone(), facts)
        };
        self.facts.peers = self.peers.iter().map(facts).collect();
        self.out.send_replace(Arc::new(self.facts.clone()));
    }
}

/// An address, and of a link-local one the link.
fn end_of(address: SocketAddr) -> (IpAddr, IfIndex) {
    (address.ip(), link(address))
}

/// What is different between two sets of routes.
fn changes(old: &Arc<Routes>, new: &Arc<Routes>) -> Changes {
    if Arc::ptr_eq(old, new) {
        return Changes::new();
    }
    let gone = old.keys().filter(|n| !new.contains_key(n)).map(|n| (*n, None));
    let differs = |(n, p): &(&Nlri, &Arc<Path>)| old.get(n).is_none_or(|q| q != *p);
    let come = new.iter().filter(differs).map(|(n, p)| (*n, Some(p.clone())));
    gone.chain(come).collect()
}
