//! Where objects come from and where status goes: a Kubernetes API server, or a folder of YAML files. Both look the
//! same from above.
//!
//! ```text
//!            watch                                  write
//!  API server ──┐                                ┌──► API server
//!               ├──► Event, Event, … ──► reader ──►┤
//!  folder ──────┘                                └──► folder/status
//! ```

mod changes;
mod cluster;
mod folder;
pub mod snapshot;
mod types;
mod whole;

pub use cluster::Cluster;
pub use folder::Folder;
pub use types::{Change, Event, Interest, Namespace, Object, ObjectRef, ServicePatch, Write, WriteError};
pub use whole::write_whole;

use api::ServiceKey;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};

/// How many events wait for a slow reader before reading from the source pauses.
const QUEUE: usize = 256;

/// Where objects come from and where status goes. Clones share connections and files.
#[derive(Clone)]
pub enum Store {
    /// A Kubernetes API server.
    Cluster(Cluster),
    /// A folder of YAML files.
    Folder(Folder),
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither a kubeconfig nor a Pod's service account.
    #[error(
        "no API server is configured: {0}; run in a Pod with a service account, or name a kubeconfig (--kubeconfig)"
    )]
    Config(String),
    /// The configuration is there and makes no sense.
    #[error("the API server's configuration cannot be used: {0}")]
    Client(String),
    /// The folder is not there.
    #[error("the folder {} cannot be read: {error}; make it, or name another", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Store {
    /// The API server that a kubeconfig names, else `$KUBECONFIG`, else that of the cluster in which this Pod runs.
    /// Nothing is sent yet. `namespace` is where oxelb itself runs.
    pub async fn cluster(kubeconfig: Option<PathBuf>, namespace: String) -> Result<Store, OpenError> {
        Ok(Store::Cluster(Cluster::open(kubeconfig, namespace).await?))
    }

    /// A folder of manifests: its files `*.yaml`, `*.yml` and `*.json`. Status goes to its sub-folder `status`.
    pub fn folder(dir: PathBuf) -> Result<Store, OpenError> {
        Ok(Store::Folder(Folder::open(dir)?))
    }

    /// Reads everything of interest and then every change, until the receiver is dropped. EndpointSlices are read for
    /// those Services only that `needs` holds at the time. Never blocks; must be called within a tokio runtime.
    pub fn watch(&self, interest: Interest, needs: watch::Receiver<BTreeSet<ServiceKey>>) -> mpsc::Receiver<Event> {
        match self {
            Store::Cluster(cluster) => cluster.watch(interest, needs),
            Store::Folder(folder) => folder.watch(interest, needs),
        }
    }

    /// Writes, and says the object's new version where it is known. In a cluster an answer that takes more than 5 s is
    /// [`WriteError::Unavailable`]; the write may have happened all the same.
    pub async fn write(&self, write: Write) -> Result<Option<String>, WriteError> {
        match self {
            Store::Cluster(cluster) => cluster.write(write).await,
            Store::Folder(folder) => folder.write(write),
        }
    }

    /// The client of the API server, for what is not a matter of this crate (leader election, the webhook's CA);
    /// `None` in a folder.
    pub fn client(&self) -> Option<kube::Client> {
        match self {
            Store::Cluster(cluster) => Some(cluster.client()),
            Store::Folder(_) => None,
        }
    }
}
