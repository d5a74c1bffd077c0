//! What goes into a session and what comes out.

use crate::config::Config;
use crate::negotiated::Negotiated;
use crate::prefix::{Family, Nlri};
use crate::routes_out::{Path, Routes};
use crate::wire::{Cease, Code, Fault, Notification};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A TCP connection, by a number that its owner never uses twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The peer.
    Incoming,
    /// We.
    Outgoing,
}

/// The states of RFC 4271 §8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Stopped, or refusing connections for a while after an error.
    Idle,
    /// Connecting.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// There is a connection; the peer's OPEN is to come.
    OpenSent,
    /// The peer's OPEN is accepted; ours is to be.
    OpenConfirm,
    /// Routes go.
    Established,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Begin, also anew after a limit ended it.
    Start,
    /// End.
    Stop(Stop),
    /// Another configuration. The session is reset only when what was said in the OPEN is not true any more.
    Configure(Box<Config>),
    /// A TCP connection is there.
    TcpUp {
        /// Its number.
        connection: ConnectionId,
        /// Who opened it.
        direction: Direction,
        /// Our own address of it.
        local: IpAddr,
    },
    /// The attempt that [`Effect::Connect`] asked for failed.
    ConnectFailed,
    /// A connection is gone, not by [`Effect::Close`].
    TcpDown {
        /// Which.
        connection: ConnectionId,
    },
    /// Octets came in, of any number.
    Bytes {
        /// Where.
        connection: ConnectionId,
        /// What.
        bytes: Vec<u8>,
    },
    /// The kernel took so many octets of what [`Effect::Write`] gave. Without it a session sends no more than
    /// [`SEND_WINDOW`](crate::SEND_WINDOW).
    Sent {
        /// Where.
        connection: ConnectionId,
        /// How many, since the last time.
        bytes: usize,
    },
    /// All routes that the peer is to know. The first time says also that they are complete (End-of-RIB).
    Routes(Arc<Routes>),
    /// Some routes that changed; `None` is gone.
    Change(Vec<(Nlri, Option<Arc<Path>>)>),
    /// BFD says that the path is down (RFC 5882): the session ends at once, and graceful restart with it.
    BfdDown,
    /// Ask the peer for all its routes again.
    Refresh(Family),
    /// We are about to leave: ask the peer to prefer other paths (RFC 8326). A [`Input::Stop`] is to follow.
    Drain,
}

/// How a session is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// For good; the operator's words go with it (RFC 9003).
    Shutdown(String),
    /// To begin again at once.
    Reset(String),
    /// The peer is not configured any more.
    Deconfigured,
    /// This process ends and will be back: the connection is closed without a NOTIFICATION, so that a peer with
    /// graceful restart keeps our routes (RFC 4724 §4).
    Restart,
}

/// What is to be done, and what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Open a TCP connection to the peer; an attempt that still runs is given up. Answer with [`Input::TcpUp`] or
    /// [`Input::ConnectFailed`].
    Connect,
    /// Write to a connection.
    Write {
        /// Which.
        connection: ConnectionId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close a connection once what was written has gone out, as far as the kernel takes it without waiting. Nothing
    /// more comes of it and nothing about it is listened to.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// The state changed.
    State(State),
    /// The session is established.
    Established(Box<Negotiated>),
    /// It was established and is not any more.
    Down(Down),
    /// It did not come to a session.
    Failed(Down),
    /// Something was wrong with an UPDATE, and this came of it (RFC 7606).
    Damaged(Fault),
    /// The peer sent more prefixes of this family than are remembered. Comes once a session.
    TooManyPrefixes(Family),
}

/// Why a session or an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// We ended it.
    Sent {
        /// What the peer was told.
        notification: Notification,
        /// What it was about, in words, where the code says less.
        detail: String,
    },
    /// The peer ended it.
    Received(Notification),
    /// The connection was gone.
    Closed,
    /// The attempt to connect failed.
    ConnectFailed,
    /// The peer restarted and opened another connection (RFC 4724 §5).
    Replaced,
    /// We are about to restart.
    Restarting,
}

impl Down {
    /// The NOTIFICATION of it.
    pub fn notification(&self) -> Option<&Notification> {
        match self {
            Down::Sent { notification, .. } | Down::Received(notification) => Some(notification),
            Down::Closed | Down::ConnectFailed | Down::Replaced | Down::Restarting => None,
        }
    }

    /// Something is wrong that will be wrong in a moment still, so haste does harm (DampPeerOscillations, RFC 4271 §8.1).
    pub(crate) fn is_error(&self) -> bool {
        let harmless = |c: Code| {
            matches!(c, Code::Cease(c) if !matches!(c, Cease::MaxPrefixes | Cease::ConnectionRejected | Cease::OutOfResources))
                || matches!(c, Code::HoldTimer | Code::SendHoldTimer)
        };
        self.notification().is_some_and(|n| !harmless(n.inner().code))
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::Sent { notification, detail } if detail.is_empty() => write!(f, "we ended it: {notification}"),
            Down::Sent { notification, detail } => write!(f, "we ended it: {notification}: {detail}"),
            Down::Received(notification) => write!(f, "the peer ended it: {notification}"),
            Down::Closed => f.write_str("the connection was closed without a word"),
            Down::ConnectFailed => f.write_str("no connection could be made"),
            Down::Replaced => f.write_str("the peer restarted and opened another connection"),
            Down::Restarting => f.write_str("this speaker restarts"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Idle => "IDLE",
            State::Connect => "CONNECT",
            State::Active => "ACTIVE",
            State::OpenSent => "OPENSENT",
            State::OpenConfirm => "OPENCONFIRM",
            State::Established => "ESTABLISHED",
        })
    }
}
