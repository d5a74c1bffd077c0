//! Routes that a peer sent: counted and shown, never installed, and bounded.

use crate::prefix::{Family, Nlri};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct RoutesIn {
    /// `true` where the route is stale: kept from before a restart, or to be sent again.
    routes: BTreeMap<Nlri, bool>,
    /// How many of each family `routes` has: a limit is looked up for every prefix.
    counts: BTreeMap<Family, usize>,
    /// Announcements beyond the limit.
    pub(crate) ignored: u64,
}

impl RoutesIn {
    /// False when the limit is reached and the route not known.
    pub(crate) fn add(&mut self, nlri: Nlri, limit: u32) -> bool {
        let count = self.counts.entry(nlri.prefix.family()).or_default();
        if let Some(stale) = self.routes.get_mut(&nlri) {
            *stale = false;
            return true;
        }
        if *count >= limit as usize {
            self.ignored += 1;
            return false;
        }
        *count += 1;
        self.routes.insert(nlri, false);
        true
    }

    pub(crate) fn remove(&mut self, nlri: &Nlri) {
        if self.routes.remove(nlri).is_some()
            && let Some(count) = self.counts.get_mut(&nlri.prefix.family())
        {
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn mark_stale(&mut self, family: Family) {
        self.routes.iter_mut().filter(|(n, _)| n.prefix.family() == family).for_each(|(_, stale)| *stale = true);
    }

    /// Forgets what is stale.
    pub(crate) fn sweep(&mut self, family: Family) {
        self.retain(|n, stale| n.prefix.family() != family || !stale);
    }

    pub(crate) fn forget(&mut self, family: Family) {
        self.retain(|n, _| n.prefix.family() != family);
    }

    fn retain(&mut self, keep: impl Fn(&Nlri, bool) -> bool) {
        self.routes.retain(|n, stale| keep(n, *stale));
        self.counts.clear();
        for nlri in self.routes.keys() {
            *self.counts.entry(nlri.prefix.family()).or_default() += 1;
        }
    }

    pub(crate) fn count(&self, family: Family) -> usize {
        self.counts.get(&family).copied().unwrap_or_default()
    }

    pub(crate) fn stale(&self, family: Family) -> usize {
        self.routes.iter().filter(|(n, stale)| n.prefix.family() == family && **stale).count()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Nlri> {
        self.routes.keys()
    }
}
