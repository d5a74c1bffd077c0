//! `oxelb move` and `oxelb rebalance`: planned moves, which lose nothing, and what came of them.

use super::{name, owners, read};
use anyhow::{Context, bail, ensure};
use api::{Moves, Ownership};
use serde_json::{Value, json};
use source::{Store, Write, WriteError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A move takes milliseconds, and half a second until the Speakers say so.
const MOVED: Duration = Duration::from_secs(10);
/// A rebalancing is over when nothing has moved for so long.
const QUIET: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);

/// Moves an address to a node; says how long it took.
pub async fn to_node(store: &Store, namespace: &str, address: IpAddr, to: &str) -> anyhow::Result<Value> {
    let cluster = read(store, namespace).await?;
    let from = owners::of(&cluster).owner(address).map(str::to_owned);
    let from = from.with_context(|| format!("no node owns {address}; oxelb owners shows what is owned"))?;
    ensure!(from != to, "{to} owns {address} already");
    let speakers: Vec<&str> = cluster.speakers.iter().map(name).collect();
    ensure!(speakers.contains(&to), "no speaker runs on {to}; there are {}", speakers.join(", "));
    let moves = Moves { id: id(), to: [(address, to.to_owned())].into() };
    ask(store, cluster.ownership, |o| Ownership { moves: moves.clone(), ..o }).await?;
    let start = Instant::now();
    while start.elapsed() < MOVED {
        tokio::time::sleep(LOOK).await;
        let cluster = read(store, namespace).await?;
        if owners::of(&cluster).owner(address) == Some(to) {
            return Ok(json!({ "address": address, "from": from, "to": to }));
        }
    }
    bail!(
        "{address} is not on {to} after {} s: that node may not be a candidate for it (kubectl get speakers {to} -o yaml shows what is in its way), or {from} does not run",
        MOVED.as_secs()
    )
}

/// Spreads all addresses anew; says which moved.
pub async fn rebalance(store: &Store, namespace: &str) -> anyhow::Result<Value> {
    let cluster = read(store, namespace).await?;
    let before = owners::of(&cluster).all();
    let request = id();
    ask(store, cluster.ownership, |o| Ownership { rebalance: request.clone(), ..o }).await?;
    let (mut last, mut changed) = (before.clone(), Instant::now());
    while changed.elapsed() < QUIET {
        tokio::time::sleep(LOOK).await;
        let now = owners::of(&read(store, namespace).await?).all();
        if now != last {
            (last, changed) = (now, Instant::now());
        }
    }
    let moved = last.iter().filter_map(|(address, to)| {
        let from = before.get(address).filter(|from| *from != to)?;
        Some(json!({ "address": address, "from": from, "to": to }))
    });
    let moved: Vec<Value> = moved.collect();
    let mut spread: BTreeMap<&str, usize> = BTreeMap::new();
    last.values().for_each(|owner| *spread.entry(owner).or_default() += 1);
    Ok(json!({ "moved": moved, "owns": spread }))
}

/// Requests are told apart by when they were made.
fn id() -> String {
    jiff::Timestamp::now().to_string()
}

async fn ask(store: &Store, there: Option<Ownership>, change: impl Fn(Ownership) -> Ownership) -> anyhow::Result<()> {
    let there =
        there.context("no acceptors are named yet, so nobody would hear the request; does the controller run?")?;
    let write = Write::Ownership { read: Some(Box::new(there.clone())), write: Box::new(change(there)) };
    match store.write(write).await {
        Ok(_) => Ok(()),
        Err(WriteError::Conflict) => bail!("somebody else has just changed the ConfigMap oxelb-ownership; try again"),
        Err(error) => Err(error).context("the ConfigMap oxelb-ownership"),
    }
}
