//! BFD (RFC 5880) in asynchronous mode, over one hop (RFC 5881) and over many (RFC 5883). It does no I/O: [`Session`] is
//! an [`Engine`](::engine::Engine) for one peer, [`Table`] says which session a packet is for, and [`packet`] reads and
//! writes Control packets.
//!
//! ```text
//!  UDP packet ──► Table ──► Session ──► up, down and who said so
//!  configuration, link, admin ──►   ──► UDP packets
//! ```
//!
//! **Not offered.** Demand mode: its bit is never set, and a peer that sets it is obeyed. The echo function: the Required
//! Min Echo RX Interval is zero, and whatever the peer says of its own is ignored. Keyed MD5: refused in [`Config::new`].
//!
//! **What is left to the caller.** To send from a port of [`SOURCE_PORTS`], the same for as long as the session lives and
//! of no other session, to [`SINGLE_HOP_PORT`] or [`MULTI_HOP_PORT`], with TTL 255. To give it packets that came in before
//! it is told that time has passed: else a process that was held up takes its own silence for that of the peer. To ask
//! `deadline` once it was made: its first packet is due at once.
//!
//! **A planned restart.** [`Input::AdminDown`], then to go on until [`Session::peer_knows`] or, at most, for as long as
//! the peer's detection takes: the peer then knows that the path is well (RFC 5880 §6.2). Where sequence numbers are
//! authenticated, the peer hears the new process only after twice its detection time, at intervals of a second (§6.8.1).

mod auth;
mod config;
mod counters;
pub mod packet;
mod refusals;
mod session;
mod table;
mod timing;
mod types;

pub use auth::{Authentication, InvalidKey, Key, Method};
pub use config::{Config, Hops, InvalidConfig, Settings};
pub use counters::Counters;
pub use refusals::Refusal;
pub use session::{Cause, Effect, Input, MAX_QUEUE, Remote, Session};
pub use table::{Path, Table, Unknown};
pub use types::{
    Diagnostic, Discriminator, Interval, MULTI_HOP_PORT, OutOfRange, SINGLE_HOP_PORT, SOURCE_PORTS, State,
};
