//! Single flight: decides whether a load runs, and whether it is still alive. A load beats once in [`BEAT`]; one whose beats stop is
//! lost, because its runtime is not driven, or because the process was frozen. Pure: no clock, no task, no lock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How often a load beats, and how often a caller that waits for one looks whether it still does.
pub(super) const BEAT: Duration = Duration::from_millis(500);

/// After this long without a beat a load is lost.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(2);

/// The loads of one cache. `R` is how a caller receives the result of a load.
pub(super) struct Flight<R> {
    running: Option<Running<R>>,
    /// The number of the newest load.
    newest: u64,
}

struct Running<R> {
    number: u64,
    last_beat: DateTime<Utc>,
    result: R,
}

/// What a load learns when it beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Continue.
    OnTime,
    /// The last beat was long ago: the process was frozen, or its clock was set. Connections may be dead, and time limits are over.
    Late,
    /// Another load has taken over, or this one was ended.
    Replaced,
}

impl<R: Clone> Flight<R> {
    pub const fn new() -> Self {
        Self { running: None, newest: 0 }
    }

    /// The result of the running load, if one runs and is alive.
    pub fn join(&self, now: DateTime<Utc>) -> Option<R> {
        self.running.as_ref().filter(|load| is_alive(load.last_beat, now)).map(|load| load.result.clone())
    }

    /// Registers a new load in place of a lost one. Returns its number.
    pub fn start(&mut self, now: DateTime<Utc>, result: R) -> u64 {
        self.newest += 1;
        self.running = Some(Running { number: self.newest, last_beat: now, result });
        self.newest
    }

    /// A beat of the load with this number.
    pub fn beat(&mut self, number: u64, now: DateTime<Utc>) -> Beat {
        let Some(load) = self.running.as_mut().filter(|load| load.number == number) else { return Beat::Replaced };
        let beat = if is_alive(load.last_beat, now) { Beat::OnTime } else { Beat::Late };
        load.last_beat = now;
        beat
    }

    /// Ends the load with this number. Returns false if another load has taken over: then its result is not used.
    pub fn end(&mut self, number: u64) -> bool {
        self.running.take_if(|load| load.number == number).is_some()
    }
}

/// A clock that was set back by more than that makes a load lost, too: its age is unknown then.
fn is_alive(last_beat: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - last_beat).abs() <= LOST_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_225_600_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_load_is_joined_while_it_beats_and_lost_two_seconds_after_its_last_beat() {
        for (last_beat, now, is_joined) in [
            (0, 0, true),
            (0, 2_000, true),
            (0, 2_001, false),
            (1_900, 3_900, true),
            (1_900, 3_901, false),
            (0, -2_000, true),
            (0, -2_001, false),
        ] {
            let mut flight = Flight::new();
            let number = flight.start(at(0), "first");
            assert_eq!(flight.beat(number, at(last_beat)), Beat::OnTime);
            assert_eq!(flight.join(at(now)).is_some(), is_joined, "{last_beat} {now}");
        }
    }

    /// What may happen to the loads of one cache.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A caller joins the running load, or starts one.
        Call,
        /// The load that started so many loads ago beats, or ends.
        Beat(u64),
        End(u64),
        /// Time passes, or the clock is set back.
        Pass(i64),
    }

    const STEPS: [Step; 9] = [
        Step::Call,
        Step::Beat(0),
        Step::Beat(1),
        Step::End(0),
        Step::End(1),
        Step::Pass(500),
        Step::Pass(1_600),
        Step::Pass(30_000),
        Step::Pass(-3_600_000),
    ];

    #[test]
    fn in_every_order_of_steps_only_a_living_load_is_joined_and_only_the_newest_ends_with_a_result() {
        let mut orders = 0_u32;
        let mut steps = Vec::new();
        explore(&mut steps, &mut orders);
        assert_eq!(orders, 9_u32.pow(6));
    }

    fn explore(steps: &mut Vec<Step>, orders: &mut u32) {
        if steps.len() == 6 {
            *orders += 1;
            return check(steps);
        }
        for step in STEPS {
            steps.push(step);
            explore(steps, orders);
            steps.pop();
        }
    }

    fn check(steps: &[Step]) {
        let mut flight = Flight::new();
        // What the test knows of the newest load: its number, its last beat, and whether it runs.
        let (mut newest, mut last_beat, mut runs, mut now) = (0_u64, 0, false, 0);
        for step in steps {
            match *step {
                Step::Call => {
                    let is_living = runs && i64::abs(now - last_beat) <= 2_000;
                    assert_eq!(flight.join(at(now)), is_living.then_some(newest), "{steps:?}");
                    if !is_living {
                        newest += 1;
                        assert_eq!(flight.start(at(now), newest), newest);
                        (last_beat, runs) = (now, true);
                    }
                }
                Step::Beat(ago) => {
                    let number = newest.saturating_sub(ago);
                    let is_running = runs && ago == 0;
                    let expected = match i64::abs(now - last_beat) <= 2_000 {
                        _ if !is_running => Beat::Replaced,
                        true => Beat::OnTime,
                        false => Beat::Late,
                    };
                    assert_eq!(flight.beat(number, at(now)), expected, "{steps:?}");
                    if is_running {
                        last_beat = now;
                    }
                }
                Step::End(ago) => {
                    let is_running = runs && ago == 0;
                    assert_eq!(flight.end(newest.saturating_sub(ago)), is_running, "{steps:?}");
                    runs = runs && !is_running;
                }
                Step::Pass(milliseconds) => now += milliseconds,
            }
        }
    }
}
