//! `oxelb check`: what is wrong with manifests, found without a cluster, with the place and what was probably meant.
//!
//! ```text
//! files ──► document (places) ──► schema, annotations ──► admission over all pools ──► ipam ──► report
//! ```

mod annotations;
mod document;
mod nearest;
mod report;
mod schema;
#[cfg(test)]
mod tests;

use crate::cli::Output;
use anyhow::Context;
use api::{BgpConf, BgpPeer, Eip, Pool, Scope, Service, ServiceKey, admission, keys};
use document::Node;
use ipam::Ipam;
use nearest::nearest;
use report::{Finding, Report};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Checks the files and folders; `-` is standard input. The text of the report, and whether there were errors.
pub fn run(paths: &[PathBuf], output: Output, scope: Scope) -> anyhow::Result<(String, bool)> {
    let mut files = Vec::new();
    for path in paths {
        read(path, &mut files)?;
    }
    let mut report = check(&files, scope);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    Ok((report.text(output, colour), report.errors() > 0))
}

fn read(path: &Path, files: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let name = path.display().to_string();
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        files.push(("<stdin>".to_owned(), text));
        return Ok(());
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the folder {name}"))?;
        let mut inside: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        inside.retain(|p| p.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known)));
        inside.sort();
        return inside.iter().try_for_each(|p| read(p, files));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    files.push((name, text));
    Ok(())
}

/// An object that was found, with its file.
struct Found<'a> {
    file: &'a str,
    node: Node,
    kind: String,
    name: String,
}

fn check(files: &[(String, String)], scope: Scope) -> Report {
    let mut report = Report::default();
    let mut objects = Vec::new();
    for (file, text) in files {
        match document::parse(text) {
            Ok(documents) => documents.into_iter().for_each(|d| object(d, file, &mut objects, &mut report)),
            Err((at, message)) => report.findings.push((file.clone(), None, Finding::error(at, message))),
        }
    }
    report.objects = objects.len();
    twice(&objects, &mut report);
    let mut typed = Typed::default();
    for object in &objects {
        let mut found = Vec::new();
        alone(object, scope, &mut typed, &mut found);
        tell(&mut report, object, found);
    }
    together(&objects, &typed, scope, &mut report);
    report
}

fn tell(report: &mut Report, object: &Found<'_>, found: Vec<Finding>) {
    let name = format!("{} {}", object.kind, object.name);
    report.findings.extend(found.into_iter().map(|f| (object.file.to_owned(), Some(name.clone()), f)));
}

/// The kinds that are looked at, and their apiVersion.
const KINDS: [(&str, &str); 4] = [
    ("Eip", "network.kubesphere.io/v1alpha2"),
    ("BgpConf", "network.kubesphere.io/v1alpha2"),
    ("BgpPeer", "network.kubesphere.io/v1alpha2"),
    ("Service", "v1"),
];

/// Takes what is of interest out of a document.
fn object<'a>(node: Node, file: &'a str, objects: &mut Vec<Found<'a>>, report: &mut Report) {
    let mut error = |at, message: String| report.findings.push((file.to_owned(), None, Finding::error(at, message)));
    let (version, kind) = (node.text_at(&["apiVersion"]), node.text_at(&["kind"]));
    let (Some(version), Some(kind)) = (version, kind) else {
        error(node.at, "apiVersion or kind is missing, so this is no manifest of a Kubernetes object".to_owned());
        return;
    };
    if kind.ends_with("List")
        && let Some(document::Value::List(items)) = node.get("items").map(|i| &i.value)
    {
        items.iter().for_each(|item| object(item.clone(), file, objects, report));
        return;
    }
    let ours = version.starts_with("network.kubesphere.io/");
    let known = KINDS.iter().find(|(k, _)| *k == kind);
    let has_policy = (kind, version) == ("ConfigMap", "v1") && policy(&node).is_some();
    match known {
        None if has_policy => {}
        Some((_, wanted)) if *wanted == version || (ours && version == "network.kubesphere.io/v1alpha1") => {}
        Some((_, wanted)) if ours || kind != "Service" => {
            error(node.place_of("apiVersion"), format!("apiVersion: {version} has no {kind}; write {wanted}"));
            return;
        }
        None if ours => {
            let meant = nearest(kind, KINDS.iter().map(|(k, _)| *k));
            let meant =
                meant.map_or_else(|| "known are Eip, BgpConf, BgpPeer".to_owned(), |m| format!("did you mean {m}?"));
            error(node.place_of("kind"), format!("kind: there is no {kind} in {version}; {meant}"));
            return;
        }
        // Not for us: Deployments, Services of other groups, and so on.
        Some(_) | None => return,
    }
    let name = node.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    if name.is_empty() && node.text_at(&["metadata", "generateName"]).is_none() {
        error(node.place_of("metadata"), format!("metadata.name: the {kind} has no name"));
        return;
    }
    let namespace = node.text_at(&["metadata", "namespace"]).unwrap_or("default");
    let name = if kind == "Service" { format!("{namespace}/{name}") } else { name };
    objects.push(Found { file, kind: kind.to_owned(), name, node });
}

/// The policy for BGP in a ConfigMap.
fn policy(node: &Node) -> Option<&str> {
    node.text_at(&["data", keys::POLICY_FILE])
}

fn twice(objects: &[Found<'_>], report: &mut Report) {
    let mut seen: BTreeMap<(&str, &str), &Found<'_>> = BTreeMap::new();
    for object in objects {
        if let Some(first) = seen.insert((&object.kind, &object.name), object) {
            let at = object.node.place_of("metadata.name");
            let place = first.node.place_of("metadata.name");
            let message = format!("metadata.name: is used twice; first in {}:{}", first.file, place.line);
            tell(report, object, vec![Finding::error(at, message)]);
        }
    }
}

/// Objects that could be read.
#[derive(Default)]
struct Typed {
    pools: Vec<Eip>,
    services: Vec<k8s_openapi::api::core::v1::Service>,
}

/// What is wrong with an object by itself.
fn alone(object: &Found<'_>, scope: Scope, typed: &mut Typed, found: &mut Vec<Finding>) {
    if let Some(text) = policy(&object.node) {
        let error = text.parse::<bgp::policy::Policy>().err();
        let field = format!("data[{}]", keys::POLICY_FILE);
        let told = |e| Finding::error(object.node.place_of(&field), format!("{field}: {e}"));
        found.extend(error.map(told));
        return;
    }
    annotations::check(&object.node, &object.kind, scope, found);
    let version = object.node.text_at(&["apiVersion"]).unwrap_or_default();
    if object.kind != "Service" {
        let schema = schema_of(&object.kind, version.rsplit('/').next().unwrap_or_default());
        for part in ["spec", "status"] {
            if let Some(node) = object.node.get(part) {
                schema::check(node, &schema["properties"][part], part, found);
            }
        }
        for entry in object.node.entries() {
            if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&entry.key.as_str()) {
                let meant = nearest(&entry.key, ["metadata", "spec", "status"]);
                let meant = meant.map(|m| format!("; did you mean {m}?")).unwrap_or_default();
                found.push(Finding::error(entry.at, format!("{}: there is no such field{meant}", entry.key)));
            }
        }
        if object.node.get("spec").is_none() && object.kind != "BgpConf" {
            found.push(Finding::error(object.node.at, "spec: is missing"));
        }
    }
    let has_errors = found.iter().any(|f| f.severity == report::Severity::Error && f.message.starts_with("spec"));
    if has_errors || version.ends_with("v1alpha1") {
        return;
    }
    let json = object.node.json();
    // Once a mistake is named at its place, a second text without one helps nobody.
    let named = found.iter().any(|f| f.severity == report::Severity::Error);
    let unreadable = |e: serde_json::Error| {
        if named { vec![] } else { vec![Finding::error(object.node.at, e.to_string())] }
    };
    let refused = |refusals: Vec<admission::Refusal>| -> Vec<Finding> {
        let texts = refusals.into_iter().map(|r| r.to_string());
        texts.map(|text| Finding::error(object.node.place_of(&text), text)).collect()
    };
    let mut warn = Vec::new();
    found.extend(match object.kind.as_str() {
        "Eip" => match serde_json::from_value::<Eip>(json) {
            Ok(eip) => {
                warn = admission::pool_warnings(&eip);
                typed.pools.push(eip);
                vec![]
            }
            Err(e) => unreadable(e),
        },
        "BgpConf" => match serde_json::from_value::<BgpConf>(json) {
            Ok(conf) => {
                warn = admission::bgp_conf_warnings(&conf);
                admission::check_bgp_conf(&conf, None).map_or_else(refused, |()| vec![])
            }
            Err(e) => unreadable(e),
        },
        "BgpPeer" => match serde_json::from_value::<BgpPeer>(json) {
            Ok(peer) => admission::check_bgp_peer(&peer, None).map_or_else(refused, |()| vec![]),
            Err(e) => unreadable(e),
        },
        _ => match serde_json::from_value(json) {
            Ok(service) => {
                typed.services.push(service);
                vec![]
            }
            Err(e) => unreadable(e),
        },
    });
    found.extend(warn.into_iter().map(|text| Finding::warning(object.node.place_of(&text), text)));
}

fn schema_of(kind: &str, version: &str) -> Json {
    let crds = api::crd::manifests();
    let crd = crds.into_iter().find(|c| c["spec"]["names"]["kind"] == kind).unwrap_or_default();
    let versions = crd["spec"]["versions"].as_array();
    let found = versions.into_iter().flatten().find(|v| v["name"] == version);
    found.map(|v| v["schema"]["openAPIV3Schema"].clone()).unwrap_or_default()
}

/// What is wrong with all of them together: pools among each other, and Services with the pools.
fn together(objects: &[Found<'_>], typed: &Typed, scope: Scope, report: &mut Report) {
    let find = |kind: &str, name: &str| objects.iter().find(|o| o.kind == kind && o.name == name);
    for pool in &typed.pools {
        let refusals = admission::check_pool(pool, None, &typed.pools, &BTreeMap::new()).err().unwrap_or_default();
        let Some(object) = find("Eip", pool.metadata.name.as_deref().unwrap_or_default()) else { continue };
        let texts = refusals.into_iter().map(|r| r.to_string());
        tell(report, object, texts.map(|t| Finding::error(object.node.place_of(&t), t)).collect());
    }
    if typed.pools.is_empty() {
        return;
    }
    let (mut ipam, mut names) = (Ipam::new(), BTreeSet::new());
    for eip in &typed.pools {
        let name = eip.metadata.name.clone().unwrap_or_default();
        ipam.set_pool(&name, Pool::try_from(eip));
        names.insert(name);
    }
    let mut asked: BTreeMap<ServiceKey, Option<String>> = BTreeMap::new();
    for service in &typed.services {
        let mut service = service.clone();
        service.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        if let Some(service) = Service::read(&service, scope).filter(|s| s.served) {
            asked.insert(service.key.clone(), service.wanted_pool.clone());
            ipam.set_service(service);
        }
    }
    for decision in ipam.plan().services {
        let key = decision.service.to_string();
        let Some(object) = find("Service", &key) else { continue };
        if !decision.addresses.is_empty() {
            let addresses: Vec<String> = decision.addresses.iter().map(ToString::to_string).collect();
            let pool = decision.pool.unwrap_or_default();
            report.notes.push(format!("Service {key} would get {} from the pool {pool}", addresses.join(" and ")));
        }
        if let Some(condition) = decision.condition.filter(|c| c.status != "True") {
            // Pools that are not among these files may be in the cluster; those that are named and are here are meant.
            let named = asked.get(&decision.service).cloned().flatten();
            let field = if named.is_some() {
                format!("metadata.annotations[{}]", keys::POOL)
            } else {
                "metadata.name".to_owned()
            };
            let at = object.node.place_of(&field);
            let here = |named: &String| named.split(',').all(|n| names.contains(n.trim()));
            let finding = if named.as_ref().is_some_and(here) {
                Finding::error(at, condition.message)
            } else {
                Finding::warning(at, format!("with the pools of these files: {}", condition.message))
            };
            tell(report, object, vec![finding]);
        }
    }
}
