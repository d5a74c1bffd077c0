//! What leaves a node whose leases are over: nothing for an address that it owned.

use crate::frames::{A, B, arp, ethernet, next};
use crate::{cable, index, ip, tests};
use engine::MacAddr;
use net::{Fence, Groups, PacketSocket, now};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

tests![
    what_is_owned_leaves_until_its_lease_is_over,
    a_lease_that_is_renewed_again_and_again_never_shuts,
    each_class_has_its_own_end,
    what_is_not_owned_any_more_is_not_fenced,
    a_fence_stays_without_the_one_that_made_it_until_another_takes_its_place,
    a_fence_that_nobody_tends_opens_after_a_minute,
    a_fence_that_is_taken_away_is_gone,
    thousands_of_addresses_have_room,
    an_interface_that_is_gone_and_back_is_guarded_again,
    nothing_leaves_from_a_virtual_routers_mac_once_its_lease_is_over,
    frames_to_a_virtual_routers_mac_are_for_this_host_while_its_lease_runs,
];

const LONG: Duration = Duration::from_secs(60);
const V4: [u8; 4] = [192, 0, 2, 50];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50];

/// An answer of B, who says that it has the address.
fn answer(address: [u8; 4]) -> Vec<u8> {
    ethernet(A, 0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 2][..], &B, &address, &A, &[192, 0, 2, 1]].concat())
}

fn advertisement(address: [u8; 16]) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address, &[2, 1], &B].concat();
    let all_nodes = [&[0xff, 2][..], &[0; 13], &[1]].concat();
    let header = [&[0x60, 0, 0, 0, 0, message.len() as u8, 58, 255][..], &address, &all_nodes].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], 0x86dd, &[header, message].concat())
}

struct Lab {
    fence: Fence,
    here: PacketSocket,
    there: PacketSocket,
}

fn lab(own: &[([u8; 4], u32)]) -> Lab {
    cable();
    let mut fence = Fence::new().unwrap();
    fence.guard(&guarded()).unwrap();
    let own = own.iter().map(|(ip, class)| (IpAddr::from(*ip), *class));
    (1..=2).for_each(|class| fence.open(class, now()).unwrap());
    fence.own(&own.chain([(V6.into(), 1)]).collect(), &BTreeMap::new()).unwrap();
    Lab { fence, here: PacketSocket::open(index("b")).unwrap(), there: PacketSocket::open(index("a")).unwrap() }
}

fn guarded() -> BTreeSet<engine::IfIndex> {
    BTreeSet::from([index("b")])
}

impl Lab {
    /// Whether the frame comes out at the other end, by a second one of its family that is never fenced.
    fn leaves(&self, frame: &[u8]) -> bool {
        let is_arp = frame[12..14] == [0x08, 0x06];
        let mark = if is_arp { ethernet(A, 0x0806, &arp(1, [192, 0, 2, 99])) } else { advertisement([0xfd; 16]) };
        let _ = self.here.send(frame); // a frame that is dropped on its way out is told as an error
        self.here.send(&mark).unwrap();
        let first = next(&self.there);
        if first == mark {
            return false;
        }
        assert_eq!(first, frame);
        assert_eq!(next(&self.there), mark);
        true
    }
}

fn wait(how_long: Duration) {
    let until = now() + how_long;
    while now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn what_is_owned_leaves_until_its_lease_is_over() {
    let lab = lab(&[(V4, 1)]);
    assert!(!lab.leaves(&answer(V4)) && !lab.leaves(&advertisement(V6)), "owned, without a lease");
    let lease = Duration::from_millis(300);
    lab.fence.open(1, now() + lease).unwrap();
    let opened = now();
    let passed = lab.leaves(&answer(V4)) && lab.leaves(&advertisement(V6));
    assert!(passed || now() > opened + lease, "owned, with a lease");
    wait(lease + Duration::from_millis(20));
    assert!(!lab.leaves(&answer(V4)) && !lab.leaves(&advertisement(V6)), "owned, with a lease that is over");
    assert!(lab.leaves(&answer([192, 0, 2, 51])), "not owned: no concern of the fence");
    lab.fence.open(1, now() + LONG).unwrap();
    assert!(lab.leaves(&answer(V4)), "a new lease");
    lab.fence.open(1, now()).unwrap();
    assert!(!lab.leaves(&answer(V4)), "given back");
}

fn a_lease_that_is_renewed_again_and_again_never_shuts() {
    let lab = lab(&[(V4, 1)]);
    let lease = Duration::from_millis(400);
    for _ in 0..20 {
        let before = now();
        lab.fence.open(1, now() + lease).unwrap();
        wait(Duration::from_millis(30));
        let passed = lab.leaves(&answer(V4));
        assert!(passed || now() > before + lease);
    }
}

fn each_class_has_its_own_end() {
    let other = [192, 0, 2, 60];
    let lab = lab(&[(V4, 1), (other, 2)]);
    lab.fence.open(2, now() + LONG).unwrap();
    assert!(!lab.leaves(&answer(V4)));
    assert!(lab.leaves(&answer(other)));
}

fn what_is_not_owned_any_more_is_not_fenced() {
    let mut lab = lab(&[(V4, 1)]);
    assert!(!lab.leaves(&answer(V4)));
    lab.fence.own(&BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(lab.leaves(&answer(V4)) && lab.leaves(&advertisement(V6)));
    lab.fence.own(&BTreeMap::from([(V4.into(), 2)]), &BTreeMap::new()).unwrap();
    assert!(!lab.leaves(&answer(V4)));
}

fn a_fence_stays_without_the_one_that_made_it_until_another_takes_its_place() {
    let Lab { fence, here, there } = lab(&[(V4, 1)]);
    fence.open(1, now() + Duration::from_millis(50)).unwrap();
    drop(fence);
    wait(Duration::from_millis(60));
    let mut next = Fence::new().unwrap();
    let lab = Lab { fence: Fence::new().unwrap(), here, there };
    assert!(!lab.leaves(&answer(V4)), "the lease of the dead one is over");
    next.guard(&guarded()).unwrap();
    assert!(lab.leaves(&answer(V4)), "the new one owns nothing yet");
}

fn a_fence_that_nobody_tends_opens_after_a_minute() {
    let lab = lab(&[(V4, 1)]);
    assert!(!lab.leaves(&answer(V4)));
    let Some(long_ago) = now().0.checked_sub(70_000_000_000) else { panic!("this machine started just now") };
    lab.fence.open(1, engine::Tick(long_ago)).unwrap();
    assert!(lab.leaves(&answer(V4)));
}

fn a_fence_that_is_taken_away_is_gone() {
    let mut lab = lab(&[(V4, 1)]);
    assert!(!lab.leaves(&answer(V4)));
    lab.fence.guard(&BTreeSet::new()).unwrap();
    assert!(lab.leaves(&answer(V4)));
}

fn thousands_of_addresses_have_room() {
    let mut lab = lab(&[]);
    let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    let own: BTreeMap<_, _> = (0..5000).map(|n| (address(n), 1)).collect();
    lab.fence.own(&own, &BTreeMap::new()).unwrap();
    assert!(!lab.leaves(&answer([10, 0, 0x13, 0x87])));
    lab.fence.own(&own.into_iter().take(10).collect(), &BTreeMap::new()).unwrap();
    assert!(lab.leaves(&answer([10, 0, 0x13, 0x87])));
    assert!(!lab.leaves(&answer([10, 0, 0, 9])));
}

fn an_interface_that_is_gone_and_back_is_guarded_again() {
    let Lab { mut fence, .. } = lab(&[(V4, 1)]);
    fence.guard(&BTreeSet::from([engine::IfIndex(4711)])).unwrap();
    ip("link delete dev b");
    cable();
    fence.forget(index("b"));
    fence.guard(&guarded()).unwrap();
    let lab =
        Lab { fence, here: PacketSocket::open(index("b")).unwrap(), there: PacketSocket::open(index("a")).unwrap() };
    assert!(!lab.leaves(&answer(V4)));
}

/// Of virtual router 51 (RFC 9568 §7.3).
const ROUTER: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];

fn nothing_leaves_from_a_virtual_routers_mac_once_its_lease_is_over() {
    let mut lab = lab(&[]);
    let own = |lab: &mut Lab, router: [u8; 6]| {
        lab.fence.own(&BTreeMap::new(), &BTreeMap::from([(MacAddr(router), 1)])).unwrap();
    };
    // Whatever it says: this asks, for an address that nobody owns.
    let mut frame = ethernet(A, 0x0806, &arp(1, [192, 0, 2, 98]));
    frame[6..12].copy_from_slice(&ROUTER);
    assert!(lab.leaves(&frame), "a virtual router that is not owned");
    own(&mut lab, ROUTER);
    assert!(!lab.leaves(&frame));
    lab.fence.open(1, now() + LONG).unwrap();
    assert!(lab.leaves(&frame));
    lab.fence.open(1, now()).unwrap();
    own(&mut lab, [0, 0, 0x5e, 0, 1, 52]);
    assert!(lab.leaves(&frame), "another one is owned");
}

fn frames_to_a_virtual_routers_mac_are_for_this_host_while_its_lease_runs() {
    let Lab { mut fence, here, there } = lab(&[]);
    let mut groups = Groups::new();
    groups.take_in(BTreeSet::from([(index("b"), MacAddr(ROUTER))])).unwrap();
    assert!(ip("-d link show dev b").contains("02:00:00:00:00:0b"), "its own address stays");
    let frame = ethernet(ROUTER, 0x0806, &arp(1, [192, 0, 2, 98]));
    let mark = ethernet(B, 0x0806, &arp(1, [192, 0, 2, 99]));
    let comes = || {
        there.send(&frame).unwrap();
        there.send(&mark).unwrap();
        let first = next(&here);
        first == frame && next(&here) == mark
    };
    assert!(!comes(), "it is not owned");
    fence.own(&BTreeMap::new(), &BTreeMap::from([(MacAddr(ROUTER), 1)])).unwrap();
    assert!(!comes(), "there is no lease");
    fence.open(1, now() + LONG).unwrap();
    assert!(comes());
    fence.open(1, now()).unwrap();
    assert!(!comes(), "the lease is over");
    fence.open(1, now() + LONG).unwrap();
    fence.own(&BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(!comes(), "it is given up");
}
