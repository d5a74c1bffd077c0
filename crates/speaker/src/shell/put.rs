//! Pools with protocol vip: their addresses on the owner's interface, as VRRP routers have them.
//!
//! Only behind the fence, which keeps the kernel from answering for an address whose lease is over, also when this
//! process is not there any more. The addresses' lifetime cleans up after it.

use super::Shell;
use engine::{IfIndex, Tick};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// An address is gone so long after nobody renews it. The fence stays for longer.
const LASTS: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);

/// What is on interfaces here.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// None until the first address is put.
    changes: Option<net::Changes>,
    there: BTreeSet<(IfIndex, IpAddr)>,
    renew_at: Option<Tick>,
}

impl Put {
    /// Takes away what an earlier process left.
    pub(super) fn sweep() {
        let swept = net::Changes::new().and_then(|changes| {
            let ours = changes.ours()?;
            ours.iter().try_for_each(|(on, address)| changes.remove(*on, *address))?;
            Ok(ours.len())
        });
        match swept {
            Ok(0) => {}
            Ok(addresses) => tracing::info!(addresses, "took away what an earlier speaker had left on interfaces"),
            Err(error) => tracing::debug!(%error, "what an earlier speaker may have left on interfaces stays"),
        }
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.renew_at.filter(|_| !self.there.is_empty())
    }

    fn change(&mut self, what: impl FnOnce(&net::Changes) -> Result<(), net::Error>) -> Result<(), String> {
        let changes = match &self.changes {
            Some(changes) => changes,
            None => self.changes.insert(net::Changes::new().map_err(|e| e.to_string())?),
        };
        what(changes).map_err(|e| e.to_string())
    }
}

impl Shell {
    /// Where this node's addresses of vip are to be.
    fn to_put(&self) -> BTreeSet<(IfIndex, IpAddr)> {
        if !self.fencing.stands() {
            return BTreeSet::new();
        }
        let vip = self
            .facts
            .owned
            .keys()
            .filter(|ip| self.intent.addresses.get(*ip).is_some_and(|wanted| wanted.place.vrrp.is_some()))
            // For what is on an interface the kernel speaks with that interface's MAC address.
            .filter(|ip| self.virtual_mac(**ip).is_none());
        vip.filter_map(|ip| Some((*self.links_of(*ip)?.first()?, *ip))).collect()
    }

    /// Takes away what is not owned any more. Before the fence is told: it looks only at what is owned.
    pub(super) fn take_away(&mut self) {
        let wanted = self.to_put();
        let gone: Vec<(IfIndex, IpAddr)> = self.put.there.difference(&wanted).copied().collect();
        for (on, address) in gone {
            self.put.there.remove(&(on, address));
            if let Err(error) = self.put.change(|changes| changes.remove(on, address)) {
                tracing::warn!(%address, %error, "the address stays on its interface until its time is over");
            }
        }
    }

    /// Puts what is owned on its interface. After the fence was told.
    pub(super) fn put_there(&mut self, now: Tick) {
        let new: Vec<(IfIndex, IpAddr)> = self.to_put().difference(&self.put.there).copied().collect();
        self.put_all(new);
        self.put.renew_at.get_or_insert(now + RENEW);
    }

    /// Has what is there last longer; puts back what somebody else took away.
    pub(super) fn renew_put(&mut self, now: Tick) {
        if self.put.renew_at.is_some_and(|at| at <= now) {
            self.put.renew_at = Some(now + RENEW);
            let all = self.put.there.iter().copied().collect();
            self.put_all(all);
        }
    }

    /// Somebody may have taken one of ours away.
    pub(super) fn renew_put_soon(&mut self, now: Tick) {
        self.put.renew_at = Some(now);
    }

    fn put_all(&mut self, all: Vec<(IfIndex, IpAddr)>) {
        for (on, address) in all {
            match self.put.change(|changes| changes.put(on, address, LASTS)) {
                Ok(()) => {
                    self.put.there.insert((on, address));
                    self.news |= self.facts.not_put.remove(&address).is_some();
                }
                Err(error) => {
                    self.put.there.remove(&(on, address));
                    if self.facts.not_put.insert(address, error.clone()).as_ref() != Some(&error) {
                        tracing::warn!(%address, %error, "the address is not on its interface");
                        self.news = true;
                    }
                }
            }
        }
        let owned = &self.facts.owned;
        self.facts.not_put.retain(|ip, _| owned.contains_key(ip));
    }
}
