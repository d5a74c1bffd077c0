use super::*;

const POOL: &str = "\
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata:
  name: eip-pool
spec:
  address: 192.168.0.180-192.168.0.190
  protocol: layer2
  interface: ens160
";
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: nginx
  annotations:
    lb.kubesphere.io/v1alpha1: openelb
    protocol.openelb.kubesphere.io/v1alpha1: layer2
    eip.openelb.kubesphere.io/v1alpha2: eip-pool
spec:
  type: LoadBalancer
  selector: {app: nginx}
  ports: [{port: 80}]
";

/// What is said of some files, without the last line.
fn said(files: &[&str]) -> Vec<String> {
    let files: Vec<_> = files.iter().enumerate().map(|(i, t)| (format!("{i}.yaml"), (*t).to_owned())).collect();
    let text = check(&files, Scope::default()).text(Output::Text, false);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.pop();
    lines
}

/// The one thing that is said of a file; `from` is replaced by `to` first.
fn one(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the text");
    let lines = said(&[&text.replacen(from, to, 1)]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.into_iter().next().unwrap()
}

#[test]
fn good_files_are_good_and_one_sees_what_would_happen() {
    let foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n";
    assert_eq!(
        said(&[&format!("{POOL}---\n{foreign}"), SERVICE]),
        ["Service default/nginx would get 192.168.0.180 from the pool eip-pool"]
    );
    assert_eq!(said(&[SERVICE]), Vec::<String>::new(), "its pool may be in the cluster");
}

#[test]
fn every_manifest_that_we_ship_is_good() {
    let files = [("openelb.yaml".to_owned(), include_str!("../../../../deploy/openelb.yaml").to_owned())];
    assert_eq!(check(&files, Scope::default()).findings, []);
}

#[test]
fn an_annotation_straight_under_metadata_is_found() {
    let text = SERVICE.replace("  annotations:\n", "").replace("    ", "  ");
    let lines = said(&[&text]);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(
        lines[0],
        "0.yaml:5:3: error: Service default/nginx: metadata.lb.kubesphere.io/v1alpha1: stands straight under metadata, \
         where it has no effect; move it under metadata.annotations"
    );
    let text = one(POOL, "metadata:\n", "metadata:\n  eip.openelb.kubesphere.io/is-default-eip: \"true\"\n");
    assert!(text.starts_with("0.yaml:4:3: error: Eip eip-pool: metadata.eip.openelb"), "{text}");
    let text = one(POOL, "metadata:\n", "metadata:\n  annotation: {a: b}\n");
    assert!(text.ends_with("metadata.annotation: there is no such field; did you mean annotations?"), "{text}");
}

#[test]
fn misspelt_annotations_are_found_by_what_they_resemble() {
    for (from, to, want) in [
        (
            "eip.openelb.kubesphere.io/v1alpha2:",
            "eip.openelb.kubesphere.io/v1alpha3:",
            "0.yaml:8:5: error: Service default/nginx: metadata.annotations[eip.openelb.kubesphere.io/v1alpha3]: has no effect; did you mean eip.openelb.kubesphere.io/v1alpha",
        ),
        (
            "eip.openelb.kubesphere.io/v1alpha2:",
            "eip.openelb.kubespere.io/v1alpha2:",
            "did you mean eip.openelb.kubesphere.io/v1alpha2?",
        ),
        (
            "eip.openelb.kubesphere.io/v1alpha2:",
            "eip.porter.kubesphere.io/v1alpha2:",
            "is PorterLB's name and has no effect; write eip.openelb.kubesphere.io/v1alpha2",
        ),
        (
            "protocol.openelb.kubesphere.io",
            "protcol.openelb.kubesphere.io",
            "did you mean protocol.openelb.kubesphere.io/v1alpha1?",
        ),
        (": layer2\n", ": Layer2\n", "\"Layer2\" is none of bgp, layer2, vip"),
        (
            "eip.openelb.kubesphere.io/v1alpha2: eip-pool",
            "eip.openelb.kubesphere.io/v1alpha2: 10.0.0.1",
            "is an address, and this names a pool; write it to eip.openelb.kubesphere.io/v1alpha1",
        ),
        (
            "eip.openelb.kubesphere.io/v1alpha2: eip-pool",
            "eip.openelb.kubesphere.io/v1alpha1: eip-pool",
            "\"eip-pool\" is no IP address; a pool is named by eip.openelb.kubesphere.io/v1alpha2",
        ),
        (
            "    lb.kubesphere.io/v1alpha1: openelb\n",
            "",
            "has no effect without the annotation lb.kubesphere.io/v1alpha1: openelb; add it",
        ),
        (
            "lb.kubesphere.io/v1alpha1: openelb",
            "lb.kubesphere.io/v1alpha1: OpenELB",
            "\"OpenELB\" opts in to nothing; write openelb",
        ),
        (
            "lb.kubesphere.io/v1alpha1: openelb",
            "lb.kubesphere.io/v1alpha1: porter",
            "opts in to nothing; write openelb",
        ),
        ("  type: LoadBalancer\n", "", "spec.type: ClusterIP gets no address from a pool; write LoadBalancer"),
    ] {
        let text = one(SERVICE, from, to);
        assert!(text.contains(want), "{to}: {text}");
    }
    let quoted =
        one(POOL, "metadata:\n", "metadata:\n  annotations: {eip.openelb.kubesphere.io/is-default-eip: true}\n");
    assert!(
        quoted.starts_with("0.yaml:4:") && quoted.ends_with("must be text: write \"true\", with quotes"),
        "{quoted}"
    );
    let foreign = SERVICE.replace(
        "  annotations:\n",
        "  annotations:\n    prometheus.io/scrape: \"true\"\n    kubesphere.io/creator: admin\n",
    );
    assert_eq!(said(&[&foreign]), Vec::<String>::new());
}

#[test]
fn fields_and_values_that_are_not_there_are_found_by_what_they_resemble() {
    for (from, to, want) in [
        (
            "protocol: layer2",
            "protocol: Layer2",
            "0.yaml:7:13: error: Eip eip-pool: spec.protocol: \"Layer2\" is not known; did you mean layer2?",
        ),
        ("protocol: layer2", "protocol: arp", "write one of bgp, layer2, vip"),
        (
            "  interface:",
            "  interfaces:",
            "0.yaml:8:3: error: Eip eip-pool: spec.interfaces: there is no such field, it would be dropped; did you mean interface?",
        ),
        (
            "  protocol: layer2",
            "  disable: \"yes\"",
            "0.yaml:7:12: error: Eip eip-pool: spec.disable: must be true or false: write true, without quotes",
        ),
        ("  protocol: layer2", "  priority: \"7\"", "must be a number: write 7, without quotes"),
        ("  protocol: layer2", "  namespaces: test", "must be a list: write [test]"),
        ("  address: 192.168.0.180-192.168.0.190\n", "", "0.yaml:6:3: error: Eip eip-pool: spec.address: is missing"),
        (
            "  interface: ens160\n",
            "",
            "0.yaml:5:1: error: Eip eip-pool: spec.interface: if protocol is layer2 or vip, interface should not be empty",
        ),
        (
            "192.168.0.180-",
            "192.168.0.280-",
            "0.yaml:6:3: error: Eip eip-pool: spec.address: invalid eip address format: \"192.168.0.280-192.168.0.190\" is neither",
        ),
        ("192.168.0.180-192.168.0.190", "192.168.0.190-192.168.0.180", "is reversed"),
        (
            "kind: Eip",
            "kind: EIP",
            "0.yaml:2:1: error: kind: there is no EIP in network.kubesphere.io/v1alpha2; did you mean Eip?",
        ),
        (
            "io/v1alpha2",
            "io/v1",
            "0.yaml:1:1: error: apiVersion: network.kubesphere.io/v1 has no Eip; write network.kubesphere.io/v1alpha2",
        ),
        ("kind: Eip\n", "", "0.yaml:1:1: error: apiVersion or kind is missing"),
        ("  name: eip-pool\n", "  labels: {}\n", "metadata.name: the Eip has no name"),
        ("spec:", "specs:", "did you mean spec?"),
    ] {
        let lines = said(&[&POOL.replacen(from, to, 1)]);
        assert!(lines.iter().any(|l| l.contains(want)), "{to}: {lines:#?}");
    }
}

#[test]
fn broken_yaml_is_named_with_its_line() {
    let text = one(POOL, "  name: eip-pool", "  name: [eip-pool");
    assert!(text.starts_with("0.yaml:"), "{text}");
    let at: u64 = text.split(':').nth(1).unwrap().parse().unwrap();
    assert!(at >= 4, "{text}");
}

#[test]
fn objects_of_several_files_are_checked_together() {
    let other = POOL.replace("eip-pool", "other").replace("192.168.0.180-192.168.0.190", "192.168.0.0/24");
    let lines = said(&[POOL, &other]);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].starts_with("0.yaml:6:3: error: Eip eip-pool: spec.address: eip address overlap with other"),
        "{}",
        lines[0]
    );
    let default = |name: &str, address: &str| {
        POOL.replace(
            "name: eip-pool",
            &format!("name: {name}\n  annotations: {{eip.openelb.kubesphere.io/is-default-eip: \"true\"}}"),
        )
        .replace("192.168.0.180-192.168.0.190", address)
    };
    let lines = said(&[&default("a", "10.0.0.1"), &default("b", "10.0.0.2")]);
    assert!(lines.len() == 2 && lines[0].contains("already exists a default EIP: b"), "{lines:#?}");
    let lines = said(&[POOL, POOL]);
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("1.yaml:4:3: error: Eip eip-pool: metadata.name: is used twice; first in 0.yaml:4")),
        "{lines:#?}"
    );
}

#[test]
fn a_service_that_its_pool_cannot_serve_is_told_why() {
    let wants = |ip: &str| SERVICE.replace("  type:", &format!("  loadBalancerIP: {ip}\n  type:"));
    let lines = said(&[POOL, &wants("10.9.9.9")]);
    assert!(
        lines.len() == 1
            && lines[0].starts_with("1.yaml:8:5: error: Service default/nginx:")
            && lines[0].contains("10.9.9.9"),
        "{lines:#?}"
    );
    let lines = said(&[POOL, &SERVICE.replace(": eip-pool", ": no-pool")]);
    assert!(lines.len() == 1 && lines[0].contains("warning") && lines[0].contains("no-pool"), "{lines:#?}");
}

#[test]
fn bgp_objects_are_checked_too() {
    let conf = "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpConf\nmetadata: {name: other}\nspec: {as: 1, routerID: 1.1.1.1}\n";
    let lines = said(&[conf]);
    assert!(
        lines.len() == 1
            && lines[0].contains("spec.routerID: there is no such field, it would be dropped; did you mean routerId?"),
        "{lines:#?}"
    );
    let lines = said(&[&conf.replace("routerID", "routerId")]);
    assert!(
        lines.len() == 1 && lines[0].contains("warning") && lines[0].contains("only the one named default"),
        "{lines:#?}"
    );
    let peer =
        "apiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {name: p}\nspec: {conf: {peerAS: 1}}\n";
    let lines = said(&[peer]);
    assert!(lines.iter().any(|l| l.contains("did you mean peerAs?")), "{lines:#?}");
    let lines = said(&[&peer.replace("peerAS", "peerAs")]);
    assert!(lines.len() == 1 && lines[0].contains("the router's address is missing"), "{lines:#?}"); // D17
}

#[test]
fn a_policy_is_read_as_a_speaker_reads_it() {
    let map = |text: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: rules}}\ndata:\n  {text}\n");
    let good = "gobgp.conf: |\n    [global.apply-policy.config]\n    default-export-policy = \"reject-route\"";
    assert!(said(&[&map(good)]).is_empty());
    let lines = said(&[&map(&good.replace("default-export", "default-exprt"))]);
    let wanted = "0.yaml:5:3: error: ConfigMap rules: data[gobgp.conf]:";
    assert!(lines[0].starts_with(wanted) && lines.concat().contains("`default-exprt-policy`"), "{lines:#?}");
    // Others are none of ours.
    assert_eq!(check(&[("a.yaml".to_owned(), map("a: b"))], Scope::default()).objects, 0);
}

#[test]
fn a_program_reads_the_same_as_json() {
    let files = [("a.yaml".to_owned(), POOL.replace("layer2", "Layer2"))];
    let text = check(&files, Scope::default()).text(Output::Json, true);
    let json: Json = serde_json::from_str(&text).unwrap();
    let finding = &json["findings"][0];
    assert_eq!(
        (json["errors"].as_u64(), json["warnings"].as_u64(), json["objects"].as_u64()),
        (Some(1), Some(0), Some(1))
    );
    assert_eq!(
        (finding["file"].as_str(), finding["line"].as_u64(), finding["column"].as_u64()),
        (Some("a.yaml"), Some(7), Some(13))
    );
    assert_eq!((finding["severity"].as_str(), finding["object"].as_str()), (Some("error"), Some("Eip eip-pool")));
}

#[test]
fn a_service_that_the_flag_makes_ours_needs_no_annotation() {
    let service = SERVICE.replace("    lb.kubesphere.io/v1alpha1: openelb\n", "");
    let files = [("a.yaml".to_owned(), service)];
    assert_eq!(check(&files, Scope::default()).errors(), 1);
    assert_eq!(check(&files, Scope { default_load_balancer: true }).findings, []);
}

#[test]
fn a_service_may_name_a_pool_for_each_family() {
    let service = SERVICE.replace(": eip-pool", ": \"eip-pool, six\"");
    let service = service.replace("  type:", "  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n  type:");
    let six = POOL.replace("eip-pool", "six").replace("192.168.0.180-192.168.0.190", "fd00::1");
    let lines = said(&[POOL, &six, &service]);
    assert_eq!(lines, ["Service default/nginx would get 192.168.0.180 and fd00::1 from the pool eip-pool"]);
    let lines = said(&[POOL, &six.replace("fd00::1", "10.0.0.1"), &service]);
    assert!(lines.len() == 1 && lines[0].starts_with("2.yaml:8:5: error: Service default/nginx:"), "{lines:#?}");
}
