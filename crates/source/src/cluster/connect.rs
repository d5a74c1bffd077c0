//! The connection to the API server. Not kube's own stack, because that neither notices a connection whose other end
//! silently vanished, nor leaves it to us what is logged.

use crate::OpenError;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;
use tower::ServiceBuilder;

/// A silent connection is probed after this time and then every [`PROBE`], and given up after [`PROBES`] in vain: a
/// watch notices within 11 s that the API server, or the way to it, is gone.
const SILENCE: Duration = Duration::from_secs(5);
const PROBE: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// How long a new connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// The configuration of the API server: the named kubeconfig, else `$KUBECONFIG`, else that of this Pod.
pub(super) async fn config(kubeconfig: Option<PathBuf>) -> Result<Config, OpenError> {
    let from = |error: &dyn std::error::Error| OpenError::Config(text(error));
    let read = match kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path).map_err(|e| from(&e))?),
        None => Kubeconfig::from_env().map_err(|e| from(&e))?,
    };
    match read {
        Some(kubeconfig) => {
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|e| from(&e))
        }
        None => Config::incluster().map_err(|e| from(&e)),
    }
}

/// A client for it. Connects when first used.
pub(super) fn client(config: Config) -> Result<Client, OpenError> {
    let bad = |error: kube::Error| OpenError::Client(text(&error));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_keepalive_retries(Some(PROBES));
    let connector = config.rustls_https_connector_with_connector(tcp).map_err(bad)?;
    let http = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(bad)?)
        .layer(config.extra_headers_layer().map_err(bad)?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// An error with all of its causes: the first alone often says no more than "client error".
pub(super) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
