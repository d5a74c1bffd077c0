//! The time of day as programs write it into their logs, for what happens inside them.

use anyhow::Result;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

/// The time of day now, by UTC.
pub fn now() -> Result<Duration> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Duration::from_micros((since.as_micros() % DAY.as_micros()) as u64))
}

/// The time of day at the beginning of a line, behind a date of ten characters and one more.
pub fn of(line: &str) -> Option<Duration> {
    let time = line.get(11..26)?;
    let (clock, micros) = time.split_once('.')?;
    let fields: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = fields[..] else { return None };
    Some(Duration::from_secs((hours * 60 + minutes) * 60 + seconds) + Duration::from_micros(micros.parse().ok()?))
}

/// From one to the other, also over midnight. What seems to be half a day and more was in fact a little before.
pub fn between(start: Duration, end: Duration) -> Duration {
    let passed = if end >= start { end - start } else { end + DAY - start };
    if passed > DAY / 2 { Duration::ZERO } else { passed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_all_programs_are_read() {
        let want = Duration::new(2 * 3600 + 34 * 60 + 27, 561_560_000);
        for line in [
            "2026-11-30T02:34:27.561560Z  WARN the session is down",
            "2026/11/30 02:34:27.561560 BGP: [M59KS-A3ZXZ] bgp_update_receive",
            "2026-11-30 02:34:27.561560 <TRACE> bfd1: Session",
        ] {
            assert_eq!(of(line), Some(want), "{line}");
        }
        assert_eq!(of("Started"), None);
        assert_eq!(between(want, want + Duration::from_millis(5)), Duration::from_millis(5));
        assert_eq!(between(DAY - Duration::from_millis(3), Duration::from_millis(2)), Duration::from_millis(5));
        assert_eq!(between(want, want - Duration::from_millis(5)), Duration::ZERO);
    }
}
