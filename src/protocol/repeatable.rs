//! Stores the tokens of a grant that is not single-use. Its runs take no claim, so several may obtain tokens at the same time. The
//! tokens that were requested last become current. Tokens that cannot be written are dropped: the next run obtains others.

use super::{
    Error, Run, TokenVersion,
    ids::TokenKey,
    outcome::{Completed, Outcome, Reason},
    promote::Replaced,
};
use crate::{
    oauth::grant::Grant,
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError},
};

impl<S: SecretStore> Run<'_, S> {
    /// Stages the text with the new tokens and makes it current. If other runs have staged tokens for the same state, it is staged
    /// after theirs, or dropped if theirs were requested later.
    pub(super) async fn store_repeatable(
        &self,
        current: &TokenVersion,
        grant: &Grant,
        body: &Secret,
        reason: Reason,
    ) -> Result<Completed, Error> {
        let mut replaced = Replaced { keys: vec![current.key()], grant: grant.clone() };
        let mut previous: TokenKey = current.key();
        for _ in 0..self.refresher.store.limits().versions {
            let ours = self.staged_version(&current.arn, previous.staged(), body)?;
            match self.put(&ours.id, Label::Staged, body).await {
                Ok(()) => return self.make_current(current, ours, &replaced, reason, Outcome::Refreshed).await,
                Err(StoreError::Exists) => {}
                Err(error) => return Err(self.store_error(error)),
            }
            let Some(others) = self.find(Selector::Id(&ours.id)).await? else {
                // Another run has just put it, and it cannot be read yet.
                return Ok(self.completed(Outcome::InProgress, current, reason));
            };
            let others = self.token_version(&others)?;
            if others.token.tokens == ours.token.tokens {
                // Our own put: its answer was lost.
                return self.make_current(current, ours, &replaced, reason, Outcome::Refreshed).await;
            }
            if others.token.tokens.refreshed_at >= ours.token.tokens.refreshed_at {
                let newest = self.newest_staged(others).await?;
                return self.make_current(current, newest, &replaced, reason, Outcome::Superseded).await;
            }
            previous = others.key();
            replaced.keys.push(previous);
        }
        // Other runs staged as many tokens as a secret has versions.
        Ok(self.completed(Outcome::InProgress, current, reason))
    }

    async fn make_current(
        &self,
        current: &TokenVersion,
        staged: TokenVersion,
        replaced: &Replaced,
        reason: Reason,
        outcome: Outcome,
    ) -> Result<Completed, Error> {
        self.promote(current.clone(), staged, replaced, reason, outcome).await?.into_result()
    }
}
