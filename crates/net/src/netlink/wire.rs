//! rtnetlink as bytes: the few requests that we make and the few attributes that we read.
//!
//! It reads only what it needs and skips all else, so that a newer kernel with longer attributes cannot make a message
//! unreadable: a link that we cannot read would be an interface on which nothing is announced.

use super::change::{IFA_PROTO, OURS};
use engine::{IfIndex, MacAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `nlmsghdr`
const HEADER: usize = 16;

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// RTM_NEWLINK or RTM_DELLINK
    Link { gone: bool, link: Link },
    /// RTM_NEWADDR or RTM_DELADDR
    Address {
        gone: bool,
        index: IfIndex,
        ip: IpAddr,
        prefix: u8,
        /// It is one of those that we put there ourselves.
        ours: bool,
    },
    /// RTM_NEWROUTE or RTM_DELROUTE
    Route(Route),
    /// RTM_NEWNEIGH with an Ethernet address that is or was valid
    Neighbour { index: IfIndex, ip: IpAddr, mac: MacAddr },
    /// The end of a dump or an acknowledgement: 0 or an errno, positive
    Done(i32),
    /// Anything else
    Other,
}

/// What a message says of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: IfIndex,
    pub name: String,
    pub other_names: Vec<String>,
    pub mac: Option<MacAddr>,
    pub flags: u32,
    pub mtu: u32,
    pub master: Option<IfIndex>,
    pub kind: String,
}

/// What a message says of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// It leads everywhere.
    pub default: bool,
    /// RTN_UNICAST, RTN_LOCAL, …
    pub kind: u8,
    pub out: Option<IfIndex>,
    /// The routers that it goes through.
    pub via: Vec<(IfIndex, IpAddr)>,
}

/// A message with what its header says.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub sequence: u32,
    /// The tables changed during the dump: it may lack something.
    pub interrupted: bool,
    pub message: Message,
}

/// The messages of one datagram. Stops at the first byte that makes no sense.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Envelope> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let body = datagram.get(HEADER..length)?;
        let (kind, flags, sequence) = (u16_at(datagram, 4)?, u16_at(datagram, 6)?, u32_at(datagram, 8)?);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let message = message(kind, body).unwrap_or(Message::Other);
        Some(Envelope { sequence, interrupted: flags & libc::NLM_F_DUMP_INTR as u16 != 0, message })
    })
}

fn message(kind: u16, body: &[u8]) -> Option<Message> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => link(kind == libc::RTM_DELLINK, body),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => address(kind == libc::RTM_DELADDR, body),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => route(body).map(Message::Route),
        libc::RTM_NEWNEIGH => neighbour(body),
        k if k == libc::NLMSG_DONE as u16 || k == libc::NLMSG_ERROR as u16 => {
            // A dump that ends well may carry no number.
            Some(Message::Done(u32_at(body, 0).map_or(0, |e| (e as i32).saturating_neg())))
        }
        _ => Some(Message::Other),
    }
}

/// `ifinfomsg`
fn link(gone: bool, body: &[u8]) -> Option<Message> {
    // Bridges also speak of their ports in messages of family AF_BRIDGE, which are not about the link itself.
    if *body.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let ethernet = u16_at(body, 2)? == libc::ARPHRD_ETHER;
    let mut link = Link {
        index: IfIndex(u32_at(body, 4)?),
        name: String::new(),
        other_names: Vec::new(),
        mac: None,
        flags: u32_at(body, 8)?,
        mtu: 0,
        master: None,
        kind: String::new(),
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS if ethernet => link.mac = value.try_into().ok().map(MacAddr),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_MASTER => link.master = u32_at(value, 0).filter(|i| *i != 0).map(IfIndex),
            libc::IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(k, _)| *k == libc::IFLA_ALT_IFNAME);
                link.other_names = names.map(|(_, v)| text(v)).collect();
            }
            libc::IFLA_LINKINFO => {
                let kinds = attributes(value).find(|(k, _)| *k == libc::IFLA_INFO_KIND);
                link.kind = kinds.map(|(_, v)| text(v)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(Message::Link { gone, link })
}

/// `ifaddrmsg`
fn address(gone: bool, body: &[u8]) -> Option<Message> {
    let (prefix, index) = (*body.get(1)?, IfIndex(u32_at(body, 4)?));
    let found = |wanted: u16| attributes(body.get(8..)?).find(|(k, _)| *k == wanted).and_then(|(_, v)| ip(v));
    // On a point-to-point link IFA_ADDRESS is the other end.
    let ip = found(libc::IFA_LOCAL).or_else(|| found(libc::IFA_ADDRESS))?;
    let ours = attributes(body.get(8..)?).any(|(kind, value)| kind == IFA_PROTO && value == [OURS]);
    Some(Message::Address { gone, index, ip, prefix, ours })
}

/// `rtmsg`
fn route(body: &[u8]) -> Option<Route> {
    let kind = *body.get(7)?;
    let mut route = Route { default: *body.get(1)? == 0, kind, out: None, via: Vec::new() };
    let mut gateway = None;
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_OIF => route.out = u32_at(value, 0).map(IfIndex),
            libc::RTA_GATEWAY => gateway = ip(value),
            RTA_VIA => gateway = via(value),
            libc::RTA_MULTIPATH => route.via = hops(value),
            _ => {}
        }
    }
    if let (Some(out), Some(gateway)) = (route.out, gateway) {
        route.via.push((out, gateway));
    }
    Some(route)
}

/// A gateway of the other family than the route's (RFC 8950).
const RTA_VIA: u16 = 18;

fn via(value: &[u8]) -> Option<IpAddr> {
    ip(value.get(2..)?)
}

/// The next hops of an ECMP route: `rtnexthop`, each followed by attributes.
fn hops(mut list: &[u8]) -> Vec<(IfIndex, IpAddr)> {
    let mut found = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(list, 0), u32_at(list, 4)) {
        let Some(inner) = list.get(8..usize::from(length)) else { break };
        for (kind, value) in attributes(inner) {
            let gateway = match kind {
                libc::RTA_GATEWAY => ip(value),
                RTA_VIA => via(value),
                _ => None,
            };
            found.extend(gateway.map(|g| (IfIndex(index), g)));
        }
        list = list.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// `ndmsg`
fn neighbour(body: &[u8]) -> Option<Message> {
    let (index, state) = (IfIndex(u32_at(body, 4)?), u16_at(body, 8)?);
    if state & (libc::NUD_INCOMPLETE | libc::NUD_FAILED) != 0 {
        return None;
    }
    let found = |wanted: u16| attributes(body.get(12..)?).find(|(k, _)| *k == wanted).map(|(_, v)| v);
    let (ip, mac) = (ip(found(libc::NDA_DST)?)?, found(libc::NDA_LLADDR)?.try_into().ok().map(MacAddr)?);
    Some(Message::Neighbour { index, ip, mac })
}

/// The attributes of a list, without the flags in their types.
fn attributes(mut list: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(list, 0)?);
        let (kind, value) = (u16_at(list, 2)? & libc::NLA_TYPE_MASK as u16, list.get(4..length)?);
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// A request: its type, flags and number, the fixed part, and attributes.
pub(crate) fn request(kind: u16, flags: i32, sequence: u32, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(fixed);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&nested(attributes));
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

/// Attributes as octets, whole words long.
pub(crate) fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in attributes {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// All links, without their counters.
pub(crate) fn dump_links(sequence: u32) -> Vec<u8> {
    let mask = libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
    request(libc::RTM_GETLINK, libc::NLM_F_DUMP, sequence, &[0; 16], &[(libc::IFLA_EXT_MASK, &mask)])
}

/// All addresses of both families.
pub(crate) fn dump_addresses(sequence: u32) -> Vec<u8> {
    request(libc::RTM_GETADDR, libc::NLM_F_DUMP, sequence, &[0; 8], &[])
}

/// All routes of both families and all tables.
pub(crate) fn dump_routes(sequence: u32) -> Vec<u8> {
    request(libc::RTM_GETROUTE, libc::NLM_F_DUMP, sequence, &[0; 12], &[])
}

/// The route that a packet to `to` would take.
pub(crate) fn get_route(sequence: u32, to: IpAddr) -> Vec<u8> {
    let (family, octets) = family_and_octets(to);
    let mut fixed = [0; 12];
    (fixed[0], fixed[1]) = (family, (octets.len() * 8) as u8);
    request(libc::RTM_GETROUTE, 0, sequence, &fixed, &[(libc::RTA_DST, &octets)])
}

/// What the kernel knows of one neighbour.
pub(crate) fn get_neighbour(sequence: u32, index: IfIndex, ip: IpAddr) -> Vec<u8> {
    let (family, octets) = family_and_octets(ip);
    let mut fixed = [0; 12];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&index.0.to_ne_bytes());
    request(libc::RTM_GETNEIGH, 0, sequence, &fixed, &[(libc::NDA_DST, &octets)])
}

pub(crate) fn family_and_octets(ip: IpAddr) -> (u8, Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn only(bytes: &[u8]) -> Message {
        let mut found: Vec<Envelope> = messages(bytes).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).message
    }

    #[test]
    fn several_messages_of_one_datagram_are_read_with_their_numbers() {
        let fixed = [[2, 24, 0, 0].to_vec(), 7u32.to_ne_bytes().to_vec()].concat();
        let one = request(libc::RTM_NEWADDR, 0, 1, &fixed, &[(libc::IFA_ADDRESS, &[192, 0, 2, 1])]);
        let two = request(libc::RTM_DELADDR, libc::NLM_F_DUMP_INTR, 2, &fixed, &[(libc::IFA_ADDRESS, &[192, 0, 2, 2])]);
        let found: Vec<Envelope> = messages(&[one, two].concat()).collect();
        let said: Vec<_> = found.iter().map(|e| (e.sequence, e.interrupted, e.message.clone())).collect();
        let address = |gone, last| Message::Address {
            gone,
            index: IfIndex(7),
            ip: [192, 0, 2, last].into(),
            prefix: 24,
            ours: false,
        };
        assert_eq!(said, [(1, false, address(false, 1)), (2, true, address(true, 2))]);
    }

    #[test]
    fn attributes_of_another_length_than_we_know_do_not_hide_the_rest() {
        let longer = [0xaa; 300];
        let mut fixed = [0; 16];
        fixed[2..4].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        fixed[4..8].copy_from_slice(&3u32.to_ne_bytes());
        let known: &[(u16, &[u8])] =
            &[(900, &longer), (libc::IFLA_ADDRESS, &longer[..20]), (libc::IFLA_IFNAME, b"eth0\0")];
        let Message::Link { gone: false, link } = only(&request(libc::RTM_NEWLINK, 0, 1, &fixed, known)) else {
            panic!("no link");
        };
        assert_eq!((link.index, link.name.as_str(), link.mac), (IfIndex(3), "eth0", None));
    }

    #[test]
    fn a_neighbour_that_does_not_answer_is_not_read_as_one() {
        let neighbour = |state: u16| {
            let mut fixed = [0; 12];
            fixed[4..8].copy_from_slice(&3u32.to_ne_bytes());
            fixed[8..10].copy_from_slice(&state.to_ne_bytes());
            let attributes: &[(u16, &[u8])] =
                &[(libc::NDA_DST, &[192, 0, 2, 1]), (libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 1])];
            only(&request(libc::RTM_NEWNEIGH, 0, 1, &fixed, attributes))
        };
        let known =
            Message::Neighbour { index: IfIndex(3), ip: [192, 0, 2, 1].into(), mac: MacAddr([2, 0, 0, 0, 0, 1]) };
        assert_eq!(neighbour(libc::NUD_STALE), known);
        assert_eq!(neighbour(libc::NUD_FAILED), Message::Other);
        assert_eq!(neighbour(libc::NUD_INCOMPLETE), Message::Other);
    }

    #[test]
    fn messages_of_a_bridge_about_its_port_are_not_about_the_link() {
        let mut fixed = [0; 16];
        fixed[0] = libc::AF_BRIDGE as u8;
        assert_eq!(only(&request(libc::RTM_DELLINK, 0, 1, &fixed, &[])), Message::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
        }

        #[test]
        fn any_body_of_a_message_is_read_to_an_end(
            kind in prop_oneof![Just(2u16), Just(3), 16u16..32],
            body in proptest::collection::vec(prop_oneof![3 => Just(0u8), 2 => 0u8..20, 1 => any::<u8>()], 0..200),
        ) {
            let datagram = request(kind, 0, 1, &body, &[]);
            prop_assert_eq!(messages(&datagram).count(), 1);
        }
    }
}
