//! Authentication (RFC 5880 §6.7): simple password and keyed SHA1.
//!
//! ```text
//!  password      | 1   | length | key id | 1 to 16 octets …
//!  keyed SHA1    | 4, 5| 28     | key id | 0 | sequence number | digest, 20 octets
//! ```
//!
//! The digest is of the whole packet with the key, filled up with zeros, in its place.

use crate::packet::{Control, Section};
use crate::refusals::Refusal;
use ring::digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;

const DIGEST: usize = 20;

/// How the packets of a session are authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// One for both directions.
    pub method: Method,
    /// The id of the key that is sent.
    pub send: u8,
    /// The keys that are understood, by id: while keys are changed two, else one.
    pub keys: BTreeMap<u8, Key>,
}

/// How packets are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Method {
    /// In clear: it keeps two groups apart, and no attacker away.
    Password,
    /// Refused in [`Config::new`](crate::Config::new).
    KeyedMd5,
    /// Refused in [`Config::new`](crate::Config::new).
    MeticulousMd5,
    /// The sequence number grows when what is said changes.
    KeyedSha1,
    /// The sequence number grows with every packet, so that none can be replayed.
    MeticulousSha1,
}

impl Method {
    /// Octets of the longest password.
    pub(crate) const MAX_PASSWORD: usize = 16;

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Method::Password => 1,
            Method::KeyedMd5 => 2,
            Method::MeticulousMd5 => 3,
            Method::KeyedSha1 => 4,
            Method::MeticulousSha1 => 5,
        }
    }

    const fn is_meticulous(self) -> bool {
        matches!(self, Method::MeticulousMd5 | Method::MeticulousSha1)
    }
}

/// A key or password, 1 to 20 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Key(Vec<u8>);

/// A key without octets, or with too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to 20 octets, not {0}")]
pub struct InvalidKey(usize);

impl Key {
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    fn padded(&self) -> [u8; DIGEST] {
        let mut out = [0; DIGEST];
        out.iter_mut().zip(&self.0).for_each(|(to, from)| *to = *from);
        out
    }
}

impl TryFrom<Vec<u8>> for Key {
    type Error = InvalidKey;
    fn try_from(octets: Vec<u8>) -> Result<Key, InvalidKey> {
        if (1..=DIGEST).contains(&octets.len()) { Ok(Key(octets)) } else { Err(InvalidKey(octets.len())) }
    }
}

impl std::str::FromStr for Key {
    type Err = InvalidKey;
    fn from_str(s: &str) -> Result<Key, InvalidKey> {
        s.as_bytes().to_vec().try_into()
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Vec<u8> {
        key.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The sequence numbers of a session (RFC 5880 §6.8.1: bfd.XmitAuthSeq, bfd.RcvAuthSeq and bfd.AuthSeqKnown).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    /// Of the packet that was sent last.
    sent: u32,
    /// Of the packet that was accepted last, unless that is too long ago.
    received: Option<u32>,
}

impl Sequence {
    /// `start` is random.
    pub(crate) fn new(start: u32) -> Sequence {
        Sequence { sent: start, received: None }
    }

    pub(crate) fn forget(&mut self) {
        self.received = None;
    }
}

impl Authentication {
    /// The payload of a UDP packet that carries `control`; `changed`: it says something else than the one before.
    pub(crate) fn sign(&self, mut control: Control, changed: bool, sequence: &mut Sequence) -> Vec<u8> {
        let Some(key) = self.keys.get(&self.send) else { return control.emit() };
        let kind = self.method.number();
        if self.method == Method::Password {
            let body = [&[self.send][..], key.octets()].concat();
            control.section = Some(Section { kind, body });
            return control.emit();
        }
        if changed || self.method.is_meticulous() {
            sequence.sent = sequence.sent.wrapping_add(1);
        }
        let body = [&[self.send, 0][..], &sequence.sent.to_be_bytes(), &key.padded()].concat();
        control.section = Some(Section { kind, body });
        let mut message = control.emit();
        let hash = sha1(&message);
        if let Some(place) = message.last_chunk_mut() {
            *place = hash;
        }
        message
    }

    /// Whether a packet counts. `message` is all of the UDP payload.
    pub(crate) fn verify(&self, control: &Control, message: &[u8], sequence: &mut Sequence) -> Result<(), Refusal> {
        let Section { kind, body } = control.section.as_ref().ok_or(Refusal::AuthMissing)?;
        if *kind != self.method.number() {
            return Err(Refusal::AuthMethod);
        }
        let (id, rest) = body.split_first().ok_or(Refusal::AuthLength)?;
        let key = self.keys.get(id).ok_or(Refusal::AuthKeyId)?;
        if self.method == Method::Password {
            if rest.len() != key.octets().len() {
                return Err(Refusal::AuthLength);
            }
            return if same(rest, key.octets()) { Ok(()) } else { Err(Refusal::AuthKey) };
        }
        let (&[_, a, b, c, d], digest) = rest.split_first_chunk().ok_or(Refusal::AuthLength)?;
        if digest.len() != DIGEST {
            return Err(Refusal::AuthLength);
        }
        let number = u32::from_be_bytes([a, b, c, d]);
        let possible = |last: u32| self.window(control.multiplier).contains(&number.wrapping_sub(last));
        if !sequence.received.is_none_or(possible) {
            return Err(Refusal::AuthSequence);
        }
        // The section is the last of the packet, and the digest the last of the section.
        let covered = control.emit().len() - DIGEST;
        let mut plain = message.get(..covered).ok_or(Refusal::AuthLength)?.to_vec();
        plain.extend_from_slice(&key.padded());
        if !same(&sha1(&plain), digest) {
            return Err(Refusal::AuthKey);
        }
        // Only now: the RFC lets any first packet set it, also a forged one.
        sequence.received = Some(number);
        Ok(())
    }

    /// How far a sequence number may be ahead of the last one.
    fn window(&self, multiplier: NonZeroU8) -> std::ops::RangeInclusive<u32> {
        self.method.is_meticulous().into()..=3 * u32::from(multiplier.get())
    }
}

fn sha1(octets: &[u8]) -> [u8; DIGEST] {
    let mut out = [0; DIGEST];
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets);
    out.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// Takes the same time wherever they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
