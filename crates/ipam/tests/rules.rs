//! Which address a Service gets, keeps and shares (compat §2.3, §2.4, §3.5).

mod common;
use api::service::FamilyPolicy;
use api::{Family, Service};
use common::*;
use oxelb_ipam::Outcome;

#[test]
fn the_lowest_free_address_first_and_last_of_a_net_included() {
    let mut c = Cluster::new([eip("p", "10.0.0.255-10.0.1.1")]);
    for name in ["n/1", "n/2", "n/3"] {
        c.apply(service(name));
        c.settle();
    }
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.255", "10.0.1.0", "10.0.1.1"]);
    c.delete("n/2");
    c.apply(service("n/4"));
    c.settle();
    assert_eq!(c.has("n/4"), "10.0.1.0");
}

#[test]
fn selection_follows_openelbs_precedence() {
    let of = |namespaces: &[&str], priority, mut e: api::Eip| {
        e.spec.namespaces = Some(namespaces.iter().map(|n| (*n).to_owned()).collect());
        e.spec.priority = Some(priority);
        e
    };
    let mut c = Cluster::new([
        of(&["n"], 7, plain("a", "10.0.1.0/24")),
        of(&["n"], -1, plain("b", "10.0.2.1")),
        eip("c", "10.0.3.0/24"),
        plain("d", "10.0.4.0/24"),
    ]);
    c.apply(service("n/1")); // the smallest priority
    c.settle();
    c.apply(service("n/2")); // a full one comes after all others
    c.apply(service("m/3")); // the default
    c.apply(in_pool("m/4", "b")); // named pools belong to nobody, but are full
    c.apply(in_pool("m/5", "d"));
    c.apply(asking("m/6", "10.0.4.9")); // the first that contains it
    c.apply(Service { wanted_pool: Some("a".into()), ..asking("m/7", "10.0.1.9") });
    c.settle();
    let has = ["n/1", "n/2", "m/3", "m/4", "m/5", "m/6", "m/7"].map(|s| c.has(s));
    assert_eq!(has, ["10.0.2.1", "10.0.1.0", "10.0.3.0", "", "10.0.4.0", "10.0.4.9", "10.0.1.9"]);
    assert_eq!((c.label("n/1"), c.label("m/6")), (Some("b"), Some("d")));
}

#[test]
fn a_full_namespace_pool_is_not_left_for_the_default() {
    let own = with(plain("a", "10.0.1.1"), |s| s.namespaces = Some(vec!["n".into()]));
    let mut c = Cluster::new([own, eip("c", "10.0.3.0/24")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(service("n/2"));
    c.settle();
    c.says("n/2", "False", "PoolFull", "pool a");
}

#[test]
fn a_default_pool_may_serve_the_family_that_the_namespaces_own_pool_lacks() {
    let own = with(plain("a", "10.0.1.1"), |s| s.namespaces = Some(vec!["n".into()]));
    let mut c = Cluster::new([own, eip("c", "10.0.3.1,fd00::1")]);
    c.apply(dual(FamilyPolicy::RequireDualStack, service("n/1")));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.1.1,fd00::1");
}

#[test]
fn take_over_moves_nothing_and_leaves_no_finalizer() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    c.openelb_gave(service("n/1"), "p", "10.0.0.7");
    c.openelb_gave(in_pool("n/2", "p"), "p", "10.0.0.5");
    // OpenELB had lost its status when it stopped (D36); the record is what is left.
    c.apply(service("n/3"));
    c.openelb_recorded("p", "10.0.0.3", &key("n/3"));
    c.openelb_recorded("p", "10.0.0.1", &key("n/deleted"));
    c.restart();
    c.apply(service("n/0"));
    let plan = c.settle();
    assert!(plan.services.iter().all(|d| d.outcome == Outcome::Assigned));
    assert_eq!(["n/0", "n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.1", "10.0.0.7", "10.0.0.5", "10.0.0.3"]);
    assert!(c.services.values().all(|s| !s.legacy_finalizer));
    assert!(!c.told("n/1 AssignIP") && !c.told("ReleaseIP"));
    assert_eq!(c.used("p").len(), 4);
}

#[test]
fn a_wiped_status_gets_the_same_address_again() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    for name in ["n/1", "n/2"] {
        c.apply(service(name));
        c.settle();
    }
    c.delete("n/1");
    c.edit("n/2", |s| (s.ingress, s.has_ingress, s.pool_label) = (vec![], false, None));
    c.settle();
    assert_eq!((c.has("n/2"), c.label("n/2")), ("10.0.0.2".into(), Some("p")));
}

#[test]
fn a_wish_that_cannot_be_met_costs_nothing_and_is_met_later() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    c.apply(service("n/0"));
    c.apply(service("n/1"));
    c.settle();
    c.apply(in_pool("n/1", "q"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.2");
    c.says("n/1", "False", "PoolNotFound", "Until then it keeps 10.0.0.2");
    c.apply(asking("n/1", "10.0.0.1"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.2");
    c.says("n/1", "False", "AddressInUse", "Service n/0");
    c.restart();
    assert_eq!(c.settle().services, []);
    c.delete("n/0");
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.1");
    c.says("n/1", "True", "Assigned", "has 10.0.0.1 from pool p");
    c.apply(service("n/1")); // asks for nothing any more
    assert_eq!(c.settle().services, []);
}

#[test]
fn a_service_that_is_served_no_more_loses_only_what_is_ours() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(service("n/1"));
    c.settle();
    c.edit("n/1", |s| {
        s.served = false;
        s.ingress.push(ip("192.0.2.1")); // another load balancer was quicker
    });
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("192.0.2.1".into(), None));
    let mut foreign = service("n/2");
    (foreign.served, foreign.ingress, foreign.has_ingress) = (false, vec![ip("10.0.0.1")], true);
    c.apply(foreign);
    assert_eq!(c.settle().services, []);
}

#[test]
fn a_service_that_is_served_no_more_loses_what_its_pool_does_not_have_any_more() {
    let mut c = Cluster::new([eip("p", "10.0.0.1,fd00::1")]);
    c.apply(service("n/1"));
    c.apply(dual(FamilyPolicy::PreferDualStack, service("n/2")));
    c.settle();
    c.change_pool("p", |s| s.address = "10.0.9.1".into());
    c.settle();
    ["n/1", "n/2"].iter().for_each(|name| c.edit(name, |s| s.served = false));
    c.restart();
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), (String::new(), String::new()));
    assert!(c.services.values().all(|s| s.pool_label.is_none() && s.conditions.is_empty()));
}

#[test]
fn while_a_service_waits_what_others_wrote_to_its_status_stays() {
    let mut c = Cluster::new([]);
    c.apply(Service { ingress: vec![ip("192.0.2.1")], has_ingress: true, ..service("n/1") });
    c.settle();
    assert_eq!(c.has("n/1"), "192.0.2.1");
    c.pool(eip("p", "10.0.0.1"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.1");
}

#[test]
fn a_service_made_anew_under_its_name_starts_anew() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    for name in ["n/1", "n/2"] {
        c.apply(service(name));
        c.settle();
    }
    c.delete("n/1");
    c.services.remove(&key("n/2")); // the watch saw only the new one
    c.apply(Service { uid: "another".into(), ..service("n/2") });
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.1");
}

#[test]
fn sharing_needs_an_explicit_request_and_frees_with_the_last() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.2")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(on_port(asking("n/2", "10.0.0.1"), 81));
    c.apply(on_port(service("n/3"), 82));
    c.settle();
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.1", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(c.used("p")[0], ("10.0.0.1".to_owned(), "n/1;n/2".to_owned()));
    assert_eq!(c.ipam.report("p").unwrap().status.usage, 2);
    assert_eq!(c.ipam.in_use(&"10.0.0.1".parse().unwrap())[&ip("10.0.0.1")], [key("n/1"), key("n/2")]);
    c.apply(on_port(service("n/4"), 83));
    c.delete("n/1");
    c.settle();
    assert_eq!((c.has("n/2"), c.has("n/4")), ("10.0.0.1".into(), String::new()));
    c.delete("n/2");
    c.settle();
    assert_eq!(c.has("n/4"), "10.0.0.1");
}

#[test]
fn who_changes_its_ports_into_a_clash_is_who_loses() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.2")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(on_port(asking("n/2", "10.0.0.1"), 81));
    c.settle();
    c.edit("n/1", |s| s.ports[0].port = 81);
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.2".into(), "10.0.0.1".into()));
    c.edit("n/1", |s| s.ports[0].port = 80);
    assert_eq!(c.settle().services, []);
    c.apply(asking("n/1", "10.0.0.1"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.1");
    // A change that makes a clash cannot be slipped in while the controller is down either.
    c.edit("n/2", |s| s.ports[0].port = 80);
    c.restart();
    c.settle();
    assert_eq!(c.services.values().filter(|s| s.ingress == [ip("10.0.0.1")]).count(), 1);
}

#[test]
fn a_clash_of_openelbs_days_stays_where_the_user_asked_for_it_and_is_named() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.2")]);
    c.openelb_gave(asking("n/1", "10.0.0.1"), "p", "10.0.0.1");
    c.openelb_gave(asking("n/2", "10.0.0.1"), "p", "10.0.0.1");
    c.restart();
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.1".into(), "10.0.0.1".into()));
    c.says("n/1", "True", "Assigned", "10.0.0.1");
    c.says("n/2", "True", "SharingConflict", "in use by Service n/1 too, and both use port TCP/80");
    for name in ["n/1", "n/2"] {
        c.ipam.retry(&key(name));
        assert_eq!(c.settle().services, []);
    }
    c.restart();
    assert_eq!(c.settle().services, []);
    c.edit("n/2", |s| s.ports[0].port = 81);
    c.settle();
    c.says("n/2", "True", "Assigned", "10.0.0.1");
    c.edit("n/2", |s| s.ports[0].port = 80); // but not again
    c.settle();
    assert_eq!(c.has("n/2"), "");
}

#[test]
fn who_waits_to_share_is_served_when_the_other_makes_room() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(asking("n/2", "10.0.0.1"));
    c.settle();
    c.says("n/2", "False", "AddressInUse", "both use port TCP/80");
    c.edit("n/1", |s| s.ports[0].port = 81);
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.1");
}

#[test]
fn a_tolerated_clash_is_forgotten_when_the_other_is_gone() {
    for edit in [true, false] {
        let mut c = Cluster::new([eip("p", "10.0.0.1")]);
        c.openelb_gave(asking("n/1", "10.0.0.1"), "p", "10.0.0.1");
        c.openelb_gave(asking("n/2", "10.0.0.1"), "p", "10.0.0.1");
        c.restart();
        c.settle();
        c.says("n/2", "True", "SharingConflict", "n/1");
        if edit {
            c.edit("n/1", |s| s.ports[0].port = 81)
        } else {
            c.delete("n/1")
        }
        c.settle();
        c.says("n/2", "True", "Assigned", "10.0.0.1");
    }
}

#[test]
fn forbidding_to_share_parts_nobody() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.2")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(on_port(asking("n/2", "10.0.0.1"), 81));
    c.settle();
    c.change_pool("p", |s| s.sharing = Some(api::Sharing::None));
    assert_eq!(c.settle().services, []);
    c.restart();
    assert_eq!(c.settle().services, []);
}

#[test]
fn dual_stack_takes_one_address_of_each_family_in_the_services_order() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9,fd00::1-fd00::9")]);
    c.apply(dual(FamilyPolicy::PreferDualStack, service("n/1")));
    c.apply(dual(FamilyPolicy::SingleStack, service("n/2")));
    c.apply(Service {
        families: vec![Family::V6, Family::V4],
        family_policy: FamilyPolicy::RequireDualStack,
        ..asking("n/3", "10.0.0.9")
    });
    c.settle();
    // Who asks for an address goes first.
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.1,fd00::2", "10.0.0.2", "fd00::1,10.0.0.9"]);
    c.says("n/1", "True", "Assigned", "has 10.0.0.1 and fd00::2");
}

#[test]
fn dual_stack_from_two_pools_named_by_the_user() {
    let mut c = Cluster::new([plain("four", "10.0.0.1"), plain("six", "fd00::1")]);
    c.apply(dual(FamilyPolicy::RequireDualStack, in_pool("n/1", "six, four")));
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("10.0.0.1,fd00::1".into(), Some("four")));
}

#[test]
fn prefer_dual_stack_takes_what_there_is_and_the_rest_later() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(dual(FamilyPolicy::PreferDualStack, service("n/1")));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.1");
    c.says("n/1", "True", "AssignedOneFamily", "no IPv6 address yet: service can't use different family eip");
    c.change_pool("p", |s| s.address = "10.0.0.1,fd00::1".into());
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.1,fd00::1");
}

#[test]
fn require_dual_stack_waits_for_both_and_hoards_neither() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(dual(FamilyPolicy::RequireDualStack, service("n/1")));
    c.settle();
    c.says("n/1", "False", "FamilyMismatch", "RequireDualStack, and there is no IPv6 address");
    c.apply(service("n/2"));
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), (String::new(), "10.0.0.1".into()));
    c.pool(eip("p", "10.0.0.1-10.0.0.2,fd00::1"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.2,fd00::1");
    // Who had one address when it began to require two keeps it meanwhile.
    c.edit("n/2", |s| {
        s.families = vec![Family::V4, Family::V6];
        s.family_policy = FamilyPolicy::RequireDualStack;
    });
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.1");
    c.says("n/2", "False", "PoolFull", "RequireDualStack, and there is no IPv6 address: no suitable ip");
    // And who wants one only gives the other back.
    c.edit("n/1", |s| (s.families, s.family_policy) = (vec![Family::V4], FamilyPolicy::SingleStack));
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.2".into(), "10.0.0.1,fd00::1".into()));
}

#[test]
fn a_new_leader_forgets_what_it_had_assumed() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    c.apply(service("n/1"));
    c.ipam.plan(); // never written: it lost the lead
    c.edit("n/1", |s| (s.ingress, s.has_ingress, s.pool_label) = (vec![ip("10.0.0.4")], true, Some("p".into())));
    c.ipam.restart();
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.4");
    c.apply(service("n/2"));
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.1");
}

#[test]
fn reports_name_what_readers_of_openelb_expect() {
    let mut c = Cluster::new([eip("p", "10.0.0.0/30")]);
    c.apply(service("n/1"));
    assert_eq!(c.settle().pools, ["p"]);
    let status = c.ipam.report("p").unwrap().status;
    assert_eq!((status.usage, status.pool_size, status.occupied, status.v4), (1, 4, false, true));
    assert_eq!((status.first_ip.as_str(), status.last_ip.as_str()), ("10.0.0.0", "10.0.0.3"));
    assert_eq!(c.used("p"), [("10.0.0.0".to_owned(), "n/1".to_owned())]);
    // The status that was written comes back with the pool and changes nothing.
    let mut written = c.pools["p"].clone();
    written.status = Some(status);
    c.pool(written);
    let plan = c.settle();
    assert_eq!((plan.services, plan.pools), (vec![], vec![]));
}

#[test]
fn an_address_that_was_offered_is_nobody_elses_before_a_newer_version_was_read() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.3")]);
    c.late = true;
    c.apply(service("n/1"));
    c.observe(&key("n/1"));
    let offer = c.ipam.plan().services.remove(0);
    assert_eq!(offer.addresses, [ip("10.0.0.1")]);
    // It lands, but that is not read yet.
    assert!(c.land(&offer));
    c.ipam.replace(&key("n/1"), ip("10.0.0.1"), "02:00:00:00:00:07 answers for it");
    c.apply(service("n/2"));
    c.observe(&key("n/2"));
    let decisions = c.ipam.plan().services;
    let given: Vec<_> = decisions.iter().map(|d| (d.service.clone(), d.addresses.clone())).collect();
    assert_eq!(given, [(key("n/1"), vec![ip("10.0.0.2")]), (key("n/2"), vec![ip("10.0.0.3")])]);
    c.observe(&key("n/1"));
    c.ipam.plan();
    assert_eq!(c.used("p").len(), 3); // its status still shows the old one
    assert!(!c.land(&decisions[0]) && c.land(&decisions[1]));
    c.observe(&key("n/1"));
    c.observe(&key("n/2"));
    c.ipam.retry(&key("n/1"));
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2"), c.used("p").len()), ("10.0.0.2".into(), "10.0.0.3".into(), 2));
}

#[test]
fn deciding_a_few_at_a_time_decides_the_same() {
    let world = || {
        let mut c = Cluster::new([eip("p", "10.0.0.0-10.0.0.5")]);
        for n in 0..5 {
            c.apply(service(&format!("n/{n}")));
        }
        c.apply(asking("n/8", "10.0.0.1"));
        // What this one has was given before, and comes last by name.
        let mut old = service("n/9");
        (old.ingress, old.has_ingress, old.pool_label) = (vec![ip("10.0.0.0")], true, Some("p".into()));
        c.apply(old);
        c
    };
    let all = world().ipam.plan().services;
    let mut few = world();
    let mut decided = Vec::new();
    while few.ipam.undecided() {
        let plan = few.ipam.plan_up_to(2);
        assert!(plan.services.len() <= 2);
        decided.extend(plan.services);
    }
    decided.sort_by(|a, b| a.service.cmp(&b.service));
    assert_eq!(decided, all);
}
