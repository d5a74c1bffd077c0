//! What the kernel refused, of which object, and what to do.

use engine::IfIndex;
use std::io;
use std::net::SocketAddr;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ENETDOWN: nothing is received or sent until the interface is up; the socket then works again by itself.
    #[error("interface {0} is down; it is served again once it is up (ip link set up)")]
    Down(IfIndex),
    /// ENODEV or ENXIO: no interface has this number any more. The socket is dead; open another on the new number.
    #[error("interface {0} is gone; it is served again once it is back")]
    Gone(IfIndex),
    /// EPERM.
    #[error("not permitted to {what}: {source}; give the container the capability {capability}")]
    NotPermitted {
        /// What was wanted.
        what: &'static str,
        /// The capability that allows it, as Kubernetes spells it.
        capability: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// EADDRINUSE.
    #[error("UDP port {} is taken on {} by {by}; end it, or choose another port with --bind-port on every node", address.port(), address.ip())]
    Taken {
        /// What was to be bound.
        address: SocketAddr,
        /// The process that has it, as far as it can be seen.
        by: String,
    },
    /// EADDRINUSE of TCP.
    #[error("TCP port {} is taken on {} by {by}; end it, or choose another port with spec.listenPort of the BgpConf: routers are connected to all the same", address.port(), address.ip())]
    Listening {
        /// What was to be listened on.
        address: SocketAddr,
        /// The process that has it, as far as it can be seen.
        by: String,
    },
    /// EADDRINUSE of a UDP port that the protocol fixes.
    #[error("UDP port {} is taken on {} by {by}; end it: the protocol knows no other port", address.port(), address.ip())]
    InUse {
        /// What was to be bound.
        address: SocketAddr,
        /// The process that has it, as far as it can be seen.
        by: String,
    },
    /// Any other answer.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was wanted.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The kernel's answer to an attempt to do `what`.
    pub(crate) fn kernel(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Kernel { what: what.into(), source: source.into() }
    }

    /// The kernel's answer to an attempt to do `what` with one interface.
    pub(crate) fn on(index: IfIndex, what: &str, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        match source.raw_os_error() {
            Some(libc::ENETDOWN) => Error::Down(index),
            Some(libc::ENODEV | libc::ENXIO) => Error::Gone(index),
            _ => Error::Kernel { what: format!("{what} on interface {index}"), source },
        }
    }
}
