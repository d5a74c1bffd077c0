//! Who answers for an address, asked by ARP all the time: each answer with its time, so that two owners at once and the
//! time without any are seen.

use anyhow::{Result, anyhow};
use engine::MacAddr;
use net::PacketSocket;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::wait::millis;

/// How long a host that answered may answer again after another one did: after this it owns the address anew.
const SAME: Duration = millis(500);

/// Asks until it is told to finish.
#[derive(Debug)]
pub struct Census {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<Answers>>>,
}

/// Questions, and who answered when.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Questions sent.
    pub questions: usize,
    /// Every answer.
    pub by: Vec<(Instant, MacAddr)>,
}

impl Census {
    /// Starts to ask from the device eth0 of `asker`, which has the address `from`, every `pace`.
    pub fn start(asker: &Host, from: Ipv4Addr, address: Ipv4Addr, pace: Duration) -> Result<Census> {
        let index = asker.index("eth0")?;
        let mac: MacAddr = asker.mac("eth0")?.parse()?;
        // RFC 826: Ethernet header, then the request.
        let mut question = vec![255; 6];
        question.extend(mac.0);
        question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        question.extend(mac.0);
        question.extend(from.octets());
        question.extend([0; 6]);
        question.extend(address.octets());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = asker.thread(move || {
            let (socket, mut found, mut buffer) = (PacketSocket::open(index)?, Answers::default(), [0; 2048]);
            let mut last = false;
            while !last {
                last = stopped.load(Ordering::Relaxed);
                let next = Instant::now() + pace;
                if !last {
                    socket.send(&question)?;
                    found.questions += 1;
                }
                while Instant::now() < next {
                    match socket.receive(&mut buffer)? {
                        // A reply to us: an announcement goes to everybody.
                        Some(42..) if buffer[..6] == mac.0 && buffer[20..22] == [0, 2] => {
                            if buffer[28..32] == address.octets() {
                                let mut who = [0; 6];
                                who.copy_from_slice(&buffer[22..28]);
                                found.by.push((Instant::now(), MacAddr(who)));
                            }
                        }
                        Some(_) => {}
                        None => std::thread::sleep(millis(1)),
                    }
                }
            }
            Ok(found)
        });
        Ok(Census { stop, thread })
    }

    /// Stops asking, and says what was seen.
    pub fn finish(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the census panicked"))??
    }
}

impl Answers {
    /// Who answered, one after the other.
    pub fn owners(&self) -> Vec<MacAddr> {
        let mut owners: Vec<MacAddr> = self.by.iter().map(|(_, mac)| *mac).collect();
        owners.dedup();
        owners
    }

    /// The longest time between two answers, from `since` on and until `end`.
    pub fn gap(&self, since: Instant, end: Instant) -> Duration {
        let before = self.by.iter().map(|(at, _)| *at).filter(|at| *at <= since).max().unwrap_or(since);
        let times = self.by.iter().map(|(at, _)| *at).filter(|at| *at > since && *at < end);
        let all: Vec<Instant> = [before].into_iter().chain(times).chain([end]).collect();
        all.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
    }

    /// Buckets of 10 ms in which two hosts answered at once: in which one answered after another had, and had answered
    /// before that one. Who hands an address over in the middle of a bucket is not two.
    pub fn doubled(&self) -> usize {
        let Some((start, _)) = self.by.first() else { return 0 };
        let mut last: BTreeMap<MacAddr, Instant> = BTreeMap::new();
        let (mut buckets, mut owner) = (Vec::new(), None);
        for (at, mac) in &self.by {
            if owner.is_some_and(|o| o != *mac) && last.get(mac).is_some_and(|seen| at.duration_since(*seen) < SAME) {
                buckets.push(at.duration_since(*start).as_millis() / 10);
            }
            owner = Some(*mac);
            last.insert(*mac, *at);
        }
        buckets.dedup();
        buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(seen: &[(u64, u8)]) -> Answers {
        let start = Instant::now();
        let by = seen.iter().map(|(at, who)| (start + millis(*at), MacAddr([2, 0, 0, 0, 0, *who]))).collect();
        Answers { questions: seen.len(), by }
    }

    #[test]
    fn a_handover_is_no_double_answer_and_an_owner_that_answers_on_is_one() {
        assert_eq!(answers(&[(0, 1), (2, 1), (4, 2), (6, 2)]).doubled(), 0);
        assert_eq!(answers(&[(0, 1), (2, 2), (4, 1), (6, 2), (14, 1)]).doubled(), 2);
        assert_eq!(answers(&[(0, 1), (300, 2), (900, 1)]).doubled(), 0, "it moved back");
        assert_eq!(answers(&[(0, 1), (300, 2), (400, 1)]).doubled(), 1, "a late answer of the old owner");
    }

    #[test]
    fn the_gap_counts_from_the_last_answer_before_the_fault_to_the_end() {
        let seen = answers(&[(0, 1), (10, 1), (20, 1), (400, 2), (410, 2)]);
        let at = |ms| seen.by[0].0 + millis(ms);
        assert_eq!(seen.gap(at(15), at(411)), millis(380));
        assert_eq!(seen.gap(at(15), at(1000)), millis(590), "nobody answered at the end");
    }
}
