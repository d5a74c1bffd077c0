//! Who owns an address now.
mod acceptor;
mod digest;
mod fault;
mod holder;
mod key;
mod message;
mod rejections;
mod session;
mod statement;
mod types;
mod wire;

pub use key::Key;
pub use types::{Epoch, EpochId, Node, Partition, Preset, SILENCE, Stamp};
pub use wire::{MAX_NODE_NAME, MAX_PACKET, Reject};
