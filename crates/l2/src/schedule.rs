//! When which address is announced: a burst when it comes, then for ever at long intervals, never too many at once.
//!
//! A first announcement is what clients wait for after a failover, so it goes before all others that are due. All
//! other steps are counted from when the step before was really sent: what was held back is never made up for by
//! sending closer together.

use crate::events::Place;
use crate::pace::Pace;
use engine::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When the announcements of a burst are sent, after its beginning.
pub const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(100),
    Duration::from_millis(300),
];
/// Between two announcements after the burst: mends what a switch forgot or learned wrongly meanwhile (D24).
pub const REPEAT: Duration = Duration::from_secs(60);
/// `REPEAT` varies by so many percent either way, so that addresses that came together do not stay together.
pub const JITTER_PERCENT: u64 = 10;

/// The announcements to come, one for each place.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    next: BTreeMap<Place, Next>,
    /// Due first announcements, the one that has waited longest first.
    first: BTreeSet<(Tick, Place)>,
    /// All others, by when they are due.
    later: BTreeSet<(Tick, Place)>,
    pace: Pace,
}

#[derive(Debug, Clone, Copy)]
struct Next {
    /// How many of the burst were sent.
    sent: usize,
    due: Tick,
}

impl Schedule {
    /// Begins a burst, or begins it anew. A place that still waits for its first announcement keeps its turn: else
    /// inputs in quick succession would hold it back for ever.
    pub(crate) fn start(&mut self, now: Tick, place: Place) {
        if self.next.get(&place).is_some_and(|n| n.sent == 0) {
            return;
        }
        self.stop(place);
        self.next.insert(place, Next { sent: 0, due: now });
        self.first.insert((now, place));
    }

    /// Ends all announcements of a place.
    pub(crate) fn stop(&mut self, place: Place) {
        if let Some(n) = self.next.remove(&place) {
            self.first.remove(&(n.due, place));
            self.later.remove(&(n.due, place));
        }
    }

    /// The place to announce now, if any; ask until there is none.
    pub(crate) fn take(&mut self, now: Tick, rng: &mut fastrand::Rng) -> Option<Place> {
        if !self.pace.allows(now) {
            return None;
        }
        let queue = if self.first.is_empty() { &mut self.later } else { &mut self.first };
        let &(due, place) = queue.first().filter(|(due, _)| *due <= now)?;
        queue.remove(&(due, place));
        self.pace.count(now);

        let sent = self.next.get(&place).map_or(0, |n| n.sent) + 1;
        let wait = match (BURST.get(sent - 1), BURST.get(sent)) {
            (Some(this), Some(next)) => next.saturating_sub(*this),
            _ => jittered(REPEAT, rng),
        };
        let next = Next { sent: sent.min(BURST.len()), due: now + wait };
        self.next.insert(place, next);
        self.later.insert((next.due, place));
        Some(place)
    }

    /// When `take` has something to give.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let &(due, _) = self.first.first().or(self.later.first())?;
        Some(self.pace.earliest(due))
    }
}

fn jittered(mean: Duration, rng: &mut fastrand::Rng) -> Duration {
    let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
    let spread = nanos / 100 * JITTER_PERCENT;
    Duration::from_nanos(rng.u64(nanos - spread..=nanos.saturating_add(spread)))
}
