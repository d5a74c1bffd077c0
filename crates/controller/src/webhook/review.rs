//! One review: reads what the rules need from the API server, live, and asks `api::admission`.

use api::admission::{self, InUse, Refusal};
use api::{Eip, Scope, Service};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// The kinds that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Eip,
    BgpConf,
    BgpPeer,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Eip, Kind::BgpConf, Kind::BgpPeer];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Eip => "Eip",
            Kind::BgpConf => "BgpConf",
            Kind::BgpPeer => "BgpPeer",
        }
    }

    /// The end of its path in the webhook's configuration.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Eip => "eip",
            Kind::BgpConf => "bgpconf",
            Kind::BgpPeer => "bgppeer",
        }
    }
}

/// What comes of a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With what the user should know all the same.
    Allow(Vec<String>),
    /// What is wrong, and the mend.
    Deny(String),
    /// Why it cannot be said now.
    Unknown(String),
}

/// What must be known is asked for in less time than the API server waits for us (5 s).
const ANSWER: Duration = Duration::from_secs(4);
/// Objects in one page of a list.
const PAGE: u32 = 500;

pub(super) async fn check(
    kind: Kind,
    request: &AdmissionRequest<DynamicObject>,
    client: &kube::Client,
    scope: Scope,
) -> Verdict {
    let reviewed = async {
        match kind {
            Kind::Eip => eip(request, client, scope).await,
            Kind::BgpConf => bgp(request, admission::check_bgp_conf, admission::bgp_conf_warnings),
            Kind::BgpPeer => bgp(request, admission::check_bgp_peer, |_| vec![]),
        }
    };
    match tokio::time::timeout(ANSWER, reviewed).await {
        Ok(Ok(warnings)) => Verdict::Allow(warnings),
        Ok(Err(verdict)) => verdict,
        Err(_) => Verdict::Unknown(format!("the API server did not answer within {ANSWER:?}")),
    }
}

async fn eip(
    request: &AdmissionRequest<DynamicObject>,
    client: &kube::Client,
    scope: Scope,
) -> Result<Vec<String>, Verdict> {
    match request.operation {
        Operation::Create => {
            let new = parse::<Eip>(request.object.as_ref())?;
            admission::check_pool(&new, None, &pools(client).await?, &InUse::new()).map_err(deny)?;
            Ok(admission::pool_warnings(&new))
        }
        Operation::Update => {
            let (old, new) = (parse::<Eip>(request.old_object.as_ref())?, parse::<Eip>(request.object.as_ref())?);
            // Only a change of addresses can take one away that is in use; all Services are read for that alone.
            let in_use =
                if old.spec.address == new.spec.address { InUse::new() } else { in_use(client, scope).await? };
            admission::check_pool(&new, Some(&old), &pools(client).await?, &in_use).map_err(deny)?;
            Ok(admission::pool_warnings(&new))
        }
        Operation::Delete => {
            let old = parse::<Eip>(request.old_object.as_ref())?;
            admission::check_pool_delete(&old, &in_use(client, scope).await?).map_err(|e| deny(vec![e]))?;
            Ok(vec![])
        }
        Operation::Connect => Ok(vec![]),
    }
}

fn bgp<K: DeserializeOwned + Clone + Debug>(
    request: &AdmissionRequest<DynamicObject>,
    rule: impl Fn(&K, Option<&K>) -> Result<(), Vec<Refusal>>,
    warnings: impl Fn(&K) -> Vec<String>,
) -> Result<Vec<String>, Verdict> {
    match request.operation {
        Operation::Create | Operation::Update => {
            let new: K = parse(request.object.as_ref())?;
            let old: Option<K> = request.old_object.as_ref().map(|old| parse(Some(old))).transpose()?;
            rule(&new, old.as_ref()).map_err(deny)?;
            Ok(warnings(&new))
        }
        Operation::Delete | Operation::Connect => Ok(vec![]),
    }
}

/// All that is wrong at once, so that the user mends it in one go.
fn deny(refusals: Vec<Refusal>) -> Verdict {
    Verdict::Deny(refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// The object as its type. The schema has been checked already, so what does not parse is worth a refusal.
fn parse<K: DeserializeOwned>(object: Option<&DynamicObject>) -> Result<K, Verdict> {
    let Some(object) = object else { return Err(Verdict::Unknown("the review has no object".to_owned())) };
    let value = serde_json::to_value(object).map_err(|e| Verdict::Unknown(e.to_string()))?;
    serde_json::from_value(value).map_err(|e| Verdict::Deny(e.to_string()))
}

/// All pools, also those that are being deleted (compat §3.4).
async fn pools(client: &kube::Client) -> Result<Vec<Eip>, Verdict> {
    let mut pools: Vec<Eip> = Vec::new();
    list(client, Api::<Eip>::all, |found| pools.push(found)).await?;
    Ok(pools)
}

/// The addresses that Services of ours have.
async fn in_use(client: &kube::Client, scope: Scope) -> Result<InUse, Verdict> {
    let mut used = InUse::new();
    let take = |found: core::Service| {
        let Some(service) = Service::read(&found, scope).filter(|s| s.served) else { return };
        for ip in &service.ingress {
            used.entry(*ip).or_default().push(service.key.clone());
        }
    };
    list(client, Api::<core::Service>::all, take).await?;
    Ok(used)
}

/// Reads all objects of a kind, page by page.
async fn list<K: Clone + DeserializeOwned + Debug>(
    client: &kube::Client,
    api: impl Fn(kube::Client) -> Api<K>,
    mut take: impl FnMut(K),
) -> Result<(), Verdict> {
    let api = api(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page =
            api.list(&params).await.map_err(|e| Verdict::Unknown(format!("the API server did not answer: {e}")))?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(()),
        }
    }
}
