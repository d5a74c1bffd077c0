//! What the folder says at the moment: every manifest and every status file, read once and again when it changed.

use super::manifest::{Manifest, Parsed, parse};
use super::notify::Changed;
use super::status::{self, Status, write_file};
use crate::types::{Object, ObjectRef};
use api::Scope;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that is gone counts as gone after this time only: editors save by removing and renaming.
const GONE: Duration = Duration::from_millis(200);
/// A file that changed without a notice is read when it has not been written to for this time: it may be half written.
const SETTLED: Duration = Duration::from_millis(500);

/// Tells whether a file has changed since it was read.
type Stamp = (u64, i64, i64, u64);

#[derive(Default)]
struct Source {
    stamp: Option<Stamp>,
    objects: BTreeSet<ObjectRef>,
    foreign: BTreeSet<String>,
    /// What is wrong with the file now.
    trouble: Option<String>,
    /// Nothing good is known of it: it was broken when it was seen first.
    unknown: bool,
    gone: Option<Instant>,
}

pub(super) struct View {
    dir: PathBuf,
    sources: BTreeMap<String, Source>,
    /// Each object by the files that have it; the first counts.
    manifests: BTreeMap<ObjectRef, BTreeMap<String, Manifest>>,
    clashes: BTreeSet<ObjectRef>,
    statuses: BTreeMap<ObjectRef, (Stamp, Status)>,
    status_troubles: BTreeMap<String, String>,
    /// What each reader has not seen yet.
    readers: BTreeMap<u64, BTreeSet<ObjectRef>>,
    reader: u64,
    /// Objects whose manifests went away, and whose status files may go.
    vanished: BTreeSet<ObjectRef>,
    /// What `status/broken.txt` says.
    broken: String,
}

impl View {
    pub fn new(dir: PathBuf) -> View {
        View {
            dir,
            sources: BTreeMap::new(),
            manifests: BTreeMap::new(),
            clashes: BTreeSet::new(),
            statuses: BTreeMap::new(),
            status_troubles: BTreeMap::new(),
            readers: BTreeMap::new(),
            reader: 0,
            vanished: BTreeSet::new(),
            broken: String::new(),
        }
    }

    /// A new reader, who has seen nothing yet.
    pub fn join(&mut self) -> u64 {
        self.reader += 1;
        self.readers.insert(self.reader, self.manifests.keys().chain(self.statuses.keys()).cloned().collect());
        self.reader
    }

    pub fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    pub fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    /// What changed since the reader asked last.
    pub fn changes(&mut self, reader: u64) -> BTreeSet<ObjectRef> {
        self.readers.get_mut(&reader).map(std::mem::take).unwrap_or_default()
    }

    /// Shows all EndpointSlices to the reader again.
    pub fn again(&mut self, reader: u64) {
        let slices = self.manifests.keys().filter(|r| matches!(r, ObjectRef::Slice(_))).cloned();
        if let Some(touched) = self.readers.get_mut(&reader) {
            touched.extend(slices);
        }
    }

    pub fn object(&self, reference: &ObjectRef, scope: Scope) -> Option<Object> {
        status::object(reference, self.manifest(reference), self.status(reference), scope)
    }

    pub fn manifest(&self, reference: &ObjectRef) -> Option<&Manifest> {
        self.manifests.get(reference)?.values().next()
    }

    pub fn status(&self, reference: &ObjectRef) -> Option<&Status> {
        self.statuses.get(reference).map(|(_, status)| status)
    }

    /// What is wrong, by file.
    pub fn troubles(&self) -> BTreeMap<String, String> {
        let mut troubles = self.status_troubles.clone();
        for reference in &self.clashes {
            let mut files = self.manifests.get(reference).into_iter().flat_map(BTreeMap::keys);
            let Some(first) = files.next() else { continue };
            for file in files {
                let text = troubles.entry(file.clone()).or_default();
                *text = format!(
                    "{text}{}{reference} is in {first} too, which counts",
                    if text.is_empty() { "" } else { "; " }
                );
            }
        }
        for (file, source) in &self.sources {
            troubles.extend(source.trouble.clone().map(|trouble| (file.clone(), trouble)));
        }
        troubles
    }

    /// When to look again although nothing changes.
    pub fn due(&self) -> Option<Instant> {
        self.sources.values().filter_map(|source| source.gone).min().map(|gone| gone + GONE)
    }

    /// Reads what changed. Fails when the folder cannot be read; then everything stays as it was.
    pub fn refresh(&mut self, changed: &Changed) -> io::Result<()> {
        let first = self.sources.is_empty();
        match changed {
            Changed::Any => {
                let mut names = file_names(&self.dir)?;
                names.extend(self.sources.keys().cloned());
                for name in names {
                    self.look(&name, first);
                }
                let mut names = file_names(&self.dir.join("status")).unwrap_or_default();
                names.extend(self.statuses.keys().filter_map(status::file_name));
                for name in names {
                    self.look_status(&name);
                }
            }
            Changed::Names(names) => {
                for name in names {
                    self.look(name, true);
                    self.look_status(name);
                }
                let gone: Vec<String> =
                    self.sources.iter().filter(|(_, s)| s.gone.is_some()).map(|(name, _)| name.clone()).collect();
                for name in gone {
                    self.look(&name, true);
                }
            }
        }
        if *changed == Changed::Any && !first {
            self.vanished.extend(self.statuses.keys().cloned());
        }
        Ok(())
    }

    /// Removes the status files of objects that are gone, and says what is broken. Not every process may write there,
    /// and one is enough.
    pub fn tidy(&mut self) {
        for reference in std::mem::take(&mut self.vanished) {
            let of_manifest = matches!(
                reference,
                ObjectRef::Service(_) | ObjectRef::Pool(_) | ObjectRef::BgpConf(_) | ObjectRef::BgpPeer(_)
            );
            // A broken file of which nothing is known may hold any object.
            if of_manifest && self.manifest(&reference).is_none() && !self.sources.values().any(|s| s.unknown) {
                if let Some(name) = status::file_name(&reference) {
                    let _ = std::fs::remove_file(self.dir.join("status").join(name));
                }
                self.statuses.remove(&reference);
            }
        }
        let broken: String = self.troubles().iter().map(|(file, trouble)| format!("{file}: {trouble}\n")).collect();
        if broken != self.broken {
            let path = self.dir.join("status").join("broken.txt");
            let _ = if broken.is_empty() { std::fs::remove_file(path) } else { write_file(&path, &broken, false) };
            self.broken = broken;
        }
    }

    /// Looks at one manifest. `whole`: its writer has finished.
    fn look(&mut self, name: &str, whole: bool) {
        if !is_manifest(name) {
            return;
        }
        let path = self.dir.join(name);
        let Ok(metadata) = std::fs::metadata(&path) else { return self.look_gone(name) };
        let source = self.sources.entry(name.to_owned()).or_default();
        source.gone = None;
        let stamp = stamp(&metadata);
        let unsettled = || metadata.modified().is_ok_and(|at| at.elapsed().unwrap_or_default() < SETTLED);
        if source.stamp == Some(stamp) || (!whole && unsettled()) {
            return;
        }
        source.stamp = Some(stamp);
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match read.and_then(|text| parse(&text).map(|parsed| (text, parsed))) {
            Ok((text, parsed)) => {
                self.take(name, parsed);
                let copy = self.copy(name);
                if std::fs::read_to_string(&copy).ok().as_deref() != Some(&*text) {
                    let _ = copy.parent().map(std::fs::create_dir_all);
                    let _ = write_file(&copy, &text, false);
                }
            }
            Err(trouble) => self.keep(name, trouble),
        }
    }

    fn look_gone(&mut self, name: &str) {
        let Some(source) = self.sources.get_mut(name) else { return };
        let gone = *source.gone.get_or_insert_with(Instant::now);
        if gone.elapsed() >= GONE {
            self.take(name, Parsed::default());
            self.sources.remove(name);
            let _ = std::fs::remove_file(self.copy(name));
        }
    }

    /// The last good version of a file, kept for processes that start while it is broken.
    fn copy(&self, name: &str) -> PathBuf {
        self.dir.join("status").join("last-good").join(name)
    }

    /// The file says something new.
    fn take(&mut self, name: &str, parsed: Parsed) {
        let source = self.sources.entry(name.to_owned()).or_default();
        source.trouble = None;
        source.unknown = false;
        for kind in parsed.foreign.difference(&source.foreign) {
            tracing::info!("{name}: {kind} is ignored, oxelb does not read it");
        }
        source.foreign = parsed.foreign;
        let objects = parsed.objects.keys().cloned().collect();
        let before = std::mem::replace(&mut source.objects, objects);
        for gone in before.iter().filter(|r| !parsed.objects.contains_key(*r)) {
            if let Some(files) = self.manifests.get_mut(gone) {
                files.remove(name);
                if files.is_empty() {
                    self.manifests.remove(gone);
                    self.vanished.insert(gone.clone());
                }
            }
            self.touch(gone);
        }
        for (reference, manifest) in parsed.objects {
            let files = self.manifests.entry(reference.clone()).or_default();
            if files.get(name) != Some(&manifest) {
                files.insert(name.to_owned(), manifest);
                self.touch(&reference);
            }
        }
    }

    /// The file cannot be understood: what it said last stays.
    fn keep(&mut self, name: &str, trouble: String) {
        let first = self.sources.get(name).is_none_or(|s| s.objects.is_empty() && s.trouble.is_none());
        if first {
            let good = std::fs::read_to_string(self.copy(name)).ok().and_then(|text| parse(&text).ok());
            let unknown = good.is_none();
            if let Some(good) = good {
                self.take(name, good);
            }
            self.sources.entry(name.to_owned()).or_default().unknown = unknown;
        }
        self.sources.entry(name.to_owned()).or_default().trouble = Some(trouble);
    }

    /// Looks at one status file.
    pub fn look_status(&mut self, name: &str) {
        let Some(reference) = status::reference(name) else { return };
        let path = self.dir.join("status").join(name);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound && self.statuses.remove(&reference).is_some() {
                    self.touch(&reference);
                }
                self.status_troubles.remove(&format!("status/{name}"));
                return;
            }
        };
        let stamp = stamp(&metadata);
        if self.statuses.get(&reference).is_some_and(|(before, _)| *before == stamp) {
            return;
        }
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match read.and_then(|text| status::parse(&reference, &text)) {
            Ok(status) => {
                self.status_troubles.remove(&format!("status/{name}"));
                self.set_status(&reference, stamp, status);
            }
            Err(trouble) => {
                self.status_troubles.insert(format!("status/{name}"), trouble);
            }
        }
    }

    fn set_status(&mut self, reference: &ObjectRef, stamp: Stamp, status: Status) {
        let before = self.statuses.insert(reference.clone(), (stamp, status));
        if before.map(|(_, status)| status).as_ref() != self.status(reference) {
            self.touch(reference);
        }
    }

    fn touch(&mut self, reference: &ObjectRef) {
        match self.manifests.get(reference) {
            Some(files) if files.len() > 1 => self.clashes.insert(reference.clone()),
            _ => self.clashes.remove(reference),
        };
        for touched in self.readers.values_mut() {
            touched.insert(reference.clone());
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    !name.starts_with('.') && matches!(ending, Some("yaml" | "yml" | "json"))
}

fn file_names(dir: &Path) -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}
