//! The epoch that this node's acceptor confirmed, on its disk: an acceptor that forgot it could help two majorities.
//!
//! A thread of its own writes it, because the disk may be slow and the deadline thread must not wait for it.

use lease::{Epoch, Node};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// How long it waits after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Whose it is: a disk may be copied to another machine, and what that one confirmed is not this one's.
    node: Node,
    number: u64,
    members: std::collections::BTreeSet<Node>,
}

fn path(state: &Path) -> PathBuf {
    state.join("epoch.json")
}

/// What `node` confirmed last. Without a record it has confirmed nothing, as far as it knows.
pub(crate) fn load(state: &Path, node: &str) -> Option<Epoch> {
    let path = path(state);
    let shown = path.display();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(%error, path = %shown, "the record of the confirmed epoch cannot be read");
            return None;
        }
    };
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.node == node => Some(Epoch { number: record.number, members: record.members }),
        Ok(record) => {
            tracing::warn!(path = %shown, of = record.node, "the record of the confirmed epoch is another node's, and does not count");
            None
        }
        Err(error) => {
            tracing::error!(%error, path = %shown, "the record of the confirmed epoch is damaged");
            None
        }
    }
}

/// Starts the thread that writes; what is on disk is told to `done`. One epoch may wait, and who has another keeps it until
/// there is room. Without a folder nothing outlives the process, so there is nothing to wait for.
pub(crate) fn start(
    state: Option<PathBuf>,
    node: Node,
    done: impl Fn(Epoch) + Send + 'static,
) -> io::Result<SyncSender<Epoch>> {
    let (queue, epochs) = sync_channel::<Epoch>(1);
    std::thread::Builder::new().name("record".to_owned()).stack_size(256 * 1024).spawn(move || {
        while let Ok(mut epoch) = epochs.recv() {
            while let Some(state) = &state {
                if let Ok(newer) = epochs.try_recv() {
                    epoch = newer;
                }
                match save(state, &node, &epoch) {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::error!(%error, path = %path(state).display(), "the confirmed epoch cannot be recorded, so this node grants nothing: make room on the disk, or make the folder writable");
                        std::thread::sleep(RETRY);
                    }
                }
            }
            done(epoch);
        }
    })?;
    Ok(queue)
}

fn save(state: &Path, node: &str, epoch: &Epoch) -> io::Result<()> {
    let record = Record { node: node.to_owned(), number: epoch.number, members: epoch.members.clone() };
    source::write_whole(&path(state), |file| Ok(serde_json::to_writer(file, &record)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_was_recorded_is_there_after_a_restart_and_counts_for_this_node_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), "n1"), None);
        let (done, recorded) = channel();
        let queue = start(Some(dir.path().into()), "n1".into(), move |e| drop(done.send(e))).unwrap();
        let epoch = Epoch::new(3, ["n1", "n2", "n3"]);
        queue.send(epoch.clone()).unwrap();
        assert_eq!(recorded.recv().unwrap(), epoch);
        assert_eq!(load(dir.path(), "n1"), Some(epoch));
        assert_eq!(load(dir.path(), "n2"), None, "a copied disk");
        std::fs::write(path(dir.path()), "{").unwrap();
        assert_eq!(load(dir.path(), "n1"), None, "a damaged record is none");
    }

    #[test]
    fn an_epoch_is_confirmed_only_when_the_disk_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("later");
        let (done, recorded) = channel();
        let queue = start(Some(state.clone()), "n1".into(), move |e| drop(done.send(e))).unwrap();
        queue.send(Epoch::new(1, ["n1"])).unwrap();
        assert!(recorded.recv_timeout(Duration::from_millis(50)).is_err(), "the folder is not there yet");
        std::fs::create_dir(&state).unwrap();
        assert_eq!(recorded.recv().unwrap().number, 1);
        assert!(load(&state, "n1").is_some());
    }
}
