//! The roles: opens the source of objects, starts the runtime, and runs until told to stop.

use crate::cli::{Command, From, Speaker};
use crate::version;
use anyhow::Context;
use source::Store;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Does what the command line says.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Speaker(flags) => runtime()?.block_on(run_speaker(flags))?,
        Command::Version { output } => print(&version::text(output)),
        Command::Controller(_) | Command::Standalone(_) | Command::Clean(_) => anyhow::bail!("not there yet"),
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(text: &str) {
    println!("{text}");
}

/// One thread: what must not wait for it has threads of its own.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

async fn open(from: &From) -> anyhow::Result<Store> {
    Ok(match &from.source {
        Some(dir) => Store::folder(dir.clone())?,
        None => Store::cluster(from.kubeconfig.clone(), from.namespace.clone()).await?,
    })
}

/// Ready when SIGTERM or SIGINT comes.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

async fn run_speaker(flags: Speaker) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let store = open(&flags.from).await?;
    let options = speaker::Options {
        node: flags.node_name,
        namespace: flags.from.namespace,
        scope: api::Scope { default_load_balancer: flags.from.default_load_balancer },
        bind: SocketAddr::new(flags.bind_addr, flags.bind_port),
        secret: flags.secret.filter(|s| !s.is_empty()).map(String::into_bytes),
        layer2: flags.enable_layer2,
        http: flags.metrics_addr.0,
        state: flags.state_dir,
    };
    Ok(speaker::run(store, options, stop).await?)
}
