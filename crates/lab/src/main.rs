//! `lab`: the demo and the benchmarks.
#![allow(clippy::print_stderr, reason = "a program's complaint")]

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "usage: lab demo
  demo   three nodes, a router and a client in network namespaces; oxelb on a folder of YAML";

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
        ["demo"] => lab::demo::run(&lab::sandbox::enter()?),
        _ => bail!("{USAGE}"),
    }
}
