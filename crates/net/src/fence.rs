//! A fence in the kernel: for an owned address nothing leaves once its lease is over, whatever the process that owned
//! it does, or does not do because it is frozen; and from or to the MAC address of an owned virtual router nothing passes.
//!
//! ```text
//!  leaves by a guarded interface:
//!    ARP that names a sender, or a neighbour advertisement ─► its address in `own`? ── no ──────────► passes
//!                                                                  │ yes: its class
//!                                                                  ▼
//!                                                 does the class's lease still run? ── yes ─────────► passes
//!                                                                  └─ no ───────────────────────────► dropped
//!    any frame from the MAC address of a virtual router: the same, by that address
//!
//!  comes in by it, though not to its own MAC address:
//!    to a MAC address in `own`, whose class's lease still runs ───────────────────────────────────────► is for this host
//! ```
//!
//! A macvlan would have the virtual router's MAC address too. But it is one more interface on the node for every router,
//! which other programs see and configure, which speaks by itself from that address (MLD, router solicitations), and
//! which stays when its maker is killed.
//!
//! One moment for each class keeps all addresses of it, so a renewal costs the same for one address as for thousands:
//! one write into an array, under no lock that others hold. nftables has sets whose elements end by themselves, but each
//! renewal would be a change of the node's rules, and whoever reads these (kube-proxy, iptables) starts anew whenever
//! they changed meanwhile.
//!
//! The program stays in the kernel (a filter of tc) when this process is killed: addresses that the process put on an
//! interface, for which the kernel answers by itself, are silent when their lease is over. It opens a minute after
//! that: so what a dead process left behind cannot silence the node for good. The next process puts its own in its place.

use crate::netlink::{Changes, Way};
use crate::{Error, sys};
use engine::{IfIndex, MacAddr, Tick};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Addresses that share their lease, as far as the fence is concerned: less than [`CLASSES`].
pub type Class = u32;

/// So many classes there are.
pub const CLASSES: u32 = 8;
/// More addresses are not fenced.
const ADDRESSES: u32 = 1 << 16;

/// The fence of this process.
#[derive(Debug)]
pub struct Fence {
    out: OwnedFd,
    within: OwnedFd,
    own: OwnedFd,
    until: OwnedFd,
    changes: Changes,
    guarded: BTreeSet<IfIndex>,
    /// Those of them that let in what is for virtual routers.
    letting_in: BTreeSet<IfIndex>,
    known: BTreeMap<Key, Class>,
}

impl Fence {
    /// Makes one that fences nothing yet. Needs Linux 5.8, and the capabilities BPF and NET_ADMIN.
    pub fn new() -> Result<Fence, Error> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::EPERM) => Error::NotPermitted { what: "make a fence in the kernel", capability: "BPF", source },
            _ => Error::kernel("make a fence in the kernel (BPF)", source),
        };
        let own = sys::bpf_map(sys::Map::Hash, 16, 4, ADDRESSES).map_err(failed)?;
        let until = sys::bpf_map(sys::Map::Array, 4, 8, CLASSES).map_err(failed)?;
        let load = |code: Vec<Instruction>| sys::bpf_program(&code).map_err(failed);
        let (out, within) = (load(leaving(&own, &until))?, load(coming(&own, &until))?);
        let (changes, guarded, letting_in) = (Changes::new()?, BTreeSet::new(), BTreeSet::new());
        Ok(Fence { out, within, own, until, changes, guarded, letting_in, known: BTreeMap::new() })
    }

    /// Fences these interfaces, and no others. Those that are gone are not missed.
    pub fn guard(&mut self, interfaces: &BTreeSet<IfIndex>) -> Result<(), Error> {
        for on in self.guarded.difference(interfaces) {
            let gone = self.changes.detach(*on, Way::Out).and_then(|()| self.changes.detach(*on, Way::In));
            gone.map_err(|e| Error::on(*on, "take the fence away", e))?;
        }
        self.guarded.retain(|on| interfaces.contains(on));
        self.letting_in.retain(|on| interfaces.contains(on));
        for on in interfaces.difference(&self.guarded.clone()) {
            if attach(&self.changes, *on, Way::Out, &self.out)? {
                // A process before may have let in what is for virtual routers.
                let gone = self.changes.detach(*on, Way::In);
                gone.map_err(|e| Error::on(*on, "take away an earlier fence", e))?;
                self.guarded.insert(*on);
            }
        }
        Ok(())
    }

    /// An interface went away, and may be back: what is there now is not guarded.
    pub fn forget(&mut self, on: IfIndex) {
        self.guarded.remove(&on);
        self.letting_in.remove(&on);
    }

    /// These are the owned addresses, and the MAC addresses of the owned virtual routers; others are not fenced, and not
    /// let in.
    pub fn own(&mut self, addresses: &BTreeMap<IpAddr, Class>, macs: &BTreeMap<MacAddr, Class>) -> Result<(), Error> {
        let failed = |e: io::Error| Error::kernel("tell the fence of an address (BPF)", e);
        let addresses = addresses.iter().map(|(ip, class)| (key(*ip), *class));
        let wanted: BTreeMap<Key, Class> =
            addresses.chain(macs.iter().map(|(mac, c)| (key_of_mac(*mac), *c))).collect();
        for key in self.known.keys().filter(|key| !wanted.contains_key(*key)) {
            sys::bpf_remove(&self.own, key).map_err(failed)?;
        }
        for (key, class) in wanted.iter().filter(|(key, class)| self.known.get(*key) != Some(class)) {
            sys::bpf_set(&self.own, key, &class.to_ne_bytes()).map_err(failed)?;
        }
        self.known = wanted;
        let closed: Vec<IfIndex> = self.guarded.difference(&self.letting_in).copied().collect();
        for on in closed.into_iter().filter(|_| !macs.is_empty()) {
            if attach(&self.changes, on, Way::In, &self.within)? {
                self.letting_in.insert(on);
            }
        }
        Ok(())
    }

    /// What is owned in this class may leave until this moment.
    pub fn open(&self, class: Class, until: Tick) -> Result<(), Error> {
        let set = sys::bpf_set(&self.until, &class.to_ne_bytes(), &until.0.to_ne_bytes());
        set.map_err(|e| Error::kernel("tell the fence of a lease (BPF)", e))
    }
}

/// Puts a program on an interface; false when that is gone.
fn attach(changes: &Changes, on: IfIndex, way: Way, program: &OwnedFd) -> Result<bool, Error> {
    match changes.attach(on, way, program) {
        Ok(()) => Ok(true),
        Err(Errno::NODEV) => Ok(false),
        Err(e @ Errno::PERM) => {
            let what = "put a fence on an interface";
            Err(Error::NotPermitted { what, capability: "NET_ADMIN", source: e.into() })
        }
        Err(e) => Err(Error::on(on, "put a fence (tc clsact, BPF)", e)),
    }
}

/// What the programs look for in `own`.
type Key = [u8; 16];

/// As IPv6 (RFC 4291 §2.5.5.2), as the programs spell it.
fn key(address: IpAddr) -> Key {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Behind what would be the prefix of a multicast group, which nobody owns.
fn key_of_mac(MacAddr(octets): MacAddr) -> Key {
    let mut key = [0xff; 16];
    key[10..].copy_from_slice(&octets);
    key
}

/// One instruction of the kernel's virtual machine (RFC 9669 §3).
pub(crate) type Instruction = [u8; 8];

/// Where the programs jump to.
#[derive(Clone, Copy, PartialEq)]
enum Label {
    Protocol,
    Arp,
    Look,
    Over,
    Ours,
    Pass,
}

/// In this register is the packet.
const PACKET: u8 = 6;
/// Here on the stack is the key, and here what is small.
const KEY: i16 = -16;
const SMALL: i16 = -24;
/// How MAC addresses of virtual routers begin (RFC 9568 §7.3); the fifth octet says which family.
const OF_ROUTERS: [u8; 4] = [0, 0, 0x5e, 0];

/// What sees the frames that leave, in the order of execution.
fn leaving(own: &OwnedFd, until: &OwnedFd) -> Vec<Instruction> {
    let mut a = Assembler::default();
    a.copy(PACKET, 1);
    a.key_of_router(6, Label::Protocol);
    a.lease(own, until, Label::Protocol);
    a.jump_if_greater(7, 0, Label::Protocol);
    a.jump(Label::Over);
    a.label(Label::Protocol);
    a.load(PACKET, 12, SMALL, 2);
    a.read(Size::Half, 7, 10, SMALL);
    a.big_endian_half(7);
    a.jump_if_equal(7, 0x0806, Label::Arp);
    a.jump_unless_equal(7, 0x86dd, Label::Pass);
    // A neighbour advertisement (RFC 4861 §4.4), after 14 bytes of Ethernet: next header at 6, type at 40, target at 48.
    a.load(PACKET, 14 + 6, SMALL, 1);
    a.read(Size::Byte, 7, 10, SMALL);
    a.jump_unless_equal(7, 58, Label::Pass);
    a.load(PACKET, 14 + 40, SMALL, 1);
    a.read(Size::Byte, 7, 10, SMALL);
    a.jump_unless_equal(7, 136, Label::Pass);
    a.load(PACKET, 14 + 48, KEY, 16);
    a.jump(Label::Look);
    // ARP (RFC 826) of any operation: the sender's protocol address at 14.
    a.label(Label::Arp);
    a.write(Size::Double, KEY, 0);
    a.write(Size::Word, KEY + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    a.load(PACKET, 14 + 14, KEY + 12, 4);
    a.label(Label::Look);
    a.lease(own, until, Label::Pass);
    a.jump_if_greater(7, 0, Label::Pass);
    a.label(Label::Over);
    // 2^36 ns: 69 s.
    a.set(1, 1);
    a.shift_left(1, 36);
    a.add(7, 1);
    a.jump_if_greater(0, 7, Label::Pass);
    a.leave(DROP);
    a.label(Label::Pass);
    a.leave(NEXT);
    a.finish()
}

/// What sees the frames that come in. Most are for this host, and looked at no further.
fn coming(own: &OwnedFd, until: &OwnedFd) -> Vec<Instruction> {
    let mut a = Assembler::default();
    a.copy(PACKET, 1);
    a.read(Size::Word, 7, PACKET, PACKET_TYPE);
    a.jump_unless_equal(7, libc::PACKET_OTHERHOST.into(), Label::Pass);
    a.key_of_router(0, Label::Pass);
    a.lease(own, until, Label::Pass);
    a.jump_if_greater(7, 0, Label::Ours);
    a.jump(Label::Pass);
    a.label(Label::Ours);
    a.copy(1, PACKET);
    a.set(2, libc::PACKET_HOST.into());
    a.call(SKB_CHANGE_TYPE);
    a.label(Label::Pass);
    a.leave(NEXT);
    a.finish()
}

/// Where the kind of a packet is in its `__sk_buff`.
const PACKET_TYPE: i16 = 4;
/// Helpers of linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const SKB_LOAD_BYTES: i32 = 26;
const SKB_CHANGE_TYPE: i32 = 32;
const KTIME_GET_BOOT_NS: i32 = 125;
/// Verdicts of linux/pkt_cls.h: ask the next program, and drop.
const NEXT: i32 = -1;
const DROP: i32 = 2;

/// What is read or written at once (RFC 9669 §5).
#[derive(Clone, Copy)]
enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// Instructions in order, and jumps forward to places that come later.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    places: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn put(&mut self, opcode: u8, to: u8, from: u8, offset: i16, number: i32) {
        // The halves of a byte are ordered as the bytes of a word are.
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        let [o0, o1] = offset.to_ne_bytes();
        let [n0, n1, n2, n3] = number.to_ne_bytes();
        self.code.push([opcode, registers, o0, o1, n0, n1, n2, n3]);
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.put(0xbf, to, from, 0, 0);
    }

    fn set(&mut self, to: u8, number: i32) {
        self.put(0xb7, to, 0, 0, number);
    }

    fn shift_left(&mut self, to: u8, by: i32) {
        self.put(0x67, to, 0, 0, by);
    }

    fn add(&mut self, to: u8, from: u8) {
        self.put(0x0f, to, from, 0, 0);
    }

    /// The address of a place on the stack, whose end is in register 10.
    fn stack(&mut self, to: u8, at: i16) {
        self.copy(to, 10);
        self.put(0x07, to, 0, 0, at.into());
    }

    fn read(&mut self, size: Size, to: u8, from: u8, at: i16) {
        self.put(0x61 | size as u8, to, from, at, 0);
    }

    fn write(&mut self, size: Size, at: i16, number: i32) {
        self.put(0x62 | size as u8, 10, 0, at, number);
    }

    fn store(&mut self, size: Size, at: i16, from: u8) {
        self.put(0x63 | size as u8, 10, from, at, 0);
    }

    fn big_endian_half(&mut self, register: u8) {
        self.put(0xdc, register, 0, 0, 16);
    }

    fn call(&mut self, helper: i32) {
        self.put(0x85, 0, 0, 0, helper);
    }

    fn leave(&mut self, verdict: i32) {
        self.set(0, verdict);
        self.put(0x95, 0, 0, 0, 0);
    }

    /// Bytes of the packet onto the stack. A packet that is too short is no concern of the fence.
    fn load(&mut self, packet: u8, offset: i32, to: i16, length: i32) {
        self.copy(1, packet);
        self.set(2, offset);
        self.stack(3, to);
        self.set(4, length);
        self.call(SKB_LOAD_BYTES);
        self.jump_unless_equal(0, 0, Label::Pass);
    }

    /// The key of the virtual router whose MAC address is there in the packet; goes on elsewhere when it is none's.
    fn key_of_router(&mut self, at: i32, none: Label) {
        self.load(PACKET, at, SMALL, 4);
        self.read(Size::Word, 7, 10, SMALL);
        self.jump_unless_equal(7, i32::from_ne_bytes(OF_ROUTERS), none);
        self.write(Size::Double, KEY, -1);
        self.write(Size::Half, KEY + 8, -1);
        self.load(PACKET, at, KEY + 10, 6);
    }

    /// Until when the lease of the key on the stack runs, into register 7, and the time that it is, into register 0; goes on
    /// elsewhere when it is not owned.
    fn lease(&mut self, own: &OwnedFd, until: &OwnedFd, none: Label) {
        self.look_up(own, KEY);
        self.jump_if_equal(0, 0, none);
        self.read(Size::Word, 1, 0, 0);
        self.store(Size::Word, SMALL, 1);
        self.look_up(until, SMALL);
        self.jump_if_equal(0, 0, none);
        self.read(Size::Double, 7, 0, 0);
        self.call(KTIME_GET_BOOT_NS);
    }

    /// The value of the key on the stack, into register 0; 0 where there is none.
    fn look_up(&mut self, map: &OwnedFd, key: i16) {
        // Two instructions long: the second has the upper half of the number, which a descriptor has not.
        self.put(0x18, 1, 1, 0, map.as_raw_fd());
        self.put(0, 0, 0, 0, 0);
        self.stack(2, key);
        self.call(MAP_LOOKUP_ELEM);
    }

    fn jump(&mut self, to: Label) {
        self.jump_with(0x05, 0, 0, 0, to);
    }

    fn jump_if_equal(&mut self, register: u8, number: i32, to: Label) {
        self.jump_with(0x15, register, 0, number, to);
    }

    fn jump_unless_equal(&mut self, register: u8, number: i32, to: Label) {
        self.jump_with(0x55, register, 0, number, to);
    }

    fn jump_if_greater(&mut self, register: u8, other: u8, to: Label) {
        self.jump_with(0x2d, register, other, 0, to);
    }

    fn jump_with(&mut self, opcode: u8, register: u8, other: u8, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.put(opcode, register, other, 0, number);
    }

    fn label(&mut self, label: Label) {
        self.places.push((label, self.code.len()));
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, to) in self.jumps {
            let place = self.places.iter().find(|(label, _)| *label == to).map_or(at + 1, |(_, place)| *place);
            // Counted from the instruction after the jump.
            let [o0, o1] = ((place - at - 1) as i16).to_ne_bytes();
            (self.code[at][2], self.code[at][3]) = (o0, o1);
        }
        self.code
    }
}
