//! The CRDs on a real kube-apiserver: it takes them, with all their rules; every sample of OpenELB's documentation is
//! accepted as it is; each bad input is refused with words that help.

use anyhow::{Context, Result, ensure};
use lab::host::Lab;
use lab::kube::{ControlPlane, Options};
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use oxelb_api::crd;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("every_sample_of_openelbs_documentation_is_accepted", samples),
        ("each_bad_input_is_refused_by_the_api_server_alone", bad_input),
        ("objects_are_kept_as_openelb_kept_them", kept),
    ];
    suite::main(tests)
}

const GROUP: &str = "network.kubesphere.io";

fn control(lab: &Lab) -> Result<ControlPlane> {
    let host = lab.host("control")?;
    host.address("lo", "192.0.2.1/32")?;
    let options = Options { controllers: false, all_controllers: false, scheduler: false };
    let control = ControlPlane::start(lab, &host, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), options)?;
    for manifest in crd::manifests() {
        control.rest.create(&manifest).context("the API server takes the CRD")?;
    }
    for (group, version, plural) in [
        (GROUP, "v1alpha1", "eips"),
        (GROUP, "v1alpha2", "eips"),
        (GROUP, "v1alpha2", "bgpconfs"),
        (GROUP, "v1alpha2", "bgppeers"),
        ("oxelb.io", "v1alpha1", "speakers"),
    ] {
        let path = format!("/apis/{group}/{version}/{plural}");
        until("the API server serves the kind", secs(20), || control.rest.get(&path))?;
    }
    Ok(control)
}

/// Writes are path by path: the lab's client knows only the kinds of Kubernetes.
fn create(control: &ControlPlane, plural: &str, object: &Value) -> Result<Value> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    control.rest.post(&format!("/apis/{version}/{plural}"), object)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1alpha2"), "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn pool(name: &str, spec: Value) -> Value {
    object("Eip", name, spec)
}

/// compat §12, and config/samples of OpenELB.
fn samples(lab: &Lab) -> Result<()> {
    let control = control(lab)?;
    let mut sample = pool(
        "eip-sample-pool",
        json!({
            "address": "192.168.0.91-192.168.0.100", "priority": 100, "namespaces": ["test", "default"],
            "namespaceSelector": {"kubesphere.io/workspace": "workspace"}, "disable": false,
            "protocol": "layer2", "interface": "eth0",
        }),
    );
    sample["metadata"]["annotations"] = json!({"eip.openelb.kubesphere.io/is-default-eip": "true"});
    sample["status"] = json!({
        "occupied": false, "usage": 1, "poolSize": 10, "used": {"192.168.0.91": "default/test-svc"},
        "firstIP": "192.168.0.91", "lastIP": "192.168.0.100", "ready": true, "v4": true,
    });
    let written = create(&control, "eips", &sample)?;
    ensure!(written["status"].is_null(), "the sample's status is ignored: {written}");
    for (name, spec) in [
        ("can-reach", json!({"address": "192.168.0.91", "protocol": "layer2", "interface": "can_reach:192.168.0.1"})),
        ("bgp-eip", json!({"address": "172.22.0.2-172.22.0.10"})),
        ("layer2-eip", json!({"address": "192.168.0.91-192.168.0.100", "interface": "eth0", "protocol": "layer2"})),
        ("vip-eip", json!({"address": "192.168.0.91-192.168.0.100", "interface": "eth0", "protocol": "vip"})),
        ("single", json!({"address": "139.198.121.228"})),
        ("cidr", json!({"address": "10.0.0.5/24", "usingKnownIPs": true, "priority": -1, "namespaceSelector": {}})),
        ("ipv6", json!({"address": "FD00::/64"})),
        (
            "walk-through",
            json!({"address": "192.168.0.180-192.168.2.190", "protocol": "layer2", "disable": false, "interface": "ens160"}),
        ),
        // What oxelb adds.
        (
            "several",
            json!({
                "address": "10.1.0.0/24, 10.2.0.1 - 10.2.0.9,\n fd00::1-fd00::ff,::1,1:2:3:4:5:6:7:8",
                "exclude": "10.1.0.7, fd00::7", "avoidBuggyIPs": true, "sharing": "Namespace",
                "nodeSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}, {"key": "e", "operator": "Exists"}]},
                "protocol": "layer2", "interface": "eth0, bond0.7",
            }),
        ),
        ("no-exclusion", json!({"address": "10.3.0.1", "exclude": ""})),
        ("many", json!({"address": vec!["192.168.100.100-192.168.100.200"; 127].join(",")})),
    ] {
        create(&control, "eips", &pool(name, spec)).with_context(|| name.to_owned())?;
    }
    for (name, spec) in [
        ("default", json!({"as": 50000, "listenPort": 17900, "routerId": "192.168.0.2"})),
        (
            "sample",
            json!({"as": 4200000000u32, "listenPort": -1, "asPerRack": {"leaf1": 50001}, "listenAddresses": ["::"], "families": [0, 1], "useMultiplePaths": true, "gracefulRestart": {"enabled": true, "restartTime": 60}, "policy": "policy"}),
        ),
        ("empty", json!({})),
    ] {
        create(&control, "bgpconfs", &object("BgpConf", name, spec)).with_context(|| name.to_owned())?;
    }
    for (name, spec) in [
        (
            "bgppeer-sample",
            json!({
                "conf": {"peerAs": 50001, "neighborAddress": "192.168.0.5"},
                "afiSafis": [{"config": {"family": {"afi": "AFI_IP", "safi": "SAFI_UNICAST"}, "enabled": true}, "addPaths": {"config": {"sendMax": 10}}}],
                "nodeSelector": {"matchLabels": {"openelb.kubesphere.io/rack": "leaf1"}},
            }),
        ),
        (
            "bgp-peer",
            json!({"conf": {"peerAs": 4200000000u32, "neighborAddress": "fd00::5"}, "timers": {"config": {"holdTime": "90", "keepaliveInterval": "30"}}, "ebgpMultihop": {"enabled": true, "multihopTtl": 8}, "transport": {"passiveMode": true, "remotePort": 17900}}),
        ),
        ("unnumbered", json!({"conf": {"peerAs": 50001, "neighborInterface": "eth1", "removePrivateAs": "ALL"}})),
    ] {
        create(&control, "bgppeers", &object("BgpPeer", name, spec)).with_context(|| name.to_owned())?;
    }
    let old = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Eip", "metadata": {"name": "old"}, "spec": {"address": "10.9.0.0/24", "protocol": "bgp"}});
    create(&control, "eips", &old)?;
    Ok(())
}

fn bad_input(lab: &Lab) -> Result<()> {
    let control = control(lab)?;
    let refused = |plural: &str, object: &Value, want: &str| -> Result<()> {
        let told = create(&control, plural, object).err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(told.contains(want), "{object} should be refused with {want:?}, but: {told:?}");
        Ok(())
    };
    let part = "each part must be an address, a CIDR or a range first-last";
    for (address, want) in [
        ("", "an address is missing"),
        (" ", "an address is missing"),
        ("10.0.0.1,", "an address is missing"),
        ("10.0.0.1,,10.0.0.2", "an address is missing"),
        ("10.0.0.300", part),
        ("010.0.0.1", part),
        ("10.0.0", part),
        ("10.0.0.0/33", part),
        ("10.0.0.0/08", part),
        ("fd00::/129", part),
        ("10.0.0.0/255.255.255.0", part),
        ("10.0.0.1-10.0.0.2-10.0.0.3", part),
        ("10.0.0.1-", part),
        ("10.0.0.1-9", part),
        ("a-b", part),
        ("eth0", part),
        ("fe80::1%eth0", part),
        ("1::2::3", part),
        ("1:2:3:4:5:6:7:8:9", part),
        ("10.0.0.9-10.0.0.1", "a range is reversed"),
        ("10.0.1.0 - 10.0.0.255", "a range is reversed"),
        ("fd00::1,10.0.0.1,10.0.0.0/24,10.0.2.1-10.0.1.9", "a range is reversed"),
        ("10.0.0.1-fd00::1", "mixes IPv4 and IPv6"),
        ("10.0.0.1,fd00::1-10.0.0.1", "mixes IPv4 and IPv6"),
        (&"10.0.0.1,".repeat(500), "Too long"),
    ] {
        refused("eips", &pool("p", json!({"address": address})), want)?;
        if !address.trim().is_empty() {
            refused("eips", &pool("p", json!({"address": "10.0.0.1", "exclude": address})), want)?;
        }
    }
    let interface = "if protocol is layer2 or vip, interface should not be empty";
    let names = "must be interface names joined by commas, or can_reach:<address>";
    let operator = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]});
    for (spec, want) in [
        (json!({"protocol": "layer2"}), interface),
        (json!({"protocol": "vip", "interface": " "}), interface),
        (json!({"interface": "eth0,"}), names),
        (json!({"interface": "can_reach:gateway"}), names),
        (json!({"interface": "reach:10.0.0.1"}), names),
        (json!({"interface": "a_name_of_16_char"}), names),
        (json!({"protocol": "Layer2"}), "Unsupported value: \"Layer2\""),
        (json!({"protocol": ""}), "Unsupported value"),
        (json!({"sharing": "Nobody"}), "Unsupported value"),
        (json!({"disable": "yes"}), "must be of type boolean"),
        (json!({"priority": "high"}), "must be of type integer"),
        (
            json!({"nodeSelector": operator("Like", json!(["a"]))}),
            "operator must be one of In, NotIn, Exists, DoesNotExist",
        ),
        (json!({"nodeSelector": operator("In", json!([]))}), "operators In and NotIn need values"),
        (json!({"nodeSelector": operator("Exists", json!(["a"]))}), "Exists and DoesNotExist take none"),
        (json!({"bgp": {"med": -1}}), "should be greater than or equal to 0"),
        (json!({"bgp": {"asPathPrepend": 11}}), "should be less than or equal to 10"),
        (json!({"bgp": {"aggregationLength": 33}}), "should be less than or equal to 32"),
        (json!({"vrrp": {"version": 1}}), "should be greater than or equal to 2"),
        (json!({"vrrp": {"priority": 255}}), "should be less than or equal to 254"),
        (json!({"vrrp": {"advertisementInterval": 9}}), "should be greater than or equal to 10"),
    ] {
        let mut spec = spec;
        spec["address"] = json!("10.0.0.1");
        refused("eips", &pool("p", spec), want)?;
    }
    refused("eips", &pool("p", json!({"disable": true})), "spec.address: Required value")?;
    refused(
        "eips",
        &json!({"apiVersion": format!("{GROUP}/v1alpha2"), "kind": "Eip", "metadata": {"name": "p"}}),
        "spec is missing",
    )?;
    let old = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Eip", "metadata": {"name": "old"}, "spec": {"address": "fd00::1"}});
    refused("eips", &old, "spec.address")?;
    for (spec, want) in [
        (json!({"as": 4294967296u64}), "should be less than or equal to 4294967295"),
        (json!({"as": -1}), "should be greater than or equal to 0"),
        (json!({"asPerRack": {"leaf": 4294967296u64}}), "should be less than or equal to 4294967295"),
        (json!({"routerId": "fd00::1"}), "must be four numbers such as 192.0.2.1"),
        (json!({"listenPort": 70000}), "should be less than or equal to 65535"),
        (json!({"listenAddresses": ["any"]}), "must be an IP address"),
    ] {
        refused("bgpconfs", &object("BgpConf", "default", spec), want)?;
    }
    let missing = "the router's address is missing"; // D17
    refused(
        "bgppeers",
        &json!({"apiVersion": format!("{GROUP}/v1alpha2"), "kind": "BgpPeer", "metadata": {"name": "p"}}),
        "spec is missing",
    )?;
    for (spec, want) in [
        (json!({}), missing),
        (json!({"conf": {"peerAs": 50001}}), missing),
        (json!({"conf": {"neighborAddress": "", "neighborInterface": ""}}), missing),
        (json!({"conf": {"neighborAddress": "router"}}), "must be an IP address"),
        (json!({"conf": {"neighborRange": "10.0.0.1-10.0.0.9"}}), "must be a network such as"),
        (json!({"conf": {"neighborAddress": "10.0.0.1"}, "nextHopMode": "Self"}), "must be one of Node, OpenELB"),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "bfd": {"authentication": "KeyedMD5"}}),
            "must be one of Password, KeyedSHA1, MeticulousKeyedSHA1",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "bfd": {"keyId": 256}}),
            "should be less than or equal to 255",
        ),
        (json!({"conf": {"neighborAddress": "10.0.0.1", "peerAs": -1}}), "should be greater than or equal to 0"),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1", "removePrivateAs": "all"}}),
            "must be one of NONE, ALL, REPLACE",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "timers": {"config": {"holdTime": "9s"}}}),
            "must be a number of seconds",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "timers": {"config": {"holdTime": 90}}}),
            "must be of type string",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "transport": {"remotePort": 70000}}),
            "should be less than or equal to 65535",
        ),
        (
            json!({"conf": {"neighborAddress": "10.0.0.1"}, "nodeSelector": operator("Like", json!(["a"]))}),
            "operator must be one of",
        ),
    ] {
        refused("bgppeers", &object("BgpPeer", "p", spec), want)?;
    }
    Ok(())
}

/// Every field of OpenELB's status survives; columns are OpenELB's; an object written before the rules keeps working.
fn kept(lab: &Lab) -> Result<()> {
    let control = control(lab)?;
    let eips = format!("/apis/{GROUP}/v1alpha2/eips");
    create(&control, "eips", &pool("p", json!({"address": "10.0.0.1-10.0.0.9"})))?;
    let status = json!({
        "occupied": true, "usage": 9, "poolSize": 9, "used": {"10.0.0.1": "a/x;b/y"}, "firstIP": "10.0.0.1",
        "lastIP": "10.0.0.9", "ready": true, "v4": true,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Valid", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    control.rest.patch(&format!("{eips}/p/status"), &json!({"status": status}))?;
    ensure!(control.rest.get(&format!("{eips}/p"))?["status"] == status);
    let columns = control.kubectl(&["get", "eip", "p"])?;
    let columns: Vec<Vec<&str>> = columns.lines().map(|l| l.split_whitespace().collect()).collect();
    ensure!(
        columns == [vec!["NAME", "CIDR", "USAGE", "TOTAL"], vec!["p", "10.0.0.1-10.0.0.9", "9", "9"]],
        "{columns:?}"
    );
    ensure!(control.kubectl(&["get", "networking", "-o", "name"])?.contains("eip.network.kubesphere.io/p"));
    let old = control.rest.get(&format!("/apis/{GROUP}/v1alpha1/eips/p"))?;
    ensure!(old["spec"]["address"] == "10.0.0.1-10.0.0.9" && old["apiVersion"] == format!("{GROUP}/v1alpha1"), "{old}");

    create(
        &control,
        "bgppeers",
        &object("BgpPeer", "r", json!({"conf": {"neighborAddress": "10.0.0.1", "peerAs": 4200000000u32}})),
    )?;
    let status = json!({"nodesPeerStatus": {"n1": {
        "peerState": {"neighborAddress": "10.0.0.1", "peerAs": 4200000000u32, "peerType": 1, "sessionState": "ESTABLISHED", "routerId": "10.0.0.1",
            "queues": {}, "messages": {"received": {"open": "1", "total": "7"}, "sent": {"update": "3", "keepalive": "3"}}},
        "timersState": {"keepaliveInterval": "30", "negotiatedHoldTime": "90", "uptime": "2026-01-01T00:00:00Z"},
    }}});
    let peer = format!("/apis/{GROUP}/v1alpha2/bgppeers/r");
    control.rest.patch(&format!("{peer}/status"), &json!({"status": status}))?;
    ensure!(control.rest.get(&peer)?["status"] == status);
    create(&control, "bgpconfs", &object("BgpConf", "default", json!({"as": 50000})))?;
    let status = json!({"nodesConfStatus": {"n1": {"routerId": "10.0.0.1", "as": 4200000000u32}}});
    let conf = format!("/apis/{GROUP}/v1alpha2/bgpconfs/default");
    control.rest.patch(&format!("{conf}/status"), &json!({"status": status}))?;
    ensure!(control.rest.get(&conf)?["status"] == status);

    // A pool that older rules let in: its finalizers can be removed all the same.
    let name = "eips.network.kubesphere.io";
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    control.rest.delete(&format!("{crds}/{name}"))?;
    let gone = || match control.rest.get(&format!("{crds}/{name}")) {
        Err(_) => Ok(()),
        Ok(crd) => Err(anyhow::anyhow!("still there: {}", crd["status"])),
    };
    until("the CRD is gone", secs(30), gone)?;
    let ours = crd::manifests().into_iter().find(|c| c["metadata"]["name"] == name).context("no CRD")?;
    let mut lax = ours.clone();
    for version in lax["spec"]["versions"].as_array_mut().into_iter().flatten() {
        version["schema"]["openAPIV3Schema"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    control.rest.create(&lax)?;
    let mut broken = pool("broken", json!({"address": "nonsense", "protocol": "layer2"}));
    broken["metadata"]["finalizers"] = json!(["finalizer.ipam.kubesphere.io/v1alpha1"]);
    until("the API server serves the kind", secs(20), || create(&control, "eips", &broken))?;
    control.rest.patch(&format!("{crds}/{name}"), &json!({"spec": {"versions": ours["spec"]["versions"]}}))?;
    until("the rules are in force", secs(20), || {
        match create(&control, "eips", &pool("bad", json!({"address": "nonsense"}))) {
            Err(e) if format!("{e:#}").contains("each part must be") => Ok(()),
            Err(e) => Err(e),
            Ok(_) => control.rest.delete(&format!("{eips}/bad")).and(Err(anyhow::anyhow!("not yet"))),
        }
    })?;
    control.rest.patch(&format!("{eips}/broken"), &json!({"metadata": {"finalizers": []}}))?;
    let error = control.rest.patch(&format!("{eips}/broken"), &json!({"spec": {"address": "worse"}})).err();
    ensure!(error.is_some_and(|e| format!("{e:#}").contains("each part must be")));
    Ok(())
}
