//! How BGP runs, as the planner reads it: a [`BgpConf`] whose every field was understood.

use crate::address::Family;
use crate::admission::check_bgp_conf;
use crate::bgp_conf::{BgpConf, GracefulRestart};
use crate::peer::InvalidBgp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// The port of BGP.
pub const PORT: u16 = 179;

/// How BGP runs on every node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bgp {
    /// The AS number of nodes without a rack, never 0; `None` when none is configured.
    pub asn: Option<u32>,
    /// The AS number of nodes by their rack. With any, the router id is always the node's own address (compat §5.3).
    pub racks: BTreeMap<String, u32>,
    /// The same router id for all nodes, where the user wants that.
    pub router_id: Option<Ipv4Addr>,
    /// Where to listen; `None` nowhere.
    pub port: Option<u16>,
    /// The addresses to listen on; none is all.
    pub addresses: Vec<IpAddr>,
    /// The families that may be spoken.
    pub families: BTreeSet<Family>,
    /// For peers that say nothing of it themselves.
    pub graceful_restart: Option<Restart>,
    /// The ConfigMap with the policy.
    pub policy: Option<String>,
    /// Fields that are set and mean nothing here.
    pub ignored: BTreeSet<String>,
}

/// Graceful restart (RFC 4724).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Within how many seconds we expect to be back, up to 4095; `None` for the hold time.
    pub time: Option<u16>,
    /// Only help peers that restart.
    pub helper_only: bool,
    /// Also after a NOTIFICATION (RFC 8538).
    pub notification: bool,
    /// Long-lived (RFC 9494).
    pub long_lived: bool,
}

impl TryFrom<&BgpConf> for Bgp {
    type Error = InvalidBgp;
    fn try_from(conf: &BgpConf) -> Result<Bgp, InvalidBgp> {
        check_bgp_conf(conf, None).map_err(InvalidBgp)?;
        let spec = &conf.spec;
        let mut ignored = BTreeSet::new();
        let numbers = spec.families.clone().unwrap_or_default();
        let mut families = BTreeSet::new();
        for number in &numbers {
            match number {
                0 => drop(families.insert(Family::V4)),
                1 => drop(families.insert(Family::V6)),
                other => drop(ignored.insert(format!("families: {other}"))),
            }
        }
        if numbers.is_empty() {
            families.extend([Family::V4, Family::V6]);
        }
        if families.is_empty() {
            let problem = "names neither 0 (IPv4 unicast) nor 1 (IPv6 unicast), which are all that is announced";
            return Err(InvalidBgp::of("spec.families", problem));
        }
        if spec.use_multiple_paths == Some(true) {
            ignored.insert("useMultiplePaths".to_owned());
        }
        let restart = spec.graceful_restart.as_ref();
        ignored.extend(restart.into_iter().flat_map(|g| of_no_use(g, "gracefulRestart")));
        let asn = |n: i64| u32::try_from(n).ok().filter(|n| *n > 0);
        Ok(Bgp {
            asn: spec.asn.and_then(asn),
            racks: spec.as_per_rack.iter().flatten().filter_map(|(r, n)| Some((r.clone(), asn(*n)?))).collect(),
            router_id: spec
                .router_id
                .as_deref()
                .and_then(|id| id.parse().ok())
                .filter(|id: &Ipv4Addr| !id.is_unspecified()),
            port: match spec.listen_port.unwrap_or(0) {
                0 => Some(PORT),
                port => u16::try_from(port).ok(),
            },
            addresses: spec.listen_addresses.iter().flatten().filter_map(|a| a.parse().ok()).collect(),
            families,
            graceful_restart: restart.and_then(restart_of),
            policy: spec.policy.clone().filter(|p| !p.is_empty()),
            ignored,
        })
    }
}

/// What is offered; `None` where it is not enabled.
pub(crate) fn restart_of(given: &GracefulRestart) -> Option<Restart> {
    given.enabled?.then(|| Restart {
        time: given.restart_time.filter(|t| *t > 0).map(|t| u16::try_from(t).unwrap_or(4095).min(4095)),
        helper_only: given.helper_only.unwrap_or(false),
        notification: given.notification_enabled.unwrap_or(false),
        long_lived: given.longlived_enabled.unwrap_or(false),
    })
}

/// Fields that are set and mean nothing: they are about routes that others send, which are never installed here.
pub(crate) fn of_no_use(given: &GracefulRestart, within: &str) -> Vec<String> {
    let set = [
        ("deferralTime", given.deferral_time.is_some()),
        ("staleRoutesTime", given.stale_routes_time.is_some()),
        ("peerRestartTime", given.peer_restart_time.is_some()),
        ("peerRestarting", given.peer_restarting.is_some()),
        ("localRestarting", given.local_restarting.is_some()),
        ("mode", given.mode.is_some()),
    ];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| format!("{within}.{name}")).collect()
}
