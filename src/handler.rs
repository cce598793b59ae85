//! One event in, one report or error out, and one log line either way. Knows neither Lambda nor AWS.

use std::future::Future;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    clock::Clock,
    config::Config,
    error::Error,
    event::{Event, Mode},
    oauth::{Exchange, response::Answer},
    observation::Observation,
    refresh::{Refresher, Request},
    report::Report,
    store::SecretStore,
    telemetry::{self, Ended, Failure},
};

/// Handles events: one for the life of a process.
#[derive(Debug)]
pub struct Handler<S, X> {
    default_secret_id: Option<String>,
    clock: Clock,
    refresher: Refresher<S, X>,
}

impl<S, X, F> Handler<S, X>
where
    S: SecretStore,
    X: Fn(Exchange) -> F + Send + Sync,
    F: Future<Output = Answer> + Send,
{
    /// A handler over a store, a way to exchange tokens and a clock.
    pub fn new(store: S, exchange: X, clock: Clock, config: Config) -> Self {
        let (default_secret_id, run_clock) = (config.secret_id.clone(), clock.clone());
        Self { default_secret_id, clock, refresher: Refresher::new(store, exchange, run_clock, config) }
    }

    /// Handles one event of an invocation that ends at `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error`], by what mends it.
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
        let message = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        telemetry::log_run(&Ended {
            result: result.as_ref().map_err(|error| Failure {
                error_type: error.error_type(),
                message: &message,
                secret_id: error.secret_id(),
            }),
            secret_id: secret_id.as_deref(),
            dry,
            seen: observation.seen(),
            took: ended_at - started_at,
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
        // Boxed: the run's future holds those of all its calls, too much for some stacks in a debug build.
        Box::pin(self.refresher.run(Request { secret_id, mode, deadline }, observation)).await
    }
}
