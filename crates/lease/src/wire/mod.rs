//! The packet that speakers exchange, version 2. All numbers are big endian.
//!
//! ```text
//!  "oxlq" version:1 flags:1              flags: 1 goodbye, 2 ready, 4 the receiver is held down, 8 the sender rests
//!  boot:16 counter:8 you:16 echo:8       who sent it in which order, see the module `session`
//!  from:1+n to:1+n                       names of nodes, each with its length
//!  pace:2                                milliseconds to the sender's next heartbeat, at most
//!  known:8+8 confirmed:8+8               number and digest of epochs; zeros for none
//!  statement:8 acknowledged:8            digests of what the sender says, and of what it knows of the receiver
//!  kind:1 body                           a message, see the module `body`
//!  tag:32                                HMAC-SHA-256 over all before
//! ```

mod body;

use crate::key::{Key, TAG};
use crate::message::Message;
use crate::session::Mark;
use crate::statement::Digest;
use crate::types::{EpochId, Node};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The octets of the longest packet: with the headers of IPv6 and UDP it fits the MTU of 1280 that every link of IPv6
/// has.
pub const MAX_PACKET: usize = 1232;
/// The octets of the longest name of a node (RFC 1123 subdomain, as Kubernetes has it).
pub const MAX_NODE_NAME: usize = 253;
/// The most acceptors of an epoch that is read.
pub const MAX_MEMBERS: usize = 5;

const MAGIC: [u8; 4] = *b"oxlq";
const VERSION: u8 = 2;
/// Everything but names and the message.
const FIXED: usize = 4 + 2 + 48 + 2 + 2 + 32 + 16 + 1 + TAG;
/// The octets of the longest body of a message, also with the longest names, so that all peers get the same.
const BODY: usize = MAX_PACKET - FIXED - 2 * MAX_NODE_NAME;
/// The octets that addresses may take in a message; what else is in it takes the rest, save for names.
pub const ROOM: usize = BODY - 80;
/// How many addresses an answer can speak of.
const VERDICTS: usize = 120;

const GOODBYE: u8 = 1;
const READY: u8 = 2;
const HELD_DOWN: u8 = 4;
const RESTS: u8 = 8;

/// Why a packet was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// Too short, too long, or not ours at all.
    #[error("it is no packet of oxelb: cut short, too long, or from another program on this port")]
    Malformed,
    /// Another version of the packet.
    #[error("its version is {0} and ours is {VERSION}: run one version of oxelb on all nodes")]
    Version(u8),
    /// The code does not match.
    #[error("its key is not ours, or it was changed on the way: give all nodes the same Secret memberlist")]
    Key,
    /// Older than what can be told apart.
    #[error("{0} sent it long before: it came very late, or was recorded and sent again")]
    Replay(Node),
    /// It is for another node.
    #[error("it is for node {0}: two nodes have the same address, or a Node object has a wrong one")]
    NotForUs(Node),
    /// The sender has this node's name.
    #[error("its sender has the name of this node: give each speaker the name of its own node")]
    OwnName,
    /// The sender is not configured, and there are too many such.
    #[error("its sender {0} is not a node that is known here, and there are too many such")]
    Stranger(Node),
}

/// A packet without its tag: a heartbeat, and maybe a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub mark: Mark,
    pub from: Node,
    pub to: Node,
    /// The sender leaves.
    pub goodbye: bool,
    /// The sender may be an acceptor: its silence is over.
    pub ready: bool,
    /// The receiver died too often of late.
    pub held_down: bool,
    /// Somebody said that of the sender: nothing is to be placed on it.
    pub rests: bool,
    pub pace: u16,
    pub known: EpochId,
    pub confirmed: EpochId,
    pub statement: Digest,
    pub acknowledged: Digest,
    pub message: Option<Message>,
}

/// Whether a name fits into a packet.
pub fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NODE_NAME
}

/// Addresses in rising order, in as many lists as messages are needed. Gives no empty list.
pub fn chunks<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<Vec<IpAddr>> {
    let mut chunks: Vec<Vec<IpAddr>> = Vec::new();
    let mut room = 0;
    for address in addresses {
        let need = if address.is_ipv4() { 4 } else { 16 };
        if need > room || chunks.last().is_none_or(|c| c.len() >= VERDICTS) {
            chunks.push(Vec::new());
            room = ROOM - MAX_NODE_NAME;
        }
        room -= need;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(*address);
        }
    }
    chunks
}

impl Packet {
    /// The octets of the packet. Names must fit; of a message that is too long the longest part is left out.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_PACKET);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.goodbye, GOODBYE) | flag(self.ready, READY);
        out.push(flags | flag(self.held_down, HELD_DOWN) | flag(self.rests, RESTS));
        out.extend_from_slice(&self.mark.boot.to_be_bytes());
        out.extend_from_slice(&self.mark.counter.to_be_bytes());
        out.extend_from_slice(&self.mark.you.to_be_bytes());
        out.extend_from_slice(&self.mark.echo.to_be_bytes());
        for name in [&self.from, &self.to] {
            body::put_name(&mut out, name);
        }
        out.extend_from_slice(&self.pace.to_be_bytes());
        for epoch in [self.known, self.confirmed] {
            body::put_epoch(&mut out, epoch);
        }
        out.extend_from_slice(&self.statement.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        body::put(&mut out, self.message.as_ref());
        let tag = key.sign(&out);
        out.extend_from_slice(&tag);
        out
    }

    /// Reads a packet that one of the keys authenticates.
    pub fn decode(bytes: &[u8], keys: &[Key]) -> Result<Packet, Reject> {
        if bytes.len() > MAX_PACKET {
            return Err(Reject::Malformed);
        }
        let (head, tag) = bytes.split_last_chunk::<TAG>().ok_or(Reject::Malformed)?;
        let mut reader = Reader(head);
        if reader.array::<4>()? != MAGIC {
            return Err(Reject::Malformed);
        }
        // Before the tag, which another version may compute in another way.
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(Reject::Version(version));
        }
        if !keys.iter().any(|key| key.verify(head, tag)) {
            return Err(Reject::Key);
        }
        let packet = reader.packet()?;
        if reader.0.is_empty() { Ok(packet) } else { Err(Reject::Malformed) }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Reject> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Reject> {
        self.array().map(|[n]| n)
    }

    fn u16(&mut self) -> Result<u16, Reject> {
        self.array().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Reject> {
        self.array().map(u64::from_be_bytes)
    }

    fn u128(&mut self) -> Result<u128, Reject> {
        self.array().map(u128::from_be_bytes)
    }

    fn name(&mut self) -> Result<Node, Reject> {
        let len = self.u8()?;
        let name = std::str::from_utf8(self.take(usize::from(len))?).map_err(|_| Reject::Malformed)?;
        if fits(name) { Ok(name.to_owned()) } else { Err(Reject::Malformed) }
    }

    fn epoch(&mut self) -> Result<EpochId, Reject> {
        Ok(EpochId { number: self.u64()?, digest: self.u64()? })
    }

    fn packet(&mut self) -> Result<Packet, Reject> {
        let flags = self.u8()?;
        if flags & !(GOODBYE | READY | HELD_DOWN | RESTS) != 0 {
            return Err(Reject::Malformed);
        }
        let mark = Mark { boot: self.u128()?, counter: self.u64()?, you: self.u128()?, echo: self.u64()? };
        if mark.boot == 0 {
            return Err(Reject::Malformed);
        }
        Ok(Packet {
            mark,
            goodbye: flags & GOODBYE != 0,
            ready: flags & READY != 0,
            held_down: flags & HELD_DOWN != 0,
            rests: flags & RESTS != 0,
            from: self.name()?,
            to: self.name()?,
            pace: self.u16()?,
            known: self.epoch()?,
            confirmed: self.epoch()?,
            statement: self.u64()?,
            acknowledged: self.u64()?,
            message: self.message()?,
        })
    }
}

#[cfg(test)]
#[path = "../wire_tests.rs"]
mod tests;
