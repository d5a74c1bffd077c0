//! Which replica leads: the decisions, without a clock or a connection. [`driver`] carries them out.
//!
//! ```text
//!            nobody holds the Lease, or its holder has not
//!            renewed it for the time it promised, by OUR clock
//!  standby ────────────── write, and it is taken ──────────────► leader ──┐
//!     ▲                                                            │  ▲   │ renewed
//!     └── no renewal taken for `renew`, counted from before it was ┘  └───┘
//!         asked for; or somebody else holds the Lease; or released
//! ```
//!
//! Times in the Lease are for people: what counts is for how long a replica has seen it unchanged. So the clocks of two
//! replicas need only run at about the same rate.

pub mod driver;
#[cfg(test)]
mod tests;

use engine::Tick;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;

/// How long things last. A write of an old leader that is still on its way when a new one starts to read is what must
/// not be: so `renew` plus the longest time that a write takes (5 s) must not exceed `lease`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For how long others leave a leader alone that they do not hear of.
    pub lease: Duration,
    /// For how long a leader leads without a renewal.
    pub renew: Duration,
    /// How often a leader renews, and a standby looks.
    pub retry: Duration,
}

impl Default for Timing {
    /// What OpenELB has: 15 s, 10 s, 2 s.
    fn default() -> Timing {
        Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// Timing that cannot be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--leader-elect-retry-period {retry:?} must be shorter than --leader-elect-renew-deadline {renew:?}, and that shorter than --leader-elect-lease-duration {lease:?}"
)]
pub struct InvalidTiming {
    lease: Duration,
    renew: Duration,
    retry: Duration,
}

impl Timing {
    /// Whether retry < renew < lease.
    pub fn check(self) -> Result<(), InvalidTiming> {
        let Timing { lease, renew, retry } = self;
        let good = Duration::ZERO < retry && retry < renew && renew < lease;
        if good { Ok(()) } else { Err(InvalidTiming { lease, renew, retry }) }
    }

    /// How long one write of a leader may take, so that it has ended when another one may lead.
    pub fn write_timeout(self) -> Duration {
        self.lease.saturating_sub(self.renew).min(Duration::from_secs(5))
    }
}

/// What one replica knows of the Lease.
#[derive(Debug, Clone)]
pub struct Election {
    identity: String,
    timing: Timing,
    /// The Lease as seen last, and since when it has looked like this.
    seen: Option<(LeaseSpec, Tick)>,
    /// Until when it leads.
    until: Option<Tick>,
}

impl Election {
    /// A replica that does not lead. No two replicas, and no two starts of one, may have the same identity.
    pub fn new(identity: String, timing: Timing) -> Election {
        Election { identity, timing, seen: None, until: None }
    }

    /// Until when it leads, if it does.
    pub fn until(&self) -> Option<Tick> {
        self.until
    }

    /// Who holds the Lease as seen last.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().and_then(|(spec, _)| spec.holder_identity.as_deref()).filter(|h| !h.is_empty())
    }

    /// The Lease has been read (`None`: there is none): what to write in its place in order to lead, or to go on
    /// leading; `None` while somebody else holds it.
    pub fn read(&mut self, now: Tick, wall: Timestamp, lease: Option<&LeaseSpec>) -> Option<LeaseSpec> {
        let Some(spec) = lease else {
            self.seen = None;
            return Some(self.claim(wall, None));
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => now,
        };
        self.seen = Some((spec.clone(), since));
        let held_by_another = self.holder().is_some_and(|h| h != self.identity);
        if held_by_another {
            self.until = None;
            // The holder's promise counts, not ours: its replica may run with other flags.
            let promised = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            if now < since + promised.unwrap_or(self.timing.lease) {
                return None;
            }
        }
        Some(self.claim(wall, Some(spec)))
    }

    /// What it had to write was asked for at `asked`, and was taken.
    pub fn wrote(&mut self, asked: Tick, now: Tick, spec: LeaseSpec) {
        self.seen = Some((spec, now));
        self.until = Some(asked + self.timing.renew);
    }

    /// It stops leading: what to write so that another replica may lead at once.
    pub fn release(&mut self, wall: Timestamp) -> LeaseSpec {
        self.until = None;
        let transitions = self.seen.as_ref().and_then(|(spec, _)| spec.lease_transitions);
        LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            lease_transitions: transitions,
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        }
    }

    fn claim(&self, wall: Timestamp, before: Option<&LeaseSpec>) -> LeaseSpec {
        let mine = before.filter(|b| b.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0);
        // Whole seconds, rounded up: the promise may be longer than the truth, never shorter.
        let seconds = self.timing.lease.as_nanos().div_ceil(1_000_000_000);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            lease_transitions: Some(transitions.saturating_add(i32::from(before.is_some() && mine.is_none()))),
            acquire_time: mine.and_then(|m| m.acquire_time.clone()).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        }
    }
}
