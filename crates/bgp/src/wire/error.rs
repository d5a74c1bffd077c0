//! What is so wrong with a message that the session must end.

use super::notification::{Code, Notification};

/// Why a message cannot be accepted. [`Malformed::notification`] is what is to be answered; lesser damage in an UPDATE
/// is a [`Fault`](super::Fault) and ends no session (RFC 7606).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The marker is not all ones (RFC 4271 §6.1).
    #[error("the marker of its header is not all ones")]
    Marker,
    /// The length in the header is too small for the type of message, or too large.
    #[error("its length {0} cannot be")]
    Length(u16),
    /// No such type.
    #[error("there is no message type {0}")]
    Type(u8),
    /// Not BGP-4.
    #[error("its BGP version is {0}, not 4")]
    Version(u8),
    /// AS number 0 (RFC 7607).
    #[error("its AS number is 0")]
    PeerAs,
    /// 0.0.0.0 (RFC 6286).
    #[error("its BGP identifier is 0.0.0.0")]
    RouterId,
    /// 1 or 2 seconds.
    #[error("its hold time is {0} s: it must be 0 or at least 3")]
    HoldTime(u16),
    /// A parameter that is not capabilities (RFC 5492).
    #[error("optional parameter {0} is unknown")]
    OptionalParameter(u8),
    /// Lengths within the OPEN contradict each other.
    #[error("lengths in its parameters contradict each other")]
    Open,
    /// Lengths within the UPDATE contradict each other, or MP_REACH_NLRI or MP_UNREACH_NLRI is there twice.
    #[error("its lengths contradict each other or a multiprotocol attribute is there twice")]
    AttributeList,
    /// An attribute that everybody must know and we do not; the attribute.
    #[error("well-known attribute {} is unknown", .0.get(1).copied().unwrap_or_default())]
    UnrecognizedWellKnown(Vec<u8>),
    /// A multiprotocol attribute that does not even name its family; the attribute.
    #[error("a multiprotocol attribute does not name its family")]
    OptionalAttribute(Vec<u8>),
    /// A prefix longer than its family allows, or cut short.
    #[error("a prefix is too long or cut short")]
    NetworkField,
    /// A ROUTE-REFRESH of another length than its own (RFC 7313 §5); the message.
    #[error("a ROUTE-REFRESH has a wrong length")]
    RouteRefresh(Vec<u8>),
}

impl Malformed {
    /// What the peer is told.
    pub fn notification(&self) -> Notification {
        let (code, data) = match self {
            Malformed::Marker => (Code::Header(1), vec![]),
            Malformed::Length(length) => (Code::Header(2), length.to_be_bytes().to_vec()),
            Malformed::Type(kind) => (Code::Header(3), vec![*kind]),
            // The data is the version that we speak.
            Malformed::Version(_) => (Code::Open(1), vec![0, 4]),
            Malformed::PeerAs => (Code::Open(2), vec![]),
            Malformed::RouterId => (Code::Open(3), vec![]),
            Malformed::OptionalParameter(_) => (Code::Open(4), vec![]),
            Malformed::HoldTime(_) => (Code::Open(6), vec![]),
            Malformed::Open => (Code::Open(0), vec![]),
            Malformed::AttributeList => (Code::Update(1), vec![]),
            Malformed::UnrecognizedWellKnown(attribute) => (Code::Update(2), attribute.clone()),
            Malformed::OptionalAttribute(attribute) => (Code::Update(9), attribute.clone()),
            Malformed::NetworkField => (Code::Update(10), vec![]),
            Malformed::RouteRefresh(message) => (Code::RouteRefresh(1), message.clone()),
        };
        Notification { code, data }
    }
}
