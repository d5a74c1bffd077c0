//! The codec and the session, seen from outside. Here is what the tests share.

// Clippy allows these in tests, and does not see that the helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod captured;
mod messages;
mod mutated;
mod normal;
mod oracle;
mod revised_errors;
mod round_trip;
mod scripted;
mod session;
mod simulation;

use oxelb_bgp::wire::*;
use oxelb_bgp::*;
use std::collections::BTreeSet;

fn asn(n: u32) -> Asn {
    Asn::new(n).unwrap()
}

fn prefix(s: &str) -> Prefix {
    s.parse().unwrap()
}

fn nlri(s: &str) -> Nlri {
    Nlri::of(prefix(s))
}

/// What two current routers agree upon.
fn modern() -> Codec {
    Codec {
        four_octet_as: true,
        families: BTreeSet::from(Family::ALL),
        extended_next_hop: BTreeSet::from([Family::Ipv4]),
        ..Codec::default()
    }
}

fn encode(codec: &Codec, message: &Message) -> Vec<u8> {
    let mut out = vec![];
    codec.emit(message, &mut out);
    out
}

fn decode(codec: &Codec, bytes: &[u8]) -> Result<Message, Malformed> {
    let mut framer = Framer::default();
    framer.push(bytes);
    let (kind, body) = framer.next(codec.extended_receive)?.unwrap();
    let message = codec.parse(kind, body)?;
    assert_eq!(framer.waiting(), 0, "something is left over");
    Ok(message)
}

/// A message of these octets.
fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend((19 + body.len() as u16).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// An UPDATE of these octets.
fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(announced);
    framed(2, &body)
}
