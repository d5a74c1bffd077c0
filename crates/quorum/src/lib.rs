//! Who owns an address now.
mod acceptor;
mod config;
mod digest;
mod fault;
mod holder;
mod key;
mod machine;
mod message;
#[cfg(test)]
mod model;
mod peer;
mod placement;
mod rejections;
mod session;
mod statement;
mod types;
mod wire;

pub use config::{Address, Config, Effect, Input, Reason, Start};
#[cfg(feature = "faults")]
pub use fault::Fault;
pub use key::Key;
pub use machine::{Move, Owned, Quorum, View};
pub use placement::WEIGHT;
pub use types::{Epoch, EpochId, Node, Partition, Preset, SILENCE, Stamp};
pub use wire::{MAX_NODE_NAME, MAX_PACKET, Reject};
