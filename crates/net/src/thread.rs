//! A thread whose deadlines are kept: ahead of ordinary threads, and never waiting for its own memory.

use crate::{Error, sys};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Above every ordinary thread, below the kernel's own (50).
const PRIORITY: i32 = 10;
const LOCK: MlockAllFlags = MlockAllFlags::CURRENT.union(MlockAllFlags::FUTURE).union(MlockAllFlags::ONFAULT);
/// Memory is locked.
static LOCKED: AtomicBool = AtomicBool::new(false);
/// A limit on locked memory that no speaker comes near.
const ENOUGH: u64 = 1 << 30;

/// Runs the calling thread ahead of all ordinary ones (SCHED_FIFO, priority 10); threads and processes that it starts
/// are ordinary again. Without it deadlines are still kept, but late while the node is busy.
pub fn prefer_deadlines() -> Result<(), Error> {
    sys::fifo(PRIORITY).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => {
            let what = "raise the priority of the deadline thread (SCHED_FIFO)";
            Error::NotPermitted { what, capability: "SYS_NICE", source }
        }
        _ => Error::kernel("raise the priority of the deadline thread (SCHED_FIFO)", source),
    })
}

/// Keeps in memory what this process has touched and will touch; what it never touches still costs nothing
/// (MCL_ONFAULT). Fails, and locks nothing, where the limit on locked memory would make a later allocation fail.
pub fn lock_memory() -> Result<(), Error> {
    let what = "lock the speaker's memory (mlockall)";
    let not_permitted = |source: io::Error| Error::NotPermitted { what, capability: "IPC_LOCK", source };
    mlockall(LOCK).map_err(|e| match e {
        Errno::PERM | Errno::NOMEM | Errno::AGAIN => not_permitted(e.into()),
        other => Error::kernel(what, other),
    })?;
    // The kernel also says yes where there is no capability and the limit suffices for now; every later allocation
    // beyond the limit would then fail and end the process. Asking for more than the limit shows which it is: a
    // capability in a user namespace, for one, does not count.
    if let Some(limit) = getrlimit(Resource::Memlock).current.filter(|l| *l < ENOUGH) {
        let beyond = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1 << 20);
        let mut probe = Vec::<u8>::new();
        let refused = probe.try_reserve_exact(beyond).is_err();
        // Without this the compiler may leave the allocation out.
        std::hint::black_box(&probe);
        if refused {
            munlockall().map_err(|e| Error::kernel("unlock memory", e))?;
            return Err(not_permitted(io::Error::from(Errno::NOMEM)));
        }
    }
    LOCKED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Does something that the kernel refuses for locked memory: to give pages back. What is there stays there.
pub(crate) fn unlocked(what: impl FnOnce()) {
    let locked = LOCKED.load(Ordering::Relaxed) && munlockall().is_ok();
    what();
    if locked {
        // It was permitted before.
        LOCKED.store(mlockall(LOCK).is_ok(), Ordering::Relaxed);
    }
}
