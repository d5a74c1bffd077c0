//! What a session hears, says and knows.

use crate::config::Config;
use crate::refusals::Refusal;
use crate::types::{Diagnostic, Discriminator, State};
use serde::{Deserialize, Serialize};

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A packet that [`Table::find`](crate::Table::find) gave to this session.
    Packet {
        /// The TTL or hop limit it came with.
        ttl: u8,
        /// The payload of the UDP packet.
        message: Vec<u8>,
    },
    /// Another configuration. The state stays; other intervals are agreed upon by a Poll Sequence.
    Configure(Box<Config>),
    /// Hold the session down and say so: the peer then knows that the path is not to blame (RFC 5880 §6.8.16).
    AdminDown,
    /// Let it come up again.
    AdminUp,
    /// The link is up or down. It counts as up until this comes.
    Link(bool),
}

/// What is to be done, and what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It is up.
    Up,
    /// It was up and is no more. When it came up again before it was drained, [`Effect::Up`] follows.
    Down {
        /// What our packets say of it.
        diagnostic: Diagnostic,
        /// By whom.
        cause: Cause,
    },
    /// Send this to the peer, with TTL or hop limit 255.
    Send {
        /// The payload of the UDP packet.
        message: Vec<u8>,
    },
    /// A packet did not count. Comes at most every 10 s for each reason.
    Refused {
        /// Why.
        reason: Refusal,
    },
}

/// Who ended a session that was up. Of these, only an operator's doing says nothing of the path (RFC 5882 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Nothing was heard for the detection time.
    Silence,
    /// The peer said that it is down.
    Peer(Diagnostic),
    /// An operator of the peer holds it down.
    PeerAdmin,
    /// [`Input::AdminDown`]
    Admin,
    /// The link is down.
    Link,
}

/// What is known of the peer: as of its last packet, or as RFC 5880 §6.8.1 begins when it was not heard for the
/// detection time. Intervals are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its name for the session; none when it is not heard.
    pub discriminator: Option<Discriminator>,
    /// Its state.
    pub state: State,
    /// Why its session left its state last.
    pub diagnostic: Diagnostic,
    /// bfd.RemoteMinRxInterval; zero: it wants no periodic packets.
    pub required_min_rx: u32,
    /// What it would like between two of its packets.
    pub desired_min_tx: u32,
    /// Its Detect Mult; zero when it is not heard.
    pub multiplier: u8,
    /// It wants no periodic packets while both are up.
    pub demand: bool,
    /// Its BFD lives on when its control plane does not (RFC 5882 §4.3).
    pub independent: bool,
}

pub(crate) const UNHEARD: Remote = Remote {
    discriminator: None,
    state: State::Down,
    diagnostic: Diagnostic::NONE,
    required_min_rx: 1,
    desired_min_tx: 0,
    multiplier: 0,
    demand: false,
    independent: false,
};
