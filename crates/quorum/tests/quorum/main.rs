//! The lease in simulations.

mod failover;
mod simulator;
