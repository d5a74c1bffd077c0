//! The link-local address of an interface.

use engine::IfIndex;
use std::net::Ipv6Addr;

/// A scope in /proc/net/if_inet6: IPV6_ADDR_LINKLOCAL of the kernel.
const LINK_LOCAL: &str = "20";
/// A flag there: nobody knows yet whether the address is unique (IFA_F_TENTATIVE).
const TENTATIVE: u8 = 0x40;

/// The number of the interface of this name, and its link-local address; `None` while it has none that can be used.
pub fn link_local(name: &str) -> Option<(IfIndex, Ipv6Addr)> {
    find(&std::fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?, name)
}

/// Lines are: address, interface, length, scope, flags, name; all numbers hexadecimal.
fn find(table: &str, name: &str) -> Option<(IfIndex, Ipv6Addr)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, index, _, LINK_LOCAL, flags, of] = fields[..] else { return None };
        let usable = of == name && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & TENTATIVE == 0);
        let address = u128::from_str_radix(address, 16).ok().filter(|_| usable)?;
        Some((IfIndex(u32::from_str_radix(index, 16).ok()?), Ipv6Addr::from_bits(address)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_usable_one_of_that_interface() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fd000000000000000000000000000005 0a 40 00 80     eth0\n\
                     fe80000000000000a00000fffe000001 0a 40 20 c0     eth0\n\
                     fe80000000000000a00000fffe000002 0b 40 20 80     eth1\n";
        assert_eq!(find(table, "eth0"), None, "tentative");
        assert_eq!(find(table, "eth"), None);
        let usable = table.replace("c0     eth0", "80     eth0");
        assert_eq!(find(&usable, "eth0"), Some((IfIndex(10), "fe80::a000:ff:fe00:1".parse().unwrap())));
        assert_eq!(find("nonsense\n", "eth0"), None);
    }
}
