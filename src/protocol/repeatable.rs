//! Stores the tokens of a grant that is not single-use. Its runs take no claim, so several may obtain tokens at the same time. The
//! tokens that were requested last become current. Tokens that cannot be written are dropped: the next run obtains others.

use super::{
    Error, Run, TokenVersion,
    ids::TokenKey,
    outcome::{Completed, Outcome, Reason},
    promote::Replaced,
};
use crate::{
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError},
};

impl<S: SecretStore> Run<'_, S> {
    /// Stages the text with the new tokens and makes it current.
    pub(super) async fn store_repeatable(
        &self,
        current: &TokenVersion,
        body: &Secret,
        reason: Reason,
    ) -> Result<Completed, Error> {
        let mut replaced = Replaced::of(current);
        match self.stage_after_others(current, body, &mut replaced.keys).await? {
            Some((staged, outcome)) => {
                self.promote(current.clone(), staged, &replaced, reason, outcome).await?.into_result()
            }
            None => Ok(self.completed(Outcome::InProgress, current, reason)),
        }
    }

    /// Stages the text after all tokens that other runs have staged for the same state, and adds the keys of those to `keys`. Returns
    /// the newest tokens: ours, or those of another run if they were requested later; then ours are dropped. `None`: another run stages
    /// tokens at this moment.
    async fn stage_after_others(
        &self,
        current: &TokenVersion,
        body: &Secret,
        keys: &mut Vec<TokenKey>,
    ) -> Result<Option<(TokenVersion, Outcome)>, Error> {
        let mut ours = self.staged_version(&current.arn, current.key().staged(), body)?;
        for _ in 0..self.refresher.store.limits().versions {
            match self.put(&ours.id, Label::Staged, body).await {
                Ok(()) => return Ok(Some((ours, Outcome::Refreshed))),
                Err(StoreError::Exists) => {}
                Err(error) => return Err(self.store_error(error)),
            }
            // What exists may not be readable yet.
            let Some(others) = self.find(Selector::Id(&ours.id)).await? else { return Ok(None) };
            let others = self.token_version(&others)?;
            if others.token.tokens == ours.token.tokens {
                // Our own put: its answer was lost.
                return Ok(Some((ours, Outcome::Refreshed)));
            }
            if others.token.tokens.refreshed_at >= ours.token.tokens.refreshed_at {
                return Ok(Some((self.newest_staged(others).await?, Outcome::Superseded)));
            }
            keys.push(others.key());
            ours.id = others.key().staged();
        }
        // Other runs staged as many tokens as a secret has versions.
        Ok(None)
    }
}
