//! `lab`: the demo and the benchmarks.
#![allow(clippy::print_stderr, reason = "a program's complaint")]

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "usage: lab demo | demo-k8s | bench | bench-failover
  bench  speed and memory on a real API server, beside their floors [--services NUMBER] [--output json]
  bench-failover  how long nobody answers, by kind of fault, beside keepalived [--runs NUMBER] [--picture FILE]
  demo   three nodes, a router and a client in network namespaces; oxelb on a folder of YAML
  demo-k8s  the walk-through on a real cluster: kubelet, containerd, kube-proxy, kubectl";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["bench", ref options @ ..] => {
            let options = lab::bench::Options::parse(options)?;
            lab::bench::run(&lab::sandbox::enter()?, options)
        }
        ["bench-failover", ref options @ ..] => {
            let options = lab::bench::failover::Options::parse(options)?;
            lab::bench::failover::run(&lab::sandbox::enter()?, &options)
        }
        ["demo"] => lab::demo::run(&lab::sandbox::enter()?),
        ["demo-k8s"] => lab::demo_k8s::run(&lab::sandbox::enter()?),
        _ => bail!("{USAGE}"),
    }
}
