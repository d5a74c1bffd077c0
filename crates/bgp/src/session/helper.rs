//! The peer's routes while it restarts (RFC 4724 §4.2, RFC 8538, RFC 9494): kept as stale, until it is back or takes
//! too long.
//!
//! ```text
//!   fresh ──session lost──► stale ──restart time over──► long-lived stale ──its time over──► forgotten
//!     ▲                      │  │                           │
//!     │   sent again         │  └── session is back ────────┘
//!     └──────────────────────┤        │ End-of-RIB, or the stale time over: what was not sent again is forgotten
//!                            └────────┘
//! ```
//!
//! Routes are only counted here, so RFC 9494's community NO_LLGR changes nothing.

use super::types::Down;
use crate::config::Config;
use crate::negotiated::Negotiated;
use crate::prefix::Family;
use crate::routes_in::RoutesIn;
use crate::wire::Code;
use engine::Tick;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Helper {
    /// Families with stale routes, and when these are forgotten.
    stale: BTreeMap<Family, Stale>,
}

#[derive(Debug)]
struct Stale {
    until: Tick,
    /// How much longer they are kept after that while the peer is away.
    long_lived: Option<Duration>,
}

impl Helper {
    pub(super) fn session_down(&mut self, now: Tick, negotiated: &Negotiated, down: &Down, received: &mut RoutesIn) {
        let kept = negotiated.graceful_restart.as_ref().filter(|_| keeps(negotiated, down));
        for family in Family::ALL {
            // What was stale already is not kept a second time (RFC 4724 §4.2).
            received.sweep(family);
            self.stale.remove(&family);
            let restart = kept.filter(|r| r.families.iter().any(|(f, _)| *f == family.afi_safi()));
            let long_lived = negotiated.long_lived.get(&family).copied().filter(|_| kept.is_some());
            let Some(time) =
                restart.map(|r| Duration::from_secs(r.restart_time.into())).or(long_lived.map(|_| Duration::ZERO))
            else {
                received.forget(family);
                continue;
            };
            received.mark_stale(family);
            self.stale.insert(family, Stale { until: now + time, long_lived });
        }
    }

    pub(super) fn session_up(&mut self, now: Tick, negotiated: &Negotiated, config: &Config, received: &mut RoutesIn) {
        let time = config.graceful_restart.map_or(Duration::ZERO, |r| r.stale_time);
        let forwarded = |family: Family| {
            let restart = negotiated.graceful_restart.as_ref();
            restart.is_some_and(|r| r.families.contains(&(family.afi_safi(), true)))
        };
        self.stale.retain(|family, stale| {
            *stale = Stale { until: now + time, long_lived: None };
            if !forwarded(*family) {
                received.sweep(*family);
            }
            forwarded(*family)
        });
    }

    pub(super) fn end_of_rib(&mut self, family: Family, received: &mut RoutesIn) {
        if self.stale.remove(&family).is_some() {
            received.sweep(family);
        }
    }

    pub(super) fn timeout(&mut self, now: Tick, received: &mut RoutesIn) {
        self.stale.retain(|family, stale| {
            if stale.until <= now
                && let Some(longer) = stale.long_lived.take()
            {
                stale.until = now + longer;
            }
            if stale.until <= now {
                received.sweep(*family);
            }
            stale.until > now
        });
    }

    /// Nothing is kept any more.
    pub(super) fn end(&mut self, received: &mut RoutesIn) {
        std::mem::take(&mut self.stale).into_keys().for_each(|family| received.sweep(family));
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.stale.values().map(|s| s.until).min()
    }
}

/// Whether a session that ended so is one that may come back.
fn keeps(negotiated: &Negotiated, down: &Down) -> bool {
    match down {
        Down::Closed | Down::Replaced => true,
        // RFC 8538 §3: all but a hard reset, where both said so.
        Down::Received(n) => negotiated.restart_on_notification && !n.is_hard(),
        Down::Sent { notification: n, .. } => {
            negotiated.restart_on_notification && (matches!(n.code, Code::HoldTimer | Code::Cease(_)) && !n.is_hard())
        }
        Down::Restarting | Down::ConnectFailed => false,
    }
}
