//! The sockets: one that is told of changes, one that asks.

use super::table::{Change, Table};
use super::wire::{self, Message};
use crate::Error;
use engine::IfIndex;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Room for some thousand messages, so that a burst of changes is not lost.
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// Longer than any message of the kernel (it fits dumps to the reader's buffer, up to 32 KiB).
const DATAGRAM: usize = 64 * 1024;
/// An answer of the kernel never takes that long; without a limit a defect would stop the thread for good.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often something is read anew because it changed meanwhile.
const ATTEMPTS: usize = 5;

/// Knows the node's network and is told when it changes.
#[derive(Debug)]
pub struct Monitor {
    events: OwnedFd,
    asks: Routes,
    table: Table,
    buffer: Vec<u8>,
    /// The kernel could not tell all: the table may be wrong.
    lost: bool,
}

/// Asks the kernel by which interface it reaches an address.
#[derive(Debug)]
pub struct Routes {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

/// No interface leads to an address.
#[derive(Debug, thiserror::Error)]
pub enum NoRoute {
    /// The address is the node's own, or that of a pool which something on the node has taken as its own.
    #[error(
        "{0} is an address of this node itself, so no interface leads there; name the address of a router or of another host"
    )]
    Local(IpAddr),
    /// There is no route.
    #[error("no route leads to {0}; name an address that this node reaches (ip route get {0})")]
    Unreachable(IpAddr),
    /// The kernel gave no answer.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl Monitor {
    /// Subscribes to changes, then reads everything.
    pub fn new() -> Result<Monitor, Error> {
        let groups = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV6_ROUTE,
        ];
        let mask = groups.iter().fold(0u32, |mask, group| mask | 1 << (group - 1));
        let events = open(mask, SocketFlags::NONBLOCK)?;
        let asks = Routes::new()?;
        let mut monitor = Monitor { events, asks, table: Table::default(), buffer: vec![0; DATAGRAM], lost: false };
        monitor.read_all(&mut BTreeSet::new())?;
        Ok(monitor)
    }

    /// The network as last read.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes in what the kernel has said since the last call, and says what changed. When more changed than the kernel
    /// could tell, all is read anew and everything counts as changed: what was missed may have been a link that was
    /// down for a moment.
    pub fn read(&mut self) -> Result<BTreeSet<Change>, Error> {
        let mut changes = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            self.hear(&mut changes)?;
            if !self.lost {
                break;
            }
            self.read_all(&mut changes)?;
            everything(&self.table, &mut changes);
            self.lost = false;
        }
        Ok(changes)
    }

    /// Takes in all that waits to be heard, to the end also when something was lost: a message from before the gap,
    /// applied to a state that was read after it, would stay there, for the one that corrects it may be in the gap.
    fn hear(&mut self, changes: &mut BTreeSet<Change>) -> Result<(), Error> {
        let mut routers = false;
        loop {
            match recv(&self.events, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((len, whole)) if whole <= len => {
                    for envelope in wire::messages(&self.buffer[..len]) {
                        // The kernel does not tell of the routes that go with a link or an address.
                        routers |= match &envelope.message {
                            Message::Route(route) => route.default,
                            Message::Link { .. } => true,
                            Message::Address { gone, .. } => *gone,
                            _ => false,
                        };
                        self.table.apply(envelope.message, changes);
                    }
                }
                Ok(_) | Err(Errno::NOBUFS) => self.lost = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(Error::kernel("hear of changes of the network (netlink)", e)),
            }
        }
        if routers && !self.lost && !changes.is_empty() {
            self.read_gateways(changes)?;
        }
        Ok(())
    }

    /// See [`Routes::to`].
    pub fn route_to(&self, ip: IpAddr) -> Result<IfIndex, NoRoute> {
        self.asks.to(ip)
    }

    fn read_all(&mut self, changes: &mut BTreeSet<Change>) -> Result<(), Error> {
        let mut fresh = Table::default();
        let mut found = BTreeSet::new();
        for message in self.asks.dump(wire::dump_links)?.into_iter().chain(self.asks.dump(wire::dump_addresses)?) {
            fresh.apply(message, &mut found);
        }
        let before = std::mem::replace(&mut self.table, fresh);
        changes.extend(before.links.keys().filter(|i| !self.table.links.contains_key(i)).map(|i| Change::Link(*i)));
        self.table.gateways = before.gateways;
        self.read_gateways(changes)
    }

    fn read_gateways(&mut self, changes: &mut BTreeSet<Change>) -> Result<(), Error> {
        let routes = self.asks.dump(wire::dump_routes)?;
        let found = routes.into_iter().filter_map(|m| if let Message::Route(r) = m { Some(r) } else { None });
        let found = found.filter(|r| r.default && r.kind == libc::RTN_UNICAST).flat_map(|r| r.via).collect();
        self.table.set_gateways(found, changes);
        let unseen: Vec<_> = self.table.gateways.iter().filter(|(_, mac)| mac.is_none()).map(|(g, _)| *g).collect();
        for (index, ip) in unseen {
            // Not to know it is no error: the kernel has not needed it yet, and tells when it does.
            for message in self.asks.ask(|n| wire::get_neighbour(n, index, ip)).into_iter().flatten() {
                self.table.apply(message, changes);
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    /// Ready while there is something to [`read`](Monitor::read).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Routes {
    /// Opens the socket that asks.
    pub fn new() -> Result<Routes, Error> {
        let socket = open(0, SocketFlags::empty())?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(|e| Error::kernel("limit the wait for answers (netlink)", e))?;
        Ok(Routes { socket, sequence: Cell::new(0) })
    }

    /// The interface by which the kernel reaches `ip` now. What `can_reach:` means.
    pub fn to(&self, ip: IpAddr) -> Result<IfIndex, NoRoute> {
        let answer = self.ask(|n| wire::get_route(n, ip)).map_err(|e| match e {
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL | Errno::ACCESS => NoRoute::Unreachable(ip),
            other => Error::kernel(format!("ask for the route to {ip} (netlink)"), other).into(),
        })?;
        match answer.into_iter().find_map(|m| if let Message::Route(r) = m { Some(r) } else { None }) {
            Some(route) if route.kind == libc::RTN_LOCAL => Err(NoRoute::Local(ip)),
            Some(route) if route.kind == libc::RTN_UNICAST => route.out.ok_or(NoRoute::Unreachable(ip)),
            _ => Err(NoRoute::Unreachable(ip)),
        }
    }

    /// A whole table. Read again when it changed meanwhile; after some attempts it is taken as it is, since every
    /// change also comes as an event.
    pub(super) fn dump(&self, request: impl Fn(u32) -> Vec<u8>) -> Result<Vec<Message>, Error> {
        let failed = |e: Errno| Error::kernel("read the network's state (netlink)", e);
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            let interrupted;
            (found, interrupted) = self.exchange(&request, true).map_err(failed)?;
            if !interrupted {
                break;
            }
        }
        Ok(found)
    }

    pub(super) fn ask(&self, request: impl Fn(u32) -> Vec<u8>) -> Result<Vec<Message>, Errno> {
        self.exchange(&request, false).map(|(messages, _)| messages)
    }

    /// Sends one request and reads the answer: one message, or `many` up to the one that ends them.
    fn exchange(&self, request: &impl Fn(u32) -> Vec<u8>, many: bool) -> Result<(Vec<Message>, bool), Errno> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let bytes = request(sequence);
        send(&self.socket, &bytes, SendFlags::empty())?;
        let (mut buffer, mut found, mut interrupted) = (vec![0; DATAGRAM], Vec::new(), false);
        let mut complete = false;
        loop {
            let (len, _) = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            // Answers to an earlier request whose end was not waited for are passed over.
            for envelope in wire::messages(&buffer[..len]).filter(|e| e.sequence == sequence) {
                interrupted |= envelope.interrupted;
                complete = !many;
                match envelope.message {
                    Message::Done(0) => return Ok((found, interrupted)),
                    Message::Done(errno) => return Err(errno_of(errno)),
                    Message::Other => {}
                    message => found.push(message),
                }
            }
            if complete {
                return Ok((found, interrupted));
            }
        }
    }
}

/// Every change that there can be.
fn everything(table: &Table, changes: &mut BTreeSet<Change>) {
    changes.extend(table.links.keys().map(|i| Change::Link(*i)));
    changes.extend(table.links.keys().map(|i| Change::Addresses(*i)));
    changes.extend(table.gateways.keys().map(|(on, _)| Change::Gateway { on: *on }));
    changes.insert(Change::Routes);
}

fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Error> {
    let failed = |e: Errno| Error::kernel("open a netlink socket", e);
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).map_err(failed)?;
    let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    bind(&socket, &SocketAddrNetlink::new(0, groups)).map_err(failed)?;
    Ok(socket)
}

/// rustix panics on a number that no system call returns.
fn errno_of(number: i32) -> Errno {
    if (1..4096).contains(&number) { Errno::from_raw_os_error(number) } else { Errno::IO }
}
