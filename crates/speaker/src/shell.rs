//! The deadline thread: one loop that owns the sockets and the timer and runs the engines. Nothing here waits for
//! anything but the kernel.
//!
//! ```text
//!  Command ─┐                    ┌─► lease ──(who owns)──► l2 ─┐
//!  UDP      ├─► epoll, timerfd ──┤                             ├─► effects: UDP, frames, groups, Facts
//!  netlink  │                    └─► table of links ───────────┘
//!  frames  ─┘
//! ```
//!
//! In every turn `lease` comes before `l2` and its effects before `l2`'s, so an address that was lost is not answered
//! for in the same turn.

use crate::facts::Facts;
use crate::intent::{Command, Intent};
use crate::orders::Orders;
use crate::{Error, Options};
use api::pool::Interface;
use engine::{Engine, IfIndex, Tick};
use l2::L2;
use lease::Lease;
use net::{Groups, Monitor, PacketSocket, Poller, Udp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How many packets of one socket are read in a turn, so that a flood on one does not delay deadlines.
const BATCH: usize = 64;
/// Longer frames than any ARP or ND message that we would answer.
const FRAME: usize = 2048;
const STACK: usize = 512 * 1024;

const TOKEN_UDP: u64 = 1;
const TOKEN_NETLINK: u64 = 2;
/// Packet sockets have the index of their interface added to this.
const TOKEN_FRAMES: u64 = 1 << 32;

/// The agent's end of the shell.
#[derive(Clone)]
pub(crate) struct Handle {
    orders: Orders<Command>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Handle {
    /// False when the shell is too busy or gone: what matters is sent again later.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.orders.send(command)
    }

    /// Why the thread is gone.
    pub(crate) fn why_ended(&self) -> String {
        let ended = self.ended.lock().ok().and_then(|e| e.clone());
        ended.unwrap_or_else(|| "it panicked; its last words are above".to_owned())
    }
}

/// Opens everything and starts the thread. It ends when told to [`Command::Leave`], or with the reason in the handle.
pub(crate) fn start(options: &Options, facts: watch::Sender<Arc<Facts>>) -> Result<Handle, Error> {
    let kernel = |source| Error::Kernel { node: options.node.clone(), source };
    let poller = Poller::new().map_err(kernel)?;
    let (orders, given) = Orders::new(poller.waker());
    let udp = Udp::bind(options.bind).map_err(kernel)?;
    let monitor = Monitor::new().map_err(kernel)?;
    poller.add(&udp, TOKEN_UDP).map_err(kernel)?;
    poller.add(&monitor, TOKEN_NETLINK).map_err(kernel)?;
    let ended = Arc::new(Mutex::new(None));
    let mut shell = Shell {
        lease: Lease::new(boot(), fastrand::Rng::new()),
        l2: L2::new(fastrand::Rng::new()),
        node: options.node.clone(),
        poller,
        orders: given,
        udp,
        monitor,
        sockets: BTreeMap::new(),
        groups: Groups::new(),
        intent: Arc::default(),
        resolved: BTreeMap::new(),
        facts: Facts { listening: true, ..Facts::default() },
        out: facts,
        news: true,
        leaving: false,
    };
    let why = ended.clone();
    let thread = std::thread::Builder::new().name("deadline".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        if let Err(error) = net::prefer_deadlines() {
            tracing::warn!(%error, "the thread that answers on the wire has no raised priority: under load, failover may be slower");
        }
        if let Err(error) = shell.run()
            && let Ok(mut why) = why.lock()
        {
            *why = Some(error.to_string());
        }
    });
    started.map_err(|e| Error::Shell(format!("it could not be started: {e}")))?;
    Ok(Handle { orders, ended })
}

/// A number that no earlier start of this speaker had and every later one exceeds.
fn boot() -> u128 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (u128::from(since_1970.as_secs()) << 64) | u128::from(fastrand::u64(..))
}

struct Shell {
    node: String,
    lease: Lease,
    l2: L2,
    poller: Poller,
    orders: Receiver<Command>,
    udp: Udp,
    monitor: Monitor,
    sockets: BTreeMap<IfIndex, PacketSocket>,
    groups: Groups,
    intent: Arc<Intent>,
    /// Where each pool is announced on this node.
    resolved: BTreeMap<Interface, Result<BTreeSet<IfIndex>, String>>,
    facts: Facts,
    out: watch::Sender<Arc<Facts>>,
    /// The agent has not seen the facts yet.
    news: bool,
    leaving: bool,
}

impl Shell {
    fn run(&mut self) -> Result<(), net::Error> {
        self.links_changed();
        let mut buffer = [0; FRAME];
        // The goodbyes of a speaker that leaves are several, because packets get lost.
        while !(self.leaving && self.lease.deadline().is_none()) {
            let deadline = [self.lease.deadline(), self.l2.deadline()].into_iter().flatten().min();
            for token in self.poller.wait(deadline)? {
                match token {
                    TOKEN_UDP => self.heartbeats(&mut buffer),
                    TOKEN_NETLINK => self.kernel_changed()?,
                    frames => self.frames(IfIndex((frames - TOKEN_FRAMES) as u32), &mut buffer),
                }
            }
            while let Ok(command) = self.orders.try_recv() {
                self.command(command);
            }
            let now = net::now();
            self.lease.timeout(now);
            self.lease_effects(now);
            self.l2.timeout(now);
            self.l2_effects();
            self.report();
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let now = net::now();
        match command {
            Command::Apply(intent) => {
                self.intent = intent;
                self.facts.commands += 1;
                self.resolve();
                self.configure(now);
            }
            Command::Report => {}
            Command::Leave => {
                self.lease.handle(now, lease::Input::Leave);
                self.leaving = true;
            }
        }
        self.news = true;
    }

    fn configure(&mut self, now: Tick) {
        // Without a link nobody would hear this node, whatever heartbeats on another interface say.
        let up = |on: &IfIndex| self.facts.table.links.get(on).is_some_and(|l| l.up);
        let unable = |interface: &Interface| match self.resolved.get(interface) {
            Some(Ok(on)) => !on.iter().any(up),
            Some(Err(_)) | None => true,
        };
        self.facts.unresolved = self
            .intent
            .addresses
            .values()
            .filter_map(|w| {
                Some((w.place.pool.clone(), self.resolved.get(&w.place.interface)?.as_ref().err()?.clone()))
            })
            .collect();
        let config = lease::Config {
            node: self.node.clone(),
            peers: self.intent.peers.clone(),
            keys: self.intent.keys.iter().map(|k| lease::Key::new(k.clone())).collect(),
            candidates: self.intent.addresses.iter().map(|(ip, w)| (*ip, w.candidates.clone())).collect(),
            unable: self
                .intent
                .addresses
                .iter()
                .filter(|(_, w)| unable(&w.place.interface))
                .map(|(ip, _)| *ip)
                .collect(),
        };
        self.lease.handle(now, lease::Input::Configure(Box::new(config)));
    }

    fn heartbeats(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match self.udp.receive(buffer) {
                Ok(Some((length, from))) => {
                    // Who has no key yet cannot tell friend from foe, and has nothing to refuse.
                    if self.intent.keys.is_empty() {
                        continue;
                    }
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    self.lease.handle(net::now(), lease::Input::Packet { from, bytes });
                }
                // An error here is about a packet sent earlier (ICMP unreachable): that peer is simply not heard.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn frames(&mut self, on: IfIndex, buffer: &mut [u8]) {
        let Some(socket) = self.sockets.get(&on) else { return };
        for _ in 0..BATCH {
            match socket.receive(buffer) {
                Ok(Some(length)) => {
                    let bytes = buffer.get(..length.min(FRAME)).unwrap_or_default().to_vec();
                    self.l2.handle(net::now(), l2::Input::Frame { on, bytes });
                }
                Ok(None) => return,
                // The interface went down or away: netlink says so too, and says when it is back.
                Err(_) => return,
            }
        }
    }

    fn kernel_changed(&mut self) -> Result<(), net::Error> {
        let now = net::now();
        let changes = self.monitor.read()?;
        let mut touched = BTreeSet::new();
        for change in &changes {
            match change {
                net::Change::Gateway { on } => self.l2.handle(now, l2::Input::Gateway { on: *on }),
                net::Change::Link(on) => drop(touched.insert(*on)),
                net::Change::Addresses(_) | net::Change::Routes => {}
            }
        }
        if !changes.is_empty() {
            // A link may have been down or away for a moment between two reads: then the table looks as before, but
            // the socket and the groups went with it, and switches may have forgotten where addresses are. So what
            // was touched is taken away first, and comes back as new.
            for on in &touched {
                self.sockets.remove(on);
                self.groups.forget(*on);
            }
            let links = self.links().into_iter().filter(|(on, _)| !touched.contains(on)).collect();
            self.l2.handle(now, l2::Input::Links(links));
            self.l2_effects();
            self.links_changed();
            self.configure(now);
            self.announce_where(now);
        }
        Ok(())
    }

    fn links_changed(&mut self) {
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
    fn resolve(&mut self) {
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

    /// Tells `l2` what this node owns, and where.
    fn announce_where(&mut self, now: Tick) {
        let owned = if self.leaving { &BTreeSet::new() } else { self.lease.owned() };
        let mut addresses: BTreeMap<IpAddr, BTreeSet<IfIndex>> = BTreeMap::new();
        for ip in owned {
            let Some(wanted) = self.intent.addresses.get(ip) else { continue };
            if let Some(Ok(on)) = self.resolved.get(&wanted.place.interface) {
                addresses.insert(*ip, on.clone());
            }
        }
        let name = |on: &IfIndex| self.facts.table.name_of(*on);
        let mut shared: BTreeMap<&BTreeSet<IfIndex>, Arc<BTreeSet<String>>> = BTreeMap::new();
        let mut names = |on| shared.entry(on).or_insert_with_key(|on| Arc::new(on.iter().map(name).collect())).clone();
        self.facts.owned = addresses.iter().map(|(ip, on)| (*ip, names(on))).collect();
        self.facts.conflicts.retain(|ip, _| addresses.contains_key(ip));
        self.l2.handle(now, l2::Input::Addresses(addresses));
        self.news = true;
    }

    fn lease_effects(&mut self, now: Tick) {
        let mut moved = self.leaving;
        while let Some(effect) = self.lease.poll() {
            match effect {
                // Not sent is not heard: the other side counts on that.
                lease::Effect::Send { to, bytes } => drop(self.udp.send(&bytes, to)),
                lease::Effect::Own(ip) => {
                    self.facts.lost.remove(&ip);
                    moved = true;
                }
                lease::Effect::Lose(ip, reason) => {
                    self.facts.lost.insert(ip, reason.to_string());
                    moved = true;
                }
                // Hosts may have learned the other speaker's MAC: tell them again where the address is.
                lease::Effect::Settled(ip) => {
                    let on = self
                        .intent
                        .addresses
                        .get(&ip)
                        .and_then(|w| self.resolved.get(&w.place.interface)?.as_ref().ok());
                    for on in on.into_iter().flatten() {
                        self.l2.handle(now, l2::Input::Gateway { on: *on });
                    }
                }
                lease::Effect::Alive(_) | lease::Effect::Dead(_) => self.news = true,
                lease::Effect::Rejected { from, reason } => {
                    let of_sender = self.facts.rejected.entry((from.ip(), reason.to_string())).or_default();
                    *of_sender = (of_sender.0 + 1, now);
                    self.news = true;
                }
            }
        }
        if moved {
            self.announce_where(now);
        }
    }

    fn l2_effects(&mut self) {
        while let Some(effect) = self.l2.poll() {
            match effect {
                l2::Effect::Send { on, frame, speaks_for: _ } => {
                    if let Some(socket) = self.sockets.get(&on) {
                        // A link that is down loses it; the announcement comes again when the link is back.
                        let _ = socket.send(&frame);
                    }
                }
                l2::Effect::Join { on, group } => {
                    if let Err(error) = self.groups.join(on, group) {
                        tracing::warn!(%error, %group, "neighbour solicitations of this group may not arrive");
                    }
                }
                l2::Effect::Leave { on, group } => self.groups.leave(on, group),
                // Nothing is watched or asked here.
                l2::Effect::Announcing { .. } | l2::Effect::Withdrawn { .. } => {}
                l2::Effect::Seen { .. } | l2::Effect::Asked { .. } => {}
                l2::Effect::Conflict { address, on, mac } => {
                    tracing::warn!(%address, %mac, "a stranger answers for an address that this node owns");
                    self.facts.conflicts.insert(address, (on, mac, net::now()));
                    self.news = true;
                }
            }
        }
    }

    fn report(&mut self) {
        // The end of listening is told by no effect: with no address to own nothing else happens at that moment.
        let listening = self.lease.listening();
        if !std::mem::take(&mut self.news) && listening == self.facts.listening {
            return;
        }
        self.facts.now = net::now();
        let wanted = &self.intent.addresses;
        self.facts.lost.retain(|ip, _| wanted.contains_key(ip));
        let view = self.lease.view();
        self.facts.listening = listening;
        self.facts.alive = view.alive;
        self.facts.owners = view.owners;
        self.facts.counters = self.l2.counters().clone();
        self.out.send_replace(Arc::new(self.facts.clone()));
    }
}
