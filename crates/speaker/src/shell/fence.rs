//! What the kernel's fence is told of leases. Without a fence (no permission, an older kernel) the look at the clock
//! before each frame is all that there is.

use super::Shell;
use engine::{IfIndex, MacAddr, Tick};
use lease::Preset;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// It is not told more often than this.
const SOON: Duration = Duration::from_millis(5);

/// The fence, and when it is next told how long leases run.
pub(super) struct Fencing {
    fence: Option<net::Fence>,
    next: Tick,
    /// It is taken away, and what was done because it stood has to be undone.
    pub(super) fell: bool,
}

impl Fencing {
    pub(super) fn start() -> Fencing {
        let fence = net::Fence::new().and_then(|mut fence| {
            // Whether the rest is permitted too shows on an interface that every node has.
            fence.guard(&[IfIndex(1)].into()).map(|()| fence)
        });
        match &fence {
            Ok(_) => tracing::info!("the kernel lets nothing leave for an address whose lease is over"),
            Err(error) => tracing::info!(%error, "no fence in the kernel: this process alone looks at its leases"),
        }
        Fencing { fence: fence.ok(), next: Tick::ZERO, fell: false }
    }

    pub(super) fn stands(&self) -> bool {
        self.fence.is_some()
    }

    /// Takes it away, with all that it guarded given up.
    pub(super) fn lift(&mut self) {
        self.tell(|fence| fence.guard(&BTreeSet::new()));
    }

    /// An interface went away and may be back: it has to be guarded anew.
    pub(super) fn forget(&mut self, on: IfIndex) {
        if let Some(fence) = &mut self.fence {
            fence.forget(on);
        }
    }

    fn tell(&mut self, what: impl FnOnce(&mut net::Fence) -> Result<(), net::Error>) {
        let Some(fence) = &mut self.fence else { return };
        if let Err(error) = what(fence) {
            tracing::warn!(%error, "the fence in the kernel is taken away: this process alone looks at its leases");
            (self.fence, self.fell) = (None, true);
        }
    }
}

/// Addresses that VRRP elects have their own, since its intervals are longer than any lease.
const ELECTED: net::Class = Preset::ALL.len() as net::Class;

impl Shell {
    /// Tells the fence which addresses it is to look at, and where.
    pub(super) fn fence_owned(&mut self, now: Tick) {
        if !self.fencing.stands() {
            return;
        }
        // First the lease, then what it is for: else an answer could be dropped in between.
        self.fencing.next = now;
        self.fence_leases(now);
        let on = self.sockets.keys().copied().collect();
        let owned = self.facts.owned.keys();
        let addresses: BTreeMap<IpAddr, net::Class> = owned.clone().map(|ip| (*ip, self.class(*ip))).collect();
        let macs: BTreeMap<MacAddr, net::Class> =
            owned.filter_map(|ip| Some((self.virtual_mac(*ip)?, self.class(*ip)))).collect();
        self.fencing.tell(|fence| fence.guard(&on).and_then(|()| fence.own(&addresses, &macs)));
    }

    /// With which MAC address this node speaks for an address, where not with its interface's. Only the fence lets in what
    /// is sent to it.
    pub(super) fn virtual_mac(&self, address: IpAddr) -> Option<MacAddr> {
        if self.fencing.stands() { self.intent.virtual_mac(address) } else { None }
    }

    fn class(&self, address: IpAddr) -> net::Class {
        match self.intent.addresses.get(&address) {
            Some(wanted) if wanted.place.elects() => ELECTED,
            wanted => wanted.map(|w| w.place.preset).unwrap_or_default() as net::Class,
        }
    }

    /// Tells the fence how long leases run by now: of each preset the one that ends first.
    pub(super) fn fence_leases(&mut self, now: Tick) {
        if !self.fencing.stands() || now < self.fencing.next {
            return;
        }
        let mut ends: BTreeMap<net::Class, Tick> = BTreeMap::new();
        for ip in self.facts.owned.keys() {
            if let Some(until) = self.until(*ip) {
                let first = ends.entry(self.class(*ip)).or_insert(until);
                *first = until.min(*first);
            }
        }
        // A quarter of what is left: soon enough though a turn may be a heartbeat away, seldom enough for thousands of addresses.
        let left = ends.values().map(|end| end.since(now)).min().unwrap_or(Duration::from_secs(1));
        self.fencing.next = now + (left / 4).max(SOON);
        let told = |fence: &mut net::Fence| ends.into_iter().try_for_each(|(class, until)| fence.open(class, until));
        self.fencing.tell(told);
    }
}
