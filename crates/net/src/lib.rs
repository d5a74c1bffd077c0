//! The kernel: packet sockets, TCP and UDP, netlink, deadlines. Nothing here blocks for longer than a request to the kernel takes,
//! nothing knows what the packets mean, and nothing but this crate is `unsafe`.

mod beside;
mod error;
mod fence;
mod groups;
mod holder;
mod hop_udp;
pub mod host;
mod link_local;
mod marking;
mod memory;
mod netlink;
mod packet;
mod poller;
mod raw_ip;
mod resolve;
mod sys;
mod tcp;
mod thread;
mod udp;

pub use error::Error;
pub use fence::{Class, Fence};
pub use groups::Groups;
pub use hop_udp::{Arrival, HopReceiver, HopSender, source_towards};
pub use link_local::link_local;
pub use memory::{give_back_memory, keep_heap_small, let_go_of_program};
pub use netlink::{Change, Changes, LinkState, Monitor, NoRoute, Routes, Table};
pub use packet::PacketSocket;
pub use poller::{Poller, Waker, now};
pub use raw_ip::RawIp;
pub use resolve::{Unresolved, resolve_names, resolve_route};
pub use tcp::{TcpConnection, TcpListener, TcpOptions, Ttl};
pub use thread::{lock_memory, prefer_deadlines};
pub use udp::Udp;
