//! Claiming: decides, with all other runs that found the same token due, which one may exchange it. The decision is made in the
//! store.

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{
    Due, Error, Mode, Run, TokenVersion,
    decision::{self, ClaimState},
    error::History,
    inspect::NewestClaim,
    inventory::Inventory,
    old_copy::OldCopy,
    options::ClaimMode,
    outcome::Outcome,
    record::{self, Claim, ClaimEnd, Record},
};
use crate::{
    oauth::response::ErrorResponse,
    store::{Label, SecretStore, StoreError, VersionId},
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
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The number of its claim, counted from 0.
    pub(super) number: u32,
    /// `First`, or `AfterInterruption`.
    pub(super) history: History,
    /// How to end its claim before the lease ends.
    end: EndLabel,
    /// The label for a response that cannot be understood.
    pub(super) kept_label: Label,
}

/// The label of ended claims.
#[derive(Clone, Debug)]
enum EndLabel {
    /// It is on this version, or on none.
    MovesFrom(Option<VersionId>),
    /// No claim was put that others wait for, or another label does not fit.
    Unavailable,
}

impl<S: SecretStore> Run<'_, S> {
    /// Decides what to do with a token that is due, and claims it if that is to exchange it.
    pub(super) async fn claim(&self, due: &Due<'_>) -> Result<ClaimResult, Error> {
        if self.deadline - self.now() < decision::MIN_TO_START {
            return Err(self.too_little_time("to start a refresh"));
        }
        let inventory = self.inventory().await?;
        if inventory.contains(&due.key.staged()) {
            return Ok(match self.staged(&due.key).await? {
                Some(staged) => ClaimResult::Staged(Box::new(staged)),
                // It exists, and reads lag behind.
                None => ClaimResult::Wait { outcome: Outcome::InProgress, retry_at: None },
            });
        }
        match self.newer_than_an_old_copy(due, &inventory).await? {
            OldCopy::No => {}
            OldCopy::Of(newer) => return Ok(ClaimResult::Staged(newer)),
            OldCopy::MaybeStaleRead => {
                return Ok(ClaimResult::Wait { outcome: Outcome::InProgress, retry_at: None });
            }
        }
        self.check_labels(&inventory)?;
        if !self.is_forced_by_person()
            && let Some(error) = self.find_kept(due, &inventory).await?
        {
            return Err(error);
        }
        if self.needs_claim(due) {
            self.claim_or_wait(due, &inventory).await
        } else {
            self.proceed_without_claim(due, &inventory).await
        }
    }

    async fn proceed_without_claim(&self, due: &Due<'_>, inventory: &Inventory) -> Result<ClaimResult, Error> {
        if inventory.contains(&due.key.refusal(due.client_digest, self.now()))
            && let Some(refusal) = self.refusal_that_holds(due).await?
        {
            return Ok(ClaimResult::Refused(refusal));
        }
        self.check_room(inventory, due)?;
        if needs_proof(due) {
            match self.put_claim(due, 0).await {
                Ok(()) => {}
                // An earlier run was here, and the list may lag behind.
                Err(StoreError::Exists) => {
                    if let Some(staged) = self.staged(&due.key).await? {
                        return Ok(ClaimResult::Staged(Box::new(staged)));
                    }
                }
                Err(error) => return self.staged_or(due, error).await,
            }
        }
        Ok(ClaimResult::Claimed(Attempt { end: EndLabel::Unavailable, ..attempt(0, History::First, inventory) }))
    }

    async fn claim_or_wait(&self, due: &Due<'_>, inventory: &Inventory) -> Result<ClaimResult, Error> {
        if !self.is_claimed(due, inventory) {
            self.check_room(inventory, due)?;
            // This also proves, before the token is spent, that writing works (IAM, KMS).
            match self.put_claim(due, 0).await {
                Ok(()) => return Ok(ClaimResult::Claimed(attempt(0, History::First, inventory))),
                Err(StoreError::Exists) => {}
                Err(error) => return self.staged_or(due, error).await,
            }
        }
        if let Some(staged) = self.staged(&due.key).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        if let Some(refusal) = self.refusal_that_holds(due).await? {
            return Ok(ClaimResult::Refused(refusal));
        }
        let in_progress = |retry_at| ClaimResult::Wait { outcome: Outcome::InProgress, retry_at };
        let Some(NewestClaim { claim, created, end }) = self.newest_claim(due, inventory).await? else {
            // It exists, and reads lag behind.
            return Ok(in_progress(None));
        };
        let overrides = self.is_forced_by_person() || self.is_new_client(due, &claim, end).await?;
        match decision::claim_state(&claim, created, end, overrides, self.now()) {
            ClaimState::Leased { until } => return Ok(in_progress(Some(until))),
            ClaimState::BackingOff { retry_at } => {
                return Ok(ClaimResult::Wait { outcome: Outcome::BackingOff, retry_at: Some(retry_at) });
            }
            ClaimState::Free => {}
        }
        self.check_room(inventory, due)?;
        let number = claim.attempt.saturating_add(1);
        match self.put_claim(due, number).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Ok(in_progress(None)),
            Err(error) => return self.staged_or(due, error).await,
        }
        // The holder before us may have staged tokens or kept a response between our first look and our claim.
        if let Some(staged) = self.staged(&due.key).await? {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        if !self.is_forced_by_person()
            && let Some(error) = self.find_kept_after_claim(due).await?
        {
            return Err(error);
        }
        // That run sent nothing, or its own error says what the complete response was.
        if end != ClaimEnd::Unknown {
            return Ok(ClaimResult::Claimed(attempt(number, History::First, inventory)));
        }
        warn!(
            secretId = self.secret_id,
            attempt = number,
            "an earlier run ended without storing a response; its refresh token may be spent and is tried again"
        );
        Ok(ClaimResult::Claimed(attempt(number, History::AfterInterruption, inventory)))
    }

    /// Whether the list shows a claim on these tokens. Claim 0 of an old token may have been removed: then its id is free again, and a
    /// put that succeeds proves nothing.
    pub(super) fn is_claimed(&self, due: &Due<'_>, inventory: &Inventory) -> bool {
        let limits = self.refresher.store.limits();
        inventory.contains(&due.key.claim(0))
            || (decision::records_may_be_removed(&due.current.token, limits, self.now())
                && inventory.newest_claim(&due.key).is_some())
    }

    /// Whether runs claim this token before they send it. A grant that is not single-use needs no claim: two runs may both exchange it.
    pub(super) fn needs_claim(&self, due: &Due<'_>) -> bool {
        due.grant.is_single_use() && self.refresher.options.claim == ClaimMode::Always
    }

    /// How many versions a refresh puts.
    pub(super) fn versions_needed(&self, due: &Due<'_>) -> usize {
        if self.needs_claim(due) || needs_proof(due) { 2 } else { 1 }
    }

    async fn put_claim(&self, due: &Due<'_>, attempt: u32) -> Result<(), StoreError> {
        let claim = Record::Claim(Claim {
            attempt,
            lease_ends_at: decision::lease_end(self.deadline),
            client_settings: Some(due.client_digest.to_string()),
        });
        let holder = record::holder();
        self.put(&due.key.claim(attempt), Label::Claim, &claim.to_text(&due.key, &holder)).await
    }

    /// Ends the claim of an attempt that sent nothing, or whose response was complete, so that the next run need not wait for the end
    /// of the lease. Moves a label and puts no version. If that fails, the lease ends by itself.
    pub(super) async fn end_claim(&self, due: &Due<'_>, attempt: &Attempt) {
        let EndLabel::MovesFrom(from) = &attempt.end else { return };
        if let Err(error) = self.move_label(Label::Ended, from.as_ref(), &due.key.claim(attempt.number)).await {
            warn!(secretId = self.secret_id, "the claim holds until its lease ends: {error}");
        }
    }

    /// Whether the client's settings are new: then a run need not wait for the back-off. Two functions with different settings must
    /// not take turns in that way, so the last two claims count.
    pub(super) async fn is_new_client(&self, due: &Due<'_>, claim: &Claim, end: ClaimEnd) -> Result<bool, Error> {
        if due.is_client_of(claim) {
            return Ok(false);
        }
        Ok(end == ClaimEnd::Refused || !self.was_used_before(due, claim).await?)
    }

    /// Only a person overrides refusals, kept responses and the back-off. A reader that names a version does not.
    fn is_forced_by_person(&self) -> bool {
        *self.mode == Mode::Forced { if_version_id: None }
    }

    /// Checks that the versions of a refresh can still be put, and that a reader's request leaves enough for the scheduled ones.
    pub(super) fn check_room(&self, inventory: &Inventory, due: &Due<'_>) -> Result<(), Error> {
        let (versions, limits, now) = (inventory.versions(), self.refresher.store.limits(), self.now());
        let needed = self.versions_needed(due);
        let quota = |is_readers_request| Error::VersionQuota {
            secret_id: self.secret_id.to_owned(),
            limits,
            is_readers_request,
            needs_claim: self.needs_claim(due),
            staged: None,
        };
        if decision::room(versions, limits, now) < needed {
            return Err(quota(false));
        }
        if let Mode::Forced { if_version_id: Some(_) } = self.mode {
            let interval = decision::refresh_interval(&due.current.token, self.refresher.options.refresh_margin);
            if !decision::admits_request(versions, limits, needed, interval, now) {
                return Err(quota(true));
            }
        }
        Ok(())
    }

    /// Checks that the labels of a refresh fit, before anything is spent.
    pub(super) fn check_labels(&self, inventory: &Inventory) -> Result<(), Error> {
        if inventory.labels_after_refresh() <= inventory.max_labels() {
            return Ok(());
        }
        Err(self.invalid(format!(
            "its versions have {} staging labels, and a refresh needs {} and {} besides AWSCURRENT and AWSPREVIOUS: no more than {} \
             fit; take labels of other programs off",
            inventory.labels_in_use(),
            Label::Claim.as_str(),
            Label::Staged.as_str(),
            inventory.max_labels()
        )))
    }

    /// A claim could not be put. If that is for the quota and there is a staged version, that can be promoted all the same.
    async fn staged_or(&self, due: &Due<'_>, error: StoreError) -> Result<ClaimResult, Error> {
        if let StoreError::Quota { .. } = error
            && let Some(staged) = self.staged(&due.key).await?
        {
            return Ok(ClaimResult::Staged(Box::new(staged)));
        }
        Err(self.store_error(error))
    }

    /// The recorded refusal that still holds. Only a person's force asks the provider again.
    async fn refusal_that_holds(&self, due: &Due<'_>) -> Result<Option<ErrorResponse>, Error> {
        if self.is_forced_by_person() { Ok(None) } else { self.refusal(due).await }
    }
}

/// Whether a put must prove that writing works (IAM, KMS, a replica) before a single-use token is spent. A version with the label was
/// written by this program, which proves it.
const fn needs_proof(due: &Due<'_>) -> bool {
    due.grant.is_single_use() && !due.current.has_staged_label
}

fn attempt(number: u32, history: History, inventory: &Inventory) -> Attempt {
    let end = match inventory.version_with(Label::Ended) {
        Some(id) => EndLabel::MovesFrom(Some(id.clone())),
        None if inventory.room_for_labels() >= 1 => EndLabel::MovesFrom(None),
        None => EndLabel::Unavailable,
    };
    // The label of ended claims may need room, too. Without a label of its own, a response may be removed after a day.
    let needed = if inventory.version_with(Label::Ended).is_some() { 1 } else { 2 };
    let has_label = inventory.version_with(Label::Kept).is_some() || inventory.room_for_labels() >= needed;
    let kept_label = if has_label { Label::Kept } else { Label::Claim };
    Attempt { number, history, end, kept_label }
}
