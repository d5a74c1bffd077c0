//! What a peer says, and what comes of it.

use super::connection::{Connection, Phase};
use super::types::{ConnectionId, Direction, Down, Effect, State};
use super::{Session, TOLD_FAULTS, WINNER_HOLD};
use crate::config::Excess;
use crate::negotiated::{self, Negotiated};
use crate::prefix::{AfiSafi, Family};
use crate::wire::{Cease, Code, Message, Notification, Open, Refresh, Treatment, Update};
use engine::Tick;

impl Session {
    pub(super) fn receive(&mut self, now: Tick, id: ConnectionId, bytes: &[u8]) {
        let Some(c) = self.connections.get_mut(&id) else { return };
        c.framer.push(bytes);
        // The connection may be gone after any message.
        while let Some(c) = self.connections.get_mut(&id) {
            match c.next_message() {
                Ok(Some(message)) => {
                    self.counters.received.count(&message);
                    self.message(now, id, message);
                }
                Ok(None) => return,
                Err(malformed) => {
                    self.refuse(now, id, malformed.notification(), malformed.to_string());
                    return;
                }
            }
        }
    }

    fn message(&mut self, now: Tick, id: ConnectionId, message: Message) {
        let Some(c) = self.connections.get_mut(&id) else { return };
        let state = c.state();
        if let (State::OpenConfirm | State::Established, Some(hold)) =
            (state, c.negotiated().map(|n| n.hold_time.duration()))
        {
            c.hold = hold.map(|h| now + h);
        }
        match (state, message) {
            (_, Message::Notification(notification)) => self.end(now, id, Down::Received(notification)),
            (State::OpenSent, Message::Open(open)) => self.open(now, id, &open),
            (State::OpenConfirm, Message::Keepalive) => self.session_up(now, id),
            (State::Established, Message::Keepalive) => {}
            (State::Established, Message::Update(update)) => self.update(now, id, &update),
            (State::Established, Message::RouteRefresh { family, refresh }) => self.refresh(id, family, refresh),
            (_, message) => {
                // RFC 6608.
                let subcode = match state {
                    State::OpenSent => 1,
                    State::OpenConfirm => 2,
                    _ => 3,
                };
                let detail = format!("{:?} in {state}", message.kind());
                self.refuse(now, id, Notification::new(Code::StateMachine(subcode)), detail);
            }
        }
    }

    fn open(&mut self, now: Tick, id: ConnectionId, open: &Open) {
        let negotiated = match negotiated::negotiate(&self.config, open) {
            Ok(negotiated) => negotiated,
            Err(notification) => {
                let detail = format!("the peer is AS {} with router id {}", open.asn(), open.router_id);
                return self.refuse(now, id, notification, detail);
            }
        };
        let others: Vec<ConnectionId> = self.connections.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            if !self.survives(now, id, other, &negotiated) {
                return self.refuse(now, id, Notification::cease(Cease::CollisionResolution), String::new());
            }
        }
        self.connecting = None;
        if let Some(c) = self.connections.get_mut(&id) {
            c.hold = negotiated.hold_time.duration().map(|h| now + h);
            c.phase = Phase::OpenConfirm(Box::new(negotiated));
        }
        self.write(now, id, &Message::Keepalive);
    }

    /// RFC 4271 §6.8: of two connections one is closed; whether it is not `id`, on which the peer has just said OPEN.
    /// Both sides come to the same answer, because both compare the same two identifiers.
    fn survives(&mut self, now: Tick, id: ConnectionId, other: ConnectionId, negotiated: &Negotiated) -> bool {
        let (Some(c), Some(o)) = (self.connections.get(&id), self.connections.get(&other)) else { return true };
        if let Some(established) = o.established() {
            // RFC 4724 §5: a peer that restarts gracefully does not say goodbye.
            let restarted = established.graceful_restart.is_some() && negotiated.graceful_restart.is_some();
            if restarted {
                self.end(now, other, Down::Replaced);
            }
            return restarted;
        }
        // RFC 6286 §2.3: equal identifiers are told apart by the AS number.
        let ours = (self.config.router_id, self.config.local_as) > (negotiated.router_id, negotiated.peer_as);
        let winner = if ours { Direction::Outgoing } else { Direction::Incoming };
        let wins = |c: &Connection| c.direction == winner;
        if wins(c) || !wins(o) {
            self.refuse(now, other, Notification::cease(Cease::CollisionResolution), String::new());
            return true;
        }
        if let Some(o) = self.connections.get_mut(&other).filter(|o| o.state() == State::OpenSent) {
            o.hold = o.hold.map(|h| h.min(now + WINNER_HOLD));
        }
        false
    }

    fn session_up(&mut self, now: Tick, id: ConnectionId) {
        let others: Vec<ConnectionId> = self.connections.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.refuse(now, other, Notification::cease(Cease::CollisionResolution), String::new());
        }
        let Some(c) = self.connections.get_mut(&id) else { return };
        let phase = std::mem::replace(&mut c.phase, Phase::OpenSent);
        let Phase::OpenConfirm(negotiated) = phase else {
            c.phase = phase;
            return;
        };
        c.phase = Phase::Established(negotiated.clone());
        (self.connecting, self.retry) = (None, None);
        self.since = now;
        self.counters.established += 1;
        self.disabled.clear();
        self.told_excess.clear();
        self.told_faults = 0;
        self.helper.session_up(now, &negotiated, &self.config, &mut self.received);
        let limits = self.limits(&negotiated);
        self.out.begin(limits);
        self.effects.push_back(Effect::Established(negotiated));
    }

    fn update(&mut self, now: Tick, id: ConnectionId, update: &Update) {
        if let Some(family) = update.ends_rib_of() {
            self.helper.end_of_rib(family, &mut self.received);
            return;
        }
        for fault in &update.faults {
            self.counters.damaged += 1;
            if let Treatment::DisableFamily(numbers) = fault.treatment
                && let Some(family) = numbers.family()
            {
                self.disabled.insert(family);
                self.received.forget(family);
            }
            if self.told_faults < TOLD_FAULTS {
                self.told_faults += 1;
                self.effects.push_back(Effect::Damaged(fault.clone()));
            }
        }
        let agreed = self.connections.get(&id).and_then(Connection::established).map(|n| n.codec.families.clone());
        let listens =
            |s: &Session, f: Family| agreed.as_ref().is_some_and(|a| a.contains(&f)) && !s.disabled.contains(&f);
        for nlri in update.gone() {
            self.received.remove(nlri);
        }
        let limit = self.config.max_prefixes.limit;
        for nlri in update.coming() {
            let family = nlri.prefix.family();
            if !listens(self, family) || self.received.add(*nlri, limit) {
                continue;
            }
            if self.told_excess.insert(family) {
                self.effects.push_back(Effect::TooManyPrefixes(family));
            }
            if let Excess::Cease(time) = self.config.max_prefixes.excess {
                return self.cease_for_prefixes(now, id, family, time);
            }
        }
    }

    fn refresh(&mut self, id: ConnectionId, numbers: AfiSafi, refresh: Option<Refresh>) {
        let agreed = |f: &Family| {
            let negotiated = self.connections.get(&id).and_then(Connection::established);
            negotiated.is_some_and(|n| n.codec.families.contains(f))
        };
        match (numbers.family().filter(agreed), refresh) {
            (Some(family), Some(Refresh::Request)) => drop(self.refresh_due.insert(family)),
            (Some(family), Some(Refresh::Begin)) => self.received.mark_stale(family),
            (Some(family), Some(Refresh::End)) => self.received.sweep(family),
            _ => self.counters.received.discarded += 1,
        }
    }
}
