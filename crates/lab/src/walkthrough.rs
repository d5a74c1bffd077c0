//! OpenELB's walk-through on a real cluster: what a user types and what must then be seen. The test of that name asks for all of it,
//! `lab demo-k8s` tells it to a person.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::client;
use crate::cluster::Cluster;
use crate::host::Lab;
use crate::kube::Options;
use crate::wait::{millis, secs, until};
use crate::{image, oxelb};

/// The namespace of what `deploy/openelb.yaml` installs.
pub const NAMESPACE: &str = "openelb-system";
/// The pool of the walk-through.
pub const EIP: &str = "\
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata:
  name: eip-pool
  annotations: {eip.openelb.kubesphere.io/is-default-eip: \"true\"}
spec:
  address: 192.168.0.180-192.168.2.190
  protocol: layer2
  disable: false
  interface: ens160
";
/// How long any single step may take.
const PATIENCE: Duration = secs(120);

/// A cluster of real nodes, and a user with `kubectl` who has [`EIP`] as `eip.yaml`, nginx with its Service as `nginx.yaml`, and the
/// folder `deploy`.
#[derive(Debug)]
pub struct Walk {
    /// The cluster.
    pub cluster: Cluster,
    folder: PathBuf,
    narrate: Option<Instant>,
}

/// What remains of us in a cluster, by kind and name.
pub type Remains = Vec<String>;

impl Walk {
    /// Starts a cluster with this many real nodes that have our image. With `narrate` every step is told.
    pub fn start(lab: &Lab, nodes: u8, narrate: bool) -> Result<Walk> {
        let image = oxelb::image(lab)?;
        let folder = lab.folder("user")?;
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy"), folder.join("deploy"))?;
        fs::write(folder.join("eip.yaml"), EIP)?;
        fs::write(folder.join("nginx.yaml"), nginx())?;
        let told = narrate.then(Instant::now);
        let mut cluster = waiting(told.is_some(), "etcd, kube-apiserver, its controllers and scheduler start", || {
            Cluster::start(lab, Options::real())
        })?;
        for number in 1..=nodes {
            let what = format!("node n{number}: containerd, kubelet and kube-proxy start");
            waiting(told.is_some(), &what, || cluster.join_real(std::slice::from_ref(&image)).map(drop))?;
        }
        Ok(Walk { cluster, folder, narrate: told })
    }

    /// Tells a person what happened.
    pub fn say(&self, text: &str) {
        if let Some(start) = self.narrate {
            println!("[{:6.2} s] {text}", start.elapsed().as_secs_f64());
        }
    }

    /// Does something that may take long; who watches sees that it goes on.
    pub fn waiting<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        waiting(self.narrate.is_some(), what, work)
    }

    /// `kubectl` with the words of this line, as the user types it in their folder; what it printed.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        self.say(&format!("$ kubectl {line}"));
        let mut kubectl = Command::new(self.cluster.control.program("kubectl"));
        kubectl.env("KUBECONFIG", self.cluster.control.admin()).env("HOME", &self.folder).current_dir(&self.folder);
        kubectl.args(line.split_whitespace());
        self.waiting("kubectl waits", || self.cluster.control.host.output(kubectl))
    }

    /// As [`Walk::kubectl`], and shows what it printed.
    pub fn show(&self, line: &str) -> Result<String> {
        let text = self.kubectl(line)?;
        if self.narrate.is_some() {
            text.lines().for_each(|line| println!("             {line}"));
        }
        Ok(text)
    }

    /// Waits until the controller and a speaker on every node are Running and Ready, none of them restarted.
    pub fn ready(&self) -> Result<()> {
        let wanted = self.cluster.nodes.len() + 1;
        let look = || {
            let pods = self.pods()?;
            let bad: Vec<String> = pods.iter().filter_map(trouble).collect();
            ensure!(bad.is_empty(), "{}", bad.join("; "));
            ensure!(pods.len() == wanted, "{} pods, not {wanted}", pods.len());
            Ok(())
        };
        self.waiting("the pods become Ready", || until("the pods are Ready", PATIENCE, look))
            .with_context(|| self.logs().unwrap_or_default())
    }

    /// Our pods.
    pub fn pods(&self) -> Result<Vec<Value>> {
        self.cluster.control.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))
    }

    /// The name of the speaker's pod on a node.
    pub fn speaker(&self, node: &str) -> Result<String> {
        let pods = self.pods()?;
        let here = |pod: &&Value| {
            pod["spec"]["nodeName"] == node
                && pod["metadata"]["labels"]["component"] == "speaker"
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let pod = pods.iter().find(here).with_context(|| format!("no speaker on {node}"))?;
        Ok(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for the address of the Service nginx, and until nginx answers the client there. Both times are counted from `since`.
    pub fn reached(&self, since: Instant) -> Result<(IpAddr, Duration, Duration)> {
        let address = self.waiting("the Service gets an address", || {
            until("the Service has an address", PATIENCE, || self.external_ip())
        })?;
        let given = since.elapsed();
        let to = SocketAddr::new(address, 80);
        let page = self.waiting("nginx starts", || {
            until("nginx answers the client", PATIENCE, || client::get(&self.cluster.client, to, millis(250)))
        })?;
        ensure!(page.contains("Welcome to nginx!"), "not nginx's page: {page}");
        Ok((address, given, since.elapsed()))
    }

    /// The address in the status of the Service nginx.
    pub fn external_ip(&self) -> Result<IpAddr> {
        let service = self.cluster.control.rest.get("/api/v1/namespaces/default/services/nginx")?;
        let address = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        let why = service["status"]["conditions"].to_string();
        Ok(address.with_context(|| format!("no address yet: {why}"))?.parse()?)
    }

    /// The nodes that answer the client's ARP request.
    pub fn answering(&self, address: IpAddr) -> Result<Vec<String>> {
        let mut names = BTreeMap::new();
        for node in &self.cluster.nodes {
            names.insert(node.host.mac(crate::cluster::DEVICE)?, node.name.clone());
        }
        let answers = client::arp(&self.cluster.client, "eth0", address)?;
        Ok(answers.into_iter().map(|mac| names.get(&mac).cloned().unwrap_or(mac)).collect())
    }

    /// Waits until exactly one node answers for the address, and says which.
    pub fn owner(&self, address: IpAddr) -> Result<String> {
        let look = || match self.answering(address)?.as_slice() {
            [one] => Ok(one.clone()),
            others => bail!("{others:?} answer for {address}"),
        };
        self.waiting("one node answers", || until("one node answers", secs(20), look))
            .with_context(|| self.logs().unwrap_or_default())
    }

    /// What our pods logged, the controller's first.
    pub fn logs(&self) -> Result<String> {
        let mut text = String::new();
        for pod in self.pods()? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let logs = self.cluster.control.kubectl(&["logs", "-n", NAMESPACE, name, "--tail=-1"]);
            let logs = logs.unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("--- {name}: {}\n{logs}\n", trouble(&pod).unwrap_or_default()));
        }
        Ok(text)
    }

    /// Everything of ours that the API server still has; what Services say is not looked at.
    pub fn remains(&self) -> Result<Remains> {
        let mut found = Vec::new();
        for (path, kind) in [
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "CustomResourceDefinition"),
            ("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRole"),
            ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "ClusterRoleBinding"),
            ("/api/v1/namespaces", "Namespace"),
        ] {
            for object in self.cluster.control.list(path)? {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if ["openelb", "kubesphere.io", "oxelb"].iter().any(|word| name.contains(word)) {
                    found.push(format!("{kind} {name}"));
                }
            }
        }
        for object in self.cluster.control.list("/api/v1/services")? {
            if object["metadata"]["finalizers"].is_array() {
                found.push(format!("a finalizer on Service {}", object["metadata"]["name"]));
            }
        }
        Ok(found)
    }

    /// Writes a file into the user's folder; its name, for kubectl.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.folder.join(name), text)?;
        Ok(name.to_owned())
    }

    /// `oxelb clean` as administrator; what it printed.
    pub fn clean(&self) -> Result<String> {
        self.say("$ oxelb clean");
        let mut clean = Command::new(oxelb::binary()?);
        clean.arg("clean").arg("--kubeconfig").arg(self.cluster.control.admin());
        self.waiting("oxelb cleans", || self.cluster.control.host.output(clean))
    }
}

/// Why a pod is not Running and Ready, or was restarted.
fn trouble(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let container = &pod["status"]["containerStatuses"][0];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Some(format!("{name} is being deleted"));
    }
    if pod["status"]["phase"] == "Running" && ready && container["restartCount"] == 0 {
        return None;
    }
    Some(format!(
        "{name}: {}, ready {ready}, restarts {}, {} {}",
        pod["status"]["phase"], container["restartCount"], container["state"], container["lastState"]
    ))
}

/// Runs `work`; when told to, says every two seconds that it still goes on.
fn waiting<T>(tell: bool, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !tell {
        return work();
    }
    thread::scope(|scope| {
        let (working, done) = channel::<()>();
        scope.spawn(move || {
            let start = Instant::now();
            while done.recv_timeout(secs(2)) == Err(RecvTimeoutError::Timeout) {
                println!("             … {what} ({} s)", start.elapsed().as_secs());
            }
        });
        let result = work();
        drop(working);
        result
    })
}

/// The Deployment and the Service of the walk-through.
fn nginx() -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: nginx}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: nginx}}}}
  template:
    metadata: {{labels: {{app: nginx}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: nginx, image: '{}', ports: [{{containerPort: 80}}]}}
---
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
  selector: {{app: nginx}}
  ports: [{{name: http, port: 80}}]
",
        image::NGINX
    )
}
