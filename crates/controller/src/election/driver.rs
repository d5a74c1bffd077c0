//! Carries out what [`Election`] decides: reads and writes the Lease, and tells the writers until when they may write.

use super::{Election, Timing};
use engine::Tick;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ObjectMeta, PostParams};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::{info, warn};

/// The clock of the election. It goes on while the machine is suspended, so that who wakes up knows that it leads no more.
pub fn now() -> Tick {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    Tick(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Until when this replica may write. Looked at before every write, so that a process that was stopped for a while
/// writes nothing when it goes on.
#[derive(Debug, Clone, Default)]
pub struct Mandate(Arc<AtomicU64>);

impl Mandate {
    /// One that never ends, for a controller that is alone.
    pub fn forever() -> Mandate {
        Mandate(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Whether it may write now.
    pub fn holds(&self) -> bool {
        now() < Tick(self.0.load(Ordering::Acquire))
    }

    fn set(&self, until: Option<Tick>) {
        self.0.store(until.unwrap_or(Tick::ZERO).0, Ordering::Release);
    }
}

/// One replica's part in the election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    timing: Timing,
    election: Election,
    /// The Lease as we wrote it last, so that a renewal needs no reading.
    written: Option<Lease>,
    mandate: Mandate,
    reachable: Arc<dyn Fn(Result<(), String>) + Send + Sync>,
}

impl Elector {
    /// `identity` must be this process's alone. `reachable` hears whether the Lease could be read and written.
    pub fn new(
        api: Api<Lease>,
        name: &str,
        identity: String,
        timing: Timing,
        reachable: Arc<dyn Fn(Result<(), String>) + Send + Sync>,
    ) -> Elector {
        let election = Election::new(identity, timing);
        Elector { api, name: name.to_owned(), timing, election, written: None, mandate: Mandate::default(), reachable }
    }

    /// Until when this replica may write.
    pub fn mandate(&self) -> Mandate {
        self.mandate.clone()
    }

    /// Waits until this replica leads.
    pub async fn acquire(&mut self) {
        let mut told: Option<String> = None;
        loop {
            self.round().await;
            if self.mandate.holds() {
                return;
            }
            let holder = self.election.holder().map(str::to_owned);
            if holder.is_some() && holder != told {
                info!(holder = holder.as_deref(), "standing by: another controller leads");
                told = holder;
            }
            // Jitter, so that replicas that started together do not ask together for ever.
            tokio::time::sleep(self.timing.retry.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        }
    }

    /// Renews until this replica leads no more.
    pub async fn hold(&mut self) {
        while let Some(until) = self.election.until() {
            let left = until.since(now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(self.timing.retry.min(left)).await;
            self.round().await;
        }
        self.mandate.set(None);
    }

    /// Lets another replica lead at once. Only when nothing of ours is being written any more.
    pub async fn release(&mut self) {
        self.mandate.set(None);
        let Some(mut lease) = self.written.take() else { return };
        lease.spec = Some(self.election.release(Timestamp::now()));
        match timeout(self.request_timeout(), self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => info!("released the leadership"),
            Err(e) => {
                warn!("could not release the leadership, so another controller waits {:?}: {e}", self.timing.lease)
            }
        }
    }

    /// One attempt to take or to keep the Lease.
    async fn round(&mut self) {
        let asked = now();
        let result = self.attempt(asked).await;
        if let Err(e) = &result {
            self.written = None;
            warn!("leader election: {e}; trying again in {:?}", self.timing.retry);
        }
        (self.reachable)(result);
        self.mandate.set(self.election.until());
    }

    async fn attempt(&mut self, asked: Tick) -> Result<(), String> {
        let limit = self.request_timeout();
        let found = match self.written.take() {
            Some(lease) => Some(lease),
            None => match timeout(limit, self.api.get_opt(&self.name)).await {
                Ok(found) => found,
                Err(e) => return Err(format!("the Lease {} could not be read: {e}", self.name)),
            },
        };
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let Some(claim) = self.election.read(now(), Timestamp::now(), spec.as_ref()) else { return Ok(()) };
        let params = PostParams { field_manager: Some("openelb-controller".to_owned()), ..PostParams::default() };
        let answer = match found {
            // With its resourceVersion: of two replicas that write at once the API server takes one.
            Some(lease) => {
                let lease = Lease { spec: Some(claim), ..lease };
                timeout(limit, self.api.replace(&self.name, &params, &lease)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                timeout(limit, self.api.create(&params, &Lease { metadata, spec: Some(claim) })).await
            }
        };
        match answer {
            Ok(lease) => {
                self.election.wrote(asked, now(), lease.spec.clone().unwrap_or_default());
                self.written = Some(lease);
                Ok(())
            }
            // Somebody was faster; the next round sees who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(e) => Err(format!("the Lease {} could not be written: {e}", self.name)),
        }
    }

    fn request_timeout(&self) -> Duration {
        (self.timing.renew / 2).min(Duration::from_secs(5))
    }
}

async fn timeout<T>(limit: Duration, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer within {limit:?}").into())),
    }
}
