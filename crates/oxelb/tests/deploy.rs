//! What `kubectl apply -f deploy/openelb.yaml` installs: names that clusters and tools rely on (compat §9.1, §13), no
//! right and no privilege more than needed, nothing that could hang an uninstall.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use serde_json::{Value, json};
use std::process::Command;

fn objects() -> Vec<Value> {
    let text = include_str!("../../../deploy/openelb.yaml");
    let all: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { budget: None }).unwrap();
    all.into_iter().filter(|o| !o.is_null()).collect()
}

fn object(kind: &str, name: &str) -> Value {
    let found = objects().into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn pod(kind: &str, name: &str) -> (Value, Value) {
    let spec = object(kind, name)["spec"]["template"]["spec"].clone();
    assert_eq!(spec["containers"].as_array().map(Vec::len), Some(1), "{name}: one container");
    (spec.clone(), spec["containers"][0].clone())
}

#[test]
fn names_and_labels_are_openelbs() {
    let mut found: Vec<String> =
        objects().iter().map(|o| format!("{} {}", o["kind"], o["metadata"]["name"]).replace('"', "")).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "ClusterRole openelb-controller",
            "ClusterRole openelb-speaker",
            "ClusterRoleBinding openelb-controller",
            "ClusterRoleBinding openelb-speaker",
            "ConfigMap openelb-images",
            "CustomResourceDefinition bgpconfs.network.kubesphere.io",
            "CustomResourceDefinition bgppeers.network.kubesphere.io",
            "CustomResourceDefinition eips.network.kubesphere.io",
            "CustomResourceDefinition speakers.oxelb.io",
            "DaemonSet openelb-speaker",
            "Deployment openelb-controller",
            "Namespace openelb-system",
            "Role openelb-controller",
            "Role openelb-speaker",
            "RoleBinding openelb-controller",
            "RoleBinding openelb-speaker",
            "Service openelb-controller",
            "ServiceAccount openelb-controller",
            "ServiceAccount openelb-speaker",
            "ValidatingWebhookConfiguration openelb-admission",
        ],
        "in particular no Secret: a published key is no key (D21)"
    );
    for (kind, name, component) in
        [("Deployment", "openelb-controller", "controller"), ("DaemonSet", "openelb-speaker", "speaker")]
    {
        let workload = object(kind, name);
        let labels = json!({"app": "openelb", "component": component});
        assert_eq!(workload["metadata"]["namespace"], "openelb-system");
        assert_eq!(workload["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(workload["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(workload["spec"]["template"]["spec"]["containers"][0]["name"], name);
    }
    let service = &object("Service", "openelb-controller")["spec"];
    assert_eq!(service["ports"], json!([{"name": "https-webhook", "port": 443, "targetPort": "webhook"}]));
    let (_, speaker) = pod("DaemonSet", "openelb-speaker");
    let arguments = speaker["args"].to_string();
    assert!(arguments.contains("--enable-layer2=true") && arguments.contains("--enable-keepalived-vip=true"));
}

#[test]
fn every_flag_of_the_manifest_is_one_of_the_program() {
    for (kind, name) in [("Deployment", "openelb-controller"), ("DaemonSet", "openelb-speaker")] {
        let (_, container) = pod(kind, name);
        let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        // Ports and folders of this machine are not touched: it ends at the kubeconfig.
        let mut command = Command::new(env!("CARGO_BIN_EXE_oxelb"));
        let output = command.args(arguments).arg("--kubeconfig=/no/such/file").env("NODE_NAME", "n").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("/no/such/file"), "{name}: {said}");
    }
}

#[test]
fn nothing_can_hang_or_block_a_cluster() {
    for o in objects() {
        assert!(o["metadata"]["finalizers"].is_null(), "{}", o["metadata"]["name"]);
    }
    for webhook in object("ValidatingWebhookConfiguration", "openelb-admission")["webhooks"].as_array().unwrap() {
        assert_eq!(webhook["failurePolicy"], "Ignore"); // D22
        assert_eq!(webhook["sideEffects"], "None");
        assert!(webhook["clientConfig"]["caBundle"].is_null(), "the controller makes the CA");
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        assert!(path.starts_with("/validate-network-kubesphere-io-v1alpha2-"), "{path}");
    }
}

#[test]
fn containers_have_no_privilege_that_they_do_not_need() {
    let (controller, container) = pod("Deployment", "openelb-controller");
    assert_eq!(controller["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert!(controller["hostNetwork"].is_null());
    let (speaker, daemon) = pod("DaemonSet", "openelb-speaker");
    assert_eq!(speaker["hostNetwork"], true);
    let wanted = json!({"drop": ["ALL"], "add": ["NET_RAW", "NET_BIND_SERVICE", "IPC_LOCK", "SYS_NICE"]});
    assert_eq!(daemon["securityContext"]["capabilities"], wanted);
    for (pod, container) in [(controller, container), (speaker, daemon)] {
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert!(container["securityContext"]["privileged"].is_null());
        assert!(container["readinessProbe"].is_object() && container["livenessProbe"].is_object());
        let tolerated: Vec<&str> =
            pod["tolerations"].as_array().unwrap().iter().filter_map(|t| t["key"].as_str()).collect();
        for key in ["node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane"] {
            assert!(tolerated.contains(&key), "{tolerated:?}");
        }
    }
}

#[test]
fn no_role_reads_or_writes_what_its_owner_does_not_use() {
    let forbidden = |rule: &Value| {
        let words = |key: &str| -> Vec<String> {
            rule[key].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
        };
        let (resources, verbs, names) = (words("resources"), words("verbs"), words("resourceNames"));
        let wild = words("apiGroups").iter().chain(&resources).chain(&verbs).any(|w| w == "*");
        // Nothing of the user's: only what we made ourselves, of a node that is gone.
        let deletes = verbs.iter().any(|v| v.starts_with("delete")) && words("apiGroups") != ["oxelb.io"];
        // Secrets are named one by one; only `create` cannot be.
        let secrets = resources.iter().any(|r| r == "secrets") && names.is_empty() && verbs != ["create"];
        wild || deletes || secrets
    };
    for kind in ["ClusterRole", "Role"] {
        for name in ["openelb-controller", "openelb-speaker"] {
            let role = object(kind, name);
            for rule in role["rules"].as_array().unwrap() {
                assert!(!forbidden(rule), "{kind} {name}: {rule}");
                let secrets = rule["resources"].to_string().contains("secrets");
                assert!(!(kind == "ClusterRole" && secrets), "no Secret of another namespace");
            }
        }
    }
}
