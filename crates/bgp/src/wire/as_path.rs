//! AS_PATH (RFC 4271 §4.3 b), its segments, and how paths through speakers of two octets are put together again.

use super::reader::{Reader, Short};
use crate::types::Asn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The autonomous systems that a route went through, the nearest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct AsPath(pub Vec<Segment>);

/// A part of a path. One of more than 255 numbers is sent as several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// What its numbers say.
    pub kind: SegmentKind,
    /// Never empty as received.
    pub asns: Vec<Asn>,
}

/// What the numbers of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SegmentKind {
    /// 1: some of them, in no order.
    Set,
    /// 2: one after the other.
    Sequence,
    /// 3: one after the other, within a confederation (RFC 5065).
    ConfedSequence,
    /// 4: some of them, within a confederation.
    ConfedSet,
}

impl SegmentKind {
    const ALL: [SegmentKind; 4] =
        [SegmentKind::Set, SegmentKind::Sequence, SegmentKind::ConfedSequence, SegmentKind::ConfedSet];

    fn is_confed(self) -> bool {
        matches!(self, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
    }
}

impl AsPath {
    /// One sequence; empty for no number.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> AsPath {
        let asns: Vec<Asn> = asns.into_iter().collect();
        AsPath(if asns.is_empty() { vec![] } else { vec![Segment { kind: SegmentKind::Sequence, asns }] })
    }

    /// The same path with `asn` in front, `times` times.
    pub fn prepend(&mut self, asn: Asn, times: usize) {
        if times == 0 {
            return;
        }
        let front = std::iter::repeat_n(asn, times);
        match self.0.first_mut() {
            Some(s) if s.kind == SegmentKind::Sequence => drop(s.asns.splice(0..0, front)),
            _ => self.0.insert(0, Segment { kind: SegmentKind::Sequence, asns: front.collect() }),
        }
    }

    /// Its length in route selection: a set counts once (RFC 4271 §9.1.2.2), a confederation not at all (RFC 5065).
    pub fn hops(&self) -> usize {
        let hops = |s: &Segment| match s.kind {
            SegmentKind::Set => usize::from(!s.asns.is_empty()),
            SegmentKind::Sequence => s.asns.len(),
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        self.0.iter().map(hops).sum()
    }

    /// All numbers, in their order, whatever the segments say.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.0.iter().flat_map(|s| s.asns.iter().copied())
    }

    /// The nearest autonomous system: the first number of a path that begins with a sequence.
    pub fn first(&self) -> Option<Asn> {
        self.0.first().filter(|s| s.kind == SegmentKind::Sequence).and_then(|s| s.asns.first().copied())
    }

    /// Whether two octets cannot say every number.
    pub(crate) fn needs_four_octets(&self) -> bool {
        self.asns().any(|a| u16::try_from(a.get()).is_err())
    }

    /// For AS4_PATH, in which no confederation may stand (RFC 6793 §3).
    pub(crate) fn without_confederations(&self) -> AsPath {
        AsPath(self.0.iter().filter(|s| !s.kind.is_confed()).cloned().collect())
    }

    pub(crate) fn has_confederations(&self) -> bool {
        self.0.iter().any(|s| s.kind.is_confed())
    }

    /// RFC 6793 §4.2.3: what AS4_PATH says replaces the end of what AS_PATH says with AS_TRANS. A longer AS4_PATH is
    /// one that somebody who does not know it failed to drop: it is ignored.
    pub(crate) fn merge(self, as4: AsPath) -> AsPath {
        let Some(mut ahead) = self.hops().checked_sub(as4.hops()) else { return self };
        let mut merged = Vec::new();
        for mut segment in self.0 {
            if ahead == 0 && !segment.kind.is_confed() {
                break;
            }
            match segment.kind {
                SegmentKind::Sequence => {
                    segment.asns.truncate(ahead);
                    ahead -= segment.asns.len();
                }
                SegmentKind::Set => ahead -= 1,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => {}
            }
            merged.push(segment);
        }
        let mut rest = as4.0.into_iter().peekable();
        if let (Some(last), Some(next)) = (merged.last_mut(), rest.peek_mut())
            && last.kind == SegmentKind::Sequence
            && next.kind == SegmentKind::Sequence
        {
            last.asns.append(&mut next.asns);
            rest.next();
        }
        merged.extend(rest);
        AsPath(merged)
    }

    pub(crate) fn emit(&self, four_octets: bool, out: &mut Vec<u8>) {
        for segment in &self.0 {
            let kind = SegmentKind::ALL.iter().zip(1u8..).find(|(k, _)| **k == segment.kind).map_or(2, |(_, n)| n);
            for part in segment.asns.chunks(255) {
                out.extend([kind, part.len() as u8]);
                for asn in part {
                    if four_octets {
                        out.extend(asn.get().to_be_bytes());
                    } else {
                        out.extend(asn.two_octets().to_be_bytes());
                    }
                }
            }
        }
    }

    /// RFC 7606 §7.2: an unknown kind, an empty segment, one that runs over the end or leaves a single octet; RFC 7607:
    /// AS number 0.
    pub(crate) fn parse(mut r: Reader<'_>, four_octets: bool) -> Result<AsPath, Short> {
        let mut segments = Vec::new();
        while !r.is_empty() {
            let kind = r.u8()?.checked_sub(1).ok_or(Short)?;
            let kind = *SegmentKind::ALL.get(usize::from(kind)).ok_or(Short)?;
            let count = usize::from(r.u8()?);
            let mut numbers = r.sub(count * if four_octets { 4 } else { 2 })?;
            let mut asns = Vec::new();
            while !numbers.is_empty() {
                let asn = if four_octets { numbers.u32()? } else { numbers.u16()?.into() };
                asns.push(Asn::new(asn).ok_or(Short)?);
            }
            if asns.is_empty() {
                return Err(Short);
            }
            segments.push(Segment { kind, asns });
        }
        Ok(AsPath(segments))
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            let (open, close, between) = match segment.kind {
                SegmentKind::Sequence => ("", "", " "),
                SegmentKind::Set => ("{", "}", ","),
                SegmentKind::ConfedSequence => ("(", ")", " "),
                SegmentKind::ConfedSet => ("[", "]", ","),
            };
            let numbers: Vec<String> = segment.asns.iter().map(Asn::to_string).collect();
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{open}{}{close}", numbers.join(between))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AsPath {
        let asns = |s: &str| s.split([' ', ',']).map(|n| n.parse().unwrap()).collect();
        let segment = |s: &str| match s.strip_prefix('{') {
            Some(set) => Segment { kind: SegmentKind::Set, asns: asns(set.trim_end_matches('}')) },
            None => Segment { kind: SegmentKind::Sequence, asns: asns(s) },
        };
        AsPath(text.split('|').filter(|s| !s.is_empty()).map(segment).collect())
    }

    #[test]
    fn a_path_through_two_octet_speakers_is_put_together_again() {
        for (as_path, as4, merged) in [
            ("1 23456 3", "200000 3", "1 200000 3"),
            ("23456 23456", "100000 200000", "100000 200000"),
            ("1 2 3", "", "1 2 3"),
            ("1", "2 3", "1"),
            ("7|{8,9}|23456", "{8,9}|70000", "7|{8,9}|70000"),
            ("7|{8,9}|23456", "70000", "7|{8,9}|70000"),
            ("7 23456|{8,23456}", "70000|{8,80000}", "7 70000|{8,80000}"),
        ] {
            assert_eq!(path(as_path).merge(path(as4)), path(merged), "{as_path} with {as4}");
        }
    }

    #[test]
    fn sets_count_once_and_prepending_extends_the_first_sequence() {
        let mut p = path("{1,2}|3");
        assert_eq!((p.hops(), p.first()), (2, None));
        p.prepend(Asn::TRANS, 2);
        p.prepend(Asn::TRANS, 0);
        assert_eq!(p.to_string(), "23456 23456 {1,2} 3");
        p.prepend(Asn::TRANS, 1);
        assert_eq!((p.0.len(), p.hops()), (3, 5));
    }

    #[test]
    fn more_than_255_numbers_are_several_segments() {
        let long = AsPath::sequence(std::iter::repeat_n(Asn::TRANS, 600));
        let mut out = vec![];
        long.emit(true, &mut out);
        let read = AsPath::parse(Reader(&out), true).unwrap();
        assert_eq!(read.0.iter().map(|s| s.asns.len()).collect::<Vec<_>>(), [255, 255, 90]);
        assert_eq!(read.hops(), 600);
    }
}
