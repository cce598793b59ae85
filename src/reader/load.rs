//! One load. It reads the secret. If that gives no valid token and a refresher function is set, it requests one and waits for the
//! new version. `cache` allows one load at a time.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    cache::{Inner, Settings, Unusable},
    entry::Entry,
    error::{NotRefreshed, ReadError},
    policy::{self, Times},
    refresher_function::{RefresherFunction, RequestReason, Requested},
    source::{Query, Wanted},
};
use crate::store::{StoreError, VersionId};

/// How long the reads of a load may take together before a new version is requested, and each read afterwards. The SDK's own attempts
/// take nine seconds at most.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A read that took longer is out of date: the process was frozen.
const MAX_AGE: TimeDelta = TimeDelta::seconds(11);

/// How long rejections of a version are ignored after a load that found no new version and did not fail.
const IGNORE_REJECTIONS: TimeDelta = TimeDelta::seconds(5);

/// The same after a load that failed while a refresher is set.
const IGNORE_REJECTIONS_AFTER_FAILURE: TimeDelta = TimeDelta::seconds(30);

/// The shortest time between two loads that request a token because there is none.
const FIRST_REQUEST_INTERVAL: TimeDelta = TimeDelta::seconds(30);

/// The shortest time between two replacements of rejected tokens. Otherwise an API that refuses every token would cause one forced
/// refresh after another, until the secret has no room for more versions.
const REPLACEMENT_INTERVAL: TimeDelta = TimeDelta::minutes(10);

/// The intervals between reads while waiting for a new version: they double from the first to the maximum, each ± 25 %.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// The shortest interval, ± 25 %, before a request that got a 429 is sent again. The run that is in its way takes about as long.
const MIN_INTERVAL_AFTER_BUSY: Duration = Duration::from_millis(500);

/// What a load found.
pub(super) enum Loaded<V> {
    /// A version as read.
    Version(VersionId, V, Times),
    /// Nothing better: the cached value stays in use.
    Cached(Arc<Entry<V>>),
}

type LoadResult<V> = Result<Loaded<V>, ReadError>;

/// A version as read, and its decoded value.
struct ReadVersion<V> {
    id: VersionId,
    value: Result<(V, Times), Unusable>,
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// The longest time from the beginning of a load to its end.
    pub(super) fn longest_load(&self) -> Duration {
        let patience = self.settings.refresher.as_ref().map_or(Duration::ZERO, |_| self.settings.patience);
        READ_TIMEOUT.saturating_add(patience)
    }

    /// How long rejections of a version are ignored after a load that has not replaced it.
    pub(super) fn rejections_ignored_for(&self, has_failed: bool) -> TimeDelta {
        let by_refresher = has_failed && self.settings.refresher.is_some();
        if by_refresher { IGNORE_REJECTIONS_AFTER_FAILURE } else { IGNORE_REJECTIONS }
    }

    /// Reads the secret. `rejected`: the cached version, if the provider has rejected it.
    pub(super) async fn load(&self, rejected: Option<&Arc<Entry<V>>>) -> LoadResult<V> {
        let began = self.settings.clock.now();
        match rejected {
            Some(rejected) => self.replace_rejected(rejected, began).await,
            None => self.reload(began).await,
        }
    }

    /// A load without a rejection. If the source is unavailable, the cached value is used while it is valid.
    async fn reload(&self, began: DateTime<Utc>) -> LoadResult<V> {
        let before = self.current.load_full();
        let wanted = if self.is_first_read() { &self.settings.first_read } else { &self.settings.later_reads };
        let mut read = self.read(wanted, began + READ_TIMEOUT).await;
        if let Ok(ReadVersion { value: Err(Unusable::NoToken(_) | Unusable::RejectedEarlier), .. }) = &read
            && *wanted != self.settings.later_reads
        {
            // A cache between the source and here may have returned an old version.
            read = self.read(&self.settings.later_reads, began + READ_TIMEOUT).await;
        }
        let now = self.settings.clock.now();
        let before = before.filter(|entry| entry.is_usable(now));
        match (read, before) {
            (Ok(ReadVersion { id, value: Ok((value, times)) }), _) => Ok(Loaded::Version(id, value, times)),
            (Ok(ReadVersion { value: Err(Unusable::Invalid(problem)), .. }), _) => Err(self.invalid_secret(problem)),
            // The cached value is valid. This read lags or fails, or a person edits the secret.
            (
                Ok(ReadVersion { value: Err(Unusable::NoToken(_) | Unusable::RejectedEarlier), .. })
                | Err(
                    StoreError::Throttled { .. } | StoreError::Unavailable { .. } | StoreError::NotAuthenticated { .. },
                ),
                Some(before),
            ) => Ok(serve_stale(before, now)),
            (Ok(ReadVersion { id, value: Err(Unusable::NoToken(expired_at)) }), None) => {
                self.request_first_token(&id, self.no_token(expired_at), began).await
            }
            (Ok(ReadVersion { id, value: Err(Unusable::RejectedEarlier) }), None) => {
                self.request_first_token(&id, self.still_rejected(&id), began).await
            }
            (Err(error), _) => Err(self.read_failed(error)),
        }
    }

    /// Bypasses the cache because the provider has rejected the cached token. If the secret still has the same version, requests a
    /// new one from the refresher. Without a refresher, returns the same token.
    async fn replace_rejected(&self, rejected: &Arc<Entry<V>>, began: DateTime<Utc>) -> LoadResult<V> {
        let read = self.read(&self.settings.later_reads, began + READ_TIMEOUT).await;
        let read = read.map_err(|error| self.read_failed(error))?;
        let old = &rejected.version_id;
        match read.value {
            Ok((value, times)) if read.id != *old => Ok(Loaded::Version(read.id, value, times)),
            Ok(_) | Err(Unusable::RejectedEarlier) => match &self.settings.refresher {
                Some(refresher) if self.may_request_replacement(old, self.settings.clock.now()) => {
                    self.request_new_version(refresher, RequestReason::Rejected(old), old, began).await
                }
                _ => Ok(Loaded::Cached(Arc::clone(rejected))),
            },
            Err(Unusable::Invalid(problem)) => Err(self.invalid_secret(problem)),
            Err(Unusable::NoToken(expired_at)) => {
                self.request_first_token(&read.id, self.no_token(expired_at), began).await
            }
        }
    }

    /// Requests a token when there is no valid one, neither cached nor in the secret. `otherwise`: the error if no request may be sent.
    async fn request_first_token(&self, id: &VersionId, otherwise: ReadError, began: DateTime<Utc>) -> LoadResult<V> {
        let now = self.settings.clock.now();
        match &self.settings.refresher {
            Some(refresher) if self.until_first_request.is_over(now) => {
                self.request_new_version(refresher, RequestReason::NoToken, id, began).await
            }
            _ => Err(otherwise),
        }
    }

    /// Requests a new version from the refresher, and waits for a version other than `old` that contains a valid token. After a 429 the
    /// request is sent again: `ifVersionId` or the check whether the token is due, and the claim, make that harmless.
    async fn request_new_version(
        &self,
        refresher: &RefresherFunction,
        reason: RequestReason<'_>,
        old: &VersionId,
        began: DateTime<Utc>,
    ) -> LoadResult<V> {
        let Settings { clock, patience, later_reads, secret_id, .. } = &self.settings;
        let seconds = patience.as_secs();
        let not_refreshed = |reason| ReadError::NotRefreshed {
            secret_id: refresher.secret_id(secret_id).to_owned(),
            function: refresher.name().to_owned(),
            reason,
        };
        let asked_at = clock.now();
        let give_up_at = asked_at + *patience;
        let mut interval = FIRST_INTERVAL;
        // Set when the refresher has accepted the request: what to read.
        let mut wanted_after_acceptance = None;
        loop {
            if wanted_after_acceptance.is_none() {
                self.request_begins(reason, asked_at);
                let requested = clock.before(give_up_at, refresher.request_token(secret_id, reason)).await;
                self.request_ends(reason, requested.as_ref());
                match requested.unwrap_or(Err(NotRefreshed::Pending { seconds })) {
                    // A read by id does not lag, and no cache contains the new version yet.
                    Ok(Requested::Accepted(Some(id))) if id != *old => {
                        wanted_after_acceptance = Some(Wanted::Version(id));
                    }
                    Ok(Requested::Accepted(_) | Requested::InProgress) => {
                        wanted_after_acceptance = Some(later_reads.clone());
                    }
                    Ok(Requested::Busy) => interval = interval.max(MIN_INTERVAL_AFTER_BUSY),
                    Err(reason) => return Err(not_refreshed(reason)),
                }
            }
            let is_accepted = wanted_after_acceptance.is_some();
            let wanted = wanted_after_acceptance.as_ref().unwrap_or(later_reads);
            let read_until = (clock.now() + READ_TIMEOUT).min(began + self.longest_load());
            if let Some(loaded) = self.read_new_version(wanted, old, read_until).await? {
                return Ok(loaded);
            }
            let jittered = interval.mul_f64(0.75 + fastrand::f64() / 2.0);
            if clock.until(give_up_at) <= jittered {
                let reason =
                    if is_accepted { NotRefreshed::Pending { seconds } } else { NotRefreshed::Busy { seconds } };
                return Err(not_refreshed(reason));
            }
            clock.sleep(jittered).await;
            interval = (interval * 2).min(MAX_INTERVAL);
        }
    }

    /// A request is about to be sent. It counts from now on: if this load is cancelled, nobody knows what it has caused.
    fn request_begins(&self, reason: RequestReason<'_>, now: DateTime<Utc>) {
        match reason {
            RequestReason::Rejected(id) => {
                self.until_replacement.start(REPLACEMENT_INTERVAL, now);
                self.set_requested(Some(id));
            }
            RequestReason::NoToken => self.until_first_request.start(FIRST_REQUEST_INTERVAL, now),
        }
    }

    /// A request has ended; `None`: without a reply. It does not count if the refresher has certainly not tried a refresh.
    fn request_ends(&self, reason: RequestReason<'_>, reply: Option<&Result<Requested, NotRefreshed>>) {
        let Some(reply) = reply else { return };
        let has_tried = matches!(reply, Ok(Requested::Accepted(_)) | Err(NotRefreshed::Failed { .. }));
        match reason {
            RequestReason::Rejected(_) => {
                self.set_requested(None);
                if !has_tried {
                    self.until_replacement.end();
                }
            }
            RequestReason::NoToken if *reply == Ok(Requested::Busy) => self.until_first_request.end(),
            RequestReason::NoToken => {}
        }
    }

    /// Reads a version other than `old` that contains a valid token. `None`: it is not there yet.
    async fn read_new_version(
        &self,
        wanted: &Wanted,
        old: &VersionId,
        until: DateTime<Utc>,
    ) -> Result<Option<Loaded<V>>, ReadError> {
        match self.read(wanted, until).await {
            Ok(ReadVersion { id, value: Ok((value, times)) }) if id != *old => {
                Ok(Some(Loaded::Version(id, value, times)))
            }
            Ok(ReadVersion { value: Err(Unusable::Invalid(problem)), .. }) => Err(self.invalid_secret(problem)),
            Ok(_)
            | Err(StoreError::Throttled { .. } | StoreError::Unavailable { .. } | StoreError::NotFound { .. }) => {
                Ok(None)
            }
            Err(error) => Err(self.read_failed(error)),
        }
    }

    async fn read(&self, wanted: &Wanted, until: DateTime<Utc>) -> Result<ReadVersion<V>, StoreError> {
        let clock = &self.settings.clock;
        let began = clock.now();
        let query = Query { secret_id: self.settings.secret_id.clone(), wanted: wanted.clone() };
        let read = clock.before(until, self.settings.source.read(query)).await;
        // A response from before a freeze is as old as the freeze was long.
        let read = read.filter(|_| (clock.now() - began).abs() <= MAX_AGE);
        let version = read.unwrap_or_else(|| {
            let detail = format!("no answer within {} s", READ_TIMEOUT.as_secs());
            Err(StoreError::Unavailable { action: self.settings.source.action(), detail })
        })?;
        let value = if self.was_replaced(&version.id) {
            Err(Unusable::RejectedEarlier)
        } else {
            (self.settings.decode)(version.content, clock.now(), fastrand::f64())
        };
        Ok(ReadVersion { id: version.id, value })
    }

    fn read_failed(&self, error: StoreError) -> ReadError {
        ReadError::of_store(&self.settings.source, &self.settings.secret_id, error)
    }

    fn invalid_secret(&self, problem: String) -> ReadError {
        ReadError::InvalidSecret { secret_id: self.settings.secret_id.clone(), problem }
    }

    fn no_token(&self, expired_at: Option<DateTime<Utc>>) -> ReadError {
        ReadError::NoToken { secret_id: self.settings.secret_id.clone(), expired_at }
    }

    fn still_rejected(&self, id: &VersionId) -> ReadError {
        let detail = format!("its source still returns version {id}, whose token was rejected and replaced");
        ReadError::Unavailable { secret_id: self.settings.secret_id.clone(), detail }
    }
}

/// Continues to use the cached value after a read that gave no better one, and sets the time of the next read.
fn serve_stale<V>(before: Arc<Entry<V>>, now: DateTime<Utc>) -> Loaded<V> {
    let usable_until = before.usable_until();
    let retry_at = now + policy::retry_interval(usable_until, now, fastrand::f64());
    // A value that does not expire is used until the next read.
    before.renew(Times { refresh_from: retry_at, fresh_until: usable_until.unwrap_or(retry_at), usable_until }, now);
    Loaded::Cached(before)
}
