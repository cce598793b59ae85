//! Claiming: decides, with all other runs that found the same token due, which one may exchange it. The decision is made in the
//! store.

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{
    Error, Mode, Run, TokenVersion,
    decision::{self, ClaimState},
    error::History,
    ids::{ClientDigest, TokenKey},
    inspect::NewestClaim,
    options::ClaimMode,
    outcome::Outcome,
    record::{self, Claim, Record},
};
use crate::{
    oauth::{grant::Grant, response::ErrorResponse},
    store::{Label, SecretStore, StoreError},
};

/// What a run may do with a token that is due.
pub(super) enum ClaimResult {
    /// Exchange it: this run holds the claim.
    Claimed(Attempt),
    /// Promote what an earlier run staged.
    Staged(Box<TokenVersion>),
    /// Nothing: another run holds the claim, or it is too early for the next attempt.
    Wait {
        /// `InProgress` or `BackingOff`.
        outcome: Outcome,
        /// When to try again, if that is known.
        retry_at: Option<DateTime<Utc>>,
    },
    /// Nothing: the provider has refused it for good.
    Refused(ErrorResponse),
}

/// One attempt to exchange a token.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// The number of its claim, counted from 0.
    pub(super) number: u32,
    /// `First`, or `AfterInterruption`.
    pub(super) history: History,
}

impl Attempt {
    const FIRST: Self = Self { number: 0, history: History::First };
}

impl<S: SecretStore> Run<'_, S> {
    /// Decides what to do with a token that is due, and claims it if that is to exchange it.
    pub(super) async fn claim(
        &self,
        current: &TokenVersion,
        grant: &Grant,
        key: &TokenKey,
        client: ClientDigest,
    ) -> Result<ClaimResult, Error> {
        if self.deadline - self.now() < decision::MIN_TO_START {
            return Err(self.too_little_time("to start a refresh"));
        }
        // A grant that is not single-use needs no claim: two runs may both exchange it.
        let mode = if grant.is_single_use() { self.refresher.options.claim } else { ClaimMode::Never };
        let forced = matches!(self.mode, Mode::Forced { .. });
        if let Some(staged) = self.check_quota_if_needed(current, mode, key).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        match mode {
            ClaimMode::Always => self.put_first_or_next_claim(key, client, forced).await,
            ClaimMode::Never => self.proceed_without_claim(key, client, forced).await,
        }
    }

    async fn proceed_without_claim(
        &self,
        key: &TokenKey,
        client: ClientDigest,
        forced: bool,
    ) -> Result<ClaimResult, Error> {
        Ok(match (self.staged(key).await?, self.refusal_unless(forced, key, client).await?) {
            (Some(staged), _) => ClaimResult::Staged(Box::new(staged)),
            (None, Some(refusal)) => ClaimResult::Refused(refusal),
            (None, None) => ClaimResult::Claimed(Attempt::FIRST),
        })
    }

    async fn put_first_or_next_claim(
        &self,
        key: &TokenKey,
        client: ClientDigest,
        forced: bool,
    ) -> Result<ClaimResult, Error> {
        // This also proves, before the token is spent, that writing works (IAM, KMS).
        match self.put_claim(key, 0, client).await {
            Ok(()) => return Ok(ClaimResult::Claimed(Attempt::FIRST)),
            Err(StoreError::Exists) => {}
            Err(error) => return self.staged_or(key, error).await,
        }
        if let Some(staged) = self.staged(key).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        if let Some(refusal) = self.refusal_unless(forced, key, client).await? {
            return Ok(ClaimResult::Refused(refusal));
        }
        let in_progress = |retry_at| ClaimResult::Wait { outcome: Outcome::InProgress, retry_at };
        let Some(NewestClaim { claim, created, refused }) = self.newest_claim(key).await? else {
            // It exists, and reads lag behind.
            return Ok(in_progress(None));
        };
        let same_client = claim.client_settings.as_ref().is_none_or(|digest| *digest == client.to_string());
        match decision::claim_state(&claim, created, !forced && same_client, self.now()) {
            ClaimState::Leased { until } => return Ok(in_progress(Some(until))),
            ClaimState::BackingOff { retry_at } => {
                return Ok(ClaimResult::Wait { outcome: Outcome::BackingOff, retry_at: Some(retry_at) });
            }
            ClaimState::Free => {}
        }
        if let Some(staged) = self.check_quota(key, 2).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        let attempt = claim.attempt.saturating_add(1);
        match self.put_claim(key, attempt, client).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Ok(in_progress(None)),
            Err(error) => return self.staged_or(key, error).await,
        }
        // The holder before us may have staged between our first look and our claim.
        if let Some(staged) = self.staged(key).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        if refused {
            return Ok(ClaimResult::Claimed(Attempt { number: attempt, history: History::First }));
        }
        warn!(
            secretId = self.secret_id,
            attempt,
            "an earlier run ended without storing a response; its refresh token may be spent and is tried again"
        );
        Ok(ClaimResult::Claimed(Attempt { number: attempt, history: History::AfterInterruption }))
    }

    async fn put_claim(&self, key: &TokenKey, attempt: u32, client: ClientDigest) -> Result<(), StoreError> {
        let claim = Record::Claim(Claim {
            attempt,
            lease_ends_at: decision::lease_end(self.deadline),
            client_settings: Some(client.to_string()),
        });
        let holder = record::holder();
        self.put(&key.claim(attempt), Label::Claim, &claim.to_text(key, &holder)).await
    }

    /// Checks the quota before the first claim, if refreshes come so close together that it may be reached.
    async fn check_quota_if_needed(
        &self,
        current: &TokenVersion,
        mode: ClaimMode,
        key: &TokenKey,
    ) -> Result<Option<TokenVersion>, Error> {
        let (token, margin) = (&current.token, self.refresher.options.refresh_margin);
        let needed = match mode {
            ClaimMode::Always if decision::must_check_quota(token, current.created, margin, self.now()) => 2,
            ClaimMode::Never if decision::must_check_quota_without_claims(token, margin, self.now()) => 1,
            ClaimMode::Always | ClaimMode::Never => 0,
        };
        if needed > 0 { self.check_quota(key, needed).await } else { Ok(None) }
    }

    /// Checks that this many versions can still be put. `Some`: there is a staged version already, and to promote it needs no room.
    async fn check_quota(&self, key: &TokenKey, needed: usize) -> Result<Option<TokenVersion>, Error> {
        let versions = self.list().await.map_err(|error| self.store_error(error))?;
        let limits = self.refresher.store.limits();
        let room = decision::room(&versions, limits, self.now());
        let is_staged = versions.iter().any(|version| version.id == key.staged());
        if room >= needed && !is_staged {
            return Ok(None);
        }
        match self.staged(key).await? {
            Some(staged) => Ok(Some(staged)),
            None if room >= needed => Ok(None),
            None => Err(Error::VersionQuota { secret_id: self.secret_id.to_owned(), limits, staged: None }),
        }
    }

    /// A claim could not be put. If that is for the quota and there is a staged version, that can be promoted all the same.
    async fn staged_or(&self, key: &TokenKey, error: StoreError) -> Result<ClaimResult, Error> {
        if let StoreError::Quota { .. } = error
            && let Some(staged) = self.staged(key).await?
        {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        Err(self.store_error(error))
    }

    /// The recorded refusal that still holds. Force asks the provider again.
    async fn refusal_unless(
        &self,
        forced: bool,
        key: &TokenKey,
        client: ClientDigest,
    ) -> Result<Option<ErrorResponse>, Error> {
        if forced { Ok(None) } else { self.refusal(key, client).await }
    }
}
