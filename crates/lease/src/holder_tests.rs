use super::*;
use crate::acceptor::Acceptor;
use crate::types::Stamp;
use std::time::Duration;

const P: Preset = Preset::Normal;

fn ms(n: u64) -> Tick {
    Tick::from_millis(n)
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn held() -> Duration {
    P.held()
}

/// A holder and three acceptors that hear each other at once.
struct Bench {
    epoch: Epoch,
    holder: Holder,
    acceptors: BTreeMap<Node, Acceptor>,
    counter: u64,
}

impl Bench {
    fn new() -> Bench {
        let epoch = Epoch::new(1, ["a", "b", "c"]);
        let acceptor = || Acceptor::new(Tick::ZERO, Some(epoch.id()), Faults::default());
        let acceptors = epoch.members.iter().map(|m| (m.clone(), acceptor())).collect();
        Bench { holder: Holder::new(Faults::default()), acceptors, counter: 0, epoch }
    }

    fn ask(&mut self, now: Tick, to: &str, address: IpAddr) -> (u64, Answer) {
        self.counter += 1;
        self.holder.asks(now, self.counter, to, &self.epoch, P, &[address]);
        let stamp = Stamp { boot: 1, counter: self.counter };
        let what = (self.epoch.id(), P, false);
        (self.counter, self.acceptors.get_mut(to).unwrap().ask(now, "x", stamp, what, &[address]))
    }

    fn renew(&mut self, now: Tick, to: &str) -> (u64, Answer) {
        self.counter += 1;
        let digest = self.holder.renews(now, self.counter, to, &self.epoch, P);
        let stamp = Stamp { boot: 1, counter: self.counter };
        (self.counter, self.acceptors.get_mut(to).unwrap().renew(now, "x", stamp, self.epoch.id(), (P, digest)))
    }

    fn granted(now: u64, to: &str, address: u8, bench: &mut Bench) {
        let (counter, answer) = bench.ask(ms(now), to, ip(address));
        let outcome = bench.holder.answer(ms(now), to, counter, &answer);
        assert_eq!(outcome.granted, [ip(address)]);
    }
}

#[test]
fn it_owns_with_a_majority_and_counts_from_when_it_asked() {
    let mut b = Bench::new();
    let (one, first) = b.ask(ms(10), "a", ip(1));
    let (two, second) = b.ask(ms(20), "b", ip(1));
    b.holder.answer(ms(100), "a", one, &first);
    assert_eq!(b.holder.until(ip(1)), None);
    b.holder.answer(ms(200), "b", two, &second);
    assert_eq!(b.holder.until(ip(1)), Some(ms(10) + held()));
    Bench::granted(30, "c", 1, &mut b);
    assert_eq!(b.holder.until(ip(1)), Some(ms(20) + held()));
}

#[test]
fn an_answer_counts_once_from_whom_it_was_asked_and_only_if_it_is_exactly_what_was_asked() {
    let mut b = Bench::new();
    let (n, answer) = b.ask(ms(0), "a", ip(1));
    assert_eq!(b.holder.answer(ms(1), "b", n, &answer), Outcome::default());
    let Answer::Asked { verdicts, .. } = answer.clone() else { panic!() };
    let other = Answer::Asked { granted: [&ip(2)].into_iter().collect(), verdicts };
    assert_eq!(b.holder.answer(ms(1), "a", n, &other), Outcome::default());
    assert_eq!(b.holder.answer(ms(1), "a", n, &answer), Outcome::default(), "the question is closed");
}

#[test]
fn after_giving_back_no_answer_counts() {
    let mut b = Bench::new();
    Bench::granted(0, "a", 1, &mut b);
    let (n, late) = b.ask(ms(0), "b", ip(1));
    b.holder.abandon(ip(1));
    assert_eq!(b.holder.answer(ms(1), "b", n, &late), Outcome::default());
    Bench::granted(2, "c", 1, &mut b);
    assert_eq!(b.holder.until(ip(1)), None);
}

#[test]
fn a_renewal_covers_what_was_there_when_it_was_sent_and_is_still() {
    let mut b = Bench::new();
    for to in ["a", "b"] {
        [1, 2].into_iter().for_each(|n| Bench::granted(0, to, n, &mut b));
    }
    let sent: Vec<_> = ["a", "b"].into_iter().map(|to| (to, b.renew(ms(100), to))).collect();
    // Abandoned and asked for anew while the answers are on their way.
    b.holder.abandon(ip(2));
    for to in ["a", "b"] {
        Bench::granted(50, to, 2, &mut b);
    }
    for (to, (n, answer)) in sent {
        assert!(matches!(answer, Answer::Renewed { .. }));
        b.holder.answer(ms(101), to, n, &answer);
    }
    assert_eq!(b.holder.until(ip(1)), Some(ms(100) + held()));
    assert_eq!(b.holder.until(ip(2)), Some(ms(50) + held()));
}

#[test]
fn grants_of_two_epochs_are_not_counted_together() {
    let mut b = Bench::new();
    Bench::granted(0, "a", 1, &mut b);
    let next = Epoch::new(2, ["a", "b", "c", "d"]);
    b.acceptors.values_mut().for_each(|a| a.adopt(next.id()));
    b.epoch = next.clone();
    Bench::granted(1, "b", 1, &mut b);
    Bench::granted(1, "c", 1, &mut b);
    assert_eq!(b.holder.until(ip(1)), None, "one of three, and two of four");
    Bench::granted(2, "a", 1, &mut b);
    assert_eq!(b.holder.until(ip(1)), Some(ms(1) + held()));
    b.holder.sweep(ms(1000), next.id());
    assert_eq!(b.holder.epochs.len(), 1);
}
