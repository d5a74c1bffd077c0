//! A folder of manifests as a source. Any number of processes share it: one file per object in its sub-folder
//! `status` is how they see each other's writes.
//!
//! ```text
//! DIR/*.yaml, *.yml, *.json        what users write
//! DIR/status/KIND.NAMESPACE.NAME.yaml   what oxelb says of it
//! DIR/status/broken.txt            which files cannot be understood, and why
//! DIR/status/last-good/            for the start while one of them is broken
//! ```

mod manifest;
mod notify;
mod status;
mod view;

use crate::changes::Told;
use crate::types::{Event, Interest, Object, ObjectRef, Write, WriteError};
use crate::{OpenError, QUEUE};
use api::ServiceKey;
use notify::{Changed, Notify};
use rustix::fs::{FlockOperation, flock};
use status::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use view::View;

/// A folder of manifests.
#[derive(Clone)]
pub struct Folder {
    dir: PathBuf,
    view: Arc<Mutex<View>>,
    /// Rises whenever the view changed, so that every reader looks.
    news: Arc<watch::Sender<u64>>,
}

impl Folder {
    pub(crate) fn open(dir: PathBuf) -> Result<Folder, OpenError> {
        std::fs::read_dir(&dir).map_err(|error| OpenError::Folder { path: dir.clone(), error })?;
        let view = Arc::new(Mutex::new(View::new(dir.clone())));
        Ok(Folder { dir, view, news: Arc::new(watch::Sender::new(0)) })
    }

    pub(crate) fn watch(
        &self,
        interest: Interest,
        needs: watch::Receiver<BTreeSet<ServiceKey>>,
    ) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(QUEUE);
        let folder = self.clone();
        tokio::spawn(async move {
            let closed = events.clone();
            let number = folder.view().join();
            let reader = Reader {
                told: Told::default(),
                troubles: BTreeMap::new(),
                needed: BTreeSet::new(),
                folder: folder.clone(),
                number,
                interest,
                events,
            };
            tokio::select! {
                () = closed.closed() => {}
                _ = reader.run(needs) => {}
            }
            folder.view().leave(number);
        });
        receiver
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, write: Write) -> Result<Option<String>, WriteError> {
        match write {
            Write::Service(patch) => self.change(&ObjectRef::Service(patch.key.clone()), |view, reference| {
                let (manifest, status) = (view.manifest(reference).ok_or(WriteError::Gone)?, view.status(reference));
                if status::version(manifest, status) != patch.resource_version {
                    return Err(WriteError::Conflict);
                }
                status::patched(manifest, status, &patch).map(Some).map_err(WriteError::Refused)
            }),
            Write::PoolStatus { name, mut status } => self.change(&ObjectRef::Pool(name), |view, reference| {
                view.manifest(reference).ok_or(WriteError::Gone)?;
                status.conditions = crate::cluster::stamp(status.conditions);
                Ok(Some(Status::Pool(*status)))
            }),
            Write::Speaker { node, mut status } => self.change(&ObjectRef::Speaker(node), |_, _| {
                status.conditions = crate::cluster::stamp(status.conditions);
                Ok(Some(Status::Speaker(*status)))
            }),
            Write::SpeakerAlive { node, condition } => {
                self.change(&ObjectRef::Speaker(node), |view, reference| match view.status(reference) {
                    Some(Status::Speaker(known)) => {
                        let conditions = crate::cluster::stamp(vec![*condition]);
                        Ok(Some(Status::Speaker(api::SpeakerStatus { conditions, ..known.clone() })))
                    }
                    _ => Err(WriteError::Gone),
                })
            }
            Write::SpeakerGone { node } => self.forget(&ObjectRef::Speaker(node)),
            Write::Memberlist { key } => self.change(&ObjectRef::Memberlist, |view, reference| {
                let there = view.manifest(reference).is_some() || view.status(reference).is_some();
                Ok((!there).then_some(Status::Memberlist(key)))
            }),
            Write::Ownership { read, write } => self.change(&ObjectRef::Ownership, |view, reference| {
                let there = match view.object(reference, api::Scope::default()) {
                    Some(Object::Ownership(Ok(there))) => Some(there),
                    _ => None,
                };
                if there.as_ref() != read.as_deref() {
                    return Err(WriteError::Conflict);
                }
                Ok(Some(Status::Ownership(*write)))
            }),
            Write::BgpEntryGone { of: ObjectRef::BgpConf(_), node } => {
                self.write(Write::BgpConfStatus { node, status: None })
            }
            Write::BgpEntryGone { of: ObjectRef::BgpPeer(peer), node } => {
                self.write(Write::BgpPeerStatus { peer, node, status: None })
            }
            Write::BgpEntryGone { .. } => Ok(None),
            Write::BgpConfStatus { node, status } => {
                self.change(&ObjectRef::BgpConf(api::keys::BGP_CONF.to_owned()), |view, reference| {
                    view.manifest(reference).ok_or(WriteError::Gone)?;
                    let known = view.status(reference);
                    let mut new =
                        if let Some(Status::BgpConf(known)) = known { known.clone() } else { Default::default() };
                    set(&mut new.nodes_conf_status, node, status);
                    Ok(Some(Status::BgpConf(new)))
                })
            }
            Write::BgpPeerStatus { peer, node, status } => self.change(&ObjectRef::BgpPeer(peer), |view, reference| {
                view.manifest(reference).ok_or(WriteError::Gone)?;
                let known = view.status(reference);
                let mut new = if let Some(Status::BgpPeer(known)) = known { known.clone() } else { Default::default() };
                set(&mut new.nodes_peer_status, node, status);
                Ok(Some(Status::BgpPeer(new)))
            }),
            // Finalizers have no meaning here.
            Write::Finalizer { .. } => Ok(None),
            Write::Event { about, component, warning, reason, message, .. } => {
                if warning {
                    tracing::warn!("{about}: {reason}: {message} ({component})");
                } else {
                    tracing::info!("{about}: {reason}: {message} ({component})");
                }
                Ok(None)
            }
        }
    }

    /// Replaces the status of an object by what `decide` makes of the present one; `None` leaves it. No other process
    /// writes meanwhile.
    fn change(
        &self,
        reference: &ObjectRef,
        decide: impl FnOnce(&View, &ObjectRef) -> Result<Option<Status>, WriteError>,
    ) -> Result<Option<String>, WriteError> {
        let Some(name) = status::file_name(reference) else {
            return Err(WriteError::Refused(format!("{reference} has no status in a folder")));
        };
        let _lock = self.lock()?;
        let mut view = self.view();
        if !view.is_read() {
            view.refresh(&Changed::Any).map_err(failed)?;
        }
        view.look_status(&name);
        if let Some(status) = decide(&view, reference)? {
            let text = status::text(reference, &status).map_err(WriteError::Refused)?;
            let secret = *reference == ObjectRef::Memberlist;
            status::write_file(&self.dir.join("status").join(&name), &text, secret).map_err(failed)?;
            view.look_status(&name);
        }
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        Ok(view.manifest(reference).map(|manifest| status::version(manifest, view.status(reference))))
    }

    /// Removes a status file.
    fn forget(&self, reference: &ObjectRef) -> Result<Option<String>, WriteError> {
        let Some(name) = status::file_name(reference) else { return Ok(None) };
        let _lock = self.lock()?;
        match std::fs::remove_file(self.dir.join("status").join(&name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        self.view().look_status(&name);
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        Ok(None)
    }

    /// Keeps other processes from writing as long as the file is open.
    fn lock(&self) -> Result<File, WriteError> {
        let folder = self.dir.join("status");
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::options().append(true).create(true).open(folder.join(".lock")).map_err(failed)?;
        for _ in 0..100 {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(failed(error.into())),
            }
        }
        Err(WriteError::Unavailable(format!("another process holds {}", folder.join(".lock").display())))
    }
}

/// A node's own entry, which is gone when it says nothing.
fn set<T>(entries: &mut BTreeMap<String, T>, node: String, entry: Option<Box<T>>) {
    match entry {
        Some(entry) => drop(entries.insert(node, *entry)),
        None => drop(entries.remove(&node)),
    }
}

fn failed(error: std::io::Error) -> WriteError {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            WriteError::Refused(format!("the folder's status cannot be written: {error}"))
        }
        _ => WriteError::Unavailable(format!("the folder's status cannot be written: {error}")),
    }
}

/// The reader is gone.
struct Closed;

struct Reader {
    folder: Folder,
    number: u64,
    interest: Interest,
    events: mpsc::Sender<Event>,
    told: Told,
    troubles: BTreeMap<String, String>,
    needed: BTreeSet<ServiceKey>,
}

impl Reader {
    async fn run(mut self, mut needs: watch::Receiver<BTreeSet<ServiceKey>>) -> Result<(), Closed> {
        let (dir, mut news) = (self.folder.dir.clone(), self.folder.news.subscribe());
        let _ = std::fs::create_dir_all(dir.join("status")); // not every process may, and then another does
        let notify = Notify::new(&dir);
        self.needed = needs.borrow_and_update().clone();
        let (mut changed, mut reachable, mut synced, mut added) = (Changed::Any, None, false, self.needed.clone());
        loop {
            let refreshed = {
                let mut view = self.folder.view();
                let refreshed = view.refresh(&changed);
                if synced && refreshed.is_ok() {
                    view.tidy();
                }
                refreshed
            };
            self.tell(&added).await?;
            if refreshed.is_ok() && !synced {
                synced = true;
                self.send(Event::Synced).await?;
            }
            let now = refreshed.map_err(|e| format!("the folder {} cannot be read: {e}; make it again", dir.display()));
            if reachable.as_ref() != Some(&now) {
                reachable = Some(now.clone());
                self.send(Event::Reachable(now)).await?;
            }
            let due = self.folder.view().due();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            added = BTreeSet::new();
            changed = tokio::select! {
                changed = notify.changed(&dir) => changed,
                _ = news.changed() => Changed::Names(BTreeSet::new()),
                () = wait => Changed::Names(BTreeSet::new()),
                Ok(()) = needs.changed() => {
                    let needed = needs.borrow_and_update().clone();
                    added = needed.difference(&self.needed).cloned().collect();
                    self.needed = needed;
                    self.folder.view().again(self.number);
                    Changed::Names(BTreeSet::new())
                }
            };
        }
    }

    /// Tells the reader what is new.
    async fn tell(&mut self, added: &BTreeSet<ServiceKey>) -> Result<(), Closed> {
        let touched = self.folder.view().changes(self.number);
        for reference in touched {
            let object = self.folder.view().object(&reference, self.interest.scope).filter(|o| self.wants(o));
            let change = match object {
                Some(object) => self.told.apply(object),
                None => self.told.delete(reference),
            };
            if let Some(change) = change {
                self.send(Event::Change(change)).await?;
            }
        }
        for service in added {
            self.send(Event::SlicesRead(service.clone())).await?;
        }
        let troubles = self.folder.view().troubles();
        let before = std::mem::replace(&mut self.troubles, troubles.clone());
        for file in before.keys().filter(|file| !troubles.contains_key(*file)) {
            tracing::info!("{file}: is good again, or gone");
            self.send(Event::Broken { file: file.clone(), message: None }).await?;
        }
        for (file, message) in troubles.into_iter().filter(|(file, message)| before.get(file) != Some(message)) {
            tracing::warn!("{file}: {message}; what it said last well stays");
            self.send(Event::Broken { file, message: Some(message) }).await?;
        }
        Ok(())
    }

    fn wants(&self, object: &Object) -> bool {
        match object {
            Object::Pool(_) | Object::Service(_) => true,
            Object::Node(_) => self.interest.nodes,
            Object::Slice(slice) => self.interest.slices && self.needed.contains(&slice.service),
            Object::Namespace(_) => self.interest.namespaces,
            Object::Speaker(_) => self.interest.speakers,
            Object::Memberlist(_) => self.interest.memberlist,
            Object::Ownership(_) => self.interest.ownership,
            Object::BgpConf(_) | Object::BgpPeer(_) => self.interest.bgp,
            Object::Policy(_) | Object::Passwords(_) => self.interest.policies,
        }
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}
