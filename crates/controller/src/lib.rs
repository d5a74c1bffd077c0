//! Gives addresses in a cluster: reads Services and pools, lets `ipam` decide, writes status, label, conditions and
//! events; and checks pools before they are written.
//!
//! ```text
//!              ┌─ election: one replica leads ─┐
//!  source ──►  │ lead: planner (ipam, plan)    │ ──► source: Service.status, Eip.status, events
//!              └───────────────────────────────┘
//!  API server ──► webhook (every replica)          kubelet, Prometheus ──► health, metrics (every replica)
//! ```

mod acceptors;
mod announced;
pub mod clean;
mod daily;
mod departed;
pub mod election;
mod health;
mod lead;
pub mod metrics;
mod planner;
mod pools;
mod queue;
mod strangers;
mod virtual_routers;
pub mod webhook;

pub use clean::clean;
pub use daily::{Daily, InvalidDaily};

use api::{Scope, keys};
use election::Timing;
use election::driver::{Elector, Mandate};
use health::{Health, Phase};
use lead::Leader;
use metrics::Metrics;
use source::{Interest, Store};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// How a controller runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where oxelb itself runs: the namespace of its Lease and Secrets.
    pub namespace: String,
    /// This replica's name, for people; a random part is added so that no two starts have the same identity.
    pub identity: String,
    /// Which Services are ours.
    pub scope: Scope,
    /// How replicas elect their leader; `None`: this one is alone. Without meaning in a folder.
    pub election: Option<Timing>,
    /// The webhook; `None`: none is served. Without meaning in a folder.
    pub webhook: Option<webhook::Options>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub metrics: Option<SocketAddr>,
    /// How many writes may be on their way at once.
    pub writes: usize,
    /// When addresses are spread anew each day; `None`: only when an operator asks for it.
    pub rebalance: Option<Daily>,
}

impl Default for Options {
    /// As OpenELB's controller without flags (compat §3.6).
    fn default() -> Options {
        Options {
            namespace: keys::NAMESPACE.to_owned(),
            identity: "openelb-controller".to_owned(),
            scope: Scope::default(),
            election: Some(Timing::default()),
            webhook: Some(webhook::Options::default()),
            metrics: Some(SocketAddr::from(([0, 0, 0, 0], 50052))),
            writes: 32,
            rebalance: None,
        }
    }
}

/// Why a controller does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The durations of the election make no sense.
    #[error(transparent)]
    Timing(#[from] election::InvalidTiming),
    /// A port cannot be had.
    #[error("cannot listen on {address} for {what}: {error}; end what listens there, or choose another port")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// TLS cannot be had.
    #[error("the webhook cannot serve TLS: {0}")]
    Tls(String),
    /// A part of the controller ended by itself. The process must end too: half a controller looks alive (D20).
    #[error("{0} ended by itself")]
    Task(&'static str),
    /// The leader ended by itself.
    #[error(transparent)]
    Leader(#[from] lead::Ended),
}

/// Runs a controller until `stop` is done. Then it finishes its writes, lets another replica lead, and returns.
pub async fn run(store: Store, options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    if let Some(timing) = options.election {
        timing.check()?;
    }
    let (health, metrics) = (Health::default(), Arc::new(Metrics::default()));
    let mut servers: JoinSet<&'static str> = JoinSet::new();
    if let Some(address) = options.metrics {
        let listener = listen("metrics and health", address).await?;
        let router = health::router(health.clone(), metrics.clone());
        servers.spawn(async move {
            let _ = axum::serve(listener, router).await;
            "the server of metrics and health"
        });
    }
    if let (Some(webhook), Some(client)) = (&options.webhook, store.client()) {
        serve_webhook(webhook, client, &options, &metrics, &mut servers).await?;
    }
    let interest = Interest {
        scope: options.scope,
        namespace: options.namespace.clone(),
        namespaces: true,
        nodes: true,
        slices: true,
        speakers: true,
        memberlist: true,
        ownership: true,
        bgp: true,
        policies: false,
    };
    let leader = Leader {
        store: store.clone(),
        interest,
        mandate: Mandate::forever(),
        writes: options.writes.max(1),
        rebalance: options.rebalance,
        write_timeout: options.election.map_or(Duration::from_secs(5), Timing::write_timeout),
        health: health.clone(),
        metrics,
    };
    let (stopping, stopped) = watch::channel(false);
    let ended = async {
        match servers.join_next().await {
            Some(ended) => Err(Error::Task(ended.unwrap_or("a server, in a panic,"))),
            None => std::future::pending().await,
        }
    };
    let lead = async {
        match (options.election, store.client()) {
            (Some(timing), Some(client)) => {
                let elector = elector(client, &options, timing, &health);
                in_turns(elector, leader, stopped).await
            }
            _ => {
                health.set(Phase::Reading);
                leader.metrics.leader.set(1);
                supervise(leader, stopped).await
            }
        }
    };
    let stop = async {
        stop.await;
        info!("stopping");
        stopping.send_replace(true);
        std::future::pending().await
    };
    tokio::select! {
        result = lead => result,
        result = ended => result,
        result = stop => result,
    }
}

fn elector(client: kube::Client, options: &Options, timing: Timing, health: &Health) -> Elector {
    let identity = format!("{}_{:016x}", options.identity, fastrand::u64(..));
    info!(identity, "taking part in the election of the leader");
    let health = health.clone();
    let reachable = move |result| match health.phase() {
        Phase::Starting | Phase::Standby(_) => health.set(Phase::Standby(result)),
        Phase::Reading | Phase::Leading => {}
    };
    let api = kube::Api::namespaced(client, &options.namespace);
    Elector::new(api, keys::CONTROLLER_LEASE, identity, timing, Arc::new(reachable))
}

/// Leads whenever this replica is elected. One that loses the leadership, as when the API server was away, drops all
/// that it knows and stands by.
async fn in_turns(mut elector: Elector, leader: Leader, mut stopped: watch::Receiver<bool>) -> Result<(), Error> {
    loop {
        tokio::select! {
            () = elector.acquire() => {}
            _ = stopped.wait_for(|stop| *stop) => {
                // It may have been elected a moment ago.
                elector.release().await;
                return Ok(());
            }
        }
        info!("leading; reading everything first");
        leader.health.set(Phase::Reading);
        leader.metrics.leader.set(1);
        let (ending, end) = watch::channel(false);
        let task = supervise(Leader { mandate: elector.mandate(), ..leader.clone() }, end);
        tokio::pin!(task);
        let stop = tokio::select! {
            () = elector.hold() => {
                warn!("lost the leadership; writing nothing more and standing by");
                false
            }
            result = &mut task => return result,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        ending.send_replace(true);
        task.await?;
        leader.metrics.leader.set(0);
        if stop {
            elector.release().await;
            return Ok(());
        }
        leader.health.set(Phase::Standby(Ok(())));
    }
}

/// The leader in a task of its own, so that a panic in it is seen and ends the process (D20).
async fn supervise(leader: Leader, end: watch::Receiver<bool>) -> Result<(), Error> {
    match tokio::spawn(leader.run(end)).await {
        Ok(result) => Ok(result?),
        Err(e) => {
            error!("the leader ended: {e}");
            Err(Error::Task("the leader, in a panic,"))
        }
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen { what, address, error })
}

async fn serve_webhook(
    webhook: &webhook::Options,
    client: kube::Client,
    options: &Options,
    metrics: &Arc<Metrics>,
    servers: &mut JoinSet<&'static str>,
) -> Result<(), Error> {
    // Both families where the node has them; IPv4 alone where IPv6 is switched off.
    let both = SocketAddr::from(([0u16; 8], webhook.port));
    let listener = match listen("the webhook", both).await {
        Ok(listener) => listener,
        Err(_) => listen("the webhook", SocketAddr::from(([0; 4], webhook.port))).await?,
    };
    let served = webhook::tls::Served::default();
    let listener = webhook::tls::TlsListener::new(listener, served.clone()).map_err(|e| Error::Tls(e.to_string()))?;
    let router = webhook::router(client.clone(), options.scope, metrics.clone());
    servers.spawn(async move {
        let _ = axum::serve(listener, router).await;
        "the webhook's server"
    });
    match webhook.cert_dir.clone().filter(|dir| webhook::keeper::folder_has_certificate(dir)) {
        Some(dir) => drop(servers.spawn(async move {
            webhook::keeper::from_folder(dir, served).await;
            "the keeper of the webhook's certificates"
        })),
        None => {
            let keeper = webhook::keeper::Keeper::new(client, &options.namespace, &webhook.service, served);
            drop(servers.spawn(async move {
                keeper.run().await;
                "the keeper of the webhook's certificates"
            }));
        }
    }
    Ok(())
}
