//! Claiming: what a run may do about a token that is due, decided in the store among all runs that found it so.

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{Held, Run};
use crate::{
    config,
    error::{Error, History},
    event::Mode,
    ledger::{self, Claim, ClientDigest, Record, RecordRead, TokenKey},
    oauth::response::Refusal,
    policy::{self, Standing},
    report::Outcome,
    store::{Label, SecretStore, Selector, StoreError},
};

/// A secret has no room for more claims than this.
const MAX_CLAIMS: u32 = 100;

/// What a run may do about a token it found due.
pub(super) enum Turn {
    /// Exchange it: the claim is ours.
    Ours(Attempt),
    /// Put in place what an earlier run obtained.
    Staged(Box<Held>),
    /// Nothing: another run is at it, or it is too early.
    Wait {
        /// `InProgress` or `BackingOff`.
        outcome: Outcome,
        /// When that ends, where it is known.
        retry_at: Option<DateTime<Utc>>,
    },
    /// Nothing: the provider has refused it for good.
    Refused(Refusal),
}

/// One attempt to exchange a token.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// Its claim's number, counted from 0.
    pub(super) number: u32,
    /// `First`, or `AfterInterruption`.
    pub(super) history: History,
}

impl Attempt {
    const FIRST: Self = Self { number: 0, history: History::First };
}

/// The newest claim on a token.
struct Newest {
    claim: Claim,
    created: DateTime<Utc>,
    /// Whether a refusal came of it, and was recorded: then its holder did not end with an answer in hand.
    refused: bool,
}

impl<S: SecretStore, X> Run<'_, S, X> {
    /// Finds out what to do about a token that is due, and claims it where that is to exchange it.
    pub(super) async fn take_turn(&self, current: &Held, key: &TokenKey, client: ClientDigest) -> Result<Turn, Error> {
        if self.deadline - self.now() < policy::MIN_TO_BEGIN {
            return Err(self.too_little_time("to begin a refresh"));
        }
        let forced = matches!(self.mode, Mode::Forced { .. });
        let (token, margin) = (&current.token, self.refresher.config.refresh_margin);
        let needed = match self.refresher.config.claim {
            config::Claim::Always if policy::crowded(token, current.created, margin, self.now()) => 2,
            config::Claim::Never if policy::crowded_without_claims(token, margin, self.now()) => 1,
            _ => 0,
        };
        if needed > 0
            && let Some(staged) = self.check_quota(key, needed).await?
        {
            return Ok(Turn::Staged(Box::new(staged)));
        }
        if self.refresher.config.claim == config::Claim::Never {
            return Ok(match (self.successor(key).await?, self.refusal(key, client, forced).await?) {
                (Some(staged), _) => Turn::Staged(Box::new(staged)),
                (None, Some(refusal)) => Turn::Refused(refusal),
                (None, None) => Turn::Ours(Attempt::FIRST),
            });
        }

        // This also proves, before the token is spent, that writing works (IAM, KMS).
        match self.put_claim(key, 0, client).await {
            Ok(()) => return Ok(Turn::Ours(Attempt::FIRST)),
            Err(StoreError::Exists) => {}
            Err(error) => return self.staged_or(key, error).await,
        }
        if let Some(staged) = self.successor(key).await? {
            return Ok(Turn::Staged(Box::new(staged)));
        }
        if let Some(refusal) = self.refusal(key, client, forced).await? {
            return Ok(Turn::Refused(refusal));
        }
        let in_progress = |retry_at| Turn::Wait { outcome: Outcome::InProgress, retry_at };
        let Some(Newest { claim, created, refused }) = self.newest_claim(key).await? else {
            // It exists, and reads lag behind.
            return Ok(in_progress(None));
        };
        let patient = !forced && claim.client_settings.as_ref().is_none_or(|digest| *digest == client.to_string());
        match policy::standing(&claim, created, patient, self.now()) {
            Standing::Leased { until } => return Ok(in_progress(Some(until))),
            Standing::BackingOff { retry_at } => {
                return Ok(Turn::Wait { outcome: Outcome::BackingOff, retry_at: Some(retry_at) });
            }
            Standing::Free => {}
        }
        if let Some(staged) = self.check_quota(key, 2).await? {
            return Ok(Turn::Staged(Box::new(staged)));
        }
        let attempt = claim.attempt.saturating_add(1);
        match self.put_claim(key, attempt, client).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Ok(in_progress(None)),
            Err(error) => return self.staged_or(key, error).await,
        }
        // The holder before us may have staged between our first look and our claim.
        if let Some(staged) = self.successor(key).await? {
            return Ok(Turn::Staged(Box::new(staged)));
        }
        if refused {
            return Ok(Turn::Ours(Attempt { number: attempt, history: History::First }));
        }
        warn!(
            secretId = self.secret_id,
            attempt,
            "a run before this one ended without storing an answer; its refresh token, spent or not, is tried again"
        );
        Ok(Turn::Ours(Attempt { number: attempt, history: History::AfterInterruption }))
    }

    async fn put_claim(&self, key: &TokenKey, attempt: u32, client: ClientDigest) -> Result<(), StoreError> {
        let claim = Record::Claim(Claim {
            attempt,
            lease_ends_at: policy::lease_end(self.deadline),
            client_settings: Some(client.to_string()),
        });
        let holder = ledger::holder();
        self.put(&key.claim(attempt), Label::Claim, &claim.to_text(key, &holder)).await
    }

    /// Sees that so many versions can still be put. `Some`: there is a successor already, and its promotion needs none.
    async fn check_quota(&self, key: &TokenKey, needed: usize) -> Result<Option<Held>, Error> {
        let versions = self.list().await.map_err(|error| self.store_error(error))?;
        let room = policy::room(&versions, self.now());
        let staged = versions.iter().any(|version| version.id == key.successor());
        if room >= needed && !staged {
            return Ok(None);
        }
        match self.successor(key).await? {
            Some(staged) => Ok(Some(staged)),
            None if room >= needed => Ok(None),
            None => Err(Error::VersionQuota { secret_id: self.secret_id.to_owned(), staged: None }),
        }
    }

    /// A claim met the quota: a successor, if there is one, can be promoted all the same. Any other error is one.
    async fn staged_or(&self, key: &TokenKey, error: StoreError) -> Result<Turn, Error> {
        if let StoreError::Quota { .. } = error
            && let Some(staged) = self.successor(key).await?
        {
            return Ok(Turn::Staged(Box::new(staged)));
        }
        Err(self.store_error(error))
    }

    pub(super) async fn successor(&self, key: &TokenKey) -> Result<Option<Held>, Error> {
        self.find(Selector::Id(&key.successor())).await?.map(|version| self.hold(version)).transpose()
    }

    /// The recorded refusal that still holds. Force asks the provider again.
    async fn refusal(&self, key: &TokenKey, client: ClientDigest, forced: bool) -> Result<Option<Refusal>, Error> {
        if forced {
            return Ok(None);
        }
        let id = key.refusal(client, self.now());
        let version = self.find(Selector::Id(&id)).await?;
        Ok(version.and_then(|version| match Record::read(&version.body, key) {
            RecordRead::Record(Record::Refusal { refusal, .. }) => Some(refusal),
            _ => None,
        }))
    }

    /// The newest claim on these tokens, and when it was made. The label names it, unless other tokens' records or a
    /// refusal of these came after it; then the ids are tried in turn. `None`: it cannot be read yet.
    async fn newest_claim(&self, key: &TokenKey) -> Result<Option<Newest>, Error> {
        let labelled = self.find(Selector::Label(Label::Claim)).await?;
        let (mut refused, mut of_later_version) = (None, None);
        if let Some(version) = labelled {
            match Record::read(&version.body, key) {
                RecordRead::Record(Record::Claim(claim)) => {
                    return Ok(Some(Newest { claim, created: version.created, refused: false }));
                }
                RecordRead::Record(Record::Refusal { attempt, .. }) => refused = Some(attempt),
                RecordRead::OfLaterVersion => of_later_version = Some(version),
                RecordRead::Other => {}
            }
        }
        let mut newest = None;
        let first = refused.unwrap_or(0);
        for attempt in first..first.saturating_add(MAX_CLAIMS) {
            let Some(version) = self.find(Selector::Id(&key.claim(attempt))).await? else { break };
            let claim = match Record::read(&version.body, key) {
                RecordRead::Record(Record::Claim(claim)) => claim,
                _ => policy::claim_of_last_resort(attempt, &version),
            };
            newest = Some(Newest { claim, created: version.created, refused: refused == Some(attempt) });
        }
        if let (Some(newest), Some(version)) = (&mut newest, of_later_version) {
            // Whatever it says, it came last: its lease counts from then.
            newest.claim = policy::claim_of_last_resort(newest.claim.attempt, &version);
            newest.created = version.created;
        }
        Ok(newest)
    }
}
