//! One event in, one report or error out, and one log line in both cases. Knows neither the Lambda runtime nor AWS.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    event::Event,
    log::{self, Failure, RunEnd},
    report::Report,
    settings::Settings,
};
use crate::{
    clock::Clock,
    oauth::exchanger::Exchanger,
    protocol::{Error, Mode, Refresher, Request, observation::Observation},
    store::SecretStore,
};

/// Handles events: one for the life of a process.
#[derive(Debug)]
pub struct Handler<S> {
    default_secret_id: Option<String>,
    clock: Clock,
    refresher: Refresher<S>,
}

impl<S: SecretStore> Handler<S> {
    /// A handler over a store, a way to exchange grants, and a clock.
    pub fn new(store: S, exchanger: Exchanger, clock: Clock, settings: Settings) -> Self {
        let refresher = Refresher::new(store, exchanger, clock.clone(), settings.options);
        Self { default_secret_id: settings.secret_id, clock, refresher }
    }

    /// Handles one event of an invocation that ends at `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error`], grouped by remedy.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Result<Report, Error> {
        let (started_at, observation) = (self.clock.now(), Observation::default());
        let event = Event::parse(event);
        let named = event.as_ref().ok().and_then(|event| event.secret_id.clone());
        let secret_id = named.or_else(|| self.default_secret_id.clone());
        let dry = event.as_ref().is_ok_and(|event| event.mode == Mode::DryRun);
        let result = match event {
            Ok(event) => self.run(secret_id.as_deref(), &event.mode, deadline, &observation).await,
            Err(error) => Err(error),
        };
        let ended_at = self.clock.now();
        let failure = result.as_ref().map_err(Failure::from);
        log::log_run(&RunEnd {
            result: failure.as_ref().copied(),
            secret_id: secret_id.as_deref(),
            dry,
            observed: observation.observed(),
            duration: ended_at - started_at,
            at: ended_at,
        });
        result
    }

    async fn run(
        &self,
        secret_id: Option<&str>,
        mode: &Mode,
        deadline: DateTime<Utc>,
        observation: &Observation,
    ) -> Result<Report, Error> {
        let Some(secret_id) = secret_id else {
            return Err(Error::InvalidConfiguration {
                problem: "no secret is named: set SECRET_ID to its name or ARN, or give the event a `secretId`"
                    .to_owned(),
            });
        };
        // Boxed: the run's future contains those of all its calls, too much for some stacks in a debug build.
        let completed = Box::pin(self.refresher.run(Request { secret_id, mode, deadline }, observation)).await?;
        Ok(Report::new(secret_id, completed, self.clock.now()))
    }
}
