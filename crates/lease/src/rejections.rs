//! Which refusals are worth telling: each reason once in a while for each source, so that a flood of bad packets
//! neither floods the log nor takes memory.

use engine::Tick;
use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);
const MOST: usize = 64;

/// When a refusal was told last.
#[derive(Debug)]
pub struct Rejections<R> {
    told: BTreeMap<IpAddr, Vec<(Discriminant<R>, Tick)>>,
}

impl<R> Default for Rejections<R> {
    fn default() -> Rejections<R> {
        Rejections { told: BTreeMap::new() }
    }
}

impl<R> Rejections<R> {
    /// Whether to tell this one.
    pub fn tell(&mut self, now: Tick, from: IpAddr, reason: &R) -> bool {
        let kind = discriminant(reason);
        if !self.told.contains_key(&from) && self.told.len() >= MOST {
            self.told.retain(|_, told| {
                told.retain(|(_, when)| now.since(*when) < EVERY);
                !told.is_empty()
            });
            if self.told.len() >= MOST {
                return false;
            }
        }
        let told = self.told.entry(from).or_default();
        match told.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, when)) if now.since(*when) < EVERY => false,
            Some((_, when)) => {
                *when = now;
                true
            }
            None => {
                told.push((kind, now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reject;

    #[test]
    fn a_flood_is_told_once_for_each_reason_and_takes_bounded_memory() {
        let mut r = Rejections::default();
        let now = Tick::from_millis(1);
        let a = IpAddr::from([10, 0, 0, 1]);
        assert!(r.tell(now, a, &Reject::Key));
        assert!(!r.tell(now, a, &Reject::Key));
        assert!(r.tell(now, a, &Reject::Malformed));
        let told = (0..10_000u32).filter(|n| r.tell(now, IpAddr::V4((*n).into()), &Reject::Key)).count();
        assert_eq!((told, r.told.len()), (MOST - 1, MOST));
        assert!(r.tell(now + EVERY, a, &Reject::Key));
        assert!(r.tell(now + EVERY, IpAddr::from([10, 0, 0, 2]), &Reject::Key), "old ones make room");
    }
}
