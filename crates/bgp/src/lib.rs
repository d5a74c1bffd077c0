//! BGP-4 (RFC 4271 and its family): codec, session, routes out. It does no I/O: [`Session`] is an
//! [`Engine`](engine::Engine) for one peer, and [`wire`] reads and writes its messages.
//!
//! ```text
//!  configuration, BFD ──► Session ──► Connect, Close, states, why it ended
//!  TCP: up, down, octets ──►      ──► octets
//!  routes that the peer is to know ──►  (the difference only, as full as messages can be)
//! ```
//!
//! Routes of the peer are counted and shown, never used.

mod community;
mod config;
mod counters;
mod discovery;
mod export;
mod negotiated;
pub mod policy;
mod prefix;
mod routes_in;
mod routes_out;
mod session;
mod types;
pub mod wire;

pub use community::{Community, ExtendedCommunity, InvalidCommunity, LargeCommunity};
pub use config::{Config, DEFAULT_MAX_PREFIXES, Excess, FamilyConfig, MaxPrefixes, NextHops, RestartConfig};
pub use counters::{Counters, Messages, RouteCounts, View};
pub use discovery::{ALL_NODES, ALL_ROUTERS, Discovery, DiscoveryEffect, DiscoveryInput, ICMPV6};
pub use export::{DEFAULT_LOCAL_PREF, Unsendable};
pub use negotiated::Negotiated;
pub use prefix::{AfiSafi, Family, InvalidPrefix, Nlri, Prefix};
pub use routes_out::{Path, Routes};
pub use session::{ConnectionId, Direction, Down, Effect, Input, SEND_WINDOW, Session, State, Stop};
pub use types::{Asn, HoldTime, InvalidNumber, RouterId};
