//! Writes to the API server. Each is one request, so that no crash leaves half of it.

use super::connect::text;
use crate::changes::hash;
use crate::types::{ObjectRef, ServicePatch, Write, WriteError};
use api::{BgpConf, BgpPeer, Condition, Eip, EipStatus, Ownership, Speaker, SpeakerStatus, keys};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{GetParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Who owns the fields of Speakers.
const SPEAKER_MANAGER: &str = "oxelb-speaker";

pub(super) async fn write(client: &Client, namespace: &str, write: Write) -> Result<Option<String>, WriteError> {
    match write {
        Write::Service(patch) => service(client, patch).await,
        Write::PoolStatus { name, status } => pool_status(client, &name, *status).await,
        Write::Finalizer { of } => match of {
            ObjectRef::Pool(name) => finalizer::<Eip>(client, &name, keys::LEGACY_POOL_FINALIZER).await,
            ObjectRef::BgpConf(name) => finalizer::<BgpConf>(client, &name, keys::LEGACY_BGP_FINALIZER).await,
            ObjectRef::BgpPeer(name) => finalizer::<BgpPeer>(client, &name, keys::LEGACY_BGP_FINALIZER).await,
            _ => Ok(None),
        },
        Write::Memberlist { key } => memberlist(client, namespace, &key).await,
        Write::Ownership { read, write } => ownership(client, namespace, read.as_deref(), &write).await,
        Write::Speaker { node, status } => speaker(client, &node, *status).await,
        Write::SpeakerAlive { node, condition } => {
            let body = json!({ "status": { "conditions": stamp(vec![*condition]) } });
            status_patch(client, Speaker::url_path(&(), None), &node, &PatchParams::default(), &Patch::Merge(body))
                .await
        }
        Write::SpeakerGone { node } => speaker_gone(client, &node).await,
        Write::BgpConfStatus { node, status } => {
            let entry = status.map(|s| json!({ "nodesConfStatus": { &node: s } }));
            of_node::<BgpConf>(client, keys::BGP_CONF, &node, entry).await
        }
        Write::BgpPeerStatus { peer, node, status } => {
            let entry = status.map(|s| json!({ "nodesPeerStatus": { &node: s } }));
            of_node::<BgpPeer>(client, &peer, &node, entry).await
        }
        Write::BgpEntryGone { of, node } => {
            let (path, name, field) = match of {
                ObjectRef::BgpConf(name) => (BgpConf::url_path(&(), None), name, "nodesConfStatus"),
                ObjectRef::BgpPeer(name) => (BgpPeer::url_path(&(), None), name, "nodesPeerStatus"),
                _ => return Ok(None),
            };
            let body = Patch::Merge(json!({ "status": { field: { &node: null } } }));
            status_patch(client, path, &name, &PatchParams::default(), &body).await
        }
        Write::Event { about, uid, component, warning, reason, message } => {
            event(client, about, uid, component, warning, reason, message).await
        }
    }
}

/// The status subresource of a Service also takes labels and finalizers, so that address and pool label change
/// together. Its strategic merge patch knows conditions by their type and replaces ingress as a whole.
async fn service(client: &Client, patch: ServicePatch) -> Result<Option<String>, WriteError> {
    let path = core::Service::url_path(&(), Some(patch.key.namespace()));
    let mut metadata = json!({ "resourceVersion": patch.resource_version });
    if let Some(label) = patch.pool_label {
        metadata["labels"] = json!({ keys::POOL: label });
    }
    if patch.remove_finalizer {
        metadata["$deleteFromPrimitiveList/finalizers"] = json!([keys::LEGACY_SERVICE_FINALIZER]);
    }
    let mut status = json!({});
    if let Some(ingress) = patch.ingress {
        let ingress: Vec<Value> = ingress.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        status["loadBalancer"] = json!({ "ingress": ingress });
    }
    let removed = patch.remove_conditions.iter().map(|type_| json!({ "type": type_, "$patch": "delete" }));
    let set = stamp(patch.conditions).into_iter().map(|condition| json!(condition));
    let conditions: Vec<Value> = removed.chain(set).collect();
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
    let body = json!({ "metadata": metadata, "status": status });
    status_patch(client, path, patch.key.name(), &PatchParams::default(), &Patch::Strategic(body)).await
}

/// Replaces the status as a whole, so that nothing of the old one stays in its maps.
async fn pool_status(client: &Client, name: &str, mut status: EipStatus) -> Result<Option<String>, WriteError> {
    status.conditions = stamp(status.conditions);
    let patch = json_patch(json!([{ "op": "add", "path": "/status", "value": status }]))?;
    status_patch(client, Eip::url_path(&(), None), name, &PatchParams::default(), &patch).await
}

/// Reads before it writes, because a finalizer can only be named by its place in the list.
async fn finalizer<K: Resource<DynamicType = ()>>(
    client: &Client,
    name: &str,
    ours: &str,
) -> Result<Option<String>, WriteError> {
    let request = Request::new(K::url_path(&(), None));
    let get = request.get(name, &Default::default()).map_err(refused)?;
    let found: Versioned = send(client, get).await?;
    let finalizers = found.metadata.finalizers.unwrap_or_default();
    let Some(place) = finalizers.iter().position(|f| f == ours) else {
        return Ok(found.metadata.resource_version);
    };
    let path = format!("/metadata/finalizers/{place}");
    let patch = json_patch(json!([
        { "op": "test", "path": path, "value": ours },
        { "op": "remove", "path": path },
    ]))?;
    let patch = request.patch(name, &PatchParams::default(), &patch).map_err(refused)?;
    Ok(send::<Versioned>(client, patch).await?.metadata.resource_version)
}

async fn memberlist(client: &Client, namespace: &str, key: &[u8]) -> Result<Option<String>, WriteError> {
    let key = k8s_openapi::ByteString(key.to_vec());
    let secret = core::Secret {
        metadata: ObjectMeta { name: Some(keys::MEMBERLIST_SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some([(keys::MEMBERLIST_KEY.to_owned(), key)].into()),
        ..core::Secret::default()
    };
    match create(client, core::Secret::url_path(&(), Some(namespace)), &secret).await {
        // Somebody else made it first: then that is the key.
        Err(WriteError::Conflict) => Ok(None),
        other => other,
    }
}

/// Another write may have come between reading and this one, also since it was looked at: the API server checks that
/// by the version.
async fn ownership(
    client: &Client,
    namespace: &str,
    read: Option<&Ownership>,
    write: &Ownership,
) -> Result<Option<String>, WriteError> {
    let path = core::ConfigMap::url_path(&(), Some(namespace));
    let name = keys::OWNERSHIP;
    let Some(read) = read else {
        let mut map = core::ConfigMap { data: Some(write.data()), ..core::ConfigMap::default() };
        map.metadata.name = Some(name.to_owned());
        return create(client, path, &map).await;
    };
    let request = Request::new(path);
    let get = request.get(name, &GetParams::default()).map_err(refused)?;
    let mut map = send::<core::ConfigMap>(client, get).await?;
    if Ownership::read(&map.data.unwrap_or_default()).as_ref() != Ok(read) {
        return Err(WriteError::Conflict);
    }
    map.data = Some(write.data());
    map.metadata.managed_fields = None;
    let body = serde_json::to_vec(&map).map_err(refused)?;
    let put = request.replace(name, &PostParams::default(), body).map_err(refused)?;
    Ok(send::<Versioned>(client, put).await?.metadata.resource_version)
}

async fn speaker(client: &Client, node: &str, mut status: SpeakerStatus) -> Result<Option<String>, WriteError> {
    status.conditions = stamp(status.conditions);
    let path = Speaker::url_path(&(), None);
    let manager = PatchParams::apply(SPEAKER_MANAGER).force();
    let of = |part: Value| {
        let mut body = json!({
            "apiVersion": Speaker::api_version(&()), "kind": Speaker::kind(&()), "metadata": { "name": node },
        });
        if let (Some(body), Value::Object(part)) = (body.as_object_mut(), part) {
            body.extend(part);
        }
        Patch::Apply(body)
    };
    let body = of(json!({ "status": status }));
    match status_patch(client, path.clone(), node, &manager, &body).await {
        Err(WriteError::Gone) => {}
        other => return other,
    }
    let request = Request::new(path.clone()).patch(node, &manager, &of(json!({ "spec": {} }))).map_err(refused)?;
    send::<Versioned>(client, request).await?;
    status_patch(client, path, node, &manager, &body).await
}

async fn speaker_gone(client: &Client, node: &str) -> Result<Option<String>, WriteError> {
    let request = Request::new(Speaker::url_path(&(), None));
    let request = request.delete(node, &Default::default()).map_err(refused)?;
    // The answer is the object or a Status: neither matters.
    send::<Value>(client, request).await.map(|_| None)
}

/// Server-side apply as a manager of the node's own: what it says is its own and nobody else's, and all of it is gone
/// when it says nothing any more (D16).
async fn of_node<K: Resource<DynamicType = ()>>(
    client: &Client,
    name: &str,
    node: &str,
    status: Option<Value>,
) -> Result<Option<String>, WriteError> {
    let body = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": { "name": name },
        "status": status.unwrap_or_else(|| json!({})),
    });
    // The most that the API takes are 128 characters, and a node's name may be longer.
    let who = if node.len() > 100 { format!("{}.{:x}", shorten(node, 80), hash(&node)) } else { node.to_owned() };
    let manager = PatchParams::apply(&format!("{SPEAKER_MANAGER}.{who}")).force();
    status_patch(client, K::url_path(&(), None), name, &manager, &Patch::Apply(body)).await
}

async fn event(
    client: &Client,
    about: ObjectRef,
    uid: String,
    component: &'static str,
    warning: bool,
    reason: &'static str,
    message: String,
) -> Result<Option<String>, WriteError> {
    let (api_version, kind, namespace, name) = match about {
        ObjectRef::Pool(name) => (Eip::api_version(&()), Eip::kind(&()), None, name),
        ObjectRef::Service(key) => {
            let (namespace, name) = (key.namespace().to_owned(), key.name().to_owned());
            (core::Service::api_version(&()), core::Service::kind(&()), Some(namespace), name)
        }
        other => return Err(WriteError::Refused(format!("there are no events about {other:?}"))),
    };
    // Events about objects without a namespace live in this one (compat §2.6).
    let home = namespace.clone().unwrap_or_else(|| "default".to_owned());
    let now = jiff::Timestamp::now();
    let event = events::Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}{:08x}", shorten(&name, 220), now.as_nanosecond(), fastrand::u32(..))),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(shorten(&message, 1024).to_owned()), // the most that the API takes
        action: Some(reason.to_owned()),
        reporting_controller: Some(component.to_owned()),
        reporting_instance: Some(component.to_owned()),
        regarding: Some(core::ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(kind.into_owned()),
            namespace,
            name: Some(name.clone()),
            uid: Some(uid).filter(|uid| !uid.is_empty()),
            ..core::ObjectReference::default()
        }),
        ..events::Event::default()
    };
    create(client, events::Event::url_path(&(), Some(&home)), &event).await
}

/// Conditions without a transition time change now.
pub(crate) fn stamp(mut conditions: Vec<Condition>) -> Vec<Condition> {
    let now = format!("{:.0}", jiff::Timestamp::now());
    for condition in conditions.iter_mut().filter(|condition| condition.last_transition_time.is_empty()) {
        condition.last_transition_time.clone_from(&now);
    }
    conditions
}

fn shorten(text: &str, bytes: usize) -> &str {
    // A character has at most four bytes.
    (0..4).find_map(|less| text.get(..bytes.saturating_sub(less))).unwrap_or(text)
}

/// All that is of interest in an answer.
#[derive(Deserialize, Clone)]
struct Versioned {
    metadata: Meta,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Meta {
    resource_version: Option<String>,
    finalizers: Option<Vec<String>>,
}

fn json_patch(operations: Value) -> Result<Patch<()>, WriteError> {
    serde_json::from_value(operations).map(Patch::Json).map_err(refused)
}

async fn status_patch<P: serde::Serialize + std::fmt::Debug>(
    client: &Client,
    path: String,
    name: &str,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<Option<String>, WriteError> {
    let request = Request::new(path).patch_subresource("status", name, params, patch).map_err(refused)?;
    Ok(send::<Versioned>(client, request).await?.metadata.resource_version)
}

async fn create(client: &Client, path: String, object: &impl serde::Serialize) -> Result<Option<String>, WriteError> {
    let body = serde_json::to_vec(object).map_err(refused)?;
    let request = Request::new(path).create(&PostParams::default(), body).map_err(refused)?;
    Ok(send::<Versioned>(client, request).await?.metadata.resource_version)
}

async fn send<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<T, WriteError> {
    match timeout(ANSWER, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            409 => WriteError::Conflict,
            404 => WriteError::Gone,
            400 | 403 | 422 => WriteError::Refused(status.message),
            code => WriteError::Unavailable(format!("{} ({code})", status.message)),
        }),
        Ok(Err(error)) => Err(WriteError::Unavailable(text(&error))),
        Err(_) => Err(WriteError::Unavailable(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

/// A request that cannot even be put in words.
fn refused(error: impl std::fmt::Display) -> WriteError {
    WriteError::Refused(error.to_string())
}
