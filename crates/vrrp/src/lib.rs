//! VRRP, version 2 (RFC 3768) and version 3 (RFC 9568) for IPv4 and IPv6, in the words of before RFC 9568: *master* is
//! its Active Router. It does no I/O: [`Router`] is an [`Engine`](::engine::Engine) for one virtual router, and
//! [`packet`] reads and writes its advertisements.
//!
//! ```text
//!  start, link, lease ──► Router ──► master or not, announce, who else is master
//!  advertisements     ──►        ──► advertisements
//! ```
//!
//! **Two ways to drive it.** In [`Mode::Interop`] VRRP itself elects the master. In [`Mode::Led`] somebody else decides
//! by [`Input::Lead`]; the router then only advertises, is silent at once when it leads no more, and reports any master
//! that is not one of our own: its id is taken on this link.
//!
//! **What is left to the caller.** To send and receive IP protocol 112, with TTL 255, and to join the group. To put the
//! addresses on an interface, or to answer for them, while the router is master; to announce them (gratuitous ARP,
//! unsolicited NA) when it says so. To give it packets that came in before it is told that time has passed: else a
//! process that was held up takes its own silence for that of others.
//!
//! **Not claimed:** that there is one master when packets are lost, when routers do not hear each other, or when clocks
//! stand still. VRRP promises no such thing; where it matters, use [`Mode::Led`].

mod config;
mod counters;
mod masters;
pub mod packet;
mod refusals;
mod router;
mod types;

pub use config::{Config, InvalidConfig, Mode, Settings};
pub use counters::Counters;
pub use masters::{MAX_MASTERS, Master};
pub use refusals::Refusal;
pub use router::{Effect, Input, MAX_QUEUE, Router, State};
pub use types::{Centis, Family, OutOfRange, Password, Priority, Vrid};
