//! Promoting: moves AWSCURRENT to staged tokens, whatever other runs and people do meanwhile.

use tracing::warn;

use super::{
    Error, Run, TokenVersion, decision, ids,
    ids::TokenKey,
    outcome::{Completed, Outcome, Reason},
    stage::{FIRST_PAUSE, StagedTokens, UnstoredTokens},
};
use crate::{
    oauth::grant::Grant,
    store::{Label, SecretStore, Selector, StoreError},
};

/// The tokens that a promotion replaces.
pub(super) struct Replaced {
    pub(super) keys: Vec<TokenKey>,
    grant: Grant,
}

impl Replaced {
    /// The tokens of this version.
    pub(super) fn of(current: &TokenVersion) -> Self {
        Self { keys: vec![current.key()], grant: current.token.tokens.grant.clone() }
    }

    /// Whether these tokens are replaced by the staged ones. Also if a person has edited the access token or `refreshedAt` beside the
    /// refresh token that is spent.
    fn contains(&self, found: &TokenVersion, staged: &TokenVersion) -> bool {
        self.keys.contains(&found.key())
            || (found.token.tokens.grant == self.grant && staged.token.tokens.grant != self.grant)
    }
}

/// The result of a promotion.
pub(super) struct Promoted {
    completed: Completed,
    /// Whether readers have the new token, if it is published. The token secret is right in either case.
    published: Result<(), Error>,
}

impl Promoted {
    /// The result of the run. A publication that failed is an error, but the tokens need not be promoted again.
    pub(super) fn into_result(self) -> Result<Completed, Error> {
        self.published.map(|()| self.completed)
    }
}

impl From<Completed> for Promoted {
    fn from(completed: Completed) -> Self {
        Self { completed, published: Ok(()) }
    }
}

impl<S: SecretStore> Run<'_, S> {
    /// Promotes the newest of the tokens that were staged for a spent token.
    pub(super) async fn promote_newest(
        &self,
        unstored: &UnstoredTokens,
        staged: StagedTokens,
        current: TokenVersion,
        reason: Reason,
        outcome: Outcome,
    ) -> Result<Promoted, Error> {
        let StagedTokens { ours, others } = staged;
        let mut keys = vec![unstored.spent];
        keys.extend(others.as_ref().map(TokenVersion::key));
        let replaced = Replaced { keys, grant: unstored.spent_grant.clone() };
        if !replaced.contains(&current, &ours) {
            let outcome = if current.token.tokens == ours.token.tokens { outcome } else { Outcome::Superseded };
            return Ok(self.completed(outcome, &current, reason).into());
        }
        // Tokens of an earlier invocation: other runs may have promoted and exchanged them since, and a person gone back.
        let ours = if outcome == Outcome::Refreshed { ours } else { self.newest_staged(ours).await? };
        let (newest, outcome) = match others {
            None => (ours, outcome),
            Some(others) => self.later_of(self.newest_staged(others).await?, ours, outcome).await?,
        };
        if current.token.tokens == newest.token.tokens {
            return Ok(self.completed(outcome, &current, reason).into());
        }
        self.promote(current, newest, &replaced, reason, outcome).await
    }

    /// Of two responses to one token the later one, which is valid with every provider; `outcome` if that is ours. It becomes the
    /// staged version of the earlier one, so that every run that starts at the spent token finds it.
    async fn later_of(
        &self,
        others: TokenVersion,
        ours: TokenVersion,
        outcome: Outcome,
    ) -> Result<(TokenVersion, Outcome), Error> {
        if others.token.tokens == ours.token.tokens {
            return Ok((others, outcome));
        }
        if others.token.tokens.refreshed_at >= ours.token.tokens.refreshed_at {
            return Ok((others, Outcome::Superseded));
        }
        let id = others.key().staged();
        match self.put(&id, Label::Staged, &ours.token.to_text()).await {
            Ok(()) => Ok((TokenVersion { id, ..ours }, outcome)),
            // Another run has exchanged the other tokens meanwhile, with a still later response.
            Err(StoreError::Exists) => Ok((self.newest_staged(others).await?, Outcome::Superseded)),
            Err(error) => {
                warn!(
                    secretId = self.secret_id,
                    "the later of two responses could not be put after the earlier one: {error}"
                );
                Ok((ours, outcome))
            }
        }
    }

    /// Finishes an earlier run's work: promotes what it staged.
    pub(super) async fn recover(
        &self,
        current: TokenVersion,
        staged: TokenVersion,
        reason: Reason,
    ) -> Result<Completed, Error> {
        let newest = self.newest_staged(staged).await?;
        let replaced = Replaced::of(&current);
        self.promote(current, newest, &replaced, reason, Outcome::Recovered).await?.into_result()
    }

    /// Publishes staged tokens and moves AWSCURRENT to them, together with what a person edits meanwhile. If somebody puts other
    /// tokens into the secret, those remain current. `replaced`: the tokens that they replace.
    pub(super) async fn promote(
        &self,
        mut current: TokenVersion,
        mut staged: TokenVersion,
        replaced: &Replaced,
        reason: Reason,
        mut outcome: Outcome,
    ) -> Result<Promoted, Error> {
        let mut published = self.publish(&staged).await;
        let safe = |error, staged: &TokenVersion| {
            Error::of_store(&self.refresher.store, self.secret_id, error, Some(&staged.id))
        };
        let give_up_at = (self.now() + decision::MAX_PROMOTION).min(self.deadline - decision::RESPONSE);
        let mut pause = FIRST_PAUSE;
        loop {
            let target = match current.token.with_tokens_of(&staged.token) {
                None => staged.id.clone(),
                Some(body) => {
                    let id = ids::merged(&current.id, &staged.id);
                    match self.put(&id, Label::Staged, &body).await {
                        // Another run has put it: the id is derived from the two versions, and so is the text.
                        Ok(()) | Err(StoreError::Exists) => {}
                        Err(error) => return Err(safe(error, &staged)),
                    }
                    // Another run may have promoted and exchanged the staged tokens, before a person's edit put the replaced ones
                    // back. The put has taken the label OAUTH_STAGED from the later tokens. A run does not look for tokens that are
                    // later than those with the label, so they would stay hidden until the merged version is due. A look before the
                    // put would miss what the other run stages in between. What it stages after the put takes the label back.
                    match self.get(Selector::Id(&staged.key().staged())).await {
                        Err(StoreError::NotFound { .. }) => id,
                        Ok(later) => {
                            staged = self.newest_staged(self.token_version(&later)?).await?;
                            published = self.publish(&staged).await;
                            outcome = Outcome::Superseded;
                            continue;
                        }
                        Err(error) => return Err(safe(error, &staged)),
                    }
                }
            };
            let lost = match self.move_label(Label::Current, Some(&current.id), &target).await {
                Ok(()) => {
                    let completed = self.completed(outcome, &TokenVersion { id: target, ..staged }, reason);
                    let completed = Completed { previous_version_id: Some(current.id), ..completed };
                    return Ok(Promoted { completed, published });
                }
                // Lost to another run; or done, and the answer was lost; or the staged version is not visible yet. Read again.
                Err(
                    error @ (StoreError::Moved { .. }
                    | StoreError::NotFound { .. }
                    | StoreError::Throttled { .. }
                    | StoreError::Unavailable { .. }),
                ) => error,
                Err(error) => return Err(safe(error, &staged)),
            };
            match self.get(Selector::Label(Label::Current)).await {
                Err(_) => {}
                Ok(version) => {
                    let found = self.token_version(&version)?;
                    if found.token.tokens == staged.token.tokens {
                        let completed = self.completed(outcome, &found, reason);
                        let completed = Completed { previous_version_id: Some(current.id), ..completed };
                        return Ok(Promoted { completed, published });
                    }
                    if !replaced.contains(&found, &staged) {
                        let published = self.publish(&found).await;
                        let completed = self.completed(Outcome::Superseded, &found, reason);
                        return Ok(Promoted { completed, published });
                    }
                    current = found;
                }
            }
            if self.now() + pause >= give_up_at {
                return Err(safe(lost, &staged));
            }
            self.sleep(pause).await;
            pause = pause * 2;
        }
    }
}
