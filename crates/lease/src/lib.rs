//! Who owns an address now: speakers own by leases that a majority of *acceptors* grants, so that at most one answers,
//! whatever is lost, late, paused or partitioned.
//!
//! ```text
//!                 heartbeats, statements ─► who lives, who owns what ─► placement: who asks first
//!   speaker X ──────────── ask, renew ──────────► acceptors A, B, C ◄──────────── ask ──────────── speaker Y
//!      └◄─ granted by A and B: owns until asked + L' ──┘  └─► held by X for so long: asks again then ─┘
//! ```
//!
//! **Rules of the shell.** Before every answer that it sends for an address it checks that [`Lease::until`] lies ahead
//! on its own clock, which must go on in suspend (CLOCK_BOOTTIME) and run within 1,000 ppm of the right rate.
//! [`Effect::Lose`] is obeyed before any later effect. A [`Start::boot`] is never used twice.
//!
//! **Why at most one owns.** An acceptor grants an address to one speaker at a time, for L on its own clock from when it
//! granted ([`Preset::lease`]). The holder counts from when it *asked*, and a 256th less. It owns while grants asked in
//! one and the same epoch form a majority of that epoch's members; majorities of one epoch share an acceptor, and so do
//! those of neighbours, because an epoch adds or removes one member. Grants outlive a change of epoch. An acceptor that
//! starts grants nothing for [`SILENCE`], so what it granted in a former life has ended.
//!
//! **Giving back.** Who asks in vain forgets the request, then releases it everywhere. A grant is only ever made longer,
//! or ended by a release that is newer than all that it stands on.
//!
//! **Without a majority** an address of policy [`Partition::Available`] is taken when nobody answers for it on the wire
//! and every speaker that was heard of late agrees; see [`Input::Wire`]. [`Partition::SingleOwner`] leaves that out.
//!
//! **Nothing moves without a reason.** An owner stays owner while it lives, can announce and is a candidate; who comes
//! back takes nothing back. Planned moves name a successor, for which acceptors keep the address.
//!
//! **Times** with [`Preset::Normal`]: the grants of a dead owner end 450 to 600 ms after its death, and whom placement
//! chooses asks in that moment.
//!
//! **What the controller must do.** It names an epoch ([`Config::epoch`]) only when a majority of the members of the
//! *previous* one has confirmed the current one and [`SILENCE`] has passed since; it adds a speaker only when its silence
//! is over ([`View::ready_peers`]). An address that goes over to another domain is named in [`Config::elsewhere`] of the
//! old one until a majority of its acceptors says [`View::left`].
//!
//! **Not claimed.** An acceptor that loses its disk before it ever recorded an epoch, in a cluster whose first epoch is
//! still the newest that anybody it hears knows, takes that epoch for its first one.

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

pub use config::{Address, Config, Effect, Input, Reason, Sight, Start};
#[cfg(feature = "faults")]
pub use fault::Fault;
pub use key::Key;
pub use machine::{Lease, Move, Owned, View};
pub use placement::WEIGHT;
pub use types::{Epoch, EpochId, Node, Partition, Preset, SILENCE, Stamp};
pub use wire::{MAX_NODE_NAME, MAX_PACKET, Reject};
