//! Addresses for which their owner speaks with the MAC address of a virtual router.

use super::*;
use oxelb_l2::wire::ethernet::Frame;

const A: &str = "198.51.100.7";
const B: &str = "2001:db8::7";
/// Without a virtual router.
const C: &str = "198.51.100.8";
const HOST: &str = "198.51.100.200";
const HOST6: &str = "2001:db8::c1";
const ROUTER: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 51]);
const ROUTER6: MacAddr = MacAddr([0, 0, 0x5e, 0, 2, 51]);

fn routers() -> Input {
    Input::VirtualMacs(BTreeMap::from([(ip(A), ROUTER), (ip(B), ROUTER6)]))
}

fn node() -> L2 {
    let mut l2 = super::node(&[]);
    l2.handle(Tick::ZERO, routers());
    l2.handle(Tick::ZERO, owned(&[(A, &[ETH0]), (B, &[ETH0]), (C, &[ETH0])]));
    l2
}

/// For which address a frame speaks, from and with which MAC address.
fn spoken(frames: &[(IfIndex, Vec<u8>)]) -> BTreeSet<(IpAddr, MacAddr)> {
    let each = frames.iter().map(|(_, frame)| {
        let ethernet = Frame::parse(frame).unwrap();
        let (address, mac) = match arp::Packet::parse(ethernet.payload) {
            Ok(packet) => (packet.sender_ip.into(), packet.sender_mac),
            Err(_) => match ndp::Packet::parse(ethernet.payload).unwrap().unwrap().message {
                ndp::Message::Advertisement { target, target_mac, .. } => (target.into(), target_mac.unwrap()),
                ndp::Message::Solicitation { .. } => panic!("a question"),
            },
        };
        assert_eq!(ethernet.source, mac, "switches learn from the frame, hosts from what is in it");
        (address, mac)
    });
    each.collect()
}

#[test]
fn it_is_announced_and_answered_for_with_the_virtual_mac() {
    let mut l2 = node();
    let all = BTreeSet::from([(ip(A), ROUTER), (ip(B), ROUTER6), (ip(C), MAC0)]);
    assert_eq!(spoken(&sent(&drain(&mut l2))), all);
    let questions = [
        (arp_request(CLIENT, HOST, A), (ip(A), ROUTER)),
        (solicitation(CLIENT, HOST6, B, Some(CLIENT)), (ip(B), ROUTER6)),
        (arp_request(CLIENT, HOST, C), (ip(C), MAC0)),
    ];
    for (question, answer) in questions {
        assert_eq!(spoken(&frames(&mut l2, Tick(1), ETH0, question)), [answer].into());
    }
}

#[test]
fn a_client_that_asks_the_virtual_mac_itself_is_answered_by_its_owner_alone() {
    let mut request = arp_request(CLIENT, HOST, A);
    request[..6].copy_from_slice(&ROUTER.0);
    let mut l2 = node();
    drain(&mut l2);
    assert_eq!(spoken(&frames(&mut l2, Tick(1), ETH0, request.clone())), [(ip(A), ROUTER)].into());
    l2.handle(Tick(2), owned(&[(B, &[ETH0])]));
    drain(&mut l2);
    assert_eq!(frames(&mut l2, Tick(3), ETH0, request), []);
}

#[test]
fn a_frame_from_an_owned_virtual_mac_is_no_strangers_and_from_one_of_others_it_is_seen() {
    // What the owner before sent last, or a switch that gives frames back.
    let claim = arp_reply(ROUTER, A, HOST);
    let mut l2 = node();
    drain(&mut l2);
    assert_eq!(act(&mut l2, Tick(1), Input::Frame { on: ETH0, bytes: claim.clone() }), []);
    let mut other = super::node(&[]);
    other.handle(Tick::ZERO, routers());
    other.handle(Tick::ZERO, watch(&[(A, &[ETH0])]));
    drain(&mut other);
    let seen = Effect::Seen { address: ip(A), on: ETH0, mac: ROUTER };
    assert_eq!(act(&mut other, Tick(1), Input::Frame { on: ETH0, bytes: claim }), [seen]);
}

#[test]
fn a_virtual_mac_that_changes_is_announced_at_once_and_no_old_frame_leaves() {
    let mut l2 = node();
    drain(&mut l2);
    run(&mut l2, Tick::from_millis(100_000));
    // The answer waits while it changes.
    l2.handle(Tick::from_millis(100_000), Input::Frame { on: ETH0, bytes: arp_request(CLIENT, HOST, A) });
    l2.handle(Tick::from_millis(100_000), Input::VirtualMacs(BTreeMap::from([(ip(B), ROUTER6)])));
    assert_eq!(spoken(&sent(&drain(&mut l2))), [(ip(A), MAC0)].into());
}
