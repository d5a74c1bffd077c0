//! A fence in the kernel: for an owned address nothing leaves once its lease is over, whatever the process that owned
//! it does, or does not do because it is frozen.
//!
//! ```text
//!  leaves by a guarded interface:
//!    ARP that names a sender, or a neighbour advertisement ─► its address in `own`? ── no ──────────► passes
//!                                                                  │ yes: its class
//!                                                                  ▼
//!                                                 does the class's lease still run? ── yes ─────────► passes
//!                                                                  └─ no ───────────────────────────► dropped
//! ```
//!
//! One moment for each class keeps all addresses of it, so a renewal costs the same for one address as for thousands:
//! one write into an array, under no lock that others hold. nftables has sets whose elements end by themselves, but each
//! renewal would be a change of the node's rules, and whoever reads these (kube-proxy, iptables) starts anew whenever
//! they changed meanwhile.
//!
//! The program stays in the kernel (a filter of tc) when this process is killed: addresses that the process put on an
//! interface, for which the kernel answers by itself, are silent when their lease is over. It opens a minute after
//! that: so what a dead process left behind cannot silence the node for good. The next process puts its own in its place.

use crate::netlink::Changes;
use crate::{Error, sys};
use engine::{IfIndex, Tick};
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
    program: OwnedFd,
    own: OwnedFd,
    until: OwnedFd,
    changes: Changes,
    guarded: BTreeSet<IfIndex>,
    known: BTreeMap<IpAddr, Class>,
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
        let program = sys::bpf_on_egress(&program(&own, &until)).map_err(failed)?;
        let (changes, guarded) = (Changes::new()?, BTreeSet::new());
        Ok(Fence { program, own, until, changes, guarded, known: BTreeMap::new() })
    }

    /// Fences these interfaces, and no others. Those that are gone are not missed.
    pub fn guard(&mut self, interfaces: &BTreeSet<IfIndex>) -> Result<(), Error> {
        for on in self.guarded.difference(interfaces) {
            self.changes.detach(*on).map_err(|e| Error::on(*on, "take the fence away", e))?;
        }
        self.guarded.retain(|on| interfaces.contains(on));
        for on in interfaces {
            if self.guarded.contains(on) {
                continue;
            }
            match self.changes.attach(*on, &self.program) {
                Ok(()) => drop(self.guarded.insert(*on)),
                Err(Errno::NODEV) => {}
                Err(e @ Errno::PERM) => {
                    let what = "put a fence on an interface";
                    return Err(Error::NotPermitted { what, capability: "NET_ADMIN", source: e.into() });
                }
                Err(e) => return Err(Error::on(*on, "put a fence (tc clsact, BPF)", e)),
            }
        }
        Ok(())
    }

    /// An interface went away, and may be back: what is there now is not guarded.
    pub fn forget(&mut self, on: IfIndex) {
        self.guarded.remove(&on);
    }

    /// These are the owned addresses; others are not fenced.
    pub fn own(&mut self, addresses: BTreeMap<IpAddr, Class>) -> Result<(), Error> {
        let failed = |e: io::Error| Error::kernel("tell the fence of an address (BPF)", e);
        for address in self.known.keys().filter(|address| !addresses.contains_key(address)) {
            sys::bpf_remove(&self.own, &key(*address)).map_err(failed)?;
        }
        for (address, class) in addresses.iter().filter(|(address, class)| self.known.get(address) != Some(class)) {
            sys::bpf_set(&self.own, &key(*address), &class.to_ne_bytes()).map_err(failed)?;
        }
        self.known = addresses;
        Ok(())
    }

    /// What is owned in this class may leave until this moment.
    pub fn open(&self, class: Class, until: Tick) -> Result<(), Error> {
        let set = sys::bpf_set(&self.until, &class.to_ne_bytes(), &until.0.to_ne_bytes());
        set.map_err(|e| Error::kernel("tell the fence of a lease (BPF)", e))
    }
}

/// As IPv6 (RFC 4291 §2.5.5.2), as the program spells it.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// One instruction of the kernel's virtual machine (RFC 9669 §3).
pub(crate) type Instruction = [u8; 8];

/// Where the program jumps to.
#[derive(Clone, Copy, PartialEq)]
enum Label {
    Arp,
    Look,
    Pass,
}

/// The program above, in the order of execution. Register 6 holds the packet; the key is built on the stack.
fn program(own: &OwnedFd, until: &OwnedFd) -> Vec<Instruction> {
    const PACKET: u8 = 6;
    const KEY: i16 = -16;
    const SMALL: i16 = -24;
    let mut a = Assembler::default();
    a.copy(PACKET, 1);
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
    a.look_up(own, KEY);
    a.jump_if_equal(0, 0, Label::Pass);
    a.read(Size::Word, 1, 0, 0);
    a.store(Size::Word, SMALL, 1);
    a.look_up(until, SMALL);
    a.jump_if_equal(0, 0, Label::Pass);
    a.read(Size::Double, 7, 0, 0);
    a.call(KTIME_GET_BOOT_NS);
    a.jump_if_greater(7, 0, Label::Pass);
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

/// Helpers of linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const SKB_LOAD_BYTES: i32 = 26;
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
