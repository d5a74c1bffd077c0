//! Control packets as octets and as values.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-----+---------+---+-----------+---------------+---------------+
//! |ver 1|  diag   |sta|P F C A D M|  multiplier   |    length     |
//! +-----+---------+---+-----------+---------------+---------------+
//! |                       my discriminator                        |
//! |                      your discriminator                       |
//! |                desired minimum TX interval, µs                |
//! |               required minimum RX interval, µs                |
//! |             required minimum echo RX interval, µs             |
//! +---------------+---------------+-------------------------------+
//! | auth type     | auth length   |  …                            |  with the A bit only
//! ```

use crate::refusals::Refusal;
use crate::types::{Diagnostic, Discriminator, State};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU8;

/// The TTL or hop limit of every packet that is sent (RFC 5881 §5).
pub const TTL: u8 = 255;

const VERSION: u8 = 1;
const HEADER: usize = 24;
const SECTION: usize = 2;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A Control packet (RFC 5880 §4.1). Intervals are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Why the sender's session left its state last.
    pub diagnostic: Diagnostic,
    /// The state of the sender's session.
    pub state: State,
    /// It wants an answer.
    pub poll: bool,
    /// It is an answer.
    pub is_final: bool,
    /// The sender's BFD lives on when its control plane does not.
    pub independent: bool,
    /// The sender wants no periodic packets.
    pub demand: bool,
    /// The sender's packets are missed when so many are lost in a row.
    pub multiplier: NonZeroU8,
    /// The sender's name for the session.
    pub my: Discriminator,
    /// The receiver's name for the session, once it is known.
    pub your: Option<Discriminator>,
    /// What the sender would like between two of its packets.
    pub desired_min_tx: u32,
    /// The least that the sender can take between two of the receiver's; zero: it wants none periodically.
    pub required_min_rx: u32,
    /// The same for Echo packets; zero: it loops none back.
    pub required_min_echo_rx: u32,
    /// Its authentication section.
    pub section: Option<Section>,
}

/// An authentication section as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Auth Type.
    pub kind: u8,
    /// What follows Auth Len, at most 229 octets; what is more is not sent.
    pub body: Vec<u8>,
}

impl Control {
    /// Reads the payload of a UDP packet, as far as RFC 5880 §6.8.6 can be followed without a session.
    ///
    /// # Errors
    /// When it must be discarded whatever the session.
    pub fn parse(message: &[u8]) -> Result<Control, Refusal> {
        let (&[first, second, multiplier, length], _) = message.split_first_chunk().ok_or(Refusal::Length)?;
        if first >> 5 != VERSION {
            return Err(Refusal::Version);
        }
        let message = message.get(..usize::from(length)).ok_or(Refusal::Length)?;
        let (header, rest) = message.split_first_chunk::<HEADER>().ok_or(Refusal::Length)?;
        let section = if second & AUTHENTICATION == 0 { None } else { Some(Section::parse(rest)?) };
        let (words, _) = header.as_chunks::<4>();
        let word = |n: usize| words.get(n).map_or(0, |w| u32::from_be_bytes(*w));
        let multiplier = NonZeroU8::new(multiplier).ok_or(Refusal::Multiplier)?;
        if second & MULTIPOINT != 0 {
            return Err(Refusal::Multipoint);
        }
        let my = Discriminator::new(word(1)).ok_or(Refusal::MyDiscriminator)?;
        let (your, state) = (Discriminator::new(word(2)), State::from_bits(second >> 6));
        if your.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Refusal::StateWithoutDiscriminator);
        }
        Ok(Control {
            diagnostic: Diagnostic::from_bits(first),
            state,
            poll: second & POLL != 0,
            is_final: second & FINAL != 0,
            independent: second & INDEPENDENT != 0,
            demand: second & DEMAND != 0,
            multiplier,
            my,
            your,
            desired_min_tx: word(3),
            required_min_rx: word(4),
            required_min_echo_rx: word(5),
            section,
        })
    }

    /// The payload of a UDP packet.
    pub fn emit(&self) -> Vec<u8> {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.independent, INDEPENDENT)
            | bit(self.section.is_some(), AUTHENTICATION)
            | bit(self.demand, DEMAND);
        let body = self.section.as_ref().map_or(&[][..], Section::sendable);
        let section = if self.section.is_some() { SECTION + body.len() } else { 0 };
        let mut out = Vec::with_capacity(HEADER + section);
        out.push(VERSION << 5 | self.diagnostic.get());
        out.push(self.state.bits() << 6 | flags);
        out.push(self.multiplier.get());
        out.push((HEADER + section) as u8);
        let your = self.your.map_or(0, Discriminator::get);
        let intervals = [self.desired_min_tx, self.required_min_rx, self.required_min_echo_rx];
        for word in [self.my.get(), your].into_iter().chain(intervals) {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if let Some(section) = &self.section {
            out.extend_from_slice(&[section.kind, (SECTION + body.len()) as u8]);
            out.extend_from_slice(body);
        }
        out
    }
}

impl Section {
    /// From all that follows the header: no more and no less than the section's own length.
    fn parse(rest: &[u8]) -> Result<Section, Refusal> {
        // Without room for type and length, the packet is below its least length of 26.
        let (&[kind, length], body) = rest.split_first_chunk().ok_or(Refusal::Length)?;
        if usize::from(length) == rest.len() {
            Ok(Section { kind, body: body.to_vec() })
        } else {
            Err(Refusal::AuthLength)
        }
    }

    fn sendable(&self) -> &[u8] {
        self.body.get(..usize::from(u8::MAX) - HEADER - SECTION).unwrap_or(&self.body)
    }
}

/// Your Discriminator of a packet that is otherwise unread, to find the session that it is for; none when the packet is
/// too short for one.
pub(crate) fn your_discriminator(message: &[u8]) -> Option<u32> {
    message.get(8..)?.first_chunk().map(|w| u32::from_be_bytes(*w))
}
