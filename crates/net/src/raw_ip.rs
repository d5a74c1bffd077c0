//! Packets of an IP protocol that has no ports, on one interface: to and from a multicast group, with TTL 255.

use crate::hop_udp::Arrival;
use crate::marking::{PRIORITY, as_network_control, set_hops};
use crate::{Error, sys};
use engine::IfIndex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};

const MOST_HOPS: u8 = 255;
/// The least that the kernel gives: the socket that sends receives nothing that anybody reads.
const UNREAD: usize = 1;

/// One protocol of one family on one interface.
///
/// Inside are two sockets: one that is bound to an address, so that everything leaves from there, would receive only
/// what is sent to that address.
#[derive(Debug)]
pub struct RawIp {
    on: IfIndex,
    receiver: Socket,
    sender: Socket,
}

impl RawIp {
    /// Opens it on the interface of this number and name, as a member of the group. What is sent leaves from `local`.
    /// Needs the capability NET_RAW.
    pub fn open(protocol: u8, (on, name): (IfIndex, &str), group: IpAddr, local: IpAddr) -> Result<RawIp, Error> {
        let raw = || {
            let ipv6 = local.is_ipv6();
            let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
            let kind = Type::RAW.nonblocking().cloexec();
            let socket = Socket::new(domain, kind, Some(Protocol::from(i32::from(protocol))))?;
            socket.bind_device(Some(name.as_bytes()))?;
            Ok::<_, io::Error>(socket)
        };
        let open = || {
            let (receiver, sender) = (raw()?, raw()?);
            sys::tell_arrival(&receiver, local.is_ipv6())?;
            sender.set_recv_buffer_size(UNREAD)?;
            sender.set_priority(PRIORITY)?;
            as_network_control(&sender, local.is_ipv6())?;
            set_hops(&sender, local.is_ipv6(), MOST_HOPS)?;
            match (group, local) {
                (IpAddr::V4(group), _) => {
                    receiver.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(on.0))?;
                    sender.set_multicast_ttl_v4(MOST_HOPS.into())?;
                    sender.set_multicast_loop_v4(false)?;
                }
                (IpAddr::V6(group), _) => {
                    receiver.join_multicast_v6(&group, on.0)?;
                    sender.set_multicast_hops_v6(MOST_HOPS.into())?;
                    sender.set_multicast_loop_v6(false)?;
                    sender.set_multicast_if_v6(on.0)?;
                }
            }
            sender.bind(&with_scope(local, on).into())?;
            Ok((receiver, sender))
        };
        let (receiver, sender) = open().map_err(|e: io::Error| match e.raw_os_error() {
            Some(libc::EPERM) => Error::NotPermitted { what: "open a raw socket", capability: "NET_RAW", source: e },
            _ => Error::kernel(format!("open a socket of IP protocol {protocol} on {name} with {local}"), e),
        })?;
        Ok(RawIp { on, receiver, sender })
    }

    /// The next packet without its IP header, and how it came; `None` when there is none now.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<(Arrival, &'a [u8])>, Error> {
        match sys::receive_arrival(&self.receiver, buffer) {
            Ok(arrival) => {
                let whole = buffer.get(..arrival.length).unwrap_or_default();
                // With IPv4 the header comes too (RFC 791 §3.1: its length in words is in the first octet).
                let header =
                    if arrival.from.is_ipv4() { whole.first().map_or(0, |b| usize::from(b & 15) * 4) } else { 0 };
                Ok(Some((arrival, whole.get(header..).unwrap_or_default())))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(Error::on(self.on, "receive IP packets", e)),
        }
    }

    /// Sends a packet to the group or to a neighbour.
    pub fn send(&self, to: IpAddr, message: &[u8]) -> Result<(), Error> {
        let sent = self.sender.send_to(message, &with_scope(to, self.on).into());
        sent.map(drop).map_err(|e| Error::on(self.on, "send an IP packet", e))
    }
}

impl AsFd for RawIp {
    /// Ready while there is a packet, or an error to report.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// The address, and where it is link-local the link.
pub(crate) fn with_scope(address: IpAddr, on: IfIndex) -> SocketAddr {
    match address {
        IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.is_multicast() => SocketAddrV6::new(ip, 0, 0, on.0).into(),
        ip => SocketAddr::new(ip, 0),
    }
}
