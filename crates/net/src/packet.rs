//! The packet socket: whole Ethernet frames of one interface, of which the kernel passes only ARP and the neighbour
//! solicitations and advertisements of IPv6.

use crate::{Error, sys};
use engine::{IfIndex, MacAddr};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};
use socket2::SockFilter;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Room for about a thousand frames: a burst of requests while the thread is away for a moment.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// What one socket joins at most: the kernel limits a socket's memory for memberships (net.core.optmem_max, 20 KiB on
/// older kernels).
const GROUPS_PER_SOCKET: usize = 128;

/// ARP and neighbour discovery on one interface.
///
/// Inside are two sockets, since a socket is bound to one ethertype or to all of them, and a tap on all would run for
/// every packet that the node receives. The one for IPv6 is opened with the first [`join`](PacketSocket::join).
#[derive(Debug)]
pub struct PacketSocket {
    index: IfIndex,
    both: OwnedFd,
    arp: OwnedFd,
    ndp: Option<OwnedFd>,
    /// Which one is asked first next time, so that a flood of one family does not starve the other.
    ndp_first: bool,
    /// The groups joined, and which of `kernel` joined each; `None` where the kernel refused.
    groups: BTreeMap<Ipv6Addr, Option<usize>>,
    kernel: Vec<(OwnedFd, usize)>,
    dropped: u64,
}

/// A frame that was received into the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// How much of the buffer it fills, in bytes.
    pub len: usize,
    /// It was longer than the buffer, and its end is lost.
    pub truncated: bool,
}

impl PacketSocket {
    /// Opens it on the interface with this number. On an interface that is down it first reports [`Error::Down`] and
    /// works once that is up.
    pub fn open(index: IfIndex) -> Result<PacketSocket, Error> {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::kernel("make an epoll", e))?;
        let arp = open_one(index, ARP)?;
        let socket = PacketSocket {
            index,
            both,
            arp,
            ndp: None,
            ndp_first: false,
            groups: BTreeMap::new(),
            kernel: Vec::new(),
            dropped: 0,
        };
        socket.watch(&socket.arp)?;
        Ok(socket)
    }

    /// The interface that it is open on.
    pub fn index(&self) -> IfIndex {
        self.index
    }

    /// The next frame; `None` when there is none now.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<Option<Frame>, Error> {
        self.ndp_first = !self.ndp_first;
        let order =
            if self.ndp_first { [self.ndp.as_ref(), Some(&self.arp)] } else { [Some(&self.arp), self.ndp.as_ref()] };
        for socket in order.into_iter().flatten() {
            match recv(socket, &mut *buffer, RecvFlags::TRUNC) {
                Ok((len, whole)) => return Ok(Some(Frame { len, truncated: whole > len })),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(Error::on(self.index, "receive frames", e)),
            }
        }
        Ok(None)
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        send(&self.arp, frame, SendFlags::DONTWAIT).map_err(|e| Error::on(self.index, "send a frame", e))?;
        Ok(())
    }

    /// Frames that were lost because nobody read them in time, since the socket was opened.
    pub fn dropped(&mut self) -> u64 {
        for socket in [Some(&self.arp), self.ndp.as_ref()].into_iter().flatten() {
            self.dropped += sys::packet_drops(socket).map_or(0, u64::from);
        }
        self.dropped
    }

    /// Receives frames for this IPv6 multicast group, and neighbour discovery at all. It joins twice: on the device, so
    /// that the NIC passes the group's frames; and through the kernel's IPv6, so that it reports the group by MLD and
    /// switches that snoop forward it (RFC 4861 §7.2.1). Where only the second fails (IPv6 is off on the interface)
    /// the first stays, and the error says so. Joining again does nothing.
    pub fn join(&mut self, group: Ipv6Addr) -> Result<(), Error> {
        if self.groups.contains_key(&group) {
            return Ok(());
        }
        let ndp = match self.ndp.take() {
            Some(ndp) => ndp,
            None => {
                let ndp = open_one(self.index, IPV6)?;
                self.watch(&ndp)?;
                ndp
            }
        };
        let joined = sys::packet_membership(&ndp, self.index, group_mac(group), true);
        self.ndp = Some(ndp);
        joined.map_err(|e| Error::on(self.index, &format!("join {group}"), e))?;
        let member = self.join_in_kernel(group);
        self.groups.insert(group, member.as_ref().ok().copied());
        member.map(|_| ()).map_err(|e| {
            let what = format!("report membership of {group} to switches (is IPv6 on? sysctl disable_ipv6)");
            Error::on(self.index, &what, e)
        })
    }

    /// Leaves the group; nothing happens where it was not joined.
    pub fn leave(&mut self, group: Ipv6Addr) -> Result<(), Error> {
        let Some(member) = self.groups.remove(&group) else { return Ok(()) };
        if let Some((socket, members)) = member.and_then(|i| self.kernel.get_mut(i)) {
            *members -= 1;
            // It fails only where the interface has gone, and the membership with it.
            let _ = sockopt::set_ipv6_drop_membership(socket, &group, self.index.0);
        }
        let Some(ndp) = &self.ndp else { return Ok(()) };
        sys::packet_membership(ndp, self.index, group_mac(group), false)
            .map_err(|e| Error::on(self.index, &format!("leave {group}"), e))
    }

    fn join_in_kernel(&mut self, group: Ipv6Addr) -> Result<usize, Errno> {
        let free = match self.kernel.iter().position(|(_, members)| *members < GROUPS_PER_SOCKET) {
            Some(i) => i,
            None => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                // Never bound, so it receives nothing.
                let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
                self.kernel.push((socket, 0));
                self.kernel.len() - 1
            }
        };
        let Some((socket, members)) = self.kernel.get_mut(free) else { return Err(Errno::NOMEM) };
        sockopt::set_ipv6_add_membership(socket, &group, self.index.0)?;
        *members += 1;
        Ok(free)
    }

    fn watch(&self, socket: &OwnedFd) -> Result<(), Error> {
        epoll::add(&self.both, socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .map_err(|e| Error::on(self.index, "wait for frames", e))
    }
}

impl AsFd for PacketSocket {
    /// Ready while there is a frame, or an error to report.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

/// Opens for no ethertype at all, then sets the filter, then binds: so no frame ever comes in unfiltered.
fn open_one(index: IfIndex, ethertype: u16) -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None).map_err(|e| match e {
        Errno::PERM | Errno::ACCESS => {
            Error::NotPermitted { what: "open a packet socket", capability: "NET_RAW", source: e.into() }
        }
        other => Error::on(index, "open a packet socket", other),
    })?;
    let socket = socket2::Socket::from(socket);
    socket.attach_filter(&filter()).map_err(|e| Error::on(index, "set a packet filter", e))?;
    let socket = OwnedFd::from(socket);
    // Before Linux 4.20 there is no such option; then the filter alone drops our own frames.
    let _ = sys::set_packet(&socket, libc::PACKET_IGNORE_OUTGOING, 1);
    // The kernel may give less (net.core.rmem_max); frames that do not fit are counted.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    bind(&socket, &sys::LinkAddr::new(index, ethertype)).map_err(|e| Error::on(index, "bind a packet socket", e))?;
    Ok(socket)
}

/// The Ethernet group address of an IPv6 group (RFC 2464 §7).
fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Passes ARP requests and replies and ICMPv6 135 and 136, for this host or a group, without a VLAN tag.
///
/// A frame of a VLAN that has no interface here reaches a bound socket with its tag taken off; an answer to it would
/// go out on the wrong network. Tag 0 is only a priority (IEEE 802.1Q §6.7).
fn filter() -> [SockFilter; 19] {
    const LOAD_ABSOLUTE: u16 = (libc::BPF_LD | libc::BPF_ABS) as u16;
    const WORD: u16 = LOAD_ABSOLUTE | libc::BPF_W as u16;
    const HALF: u16 = LOAD_ABSOLUTE | libc::BPF_H as u16;
    const BYTE: u16 = LOAD_ABSOLUTE | libc::BPF_B as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_K) as u16;
    const EQUAL: u16 = JUMP | libc::BPF_JEQ as u16;
    const AT_LEAST: u16 = JUMP | libc::BPF_JGE as u16;
    const ANY_BIT: u16 = JUMP | libc::BPF_JSET as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let about = |field: i32| (libc::SKF_AD_OFF + field) as u32;
    let op = SockFilter::new;
    [
        op(WORD, 0, 0, about(libc::SKF_AD_PKTTYPE)),
        op(AT_LEAST, 16, 0, u32::from(libc::PACKET_OTHERHOST)),
        op(WORD, 0, 0, about(libc::SKF_AD_VLAN_TAG_PRESENT)),
        op(EQUAL, 2, 0, 0),
        op(WORD, 0, 0, about(libc::SKF_AD_VLAN_TAG)),
        op(ANY_BIT, 12, 0, 0x0fff),
        op(HALF, 0, 0, 12),
        op(EQUAL, 0, 3, u32::from(ARP)),
        op(HALF, 0, 0, 20),
        op(EQUAL, 7, 0, 1),
        op(EQUAL, 6, 7, 2),
        op(EQUAL, 0, 6, u32::from(IPV6)),
        op(BYTE, 0, 0, 20),
        op(EQUAL, 0, 4, 58),
        op(BYTE, 0, 0, 54),
        op(EQUAL, 1, 0, 135),
        op(EQUAL, 0, 1, 136),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_ethernet_address_of_rfc_2464() {
        assert_eq!(group_mac("ff02::1:ff28:9c5a".parse().unwrap()), MacAddr([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a]));
    }
}
