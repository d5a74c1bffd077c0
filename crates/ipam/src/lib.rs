//! Which address a Service gets.
