//! Cuts the octets of a connection into messages.

use super::reader::Reader;
use super::{HEADER, Kind, Malformed};

/// Keeps what is not a whole message yet: less than one message, because every length is judged as soon as the header
/// is there.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What of `buffer` was given out already.
    read: usize,
}

impl Framer {
    /// Octets came in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend(bytes);
    }

    /// The type and body of the next message that is there as a whole. `extended` where the peer may send messages
    /// longer than 4096 octets.
    pub fn next(&mut self, extended: bool) -> Result<Option<(Kind, &[u8])>, Malformed> {
        let unread = self.buffer.get(self.read..).unwrap_or_default();
        let mut r = Reader(unread);
        let (Ok(marker), Ok(length), Ok(kind)) = (r.take::<16>(), r.u16(), r.u8()) else {
            // A marker that is wrong already is told at once: it may be all that comes.
            return if unread.iter().take(16).all(|b| *b == 0xff) { Ok(None) } else { Err(Malformed::Marker) };
        };
        if marker != [0xff; 16] {
            return Err(Malformed::Marker);
        }
        let kind = Kind::from_number(kind)?;
        let size = usize::from(length);
        if !(kind.min_length()..=kind.max_length(extended)).contains(&size) {
            return Err(Malformed::Length(length));
        }
        let Ok(body) = r.bytes(size - HEADER) else { return Ok(None) };
        self.read += size;
        Ok(Some((kind, body)))
    }

    /// Octets that wait for the rest of their message.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.read
    }
}
