//! What the kubelet and Prometheus ask: `/healthz`, `/readyz`, `/metrics`.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::{Arc, PoisonError, RwLock};

/// What this replica is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has not heard from the API server.
    Starting,
    /// Another replica leads, and the Lease can be read; `Err` says why not.
    Standby(Result<(), String>),
    /// It leads and has not read everything yet.
    Reading,
    /// It leads.
    Leading,
}

/// The current [`Phase`], shared with who asks.
#[derive(Debug, Clone)]
pub struct Health(Arc<RwLock<Phase>>);

impl Default for Health {
    fn default() -> Health {
        Health(Arc::new(RwLock::new(Phase::Starting)))
    }
}

impl Health {
    /// Says what this replica is doing now.
    pub fn set(&self, phase: Phase) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers over plain HTTP.
pub fn router(health: Health, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state((health, metrics))
}

async fn ready(State((health, _)): State<(Health, Arc<Metrics>)>) -> (StatusCode, String) {
    match health.phase() {
        Phase::Leading => (StatusCode::OK, "leading".to_owned()),
        Phase::Standby(Ok(())) => (StatusCode::OK, "standing by".to_owned()),
        Phase::Standby(Err(e)) => (StatusCode::SERVICE_UNAVAILABLE, format!("standing by, and {e}")),
        Phase::Reading => (StatusCode::SERVICE_UNAVAILABLE, "leading, and still reading Services and pools".to_owned()),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting".to_owned()),
    }
}

async fn text(State((_, metrics)): State<(Health, Arc<Metrics>)>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text()).into_response()
}
