//! Waiting for a condition: the only way in which the lab and its tests let time pass.

use anyhow::{Result, anyhow};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to rest between two looks at a condition.
const STEP: Duration = Duration::from_millis(3);

/// Calls `probe` until it succeeds and returns its value; after `within` fails with `what` and the last reason `probe` gave.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= end => {
                return Err(anyhow!("waited {} ms in vain: {what}: {reason:#}", within.as_millis()));
            }
            Err(_) => sleep(STEP),
        }
    }
}

/// As [`until`], for a condition that is only true or false.
pub fn until_true(what: &str, within: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    until(what, within, || if probe() { Ok(()) } else { Err(anyhow!("not yet")) })
}

/// Whole seconds, to keep calls short.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds, to keep calls short.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
