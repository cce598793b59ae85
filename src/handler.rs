//! One event in, one report or error out, and one log line either way. Knows neither Lambda nor AWS.

use std::future::Future;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    clock::Clock,
    config::Config,
    error::Error,
    event::Event,
    oauth::{Exchange, response::Answer},
    refresh::{Refresher, Request},
    report::Report,
    store::SecretStore,
    telemetry,
};

/// Handles events: one for the life of a process.
#[derive(Debug)]
pub struct Handler<S, X> {
    default_secret_id: Option<String>,
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
        Self { default_secret_id: config.secret_id.clone(), refresher: Refresher::new(store, exchange, clock, config) }
    }

    /// Handles one event of an invocation that ends at `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error`], by what mends it.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Result<Report, Error> {
        let result = self.run(event, deadline).await;
        telemetry::log_run(&result);
        result
    }

    async fn run(&self, event: &Value, deadline: DateTime<Utc>) -> Result<Report, Error> {
        let Event { secret_id, mode } = Event::parse(event)?;
        let Some(secret_id) = secret_id.as_ref().or(self.default_secret_id.as_ref()) else {
            return Err(Error::InvalidConfiguration {
                problem: "no secret is named: set SECRET_ID to its name or ARN, or give the event a `secretId`"
                    .to_owned(),
            });
        };
        // Boxed: the run's future holds those of all its calls, too much for some stacks in a debug build.
        Box::pin(self.refresher.run(Request { secret_id, mode: &mode, deadline })).await
    }
}
