//! OpenELB's defects (compat §11), each by its number.

mod common;
use api::keys;
use common::*;

#[test]
fn d4_no_change_of_default_priority_selector_or_fullness_moves_an_address() {
    let mut c = Cluster::new([
        with(plain("a", "10.0.1.1-10.0.1.2"), |s| s.namespaces = Some(vec!["n".into()])),
        with(plain("b", "10.0.2.1-10.0.2.9"), |s| {
            s.namespaces = Some(vec!["n".into()]);
            s.priority = Some(5);
        }),
        eip("c", "10.0.3.1"),
    ]);
    c.apply(service("n/one"));
    c.apply(service("other/two"));
    c.settle();
    assert_eq!((c.has("n/one"), c.has("other/two")), ("10.0.1.1".into(), "10.0.3.1".into()));

    c.change_pool("a", |s| s.priority = Some(9));
    assert_eq!(c.settle().services, []);
    c.change_pool("a", |s| s.namespaces = None);
    assert_eq!(c.settle().services, []);
    c.pool(plain("c", "10.0.3.1"));
    c.pool(eip("b", "10.0.2.1-10.0.2.9"));
    assert_eq!(c.settle().services, []);
    c.restart();
    assert_eq!(c.settle().services, []);
}

#[test]
fn d4_filling_the_preferred_pool_exactly_flips_nothing() {
    let of_n = |name, address, priority| {
        with(plain(name, address), |s| {
            s.namespaces = Some(vec!["n".into()]);
            s.priority = Some(priority);
        })
    };
    let mut c = Cluster::new([of_n("a", "10.0.1.1-10.0.1.2", 1), of_n("b", "10.0.2.1-10.0.2.2", 2)]);
    for name in ["n/1", "n/2", "n/3"] {
        c.apply(service(name));
        c.settle();
    }
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.1.1", "10.0.1.2", "10.0.2.1"]);
    for _ in 0..3 {
        c.restart();
        assert_eq!(c.settle().services, []);
    }
}

#[test]
fn d5_disabling_a_pool_leaves_what_it_gave_and_gives_nothing_new() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    c.apply(service("n/old"));
    c.settle();
    c.change_pool("p", |s| s.disable = Some(true));
    c.apply(service("n/new"));
    c.settle();
    assert_eq!((c.has("n/old"), c.has("n/new")), ("10.0.0.1".into(), String::new()));
    c.says("n/old", "True", "Assigned", "10.0.0.1 from pool p");
    c.says("n/new", "False", "NoPool", "no available default eip found");
}

#[test]
fn d6_a_service_without_annotations_is_released_and_its_finalizer_removed() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.openelb_gave(service("n/gone"), "p", "10.0.0.1");
    c.settle();
    c.edit("n/gone", |s| s.served = false);
    c.apply(service("n/next"));
    c.settle();
    let gone = &c.services[&key("n/gone")];
    assert_eq!((gone.has_ingress, &gone.pool_label, gone.legacy_finalizer), (false, &None, false));
    assert_eq!(gone.condition(keys::ADDRESS_ASSIGNED), None);
    assert!(c.told("n/gone ReleaseIP: success to release ip: 10.0.0.1"));
    assert_eq!(c.has("n/next"), "10.0.0.1");
}

#[test]
fn d7_a_freed_address_goes_at_once_to_who_waits_longest() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    for name in ["n/first", "n/z-early", "n/a-late"] {
        c.apply(service(name));
        c.settle();
    }
    c.says("n/z-early", "False", "PoolFull", "no suitable ip to allocate");
    c.restart(); // the order of waiting is in the status
    c.settle();
    c.delete("n/first");
    let decided: Vec<_> = c.settle().services.iter().map(|d| d.service.to_string()).collect();
    assert_eq!(decided, ["n/z-early"]);
    assert_eq!(c.has("n/z-early"), "10.0.0.1");
}

#[test]
fn d7_an_enabled_widened_or_newly_selecting_pool_serves_who_waits() {
    let mut c = Cluster::new([with(plain("p", "10.0.0.1"), |s| {
        s.disable = Some(true);
        s.namespace_selector = Some([("team".to_owned(), "x".to_owned())].into());
    })]);
    for name in ["n/1", "n/2"] {
        c.apply(service(name));
        c.settle();
    }
    c.change_pool("p", |s| s.disable = None);
    assert_eq!(c.settle().services, []);
    c.ipam.set_namespace("n", [("team".to_owned(), "x".to_owned())].into());
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.1".into(), String::new()));
    c.change_pool("p", |s| s.address = "10.0.0.1-10.0.0.2".into());
    c.settle();
    assert_eq!(c.has("n/2"), "10.0.0.2");
}

#[test]
fn d25_a_wide_ipv6_pool_gives_addresses() {
    for (address, size) in [("fd00::/65", 1 << 63), ("fd00::/64", 1 << 64), ("::/0", u128::MAX)] {
        let mut c = Cluster::new([eip("p", address)]);
        let mut v6 = service("n/1");
        v6.families = vec![api::Family::V6];
        c.apply(v6);
        c.settle();
        let first = address.split('/').next().unwrap();
        assert_eq!(c.has("n/1"), first);
        let status = c.ipam.report("p").unwrap().status;
        assert_eq!(status.pool_size, i64::try_from(size).unwrap_or(i64::MAX));
        assert_eq!((status.occupied, status.usage, status.v4), (false, 1, false));
        assert_eq!(status.first_ip, first);
    }
}

#[test]
fn d26_several_ranges_and_excluded_addresses_can_be_changed_without_renumbering() {
    let mut c = Cluster::new([with(eip("p", "10.0.0.0-10.0.0.2, 10.0.9.9"), |s| {
        s.exclude = Some("10.0.0.1".into());
        s.avoid_buggy_ips = Some(true);
    })]);
    for name in ["n/1", "n/2", "n/3"] {
        c.apply(service(name));
    }
    c.settle();
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.2", "10.0.9.9", ""]);
    c.change_pool("p", |s| {
        s.address = "10.0.0.0/28,10.0.9.0/24".into();
        s.exclude = Some("10.0.0.0-10.0.0.3".into());
    });
    c.settle();
    assert_eq!(["n/1", "n/2", "n/3"].map(|s| c.has(s)), ["10.0.0.2", "10.0.9.9", "10.0.0.4"]);
    c.says("n/1", "True", "AddressExcluded", "10.0.0.2 stays");
    assert_eq!(c.ipam.report("p").unwrap().kept.keys().copied().collect::<Vec<_>>(), [ip("10.0.0.2")]);
}

#[test]
fn d26_a_pool_deleted_and_made_again_renumbers_nobody() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.9")]);
    for name in ["n/1", "n/2", "n/3"] {
        c.apply(service(name));
        c.settle();
    }
    c.delete("n/1");
    c.delete_pool("p");
    c.settle();
    assert_eq!((c.has("n/2"), c.has("n/3")), ("10.0.0.2".into(), "10.0.0.3".into()));
    c.says("n/2", "True", "PoolMissing", "pool p does not exist any more");
    c.restart();
    assert_eq!(c.settle().services, []);
    c.pool(eip("p", "10.0.0.1-10.0.0.9"));
    c.apply(service("n/4"));
    c.settle();
    assert_eq!(["n/2", "n/3", "n/4"].map(|s| c.has(s)), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
    c.says("n/2", "True", "Assigned", "10.0.0.2 from pool p");
}

#[test]
fn d27_sharing_looks_at_ports_and_namespaces() {
    let mut c = Cluster::new([eip("p", "10.0.0.1")]);
    c.apply(service("n/1"));
    c.settle();
    c.apply(asking("m/2", "10.0.0.1"));
    c.settle();
    c.says("m/2", "False", "AddressInUse", "Service n/1, and both use port TCP/80");
    c.change_pool("p", |s| s.sharing = Some(api::Sharing::Namespace));
    c.edit("m/2", |s| s.ports[0].port = 81);
    c.settle();
    c.says("m/2", "False", "AddressInUse", "only Services of one namespace share");
}

#[test]
fn d36_release_and_assignment_in_one_step_conflict_with_nothing() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.3")]);
    c.apply(asking("n/1", "10.0.0.1"));
    c.settle();
    // One write moves it; the old address is nobody else's before that write was seen.
    c.apply(asking("n/1", "10.0.0.2"));
    c.apply(asking("n/2", "10.0.0.1"));
    let plan = c.ipam.plan();
    let of = |name| plan.services.iter().find(|d| d.service == key(name)).unwrap();
    assert_eq!(of("n/1").ingress, Some(vec![ip("10.0.0.2")]));
    assert_eq!(of("n/2").ingress, None);
    assert!(c.land(of("n/1")));
    c.observe(&key("n/1"));
    c.settle();
    assert_eq!((c.has("n/1"), c.has("n/2")), ("10.0.0.2".into(), "10.0.0.1".into()));
    assert!(!c.told("AssignIPFailed"));
}

#[test]
fn d36_an_address_that_openelb_gave_twice_stays_with_one_and_the_other_gets_another() {
    let mut c = Cluster::new([eip("p", "10.0.0.1-10.0.0.3")]);
    c.openelb_gave(service("n/b"), "p", "10.0.0.1");
    c.openelb_gave(service("n/a"), "p", "10.0.0.1");
    c.restart();
    c.settle();
    // The record names b first.
    assert_eq!((c.has("n/a"), c.has("n/b")), ("10.0.0.2".into(), "10.0.0.1".into()));
    assert!(c.told("n/a Warning ReleaseIP: success to release ip: 10.0.0.1: Service n/b has it too"));
    assert!(c.told("n/a AssignIP: success to assign ip: 10.0.0.2"));
}

#[test]
fn d37_a_preset_pool_label_changes_nothing_and_leaks_nothing() {
    let mut c = Cluster::new([eip("p", "10.0.0.1"), plain("q", "10.0.1.1")]);
    let mut preset = service("n/1");
    preset.pool_label = Some("p".into());
    c.apply(preset);
    let mut wrong = service("n/2");
    wrong.pool_label = Some("q".into());
    c.apply(wrong);
    c.settle();
    assert_eq!((c.has("n/1"), c.label("n/1")), ("10.0.0.1".into(), Some("p")));
    assert_eq!((c.has("n/2"), c.label("n/2")), (String::new(), None));
    c.delete("n/1");
    c.settle();
    assert_eq!((c.has("n/2"), c.label("n/2")), ("10.0.0.1".into(), Some("p")));
    assert_eq!(c.used("p"), [("10.0.0.1".to_owned(), "n/2".to_owned())]);
}
