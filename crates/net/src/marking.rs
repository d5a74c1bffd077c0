//! How packets are marked whose delay would be taken for a dead node or router.

use socket2::Socket;
use std::io;

/// The highest priority in the host's own queues that needs no capability (TC_PRIO_INTERACTIVE).
pub(crate) const PRIORITY: u32 = 6;
/// DSCP CS6 (RFC 4594 §3.1), as the whole octet.
const NETWORK_CONTROL: u32 = 0xc0;

/// Marks what a socket of this family sends as network control.
pub(crate) fn as_network_control(socket: &Socket, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_tclass_v6(NETWORK_CONTROL) } else { socket.set_tos_v4(NETWORK_CONTROL) }
}

/// Gives what a socket of this family sends so many hops.
pub(crate) fn set_hops(socket: &Socket, ipv6: bool, hops: u8) -> io::Result<()> {
    if ipv6 { socket.set_unicast_hops_v6(hops.into()) } else { socket.set_ttl_v4(hops.into()) }
}
