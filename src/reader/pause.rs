//! A pause that a clock set back cannot prolong for long. Knows no clock: each function gets the time.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

/// How far the clock may go back without ending a pause. Threads read the clock shortly before or after each other.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// A pause between two times, in milliseconds since the epoch. It ends early if the clock is set back to before its start. So it
/// lasts at most twice as long as planned, however far the clock is set back once.
pub(super) struct Pause {
    started: AtomicI64,
    ends: AtomicI64,
}

impl Pause {
    /// A pause that is over.
    pub const fn over() -> Self {
        Self { started: AtomicI64::new(i64::MIN), ends: AtomicI64::new(i64::MIN) }
    }

    /// A pause from `now` on.
    pub fn of(length: TimeDelta, now: DateTime<Utc>) -> Self {
        let pause = Self::over();
        pause.start(length, now);
        pause
    }

    /// Starts the pause anew.
    pub fn start(&self, length: TimeDelta, now: DateTime<Utc>) {
        let now = now.timestamp_millis();
        self.ends.store(now.saturating_add(length.num_milliseconds()), Relaxed);
        self.started.store(now, Relaxed);
    }

    /// Ends the pause at once.
    pub fn end(&self) {
        self.ends.store(i64::MIN, Relaxed);
    }

    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.over_at(now.timestamp_millis(), self.ends.load(Relaxed))
    }

    /// If the pause is over, starts it anew. Returns true to one caller. (Just after the clock was set back, perhaps to two.)
    pub fn restart_if_over(&self, length: TimeDelta, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_millis();
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
        let pause = Pause::of(TimeDelta::seconds(10), at(0));
        for (now, is_over) in
            [(0, false), (9_999, false), (10_000, true), (-1_000, false), (-1_001, true), (-3_600_000, true)]
        {
            assert_eq!(pause.is_over(at(now)), is_over, "{now}");
        }
        pause.start(TimeDelta::seconds(10), at(-3_600_000));
        assert!(!pause.is_over(at(-3_600_000)));
    }

    #[test]
    fn one_caller_restarts_a_pause_that_is_over() {
        let pause = Pause::of(TimeDelta::seconds(10), at(0));
        let restart = |now: i64| pause.restart_if_over(TimeDelta::seconds(5), at(now));
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
