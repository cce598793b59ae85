//! Single flight: decides whether a load runs, and whether it is still alive. A load has a heartbeat; if that stops, the load is lost:
//! its runtime is not driven, or the process was frozen. Pure: no clock, no task, no lock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The time between two heartbeats of a load. A caller that waits checks them as often.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// A load is lost when its last heartbeat is longer ago.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(2);

/// The loads of one cache. `R` is how a caller receives the result of a load.
pub(super) struct SingleFlight<R> {
    running: Option<Running<R>>,
    /// The number of the newest load.
    newest: u64,
    /// The number of the newest load whose result was used.
    newest_used: u64,
}

struct Running<R> {
    number: u64,
    last_heartbeat: DateTime<Utc>,
    pending: R,
}

impl<R: Clone> SingleFlight<R> {
    pub const fn new() -> Self {
        Self { running: None, newest: 0, newest_used: 0 }
    }

    /// The result of the running load, if one runs and is alive.
    pub fn join(&self, now: DateTime<Utc>) -> Option<R> {
        self.running.as_ref().filter(|load| is_alive(load.last_heartbeat, now)).map(|load| load.pending.clone())
    }

    /// Registers a new load in place of a lost one. Returns its number.
    pub fn start(&mut self, now: DateTime<Utc>, pending: R) -> u64 {
        self.newest += 1;
        self.running = Some(Running { number: self.newest, last_heartbeat: now, pending });
        self.newest
    }

    /// Whether no load has ended with a result yet.
    pub const fn is_first(&self) -> bool {
        self.newest_used == 0
    }

    /// A heartbeat of the load with this number. Returns false if it is superseded.
    pub fn heartbeat(&mut self, number: u64, now: DateTime<Utc>) -> bool {
        let running = self.running.as_mut().filter(|load| load.number == number);
        running.map(|load| load.last_heartbeat = now).is_some()
    }

    /// Ends the load with this number without a result.
    pub fn cancel(&mut self, number: u64) {
        self.running.take_if(|load| load.number == number);
    }

    /// Ends the load with this number. Returns whether its result is to be used: that of a superseded load is, if it is a value and no
    /// newer load has ended.
    pub fn end(&mut self, number: u64, is_value: bool) -> bool {
        let was_running = self.running.take_if(|load| load.number == number).is_some();
        let is_used = was_running || (is_value && number > self.newest_used);
        if is_used {
            self.newest_used = self.newest_used.max(number);
        }
        is_used
    }
}

/// Whether a heartbeat is so late that the process was probably frozen, or its clock set.
pub(super) fn is_late(last_heartbeat: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    !is_alive(last_heartbeat, now)
}

/// If the clock is set back by more than [`LOST_AFTER`], the load is lost, too: its age is unknown then.
fn is_alive(last_heartbeat: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - last_heartbeat).abs() <= LOST_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_225_600_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_load_is_joined_until_two_seconds_after_its_last_heartbeat() {
        for (last_heartbeat, now, is_joined) in [
            (0, 0, true),
            (0, 2_000, true),
            (0, 2_001, false),
            (1_900, 3_900, true),
            (1_900, 3_901, false),
            (0, -2_000, true),
            (0, -2_001, false),
        ] {
            let mut flight = SingleFlight::new();
            let number = flight.start(at(0), "first");
            assert!(flight.heartbeat(number, at(last_heartbeat)));
            assert_eq!(flight.join(at(now)).is_some(), is_joined, "{last_heartbeat} {now}");
        }
    }

    /// What may happen to the loads of one cache.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A caller joins the running load, or starts one.
        Call,
        /// A heartbeat, or the end with a value or an error, of the load that started so many loads ago.
        Heartbeat(u64),
        End(u64, bool),
        /// Time passes, or the clock is set back.
        Pass(i64),
    }

    const STEPS: [Step; 10] = [
        Step::Call,
        Step::Heartbeat(0),
        Step::Heartbeat(1),
        Step::End(0, true),
        Step::End(0, false),
        Step::End(1, true),
        Step::End(1, false),
        Step::Pass(500),
        Step::Pass(1_600),
        Step::Pass(-3_600_000),
    ];

    #[test]
    fn in_every_sequence_of_six_steps_only_a_living_load_is_joined_and_no_result_is_used_after_a_newer_one() {
        explore(&mut Vec::new());
    }

    fn explore(steps: &mut Vec<Step>) {
        if steps.len() == 6 {
            return check(steps);
        }
        for step in STEPS {
            steps.push(step);
            explore(steps);
            steps.pop();
        }
    }

    fn check(steps: &[Step]) {
        let mut flight = SingleFlight::new();
        // What the test knows: the number and the last heartbeat of the newest load, whether it runs, and the newest result that was used.
        let (mut newest, mut last_heartbeat, mut runs, mut used, mut now) = (0_u64, 0, false, 0, 0);
        for step in steps {
            match *step {
                Step::Call => {
                    let is_living = runs && i64::abs(now - last_heartbeat) <= 2_000;
                    assert_eq!(flight.join(at(now)), is_living.then_some(newest), "{steps:?}");
                    if !is_living {
                        newest += 1;
                        assert_eq!(flight.start(at(now), newest), newest);
                        (last_heartbeat, runs) = (now, true);
                    }
                }
                Step::Heartbeat(ago) => {
                    let is_running = runs && ago == 0;
                    assert_eq!(flight.heartbeat(newest.saturating_sub(ago), at(now)), is_running, "{steps:?}");
                    if is_running {
                        last_heartbeat = now;
                    }
                }
                Step::End(ago, is_value) => {
                    let number = newest.saturating_sub(ago);
                    let was_running = runs && ago == 0;
                    let expected = was_running || (is_value && number > used);
                    assert_eq!(flight.end(number, is_value), expected, "{steps:?}");
                    if expected {
                        assert!(number >= used, "{steps:?}");
                        used = number;
                    }
                    runs = runs && !was_running;
                }
                Step::Pass(milliseconds) => now += milliseconds,
            }
        }
    }
}
