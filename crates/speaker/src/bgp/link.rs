//! One TCP connection of a session: what could not be written yet waits here, and the session says how much that may be.

use bgp::ConnectionId;
use net::{Error, Poller, TcpConnection};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Link {
    /// Whose it is.
    pub peer: String,
    /// The attempt still runs.
    pub connecting: bool,
    tcp: TcpConnection,
    id: ConnectionId,
    out: VecDeque<u8>,
    /// The poller tells when there is room.
    waits: bool,
}

impl Link {
    /// Takes a connection or an attempt, and has the poller watch it under its number.
    pub(super) fn new(
        poller: &Poller,
        peer: &str,
        id: ConnectionId,
        tcp: TcpConnection,
        connecting: bool,
    ) -> Result<Link, Error> {
        poller.add(&tcp, id.0)?;
        poller.writable(&tcp, id.0, connecting)?;
        Ok(Link { peer: peer.to_owned(), connecting, tcp, id, out: VecDeque::new(), waits: connecting })
    }

    pub(super) fn tcp(&self) -> &TcpConnection {
        &self.tcp
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.tcp.read(buffer)
    }

    /// Adds octets and writes what the kernel takes; how many that were.
    pub(super) fn write(&mut self, poller: &Poller, bytes: &[u8]) -> Result<usize, Error> {
        self.out.extend(bytes);
        self.flush(poller)
    }

    /// Writes what the kernel takes; how many octets that were.
    pub(super) fn flush(&mut self, poller: &Poller) -> Result<usize, Error> {
        let mut taken = 0;
        loop {
            let (first, _) = self.out.as_slices();
            if first.is_empty() {
                break;
            }
            let n = self.tcp.write(first)?;
            if n == 0 {
                break;
            }
            self.out.drain(..n);
            taken += n;
        }
        let waits = !self.out.is_empty();
        if waits != self.waits {
            poller.writable(&self.tcp, self.id.0, waits)?;
            self.waits = waits;
        }
        if !waits {
            self.out.shrink_to(4096);
        }
        Ok(taken)
    }

    /// Closes it after what the kernel still takes.
    pub(super) fn close(mut self, poller: &Poller) {
        if !self.connecting {
            let _ = self.flush(poller);
        }
        let _ = poller.remove(&self.tcp);
        self.tcp.close();
    }
}
