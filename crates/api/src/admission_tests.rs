use super::*;
use serde_json::{Value, json};

fn pool(name: &str, spec: Value) -> Eip {
    let json = json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": name}, "spec": spec
    });
    serde_json::from_value(json).unwrap()
}

fn simple(name: &str, address: &str) -> Eip {
    pool(name, json!({"address": address, "protocol": "layer2", "interface": "eth0"}))
}

fn with(mut eip: Eip, key: &str, value: &str) -> Eip {
    eip.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    eip
}

fn in_use(uses: &[(&str, &[&str])]) -> InUse {
    let keys = |services: &[&str]| services.iter().map(|s| s.parse().unwrap()).collect();
    uses.iter().map(|(ip, services)| (ip.parse().unwrap(), keys(services))).collect()
}

/// All refusals, as the user reads them.
fn text(result: Result<(), Vec<Refusal>>) -> String {
    result.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn create(new: &Eip, others: &[Eip]) -> String {
    text(check_pool(new, None, others, &InUse::new()))
}

fn update(old: &Eip, new: &Eip, others: &[Eip], uses: &[(&str, &[&str])]) -> String {
    text(check_pool(new, Some(old), others, &in_use(uses)))
}

#[test]
fn bad_addresses_are_refused_with_openelbs_words() {
    for (address, want) in [
        ("", "invalid eip address format: an address is missing"),
        ("10.0.0.300", "\"10.0.0.300\" is neither an address"),
        ("10.0.0.9-10.0.0.1", "the range \"10.0.0.9-10.0.0.1\" is reversed"),
        ("fd00::2-fd00::1", "is reversed"),
        ("10.0.0.1-fd00::1", "mixes IPv4 and IPv6"),
        ("10.0.0.1,", "an address is missing"),
        (&"10.0.0.1x".repeat(400), "is neither an address"),
    ] {
        let text = create(&simple("p", address), &[]);
        assert!(
            text.starts_with("spec.address: invalid eip address format") && text.contains(want),
            "{address}: {text}"
        );
    }
    let text = create(&pool("p", json!({"address": "10.0.0.1", "exclude": "10.0.0.1"})), &[]);
    assert!(text.contains("no address of 10.0.0.1 is left"), "{text}");
}

#[test]
fn layer2_and_vip_need_an_interface() {
    for protocol in ["layer2", "vip"] {
        let text = create(&pool("p", json!({"address": "10.0.0.1", "protocol": protocol})), &[]);
        assert!(text.contains("if protocol is layer2 or vip, interface should not be empty"), "{text}");
    }
    assert_eq!(create(&pool("p", json!({"address": "10.0.0.1"})), &[]), "");
}

#[test]
fn an_overlap_with_any_other_pool_is_refused_whatever_its_form_and_all_are_named() {
    let forms = ["10.0.0.5", "10.0.0.0/29", "10.0.0.4-10.0.0.6", "fd00::1,10.0.0.5", "10.0.0.7/24"];
    for a in forms {
        for b in forms {
            let text = create(&simple("new", a), &[simple("far", "10.9.0.0/16"), simple("near", b)]);
            assert!(
                text.starts_with("spec.address: eip address overlap with near: both have 10.0.0."),
                "{a} {b}: {text}"
            );
        }
    }
    let disabled = pool("c", json!({"address": "10.0.2.0/24", "disable": true}));
    let text = create(&simple("new", "10.0.0.0/22"), &[simple("a", "10.0.1.1"), simple("b", "10.0.1.2"), disabled]);
    for (other, range) in [("a", "10.0.1.1"), ("b", "10.0.1.2"), ("c", "10.0.2.0-10.0.2.255")] {
        assert!(text.contains(&format!("overlap with {other}: both have {range};")), "{text}");
    }
    // Equal numbers of different families are different addresses.
    assert_eq!(create(&simple("new", "::a00:5"), &[simple("old", "10.0.0.5")]), "");
    // A broken pool has no addresses, and a pool never overlaps with itself.
    assert_eq!(create(&simple("new", "10.0.0.5"), &[simple("broken", "x"), simple("new", "10.0.0.5")]), "");
}

#[test]
fn there_is_one_default_pool_in_any_case_of_letters() {
    let default = |name: &str, value: &str| {
        with(simple(name, if name == "a" { "10.0.0.1" } else { "10.0.0.2" }), keys::DEFAULT_POOL, value)
    };
    for value in ["true", "True", "TRUE"] {
        let text = create(&default("b", value), &[default("a", "true")]);
        assert!(text.contains("already exists a default EIP: a"), "{text}");
    }
    assert_eq!(create(&default("b", "false"), &[default("a", "true")]), "");
    assert_eq!(create(&default("b", "true"), &[default("a", "false")]), "");
    let text = update(&simple("b", "10.0.0.2"), &default("b", "true"), &[default("a", "true")], &[]);
    assert!(text.contains("already exists a default EIP: a"), "{text}");
    // Two that are there already do not stop other changes.
    let mut changed = default("b", "true");
    changed.spec.disable = Some(true);
    assert_eq!(update(&default("b", "true"), &changed, &[default("a", "true")], &[]), "");
}

#[test]
fn an_address_in_use_cannot_be_taken_out_of_its_pool_and_its_services_are_named() {
    let old = simple("p", "10.0.0.1-10.0.0.9");
    let uses: &[(&str, &[&str])] = &[("10.0.0.5", &["default/nginx", "default/dns"]), ("10.0.1.1", &["a/b"])];
    assert_eq!(update(&old, &simple("p", "10.0.0.5,fd00::/64"), &[], uses), "");
    let text = update(&old, &simple("p", "10.0.0.6-10.0.0.9"), &[], uses);
    assert_eq!(
        text,
        "spec.address: the address field is not allowed to be modified so that it loses addresses in use: \
         10.0.0.5 by default/nginx and default/dns; keep these, or delete the Services first"
    );
    let text = update(&old, &simple("p", "10.0.0.9-10.0.0.6"), &[], uses);
    assert!(text.contains("reversed"), "{text}");
}

#[test]
fn a_long_list_of_users_stays_readable() {
    let uses: InUse =
        (0..100u8).map(|n| (IpAddr::from([10, 0, 0, n]), vec![ServiceKey::new("ns", &format!("s{n}"))])).collect();
    let text = check_pool_delete(&simple("p", "10.0.0.0/24"), &uses).unwrap_err().to_string();
    assert!(text.contains("10.0.0.4 by ns/s4, and 95 more addresses;") && text.len() < 500, "{text}");
    let many = (0..1000).map(|n| ServiceKey::new("ns", &format!("s{n}"))).collect();
    let text = Uses(vec![("10.0.0.1".parse().unwrap(), many)]).to_string();
    assert!(text.ends_with("ns/s4 and 995 more") && text.len() < 200, "{text}");
}

#[test]
fn a_pool_in_use_is_deleted_only_by_force() {
    let uses = in_use(&[("10.0.0.5", &["default/nginx"])]);
    let text = check_pool_delete(&simple("p", "10.0.0.0/24"), &uses).unwrap_err().to_string();
    assert!(text.starts_with("eip p is in use: 10.0.0.5 by default/nginx;"), "{text}");
    assert!(text.contains("kubectl annotate eip p openelb.io/force-delete=true"), "{text}");
    assert_eq!(check_pool_delete(&with(simple("p", "10.0.0.0/24"), keys::FORCE_DELETE, "true"), &uses), Ok(()));
    assert_eq!(check_pool_delete(&simple("p", "10.0.1.0/24"), &uses), Ok(()));
    assert_eq!(check_pool_delete(&simple("p", "10.0.0.0/24"), &in_use(&[("10.0.0.5", &[])])), Ok(()));
}

#[test]
fn what_was_wrong_already_does_not_stop_a_change_that_makes_nothing_worse() {
    let broken = simple("p", "nonsense");
    assert_eq!(update(&broken, &with(broken.clone(), "note", "x"), &[], &[]), "");
    assert_eq!(update(&broken, &simple("p", "10.0.0.1"), &[], &[]), "");
    let other = simple("o", "10.0.0.1-10.0.0.9");
    assert_eq!(
        update(
            &simple("p", "10.0.0.5-10.0.0.20"),
            &simple("p", "10.0.0.7-10.0.0.20"),
            std::slice::from_ref(&other),
            &[]
        ),
        ""
    );
    let text = update(&simple("p", "10.0.0.5-10.0.0.20"), &simple("p", "10.0.0.4-10.0.0.20"), &[other], &[]);
    assert!(text.contains("overlap with o: both have 10.0.0.4;"), "{text}");
}

#[test]
fn a_pool_that_is_being_deleted_can_always_lose_its_finalizer() {
    let mut old = with(simple("p", "nonsense"), keys::DEFAULT_POOL, "true");
    old.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    old.metadata.finalizers = Some(vec![keys::LEGACY_POOL_FINALIZER.to_owned()]);
    let mut new = old.clone();
    new.metadata.finalizers = None;
    new.spec.address = String::new();
    assert_eq!(update(&old, &new, &[with(simple("o", "10.0.0.1"), keys::DEFAULT_POOL, "true")], &[]), "");
}

#[test]
fn what_is_allowed_but_hardly_meant_is_said() {
    let text = pool_warnings(&with(simple("p", "10.0.0.1"), keys::DEFAULT_POOL, "True")).join("");
    assert!(text.contains("\"True\" does not make this the default pool"), "{text}");
    assert_eq!(pool_warnings(&with(simple("p", "10.0.0.1"), keys::DEFAULT_POOL, "true")), Vec::<String>::new());
}

fn conf(spec: Value) -> String {
    let json = json!({"apiVersion": "v", "kind": "BgpConf", "metadata": {"name": "default"}, "spec": spec});
    text(check_bgp_conf(&serde_json::from_value(json).unwrap(), None))
}

#[test]
fn a_bgp_conf_is_checked_field_by_field() {
    assert_eq!(
        conf(json!({"as": 4200000000u32, "listenPort": 17900, "routerId": "192.168.0.2", "asPerRack": {"leaf1": 1}})),
        ""
    );
    assert_eq!(conf(json!({"listenPort": -1, "routerId": "", "listenAddresses": ["::", "0.0.0.0"]})), "");
    for (spec, want) in [
        (json!({"as": 4294967296u64}), "spec.as: 4294967296 is not an AS number"),
        (json!({"asPerRack": {"leaf1": -1}}), "spec.asPerRack[leaf1]: -1 is not an AS number"),
        (json!({"routerId": "fd00::1"}), "spec.routerId: \"fd00::1\" is not four numbers"),
        (json!({"listenPort": 65536}), "spec.listenPort: 65536"),
        (json!({"listenAddresses": ["any"]}), "spec.listenAddresses: \"any\""),
    ] {
        assert!(conf(spec).starts_with(want), "{want}");
    }
    let named = |name: &str| {
        bgp_conf_warnings(
            &serde_json::from_value(
                json!({"apiVersion": "v", "kind": "BgpConf", "metadata": {"name": name}, "spec": {}}),
            )
            .unwrap(),
        )
    };
    assert_eq!(named("default"), Vec::<String>::new());
    assert!(named("other")[0].contains("only the one named default"));
}

fn peer(spec: Value) -> String {
    let json = json!({"apiVersion": "v", "kind": "BgpPeer", "metadata": {"name": "p"}, "spec": spec});
    text(check_bgp_peer(&serde_json::from_value(json).unwrap(), None))
}

#[test]
fn a_bgp_peer_without_a_router_is_refused() {
    let missing = "spec.conf.neighborAddress: the router's address is missing"; // D17
    assert!(peer(json!({})).starts_with(missing));
    assert!(peer(json!({"conf": {"peerAs": 50001, "neighborAddress": ""}})).starts_with(missing));
    assert_eq!(peer(json!({"conf": {"peerAs": 50001, "neighborInterface": "eth1"}})), "");
    assert_eq!(
        peer(json!({"conf": {"peerAs": 50001, "neighborAddress": "fe80::1"}, "timers": {"config": {"holdTime": "9"}}})),
        ""
    );
}

#[test]
fn a_bgp_peer_is_checked_field_by_field() {
    for (more, want) in [
        (json!({"conf": {"neighborAddress": "router"}}), "spec.conf.neighborAddress: \"router\" is not an IP address"),
        (json!({"conf": {"neighborAddress": "10.0.0.1", "peerAs": -1}}), "spec.conf.peerAs: -1"),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1", "removePrivateAs": "all"}}),
            "spec.conf.removePrivateAs: \"all\" is not one of",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "transport": {"remotePort": 70000}}),
            "spec.transport.remotePort: 70000",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "ebgpMultihop": {"multihopTtl": 256}}),
            "spec.ebgpMultihop.multihopTtl: 256",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "timers": {"config": {"holdTime": "9s"}}}),
            "spec.timers.config.holdTime: \"9s\"",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
            "spec.nodeSelector: operator \"Like\"",
        ),
    ] {
        let text = peer(more);
        assert!(text.starts_with(want), "{want}: {text}");
    }
}
