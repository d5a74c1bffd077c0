//! The lab's cluster of fast nodes: real control plane, real kube-proxy, pods that are processes.

use anyhow::{Result, ensure};
use lab::client::get;
use lab::cluster::Cluster;
use lab::host::Lab;
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("a_cluster_ip_is_reached_from_a_pod_through_kube_proxy", cluster_ip),
        ("service_accounts_have_only_their_rights", rights),
        ("the_api_server_comes_back_with_its_objects", restart),
    ];
    suite::main(tests)
}

fn cluster_ip(lab: &Lab) -> Result<()> {
    let cluster = Cluster::with_nodes(lab, 2)?;
    let (n1, n2) = (&cluster.nodes[0], &cluster.nodes[1]);
    let asker = cluster.pod(n1, "asker", &json!({"app": "asker"}))?;
    let _web = cluster.pod(n2, "web", &json!({"app": "web"}))?;
    let service = cluster.control.rest.create(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"selector": {"app": "web"}, "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 8000, "targetPort": 80}]},
    }))?;
    for address in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
        let address: IpAddr = address.as_str().unwrap_or_default().parse()?;
        let answer =
            until("the Service answers", secs(20), || get(&asker.host, SocketAddr::new(address, 8000), secs(1)))?;
        ensure!(answer.starts_with("pod=web node=n2 client="), "{answer}");
    }
    Ok(())
}

fn rights(lab: &Lab) -> Result<()> {
    let cluster = Cluster::with_nodes(lab, 0)?;
    let kubeconfig = cluster.control.kubeconfig_for("default", "default")?;
    let error = cluster.control.kubectl(&["--kubeconfig", &kubeconfig.display().to_string(), "get", "pods"]);
    let error = error.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("system:serviceaccount:default:default") && error.contains("cannot list"), "{error}");
    Ok(())
}

fn restart(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::with_nodes(lab, 0)?;
    cluster.control.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\n")?;
    cluster.control.stop_api()?;
    ensure!(cluster.control.rest.get("/readyz").is_err());
    cluster.control.start_api()?;
    cluster.control.rest.get("/api/v1/namespaces/default/configmaps/kept").map(drop)
}
