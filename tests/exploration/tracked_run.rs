//! One run of a world: its state, its cost, and the events that can happen to it.

use chrono::{DateTime, Utc};
use token_refresher::protocol::{
    Error, Mode,
    outcome::{Completed, Outcome},
};

use crate::{
    plan::Search,
    run::{End, Run, RunState, Task},
};

/// An event that can happen next. The first number is the index of a run, except in `ClockJumps`. A second one is the index of one of
/// the steps that the run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run starts and reaches its first step.
    Starts(usize),
    /// A run's step is done, and the run gets the response.
    StepSucceeds(usize, usize),
    /// A run's step fails.
    StepFails(usize, usize, Fault),
    /// A run reaches the time limit of its steps. They are done late, or never.
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
    /// The store asks for fewer calls. The step is not done.
    Throttled,
    /// A read returns the state before the newest write.
    StaleRead,
    /// The step is not done. The clock moves to 1 ms before the step's time limit, as if all retries had failed too.
    Outage,
}

/// One run and what it has done so far.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct TrackedRun {
    pub mode: Mode,
    /// How it searches, if it is a sweep.
    pub sweep: Option<Search>,
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
    /// When it reached its exchange.
    pub asked_at: Option<DateTime<Utc>>,
    pub has_claimed: bool,
    /// Whether its result for the token secret is known. A sweep may end later.
    pub has_result: bool,
}

#[derive(Clone, Debug)]
pub enum Progress {
    NotStarted,
    Running(RunState),
    Ended(Box<End>),
    Crashed,
}

impl TrackedRun {
    pub fn new(mode: &Mode, sweep: Option<Search>, process: usize) -> Self {
        Self {
            mode: mode.clone(),
            sweep,
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
            asked_at: None,
            has_claimed: false,
            has_result: false,
        }
    }

    pub fn task(&self) -> Task {
        self.sweep.map_or_else(|| Task::Run(self.mode.clone()), Task::Sweep)
    }

    /// The result for the token secret. `None`: the run has not ended, or the sweep did not begin it.
    pub fn result(&self) -> Option<&Result<Completed, Error>> {
        match &self.progress {
            Progress::Ended(end) => end.result.as_ref(),
            _ => None,
        }
    }

    /// The outcome of a run that ended without an error.
    pub fn outcome(&self) -> Option<Outcome> {
        self.result()?.as_ref().ok().map(|report| report.outcome)
    }
}
