//! A real kube-apiserver with etcd on the loopback interface, and a reader that keeps what it was told.

use kube::CustomResourceExt;
use oxelb_source::{Change, Event, Object, ObjectRef};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout};

pub const TOKEN: &str = "test-token";

pub struct Server {
    dir: TempDir,
    programs: PathBuf,
    etcd_port: u16,
    pub port: u16,
    etcd: Child,
    api: Option<Child>,
}

impl Server {
    pub fn start() -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/kube-binaries");
        let output = Command::new(script).stderr(Stdio::inherit()).output().expect("hack/kube-binaries");
        assert!(output.status.success(), "hack/kube-binaries");
        let programs = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.path().join("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(dir.path().join("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let etcd = child(&programs.join("etcd"), dir.path(), "etcd")
            .arg(format!("--data-dir={}", dir.path().join("etcd").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"))
            .arg("--unsafe-no-fsync=true")
            .spawn()
            .expect("etcd");
        let mut server = Server { dir, programs, etcd_port, port, etcd, api: None };
        server.start_api(port);
        server
    }

    /// Starts the API server on this port; it answers some seconds later.
    pub fn start_api(&mut self, port: u16) {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name).display().to_string();
        let api = child(&self.programs.join("kube-apiserver"), dir, "kube-apiserver")
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", file("certs")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .arg(format!("--service-account-key-file={}", file("sa.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
            .arg("--service-account-issuer=https://test")
            .arg("--disable-admission-plugins=ServiceAccount")
            .spawn()
            .expect("kube-apiserver");
        self.api = Some(api);
    }

    /// Ends the API server at once.
    pub fn kill_api(&mut self) {
        if let Some(mut api) = self.api.take() {
            let _ = api.kill();
            let _ = api.wait();
        }
    }

    /// A kubeconfig for it; waits until its certificate is there.
    pub async fn kubeconfig(&self, port: u16) -> PathBuf {
        let certificate = self.dir.path().join("certs/apiserver.crt");
        until("the API server's certificate", async || certificate.exists()).await;
        let path = self.dir.path().join(format!("kubeconfig-{port}"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: u, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            certificate.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Waits until the API server answers.
    pub async fn ready(&self, client: &kube::Client) {
        let mut answer = String::new();
        for _ in 0..600 {
            let request = kube::core::Request::new("").get("readyz", &Default::default()).unwrap();
            match timeout(Duration::from_secs(2), client.request_text(request)).await {
                Ok(Ok(_)) => return,
                other => answer = format!("{other:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join("kube-apiserver.log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        panic!("the API server does not answer: {answer}; its log ends (newest first) with {end:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_api();
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

/// A program that ends when this one does, with its output in a file.
fn child(program: &Path, dir: &Path, name: &str) -> Command {
    let log = std::fs::File::options().append(true).create(true).open(dir.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition, at most a minute.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The CRDs, made from the types.
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    vec![api::Eip::crd(), api::Speaker::crd(), api::BgpConf::crd(), api::BgpPeer::crd()]
}

/// What a reader was told.
pub struct Told {
    events: Receiver<Event>,
    pub objects: BTreeMap<ObjectRef, Object>,
    /// Everything in order.
    pub all: Vec<Event>,
}

impl Told {
    pub fn new(events: Receiver<Event>) -> Told {
        Told { events, objects: BTreeMap::new(), all: vec![] }
    }

    /// Reads until the condition holds; fails after a minute.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Told) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(Some(event)) = event else { panic!("waited in vain for {what}; told: {:#?}", self.all) };
            match &event {
                Event::Change(Change::Apply(object)) => drop(self.objects.insert(object.reference(), object.clone())),
                Event::Change(Change::Delete(reference)) => {
                    assert!(self.objects.remove(reference).is_some(), "{reference} was never there");
                }
                _ => {}
            }
            self.all.push(event);
        }
    }

    pub async fn until_event(&mut self, event: Event) {
        self.until(&format!("{event:?}"), |told| told.all.contains(&event)).await;
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&api::Service> {
        match self.objects.get(&ObjectRef::Service(api::ServiceKey::new(namespace, name)))? {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }
}
