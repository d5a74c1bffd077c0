//! What an operator asks and tells about owners: `owners`, `move`, `rebalance`, `acceptors`. All of it is read from what
//! the speakers say, and told by the ConfigMap `oxelb-ownership`.

pub mod acceptors;
pub mod moves;
pub mod owners;

use anyhow::{Context, bail};
use api::{Node, Ownership, Speaker};
use source::{Change, Event, Interest, Object, Store};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;

/// How long the API server, or a speaker, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is.
#[derive(Debug, Default)]
pub struct Cluster {
    speakers: Vec<Speaker>,
    nodes: Vec<Node>,
    ownership: Option<Ownership>,
}

/// Reads what there is now.
pub async fn read(store: &Store, namespace: &str) -> anyhow::Result<Cluster> {
    let interest = Interest {
        namespace: namespace.to_owned(),
        nodes: true,
        speakers: true,
        ownership: true,
        ..Interest::default()
    };
    let (_needs, none) = watch::channel(BTreeSet::new());
    let mut events = store.watch(interest, none);
    let mut cluster = Cluster::default();
    let all = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Change(Change::Apply(Object::Speaker(speaker))) => cluster.speakers.push(*speaker),
                Event::Change(Change::Apply(Object::Node(node))) => cluster.nodes.push(node),
                Event::Change(Change::Apply(Object::Ownership(named))) => {
                    cluster.ownership =
                        Some(named.map_err(|why| anyhow::anyhow!("the ConfigMap oxelb-ownership: {why}"))?);
                }
                Event::Synced => return Ok(()),
                Event::Reachable(Err(reason)) => bail!("the Speakers cannot be read: {reason}"),
                _ => {}
            }
        }
        bail!("the reader of objects ended")
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    in_time
        .context("the Speakers could not be read within 10 s; oxelb owners --ask HOST:PORT asks a speaker itself")??;
    Ok(cluster)
}

fn name(speaker: &Speaker) -> &str {
    speaker.metadata.name.as_deref().unwrap_or_default()
}

/// Columns under each other; those without any content are left out.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let shown: Vec<usize> = (0..N).filter(|c| rows.iter().skip(1).any(|row| !row[*c].is_empty())).collect();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; N]| {
        let cells = shown.iter().map(|c| format!("{:<1$}", row[*c], width(*c)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
