//! What on this node keeps addresses from working, in plain words with the mend.

use crate::Options;
use crate::facts::{Conflict, Facts, Probed};
use api::pool::Interface;
use api::speaker::Warning;
use api::{Pool, Protocol};
use engine::Tick;
use net::Routes;
use net::host::{check, read_settings};
use plan::{Note, Plan};
use std::collections::BTreeSet;
use std::time::Duration;

/// Trouble on the wire that was not seen again for so long is over: the engines repeat themselves every minute at most.
const TROUBLE_LASTS: Duration = Duration::from_secs(150);

/// Everything that is wrong here now but what is of BGP alone. `pools` are the valid ones; `no_bgp` says why nothing is
/// announced by BGP, if nothing is.
pub(crate) fn find(
    pools: &[Pool],
    plan: &Plan,
    facts: &Facts,
    options: &Options,
    no_bgp: Option<&str>,
) -> Vec<Warning> {
    let mut found = BTreeSet::new();
    let routes = Routes::new().ok();
    for pool in pools {
        let used = plan.addresses.values().any(|a| a.pool.name == pool.name);
        let protocol = match pool.protocol {
            Protocol::Bgp => "bgp",
            Protocol::Layer2 => "layer2",
            Protocol::Vip => "vip",
        };
        if !options.owns(pool.protocol) {
            let mend = match pool.protocol {
                Protocol::Layer2 => Some("start the speaker with --enable-layer2=true"),
                Protocol::Vip => Some("start the speaker with --enable-keepalived-vip=true"),
                Protocol::Bgp => no_bgp,
            };
            if let Some(mend) = mend.filter(|_| used) {
                let message = format!("no registered speaker:[{protocol}] eip:[{}]; {mend}", pool.name);
                found.insert(warning("NoSpeaker", Some(&pool.name), message));
            }
            continue;
        }
        if concerns(pool, plan, options) {
            found.extend(of_layer2(pool, facts, routes.as_ref()));
            found.extend(of_vip(pool, used, facts));
        }
    }
    let lasts = |since: &Tick| facts.now.since(*since) < TROUBLE_LASTS;
    for (address, Conflict { on, mac, node, .. }) in facts.conflicts.iter().filter(|(_, c)| lasts(&c.at)) {
        let who = node.as_ref().map_or_else(|| mac.to_string(), |node| format!("{mac} of node {node}"));
        let pool = plan.addresses.get(address).map(|a| a.pool.name.as_str());
        let on = facts.table.name_of(*on);
        let message = format!(
            "{who} on {on} answers for {address} too, which this node owns; find that host and take the address from it, or add {address} to spec.exclude"
        );
        found.insert(about(address, "AddressConflict", pool, message));
    }
    for ((from, reason), _) in facts.rejected.iter().filter(|(_, (_, at))| lasts(at)) {
        found.insert(warning("HeartbeatsRejected", None, format!("heartbeats from {from} are refused: {reason}")));
    }
    for (address, (on, mac)) in &facts.taken {
        let pool = plan.addresses.get(address).map(|a| a.pool.name.as_str());
        let on = facts.table.name_of(*on);
        let message = format!(
            "{mac} on {on} has {address}, so it is not announced; find that host and take the address from it, or add {address} to spec.exclude"
        );
        found.insert(about(address, "AddressTaken", pool, message));
    }
    found.extend(of_probes(plan, facts));
    found.extend(of_acceptors(plan, facts, options));
    if plan.notes.contains(&Note::AllNodesExcluded) {
        found.insert(warning("AllNodesExcluded", None, Note::AllNodesExcluded.to_string()));
    }
    found.into_iter().collect()
}

/// What the wire said when this node asked for addresses of others.
fn of_probes(plan: &Plan, facts: &Facts) -> Vec<Warning> {
    let mut found = Vec::new();
    for (address, outcome) in &facts.probed {
        let Some(owner) = facts.view.owners.get(address) else { continue };
        let pool = plan.addresses.get(address).map(|a| a.pool.name.as_str());
        match outcome {
            Probed::Unanswered => {
                let message = format!(
                    "nobody answers for {address} when this node asks, although {owner} owns it: look at the link and the switch between them"
                );
                found.push(about(address, "NotAnswered", pool, message));
            }
            Probed::Foreign { mac, times: 2.. } => {
                let message = format!(
                    "{mac} answers for {address}, which {owner} owns and which does not have that interface; {owner} announces itself again: if this stays, find that host and take the address from it"
                );
                found.push(about(address, "AnsweredByStranger", pool, message));
            }
            Probed::Several(macs) => {
                let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
                let message = format!(
                    "several hosts answer for {address}, which {owner} owns: {}; find the others and take the address from them",
                    macs.join(", ")
                );
                found.push(about(address, "AnsweredTwice", pool, message));
            }
            Probed::Right | Probed::Foreign { .. } => {}
        }
    }
    for (on, gateway) in &facts.silent_gateways {
        let on = facts.table.name_of(*on);
        let message = format!(
            "the gateway {gateway} does not answer this node on {on}: addresses go to nodes that it answers, if there are any; look at the link, the VLAN and the gateway"
        );
        found.push(about(gateway, "GatewaySilent", None, message));
    }
    found
}

/// What keeps speakers from agreeing on owners.
fn of_acceptors(plan: &Plan, facts: &Facts, options: &Options) -> Vec<Warning> {
    let mut found = Vec::new();
    let (view, port) = (&facts.view, options.bind.port());
    let peers = plan.peers.keys().filter(|node| **node != options.node);
    let peers: Vec<&str> = peers.map(String::as_str).collect();
    if facts.commands == 0 || !view.ready || peers.is_empty() {
        return found;
    }
    let shown = peers.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if view.blocked {
        let message = format!(
            "no heartbeat comes from {shown} or any other node, but the segment is not empty: this node takes nothing that it does not own; let UDP port {port} through between nodes"
        );
        found.push(warning("PortBlocked", None, message));
    } else if view.alive.is_empty() {
        let message = format!(
            "no heartbeat comes from {shown} or any other node: if speakers run there, let UDP port {port} through between nodes"
        );
        found.push(warning("HearsNobody", None, message));
    }
    if view.members.is_empty() && (options.layer2 || options.vip) {
        let message = format!(
            "no acceptors are named, so no node owns an address: the controller names them in the ConfigMap {}; in a folder without a controller, write it",
            api::keys::OWNERSHIP
        );
        found.push(warning("NoAcceptors", None, message));
    }
    let without = view.owned.iter().filter(|(_, o)| o.without_majority).count();
    if without > 0 {
        let members = view.members.iter().cloned().collect::<Vec<_>>().join(", ");
        let message = format!(
            "{without} addresses are owned although no majority of the acceptors ({members}) is heard: were the network cut between this node and them, another node could answer too"
        );
        found.push(warning("WithoutMajority", None, message));
    }
    if view.lost_record {
        let message = "the record of the acceptors' epoch is gone from this node's disk: it grants nothing until the controller has taken it out of the acceptors and added it anew";
        found.push(warning("RecordLost", None, message.to_owned()));
    }
    if let Some(epoch) = view.refused_epoch {
        let message = format!(
            "the epoch {epoch} of the acceptors was refused: it has the number of another one, or exchanges members by one step; correct the ConfigMap {}, or type oxelb acceptors reset",
            api::keys::OWNERSHIP
        );
        found.push(warning("EpochRefused", None, message));
    }
    found
}

pub(crate) fn warning(reason: &str, pool: Option<&str>, message: String) -> Warning {
    Warning { reason: reason.to_owned(), pool: pool.map(str::to_owned), subject: None, message }
}

fn about(subject: impl ToString, reason: &str, pool: Option<&str>, message: String) -> Warning {
    Warning { subject: Some(subject.to_string()), ..warning(reason, pool, message) }
}

/// Whether this node may announce the pool: a pool without Services may, by its selector, be for any node.
fn concerns(pool: &Pool, plan: &Plan, options: &Options) -> bool {
    let mut announcements = plan.addresses.values().filter(|a| a.pool.name == pool.name).peekable();
    announcements.peek().is_none() || announcements.any(|a| a.candidates.contains(&options.node))
}

/// What is wrong with addresses on interfaces, and with ids of VRRP.
fn of_vip(pool: &Pool, used: bool, facts: &Facts) -> Vec<Warning> {
    let mut found = Vec::new();
    if pool.protocol != Protocol::Vip || !used {
        return found;
    }
    if !facts.fenced {
        let message = "the addresses are announced and answered for, but are not put on the interface: the kernel would answer for them when this speaker is dead (and virtualMac has no effect); give it the capabilities NET_ADMIN and BPF, on Linux 5.18 or newer";
        found.push(warning("NotFenced", Some(&pool.name), message.to_owned()));
    }
    for (address, why) in facts.not_put.iter().filter(|(ip, _)| pool.addresses.contains(**ip)) {
        let message = format!("{address} is announced and answered for, but is not on the interface: {why}");
        found.push(about(address, "NotOnInterface", Some(&pool.name), message));
    }
    for foreign in facts.foreign_routers.iter().filter(|f| f.pool == pool.name) {
        let (id, from) = (foreign.id, foreign.from);
        let message = format!(
            "{from} is master of a virtual router with id {id} too and is none of our speakers: its addresses get another id, if spec.vrrp.routerId leaves one"
        );
        found.push(about(id, "RouterIdTaken", Some(&pool.name), message));
    }
    found
}

fn of_layer2(pool: &Pool, facts: &Facts, routes: Option<&Routes>) -> Vec<Warning> {
    if let Some(reason) = facts.unresolved.get(&pool.name) {
        return vec![warning("InterfaceMissing", Some(&pool.name), reason.clone())];
    }
    let route = |ip| routes.and_then(|r| r.to(ip).ok());
    let on: BTreeSet<_> = match &pool.interface {
        Some(Interface::Names(names)) => names.iter().filter_map(|n| facts.table.index_of(n)).collect(),
        Some(Interface::CanReach(ip)) => route(*ip).into_iter().collect(),
        None => BTreeSet::new(),
    };
    if on.is_empty() {
        let Some(interface) = &pool.interface else { return Vec::new() };
        let wanted = match interface {
            Interface::Names(names) => format!("no interface {} on this node", names.join(", ")),
            Interface::CanReach(ip) => format!("no interface leads to {ip} (can_reach)"),
        };
        let mend = "correct spec.interface, or keep the pool off this node with spec.nodeSelector";
        return vec![warning("InterfaceMissing", Some(&pool.name), format!("{wanted}; {mend}"))];
    }
    let names: Vec<String> = on.iter().map(|i| facts.table.name_of(*i)).collect();
    let settings = read_settings(names.iter().map(String::as_str));
    let ranges: Vec<_> = pool.addresses.ranges().iter().map(|r| (r.first(), r.last())).collect();
    let found = check(&ranges, &on, &facts.table, &settings, route);
    found.into_iter().map(|w| about(w.subject, w.reason, Some(&pool.name), w.message)).collect()
}
