//! What is in the store for a token: a staged version, a recorded refusal, the newest claim. Reads only.

use chrono::{DateTime, Utc};

use super::{
    Due, Error, Run, TokenVersion, decision,
    ids::TokenKey,
    inventory::Inventory,
    record::{Claim, ClaimEnd, Record, RecordRead},
};
use crate::{
    oauth::response::ErrorResponse,
    store::{Label, SecretStore, Selector, Version},
};

/// The newest claim on a token.
pub(super) struct NewestClaim {
    pub(super) claim: Claim,
    pub(super) created: DateTime<Utc>,
    /// How its run ended, if that is known.
    pub(super) end: ClaimEnd,
}

impl<S: SecretStore> Run<'_, S> {
    /// The versions of the secret.
    pub(super) async fn inventory(&self) -> Result<Inventory, Error> {
        let listed = self.list().await.map_err(|error| self.store_error(error))?;
        Ok(Inventory::new(listed, self.refresher.store.limits().labels))
    }

    /// The staged version: the tokens that the ones with this key were exchanged for.
    pub(super) async fn staged(&self, key: &TokenKey) -> Result<Option<TokenVersion>, Error> {
        self.find(Selector::Id(&key.staged())).await?.map(|version| self.token_version(&version)).transpose()
    }

    /// The last tokens in the chain of staged versions: an old copy may have been pasted back long afterwards.
    pub(super) async fn newest_staged(&self, mut staged: TokenVersion) -> Result<TokenVersion, Error> {
        let limits = self.refresher.store.limits();
        for _ in 0..limits.versions {
            match self.staged(&staged.key()).await? {
                Some(next) => staged = next,
                None => break,
            }
        }
        // The label moved on, and later versions may have been removed. The one that was staged last remains.
        if !staged.has_staged_label && decision::records_may_be_removed(&staged.token, limits, self.now()) {
            let last = self.find(Selector::Label(Label::Staged)).await?.and_then(|last| self.token_version(&last).ok());
            let is_later = |last: &TokenVersion| last.token.tokens.refreshed_at > staged.token.tokens.refreshed_at;
            return Ok(last.filter(is_later).unwrap_or(staged));
        }
        Ok(staged)
    }

    /// The recorded refusal of these tokens to this client in the current six hours.
    pub(super) async fn refusal(&self, due: &Due<'_>) -> Result<Option<ErrorResponse>, Error> {
        let id = due.key.refusal(due.client_digest, self.now());
        let version = self.find(Selector::Id(&id)).await?;
        Ok(version.and_then(|version| match Record::read(&version.body, &due.key) {
            RecordRead::Record(Record::Refusal { refusal, .. }) if refusal.is_final() => Some(refusal),
            _ => None,
        }))
    }

    /// The newest claim on these tokens. The label is on it or on its refusal, unless another record was put after it; then the list
    /// shows which claims exist. `None`: it cannot be read yet.
    pub(super) async fn newest_claim(
        &self,
        due: &Due<'_>,
        inventory: &Inventory,
    ) -> Result<Option<NewestClaim>, Error> {
        let key = &due.key;
        // If the next claim exists, the read lags behind.
        let is_newest = |attempt: u32| !inventory.contains(&key.claim(attempt.saturating_add(1)));
        let mut of_later_version = None;
        if let Some(version) = self.find(Selector::Label(Label::Claim)).await? {
            match Record::read(&version.body, key) {
                RecordRead::Record(Record::Claim(claim)) if is_newest(claim.attempt) => {
                    return self.with_its_end(due, claim, &version).await.map(Some);
                }
                RecordRead::Record(Record::Refusal { attempt, .. }) if is_newest(attempt) => {
                    return self.refused_claim(due, attempt, version.created).await.map(Some);
                }
                RecordRead::OfLaterVersion => of_later_version = Some(version),
                RecordRead::Record(_) | RecordRead::Other => {}
            }
        }
        let attempt = inventory.newest_claim(key).unwrap_or(0);
        let Some(version) = self.find(Selector::Id(&key.claim(attempt))).await? else { return Ok(None) };
        let claim = match Record::read(&version.body, key) {
            RecordRead::Record(Record::Claim(claim)) => claim,
            _ => decision::claim_of_unknown_content(attempt, version.created),
        };
        Ok(Some(match of_later_version {
            // Its content is unknown, but it was put last: the lease counts from then.
            Some(later) => NewestClaim {
                claim: decision::claim_of_unknown_content(attempt, later.created),
                created: later.created,
                end: ClaimEnd::Unknown,
            },
            None => self.with_its_end(due, claim, &version).await?,
        }))
    }

    /// The claim of a recorded refusal. If it has been removed since, the refusal stands for it.
    async fn refused_claim(
        &self,
        due: &Due<'_>,
        attempt: u32,
        refused_at: DateTime<Utc>,
    ) -> Result<NewestClaim, Error> {
        let version = self.find(Selector::Id(&due.key.claim(attempt))).await?;
        let created = version.as_ref().map_or(refused_at, |version| version.created);
        let claim = match version.map(|version| Record::read(&version.body, &due.key)) {
            Some(RecordRead::Record(Record::Claim(claim))) => claim,
            _ => decision::claim_of_unknown_content(attempt, created),
        };
        Ok(NewestClaim { claim, created, end: ClaimEnd::Refused })
    }

    /// Whether the claim before this one was put with the same client settings.
    pub(super) async fn was_used_before(&self, due: &Due<'_>, claim: &Claim) -> Result<bool, Error> {
        let Some(before) = claim.attempt.checked_sub(1) else { return Ok(false) };
        let version = self.find(Selector::Id(&due.key.claim(before))).await?;
        Ok(version.is_some_and(|version| match Record::read(&version.body, &due.key) {
            RecordRead::Record(Record::Claim(claim)) => due.is_client_of(&claim),
            _ => false,
        }))
    }

    /// The claim with how its run ended. If an earlier run recorded the same refusal, this run could not record it again: then its
    /// claim has the label `OAUTH_ENDED`.
    async fn with_its_end(&self, due: &Due<'_>, claim: Claim, version: &Version) -> Result<NewestClaim, Error> {
        let end = if version.labels.has(Label::Ended) {
            let refusal = claim.client_settings.as_ref().map(|client| due.key.refusal_of(client, self.now()));
            match refusal {
                Some(id) if self.find(Selector::Id(&id)).await?.is_some() => ClaimEnd::Refused,
                _ => ClaimEnd::WithoutTokens,
            }
        } else {
            ClaimEnd::Unknown
        };
        Ok(NewestClaim { claim, created: version.created, end })
    }
}
