//! The order of what another speaker sends: each packet counts once, and one that an earlier start of its process sent
//! never counts after one of a later start, whatever the numbers of the starts are.
//!
//! A start is believed by *proof*: its packet echoes the number of one of our own packets that named that start. Of
//! two starts the later one echoes the greater number, because we could name it only after it had spoken, and by then
//! the one before was dead. Who has restarted knows no numbers and is proven anew; so a recording is worth nothing to it.

/// Packets may be overtaken by so many others (as in RFC 4303 §3.4.3).
const WINDOW: u64 = 64;

/// How a packet stands to those that were accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newer than all.
    New,
    /// Not seen before, but overtaken by a newer one.
    Late,
    /// Seen before: the network doubled it, or it came over two paths.
    Twice,
    /// So old that it cannot be told whether it was seen.
    Old,
    /// Of a start that is not proven: name it in the next packet to that speaker.
    Unproven,
}

/// What orders a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark {
    /// The start of the sender's process, not zero.
    pub boot: u128,
    /// Counts its packets.
    pub counter: u64,
    /// The start of the receiver's process that the sender knows; zero for none.
    pub you: u128,
    /// The newest packet of that start that named the sender's own; zero for none.
    pub echo: u64,
}

/// What was accepted of one speaker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Session {
    /// The start that is believed; zero before any is.
    boot: u128,
    counter: u64,
    /// Which of the packets before the newest were accepted: the lowest bit is the newest itself.
    seen: u64,
    /// The greatest echo of ours in an accepted packet.
    proven: u64,
    /// A start that is not proven yet, or zero.
    claimed: u128,
    /// The newest packet of the start that we name which named ours.
    echo: u64,
}

impl Session {
    /// Judges a packet and notes it. `own` is the start of our own process. Only a packet that is `New` or `Late` may
    /// have any effect.
    pub fn judge(&mut self, own: u128, mark: Mark) -> Order {
        let names_us = mark.you == own;
        if mark.boot != self.boot {
            if !names_us || mark.echo <= self.proven {
                if self.claimed != mark.boot {
                    (self.claimed, self.echo) = (mark.boot, 0);
                }
                self.echo = self.echo.max(if names_us { mark.counter } else { 0 });
                return Order::Unproven;
            }
            let echo = if self.claimed == mark.boot { self.echo.max(mark.counter) } else { mark.counter };
            *self = Session { boot: mark.boot, counter: mark.counter, seen: 1, proven: mark.echo, claimed: 0, echo };
            return Order::New;
        }
        let order = match self.counter.checked_sub(mark.counter) {
            None => {
                let ahead = mark.counter - self.counter;
                self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
                self.counter = mark.counter;
                Order::New
            }
            Some(behind) if behind >= WINDOW => return Order::Old,
            Some(behind) if self.seen >> behind & 1 == 1 => return Order::Twice,
            Some(behind) => {
                self.seen |= 1 << behind;
                Order::Late
            }
        };
        if names_us {
            self.proven = self.proven.max(mark.echo);
            self.echo = if self.claimed == 0 { self.echo.max(mark.counter) } else { self.echo };
        }
        // The start that is believed speaks on, so the other claim was an old copy.
        if order == Order::New && self.claimed != 0 {
            (self.claimed, self.echo) = (0, if names_us { mark.counter } else { 0 });
        }
        order
    }

    /// The start to name in the next packet to that speaker, and the number to echo; zeros for none.
    pub fn named(&self) -> (u128, u64) {
        (if self.claimed == 0 { self.boot } else { self.claimed }, self.echo)
    }

    /// The start that is believed; zero before any is.
    pub fn boot(&self) -> u128 {
        self.boot
    }

    /// The greatest number of a packet of ours that is known to have arrived there.
    pub fn proven(&self) -> u64 {
        self.proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u128 = 7;

    fn mark(boot: u128, counter: u64, you: u128, echo: u64) -> Mark {
        Mark { boot, counter, you, echo }
    }

    #[test]
    fn two_speakers_prove_themselves_in_three_packets() {
        let (mut a, mut b) = (Session::default(), Session::default()); // a: what 1 knows of 2, b: what 2 knows of 1
        assert_eq!(b.judge(2, mark(1, 1, 0, 0)), Order::Unproven);
        assert_eq!(a.judge(1, mark(2, 1, b.named().0, b.named().1)), Order::Unproven);
        assert_eq!(b.judge(2, mark(1, 2, a.named().0, a.named().1)), Order::New);
        assert_eq!(a.judge(1, mark(2, 2, b.named().0, b.named().1)), Order::New);
    }

    fn proven() -> Session {
        let mut s = Session::default();
        assert_eq!(s.judge(US, mark(100, 1, 0, 0)), Order::Unproven);
        assert_eq!(s.judge(US, mark(100, 10, US, 5)), Order::New);
        s
    }

    #[test]
    fn each_packet_counts_once_in_whatever_order() {
        let mut s = proven();
        assert_eq!(s.judge(US, mark(100, 10, US, 5)), Order::Twice);
        assert_eq!(s.judge(US, mark(100, 12, US, 6)), Order::New);
        assert_eq!(s.judge(US, mark(100, 11, US, 6)), Order::Late);
        assert_eq!(s.judge(US, mark(100, 11, US, 6)), Order::Twice);
        assert_eq!(s.judge(US, mark(100, 200, US, 6)), Order::New);
        assert_eq!(s.judge(US, mark(100, 12, US, 6)), Order::Old);
        assert_eq!(s.judge(US, mark(100, 137, US, 6)), Order::Late);
        assert_eq!(s.judge(US, mark(100, 136, US, 6)), Order::Old);
    }

    #[test]
    fn a_later_start_is_believed_whatever_its_number_and_an_earlier_one_never_again() {
        let mut s = proven();
        // Its first packets know nothing of us; we name it in packet 8.
        assert_eq!(s.judge(US, mark(3, 1, 0, 0)), Order::Unproven);
        assert_eq!(s.named(), (3, 0));
        assert_eq!(s.judge(US, mark(3, 2, US, 8)), Order::New);
        assert_eq!(s.named(), (3, 2));
        for old in [mark(100, 11, US, 7), mark(100, 12, 0, 0), mark(100, 13, 99, 100)] {
            assert_eq!(s.judge(US, old), Order::Unproven, "{old:?}");
        }
        assert_eq!(s.judge(US, mark(3, 3, US, 8)), Order::New);
        assert_eq!(s.named().0, 3, "an old copy does not stay named");
    }

    #[test]
    fn who_has_restarted_believes_no_recording() {
        let mut s = Session::default();
        for counter in 1..100 {
            assert_eq!(s.judge(US + 1, mark(100, counter, US, counter)), Order::Unproven);
        }
    }
}
