//! Waiting: for descriptors, for one deadline, and for other threads.
//!
//! The deadline is a timer of its own on CLOCK_BOOTTIME and not a timeout of the wait: it goes on in suspend and has
//! the resolution of the clock.

use crate::Error;
use engine::Tick;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

const TIMER: u64 = u64::MAX;
/// The most that one wait reports. epoll hands out what is ready in turn, so a busy descriptor starves no other.
const BATCH: usize = 64;

/// This moment on CLOCK_BOOTTIME.
pub fn now() -> Tick {
    let t = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0));
    Tick(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Waits for descriptors, a deadline and a [`Waker`].
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    waker: Waker,
    /// What the timer is set to and has not reported yet.
    armed: Option<Tick>,
}

/// Ends a [`Poller::wait`] from any thread; the next one when none is going on.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Never blocks; several calls before a wait count as one.
    pub fn wake(&self) {
        // It can only fail by a counter that is full, and then the wait ends anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Poller {
    /// The token that stands for the [`Waker`].
    pub const WOKEN: u64 = u64::MAX - 1;

    /// A poller with nothing in it but its waker.
    pub fn new() -> Result<Poller, Error> {
        let failed = |what: &'static str| move |e: Errno| Error::kernel(what, e);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("make an epoll"))?;
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .map_err(failed("make a timer on CLOCK_BOOTTIME"))?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed("make an eventfd"))?;
        let poller = Poller { epoll, timer, waker: Waker(Arc::new(event)), armed: None };
        poller.add(&poller.timer, TIMER)?;
        poller.add(&*poller.waker.0, Poller::WOKEN)?;
        Ok(poller)
    }

    /// What other threads wake this one with.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Reports `token` while `fd` has something to read or an error. Dropping the descriptor ends it. The two highest
    /// tokens are the poller's own.
    pub fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Error> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(|e| Error::kernel("wait for another descriptor", e))
    }

    /// Reports `fd`, which was added, also while it can be written to; or no more.
    pub fn writable(&self, fd: impl AsFd, token: u64, report: bool) -> Result<(), Error> {
        let more = if report { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN | more)
            .map_err(|e| Error::kernel("wait until a descriptor can be written to", e))
    }

    /// Reports `fd` no more.
    pub fn remove(&self, fd: impl AsFd) -> Result<(), Error> {
        epoll::delete(&self.epoll, fd).map_err(|e| Error::kernel("stop waiting for a descriptor", e))
    }

    /// Waits until something is ready, the waker is used, or `deadline` has come; gives the tokens of what is ready,
    /// which may be none. It never returns for the deadline before it. With a deadline that has passed it reports what
    /// is ready and returns at once.
    pub fn wait(&mut self, deadline: Option<Tick>) -> Result<Vec<u64>, Error> {
        let at_once = deadline.is_some_and(|d| d <= now());
        if !at_once {
            self.arm(deadline)?;
        }
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; BATCH];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let found = match epoll::wait(&self.epoll, &mut events[..], at_once.then_some(&zero)) {
            Ok(found) => found,
            Err(Errno::INTR) => 0,
            Err(e) => return Err(Error::kernel("wait for events", e)),
        };
        let mut ready = Vec::new();
        for event in &events[..found] {
            match event.data.u64() {
                TIMER => {
                    drain(&self.timer);
                    self.armed = None;
                }
                Poller::WOKEN => {
                    drain(&self.waker.0);
                    ready.push(Poller::WOKEN);
                }
                token => ready.push(token),
            }
        }
        Ok(ready)
    }

    fn arm(&mut self, deadline: Option<Tick>) -> Result<(), Error> {
        if self.armed == deadline {
            return Ok(());
        }
        // Zero would disarm it; a deadline in the past fires at once.
        let nanos = deadline.map_or(0, |d| d.0.max(1));
        let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: seconds, tv_nsec: (nanos % 1_000_000_000) as _ },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)
            .map_err(|e| Error::kernel("set the deadline's timer", e))?;
        self.armed = deadline;
        Ok(())
    }
}

/// Takes what a timer or an eventfd has counted, so that it is not ready any more.
fn drain(fd: &OwnedFd) {
    let mut count = [0; 8];
    let _ = rustix::io::read(fd, &mut count);
}
