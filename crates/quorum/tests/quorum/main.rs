//! The lease in simulations.

mod chaos;
mod failover;
mod moves;
mod simulator;
mod size;
