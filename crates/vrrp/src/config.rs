//! What one virtual router is told: [`Settings`] as somebody wrote them, [`Config`] once they make sense.

use crate::packet::{self, Addresses, Advert, Body, Checksum, Version, family};
use crate::types::{Centis, Family, Password, Priority, Vrid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::Deref;
use std::time::Duration;

/// All that a virtual router must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Its id.
    pub vrid: Vrid,
    /// What it speaks, and all that it understands of others.
    pub version: Version,
    /// Who decides which router is master.
    pub mode: Mode,
    /// 255 means that the addresses are this node's own.
    pub priority: Priority,
    /// Between two advertisements; whole seconds in version 2.
    pub interval: Centis,
    /// The primary address: advertisements come from it, and of two routers with equal priority the one with the
    /// higher primary address is master. IPv6: the link-local address of the interface (RFC 9568 §5.1.2.1).
    pub source: IpAddr,
    /// The virtual router's addresses, 1 to 255 of one family; how many fit the MTU says
    /// [`most_addresses`](crate::packet::most_addresses). IPv6 wants a link-local one first (RFC 9568 §5.2.9).
    pub addresses: Vec<IpAddr>,
    /// Where these are given, advertisements go to each of them instead of to the group, and only theirs count.
    pub peers: BTreeSet<IpAddr>,
    /// The least TTL or hop limit of what comes in unicast. 255 keeps out all that came through a router; keepalived
    /// sends 255 over IPv4 and, in 2.2.7, 64 over IPv6. What comes to the group always needs 255.
    pub unicast_ttl: u8,
    /// Whether to take over from a master with a lower priority. An owner always does.
    pub preempt: bool,
    /// Whether a master that is not the owner takes packets to the addresses, beyond forwarding (RFC 9568 §6.1). A load
    /// balancer must. See [`Router::accepts`](crate::Router::accepts).
    pub accept: bool,
    /// What the checksum covers in what is sent by version 3 over IPv4; both forms are understood.
    pub checksum: Checksum,
    /// Version 2 only.
    pub password: Option<Password>,
    /// For so long after its start it hears who else is there, before it does anything.
    pub listen: Duration,
}

/// Who decides which router is master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// VRRP itself elects, among our own and others' routers.
    Interop,
    /// Somebody else does: [`Input::Lead`](crate::Input::Lead). This router only advertises.
    Led {
        /// The primary addresses of our own speakers: who else advertises this id is a stranger.
        members: BTreeSet<IpAddr>,
    },
}

/// [`Settings`] that make sense together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Config(Settings);

/// Why settings make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// One of the addresses is of the other family than the primary address.
    #[error("{0} is of another IP version than the primary address {1}")]
    Families(IpAddr, IpAddr),
    /// No host can have this address.
    #[error("{0} is no address that a router can have")]
    Address(IpAddr),
    /// None, or more than 255.
    #[error("a virtual router has 1 to 255 addresses, not {0}")]
    Count(usize),
    /// Version 2 over IPv6.
    #[error("version 2 is for IPv4 only: IPv6 needs version 3")]
    Ipv6NeedsVersion3,
    /// Version 2 counts seconds.
    #[error("version 2 counts whole seconds: {} ms is not one", .0.duration().as_millis())]
    WholeSeconds(Centis),
    /// A password in version 3.
    #[error("version 3 has no password: leave it out, or use version 2")]
    Password,
}

impl Config {
    /// Looks whether the settings make sense together.
    ///
    /// # Errors
    /// When they do not, the first reason.
    pub fn new(settings: Settings) -> Result<Config, InvalidConfig> {
        let Settings { version, interval, source, addresses, peers, password, .. } = &settings;
        for &address in [source].into_iter().chain(addresses).chain(peers) {
            if family(address) != family(*source) {
                return Err(InvalidConfig::Families(address, *source));
            }
            if address.is_unspecified() || address.is_multicast() {
                return Err(InvalidConfig::Address(address));
            }
        }
        match (version, family(*source)) {
            _ if addresses.is_empty() || addresses.len() > 255 => Err(InvalidConfig::Count(addresses.len())),
            (Version::V2, Family::V6) => Err(InvalidConfig::Ipv6NeedsVersion3),
            (Version::V2, _) if seconds(*interval).is_none() => Err(InvalidConfig::WholeSeconds(*interval)),
            (Version::V3, _) if password.is_some() => Err(InvalidConfig::Password),
            _ => Ok(Config(settings)),
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        family(self.source)
    }

    /// Where advertisements go.
    pub fn destinations(&self) -> Vec<IpAddr> {
        if self.peers.is_empty() { vec![packet::group(self.family())] } else { self.peers.iter().copied().collect() }
    }

    /// The advertisement of such a router; without a priority the one that says that it stops.
    pub fn advert(&self, priority: Option<Priority>) -> Advert {
        let s = &self.0;
        let v4 = || list(s.addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None }));
        let v6 = || list(s.addresses.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None }));
        let interval = s.interval;
        let body = match (s.version, seconds(interval), self.family()) {
            (Version::V2, Some(interval), _) => Body::V2 { interval, password: s.password, addresses: v4() },
            (_, _, Family::V4) => Body::V3Ipv4 { interval, checksum: s.checksum, addresses: v4() },
            (_, _, Family::V6) => Body::V3Ipv6 { interval, addresses: v6() },
        };
        Advert { vrid: s.vrid, priority, body }
    }
}

/// At most 255 are in a [`Config`].
fn list<A>(addresses: impl Iterator<Item = A>) -> Addresses<A> {
    addresses.collect::<Vec<_>>().try_into().unwrap_or_default()
}

/// The interval in seconds, when it is a whole number of them.
fn seconds(interval: Centis) -> Option<NonZeroU8> {
    let seconds = u8::try_from(interval.get() / 100).ok().and_then(NonZeroU8::new);
    seconds.filter(|_| interval.get().is_multiple_of(100))
}

impl Deref for Config {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl TryFrom<Settings> for Config {
    type Error = InvalidConfig;
    fn try_from(settings: Settings) -> Result<Config, InvalidConfig> {
        Config::new(settings)
    }
}

impl From<Config> for Settings {
    fn from(config: Config) -> Settings {
        config.0
    }
}
