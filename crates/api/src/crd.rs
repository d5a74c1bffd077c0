//! The CRD manifests, made from the types, in the shape that OpenELB's have (compat §1): `v1alpha1` served,
//! `v1alpha2` stored. What the schema alone refuses is in [`crate::rules`].

use crate::{bgp_conf, bgp_peer, eip, rules, speaker, v1alpha1};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::crd::merge_crds;
use serde_json::{Value, json};

/// All CRDs as objects, in the order in which they are applied.
pub fn manifests() -> Vec<Value> {
    let both = |old: CustomResourceDefinition, new: CustomResourceDefinition| {
        merge_crds(vec![old, new.clone()], "v1alpha2").unwrap_or(new)
    };
    [
        both(v1alpha1::Eip::crd(), eip::Eip::crd()),
        both(v1alpha1::BgpConf::crd(), bgp_conf::BgpConf::crd()),
        both(v1alpha1::BgpPeer::crd(), bgp_peer::BgpPeer::crd()),
        speaker::Speaker::crd(),
    ]
    .iter()
    .map(|crd| shape(serde_json::to_value(crd).unwrap_or_default()))
    .collect()
}

/// What the derived manifest has too much or too little.
fn shape(mut crd: Value) -> Value {
    let kind = crd.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(names) = crd.pointer_mut("/spec/names").and_then(Value::as_object_mut) {
        names.insert("listKind".to_owned(), json!(format!("{kind}List")));
        for empty in ["shortNames", "categories"] {
            if names.get(empty).is_some_and(|v| v == &json!([])) {
                names.remove(empty);
            }
        }
    }
    if let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        versions.sort_by_key(|v| v.get("name").map(Value::to_string));
    }
    for version in crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name == "v1alpha1" && kind != "Speaker" {
            // compat §1: the old version has no status subresource.
            version.as_object_mut().map(|v| v.remove("subresources"));
        }
        if version.get("additionalPrinterColumns").is_some_and(|v| v == &json!([])) {
            version.as_object_mut().map(|v| v.remove("additionalPrinterColumns"));
        }
        let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else { continue };
        plain(schema);
        // compat §1: an object without spec passes the schema.
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("required");
        }
        if name == "v1alpha2" {
            rules::add(&kind, schema);
        }
    }
    crd
}

/// Removes what OpenELB's manifests do not have: `nullable` and titles; the API server drops nulls by itself.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            if map.get("title").is_some_and(Value::is_string) {
                map.remove("title");
            }
            if map.get("enum").and_then(Value::as_array).is_some_and(|e| e.iter().any(Value::is_null))
                && let Some(values) = map.get_mut("enum").and_then(Value::as_array_mut)
            {
                values.retain(|v| !v.is_null());
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The text of `deploy/openelb.yaml`: CRDs first, then what runs. Errors come from the YAML writer.
pub fn deployment(workloads: &str) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = "# What `kubectl apply -f` installs. Made by `make crds` from the types and deploy/workloads.yaml: edit those.\n".to_owned();
    for crd in manifests() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text.push_str("---\n");
    text.push_str(workloads);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(kind: &str) -> Value {
        manifests().into_iter().find(|c| c.pointer("/spec/names/kind") == Some(&json!(kind))).unwrap()
    }

    #[test]
    fn the_table_of_the_compatibility_notes_holds() {
        for (kind, plural, list, categories) in [
            ("Eip", "eips", "EipList", json!(["networking"])),
            ("BgpConf", "bgpconfs", "BgpConfList", Value::Null),
            ("BgpPeer", "bgppeers", "BgpPeerList", Value::Null),
        ] {
            let crd = crd(kind);
            assert_eq!(crd["metadata"]["name"], format!("{plural}.network.kubesphere.io"));
            assert_eq!(crd["spec"]["scope"], "Cluster");
            assert_eq!(crd["spec"]["names"]["listKind"], list);
            assert_eq!(crd["spec"]["names"]["categories"], categories);
            assert_eq!(crd["spec"]["names"]["shortNames"], Value::Null);
            assert_eq!(crd["spec"]["conversion"], Value::Null);
            let versions = crd["spec"]["versions"].as_array().unwrap();
            let facts: Vec<_> = versions
                .iter()
                .map(|v| {
                    (
                        v["name"].as_str().unwrap(),
                        v["served"] == true,
                        v["storage"] == true,
                        v["subresources"].is_object(),
                    )
                })
                .collect();
            assert_eq!(facts, [("v1alpha1", true, false, false), ("v1alpha2", true, true, true)], "{kind}");
            for version in versions {
                assert_eq!(
                    version["schema"]["openAPIV3Schema"]["required"],
                    Value::Null,
                    "{kind}: spec is not required"
                );
            }
        }
    }

    #[test]
    fn printer_columns_of_pools_are_openelbs() {
        for version in crd("Eip")["spec"]["versions"].as_array().unwrap() {
            let columns: Vec<_> = version["additionalPrinterColumns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| format!("{} {} {}", c["name"], c["type"], c["jsonPath"]).replace('"', ""))
                .collect();
            assert_eq!(
                columns,
                ["cidr string .spec.address", "usage integer .status.usage", "total integer .status.poolSize"]
            );
        }
    }

    #[test]
    fn no_field_is_nullable() {
        assert!(!serde_json::to_string(&manifests()).unwrap().contains("nullable"));
    }

    #[test]
    fn the_committed_manifests_are_those_of_the_types() {
        let committed = include_str!("../../../deploy/openelb.yaml");
        assert!(
            committed == crate::crd::deployment(include_str!("../../../deploy/workloads.yaml")).unwrap(),
            "deploy/openelb.yaml differs from the types or from deploy/workloads.yaml: run `make crds`"
        );
    }
}
