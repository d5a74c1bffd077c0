//! The contract that every protocol of oxelb keeps ([`Engine`]), the clock that they count on ([`Tick`]) and the few
//! small types that all of them share.
//!
//! An engine does no I/O and never asks for the time: what happens goes in, what to do comes out.
//!
//! ```text
//!  packets, configuration, links ──► handle ──┐
//!  the clock reached `deadline()` ──► timeout ─┤ state ├──► poll: packets to send, facts that changed
//! ```

mod mac;
mod tick;

pub use mac::{InvalidMac, MacAddr};
pub use tick::Tick;

use serde::{Deserialize, Serialize};

/// A protocol as a state machine without I/O. After every call of [`handle`](Engine::handle) or
/// [`timeout`](Engine::timeout) the caller drains [`poll`](Engine::poll) and asks for [`deadline`](Engine::deadline) anew.
pub trait Engine {
    /// What can happen to it: a packet, a new configuration, a link that changed, a command.
    type Input;
    /// What it wants done: packets to send and facts that changed.
    type Effect;
    /// Something happened. Never fails, never blocks.
    fn handle(&mut self, now: Tick, input: Self::Input);
    /// Time has passed. Idempotent; a call too early does nothing.
    fn timeout(&mut self, now: Tick);
    /// The earliest moment at which `timeout` would do something; `None` while idle.
    fn deadline(&self) -> Option<Tick>;
    /// The next effect; `None` when all are drained.
    fn poll(&mut self) -> Option<Self::Effect>;
}

/// The kernel's number of a network interface, as netlink gives it (1 and up).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IfIndex(pub u32);

impl std::fmt::Display for IfIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
