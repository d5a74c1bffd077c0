//! Where objects come from and where status goes: a Kubernetes API server, or a folder of YAML files. Both look the
//! same from above.
//!
//! ```text
//!            watch                                  write
//!  API server ──┐                                ┌──► API server
//!               ├──► Event, Event, … ──► reader ──►┤
//!  folder ──────┘                                └──► folder/status
//! ```

mod types;

pub use types::{Change, Event, Interest, Namespace, Object, ObjectRef, ServicePatch, Write, WriteError};
