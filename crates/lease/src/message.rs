//! What speakers say to each other about leases.

use crate::digest::SetDigest;
use crate::statement::Fragment;
use crate::types::{Epoch, EpochId, Node, Preset, Stamp};
use std::net::IpAddr;

/// What a packet carries beside the heartbeat that every packet is. A request is named by the stamp of its packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// A part of the statement of the sender.
    Part(Fragment),
    /// Grant me these addresses.
    Ask {
        /// The epoch of the acceptor, or it grants nothing.
        epoch: EpochId,
        preset: Preset,
        /// These, and those of the requests that follow, are all: keep no other in my set.
        whole: bool,
        /// In rising order.
        addresses: Vec<IpAddr>,
    },
    /// Grant me anew all that you have in my set, if that is what I think.
    Renew { epoch: EpochId, preset: Preset, digest: SetDigest },
    /// End the grants of these addresses that are older than this.
    Release {
        /// Who is to have them next, and nobody else for a while.
        to: Option<Node>,
        addresses: Vec<IpAddr>,
    },
    /// I have no majority. Let me have these addresses unless somebody has them or goes before me.
    Consent {
        preset: Preset,
        /// I own them already, by consent.
        owning: bool,
        addresses: Vec<IpAddr>,
    },
    /// What became of a request.
    Answer { to: Stamp, answer: Answer },
    /// I have given these up for you.
    Offer { addresses: Vec<IpAddr> },
    /// The epoch that I know.
    Members(Epoch),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// Of an [`Message::Ask`] or [`Message::Consent`].
    Asked {
        /// The digest of exactly what was granted.
        granted: SetDigest,
        /// One for each address, in the order of the request.
        verdicts: Vec<Verdict>,
    },
    /// The set is as the holder thinks, and all of it granted anew.
    Renewed { preset: Preset, digest: SetDigest },
    /// The set is another one; nothing was granted.
    Differs { preset: Preset, digest: SetDigest },
    /// Those grants have ended.
    Released,
    /// Nothing was looked at.
    Refused(Refusal),
}

/// What became of one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Granted,
    /// Somebody else has it.
    Held {
        /// Who; not told where the name does not fit.
        by: Option<Node>,
        /// For how long at least, in milliseconds, at most 65,534.
        left: u16,
    },
    /// It belongs to another domain.
    Elsewhere,
}

/// Why an acceptor looked at nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It has just started.
    Silent,
    /// It confirmed another epoch, which every packet of it names.
    Epoch,
    /// It lost the record of its epoch.
    NoRecord,
}
