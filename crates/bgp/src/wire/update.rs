//! UPDATE (RFC 4271 §4.3, RFC 4760).

use super::Codec;
use super::attributes::{Attributes, NextHop, code, emit_one};
use super::error::Malformed;
use super::fault::{Fault, Treatment};
use super::nlri;
use super::parse::Parsing;
use super::reader::{Reader, with_length_16};
use crate::prefix::{Family, Nlri};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Routes that go and routes that come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Update {
    /// IPv4 prefixes that are gone, in the message itself.
    pub withdrawn: Vec<Nlri>,
    /// MP_UNREACH_NLRI: prefixes of any family that are gone.
    pub mp_unreach: Option<Unreach>,
    /// Of all routes that come.
    pub attributes: Attributes,
    /// NEXT_HOP, of `announced`.
    pub next_hop: Option<Ipv4Addr>,
    /// IPv4 prefixes that come, in the message itself.
    pub announced: Vec<Nlri>,
    /// MP_REACH_NLRI: prefixes of any family that come.
    pub mp_reach: Option<Reach>,
    /// What was wrong with it as it was received, already carried out. None in what is sent.
    pub faults: Vec<Fault>,
}

/// Prefixes that come, of one family, and their next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Which.
    pub family: Family,
    /// Where to; for IPv4 prefixes it may be an IPv6 address (RFC 8950).
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Vec<Nlri>,
}

/// Prefixes that are gone, of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreach {
    /// Which.
    pub family: Family,
    /// The prefixes. None: all routes of the family were sent (End-of-RIB, RFC 4724 §2).
    pub nlri: Vec<Nlri>,
}

impl Update {
    /// The message that says: all routes of this family were sent (RFC 4724 §2).
    pub fn end_of_rib(family: Family) -> Update {
        let unreach = Unreach { family, nlri: Vec::new() };
        let mp_unreach = (family != Family::Ipv4).then_some(unreach);
        Update { mp_unreach, ..Update::default() }
    }

    /// Of which family it says that all routes were sent.
    pub fn ends_rib_of(&self) -> Option<Family> {
        let nothing = self.withdrawn.is_empty()
            && self.announced.is_empty()
            && self.mp_reach.is_none()
            && self.faults.is_empty()
            && self.attributes == Attributes::default()
            && self.next_hop.is_none();
        match &self.mp_unreach {
            _ if !nothing => None,
            None => Some(Family::Ipv4),
            Some(unreach) => unreach.nlri.is_empty().then_some(unreach.family),
        }
    }

    /// All prefixes that are gone.
    pub fn gone(&self) -> impl Iterator<Item = &Nlri> {
        self.withdrawn.iter().chain(self.mp_unreach.iter().flat_map(|u| &u.nlri))
    }

    /// All prefixes that come.
    pub fn coming(&self) -> impl Iterator<Item = &Nlri> {
        self.announced.iter().chain(self.mp_reach.iter().flat_map(|r| &r.nlri))
    }

    pub(super) fn apply_faults(&mut self) {
        if !self.faults.iter().any(|f| f.treatment == Treatment::TreatAsWithdraw) {
            return;
        }
        self.withdrawn.append(&mut self.announced);
        if let Some(reach) = self.mp_reach.take() {
            match &mut self.mp_unreach {
                Some(unreach) if unreach.family == reach.family => unreach.nlri.extend(reach.nlri),
                // Another family is gone and this one was to come: a receiver counts both, whatever attribute they
                // stand in.
                Some(_) => self.withdrawn.extend(reach.nlri),
                None => self.mp_unreach = Some(Unreach { family: reach.family, nlri: reach.nlri }),
            }
        }
        self.attributes = Attributes::default();
        self.next_hop = None;
    }

    pub(super) fn parse(codec: &Codec, body: &[u8]) -> Result<Update, Malformed> {
        let list = |_| Malformed::AttributeList;
        let mut r = Reader(body);
        let withdrawn = r.u16().and_then(|n| r.sub(n.into())).map_err(list)?;
        let attributes = r.u16().and_then(|n| r.sub(n.into())).map_err(list)?;
        let add_path = codec.add_path_receive.contains(&Family::Ipv4);
        // RFC 7606 §5.3: which routes are meant is unknown, and that they are IPv4 is no better than that.
        let prefixes = |r| nlri::parse(r, Family::Ipv4, add_path).map_err(|_| Malformed::NetworkField);
        let mut parsing = Parsing::new(codec);
        parsing.update.withdrawn = prefixes(withdrawn)?;
        parsing.update.announced = prefixes(r)?;
        parsing.attributes(attributes)?;
        Ok(parsing.finish())
    }

    pub(super) fn emit(&self, codec: &Codec, out: &mut Vec<u8>) {
        let ipv4 = codec.add_path_send.contains(&Family::Ipv4);
        with_length_16(out, |out| self.withdrawn.iter().for_each(|n| nlri::emit(n, ipv4, out)));
        with_length_16(out, |out| {
            // RFC 7606 §5.1: these first, so that damage behind them leaves the prefixes readable.
            if let Some(unreach) = &self.mp_unreach {
                unreach.emit(codec, out);
            }
            if let Some(reach) = &self.mp_reach {
                reach.emit(codec, out);
            }
            if self.mp_reach.is_some() || !self.announced.is_empty() {
                self.attributes.emit(codec.four_octet_as, self.next_hop, out);
            }
        });
        self.announced.iter().for_each(|n| nlri::emit(n, ipv4, out));
    }
}

impl Reach {
    fn emit(&self, codec: &Codec, out: &mut Vec<u8>) {
        let add_path = codec.add_path_send.contains(&self.family);
        emit_one(code::MP_REACH, out, |out| {
            let numbers = self.family.afi_safi();
            out.extend(numbers.afi.to_be_bytes());
            out.extend([numbers.safi, self.next_hop.length()]);
            self.next_hop.emit(out);
            out.push(0);
            self.nlri.iter().for_each(|n| nlri::emit(n, add_path, out));
        });
    }
}

impl Unreach {
    fn emit(&self, codec: &Codec, out: &mut Vec<u8>) {
        let add_path = codec.add_path_send.contains(&self.family);
        emit_one(code::MP_UNREACH, out, |out| {
            let numbers = self.family.afi_safi();
            out.extend(numbers.afi.to_be_bytes());
            out.push(numbers.safi);
            self.nlri.iter().for_each(|n| nlri::emit(n, add_path, out));
        });
    }
}
