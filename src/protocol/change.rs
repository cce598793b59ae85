//! A run because the current version of a secret has changed: a person may have put tokens into it.

use futures_util::FutureExt;

use super::{
    Error, Observation, Refresher, Request, Run,
    decision::{self, Decision},
    outcome::{Completed, Outcome},
};
use crate::store::{Label, SecretStore, Selector, StoreError};

/// The result of a run after a change.
#[derive(Debug)]
pub enum AfterChange {
    /// That of a scheduled run.
    Completed(Completed),
    /// The secret is not a token secret. The error of a run for it.
    NotATokenSecret(Error),
    /// The token is due, but this program wrote the version. The next scheduled run refreshes it: a run here would change the secret
    /// again, and would start the next one, without end.
    OwnVersion,
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
    ) -> Result<AfterChange, Error> {
        self.after_change(request, observation).boxed().await
    }

    async fn after_change(&self, request: Request<'_>, observation: &Observation) -> Result<AfterChange, Error> {
        let Request { secret_id, mode, deadline } = request;
        let deadline = decision::deadline(deadline, self.clock.now());
        let run = Run { refresher: self, secret_id, mode, deadline, observation, shared: None };
        let written = run.store_unstored_responses().await?;
        if let Some(completed) = run.store_unstored_tokens().await? {
            return Ok(AfterChange::Completed(completed));
        }
        let version = match run.get(Selector::Label(Label::Current)).await {
            Ok(version) => version,
            // Without a value, deleted meanwhile, or bytes.
            Err(error @ (StoreError::NotFound { .. } | StoreError::Binary)) => {
                return Ok(AfterChange::NotATokenSecret(run.store_error(error)));
            }
            Err(error) => return Err(run.store_error(error)),
        };
        if let Some(error) = run.not_a_token_secret(&version) {
            return Ok(AfterChange::NotATokenSecret(error));
        }
        let current = run.token_version(&version)?;
        observation.current(&current.token);
        if !current.has_staged_label {
            return run.refresh(current, written).await.map(AfterChange::Completed);
        }
        Ok(match run.decide(&current) {
            Decision::Skip(reason) => AfterChange::Completed(run.completed(Outcome::Skipped, &current, reason)),
            Decision::Refresh(_) => AfterChange::OwnVersion,
        })
    }
}
