//! `lab demo-k8s`: OpenELB's walk-through on a real cluster, told to a person who watches.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::Instant;

use crate::client::Asking;
use crate::host::Lab;
use crate::oxelb;
use crate::process::require;
use crate::sandbox::Sandbox;
use crate::wait::{millis, secs, until};
use crate::walkthrough::Walk;

const NODES: u8 = 3;
const PICTURE: &str = "
    client 192.168.0.100 ──┬── control 192.168.0.2   etcd, kube-apiserver, controllers, scheduler
                           ├── n1 192.168.0.11       kubelet, containerd, kube-proxy
                           ├── n2 192.168.0.12       kubelet, containerd, kube-proxy
                           └── n3 192.168.0.13       kubelet, containerd, kube-proxy
";

/// Runs the walk-through; the last line it prints is for scripts.
pub fn run(sandbox: &Sandbox) -> Result<()> {
    require(&["ip", "nft", "nginx", "arping", "curl", "containerd", "runc", "busybox"])?;
    oxelb::binary()?;
    println!("oxelb on a real Kubernetes: installed, used, a node lost, removed\n{PICTURE}");
    let lab = Lab::new(sandbox, "demo-k8s")?;
    let walk = Walk::start(&lab, NODES, true)?;
    walk.show("get nodes")?;

    let start = Instant::now();
    walk.kubectl("apply -f deploy/openelb.yaml")?;
    walk.ready()?;
    let ready = start.elapsed();
    walk.show("get pods -n openelb-system -o wide")?;

    walk.kubectl("apply -f eip.yaml")?;
    let created = Instant::now();
    walk.kubectl("apply -f nginx.yaml")?;
    let (address, _, reached) = walk.reached(created)?;
    walk.show("get svc nginx")?;
    let page = walk.cluster.client.run(&format!("curl -sS --max-time 5 http://{address}/"))?;
    ensure!(page.contains("Welcome to nginx!"), "not nginx's page: {page}");
    walk.say(&format!("client$ curl http://{address}/"));
    println!("             {}", page.trim());
    walk.show("get eip")?;
    walk.show("get speakers")?;
    let owner = walk.owner(address)?;
    walk.say(&format!("the client asks by ARP who has {address}: {owner} answers, and nobody else"));

    let node = walk.cluster.nodes.iter().find(|node| node.name == owner).context("the owner is no node")?;
    let asking = Asking::start(&walk.cluster.client, SocketAddr::new(address, 80), millis(10), millis(500));
    until("the client has asked for a while", secs(10), || enough(&asking, 100))?;
    walk.cluster.lan.link(&node.host, false)?;
    walk.say(&format!("{owner} loses its network (the client asks every 10 ms)"));
    let heir = walk.owner(address)?;
    let sent = asking.seen().sent;
    until("the client has asked for a while", secs(10), || enough(&asking, sent + 100))?;
    let failover = asking.finish()?.gap;
    ensure!(heir != owner, "{owner} has no network and answers");
    walk.say(&format!("{heir} took over: the client saw nothing for {} ms", failover.as_millis()));
    walk.cluster.lan.link(&node.host, true)?;
    walk.kubectl(&format!("wait node/{owner} --for=condition=Ready --timeout=60s"))?;
    let after = walk.owner(address)?;
    ensure!(after == heir || after == owner, "{after} took {address}, which had an owner");
    walk.say(&format!("{owner} is back, and both claimed {address}: {after} keeps it, and nobody else answers"));

    walk.kubectl("delete -f deploy/openelb.yaml --timeout=90s")?;
    let remains = walk.remains()?;
    ensure!(remains.is_empty(), "these remain: {remains:?}");
    let answering = walk.answering(address)?;
    ensure!(answering.is_empty(), "{answering:?} still answer for {address}");
    walk.say(&format!("nothing of it remains in the cluster, and no node answers for {address}"));
    let cleaned = walk.clean()?;
    println!("             {}", cleaned.trim());
    walk.show("get svc nginx")?;
    println!(
        "demo-k8s: ok external-ip={address} nodes={NODES} apply-to-ready-ms={} create-to-curl-ms={} failover-ms={} removed=yes",
        ready.as_millis(),
        reached.as_millis(),
        failover.as_millis()
    );
    Ok(())
}

fn enough(asking: &Asking, wanted: usize) -> Result<()> {
    let sent = asking.seen().sent;
    ensure!(sent >= wanted, "{sent} requests");
    Ok(())
}
