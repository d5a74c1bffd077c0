//! All objects of one kind, and then every change of them, for ever.
//!
//! ```text
//!            ┌────────────────────────── 410, or the server forgot ─────────┐
//!            ▼                                                              │
//!   Start ──► Streaming ──(end of the initial events)──► Watching ──(end)──► Resume
//!     │                                                     ▲                  │
//!     └─(server cannot stream)─► Paging ──(last page)───────┴──────────────────┘
//! ```
//!
//! Not `kube::runtime::watcher`: its streamed lists may come from a stale cache (`resourceVersion=0`), and an
//! allocation must not rest on that.

use super::connect::text;
use futures::stream::{BoxStream, Stream, StreamExt};
use kube::api::{ListParams, ObjectList, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::timeout;

/// What can be watched: an API type.
pub(super) trait Kind: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static {}
impl<K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static> Kind for K {}

/// What happens next.
#[derive(Debug)]
pub(super) enum Step<K> {
    /// Everything is read anew from here on.
    Begin,
    /// An object is there.
    Apply(K),
    /// It went away.
    Delete(K),
    /// Everything that there is has come since [`Step::Begin`].
    Listed,
    /// A request failed, for this reason; it is tried again.
    Failed(String),
    /// Requests succeed again.
    Resumed,
}

/// Objects in one page of a list: many more cost memory, many fewer cost requests.
const PAGE: u32 = 250;
/// The server ends a watch after this time (it is resumed), so that load spreads anew over several servers.
const WATCH: u32 = 290;
/// An answer that did not begin after this time does not come any more.
const ANSWER: Duration = Duration::from_secs(10);
/// Shortest and longest pause before a failed request is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A resumption that was answered by that many errors in a row is given up for a new list.
const PATIENCE: u32 = 5;

enum State<K> {
    Start,
    Streaming(BoxStream<'static, kube::Result<WatchEvent<K>>>),
    Paging { next: Option<String>, objects: VecDeque<K>, version: Option<String> },
    Resume(String),
    Watching(String, BoxStream<'static, kube::Result<WatchEvent<K>>>),
}

struct Watcher<K> {
    client: Client,
    request: Request,
    fields: Option<String>,
    state: State<K>,
    /// The server takes watches that start with a list.
    streams: bool,
    pause: Duration,
    /// Errors in a row that the server itself answered.
    refused: u32,
    failing: bool,
}

/// Watches the objects at `path`, only those with this value of a field where one is given. Tries for ever.
pub(super) fn watch<K: Kind>(
    client: Client,
    path: String,
    fields: Option<String>,
) -> impl Stream<Item = Step<K>> + Send {
    let request = Request::new(path);
    let (state, pause) = (State::Start, PAUSE.0);
    let watcher = Watcher { client, request, fields, state, streams: true, pause, refused: 0, failing: false };
    futures::stream::unfold(watcher, |mut watcher| async {
        loop {
            if let Some(step) = watcher.step().await {
                return Some((step, watcher));
            }
        }
    })
}

impl<K: Kind> Watcher<K> {
    async fn step(&mut self) -> Option<Step<K>> {
        if self.failing && !matches!(self.state, State::Start | State::Resume(_)) {
            self.failing = false;
            return Some(Step::Resumed);
        }
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => self.start().await,
            State::Streaming(events) => self.streaming(events).await,
            State::Paging { next, objects, version } => self.paging(next, objects, version).await,
            State::Resume(version) => self.resume(version).await,
            State::Watching(version, events) => self.watching(version, events).await,
        }
    }

    async fn start(&mut self) -> Option<Step<K>> {
        if !self.streams {
            // The first page is fetched here, so that `Begin` says that the server answers.
            return match self.page(None).await {
                Ok((next, objects, version)) => {
                    self.state = State::Paging { next, objects, version };
                    Some(Step::Begin)
                }
                Err(error) => Some(self.failed(error).await),
            };
        }
        // No resource version: the list is at least as new as this request.
        match self.events("", true).await {
            Ok(events) => {
                self.state = State::Streaming(events);
                Some(Step::Begin)
            }
            Err(Failure::Api(400 | 405 | 415 | 422, _)) => {
                self.streams = false;
                None
            }
            Err(error) => Some(self.failed(error).await),
        }
    }

    async fn streaming(&mut self, mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>) -> Option<Step<K>> {
        let Ok(event) = timeout(ANSWER, events.next()).await else {
            // Old versions of etcd cannot tell the server how new its cache is.
            self.streams = false;
            return None;
        };
        let step = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => Some(Step::Apply(object)),
            Some(Ok(WatchEvent::Deleted(object))) => Some(Step::Delete(object)),
            Some(Ok(WatchEvent::Bookmark(mark)))
                if mark.metadata.annotations.contains_key("k8s.io/initial-events-end") =>
            {
                self.state = State::Watching(mark.metadata.resource_version, events);
                self.answered();
                return Some(Step::Listed);
            }
            Some(Ok(WatchEvent::Bookmark(_))) => None,
            Some(Ok(WatchEvent::Error(status))) => return Some(self.failed(Failure::from(*status)).await),
            Some(Err(error)) => return Some(self.failed(Failure::from(error)).await),
            None => return Some(self.failed(Failure::Other("the answer ended too early".to_owned())).await),
        };
        self.state = State::Streaming(events);
        step
    }

    async fn paging(
        &mut self,
        next: Option<String>,
        mut objects: VecDeque<K>,
        version: Option<String>,
    ) -> Option<Step<K>> {
        if let Some(object) = objects.pop_front() {
            self.state = State::Paging { next, objects, version };
            return Some(Step::Apply(object));
        }
        if next.is_none()
            && let Some(version) = version
        {
            self.answered();
            self.state = State::Resume(version);
            return Some(Step::Listed);
        }
        match self.page(next).await {
            Ok((next, objects, version)) => {
                self.state = State::Paging { next, objects, version };
                None
            }
            Err(error) => Some(self.failed(error).await),
        }
    }

    async fn resume(&mut self, version: String) -> Option<Step<K>> {
        match self.events(&version, false).await {
            Ok(events) => {
                self.state = State::Watching(version, events);
                None
            }
            Err(Failure::Api(410, _)) => None,
            Err(error) => {
                // A server that lost its memory (an etcd restored from a backup) refuses versions of the future.
                self.refused = if matches!(error, Failure::Api(..)) { self.refused + 1 } else { 0 };
                if self.refused < PATIENCE {
                    self.state = State::Resume(version);
                }
                Some(self.failed(error).await)
            }
        }
    }

    async fn watching(
        &mut self,
        mut version: String,
        mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    ) -> Option<Step<K>> {
        let Ok(event) = timeout(Duration::from_secs(u64::from(WATCH) + 5), events.next()).await else {
            self.state = State::Resume(version);
            return None;
        };
        let step = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => Step::Apply(object),
            Some(Ok(WatchEvent::Deleted(object))) => Step::Delete(object),
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                self.answered();
                self.state = State::Watching(mark.metadata.resource_version, events);
                return None;
            }
            Some(Ok(WatchEvent::Error(status))) if status.code == 410 => return None,
            Some(Ok(WatchEvent::Error(status))) => {
                self.state = State::Resume(version);
                return Some(self.failed(Failure::from(*status)).await);
            }
            Some(Err(error)) => {
                self.state = State::Resume(version);
                return Some(self.failed(Failure::from(error)).await);
            }
            None => {
                // Not at once, in case the server ends every watch as soon as it began.
                tokio::time::sleep(PAUSE.0.mul_f64(fastrand::f64())).await;
                self.state = State::Resume(version);
                return None;
            }
        };
        self.answered();
        if let Step::Apply(object) | Step::Delete(object) = &step
            && let Some(newer) = object.resource_version()
        {
            version = newer;
        }
        self.state = State::Watching(version, events);
        Some(step)
    }

    async fn events(
        &mut self,
        version: &str,
        list: bool,
    ) -> Result<BoxStream<'static, kube::Result<WatchEvent<K>>>, Failure> {
        let params = WatchParams {
            label_selector: None,
            field_selector: self.fields.clone(),
            timeout: Some(WATCH),
            bookmarks: true,
            send_initial_events: list,
        };
        let request = self.request.watch(&params, version).map_err(|e| Failure::Other(e.to_string()))?;
        let events =
            timeout(ANSWER, self.client.request_events::<K>(request)).await.map_err(|_| Failure::silence())??;
        Ok(events.boxed())
    }

    async fn page(&mut self, next: Option<String>) -> Result<(Option<String>, VecDeque<K>, Option<String>), Failure> {
        let params = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: next,
            ..ListParams::default()
        };
        let list: ObjectList<K> = list(&self.client, &self.request, &params).await?;
        let some = |text: Option<String>| text.filter(|t| !t.is_empty());
        let (next, version) = (some(list.metadata.continue_), some(list.metadata.resource_version));
        if next.is_none() && version.is_none() {
            return Err(Failure::Other("the list has no version".to_owned()));
        }
        Ok((next, list.items.into(), version))
    }

    /// Pauses, longer each time.
    async fn failed(&mut self, failure: Failure) -> Step<K> {
        if !matches!(failure, Failure::Api(..)) {
            self.refused = 0;
        }
        let reason = failure.reason(&self.request.url_path);
        // The reader hears of it before the pause, which is made when it asks for the next step.
        if self.failing {
            tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        self.failing = true;
        Step::Failed(reason)
    }

    fn answered(&mut self) {
        self.pause = PAUSE.0;
        self.refused = 0;
    }
}

/// One list request.
pub(super) async fn list<K: Kind>(
    client: &Client,
    request: &Request,
    params: &ListParams,
) -> Result<ObjectList<K>, Failure> {
    let request = request.list(params).map_err(|e| Failure::Other(e.to_string()))?;
    Ok(timeout(ANSWER, client.request(request)).await.map_err(|_| Failure::silence())??)
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said so: its code and message.
    Api(u16, String),
    /// There was no answer, or none that can be understood.
    Other(String),
}

impl Failure {
    fn silence() -> Failure {
        Failure::Other(format!("no answer within {} s", ANSWER.as_secs()))
    }

    /// In plain words, with what to do.
    pub fn reason(&self, path: &str) -> String {
        let what = path.rsplit('/').next().unwrap_or(path);
        match self {
            Failure::Api(404, _) if path.starts_with("/apis/") => {
                format!("the API server does not know {what}: apply deploy/openelb.yaml, which has their CRD")
            }
            Failure::Api(401, message) => format!("the API server does not accept our credentials: {message}"),
            Failure::Api(403, message) => {
                format!("we may not read {what}: apply deploy/openelb.yaml, which has the ClusterRole ({message})")
            }
            Failure::Api(code, message) => format!("the API server cannot give {what}: {message} ({code})"),
            Failure::Other(message) => format!("the API server cannot be reached: {message}"),
        }
    }
}

impl From<kube::core::Status> for Failure {
    fn from(status: kube::core::Status) -> Failure {
        Failure::Api(status.code, status.message)
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => Failure::from(*status),
            error => Failure::Other(text(&error)),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
