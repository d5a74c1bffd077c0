//! The status files: `status/Service.<namespace>.<name>.yaml` and so on, each with what oxelb says of one object.

use super::manifest::Manifest;
use crate::changes::hash;
use crate::cluster::{kinds, stamp};
use crate::types::{Object, ObjectRef, ServicePatch};
use api::bgp_conf::BgpConfStatus;
use api::bgp_peer::BgpPeerStatus;
use api::{EipStatus, Ownership, Scope, ServiceKey, Speaker, SpeakerStatus, keys};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a status file says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Status {
    Service { label: Option<String>, status: core::ServiceStatus },
    Pool(EipStatus),
    Speaker(SpeakerStatus),
    Memberlist(Vec<u8>),
    Ownership(Ownership),
    BgpConf(BgpConfStatus),
    BgpPeer(BgpPeerStatus),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<String, serde_json::Value>>,
}

/// The name of the status file of an object; `None` for those that have none.
pub(super) fn file_name(reference: &ObjectRef) -> Option<String> {
    Some(match reference {
        ObjectRef::Pool(name) => format!("Eip.{name}.yaml"),
        ObjectRef::Service(key) => format!("Service.{}.{}.yaml", key.namespace(), key.name()),
        ObjectRef::Speaker(name) => format!("Speaker.{name}.yaml"),
        ObjectRef::Memberlist => "Secret.memberlist.yaml".to_owned(),
        ObjectRef::Ownership => format!("ConfigMap.{}.yaml", keys::OWNERSHIP),
        ObjectRef::BgpConf(name) => format!("BgpConf.{name}.yaml"),
        ObjectRef::BgpPeer(name) => format!("BgpPeer.{name}.yaml"),
        ObjectRef::Node(_)
        | ObjectRef::Slice(_)
        | ObjectRef::Namespace(_)
        | ObjectRef::Policy(_)
        | ObjectRef::Passwords => return None,
    })
    // Names are the user's, and must not lead out of the folder.
    .filter(|name| !name.contains('/'))
}

/// The object whose status a file of this name holds.
pub(super) fn reference(file: &str) -> Option<ObjectRef> {
    let (kind, name) = file.strip_suffix(".yaml")?.split_once('.')?;
    match kind {
        "Eip" => Some(ObjectRef::Pool(name.to_owned())),
        "Service" => name.split_once('.').map(|(namespace, name)| ObjectRef::Service(ServiceKey::new(namespace, name))),
        "Speaker" => Some(ObjectRef::Speaker(name.to_owned())),
        "BgpConf" => Some(ObjectRef::BgpConf(name.to_owned())),
        "BgpPeer" => Some(ObjectRef::BgpPeer(name.to_owned())),
        "ConfigMap" if name == keys::OWNERSHIP => Some(ObjectRef::Ownership),
        "Secret" if name == keys::MEMBERLIST_SECRET => Some(ObjectRef::Memberlist),
        _ => None,
    }
}

/// Reads a status file's text.
pub(super) fn parse(reference: &ObjectRef, text: &str) -> Result<Status, String> {
    // By way of a value, which costs far less code than to read every type from YAML.
    fn yaml<S: serde::de::DeserializeOwned>(text: &str) -> Result<Document<S>, String> {
        let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())?;
        serde_json::from_value(value).map_err(|e| e.to_string())
    }
    let missing = || "there is no status".to_owned();
    match reference {
        ObjectRef::Service(_) => {
            let document = yaml::<core::ServiceStatus>(text)?;
            let label = document.metadata.labels.and_then(|mut labels| labels.remove(keys::POOL));
            Ok(Status::Service { label, status: document.status.ok_or_else(missing)? })
        }
        ObjectRef::Pool(_) => yaml(text)?.status.map(Status::Pool).ok_or_else(missing),
        ObjectRef::Speaker(_) => yaml(text)?.status.map(Status::Speaker).ok_or_else(missing),
        ObjectRef::BgpConf(_) => yaml(text)?.status.map(Status::BgpConf).ok_or_else(missing),
        ObjectRef::BgpPeer(_) => yaml(text)?.status.map(Status::BgpPeer).ok_or_else(missing),
        ObjectRef::Memberlist => {
            let key = yaml::<()>(text)?.data.and_then(|mut data| data.remove(keys::MEMBERLIST_KEY));
            let key = key.map(serde_json::from_value::<ByteString>).ok_or_else(missing)?.map_err(|e| e.to_string())?;
            Ok(Status::Memberlist(key.0))
        }
        ObjectRef::Ownership => {
            let data = yaml::<()>(text)?.data.unwrap_or_default();
            let data = data.into_iter().map(|(k, v)| (k, v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
            Ownership::read(&data.collect()).map(Status::Ownership).map_err(|e| e.to_string())
        }
        other => Err(format!("{other} has no status")),
    }
}

/// The text of a status file.
pub(super) fn text(reference: &ObjectRef, status: &Status) -> Result<String, String> {
    fn yaml<S: Serialize>(
        (api_version, kind): (impl ToString, impl ToString),
        metadata: ObjectMeta,
        status: Option<S>,
        data: Option<BTreeMap<String, serde_json::Value>>,
    ) -> Result<String, String> {
        let document =
            Document { api_version: api_version.to_string(), kind: kind.to_string(), metadata, status, data };
        serde_saphyr::to_string(&document).map_err(|e| e.to_string())
    }
    let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    match (reference, status) {
        (ObjectRef::Service(key), Status::Service { label, status }) => {
            let labels = label.clone().map(|label| [(keys::POOL.to_owned(), label)].into());
            let metadata = ObjectMeta { namespace: Some(key.namespace().to_owned()), labels, ..named(key.name()) };
            yaml(("v1", "Service"), metadata, Some(status), None)
        }
        (ObjectRef::Pool(name), Status::Pool(status)) => {
            yaml((api::Eip::api_version(&()), api::Eip::kind(&())), named(name), Some(status), None)
        }
        (ObjectRef::Speaker(name), Status::Speaker(status)) => {
            yaml((Speaker::api_version(&()), Speaker::kind(&())), named(name), Some(status), None)
        }
        (ObjectRef::BgpConf(name), Status::BgpConf(status)) => {
            yaml((api::BgpConf::api_version(&()), api::BgpConf::kind(&())), named(name), Some(status), None)
        }
        (ObjectRef::BgpPeer(name), Status::BgpPeer(status)) => {
            yaml((api::BgpPeer::api_version(&()), api::BgpPeer::kind(&())), named(name), Some(status), None)
        }
        (ObjectRef::Memberlist, Status::Memberlist(key)) => {
            let key = serde_json::to_value(ByteString(key.clone())).map_err(|e| e.to_string())?;
            let data = [(keys::MEMBERLIST_KEY.to_owned(), key)].into();
            yaml::<()>(("v1", "Secret"), named(keys::MEMBERLIST_SECRET), None, Some(data))
        }
        (ObjectRef::Ownership, Status::Ownership(ownership)) => {
            let data = ownership.data().into_iter().map(|(k, v)| (k, v.into())).collect();
            yaml::<()>(("v1", "ConfigMap"), named(keys::OWNERSHIP), None, Some(data))
        }
        (other, _) => Err(format!("{other} has no such status")),
    }
}

/// The object that a manifest and a status file make together; `None` when there is none, or none of interest.
pub(super) fn object(
    reference: &ObjectRef,
    manifest: Option<&Manifest>,
    status: Option<&Status>,
    scope: Scope,
) -> Option<Object> {
    let Some(manifest) = manifest else {
        return match (reference, status) {
            // A Speaker is nothing but its status.
            (ObjectRef::Speaker(node), Some(Status::Speaker(status))) => {
                let mut speaker = Speaker::new(node, Default::default());
                speaker.status = Some(status.clone());
                Some(kinds::speaker(speaker))
            }
            (ObjectRef::Memberlist, Some(Status::Memberlist(key))) => Some(Object::Memberlist(vec![key.clone()])),
            (ObjectRef::Ownership, Some(Status::Ownership(ownership))) => {
                Some(Object::Ownership(Ok(ownership.clone())))
            }
            _ => None,
        };
    };
    match manifest {
        Manifest::Service(service) => kinds::service(&with_status(service, manifest, status), scope),
        Manifest::Pool(pool) => {
            let mut pool = (**pool).clone();
            if let Some(Status::Pool(status)) = status {
                pool.status = Some(status.clone());
            }
            Some(kinds::pool(pool))
        }
        Manifest::Slice(slice) => api::EndpointSlice::read(slice).map(Object::Slice),
        Manifest::Node(node) => Some(kinds::node(node)),
        Manifest::Namespace(namespace) => Some(kinds::namespace((**namespace).clone())),
        Manifest::BgpConf(conf) => kinds::bgp_conf((**conf).clone()),
        Manifest::BgpPeer(peer) => kinds::bgp_peer((**peer).clone()),
        Manifest::Policy(map) => kinds::policy(map),
        Manifest::Passwords(secret) => Some(kinds::passwords(Some(data(secret)))),
        Manifest::Ownership(map) => Some(ownership(map, status)),
        Manifest::Memberlist(secret) => kinds::memberlist(Some(data(secret))),
    }
}

/// What a Secret holds, in either form.
fn data(secret: &core::Secret) -> BTreeMap<String, ByteString> {
    let mut data = secret.data.clone().unwrap_or_default();
    let text = secret.string_data.clone().unwrap_or_default();
    data.extend(text.into_iter().map(|(name, text)| (name, ByteString(text.into_bytes()))));
    data
}

/// The manifest is where it begins; what was made of it since has a higher number.
fn ownership(map: &core::ConfigMap, status: Option<&Status>) -> Object {
    let written = kinds::ownership(map.data.clone());
    match (status, &written) {
        (Some(Status::Ownership(since)), Object::Ownership(Ok(begin))) if since.epoch >= begin.epoch => {
            Object::Ownership(Ok(since.clone()))
        }
        _ => written,
    }
}

/// A Service with its status and version.
fn with_status(service: &core::Service, manifest: &Manifest, status: Option<&Status>) -> core::Service {
    let mut service = service.clone();
    service.metadata.resource_version = Some(version(manifest, status));
    if let Some(Status::Service { label, status }) = status {
        let labels = service.metadata.labels.get_or_insert_default();
        labels.remove(keys::POOL);
        labels.extend(label.clone().map(|label| (keys::POOL.to_owned(), label)));
        service.status = Some(status.clone());
    }
    service
}

/// The version of an object: it is another one whenever the manifest or the status is.
pub(super) fn version(manifest: &Manifest, status: Option<&Status>) -> String {
    format!("{:016x}", hash(&(manifest, status)))
}

/// The status of a Service after the patch.
pub(super) fn patched(manifest: &Manifest, status: Option<&Status>, patch: &ServicePatch) -> Result<Status, String> {
    let Manifest::Service(service) = manifest else { return Err(format!("{} is no Service", manifest.reference())) };
    let service = with_status(service, manifest, status);
    let mut label = service.metadata.labels.and_then(|mut labels| labels.remove(keys::POOL));
    let mut status = service.status.unwrap_or_default();
    if let Some(wanted) = &patch.pool_label {
        label.clone_from(wanted);
    }
    if let Some(ingress) = &patch.ingress {
        let entry = |ip: &std::net::IpAddr| core::LoadBalancerIngress {
            ip: Some(ip.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..core::LoadBalancerIngress::default()
        };
        status.load_balancer.get_or_insert_default().ingress = Some(ingress.iter().map(entry).collect());
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| !patch.remove_conditions.contains(&c.type_));
    for condition in stamp(patch.conditions.clone()) {
        conditions.retain(|c| c.type_ != condition.type_);
        let time = condition.last_transition_time.parse().map_err(|e| format!("{}: {e}", condition.type_))?;
        conditions.push(meta::Condition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            observed_generation: condition.observed_generation,
            last_transition_time: meta::Time(time),
        });
    }
    Ok(Status::Service { label, status })
}

/// Writes a file so that a reader sees the old text or the new one, never a part. Nobody but the owner reads secrets.
pub(super) fn write_file(path: &Path, text: &str, secret: bool) -> std::io::Result<()> {
    let temp = path.with_extension(format!("{}.tmp", std::process::id()));
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&temp, path)
}
