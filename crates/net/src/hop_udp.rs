//! UDP for protocols that trust what cannot have come from afar (RFC 5082): what comes in is told with its TTL and its
//! interface, what goes out has TTL 255.

use crate::holder::{self, UDP};
use crate::marking::{PRIORITY, as_network_control, set_hops};
use crate::raw_ip::with_scope;
use crate::{Error, beside, sys};
use engine::IfIndex;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};

const MOST_HOPS: u8 = 255;
/// How many ports are tried before there seems to be none.
const PORTS_TRIED: usize = 64;

/// Where a datagram came from, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// How long it is.
    pub length: usize,
    /// Its sender.
    pub from: SocketAddr,
    /// The address that it was sent to.
    pub to: IpAddr,
    /// The interface that it came in by.
    pub on: IfIndex,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// Receives on one port, of one address family.
#[derive(Debug)]
pub struct HopReceiver(Socket);

/// Sends from one address and one port.
#[derive(Debug)]
pub struct HopSender(Socket);

impl HopReceiver {
    /// Binds the port on all addresses of the family, and on the device where one is given, beside `ours`, which have it
    /// for other devices. What comes in by the device goes to the one that is bound to it.
    pub fn bind<'a>(
        ipv6: bool,
        port: u16,
        device: Option<&str>,
        ours: impl IntoIterator<Item = &'a HopReceiver>,
    ) -> Result<HopReceiver, Error> {
        let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let address = SocketAddr::new(any, port);
        let open = || {
            let socket = socket(address, device)?;
            sys::tell_arrival(&socket, ipv6)?;
            beside::bind(&socket, ours.into_iter().map(|o| &o.0), || socket.bind(&address.into()))?;
            Ok(HopReceiver(socket))
        };
        open().map_err(|e: io::Error| match e.kind() {
            ErrorKind::AddrInUse => Error::InUse { address, by: holder::of(UDP, port) },
            _ => Error::kernel(format!("bind UDP {address}"), e),
        })
    }

    /// The next datagram; `None` when there is none now. What does not fit into the buffer is lost.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Arrival>, Error> {
        match sys::receive_arrival(&self.0, buffer) {
            Ok(arrival) => Ok(Some(arrival)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(Error::kernel("receive UDP", e)),
        }
    }
}

impl HopSender {
    /// Binds our address, on the link of this number where it is link-local, and of the ports one that nobody has.
    pub fn bind(
        (local, link): (IpAddr, IfIndex),
        ports: RangeInclusive<u16>,
        device: Option<&str>,
        mut draw: impl FnMut(RangeInclusive<u16>) -> u16,
    ) -> Result<HopSender, Error> {
        let failed = |e: io::Error| Error::kernel(format!("send UDP from {local}"), e);
        for _ in 0..PORTS_TRIED {
            let mut address = with_scope(local, link);
            address.set_port(draw(ports.clone()));
            let socket = socket(address, device).map_err(failed)?;
            match socket.bind(&address.into()) {
                Ok(()) => return Ok(HopSender(socket)),
                Err(e) if e.kind() == ErrorKind::AddrInUse => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(ErrorKind::AddrInUse.into()))
    }

    /// Sends one datagram. It may fail because nothing can be queued now; then the datagram is lost.
    pub fn send(&self, data: &[u8], to: SocketAddr) -> Result<(), Error> {
        self.0.send_to(data, &to.into()).map(drop).map_err(|e| Error::kernel(format!("send UDP to {to}"), e))
    }
}

/// Our own address in what would be sent there, through the device where one is given; `None` without a route.
pub fn source_towards(to: SocketAddr, device: Option<&str>) -> Option<IpAddr> {
    let socket = socket(to, device).ok()?;
    // Of UDP, this sends nothing.
    socket.connect(&to.into()).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

impl AsFd for HopReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn socket(address: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_hops(&socket, address.is_ipv6(), MOST_HOPS)?;
    as_network_control(&socket, address.is_ipv6())?;
    // After the TOS, which sets the priority too, to a lower one.
    socket.set_priority(PRIORITY)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    Ok(socket)
}
