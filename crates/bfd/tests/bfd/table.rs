//! Which session a packet is for.

use super::*;
use bfd::{Path, Table, Unknown};
use engine::IfIndex;
use std::collections::BTreeSet;
use std::net::IpAddr;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn single(interface: u32, peer: &str) -> Path {
    Path::Single { interface: IfIndex(interface), peer: ip(peer) }
}

fn multi(local: &str, peer: &str) -> Path {
    Path::Multi { local: ip(local), peer: ip(peer) }
}

fn naming(your: Option<Discriminator>) -> Vec<u8> {
    let mut control = peer(State::Down);
    control.your = your;
    control.emit()
}

#[test]
fn a_packet_that_names_no_session_is_for_the_one_on_its_path() {
    let (mut table, mut rng) = (Table::default(), fastrand::Rng::with_seed(1));
    // A link-local peer of the same address on two interfaces, and the same peer over many hops.
    let paths = [
        single(2, "fe80::1"),
        single(3, "fe80::1"),
        single(2, "192.0.2.1"),
        multi("198.51.100.1", "192.0.2.1"),
        multi("198.51.100.2", "192.0.2.1"),
    ];
    let names = paths.map(|p| table.insert(p, &mut rng).unwrap());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), paths.len());
    for (path, name) in paths.iter().zip(names) {
        assert_eq!(table.find(&[*path], &naming(None)), Ok(name));
    }
    for stranger in [single(4, "fe80::1"), single(2, "192.0.2.9"), multi("198.51.100.3", "192.0.2.1")] {
        assert_eq!(table.find(&[stranger], &naming(None)), Err(Unknown::Path));
    }
    assert_eq!(table.unknown(), &[(Unknown::Path, 3)].into());
}

#[test]
fn a_packet_that_names_a_session_is_for_it_from_whatever_address_of_the_same_port() {
    let (mut table, mut rng) = (Table::default(), fastrand::Rng::with_seed(1));
    let name = table.insert(single(2, "192.0.2.1"), &mut rng).unwrap();
    assert_eq!(table.find(&[single(2, "192.0.2.77")], &naming(Some(name))), Ok(name));
    let far = multi("198.51.100.1", "192.0.2.1");
    assert_eq!(table.find(&[far], &naming(Some(name))), Err(Unknown::Discriminator));
    let other = Discriminator::new(name.get() ^ 1);
    assert_eq!(table.find(&[single(2, "192.0.2.1")], &naming(other)), Err(Unknown::Discriminator));
    assert_eq!(table.find(&[single(2, "192.0.2.1")], &naming(None)[..11]), Err(Unknown::Short));
    assert_eq!(table.unknown(), &[(Unknown::Short, 1), (Unknown::Discriminator, 2)].into());
}

#[test]
fn a_path_has_one_session_at_a_time() {
    let (mut table, mut rng) = (Table::default(), fastrand::Rng::with_seed(1));
    let path = single(2, "192.0.2.1");
    let first = table.insert(path, &mut rng).unwrap();
    assert_eq!(table.insert(path, &mut rng), None);
    assert_eq!(table.remove(first), Some(path));
    assert_eq!(table.remove(first), None);
    assert_eq!(table.find(&[path], &naming(Some(first))), Err(Unknown::Discriminator));
    assert_eq!(table.find(&[path], &naming(None)), Err(Unknown::Path));
    assert_ne!(table.insert(path, &mut rng), Some(first));
}

#[test]
fn a_packet_that_may_have_come_by_several_paths_is_for_the_first_that_has_a_session() {
    let (mut table, mut rng) = (Table::default(), fastrand::Rng::with_seed(1));
    let (device, interface) = (single(0, "192.0.2.1"), single(2, "192.0.2.1"));
    let plain = table.insert(interface, &mut rng).unwrap();
    assert_eq!(table.find(&[device, interface], &naming(None)), Ok(plain));
    let bound = table.insert(device, &mut rng).unwrap();
    assert_eq!(table.find(&[device, interface], &naming(None)), Ok(bound));
    assert!(table.unknown().is_empty(), "a path without a session is no packet that nobody has");
}
