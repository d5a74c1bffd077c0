//! `oxelb acceptors`: whose grants make an owner, and whether they can; and `oxelb acceptors reset`, for when a majority
//! of them is gone for good.

use super::{Cluster, aligned, name};
use anyhow::{Context, ensure};
use api::Ownership;
use api::ownership::{MOST_ACCEPTORS, acceptors_for};
use serde_json::{Value, json};
use source::{Store, Write};
use std::collections::BTreeSet;

/// What is known of each speaker as an acceptor.
pub fn list(cluster: &Cluster) -> Value {
    let named = cluster.ownership.clone().unwrap_or_default();
    let said = |speaker: &api::Speaker| speaker.status.as_ref().and_then(|s| s.acceptor.clone()).unwrap_or_default();
    let speakers = cluster.speakers.iter().map(|speaker| {
        let (node, own) = (name(speaker), said(speaker));
        let unheard = cluster.speakers.iter().filter(|s| said(s).unheard.iter().any(|n| n == node)).map(name);
        json!({
            "node": node,
            "acceptor": named.members.contains(node),
            "recordedEpoch": own.epoch,
            "ready": own.ready,
            "lostRecord": own.lost_record,
            "unheardBy": unheard.collect::<Vec<_>>(),
        })
    });
    json!({ "epoch": named.epoch, "members": named.members, "speakers": speakers.collect::<Vec<_>>() })
}

/// The same as a table.
pub fn table(list: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(s) => s.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let mut rows = vec![["NODE", "ACCEPTOR", "RECORDED", "READY", "UNHEARD BY", "NOTE"].map(str::to_owned)];
    for speaker in list["speakers"].as_array().into_iter().flatten() {
        let note = if speaker["lostRecord"] == true { "lost its record: added anew by the controller" } else { "" };
        let of = |key: &str| text(&speaker[key]);
        rows.push([of("node"), of("acceptor"), of("recordedEpoch"), of("ready"), of("unheardBy"), note.to_owned()]);
    }
    let members = text(&list["members"]);
    let named = if members.is_empty() { "no acceptors are named yet".to_owned() } else { members };
    format!("epoch {}: {named}\n\n{}", list["epoch"], aligned(&rows))
}

/// The set that a reset makes of these members, or of speakers that are there where none are named.
pub fn reset_to(cluster: &Cluster, members: &[String]) -> anyhow::Result<Ownership> {
    let there = |s: &&api::Speaker| {
        let ready = s.status.as_ref().and_then(|s| s.acceptor.as_ref()).is_some_and(|a| a.ready);
        let node = cluster.nodes.is_empty() || cluster.nodes.iter().any(|n| n.name == name(s) && n.ready);
        ready && node
    };
    let there: Vec<&str> = cluster.speakers.iter().filter(there).map(name).collect();
    let unknown: Vec<&String> = members.iter().filter(|m| !cluster.speakers.iter().any(|s| name(s) == *m)).collect();
    ensure!(unknown.is_empty(), "no speaker runs on {unknown:?}");
    let members: BTreeSet<String> = if members.is_empty() {
        there.iter().take(acceptors_for(there.len())).map(|n| (*n).to_owned()).collect()
    } else {
        members.iter().cloned().collect()
    };
    ensure!(
        members.len() <= MOST_ACCEPTORS,
        "{} nodes are named: at most {MOST_ACCEPTORS} can be acceptors",
        members.len()
    );
    ensure!(!members.is_empty(), "no speaker is ready to be an acceptor; name them with --members");
    let named = cluster.ownership.clone().unwrap_or_default();
    let recorded = |s: &api::Speaker| u64::try_from(s.status.as_ref()?.acceptor.as_ref()?.epoch).ok();
    let highest = cluster.speakers.iter().filter_map(recorded).max().unwrap_or(0).max(named.epoch);
    // By the next number speakers would take it for a step, and refuse one that exchanges members.
    Ok(Ownership { epoch: highest + 2, members, previous: BTreeSet::new(), ..named })
}

/// Names these acceptors.
pub async fn reset(store: &Store, cluster: &Cluster, write: Ownership) -> anyhow::Result<()> {
    let read = cluster.ownership.clone().map(Box::new);
    store.write(Write::Ownership { read, write: Box::new(write) }).await.context("the ConfigMap oxelb-ownership")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::speaker::{AcceptorStatus, SpeakerStatus};

    fn cluster(epoch: u64) -> Cluster {
        let speaker = |(node, ready): &(&str, bool)| {
            let mut speaker = api::Speaker::new(node, Default::default());
            let acceptor = AcceptorStatus { epoch: 4, ready: *ready, unheard: vec!["n9".into()], ..Default::default() };
            speaker.status = Some(SpeakerStatus { acceptor: Some(acceptor), ..SpeakerStatus::default() });
            speaker
        };
        let speakers = [("n1", true), ("n2", false), ("n3", true), ("n9", true)].iter().map(speaker).collect();
        let members = ["n7", "n8", "n9"].map(str::to_owned).into();
        let ownership = Some(Ownership { epoch, members, rebalance: "r".into(), ..Ownership::default() });
        Cluster { speakers, nodes: Vec::new(), ownership }
    }

    #[test]
    fn a_reset_jumps_over_the_next_number_and_takes_who_is_ready() {
        let made = reset_to(&cluster(3), &[]).unwrap();
        assert_eq!(
            (made.epoch, made.rebalance.as_str()),
            (6, "r"),
            "the speakers know a higher one than the ConfigMap"
        );
        assert_eq!(made.members, ["n1", "n3", "n9"].map(str::to_owned).into());
        let made = reset_to(&cluster(7), &["n2".into()]).unwrap();
        assert_eq!((made.epoch, made.members), (9, ["n2".to_owned()].into()));
        assert!(reset_to(&cluster(7), &["nope".into()]).is_err());
    }

    #[test]
    fn the_table_says_who_is_not_heard() {
        let text = table(&list(&cluster(4)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "epoch 4: n7 n8 n9");
        assert_eq!(lines[2], "NODE  ACCEPTOR  RECORDED  READY  UNHEARD BY");
        assert_eq!(lines[4], "n2    no        4         no");
        assert_eq!(lines[6], "n9    yes       4         yes    n1 n2 n3 n9");
    }
}
