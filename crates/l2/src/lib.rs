//! ARP (RFC 826, 5227) and NDP (RFC 4861, 4862) for addresses that this node owns: answering, announcing, noticing
//! others that claim them; and asking who has an address of others. It does no I/O: [`L2`] is an
//! [`Engine`](::engine::Engine), and [`wire`] reads and writes its frames.
//!
//! ```text
//!  links, addresses, gateways ──► L2 ──► who answers where (facts), groups to join
//!  frames from packet sockets ──►    ──► frames to send, conflicts
//!  questions, what to watch   ──►    ──► who claims an address of others
//! ```
//!
//! It takes part in no election: it answers for exactly the addresses of its last [`Input::Addresses`]. To a question
//! silence is an answer, so call [`timeout`](::engine::Engine::timeout) only when the frames that wait are handed over.

mod claims;
mod counters;
mod engine;
mod events;
mod pace;
mod questions;
mod schedule;
pub mod wire;

pub use crate::engine::{DEFEND_INTERVAL, L2, MAX_FRAME, MAX_QUEUE};
pub use claims::MAX_STRANGERS;
pub use counters::{AddressCounters, Counters};
pub use events::{Effect, Input, Link, Question, Unasked};
pub use pace::PER_MILLISECOND;
pub use questions::MAX_QUESTIONS;
pub use schedule::{BURST, JITTER_PERCENT, REPEAT};
