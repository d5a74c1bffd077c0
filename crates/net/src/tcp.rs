//! TCP as routing protocols use it: signed with a password (RFC 2385), from a given address or device, and only from
//! peers that are near (RFC 5082). Nothing blocks; what cannot be written now stays with the caller.

use crate::holder::{self, TCP};
use crate::marking::{as_network_control, set_hops};
use crate::{Error, beside, sys};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// What the kernel keeps of what was written and not acknowledged, at most.
const SEND_BUFFER: usize = 256 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// So much that came in and was not read is thrown away before a connection is closed.
const DRAINED: usize = 1024 * 1024;

/// How far packets go, and from how far they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// As the system does it.
    #[default]
    System,
    /// So many hops; any that come are taken.
    Hops(u8),
    /// The peer is at most so many hops away, 1 being a neighbour, and sends with 255, as we do (RFC 5082). What came
    /// from farther is dropped.
    Near(u8),
}

/// What a connection is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Our address; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Only through this device, for example a VRF.
    pub device: Option<String>,
    /// How far.
    pub ttl: Ttl,
    /// The key of TCP-MD5, 1 to 80 octets.
    pub password: Option<Vec<u8>>,
}

/// A socket that waits for peers, of one address family.
#[derive(Debug)]
pub struct TcpListener(Socket);

/// A connection, or an attempt at one.
#[derive(Debug)]
pub struct TcpConnection {
    socket: Socket,
    peer: SocketAddr,
}

impl TcpListener {
    /// Listens on the address, and on the device where one is given, beside `ours`, which have the port for other
    /// addresses or devices. Who comes in by the device is the one's that is bound to it. An IPv6 socket takes no IPv4.
    pub fn bind<'a>(
        address: SocketAddr,
        device: Option<&str>,
        ours: impl IntoIterator<Item = &'a TcpListener>,
    ) -> Result<TcpListener, Error> {
        let open = || {
            let socket = socket(address)?;
            socket.set_reuse_address(true)?;
            if let Some(device) = device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            // A peer that drops what came from afar would drop the answer to its SYN (RFC 5082 §3).
            set_hops(&socket, address.is_ipv6(), 255)?;
            beside::bind(&socket, ours.into_iter().map(|o| &o.0), || {
                socket.bind(&address.into())?;
                socket.listen(BACKLOG)
            })?;
            Ok(TcpListener(socket))
        };
        open().map_err(|e: io::Error| match e.kind() {
            ErrorKind::AddrInUse => Error::Listening { address, by: holder::of(TCP, address.port()) },
            ErrorKind::PermissionDenied => {
                Error::NotPermitted { what: "listen on a port below 1024", capability: "NET_BIND_SERVICE", source: e }
            }
            _ => Error::kernel(format!("listen on TCP {address}"), e),
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        let address = self.0.local_addr().map_err(|e| Error::kernel("read a socket's address", e))?;
        Ok(address.as_socket().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
    }

    /// From now on all peers of this network, an address and how many of its bits count, sign their connections with the
    /// password; `None` when they do not. Connections that are there already keep what they have.
    pub fn set_password(&self, network: (IpAddr, u8), password: Option<&[u8]>) -> Result<(), Error> {
        match sys::tcp_md5(&self.0, network, password.unwrap_or_default()) {
            Err(e) if password.is_none() && e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| no_md5(network.0, e)),
        }
    }

    /// The next peer; `None` when there is none now.
    pub fn accept(&self) -> Result<Option<TcpConnection>, Error> {
        let (socket, peer) = match self.0.accept() {
            Ok(accepted) => accepted,
            // Some of these are of the peer that is gone again: accept(2).
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(e) => return Err(Error::kernel("accept a connection", e)),
        };
        let Some(peer) = peer.as_socket() else { return Ok(None) };
        prepare(&socket, peer.is_ipv6()).map_err(|e| Error::kernel(format!("use the connection of {peer}"), e))?;
        Ok(Some(TcpConnection { socket, peer }))
    }
}

impl TcpConnection {
    /// Begins to connect. It is ready to be written to when the attempt is over: ask [`TcpConnection::outcome`] then.
    pub fn connect(to: SocketAddr, options: &TcpOptions) -> Result<TcpConnection, Error> {
        let open = || {
            let socket = socket(to)?;
            prepare(&socket, to.is_ipv6())?;
            if let Some(device) = &options.device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            if let Some(source) = options.source {
                socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
            }
            Ok(TcpConnection { socket, peer: to })
        };
        let failed = |e: io::Error| Error::kernel(format!("connect to {to}"), e);
        let connection = open().map_err(failed)?;
        if let Some(password) = &options.password {
            let one = (to.ip(), sys::bits(to.ip()));
            sys::tcp_md5(&connection.socket, one, password).map_err(|e| no_md5(to.ip(), e))?;
        }
        connection.set_ttl(options.ttl)?;
        match connection.socket.connect(&to.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(failed(e)),
            _ => Ok(connection),
        }
    }

    /// How an attempt ended: our own address, or why it failed.
    pub fn outcome(&self) -> Result<IpAddr, Error> {
        let failed = |e: io::Error| Error::kernel(format!("connect to {}", self.peer), e);
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return Err(failed(e)),
        }
        // Not connected yet is an error of its own here.
        self.socket.peer_addr().map_err(failed)?;
        self.local()
    }

    /// Our own address of it.
    pub fn local(&self) -> Result<IpAddr, Error> {
        let local = self.socket.local_addr().map_err(|e| Error::kernel("read a socket's address", e))?;
        Ok(local.as_socket().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |a| a.ip()))
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Sets how far packets go; also for one that was accepted, before anything is read from it.
    pub fn set_ttl(&self, ttl: Ttl) -> Result<(), Error> {
        let ipv6 = self.peer.is_ipv6();
        let set = || match ttl {
            Ttl::System => set_hops(&self.socket, ipv6, 64),
            Ttl::Hops(hops) => set_hops(&self.socket, ipv6, hops),
            Ttl::Near(hops) => {
                set_hops(&self.socket, ipv6, 255)?;
                sys::least_ttl(&self.socket, ipv6, 255 - hops.saturating_sub(1))
            }
        };
        set().map_err(|e| Error::kernel(format!("set the TTL of packets to {}", self.peer), e))
    }

    /// How many octets came; 0 when the peer has closed, `None` when there are none now.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        match self.socket.read(buffer) {
            Ok(n) => Ok(Some(n)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(Error::kernel(format!("read from {}", self.peer), e)),
        }
    }

    /// How many octets the kernel took, which may be none.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match self.socket.write(bytes) {
            Ok(n) => Ok(n),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(e) => Err(Error::kernel(format!("write to {}", self.peer), e)),
        }
    }

    /// Closes it so that what was written still arrives: with octets that were not read the kernel would send a reset.
    pub fn close(mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let (mut buffer, mut drained) = ([0; 4096], 0);
        while let Ok(Some(n @ 1..)) = self.read(&mut buffer) {
            drained += n;
            if drained > DRAINED {
                return;
            }
        }
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for TcpConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn prepare(socket: &Socket, ipv6: bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    as_network_control(socket, ipv6)
}

fn no_md5(peer: IpAddr, source: io::Error) -> Error {
    let why = match source.raw_os_error() {
        Some(libc::ENOPROTOOPT) => "; this kernel was built without TCP_MD5SIG",
        _ => "",
    };
    Error::kernel(format!("sign packets to {peer} with a password (1 to 80 octets){why}"), source)
}
