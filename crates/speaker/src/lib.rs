//! Runs the protocol engines on one node.
