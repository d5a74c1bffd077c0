//! The packet socket: whole Ethernet frames of one interface, of which the kernel passes only ARP and the neighbour
//! solicitations and advertisements of IPv6.

use crate::marking::PRIORITY;
use crate::{Error, sys};
use engine::IfIndex;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with, sockopt,
};
use socket2::SockFilter;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Room for about a thousand frames: a burst of requests while the thread is away for a moment.
const RECEIVE_BUFFER: usize = 512 * 1024;

/// How many frames are taken from one socket before the other is asked.
const TURN: u8 = 32;

/// ARP and neighbour discovery on one interface.
///
/// Inside are two sockets, since a socket is bound to one ethertype or to all of them, and a tap on all would run for
/// every packet that the node receives.
#[derive(Debug)]
pub struct PacketSocket {
    index: IfIndex,
    both: OwnedFd,
    sockets: [OwnedFd; 2],
    /// Which one is asked first, and for how many frames more, so that a flood of one family does not starve the other.
    turn: Cell<(usize, u8)>,
    dropped: Cell<u64>,
}

impl PacketSocket {
    /// Opens it on the interface with this number. On an interface that is down it first reports [`Error::Down`] and
    /// works once that is up.
    pub fn open(index: IfIndex) -> Result<PacketSocket, Error> {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::kernel("make an epoll", e))?;
        let sockets = [open_one(index, ARP)?, open_one(index, IPV6)?];
        for socket in &sockets {
            epoll::add(&both, socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                .map_err(|e| Error::kernel("wait for frames", e))?;
        }
        Ok(PacketSocket { index, both, sockets, turn: Cell::new((0, TURN)), dropped: Cell::new(0) })
    }

    /// The interface that it is open on.
    pub fn index(&self) -> IfIndex {
        self.index
    }

    /// The whole length of the next frame, in bytes; `None` when there is none now. A length greater than the buffer's
    /// says that the end of the frame is lost.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        let (first, left) = match self.turn.get() {
            (first, 0) => (1 - first, TURN),
            turn => turn,
        };
        for (which, left) in [(first, left), (1 - first, TURN)] {
            match recv(&self.sockets[which], &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, whole)) => {
                    self.turn.set((which, left - 1));
                    return Ok(Some(whole));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(Error::on(self.index, "receive frames", e)),
            }
        }
        Ok(None)
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        // By this, and not by what is in the frame, the filters of the host (tc, nftables) know what it is.
        let ethertype = frame.get(12..14).map_or(0, |octets| u16::from_be_bytes([octets[0], octets[1]]));
        let to = sys::LinkAddr::new(self.index, ethertype);
        let sent = sendto(&self.sockets[0], frame, SendFlags::DONTWAIT, &to);
        sent.map(drop).map_err(|e| Error::on(self.index, "send a frame", e))
    }

    /// Frames that were lost because nobody read them in time, since the socket was opened.
    pub fn dropped(&self) -> u64 {
        let new: u64 = self.sockets.iter().map(|s| sys::packet_drops(s).map_or(0, u64::from)).sum();
        self.dropped.set(self.dropped.get() + new);
        self.dropped.get()
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
    socket.set_priority(PRIORITY).map_err(|e| Error::on(index, "raise the priority of frames", e))?;
    let socket = OwnedFd::from(socket);
    // Before Linux 4.20 there is no such option; then the filter alone drops our own frames.
    let _ = sys::set_packet(&socket, libc::PACKET_IGNORE_OUTGOING, 1);
    // The kernel may give less (net.core.rmem_max); frames that do not fit are counted.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    bind(&socket, &sys::LinkAddr::new(index, ethertype)).map_err(|e| Error::on(index, "bind a packet socket", e))?;
    Ok(socket)
}

/// Passes ARP requests and replies and ICMPv6 135 and 136 that are for this host or a group.
///
/// Frames of a VLAN that has no interface here reach the socket too, with their tag taken off, and an answer would go
/// out on the wrong network; the kernel marks them as for another host.
fn filter() -> [SockFilter; 15] {
    const LOAD_ABSOLUTE: u16 = (libc::BPF_LD | libc::BPF_ABS) as u16;
    const WORD: u16 = LOAD_ABSOLUTE | libc::BPF_W as u16;
    const HALF: u16 = LOAD_ABSOLUTE | libc::BPF_H as u16;
    const BYTE: u16 = LOAD_ABSOLUTE | libc::BPF_B as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_K) as u16;
    const EQUAL: u16 = JUMP | libc::BPF_JEQ as u16;
    const AT_LEAST: u16 = JUMP | libc::BPF_JGE as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = SockFilter::new;
    [
        op(WORD, 0, 0, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32),
        op(AT_LEAST, 12, 0, u32::from(libc::PACKET_OTHERHOST)),
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
