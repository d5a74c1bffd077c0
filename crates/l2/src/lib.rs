//! ARP (RFC 826, 5227) and NDP (RFC 4861, 4862) for addresses that this node owns: answering, announcing, noticing
//! others that claim them. It does no I/O: [`L2`] is an [`Engine`](::engine::Engine), and [`wire`] reads and writes its frames.
//!
//! ```text
//!  links, addresses, gateways ──► L2 ──► who answers where (facts), groups to join
//!  frames from packet sockets ──►    ──► frames to send, conflicts
//! ```
//!
//! It takes part in no election: it answers for exactly the addresses of its last [`Input::Addresses`].

mod counters;
mod engine;
mod schedule;
pub mod wire;

pub use crate::engine::{Effect, Input, L2, Link, MAX_FRAME, MAX_QUEUE, MAX_STRANGERS};
pub use counters::{AddressCounters, Counters};
pub use schedule::{BURST, JITTER_PERCENT, PER_MILLISECOND, REPEAT};
