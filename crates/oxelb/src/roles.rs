//! The roles: opens the source of objects, starts the runtime, and runs until told to stop.

use crate::check;
use crate::cli::{Acceptors, AcceptorsAction, Clean, Command, Controller, From, Output, Speaker, Standalone};
use crate::ownership::{self, acceptors, moves, owners};
use crate::version;
use anyhow::Context;
use source::Store;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// How long memory that was freed may stay with the process.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// Does what the command line says.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Speaker(flags) => runtime()?.block_on(frugal(run_speaker(flags)))?,
        Command::Version { output } => print(&version::text(output)),
        Command::Controller(flags) => runtime()?.block_on(frugal(run_controller(flags)))?,
        Command::Standalone(flags) => runtime()?.block_on(frugal(run_standalone(flags)))?,
        Command::Check(flags) => {
            let scope = api::Scope { default_load_balancer: flags.default_load_balancer };
            let (text, errors) = check::run(&flags.files, flags.output, scope)?;
            print(&text);
            return Ok(if errors { ExitCode::from(3) } else { ExitCode::SUCCESS });
        }
        Command::Gobgp(flags) => {
            let family = flags.address_family.map(|f| format!(" -a {f}")).unwrap_or_default();
            let json = if flags.json { " -j" } else { "" };
            let question = format!("{}{family}{json}", flags.words.join(" "));
            let answer = speaker::ask(flags.port, &question).map_err(anyhow::Error::msg)?;
            print(answer.trim_end_matches('\n'));
        }
        Command::Owners(flags) => {
            let owners = match &flags.ask {
                Some(speaker) => owners::ask(speaker)?,
                None => owners::of(&runtime()?.block_on(cluster(&flags.from))?.1),
            };
            print(&owners.text(flags.output));
        }
        Command::Move(flags) => {
            let moved = runtime()?.block_on(async {
                moves::to_node(&open(&flags.from).await?, &flags.from.namespace, flags.address, &flags.to).await
            })?;
            let text = format!("{}: {} → {}", flags.address, moved["from"].as_str().unwrap_or_default(), flags.to);
            print(&told(flags.output, &moved, text));
        }
        Command::Rebalance(flags) => {
            let done = runtime()?
                .block_on(async { moves::rebalance(&open(&flags.from).await?, &flags.from.namespace).await })?;
            let moved = done["moved"].as_array().map_or(0, Vec::len);
            let owns = done["owns"].as_object().into_iter().flatten().map(|(node, n)| format!("{node} {n}"));
            let text = format!("moved {moved} addresses; now own: {}", owns.collect::<Vec<_>>().join(", "));
            print(&told(flags.output, &done, text));
        }
        Command::Acceptors(flags) => return runtime()?.block_on(run_acceptors(flags)),
        Command::Clean(flags) => return runtime()?.block_on(clean(flags)),
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

/// Runs a role, and gives back now and then what it freed.
async fn frugal(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut role = std::pin::pin!(role);
    loop {
        match tokio::time::timeout(GIVE_BACK_EVERY, &mut role).await {
            Ok(ended) => return ended,
            Err(_) => net::give_back_memory(),
        }
    }
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
    let options = speaker_options(flags);
    Ok(speaker::run(store, options, stop).await?)
}

fn speaker_options(flags: Speaker) -> speaker::Options {
    speaker::Options {
        node: flags.node_name,
        namespace: flags.from.namespace,
        scope: api::Scope { default_load_balancer: flags.from.default_load_balancer },
        bind: SocketAddr::new(flags.bind_addr, flags.bind_port),
        secret: flags.secret.filter(|s| !s.is_empty()).map(String::into_bytes),
        layer2: flags.enable_layer2,
        vip: flags.enable_keepalived_vip,
        control: flags.api_hosts.0.map(|at| at.port()),
        http: flags.metrics_addr.0,
        state: flags.state_dir,
    }
}

async fn run_controller(flags: Controller) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let store = open(&flags.from).await?;
    let election = controller::election::Timing {
        lease: flags.leader_elect_lease_duration,
        renew: flags.leader_elect_renew_deadline,
        retry: flags.leader_elect_retry_period,
    };
    let webhook = controller::webhook::Options {
        port: flags.webhook_port,
        cert_dir: flags.webhook_cert_dir.or_else(|| controller::webhook::Options::default().cert_dir),
        ..controller::webhook::Options::default()
    };
    let options = controller::Options {
        scope: api::Scope { default_load_balancer: flags.from.default_load_balancer },
        namespace: flags.from.namespace,
        identity: host_name(),
        election: flags.leader_elect.then_some(election),
        webhook: (flags.webhook_port != 0).then_some(webhook),
        metrics: flags.metrics_addr.0,
        rebalance: flags.rebalance_daily,
        ..controller::Options::default()
    };
    Ok(controller::run(store, options, stop).await?)
}

/// What a pod is called inside; else the node's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "openelb-controller".to_owned() } else { name.to_owned() }
}

/// Both stop at the signal, and either's end is the other's.
async fn run_standalone(flags: Standalone) -> anyhow::Result<()> {
    let (stop, controller_stop) = tokio::sync::oneshot::channel::<()>();
    let (stop_speaker, speaker_stop) = tokio::sync::oneshot::channel::<()>();
    let signal = stop_signal()?;
    let store = Store::folder(flags.source)?;
    let options =
        controller::Options { election: None, webhook: None, metrics: None, ..controller::Options::default() };
    let speaker_options = speaker::Options {
        node: flags.node_name,
        namespace: api::keys::NAMESPACE.to_owned(),
        scope: api::Scope::default(),
        bind: SocketAddr::from(([0u16; 8], 7946)),
        secret: None,
        layer2: true,
        vip: true,
        control: Some(50051),
        http: flags.metrics_addr.0,
        state: None,
    };
    let controller = controller::run(store.clone(), options, async { drop(controller_stop.await) });
    let speaker = speaker::run(store, speaker_options, async { drop(speaker_stop.await) });
    let signalled = async move {
        signal.await;
        drop((stop, stop_speaker));
        anyhow::Ok(())
    };
    let both =
        async { tokio::try_join!(async { anyhow::Ok(controller.await?) }, async { anyhow::Ok(speaker.await?) }) };
    tokio::try_join!(signalled, both)?;
    Ok(())
}

fn told(output: Output, value: &serde_json::Value, text: String) -> String {
    match output {
        Output::Json => format!("{value:#}"),
        Output::Text => text,
    }
}

async fn cluster(from: &From) -> anyhow::Result<(Store, ownership::Cluster)> {
    let store = open(from).await?;
    let cluster = ownership::read(&store, &from.namespace).await?;
    Ok((store, cluster))
}

async fn run_acceptors(flags: Acceptors) -> anyhow::Result<ExitCode> {
    let (store, cluster) = cluster(&flags.from).await?;
    let list = acceptors::list(&cluster);
    let Some(AcceptorsAction::Reset { members, yes }) = &flags.action else {
        print(&told(flags.output, &list, acceptors::table(&list)));
        return Ok(ExitCode::SUCCESS);
    };
    let made = acceptors::reset_to(&cluster, members)?;
    let names = made.members.iter().cloned().collect::<Vec<_>>().join(" ");
    if !yes {
        print(&acceptors::table(&list));
        print(&format!(
            "\nThis names {names} as the acceptors. If the ones before are not off but only cut off, two nodes may answer for one address.\nType yes to do it:"
        ));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("cannot read the answer; give --yes")?;
        anyhow::ensure!(answer.trim() == "yes", "nothing was done");
    }
    let epoch = made.epoch;
    acceptors::reset(&store, &cluster, made).await?;
    let done = serde_json::json!({ "epoch": epoch, "members": names.split(' ').collect::<Vec<_>>() });
    print(&told(flags.output, &done, format!("epoch {epoch}: {names}")));
    Ok(ExitCode::SUCCESS)
}

async fn clean(flags: Clean) -> anyhow::Result<ExitCode> {
    let store = open(&flags.from).await?;
    let done = controller::clean(&store, &flags.from.namespace).await?;
    match flags.output {
        Output::Json => print(
            &serde_json::json!({"services": done.services, "finalizers": done.finalizers, "failed": done.failed})
                .to_string(),
        ),
        Output::Text => print(&format!(
            "cleaned {} Services, {} finalizers of OpenELB; {} failed",
            done.services, done.finalizers, done.failed
        )),
    }
    Ok(if done.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
