//! Reading path attributes, with the revised error handling of RFC 7606: damage costs as little as can be.

use super::Codec;
use super::as_path::AsPath;
use super::attributes::{
    Aggregator, EXTENDED, NextHop, OPTIONAL, Origin, PARTIAL, TRANSITIVE, Unknown, code, flags_of,
};
use super::error::Malformed;
use super::fault::{Fault, Treatment};
use super::nlri;
use super::reader::{Reader, Short};
use super::update::{Reach, Unreach, Update};
use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::prefix::{AfiSafi, Family};
use crate::types::Asn;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Attributes that are read, and what is needed only until all of them are.
pub(super) struct Parsing<'a> {
    codec: &'a Codec,
    pub(super) update: Update,
    seen: BTreeSet<u8>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

/// One attribute as it lies in the message.
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: Reader<'a>,
    /// All of it, from the flags on.
    whole: &'a [u8],
}

impl<'a> Parsing<'a> {
    pub(super) fn new(codec: &'a Codec) -> Parsing<'a> {
        let (update, seen) = (Update::default(), BTreeSet::new());
        Parsing { codec, update, seen, as4_path: None, as4_aggregator: None }
    }

    fn fault(&mut self, attribute: u8, what: &'static str, treatment: Treatment) {
        self.update.faults.push(Fault { attribute, what: what.into(), treatment });
    }

    pub(super) fn attributes(&mut self, mut r: Reader<'_>) -> Result<(), Malformed> {
        while !r.is_empty() {
            let Ok(raw) = next(&mut r) else {
                // RFC 7606 §4: the length of all attributes still tells where the prefixes are.
                self.fault(0, "an attribute runs over the end of the attributes", Treatment::TreatAsWithdraw);
                return Ok(());
            };
            self.attribute(raw)?;
        }
        Ok(())
    }

    fn attribute(&mut self, raw: Raw<'_>) -> Result<(), Malformed> {
        let multiprotocol = matches!(raw.code, code::MP_REACH | code::MP_UNREACH);
        if !self.seen.insert(raw.code) {
            // RFC 7606 §3 g.
            if multiprotocol {
                return Err(Malformed::AttributeList);
            }
            self.fault(raw.code, "it is there more than once", Treatment::AttributeDiscard);
            return Ok(());
        }
        let Some(flags) = flags_of(raw.code) else { return self.unknown(&raw) };
        if raw.flags & (OPTIONAL | TRANSITIVE) != flags {
            // RFC 7606 §3 c. A multiprotocol attribute is read on, so that its prefixes can be withdrawn.
            self.fault(raw.code, "its flags are those of another kind", Treatment::TreatAsWithdraw);
            if !multiprotocol {
                return Ok(());
            }
        }
        if multiprotocol {
            return self.multiprotocol(&raw);
        }
        if let Some((what, treatment)) = self.value(&raw) {
            self.fault(raw.code, what, treatment);
        }
        Ok(())
    }

    fn unknown(&mut self, raw: &Raw<'_>) -> Result<(), Malformed> {
        if raw.flags & OPTIONAL == 0 {
            return Err(Malformed::UnrecognizedWellKnown(raw.whole.to_vec()));
        }
        self.update.attributes.unknown.push(Unknown {
            code: raw.code,
            transitive: raw.flags & TRANSITIVE != 0,
            partial: raw.flags & PARTIAL != 0,
            value: raw.value.0.to_vec(),
        });
        Ok(())
    }

    /// Reads a value; what is wrong with it and what that leads to.
    fn value(&mut self, raw: &Raw<'_>) -> Option<(&'static str, Treatment)> {
        use Treatment::{AttributeDiscard, TreatAsWithdraw};
        let (four_octet_as, internal) = (self.codec.four_octet_as, self.codec.internal);
        let a = &mut self.update.attributes;
        let value = raw.value;
        if !internal && matches!(raw.code, code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST) {
            // RFC 7606 §7.5, 7.9, 7.10.
            return Some(("it has no place on an external session", AttributeDiscard));
        }
        let wrong_length = (raw.code, "its length is wrong");
        let (read, treatment) = match raw.code {
            code::ORIGIN => (origin(value).map(|o| a.origin = o), TreatAsWithdraw),
            code::AS_PATH => (AsPath::parse(value, four_octet_as).map(|p| a.as_path = p), TreatAsWithdraw),
            code::NEXT_HOP => (four(value).map(|n| self.update.next_hop = Some(n.into())), TreatAsWithdraw),
            code::MED => (four(value).map(|n| a.med = Some(n)), TreatAsWithdraw),
            code::LOCAL_PREF => (four(value).map(|n| a.local_pref = Some(n)), TreatAsWithdraw),
            code::ATOMIC_AGGREGATE => {
                a.atomic_aggregate = value.is_empty();
                (if value.is_empty() { Ok(()) } else { Err(Short) }, AttributeDiscard)
            }
            code::AGGREGATOR => (aggregator(value, four_octet_as).map(|g| a.aggregator = Some(g)), AttributeDiscard),
            code::COMMUNITIES => {
                let each = list(value, |n| Community(u32::from_be_bytes(n)));
                (each.map(|c| a.communities = c.into_iter().collect()), TreatAsWithdraw)
            }
            code::ORIGINATOR_ID => (four(value).map(|n| a.originator_id = Some(n.into())), TreatAsWithdraw),
            code::CLUSTER_LIST => {
                (list(value, |n: [u8; 4]| Ipv4Addr::from(n)).map(|c| a.cluster_list = c), TreatAsWithdraw)
            }
            code::EXTENDED_COMMUNITIES => {
                let each = list(value, ExtendedCommunity);
                (each.map(|c| a.extended_communities = c.into_iter().collect()), TreatAsWithdraw)
            }
            code::LARGE_COMMUNITIES => {
                (list(value, large).map(|c| a.large_communities = c.into_iter().collect()), TreatAsWithdraw)
            }
            code::AS4_PATH | code::AS4_AGGREGATOR if four_octet_as => {
                return Some(("it has no place on a session of four octets", AttributeDiscard));
            }
            // RFC 6793 §6: confederations in it are left out, other damage drops it.
            code::AS4_PATH => {
                (AsPath::parse(value, true).map(|p| self.as4_path = Some(p.without_confederations())), AttributeDiscard)
            }
            code::AS4_AGGREGATOR => (aggregator(value, true).map(|g| self.as4_aggregator = Some(g)), AttributeDiscard),
            _ => (Ok(()), AttributeDiscard),
        };
        if read.is_ok() && raw.code == code::AS_PATH && !internal && self.update.attributes.as_path.has_confederations()
        {
            // RFC 5065 §5: confederations end at the border.
            return Some(("it has confederation segments on an external session", TreatAsWithdraw));
        }
        let what = match raw.code {
            code::ORIGIN => "it is not 0, 1 or 2",
            code::AS_PATH | code::AS4_PATH => "a segment is empty, of an unknown kind, runs over the end or has AS 0",
            _ => wrong_length.1,
        };
        read.err().map(|_| (what, treatment))
    }

    fn multiprotocol(&mut self, raw: &Raw<'_>) -> Result<(), Malformed> {
        let mut r = raw.value;
        let Ok(numbers) = r.afi_safi() else { return Err(Malformed::OptionalAttribute(raw.whole.to_vec())) };
        let Some(family) = numbers.family().filter(|f| self.codec.families.contains(f)) else {
            self.fault(raw.code, "its family was not agreed upon", Treatment::AttributeDiscard);
            return Ok(());
        };
        let add_path = self.codec.add_path_receive.contains(&family);
        if raw.code == code::MP_UNREACH {
            match nlri::parse(r, family, add_path) {
                Ok(nlri) => self.update.mp_unreach = Some(Unreach { family, nlri }),
                Err(Short) => self.disable(raw.code, "a prefix in it is too long or cut short", numbers),
            }
            return Ok(());
        }
        match reach(r, family, self.codec.extended_next_hop.contains(&family), add_path) {
            Ok(reach) => self.update.mp_reach = Some(reach),
            Err(what) => self.disable(raw.code, what, numbers),
        }
        Ok(())
    }

    /// RFC 7606 §5.3, 7.11: prefixes are lost, so nobody knows which routes are meant. The family is not listened to
    /// any more; the session and what we announce stay.
    fn disable(&mut self, attribute: u8, what: &'static str, family: AfiSafi) {
        self.fault(attribute, what, Treatment::DisableFamily(family));
    }

    /// What can be said only when all attributes are read.
    pub(super) fn finish(mut self) -> Update {
        self.merge_as4();
        let announces_ipv4 = !self.update.announced.is_empty();
        if announces_ipv4 || self.update.mp_reach.is_some() {
            for (kind, needed) in [(code::ORIGIN, true), (code::AS_PATH, true), (code::NEXT_HOP, announces_ipv4)] {
                if needed && !self.seen.contains(&kind) {
                    // RFC 7606 §3 d.
                    self.fault(kind, "it is missing", Treatment::TreatAsWithdraw);
                }
            }
        }
        self.update.apply_faults();
        self.update
    }

    /// RFC 6793 §4.2.3.
    fn merge_as4(&mut self) {
        let a = &mut self.update.attributes;
        if let (Some(four), Some(two)) = (self.as4_aggregator, a.aggregator) {
            // Somebody who does not know the other two attributes has aggregated anew.
            if two.asn != Asn::TRANS {
                return;
            }
            a.aggregator = Some(four);
        }
        if let Some(as4) = self.as4_path.take() {
            a.as_path = std::mem::take(&mut a.as_path).merge(as4);
        }
    }
}

fn next<'a>(r: &mut Reader<'a>) -> Result<Raw<'a>, Short> {
    let start = r.0;
    let flags = r.u8()?;
    let code = r.u8()?;
    let length = if flags & EXTENDED != 0 { r.u16()?.into() } else { usize::from(r.u8()?) };
    let value = r.sub(length)?;
    let whole = start.get(..start.len() - r.len()).unwrap_or_default();
    Ok(Raw { flags, code, value, whole })
}

fn reach(mut r: Reader<'_>, family: Family, extended: bool, add_path: bool) -> Result<Reach, &'static str> {
    const LENGTH: &str = "the length of its next hop is not one of its family";
    let length = r.u8().map_err(|_| LENGTH)?;
    let mut hop = r.sub(length.into()).map_err(|_| LENGTH)?;
    let next_hop = match (family, length) {
        (Family::Ipv4, 4) => hop.ipv4().map(NextHop::V4),
        (Family::Ipv4, 16 | 32) if extended => ipv6(hop),
        (Family::Ipv6, 16 | 32) => ipv6(hop),
        _ => Err(Short),
    };
    let next_hop = next_hop.map_err(|_| LENGTH)?;
    // RFC 4760 §3: one reserved octet, ignored.
    r.u8().map_err(|_| "it is cut short")?;
    let nlri = nlri::parse(r, family, add_path).map_err(|_| "a prefix in it is too long or cut short")?;
    Ok(Reach { family, next_hop, nlri })
}

fn ipv6(mut r: Reader<'_>) -> Result<NextHop, Short> {
    let global = r.take::<16>()?.into();
    let link_local = if r.is_empty() { None } else { Some(r.take::<16>()?.into()) };
    Ok(NextHop::V6 { global, link_local })
}

fn four(r: Reader<'_>) -> Result<u32, Short> {
    exactly(r, u32::from_be_bytes)
}

fn exactly<const N: usize, T>(mut r: Reader<'_>, make: impl FnOnce([u8; N]) -> T) -> Result<T, Short> {
    let value = r.take()?;
    if r.is_empty() { Ok(make(value)) } else { Err(Short) }
}

fn origin(r: Reader<'_>) -> Result<Origin, Short> {
    match exactly(r, |[n]: [u8; 1]| n)? {
        0 => Ok(Origin::Igp),
        1 => Ok(Origin::Egp),
        2 => Ok(Origin::Incomplete),
        _ => Err(Short),
    }
}

fn aggregator(r: Reader<'_>, four_octet_as: bool) -> Result<Aggregator, Short> {
    let (asn, id) = if four_octet_as {
        exactly(r, |[a, b, c, d, id @ ..]: [u8; 8]| (u32::from_be_bytes([a, b, c, d]), id))?
    } else {
        exactly(r, |[a, b, id @ ..]: [u8; 6]| (u16::from_be_bytes([a, b]).into(), id))?
    };
    Ok(Aggregator { asn: Asn::new(asn).ok_or(Short)?, id: id.into() })
}

fn large(octets: [u8; 12]) -> LargeCommunity {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
    LargeCommunity {
        global: u32::from_be_bytes([a, b, c, d]),
        local_1: u32::from_be_bytes([e, f, g, h]),
        local_2: u32::from_be_bytes([i, j, k, l]),
    }
}

/// A list of values of one size; RFC 7606 §7.8 and others: an empty one is as malformed as one with a rest.
fn list<const N: usize, T>(mut r: Reader<'_>, make: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Short> {
    let mut all = Vec::with_capacity(r.len() / N);
    loop {
        all.push(make(r.take()?));
        if r.is_empty() {
            return Ok(all);
        }
    }
}
