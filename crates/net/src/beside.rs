//! Several sockets of one process on one port: one for any device, and others each bound to a device.

use socket2::Socket;
use std::io;

/// Binds a socket to a port that sockets of this process may have for another device; no other process may have it, or
/// packets would go now here, now there. The kernel lets them stand side by side only while all agree to share, and gives
/// each packet to the one that is bound to its device.
pub(crate) fn bind<'a>(
    socket: &Socket,
    ours: impl IntoIterator<Item = &'a Socket>,
    bind: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let all: Vec<&Socket> = ours.into_iter().collect();
    if all.is_empty() {
        return bind();
    }
    let share = |yes| all.iter().chain([&socket]).try_for_each(|s| s.set_reuse_port(yes));
    share(true)?;
    let bound = bind();
    share(false)?;
    bound
}
