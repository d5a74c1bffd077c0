//! The lease as an explicit-state model over the code of acceptor, holder and session themselves: every order of
//! events within bounds, with messages delayed, lost, doubled and overtaken, speakers and acceptors that crash, disks
//! that are lost, clocks that drift, and epochs that change.
//!
//! Time goes in steps of half a lease. The clocks of holders are as slow as the drift bound allows, those of acceptors
//! are right: the worst that can be for a holder that counts from when it asked. Proof of a start (see `session`) is
//! given at once: what it echoes is how often its speaker has started.

use crate::acceptor::Acceptor;
use crate::fault::{Fault, Faults};
use crate::holder::Holder;
use crate::message::{Answer, Message};
use crate::session::{Mark, Order, Session};
use crate::types::{Epoch, EpochId, Preset, Stamp};
use engine::Tick;
use stateright::{Checker, Model, Property};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const PRESET: Preset = Preset::Fast;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const NAMES: [&str; 3] = ["a", "b", "c"];
const HOLDERS: [&str; 2] = ["x", "y"];

/// How much may happen.
#[derive(Debug, Clone)]
struct Bounds {
    /// The acceptors of each epoch, in the order in which they may follow.
    epochs: Vec<Vec<&'static str>>,
    /// Half leases.
    time: u8,
    /// Requests of each holder; renewals and returns of both.
    asks: [u8; 2],
    renewals: u8,
    returns: u8,
    doubles: u8,
    acceptor_crashes: u8,
    /// Of the first acceptor.
    lost_disks: u8,
    /// Of the first holder.
    holder_crashes: u8,
    /// Which holders hear of new epochs.
    learn: [bool; 2],
}

const NOTHING: Bounds = Bounds {
    epochs: Vec::new(),
    time: 4,
    asks: [0, 0],
    renewals: 0,
    returns: 0,
    doubles: 0,
    acceptor_crashes: 0,
    lost_disks: 0,
    holder_crashes: 0,
    learn: [true, true],
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Voter {
    acceptor: Acceptor,
    /// What it knows of each holder.
    sessions: [Session; 2],
    boot: u128,
    disk: Option<EpochId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Speaker {
    holder: Holder,
    boot: u128,
    counter: u64,
    starts: u64,
    /// The epoch that it asks in.
    epoch: usize,
    asks: u8,
    renewals: u8,
    returns: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Letter {
    Request { from: usize, to: usize, mark: Mark, message: Message },
    Answer { from: usize, to: usize, stamp: Stamp, answer: Answer },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    time: u8,
    voters: Vec<Voter>,
    speakers: [Speaker; 2],
    letters: BTreeSet<Letter>,
    /// The newest epoch that the controller named, and when it could name the next.
    named: usize,
    next_at: Option<u8>,
    doubles: u8,
    crashes: u8,
    lost: u8,
    holder_crashes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Time,
    Ask(usize),
    Renew(usize),
    GiveBack(usize),
    Deliver(Letter),
    DeliverAndKeep(Letter),
    CrashAcceptor(usize),
    LoseDisk(usize),
    CrashHolder(usize),
    NameEpoch,
    Adopt(usize),
    Learn(usize),
}

struct Rules {
    bounds: Bounds,
    fault: Option<Fault>,
}

impl Rules {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn epoch(&self, n: usize) -> Epoch {
        Epoch::new(n as u64 + 1, self.bounds.epochs[n].iter().copied())
    }

    /// Half a lease, and how much less a slow clock counts of it.
    fn clock(time: u8, slow: bool) -> Tick {
        let half = PRESET.lease().as_nanos() as u64 / 2;
        let drift = if slow { half / 512 } else { 0 };
        Tick(1_000_000_000 + u64::from(time) * (half - drift))
    }

    fn owns(world: &World, n: usize) -> bool {
        world.speakers[n].holder.until(ADDRESS).is_some_and(|until| until > Rules::clock(world.time, true))
    }

    fn send(&self, world: &mut World, from: usize, to: &str, message: Message) {
        let Some(to) = NAMES.iter().position(|n| *n == to) else { return };
        let you = world.voters[to].boot;
        let speaker = &mut world.speakers[from];
        speaker.counter += 1;
        let mark = Mark { boot: speaker.boot, counter: speaker.counter, you, echo: speaker.starts };
        world.letters.insert(Letter::Request { from, to, mark, message });
    }

    /// The epoch in which a holder asks an acceptor: of the two that it knows, that of the acceptor.
    fn ask_in(&self, world: &World, from: usize, to: &str) -> Option<Epoch> {
        let known = world.speakers[from].epoch;
        let of = NAMES.iter().position(|n| *n == to).and_then(|n| world.voters.get(n)?.acceptor.epoch());
        let previous = known.checked_sub(1).map(|p| self.epoch(p)).filter(|p| of == Some(p.id()));
        let epoch = previous.unwrap_or_else(|| self.epoch(known));
        epoch.members.contains(to).then_some(epoch)
    }

    fn deliver(&self, world: &mut World, letter: &Letter) {
        match letter {
            Letter::Request { from, to, mark, message } => {
                let now = Rules::clock(world.time, false);
                let voter = &mut world.voters[*to];
                let order = voter.sessions[*from].judge(voter.boot, *mark);
                if !matches!(order, Order::New | Order::Late) {
                    return;
                }
                let (stamp, holder) = (Stamp { boot: mark.boot, counter: mark.counter }, HOLDERS[*from]);
                let answer = match message {
                    Message::Ask { epoch, preset, whole, addresses } => {
                        voter.acceptor.ask(now, holder, stamp, (*epoch, *preset, *whole), addresses)
                    }
                    Message::Renew { epoch, preset, digest } => {
                        voter.acceptor.renew(now, holder, stamp, *epoch, (*preset, *digest))
                    }
                    Message::Release { addresses, .. } => {
                        voter.acceptor.release(now, holder, stamp, None, addresses);
                        return;
                    }
                    _ => return,
                };
                world.letters.insert(Letter::Answer { from: *to, to: *from, stamp, answer });
            }
            Letter::Answer { from, to, stamp, answer } => {
                let now = Rules::clock(world.time, true);
                let speaker = &mut world.speakers[*to];
                if stamp.boot == speaker.boot {
                    speaker.holder.answer(now, NAMES[*from], stamp.counter, answer);
                }
            }
        }
    }

    fn confirms(world: &World, member: &str, epoch: usize) -> bool {
        let voter = NAMES.iter().position(|n| *n == member).and_then(|n| world.voters.get(n));
        voter.and_then(|v| v.disk).is_some_and(|e| e.number > epoch as u64)
    }

    /// The rules of the controller: when the next epoch may be named.
    fn may_name(&self, world: &World) -> bool {
        let next = world.named + 1;
        if next >= self.bounds.epochs.len() || world.next_at.is_none_or(|at| world.time < at) {
            return false;
        }
        self.epoch(next).follows(&self.epoch(world.named)) || self.has(Fault::Swap)
    }

    /// Since when a majority of the previous set has confirmed what is named.
    fn settle(&self, world: &mut World) {
        // An answer that can never count any more is as good as lost.
        if !self.has(Fault::NumbersStartAgain) {
            let speakers = &world.speakers;
            world.letters.retain(|letter| match letter {
                Letter::Answer { to, stamp, .. } => {
                    stamp.boot == speakers[*to].boot && speakers[*to].holder.is_open(stamp.counter)
                }
                Letter::Request { .. } => true,
            });
        }
        if world.next_at.is_some() {
            return;
        }
        let previous = self.epoch(world.named.saturating_sub(1));
        let confirmed = previous.members.iter().filter(|m| Rules::confirms(world, m, world.named)).count();
        if confirmed >= previous.majority() || self.has(Fault::NextUnconfirmed) {
            world.next_at = Some(if self.has(Fault::NextAtOnce) { world.time } else { world.time + 2 });
        }
    }
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let faults = Faults(self.fault);
        let first = self.epoch(0);
        let all: BTreeSet<&str> = self.bounds.epochs.iter().flatten().copied().collect();
        let voter = |n: usize| {
            let disk = first.members.contains(NAMES[n]).then(|| first.id());
            let acceptor = Acceptor::new(Tick::ZERO, disk.or(Some(EpochId::default())), faults);
            Voter { acceptor, sessions: Default::default(), boot: 100 + n as u128, disk }
        };
        let speaker = |n: u128| Speaker {
            holder: Holder::new(faults),
            boot: n + 1,
            counter: 0,
            starts: 1,
            epoch: 0,
            asks: 0,
            renewals: 0,
            returns: 0,
        };
        let mut world = World {
            time: 0,
            voters: (0..all.len()).map(voter).collect(),
            speakers: [speaker(0), speaker(1)],
            letters: BTreeSet::new(),
            named: 0,
            next_at: None,
            doubles: 0,
            crashes: 0,
            lost: 0,
            holder_crashes: 0,
        };
        world.next_at = Some(0);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let b = &self.bounds;
        if world.time < b.time {
            actions.push(Action::Time);
        }
        for (n, s) in world.speakers.iter().enumerate() {
            let may = [
                (s.asks < b.asks[n], Action::Ask(n)),
                (s.renewals < b.renewals && Rules::owns(world, n), Action::Renew(n)),
                (s.returns < b.returns && s.asks > 0, Action::GiveBack(n)),
                (world.holder_crashes < b.holder_crashes && n == 0, Action::CrashHolder(n)),
                (s.epoch < world.named && b.learn[n], Action::Learn(n)),
            ];
            actions.extend(may.into_iter().filter(|(may, _)| *may).map(|(_, action)| action));
        }
        for letter in &world.letters {
            actions.push(Action::Deliver(letter.clone()));
            if world.doubles < b.doubles {
                actions.push(Action::DeliverAndKeep(letter.clone()));
            }
        }
        for (n, voter) in world.voters.iter().enumerate() {
            if world.crashes < b.acceptor_crashes {
                actions.push(Action::CrashAcceptor(n));
            }
            if world.lost < b.lost_disks && n == 0 {
                actions.push(Action::LoseDisk(n));
            }
            let lost = voter.acceptor.epoch().is_none();
            if !lost && voter.disk.is_none_or(|d| d.number <= world.named as u64) && world.named > 0 {
                actions.push(Action::Adopt(n));
            }
        }
        if self.may_name(world) {
            actions.push(Action::NameEpoch);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = |w: &World| Rules::clock(w.time, true);
        match action {
            Action::Time => world.time += 1,
            Action::Ask(n) => {
                world.speakers[n].asks += 1;
                for to in NAMES {
                    let Some(epoch) = self.ask_in(&world, n, to) else { continue };
                    let (at, s) = (now(&world), &mut world.speakers[n]);
                    s.holder.asks(at, s.counter + 1, to, &epoch, PRESET, &[ADDRESS]);
                    let (epoch, addresses) = (epoch.id(), vec![ADDRESS]);
                    self.send(&mut world, n, to, Message::Ask { epoch, preset: PRESET, whole: false, addresses });
                }
            }
            Action::Renew(n) => {
                world.speakers[n].renewals += 1;
                for to in NAMES {
                    let Some(epoch) = self.ask_in(&world, n, to) else { continue };
                    let (at, s) = (now(&world), &mut world.speakers[n]);
                    let digest = s.holder.renews(at, s.counter + 1, to, &epoch, PRESET);
                    self.send(&mut world, n, to, Message::Renew { epoch: epoch.id(), preset: PRESET, digest });
                }
            }
            Action::GiveBack(n) => {
                world.speakers[n].returns += 1;
                world.speakers[n].holder.abandon(ADDRESS);
                for to in &NAMES[..world.voters.len()] {
                    self.send(&mut world, n, to, Message::Release { to: None, addresses: vec![ADDRESS] });
                }
            }
            Action::Deliver(letter) => {
                world.letters.remove(&letter);
                self.deliver(&mut world, &letter);
            }
            Action::DeliverAndKeep(letter) => {
                world.doubles += 1;
                self.deliver(&mut world, &letter);
            }
            Action::CrashAcceptor(n) | Action::LoseDisk(n) => {
                let voter = &mut world.voters[n];
                if matches!(action, Action::LoseDisk(_)) {
                    world.lost += 1;
                    // Its configuration may be as old as the first epoch.
                    voter.disk = self.has(Fault::ForgetsEpoch).then(|| self.epoch(0).id());
                } else {
                    world.crashes += 1;
                }
                let silent_until = Rules::clock(world.time + 2, false);
                voter.acceptor = Acceptor::new(silent_until, voter.disk, Faults(self.fault));
                voter.sessions = Default::default();
                voter.boot += 100;
            }
            Action::CrashHolder(n) => {
                world.holder_crashes += 1;
                let s = &mut world.speakers[n];
                s.holder = Holder::new(Faults(self.fault));
                s.starts += 1;
                s.counter = 0;
                if !self.has(Fault::NumbersStartAgain) {
                    s.boot += 10;
                }
            }
            Action::NameEpoch => {
                world.named += 1;
                world.next_at = None;
            }
            Action::Adopt(n) => {
                let epoch = self.epoch(world.named).id();
                world.voters[n].disk = Some(epoch);
                world.voters[n].acceptor.adopt(epoch);
            }
            Action::Learn(n) => world.speakers[n].epoch = world.named,
        }
        self.settle(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Rules>> {
        vec![Property::always("at most one owner", |_, w: &World| !(Rules::owns(w, 0) && Rules::owns(w, 1)))]
    }
}

/// Explores all there is within the bounds. Gives how many states that were, and the way to two owners if there is one.
fn explore(what: &str, bounds: &Bounds, fault: Option<Fault>) -> Option<Vec<Action>> {
    let checker = Rules { bounds: bounds.clone(), fault }.checker().threads(2).spawn_bfs().join();
    let found = checker.discovery("at most one owner").map(|path| path.into_actions());
    let fault = fault.map_or("no fault".to_owned(), |f| format!("{f:?}"));
    let result = found.as_ref().map_or("holds".to_owned(), |way| format!("two owners after {} steps", way.len()));
    println!("{what}, {fault}: {} states, depth {}: {result}", checker.unique_state_count(), checker.max_depth());
    found
}

fn check(what: &str, bounds: &Bounds, faults: &[Fault]) {
    println!("{what}: {bounds:?}");
    if let Some(way) = explore(what, bounds, None) {
        panic!("{what}: two owners after {way:#?}");
    }
    for fault in faults {
        assert!(explore(what, bounds, Some(*fault)).is_some(), "{what}: {fault:?} is not noticed");
    }
}

/// One acceptor is enough to show what can go wrong between it and two holders.
#[test]
fn requests_answers_and_releases_in_any_order() {
    let one = Bounds { epochs: vec![vec!["a"]], asks: [1, 1], time: 3, ..NOTHING };
    check("requests", &Bounds { asks: [2, 1], ..one.clone() }, &[Fault::NoDriftBound, Fault::CountFromAnswer]);
    check("renewals", &Bounds { renewals: 1, time: 4, ..one.clone() }, &[Fault::NoDriftBound, Fault::CountFromAnswer]);
    let returns = Bounds { returns: 1, asks: [2, 1], time: 2, ..one.clone() };
    let faults = [Fault::ReleaseNamesNoGrant, Fault::OldCopyRenames, Fault::CountAfterGivingBack];
    check("returns", &returns, &faults);
    check("doubles", &Bounds { doubles: 2, asks: [2, 1], ..one.clone() }, &[Fault::NoDriftBound]);
    let crash = Bounds { asks: [2, 1], ..one };
    check("an acceptor crashes", &Bounds { acceptor_crashes: 1, ..crash.clone() }, &[Fault::NoSilence]);
    check("a holder crashes", &Bounds { holder_crashes: 1, ..crash }, &[Fault::NumbersStartAgain]);
}

#[test]
fn a_majority_of_three() {
    let three = Bounds { epochs: vec![vec!["a", "b", "c"]], asks: [1, 1], time: 2, ..NOTHING };
    check("three acceptors", &three, &[Fault::NoDriftBound]);
}

#[test]
fn epochs_one_member_at_a_time() {
    let grow = vec![vec!["a"], vec!["a", "b"], vec!["b"]];
    let grow = Bounds { epochs: grow, asks: [1, 1], time: 2, ..NOTHING };
    let faults = [Fault::NextUnconfirmed, Fault::NextAtOnce, Fault::AdoptDropsGrants, Fault::MajorityOverTwoSets];
    check("epochs", &grow, &faults);
    check("lost disks", &Bounds { lost_disks: 1, learn: [false, true], ..grow }, &[Fault::ForgetsEpoch]);
    let swap = vec![vec!["a"], vec!["b"]];
    check("swap", &Bounds { epochs: swap, asks: [1, 1], time: 1, ..NOTHING }, &[Fault::Swap]);
}
