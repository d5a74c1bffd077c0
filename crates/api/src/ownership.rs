//! The ConfigMap `oxelb-ownership`: whose grants make an owner, and what an operator asked speakers to move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

const EPOCH: &str = "epoch";
const MEMBERS: &str = "members";
const PREVIOUS: &str = "previous";
const REBALANCE: &str = "rebalance";
const MOVE: &str = "move";

/// What it says. The controller keeps epoch and members, `oxelb move` and `oxelb rebalance` the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ownership {
    /// The number of this set of acceptors, 1 and up; another set has another number.
    pub epoch: u64,
    /// The nodes whose speakers are acceptors.
    pub members: BTreeSet<String>,
    /// The members before the last change; empty when there was none. The next change waits for a majority of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub previous: BTreeSet<String>,
    /// Names the last request to spread addresses anew. A request that a speaker finds when it starts is an old one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rebalance: String,
    /// The last request to move addresses.
    #[serde(default)]
    pub moves: Moves,
}

/// A request to move addresses, each to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moves {
    /// Names the request; empty when there was none yet.
    pub id: String,
    /// Where each address is to go.
    pub to: BTreeMap<IpAddr, String>,
}

/// Why it cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOwnership {
    /// `data.epoch`
    #[error("data.epoch: {0:?} is no number from 1; it rises by one with each change of the members")]
    Epoch(String),
    /// `data.members`
    #[error("data.members: nobody is named; name one, three or five nodes, with spaces between them")]
    Members,
    /// `data.members`
    #[error("data.members: {0} nodes are named; name one, three or five")]
    TooMany(usize),
    /// `data.move`
    #[error("data.move: {0:?} is not ADDRESS=NODE")]
    Move(String),
}

/// More acceptors there never are: each request of each speaker goes to all of them.
pub const MOST_ACCEPTORS: usize = 5;

/// How many acceptors so many speakers have.
pub fn acceptors_for(speakers: usize) -> usize {
    match speakers {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

impl Ownership {
    /// Reads the `data` of the ConfigMap.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Ownership, InvalidOwnership> {
        let text = |key: &str| data.get(key).map(|v| v.trim()).unwrap_or_default();
        let words = |key| text(key).split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
        let epoch = text(EPOCH).parse().ok().filter(|n| *n > 0);
        let epoch = epoch.ok_or_else(|| InvalidOwnership::Epoch(text(EPOCH).to_owned()))?;
        let members: BTreeSet<String> = words(MEMBERS).map(str::to_owned).collect();
        if members.is_empty() {
            return Err(InvalidOwnership::Members);
        }
        if members.len() > MOST_ACCEPTORS {
            return Err(InvalidOwnership::TooMany(members.len()));
        }
        let mut requested = words(MOVE);
        let id = requested.next().unwrap_or_default().to_owned();
        let one = |word: &str| {
            let (address, node) = word.split_once('=')?;
            Some((address.parse().ok()?, node.to_owned())).filter(|(_, node)| !node.is_empty())
        };
        let to = requested.map(|word| one(word).ok_or_else(|| InvalidOwnership::Move(word.to_owned())));
        Ok(Ownership {
            epoch,
            members,
            previous: words(PREVIOUS).map(str::to_owned).collect(),
            rebalance: text(REBALANCE).to_owned(),
            moves: Moves { id, to: to.collect::<Result<_, _>>()? },
        })
    }

    /// The `data` of the ConfigMap.
    pub fn data(&self) -> BTreeMap<String, String> {
        let joined = |words: Vec<String>| words.join(" ");
        let mut data = BTreeMap::from([
            (EPOCH.to_owned(), self.epoch.to_string()),
            (MEMBERS.to_owned(), joined(self.members.iter().cloned().collect())),
        ]);
        if !self.previous.is_empty() {
            data.insert(PREVIOUS.to_owned(), joined(self.previous.iter().cloned().collect()));
        }
        if !self.rebalance.is_empty() {
            data.insert(REBALANCE.to_owned(), self.rebalance.clone());
        }
        if !self.moves.id.is_empty() {
            let moves = self.moves.to.iter().map(|(address, node)| format!("{address}={node}"));
            data.insert(MOVE.to_owned(), joined([self.moves.id.clone()].into_iter().chain(moves).collect()));
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let ownership = Ownership {
            epoch: 3,
            members: ["n1", "n2", "n3"].map(str::to_owned).into(),
            previous: ["n1", "n2"].map(str::to_owned).into(),
            rebalance: "2026-01-01T00:00:00Z".into(),
            moves: Moves {
                id: "2026-01-02T00:00:00Z".into(),
                to: [("10.0.0.1".parse().unwrap(), "n2".into()), ("fd00::1".parse().unwrap(), "n3".into())].into(),
            },
        };
        assert_eq!(Ownership::read(&ownership.data()), Ok(ownership));
    }

    #[test]
    fn people_write_it_with_commas_and_nonsense_is_named() {
        let read = Ownership::read(&data(&[("epoch", " 1 "), ("members", "n1, n2,n3")])).unwrap();
        assert_eq!(read.data(), data(&[("epoch", "1"), ("members", "n1 n2 n3")]));
        for (pairs, wrong) in [
            (&[("members", "n1")][..], InvalidOwnership::Epoch(String::new())),
            (&[("epoch", "0"), ("members", "n1")], InvalidOwnership::Epoch("0".into())),
            (&[("epoch", "1"), ("members", " ,")], InvalidOwnership::Members),
            (&[("epoch", "1"), ("members", "a b c d e f")], InvalidOwnership::TooMany(6)),
            (&[("epoch", "1"), ("members", "a"), ("move", "x 10.0.0.1")], InvalidOwnership::Move("10.0.0.1".into())),
        ] {
            assert_eq!(Ownership::read(&data(pairs)), Err(wrong));
        }
    }
}
