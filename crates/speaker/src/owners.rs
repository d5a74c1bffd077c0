//! Who owns each address, as this speaker has it from the others: answered over HTTP also while there is no API server.

use crate::facts::Facts;
use crate::status::before;
use serde_json::{Value, json};

/// `{node, epoch, acceptors, alive, addresses: [{address, owner, since, withoutMajority}], moves}`. Since when, and
/// whether without a majority, is known of this node's own addresses alone.
pub(crate) fn document(facts: &Facts, node: &str) -> Value {
    let view = &facts.view;
    let addresses = view.owners.iter().map(|(address, owner)| {
        let own = view.owned.get(address);
        json!({
            "address": address.to_string(),
            "owner": owner,
            "since": own.map(|o| before(facts.now.since(o.since))),
            "withoutMajority": own.is_some_and(|o| o.without_majority),
        })
    });
    let moves = view.moves.iter().map(|m| {
        json!({
            "address": m.address.to_string(),
            "node": node,
            "gained": m.lost.is_none(),
            "at": before(facts.now.since(m.at)),
            "reason": m.lost.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
    });
    json!({
        "node": node,
        "epoch": view.epoch.number,
        "acceptors": view.members,
        "alive": view.alive,
        "addresses": addresses.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
    })
}
