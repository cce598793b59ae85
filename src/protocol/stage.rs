//! Staging: writes issued tokens into the store, at an id derived from the tokens they were exchanged for. Moves no label of readers.

use chrono::TimeDelta;
use futures_util::FutureExt;
use tracing::{error, warn};

use super::{
    Error, Run, TokenVersion, decision,
    ids::TokenKey,
    observation::Observation,
    outcome::{Completed, Outcome, Reason},
};
use crate::{
    oauth::grant::Grant,
    secret::Secret,
    store::{Label, Labels, SecretStore, StoreError, Version, VersionId},
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
    /// The grant that was exchanged.
    pub(super) spent_grant: Grant,
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

/// Issued tokens that are in the store.
pub(super) struct StagedTokens {
    /// The ones this run obtained.
    pub(super) ours: TokenVersion,
    /// The ones another run obtained for the same spent token, if there are any.
    pub(super) others: Option<TokenVersion>,
}

impl<S: SecretStore> Run<'_, S> {
    /// Writes issued tokens of a single-use grant. Nothing that was issued is dropped.
    pub(super) async fn stage(&self, unstored: &UnstoredTokens) -> Result<StagedTokens, Error> {
        let UnstoredTokens { secret_id, spent, body, .. } = unstored;
        let staged_id = spent.staged();
        let second = || spent.staged_second(body);
        let id = self
            .put_issued(secret_id, Label::Staged, &staged_id, second, body)
            .await
            .map_err(|detail| unstored.error(&detail))?;
        let others = if id == staged_id {
            None
        } else {
            error!(secretId = secret_id, "a refresh token was exchanged twice; both responses are kept");
            // It exists and may not be readable yet: then the next invocation of this process tries again.
            let others = self.staged(&unstored.spent).await?;
            Some(others.ok_or_else(|| self.store_error(StoreError::Exists))?)
        };
        Ok(StagedTokens { ours: self.staged_version(&unstored.arn, id, &unstored.body)?, others })
    }

    /// The version that a put with the label makes.
    pub(super) fn staged_version(&self, arn: &str, id: VersionId, body: &Secret) -> Result<TokenVersion, Error> {
        let labels = Labels::from([Label::Staged]);
        self.token_version(&Version { arn: arn.to_owned(), id, created: self.now(), labels, body: body.clone() })
    }

    /// Puts what was issued. Retries until the deadline, and for a moment more if that passed while the machine slept. If `first`
    /// exists with other text, it gets the second id, which is derived from the text: nothing that was issued is dropped.
    ///
    /// # Errors
    ///
    /// Why the last try failed.
    pub(super) async fn put_issued(
        &self,
        secret_id: &str,
        label: Label,
        first: &VersionId,
        second: impl Fn() -> VersionId,
        body: &Secret,
    ) -> Result<VersionId, String> {
        let mut give_up_at = self.deadline - decision::RESPONSE;
        let permanent_ends_at = self.now() + decision::MAX_PROMOTION;
        let mut overslept = false;
        let mut id = first.clone();
        let mut pause = FIRST_PAUSE;
        let mut detail = "no answer before the deadline".to_owned();
        loop {
            let put = self.refresher.store.put(secret_id, &id, label, body);
            self.observation.call();
            match self.refresher.clock.before(give_up_at, put.boxed()).await {
                Some(Err(StoreError::Exists)) if id == *first => {
                    id = second();
                    continue;
                }
                // This id is derived from the text, so what exists there is this text.
                Some(Ok(()) | Err(StoreError::Exists)) => return Ok(id),
                Some(Err(error)) => {
                    // Issued before, and in memory: in a sweep other tokens need the time.
                    let may_pass = matches!(error, StoreError::Throttled { .. } | StoreError::Unavailable { .. });
                    if self.shared.is_some() && !may_pass && self.observation.observed().exchange.is_none() {
                        give_up_at = give_up_at.min(permanent_ends_at);
                    }
                    detail = error.to_string();
                }
                // The error of the try before this one is more useful.
                None => {}
            }
            if self.now() + pause >= give_up_at {
                if overslept || self.now() < self.deadline {
                    return Err(detail);
                }
                // The deadline has passed and the process was not killed: the machine slept or its clock changed.
                overslept = true;
                give_up_at = self.now() + decision::MAX_PROMOTION;
                continue;
            }
            let what = if label == Label::Staged { "the new tokens are" } else { "the response is" };
            warn!(secretId = secret_id, "{what} not written yet, trying again: {detail}");
            self.sleep(pause).await;
            pause = (pause * 2).min(TimeDelta::seconds(1));
        }
    }

    /// A run for the secret of an unstored item. A secret whose store fails must not use up the time of this run, nor be observed as
    /// this run's secret.
    pub(super) fn for_unstored<'b>(&'b self, secret_id: &'b str, separate: &'b Observation) -> Run<'b, S> {
        if secret_id == self.secret_id {
            return Run { ..*self };
        }
        let deadline = self.deadline.min(self.now() + decision::MAX_PROMOTION);
        Run { secret_id, deadline, observation: separate, ..*self }
    }

    /// Stages and promotes what earlier invocations of this process could not write, before anything else is exchanged. Returns the
    /// result if one of them was for this run's secret.
    pub(super) async fn store_unstored_tokens(&self) -> Result<Option<Completed>, Error> {
        // In a sweep each of them has a run of its own.
        let mut all = self.refresher.unstored_tokens.all();
        all.retain(|unstored| self.shared.is_none() || unstored.secret_id == self.secret_id);
        let mut completed = None;
        for unstored in all {
            let separate = Observation::default();
            let is_own = unstored.secret_id == self.secret_id;
            let run = self.for_unstored(&unstored.secret_id, &separate);
            let promoted = async {
                let staged = run.stage(&unstored).await?;
                let current = run.read_current().await?;
                run.promote_newest(&unstored, staged, current, Reason::NotStoredBefore, Outcome::Recovered).await
            };
            let result = match promoted.await {
                Ok(promoted) => {
                    self.refresher.unstored_tokens.forget(|other| other.body == unstored.body);
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
