//! A real control plane on one host: etcd, kube-apiserver, and as wanted kube-controller-manager and kube-scheduler.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::host::{Host, Lab, command};
use crate::pki::Pki;
use crate::process::Process;
use crate::rest::Rest;
use crate::wait::secs;

/// Addresses of ClusterIP Services; the first of each is `kubernetes`.
pub const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:96::/112";
const PORT: u16 = 6443;

/// The controllers that a cluster without kubelets needs; the others only make its start slower.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,endpointslice-controller,garbage-collector-controller,\
    namespace-controller,root-ca-certificate-publisher-controller,serviceaccount-controller";

/// What runs beside etcd and kube-apiserver.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// kube-controller-manager: EndpointSlices, namespaces, service accounts, garbage collection.
    pub controllers: bool,
    /// All of its controllers, Deployments and the node lifecycle among them (a node whose kubelet is silent becomes NotReady):
    /// not for nodes without a kubelet.
    pub all_controllers: bool,
    /// kube-scheduler, for pods on real nodes.
    pub scheduler: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { controllers: true, all_controllers: false, scheduler: false }
    }
}

impl Options {
    /// All of it, for nodes with a kubelet.
    pub fn real() -> Options {
        Options { controllers: true, all_controllers: true, scheduler: true }
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where it runs.
    pub host: Host,
    /// The API as cluster administrator.
    pub rest: Rest,
    pki: Pki,
    dir: PathBuf,
    binaries: PathBuf,
    address: IpAddr,
    admin: PathBuf,
    api: Option<Process>,
    _others: Vec<Process>,
}

/// The folder of the Kubernetes programs, as `hack/kube-binaries` finds or builds them.
pub fn binaries() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/kube-binaries");
    let text = command(&mut Command::new(script)).context("the Kubernetes programs could not be had")?;
    Ok(PathBuf::from(text.trim()))
}

impl ControlPlane {
    /// Starts it on `host`, reachable at `address`, and returns when it is ready.
    pub fn start(lab: &Lab, host: &Host, address: IpAddr, options: Options) -> Result<ControlPlane> {
        let (dir, binaries) = (lab.folder("kube")?, binaries()?);
        let pki = Pki::new(&dir)?;
        let admin = pki.kubeconfig_of(&url(address), "admin", Some("system:masters"))?;
        let tls = pki.tls("lab", Some("system:masters"))?;
        let rest = Rest::new(host, SocketAddr::new(address, PORT), Arc::clone(&tls));
        let own = address.to_string();
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
            "10.96.0.1",
            "fd00:96::1",
            &own,
        ];
        pki.server("apiserver", &names)?;
        pki.client("kubelet-client", Some("system:masters"))?;
        let mut control = ControlPlane {
            host: host.clone(),
            rest,
            pki,
            dir,
            binaries,
            address,
            admin,
            api: None,
            _others: Vec::new(),
        };
        let etcd = control.etcd()?;
        control._others.push(etcd);
        control.start_api()?;
        if options.controllers {
            let wanted = if options.all_controllers { "*" } else { CONTROLLERS };
            let manager = control.component("kube-controller-manager", |flags| {
                flags.push(format!("--controllers={wanted}"));
                flags.push(format!("--service-account-private-key-file={}", control.dir.join("sa.key").display()));
                // Without it the manager acts as itself and RBAC gives it next to nothing.
                flags.push("--use-service-account-credentials=true".to_owned());
                flags.push(format!("--root-ca-file={}", control.pki.ca().display()));
            })?;
            manager.until("the default service account exists", secs(60), || {
                control.rest.get("/api/v1/namespaces/default/serviceaccounts/default")
            })?;
            control._others.push(manager);
        }
        if options.scheduler {
            let scheduler = control.component("kube-scheduler", |_| {})?;
            control._others.push(scheduler);
        }
        Ok(control)
    }

    fn etcd(&self) -> Result<Process> {
        let mut etcd = Command::new(self.binaries.join("etcd"));
        etcd.arg(format!("--data-dir={}", self.dir.join("etcd").display()))
            .args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"])
            .args(["--unsafe-no-fsync", "--log-level=warn"]);
        self.host.spawn("etcd", etcd)
    }

    fn component(&self, name: &str, more: impl FnOnce(&mut Vec<String>)) -> Result<Process> {
        let kubeconfig = self.kubeconfig(&format!("system:{name}"), None)?;
        let kubeconfig = kubeconfig.display();
        let mut flags = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--cert-dir={}", self.dir.display()),
            "--leader-elect=false".to_owned(),
        ];
        more(&mut flags);
        let mut program = Command::new(self.binaries.join(name));
        program.args(flags);
        self.host.spawn(name, program)
    }

    /// Starts kube-apiserver, again after [`ControlPlane::stop_api`], and returns when it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut api = Command::new(self.binaries.join("kube-apiserver"));
        api.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--secure-port={PORT}"),
            format!("--advertise-address={}", self.address),
            format!("--cert-dir={}", self.dir.display()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-cluster-ip-range={SERVICE_RANGES}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged".to_owned(),
            "--profiling=false".to_owned(),
            // No kube-proxy runs here: webhooks are reached at their pods.
            "--enable-aggregator-routing=true".to_owned(),
        ]);
        let api = self.host.spawn("kube-apiserver", api)?;
        api.until("kube-apiserver is ready", secs(90), || self.rest.get("/readyz"))?;
        self.api = Some(api);
        Ok(())
    }

    /// Kills kube-apiserver: no goodbye, as in a power failure.
    pub fn stop_api(&mut self) -> Result<()> {
        self.api.take().context("kube-apiserver does not run")?.kill()
    }

    /// Where the API is.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// A Kubernetes program's path.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Certificates of this cluster.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// A kubeconfig of a user with a certificate.
    pub fn kubeconfig(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        self.pki.kubeconfig_of(&self.url(), user, group)
    }

    /// A token of a service account, good for an hour.
    pub fn token_for(&self, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.rest.post(&path, &request)?;
        Ok(answer["status"]["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// A kubeconfig of a service account: exactly its rights.
    pub fn kubeconfig_for(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.token_for(namespace, account)?;
        self.pki.kubeconfig_with(&self.url(), &format!("{namespace}.{account}"), &token)
    }

    /// `kubectl` with these words, as administrator; what it printed.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.program("kubectl"));
        kubectl.env("KUBECONFIG", &self.admin).env("HOME", &self.dir).args(words);
        self.host.output(kubectl)
    }

    /// `kubectl apply -f` of this text.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let path = self.dir.join("apply.yaml");
        fs::write(&path, yaml)?;
        self.kubectl(&["apply", "-f", &path.display().to_string()])
    }

    /// Everything of a kind, as a list of objects; `path` as in [`Rest::get`].
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        match self.rest.get(path)?["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("{path} is not a list: {other}"),
        }
    }
}

fn url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, PORT))
}
