//! VRRP of a pool with protocol vip, as users write it, and as the rest of oxelb reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// How the owners of a pool's addresses say so by VRRP.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VrrpSpec {
    /// 3 (default) or 2, which knows IPv4 alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The ids of virtual routers that the pool may use: one as in 51, or a range as in 51-82; 1-255 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Between two advertisements, in milliseconds, 10 to 40950; whole seconds with version 2. 1000 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertisement_interval: Option<i64>,
    /// What advertisements say, 1 to 254; 100 when not given. It decides nothing between nodes, but with interop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Who decides which node owns: lease (default), our speakers among themselves; or interop, VRRP itself, together with
    /// routers that are not ours and have the same id and addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VrrpMode>,
    /// With interop: take over from a master with a lower priority; false when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempt: Option<bool>,
    /// Owners answer with the virtual router's own MAC address, 00-00-5E-00-01-id or, for IPv6, 00-00-5E-00-02-id, instead of
    /// with their interface's; false when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_mac: Option<bool>,
    /// Send advertisements to each of these addresses instead of to the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unicast_peers: Option<Vec<String>>,
}

/// Who decides which node owns an address of vip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VrrpMode {
    /// Our speakers; VRRP only tells.
    #[default]
    Lease,
    /// VRRP, among our routers and others.
    Interop,
}

/// A [`VrrpSpec`] that was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vrrp {
    /// Version 2, for IPv4 alone.
    pub version2: bool,
    /// The ids that may be used, within 1 to 255.
    pub ids: RangeInclusive<u8>,
    /// Between two advertisements, in hundredths of a second, 1 to 4095.
    pub interval: u16,
    /// 1 to 254.
    pub priority: u8,
    /// To whom, instead of to the group.
    pub peers: BTreeSet<IpAddr>,
    /// VRRP itself elects.
    pub interop: bool,
    /// Then: take over from a master with a lower priority.
    pub preempt: bool,
    /// Owners answer with the virtual router's MAC address.
    pub virtual_mac: bool,
}

/// The addresses of a pool that move together, under one id.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualRouter {
    /// The id, 1 to 255; no other virtual router of the cluster has it.
    pub id: i64,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// Why a [`VrrpSpec`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVrrp {
    /// Another version.
    #[error("version is 2 or 3, not {0}")]
    Version(i64),
    /// No id or range of ids.
    #[error("routerId is an id from 1 to 255, as in 51, or a range, as in 51-82, not {0:?}")]
    Ids(String),
    /// Too short or too long, or nothing that version 2 can say.
    #[error("advertisementInterval is from 10 to 40950 ms, with version 2 whole seconds, not {0}")]
    Interval(i64),
    /// Out of range.
    #[error("priority is from 1 to 254, not {0}")]
    Priority(i64),
    /// No address.
    #[error("unicastPeers: {0:?} is no address")]
    Peer(String),
    /// Switches learn where the virtual router's MAC address is from advertisements to the group.
    #[error("virtualMac cannot be had with unicastPeers: switches would not learn where the address is")]
    VirtualMac,
}

impl Default for Vrrp {
    fn default() -> Vrrp {
        Vrrp {
            version2: false,
            ids: 1..=255,
            interval: 100,
            priority: 100,
            peers: BTreeSet::new(),
            interop: false,
            preempt: false,
            virtual_mac: false,
        }
    }
}

impl TryFrom<&VrrpSpec> for Vrrp {
    type Error = InvalidVrrp;
    fn try_from(spec: &VrrpSpec) -> Result<Vrrp, InvalidVrrp> {
        let version2 = match spec.version {
            None | Some(3) => false,
            Some(2) => true,
            Some(other) => return Err(InvalidVrrp::Version(other)),
        };
        let ids = spec.router_id.as_deref().map_or(Ok(1..=255), ids)?;
        let ms = spec.advertisement_interval.unwrap_or(1000);
        let step = if version2 { 1000 } else { 10 };
        let interval = u16::try_from(ms / 10).ok().filter(|i| (1..=4095).contains(i) && ms % step == 0);
        let interval = interval.ok_or(InvalidVrrp::Interval(ms))?;
        let priority = spec.priority.unwrap_or(100);
        let priority =
            u8::try_from(priority).ok().filter(|p| (1..=254).contains(p)).ok_or(InvalidVrrp::Priority(priority))?;
        let peer = |text: &String| text.trim().parse().map_err(|_| InvalidVrrp::Peer(text.clone()));
        let peers: BTreeSet<IpAddr> = spec.unicast_peers.iter().flatten().map(peer).collect::<Result<_, _>>()?;
        let interop = spec.mode == Some(VrrpMode::Interop);
        let preempt = spec.preempt.unwrap_or(false);
        let virtual_mac = spec.virtual_mac.unwrap_or(false);
        if virtual_mac && !peers.is_empty() {
            return Err(InvalidVrrp::VirtualMac);
        }
        Ok(Vrrp { version2, ids, interval, priority, peers, interop, preempt, virtual_mac })
    }
}

fn ids(text: &str) -> Result<RangeInclusive<u8>, InvalidVrrp> {
    let invalid = || InvalidVrrp::Ids(text.to_owned());
    let id = |text: &str| text.trim().parse::<u8>().ok().filter(|id| *id > 0).ok_or_else(invalid);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (id(first)?, id(last)?);
    if first <= last { Ok(first..=last) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value) -> Result<Vrrp, InvalidVrrp> {
        let spec: VrrpSpec = serde_json::from_value(spec).unwrap();
        Vrrp::try_from(&spec)
    }

    #[test]
    fn without_anything_it_is_what_keepalived_of_openelb_spoke() {
        assert_eq!(read(json!({})), Ok(Vrrp::default()));
    }

    #[test]
    fn ids_are_one_or_a_range() {
        assert_eq!(read(json!({"routerId": "51"})).unwrap().ids, 51..=51);
        assert_eq!(read(json!({"routerId": "51 - 82"})).unwrap().ids, 51..=82);
        for bad in ["", "0", "256", "82-51", "a", "1-", "1-2-3"] {
            assert_eq!(read(json!({"routerId": bad})), Err(InvalidVrrp::Ids(bad.to_owned())));
        }
    }

    #[test]
    fn numbers_that_the_protocol_cannot_say_are_refused() {
        assert_eq!(read(json!({"version": 2, "advertisementInterval": 2000})).unwrap().interval, 200);
        assert_eq!(read(json!({"advertisementInterval": 40950})).unwrap().interval, 4095);
        for (spec, error) in [
            (json!({"version": 1}), InvalidVrrp::Version(1)),
            (json!({"version": 2, "advertisementInterval": 1500}), InvalidVrrp::Interval(1500)),
            (json!({"advertisementInterval": 15}), InvalidVrrp::Interval(15)),
            (json!({"advertisementInterval": 0}), InvalidVrrp::Interval(0)),
            (json!({"advertisementInterval": 40960}), InvalidVrrp::Interval(40960)),
            (json!({"priority": 255}), InvalidVrrp::Priority(255)),
            (json!({"priority": 0}), InvalidVrrp::Priority(0)),
            (json!({"unicastPeers": ["gw"]}), InvalidVrrp::Peer("gw".into())),
            (json!({"unicastPeers": ["10.0.0.1"], "virtualMac": true}), InvalidVrrp::VirtualMac),
        ] {
            assert_eq!(read(spec), Err(error));
        }
    }
}
