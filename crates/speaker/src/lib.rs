//! Runs the protocol engines on one node.
//!
//! ```text
//!  objects ──► agent ──(Command, bounded)──► shell ──► wire
//!                    ──(Command, bounded)──► bgp ──► routers, on a thread of its own
//!              tokio, one thread             the deadline thread: epoll, own timer, raised priority
//!  Speaker ◄── agent ◄────(Facts, latest)─── shell ◄── wire, kernel
//! ```
//!
//! The agent may wait for the API server as long as it likes: packets and deadlines are the shell's, on a thread that
//! nothing else runs on.

mod agent;
mod bgp;
mod facts;
mod intent;
mod metrics;
mod orders;
mod owners;
mod record;
mod shell;
mod status;
#[cfg(test)]
mod tests;
mod warnings;

pub use self::bgp::ask;

use api::Protocol;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a speaker runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of this node, as its Node object has it.
    pub node: String,
    /// Where oxelb itself runs: the namespace of the Secret `memberlist`.
    pub namespace: String,
    /// Which Services are ours.
    pub scope: api::Scope,
    /// Where heartbeats are received; other speakers are expected on the same port.
    pub bind: SocketAddr,
    /// The key that authenticates heartbeats where there is no Secret `memberlist`.
    pub secret: Option<Vec<u8>>,
    /// Announce pools with protocol layer2.
    pub layer2: bool,
    /// Announce pools with protocol vip.
    pub vip: bool,
    /// The port that `gobgp -p` names: under it, and on this machine only, it is answered. `None` answers nobody.
    pub control: Option<u16>,
    /// Where metrics and probes are served; `None` serves none.
    pub http: Option<SocketAddr>,
    /// Where the last snapshot is kept, so that a restart needs no API server, and the epoch that this node confirmed;
    /// `None` keeps neither.
    pub state: Option<PathBuf>,
}

impl Options {
    /// Addresses of this protocol have one owner, and this node may be it.
    fn owns(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Layer2 => self.layer2,
            Protocol::Vip => self.vip,
            Protocol::Bgp => false,
        }
    }
}

/// Why a speaker ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused what a speaker cannot do without.
    #[error("speaker on {node}: {source}")]
    Kernel {
        /// The node.
        node: String,
        /// What was refused.
        #[source]
        source: net::Error,
    },
    /// The address for metrics and probes is taken or not ours.
    #[error("cannot serve metrics on {address}: {source}; choose another --metrics-addr or end what has it")]
    Http {
        /// The address.
        address: SocketAddr,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// The thread that answers on the wire ended although nobody asked it to.
    #[error("the thread that answers on the wire ended: {0}")]
    Shell(String),
    /// The thread that talks BGP ended although nobody asked it to.
    #[error("the thread that talks BGP ended: {0}")]
    Bgp(String),
    /// Objects do not come any more.
    #[error("the reader of objects ended; this is a bug, the restart will read everything anew")]
    SourceEnded,
}

/// Runs until `stop` is ready, then hands its addresses over and leaves. Needs a tokio runtime with one thread.
pub async fn run(store: source::Store, options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    agent::run(store, options, stop).await
}
