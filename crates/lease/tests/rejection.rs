//! What is refused, and that it is named and changes nothing.

mod simulator;

use oxelb_lease::{Effect, Input, Key, Reject};
use simulator::{KEY, Sim, addr, ip, ms, name};

/// Two speakers, and packets from 1 to 0 recorded while it ran.
fn recorded() -> (Sim, Vec<Vec<u8>>) {
    let mut sim = Sim::settled(1, 2, 10);
    sim.tap = Some(Vec::new());
    sim.run(ms(20_000)); // more than a window of packets
    let tape = sim.tap.take().unwrap_or_default();
    (sim, tape.into_iter().filter(|(to, _, _)| *to == 0).map(|(_, _, bytes)| bytes).collect())
}

fn send(sim: &mut Sim, bytes: Vec<u8>) {
    sim.handle(0, Input::Packet { from: addr(1), bytes });
}

#[test]
fn a_replayed_packet_is_refused_and_named_and_does_not_keep_the_dead_alive() {
    let (mut sim, tape) = recorded();
    sim.kill(1);
    for at in [0, tape.len() / 2, tape.len() - 1] {
        send(&mut sim, tape[at].clone());
    }
    assert_eq!(sim.rejected(0), [Reject::Replay(name(1))], "told once");
    for _ in 0..100 {
        sim.run(ms(10));
        tape.iter().step_by(10).for_each(|bytes| send(&mut sim, bytes.clone()));
    }
    assert_eq!(sim.nodes[0].owned.len(), 10);
    assert!(sim.nodes[0].log.iter().any(|(_, e)| *e == Effect::Dead(name(1))));
}

#[test]
fn a_recording_of_an_earlier_start_is_a_replay() {
    let (mut sim, tape) = recorded();
    sim.kill(1);
    sim.run(ms(2000));
    sim.start(1);
    sim.run(ms(2000));
    let before = sim.all();
    for bytes in tape {
        send(&mut sim, bytes);
    }
    assert_eq!(sim.rejected(0), [Reject::Replay(name(1))]);
    sim.run(ms(2000));
    assert_eq!(sim.all(), before);
}

/// Nobody who is not configured is believed before it has heard us.
#[test]
fn a_recording_of_an_unknown_node_is_not_believed() {
    let (mut sim, tape) = recorded();
    sim.kill(1);
    sim.run(ms(1000));
    sim.nodes[0].config.peers.clear();
    sim.kill(0);
    sim.start(0);
    for bytes in tape {
        send(&mut sim, bytes);
        sim.run(ms(5));
    }
    assert!(sim.nodes[0].engine.as_ref().unwrap().view().alive.is_empty());
    assert_eq!(sim.nodes[0].owned.len(), 10);
}

#[test]
fn another_key_another_version_and_damaged_packets_are_named_and_change_nothing() {
    let (mut sim, tape) = recorded();
    let before = sim.all();
    let good = tape[tape.len() - 1].clone();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    send(&mut sim, with(4, 9));
    send(&mut sim, with(10, 255));
    send(&mut sim, good[..good.len() - 1].to_vec());
    send(&mut sim, good[..30].to_vec());
    send(&mut sim, vec![0; 9000]);
    assert_eq!(sim.rejected(0), [Reject::Version(9), Reject::Key, Reject::Malformed]);
    assert_eq!(sim.all(), before);
}

#[test]
fn speakers_with_different_keys_do_not_hear_each_other_and_say_why() {
    let mut sim = Sim::settled(1, 2, 10);
    sim.nodes[1].config.keys = vec![Key::new(*b"quite another key")];
    sim.configure(1);
    sim.run(ms(1000));
    assert_eq!(sim.rejected(0), [Reject::Key]);
    assert_eq!(sim.rejected(1), [Reject::Key]);
}

#[test]
fn keys_are_rotated_without_a_move() {
    let mut sim = Sim::settled(1, 3, 30);
    let before = sim.all();
    let (old, new) = (Key::new(KEY), Key::new(*b"fedcba9876543210"));
    for keys in [vec![old.clone(), new.clone()], vec![new.clone(), old], vec![new]] {
        for n in 0..3 {
            sim.nodes[n].config.keys = keys.clone();
            sim.configure(n);
            sim.run(ms(700));
        }
    }
    assert_eq!(sim.all(), before);
    assert!((0..3).all(|n| sim.rejected(n).is_empty()));
}

#[test]
fn without_a_key_a_speaker_with_peers_owns_nothing_and_keeps_an_old_key_when_the_new_is_missing() {
    let mut sim = Sim::new(1, 2);
    (0..10).for_each(|a| sim.allow(a, 0..2));
    for n in 0..2 {
        sim.nodes[n].config.keys.clear();
        sim.start(n);
    }
    sim.run(ms(5000));
    assert!(sim.nodes.iter().all(|n| n.owned.is_empty()));
    (0..2).for_each(|n| sim.nodes[n].config.keys = vec![Key::new(KEY)]);
    sim.configure_all();
    sim.run(ms(1000));
    sim.assert_one_owner_each();
    let before = sim.all();
    (0..2).for_each(|n| sim.nodes[n].config.keys.clear());
    sim.configure_all();
    sim.run(ms(2000));
    assert_eq!(sim.all(), before);
}

#[test]
fn two_nodes_with_one_name_and_a_wrong_address_are_named() {
    let mut sim = Sim::settled(1, 3, 10);
    // Node 2 says that it is node 1: node 0 hears one sender with two starts, node 1 hears itself.
    sim.kill(2);
    sim.nodes[2].config.node = name(1);
    sim.nodes[2].config.peers.insert(name(1), addr(1));
    sim.nodes[2].config.peers.insert(name(2), addr(1));
    sim.start(2);
    sim.run(ms(1000));
    assert!(sim.rejected(1).contains(&Reject::OwnName));
    // And node 0 sends what is for node 2 to node 1.
    sim.nodes[0].config.peers.insert(name(2), addr(1));
    sim.configure(0);
    sim.run(ms(1000));
    assert!(sim.rejected(1).contains(&Reject::NotForUs(name(2))));
    assert!(sim.owners(ip(0)).len() <= 2);
}

#[test]
fn strangers_that_hold_the_key_are_bounded() {
    let mut sim = Sim::settled(1, 2, 10);
    let before = sim.all();
    for n in 100..300 {
        sim.nodes[1].config.node = name(n);
        let config = sim.nodes[1].config.clone();
        let mut other = oxelb_lease::Lease::new(u128::from(n as u64) << 64, fastrand::Rng::with_seed(1));
        engine::Engine::handle(&mut other, engine::Tick::ZERO, Input::Configure(Box::new(config)));
        while let Some(effect) = engine::Engine::poll(&mut other) {
            if let Effect::Send { bytes, .. } = effect {
                sim.handle(0, Input::Packet { from: addr(n % 200), bytes });
            }
        }
    }
    // 64 are remembered; of the refusals of the other 136, those of 64 sources are told.
    assert_eq!(sim.rejected(0).len(), 64);
    assert!(sim.rejected(0).iter().all(|r| matches!(r, Reject::Stranger(_))));
    assert_eq!(sim.nodes[0].owned, before[0]);
}
