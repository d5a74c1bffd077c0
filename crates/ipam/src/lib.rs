//! Which address a Service gets: an index of pools, Services and what is taken, and no I/O.
//!
//! ```text
//! set_pool, set_service, … ──► claims (what Services already have) ──► choose (what they lack) ──► Plan
//! ```
//!
//! The store is the cluster itself. [`Ipam`] starts empty; fed with everything that there is, its first
//! [`Ipam::plan`] takes over what Services' status says, then gives addresses to those that have none. A decision is
//! assumed from the moment it was made: its addresses are given to nobody else, whether the write that follows lands,
//! fails or is lost. An address that a Service is to lose is held until its status is seen without it. So no order of
//! writes and crashes gives one address twice.

mod choose;
mod claims;
mod decision;
mod free;
mod ipam;
mod refusal;
mod report;
mod sharing;
mod table;

pub use decision::{Decision, Event, Outcome, Plan};
pub use ipam::Ipam;
pub use report::PoolReport;
