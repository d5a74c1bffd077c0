//! What frames an interface lets in beside its own: those to IPv6 multicast groups, so that neighbour solicitations for
//! announced addresses reach this node, and those to the MAC addresses of virtual routers.

use crate::{Error, sys};
use engine::{IfIndex, MacAddr};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

/// What one socket joins at most: the kernel limits a socket's memory for memberships (net.core.optmem_max, 20 KiB on
/// older kernels).
const PER_SOCKET: usize = 128;

/// The groups that this process is a member of, and the MAC addresses it takes in; dropping it leaves all.
#[derive(Debug, Default)]
pub struct Groups {
    members: BTreeMap<(IfIndex, Ipv6Addr), Member>,
    /// Sockets that are bound to nothing and so receive nothing, each with the number of its members.
    sockets: Vec<(OwnedFd, usize)>,
    /// MAC addresses that interfaces take in beside their own.
    macs: BTreeSet<(IfIndex, MacAddr)>,
    /// A packet socket without an ethertype: it receives nothing either.
    device: Option<OwnedFd>,
}

#[derive(Debug, Clone, Copy)]
enum Member {
    /// Through the kernel's IPv6, by the socket with this position.
    Kernel(usize),
    /// Only on the device.
    Device,
}

impl Groups {
    /// Member of none.
    pub fn new() -> Groups {
        Groups::default()
    }

    /// Joins on one interface through the kernel's IPv6, which sets the NIC's filter and reports the group by MLD, so
    /// that switches that snoop forward it (RFC 4861 §7.2.1). Where that fails (the kernel has no IPv6, or not
    /// there) it joins on the device alone, and the error says what is missing. Joining again does nothing.
    pub fn join(&mut self, on: IfIndex, group: Ipv6Addr) -> Result<(), Error> {
        if self.members.contains_key(&(on, group)) {
            return Ok(());
        }
        let (member, refused) = match self.join_in_kernel(on, group) {
            Ok(socket) => (Member::Kernel(socket), None),
            Err(errno) => {
                let joined = self.on_device(on, sys::Member::Group, group_mac(group), true);
                joined.map_err(|e| Error::on(on, &format!("join {group}"), e))?;
                (Member::Device, Some(errno))
            }
        };
        self.members.insert((on, group), member);
        let what =
            format!("report membership of {group} to switches (the interface has no IPv6; is its MTU below 1280?)");
        refused.map_or(Ok(()), |e| Err(Error::Kernel { what: format!("{what} on interface {on}"), source: e.into() }))
    }

    /// Leaves the group; nothing happens where it was not joined. It can fail only where the interface has gone, and
    /// the membership with it.
    pub fn leave(&mut self, on: IfIndex, group: Ipv6Addr) {
        match self.members.remove(&(on, group)) {
            Some(Member::Kernel(socket)) => {
                if let Some((socket, members)) = self.sockets.get_mut(socket) {
                    *members -= 1;
                    let _ = sockopt::set_ipv6_drop_membership(socket, &group, on.0);
                }
            }
            Some(Member::Device) => drop(self.on_device(on, sys::Member::Group, group_mac(group), false)),
            None => {}
        }
    }

    /// From now on these interfaces take in frames to these MAC addresses, and to no others beside their own. What comes
    /// is marked as for another host: see [`Fence`](crate::Fence). Gives the first error; the others are taken in all the
    /// same, and asking again tries those that were not.
    pub fn take_in(&mut self, macs: BTreeSet<(IfIndex, MacAddr)>) -> Result<(), Error> {
        let before = std::mem::take(&mut self.macs);
        for (on, mac) in before.difference(&macs) {
            // It can fail only where the interface has gone.
            drop(self.on_device(*on, sys::Member::Host, *mac, false));
        }
        let mut failed = None;
        for (on, mac) in macs {
            let there = before.contains(&(on, mac));
            match if there { Ok(()) } else { self.on_device(on, sys::Member::Host, mac, true) } {
                Ok(()) => drop(self.macs.insert((on, mac))),
                Err(e) => drop(failed.get_or_insert_with(|| Error::on(on, &format!("take in frames to {mac}"), e))),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Forgets the memberships on an interface that has gone; when it is back, perhaps with the same number, they have
    /// to be joined anew.
    pub fn forget(&mut self, on: IfIndex) {
        let gone: Vec<Ipv6Addr> = self.members.keys().filter(|(i, _)| *i == on).map(|(_, g)| *g).collect();
        for group in gone {
            self.leave(on, group);
        }
        let kept = self.macs.iter().filter(|(i, _)| *i != on).copied().collect();
        // What is given up is never refused.
        drop(self.take_in(kept));
    }

    fn join_in_kernel(&mut self, on: IfIndex, group: Ipv6Addr) -> Result<usize, Errno> {
        let free = match self.sockets.iter().position(|(_, members)| *members < PER_SOCKET) {
            Some(free) => free,
            None => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
                self.sockets.push((socket, 0));
                self.sockets.len() - 1
            }
        };
        let Some((socket, members)) = self.sockets.get_mut(free) else { return Err(Errno::NOMEM) };
        sockopt::set_ipv6_add_membership(socket, &group, on.0)?;
        *members += 1;
        Ok(free)
    }

    fn on_device(&mut self, on: IfIndex, kind: sys::Member, mac: MacAddr, join: bool) -> std::io::Result<()> {
        let socket = match &self.device {
            Some(socket) => socket,
            None => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
                self.device.insert(socket)
            }
        };
        sys::packet_membership(socket, on, kind, mac, join)
    }
}

/// The Ethernet group address of an IPv6 group (RFC 2464 §7).
fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_ethernet_address_of_rfc_2464() {
        assert_eq!(group_mac("ff02::1:ff28:9c5a".parse().unwrap()), MacAddr([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a]));
    }
}
