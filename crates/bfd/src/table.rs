//! Which session a packet is for (RFC 5880 §6.8.6, RFC 5881 §3, RFC 5883 §4), and numbers for new ones.

use crate::packet;
use crate::types::Discriminator;
use engine::IfIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What tells two sessions apart while the peer does not know our discriminator. IPv4 addresses are given as such, not
/// mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Path {
    /// To [`SINGLE_HOP_PORT`](crate::SINGLE_HOP_PORT).
    Single {
        /// Where it comes in.
        interface: IfIndex,
        /// The peer's address.
        peer: IpAddr,
    },
    /// To [`MULTI_HOP_PORT`](crate::MULTI_HOP_PORT).
    Multi {
        /// Our address.
        local: IpAddr,
        /// The peer's address.
        peer: IpAddr,
    },
}

/// Why no session has a packet. For a log at the most: anyone can send such packets, in any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Unknown {
    /// Too short for a discriminator.
    #[error("it is too short")]
    Short,
    /// It names a session that is not there, or not at this port.
    #[error("no session has its discriminator")]
    Discriminator,
    /// It names none, and comes from where no session goes.
    #[error("no session goes to where it came from")]
    Path,
}

/// The sessions of a system.
#[derive(Debug, Default, Clone)]
pub struct Table {
    sessions: BTreeMap<Discriminator, Path>,
    paths: BTreeMap<Path, Discriminator>,
    unknown: BTreeMap<Unknown, u64>,
}

impl Table {
    /// A random discriminator for a new session; none when there is a session on this path already.
    pub fn insert(&mut self, path: Path, rng: &mut fastrand::Rng) -> Option<Discriminator> {
        if self.paths.contains_key(&path) {
            return None;
        }
        // Random, so that a restarted speaker is not taken for the one before (RFC 5880 §10).
        let drawn = std::iter::repeat_with(|| rng.u32(1..)).find_map(|n| {
            let free = Discriminator::new(n)?;
            (!self.sessions.contains_key(&free)).then_some(free)
        })?;
        self.sessions.insert(drawn, path);
        self.paths.insert(path, drawn);
        Some(drawn)
    }

    /// The session is no more. Returns the path that is free now.
    pub fn remove(&mut self, session: Discriminator) -> Option<Path> {
        let path = self.sessions.remove(&session)?;
        self.paths.remove(&path);
        Some(path)
    }

    /// The session that a packet is for: the one that it names, from whatever address it comes; where it names none,
    /// the one on the first of the paths that it may have come by, which are of one kind. What else is wrong with the
    /// packet, [`Session`](crate::Session) says.
    ///
    /// # Errors
    /// When there is none; counted.
    pub fn find(&mut self, came_by: &[Path], message: &[u8]) -> Result<Discriminator, Unknown> {
        let found = match packet::your_discriminator(message).map(Discriminator::new) {
            None => Err(Unknown::Short),
            Some(None) => came_by.iter().find_map(|p| self.paths.get(p)).copied().ok_or(Unknown::Path),
            Some(Some(named)) => {
                let path = self.sessions.get(&named);
                let same_port = path
                    .is_some_and(|p| came_by.iter().any(|c| std::mem::discriminant(p) == std::mem::discriminant(c)));
                if same_port { Ok(named) } else { Err(Unknown::Discriminator) }
            }
        };
        if let Err(reason) = found {
            *self.unknown.entry(reason).or_default() += 1;
        }
        found
    }

    /// How many packets no session had, by reason.
    pub fn unknown(&self) -> &BTreeMap<Unknown, u64> {
        &self.unknown
    }
}
