//! Hundreds of thousands of damaged packets: no panic, every one counted in exactly one way, and no more sent than the
//! rules for answers allow.

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

/// Makes the lengths and the name right, so that damage behind them is reached.
fn repair(message: &mut Vec<u8>) {
    message.resize(message.len().max(24), 0);
    message.truncate(255);
    (message[0], message[3]) = (message[0] & 0x1f | 0x20, message.len() as u8);
    message[8..12].copy_from_slice(&ours().get().to_be_bytes());
    if message.len() > 25 {
        message[25] = (message.len() - 24) as u8;
    }
}

#[test]
fn damaged_packets_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(0x6266_6464);
    let corpus = captured::messages();
    let mut sessions = [None, Some(Method::Password), Some(Method::KeyedSha1), Some(Method::MeticulousSha1)]
        .map(|method| session(|s| s.authentication = method.map(auth)));
    let mut now = at(1);
    for round in 0..ROUNDS {
        let mut message = corpus[rng.usize(0..corpus.len())].clone();
        mutate(&mut message, &mut rng);
        if rng.u8(0..4) != 0 {
            repair(&mut message);
        }
        let ttl = if rng.u8(0..8) == 0 { rng.u8(..) } else { TTL };
        now = now + Duration::from_micros(rng.u64(0..2000));
        let session = &mut sessions[rng.usize(0..4)];
        session.timeout(now);
        drain(session);
        let noted =
            |s: &Session| s.counters().received + s.counters().ignored + s.counters().refused.values().sum::<u64>();
        let before = noted(session);
        session.handle(now, Input::Packet { ttl, message: message.clone() });
        let effects = drain(session);
        assert_eq!(noted(session), before + 1, "round {round}: {message:02x?}");
        let sends = effects.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
        assert!(sends <= 2, "round {round}: {message:02x?} made {effects:?}");
        assert!(session.deadline().is_none_or(|d| d > now));
    }
    for session in &sessions {
        let c = session.counters();
        let method = session.config().authentication.as_ref().map(|a| a.method);
        let refused: u64 = c.refused.values().sum();
        assert!(refused > 5000 && c.refused.len() >= 8, "{method:?} {c:?}");
        // No forged digest was right; what has none, or a password, got through.
        let guessable = matches!(method, None | Some(Method::Password));
        assert_eq!(c.received > 500, guessable, "{method:?} {c:?}");
        // 100 a second at once, and the periodic ones.
        assert!(c.sent <= now.0 / 1_000_000_000 * 110 + 200, "{c:?}");
    }
}
