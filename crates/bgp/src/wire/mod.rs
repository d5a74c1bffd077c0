//! Messages as octets and as values.
//!
//! Every `parse` takes octets of strangers and is total. What cannot be accepted is a [`Malformed`], from which the
//! NOTIFICATION follows; lesser damage in an UPDATE is a [`Fault`] with the treatment that RFC 7606 demands. Nothing is
//! allocated for a length that is announced, only for octets that are there.

mod as_path;
mod attributes;
mod error;
mod fault;
mod framer;
pub(crate) mod nlri;
mod notification;
mod open;
mod parse;
mod reader;
mod refresh;
mod update;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use attributes::{Aggregator, Attributes, NextHop, Origin, Unknown};
pub use error::Malformed;
pub use fault::{Fault, Treatment};
pub use framer::Framer;
pub use notification::{Cease, Code, MAX_COMMUNICATION, Notification};
pub use open::{AddPath, Capability, GracefulRestart, LongLived, Open};
pub use refresh::Refresh;
pub use update::{Reach, Unreach, Update};

use crate::prefix::{AfiSafi, Family};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The longest message, in octets.
pub const MAX_MESSAGE: usize = 4096;
/// The same where extended messages were agreed upon (RFC 8654).
pub const MAX_EXTENDED_MESSAGE: usize = 65535;
/// The length of a header, in octets.
pub const HEADER: usize = 19;

/// The type of a message, as its header says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// 1
    Open,
    /// 2
    Update,
    /// 3
    Notification,
    /// 4
    Keepalive,
    /// 5
    RouteRefresh,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Who speaks.
    Open(Open),
    /// Routes.
    Update(Box<Update>),
    /// The end.
    Notification(Notification),
    /// Still there.
    Keepalive,
    /// Routes are asked for again.
    RouteRefresh {
        /// Of which family.
        family: AfiSafi,
        /// What; `None` for a subtype that is unknown and to be ignored (RFC 7313 §5).
        refresh: Option<Refresh>,
    },
}

/// What was agreed upon in the OPENs, as far as messages are written otherwise because of it. The default is a session
/// on which nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Codec {
    /// AS numbers have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The peer is in our own autonomous system.
    pub internal: bool,
    /// We may send messages longer than [`MAX_MESSAGE`] (RFC 8654).
    pub extended_send: bool,
    /// The peer may.
    pub extended_receive: bool,
    /// Which routes may be in multiprotocol attributes.
    pub families: BTreeSet<Family>,
    /// Of which families prefixes come with a path identifier (RFC 7911).
    pub add_path_receive: BTreeSet<Family>,
    /// To which families we add one.
    pub add_path_send: BTreeSet<Family>,
    /// Which families may have a next hop of the other one (RFC 8950).
    pub extended_next_hop: BTreeSet<Family>,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Open, Kind::Update, Kind::Notification, Kind::Keepalive, Kind::RouteRefresh];

    fn number(self) -> u8 {
        Kind::ALL.iter().zip(1u8..).find(|(k, _)| **k == self).map_or(0, |(_, n)| n)
    }

    fn from_number(n: u8) -> Result<Kind, Malformed> {
        Kind::ALL.into_iter().zip(1u8..).find(|(_, m)| *m == n).map(|(k, _)| k).ok_or(Malformed::Type(n))
    }

    /// The shortest message of this kind (RFC 4271 §6.1); a ROUTE-REFRESH is judged by RFC 7313 §5.
    fn min_length(self) -> usize {
        match self {
            Kind::Open => 29,
            Kind::Update => 23,
            Kind::Notification => 21,
            Kind::Keepalive | Kind::RouteRefresh => 19,
        }
    }

    fn max_length(self, extended: bool) -> usize {
        match self {
            Kind::Keepalive => HEADER,
            // RFC 8654 §4: an OPEN comes before anything is agreed upon.
            Kind::Open => MAX_MESSAGE,
            _ if extended => MAX_EXTENDED_MESSAGE,
            _ => MAX_MESSAGE,
        }
    }
}

impl Message {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Open(_) => Kind::Open,
            Message::Update(_) => Kind::Update,
            Message::Notification(_) => Kind::Notification,
            Message::Keepalive => Kind::Keepalive,
            Message::RouteRefresh { .. } => Kind::RouteRefresh,
        }
    }
}

impl Codec {
    /// The longest message that we may send.
    pub fn max_send(&self) -> usize {
        if self.extended_send { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE }
    }

    /// Reads what stands behind a header.
    pub fn parse(&self, kind: Kind, body: &[u8]) -> Result<Message, Malformed> {
        Ok(match kind {
            Kind::Open => Message::Open(Open::parse(body)?),
            Kind::Update => Message::Update(Box::new(Update::parse(self, body)?)),
            Kind::Notification => match body.split_first_chunk() {
                Some((octets, data)) => {
                    Message::Notification(Notification { code: Code::from_octets(*octets), data: data.to_vec() })
                }
                None => return Err(Malformed::Length(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX))),
            },
            Kind::Keepalive => Message::Keepalive,
            Kind::RouteRefresh => {
                let (family, refresh) = refresh::parse(body)?;
                Message::RouteRefresh { family, refresh }
            }
        })
    }

    /// Appends a message with its header. The caller keeps an UPDATE within [`Codec::max_send`]; the data of a
    /// NOTIFICATION is cut off there.
    pub fn emit(&self, message: &Message, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend([0xff; 16]);
        out.extend([0, 0, message.kind().number()]);
        match message {
            Message::Open(open) => open.emit(out),
            Message::Update(update) => update.emit(self, out),
            Message::Notification(n) => {
                out.extend(n.code.octets());
                out.extend(n.data.iter().take(MAX_MESSAGE - HEADER - 2));
            }
            Message::Keepalive => {}
            Message::RouteRefresh { family, refresh } => {
                refresh::emit(*family, refresh.unwrap_or(Refresh::Request), out);
            }
        }
        let length = u16::try_from(out.len() - at).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(at + 16..at + 18) {
            place.copy_from_slice(&length);
        }
    }
}

/// A whole message from its body, as the data of a NOTIFICATION wants it.
fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.push(kind.number());
    out.extend(body);
    out
}
