//! A control plane with deploy/openelb.yaml applied, and controllers as processes.

use anyhow::{Context, Result, bail, ensure};
use lab::host::{Lab, Switch};
use lab::kube::{self, ControlPlane};
use lab::process::Process;
use lab::wait::{secs, until};
use nix::sys::signal::Signal;
use oxelb_controller::election::Timing;
use oxelb_controller::{Options, clean, webhook};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

const NAMESPACE: &str = "openelb-system";
pub const LONG: Duration = secs(60);

pub struct World {
    pub control: ControlPlane,
    kubeconfig: String,
    _lan: Switch,
}

/// How a controller of a test runs.
pub struct Flags {
    pub webhook: bool,
    pub port: u16,
    pub timing: Timing,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags { webhook: false, port: 50052, timing: Timing::default() }
    }
}

impl World {
    pub fn start(lab: &Lab) -> Result<World> {
        let host = lab.host("control")?;
        let lan = lab.switch("lan")?;
        lan.plug(&host, "eth0", &["192.168.0.2/22"])?;
        host.ip("route add default via 192.168.0.1")?;
        let options = kube::Options { controllers: false, ..kube::Options::default() };
        let control = ControlPlane::start(lab, &host, IpAddr::from([192, 168, 0, 2]), options)?;
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/openelb.yaml");
        until("deploy/openelb.yaml is applied", secs(30), || {
            control.kubectl(&["apply", "--server-side", "-f", &manifest.display().to_string()])
        })?;
        // What kube-controller-manager does with a real pod: the Service leads to the controller on this host.
        control.rest.create(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": NAMESPACE, "name": "controller",
                "labels": {"kubernetes.io/service-name": "openelb-controller"},
            },
            "endpoints": [{"addresses": ["192.168.0.2"]}], "ports": [{"name": "https-webhook", "port": 443}],
        }))?;
        let kubeconfig = control.kubeconfig_for(NAMESPACE, "openelb-controller")?.display().to_string();
        Ok(World { control, kubeconfig, _lan: lan })
    }

    /// Starts a controller with exactly the rights of its ServiceAccount, and waits until it answers probes.
    pub fn controller(&self, name: &str, flags: &Flags) -> Result<Process> {
        let mut program = Command::new(std::env::current_exe()?);
        let ms = |d: Duration| d.as_millis().to_string();
        let Timing { lease, renew, retry } = flags.timing;
        program.args(["--be-a-controller", &self.kubeconfig, name, &flags.port.to_string()]);
        program.args([&flags.webhook.to_string(), &ms(lease), &ms(renew), &ms(retry)]);
        let process = self.control.host.spawn(name, program)?;
        process.until("the controller answers", LONG, || self.http(flags.port, "/healthz"))?;
        Ok(process)
    }

    pub fn ready(&self, process: &Process, port: u16) -> Result<()> {
        process.until("the controller is ready", LONG, || {
            let text = self.http(port, "/readyz")?;
            ensure!(text.contains("200 OK"), "{text}");
            Ok(())
        })
    }

    pub fn leads(&self, process: &Process, port: u16) -> Result<()> {
        process.until("the controller leads", LONG, || {
            let text = self.http(port, "/readyz")?;
            ensure!(text.ends_with("leading"), "{text}");
            Ok(())
        })
    }

    /// The whole answer to a GET.
    pub fn http(&self, port: u16, path: &str) -> Result<String> {
        use std::io::{Read, Write};
        let mut stream = self
            .control
            .host
            .inside(|| std::net::TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), secs(2)))??;
        stream.set_read_timeout(Some(secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    pub fn eip(&self, name: &str, annotations: Value, spec: Value) -> Result<Value> {
        self.control.rest.create(&json!({
            "apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip",
            "metadata": {"name": name, "annotations": annotations}, "spec": spec,
        }))
    }

    pub fn default_eip(&self, name: &str, address: &str) -> Result<Value> {
        self.eip(name, json!({"eip.openelb.kubesphere.io/is-default-eip": "true"}), layer2(address))
    }

    pub fn get_eip(&self, name: &str) -> Result<Value> {
        self.control.rest.get(&eip_path(name))
    }

    pub fn service(&self, name: &str, annotations: Value, more: Value) -> Result<Value> {
        let mut annotations = annotations;
        annotations["lb.kubesphere.io/v1alpha1"] = json!("openelb");
        let mut spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        self.control.rest.create(&json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        }))
    }

    pub fn get(&self, name: &str) -> Result<Value> {
        self.control.rest.get(&service_path(name))
    }

    /// Waits until the Service has an address.
    pub fn address(&self, name: &str) -> Result<String> {
        until(&format!("{name} has an address"), LONG, || {
            let service = self.get(name)?;
            addresses(&service).into_iter().next().with_context(|| format!("{service}"))
        })
    }

    /// Waits until a condition of the object says so, and gives its message.
    pub fn says(&self, path: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
        until(&format!("{path} says {type_} {status} {reason}"), LONG, || {
            let object = self.control.rest.get(path)?;
            let condition = condition(&object, type_).with_context(|| format!("it says {}", object["status"]))?;
            let same = condition["status"] == status && condition["reason"] == reason;
            ensure!(same, "it says {}", object["status"]["conditions"]);
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Waits for an event about an object.
    pub fn event(&self, name: &str, reason: &str) -> Result<String> {
        until(&format!("an event {reason} about {name}"), LONG, || {
            let events = self.control.list("/apis/events.k8s.io/v1/namespaces/default/events?limit=5000")?;
            let found = events.iter().find(|e| e["regarding"]["name"] == name && e["reason"] == reason);
            let note = found.map(|e| e["note"].as_str().unwrap_or_default().to_owned());
            note.with_context(|| format!("there are {} events", events.len()))
        })
    }

    /// Which Service has which address; fails when two have one.
    pub fn no_address_twice(&self) -> Result<BTreeMap<String, String>> {
        let mut owners = BTreeMap::new();
        for service in self.control.list("/api/v1/namespaces/default/services")? {
            let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            for ip in addresses(&service) {
                if let Some(other) = owners.insert(ip.clone(), name.clone()) {
                    bail!("{ip} was given to {other} and to {name}");
                }
            }
        }
        Ok(owners)
    }
}

pub fn layer2(address: &str) -> Value {
    json!({"address": address, "protocol": "layer2", "interface": "eth0"})
}

pub fn eip_path(name: &str) -> String {
    format!("/apis/network.kubesphere.io/v1alpha2/eips/{name}")
}

pub fn service_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/services/{name}")
}

pub fn addresses(service: &Value) -> Vec<String> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    ingress.iter().filter_map(|i| i["ip"].as_str().map(str::to_owned)).collect()
}

pub fn condition(object: &Value, type_: &str) -> Option<Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == type_).cloned()
}

/// The message of a refusal.
pub fn refused<T>(result: Result<T>) -> Result<String> {
    match result {
        Ok(_) => bail!("it was taken"),
        Err(e) => Ok(format!("{e:#}")),
    }
}

pub fn stop(process: Process) -> Result<()> {
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(secs(20))?;
    ensure!(status.success(), "ended with {status}: {}", process.tail(20));
    Ok(())
}

/// This program is also the controller that its tests start.
pub fn asked_to_be_a_controller() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    let (what, words): (String, Vec<String>) = (words.next()?, words.collect());
    let run = async {
        match what.as_str() {
            "--be-a-controller" => be_a_controller(&words).await,
            "--clean" => be_clean(&words).await,
            _ => bail!("not for us"),
        }
    };
    if !matches!(what.as_str(), "--be-a-controller" | "--clean") {
        return None;
    }
    tracing_subscriber::fmt().with_ansi(false).with_env_filter("info").init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    match runtime.block_on(run) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("{e:#}");
            Some(ExitCode::FAILURE)
        }
    }
}

async fn be_a_controller(words: &[String]) -> Result<()> {
    let [kubeconfig, identity, port, webhook, lease, renew, retry] = words else { bail!("{words:?}") };
    let store = source::Store::cluster(Some(kubeconfig.into()), NAMESPACE.to_owned()).await?;
    let ms = |text: &str| text.parse().map(Duration::from_millis);
    let options = Options {
        identity: identity.clone(),
        election: Some(Timing { lease: ms(lease)?, renew: ms(renew)?, retry: ms(retry)? }),
        webhook: (webhook == "true").then(webhook::Options::default),
        metrics: Some(SocketAddr::from(([127, 0, 0, 1], port.parse()?))),
        ..Options::default()
    };
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    oxelb_controller::run(store, options, async move { _ = term.recv().await }).await?;
    Ok(())
}

async fn be_clean(words: &[String]) -> Result<()> {
    let [kubeconfig] = words else { bail!("{words:?}") };
    let store = source::Store::cluster(Some(kubeconfig.into()), NAMESPACE.to_owned()).await?;
    let cleaned = clean(&store, NAMESPACE).await?;
    println!("{cleaned:?}");
    ensure!(cleaned.failed == 0);
    Ok(())
}
