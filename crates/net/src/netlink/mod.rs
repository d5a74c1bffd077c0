//! Netlink: what the kernel says of the network, and what it says when it changes.

mod change;
mod monitor;
mod table;
mod wire;

pub use change::Changes;
pub(crate) use change::Way;
pub use monitor::{Monitor, NoRoute, Routes};
pub use table::{Change, LinkState, Table};
