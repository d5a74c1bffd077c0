//! The leader: one task that reads, decides and writes. It keeps nothing from before it led, so that it acts on nothing
//! that another leader has changed since.

use crate::Daily;
use crate::election::driver::{Mandate, now};
use crate::health::{Health, Phase};
use crate::metrics::Metrics;
use crate::planner::{Planner, Ticket};
use engine::Tick;
use jiff::Timestamp;
use source::{Interest, Store, Write, WriteError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// What a leader needs.
#[derive(Clone)]
pub(crate) struct Leader {
    pub store: Store,
    pub interest: Interest,
    pub mandate: Mandate,
    /// At most that many writes are on their way at once.
    pub writes: usize,
    /// How long one write may take.
    pub write_timeout: Duration,
    /// When addresses are spread anew each day.
    pub rebalance: Option<Daily>,
    pub health: Health,
    pub metrics: Arc<Metrics>,
}

/// Why a leader ended by itself, which it should not.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Nothing is read any more.
    #[error("the reading of objects ended; this is a defect")]
    Source,
    /// A write panicked.
    #[error("a write ended in a panic; this is a defect: {0}")]
    Panic(#[from] JoinError),
}

/// The clock on the wall may be set: it is looked at that often.
const WALL: Duration = Duration::from_secs(60);
/// Metrics of pools and Services are brought up to date that often at most.
const COUNT: Duration = Duration::from_secs(1);
/// That many events are taken in before the next decision.
const BATCH: usize = 1024;

type Done = (Ticket, Result<Option<String>, WriteError>);

impl Leader {
    /// Leads until `end` is true or its sender gone, then waits for the writes that are on their way.
    pub async fn run(self, mut end: watch::Receiver<bool>) -> Result<(), Ended> {
        let (needs, needed) = watch::channel(BTreeSet::new());
        let mut events = self.store.watch(self.interest.clone(), needed);
        let mut planner = Planner::default();
        let mut writes: JoinSet<Done> = JoinSet::new();
        let mut counted: Option<Tick> = None;
        let mut uncounted = true;
        let mut rebalance = self.rebalance.map(|daily| (daily, daily.after(Timestamp::now())));
        loop {
            let wake = planner.deadline().filter(|_| writes.len() < self.writes);
            let count = uncounted.then(|| counted.map_or(now(), |at| at + COUNT));
            let wall = rebalance.map(|(_, at)| {
                let left = at.duration_since(Timestamp::now());
                now() + Duration::try_from(left).unwrap_or_default().min(WALL)
            });
            let wake = [wake, count, wall].into_iter().flatten().min();
            tokio::select! {
                event = events.recv() => {
                    planner.event(now(), event.ok_or(Ended::Source)?);
                    for _ in 1..BATCH {
                        let Ok(event) = events.try_recv() else { break };
                        planner.event(now(), event);
                    }
                    uncounted = true;
                }
                Some(done) = writes.join_next() => {
                    self.done(&mut planner, done?);
                    while let Some(done) = writes.try_join_next() {
                        self.done(&mut planner, done?);
                    }
                }
                () = sleep(wake) => {}
                _ = end.wait_for(|end| *end) => break,
            }
            if let Some((daily, at)) = rebalance.filter(|(_, at)| *at <= Timestamp::now()) {
                planner.rebalance(now(), format!("daily-{at}"));
                rebalance = Some((daily, daily.after(Timestamp::now())));
            }
            planner.plan(now());
            if let Some(now) = planner.new_needs() {
                needs.send_if_modified(|known| (known != now).then(|| known.clone_from(now)).is_some());
            }
            while writes.len() < self.writes && self.mandate.holds() {
                let Some((ticket, write)) = planner.next(now()) else { break };
                writes.spawn(write_one(self.store.clone(), ticket, write, self.write_timeout));
            }
            if planner.synced() && self.health.phase() == Phase::Reading {
                self.health.set(Phase::Leading);
            }
            if uncounted && counted.is_none_or(|at| at + COUNT <= now()) {
                self.count(&planner);
                (counted, uncounted) = (Some(now()), false);
            }
        }
        drop(events);
        while let Some(done) = writes.join_next().await {
            self.done(&mut planner, done?);
        }
        Ok(())
    }

    fn done(&self, planner: &mut Planner, (ticket, result): Done) {
        let said = match &result {
            Ok(_) => "ok",
            Err(WriteError::Conflict) => "conflict",
            Err(WriteError::Gone) => "gone",
            Err(WriteError::Unavailable(_)) => "unavailable",
            Err(WriteError::Refused(_)) => "refused",
        };
        self.metrics.wrote(ticket.object(), said);
        planner.done(now(), ticket, result);
    }

    fn count(&self, planner: &Planner) {
        let (pools, assigned, waiting) = planner.counts();
        self.metrics.set_pools(pools.iter().map(|(name, counts)| (name.as_str(), counts.clone())));
        self.metrics.set_services(assigned, waiting);
        self.metrics.set_dropped_events(planner.dropped_events());
        self.metrics.set_acceptors(planner.acceptors());
    }
}

async fn write_one(store: Store, ticket: Ticket, write: Write, limit: Duration) -> Done {
    let result = match timeout(limit, store.write(write)).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::Unavailable(format!("no answer within {limit:?}"))),
    };
    (ticket, result)
}

/// Sleeps until then, or for ever.
async fn sleep(until: Option<Tick>) {
    match until {
        Some(until) => sleep_until(Instant::now() + until.since(now())).await,
        None => std::future::pending().await,
    }
}
