//! The deadline thread: one loop that owns the sockets and the timer and runs the engines. Nothing here waits for
//! anything but the kernel.
//!
//! ```text
//!  Command ─┐                    ┌─► lease ──(who owns)──► l2 ─┐
//!  UDP      ├─► epoll, timerfd ──┤     ▲──(who answers)──┘     ├─► effects: UDP, frames, groups, Facts
//!  netlink  │                    └─► table of links ───────────┘
//!  frames  ─┘
//! ```
//!
//! In every turn `lease` comes before `l2` and its effects before `l2`'s, so an address that was lost is not answered
//! for in the same turn; and nothing is sent for an address whose lease is over at that very moment.

mod fence;
mod links;
mod owning;
mod put;
mod questions;
mod routers;
mod sight;

use crate::facts::Facts;
use crate::intent::{Command, Intent};
use crate::orders::Orders;
use crate::{Error, Options, record};
use api::pool::Interface;
use engine::{Engine, IfIndex, Tick};
use fence::Fencing;
use l2::L2;
use lease::{Epoch, Lease};
use net::{Groups, Monitor, PacketSocket, Poller, Udp};
use put::Put;
use questions::Questions;
use routers::Routers;
use sight::Gateways;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How many packets of one socket are read in a turn, so that a flood on one does not delay deadlines.
const BATCH: usize = 64;
/// Longer frames than any ARP or ND message that we would answer.
const FRAME: usize = 2048;
const STACK: usize = 512 * 1024;
/// How often every address is asked for by one speaker that does not own it.
const SELF_PROBE: Duration = Duration::from_secs(5);
/// How often it is looked whether a stranger still has an address that was to be announced for the first time: so long
/// nobody may answer after OpenELB's speaker has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same when there are more than this.
const FEW: usize = 32;
const LOOK_AGAIN_MANY: Duration = Duration::from_secs(2);
/// The same when the last look could not tell.
const UNCERTAIN: Duration = Duration::from_millis(100);

const TOKEN_UDP: u64 = 1;
const TOKEN_NETLINK: u64 = 2;
/// Packet sockets have the index of their interface added to this.
const TOKEN_FRAMES: u64 = 1 << 32;
/// The same for sockets of VRRP, two for each interface.
const TOKEN_ROUTERS: u64 = 1 << 48;

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
    let recorded = options.state.as_deref().and_then(|state| record::load(state, &options.node));
    let recorder = record::start(options.state.clone(), options.node.clone(), {
        let orders = orders.clone();
        move |epoch| {
            orders.send_when_free(Command::Recorded(epoch));
        }
    });
    let recorder = recorder.map_err(|e| Error::Shell(format!("its helper could not be started: {e}")))?;
    let start = lease::Start { boot: boot(), recorded: recorded.as_ref().map(Epoch::id) };
    let mut shell = Shell {
        lease: Lease::new(start, fastrand::Rng::new()),
        l2: L2::new(fastrand::Rng::new()),
        node: options.node.clone(),
        poller,
        orders: given,
        recorder,
        unrecorded: None,
        udp,
        monitor,
        sockets: BTreeMap::new(),
        groups: Groups::new(),
        fencing: Fencing::start(),
        intent: Arc::default(),
        resolved: BTreeMap::new(),
        questions: Questions::default(),
        gateways: Gateways::default(),
        routers: Routers::default(),
        put: Put::default(),
        unproven: BTreeMap::new(),
        next_self_probe: None,
        facts: Facts { recorded: recorded.unwrap_or_default(), ..Facts::default() },
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

/// A number that no other start of a speaker has: chance, and should there be none, the time.
fn boot() -> u128 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let chance = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new());
    chance.map_or(since_1970.as_nanos(), |bytes| u128::from_be_bytes(bytes.expose()))
}

struct Shell {
    node: String,
    lease: Lease,
    l2: L2,
    poller: Poller,
    orders: Receiver<Command>,
    recorder: SyncSender<Epoch>,
    /// A confirmed epoch for which the recorder had no room yet.
    unrecorded: Option<Epoch>,
    udp: Udp,
    monitor: Monitor,
    sockets: BTreeMap<IfIndex, PacketSocket>,
    groups: Groups,
    fencing: Fencing,
    intent: Arc<Intent>,
    /// Where each pool is announced on this node.
    resolved: BTreeMap<Interface, Result<BTreeSet<IfIndex>, String>>,
    questions: Questions,
    gateways: Gateways,
    routers: Routers,
    put: Put,
    /// Owned addresses that are not announced yet, because a stranger may have them; and when to look.
    unproven: BTreeMap<IpAddr, Tick>,
    next_self_probe: Option<Tick>,
    facts: Facts,
    out: watch::Sender<Arc<Facts>>,
    /// The agent has not seen the facts yet.
    news: bool,
    leaving: bool,
}

impl Shell {
    fn run(&mut self) -> Result<(), net::Error> {
        Put::sweep();
        self.links_changed();
        let mut buffer = [0; FRAME];
        // The goodbyes of a speaker that leaves are several, because packets get lost.
        while !(self.leaving && self.lease.deadline().is_none()) {
            let looks = self.unproven.values().copied().min();
            let deadline = [
                self.lease.deadline(),
                self.l2.deadline(),
                self.next_self_probe,
                looks,
                self.gateways.deadline(),
                self.routers.deadline(),
                self.put.deadline(),
            ];
            let mut frames_wait = false;
            for token in self.poller.wait(deadline.into_iter().flatten().min())? {
                match token {
                    TOKEN_UDP => self.heartbeats(&mut buffer),
                    TOKEN_NETLINK => self.kernel_changed()?,
                    adverts @ TOKEN_ROUTERS.. => self.advertisements(adverts, &mut buffer),
                    frames => frames_wait |= self.frames(IfIndex((frames - TOKEN_FRAMES) as u32), &mut buffer),
                }
            }
            while let Ok(command) = self.orders.try_recv() {
                self.command(command);
            }
            let now = net::now();
            self.lease.timeout(now);
            self.lease_effects(now);
            self.fence_leases(now);
            if std::mem::take(&mut self.fencing.fell) {
                self.announce_where(now);
            }
            self.look_for_strangers(now);
            self.probe_others(now);
            self.ask_gateways(now);
            self.run_routers(now);
            self.renew_put(now);
            // To its questions silence is an answer, so none may wait unread.
            if !frames_wait {
                self.l2.timeout(now);
            }
            self.l2_effects();
            self.report();
        }
        self.fencing.lift();
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let now = net::now();
        match command {
            Command::Apply(intent) => {
                let before = std::mem::replace(&mut self.intent, intent);
                self.join_units(now, &before);
                self.facts.commands += 1;
                self.resolve();
                self.follow(now);
            }
            Command::Recorded(epoch) => {
                tracing::info!(epoch = epoch.number, acceptors = ?epoch.members, "the acceptors' epoch is recorded");
                self.lease.handle(now, lease::Input::Recorded(epoch.id()));
                self.facts.recorded = epoch;
            }
            Command::Rebalance => self.lease.handle(now, lease::Input::Rebalance),
            Command::Move(moves) => {
                for (address, to) in moves {
                    let address = self.intent.unit(address);
                    self.lease.handle(now, lease::Input::Release { address, to });
                }
            }
            Command::Report => {}
            Command::Leave => {
                self.leave_elections(now);
                self.lease.handle(now, lease::Input::Leave);
                self.leaving = true;
            }
        }
        self.news = true;
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

    /// Reads frames; true when more may wait.
    fn frames(&mut self, on: IfIndex, buffer: &mut [u8]) -> bool {
        let Some(socket) = self.sockets.get(&on) else { return false };
        for _ in 0..BATCH {
            match socket.receive(buffer) {
                Ok(Some(length)) => {
                    let bytes = buffer.get(..length.min(FRAME)).unwrap_or_default().to_vec();
                    self.l2.handle(net::now(), l2::Input::Frame { on, bytes });
                }
                Ok(None) => return false,
                // The interface went down or away: netlink says so too, and says when it is back.
                Err(_) => return false,
            }
        }
        true
    }

    fn report(&mut self) {
        // The end of the silence is told by no effect: with no address to own nothing else happens at that moment.
        let now = net::now();
        let ready = self.lease.ready(now);
        if !std::mem::take(&mut self.news) && ready == self.facts.view.ready {
            return;
        }
        let wanted = &self.intent.addresses;
        self.facts.lost.retain(|ip, _| wanted.contains_key(ip));
        self.facts.now = now;
        self.facts.fenced = self.fencing.stands();
        self.facts.view = self.view(now);
        self.facts.counters = self.l2.counters().clone();
        self.out.send_replace(Arc::new(self.facts.clone()));
    }
}
