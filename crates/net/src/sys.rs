//! All that is unsafe: system calls and address forms for which no safe crate has a function.
#![allow(unsafe_code)]

use engine::{IfIndex, MacAddr};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// `sockaddr_ll`: an interface, and the ethertype wanted from it.
pub(crate) struct LinkAddr(libc::sockaddr_ll);

impl LinkAddr {
    pub(crate) fn new(index: IfIndex, ethertype: u16) -> LinkAddr {
        LinkAddr(libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ethertype.to_be(),
            sll_ifindex: index.0 as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        })
    }
}

// SAFETY: the closure gets a pointer to a whole `sockaddr_ll` and its size; `self` outlives the call.
unsafe impl SocketAddrArg for LinkAddr {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f((&raw const self.0).cast(), size_of::<libc::sockaddr_ll>() as SocketAddrLen)
    }
}

/// A type that a socket option may be copied from or to byte by byte.
///
/// # Safety
/// Every bit pattern is a value, and the type has no padding.
unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: two 32-bit integers.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: an int, two shorts and eight bytes: 16 bytes without a gap.
unsafe impl Plain for libc::packet_mreq {}

// SAFETY: 128 bytes of an address, of which all are given a value; a byte, a byte, a short, an int and 80 bytes: no gap.
unsafe impl Plain for Md5 {}

/// `struct tcp_md5sig` of linux/tcp.h, whose address is a `struct sockaddr_storage` of 128 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Md5 {
    address: [u8; 128],
    flags: u8,
    prefix: u8,
    length: u16,
    device: i32,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

/// Sets the key of TCP-MD5 (RFC 2385) for packets from and to `peer`; an empty one removes it (ENOENT: there was none).
pub(crate) fn tcp_md5(fd: impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let mut address = [0; 128];
    // The layout of `sockaddr_in` and `sockaddr_in6`: family, port 0, and where the address begins.
    match peer {
        IpAddr::V4(ip) => {
            address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            address[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            address[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            address[8..24].copy_from_slice(&ip.octets());
        }
    }
    let mut whole = [0; libc::TCP_MD5SIG_MAXKEYLEN];
    let Some(room) = whole.get_mut(..key.len()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    room.copy_from_slice(key);
    let request = Md5 { address, flags: 0, prefix: 0, length: key.len() as u16, device: 0, key: whole };
    set(fd, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &request)
}

/// Drops packets that come with a lower TTL or hop limit (RFC 5082).
pub(crate) fn least_ttl(fd: impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(fd, level, option, &libc::c_int::from(ttl))
}

fn set<T: Plain>(fd: impl AsFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes, and the descriptor is borrowed for the call.
    let rc = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, (&raw const *value).cast(), len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of packet sockets that is a number.
pub(crate) fn set_packet(fd: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, option, &value)
}

/// Joins or leaves a multicast group of an Ethernet device.
pub(crate) fn packet_membership(fd: impl AsFd, index: IfIndex, group: MacAddr, join: bool) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group.0);
    let request = libc::packet_mreq {
        mr_ifindex: index.0 as i32,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: address,
    };
    let option = if join { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
    set(fd, libc::SOL_PACKET, option, &request)
}

/// Frames that the kernel dropped because the socket's buffer was full, since the last call.
pub(crate) fn packet_drops(fd: impl AsFd) -> io::Result<u32> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: `stats` is writable for `len` bytes, and any bytes make a value of it.
    let rc = unsafe {
        libc::getsockopt(raw, libc::SOL_PACKET, libc::PACKET_STATISTICS, (&raw mut stats).cast(), &raw mut len)
    };
    if rc == 0 { Ok(stats.tp_drops) } else { Err(io::Error::last_os_error()) }
}

/// SCHED_FIFO for the calling thread; children do not inherit it.
pub(crate) fn fifo(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is a whole `sched_param`; thread 0 is the calling one.
    let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of glibc's heap. One that it does not know changes nothing.
pub(crate) fn malloc_option(option: i32, value: i32) {
    // SAFETY: takes two numbers, and checks them.
    unsafe { libc::mallopt(option, value) };
}

/// Gives free pages of glibc's heaps back.
pub(crate) fn malloc_trim() {
    // SAFETY: takes the locks that every allocation takes; no block in use is touched.
    unsafe { libc::malloc_trim(0) };
}

/// Takes pages of code from this process; each comes back from its file when it is used.
pub(crate) fn let_go_of_code(start: usize, end: usize) -> io::Result<()> {
    let (address, length) = (std::ptr::without_provenance_mut(start), end.saturating_sub(start));
    // SAFETY: the caller read from the kernel that this is a private mapping of a file that may be executed and not
    // written: its pages are the file's own, so those that come back are the same. The program never unmaps its
    // code, so nothing else can be there by now.
    let rc = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
