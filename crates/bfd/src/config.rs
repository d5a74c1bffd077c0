//! What one session is told: [`Settings`] as somebody wrote them, [`Config`] once they make sense.

use crate::auth::{Authentication, Method};
use crate::packet;
use crate::types::Interval;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU8;
use std::ops::Deref;

/// All that a session must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether the peer is on the link.
    pub hops: Hops,
    /// What we would like between two of our packets; a second, where this is less, while the session is not up.
    pub transmit: Interval,
    /// The least that we can take between two packets of the peer.
    pub receive: Interval,
    /// The peer finds us gone when so many of our packets are missing.
    pub multiplier: NonZeroU8,
    /// Both sides have it or none has.
    pub authentication: Option<Authentication>,
}

/// Whether the peer is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hops {
    /// It is: what has another TTL than 255 came from elsewhere (RFC 5881 §5).
    Single,
    /// It is behind routers (RFC 5883).
    Multi {
        /// The least TTL of what comes in: what the peer sends, less the routers between. That is 255 as a rule, and 64
        /// of BIRD, which leaves it to the kernel.
        least_ttl: u8,
    },
}

impl Hops {
    /// The least TTL or hop limit of what comes in.
    pub const fn least_ttl(self) -> u8 {
        match self {
            Hops::Single => packet::TTL,
            Hops::Multi { least_ttl } => least_ttl,
        }
    }
}

/// [`Settings`] that make sense together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Config(Settings);

/// Why settings make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// RFC 5880 §6.7.3.
    #[error("keyed MD5 is not offered: use keyed SHA1 (meticulous, where the peer can)")]
    Md5,
    /// The key to send with is not among the keys.
    #[error("there is no key with the id {0}, which is to be sent")]
    NoKey(u8),
    /// RFC 5880 §6.7.2.
    #[error("a password has 1 to 16 octets: that with the id {0} has more")]
    LongPassword(u8),
}

impl Config {
    /// Looks whether the settings make sense together.
    ///
    /// # Errors
    /// When they do not, the first reason.
    pub fn new(settings: Settings) -> Result<Config, InvalidConfig> {
        if let Some(Authentication { method, send, keys }) = &settings.authentication {
            if matches!(method, Method::KeyedMd5 | Method::MeticulousMd5) {
                return Err(InvalidConfig::Md5);
            }
            if !keys.contains_key(send) {
                return Err(InvalidConfig::NoKey(*send));
            }
            let long = keys.iter().find(|(_, key)| key.octets().len() > Method::MAX_PASSWORD);
            if let (Method::Password, Some((id, _))) = (method, long) {
                return Err(InvalidConfig::LongPassword(*id));
            }
        }
        Ok(Config(settings))
    }
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
