//! NOTIFICATION (RFC 4271 §4.5): why a session ends, as numbers on the wire and as words for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest shutdown communication, in octets of UTF-8 (RFC 9003 §2).
pub const MAX_COMMUNICATION: usize = 255;

/// Why a session ends, and what the RFCs want said with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Code and subcode.
    pub code: Code,
    /// What belongs to the code; at most what fits into a message.
    pub data: Vec<u8>,
}

/// Code and subcode of a NOTIFICATION. Subcodes without a name here are kept as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Code {
    /// 1: the header of a message.
    Header(u8),
    /// 2: an OPEN.
    Open(u8),
    /// 3: an UPDATE.
    Update(u8),
    /// 4: nothing was heard for the hold time.
    HoldTimer,
    /// 5: a message that the state does not allow (RFC 6608); the subcode is 1 in OpenSent, 2 in OpenConfirm, 3 in
    /// Established.
    StateMachine(u8),
    /// 6: nothing is wrong, but the session is to end (RFC 4486).
    Cease(Cease),
    /// 7: a ROUTE-REFRESH (RFC 7313).
    RouteRefresh(u8),
    /// 8: nothing could be sent for the send hold time (RFC 9687).
    SendHoldTimer,
    /// What has no name here.
    Other(u8, u8),
}

/// Why a session ends although nothing is wrong with its messages: the subcodes of code 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cease {
    /// 1: more prefixes than allowed.
    MaxPrefixes,
    /// 2: it was shut down, to stay so.
    AdministrativeShutdown,
    /// 3: the peer is not configured any more.
    PeerDeconfigured,
    /// 4: it was shut down, to come back.
    AdministrativeReset,
    /// 5: this peer is not wanted.
    ConnectionRejected,
    /// 6: another part of the configuration changed.
    OtherConfigurationChange,
    /// 7: the other of two connections won.
    CollisionResolution,
    /// 8: resources ran out.
    OutOfResources,
    /// 9: forget all routes at once; graceful restart does not apply (RFC 8538 §3). The data is the real NOTIFICATION.
    HardReset,
    /// 10: BFD says that the path is down (RFC 9384).
    BfdDown,
    /// What has no name here.
    Other(u8),
}

impl Cease {
    const ALL: [Cease; 10] = [
        Cease::MaxPrefixes,
        Cease::AdministrativeShutdown,
        Cease::PeerDeconfigured,
        Cease::AdministrativeReset,
        Cease::ConnectionRejected,
        Cease::OtherConfigurationChange,
        Cease::CollisionResolution,
        Cease::OutOfResources,
        Cease::HardReset,
        Cease::BfdDown,
    ];

    fn subcode(self) -> u8 {
        match self {
            Cease::Other(n) => n,
            known => Cease::ALL.iter().zip(1u8..).find(|(c, _)| **c == known).map_or(0, |(_, n)| n),
        }
    }

    fn from_subcode(n: u8) -> Cease {
        Cease::ALL.iter().zip(1u8..).find(|(_, m)| *m == n).map_or(Cease::Other(n), |(c, _)| *c)
    }
}

impl Code {
    /// As the two octets on the wire.
    pub fn octets(self) -> [u8; 2] {
        match self {
            Code::Header(sub) => [1, sub],
            Code::Open(sub) => [2, sub],
            Code::Update(sub) => [3, sub],
            Code::HoldTimer => [4, 0],
            Code::StateMachine(sub) => [5, sub],
            Code::Cease(cease) => [6, cease.subcode()],
            Code::RouteRefresh(sub) => [7, sub],
            Code::SendHoldTimer => [8, 0],
            Code::Other(code, sub) => [code, sub],
        }
    }

    /// From the two octets on the wire.
    pub fn from_octets(octets: [u8; 2]) -> Code {
        match octets {
            [1, sub] => Code::Header(sub),
            [2, sub] => Code::Open(sub),
            [3, sub] => Code::Update(sub),
            [4, 0] => Code::HoldTimer,
            [5, sub] => Code::StateMachine(sub),
            [6, sub] => Code::Cease(Cease::from_subcode(sub)),
            [7, sub] => Code::RouteRefresh(sub),
            [8, 0] => Code::SendHoldTimer,
            [code, sub] => Code::Other(code, sub),
        }
    }
}

impl Notification {
    /// One without data.
    pub const fn new(code: Code) -> Notification {
        Notification { code, data: Vec::new() }
    }

    /// A cease without data.
    pub const fn cease(cease: Cease) -> Notification {
        Notification::new(Code::Cease(cease))
    }

    /// A shutdown or reset that says why in the operator's words (RFC 9003), cut off after 255 octets.
    pub fn shutdown(cease: Cease, communication: &str) -> Notification {
        let mut end = communication.len().min(MAX_COMMUNICATION);
        while !communication.is_char_boundary(end) {
            end -= 1;
        }
        let text = communication.get(..end).unwrap_or_default();
        let mut data = Vec::new();
        if !text.is_empty() {
            super::reader::with_length_8(&mut data, |out| out.extend(text.as_bytes()));
        }
        Notification { code: Code::Cease(cease), data }
    }

    /// The same as a hard reset: the receiver forgets our routes at once even where graceful restart was agreed upon
    /// for NOTIFICATIONs (RFC 8538 §3.1).
    pub fn hard(self) -> Notification {
        let mut data = self.code.octets().to_vec();
        data.extend(self.data);
        Notification { code: Code::Cease(Cease::HardReset), data }
    }

    /// Whether it wants all routes forgotten at once.
    pub fn is_hard(&self) -> bool {
        self.code == Code::Cease(Cease::HardReset)
    }

    /// What a hard reset wraps, or the NOTIFICATION itself.
    pub fn inner(&self) -> Notification {
        match self.data.split_first_chunk() {
            Some((octets, data)) if self.is_hard() => {
                Notification { code: Code::from_octets(*octets), data: data.to_vec() }
            }
            _ => self.clone(),
        }
    }

    /// The operator's words in a shutdown or reset (RFC 9003). What is not UTF-8 is replaced; control characters are
    /// left out, because it is shown on terminals.
    pub fn communication(&self) -> Option<String> {
        let inner = self.inner();
        if !matches!(inner.code, Code::Cease(Cease::AdministrativeShutdown | Cease::AdministrativeReset)) {
            return None;
        }
        let (length, rest) = inner.data.split_first()?;
        let text = rest.get(..usize::from(*length)).filter(|t| !t.is_empty())?;
        Some(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect())
    }
}

const HEADER: [&str; 4] = ["", "connection not synchronized", "bad message length", "bad message type"];
const OPEN: [&str; 12] = [
    "",
    "unsupported version number",
    "bad peer AS",
    "bad BGP identifier",
    "unsupported optional parameter",
    "",
    "unacceptable hold time",
    "unsupported capability",
    "",
    "",
    "",
    "role mismatch",
];
const UPDATE: [&str; 12] = [
    "",
    "malformed attribute list",
    "unrecognized well-known attribute",
    "missing well-known attribute",
    "attribute flags error",
    "attribute length error",
    "invalid ORIGIN attribute",
    "",
    "invalid NEXT_HOP attribute",
    "optional attribute error",
    "invalid network field",
    "malformed AS_PATH",
];
const STATE: [&str; 4] = ["", "unexpected message in OpenSent", "in OpenConfirm", "in Established"];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [code, sub] = self.octets();
        let (group, names): (&str, &[&str]) = match self {
            Code::Header(_) => ("message header error", &HEADER),
            Code::Open(_) => ("OPEN message error", &OPEN),
            Code::Update(_) => ("UPDATE message error", &UPDATE),
            Code::HoldTimer => return f.write_str("hold timer expired"),
            Code::StateMachine(_) => ("finite state machine error", &STATE),
            Code::Cease(cease) => return write!(f, "cease: {cease}"),
            Code::RouteRefresh(_) => ("ROUTE-REFRESH message error", &["", "invalid message length"]),
            Code::SendHoldTimer => return f.write_str("send hold timer expired"),
            Code::Other(..) => return write!(f, "code {code} subcode {sub}"),
        };
        match names.get(usize::from(sub)).filter(|n| !n.is_empty()) {
            Some(name) => write!(f, "{group}: {name}"),
            None if sub == 0 => f.write_str(group),
            None => write!(f, "{group}: subcode {sub}"),
        }
    }
}

impl fmt::Display for Cease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cease::MaxPrefixes => "maximum number of prefixes reached",
            Cease::AdministrativeShutdown => "administrative shutdown",
            Cease::PeerDeconfigured => "peer de-configured",
            Cease::AdministrativeReset => "administrative reset",
            Cease::ConnectionRejected => "connection rejected",
            Cease::OtherConfigurationChange => "other configuration change",
            Cease::CollisionResolution => "connection collision resolution",
            Cease::OutOfResources => "out of resources",
            Cease::HardReset => "hard reset",
            Cease::BfdDown => "BFD down",
            Cease::Other(n) => return write!(f, "subcode {n}"),
        })
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        if self.is_hard() {
            f.write_str("hard reset, ")?;
        }
        fmt::Display::fmt(&inner.code, f)?;
        match inner.communication() {
            Some(words) => write!(f, " ({words:?})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_octets_round_trips() {
        for code in 0..=u8::MAX {
            for sub in 0..=u8::MAX {
                assert_eq!(Code::from_octets([code, sub]).octets(), [code, sub]);
            }
        }
    }

    #[test]
    fn a_communication_is_cut_between_characters_and_read_without_control_characters() {
        let long = "ü".repeat(200);
        let cut = Notification::shutdown(Cease::AdministrativeShutdown, &long);
        assert_eq!(cut.data.len(), 255);
        assert_eq!(cut.communication(), Some("ü".repeat(127)));
        let bell = Notification::shutdown(Cease::AdministrativeReset, "a\u{7}b");
        assert_eq!(bell.communication().as_deref(), Some("ab"));
        assert_eq!(Notification::shutdown(Cease::AdministrativeReset, "").communication(), None);
    }

    #[test]
    fn a_hard_reset_tells_its_real_reason() {
        let hard = Notification::shutdown(Cease::AdministrativeShutdown, "back at noon").hard();
        assert_eq!(hard.code.octets(), [6, 9]);
        assert_eq!(hard.to_string(), "hard reset, cease: administrative shutdown (\"back at noon\")");
        assert_eq!(Notification::cease(Cease::HardReset).inner().code, Code::Cease(Cease::HardReset));
    }
}
