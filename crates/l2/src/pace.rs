//! Not too many at once.

use engine::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// At most so many announcements (at most twice as many frames), and as many questions, leave within any one
/// millisecond. So 1,000 addresses have all been announced once after 50 ms, at under 30 Mbit/s on the wire.
pub const PER_MILLISECOND: usize = 20;

const WINDOW: Duration = Duration::from_millis(1);

/// When the last ones left: at most `PER_MILLISECOND`, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<Tick>);

impl Pace {
    /// Whether one more may leave now.
    pub(crate) fn allows(&mut self, now: Tick) -> bool {
        while self.0.front().is_some_and(|&t| now.since(t) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.len() < PER_MILLISECOND
    }

    /// One leaves.
    pub(crate) fn count(&mut self, now: Tick) {
        self.0.push_back(now);
    }

    /// The moment at which one that is due at `due` may leave.
    pub(crate) fn earliest(&self, due: Tick) -> Tick {
        match self.0.front() {
            Some(&oldest) if self.0.len() >= PER_MILLISECOND => due.max(oldest + WINDOW),
            _ => due,
        }
    }
}
