//! The key that speakers share.

use ring::hmac;
use std::fmt;

/// The octets of the message authentication code.
pub const TAG: usize = 32;

/// A secret that all speakers know. 16 octets or more of randomness make it one.
#[derive(Clone)]
pub struct Key {
    bytes: Vec<u8>,
    hmac: hmac::Key,
}

impl Key {
    /// The key with these octets. An empty one is never used.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Key {
        let bytes = bytes.into();
        Key { hmac: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn sign(&self, data: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        for (to, from) in tag.iter_mut().zip(hmac::sign(&self.hmac, data).as_ref()) {
            *to = *from;
        }
        tag
    }

    pub(crate) fn verify(&self, data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.hmac, data, tag).is_ok()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}
