//! What we change in the kernel: addresses of Services on an interface, and the program that guards what leaves by it.

use super::monitor::Routes;
use super::wire::{self, Message, family_and_octets, nested, request};
use crate::Error;
use engine::IfIndex;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Who put an address there (Linux 5.18, linux/if_addr.h).
pub(super) const IFA_PROTO: u16 = 11;
/// Marks our addresses, so that they are told from the node's own and swept after a crash.
pub(super) const OURS: u8 = 0x6f;

/// Where our program is among those that see what leaves: before those of most others, and its name there.
const PREFERENCE: u32 = 7;
const HANDLE: u32 = 0x6f78;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

const ALL_PROTOCOLS: u16 = 3;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
/// What the program says is done.
const DIRECT_ACTION: u32 = 1;

/// Which frames a program sees: the parents of linux/pkt_sched.h.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Way {
    In = 0xffff_fff2,
    Out = 0xffff_fff3,
}

/// Changes the network of this node. Needs the capability NET_ADMIN.
#[derive(Debug)]
pub struct Changes(Routes);

impl Changes {
    /// Opens the socket.
    pub fn new() -> Result<Changes, Error> {
        Routes::new().map(Changes)
    }

    /// Puts an address on an interface, or has one that is there last longer: so long from now, rounded up to seconds.
    /// It has no subnet and no duplicate address detection, and the node never takes it as the source of what it sends
    /// by itself.
    pub fn put(&self, on: IfIndex, address: IpAddr, lasts: Duration) -> Result<(), Error> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let (fixed, octets) = of_address(on, address);
        let seconds = u32::try_from(lasts.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX);
        // Preferred for no time at all: deprecated (RFC 4862 §5.5.4), which keeps it from being a source.
        let lifetimes = [0u32, seconds, 0, 0].map(u32::to_ne_bytes).concat();
        let marks = (libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE).to_ne_bytes();
        self.change(on, &format!("put {address} there"), |n| {
            request(
                libc::RTM_NEWADDR,
                flags | libc::NLM_F_ACK,
                n,
                &fixed,
                &[
                    (libc::IFA_LOCAL, &octets),
                    (libc::IFA_ADDRESS, &octets),
                    (libc::IFA_FLAGS, &marks),
                    (libc::IFA_CACHEINFO, &lifetimes),
                    (IFA_PROTO, &[OURS]),
                ],
            )
        })
    }

    /// Takes an address from an interface. One that is not there is not missed.
    pub fn remove(&self, on: IfIndex, address: IpAddr) -> Result<(), Error> {
        let (fixed, octets) = of_address(on, address);
        let attributes: &[(u16, &[u8])] = &[(libc::IFA_LOCAL, &octets), (libc::IFA_ADDRESS, &octets)];
        let done = self.change(on, &format!("take {address} from there"), |n| {
            request(libc::RTM_DELADDR, libc::NLM_F_ACK, n, &fixed, attributes)
        });
        let gone = |e: &Error| match e {
            Error::Gone(_) => true,
            Error::Kernel { source, .. } => source.raw_os_error() == Some(libc::EADDRNOTAVAIL),
            _ => false,
        };
        done.or_else(|e| if gone(&e) { Ok(()) } else { Err(e) })
    }

    /// The addresses that an oxelb has put on interfaces.
    pub fn ours(&self) -> Result<Vec<(IfIndex, IpAddr)>, Error> {
        let all = self.0.dump(wire::dump_addresses)?;
        let ours = all.into_iter().filter_map(|message| match message {
            Message::Address { index, ip, ours: true, .. } => Some((index, ip)),
            _ => None,
        });
        Ok(ours.collect())
    }

    /// Has a program see what passes an interface this way, instead of the one of ours that may be there. It stays when this
    /// process ends.
    pub(crate) fn attach(&self, on: IfIndex, way: Way, program: impl AsFd) -> Result<(), Errno> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
        let place = tc(on, CLSACT_HANDLE, CLSACT, 0);
        let made = self.0.ask(|n| {
            request(libc::RTM_NEWQDISC, flags | libc::NLM_F_EXCL, n, &place, &[(libc::TCA_KIND, b"clsact\0")])
        });
        if let Err(e) = made
            && e != Errno::EXIST
        {
            return Err(e);
        }
        let place = tc(on, HANDLE, way as u32, PREFERENCE);
        let options = nested(&[
            (BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes()),
            (BPF_NAME, b"oxelb-fence\0"),
            (BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
        ]);
        let attributes: &[(u16, &[u8])] = &[(libc::TCA_KIND, b"bpf\0"), (libc::TCA_OPTIONS, &options)];
        self.0.ask(|n| request(libc::RTM_NEWTFILTER, flags | libc::NLM_F_REPLACE, n, &place, attributes)).map(drop)
    }

    /// Takes our program away from an interface, if it is there.
    pub(crate) fn detach(&self, on: IfIndex, way: Way) -> Result<(), Errno> {
        let place = tc(on, HANDLE, way as u32, PREFERENCE);
        let kind: &[(u16, &[u8])] = &[(libc::TCA_KIND, b"bpf\0")];
        match self.0.ask(|n| request(libc::RTM_DELTFILTER, libc::NLM_F_ACK, n, &place, kind)) {
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::INVAL) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn change(&self, on: IfIndex, what: &str, request: impl Fn(u32) -> Vec<u8>) -> Result<(), Error> {
        self.0.ask(request).map(drop).map_err(|e| match e {
            Errno::PERM => Error::NotPermitted { what: "change addresses", capability: "NET_ADMIN", source: e.into() },
            other => Error::on(on, what, other),
        })
    }
}

/// `ifaddrmsg`, and the address as octets.
fn of_address(on: IfIndex, address: IpAddr) -> ([u8; 8], Vec<u8>) {
    let (family, octets) = family_and_octets(address);
    let mut fixed = [family, (octets.len() * 8) as u8, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&on.0.to_ne_bytes());
    (fixed, octets)
}

/// `tcmsg`
fn tc(on: IfIndex, handle: u32, parent: u32, preference: u32) -> Vec<u8> {
    let protocol = if preference == 0 { 0 } else { u32::from(ALL_PROTOCOLS.to_be()) };
    let numbers = [0, on.0, handle, parent, preference << 16 | protocol];
    numbers.map(u32::to_ne_bytes).concat()
}
