//! The dry run: says what a run would do, from what is in the store. Reads only, and sends nothing to the provider.

use super::{
    Due, Error, Run, TokenVersion,
    decision::{self, ClaimState, Decision},
    error::History,
    inspect::NewestClaim,
    old_copy::OldCopy,
    outcome::{Completed, Outcome, Reason},
};
use crate::store::{SecretStore, StoreError};

impl<S: SecretStore> Run<'_, S> {
    /// What a scheduled run would do now.
    ///
    /// # Errors
    ///
    /// The error that such a run would end with, as far as the store shows it: a refusal on record is one.
    pub(super) async fn dry(&self) -> Result<Completed, Error> {
        let current = self.read_current().await?;
        let completed = match self.decide(&current) {
            Decision::Skip(reason) => {
                let is_recoverable = !current.has_staged_label && self.staged(&current.key()).await?.is_some();
                let outcome = if is_recoverable { Outcome::WouldRecover } else { Outcome::Skipped };
                self.completed(outcome, &current, reason)
            }
            Decision::Refresh(reason) => {
                self.check_size(&current)?;
                self.would_do(&self.due(&current).await?, reason).await?
            }
        };
        self.check_published_secret(&current).await?;
        Ok(completed)
    }

    async fn would_do(&self, due: &Due<'_>, reason: Reason) -> Result<Completed, Error> {
        let inventory = self.inventory().await?;
        let would = |outcome| self.completed(outcome, due.current, reason);
        if inventory.contains(&due.key.staged()) {
            return Ok(would(Outcome::WouldRecover));
        }
        match self.newer_than_an_old_copy(due, &inventory).await? {
            OldCopy::No => {}
            OldCopy::Of(_) => return Ok(would(Outcome::WouldRecover)),
            OldCopy::MaybeStaleRead => return Ok(would(Outcome::InProgress)),
        }
        self.check_labels(&inventory)?;
        if let Some(error) = self.find_kept(due, &inventory).await? {
            return Err(error);
        }
        if inventory.contains(&due.key.refusal(due.client_digest, self.now()))
            && let Some(refusal) = self.refusal(due).await?
        {
            return Err(self.refused(due, refusal, History::Recorded));
        }
        if self.needs_claim(due)
            && self.is_claimed(due, &inventory)
            && let Some(NewestClaim { claim, created, end }) = self.newest_claim(due, &inventory).await?
        {
            let overrides = self.is_new_client(due, &claim, end).await?;
            match decision::claim_state(&claim, created, end, overrides, self.now()) {
                ClaimState::Leased { until } => {
                    return Ok(Completed { retry_at: Some(until), ..would(Outcome::InProgress) });
                }
                ClaimState::BackingOff { retry_at } => {
                    return Ok(Completed { retry_at: Some(retry_at), ..would(Outcome::BackingOff) });
                }
                ClaimState::Free => {}
            }
        }
        self.check_room(&inventory, due)?;
        Ok(would(Outcome::WouldRefresh))
    }

    /// Checks the published secret, if there is one, so that a missing one is an error before anything is exchanged.
    async fn check_published_secret(&self, current: &TokenVersion) -> Result<(), Error> {
        if !self.needs_a_first_publication(current).await? {
            return Ok(());
        }
        // A secret without a value and one that does not exist look alike to a read, not to a list.
        let published = current.token.publish_to.as_deref().unwrap_or_default();
        match self.refresher.store.list(published).await {
            Err(error @ StoreError::NotFound { .. }) => Err(self.publish_error(published, error)),
            // Without the permission to list it, the first publication will show it.
            _ => Ok(()),
        }
    }
}
