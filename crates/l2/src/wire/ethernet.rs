//! Ethernet II.

use super::{Malformed, Reader};
use engine::MacAddr;

/// ARP's type.
pub const ARP: u16 = 0x0806;
/// IPv6's type.
pub const IPV6: u16 = 0x86dd;
/// Octets before the payload.
pub const HEADER_LEN: usize = 14;

/// A frame, seen through its octets. A tagged one has the tag's type (0x8100 and others) as `ethertype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// What the payload is; below 0x600 a length (IEEE 802.3).
    pub ethertype: u16,
    /// The rest, padding included.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 14 octets.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let mut r = Reader(bytes);
        Ok(Frame { destination: r.mac()?, source: r.mac()?, ethertype: r.u16()?, payload: r.rest() })
    }

    /// Appends the frame, without padding: the interface pads.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.destination.0);
        out.extend_from_slice(&self.source.0);
        out.extend_from_slice(&self.ethertype.to_be_bytes());
        out.extend_from_slice(self.payload);
    }
}
