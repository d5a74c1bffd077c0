//! The lease in simulations.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests, and what they measured

mod chaos;
mod failover;
mod moves;
mod sight;
mod simulator;
mod size;
