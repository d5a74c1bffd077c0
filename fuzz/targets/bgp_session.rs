//! A session whose peer says anything: it ends, or goes on, but never panics, and what it remembers is bounded.

#![no_main]

use bgp::{
    Asn, Config, ConnectionId, Direction, Effect, Family, FamilyConfig, Input, MaxPrefixes, Path, Prefix,
    RestartConfig, RouterId, Session,
};
use engine::{Engine, Tick};
use std::sync::Arc;
use std::time::Duration;

const CONNECTION: ConnectionId = ConnectionId(1);
const MOST: u32 = 50;

fn config() -> Option<Config> {
    let family = FamilyConfig { add_path_receive: true, add_path_send: 10, graceful_restart: true, long_lived: 60 };
    Some(Config {
        families: Family::ALL.into_iter().map(|f| (f, family)).collect(),
        graceful_restart: Some(RestartConfig::default()),
        max_prefixes: MaxPrefixes { limit: MOST, ..MaxPrefixes::default() },
        ..Config::new(Asn::new(50000)?, RouterId::new([10, 1, 0, 1].into())?, Asn::new(50001)?)
    })
}

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let Some(config) = config() else { return };
    let mut now = Tick::ZERO;
    let mut session = Session::new(now, config, fastrand::Rng::with_seed(1));
    let route = (bgp::Nlri::of(Prefix::host([10, 65, 0, 1].into())), Arc::new(Path::default()));
    session.handle(now, Input::Routes(Arc::new([route].into())));
    session.handle(now, Input::Start);
    session.timeout(now);
    let local = [10, 1, 0, 1].into();
    session.handle(now, Input::TcpUp { connection: CONNECTION, direction: Direction::Outgoing, local });
    // In pieces, with time between them.
    let mut rest = octets;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(700));
        rest = more;
        session.handle(now, Input::Bytes { connection: CONNECTION, bytes: piece.to_vec() });
        now = now + Duration::from_millis(500);
        session.timeout(now);
        while let Some(effect) = session.poll() {
            if let Effect::Write { connection, bytes } = effect {
                session.handle(now, Input::Sent { connection, bytes: bytes.len() });
            }
        }
    }
    assert!(session.received().count() <= 2 * MOST as usize);
    assert!(session.deadline().is_none_or(|at| at > now), "still due");
});
