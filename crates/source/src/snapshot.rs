//! What was read last, kept on disk: a speaker starts from it when the API server cannot be reached.

use crate::types::Object;
use crate::whole::write_whole;
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Rises whenever an older oxelb could not read what a newer one wrote, or the other way round.
const VERSION: u32 = 2;

#[derive(Serialize)]
struct Saved<T: Serialize> {
    version: u32,
    objects: T,
}

/// Made one by one as they are written: there may be ten thousand.
struct OneByOne<I>(Cell<Option<I>>);

impl<I: IntoIterator<Item: Serialize>> Serialize for OneByOne<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Loaded {
    objects: Vec<Object>,
}

/// Why a snapshot was not saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be written or read. A missing file is of kind `NotFound`.
    #[error("the snapshot {path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not a snapshot.
    #[error("the snapshot {path} is damaged ({error}); remove it")]
    Damaged {
        /// Which file.
        path: String,
        /// Where it stops to make sense.
        error: serde_json::Error,
    },
    /// Another version of oxelb wrote it.
    #[error("the snapshot {path} is of version {version}, and this oxelb reads version {VERSION}; remove it")]
    Version {
        /// Which file.
        path: String,
        /// The version that it has.
        version: u32,
    },
}

/// Saves the objects so that, whenever the machine stops, either the old or the new snapshot is whole.
pub fn save(path: &Path, objects: impl IntoIterator<Item = Object>) -> Result<(), SnapshotError> {
    let saved = Saved { version: VERSION, objects: OneByOne(Cell::new(Some(objects))) };
    let written = write_whole(path, |file| Ok(serde_json::to_writer(file, &saved)?));
    written.map_err(|error| SnapshotError::Io { path: path.display().to_string(), error })
}

/// Loads what was saved last.
pub fn load(path: &Path) -> Result<Vec<Object>, SnapshotError> {
    let name = || path.display().to_string();
    let damaged = |error| SnapshotError::Damaged { path: name(), error };
    let open = || File::open(path).map(BufReader::new).map_err(|error| SnapshotError::Io { path: name(), error });
    let Version { version } = serde_json::from_reader(open()?).map_err(damaged)?;
    if version != VERSION {
        return Err(SnapshotError::Version { path: name(), version });
    }
    let loaded: Loaded = serde_json::from_reader(open()?).map_err(damaged)?;
    Ok(loaded.objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Namespace, Policy};
    use api::{Eip, EipSpec, EndpointSlice, Node, Service, ServiceKey, SliceKey, Speaker};

    fn objects() -> Vec<Object> {
        let service = Service {
            key: ServiceKey::new("n", "s"),
            wanted_addresses: vec![Ok("10.0.0.1".parse().unwrap()), Err("ten".into())],
            ..Service::default()
        };
        let slice_key = SliceKey::new("n", "s-1");
        vec![
            Object::Pool(Box::new(Eip::new("p", EipSpec { address: "10.0.0.0/24".into(), ..EipSpec::default() }))),
            Object::Service(service.into()),
            Object::Node(Node { name: "a".into(), addresses: vec!["fd00::1".parse().unwrap()], ..Node::default() }),
            Object::Slice(EndpointSlice {
                key: slice_key,
                service: ServiceKey::new("n", "s"),
                nodes: Default::default(),
            }),
            Object::Namespace(Namespace { name: "n".into(), labels: Default::default() }),
            Object::Speaker(Box::new(Speaker::new("a", Default::default()))),
            Object::Memberlist(vec![vec![1, 2, 255]]),
            Object::Ownership(Ok(api::Ownership { epoch: 1, ..Default::default() })),
            Object::Policy(Policy { name: "rules".into(), text: "[global]".into() }),
            Object::Passwords([("tor".to_owned(), "secret".to_owned())].into()),
        ]
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.json");
        assert!(
            matches!(load(&path), Err(SnapshotError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound)
        );
        save(&path, objects()).unwrap();
        save(&path, objects()).unwrap();
        assert_eq!(load(&path).unwrap(), objects());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "keys and passwords are in it");
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.json");
        save(&path, objects()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(load(&path), Err(SnapshotError::Damaged { .. })));
        std::fs::write(&path, r#"{"version":3,"things":[]}"#).unwrap();
        assert!(matches!(load(&path), Err(SnapshotError::Version { version: 3, .. })));
    }

    #[test]
    fn a_failed_save_leaves_the_last_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.json");
        save(&path, objects()).unwrap();
        std::fs::create_dir(path.with_extension("tmp")).unwrap(); // so that the temporary file cannot be made
        assert!(matches!(save(&path, Vec::<Object>::new()), Err(SnapshotError::Io { .. })));
        assert_eq!(load(&path).unwrap(), objects());
    }
}
