//! All that is unsafe: system calls and address forms for which no safe crate has a function.
#![allow(unsafe_code)]

use crate::hop_udp::Arrival;
use engine::{IfIndex, MacAddr};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// TCP_MD5SIG_FLAG_PREFIX of linux/tcp.h, which `libc` has not.
const MD5_PREFIX: u8 = 1;

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

/// How many bits an address has.
pub(crate) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Sets the key of TCP-MD5 (RFC 2385) for packets from and to all peers whose first `length` bits are those of `peer`; an
/// empty one removes it (ENOENT: there was none).
pub(crate) fn tcp_md5(fd: impl AsFd, (peer, length): (IpAddr, u8), key: &[u8]) -> io::Result<()> {
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
    let one = length == bits(peer);
    let (option, flags, prefix) =
        if one { (libc::TCP_MD5SIG, 0, 0) } else { (libc::TCP_MD5SIG_EXT, MD5_PREFIX, length) };
    let request = Md5 { address, flags, prefix, length: key.len() as u16, device: 0, key: whole };
    set(fd, libc::IPPROTO_TCP, option, &request)
}

/// Drops packets that come with a lower TTL or hop limit (RFC 5082).
pub(crate) fn least_ttl(fd: impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(fd, level, option, &libc::c_int::from(ttl))
}

/// From now on each datagram is told with its TTL, its interface and the address that it was sent to.
pub(crate) fn tell_arrival(fd: impl AsFd + Copy, ipv6: bool) -> io::Result<()> {
    let (level, options) = if ipv6 {
        (libc::IPPROTO_IPV6, [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVPKTINFO])
    } else {
        (libc::IPPROTO_IP, [libc::IP_RECVTTL, libc::IP_PKTINFO])
    };
    options.iter().try_for_each(|option| set(fd, level, *option, &libc::c_int::from(true)))
}

/// The next datagram of a socket of [`tell_arrival`].
pub(crate) fn receive_arrival(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<Arrival> {
    // Aligned as `cmsghdr` must be; two messages take less than 80 bytes.
    let mut control = [0u64; 32];
    let mut sender = [0u64; size_of::<libc::sockaddr_in6>().div_ceil(8)];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut sender).cast();
    header.msg_namelen = size_of_val(&sender) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer in the header leads to memory of the length beside it, which outlives the call.
    let length = unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    // SAFETY: the kernel wrote an address of the family at its beginning, and `sender` has room for either.
    let from = unsafe { read_address((&raw const sender).cast()) }.unwrap_or(unknown);
    let mut arrival = Arrival { length, from, to: from.ip(), on: IfIndex(0), ttl: 0 };
    // SAFETY: `header` is as the kernel left it, so the macros stay within `control`; each kind of message has the
    // type that its option promises, and is read without regard to alignment.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(next);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let ttl = data.cast::<libc::c_int>().read_unaligned();
                    arrival.ttl = u8::try_from(ttl).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    arrival.on = IfIndex(info.ipi_ifindex as u32);
                    arrival.to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    arrival.on = IfIndex(info.ipi6_ifindex);
                    arrival.to = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    Ok(arrival)
}

/// # Safety
/// `at` leads to a `sockaddr_in` or a `sockaddr_in6`, as its family says, or to any other address of at least two bytes.
unsafe fn read_address(at: *const u8) -> Option<SocketAddr> {
    // SAFETY: by the contract of this function.
    unsafe {
        match libc::c_int::from(at.cast::<libc::sa_family_t>().read_unaligned()) {
            libc::AF_INET => {
                let a = at.cast::<libc::sockaddr_in>().read_unaligned();
                Some((Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr)), u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                let a = at.cast::<libc::sockaddr_in6>().read_unaligned();
                Some((Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port)).into())
            }
            _ => None,
        }
    }
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

/// What an Ethernet device takes in, by the numbers of packet(7).
#[derive(Clone, Copy)]
pub(crate) enum Member {
    Group = libc::PACKET_MR_MULTICAST as isize,
    Host = libc::PACKET_MR_UNICAST as isize,
}

/// Has an Ethernet device take in frames to this address, or not any more.
pub(crate) fn packet_membership(
    fd: impl AsFd,
    index: IfIndex,
    kind: Member,
    mac: MacAddr,
    join: bool,
) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac.0);
    let request =
        libc::packet_mreq { mr_ifindex: index.0 as i32, mr_type: kind as u16, mr_alen: 6, mr_address: address };
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

/// Takes pages of the program from this process; each comes back from its file when it is used.
pub(crate) fn let_go_of_pages(start: usize, end: usize) -> io::Result<()> {
    let (address, length) = (std::ptr::without_provenance_mut(start), end.saturating_sub(start));
    // SAFETY: the caller read from the kernel that this is a private mapping of a file that may not be written and never
    // was: its pages are the file's own, so those that come back are the same. The program never unmaps itself, so
    // nothing else can be there by now.
    let rc = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kinds of BPF maps in use, by their numbers.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    Hash = 1,
    Array = 2,
}

/// Commands of bpf(2).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;

/// `union bpf_attr`, as words of 32 bits; pointers have two. The kernel takes what is left out for zero.
///
/// # Safety
/// Every pointer in it must be good for what the command does with it.
unsafe fn bpf(command: libc::c_int, attributes: &[u32]) -> io::Result<libc::c_long> {
    let size = size_of_val(attributes);
    // SAFETY: the kernel reads `size` bytes; the caller answers for the pointers among them.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// A command whose result is a new descriptor. See [`bpf`].
unsafe fn bpf_descriptor(command: libc::c_int, attributes: &[u32]) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says; the kernel gives a descriptor that nobody else has.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

/// A pointer as the kernel reads it: 64 bits in the order of the machine.
fn words<T>(pointer: *const T) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = (pointer as u64).to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// A map for BPF, with keys and values of so many bytes. A hash takes memory only for what it holds.
pub(crate) fn bpf_map(kind: Map, key: u32, value: u32, room: u32) -> io::Result<OwnedFd> {
    const NO_PREALLOC: u32 = 1;
    let flags = if matches!(kind, Map::Hash) { NO_PREALLOC } else { 0 };
    // SAFETY: no pointers.
    unsafe { bpf_descriptor(BPF_MAP_CREATE, &[kind as u32, key, value, room, flags]) }
}

/// Sets a value, whose length and whose key's are those that the map was made with: a hash of 16 to 4 bytes or an array
/// of 4 to 8.
pub(crate) fn bpf_set(map: impl AsFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    assert!(matches!((key.len(), value.len()), (16, 4) | (4, 8)), "no map has such keys and values");
    let [k0, k1] = words(key.as_ptr());
    let [v0, v1] = words(value.as_ptr());
    // SAFETY: both are readable for as long as the lengths that maps are made with, and are only read.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &[map.as_fd().as_raw_fd() as u32, 0, k0, k1, v0, v1, 0, 0]) }.map(drop)
}

/// Removes a key of 16 bytes from a hash.
pub(crate) fn bpf_remove(map: impl AsFd, key: &[u8; 16]) -> io::Result<()> {
    let [k0, k1] = words(key.as_ptr());
    // SAFETY: no map has longer keys; it is only read.
    unsafe { bpf(BPF_MAP_DELETE_ELEM, &[map.as_fd().as_raw_fd() as u32, 0, k0, k1]) }.map(drop)
}

/// Loads a program that sees what passes an interface. The kernel checks it before it takes it.
pub(crate) fn bpf_program(program: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let [p0, p1] = words(program.as_ptr());
    let license = c"Apache-2.0";
    let [l0, l1] = words(license.as_ptr());
    let attributes = [SCHED_CLS, program.len() as u32, p0, p1, l0, l1];
    // SAFETY: the program and the text are readable, the one for its length, the other to its end.
    unsafe { bpf_descriptor(BPF_PROG_LOAD, &attributes) }
}

const SCHED_CLS: u32 = 3;
