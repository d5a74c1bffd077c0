//! The lease in simulations.

mod chaos;
mod failover;
mod simulator;
