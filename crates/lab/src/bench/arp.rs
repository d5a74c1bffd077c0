//! ARP as another host on the segment sees it: who speaks for an address, and how many questions are answered.

use anyhow::{Context, Result, ensure};
use engine::{IfIndex, MacAddr};
use net::PacketSocket;
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::table::Row;
use crate::host::Host;
use crate::process::Process;
use crate::wait::{millis, secs};

const FLOOD: Duration = secs(2);
/// Questions on their way at once: enough to keep both sides busy, too few to overflow a queue.
const WINDOW: usize = 64;
const REPLY: u16 = 2;

/// A host's device on the segment, with what a frame needs.
#[derive(Clone, Debug)]
pub struct Port {
    host: Host,
    index: IfIndex,
    mac: MacAddr,
    ip: Ipv4Addr,
}

impl Port {
    /// The device `dev` of a host, whose address there is `ip`.
    pub fn of(host: &Host, dev: &str, ip: Ipv4Addr) -> Result<Port> {
        let line = host.ip(&format!("-o link show dev {dev}"))?;
        let index = line.split(':').next().and_then(|n| n.trim().parse().ok()).context("no interface number")?;
        Ok(Port { host: host.clone(), index: IfIndex(index), mac: host.mac(dev)?.parse()?, ip })
    }

    /// Its address on the wire.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }
}

type Heard = BTreeMap<Ipv4Addr, (Instant, MacAddr)>;

/// Listens for ARP frames that speak for an address, until the program ends.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<(Mutex<Heard>, Condvar)>);

impl Tap {
    /// Starts to listen.
    pub fn start(port: &Port) -> Result<Tap> {
        let (tap, index) = (Tap::default(), port.index);
        let socket = port.host.inside(move || PacketSocket::open(index))??;
        let own = tap.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                wait(&socket, millis(1000));
                while let Ok(Some(_)) = socket.receive(&mut buffer) {
                    let now = Instant::now();
                    if let Some((_, mac, ip)) = parse(&buffer) {
                        own.lock().entry(ip).or_insert((now, mac));
                        own.0.1.notify_all();
                    }
                }
            }
        });
        Ok(tap)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has spoken for an address: when first, and who.
    pub fn heard(&self, ip: Ipv4Addr, within: Duration) -> Result<(Instant, MacAddr)> {
        let end = Instant::now() + within;
        let mut heard = self.lock();
        loop {
            if let Some(found) = heard.get(&ip) {
                return Ok(*found);
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nobody has spoken for {ip} on the wire within {} s", within.as_secs());
            heard = self.0.1.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// An address that this node was the first to speak for.
    pub fn of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.lock().iter().find(|(ip, (_, who))| *who == mac && ip.octets()[0] == 10).map(|(ip, _)| *ip)
    }
}

/// Opcode, sender's MAC and sender's address of an ARP frame.
fn parse(frame: &[u8]) -> Option<(u16, MacAddr, Ipv4Addr)> {
    let arp = frame.get(12..42).filter(|rest| rest[..2] == [0x08, 0x06])?;
    let mac: [u8; 6] = arp[10..16].try_into().ok()?;
    let ip: [u8; 4] = arp[16..20].try_into().ok()?;
    Some((u16::from_be_bytes([arp[8], arp[9]]), MacAddr(mac), Ipv4Addr::from(ip)))
}

fn question(from: &Port, to: &Port, target: Ipv4Addr) -> Vec<u8> {
    // To the node's own MAC, as hosts ask that refresh an entry: only the two are busy.
    let mut frame = [to.mac.0, from.mac.0].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(from.mac.0);
    frame.extend(from.ip.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn wait(socket: &PacketSocket, within: Duration) {
    let timeout = u16::try_from(within.as_millis()).unwrap_or(u16::MAX);
    let _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout);
}

/// What a flood of questions brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    asked: u64,
    answered: u64,
    took: Duration,
    /// CPU of the thread that asked, in nanoseconds; the kernel sends, receives and answers in its name.
    asker: u64,
}

impl Flood {
    fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    fn cpu(&self) -> f64 {
        self.asker as f64 / 1e3 / self.asked.max(1) as f64
    }

    /// Both together.
    pub fn and(self, other: Flood) -> Flood {
        Flood {
            asked: self.asked + other.asked,
            answered: self.answered + other.answered,
            took: self.took + other.took,
            asker: self.asker + other.asker,
        }
    }
}

/// Asks `to` for `target` for two seconds, always a window of questions at once.
pub fn flood(from: &Port, to: &Port, target: Ipv4Addr) -> Result<Flood> {
    let frame = question(from, to, target);
    from.host.inside(move || -> Result<Flood> {
        let socket = PacketSocket::open(from.index)?;
        let mut buffer = [0; 2048];
        let (mut flood, mut open) = (Flood::default(), 0usize);
        let (start, cpu) = (Instant::now(), cpu_of("/proc/thread-self")?);
        while start.elapsed() < FLOOD {
            while open < WINDOW {
                socket.send(&frame)?;
                flood.asked += 1;
                open += 1;
            }
            wait(&socket, millis(20));
            let before = flood.answered;
            while socket.receive(&mut buffer)?.is_some() {
                if parse(&buffer).is_some_and(|(op, _, ip)| op == REPLY && ip == target) {
                    flood.answered += 1;
                    open = open.saturating_sub(1);
                }
            }
            if flood.answered == before {
                open = 0; // lost
            }
        }
        flood.took = start.elapsed();
        flood.asker = cpu_of("/proc/thread-self")? - cpu;
        Ok(flood)
    })?
}

/// Sends as many questions as a flood has, for an address that nobody has: what asking alone costs.
pub fn unanswered(from: &Port, to: &Port, target: Ipv4Addr) -> Result<Flood> {
    let frame = question(from, to, target);
    from.host.inside(move || -> Result<Flood> {
        let socket = PacketSocket::open(from.index)?;
        let (start, cpu) = (Instant::now(), cpu_of("/proc/thread-self")?);
        let mut flood = Flood::default();
        while start.elapsed() < secs(1) {
            for _ in 0..WINDOW {
                socket.send(&frame)?;
            }
            flood.asked += WINDOW as u64;
        }
        flood.took = start.elapsed();
        flood.asker = cpu_of("/proc/thread-self")? - cpu;
        Ok(flood)
    })?
}

/// Nanoseconds that a thread has run, finer than the ticks of utime and stime.
fn cpu_of(task: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("{task}/schedstat"))?;
    Ok(text.split_whitespace().next().context("no schedstat")?.parse()?)
}

/// Nanoseconds that all threads of a process have run, in user space and in the kernel.
fn cpu_of_process(process: &Process) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid()))?;
    tasks.map(|task| cpu_of(&task?.path().display().to_string())).sum()
}

/// Floods a speaker for an address that it owns. Returns also its CPU in nanoseconds.
pub fn flood_speaker(from: &Port, to: &Port, target: Ipv4Addr, speaker: &Process) -> Result<(Flood, u64)> {
    let before = cpu_of_process(speaker)?;
    let flood = flood(from, to, target)?;
    Ok((flood, cpu_of_process(speaker)? - before))
}

/// The rows of floods of a speaker, of the kernel, and of nobody.
pub fn rows((ours, speaker): (Flood, u64), kernel: Flood, nobody: Flood) -> Result<Vec<Row>> {
    ensure!(ours.answered > 0 && kernel.answered > 0, "no answers to a flood of ARP requests");
    let own = speaker as f64 / 1e3 / ours.answered as f64;
    Ok(vec![
        Row::new("ARP answers", ours.rate(), "a second")
            .floor(kernel.rate())
            .note("64 questions on their way at once for 2 s; floor: the kernel, for an address that it holds"),
        Row::new("ARP, CPU an answer", own, "µs").floor((kernel.cpu() - nobody.cpu()).max(0.0)).note(
            "oxelb: run time of all threads of the speaker (schedstat: user and system, interrupts of others included); \
             floor: the kernel answers within the asker's system call, so the asker's run time a question less that of \
             a question to which nobody answers: an upper bound, it includes the asker's receiving",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_as_arp_of_its_sender() {
        let frame =
            [&[0xff; 12][..], &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 64, 0, 7], &[0; 10]].concat();
        assert_eq!(parse(&frame), Some((REPLY, MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 64, 0, 7))));
        assert_eq!(parse(&frame[..41]), None, "cut off");
        assert_eq!(parse(&[0; 60]), None, "not ARP");
    }
}
