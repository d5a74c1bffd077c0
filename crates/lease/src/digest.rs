//! Digests: of a set of addresses, in which one address is added or taken away without looking at the others, and of
//! anything else.

use ring::digest;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

fn sha256(input: &[u8]) -> u128 {
    let digest = digest::digest(&digest::SHA256, input);
    digest.as_ref().iter().take(16).fold(0, |n, octet| n << 8 | u128::from(*octet))
}

/// The first 64 bits, big endian, of the SHA-256 of `input`.
pub fn first_64_bits(input: &[u8]) -> u64 {
    (sha256(input) >> 64) as u64
}

/// Names a set of addresses: the sum, modulo 2^128, of the first 128 bits of the SHA-256 of each. Packets are
/// authenticated, so nobody gets to choose members with an eye on the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SetDigest(pub u128);

fn octets(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => sha256(&v4.octets()),
        IpAddr::V6(v6) => sha256(&v6.octets()),
    }
}

impl SetDigest {
    /// The set with one address more.
    pub fn add(&mut self, address: &IpAddr) {
        self.0 = self.0.wrapping_add(octets(address));
    }

    /// The set with one address less.
    pub fn take(&mut self, address: &IpAddr) {
        self.0 = self.0.wrapping_sub(octets(address));
    }
}

impl<'a> FromIterator<&'a IpAddr> for SetDigest {
    fn from_iter<T: IntoIterator<Item = &'a IpAddr>>(addresses: T) -> SetDigest {
        let mut digest = SetDigest::default();
        addresses.into_iter().for_each(|a| digest.add(a));
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_forgets_order_and_what_was_taken_away() {
        let [a, b, c]: [IpAddr; 3] = ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|a| a.parse().unwrap());
        let mut digest: SetDigest = [&a, &b, &c].into_iter().collect();
        assert_eq!(digest, [&c, &b, &a].into_iter().collect());
        digest.take(&b);
        assert_eq!(digest, [&c, &a].into_iter().collect());
        assert_ne!(digest, [&c].into_iter().collect());
        digest.take(&a);
        digest.take(&c);
        assert_eq!(digest, SetDigest::default());
    }
}
