//! A run because the current version of a secret has changed: a person may have put tokens into it.

use futures_util::FutureExt;

use super::{
    Error, Observation, Refresher, Request,
    decision::Decision,
    outcome::{Completed, Outcome},
};
use crate::store::{Label, SecretStore, Selector, StoreError};

/// The result of a run after a change.
#[derive(Debug)]
pub enum ChangeResult {
    /// That of a scheduled run.
    Completed(Completed),
    /// The secret is not a token secret. The error of a run for it.
    NotATokenSecret(Error),
    /// The token is due, but this program wrote the version. A refresh would change the secret again and start the next run, without
    /// end. So the next scheduled run refreshes it.
    LeftToSchedule,
}

impl<S: SecretStore> Refresher<S> {
    /// Runs as scheduled, because AWSCURRENT of the secret has moved. If this program moved it, that costs one call.
    ///
    /// # Errors
    ///
    /// [`Error`], grouped by remedy. AWSCURRENT is unchanged or holds newer tokens.
    pub async fn run_after_change(
        &self,
        request: Request<'_>,
        observation: &Observation,
    ) -> Result<ChangeResult, Error> {
        self.after_change(request, observation).boxed().await
    }

    async fn after_change(&self, request: Request<'_>, observation: &Observation) -> Result<ChangeResult, Error> {
        let run = self.start(None, request, observation);
        let written = run.store_unstored_responses().await?;
        if let Some(completed) = run.store_unstored_tokens().await? {
            return Ok(ChangeResult::Completed(completed));
        }
        let version = match run.get(Selector::Label(Label::Current)).await {
            Ok(version) => version,
            // Without a value, deleted meanwhile, or bytes.
            Err(error @ (StoreError::NotFound { .. } | StoreError::Binary)) => {
                return Ok(ChangeResult::NotATokenSecret(run.store_error(error)));
            }
            Err(error) => return Err(run.store_error(error)),
        };
        let current = match run.token_version(&version) {
            Ok(current) => current,
            Err(error) if run.is_token_secret(&version) => return Err(error),
            Err(error) => return Ok(ChangeResult::NotATokenSecret(error)),
        };
        observation.current(&current.token);
        if !current.has_staged_label {
            return run.refresh(current, written).await.map(ChangeResult::Completed);
        }
        Ok(match run.decide(&current) {
            Decision::Skip(reason) => ChangeResult::Completed(run.completed(Outcome::Skipped, &current, reason)),
            Decision::Refresh(_) => ChangeResult::LeftToSchedule,
        })
    }
}
