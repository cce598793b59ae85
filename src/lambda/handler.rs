//! One event in, one report or error out, and log lines in both cases. Knows neither the Lambda runtime nor AWS.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    event::Event,
    event_bus::{EventBus, warn_of},
    log::{self, Failure, RunEnd, RunMetrics, SweepEnd},
    notice::Notice,
    report::{Report, Response, SweepReport},
    settings::Settings,
};
use crate::{
    clock::Clock,
    oauth::exchanger::Exchanger,
    protocol::{
        Error, Mode, Refresher, Request, decision,
        observation::Observation,
        outcome::{Completed, Outcome},
    },
    sanitize::sanitize_line,
    store::{SecretStore, paced::PacedStore},
    sweep::{
        MAX_SWEEP, SecretEnd, SweepRequest, Sweeper,
        targets::{Many, Targets},
    },
};

mod secrets_manager;

/// How long notices of a sweep wait after they could not be put.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Handles events: one for the life of a process.
#[derive(Debug)]
pub struct Handler<S> {
    default_targets: Option<Targets>,
    metrics_by_secret: bool,
    clock: Clock,
    refresher: Refresher<PacedStore<S>>,
    sweeper: Sweeper,
    event_bus: Option<EventBus>,
}

impl<S: SecretStore> Handler<S> {
    /// A handler over a store, a way to exchange grants, and a clock.
    pub fn new(store: S, exchanger: Exchanger, clock: Clock, settings: Settings) -> Self {
        let store = PacedStore::new(store, settings.writes_per_second, clock.clone());
        let sweeper = Sweeper::new(store.writes().clone());
        let refresher = Refresher::new(store, exchanger, clock.clone(), settings.options);
        Self {
            default_targets: settings.targets,
            metrics_by_secret: settings.metrics_by_secret,
            clock,
            refresher,
            sweeper,
            event_bus: None,
        }
    }

    /// What refreshes the secrets.
    #[cfg(feature = "cli")]
    pub const fn refresher(&self) -> &Refresher<PacedStore<S>> {
        &self.refresher
    }

    /// Also puts events on this bus.
    #[must_use]
    pub fn with_event_bus(self, event_bus: EventBus) -> Self {
        Self { event_bus: Some(event_bus), ..self }
    }

    /// Handles one event of an invocation that ends at `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error`], grouped by remedy.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Result<Response, Error> {
        // Some emulators send an impossible one.
        let deadline = decision::deadline(deadline, self.clock.now());
        match Event::parse(event) {
            Ok(Event::Run { targets, mode }) => {
                let targets = self.targets_of(targets, &mode).map_err(|error| self.failed_before_run(error))?;
                self.run_or_sweep(&targets, &mode, deadline).await
            }
            Ok(Event::LabelUpdated(update)) => self.label_updated(&update, deadline).await,
            Ok(Event::Rotation(rotation)) => self.rotate(&rotation, deadline).await,
            Err(error) => Err(self.failed_before_run(error)),
        }
    }

    async fn run_or_sweep(&self, targets: &Targets, mode: &Mode, deadline: DateTime<Utc>) -> Result<Response, Error> {
        match targets {
            Targets::One(secret_id) => self.run(secret_id, mode, deadline).await,
            Targets::Many(many) => {
                let report = self.sweep(many, *mode == Mode::DryRun, deadline).await?;
                Ok(Response::Sweep(Box::new(report)))
            }
        }
    }

    /// What an event is for: what it names itself, or else what `SECRET_ID` names.
    fn targets_of(&self, named: Option<Targets>, mode: &Mode) -> Result<Targets, Error> {
        let targets = match named {
            Some(targets) => targets,
            None => self.default_targets()?.clone(),
        };
        if let (Targets::Many(_), Mode::Forced { .. }) = (&targets, mode) {
            return Err(Error::InvalidEvent {
                problem: format!(
                    "`force` needs one secret, but `{}` can be several; name one: {{\"secretId\": \"...\", \"force\": true}}",
                    sanitize_line(&targets.describe(), 256)
                ),
            });
        }
        Ok(targets)
    }

    /// What `SECRET_ID` names.
    fn default_targets(&self) -> Result<&Targets, Error> {
        self.default_targets.as_ref().ok_or_else(|| Error::InvalidConfiguration {
            problem: "no secret is named: set SECRET_ID to its name or ARN, or give the event a `secretId`".to_owned(),
        })
    }

    async fn run(&self, secret_id: &str, mode: &Mode, deadline: DateTime<Utc>) -> Result<Response, Error> {
        let (started_at, observation) = (self.clock.now(), Observation::default());
        let request = Request { secret_id, mode, deadline };
        let completed = self.refresher.run(request, &observation).await;
        self.report_run(request, completed, started_at, &observation).await
    }

    /// A function for many secrets has no metric for each of them: it costs almost as much as the secret.
    const fn metrics_of_one(&self) -> RunMetrics {
        let is_for_many = matches!(self.default_targets, Some(Targets::Many(_)));
        RunMetrics::OfOne { by_secret: !is_for_many || self.metrics_by_secret }
    }

    /// Logs how a run ended, puts its notice, and returns its report.
    async fn report_run(
        &self,
        request: Request<'_>,
        completed: Result<Completed, Error>,
        started_at: DateTime<Utc>,
        observation: &Observation,
    ) -> Result<Response, Error> {
        let Request { secret_id, mode, deadline } = request;
        let (ended_at, observed) = (self.clock.now(), observation.observed());
        let notice = Notice::of(secret_id, completed.as_ref(), &observed);
        let result = completed.map(|completed| Report::new(secret_id, completed, ended_at));
        let failure = result.as_ref().map_err(Failure::from);
        log::log_run(&RunEnd {
            result: failure.as_ref().copied(),
            secret_id: Some(secret_id),
            metrics: if *mode == Mode::DryRun { RunMetrics::None } else { self.metrics_of_one() },
            is_quiet: false,
            observed,
            duration: ended_at - started_at,
            at: ended_at,
        });
        if let (Some(event_bus), Some(notice)) = (&self.event_bus, notice) {
            let mut notices = vec![notice];
            if let Err(problem) = event_bus.put(&mut notices, deadline).await {
                warn_of(&notices, &problem);
            }
        }
        Ok(Response::Run(Box::new(result?)))
    }

    async fn sweep(&self, targets: &Many, dry: bool, deadline: DateTime<Utc>) -> Result<SweepReport, Error> {
        let started_at = self.clock.now();
        let (notices, received) = tokio::sync::mpsc::unbounded_channel();
        let swept = async {
            // Moved in, so that the channel is closed when the sweep ends.
            let notices = notices;
            let on_end = |end: &SecretEnd<'_>| {
                self.log_secret(end, dry);
                if let Some(notice) = Notice::of(end.secret_id, end.result, &end.observed) {
                    let _ = notices.send(notice);
                }
            };
            self.sweeper.sweep(&self.refresher, SweepRequest { targets, dry, deadline }, &on_end).await
        };
        // Not beyond the next tick, however long the invocation may last.
        let events_end_at = deadline.min(started_at + MAX_SWEEP + TimeDelta::seconds(1));
        let (swept, ()) = tokio::join!(swept, self.put_notices(received, events_end_at));
        let summary = swept?;
        let ended_at = self.clock.now();
        let (earliest, expired, calls) = (summary.earliest, summary.expired, summary.calls);
        let report = SweepReport::new(summary, dry, ended_at);
        log::log_sweep(&SweepEnd {
            report: &report,
            earliest,
            expired,
            calls,
            duration: ended_at - started_at,
            at: ended_at,
        });
        Ok(report)
    }

    /// Puts notices on the event bus as they come, as many at once as have come meanwhile. If that fails, they wait, and the others with
    /// them. When the sweep has ended, they have one last try.
    async fn put_notices(&self, mut received: tokio::sync::mpsc::UnboundedReceiver<Notice>, deadline: DateTime<Utc>) {
        let mut notices = Vec::new();
        let mut problem: Option<String> = None;
        while received.recv_many(&mut notices, EventBus::MAX_EVENTS).await > 0 {
            if let Some(event_bus) = &self.event_bus {
                while problem.is_none()
                    && let Err(error) = event_bus.put(&mut notices, deadline).await
                {
                    // Closed: the sweep has ended, and the response must not wait.
                    if received.is_closed() {
                        problem = Some(error);
                    } else {
                        self.clock.sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
                if let Some(problem) = &problem {
                    warn_of(&notices, problem);
                }
            }
            notices.clear();
        }
    }

    /// Logs how a secret of a sweep ended, unless it was merely skipped.
    fn log_secret(&self, end: &SecretEnd<'_>, dry: bool) {
        let is_skip = end.result.is_ok_and(|completed| completed.outcome == Outcome::Skipped);
        let is_quiet = is_skip && end.observed.warnings.is_empty();
        if is_quiet && (dry || !self.metrics_by_secret) {
            return;
        }
        let report = end.result.map(|completed| Report::new(end.secret_id, completed.clone(), end.at));
        let failure = report.as_ref().map_err(|error| Failure::from(*error));
        log::log_run(&RunEnd {
            result: failure.as_ref().copied(),
            secret_id: Some(end.secret_id),
            metrics: if dry { RunMetrics::None } else { RunMetrics::InSweep { by_secret: self.metrics_by_secret } },
            is_quiet,
            observed: end.observed.clone(),
            duration: end.duration,
            at: end.at,
        });
    }

    /// Logs an error for which no run was begun.
    fn failed_before_run(&self, error: Error) -> Error {
        let at = self.clock.now();
        log::log_run(&RunEnd {
            result: Err(&Failure::from(&error)),
            secret_id: None,
            metrics: self.metrics_of_one(),
            is_quiet: false,
            observed: Observation::default().observed(),
            duration: TimeDelta::zero(),
            at,
        });
        error
    }
}
