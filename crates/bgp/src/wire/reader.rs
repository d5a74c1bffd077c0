//! Octets that are yet to be read.

use crate::prefix::AfiSafi;
use std::net::Ipv4Addr;

/// Fewer octets are there than were announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next `n` octets, without a copy: so a length that lies costs nothing.
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Short)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn sub(&mut self, n: usize) -> Result<Reader<'a>, Short> {
        self.bytes(n).map(Reader)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.take().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn ipv4(&mut self) -> Result<Ipv4Addr, Short> {
        self.take::<4>().map(Ipv4Addr::from)
    }

    pub(crate) fn afi_safi(&mut self) -> Result<AfiSafi, Short> {
        Ok(AfiSafi { afi: self.u16()?, safi: self.u8()? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Appends what `write` writes, with its length in front as two octets. What is longer than they can say cannot occur:
/// messages are shorter.
pub(crate) fn with_length_16(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0, 0]);
    write(out);
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&length);
    }
}

/// The same with one octet.
pub(crate) fn with_length_8(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    write(out);
    let length = u8::try_from(out.len() - at - 1).unwrap_or(u8::MAX);
    if let Some(place) = out.get_mut(at) {
        *place = length;
    }
}
