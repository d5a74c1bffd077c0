//! What the two intervals are: those that packets say and those that count, which differ during a Poll Sequence
//! (RFC 5880 §6.5 and §6.8.3).

/// In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// bfd.DesiredMinTxInterval
    pub(crate) desired: u32,
    /// bfd.RequiredMinRxInterval
    pub(crate) required: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// It begins with the next packet that is no answer. Until then no answer can be to it.
    Due,
    /// Packets have the P bit until one with the F bit comes.
    Running,
    /// No other may begin before a packet without the F bit has come: else a late answer to the one before would be
    /// taken for one to the next.
    Settling,
}

#[derive(Debug)]
pub(crate) struct Timing {
    said: Intervals,
    used: Intervals,
    poll: Poll,
}

impl Timing {
    pub(crate) fn new(intervals: Intervals) -> Timing {
        Timing { said: intervals, used: intervals, poll: Poll::Idle }
    }

    /// What packets say.
    pub(crate) fn said(&self) -> Intervals {
        self.said
    }

    /// What counts for our own timers.
    pub(crate) fn used(&self) -> Intervals {
        self.used
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.poll, Poll::Due | Poll::Running)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.poll == Poll::Due
    }

    /// A packet with the P bit was sent.
    pub(crate) fn asked(&mut self) {
        self.poll = Poll::Running;
    }

    /// Says other intervals, when it may; true when that begins a Poll Sequence.
    pub(crate) fn want(&mut self, wanted: Intervals, up: bool, peer_known: bool) -> bool {
        if wanted == self.said || (up && self.poll != Poll::Idle) {
            return false;
        }
        self.said = wanted;
        self.used = if up {
            // To send less often, and to detect earlier, waits until the peer knows.
            Intervals {
                desired: self.used.desired.min(wanted.desired),
                required: self.used.required.max(wanted.required),
            }
        } else {
            wanted
        };
        self.poll = if peer_known { Poll::Due } else { Poll::Idle };
        self.is_due()
    }

    /// A packet came.
    pub(crate) fn heard(&mut self, is_final: bool) {
        match (self.poll, is_final) {
            (Poll::Running, true) => (self.poll, self.used) = (Poll::Settling, self.said),
            (Poll::Settling, false) => self.poll = Poll::Idle,
            _ => {}
        }
    }

    /// Gives up a Poll Sequence: the peer is gone and there is nobody to be asked, or the session came up or down and
    /// what is said next counts at once.
    pub(crate) fn settle(&mut self) {
        (self.poll, self.used) = (Poll::Idle, self.said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(desired: u32, required: u32) -> Intervals {
        Intervals { desired, required }
    }

    #[test]
    fn while_up_slower_sending_and_earlier_detection_wait_for_the_answer() {
        let mut t = Timing::new(of(100, 100));
        assert!(t.want(of(200, 50), true, true));
        assert_eq!((t.said(), t.used()), (of(200, 50), of(100, 100)));
        t.heard(true);
        assert_eq!(t.used(), of(100, 100), "it was not asked yet");
        t.asked();
        t.heard(false);
        assert_eq!(t.used(), of(100, 100));
        t.heard(true);
        assert_eq!((t.used(), t.is_polling()), (of(200, 50), false));
    }

    #[test]
    fn while_up_faster_sending_and_later_detection_are_at_once() {
        let mut t = Timing::new(of(200, 50));
        assert!(t.want(of(100, 100), true, true));
        assert_eq!(t.used(), of(100, 100));
    }

    #[test]
    fn another_change_waits_for_a_packet_that_is_no_answer() {
        let mut t = Timing::new(of(100, 100));
        t.want(of(200, 100), true, true);
        t.asked();
        assert!(!t.want(of(300, 100), true, true));
        t.heard(true);
        assert!(!t.want(of(300, 100), true, true));
        t.heard(true);
        assert!(!t.want(of(300, 100), true, true));
        t.heard(false);
        assert!(t.want(of(300, 100), true, true));
        assert_eq!(t.said(), of(300, 100));
    }

    #[test]
    fn while_not_up_everything_is_at_once_and_without_a_peer_nobody_is_asked() {
        let mut t = Timing::new(of(100, 100));
        assert!(t.want(of(1000, 50), false, true));
        assert_eq!(t.used(), of(1000, 50));
        t.settle();
        assert!(!t.want(of(2000, 50), false, false));
        assert_eq!((t.used(), t.is_polling()), (of(2000, 50), false));
    }
}
