//! Finding the router at the other end of a link without addresses (unnumbered): each side sends router advertisements
//! (RFC 4861), and who sends one is the neighbour. Ours offer nothing (router lifetime 0): nobody routes through us.

use engine::{Engine, Tick};
use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

/// ICMPv6, as IP numbers it.
pub const ICMPV6: u8 = 58;
/// All nodes of a link, and all routers: RFC 4291 §2.7.1.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// See [`ALL_NODES`].
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 §4.1 and §4.2: without options.
const SOLICITATION_LENGTH: usize = 8;
const ADVERTISEMENT_LENGTH: usize = 16;
/// RFC 4861 §10, MIN_DELAY_BETWEEN_RAS; so often also while nobody is found.
const SOON: Duration = Duration::from_secs(3);
/// Between two advertisements, as FRR has it.
const USUAL: Duration = Duration::from_secs(10);
/// Who was silent for so long may be replaced by another.
const SILENCE: Duration = Duration::from_secs(35);

/// What happens on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryInput {
    /// An ICMPv6 message, from its first octet on.
    Packet {
        /// Its sender.
        from: Ipv6Addr,
        /// 255 where it comes from the link itself.
        hop_limit: u8,
        /// It.
        message: Vec<u8>,
    },
    /// There is a session with the neighbour, or is not any more: without one the next that is heard is the neighbour.
    Session(bool),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryEffect {
    /// Send this ICMPv6 message; its checksum is still to be filled in.
    Send {
        /// To this group.
        to: Ipv6Addr,
        /// It.
        message: Vec<u8>,
    },
    /// This is the neighbour now.
    Found(Ipv6Addr),
}

/// The engine of one link.
#[derive(Debug)]
pub struct Discovery {
    neighbour: Option<(Ipv6Addr, Tick)>,
    session: bool,
    advertise_at: Tick,
    advertised: Option<Tick>,
    effects: VecDeque<DiscoveryEffect>,
}

impl Discovery {
    /// Advertises at once.
    pub fn new(now: Tick) -> Discovery {
        let effects = VecDeque::new();
        Discovery { neighbour: None, session: false, advertise_at: now, advertised: None, effects }
    }

    /// Who is at the other end.
    pub fn neighbour(&self) -> Option<Ipv6Addr> {
        self.neighbour.map(|(neighbour, _)| neighbour)
    }

    fn heard(&mut self, now: Tick, from: Ipv6Addr) {
        let stays = match self.neighbour {
            Some((known, _)) if known == from => true,
            Some((_, at)) if self.session && now.since(at) < SILENCE => return,
            _ => false,
        };
        self.neighbour = Some((from, now));
        if !stays {
            self.effects.push_back(DiscoveryEffect::Found(from));
        }
    }
}

impl Engine for Discovery {
    type Input = DiscoveryInput;
    type Effect = DiscoveryEffect;

    fn handle(&mut self, now: Tick, input: DiscoveryInput) {
        match input {
            DiscoveryInput::Session(session) => self.session = session,
            // RFC 4861 §6.1: from this link, and of code 0.
            DiscoveryInput::Packet { from, hop_limit: 255, message } => match (message.first(), message.get(1)) {
                (Some(&ROUTER_ADVERTISEMENT), Some(0))
                    if message.len() >= ADVERTISEMENT_LENGTH && from.is_unicast_link_local() =>
                {
                    self.heard(now, from);
                }
                (Some(&ROUTER_SOLICITATION), Some(0)) if message.len() >= SOLICITATION_LENGTH => {
                    let soonest = self.advertised.map_or(now, |at| (at + SOON).max(now));
                    self.advertise_at = self.advertise_at.min(soonest);
                }
                _ => {}
            },
            DiscoveryInput::Packet { .. } => {}
        }
    }

    fn timeout(&mut self, now: Tick) {
        if now < self.advertise_at {
            return;
        }
        let message = |kind: u8, length: usize| {
            let mut message = vec![0; length];
            message[0] = kind;
            message
        };
        let advertisement = message(ROUTER_ADVERTISEMENT, ADVERTISEMENT_LENGTH);
        self.effects.push_back(DiscoveryEffect::Send { to: ALL_NODES, message: advertisement });
        if self.neighbour.is_none() {
            let solicitation = message(ROUTER_SOLICITATION, SOLICITATION_LENGTH);
            self.effects.push_back(DiscoveryEffect::Send { to: ALL_ROUTERS, message: solicitation });
        }
        self.advertised = Some(now);
        self.advertise_at = now + if self.neighbour.is_some() { USUAL } else { SOON };
    }

    fn deadline(&self) -> Option<Tick> {
        Some(self.advertise_at)
    }

    fn poll(&mut self) -> Option<DiscoveryEffect> {
        self.effects.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn at(seconds: u64) -> Tick {
        Tick::ZERO + Duration::from_secs(seconds)
    }

    fn all(discovery: &mut Discovery) -> Vec<DiscoveryEffect> {
        std::iter::from_fn(|| discovery.poll()).collect()
    }

    fn packet(
        discovery: &mut Discovery,
        now: Tick,
        from: Ipv6Addr,
        hop_limit: u8,
        message: &[u8],
    ) -> Vec<DiscoveryEffect> {
        discovery.handle(now, DiscoveryInput::Packet { from, hop_limit, message: message.to_vec() });
        all(discovery)
    }

    fn advertisement() -> [u8; 16] {
        let mut message = [0; 16];
        message[0] = 134;
        message
    }

    #[test]
    fn it_asks_until_somebody_is_found_and_advertises_on() {
        let mut discovery = Discovery::new(at(0));
        discovery.timeout(at(0));
        assert_eq!(all(&mut discovery).len(), 2);
        assert_eq!(discovery.deadline(), Some(at(3)));
        assert_eq!(packet(&mut discovery, at(1), ROUTER, 255, &advertisement()), [DiscoveryEffect::Found(ROUTER)]);
        assert!(packet(&mut discovery, at(2), ROUTER, 255, &advertisement()).is_empty());
        discovery.timeout(at(3));
        let said = all(&mut discovery);
        assert!(
            matches!(&said[..], [DiscoveryEffect::Send { to: ALL_NODES, message }] if message[..] == advertisement())
        );
        assert_eq!(discovery.deadline(), Some(at(13)));
    }

    #[test]
    fn who_asks_is_answered_no_more_often_than_every_three_seconds() {
        let mut discovery = Discovery::new(at(0));
        packet(&mut discovery, at(0), ROUTER, 255, &advertisement());
        discovery.timeout(at(0));
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        packet(&mut discovery, at(1), ROUTER, 255, &solicitation);
        assert_eq!(discovery.deadline(), Some(at(3)));
        discovery.timeout(at(3));
        packet(&mut discovery, at(9), ROUTER, 255, &solicitation);
        assert_eq!(discovery.deadline(), Some(at(9)));
    }

    #[test]
    fn another_router_takes_the_place_only_of_one_without_a_session_or_a_word() {
        let mut discovery = Discovery::new(at(0));
        packet(&mut discovery, at(0), ROUTER, 255, &advertisement());
        discovery.handle(at(1), DiscoveryInput::Session(true));
        assert!(packet(&mut discovery, at(2), OTHER, 255, &advertisement()).is_empty());
        assert_eq!(discovery.neighbour(), Some(ROUTER));
        assert_eq!(packet(&mut discovery, at(40), OTHER, 255, &advertisement()), [DiscoveryEffect::Found(OTHER)]);
        discovery.handle(at(41), DiscoveryInput::Session(false));
        assert_eq!(packet(&mut discovery, at(42), ROUTER, 255, &advertisement()), [DiscoveryEffect::Found(ROUTER)]);
    }

    #[test]
    fn what_is_from_elsewhere_or_cut_off_finds_nobody() {
        let mut discovery = Discovery::new(at(0));
        let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        for (from, hop_limit, message) in [
            (ROUTER, 254, &advertisement()[..]),
            (global, 255, &advertisement()[..]),
            (ROUTER, 255, &advertisement()[..15]),
            (ROUTER, 255, &[134, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (ROUTER, 255, &[134]),
            (ROUTER, 255, &[]),
        ] {
            assert!(packet(&mut discovery, at(1), from, hop_limit, message).is_empty());
        }
        assert_eq!(discovery.neighbour(), None);
    }
}
