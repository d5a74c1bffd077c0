//! What holds for every plan.

use api::endpoints::Serving;
use api::{EndpointSlice, Family, Node, Pool, Service, ServiceKey, SliceKey};
use oxelb_plan::{World, plan};
use proptest::prelude::*;
use std::net::IpAddr;

/// One object, to be set.
#[derive(Debug, Clone)]
enum Change {
    Node(Node),
    Service(Service),
    Slice(EndpointSlice),
    Pool(String, Box<Pool>),
}

impl Change {
    fn apply(&self, world: &mut World) {
        match self.clone() {
            Change::Node(n) => world.set_node(n),
            Change::Service(s) => world.set_service(s),
            Change::Slice(s) => world.set_slice(s),
            Change::Pool(name, p) => world.set_pool(&name, Ok(*p)),
        }
    }

    fn remove(&self, world: &mut World) {
        match self {
            Change::Node(n) => world.remove_node(&n.name),
            Change::Service(s) => world.remove_service(&s.key),
            Change::Slice(s) => world.remove_slice(&s.key),
            Change::Pool(name, _) => world.remove_pool(name),
        }
    }
}

fn name(n: usize) -> String {
    format!("x{n}")
}

fn key(n: usize) -> ServiceKey {
    ServiceKey::new("n", &name(n))
}

prop_compose! {
    fn nodes()(all in prop::collection::vec((prop::bool::weighted(0.8), prop::bool::weighted(0.1), prop::bool::weighted(0.3), any::<bool>(), any::<bool>()), 0..6)) -> Vec<Change> {
        all.into_iter().enumerate().map(|(n, (ready, network_unavailable, excluded, unschedulable, edge))| {
            let labels = if edge { [("edge".to_owned(), String::new())].into() } else { Default::default() };
            let addresses = vec![IpAddr::from([192, 0, 2, n as u8])];
            Change::Node(Node { name: name(n), addresses, ready, network_unavailable, excluded, unschedulable, labels, ..Node::default() })
        }).collect()
    }
}

prop_compose! {
    fn services()(all in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(0..10u8, 0..3)), 0..8)) -> Vec<Change> {
        all.into_iter().enumerate().map(|(n, (served, local, ips))| {
            let ingress = ips.into_iter().map(|ip| IpAddr::from([10, 0, ip / 5, ip])).collect();
            Change::Service(Service { key: key(n), served, local, ingress, families: vec![Family::V4], ..Service::default() })
        }).collect()
    }
}

prop_compose! {
    fn slices()(all in prop::collection::vec((0..8usize, prop::collection::btree_map(0..7usize, (0..2u32, 0..2u32), 0..4)), 0..10)) -> Vec<Change> {
        all.into_iter().enumerate().map(|(n, (of, nodes))| {
            let nodes = nodes.into_iter().map(|(n, (ready, terminating))| (name(n), Serving { ready, terminating })).collect();
            Change::Slice(EndpointSlice { key: SliceKey::new("n", &name(n)), service: key(of), nodes })
        }).collect()
    }
}

fn pools() -> impl Strategy<Value = Vec<Change>> {
    let pool = |name: &str, address: &str, edge: bool| {
        let mut json = serde_json::json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": name},
            "spec": {"address": address, "protocol": "layer2", "interface": "eth0"}
        });
        if edge {
            json["spec"]["nodeSelector"] =
                serde_json::json!({"matchExpressions": [{"key": "edge", "operator": "Exists"}]});
        }
        let eip: Option<api::Eip> = serde_json::from_value(json).ok();
        eip.and_then(|e| Pool::try_from(&e).ok()).map(|p| Change::Pool(name.to_owned(), Box::new(p)))
    };
    (any::<bool>(), any::<bool>()).prop_map(move |(p, q)| {
        [pool("p", "10.0.0.0/24", p), pool("q", "10.0.1.0/24", q)].into_iter().flatten().collect()
    })
}

fn world_of(changes: &[Change]) -> World {
    let mut world = World::default();
    changes.iter().for_each(|c| c.apply(&mut world));
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_plan_does_not_depend_on_the_order_in_which_objects_came(
        n in nodes(), s in services(), e in slices(), p in pools(), seed: u64,
    ) {
        let changes = [n, s, e, p].concat();
        let mut other = changes.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut other);
        let a = plan(&world_of(&changes));
        prop_assert_eq!(&a, &plan(&world_of(&other)));
        // Nor on how often.
        let mut again = world_of(&changes);
        other.iter().for_each(|c| c.apply(&mut again));
        prop_assert_eq!(&a, &plan(&again));
    }

    #[test]
    fn a_candidate_is_always_an_eligible_node_and_no_candidate_always_has_a_reason(
        n in nodes(), s in services(), e in slices(), p in pools(),
    ) {
        let plan = plan(&world_of(&[n.clone(), s.clone(), e.clone(), p.clone()].concat()));
        let node = |name: &str| n.iter().find_map(|c| if let Change::Node(n) = c { (n.name == name).then_some(n) } else { None });
        let all_excluded = n.iter().all(|c| matches!(c, Change::Node(n) if n.excluded));
        let pool = |name: &str| p.iter().find_map(|c| if let Change::Pool(n, p) = c { (n == name).then_some(p) } else { None });
        let serves = |service: &ServiceKey, node: &str| e.iter().any(|c| matches!(c, Change::Slice(e)
            if e.service == *service && e.nodes.get(node).is_some_and(|s| s.ready + s.terminating > 0)));
        for (address, a) in &plan.addresses {
            prop_assert_eq!(a.candidates.is_empty(), a.none_because.is_some());
            prop_assert!(!a.services.is_empty());
            let of: Vec<&Service> = s.iter().filter_map(|c| if let Change::Service(s) = c { Some(s) } else { None })
                .filter(|s| s.served && s.ingress.contains(address)).collect();
            prop_assert_eq!(of.len(), a.services.len());
            // Exactly the eligible nodes, not only some of them.
            let eligible = |node: &Node| {
                node.ready && !node.network_unavailable && (!node.excluded || all_excluded)
                    && pool(&a.pool.name).is_some_and(|p| p.nodes.matches(&node.labels) && p.addresses.contains(*address))
                    && of.iter().all(|s| !s.local || serves(&s.key, &node.name))
            };
            for c in &n {
                if let Change::Node(n) = c {
                    prop_assert_eq!(eligible(n), a.candidates.contains(&n.name), "{} for {}", n.name, address);
                }
            }
            prop_assert!(a.candidates.iter().all(|c| node(c).is_some()));
        }
    }

    #[test]
    fn what_was_removed_leaves_nothing_behind(n in nodes(), s in services(), e in slices(), p in pools()) {
        let mut world = world_of(&[n.clone(), s.clone(), e.clone(), p.clone()].concat());
        for change in [s, e, p, n].concat() {
            change.remove(&mut world);
        }
        prop_assert_eq!(plan(&world), oxelb_plan::Plan::default());
    }
}
