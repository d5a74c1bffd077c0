//! What is written to the peer, and when.

use super::connection::Connection;
use super::types::{ConnectionId, Effect};
use super::{SEND_WINDOW, Session};
use crate::export::Export;
use crate::negotiated::Negotiated;
use crate::prefix::Family;
use crate::routes_out::Limits;
use crate::wire::{Codec, Message, Refresh};
use engine::Tick;
use std::net::IpAddr;

impl Session {
    pub(super) fn write(&mut self, now: Tick, id: ConnectionId, message: &Message) {
        let Some(c) = self.connections.get_mut(&id) else { return };
        let mut bytes = Vec::new();
        c.negotiated().map_or(&Codec::default(), |n| &n.codec).emit(message, &mut bytes);
        self.counters.sent.count(message);
        self.give(now, id, bytes);
        if *message == Message::Keepalive {
            self.restart_keepalive(now, id);
        }
    }

    pub(super) fn give(&mut self, now: Tick, id: ConnectionId, bytes: Vec<u8>) {
        let Some(c) = self.connections.get_mut(&id) else { return };
        if c.unsent == 0 {
            c.progress = now;
        }
        c.unsent += bytes.len();
        self.effects.push_back(Effect::Write { connection: id, bytes });
    }

    /// RFC 4271 §4.4: only a KEEPALIVE or an UPDATE tells the peer that we are still there.
    pub(super) fn restart_keepalive(&mut self, now: Tick, id: ConnectionId) {
        let interval = self.connections.get(&id).and_then(|c| c.negotiated()?.keepalive);
        let next = interval.map(|i| now + self.jitter(i));
        if let Some(c) = self.connections.get_mut(&id) {
            c.keepalive = next;
        }
    }

    pub(super) fn ask_again(&mut self, family: Family) {
        let able =
            |c: &Connection| c.established().is_some_and(|n| n.route_refresh && n.codec.families.contains(&family));
        if self.established().is_some_and(|(_, c)| able(c)) {
            self.ask_due.insert(family);
        }
    }

    pub(super) fn say_all_again(&mut self) {
        Family::ALL.into_iter().for_each(|f| self.out.again(f, false));
    }

    pub(super) fn limits(&self, negotiated: &Negotiated) -> Limits {
        let several = |f: &Family| {
            let configured = self.config.families.get(f).map_or(1, |c| usize::from(c.add_path_send).max(1));
            negotiated.codec.add_path_send.contains(f).then_some(configured)
        };
        negotiated.codec.families.iter().map(|f| (*f, several(f))).collect()
    }

    /// Sends routes as long as the peer takes them.
    pub(super) fn pump(&mut self, now: Tick) {
        if self.out.settled() && self.refresh_due.is_empty() && self.ask_due.is_empty() {
            return;
        }
        let Some((id, connection)) = self.established() else { return };
        let (local, unsent) = (connection.local, connection.unsent);
        let Some(negotiated) = connection.established() else { return };
        let (codec, enhanced) = (negotiated.codec.clone(), negotiated.enhanced_refresh);
        let export = self.export(local);
        let mut bytes = Vec::new();
        let (mut routes, mut announced) = (false, false);
        while unsent + bytes.len() < SEND_WINDOW {
            if self.out.settled() {
                // One answer at a time: a peer that asks and asks is answered as fast as it reads.
                for family in std::mem::take(&mut self.refresh_due) {
                    self.out.again(family, enhanced);
                }
            }
            let announce = self.announce_after.is_none();
            let ask =
                |family: Family| Message::RouteRefresh { family: family.afi_safi(), refresh: Some(Refresh::Request) };
            let asks = self.ask_due.pop_first().map(ask);
            let Some(message) = asks.or_else(|| self.out.next_message(&codec, &export, announce)) else { break };
            routes |= matches!(message, Message::Update(_));
            announced |= matches!(&message, Message::Update(u) if u.coming().next().is_some());
            self.counters.sent.count(&message);
            codec.emit(&message, &mut bytes);
        }
        if self.out.said_all() {
            self.restarting_until = None;
        }
        if announced && self.out.settled() && !self.config.advertisement_interval.is_zero() {
            self.announce_after = Some(now + self.jitter(self.config.advertisement_interval));
        }
        if !bytes.is_empty() {
            self.give(now, id, bytes);
        }
        if routes {
            self.restart_keepalive(now, id);
        }
    }

    pub(super) fn export(&self, local: IpAddr) -> Export {
        Export { local_as: self.config.local_as, next_hops: self.config.next_hops, local, draining: self.draining }
    }
}
