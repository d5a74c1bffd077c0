//! The poller: deadlines, wakers, descriptors.

use crate::tests;
use net::{Poller, Udp, now};
use std::time::Duration;

tests![
    a_deadline_is_never_early,
    a_deadline_may_move_in_both_directions,
    a_waker_ends_a_wait_from_another_thread,
    a_wake_before_the_wait_is_not_lost_and_counts_once,
    with_a_deadline_that_has_passed_it_reports_what_is_ready_at_once,
    a_descriptor_that_was_removed_or_dropped_is_not_reported,
    its_clock_is_that_of_boot_time,
];

fn a_deadline_is_never_early() {
    let mut poller = Poller::new().unwrap();
    for micros in [0, 1, 50, 137, 999, 1_000, 2_500, 20_000].repeat(10) {
        let deadline = now() + Duration::from_micros(micros);
        while now() < deadline {
            assert!(poller.wait(Some(deadline)).unwrap().is_empty());
            assert!(now() >= deadline, "it returned {:?} early", deadline.since(now()));
        }
        assert!(now().since(deadline) < Duration::from_millis(500));
    }
}

fn a_deadline_may_move_in_both_directions() {
    let mut poller = Poller::new().unwrap();
    let start = now();
    let (soon, late) = (start + Duration::from_millis(30), start + Duration::from_secs(60));
    poller.waker().wake();
    poller.wait(Some(late)).unwrap();
    assert!(poller.wait(Some(soon)).unwrap().is_empty());
    assert!(now() >= soon && now() < late);
    // The earlier deadline is set but not waited for; it must not end the wait for the later one.
    let (earlier, later) = (now() + Duration::from_millis(20), now() + Duration::from_millis(60));
    poller.waker().wake();
    assert_eq!(poller.wait(Some(earlier)).unwrap(), [Poller::WOKEN]);
    assert!(poller.wait(Some(later)).unwrap().is_empty());
    assert!(now() >= later);
}

fn a_waker_ends_a_wait_from_another_thread() {
    let mut poller = Poller::new().unwrap();
    let waker = poller.waker();
    let other = std::thread::spawn(move || waker.wake());
    assert_eq!(poller.wait(None).unwrap(), [Poller::WOKEN]);
    other.join().unwrap();
}

fn a_wake_before_the_wait_is_not_lost_and_counts_once() {
    let mut poller = Poller::new().unwrap();
    let waker = poller.waker();
    (0..3).for_each(|_| waker.clone().wake());
    assert_eq!(poller.wait(None).unwrap(), [Poller::WOKEN]);
    assert!(poller.wait(Some(now() + Duration::from_millis(5))).unwrap().is_empty());
}

fn with_a_deadline_that_has_passed_it_reports_what_is_ready_at_once() {
    crate::ip("link set dev lo up");
    let mut poller = Poller::new().unwrap();
    let socket = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poller.add(&socket, 7).unwrap();
    socket.send(b"x", socket.local_addr().unwrap()).unwrap();
    poller.waker().wake();
    let mut ready = poller.wait(Some(engine::Tick::ZERO)).unwrap();
    ready.sort_unstable();
    assert_eq!(ready, [7, Poller::WOKEN]);
    // Still to be read, so still reported.
    assert_eq!(poller.wait(Some(engine::Tick::ZERO)).unwrap(), [7]);
}

fn a_descriptor_that_was_removed_or_dropped_is_not_reported() {
    crate::ip("link set dev lo up");
    let mut poller = Poller::new().unwrap();
    let [kept, removed, dropped] = [0; 3].map(|_| Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    for (socket, token) in [(&kept, 1), (&removed, 2), (&dropped, 3)] {
        poller.add(socket, token).unwrap();
        socket.send(b"x", socket.local_addr().unwrap()).unwrap();
    }
    poller.remove(&removed).unwrap();
    drop(dropped);
    assert_eq!(poller.wait(None).unwrap(), [1]);
}

fn its_clock_is_that_of_boot_time() {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    let ours = now().0 as f64 / 1e9;
    assert!((ours - seconds).abs() < 5.0, "{ours} against {seconds}");
}
