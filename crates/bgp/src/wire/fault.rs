//! Damage in an UPDATE that does not end the session (RFC 7606).

use crate::prefix::AfiSafi;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What was wrong with one attribute, and what that led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The type code of the attribute; 0 where it cannot be told.
    pub attribute: u8,
    /// What is wrong with it.
    pub what: Cow<'static, str>,
    /// What it led to.
    pub treatment: Treatment,
}

/// What damage leads to, the mildest first (RFC 7606 §2). The strongest, an end of the session, is no treatment of an
/// attribute but a [`Malformed`](super::Malformed) message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Treatment {
    /// The attribute is left out, the routes stand.
    AttributeDiscard,
    /// The message is read as one that withdraws all of its routes.
    TreatAsWithdraw,
    /// It is unknown which routes are meant: what came of this family is forgotten, what comes ignored, until the
    /// session ends.
    DisableFamily(AfiSafi),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            0 => f.write_str(&self.what)?,
            attribute => write!(f, "path attribute {attribute}: {}", self.what)?,
        }
        match self.treatment {
            Treatment::AttributeDiscard => f.write_str("; it is left out"),
            Treatment::TreatAsWithdraw => f.write_str("; its routes are taken as withdrawn"),
            Treatment::DisableFamily(family) => write!(f, "; {family} is ignored until the session ends"),
        }
    }
}
