//! A Kubernetes cluster of fast nodes: real control plane and kube-proxy; pods are processes in namespaces of their own, with Pod
//! objects whose status the lab writes, so that EndpointSlices are made by the real controller.
//!
//! ```text
//! lan 192.168.0.0/22, fd00:192:168::/64 ─┬─ control .0.2     API server
//!                                        ├─ n1 .0.11         ens160; cni0 10.244.1.1/24 ─ pods 10.244.1.x
//!                                        ├─ n2 .0.12 …
//!                                        └─ client .0.100    eth0
//! ```

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use crate::host::{Host, Lab, Switch};
use crate::kube::{ControlPlane, Options};
use crate::process::Process;
use crate::wait::secs;

/// The nodes' device on the lan, as in OpenELB's walk-through.
pub const DEVICE: &str = "ens160";

/// A control plane, a lan, nodes, and a client on the lan.
#[derive(Debug)]
pub struct Cluster {
    /// Its machines' lab.
    pub lab: Lab,
    /// The segment that all share.
    pub lan: Switch,
    /// The control plane.
    pub control: ControlPlane,
    /// In the order in which they joined.
    pub nodes: Vec<Node>,
    /// Outside the cluster, on the same segment; its device is `eth0`.
    pub client: Host,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name in Kubernetes.
    pub name: String,
    /// 1 for the first.
    pub number: u8,
    /// Its machine.
    pub host: Host,
    /// What runs on it, kube-proxy first.
    pub processes: Vec<Process>,
    pods: Cell<u8>,
}

/// A pod that is a process.
#[derive(Debug)]
pub struct Pod {
    /// `default` unless said otherwise.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its namespace, where clients in the cluster start from.
    pub host: Host,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// The web server.
    pub server: Process,
}

impl Node {
    /// Its IPv4 address on the lan (its InternalIP).
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 0, 10 + self.number)
    }

    /// Its IPv6 address on the lan.
    pub fn address6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x192, 0x168, 0, 0, 0, 0, 0x10 + u16::from(self.number))
    }

    /// Its pods' IPv4 range.
    pub fn pod_range(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// Its pods' IPv6 range.
    pub fn pod_range6(&self) -> String {
        format!("fd00:244:{}::/64", self.number)
    }
}

impl Cluster {
    /// A control plane and a client, no nodes yet.
    pub fn start(lab: &Lab, options: Options) -> Result<Cluster> {
        let lan = lab.switch("lan")?;
        let (control, client) = (lab.host("control")?, lab.host("client")?);
        lan.plug(&control, "eth0", &["192.168.0.2/22", "fd00:192:168::2/64"])?;
        lan.plug(&client, "eth0", &["192.168.0.100/22", "fd00:192:168::100/64"])?;
        let control = ControlPlane::start(lab, &control, IpAddr::from([192, 168, 0, 2]), options)?;
        Ok(Cluster { lab: lab.clone(), lan, control, nodes: Vec::new(), client })
    }

    /// As [`Cluster::start`], with this many fast nodes, `n1` and on.
    pub fn with_nodes(lab: &Lab, count: u8) -> Result<Cluster> {
        let mut cluster = Cluster::start(lab, Options::default())?;
        for _ in 0..count {
            cluster.join()?;
        }
        Ok(cluster)
    }

    /// Plugs in the machine of one more node: addresses, forwarding, routes to the pods of the others and back.
    pub(crate) fn machine(&mut self) -> Result<Node> {
        let number = u8::try_from(self.nodes.len() + 1)?;
        let name = format!("n{number}");
        let host = self.lab.host(&name)?;
        let node = Node { name, number, host, processes: Vec::new(), pods: Cell::new(0) };
        let (v4, v6) = (format!("{}/22", node.address()), format!("{}/64", node.address6()));
        self.lan.plug(&node.host, DEVICE, &[&v4, &v6])?;
        node.host.forward()?;
        node.host.ip("route add default via 192.168.0.1")?;
        let control = &self.control.host;
        control.ip(&format!("route add {} via {}", node.pod_range(), node.address()))?;
        control.ip(&format!("-6 route add {} via {}", node.pod_range6(), node.address6()))?;
        for other in &self.nodes {
            for (from, to) in [(&node, other), (other, &node)] {
                from.host.ip(&format!("route add {} via {}", to.pod_range(), to.address()))?;
                from.host.ip(&format!("-6 route add {} via {}", to.pod_range6(), to.address6()))?;
            }
        }
        Ok(node)
    }

    /// One more fast node: joins, gets kube-proxy, is Ready.
    pub fn join(&mut self) -> Result<&Node> {
        let mut node = self.machine()?;
        let number = node.number;
        node.host.ip("link add name cni0 type bridge forward_delay 0")?;
        node.host.ip("link set dev cni0 up")?;
        node.host.address("cni0", &format!("10.244.{number}.1/24"))?;
        node.host.address("cni0", &format!("fd00:244:{number}::1/64"))?;
        self.register(&node)?;
        node.processes.push(self.proxy(&node)?);
        self.nodes.push(node);
        self.nodes.last().context("no node")
    }

    /// Writes the Node object of a machine: Ready, without taints.
    pub(crate) fn register(&self, node: &Node) -> Result<()> {
        let name = &node.name;
        self.control.rest.create(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
            "spec": {"podCIDR": node.pod_range(), "podCIDRs": [node.pod_range(), node.pod_range6()]},
        }))?;
        self.control.rest.patch(
            &format!("/api/v1/nodes/{name}/status"),
            &json!({"status": {
                "addresses": [
                    {"type": "InternalIP", "address": node.address()},
                    {"type": "InternalIP", "address": node.address6()},
                    {"type": "Hostname", "address": name},
                ],
                "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": "made by the lab"}],
            }}),
        )?;
        // A new node is tainted not-ready by admission; the lifecycle controller that would take it away is off.
        self.control.rest.patch(&format!("/api/v1/nodes/{name}"), &json!({"spec": {"taints": null}}))?;
        Ok(())
    }

    /// Starts kube-proxy (nftables) on a node and returns when it has written its rules.
    pub(crate) fn proxy(&self, node: &Node) -> Result<Process> {
        let path = self.lab.dir.join(format!("kube-proxy.{}.yaml", node.name));
        let kubeconfig = self.control.kubeconfig("system:kube-proxy", None)?;
        // Limits of connection tracking belong to the first network namespace alone: 0 leaves them as they are.
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node.name,
            "clientConnection": {"kubeconfig": kubeconfig},
            "clusterCIDR": "10.244.0.0/16,fd00:244::/32",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"syncPeriod": "30s", "minSyncPeriod": "10ms"},
        });
        fs::write(&path, config.to_string())?;
        let mut program = Command::new(self.control.program("kube-proxy"));
        program.arg(format!("--config={}", path.display()));
        let proxy = node.host.spawn("kube-proxy", program)?;
        proxy.until("kube-proxy has written its rules", secs(60), || node.host.run("nft list table ip kube-proxy"))?;
        Ok(proxy)
    }

    /// A ready pod with nginx on port 80 that answers `pod=NAME node=NODE client=ADDRESS`.
    pub fn pod(&self, node: &Node, name: &str, labels: &Value) -> Result<Pod> {
        let last = 10 + node.pods.get();
        node.pods.set(node.pods.get() + 1);
        let (number, namespace) = (node.number, "default".to_owned());
        let host = self.lab.host(name)?;
        let port = format!("p{last}");
        node.host.cable(&port, &host, "eth0")?;
        node.host.ip(&format!("link set dev {port} master cni0"))?;
        node.host.ip(&format!("link set dev {port} type bridge_slave hairpin on"))?;
        let address = Ipv4Addr::new(10, 244, number, last);
        let address6 = Ipv6Addr::new(0xfd00, 0x244, u16::from(number), 0, 0, 0, 0, u16::from(last));
        host.address("eth0", &format!("{address}/24"))?;
        host.address("eth0", &format!("{address6}/64"))?;
        host.ip(&format!("route add default via 10.244.{number}.1"))?;
        host.ip(&format!("-6 route add default via fd00:244:{number}::1"))?;
        let server = nginx(&self.lab, &host, &format!("pod={name} node={} client=$remote_addr", node.name))?;
        self.control.rest.create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {
                "nodeName": node.name,
                "containers": [{"name": "server", "image": "nginx", "ports": [{"name": "http", "containerPort": 80}]}],
            },
        }))?;
        let pod = Pod { namespace, name: name.to_owned(), host, address, address6, server };
        self.set_ready(node, &pod, true)?;
        Ok(pod)
    }

    /// Writes a pod's status: running, and ready or not.
    pub fn set_ready(&self, node: &Node, pod: &Pod, ready: bool) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let conditions = ["Initialized", "PodScheduled", "ContainersReady", "Ready"]
            .map(|kind| json!({"type": kind, "status": if kind.ends_with("Ready") { status } else { "True" }}));
        self.control.rest.patch(
            &format!("/api/v1/namespaces/{}/pods/{}/status", pod.namespace, pod.name),
            &json!({"status": {
                "phase": "Running",
                "conditions": conditions,
                "hostIP": node.address(), "hostIPs": [{"ip": node.address()}, {"ip": node.address6()}],
                "podIP": pod.address, "podIPs": [{"ip": pod.address}, {"ip": pod.address6}],
            }}),
        )?;
        Ok(())
    }
}

/// Starts nginx on a host: every request on port 80, both families, is answered with `text` (nginx variables allowed).
pub fn nginx(lab: &Lab, host: &Host, text: &str) -> Result<Process> {
    let dir = lab.folder(&format!("nginx.{}", host.name()))?;
    let path = dir.join("nginx.conf");
    fs::write(
        &path,
        format!(
            "daemon off;\nmaster_process off;\nuser root root;\npid {0}/pid;\nerror_log stderr;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {0}/body;\n  proxy_temp_path {0}/proxy;\n  \
             fastcgi_temp_path {0}/fastcgi;\n  uwsgi_temp_path {0}/uwsgi;\n  scgi_temp_path {0}/scgi;\n  \
             server {{\n    listen [::]:80 ipv6only=off;\n    location / {{ return 200 \"{text}\\n\"; }}\n  }}\n}}\n",
            dir.display()
        ),
    )?;
    let mut program = Command::new("nginx");
    program.arg("-p").arg(&dir).arg("-c").arg(&path).args(["-e", "stderr"]);
    let server = host.spawn("nginx", program)?;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    server.until("nginx answers", secs(10), || crate::client::get(host, here, secs(1)))?;
    Ok(server)
}
