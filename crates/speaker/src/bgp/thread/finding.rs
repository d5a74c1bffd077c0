//! Routers whose addresses are not written down: one at the other end of an interface, which is found by its router
//! advertisements, and those of a network, which connect.
//!
//! ```text
//!  BgpPeer of an interface ──► Discovery ──► address ──┐
//!  BgpPeer of a network ──► a connection from there ───┴──► a router like any other, for as long as it is found
//! ```

use super::listening::may_come_by;
use super::{Thread, end_of};
use crate::bgp::facts::member;
use crate::bgp::intent::{Finding, Intent, Router};
use bgp::{ALL_ROUTERS, Discovery, DiscoveryEffect, DiscoveryInput, ICMPV6, Prefix, State};
use engine::{Engine, IfIndex, Tick};
use net::{RawIp, TcpOptions};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// So many routers of one network at most have a session.
const MEMBERS: usize = 256;
/// How often it is seen whether an interface can be used that could not.
const AGAIN: Duration = Duration::from_secs(1);
/// How many packets of a link are read in a turn.
const BATCH: usize = 64;

/// A link on which a router is looked for.
pub(super) struct Looking {
    device: String,
    /// `None` while the interface cannot be used.
    link: Option<Opened>,
    discovery: Discovery,
    again: Tick,
}

/// A link that can be used.
struct Opened {
    token: u64,
    on: IfIndex,
    socket: RawIp,
}

impl Thread {
    /// All routers that are to be talked to: those with an address, and those that were found.
    pub(super) fn routers(&self) -> BTreeMap<String, Router> {
        let mut routers = self.intent.peers.clone();
        for (name, (finding, router)) in &self.intent.found {
            for address in self.found.get(name).into_iter().flatten() {
                let written = |r: &Router| r.address.ip() == address.ip();
                let own = match finding {
                    Finding::Interface(_) => name.clone(),
                    Finding::Range(prefix) if !prefix.contains(Prefix::host(address.ip())) => continue,
                    // Who has a BgpPeer of its own is no other's.
                    Finding::Range(_) if self.intent.peers.values().any(written) => continue,
                    Finding::Range(_) => member(name, address.ip()),
                };
                let mut address = *address;
                address.set_port(router.address.port());
                routers.insert(own, Router { address, ..router.clone() });
            }
        }
        routers
    }

    /// Each network whose packets are signed alike: an address and how many of its bits count.
    pub(super) fn networks<'a>(
        &'a self,
        of: &'a Intent,
    ) -> impl Iterator<Item = (&'a String, (IpAddr, u8), &'a TcpOptions)> {
        let one = |ip: IpAddr| (ip, Prefix::host(ip).length());
        let written = of.peers.iter().map(move |(name, r)| (name, one(r.address.ip()), &r.transport));
        let found = of.found.iter().flat_map(move |(name, (finding, r))| {
            let networks: Vec<(IpAddr, u8)> = match finding {
                Finding::Range(prefix) => vec![(prefix.address(), prefix.length())],
                Finding::Interface(_) => self.found.get(name).into_iter().flatten().map(|a| one(a.ip())).collect(),
            };
            networks.into_iter().map(move |network| (name, network, &r.transport))
        });
        written.chain(found)
    }

    /// A router that nobody has named connects: the BgpPeer of the smallest network that it is in takes it in, under the
    /// name that is returned.
    pub(super) fn take_in(&mut self, from: SocketAddr, device: &Option<String>) -> Option<String> {
        let host = Prefix::host(from.ip());
        let networks = self.intent.found.iter().filter_map(|(name, (finding, router))| match finding {
            Finding::Range(prefix)
                if prefix.contains(host) && may_come_by(&router.transport, device) && !router.down =>
            {
                Some((prefix.length(), name.clone()))
            }
            _ => None,
        });
        let (_, name) = networks.max()?;
        let members = self.found.entry(name.clone()).or_default();
        if members.len() >= MEMBERS {
            tracing::warn!(peer = name, %from, "its network has {MEMBERS} routers already, another is not talked to");
            return None;
        }
        let mut address = from;
        address.set_port(0);
        members.insert(address);
        self.reconcile();
        self.by_address.get(&end_of(from)).cloned()
    }

    /// Routers of a network are forgotten with their session: they come back by themselves.
    pub(super) fn forget_ended(&mut self) {
        let mut changed = false;
        for name in std::mem::take(&mut self.ended) {
            let Some((peer, address)) = name.split_once('/') else { continue };
            let over = |p: &super::Peer| matches!(p.session.state(), State::Idle | State::Active | State::Connect);
            let (Some(members), Ok(ip)) = (self.found.get_mut(peer), address.parse::<IpAddr>()) else { continue };
            if self.peers.get(&name).is_some_and(over) {
                members.retain(|m| m.ip() != ip);
                changed = true;
            }
        }
        if changed {
            self.reconcile();
        }
    }

    /// Looks on the links of the intent, and on no others.
    pub(super) fn look_for(&mut self, now: Tick) {
        let wanted: BTreeMap<&String, &String> = self
            .intent
            .found
            .iter()
            .filter_map(|(name, (finding, router))| match finding {
                Finding::Interface(device) if !router.down => Some((name, device)),
                _ => None,
            })
            .collect();
        self.discoveries.retain(|name, looking| wanted.get(name).is_some_and(|device| **device == looking.device));
        for (name, device) in wanted {
            let new = || Looking { device: device.clone(), link: None, discovery: Discovery::new(now), again: now };
            self.discoveries.entry(name.clone()).or_insert_with(new);
        }
        let (intent, discoveries) = (&self.intent, &self.discoveries);
        self.found.retain(|name, _| match intent.found.get(name) {
            Some((Finding::Range(_), router)) => !router.down,
            Some((Finding::Interface(_), _)) => discoveries.contains_key(name),
            None => false,
        });
    }

    pub(super) fn looks_at(&self) -> Option<Tick> {
        let at = |l: &Looking| if l.link.is_some() { l.discovery.deadline() } else { Some(l.again) };
        self.discoveries.values().filter_map(at).min()
    }

    /// What is due on links.
    pub(super) fn look(&mut self, now: Tick) {
        let names: Vec<String> = self.discoveries.keys().cloned().collect();
        for name in names {
            let session = self.peers.get(&name).is_some_and(|p| p.session.state() == State::Established);
            let Some(looking) = self.discoveries.get_mut(&name) else { continue };
            if looking.link.is_none() && looking.again <= now {
                looking.again = now + AGAIN;
                looking.link = open(&looking.device, self.next_listener);
                if let Some(link) = &looking.link {
                    if self.poller.add(&link.socket, self.next_listener).is_err() {
                        looking.link = None;
                        continue;
                    }
                    self.next_listener += 1;
                    looking.discovery = Discovery::new(now);
                }
            }
            looking.discovery.handle(now, DiscoveryInput::Session(session));
            if looking.link.is_some() && looking.discovery.deadline().is_some_and(|at| at <= now) {
                looking.discovery.timeout(now);
            }
            self.found_on(&name);
        }
        self.say_unfound();
    }

    /// Takes in what came on a link; false where the token is of no link.
    pub(super) fn hears(&mut self, token: u64, buffer: &mut [u8]) -> bool {
        let of = |l: &Looking| l.link.as_ref().is_some_and(|link| link.token == token);
        let Some(name) = self.discoveries.iter().find(|(_, l)| of(l)).map(|(name, _)| name.clone()) else {
            return false;
        };
        for _ in 0..BATCH {
            let Some(looking) = self.discoveries.get_mut(&name) else { break };
            let Some(link) = &looking.link else { break };
            match link.socket.receive(buffer) {
                Ok(None) => break,
                Ok(Some((arrival, message))) => {
                    if let IpAddr::V6(from) = arrival.from.ip() {
                        let input = DiscoveryInput::Packet { from, hop_limit: arrival.ttl, message: message.to_vec() };
                        looking.discovery.handle(net::now(), input);
                    }
                }
                Err(error) => {
                    tracing::info!(peer = name, %error, "the router is looked for again once the interface can be used");
                    looking.close(&self.poller);
                }
            }
        }
        self.found_on(&name);
        true
    }

    fn found_on(&mut self, name: &str) {
        let mut found = None;
        while let Some(looking) = self.discoveries.get_mut(name)
            && let Some(effect) = looking.discovery.poll()
        {
            let Some(link) = &looking.link else { continue };
            match effect {
                DiscoveryEffect::Send { to, message } => {
                    if let Err(error) = link.socket.send(to.into(), &message) {
                        tracing::debug!(peer = name, %error, "a router advertisement was not sent");
                        looking.close(&self.poller);
                    }
                }
                DiscoveryEffect::Found(address) => {
                    tracing::info!(peer = name, device = looking.device, %address, "the router is found");
                    found = Some(SocketAddr::from(SocketAddrV6::new(address, 0, 0, link.on.0)));
                }
            }
        }
        if let Some(address) = found {
            self.found.insert(name.to_owned(), [address].into());
            self.reconcile();
        }
    }

    fn say_unfound(&mut self) {
        let why = |l: &Looking| match &l.link {
            None => format!("the interface {} has no link-local address, or is not there", l.device),
            Some(_) => format!("no router advertises itself on {}; is BGP unnumbered there?", l.device),
        };
        let unfound = self.discoveries.iter().filter(|(name, _)| !self.found.contains_key(*name));
        let unfound: BTreeMap<String, String> = unfound.map(|(name, l)| (name.clone(), why(l))).collect();
        self.news |= unfound != self.facts.unfound;
        self.facts.unfound = unfound;
    }
}

impl Looking {
    fn close(&mut self, poller: &net::Poller) {
        if let Some(link) = self.link.take() {
            let _ = poller.remove(&link.socket);
        }
    }
}

fn open(device: &str, token: u64) -> Option<Opened> {
    let (on, local) = net::link_local(device)?;
    match RawIp::open(ICMPV6, (on, device), ALL_ROUTERS.into(), local.into()) {
        Ok(socket) => Some(Opened { token, on, socket }),
        Err(error) => {
            tracing::warn!(device, %error, "no router is looked for");
            None
        }
    }
}
