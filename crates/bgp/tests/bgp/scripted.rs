//! A session and a peer that says what the test wants.

use super::*;
use engine::{Engine, Tick};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const OUT: ConnectionId = ConnectionId(1);
pub(crate) const IN: ConnectionId = ConnectionId(2);

pub(crate) struct Scripted {
    pub(crate) session: Session,
    pub(crate) now: Tick,
    /// What was written, by connection, not read by the test yet.
    written: BTreeMap<ConnectionId, Framer>,
    pub(crate) codec: Codec,
    /// Everything but what was written.
    pub(crate) effects: Vec<Effect>,
}

pub(crate) fn us() -> RouterId {
    "192.0.2.10".parse().unwrap()
}

pub(crate) fn config() -> Config {
    let families = Family::ALL.into_iter().map(|f| (f, FamilyConfig { graceful_restart: true, ..Default::default() }));
    Config {
        families: families.collect(),
        graceful_restart: Some(RestartConfig::default()),
        ..Config::new(asn(65000), us(), asn(65001))
    }
}

/// The OPEN of a peer that can do all that is named.
pub(crate) fn open(id: &str, capabilities: &[Capability]) -> Message {
    let mut all = vec![Capability::FourOctetAs(asn(65001)), Capability::RouteRefresh, Capability::EnhancedRouteRefresh];
    all.extend(Family::ALL.map(|f| Capability::Multiprotocol(f.afi_safi())));
    all.extend_from_slice(capabilities);
    Message::Open(Open {
        my_as: asn(65001),
        hold_time: HoldTime::new(30).unwrap(),
        router_id: id.parse().unwrap(),
        capabilities: all,
    })
}

pub(crate) fn restart(time: u16, notification: bool) -> Capability {
    let families = Family::ALL.map(|f| (f.afi_safi(), true)).to_vec();
    Capability::GracefulRestart(GracefulRestart { restarting: false, notification, restart_time: time, families })
}

pub(crate) fn route(s: &str) -> (Nlri, Option<Arc<Path>>) {
    (nlri(s), Some(Arc::new(Path::default())))
}

/// A peer's announcement of IPv4 prefixes.
pub(crate) fn announcement(prefixes: impl IntoIterator<Item = Nlri>) -> Message {
    let attributes = Attributes { as_path: AsPath::sequence([asn(65001)]), ..Default::default() };
    let next_hop = Some([192, 0, 2, 1].into());
    Message::Update(Box::new(Update {
        announced: prefixes.into_iter().collect(),
        attributes,
        next_hop,
        ..Default::default()
    }))
}

impl Scripted {
    pub(crate) fn new(config: Config) -> Scripted {
        let session = Session::new(Tick::ZERO, config, fastrand::Rng::with_seed(1));
        Scripted { session, now: Tick::ZERO, written: BTreeMap::new(), codec: modern(), effects: vec![] }
    }

    pub(crate) fn started(config: Config) -> Scripted {
        let mut s = Scripted::new(config);
        s.act(Input::Start);
        s.pass(1);
        s
    }

    /// Established on the connection that we opened.
    pub(crate) fn established(config: Config, capabilities: &[Capability]) -> Scripted {
        let mut s = Scripted::started(config);
        s.up(OUT);
        s.say(OUT, &open("192.0.2.1", capabilities));
        s.say(OUT, &Message::Keepalive);
        assert_eq!(s.session.state(), State::Established);
        s.heard(OUT);
        s.effects.clear();
        s
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.poll() {
            match effect {
                Effect::Write { connection, bytes } => self.written.entry(connection).or_default().push(&bytes),
                other => self.effects.push(other),
            }
        }
    }

    pub(crate) fn act(&mut self, input: Input) {
        self.session.handle(self.now, input);
        self.drain();
    }

    pub(crate) fn up(&mut self, connection: ConnectionId) {
        let direction = if connection == OUT { Direction::Outgoing } else { Direction::Incoming };
        self.act(Input::TcpUp { connection, direction, local: [192, 0, 2, 10].into() });
    }

    pub(crate) fn say(&mut self, connection: ConnectionId, message: &Message) {
        let bytes = encode(&self.codec, message);
        self.act(Input::Bytes { connection, bytes });
    }

    pub(crate) fn say_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.act(Input::Bytes { connection, bytes: bytes.to_vec() });
    }

    /// Lets time pass, waking the session exactly when it wants.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.session.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.session.timeout(self.now);
            self.drain();
            assert!(self.session.deadline().is_none_or(|next| next > self.now), "still due after its timeout");
        }
        self.now = until;
    }

    /// What was written since the last time.
    pub(crate) fn heard(&mut self, connection: ConnectionId) -> Vec<Message> {
        let Some(framer) = self.written.get_mut(&connection) else { return vec![] };
        let mut all = vec![];
        while let Some((kind, body)) = framer.next(true).unwrap() {
            all.push(self.codec.parse(kind, body).unwrap());
        }
        all
    }

    /// The NOTIFICATION that was the last thing written, and that the connection was closed after it.
    pub(crate) fn refused(&mut self, connection: ConnectionId) -> [u8; 2] {
        assert!(self.effects.contains(&Effect::Close { connection }), "not closed: {:?}", self.effects);
        match self.heard(connection).pop() {
            Some(Message::Notification(n)) => n.code.octets(),
            other => panic!("no NOTIFICATION but {other:?}"),
        }
    }

    pub(crate) fn connects(&self) -> usize {
        self.effects.iter().filter(|e| **e == Effect::Connect).count()
    }

    pub(crate) fn down(&self) -> Down {
        self.session.view().last_down.unwrap().1
    }

    pub(crate) fn received(&self) -> usize {
        self.session.received().count()
    }
}
