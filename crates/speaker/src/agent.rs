//! The side that talks to the cluster: objects in, intents out, facts back into the node's Speaker.
//!
//! ```text
//!  start ──► snapshot of the last run ──(until everything was read)──► objects
//!                                 World ──► plan ──► Intent ──► shell
//!  shell ──► Facts ──► status ──► Speaker (only when something changed)
//! ```

use crate::facts::Facts;
use crate::intent::{Command, Intent};
use crate::shell::{self, Handle};
use crate::{Error, Options, bgp, metrics, status, warnings};
use api::{EndpointSlice, Ownership, Pool, ServiceKey};
use plan::{Note, Plan, ServicePart, World};
use source::{Change, Event, Interest, Object, ObjectRef, Store, Write, WriteError};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How long the API server may take before the last snapshot is used instead.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(2);
/// How long changes are gathered before the snapshot is written or the Speaker is.
const GATHER: Duration = Duration::from_millis(500);
/// How often host settings, of whose change nobody tells, are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// After this time the start is over, of the program or of BGP in it: what only that needed is let go, and everything else
/// is locked.
const STARTED: Duration = Duration::from_secs(10);
/// Planning takes at most one part in so many of the time, and a burst of Services leaves the processor to others.
const PLANNING: u32 = 10;
/// So much of that rest may be owed: the few changes that one new Service is (it appears, has an address, its endpoints
/// are read) are each planned at once.
const OWED: Duration = Duration::from_millis(400);
/// How long an order waits for which the shell had no room.
const BUSY: Duration = Duration::from_millis(100);
/// How long a refused or lost write waits.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of the cluster, and everything that follows from it.
struct Agent {
    store: Store,
    options: Options,
    shell: Handle,
    bgp: bgp::Part,
    /// Objects as read from the source, also for the snapshot; Services and EndpointSlices are in a world alone, since
    /// there may be ten thousand of them.
    objects: BTreeMap<ObjectRef, Object>,
    world: World,
    /// What is read, until everything was: then it is the one in force.
    reading: World,
    /// What the last run knew, until everything was read.
    last: Vec<Object>,
    /// Pools that were deleted while Services used them: these keep what they have, also over a restart.
    gone: BTreeMap<String, Object>,
    synced: bool,
    /// The acceptors, as they were last named well, and the last requests.
    ownership: Option<Ownership>,
    /// Why what they say now is not understood.
    bad_ownership: Option<String>,
    /// The world is that of all objects, or of the last run's.
    known: bool,
    plan: Arc<Plan>,
    sent: Option<Arc<Intent>>,
    needs: watch::Sender<BTreeSet<ServiceKey>>,
    /// Services all of whose slices were read.
    slices_read: BTreeSet<ServiceKey>,
    /// Services as they are to be once their slices were read.
    waiting: BTreeMap<ServiceKey, ServicePart>,
    status: status::Status,
    written: Option<api::SpeakerStatus>,
    /// When to plan what has come since the last time, and the earliest moment to plan again.
    plan_at: Option<Instant>,
    /// When the rest after all planning so far is over.
    rested_at: Instant,
    save_at: Option<Instant>,
    write_at: Option<Instant>,
    look_at: Instant,
    lock_at: Option<Instant>,
    /// Memory was locked, or could not be.
    locked: bool,
}

pub(crate) async fn run(store: Store, options: Options, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let (facts_in, mut facts) = watch::channel(Arc::new(Facts::default()));
    let shell = shell::start(&options, facts_in)?;
    let (needs, needs_out) = watch::channel(BTreeSet::new());
    let interest = Interest {
        scope: options.scope,
        namespace: options.namespace.clone(),
        namespaces: false,
        nodes: true,
        slices: true,
        speakers: false,
        memberlist: true,
        ownership: true,
        bgp: true,
        policies: true,
    };
    let mut events = store.watch(interest, needs_out);
    let bgp = bgp::Part::new(&options.node);
    let served = metrics::serve(&options, shell.clone(), facts.clone(), bgp.reader()).await?;
    let answered = bgp::serve(&options, facts.clone(), bgp.reader());
    let mut agent = Agent {
        status: status::Status::new(&options),
        world: empty_world(&store, &options),
        reading: empty_world(&store, &options),
        store,
        options,
        shell,
        bgp,
        objects: BTreeMap::new(),
        last: Vec::new(),
        gone: BTreeMap::new(),
        synced: false,
        ownership: None,
        bad_ownership: None,
        known: false,
        plan: Arc::default(),
        sent: None,
        needs,
        slices_read: BTreeSet::new(),
        waiting: BTreeMap::new(),
        written: None,
        plan_at: None,
        rested_at: Instant::now(),
        save_at: None,
        write_at: None,
        look_at: Instant::now(),
        lock_at: Some(Instant::now() + STARTED),
        locked: false,
    };
    agent.load();
    let mut stop = pin!(stop);
    let mut without_snapshot = Some(Instant::now() + SNAPSHOT_AFTER);
    loop {
        let wake = [
            without_snapshot,
            agent.plan_at,
            agent.save_at,
            agent.write_at,
            agent.lock_at,
            agent.bgp.due(),
            Some(agent.look_at),
        ]
        .into_iter()
        .flatten()
        .min();
        tokio::select! {
            () = &mut stop => break,
            event = events.recv() => agent.read(event.ok_or(Error::SourceEnded)?, &mut events),
            changed = facts.changed() => {
                if changed.is_err() {
                    return Err(Error::Shell(agent.shell.why_ended()));
                }
                // A borrow that lives on would hold the deadline thread up when it reports (here and below).
                let now = facts.borrow_and_update().clone();
                agent.facts_changed(&now);
            }
            changed = agent.bgp.changed() => {
                changed.map_err(Error::Bgp)?;
                agent.write_at.get_or_insert_with(|| Instant::now() + GATHER);
            }
            () = sleep_until(wake.unwrap_or_else(|| Instant::now() + LOOK_AGAIN)) => {
                if without_snapshot.is_some_and(|at| at <= Instant::now()) {
                    without_snapshot = None;
                    agent.start_from_snapshot();
                }
                let now = facts.borrow().clone();
                agent.on_time(&now).await;
                agent.bgp.on_time(&agent.store).await.map_err(Error::Bgp)?;
            }
        }
        if agent.synced {
            without_snapshot = None;
        }
    }
    drop((served, answered));
    agent.leave(facts).await
}

impl Agent {
    /// Takes an event and all that are waiting behind it, then plans once.
    fn read(&mut self, first: Event, rest: &mut mpsc::Receiver<Event>) {
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Change(Change::Apply(Object::Ownership(read))) => {
                    match &read {
                        Ok(asked) => self.obey(asked.clone()),
                        Err(error) => {
                            let message = format!(
                                "the ConfigMap oxelb-ownership is not understood; what it last said well stays in force: {error}"
                            );
                            tracing::error!("{message}");
                            self.bad_ownership = Some(message);
                        }
                    }
                    self.objects.insert(ObjectRef::Ownership, Object::Ownership(read));
                }
                Event::Change(Change::Apply(object)) => self.take(object),
                Event::Change(Change::Delete(reference)) => {
                    if reference == ObjectRef::Ownership {
                        self.bad_ownership = None;
                    }
                    if let ObjectRef::Service(key) = &reference {
                        self.waiting.remove(key);
                    }
                    delete(self.newest(), &reference);
                    if let (Some(object), ObjectRef::Pool(name)) = (self.objects.remove(&reference), reference) {
                        self.gone.insert(name, object);
                    }
                }
                Event::Synced => {
                    self.synced = true;
                    self.known = true;
                    self.world = std::mem::take(&mut self.reading);
                    self.remember_gone_pools();
                    let objects = self.objects.len() + self.world.services().count() + self.world.slices().count();
                    tracing::info!(objects, "everything was read");
                }
                Event::Reachable(Ok(())) => tracing::info!("objects can be read again"),
                Event::Reachable(Err(reason)) => {
                    tracing::warn!(%reason, "objects cannot be read; what was known stays in force");
                }
                Event::SlicesRead(key) => {
                    if let Some(service) = self.waiting.remove(&key) {
                        self.newest().set_service(service);
                    }
                    self.slices_read.insert(key);
                }
                Event::Broken { file, message: Some(message) } => {
                    tracing::warn!(%file, %message, "a file is broken; what it last said well stays in force");
                }
                Event::Broken { file, message: None } => tracing::info!(%file, "the file is good again"),
            }
            next = rest.try_recv().ok();
        }
        // Slices are read only for Services that are known, so the needs follow also before everything was read.
        let mut needs = self.newest().needs_slices().clone();
        needs.extend(self.waiting.values().filter(|s| s.needs_slices()).map(|s| s.key.clone()));
        self.slices_read.retain(|key| needs.contains(key));
        self.needs.send_if_modified(|known| (*known != needs).then(|| *known = needs).is_some());
        if self.synced {
            self.save_at.get_or_insert_with(|| Instant::now() + GATHER);
            if self.rested_at <= Instant::now() + OWED {
                self.replan();
            } else {
                self.plan_at = Some(self.rested_at - OWED);
            }
        }
    }

    /// An object is new or different.
    fn take(&mut self, object: Object) {
        if let Object::Service(service) = &object {
            let part = ServicePart::from(service.as_ref());
            self.waiting.remove(&part.key);
            if self.waits_for_slices(&part) {
                self.waiting.insert(part.key.clone(), part);
                return;
            }
        }
        apply(self.newest(), &object);
        let reference = object.reference();
        if let ObjectRef::Pool(name) = &reference {
            self.gone.remove(name);
        }
        if !matches!(object, Object::Service(_) | Object::Slice(_)) {
            self.objects.insert(reference, object);
        }
    }

    /// A Service that changes to policy Local stays what it was until it is known where it has endpoints: nowhere would
    /// be wrong, and an outage.
    fn waits_for_slices(&self, service: &ServicePart) -> bool {
        let known = self.synced && self.world.service(&service.key).is_some();
        known && service.served && service.local && !self.slices_read.contains(&service.key)
    }

    /// The world that newer objects are for.
    fn newest(&mut self) -> &mut World {
        if self.synced { &mut self.world } else { &mut self.reading }
    }

    fn load(&mut self) {
        let Some(path) = self.snapshot_path().filter(|p| p.exists()) else { return };
        match source::snapshot::load(&path) {
            Ok(objects) => self.last = objects,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the snapshot of the last run cannot be used")
            }
        }
    }

    /// The API server cannot be reached: what was true at the end of the last run is the best there is.
    fn start_from_snapshot(&mut self) {
        if self.last.is_empty() {
            return;
        }
        tracing::warn!(
            objects = self.last.len(),
            "no objects can be read yet: starting from the snapshot of the last run"
        );
        self.known = true;
        self.last.iter().for_each(|o| apply(&mut self.world, o));
        let keys = self.last.iter().filter(|o| matches!(o, Object::Memberlist(_) | Object::Ownership(_))).cloned();
        self.objects.extend(keys.map(|o| (o.reference(), o)));
        if let Some(Object::Ownership(Ok(named))) = self.objects.get(&ObjectRef::Ownership) {
            self.ownership = Some(named.clone());
        }
        self.replan();
    }

    /// Pools that the last run knew and that are not there any more: Services that have addresses of them keep these.
    fn remember_gone_pools(&mut self) {
        for object in std::mem::take(&mut self.last) {
            let ObjectRef::Pool(name) = object.reference() else { continue };
            if !self.objects.contains_key(&object.reference()) {
                apply(&mut self.world, &object);
                self.world.remove_pool(&name);
                self.gone.insert(name, object);
            }
        }
    }

    fn snapshot_path(&self) -> Option<std::path::PathBuf> {
        self.options.state.as_ref().map(|dir| dir.join("snapshot.json"))
    }

    fn replan(&mut self) {
        // Before that this node would look alone: it would be ready too early, and deaf to the others' key (D1).
        if !self.known {
            return;
        }
        let start = Instant::now();
        self.plan_and_send();
        self.plan_at = None;
        let now = Instant::now();
        self.rested_at = self.rested_at.max(now) + PLANNING * (now - start);
    }

    fn plan_and_send(&mut self) {
        let plan = plan::plan(&self.world);
        if *self.plan != plan {
            for note in plan.notes.difference(&self.plan.notes) {
                tracing::warn!(reason = note.reason(), "{note}");
            }
            self.plan = Arc::new(plan);
            self.write_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
        let known = match (self.synced, self.needs.borrow().is_subset(&self.slices_read)) {
            (false, _) => bgp::Known::Before,
            (true, false) => bgp::Known::NotAll,
            (true, true) => bgp::Known::All,
        };
        let ran = self.bgp.runs();
        match self.bgp.replan(&self.world, &self.plan, known) {
            Ok(false) => {}
            Ok(true) => drop(self.write_at.get_or_insert_with(|| Instant::now() + GATHER)),
            Err(error) => tracing::error!(error, "BGP cannot be started"),
        }
        if self.bgp.runs() && !ran {
            self.lock_at = Some(Instant::now() + STARTED);
        }
        let Some(keys) = self.keys() else { return };
        let intent = Arc::new(Intent::new(&self.plan, keys, self.acceptors(), &self.options));
        if self.sent.as_ref() == Some(&intent) {
            return;
        }
        if self.shell.send(Command::Apply(intent.clone())) {
            self.sent = Some(intent);
        } else {
            self.look_at = Instant::now() + BUSY;
        }
    }

    /// Those that were last named well.
    fn acceptors(&self) -> lease::Epoch {
        let named = self.ownership.as_ref();
        named.map_or_else(Default::default, |o| lease::Epoch { number: o.epoch, members: o.members.clone() })
    }

    /// Does what an operator asked for since this speaker started.
    fn obey(&mut self, asked: Ownership) {
        if let Some(before) = self.ownership.as_ref().filter(|_| self.known) {
            if asked.rebalance != before.rebalance {
                tracing::info!(request = asked.rebalance, "rebalancing, as an operator asked for");
                self.order(Command::Rebalance);
            }
            if asked.moves != before.moves {
                tracing::info!(
                    request = asked.moves.id,
                    addresses = asked.moves.to.len(),
                    "an operator asked for moves"
                );
                self.order(Command::Move(asked.moves.to.clone()));
            }
        }
        self.ownership = Some(asked);
        self.bad_ownership = None;
    }

    /// Passes on what an operator asked for. It is not asked for twice, so it must not get lost unsaid.
    fn order(&self, command: Command) {
        if !self.shell.send(command) {
            tracing::warn!("this node is too busy for what an operator asked for: it was not done, ask again");
        }
    }

    /// The Secret goes before the option. Without either there is no key, and so no way to talk to other speakers:
    /// the controller makes the Secret, so waiting helps; a node that is alone needs none.
    fn keys(&self) -> Option<Vec<Vec<u8>>> {
        if let Some(Object::Memberlist(keys)) = self.objects.get(&ObjectRef::Memberlist) {
            return Some(keys.clone());
        }
        if let Some(secret) = &self.options.secret {
            return Some(vec![secret.clone()]);
        }
        let alone = self.plan.peers.keys().all(|node| *node == self.options.node);
        if !alone {
            tracing::warn!(
                namespace = self.options.namespace,
                "waiting for the Secret {} with the key that speakers share: the controller makes it; in a folder, write it or give --secret",
                api::keys::MEMBERLIST_SECRET
            );
        }
        alone.then(Vec::new)
    }

    fn facts_changed(&mut self, facts: &Facts) {
        self.status.observe(facts, &self.plan);
        self.write_at.get_or_insert_with(|| Instant::now() + GATHER);
    }

    async fn on_time(&mut self, facts: &Facts) {
        let now = Instant::now();
        if self.look_at <= now {
            self.look_at = now + LOOK_AGAIN;
            // Facts of this moment: what has not been seen for a while is over.
            self.shell.send(Command::Report);
            self.write_at.get_or_insert(now);
            self.replan();
        }
        if self.plan_at.is_some_and(|at| at <= now) {
            self.replan();
        }
        if self.lock_at.is_some_and(|at| at <= now) {
            self.lock_at = None;
            net::let_go_of_program();
            if !std::mem::replace(&mut self.locked, true)
                && let Err(error) = net::lock_memory()
            {
                tracing::warn!(%error, "memory is not locked: on a node that swaps, answers may be late");
            }
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_at = None;
            self.save().await;
        }
        if self.write_at.is_some_and(|at| at <= now) {
            self.write_at = None;
            self.write_status(facts, true).await;
        }
    }

    async fn save(&self) {
        let Some(path) = self.snapshot_path() else { return };
        let missing =
            |name: &String| self.plan.notes.iter().any(|n| matches!(n, Note::PoolMissing { pool, .. } if pool == name));
        let gone = self.gone.iter().filter(|(name, _)| missing(name)).map(|(_, pool)| pool);
        let objects: Vec<Object> = self.objects.values().chain(gone).cloned().collect();
        let services: Vec<ServicePart> = self.world.services().cloned().collect();
        let slices: Vec<EndpointSlice> = self.world.slices().cloned().collect();
        let saved = tokio::task::spawn_blocking({
            let path = path.clone();
            let services = services.into_iter().map(|part| Object::Service(Arc::new(part.into())));
            let slices = slices.into_iter().map(Object::Slice);
            move || source::snapshot::save(&path, objects.into_iter().chain(services).chain(slices))
        });
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, path = %path.display(), "the snapshot could not be written: a restart needs the API server")
            }
            Err(error) => tracing::error!(%error, "the snapshot could not be written"),
        }
    }

    async fn write_status(&mut self, facts: &Facts, running: bool) {
        let pools = self
            .objects
            .values()
            .filter_map(|o| if let Object::Pool(eip) = o { Pool::try_from(eip.as_ref()).ok() } else { None });
        let pools: Vec<Pool> = pools.collect();
        let no_bgp = self.bgp.silent();
        let mut warnings = warnings::find(&pools, &self.plan, facts, &self.options, no_bgp.as_deref());
        warnings.extend(self.bgp.warnings());
        warnings.extend(
            self.bad_ownership.iter().map(|message| warnings::warning("OwnershipInvalid", None, message.clone())),
        );
        let status = self.status.status(facts, &self.plan, self.bgp.summary(), warnings, running);
        if self.written.as_ref() == Some(&status) {
            return;
        }
        let write = Write::Speaker { node: self.options.node.clone(), status: Box::new(status.clone()) };
        match self.store.write(write).await {
            Ok(_) => self.written = Some(status),
            Err(error @ WriteError::Refused(_)) => {
                tracing::error!(%error, node = self.options.node, "the Speaker of this node could not be written; check the RBAC of deploy/openelb.yaml");
                self.write_at = Some(Instant::now() + 10 * RETRY);
            }
            Err(_) => self.write_at = Some(Instant::now() + RETRY),
        }
    }

    /// The others are told before anything else, so that they answer while we still forward.
    async fn leave(mut self, mut facts: watch::Receiver<Arc<Facts>>) -> Result<(), Error> {
        tracing::info!("leaving: addresses are handed over");
        self.bgp.leave();
        self.shell.send(Command::Leave);
        let ended = async { while facts.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
        let _ = tokio::time::timeout(Duration::from_secs(2), self.bgp.left(&self.store)).await;
        let last = facts.borrow().clone();
        self.status.observe(&last, &self.plan);
        let _ = tokio::time::timeout(Duration::from_secs(2), self.write_status(&last, false)).await;
        Ok(())
    }
}

/// A folder may have no Node objects: then this node is the only one.
fn empty_world(store: &Store, options: &Options) -> World {
    let mut world = World::default();
    if matches!(store, Store::Folder(_)) {
        world.set_fallback_nodes([api::Node { name: options.node.clone(), ready: true, ..api::Node::default() }]);
    }
    world
}

fn apply(world: &mut World, object: &Object) {
    match object {
        Object::Pool(eip) => {
            let name = eip.metadata.name.clone().unwrap_or_default();
            world.set_pool(&name, Pool::try_from(eip.as_ref()));
        }
        Object::Service(service) => world.set_service(service.as_ref()),
        Object::Node(node) => world.set_node(node.clone()),
        Object::Slice(slice) => world.set_slice(slice.clone()),
        Object::BgpConf(_) | Object::BgpPeer(_) if object.being_deleted() => delete(world, &object.reference()),
        Object::BgpConf(conf) => world.set_bgp(conf.as_ref().try_into()),
        Object::BgpPeer(peer) => {
            world.set_peer(peer.metadata.name.as_deref().unwrap_or_default(), peer.as_ref().try_into());
        }
        Object::Passwords(passwords) => world.set_passwords(passwords.clone()),
        Object::Policy(policy) => world.set_policy(&policy.name, policy.text.clone()),
        Object::Namespace(_) | Object::Speaker(_) | Object::Memberlist(_) | Object::Ownership(_) => {}
    }
}

fn delete(world: &mut World, reference: &ObjectRef) {
    match reference {
        ObjectRef::Pool(name) => world.remove_pool(name),
        ObjectRef::Service(key) => world.remove_service(key),
        ObjectRef::Node(name) => world.remove_node(name),
        ObjectRef::Slice(key) => world.remove_slice(key),
        ObjectRef::BgpConf(_) => world.remove_bgp(),
        ObjectRef::BgpPeer(name) => world.remove_peer(name),
        ObjectRef::Policy(name) => world.remove_policy(name),
        ObjectRef::Passwords => world.set_passwords(BTreeMap::new()),
        ObjectRef::Namespace(_) | ObjectRef::Speaker(_) | ObjectRef::Memberlist | ObjectRef::Ownership => {}
    }
}
