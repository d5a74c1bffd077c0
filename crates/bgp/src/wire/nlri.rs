//! Prefixes on the wire (RFC 4271 §4.3), with path identifiers where add-path was agreed upon (RFC 7911).

use super::reader::{Reader, Short};
use crate::prefix::{Family, Nlri, Prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many octets a prefix takes, at most 21.
pub(crate) fn length(nlri: &Nlri, add_path: bool) -> usize {
    usize::from(add_path) * 4 + 1 + usize::from(nlri.prefix.length().div_ceil(8))
}

pub(crate) fn emit(nlri: &Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend(nlri.path.to_be_bytes());
    }
    let length = nlri.prefix.length();
    out.push(length);
    let octets = usize::from(length.div_ceil(8));
    match nlri.prefix.address() {
        IpAddr::V4(a) => out.extend(a.octets().iter().take(octets)),
        IpAddr::V6(a) => out.extend(a.octets().iter().take(octets)),
    }
}

/// All prefixes to the end. Bits behind the length are cut off: RFC 4271 §4.3 calls them irrelevant.
pub(crate) fn parse(mut r: Reader<'_>, family: Family, add_path: bool) -> Result<Vec<Nlri>, Short> {
    let mut all = Vec::new();
    while !r.is_empty() {
        let path = if add_path { r.u32()? } else { 0 };
        let length = r.u8()?;
        let octets = r.bytes(length.div_ceil(8).into())?;
        let mut address = [0u8; 16];
        address.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        let [a, b, c, d, ..] = address;
        let address = match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(address)),
        };
        all.push(Nlri { prefix: Prefix::new(address, length).ok_or(Short)?, path });
    }
    Ok(all)
}
