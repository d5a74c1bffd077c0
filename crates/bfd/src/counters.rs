//! What a session counts.

use crate::refusals::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts since the session was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets made to be sent.
    pub sent: u64,
    /// Packets that count.
    pub received: u64,
    /// Packets that came while the session was administratively down (RFC 5880 §6.8.6) or its link was.
    pub ignored: u64,
    /// Packets that were discarded, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Packets that were not drained in time.
    pub dropped: u64,
    /// How often it came up.
    pub ups: u64,
    /// How often it ceased to be up.
    pub downs: u64,
    /// Poll Sequences begun.
    pub polls: u64,
}
