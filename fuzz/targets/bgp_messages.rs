//! A stream of BGP messages: what is understood can be said again, and means the same.

#![no_main]

#[path = "../../crates/bgp/tests/bgp/normal.rs"]
mod normal;

use bgp::Family;
use bgp::wire::{Attributes, Codec, Framer, Message};
use normal::normal;
use std::collections::BTreeSet;

/// The first octet chooses what was negotiated.
fn codec(choice: u8) -> Codec {
    let families = |bit: u8| if choice & bit == 0 { BTreeSet::new() } else { BTreeSet::from(Family::ALL) };
    Codec {
        four_octet_as: choice & 1 == 0,
        internal: choice & 2 != 0,
        extended_send: choice & 4 != 0,
        extended_receive: choice & 4 != 0,
        families: BTreeSet::from(Family::ALL),
        extended_next_hop: families(8),
        add_path_receive: families(16),
        add_path_send: families(16),
    }
}

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let Some((choice, octets)) = octets.split_first() else { return };
    let codec = codec(*choice);
    let mut framer = Framer::default();
    framer.push(octets);
    while let Ok(Some((kind, body))) = framer.next(codec.extended_receive) {
        let Ok(read) = codec.parse(kind, body).map(normal) else { continue };
        // Mended (RFC 7606), or put together out of two octets: that may be said in another way.
        let mended = matches!(&read, Message::Update(update) if !update.faults.is_empty());
        if mended || !codec.four_octet_as || matches!(read, Message::RouteRefresh { refresh: None, .. }) {
            continue;
        }
        let mut said = Vec::new();
        codec.emit(&read, &mut said);
        let mut again = Framer::default();
        again.push(&said);
        let Ok(Some((kind, body))) = again.next(true) else { panic!("cannot be framed: {read:?}") };
        assert_eq!(codec.parse(kind, body).map(normal), Ok(read));
    }
});
