//! Hosts in network namespaces, a real control plane, the demo and the benchmarks.
//!
//! ```text
//! sandbox   one process tree with its own mounts, pids and network: when it ends, all of it ends
//!   host    a machine: network namespace, links, addresses, faults, processes
//!   kube    etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl
//!   node    a Kubernetes node on a host: kube-proxy, pods as processes      (fast, most tests)
//!   kubelet a Kubernetes node on a host: kubelet, containerd, CNI           (real, slower)
//!   router  FRR, BIRD, GoBGP on a host
//!   client  somebody outside the cluster who asks, and measures what comes back
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the lab is a program that talks to people")]

pub mod bench;
pub mod census;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod demo_k8s;
pub mod faults;
pub mod host;
pub mod image;
pub mod keepalived;
pub mod kube;
pub mod kubelet;
pub mod oxelb;
pub mod pki;
pub mod process;
pub mod rest;
pub mod router;
pub mod sandbox;
pub mod suite;
pub mod wait;
pub mod walkthrough;
