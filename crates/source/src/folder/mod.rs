//! A folder of manifests as a source.
use crate::OpenError;
use crate::types::{Event, Interest, Write, WriteError};
use api::ServiceKey;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};

/// A folder of manifests.
#[derive(Clone)]
pub struct Folder {}

impl Folder {
    pub(crate) fn open(_dir: PathBuf) -> Result<Folder, OpenError> {
        Ok(Folder {})
    }
    pub(crate) fn watch(&self, _: Interest, _: watch::Receiver<BTreeSet<ServiceKey>>) -> mpsc::Receiver<Event> {
        mpsc::channel(1).1
    }
    pub(crate) fn write(&self, _: Write) -> Result<Option<String>, WriteError> {
        Ok(None)
    }
}
