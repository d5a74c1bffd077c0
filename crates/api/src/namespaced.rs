//! Namespace and name of an object: thousands are kept, each in several places, so copies share one text.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// `namespace/name`, neither with a slash in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub(crate) struct Namespaced(Arc<str>);

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Parts {
    namespace: String,
    name: String,
}

impl Namespaced {
    pub(crate) fn new(namespace: &str, name: &str) -> Namespaced {
        Namespaced(format!("{namespace}/{name}").into())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.parts().0
    }

    pub(crate) fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }
}

impl From<Parts> for Namespaced {
    fn from(parts: Parts) -> Namespaced {
        Namespaced::new(&parts.namespace, &parts.name)
    }
}

impl From<Namespaced> for Parts {
    fn from(key: Namespaced) -> Parts {
        let (namespace, name) = key.parts();
        Parts { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
