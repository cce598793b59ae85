//! One run's place in a world: how far it has come and what it has cost. What may happen to it.

use chrono::{DateTime, Utc};
use token_refresher::protocol::{
    Error, Mode,
    outcome::{Completed, Outcome},
};

use crate::run::{Run, Standing};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run begins, and comes to its first step.
    Begins(usize),
    /// A run's step is done, and answered.
    Goes(usize),
    /// A run's step fails.
    Fails(usize, Fault),
    /// A run sees that its time is up; its step is done late, or never.
    TimesOut { run: usize, late: bool },
    /// A run's pause ends.
    Wakes(usize),
    /// The person takes their next step.
    PersonActs,
    /// The clock leaps.
    Leaps(usize),
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before it is done.
    CrashBefore,
    /// The process ends after it is done, without the answer.
    CrashAfter,
    /// It is not done, and the process is told that it may have been.
    RequestLost,
    /// It is done, and the process is told that it may not have been.
    AnswerLost,
    /// It is refused for good.
    Denied,
    /// It shows what was there before the newest write.
    Lags,
    /// It is not done, nor whatever else is tried until the run's time is nearly up.
    Outage,
}

/// One run and what it has done.
pub struct Member {
    pub mode: Mode,
    pub process: usize,
    pub standing: Stage,
    pub run: Option<Run>,
    /// When its time is up.
    pub deadline: DateTime<Utc>,
    /// A digest of all that it has been told, and when: what it holds in memory is a function of it.
    pub told: u64,
    pub calls: usize,
    pub versions_put: usize,
    /// How many versions of the readers' secret it has made.
    pub published: usize,
    pub faults: usize,
    pub answered: bool,
    /// Whether it has sent a refresh token.
    pub sent: bool,
    /// Whether it has put a claim.
    pub claimed: bool,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub enum Stage {
    NotBegun,
    OnItsWay(Standing),
    Ended(Box<Result<Completed, Error>>),
    Crashed,
}

impl Member {
    pub fn new(mode: &Mode, process: usize) -> Self {
        Self {
            mode: mode.clone(),
            process,
            standing: Stage::NotBegun,
            run: None,
            deadline: DateTime::<Utc>::MIN_UTC,
            told: 0,
            calls: 0,
            versions_put: 0,
            published: 0,
            faults: 0,
            answered: false,
            sent: false,
            claimed: false,
        }
    }

    /// How it ended, if it did with a report.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.standing {
            Stage::Ended(result) => result.as_ref().as_ref().ok().map(|report| report.outcome),
            _ => None,
        }
    }
}
