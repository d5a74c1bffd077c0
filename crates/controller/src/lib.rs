//! Gives addresses in a cluster.
