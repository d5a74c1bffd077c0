//! Host settings that make a pool's address unreachable, or let the kernel answer for it beside the owner.
//!
//! When Linux answers an ARP request for an address that the node has on any interface (`arp_ignore` of the interface
//! on which the request came):
//!
//! | value | on the asked interface | on another interface, `lo`, `kube-ipvs0` |
//! |---|---|---|
//! | 0, 3 | yes | yes |
//! | 1, 2 | yes | no |
//! | 8 | no | no |
//!
//! A neighbour solicitation is answered only for addresses of the asked interface.

use crate::Table;
use engine::IfIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The settings of one interface, as they take effect together with those of `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// net.ipv4.conf.*.arp_ignore
    pub arp_ignore: u8,
    /// net.ipv4.conf.*.arp_announce
    pub arp_announce: u8,
    /// net.ipv4.conf.*.proxy_arp, and it forwards
    pub proxy_arp: bool,
}

/// Something on this node that keeps a pool's addresses from working.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Why, in one CamelCase word.
    pub reason: &'static str,
    /// The address, range or interface that it is about.
    pub subject: String,
    /// What, where, and the mend.
    pub message: String,
}

/// An address that the node has: itself, the interface, the length of its prefix.
type Held = (IpAddr, IfIndex, u8);

/// Reads the settings of these interfaces from /proc/sys; what cannot be read counts as the kernel's default, 0.
pub fn read_settings<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Settings> {
    let read = |of: &str, key: &str| -> u8 {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/{key}")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let of = |name: &str| {
        // The kernel takes the greater of both for these two, and either for proxy_arp. Forwarding is the interface's
        // own: a write to `all` is copied to every interface.
        let greater = |key: &str| read("all", key).max(read(name, key));
        Settings {
            arp_ignore: greater("arp_ignore"),
            arp_announce: greater("arp_announce"),
            proxy_arp: greater("proxy_arp") > 0 && read(name, "forwarding") > 0,
        }
    };
    names.into_iter().map(|name| (name.to_owned(), of(name))).collect()
}

/// What is wrong on this node for a pool with these ranges (first and last address of each) that is announced on these
/// interfaces. `route` gives the interface by which the kernel reaches an address, if there is one.
pub fn check(
    ranges: &[(IpAddr, IpAddr)],
    on: &BTreeSet<IfIndex>,
    table: &Table,
    settings: &BTreeMap<String, Settings>,
    route: impl Fn(IpAddr) -> Option<IfIndex>,
) -> BTreeSet<Warning> {
    let inside = |ip: IpAddr| ranges.iter().any(|r| contains(*r, ip));
    let mut found = BTreeSet::new();
    for (_, gateway) in table.gateways.keys().filter(|(_, ip)| inside(*ip)) {
        found.insert(gateway_in_pool(*gateway));
    }
    let held: Vec<Held> = table
        .addresses
        .iter()
        .flat_map(|(index, of)| of.iter().map(|(ip, prefix)| (*ip, *index, *prefix)))
        .filter(|(ip, ..)| inside(*ip))
        .collect();
    // An address with a subnet is the node's own; one without is put there for the sake of Services.
    let (for_services, own): (Vec<Held>, Vec<Held>) =
        held.into_iter().partition(|(ip, index, prefix)| *prefix == width(*ip) && !on.contains(index));
    found.extend(own.into_iter().map(|held| address_on_node(held, table)));
    for index in on {
        let name = table.name_of(*index);
        let settings = settings.get(&name).copied().unwrap_or_default();
        found.extend(port(*index, table));
        found.extend(kernel_answers(&for_services, *index, settings, table));
        if settings.proxy_arp {
            found.extend(ranges.iter().filter_map(|r| proxy_arp(*r, *index, &name, &route)));
        }
        found.extend(ranges.iter().filter_map(|r| outside(*r, *index, table)));
    }
    found
}

fn gateway_in_pool(gateway: IpAddr) -> Warning {
    let message = format!(
        "{gateway} is in the pool, but it is a gateway of this node: announcing it would cut the node off; \
         add {gateway} to spec.exclude of the pool"
    );
    Warning { reason: "GatewayInPool", subject: gateway.to_string(), message }
}

fn address_on_node((ip, index, prefix): Held, table: &Table) -> Warning {
    let name = table.name_of(index);
    let message = format!(
        "{ip} is in the pool, but this node has it on {name} and its kernel answers for it; if it is the node's own, \
         add {ip} to spec.exclude of the pool, otherwise remove it: ip address del {ip}/{prefix} dev {name}"
    );
    Warning { reason: "AddressOnNode", subject: ip.to_string(), message }
}

/// Frames that come in by the port of a bridge or of a bond belong to the bridge or bond.
fn port(index: IfIndex, table: &Table) -> Option<Warning> {
    let link = table.links.get(&index)?;
    let master = table.links.get(&link.master?)?;
    if !["bridge", "bond", "team", "openvswitch"].contains(&master.kind.as_str()) {
        return None;
    }
    let message = format!(
        "{} is part of the {} {}, which takes all its frames, so requests are not seen there; name {} in spec.interface",
        link.name, master.kind, master.name, master.name
    );
    Some(Warning { reason: "InterfaceIsPort", subject: link.name.clone(), message })
}

/// One warning for each interface that holds addresses of the pool, not one for each address: kube-proxy in IPVS mode
/// holds all of them.
fn kernel_answers(held: &[Held], on: IfIndex, settings: Settings, table: &Table) -> Vec<Warning> {
    let answers = !matches!(settings.arp_ignore, 1 | 2 | 8);
    // A value of 1 does not suffice: it lets an address of the target's own subnet through.
    let announces = settings.arp_announce < 2;
    let mut by_holder: BTreeMap<IfIndex, Vec<IpAddr>> = BTreeMap::new();
    for (ip, holder, _) in held.iter().filter(|(ip, ..)| ip.is_ipv4()) {
        by_holder.entry(*holder).or_default().push(*ip);
    }
    let name = table.name_of(on);
    let warning = |(holder, ips): (IfIndex, Vec<IpAddr>)| {
        let first = ips.first()?;
        let subject = if ips.len() == 1 { first.to_string() } else { format!("{first} and {} more", ips.len() - 1) };
        let (reason, what) = match (answers, announces) {
            (true, _) => ("KernelAnswers", "answers ARP for it, whoever owns it"),
            (false, true) => {
                ("KernelAnnounces", "names it as sender of its own ARP requests, which misleads neighbours")
            }
            (false, false) => return None,
        };
        let mut set = Vec::new();
        if answers {
            set.push(format!("net.ipv4.conf.{name}.arp_ignore=1"));
        }
        if announces {
            set.push(format!("net.ipv4.conf.{name}.arp_announce=2"));
        }
        let set = format!("sysctl -w {}", set.join(" "));
        let is_ipvs = table.links.get(&holder).is_some_and(|l| l.name == "kube-ipvs0");
        let mend = if is_ipvs {
            format!(
                "set ipvs.strictARP: true in the ConfigMap kube-proxy of kube-system and restart kube-proxy, or {set}"
            )
        } else {
            set
        };
        let holder = table.name_of(holder);
        let value = format!("arp_ignore is {} and arp_announce {}", settings.arp_ignore, settings.arp_announce);
        let message = format!(
            "{subject} of the pool: this node has it on {holder}, and on {name}, where {value}, its kernel {what}; {mend}"
        );
        Some(Warning { reason, subject, message })
    };
    by_holder.into_iter().filter_map(warning).collect()
}

/// With proxy_arp the kernel answers for every address that it would forward to another interface.
fn proxy_arp(
    (first, last): (IpAddr, IpAddr),
    on: IfIndex,
    name: &str,
    route: &impl Fn(IpAddr) -> Option<IfIndex>,
) -> Option<Warning> {
    let elsewhere = |ip: &IpAddr| ip.is_ipv4() && route(*ip).is_some_and(|by| by != on);
    [first, last].iter().find(|ip| elsewhere(ip)).map(|ip| Warning {
        reason: "KernelAnswers",
        subject: text((first, last)),
        message: format!(
            "proxy_arp is on for {name} and {ip} of the pool is routed elsewhere, so the kernel answers ARP for it, \
             whoever owns it; sysctl -w net.ipv4.conf.{name}.proxy_arp=0 (and net.ipv4.conf.all.proxy_arp=0)"
        ),
    })
}

/// D13: a warning and no refusal, since a router may well have a route to the pool.
fn outside(range: (IpAddr, IpAddr), on: IfIndex, table: &Table) -> Option<Warning> {
    let same_family = |ip: &IpAddr| ip.is_ipv4() == range.0.is_ipv4();
    let subnets: BTreeSet<(IpAddr, u8)> = table
        .addresses_of(on)
        .filter(|(ip, prefix)| same_family(ip) && *prefix < width(*ip) && !is_link_local(*ip))
        .map(|(ip, prefix)| (network(ip, prefix), prefix))
        .collect();
    if subnets.iter().any(|(n, prefix)| network(range.0, *prefix) == *n && network(range.1, *prefix) == *n) {
        return None;
    }
    let (range, name) = (text(range), table.name_of(on));
    let has: Vec<String> = subnets.iter().map(|(n, prefix)| format!("{n}/{prefix}")).collect();
    let has = if has.is_empty() { "it has none of this family".to_owned() } else { has.join(", ") };
    let message = format!(
        "{range} of the pool is not inside one subnet of {name} ({has}): hosts there do not ask for it by themselves; \
         it works where their router has a route to it on this link, otherwise choose addresses of the subnet or \
         another spec.interface"
    );
    Some(Warning { reason: "OutsideSubnet", subject: range, message })
}

fn text((first, last): (IpAddr, IpAddr)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn contains((first, last): (IpAddr, IpAddr), ip: IpAddr) -> bool {
    first.is_ipv4() == ip.is_ipv4() && (first..=last).contains(&ip)
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The number of bits in an address of this family.
fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The address with the bits after the prefix cleared.
fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    let host_bits = u32::from(width(ip).saturating_sub(prefix));
    match ip {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
