//! oxelb in a cluster of the lab: CRDs and rights as deploy/openelb.yaml has them, controller and speakers as processes
//! under exactly these rights; and the objects of the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use anyhow::{Context, Result, bail, ensure};
use lab::client;
use lab::cluster::{Cluster, DEVICE, Node};
use lab::host::Lab;
use lab::kube::{ControlPlane, Options};
use lab::oxelb::{Source, binary, speaker};
use lab::process::Process;
use lab::wait::{secs, until};
use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Services of the tests are.
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Where pools are.
pub const POOLS: &str = "/apis/network.kubesphere.io/v1alpha2/eips";
/// Where what nodes say is.
pub const SPEAKERS: &str = "/apis/oxelb.io/v1alpha1/speakers";
/// The port of the webhook, beside the API server.
const WEBHOOK: u16 = 8443;

/// A cluster with everything of deploy/openelb.yaml but what runs.
pub struct Installed {
    /// The cluster.
    pub cluster: Cluster,
    controller: PathBuf,
    speaker: PathBuf,
}

/// The manifest without its workloads; with or without what makes the API server ask the webhook.
fn manifest(webhook: bool) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/openelb.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let leave_out = |document: &str| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
        matches!(kind, "Deployment" | "DaemonSet") || (kind == "ValidatingWebhookConfiguration" && !webhook)
    };
    Ok(text.split("\n---\n").filter(|document| !leave_out(document)).collect::<Vec<_>>().join("\n---\n"))
}

impl Installed {
    /// Fast nodes, and the installation without webhook.
    pub fn with_nodes(lab: &Lab, count: u8) -> Result<Installed> {
        Installed::on(Cluster::with_nodes(lab, count)?, false)
    }

    /// A control plane only, and without the controllers that make EndpointSlices: enough to give addresses.
    pub fn bare(lab: &Lab, webhook: bool) -> Result<Installed> {
        let options = Options { controllers: false, ..Options::default() };
        Installed::on(Cluster::start(lab, options)?, webhook)
    }

    fn on(cluster: Cluster, webhook: bool) -> Result<Installed> {
        let control = &cluster.control;
        control.apply(&manifest(webhook)?)?;
        for path in [POOLS, SPEAKERS] {
            until("the kinds are served", secs(30), || control.rest.get(path))?;
        }
        let account = |name: &str| control.kubeconfig_for("openelb-system", name);
        let (controller, speaker) = (account("openelb-controller")?, account("openelb-speaker")?);
        if webhook {
            // In place of the controller's pod.
            control.rest.create(&json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "namespace": "openelb-system", "name": "openelb-controller",
                    "labels": {"kubernetes.io/service-name": "openelb-controller"},
                },
                "ports": [{"name": "https-webhook", "port": WEBHOOK, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["192.168.0.2"], "conditions": {"ready": true}}],
            }))?;
        }
        Ok(Installed { cluster, controller, speaker })
    }

    /// The control plane.
    pub fn control(&self) -> &ControlPlane {
        &self.cluster.control
    }

    /// Starts a controller beside the API server; it need not be the only one. Metrics at this port.
    pub fn controller(&self, name: &str, metrics: u16, flags: &[&str]) -> Result<Process> {
        let mut command = Command::new(binary()?);
        command
            .arg("controller")
            .arg(format!("--kubeconfig={}", self.controller.display()))
            .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
            .args(flags);
        self.control().host.spawn(name, command)
    }

    /// The only controller, without webhook.
    pub fn only_controller(&self) -> Result<Process> {
        self.controller("controller", 50052, &["--leader-elect=false", "--webhook-port=0"])
    }

    /// The only controller, with webhook; returns when the API server asks it.
    pub fn controller_with_webhook(&self) -> Result<Process> {
        let flags = ["--leader-elect=false", &format!("--webhook-port={WEBHOOK}")];
        let controller = self.controller("controller", 50052, &flags)?;
        let probe = json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": "probe"},
            "spec": {"address": "198.51.100.1", "exclude": "198.51.100.1"},
        });
        controller.until("the webhook is asked", secs(30), || {
            let answer = self.control().rest.post(&format!("{POOLS}?dryRun=All"), &probe);
            ensure!(answer.is_err(), "a pool without any address was let through");
            Ok(())
        })?;
        Ok(controller)
    }

    /// Starts the speaker of a node; returns when it says of itself that it is alive.
    pub fn speaker(&self, node: &Node) -> Result<Process> {
        let state = self.cluster.lab.folder(&format!("state.{}", node.name))?;
        let process =
            node.host.spawn("speaker", speaker(&Source::Cluster(self.speaker.clone()), &node.name, &state)?)?;
        process.until("the speaker is alive", secs(30), || {
            let speaker = self.control().rest.get(&format!("{SPEAKERS}/{}", node.name))?;
            let (status, reason, _) = condition(&speaker, "Alive")?;
            ensure!(status == "True", "{reason}");
            Ok(())
        })?;
        Ok(process)
    }

    /// Starts the speaker of a node, with the folder that it had before.
    pub fn start_speaker(&self, node: &Node) -> Result<Process> {
        let state = self.cluster.lab.folder(&format!("state.{}", node.name))?;
        node.host.spawn("speaker", speaker(&Source::Cluster(self.speaker.clone()), &node.name, &state)?)
    }

    /// Makes a pool for layer2 on the nodes' device.
    pub fn pool(&self, name: &str, address: &str, more: &Value) -> Result<Value> {
        let mut pool = pool(name, address);
        merge(&mut pool["spec"], more);
        self.control().rest.create(&pool)
    }

    /// Makes a Service of type LoadBalancer that is ours, and returns its addresses as soon as it has that many.
    pub fn service(&self, name: &str, count: usize, annotations: &Value, spec: &Value) -> Result<Vec<IpAddr>> {
        self.control().rest.create(&service(name, annotations, spec))?;
        until(&format!("Service {name} has its addresses"), secs(20), || {
            let service = self.control().rest.get(&format!("{SERVICES}/{name}"))?;
            let found = addresses(&service);
            ensure!(found.len() == count, "{found:?}; {}", service["status"]);
            Ok(found)
        })
    }

    /// Who alone answers ARP for the address; none is an error, and so are two.
    pub fn owner(&self, address: IpAddr) -> Result<&Node> {
        let answers = client::arp(&self.cluster.client, "eth0", address)?;
        let mut found = None;
        for node in &self.cluster.nodes {
            if answers.contains(&node.host.mac(DEVICE)?) {
                found = Some(node);
            }
        }
        if answers.len() > 1 {
            bail!("{address} is answered by {answers:?}");
        }
        found.with_context(|| format!("nobody answers for {address}"))
    }

    /// Waits until this object's condition has this reason and returns its message.
    pub fn said(&self, path: &str, condition_type: &str, wanted: &str) -> Result<String> {
        until(&format!("{path} says {condition_type} {wanted}"), secs(20), || {
            let object = self.control().rest.get(path)?;
            let (_, reason, message) = condition(&object, condition_type)?;
            ensure!(reason == wanted, "{reason}: {message}");
            Ok(message)
        })
    }
}

/// A pool for layer2 on the nodes' device.
pub fn pool(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip", "metadata": {"name": name},
        "spec": {"address": address, "protocol": "layer2", "interface": DEVICE},
    })
}

/// A Service of type LoadBalancer that opts in; port 80 unless the spec says otherwise.
pub fn service(name: &str, annotations: &Value, spec: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "annotations": {"lb.kubesphere.io/v1alpha1": "openelb"}},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    merge(&mut service["metadata"]["annotations"], annotations);
    merge(&mut service["spec"], spec);
    service
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// The addresses in a Service's status.
pub fn addresses(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    ingress.filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect()
}

/// Status, reason and message of an object's condition.
pub fn condition(object: &Value, condition_type: &str) -> Result<(String, String, String)> {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|c| c["type"] == condition_type);
    let found = found.with_context(|| format!("no condition {condition_type}: {}", object["status"]))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}
