//! The node's Speaker, made from facts.

use crate::Options;
use crate::facts::Facts;
use api::Condition;
use api::speaker::{AcceptorStatus, BgpSummary, OwnedAddress, SpeakerMove, SpeakerStatus, Warning};
use engine::Tick;
use plan::Plan;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// So many moves are told.
const MOVES: usize = 10;

/// Remembers since when things are as they are.
pub(crate) struct Status {
    since: BTreeMap<IpAddr, String>,
    alive: Option<Condition>,
    /// The last moves, with when they were by the engine's clock.
    moves: Vec<(Tick, SpeakerMove)>,
    owns: bool,
    node: String,
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time that was so long ago, RFC 3339, to the millisecond.
pub(crate) fn before(ago: std::time::Duration) -> String {
    let at = jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What the controller must know to keep the set of acceptors.
fn acceptor(facts: &Facts, plan: &Plan, node: &str) -> AcceptorStatus {
    let view = &facts.view;
    let unheard = plan.peers.keys().filter(|peer| !view.alive.contains(*peer) && *peer != node);
    AcceptorStatus {
        epoch: i64::try_from(facts.recorded.number).unwrap_or(i64::MAX),
        members: facts.recorded.members.iter().cloned().collect(),
        ready: view.ready,
        lost_record: view.lost_record,
        unheard: unheard.cloned().collect(),
    }
}

impl Status {
    pub(crate) fn new(options: &Options) -> Status {
        Status {
            since: BTreeMap::new(),
            alive: None,
            moves: Vec::new(),
            owns: options.layer2 || options.vip,
            node: options.node.clone(),
        }
    }

    /// Notes what was won and lost, one log line each.
    pub(crate) fn observe(&mut self, facts: &Facts, plan: &Plan) {
        let pool = |ip: &IpAddr| plan.addresses.get(ip).map(|a| a.pool.name.as_str()).unwrap_or_default();
        self.since.retain(|ip, _| {
            let kept = facts.owned.contains_key(ip);
            if !kept {
                let new_owner = facts.view.owners.get(ip).map(String::as_str).unwrap_or("nobody yet");
                let reason = facts.lost.get(ip).map_or("its interface is gone", String::as_str);
                tracing::info!(address = %ip, pool = pool(ip), new_owner, reason, "this node does not answer for the address any more");
            }
            kept
        });
        let last = self.moves.last().map(|(at, _)| *at);
        for moved in facts.view.moves.iter().filter(|m| last.is_none_or(|last| m.at > last)) {
            let said = SpeakerMove {
                address: moved.address.to_string(),
                gained: moved.lost.is_none(),
                at: before(facts.now.since(moved.at)),
                reason: moved.lost.as_ref().map(ToString::to_string).unwrap_or_default(),
            };
            self.moves.push((moved.at, said));
        }
        let old = self.moves.len().saturating_sub(MOVES);
        self.moves.drain(..old);
        for (ip, interfaces) in &facts.owned {
            if !self.since.contains_key(ip) {
                tracing::info!(address = %ip, pool = pool(ip), ?interfaces, "this node answers for the address");
                self.since.insert(*ip, now());
            }
        }
    }

    pub(crate) fn status(
        &mut self,
        facts: &Facts,
        plan: &Plan,
        bgp: Option<BgpSummary>,
        warnings: Vec<Warning>,
        running: bool,
    ) -> SpeakerStatus {
        let addresses: Vec<OwnedAddress> = facts
            .owned
            .iter()
            .map(|(ip, interfaces)| OwnedAddress {
                address: ip.to_string(),
                pool: plan.addresses.get(ip).map(|a| a.pool.name.clone()).unwrap_or_default(),
                interfaces: interfaces.iter().cloned().collect(),
                since: self.since.get(ip).cloned().unwrap_or_default(),
                without_majority: facts.view.owned.get(ip).is_some_and(|o| o.without_majority),
            })
            .collect();
        let links = facts.table.links.iter().filter(|(_, link)| !link.loopback);
        let alive = match (running, facts.view.ready, self.owns) {
            (false, ..) => Condition::new("Alive", false, "Stopped", "the speaker was stopped in good order"),
            (true, false, _) => {
                Condition::new("Alive", false, "Silent", "started; as an acceptor it is silent for 3 s at first")
            }
            (true, true, false) => Condition::new(
                "Alive",
                true,
                "Running",
                "the speaker runs; layer2 and vip are switched off (--enable-layer2=false)",
            ),
            (true, true, true) => Condition::new("Alive", true, "Running", "the speaker runs"),
        };
        let alive = alive.stamped(self.alive.as_ref(), &now());
        self.alive = Some(alive.clone());
        SpeakerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            owns: i64::try_from(addresses.len()).unwrap_or(i64::MAX),
            addresses,
            interfaces: links
                .filter_map(|(index, link)| {
                    let addresses =
                        facts.table.addresses.get(index)?.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
                    Some((link.name.clone(), addresses))
                })
                .collect(),
            acceptor: (facts.commands > 0).then(|| acceptor(facts, plan, &self.node)),
            bgp,
            moves: self.moves.iter().map(|(_, said)| said.clone()).collect(),
            warnings,
            conditions: vec![alive],
        }
    }
}
