//! The validating webhook: the rules that need other objects than the one that is written (compat §3.4). The rules
//! themselves are in `api::admission`; the controller repeats them as conditions, because a webhook can be away (D22).

pub mod certs;
pub mod keeper;
mod review;
pub mod tls;

use crate::metrics::Metrics;
use api::Scope;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionReview};
use review::{Kind, Verdict};
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{info, warn};

/// How the webhook is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The TCP port.
    pub port: u16,
    /// The Service through which the API server reaches it.
    pub service: String,
    /// A folder with `tls.crt` and `tls.key` that somebody else keeps fresh. Without one, or while it is empty, the
    /// controller makes its own certificates.
    pub cert_dir: Option<PathBuf>,
}

impl Default for Options {
    /// As OpenELB (compat §3.6, §9.1).
    fn default() -> Options {
        let cert_dir = Some(PathBuf::from("/tmp/k8s-webhook-server/serving-certs"));
        Options { port: 443, service: "openelb-controller".to_owned(), cert_dir }
    }
}

#[derive(Clone)]
struct Server {
    client: kube::Client,
    scope: Scope,
    metrics: Arc<Metrics>,
}

/// Answers reviews of Eips, BgpConfs and BgpPeers.
pub fn router(client: kube::Client, scope: Scope, metrics: Arc<Metrics>) -> Router {
    let server = Server { client, scope, metrics };
    let path = |kind: Kind| format!("/validate-network-kubesphere-io-v1alpha2-{}", kind.path());
    let mut router = Router::new();
    for kind in Kind::ALL {
        router = router.route(&path(kind), post(move |state, body| answer(kind, state, body)));
    }
    // An object in etcd is at most 1.5 MiB; a review of an update holds two.
    router.layer(DefaultBodyLimit::max(8 << 20)).with_state(server)
}

async fn answer(kind: Kind, State(server): State<Server>, body: Bytes) -> Response {
    let request = serde_json::from_slice::<AdmissionReview<DynamicObject>>(&body)
        .map_err(|e| e.to_string())
        .and_then(AdmissionRequest::try_from_review);
    let request = match request {
        Ok(request) => request,
        Err(e) => return (StatusCode::BAD_REQUEST, format!("this is no AdmissionReview: {e}")).into_response(),
    };
    let verdict = review::check(kind, &request, &server.client, server.scope).await;
    let mut response = kube::core::admission::AdmissionResponse::from(&request);
    match verdict {
        Verdict::Allow(warnings) => response.warnings = Some(warnings).filter(|w| !w.is_empty()),
        Verdict::Deny(reason) => {
            info!(kind = kind.name(), name = request.name, user = request.user_info.username, "refused: {reason}");
            response = response.deny(reason);
        }
        // What cannot be checked now is not refused: the same is checked again as a condition.
        Verdict::Unknown(reason) => {
            warn!(kind = kind.name(), name = request.name, "not checked: {reason}");
            response.warnings = Some(vec![format!("oxelb could not check this: {reason}")]);
        }
    }
    server.metrics.reviewed(kind.name(), response.allowed);
    Json(response.into_review()).into_response()
}

/// The request of a review.
trait FromReview: Sized {
    fn try_from_review(review: AdmissionReview<DynamicObject>) -> Result<Self, String>;
}

impl FromReview for AdmissionRequest<DynamicObject> {
    fn try_from_review(review: AdmissionReview<DynamicObject>) -> Result<Self, String> {
        review.try_into().map_err(|_| "it has no request".to_owned())
    }
}
