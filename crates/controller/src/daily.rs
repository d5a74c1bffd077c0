//! A time of day, for what is done once a day in quiet hours.

use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;

const DAY: i64 = 24 * 3600;

/// A time of day, UTC, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    seconds: i64,
}

/// What is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no time of day: write hours and minutes, UTC, as in 03:30")]
pub struct InvalidDaily(String);

impl FromStr for Daily {
    type Err = InvalidDaily;

    fn from_str(s: &str) -> Result<Daily, InvalidDaily> {
        let two = |part: &str, below: i64| -> Option<i64> {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|n| digits && *n < below)
        };
        let parsed = s.split_once(':').and_then(|(h, m)| Some(two(h, 24)? * 3600 + two(m, 60)? * 60));
        parsed.map(|seconds| Daily { seconds }).ok_or_else(|| InvalidDaily(s.to_owned()))
    }
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.seconds / 3600, self.seconds % 3600 / 60)
    }
}

impl Daily {
    /// When it is that time for the first time after `now`; 1 second to 24 hours later.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        let passed = now.as_second().rem_euclid(DAY);
        let left = (self.seconds - passed - 1).rem_euclid(DAY) + 1;
        Timestamp::from_second(now.as_second() + left).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_hours_and_minutes_and_nothing_else() {
        assert_eq!("03:30".parse::<Daily>().unwrap().to_string(), "03:30");
        for wrong in ["", "3:30", "24:00", "03:60", "03:3", "03:30:00", "+3:30", "03-30", "0330"] {
            assert_eq!(wrong.parse::<Daily>(), Err(InvalidDaily(wrong.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn the_next_time_is_within_a_day_and_at_that_time(minute in 0..1440i64, now in 0..4_000_000_000i64) {
            let daily: Daily = format!("{:02}:{:02}", minute / 60, minute % 60).parse().unwrap();
            let next = daily.after(Timestamp::from_second(now).unwrap()).as_second();
            prop_assert!(next > now && next <= now + DAY, "{next} after {now}");
            prop_assert_eq!(next.rem_euclid(DAY), minute * 60);
        }
    }
}
