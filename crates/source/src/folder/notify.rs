//! Notices changes in a folder and in its sub-folder `status`: inotify, and a look every few seconds for file systems
//! that do not tell (NFS).

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// How often to look at everything.
const LOOK: Duration = Duration::from_secs(5);

/// Which files may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Any.
    Any,
    /// Those of these names, in either folder.
    Names(BTreeSet<String>),
}

pub(super) struct Notify {
    events: Option<AsyncFd<OwnedFd>>,
}

impl Notify {
    /// Starts to notice. Where that is impossible it only looks from time to time.
    pub fn new(dir: &Path) -> Notify {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that swap their descriptor; an OwnedFd does not"
        )]
        let open = || AsyncFd::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        let events = open()
            .inspect_err(|error| tracing::warn!("changes in {} are noticed late: inotify: {error}", dir.display()))
            .ok();
        let notify = Notify { events };
        notify.attach(dir);
        notify
    }

    /// Only whole files are told: not when one is made, but when its writer closed or renamed it. Once more, for folders that have come since; harmless for the others.
    fn attach(&self, dir: &Path) {
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::DELETE;
        if let Some(events) = &self.events {
            for dir in [dir, &dir.join("status")] {
                let _ = inotify::add_watch(events, dir, flags); // a missing folder is told of by who reads it
            }
        }
    }

    /// Waits for a change.
    pub async fn changed(&self, dir: &Path) -> Changed {
        let Some(events) = &self.events else {
            tokio::time::sleep(LOOK).await;
            return Changed::Any;
        };
        let Ok(ready) = tokio::time::timeout(LOOK, events.readable()).await else {
            self.attach(dir);
            return Changed::Any;
        };
        let Ok(mut ready) = ready else { return Changed::Any };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(events, &mut buffer);
        let mut names = BTreeSet::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => return Changed::Any,
                Ok(event) => names.extend(event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned)),
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    return Changed::Names(names);
                }
                Err(_) => return Changed::Any,
            }
        }
    }
}
