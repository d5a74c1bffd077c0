//! What speakers send to each other while nothing happens, as one line of JSON: packets and bytes of UDP payload a second
//! and node, the busiest node's, for numbers of speakers and addresses. The real engines on a network that loses nothing,
//! by a simulated clock. Run it with `--release`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use engine::{Engine, Tick};
use lease::{Address, Config, Effect, Epoch, Input, Key, Lease, Start};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Until every address has its owner, and for how long it is counted then.
const SETTLE: Duration = Duration::from_secs(15);
const COUNT: Duration = Duration::from_secs(10);
const DELAY: Duration = Duration::from_micros(200);

fn name(n: usize) -> String {
    format!("node-{n:03}")
}

fn at(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 7946))
}

fn config(n: usize, nodes: usize, addresses: usize) -> Config {
    let acceptors = match nodes {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    };
    let candidates: Arc<BTreeSet<String>> = Arc::new((0..nodes).map(name).collect());
    let address = |a: usize| {
        (
            IpAddr::from((0x0a01_0000 + a as u32).to_be_bytes()),
            Address { candidates: candidates.clone(), ..Address::default() },
        )
    };
    Config {
        node: name(n),
        peers: (0..nodes).filter(|p| *p != n).map(|p| (name(p), vec![at(p)])).collect(),
        keys: vec![Key::new(b"0123456789abcdef".to_vec())],
        epoch: Epoch::new(1, (0..acceptors).map(name)),
        addresses: (0..addresses).map(address).collect(),
        ..Config::default()
    }
}

/// Who, and a packet that reaches it, with its source; else its timer is due.
type Event = (usize, Option<(SocketAddr, Vec<u8>)>);

struct Run {
    now: Tick,
    nodes: Vec<Lease>,
    /// By when it happens, and in which order.
    queue: BTreeMap<(Tick, u64), Event>,
    events: u64,
    sent: Vec<(u64, u64)>,
}

impl Run {
    fn put(&mut self, at: Tick, n: usize, packet: Option<(SocketAddr, Vec<u8>)>) {
        self.events += 1;
        self.queue.insert((at, self.events), (n, packet));
    }

    fn effects(&mut self, n: usize) {
        while let Some(effect) = self.nodes[n].poll() {
            match effect {
                Effect::Send { to, bytes } => {
                    self.sent[n].0 += 1;
                    self.sent[n].1 += bytes.len() as u64;
                    let SocketAddr::V4(to) = to else { unreachable!() };
                    self.put(self.now + DELAY, to.ip().octets()[3].into(), Some((at(n), bytes)));
                }
                Effect::Record(epoch) => self.nodes[n].handle(self.now, Input::Recorded(epoch.id())),
                Effect::Ask(address) => self.nodes[n].handle(self.now, Input::Wire { address, heard: false }),
                _ => {}
            }
        }
    }

    fn until(&mut self, end: Tick) {
        while let Some(((when, _), (n, packet))) = self.queue.first_key_value().map(|(k, v)| (*k, v.clone())) {
            if when > end {
                break;
            }
            self.queue.pop_first();
            self.now = when;
            let is_timer = packet.is_none();
            match packet {
                Some((from, bytes)) => self.nodes[n].handle(when, Input::Packet { from, bytes }),
                None => self.nodes[n].timeout(when),
            }
            self.effects(n);
            if is_timer {
                let next = self.nodes[n].deadline().unwrap_or(when + DELAY).max(when + Duration::from_micros(100));
                self.put(next, n, None);
            }
        }
        self.now = end;
    }
}

/// Packets and bytes a second of the busiest node.
fn cost(nodes: usize, addresses: usize) -> (f64, f64) {
    let lease = |n| Lease::new(Start { boot: n as u128 + 1, recorded: None }, fastrand::Rng::with_seed(n as u64));
    let mut run = Run {
        now: Tick::ZERO,
        nodes: (0..nodes).map(lease).collect(),
        queue: BTreeMap::new(),
        events: 0,
        sent: vec![(0, 0); nodes],
    };
    for n in 0..nodes {
        run.nodes[n].handle(Tick::ZERO, Input::Configure(Box::new(config(n, nodes, addresses))));
        run.effects(n);
        run.put(Tick::ZERO + DELAY * n as u32, n, None);
    }
    run.until(Tick::ZERO + SETTLE);
    let owned: usize = run.nodes.iter().map(|node| node.owned().len()).sum();
    assert_eq!(owned, addresses, "not every address has one owner");
    run.sent.fill((0, 0));
    run.until(Tick::ZERO + SETTLE + COUNT);
    let most = |pick: fn(&(u64, u64)) -> u64| run.sent.iter().map(pick).max().unwrap() as f64 / COUNT.as_secs_f64();
    (most(|s| s.0), most(|s| s.1))
}

fn main() {
    let mut rows = Vec::new();
    for nodes in [3, 10, 100] {
        for addresses in [1, 100, 1000] {
            let (packets, bytes) = cost(nodes, addresses);
            rows.push(format!(
                r#"{{"speakers":{nodes},"addresses":{addresses},"packets":{packets:.1},"bytes":{bytes:.0}}}"#
            ));
        }
    }
    println!("[{}]", rows.join(","));
}
