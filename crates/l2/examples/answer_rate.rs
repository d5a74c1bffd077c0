//! What an answer costs, as JSON for the benchmarks: nanoseconds for one request, from the frame that came in to the
//! frame to send, by how many addresses are owned. Build it with `--release`.

use engine::{Engine, IfIndex, MacAddr, Tick};
use oxelb_l2::wire::{arp, ndp};
use oxelb_l2::{Effect, Input, L2, Link};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

const ON: IfIndex = IfIndex(2);
const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ASKED: u32 = 10_000;
const ROUNDS: u32 = 20;

fn ipv4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

fn ipv6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from((0x2001_0db8_u128 << 96) + u128::from(n))
}

fn arp_request(n: u32) -> Vec<u8> {
    let operation = arp::Operation::Request;
    let sender_ip = Ipv4Addr::new(192, 0, 2, 1);
    arp::Packet { operation, sender_mac: CLIENT, sender_ip, target_mac: MacAddr::ZERO, target_ip: ipv4(n) }
        .frame(MacAddr::BROADCAST)
}

fn solicitation(n: u32) -> Vec<u8> {
    let target = ipv6(n);
    let destination = ndp::solicited_node(target);
    let message = ndp::Message::Solicitation { target, source_mac: Some(CLIENT) };
    ndp::Packet { source: ipv6(u32::MAX), destination, message }.frame(CLIENT, ndp::group_mac(destination))
}

/// Nanoseconds for one answer, in the best of several rounds.
fn cost(owned: u32, address: fn(u32) -> IpAddr, request: fn(u32) -> Vec<u8>) -> f64 {
    let mut l2 = L2::new(fastrand::Rng::with_seed(1));
    l2.handle(Tick::ZERO, Input::Links(BTreeMap::from([(ON, Link { mac: US, up: true, name: "eth0".to_owned() })])));
    l2.handle(Tick::ZERO, Input::Addresses((0..owned).map(|n| (address(n), BTreeSet::from([ON]))).collect()));
    while l2.poll().is_some() {}
    let requests: Vec<Vec<u8>> = (0..ASKED).map(|i| request(i.wrapping_mul(7919) % owned)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let inputs: Vec<Input> = requests.iter().map(|bytes| Input::Frame { on: ON, bytes: bytes.clone() }).collect();
        let mut answers = 0;
        let start = Instant::now();
        for input in inputs {
            l2.handle(Tick(1), input);
            while let Some(Effect::Send { .. }) = l2.poll() {
                answers += 1;
            }
        }
        let nanos = start.elapsed().as_nanos() as f64;
        assert_eq!(answers, ASKED, "a request was not answered");
        best = best.min(nanos / f64::from(ASKED));
    }
    best
}

fn main() -> std::io::Result<()> {
    let costs = |address: fn(u32) -> IpAddr, request: fn(u32) -> Vec<u8>| -> BTreeMap<String, f64> {
        [1, 1_000, 100_000].map(|owned| (owned.to_string(), cost(owned, address, request).round())).into()
    };
    let report = serde_json::json!({
        "arp_ns_per_answer": costs(|n| ipv4(n).into(), arp_request),
        "ndp_ns_per_answer": costs(|n| ipv6(n).into(), solicitation),
    });
    writeln!(std::io::stdout(), "{report}")
}
