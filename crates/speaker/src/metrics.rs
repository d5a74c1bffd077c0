//! Metrics and probes over HTTP. The names of OpenELB are kept (compat §3.7), ours begin with `oxelb_`.

use crate::facts::{Facts, Probed};
use crate::intent::Command;
use crate::shell::Handle;
use crate::{Error, Options, bgp, owners};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long the shell may take to answer before the node is not well.
const SHELL_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Served {
    shell: Handle,
    facts: watch::Receiver<Arc<Facts>>,
    bgp: bgp::Reader,
    node: Arc<str>,
}

/// Ends the server when dropped.
pub(crate) struct Server(pub(crate) Option<AbortHandle>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

pub(crate) async fn serve(
    options: &Options,
    shell: Handle,
    facts: watch::Receiver<Arc<Facts>>,
    bgp: bgp::Reader,
) -> Result<Server, Error> {
    let Some(address) = options.http else { return Ok(Server(None)) };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|source| Error::Http { address, source })?;
    let router = axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/owners", get(who_owns))
        .with_state(Served { shell, facts, bgp, node: options.node.as_str().into() });
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics and probes are served no more");
        }
    });
    Ok(Server(Some(task.abort_handle())))
}

impl Served {
    /// Facts that the shell reported after it was asked; `None` when it does not answer.
    async fn fresh(&self) -> Option<Arc<Facts>> {
        let mut facts = self.facts.clone();
        facts.borrow_and_update();
        if !self.shell.send(Command::Report) {
            return None;
        }
        tokio::time::timeout(SHELL_ANSWERS, facts.changed()).await.ok()?.ok()?;
        let fresh = facts.borrow().clone();
        Some(fresh)
    }
}

async fn healthz(State(served): State<Served>) -> (StatusCode, &'static str) {
    match served.fresh().await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the thread that answers on the wire does not react\n"),
    }
}

async fn readyz(State(served): State<Served>) -> (StatusCode, &'static str) {
    let facts = served.facts.borrow().clone();
    match (facts.commands > 0, facts.view.ready) {
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing to do is known yet: neither objects nor a snapshot could be read\n",
        ),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "as an acceptor it is silent for 3 s after its start\n"),
        (true, true) => (StatusCode::OK, "ok\n"),
    }
}

async fn who_owns(State(served): State<Served>) -> impl IntoResponse {
    match served.fresh().await {
        Some(facts) => (StatusCode::OK, format!("{:#}\n", owners::document(&facts, &served.node))),
        None => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ip {
    ip: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    from: String,
    reason: String,
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let Some(facts) = served.fresh().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "text/plain")], String::new());
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text(&facts, served.bgp.fresh().await.as_ref(), &served.node))
}

fn text(facts: &Facts, bgp: &bgp::Facts, node: &str) -> String {
    let mut registry = Registry::default();
    let gauge = |value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let counter = |value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        counter
    };
    let by_ip = |pick: fn(&l2::AddressCounters) -> u64| {
        let family = Family::<Ip, Gauge>::default();
        for (ip, counters) in &facts.counters.by_address {
            family.get_or_create(&Ip { ip: ip.to_string() }).set(i64::try_from(pick(counters)).unwrap_or(i64::MAX));
        }
        family
    };
    registry.register(
        "requests_received",
        "ARP requests and neighbour solicitations for the address",
        by_ip(|c| c.requests_received),
    );
    registry.register("responses_sent", "Answers to them", by_ip(|c| c.responses_sent));
    registry.register("gratuitous_sent", "Announcements of the address", by_ip(|c| c.gratuitous_sent));
    registry.register("oxelb_addresses_owned", "Addresses that this node answers for", gauge(facts.owned.len()));
    registry.register("oxelb_speakers_alive", "Other speakers that are heard", gauge(facts.view.alive.len()));
    registry.register("oxelb_conflicts", "Addresses of ours that a stranger answers for", gauge(facts.conflicts.len()));
    let probes = |of: fn(&Probed) -> bool| facts.probed.values().filter(|found| of(found)).count();
    let unanswered = probes(|found| matches!(found, Probed::Unanswered));
    let foreign = probes(|found| matches!(found, Probed::Foreign { times: 2.., .. }));
    let doubled = probes(|found| matches!(found, Probed::Several(_)));
    let without = facts.view.owned.values().filter(|o| o.without_majority).count();
    let epoch = usize::try_from(facts.view.epoch.number).unwrap_or(usize::MAX);
    let state = [
        ("oxelb_addresses_taken", "Addresses that a stranger had before they were announced", facts.taken.len()),
        ("oxelb_probes_unanswered", "Addresses of other nodes that nobody answered for when asked", unanswered),
        ("oxelb_probes_foreign", "Addresses of other nodes that a stranger answered for when asked", foreign),
        ("oxelb_gateways_silent", "Gateways that do not answer this node", facts.silent_gateways.len()),
        (
            "oxelb_vrrp_masters",
            "Virtual routers of which this node advertises that it is master",
            facts.advertised.len(),
        ),
        ("oxelb_vrrp_ids_taken", "Ids of ours with which a stranger advertises too", facts.foreign_routers.len()),
        ("oxelb_probes_doubled", "Addresses of other nodes that several hosts answered for when asked", doubled),
        ("oxelb_addresses_without_majority", "Addresses owned although no majority of acceptors is heard", without),
        (
            "oxelb_fenced",
            "1 while the kernel lets nothing leave for an address whose lease is over",
            facts.fenced.into(),
        ),
        ("oxelb_epoch", "The number of the newest set of acceptors that is known", epoch),
    ];
    for (name, help, value) in state {
        registry.register(name, help, gauge(value));
    }
    let c = &facts.counters;
    registry.register("oxelb_frames_ignored", "Frames that were none of our business", counter(c.ignored));
    registry.register("oxelb_frames_malformed", "Frames that were not what they said", counter(c.malformed));
    registry.register("oxelb_frames_oversized", "Frames longer than any ARP or ND message", counter(c.oversized));
    registry.register(
        "oxelb_frames_dropped",
        "Frames that were not sent because the queue was full",
        counter(c.dropped),
    );
    let withheld = counter(facts.withheld);
    registry.register("oxelb_frames_withheld", "Frames that were not sent because the lease had ended", withheld);
    let rejected = Family::<Rejected, Counter>::default();
    for ((from, reason), (count, _)) in &facts.rejected {
        rejected.get_or_create(&Rejected { from: from.to_string(), reason: reason.clone() }).inc_by(*count);
    }
    registry.register("oxelb_heartbeats_rejected", "Heartbeats that were refused", rejected);
    bgp::register(&mut registry, bgp, node);
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = encode(&mut out, &registry);
    out
}
