//! Hundreds of thousands of damaged advertisements: no panic, every one counted in exactly one way, and no more sent
//! than the rules for answers allow.

use super::*;

const ROUNDS: u32 = 300_000;

fn mutate(message: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.u32(0..5) {
        let at = rng.usize(0..message.len().max(1));
        match rng.u8(0..7) {
            0 => message.truncate(at),
            1 => message.extend(std::iter::repeat_with(|| rng.u8(..)).take(16).collect::<Vec<_>>()),
            2 if at < message.len() => message.insert(at, rng.u8(..)),
            3 if at < message.len() => drop(message.remove(at)),
            4 if at < message.len() => message[at] = [0, 1, 2, 0x7f, 0x80, 0xff][rng.usize(0..6)],
            5 if at < message.len() => message[at] ^= 1 << rng.u8(0..8),
            _ if at < message.len() => message[at] = rng.u8(..),
            _ => {}
        }
    }
}

/// Makes length and checksum right, so that damage behind them is reached.
fn repair(meta: &Meta, message: &mut Vec<u8>) {
    message.resize(message.len().max(8), 0);
    let (v6, v2) = (meta.source.is_ipv6(), message[0] >> 4 == 2);
    let rest = message.len() - 8 - if v2 { message.len().min(16) - 8 } else { 0 };
    message[3] = (rest / if v6 { 16 } else { 4 }) as u8;
    message[6..8].fill(0);
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let mut summed = message.clone();
    if !v2 {
        summed.resize(summed.len().next_multiple_of(2), 0);
        summed.extend(octets(meta.source));
        summed.extend(octets(meta.destination));
        summed.extend((message.len() as u16).to_be_bytes());
        summed.extend([0, 112]);
    }
    let mut sum = summed.chunks(2).fold(0u32, |s, w| s + u32::from(w[0]) * 256 + w.get(1).map_or(0, |o| u32::from(*o)));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn targets() -> Vec<Router> {
    let v2 = |s: &mut Settings| s.version = Version::V2;
    let v6 = |s: &mut Settings| (s.source, s.addresses) = (ip("fe80::b"), vec![ip("fe80::7"), ip("2001:db8::7")]);
    let led = |s: &mut Settings| s.mode = Mode::Led { members: BTreeSet::new() };
    let unicast = |s: &mut Settings| (s.source, s.peers) = (ip("192.0.2.2"), [ip("192.0.2.1")].into());
    let changes: [&dyn Fn(&mut Settings); 5] = [&|_| {}, &v2, &v6, &led, &unicast];
    changes.iter().map(started).collect()
}

#[test]
fn damaged_advertisements_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(0x7672_7270);
    let (corpus, mut routers) = (captured::all(), targets());
    let mut now = at(1);
    for round in 0..ROUNDS {
        let (mut meta, mut message) = corpus[rng.usize(0..corpus.len())].clone();
        if rng.u8(0..8) == 0 {
            meta.ttl = rng.u8(..);
        }
        mutate(&mut message, &mut rng);
        if rng.bool() {
            // For the one id that they all have, so that most are for them.
            if let Some(vrid) = message.get_mut(1) {
                *vrid = 7;
            }
            repair(&meta, &mut message);
        }
        now = now + Duration::from_micros(rng.u64(0..2000));
        let router = &mut routers[rng.usize(0..5)];
        router.timeout(now);
        drain(router);
        let noted = |r: &Router| {
            let c = r.counters();
            c.received + c.malformed + c.refused + c.other + c.own
        };
        let before = noted(router);
        router.handle(now, Input::Packet { meta, message: message.clone() });
        let effects = drain(router);
        assert_eq!(noted(router), before + 1, "round {round}: {meta:?} {message:02x?}");
        let sends = effects.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
        assert!(sends <= 1, "round {round}: {meta:?} {message:02x?} made {effects:?}");
    }
    for router in &routers {
        let c = router.counters();
        assert!(c.received > 500 && c.malformed > 500, "{:?} {c:?}", router.config().mode);
        // What damaged advertisements can make it send: no more than 100 a second.
        assert!(c.sent <= now.0 / 10_000_000, "{c:?}");
    }
}
