//! One run of a world: its state, its cost, and the events that can happen to it.

use chrono::{DateTime, Utc};
use token_refresher::protocol::{
    Error, Mode,
    outcome::{Completed, Outcome},
};

use crate::run::{Run, RunState};

/// An event that can happen next. The numbers are indexes of runs, except in `ClockJumps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run starts and reaches its first step.
    Starts(usize),
    /// A run's step is done, and the run gets the response.
    StepSucceeds(usize),
    /// A run's step fails.
    StepFails(usize, Fault),
    /// A run reaches the time limit of its step. The step is done late, or never.
    TimesOut { run: usize, late: bool },
    /// A run's pause ends.
    Wakes(usize),
    /// The person does the next step.
    PersonActs,
    /// The clock jumps by the length with this index.
    ClockJumps(usize),
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before the step is done.
    CrashBefore,
    /// The process ends after the step is done, without the response.
    CrashAfter,
    /// The step is not done. The run gets an error that leaves this open.
    RequestLost,
    /// The step is done. The run gets an error that leaves this open.
    ResponseLost,
    /// The store denies access.
    Denied,
    /// A read returns the state before the newest write.
    StaleRead,
    /// The step is not done. The clock moves to 1 ms before the step's time limit, as if all retries had failed too.
    Outage,
}

/// One run and what it has done so far.
pub struct TrackedRun {
    pub mode: Mode,
    pub process: usize,
    pub progress: Progress,
    pub run: Option<Run>,
    pub deadline: DateTime<Utc>,
    /// A digest of all replies and their times. It determines the run's memory.
    pub replies_digest: u64,
    pub calls: usize,
    pub versions_put: usize,
    /// How many versions of the published secret it has put.
    pub publications_put: usize,
    pub faults: usize,
    /// Whether it has received issued tokens.
    pub got_tokens: bool,
    /// Whether it has sent a refresh token.
    pub has_sent: bool,
    pub has_claimed: bool,
}

#[derive(Clone, Debug)]
pub enum Progress {
    NotStarted,
    Running(RunState),
    Ended(Box<Result<Completed, Error>>),
    Crashed,
}

impl TrackedRun {
    pub fn new(mode: &Mode, process: usize) -> Self {
        Self {
            mode: mode.clone(),
            process,
            progress: Progress::NotStarted,
            run: None,
            deadline: DateTime::<Utc>::MIN_UTC,
            replies_digest: 0,
            calls: 0,
            versions_put: 0,
            publications_put: 0,
            faults: 0,
            got_tokens: false,
            has_sent: false,
            has_claimed: false,
        }
    }

    /// The outcome of a run that ended without an error.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.progress {
            Progress::Ended(result) => result.as_ref().as_ref().ok().map(|report| report.outcome),
            _ => None,
        }
    }
}
