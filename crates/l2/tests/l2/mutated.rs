//! Hundreds of thousands of damaged frames: no panic, no answer for an address of others, and every frame is counted
//! in exactly one way.

use super::*;
use oxelb_l2::MAX_STRANGERS;
use oxelb_l2::wire::ndp::Message;
use smoltcp::wire::{Icmpv6Packet, Ipv6Packet};

const ROUNDS: u32 = 400_000;
/// Owned by others: watched, and asked for without end.
const OTHERS: [&str; 2] = ["198.51.100.9", "2001:db8::9"];
const OURS: [&str; 4] = ["198.51.100.7", "198.51.100.8", "2001:db8::7", "2001:db8::8"];

fn corpus() -> Vec<Vec<u8>> {
    let unicast = ndp::Packet {
        source: v6("fe80::c1"),
        destination: v6("2001:db8::7"),
        message: Message::Solicitation { target: v6("2001:db8::7"), source_mac: None },
    };
    vec![
        arp_request(CLIENT, "198.51.100.200", "198.51.100.7"),
        arp_request(CLIENT, "0.0.0.0", "198.51.100.8"),
        arp_request(STRANGER, "198.51.100.7", "198.51.100.7"),
        arp_reply(STRANGER, "198.51.100.7", "198.51.100.200"),
        solicitation(CLIENT, "2001:db8::c1", "2001:db8::7", Some(CLIENT)),
        solicitation(CLIENT, "2001:db8::c1", "2001:db8::8", None),
        solicitation(CLIENT, "::", "2001:db8::7", None),
        unicast.frame(CLIENT, MAC0),
        advertisement(STRANGER, "2001:db8::7", Some(STRANGER)),
        arp_reply(STRANGER, "198.51.100.9", "198.51.100.200"),
        arp_request(STRANGER, "0.0.0.0", "198.51.100.9"),
        advertisement(STRANGER, "2001:db8::9", Some(STRANGER)),
        solicitation(STRANGER, "::", "2001:db8::9", None),
    ]
}

fn mutate(frame: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.u32(0..6) {
        let at = rng.usize(0..frame.len().max(1));
        match rng.u8(0..7) {
            0 => frame.truncate(at),
            1 => frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(24).collect::<Vec<_>>()),
            2 if at < frame.len() => frame.insert(at, rng.u8(..)),
            3 if at < frame.len() => drop(frame.remove(at)),
            4 if at < frame.len() => frame[at] = [0, 1, 2, 0x7f, 0x80, 0xff][rng.usize(0..6)],
            5 if at < frame.len() => frame[at] ^= 1 << rng.u8(0..8),
            _ if at < frame.len() => frame[at] = rng.u8(..),
            _ => {}
        }
    }
}

/// Makes lengths and checksum right, so that damage behind them is reached.
fn repair(frame: &mut [u8]) {
    let length = frame.len().saturating_sub(54);
    if length < 8 || frame[12..14] != [0x86, 0xdd] {
        return;
    }
    frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    let packet = Ipv6Packet::new_unchecked(&frame[14..]);
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&source, &destination);
}

#[test]
fn damaged_frames_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(0x6f78_656c);
    let both: &[IfIndex] = &[ETH0];
    let mut l2 = node(&OURS.map(|a| (a, both)));
    l2.handle(Tick::ZERO, watch(&OTHERS.map(|a| (a, both))));
    for address in OTHERS {
        l2.handle(Tick::ZERO, Input::Ask(Question { every: Duration::from_secs(3600), ..question(address, ETH0) }));
    }
    drain(&mut l2);
    let ours: BTreeSet<IpAddr> = OURS.iter().map(|a| ip(a)).collect();
    let others: BTreeSet<IpAddr> = OTHERS.iter().map(|a| ip(a)).collect();
    let corpus = corpus();
    let mut defended = 0;
    let (mut answers, mut silent) = (0u32, 0u32);
    for round in 0..ROUNDS {
        let mut bytes = corpus[rng.usize(0..corpus.len())].clone();
        mutate(&mut bytes, &mut rng);
        if rng.bool() {
            repair(&mut bytes);
        }
        let c = l2.counters();
        let before = c.requests + c.ignored + c.malformed + c.oversized;
        let effects = act(&mut l2, Tick(1), Input::Frame { on: ETH0, bytes: bytes.clone() });
        let defences = l2.counters().defences - defended;
        defended += defences;
        let sent = sent(&effects);
        let c = l2.counters();
        let noted = c.requests + c.ignored + c.malformed + c.oversized - before;
        let most = 1 + 2 * usize::try_from(defences).unwrap();
        assert!(noted <= 1 && sent.len() <= most, "round {round}: {bytes:02x?}");
        for effect in &effects {
            match effect {
                Effect::Send { .. } => {}
                Effect::Conflict { address, on, .. } => assert!(ours.contains(address) && *on == ETH0),
                Effect::Seen { address, on, .. } => assert!(others.contains(address) && *on == ETH0),
                other => panic!("round {round}: {other:?}"),
            }
        }
        for (on, frame) in &sent {
            let said = said(frame);
            assert!(ours.contains(&said.address), "round {round}: {bytes:02x?} answered {said:?}");
            assert_eq!((*on, said.mac, said.from), (ETH0, MAC0, MAC0));
            assert!(!said.to.is_group() || said.to == ndp::group_mac(ndp::ALL_NODES) || defences > 0);
            answers += 1;
        }
        silent += u32::from(sent.is_empty());
    }
    assert!(answers > ROUNDS / 20 && silent > ROUNDS / 20, "answers {answers}, silent {silent}");
    let c = l2.counters();
    assert!(c.malformed > 0 && c.ignored > 0 && c.conflicts > 0 && c.seen > 0 && c.rival_probes > 0, "{c:?}");
    assert!((1..=OURS.len() as u64).contains(&c.defences), "each address at most once: {c:?}");
    // What answered is told at the end, and none of our own.
    let ended = run(&mut l2, Tick::from_millis(5 * 3_600_000));
    let by = |e: &Effect| if let Effect::Asked { by: Ok(by), .. } = e { Some(by.clone()) } else { None };
    let by: Vec<BTreeSet<MacAddr>> = ended.iter().filter_map(|(_, e)| by(e)).collect();
    assert_eq!(by.len(), 2);
    for by in by {
        assert!(by.contains(&STRANGER) && by.len() <= MAX_STRANGERS && by.iter().all(|m| *m != MAC0 && !m.is_group()));
    }
}
