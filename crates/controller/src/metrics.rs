//! What the controller counts, for Prometheus. The names without a prefix are OpenELB's (compat §3.7, D23).

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// All metrics of a controller. Cheap to update from anywhere.
pub struct Metrics {
    registry: Registry,
    pools: Pools,
    /// 1 while this replica leads.
    pub leader: Gauge,
    services: Family<StateLabel, Gauge>,
    writes: Family<WriteLabels, Counter>,
    reviews: Family<ReviewLabels, Counter>,
    dropped_events: Gauge,
    acceptors: Gauge,
    epoch: Gauge,
}

struct Pools {
    addresses: Family<PoolLabel, Gauge>,
    in_use: Family<PoolLabel, Gauge>,
    services: Family<PoolLabel, Gauge>,
    known: Mutex<BTreeSet<String>>,
}

/// What is counted of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolCounts {
    /// Addresses in the pool.
    pub addresses: i64,
    /// Addresses in use.
    pub in_use: i64,
    /// Services that use one.
    pub services: i64,
}

#[expect(non_snake_case, reason = "the label's name is the field's")]
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    eipName: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    object: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    kind: &'static str,
    allowed: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::default();
        let pools = Pools {
            addresses: Family::default(),
            in_use: Family::default(),
            services: Family::default(),
            known: Mutex::default(),
        };
        registry.register("addresses_total", "Addresses in the pool", pools.addresses.clone());
        registry.register("addresses_in_use_total", "Addresses of the pool in use", pools.in_use.clone());
        registry.register("services_allocated_total", "Services with an address of the pool", pools.services.clone());
        let oxelb = registry.sub_registry_with_prefix("oxelb_controller");
        let (leader, services) = (Gauge::default(), Family::default());
        let (writes, reviews) = (Family::default(), Family::default());
        oxelb.register("leader", "1 while this replica leads", leader.clone());
        oxelb.register(
            "services",
            "Services that oxelb serves, by whether they have their addresses",
            services.clone(),
        );
        oxelb.register("writes", "Writes to the API server, by what came of them", writes.clone());
        oxelb.register("admission_reviews", "Pools and BGP objects checked before they were written", reviews.clone());
        let dropped_events = Gauge::default();
        oxelb.register(
            "dropped_events",
            "Events that were not written because too many waited",
            dropped_events.clone(),
        );
        let (acceptors, epoch) = (Gauge::default(), Gauge::default());
        oxelb.register("acceptors", "Speakers whose grants make an owner", acceptors.clone());
        oxelb.register("acceptors_epoch", "The number of that set", epoch.clone());
        let build: Family<Vec<(String, String)>, Gauge> = Family::default();
        build.get_or_create(&vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        oxelb.register_with_unit("build", "The version that runs", Unit::Other("info".to_owned()), build);
        Metrics { registry, pools, leader, services, writes, reviews, dropped_events, acceptors, epoch }
    }
}

impl Metrics {
    /// Everything, in the text format of Prometheus and OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// What the pools look like; pools that are not named any more vanish.
    pub fn set_pools<'a>(&self, pools: impl Iterator<Item = (&'a str, PoolCounts)>) {
        let mut now = BTreeSet::new();
        for (name, counts) in pools {
            let label = PoolLabel { eipName: name.to_owned() };
            self.pools.addresses.get_or_create(&label).set(counts.addresses);
            self.pools.in_use.get_or_create(&label).set(counts.in_use);
            self.pools.services.get_or_create(&label).set(counts.services);
            now.insert(name.to_owned());
        }
        let mut known = self.pools.known.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.difference(&now) {
            let label = PoolLabel { eipName: gone.clone() };
            self.pools.addresses.remove(&label);
            self.pools.in_use.remove(&label);
            self.pools.services.remove(&label);
        }
        *known = now;
    }

    /// How many served Services have their addresses, and how many wait.
    pub fn set_services(&self, assigned: usize, waiting: usize) {
        for (state, n) in [("assigned", assigned), ("waiting", waiting)] {
            self.services.get_or_create(&StateLabel { state }).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    /// How many events were not written since this replica leads.
    pub fn set_dropped_events(&self, n: u64) {
        self.dropped_events.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// How many acceptors there are, and the number of their set.
    pub fn set_acceptors(&self, (count, epoch): (usize, u64)) {
        self.acceptors.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// A write came back.
    pub fn wrote(&self, object: &'static str, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { object, result }).inc();
    }

    /// The webhook answered.
    pub fn reviewed(&self, kind: &'static str, allowed: bool) {
        let allowed = if allowed { "true" } else { "false" };
        self.reviews.get_or_create(&ReviewLabels { kind, allowed }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openelbs_pool_metrics_are_really_set_and_vanish_with_the_pool() {
        // D23
        let metrics = Metrics::default();
        let counts = PoolCounts { addresses: 254, in_use: 3, services: 4 };
        metrics.set_pools([("a", counts.clone()), ("b", counts)].into_iter());
        let text = metrics.text();
        for line in [
            "addresses_total{eipName=\"a\"} 254",
            "addresses_in_use_total{eipName=\"a\"} 3",
            "services_allocated_total{eipName=\"b\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        metrics.set_pools([("b", PoolCounts::default())].into_iter());
        let text = metrics.text();
        assert!(!text.contains("eipName=\"a\""), "{text}");
        assert!(text.lines().any(|l| l == "addresses_total{eipName=\"b\"} 0"), "{text}");
    }

    #[test]
    fn counters_of_our_own_carry_our_prefix() {
        let metrics = Metrics::default();
        metrics.wrote("service", "ok");
        metrics.reviewed("Eip", false);
        metrics.set_services(2, 1);
        metrics.leader.set(1);
        let text = metrics.text();
        for line in [
            "oxelb_controller_writes_total{object=\"service\",result=\"ok\"} 1",
            "oxelb_controller_admission_reviews_total{kind=\"Eip\",allowed=\"false\"} 1",
            "oxelb_controller_services{state=\"waiting\"} 1",
            "oxelb_controller_leader 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
