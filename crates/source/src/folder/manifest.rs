//! Manifests: what a file of the folder says. A file counts as a whole or not at all.

use crate::cluster::kinds::{name, service_key};
use crate::types::ObjectRef;
use api::{BgpConf, BgpPeer, Eip, SliceKey, keys};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};

/// One object, as written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Manifest {
    Pool(Box<Eip>),
    Service(Box<core::Service>),
    Slice(Box<discovery::EndpointSlice>),
    Node(Box<core::Node>),
    Namespace(Box<core::Namespace>),
    Memberlist(Box<core::Secret>),
    Ownership(Box<core::ConfigMap>),
    BgpConf(Box<BgpConf>),
    BgpPeer(Box<BgpPeer>),
    Policy(Box<core::ConfigMap>),
    Passwords(Box<core::Secret>),
}

impl Manifest {
    pub fn reference(&self) -> ObjectRef {
        match self {
            Manifest::Pool(o) => ObjectRef::Pool(name(&o.metadata)),
            Manifest::Service(o) => ObjectRef::Service(service_key(&o.metadata)),
            Manifest::Slice(o) => {
                let key = service_key(&o.metadata);
                ObjectRef::Slice(SliceKey::new(key.namespace(), key.name()))
            }
            Manifest::Node(o) => ObjectRef::Node(name(&o.metadata)),
            Manifest::Namespace(o) => ObjectRef::Namespace(name(&o.metadata)),
            Manifest::Memberlist(_) => ObjectRef::Memberlist,
            Manifest::Ownership(_) => ObjectRef::Ownership,
            Manifest::BgpConf(o) => ObjectRef::BgpConf(name(&o.metadata)),
            Manifest::BgpPeer(o) => ObjectRef::BgpPeer(name(&o.metadata)),
            Manifest::Policy(o) => ObjectRef::Policy(name(&o.metadata)),
            Manifest::Passwords(_) => ObjectRef::Passwords,
        }
    }
}

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parsed {
    pub objects: BTreeMap<ObjectRef, Manifest>,
    /// Kinds that are not for us.
    pub foreign: BTreeSet<String>,
}

/// Parses YAML or JSON of any number of documents. The error names the line.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    for (before, document) in documents(text) {
        object(document, before, &mut parsed)?;
    }
    Ok(parsed)
}

/// The documents of a text, each with the number of lines before it. A line that begins with `---` separates them
/// wherever it stands (YAML 1.2 §9.1.4: it is forbidden within a document).
fn documents(text: &str) -> Vec<(u64, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut documents, mut start, mut before, mut at) = (vec![], 0, 0, 0);
    for (number, line) in (0u64..).zip(text.split_inclusive('\n')) {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((before, &text[start..at]));
            // What stands behind `---` on the same line belongs to the document.
            (start, before) = (at + 3, number);
        }
        at += line.len();
    }
    documents.push((before, &text[start..]));
    documents
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    metadata: Option<ObjectMeta>,
    #[serde(default)]
    items: Option<Vec<Spanned<serde_json::Value>>>,
}

fn object(text: &str, before: u64, parsed: &mut Parsed) -> Result<(), String> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "...";
    if text.lines().all(blank) {
        return Ok(());
    }
    let first = before + 1 + text.lines().take_while(|line| blank(line)).count() as u64;
    let head: Head = yaml(text, before)?;
    if let Some(items) = head.items.filter(|_| head.kind.as_deref().is_some_and(|kind| kind.ends_with("List"))) {
        for item in items {
            let line = before + item.defined.line();
            let text = item.value.to_string();
            // Lines of the item's own text mean nothing to the user.
            let mut inner = Parsed::default();
            object(&text, 0, &mut inner)
                .map_err(|e| format!("line {line}: {}", e.split_once(": ").map_or(&*e, |e| e.1)))?;
            for manifest in inner.objects.into_values() {
                add(manifest, line, parsed)?;
            }
            parsed.foreign.extend(inner.foreign);
        }
        return Ok(());
    }
    let (Some(api_version), Some(kind)) = (head.api_version, head.kind) else {
        return Err(format!(
            "line {first}: apiVersion or kind is missing, so it is no manifest of a Kubernetes object"
        ));
    };
    let name = head.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let manifest = match (group, &*kind) {
        ("network.kubesphere.io", "Eip") => Manifest::Pool(yaml(text, before)?),
        ("", "Service") => Manifest::Service(yaml(text, before)?),
        ("discovery.k8s.io", "EndpointSlice") => Manifest::Slice(yaml(text, before)?),
        ("", "Node") => Manifest::Node(yaml(text, before)?),
        ("", "Namespace") => Manifest::Namespace(yaml(text, before)?),
        ("", "Secret") if name == keys::MEMBERLIST_SECRET => Manifest::Memberlist(yaml(text, before)?),
        ("", "Secret") if name == keys::BGP_PASSWORDS => Manifest::Passwords(yaml(text, before)?),
        ("", "ConfigMap") if name == keys::OWNERSHIP => Manifest::Ownership(yaml(text, before)?),
        ("", "ConfigMap") if has_policy(text, before)? => Manifest::Policy(yaml(text, before)?),
        ("network.kubesphere.io", "BgpConf") => Manifest::BgpConf(value(text, before, first)?),
        ("network.kubesphere.io", "BgpPeer") => Manifest::BgpPeer(value(text, before, first)?),
        _ => {
            parsed.foreign.insert(format!("{kind} ({api_version})"));
            return Ok(());
        }
    };
    if name.is_empty() {
        return Err(format!("line {first}: the {kind} has no metadata.name"));
    }
    add(manifest, first, parsed)
}

/// Whether a ConfigMap is one with a policy for BGP.
fn has_policy(text: &str, before: u64) -> Result<bool, String> {
    let map: core::ConfigMap = yaml(text, before)?;
    Ok(map.data.is_some_and(|data| data.contains_key(keys::POLICY_FILE)))
}

fn add(mut manifest: Manifest, line: u64, parsed: &mut Parsed) -> Result<(), String> {
    clean(&mut manifest);
    let reference = manifest.reference();
    match parsed.objects.insert(reference.clone(), manifest) {
        Some(_) => Err(format!("line {line}: {reference} is in this file twice")),
        None => Ok(()),
    }
}

/// What only an API server would give a meaning to: a folder deletes at once, and has versions of its own.
fn clean(manifest: &mut Manifest) {
    let namespaced = matches!(manifest, Manifest::Service(_) | Manifest::Slice(_) | Manifest::Memberlist(_));
    let metadata = match manifest {
        Manifest::Pool(o) => &mut o.metadata,
        Manifest::Service(o) => &mut o.metadata,
        Manifest::Slice(o) => &mut o.metadata,
        Manifest::Node(o) => &mut o.metadata,
        Manifest::Namespace(o) => &mut o.metadata,
        Manifest::Memberlist(o) => &mut o.metadata,
        Manifest::Ownership(o) => &mut o.metadata,
        Manifest::BgpConf(o) => &mut o.metadata,
        Manifest::BgpPeer(o) => &mut o.metadata,
        Manifest::Policy(o) => &mut o.metadata,
        Manifest::Passwords(o) => &mut o.metadata,
    };
    metadata.managed_fields = None;
    metadata.finalizers = None;
    metadata.deletion_timestamp = None;
    metadata.resource_version = None;
    if namespaced {
        metadata.namespace.get_or_insert_with(|| "default".to_owned());
    }
}

/// As [`yaml`], with the line of the document alone for what does not fit the type: these types have so many fields that
/// reading them from YAML directly would be a tenth of the program.
fn value<T: DeserializeOwned>(text: &str, before: u64, first: u64) -> Result<T, String> {
    let value: serde_json::Value = yaml(text, before)?;
    serde_json::from_value(value).map_err(|error| format!("line {first}: {error}"))
}

fn yaml<T: DeserializeOwned>(text: &str, before: u64) -> Result<T, String> {
    // The budget is against hostile input; files of the folder are as trusted as a kubeconfig, and may be large.
    let options = serde_saphyr::options! { budget: None };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        match error.location() {
            Some(at) if at.line() > 0 => {
                // The message ends with the place within the document; the file's line goes first instead.
                let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
                format!("line {}: {message}", before + at.line())
            }
            _ => format!("line {}: {message}", before + 1),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str =
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: p}\nspec: {address: 10.0.0.1}\n";

    fn references(text: &str) -> Vec<String> {
        parse(text).unwrap().objects.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn all_documents_of_a_file_are_read() {
        let text = format!(
            "# a pool\n---\n{POOL}---\n# nothing\n--- # a Service\napiVersion: v1\nkind: Service\nmetadata:\n  name: s\n"
        );
        assert_eq!(references(&text), ["Eip p", "Service default/s"]);
        assert_eq!(references(&text.replace('\n', "\r\n")), ["Eip p", "Service default/s"]);
        assert_eq!(references(""), Vec::<String>::new());
    }

    #[test]
    fn json_and_lists_are_read() {
        let json = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}},
            {"apiVersion":"v1","kind":"Secret","metadata":{"name":"memberlist"},"data":{"key":"AAE="}}]}"#;
        assert_eq!(references(json), ["Node a", "Secret memberlist"]);
        let yaml = "apiVersion: v1\nkind: NodeList\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: {name: a}\n";
        assert_eq!(references(yaml), ["Node a"]);
    }

    #[test]
    fn v1alpha1_is_read_too() {
        assert_eq!(references(&POOL.replace("v1alpha2", "v1alpha1")), ["Eip p"]);
    }

    #[test]
    fn yaml_that_is_not_ours_is_named_and_ignored() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: mine}\n";
        let parsed = parse(text).unwrap();
        assert!(parsed.objects.is_empty());
        let foreign: Vec<&str> = parsed.foreign.iter().map(String::as_str).collect();
        assert_eq!(foreign, ["Deployment (apps/v1)", "Secret (v1)", "Service (serving.knative.dev/v1)"]);
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        for (text, want) in [
            (format!("{POOL}---\n{POOL}"), "line 6: Eip p is in this file twice"),
            (format!("{POOL}---\n\nkind: Eip\n"), "line 7: apiVersion or kind is missing"),
            (format!("{POOL}---\napiVersion: v1\nkind: Service\n"), "line 6: the Service has no metadata.name"),
            (
                format!("{POOL}---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{type: [a]}}\n"),
                "line 9: ",
            ),
            (format!("{POOL}---\napiVersion: v1\n  kind: Service\n"), "line 7: "),
            (format!("{POOL}spec: {{}}\n"), "line 5: "),
            (POOL.replace("{address: 10.0.0.1}", "{address: 10.0.0.1, priority: high}"), "line 4: "),
            (
                format!(
                    "{POOL}---\napiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {{name: b}}\nspec: {{conf: {{peerAs: x}}}}\n"
                ),
                "line 6: invalid type: string \"x\"",
            ),
            (
                "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n".to_owned(),
                "line 4: the Node has no metadata.name",
            ),
            ("just text\n".to_owned(), "line 1: "),
            ("a: b: c\n".to_owned(), "line 1: "),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(want), "{text}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
