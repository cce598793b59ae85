//! Staging: writes issued tokens into the store, at an id derived from the tokens they were exchanged for. Moves no label of readers.

use chrono::TimeDelta;
use tracing::{error, warn};

use super::{
    Error, Refresher, Run, TokenVersion,
    call::boxed,
    decision,
    ids::TokenKey,
    observation::Observation,
    outcome::{Completed, Outcome, Reason},
};
use crate::{
    secret::Secret,
    store::{Label, Labels, SecretStore, StoreError, Version},
};

/// The pause before the first retry; each further pause is twice as long.
pub(super) const FIRST_PAUSE: TimeDelta = TimeDelta::milliseconds(50);

/// Tokens that were issued and are not in the store yet.
#[derive(Clone, Debug)]
pub(super) struct UnstoredTokens {
    /// The secret, as the event or `SECRET_ID` names it.
    pub(super) secret_id: String,
    /// The secret's ARN.
    pub(super) arn: String,
    /// The tokens they were exchanged for.
    pub(super) spent: TokenKey,
    /// The refresh token that was exchanged.
    pub(super) spent_refresh_token: Secret,
    /// The whole text of the version that is to become current.
    pub(super) body: Secret,
}

impl UnstoredTokens {
    /// The error if they cannot be written.
    pub(super) fn error(&self, detail: &str) -> Error {
        Error::TokenNotStored {
            secret_id: self.secret_id.clone(),
            version_id: self.spent.staged(),
            detail: detail.to_owned(),
        }
    }
}

/// Issued tokens until they are current. If the run ends before [`Self::done`] (an error, a panic, a cancelled run), they stay in
/// memory for the next run of this process.
pub(super) struct InMemory<'a, S> {
    refresher: &'a Refresher<S>,
    tokens: UnstoredTokens,
    is_done: bool,
}

impl<S> InMemory<'_, S> {
    pub(super) const fn tokens(&self) -> &UnstoredTokens {
        &self.tokens
    }

    /// The tokens are current, or others have replaced them: the next run has nothing to do.
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl<S> Drop for InMemory<'_, S> {
    fn drop(&mut self) {
        if !self.is_done {
            self.refresher.unstored().push(self.tokens.clone());
        }
    }
}

impl<S> Refresher<S> {
    pub(super) const fn keep_in_memory(&self, tokens: UnstoredTokens) -> InMemory<'_, S> {
        InMemory { refresher: self, tokens, is_done: false }
    }
}

/// Issued tokens that are in the store.
pub(super) struct StagedTokens {
    /// The ones this run obtained.
    pub(super) ours: TokenVersion,
    /// The ones another run obtained for the same spent token, if there are any.
    pub(super) others: Option<TokenVersion>,
}

impl<S: SecretStore> Run<'_, S> {
    /// Writes issued tokens. Retries until the deadline, and for a moment more if that passed while the machine slept.
    pub(super) async fn stage(&self, unstored: &UnstoredTokens) -> Result<StagedTokens, Error> {
        let mut give_up_at = self.deadline - decision::RESPONSE;
        let mut overslept = false;
        let staged_id = unstored.spent.staged();
        let mut id = staged_id.clone();
        let mut pause = FIRST_PAUSE;
        let mut detail = "no answer before the deadline".to_owned();
        loop {
            let put = self.refresher.store.put(&unstored.secret_id, &id, Label::Staged, &unstored.body);
            self.observation.call();
            match self.refresher.clock.before(give_up_at, boxed(put)).await {
                Some(Err(StoreError::Exists)) if id == staged_id => {
                    // Another run exchanged the same token. No issued token is dropped: ours get an id of their own.
                    error!(
                        secretId = unstored.secret_id,
                        "a refresh token was exchanged twice; both responses are kept"
                    );
                    id = unstored.spent.staged_second(&unstored.body);
                    continue;
                }
                // This id is derived from the text, so what exists there is this text.
                Some(Ok(()) | Err(StoreError::Exists)) => break,
                Some(Err(error)) => detail = error.to_string(),
                // The error of the try before this one is more useful.
                None => {}
            }
            if self.now() + pause >= give_up_at {
                if overslept || self.now() < self.deadline {
                    return Err(unstored.error(&detail));
                }
                // The deadline has passed and the process was not killed: the machine slept or its clock changed.
                overslept = true;
                give_up_at = self.now() + decision::MAX_PROMOTION;
                continue;
            }
            warn!(secretId = unstored.secret_id, "the new tokens are not written yet, trying again: {detail}");
            self.sleep(pause).await;
            pause = (pause * 2).min(TimeDelta::seconds(1));
        }
        let others = if id == staged_id {
            None
        } else {
            // It exists and may not be readable yet: then the next invocation of this process tries again.
            let others = self.staged(&unstored.spent).await?;
            Some(others.ok_or_else(|| self.store_error(StoreError::Exists))?)
        };
        let labels = Labels::from([Label::Staged]);
        let version =
            Version { arn: unstored.arn.clone(), id, created: self.now(), labels, body: unstored.body.clone() };
        Ok(StagedTokens { ours: self.token_version(version)?, others })
    }

    /// Stages and promotes what earlier invocations of this process could not write, before anything else is exchanged. Returns the
    /// result if one of them was for this run's secret.
    pub(super) async fn store_unstored_tokens(&self) -> Result<Option<Completed>, Error> {
        let all = self.refresher.unstored().clone();
        let mut completed = None;
        for unstored in all {
            let separate = Observation::default();
            let is_own = unstored.secret_id == self.secret_id;
            let (deadline, observation) = if is_own {
                (self.deadline, self.observation)
            } else {
                // A secret whose store fails must not use up the time of this run, nor be observed as this run's secret.
                (self.deadline.min(self.now() + decision::MAX_PROMOTION), &separate)
            };
            let run = Run { secret_id: &unstored.secret_id, deadline, observation, ..*self };
            let promoted = async {
                let staged = run.stage(&unstored).await?;
                let current = run.read_current().await?;
                run.promote_newest(&unstored, staged, current, Reason::NotStoredBefore, Outcome::Recovered).await
            };
            let result = match promoted.await {
                Ok(promoted) => {
                    self.refresher.unstored().retain(|other| other.body != unstored.body);
                    promoted.into_result()
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(own) if is_own => completed = Some(own),
                Ok(_) => {}
                Err(error) if is_own => return Err(error),
                Err(error) => error!(secretId = unstored.secret_id, "{error}"),
            }
        }
        Ok(completed)
    }
}
