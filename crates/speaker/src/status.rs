//! The node's Speaker, made from facts.

use crate::Options;
use crate::facts::Facts;
use api::Condition;
use api::speaker::{BgpSummary, OwnedAddress, SpeakerStatus, Warning};
use plan::Plan;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Remembers since when things are as they are.
pub(crate) struct Status {
    since: BTreeMap<IpAddr, String>,
    alive: Option<Condition>,
    layer2: bool,
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Status {
    pub(crate) fn new(options: &Options) -> Status {
        Status { since: BTreeMap::new(), alive: None, layer2: options.layer2 }
    }

    /// Notes what was won and lost, one log line each.
    pub(crate) fn observe(&mut self, facts: &Facts, plan: &Plan) {
        let pool = |ip: &IpAddr| plan.addresses.get(ip).map(|a| a.pool.name.as_str()).unwrap_or_default();
        self.since.retain(|ip, _| {
            let kept = facts.owned.contains_key(ip);
            if !kept {
                let new_owner = facts.owners.get(ip).map(String::as_str).unwrap_or("nobody yet");
                let reason = facts.lost.get(ip).map_or("its interface is gone", String::as_str);
                tracing::info!(address = %ip, pool = pool(ip), new_owner, reason, "this node does not answer for the address any more");
            }
            kept
        });
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
            })
            .collect();
        let links = facts.table.links.iter().filter(|(_, link)| !link.loopback);
        let alive = match (running, facts.listening, self.layer2) {
            (false, ..) => Condition::new("Alive", false, "Stopped", "the speaker was stopped in good order"),
            (true, true, _) => {
                Condition::new("Alive", false, "Listening", "started; it listens first to hear who owns what")
            }
            (true, false, false) => Condition::new(
                "Alive",
                true,
                "Running",
                "the speaker runs; layer2 is switched off (--enable-layer2=false)",
            ),
            (true, false, true) => Condition::new("Alive", true, "Running", "the speaker runs"),
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
            bgp,
            warnings,
            conditions: vec![alive],
        }
    }
}
