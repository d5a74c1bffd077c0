//! What a session is to do.

use crate::prefix::Family;
use crate::types::{Asn, HoldTime, RouterId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How many prefixes of a family are remembered where the configuration says nothing.
pub const DEFAULT_MAX_PREFIXES: u32 = 100_000;

/// One peer. Addresses, ports and passwords belong to whoever owns the sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Our autonomous system, as this peer is to see it.
    pub local_as: Asn,
    /// Who we are; no other speaker of our autonomous system may be the same (RFC 6286).
    pub router_id: RouterId,
    /// The peer's autonomous system; `None` accepts any, for neighbours known by their prefix only.
    pub peer_as: Option<Asn>,
    /// Proposed; the smaller of both sides counts.
    pub hold_time: HoldTime,
    /// Between two KEEPALIVEs; never longer than a third of the hold time, which is the default.
    pub keepalive: Option<Duration>,
    /// The longest wait between two attempts to connect. The first comes after a second; each wait is twice the last.
    pub connect_retry: Duration,
    /// Wait for the peer to connect.
    pub passive: bool,
    /// Which routes are spoken of.
    pub families: BTreeMap<Family, FamilyConfig>,
    /// `None`: the capability is not sent, and the peer's is ignored.
    pub graceful_restart: Option<RestartConfig>,
    /// What is remembered of what the peer sends.
    pub max_prefixes: MaxPrefixes,
    /// Our own address in routes, where it is not that of the connection.
    pub next_hops: NextHops,
    /// Between two runs of announcements (MinRouteAdvertisementIntervalTimer, RFC 4271 §9.2.1.1); zero sends at once.
    /// Withdrawals never wait.
    pub advertisement_interval: Duration,
}

/// What is agreed upon for one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FamilyConfig {
    /// Let the peer send several paths to a prefix.
    pub add_path_receive: bool,
    /// Send so many paths to a prefix where the peer takes several; 0 sends one and does not offer more.
    pub add_path_send: u8,
    /// Part of graceful restart.
    pub graceful_restart: bool,
    /// For how many seconds the peer may keep our routes after the restart time (RFC 9494); 0 not at all.
    pub long_lived: u32,
}

/// Graceful restart (RFC 4724, RFC 8538).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartConfig {
    /// Within how many seconds we expect to be back, 0 to 4095.
    pub restart_time: u16,
    /// We have just restarted and forwarded all the while.
    pub restarting: bool,
    /// Keep the peer's routes while it restarts, but do not ask it to keep ours.
    pub helper_only: bool,
    /// Also after a NOTIFICATION or the hold timer (RFC 8538).
    pub notification: bool,
    /// How long stale routes are kept at most after the peer is back.
    pub stale_time: Duration,
}

/// A bound for what the peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPrefixes {
    /// For each family.
    pub limit: u32,
    /// What happens beyond it.
    pub excess: Excess,
}

/// What happens to prefixes beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Excess {
    /// They are counted but not remembered. Nothing here uses them, so nothing that we announce need suffer.
    Ignore,
    /// The session ends (RFC 4486) and comes back after so long.
    Cease(Duration),
}

/// Our own address in routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NextHops {
    /// In IPv4 routes. Default: the connection's own address, where that is IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// In IPv6 routes. Default: the connection's own address, where that is IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Beside it, where the peer shares a link with us (RFC 2545).
    pub link_local: Option<Ipv6Addr>,
}

impl Config {
    /// A peer with the defaults of RFC 4271 §10 but for the wait between attempts, and IPv4 unicast alone.
    pub fn new(local_as: Asn, router_id: RouterId, peer_as: Asn) -> Config {
        Config {
            local_as,
            router_id,
            peer_as: Some(peer_as),
            hold_time: HoldTime::DEFAULT,
            keepalive: None,
            connect_retry: Duration::from_secs(30),
            passive: false,
            families: BTreeMap::from([(Family::Ipv4, FamilyConfig::default())]),
            graceful_restart: None,
            max_prefixes: MaxPrefixes::default(),
            next_hops: NextHops::default(),
            advertisement_interval: Duration::ZERO,
        }
    }

    /// Whether `other` can replace it without a new session: what was said in the OPEN stays true.
    pub(crate) fn says_the_same(&self, other: &Config) -> bool {
        let restart = |c: &Config| c.graceful_restart.map(|r| (r.restart_time, r.helper_only, r.notification));
        let said = |c: &Config| (c.local_as, c.router_id, c.peer_as, c.hold_time, offered(c), restart(c));
        said(self) == said(other)
    }
}

/// How many paths are sent is our own affair, that several are is not.
fn offered(config: &Config) -> Vec<(Family, FamilyConfig)> {
    let one =
        |(family, f): (&Family, &FamilyConfig)| (*family, FamilyConfig { add_path_send: f.add_path_send.min(1), ..*f });
    config.families.iter().map(one).collect()
}

impl Default for RestartConfig {
    fn default() -> RestartConfig {
        RestartConfig {
            restart_time: 120,
            restarting: false,
            helper_only: false,
            notification: true,
            stale_time: Duration::from_secs(360),
        }
    }
}

impl Default for MaxPrefixes {
    fn default() -> MaxPrefixes {
        MaxPrefixes { limit: DEFAULT_MAX_PREFIXES, excess: Excess::Ignore }
    }
}
