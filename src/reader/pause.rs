//! A pause that cannot last longer than planned. Knows no clock: each function gets the time.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

/// How far the clock may go back without ending a pause. Threads read the clock shortly before or after each other.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// A pause between two times. It also ends when the clock is set back to a time before its start: otherwise it would last longer by
/// as much. Times are milliseconds since the epoch.
pub(super) struct Pause {
    started: AtomicI64,
    ends: AtomicI64,
}

impl Pause {
    /// A pause that is over.
    pub const fn over() -> Self {
        Self { started: AtomicI64::new(i64::MIN), ends: AtomicI64::new(i64::MIN) }
    }

    /// A pause from `now` to `ends`.
    pub fn until(ends: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let pause = Self::over();
        pause.start(ends, now);
        pause
    }

    /// Starts the pause anew, from `now` to `ends`.
    pub fn start(&self, ends: DateTime<Utc>, now: DateTime<Utc>) {
        self.ends.store(ends.timestamp_millis(), Relaxed);
        self.started.store(now.timestamp_millis(), Relaxed);
    }

    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.over_at(now.timestamp_millis(), self.ends.load(Relaxed))
    }

    /// If the pause is over, starts it anew, from `now` and for this long. Returns true to one caller only. `now` is in milliseconds.
    pub fn restart_if_over(&self, now: i64, length: TimeDelta) -> bool {
        let ends = self.ends.load(Relaxed);
        let next = now.saturating_add(length.num_milliseconds());
        let is_first = self.over_at(now, ends) && self.ends.compare_exchange(ends, next, Relaxed, Relaxed).is_ok();
        if is_first {
            self.started.store(now, Relaxed);
        }
        is_first
    }

    fn over_at(&self, now: i64, ends: i64) -> bool {
        now >= ends || now.saturating_add(TOLERANCE.num_milliseconds()) < self.started.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_225_600_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_pause_ends_at_its_end_or_when_the_clock_is_set_back_before_its_start() {
        assert!(Pause::over().is_over(at(0)));
        let pause = Pause::until(at(10_000), at(0));
        for (now, is_over) in
            [(0, false), (9_999, false), (10_000, true), (-1_000, false), (-1_001, true), (-3_600_000, true)]
        {
            assert_eq!(pause.is_over(at(now)), is_over, "{now}");
        }
        pause.start(at(-3_590_000), at(-3_600_000));
        assert!(!pause.is_over(at(-3_600_000)));
    }

    #[test]
    fn one_caller_restarts_a_pause_that_is_over() {
        let pause = Pause::until(at(10_000), at(0));
        let restart = |now: i64| pause.restart_if_over(at(now).timestamp_millis(), TimeDelta::seconds(5));
        for (now, is_first) in [
            (9_999, false),
            (10_000, true),
            (10_000, false),
            (14_999, false),
            (15_000, true),
            (-5_000, true),
            (-1, false),
        ] {
            assert_eq!(restart(now), is_first, "{now}");
        }
    }
}
