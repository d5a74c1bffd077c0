//! BGP on this node: the agent's side, and the thread that talks to routers.
//!
//! ```text
//!  World, Plan ──► plan::bgp ──► Intent ──(Command, bounded)──► thread ──► routers
//!  BgpPeer.status, BgpConf.status, Speaker, metrics, gobgp ◄──(Facts, latest)── thread
//! ```
//!
//! Nothing runs and nothing is kept before there is a router to talk to.

mod control;
mod facts;
mod intent;
mod link;
mod liveness;
mod metrics;
mod status;
#[cfg(test)]
mod tests;
mod thread;

pub use control::ask;
pub(crate) use control::serve;
pub(crate) use facts::Facts;
pub(crate) use metrics::register;

use crate::orders::Orders;
use api::speaker::{BgpSummary, Warning};
use bgp::policy::Policy;
use intent::{Command, Filter, Intent};
use plan::{BgpNote, BgpPlan, Plan, Speaks, World};
use source::{Store, Write, WriteError};
use status::{Said, SessionSaid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long an order waits for which the thread had no room.
const BUSY: Duration = Duration::from_millis(100);
/// How long changes are gathered before status is written.
const GATHER: Duration = Duration::from_millis(500);
/// How long a lost write waits, and a refused one ten times.
const RETRY: Duration = Duration::from_secs(5);
/// How long the first plan may wait for EndpointSlices.
const START: Duration = Duration::from_secs(10);
/// How long the thread may take to answer before older facts are used.
const ANSWERS: Duration = Duration::from_secs(1);

/// What was said of the BgpConf: who this node is by it, and what is wrong with it.
type ConfSaid = (Option<(String, u32)>, Option<(bool, String, String)>);

/// What a plan was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The snapshot of the last run.
    Before,
    /// All objects but some EndpointSlices: by it a speaker that was restarted would withdraw what its routers kept.
    NotAll,
    /// All objects.
    All,
}

/// Reads what the thread reports.
#[derive(Clone)]
pub(crate) struct Reader {
    thread: Arc<OnceLock<Orders<Command>>>,
    facts: watch::Receiver<Arc<Facts>>,
}

impl Reader {
    /// Facts of this moment; older ones when the thread is busy.
    pub(crate) async fn fresh(&self) -> Arc<Facts> {
        let mut facts = self.facts.clone();
        facts.borrow_and_update();
        if self.thread.get().is_some_and(|t| t.send(Command::Report)) {
            let _ = tokio::time::timeout(ANSWERS, facts.changed()).await;
        }
        facts.borrow().clone()
    }
}

/// The agent's side.
pub(crate) struct Part {
    node: String,
    /// Empty until there is a router.
    thread: Arc<OnceLock<Orders<Command>>>,
    out: watch::Sender<Arc<Facts>>,
    facts: watch::Receiver<Arc<Facts>>,
    plan: BgpPlan,
    /// The policy in force, and why the one that is written now is not, if it is not.
    filter: Filter,
    bad_policy: Option<String>,
    /// A plan from all objects was carried out.
    began: bool,
    waits_since: Option<Instant>,
    sent: Intent,
    /// What is to be sent, once the thread has room.
    waiting: Option<Intent>,
    /// Routers that the plan has and that cannot be talked to.
    refused: BTreeMap<String, String>,
    /// BgpPeers of the cluster, and those of which something was written or taken back.
    known: BTreeSet<String>,
    written: BTreeMap<String, Said>,
    written_conf: Option<ConfSaid>,
    /// When something is due: an order, or a write.
    send_at: Option<Instant>,
    write_at: Option<Instant>,
}

impl Part {
    pub(crate) fn new(node: &str) -> Part {
        let (out, facts) = watch::channel(Arc::default());
        Part {
            node: node.to_owned(),
            thread: Arc::default(),
            out,
            facts,
            plan: BgpPlan::default(),
            filter: Filter::default(),
            bad_policy: None,
            began: false,
            waits_since: None,
            sent: Intent::default(),
            waiting: None,
            refused: BTreeMap::new(),
            known: BTreeSet::new(),
            written: BTreeMap::new(),
            written_conf: None,
            send_at: None,
            write_at: None,
        }
    }

    /// For those who read what the thread reports, also before it runs.
    pub(crate) fn reader(&self) -> Reader {
        Reader { thread: self.thread.clone(), facts: self.facts.clone() }
    }

    /// Ready when there are new facts; an error when the thread ended.
    pub(crate) async fn changed(&mut self) -> Result<(), String> {
        // The sender is ours, so this waits for ever where nothing runs.
        let _ = self.facts.changed().await;
        let ended = self.facts.borrow_and_update().ended.clone();
        self.write_soon();
        ended.map_or(Ok(()), Err)
    }

    /// There was a router to talk to, so the thread runs.
    pub(crate) fn runs(&self) -> bool {
        self.thread.get().is_some()
    }

    /// When [`Part::on_time`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.send_at, self.write_at].into_iter().flatten().min()
    }

    /// What is to be done has perhaps changed. `known` is what the plan was made from. True when there is something new to
    /// say of it.
    pub(crate) fn replan(&mut self, world: &World, plan: &Plan, known: Known) -> Result<bool, String> {
        let names = world.peer_names();
        if self.known != names {
            self.known = names;
            self.write_soon();
        }
        if known == Known::NotAll && self.may_wait() {
            return Ok(false);
        }
        self.began = known == Known::All || self.began;
        let new = plan::bgp(world, plan, &self.node);
        if new == self.plan {
            return Ok(false);
        }
        for note in new.notes.difference(&self.plan.notes) {
            tracing::warn!(reason = note.reason(), "{note}");
        }
        self.take_policy(new.speaks.as_ref());
        let (mut intent, refused) = new.speaks.as_ref().map(|s| Intent::new(s, &self.filter)).unwrap_or_default();
        intent.share(&self.sent);
        for (peer, reason) in refused.iter().filter(|(p, r)| self.refused.get(*p) != Some(r)) {
            tracing::warn!(peer, reason, "the router cannot be talked to");
        }
        (self.plan, self.refused) = (new, refused);
        self.write_soon();
        self.waiting = (intent != self.sent).then_some(intent);
        self.send().map(|()| true)
    }

    /// Takes over the policy as it is written now. One that cannot be read leaves what was in force before it; after a
    /// start that is not known, and nothing is announced: what was to be kept from a router must not be told to it.
    fn take_policy(&mut self, speaks: Option<&Speaks>) {
        let text = |speaks: Option<&Speaks>| speaks.and_then(|s| s.policy.clone());
        let written = text(speaks);
        if self.filter != Filter::Nothing && written == text(self.plan.speaks.as_ref()) {
            return;
        }
        self.bad_policy = None;
        self.filter = match (written.map(|text| text.parse::<Policy>()), std::mem::take(&mut self.filter)) {
            (None, _) => Filter::Everything,
            (Some(Ok(policy)), _) => Filter::By(Arc::new(policy)),
            (Some(Err(error)), before) => {
                let (kept, filter) = match before {
                    Filter::By(_) => ("its last good version stays in force", before),
                    Filter::Everything if self.plan.speaks.is_some() => {
                        ("everything is announced to every router, as before", before)
                    }
                    _ => ("so nothing is announced to any router", Filter::Nothing),
                };
                let message = format!("the policy that BgpConf default names cannot be used, {kept}: {error}");
                tracing::error!("{message}");
                self.bad_policy = Some(message);
                filter
            }
        };
    }

    /// Only at the start, and not for ever: EndpointSlices that cannot be read must not keep everything else back.
    fn may_wait(&mut self) -> bool {
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        !self.began && since.elapsed() < START
    }

    fn send(&mut self) -> Result<(), String> {
        self.send_at = None;
        let Some(intent) = self.waiting.take() else { return Ok(()) };
        let thread = match self.thread.get() {
            Some(thread) => thread,
            None => {
                let thread = thread::start(self.out.clone())?;
                self.thread.get_or_init(|| thread)
            }
        };
        if thread.send(Command::Apply(Box::new(intent.clone()))) {
            self.sent = intent;
        } else {
            self.waiting = Some(intent);
            self.send_at = Some(Instant::now() + BUSY);
        }
        Ok(())
    }

    /// Orders and writes that are due. Waits for the store no longer than one write takes.
    pub(crate) async fn on_time(&mut self, store: &Store) -> Result<(), String> {
        let now = Instant::now();
        if self.send_at.is_some_and(|at| at <= now) {
            self.send()?;
        }
        if self.write_at.is_some_and(|at| at <= now) {
            self.write_at = None;
            self.write(store).await;
        }
        Ok(())
    }

    fn write_soon(&mut self) {
        self.write_at.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Writes what this node says of routers and of itself, where that is something else than it said last.
    async fn write(&mut self, store: &Store) {
        let facts = self.facts.borrow().clone();
        self.written.retain(|name, _| self.known.contains(name));
        for name in self.known.clone() {
            let of = facts.of_peer(&name).filter(|_| self.sent.has(&name));
            let wrong = status::wrong(Some(&name), &self.plan.notes, self.refused.get(&name));
            let said = Said { session: of.map(SessionSaid::of), wrong };
            if self.written.get(&name) == Some(&said) {
                continue;
            }
            let status = (said != Said::default()).then(|| {
                let mut status = of.map(status::peer).unwrap_or_default();
                status.conditions = status::conditions(said.wrong.as_ref());
                Box::new(status)
            });
            let write = Write::BgpPeerStatus { peer: name.clone(), node: self.node.clone(), status };
            match store.write(write).await {
                Ok(_) | Err(WriteError::Gone) => drop(self.written.insert(name, said)),
                Err(error) => return self.not_written(&error),
            }
        }
        let own = facts.own.map(|(asn, id)| (id.to_string(), asn.get()));
        let own = own.filter(|_| self.sent.own.is_some());
        let policy = self.bad_policy.clone().map(|message| (false, "BgpPolicyInvalid".to_owned(), message));
        let said: ConfSaid = (own, policy.or_else(|| status::wrong(None, &self.plan.notes, None)));
        // Who never spoke has nothing to take back.
        if self.written_conf.as_ref() == Some(&said) || (self.written_conf.is_none() && said == ConfSaid::default()) {
            return;
        }
        let status = (said != ConfSaid::default()).then(|| {
            let (own, wrong) = &said;
            let (router_id, asn) = own.clone().unzip();
            let (router_id, asn) = (router_id.unwrap_or_default(), asn.map(i64::from));
            Box::new(api::bgp_conf::NodeConfStatus { router_id, asn, conditions: status::conditions(wrong.as_ref()) })
        });
        match store.write(Write::BgpConfStatus { node: self.node.clone(), status }).await {
            Ok(_) | Err(WriteError::Gone) => self.written_conf = Some(said),
            Err(error) => self.not_written(&error),
        }
    }

    fn not_written(&mut self, error: &WriteError) {
        let refused = matches!(error, WriteError::Refused(_));
        if refused {
            tracing::error!(%error, "the status of a BgpPeer or BgpConf could not be written; check the RBAC of deploy/openelb.yaml");
        }
        self.write_at = Some(Instant::now() + if refused { 10 * RETRY } else { RETRY });
    }

    /// Why nothing is announced by BGP here; `None` when it is.
    pub(crate) fn silent(&self) -> Option<String> {
        if self.plan.speaks.is_some() {
            return None;
        }
        let silences = |n: &&BgpNote| {
            matches!(n, BgpNote::NoConf | BgpNote::NoAsn | BgpNote::ConfInvalid { .. } | BgpNote::NoPeer)
        };
        let note = self.plan.notes.iter().find(silences);
        Some(note.map_or_else(|| BgpNote::NoConf.to_string(), ToString::to_string))
    }

    /// What is in the way, with the mend.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let warning =
            |reason: &str, message: String| Warning { reason: reason.to_owned(), message, ..Warning::default() };
        let facts = self.facts.borrow().clone();
        let mut found: Vec<Warning> = self.plan.notes.iter().map(|n| warning(n.reason(), n.to_string())).collect();
        found.extend(self.bad_policy.iter().map(|message| warning("BgpPolicyInvalid", message.clone())));
        found.extend(self.refused.iter().map(|(p, r)| warning("BgpPeerInvalid", format!("BgpPeer {p}: {r}"))));
        found.extend(facts.deaf.values().map(|why| warning("BgpPortTaken", why.clone())));
        for (name, why) in &facts.unfound {
            found.push(warning("BgpSessionDown", format!("no session with BgpPeer {name}: {why}")));
        }
        for (name, peer) in facts.peers.iter().filter(|(_, p)| !p.established() && !p.down) {
            if let Some(why) = &peer.trouble {
                let message = format!("no session with BgpPeer {name} ({}): {why}", peer.address);
                found.push(warning("BgpSessionDown", message));
            }
        }
        for (name, peer) in facts.peers.iter().filter(|(_, p)| p.established()) {
            if let Some(why) = peer.bfd.as_ref().and_then(|b| b.reason.as_ref()) {
                let message = format!("BFD with BgpPeer {name} ({}) is down: {why}", peer.address.ip());
                found.push(warning("BfdDown", message));
            }
        }
        for (name, peer) in &facts.peers {
            let unsendable: usize = peer.view.routes.values().map(|r| r.unsendable).sum();
            if unsendable > 0 {
                let message = format!(
                    "BgpPeer {name} ({}) cannot be told of some addresses: this node has no address of their family to be their next hop; give it one, or talk to the router over that family",
                    peer.address
                );
                found.push(warning("NoNextHop", message));
            }
        }
        found
    }

    /// For the node's Speaker; `None` where BGP is not spoken.
    pub(crate) fn summary(&self) -> Option<BgpSummary> {
        let (asn, router_id) = self.sent.own?;
        let facts = self.facts.borrow().clone();
        Some(status::summary(asn, router_id, &facts))
    }

    /// Says goodbye to all routers.
    pub(crate) fn leave(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.send(Command::Leave);
        }
    }

    /// Ready when the thread has ended after [`Part::leave`].
    pub(crate) async fn left(&mut self, store: &Store) {
        if self.thread.get().is_none() {
            return;
        }
        // The thread's is the last sender then.
        self.out = watch::channel(Arc::default()).0;
        while self.facts.changed().await.is_ok() {}
        self.write(store).await;
    }
}
