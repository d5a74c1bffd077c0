//! The messages in a packet.
//!
//! ```text
//!  0 nothing
//!  1 part      index:2 count:2 owned:list unable:list silent:list reached:list doubted:list
//!                  advertises:list count:1 mac:6*
//!  2 ask       epoch:16 preset:1 whole:1 list
//!  3 renew     epoch:16 preset:1 digest:16
//!  4 release   to:1+n list                          an empty name for nobody
//!  5 consent   preset:1 owning:1 list
//!  6 asked     boot:16 counter:8 granted:16 names:1 (1+n)* count:1 (who:1 left:2)*
//!              who: the place of a name, or 252 elsewhere, 253 granted, 254 somebody
//!  7 renewed   boot:16 counter:8 preset:1 digest:16
//!  8 differs   boot:16 counter:8 preset:1 digest:16
//!  9 released  boot:16 counter:8
//! 10 refused   boot:16 counter:8 why:1              1 silent, 2 epoch, 3 no record
//! 11 offer     list
//! 12 members   number:8 count:1 (1+n)*
//!
//!  list        v4:2 v6:2 addresses                  IPv4 first, each in rising order
//! ```

use super::{BODY, MAX_MEMBERS, Reader, Reject, VERDICTS};
use crate::digest::SetDigest;
use crate::message::{Answer, Message, Refusal, Verdict};
use crate::statement::{Fragment, MAX_FRAGMENTS, MAX_MACS, Part};
use crate::types::{Epoch, EpochId, Node, Preset, Stamp};
use engine::MacAddr;
use std::net::IpAddr;

const ELSEWHERE: u8 = 252;
const GRANTED: u8 = 253;
const SOMEBODY: u8 = 254;
/// The octets that names may take in an answer.
const NAMES: usize = BODY - 24 - 16 - 2 - 3 * VERDICTS;

pub fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend_from_slice(name.as_bytes());
}

pub fn put_epoch(out: &mut Vec<u8>, epoch: EpochId) {
    out.extend_from_slice(&epoch.number.to_be_bytes());
    out.extend_from_slice(&epoch.digest.to_be_bytes());
}

fn put_stamp(out: &mut Vec<u8>, kind: u8, stamp: Stamp) {
    out.push(kind);
    out.extend_from_slice(&stamp.boot.to_be_bytes());
    out.extend_from_slice(&stamp.counter.to_be_bytes());
}

fn put_list(out: &mut Vec<u8>, addresses: &[IpAddr]) {
    for v6 in [false, true] {
        let count = addresses.iter().filter(|a| a.is_ipv6() == v6).count();
        out.extend_from_slice(&u16::try_from(count).unwrap_or(0).to_be_bytes());
    }
    for address in addresses {
        match address {
            IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
        }
    }
}

fn preset(preset: Preset) -> u8 {
    match preset {
        Preset::Fast => 1,
        Preset::Normal => 2,
        Preset::Relaxed => 3,
    }
}

fn put_set(out: &mut Vec<u8>, of: Preset, digest: SetDigest) {
    out.push(preset(of));
    out.extend_from_slice(&digest.0.to_be_bytes());
}

/// The names that fit, each once.
fn names(verdicts: &[Verdict]) -> Vec<&Node> {
    let mut names: Vec<&Node> = Vec::new();
    let mut room = NAMES;
    for verdict in verdicts {
        if let Verdict::Held { by: Some(name), .. } = verdict
            && !names.contains(&name)
            && room > name.len()
            && names.len() < usize::from(ELSEWHERE)
        {
            room -= 1 + name.len();
            names.push(name);
        }
    }
    names
}

fn put_verdicts(out: &mut Vec<u8>, verdicts: &[Verdict]) {
    let names = names(verdicts);
    out.push(names.len() as u8);
    names.iter().for_each(|name| put_name(out, name));
    out.push(u8::try_from(verdicts.len()).unwrap_or(u8::MAX));
    for verdict in verdicts {
        let (who, left) = match verdict {
            Verdict::Elsewhere => (ELSEWHERE, 0),
            Verdict::Granted => (GRANTED, 0),
            Verdict::Held { by, left } => {
                let place = by.as_ref().and_then(|by| names.iter().position(|n| *n == by));
                (place.and_then(|p| u8::try_from(p).ok()).unwrap_or(SOMEBODY), *left)
            }
        };
        out.push(who);
        out.extend_from_slice(&left.to_be_bytes());
    }
}

/// Adds a message.
pub fn put(out: &mut Vec<u8>, message: Option<&Message>) {
    let Some(message) = message else {
        out.push(0);
        return;
    };
    match message {
        Message::Part(Fragment { index, count, part }) => {
            out.push(1);
            out.extend_from_slice(&index.to_be_bytes());
            out.extend_from_slice(&count.to_be_bytes());
            part.sets.iter().for_each(|list| put_list(out, list));
            out.push(u8::try_from(part.macs.len()).unwrap_or(0));
            part.macs.iter().for_each(|mac| out.extend_from_slice(&mac.0));
        }
        Message::Ask { epoch, preset: of, whole, addresses } => {
            out.push(2);
            put_epoch(out, *epoch);
            out.extend([preset(*of), u8::from(*whole)]);
            put_list(out, addresses);
        }
        Message::Renew { epoch, preset, digest } => {
            out.push(3);
            put_epoch(out, *epoch);
            put_set(out, *preset, *digest);
        }
        Message::Release { to, addresses } => {
            out.push(4);
            put_name(out, to.as_deref().unwrap_or_default());
            put_list(out, addresses);
        }
        Message::Consent { preset: of, owning, addresses } => {
            out.extend([5, preset(*of), u8::from(*owning)]);
            put_list(out, addresses);
        }
        Message::Answer { to, answer } => put_answer(out, *to, answer),
        Message::Offer { addresses } => {
            out.push(11);
            put_list(out, addresses);
        }
        Message::Members(epoch) => {
            out.push(12);
            out.extend_from_slice(&epoch.number.to_be_bytes());
            out.push(u8::try_from(epoch.members.len()).unwrap_or(0));
            epoch.members.iter().for_each(|name| put_name(out, name));
        }
    }
}

fn put_answer(out: &mut Vec<u8>, to: Stamp, answer: &Answer) {
    match answer {
        Answer::Asked { granted, verdicts } => {
            put_stamp(out, 6, to);
            out.extend_from_slice(&granted.0.to_be_bytes());
            put_verdicts(out, verdicts);
        }
        Answer::Renewed { preset, digest } => {
            put_stamp(out, 7, to);
            put_set(out, *preset, *digest);
        }
        Answer::Differs { preset, digest } => {
            put_stamp(out, 8, to);
            put_set(out, *preset, *digest);
        }
        Answer::Released => put_stamp(out, 9, to),
        Answer::Refused(why) => {
            put_stamp(out, 10, to);
            out.push(match why {
                Refusal::Silent => 1,
                Refusal::Epoch => 2,
                Refusal::NoRecord => 3,
            });
        }
    }
}

impl Reader<'_> {
    pub(super) fn message(&mut self) -> Result<Option<Message>, Reject> {
        Ok(Some(match self.u8()? {
            0 => return Ok(None),
            1 => {
                let (index, count) = (self.u16()?, self.u16()?);
                let mut part = Part::default();
                for list in &mut part.sets {
                    *list = self.list()?;
                }
                let macs = usize::from(self.u8()?);
                part.macs = (0..macs).map(|_| self.array().map(MacAddr)).collect::<Result<_, _>>()?;
                let rising = part.macs.is_sorted_by(|a, b| a < b) && macs <= MAX_MACS;
                let valid = index < count && count <= MAX_FRAGMENTS && rising;
                valid.then_some(Message::Part(Fragment { index, count, part })).ok_or(Reject::Malformed)?
            }
            2 => {
                let (epoch, preset, whole) = (self.epoch()?, self.preset()?, self.bool()?);
                Message::Ask { epoch, preset, whole, addresses: self.asked()? }
            }
            3 => {
                let (epoch, (preset, digest)) = (self.epoch()?, self.set()?);
                Message::Renew { epoch, preset, digest }
            }
            4 => {
                let to = if self.0.first() == Some(&0) { self.u8().map(|_| None)? } else { Some(self.name()?) };
                Message::Release { to, addresses: self.asked()? }
            }
            5 => {
                let (preset, owning) = (self.preset()?, self.bool()?);
                Message::Consent { preset, owning, addresses: self.asked()? }
            }
            kind @ 6..=10 => {
                let to = Stamp { boot: self.u128()?, counter: self.u64()? };
                Message::Answer { to, answer: self.answer(kind)? }
            }
            11 => Message::Offer { addresses: self.asked()? },
            12 => {
                let (number, count) = (self.u64()?, usize::from(self.u8()?));
                let members = (0..count).map(|_| self.name()).collect::<Result<Vec<_>, _>>()?;
                let rising = members.is_sorted_by(|a, b| a < b) && members.len() <= MAX_MEMBERS;
                rising.then(|| Message::Members(Epoch::new(number, members))).ok_or(Reject::Malformed)?
            }
            _ => return Err(Reject::Malformed),
        }))
    }

    fn answer(&mut self, kind: u8) -> Result<Answer, Reject> {
        Ok(match kind {
            6 => {
                let granted = SetDigest(self.u128()?);
                let names = (0..self.u8()?).map(|_| self.name()).collect::<Result<Vec<_>, _>>()?;
                let count = usize::from(self.u8()?);
                let verdicts = (0..count).map(|_| self.verdict(&names)).collect::<Result<Vec<_>, _>>()?;
                Answer::Asked { granted, verdicts }
            }
            7 => self.set().map(|(preset, digest)| Answer::Renewed { preset, digest })?,
            8 => self.set().map(|(preset, digest)| Answer::Differs { preset, digest })?,
            9 => Answer::Released,
            _ => Answer::Refused(match self.u8()? {
                1 => Refusal::Silent,
                2 => Refusal::Epoch,
                3 => Refusal::NoRecord,
                _ => return Err(Reject::Malformed),
            }),
        })
    }

    fn verdict(&mut self, names: &[Node]) -> Result<Verdict, Reject> {
        let (who, left) = (self.u8()?, self.u16()?);
        let place = usize::from(who);
        match (who, left) {
            (ELSEWHERE, 0) => Ok(Verdict::Elsewhere),
            (GRANTED, 0) => Ok(Verdict::Granted),
            (SOMEBODY, left) => Ok(Verdict::Held { by: None, left }),
            (_, left) => {
                names.get(place).map(|name| Verdict::Held { by: Some(name.clone()), left }).ok_or(Reject::Malformed)
            }
        }
    }

    fn preset(&mut self) -> Result<Preset, Reject> {
        let n = self.u8()?;
        Preset::ALL.into_iter().find(|p| preset(*p) == n).ok_or(Reject::Malformed)
    }

    fn bool(&mut self) -> Result<bool, Reject> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Reject::Malformed),
        }
    }

    fn set(&mut self) -> Result<(Preset, SetDigest), Reject> {
        Ok((self.preset()?, SetDigest(self.u128()?)))
    }

    fn list(&mut self) -> Result<Vec<IpAddr>, Reject> {
        let (v4, v6) = (usize::from(self.u16()?), usize::from(self.u16()?));
        if v4 * 4 + v6 * 16 > self.0.len() {
            return Err(Reject::Malformed);
        }
        let mut addresses = Vec::with_capacity(v4 + v6);
        for _ in 0..v4 {
            addresses.push(IpAddr::from(self.array::<4>()?));
        }
        for _ in 0..v6 {
            addresses.push(IpAddr::from(self.array::<16>()?));
        }
        let rising = addresses.is_sorted_by(|a, b| a < b);
        if rising { Ok(addresses) } else { Err(Reject::Malformed) }
    }

    /// A list of which an answer can speak.
    fn asked(&mut self) -> Result<Vec<IpAddr>, Reject> {
        self.list().and_then(|list| if list.len() <= VERDICTS { Ok(list) } else { Err(Reject::Malformed) })
    }
}
