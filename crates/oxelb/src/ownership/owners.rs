//! `oxelb owners`: who owns each address, in the speakers' own words; from their Speaker objects, or, while there is no
//! API server, from any one of them.

use super::{Cluster, PATIENCE, aligned};
use crate::cli::Output;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};

/// So many moves are shown.
const MOVES: usize = 10;

/// Who owns what.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owners {
    /// The number of the newest set of acceptors that is known, and its members.
    epoch: u64,
    acceptors: BTreeSet<String>,
    addresses: Vec<Owned>,
    moves: Vec<Move>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owned {
    address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pool: String,
    owner: String,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    without_majority: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Move {
    at: String,
    address: String,
    node: String,
    gained: bool,
    reason: String,
}

/// What the speakers say.
pub fn of(cluster: &Cluster) -> Owners {
    let mut owners = of_speakers(&cluster.speakers);
    if let Some(named) = &cluster.ownership {
        (owners.epoch, owners.acceptors) = (named.epoch, named.members.clone());
    }
    owners
}

fn of_speakers(speakers: &[api::Speaker]) -> Owners {
    let mut owners = Owners::default();
    for speaker in speakers {
        let node = speaker.metadata.name.clone().unwrap_or_default();
        let Some(status) = &speaker.status else { continue };
        // What a speaker said last before it died is not true any more where another one says that it owns it.
        owners.addresses.extend(status.addresses.iter().map(|a| Owned {
            address: a.address.clone(),
            pool: a.pool.clone(),
            owner: node.clone(),
            since: Some(a.since.clone()),
            without_majority: a.without_majority,
        }));
        owners.moves.extend(status.moves.iter().map(|m| Move {
            at: m.at.clone(),
            address: m.address.clone(),
            node: node.clone(),
            gained: m.gained,
            reason: m.reason.clone(),
        }));
    }
    let key = |a: &Owned| (a.address.parse::<IpAddr>().ok(), a.since.clone());
    owners.addresses.sort_by_key(key);
    // The last one of each address is the one that owns it since.
    owners.addresses.reverse();
    owners.addresses.dedup_by(|a, b| a.address == b.address);
    owners.addresses.reverse();
    owners
}

/// Asks one speaker over HTTP. `at` is where it serves its metrics.
pub fn ask(at: &str) -> anyhow::Result<Owners> {
    let get = || -> anyhow::Result<String> {
        let to = at.to_socket_addrs()?.next().context("no such host")?;
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /owners HTTP/1.0\r\nHost: {at}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = get().with_context(|| format!("the speaker at {at} does not answer"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "the speaker at {at} answers: {status}");
    serde_json::from_str(body).with_context(|| format!("what answers at {at} is no speaker of oxelb"))
}

impl Owners {
    /// Who owns it.
    pub fn owner(&self, address: IpAddr) -> Option<&str> {
        self.addresses.iter().find(|a| a.address.parse() == Ok(address)).map(|a| a.owner.as_str())
    }

    /// Each address with its owner.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.addresses.iter().map(|a| (a.address.clone(), a.owner.clone())).collect()
    }

    /// For people or for programs.
    pub fn text(mut self, output: Output) -> String {
        self.moves.sort_by(|a, b| a.at.cmp(&b.at));
        let old = self.moves.len().saturating_sub(MOVES);
        self.moves.drain(..old);
        match output {
            Output::Json => serde_json::to_string_pretty(&self).unwrap_or_default(),
            Output::Text => self.table(),
        }
    }

    fn table(&self) -> String {
        let mut text = Vec::new();
        if self.epoch > 0 || !self.acceptors.is_empty() {
            let members = self.acceptors.iter().cloned().collect::<Vec<_>>().join(" ");
            text.push(format!("epoch {}, acceptors: {members}\n", self.epoch));
        }
        let mut rows = vec![["ADDRESS", "POOL", "OWNER", "SINCE", "BY"].map(str::to_owned)];
        rows.extend(self.addresses.iter().map(|a| {
            let by = if a.without_majority { "consent, without a majority" } else { "majority" };
            let since = a.since.clone().unwrap_or_default();
            [a.address.clone(), a.pool.clone(), a.owner.clone(), since, by.to_owned()]
        }));
        text.push(aligned(&rows));
        if self.addresses.is_empty() {
            text.push("no node owns an address".to_owned());
        }
        if !self.moves.is_empty() {
            let mut rows = vec![["AT", "ADDRESS", "NODE", "WHAT", "WHY"].map(str::to_owned)];
            rows.extend(self.moves.iter().map(|m| {
                let what = if m.gained { "gained" } else { "lost" };
                [m.at.clone(), m.address.clone(), m.node.clone(), what.to_owned(), m.reason.clone()]
            }));
            text.push(format!("\nlast moves\n{}", aligned(&rows)));
        }
        text.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::speaker::{OwnedAddress, SpeakerMove, SpeakerStatus};

    fn speaker(node: &str, since: &str, moves: &[(&str, bool, &str)]) -> api::Speaker {
        let mut speaker = api::Speaker::new(node, Default::default());
        let owned = |ip: &str| OwnedAddress {
            address: ip.into(),
            pool: "pool".into(),
            since: since.into(),
            ..OwnedAddress::default()
        };
        let moved = |(at, gained, reason): &(&str, bool, &str)| SpeakerMove {
            address: "10.0.0.9".into(),
            gained: *gained,
            at: (*at).into(),
            reason: (*reason).into(),
        };
        speaker.status = Some(SpeakerStatus {
            addresses: vec![owned("10.0.0.9")],
            moves: moves.iter().map(moved).collect(),
            ..SpeakerStatus::default()
        });
        speaker
    }

    #[test]
    fn who_says_so_last_owns_an_address_and_moves_are_in_the_order_of_time() {
        let dead = speaker("n1", "2026-01-01T00:00:00Z", &[("2026-01-01T00:00:00.000Z", true, "")]);
        let heir = speaker("n2", "2026-01-01T00:00:05Z", &[("2026-01-01T00:00:05.000Z", true, "")]);
        let owners = of_speakers(&[heir, dead]);
        assert_eq!(owners.addresses.iter().map(|a| a.owner.as_str()).collect::<Vec<_>>(), ["n2"]);
        let text = owners.text(Output::Text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ADDRESS   POOL  OWNER  SINCE                 BY");
        assert_eq!(lines[1], "10.0.0.9  pool  n2     2026-01-01T00:00:05Z  majority");
        assert_eq!(lines[4], "AT                        ADDRESS   NODE  WHAT");
        assert!(lines[5].ends_with("n1    gained") && lines[6].ends_with("n2    gained"), "{text}");
    }

    #[test]
    fn what_a_speaker_answers_is_understood_and_reasons_are_shown() {
        let said = r#"{"node": "n1", "epoch": 3, "acceptors": ["n1", "n2", "n3"], "alive": ["n2"],
            "addresses": [{"address": "10.0.0.9", "owner": "n2", "since": null, "withoutMajority": true}],
            "moves": [{"at": "T", "address": "10.0.0.9", "node": "n1", "gained": false, "reason": "because"}]}"#;
        let text = serde_json::from_str::<Owners>(said).unwrap().text(Output::Text);
        assert!(text.starts_with("epoch 3, acceptors: n1 n2 n3\n"), "{text}");
        assert!(text.contains("10.0.0.9  n2     consent, without a majority"), "{text}");
        assert!(text.ends_with("lost  because"), "{text}");
    }
}
