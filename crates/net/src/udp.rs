//! The UDP socket that carries heartbeats.

use crate::Error;
use crate::holder::{self, UDP};
use crate::marking::{PRIORITY, as_network_control};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

const BUFFER: usize = 1024 * 1024;

/// A UDP socket that has its port for itself.
#[derive(Debug)]
pub struct Udp(std::net::UdpSocket);

impl Udp {
    /// Binds exclusively: it fails with [`Error::Taken`] while any other process has the port. `[::]` serves IPv4 too,
    /// and falls back to `0.0.0.0` where the kernel has no IPv6.
    pub fn bind(address: SocketAddr) -> Result<Udp, Error> {
        match open(address) {
            Ok(socket) => Ok(Udp(socket.into())),
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) && address.ip().is_unspecified() => {
                Udp::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
            }
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                Err(Error::Taken { address, by: holder::of(UDP, address.port()) })
            }
            Err(e) => Err(Error::kernel(format!("bind UDP {address}"), e)),
        }
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.0.local_addr().map_err(|e| Error::kernel("read a socket's address", e))
    }

    /// Sends one datagram. It may fail because nothing can be queued now; then the datagram is lost.
    pub fn send(&self, data: &[u8], to: SocketAddr) -> Result<(), Error> {
        let wire = match (self.0.local_addr(), to.ip()) {
            (Ok(SocketAddr::V6(_)), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.0.send_to(data, wire).map_err(|e| Error::kernel(format!("send UDP to {to}"), e))?;
        Ok(())
    }

    /// The next datagram's length and sender; `None` when there is none now. What does not fit into the buffer is
    /// lost: give it 65,536 bytes.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>, Error> {
        match self.0.recv_from(buffer) {
            // A sender over IPv4 is named by its IPv4 address also on a socket for both families.
            Ok((len, from)) => Ok(Some((len, SocketAddr::new(from.ip().to_canonical(), from.port())))),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(Error::kernel("receive UDP", e)),
        }
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
        as_network_control(&socket, true)?;
    }
    // On a socket for both families this is what its IPv4 packets carry.
    as_network_control(&socket, false)?;
    // After the TOS, which sets the priority too, to a lower one.
    socket.set_priority(PRIORITY)?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}
