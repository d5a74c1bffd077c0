//! BFD sessions, with and without authentication, whose peer sends anything: packets are found their session, count or do
//! not, and nothing is ever due in the past.

#![no_main]

use bfd::{Authentication, Config, Hops, Input, Interval, Key, Method, Path, Session, Settings, Table};
use engine::{Engine, IfIndex, Tick};
use std::num::NonZeroU8;
use std::time::Duration;

fn config(choice: u8) -> Option<Config> {
    let interval = Interval::try_from(50_000).ok()?;
    let methods = [Method::Password, Method::KeyedSha1, Method::MeticulousSha1];
    let key: Key = "s3cret".parse().ok()?;
    let authentication = methods.get(usize::from(choice & 3)).map(|method| Authentication {
        method: *method,
        send: 7,
        keys: [(7, key)].into(),
    });
    let hops = if choice & 4 == 0 { Hops::Single } else { Hops::Multi { least_ttl: 250 } };
    let multiplier = NonZeroU8::new(3)?;
    Config::new(Settings { hops, transmit: interval, receive: interval, multiplier, authentication }).ok()
}

// The first octet chooses the session; then for each packet its length, its TTL and itself.
libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let Some((choice, mut rest)) = octets.split_first() else { return };
    let (Some(config), mut rng) = (config(*choice), fastrand::Rng::with_seed(1)) else { return };
    let (mut now, mut table) = (Tick::ZERO, Table::default());
    let path = Path::Single { interface: IfIndex(2), peer: [10, 1, 0, 2].into() };
    let Some(discriminator) = table.insert(path.clone(), &mut rng) else { return };
    let mut session = Session::new(now, config, discriminator, rng);
    while let [length, ttl, more @ ..] = rest {
        let (message, more) = more.split_at(more.len().min((*length).into()));
        rest = more;
        if table.find(&[path], message).is_ok() {
            session.handle(now, Input::Packet { ttl: *ttl, message: message.to_vec() });
        }
        now = now + Duration::from_millis(u64::from(*ttl));
        session.timeout(now);
        while session.poll().is_some() {}
        assert!(session.deadline().is_none_or(|at| at > now), "still due");
    }
});
