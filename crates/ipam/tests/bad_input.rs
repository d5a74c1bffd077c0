//! What users get wrong: each says what is wrong and what to do, loses nothing and disturbs nobody else.

mod common;
use api::Family;
use common::*;

#[test]
fn an_invalid_pool_gives_nothing_and_takes_nothing_away() {
    for bad in ["ten", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", ""] {
        let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
        c.apply(in_pool("n/1", "p"));
        c.settle();
        c.pool(eip("p", bad));
        c.apply(in_pool("n/2", "p"));
        c.apply(service("n/3"));
        c.settle();
        assert_eq!(c.has("n/1"), "10.0.0.1");
        c.says("n/1", "True", "PoolMissing", "pool p is invalid: spec.address: invalid eip address format");
        c.says("n/2", "False", "PoolInvalid", "eip:p is invalid: spec.address: invalid eip address format");
        c.says("n/3", "False", "NoPool", "no available default eip found");
        assert_eq!(c.ipam.report("p"), None);
        c.restart();
        assert_eq!(c.settle().services, []);
    }
}

#[test]
fn overlapping_pools_never_give_one_address_twice() {
    let mut c = Cluster::new([plain("a", "10.0.0.1-10.0.0.3"), plain("b", "10.0.0.2-10.0.0.4")]);
    for n in 1..=3 {
        c.apply(in_pool(&format!("n/a{n}"), "a"));
        c.apply(in_pool(&format!("n/b{n}"), "b"));
    }
    c.settle();
    let mut given: Vec<_> = c.services.values().flat_map(|s| s.ingress.clone()).collect();
    given.sort();
    assert_eq!(given, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(ip));
    // The address that both have is used and full in both.
    assert!(c.ipam.report("a").unwrap().status.occupied && c.ipam.report("b").unwrap().status.occupied);
    assert_eq!(c.used("a")[1].0, "10.0.0.2");
    assert_eq!(c.used("b")[0].0, "10.0.0.2");
}

#[test]
fn of_two_default_pools_the_first_by_name_gives() {
    let mut c = Cluster::new([eip("b", "10.0.2.1"), eip("a", "10.0.1.1")]);
    c.apply(service("n/1"));
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.1.1");
}

#[test]
fn an_address_of_a_node_or_of_the_gateway_is_not_given_and_named() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.3")]);
    c.reserve("10.0.0.1", "it is the gateway");
    c.reserve("10.0.0.2", "node n1 has it");
    c.apply(service("n/1"));
    c.apply(asking("n/2", "10.0.0.2"));
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.3".into(), String::new()));
    c.says("n/2", "False", "AddressReserved", "10.0.0.2 belongs to something else: node n1 has it");
    assert_eq!(c.ipam.report("p").unwrap().reserved, c.reserved);
    // Who has it when it turns out to be taken keeps it.
    c.reserve("10.0.0.3", "node n2 has it");
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.3");
    c.says("n/1", "True", "AddressReserved", "node n2 has it");
    assert_eq!(c.ipam.report("p").unwrap().kept.keys().copied().collect::<Vec<_>>(), [ip("10.0.0.3")]);
    // And who waited gets it when the node is gone.
    c.reserved.remove(&ip("10.0.0.2"));
    c.ipam.set_reserved(c.reserved.clone());
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.2");
}

#[test]
fn an_address_that_a_stranger_answers_for_is_replaced() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.3")]);
    c.apply(service("n/1"));
    c.settle();
    c.reserve("10.0.0.1", "02:00:00:00:00:07 answers for it");
    c.ipam.replace(&key("n/1"), ip("10.0.0.1"), "02:00:00:00:00:07 answers for it");
    c.settle();
    assert_eq!(c.has("n/1"), "10.0.0.2");
    assert!(c.told("n/1 Warning ReleaseIP: success to release ip: 10.0.0.1: 02:00:00:00:00:07 answers for it"));
}

#[test]
fn a_requested_address_outside_every_pool() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(asking("n/1", "192.0.2.1"));
    c.settle();
    c.says("n/1", "False", "AddressOutsideEveryPool", "no available eip was found containing the ip:[192.0.2.1]");
    assert!(c.told("n/1 Warning ConstructRequest: failed to construct allocate request: no available eip was found"));
}

#[test]
fn a_requested_address_outside_the_pool_that_is_named() {
    let mut c = Cluster::new([eip("p", "10.0.0.1"), eip("q", "10.0.1.0/24")]);
    c.apply(api::Service { wanted_pool: Some("p".into()), ..asking("n/1", "10.0.1.1") });
    c.settle();
    c.says("n/1", "False", "AddressOutsidePool", "the specified ip:10.0.1.1 is beyond the range of eip[p:10.0.0.1]");
    assert!(c.told("n/1 Warning AssignIPFailed: the specified ip"));
}

#[test]
fn a_requested_address_in_a_disabled_or_deleted_pool() {
    let mut deleting = plain("q", "10.0.1.0/24");
    deleting.metadata.deletion_timestamp = serde_json::from_value(serde_json::json!("2026-01-01T00:00:00Z")).unwrap();
    let mut c = Cluster::new([with(eip("p", "10.0.0.0/24"), |s| s.disable = Some(true)), deleting]);
    c.apply(asking("n/1", "10.0.0.1"));
    c.apply(in_pool("n/2", "p"));
    c.apply(asking("n/3", "10.0.1.1"));
    c.apply(in_pool("n/4", "nowhere"));
    c.settle();
    c.says("n/1", "False", "PoolDisabled", "eip:p is disabled");
    c.says("n/2", "False", "PoolDisabled", "eip:p is disabled");
    c.says("n/3", "False", "PoolDeleting", "eip:q is deleting");
    c.says("n/4", "False", "PoolNotFound", "eip:nowhere not found");
}

#[test]
fn a_requested_address_that_is_taken_or_excluded() {
    let mut c = Cluster::new([with(eip("p", "10.0.0.1-10.0.0.3"), |s| {
        s.sharing = Some(api::Sharing::None);
        s.exclude = Some("10.0.0.2".into());
    })]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(on_port(asking("n/2", "10.0.0.1"), 81));
    c.apply(asking("n/3", "10.0.0.2"));
    c.settle();
    c.says("n/2", "False", "AddressInUse", "10.0.0.1 is in use by Service n/1, and spec.sharing of its pool is None");
    c.says("n/3", "False", "AddressExcluded", "10.0.0.2 is excluded");
    c.delete("n/1");
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.1");
}

#[test]
fn a_pool_that_is_full() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(service("n/2"));
    c.settle();
    c.says("n/2", "False", "PoolFull", "no suitable ip to allocate: every IPv4 address of pool p is in use");
    assert!(c.told("n/2 Warning AssignIPFailed: no suitable ip to allocate"));
    assert_eq!(c.has("n/1"), "10.0.0.1");
    // It says so once, not at every look.
    c.ipam.retry(&key("n/2"));
    assert_eq!(c.settle().services, []);
}

#[test]
fn a_family_that_no_pool_has() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    let v6 = |name: &str| api::Service { families: vec![Family::V6], ..service(name) };
    c.apply(v6("n/1"));
    c.apply(api::Service { wanted_pool: Some("p".into()), ..v6("n/2") });
    c.apply(asking("n/3", "fd00::1"));
    c.settle();
    for (name, part) in
        [("n/1", "has IPv6 addresses"), ("n/2", "pool p has no IPv6 address"), ("n/3", "no IPv6 cluster IP")]
    {
        c.says(name, "False", "FamilyMismatch", "service can't use different family eip");
        c.says(name, "False", "FamilyMismatch", part);
    }
    c.pool(eip("q", "fd00::/120"));
    c.settle();
    assert_eq!(c.has("n/1"), "fd00::");
}

#[test]
fn annotations_of_4000_characters() {
    let long = "ä".repeat(4000);
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(asking("n/1", &long));
    c.apply(in_pool("n/2", &long));
    c.apply(in_pool("n/3", &",".repeat(4000)));
    c.settle();
    c.says("n/1", "False", "InvalidRequest", "is not an IP address");
    c.says("n/2", "False", "PoolNotFound", "not found");
    assert_eq!(c.has("n/3"), "10.0.0.1"); // names nothing
    assert!(c.events.iter().all(|e| e.len() < 1024), "an event takes 1 KiB");
}

#[test]
fn two_requested_addresses_of_one_family() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    c.apply(asking("n/1", "10.0.0.1,10.0.0.2"));
    c.settle();
    c.says("n/1", "False", "InvalidRequest", "two IPv4 addresses are requested");
}

#[test]
fn a_pool_deleted_while_in_use_changes_nothing_until_the_user_lets_go() {
    let mut c = Cluster::new([plain("p", "10.0.0.1"), plain("q", "10.0.1.1")]);
    c.apply(in_pool("n/1", "p"));
    c.settle();
    c.delete_pool("p");
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("10.0.0.1".into(), Some("p")));
    c.says("n/1", "True", "PoolMissing", "10.0.0.1 stays although its pool p does not exist any more");
    c.apply(in_pool("n/1", "q"));
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("10.0.1.1".into(), Some("q")));
}

#[test]
fn a_pool_that_shrank_changes_nothing_even_where_another_has_the_address_now() {
    let mut c = Cluster::new([plain("p", "10.0.0.1-10.0.0.9")]);
    c.apply(in_pool("n/1", "p"));
    c.settle();
    c.change_pool("p", |s| s.address = "10.0.0.5".into());
    c.pool(plain("q", "10.0.0.1"));
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("10.0.0.1".into(), Some("p")));
    c.says("n/1", "True", "PoolMissing", "does not have it any more (pool q has)");
    c.restart();
    assert_eq!(c.settle().services, []);
}
