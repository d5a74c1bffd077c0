//! What a reader has been told, so that it is told only what is new: a key and a hash per object, never the object.

use crate::types::{Change, Object, ObjectRef};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

/// What has been told of one kind of objects.
#[derive(Debug, Default)]
pub(crate) struct Told {
    hashes: BTreeMap<ObjectRef, u64>,
    /// While everything is read anew: what has not come again yet.
    missing: Option<BTreeSet<ObjectRef>>,
}

impl Told {
    /// Everything is going to be read anew.
    pub fn begin(&mut self) {
        self.missing = Some(self.hashes.keys().cloned().collect());
    }

    /// The change that makes the reader know the object, if it does not yet.
    pub fn apply(&mut self, object: Object) -> Option<Change> {
        let key = object.reference();
        if let Some(missing) = &mut self.missing {
            missing.remove(&key);
        }
        let hash = hash(&object);
        (self.hashes.insert(key, hash) != Some(hash)).then_some(Change::Apply(object))
    }

    /// The change that makes the reader forget the object, if it knows it.
    pub fn delete(&mut self, key: ObjectRef) -> Option<Change> {
        if let Some(missing) = &mut self.missing {
            missing.remove(&key);
        }
        self.hashes.remove(&key).map(|_| Change::Delete(key))
    }

    /// Everything has been read: what did not come again is gone.
    pub fn listed(&mut self) -> Vec<Change> {
        let missing = self.missing.take().unwrap_or_default();
        missing.into_iter().filter_map(|key| self.delete(key)).collect()
    }
}

/// The same for objects that say the same.
pub(crate) fn hash(value: &impl serde::Serialize) -> u64 {
    struct Sink(DefaultHasher);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    // Only maps with keys that are not text fail, and the API types have none.
    let _ = serde_json::to_writer(&mut sink, value);
    sink.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Namespace;

    fn namespace(name: &str, label: &str) -> Object {
        Object::Namespace(Namespace { name: name.into(), labels: [("l".to_owned(), label.to_owned())].into() })
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        let mut told = Told::default();
        assert!(told.apply(namespace("a", "1")).is_some());
        assert_eq!(told.apply(namespace("a", "1")), None);
        assert!(told.apply(namespace("a", "2")).is_some());
        assert!(told.delete(ObjectRef::Namespace("a".into())).is_some());
        assert_eq!(told.delete(ObjectRef::Namespace("a".into())), None);
    }

    #[test]
    fn what_is_not_listed_again_is_gone() {
        let mut told = Told::default();
        for name in ["a", "b", "c"] {
            told.apply(namespace(name, "1"));
        }
        told.begin();
        assert_eq!(told.apply(namespace("b", "1")), None);
        assert!(told.delete(ObjectRef::Namespace("c".into())).is_some());
        assert_eq!(told.listed(), [Change::Delete(ObjectRef::Namespace("a".into()))]);
        assert_eq!(told.listed(), []);
    }
}
