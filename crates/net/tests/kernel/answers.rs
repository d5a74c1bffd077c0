//! When the kernel itself answers ARP, against what the host checks say of it.

use crate::frames::{arp, ethernet, next, request};
use crate::{cable, index, ip, sysctl, tests};
use net::{Monitor, PacketSocket, host};
use std::collections::BTreeSet;
use std::net::IpAddr;

tests![a_warning_is_given_exactly_where_the_kernel_answers, proxy_arp_is_warned_of_exactly_where_the_kernel_answers];

const A: [u8; 6] = crate::frames::A;

/// Asks `a` for an address from the other end of the cable, and says whether anything but us answers.
fn kernel_answers(a: &PacketSocket, b: &PacketSocket, address: [u8; 4]) -> bool {
    // To the station itself, so that an answer of proxy_arp is not delayed at random.
    let asked = ethernet(A, 0x0806, &arp(1, address));
    b.send(&asked).unwrap();
    assert_eq!(next(a), asked);
    // All runs on one CPU, so an answer of the kernel is on its way before this.
    a.send(&request(250)).unwrap();
    let mut answered = false;
    loop {
        let frame = next(b);
        if frame == request(250) {
            return answered;
        }
        let is_reply = frame[20..22] == [0, 2];
        answered |= is_reply && frame[28..32] == address;
    }
}

fn warned(pool: IpAddr, monitor: &Monitor) -> BTreeSet<host::Warning> {
    let settings = host::read_settings(["a"]);
    let on = BTreeSet::from([index("a")]);
    host::check(&[(pool, pool)], &on, monitor.table(), &settings, |ip| monitor.route_to(ip).ok())
}

fn one_cpu() {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &cpus).unwrap();
}

fn a_warning_is_given_exactly_where_the_kernel_answers() {
    one_cpu();
    cable();
    ip("address add 192.0.2.1/24 dev a");
    ip("link add name other type veth peer name far");
    ip("link set dev other up");
    let (a, b) = (PacketSocket::open(index("a")).unwrap(), PacketSocket::open(index("b")).unwrap());
    let pool = [192, 0, 2, 100];
    sysctl("ipv4/conf/a/arp_announce", 2);
    for holder in [None, Some("lo"), Some("other"), Some("a")] {
        if let Some(holder) = holder {
            ip(&format!("address add 192.0.2.100/32 dev {holder}"));
        }
        for (of, ignore) in [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("a", 8), ("all", 1), ("all", 8)] {
            sysctl(&format!("ipv4/conf/{of}/arp_ignore"), ignore);
            let answered = kernel_answers(&a, &b, pool);
            let monitor = Monitor::new().unwrap();
            let found = warned(pool.into(), &monitor);
            let expected = match holder {
                None => None,
                // A station that never answers is still not to have a Service's address on the asked interface.
                Some("a") => Some("AddressOnNode"),
                Some(_) => answered.then_some("KernelAnswers"),
            };
            let reasons: Vec<&str> = found.iter().map(|w| w.reason).collect();
            assert_eq!(
                reasons,
                Vec::from_iter(expected),
                "on {holder:?}, {of}.arp_ignore={ignore}, answered: {answered}"
            );
            let elsewhere = matches!(ignore, 0 | 3);
            let here = holder == Some("a") && ignore != 8;
            assert_eq!(answered, holder.is_some() && (elsewhere || here), "on {holder:?}, {of}.arp_ignore={ignore}");
            sysctl(&format!("ipv4/conf/{of}/arp_ignore"), 0);
        }
        if let Some(holder) = holder {
            ip(&format!("address del 192.0.2.100/32 dev {holder}"));
        }
    }
}

fn proxy_arp_is_warned_of_exactly_where_the_kernel_answers() {
    one_cpu();
    cable();
    ip("address add 192.0.2.1/24 dev a");
    ip("link add name other type veth peer name far");
    ip("link set dev other up");
    ip("link set dev far up");
    ip("address add 203.0.113.1/24 dev other");
    let (a, b) = (PacketSocket::open(index("a")).unwrap(), PacketSocket::open(index("b")).unwrap());
    for proxy in [0, 1] {
        for forward in [0, 1] {
            for (pool, elsewhere) in [([192, 0, 2, 100], false), ([203, 0, 113, 100], true), ([198, 51, 100, 1], false)]
            {
                sysctl("ipv4/conf/a/proxy_arp", proxy);
                sysctl("ipv4/conf/all/forwarding", forward);
                let answered = kernel_answers(&a, &b, pool);
                assert_eq!(answered, proxy == 1 && forward == 1 && elsewhere);
                let found = warned(pool.into(), &Monitor::new().unwrap());
                assert_eq!(found.iter().any(|w| w.reason == "KernelAnswers"), answered, "{found:?}");
            }
        }
    }
}
