//! An EndpointSlice as oxelb reads it: on which nodes a Service has endpoints that serve.

use crate::keys;
use crate::namespaced::Namespaced;
use crate::service::ServiceKey;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Namespace and name of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SliceKey(Namespaced);

impl SliceKey {
    /// The key of the slice `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> SliceKey {
        SliceKey(Namespaced::new(namespace, name))
    }

    /// The slice's namespace.
    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// The slice's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a part of a Service's endpoints is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: SliceKey,
    /// The Service that it belongs to.
    pub service: ServiceKey,
    /// How many endpoints serve on each node that has any.
    pub nodes: BTreeMap<String, Serving>,
}

/// How many endpoints of a slice serve on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serving {
    /// Ready ones.
    pub ready: u32,
    /// Those that terminate and still serve (KEP-1669): they count where a node has no ready one.
    pub terminating: u32,
}

impl EndpointSlice {
    /// Reads a slice; `None` when it belongs to no Service.
    pub fn read(object: &discovery::EndpointSlice) -> Option<EndpointSlice> {
        let meta = &object.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let service = ServiceKey::new(namespace, meta.labels.as_ref()?.get(keys::SLICE_SERVICE)?);
        let mut nodes: BTreeMap<String, Serving> = BTreeMap::new();
        for endpoint in &object.endpoints {
            let Some(node) = &endpoint.node_name else { continue };
            let conditions = endpoint.conditions.as_ref();
            // An unset `ready` means ready (discovery/v1).
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
            let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
            if !(ready || serving && terminating) {
                continue;
            }
            let on_node = nodes.entry(node.clone()).or_default();
            if ready { on_node.ready += 1 } else { on_node.terminating += 1 }
        }
        let key = SliceKey::new(namespace, meta.name.as_deref().unwrap_or_default());
        Some(EndpointSlice { key, service, nodes })
    }
}
