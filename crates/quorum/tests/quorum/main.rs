//! The lease in simulations.

// Clippy allows these in tests, and does not see that the helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "tells what it measured")]

mod chaos;
mod failover;
mod simulator;
