//! One load. It reads the secret. If that gives no valid token and a refresher function is set, it requests one and waits for the
//! new version. `cache` allows one load at a time.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    cache::{Inner, Outcome, Unusable},
    entry::Entry,
    error::{NotRefreshed, ReadError},
    policy::{self, Times},
    refresher_function::{RefresherFunction, RequestReason},
    source::{Query, Wanted},
};
use crate::store::{StoreError, VersionId};

/// How long one read may take. The SDK's own attempts take nine seconds at most.
const READ_TIMEOUT: TimeDelta = TimeDelta::seconds(10);

/// How long rejections of a version are ignored after a load that found no new version and requested none.
const PAUSE_AFTER_READ: TimeDelta = TimeDelta::seconds(5);

/// The same after a load that failed while a refresher is set. Also the shortest time between two requests when there is no token.
const PAUSE_AFTER_REQUEST: TimeDelta = TimeDelta::seconds(30);

/// The shortest time between two replacements of rejected tokens. Otherwise an API that refuses every token would cause one forced
/// refresh after another, until the secret has no room for more versions.
const PAUSE_AFTER_REPLACEMENT: TimeDelta = TimeDelta::minutes(10);

/// The pauses between reads while waiting for a new version: they double from the first to the maximum.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A version as read, and its decoded value.
struct ReadVersion<V> {
    id: VersionId,
    value: Result<(V, Times), Unusable>,
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// Reads the secret and caches the result.
    pub(super) async fn load(&self) -> Outcome<V> {
        let before = self.current.load_full();
        match before.filter(|entry| entry.is_rejected()) {
            Some(rejected) => {
                let outcome = self.replace_rejected(&rejected).await;
                if outcome.as_ref().is_ok_and(|entry| !Arc::ptr_eq(entry, &rejected)) {
                    return outcome;
                }
                let request_failed = outcome.is_err() && self.settings.refresher.is_some();
                let pause = if request_failed { PAUSE_AFTER_REQUEST } else { PAUSE_AFTER_READ };
                rejected.clear_rejection(self.settings.clock.now() + pause);
                outcome
            }
            None => self.reload().await,
        }
    }

    /// A load without a rejection. If the source is unavailable, the cached value is used while it is valid.
    async fn reload(&self) -> Outcome<V> {
        let before = self.current.load_full();
        let wanted = if before.is_none() { &self.settings.first_read } else { &self.settings.later_reads };
        let mut read = self.read(wanted).await;
        if let Ok(ReadVersion { value: Err(Unusable::NoToken(_)), .. }) = &read
            && *wanted != self.settings.later_reads
        {
            // A cache between the source and here may have returned an old version.
            read = self.read(&self.settings.later_reads).await;
        }
        let now = self.settings.clock.now();
        let before = before.filter(|entry| entry.is_usable(now));
        match read {
            Ok(ReadVersion { id, value: Ok((value, times)) }) => Ok(self.store_entry(id, value, times)),
            Ok(ReadVersion { value: Err(Unusable::Invalid(problem)), .. }) => Err(self.invalid_secret(problem)),
            // The current version has no valid token, but the cached one is valid: this read lags, or a user edits the secret.
            Ok(ReadVersion { id, value: Err(Unusable::NoToken(expired_at)) }) => match before {
                Some(before) => Ok(serve_stale(before, now)),
                None => self.request_first_token(&id, expired_at).await,
            },
            Err(error) => match (error, before) {
                (StoreError::Unavailable { .. }, Some(before)) => Ok(serve_stale(before, now)),
                (error, _) => Err(self.read_failed(error)),
            },
        }
    }

    /// Bypasses the cache because the provider has rejected the cached token. If the secret still has the same version, requests a
    /// new one from the refresher. Without a refresher, returns the same token.
    async fn replace_rejected(&self, rejected: &Arc<Entry<V>>) -> Outcome<V> {
        let read = self.read(&self.settings.later_reads).await.map_err(|error| self.read_failed(error))?;
        let now = self.settings.clock.now();
        match read.value {
            Ok((value, times)) if read.id != rejected.version_id => Ok(self.store_entry(read.id, value, times)),
            Ok(_) => match &self.settings.refresher {
                Some(refresher) if now.timestamp_millis() >= self.no_replacement_before.load(Relaxed) => {
                    let version_id = &rejected.version_id;
                    let reason = RequestReason::Rejected(version_id);
                    let replaced = self.request_new_version(refresher, reason, version_id).await;
                    // Other errors: the refresher did not try a refresh, so no version of the secret was used up.
                    if matches!(
                        replaced,
                        Ok(_) | Err(ReadError::NotRefreshed { reason: NotRefreshed::Failed { .. }, .. })
                    ) {
                        let next = now + PAUSE_AFTER_REPLACEMENT;
                        self.no_replacement_before.store(next.timestamp_millis(), Relaxed);
                    }
                    replaced
                }
                _ => Ok(Arc::clone(rejected)),
            },
            Err(Unusable::Invalid(problem)) => Err(self.invalid_secret(problem)),
            Err(Unusable::NoToken(expired_at)) => self.request_first_token(&read.id, expired_at).await,
        }
    }

    /// Requests a token when there is no valid one, neither cached nor in the secret.
    async fn request_first_token(&self, id: &VersionId, expired_at: Option<DateTime<Utc>>) -> Outcome<V> {
        let now = self.settings.clock.now();
        match &self.settings.refresher {
            Some(refresher) if now.timestamp_millis() >= self.no_first_request_before.load(Relaxed) => {
                let outcome = self.request_new_version(refresher, RequestReason::NoToken, id).await;
                self.no_first_request_before.store((now + PAUSE_AFTER_REQUEST).timestamp_millis(), Relaxed);
                outcome
            }
            _ => Err(self.no_token(expired_at)),
        }
    }

    /// Sends one request to the refresher, and waits for a version other than `old` that contains a valid token.
    async fn request_new_version(
        &self,
        refresher: &RefresherFunction,
        reason: RequestReason<'_>,
        old: &VersionId,
    ) -> Outcome<V> {
        let clock = &self.settings.clock;
        let not_refreshed = |reason| ReadError::NotRefreshed {
            secret_id: refresher.secret_id(&self.settings.secret_id).to_owned(),
            function: refresher.name().to_owned(),
            reason,
        };
        let pending = || not_refreshed(NotRefreshed::Pending { seconds: self.settings.patience.as_secs() });
        let deadline = clock.now() + TimeDelta::from_std(self.settings.patience).unwrap_or(TimeDelta::days(1));
        let requested = clock.before(deadline, refresher.request_token(&self.settings.secret_id, reason)).await;
        let new_id = requested.ok_or_else(pending)?.map_err(not_refreshed)?.filter(|id| id != old);
        // A read by id does not lag, and no cache contains the new version yet.
        let wanted = new_id.map_or(self.settings.later_reads.clone(), Wanted::Version);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.read(&wanted).await {
                Ok(ReadVersion { id, value: Ok((value, times)) }) if id != *old => {
                    return Ok(self.store_entry(id, value, times));
                }
                Ok(ReadVersion { value: Err(Unusable::Invalid(problem)), .. }) => {
                    return Err(self.invalid_secret(problem));
                }
                // The new version is not there yet.
                Ok(_) | Err(StoreError::Unavailable { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(self.read_failed(error)),
            }
            let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            if clock.until(deadline) <= jittered {
                return Err(pending());
            }
            clock.sleep(jittered).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn read(&self, wanted: &Wanted) -> Result<ReadVersion<V>, StoreError> {
        let clock = &self.settings.clock;
        let query = Query { secret_id: self.settings.secret_id.clone(), wanted: wanted.clone() };
        let read = clock.before(clock.now() + READ_TIMEOUT, self.settings.source.read(query)).await;
        let version = read.unwrap_or_else(|| {
            let detail = format!("no answer within {} s", READ_TIMEOUT.num_seconds());
            Err(StoreError::Unavailable { action: self.settings.source.action(), detail })
        })?;
        Ok(ReadVersion { id: version.id, value: (self.settings.decode)(version.content, clock.now(), fastrand::f64()) })
    }

    /// Caches a version. If it is the cached one, only its times change: the content of a version never does.
    fn store_entry(&self, id: VersionId, value: V, times: Times) -> Arc<Entry<V>> {
        if let Some(entry) = self.current.load_full().filter(|entry| entry.version_id == id) {
            entry.renew(times);
            return entry;
        }
        let entry = Arc::new(Entry::new(value, id, times));
        self.current.store(Some(Arc::clone(&entry)));
        entry
    }

    /// The error of a failed read. A permanent error also clears the cache, so that all callers get it.
    fn read_failed(&self, error: StoreError) -> ReadError {
        if !matches!(error, StoreError::Unavailable { .. }) {
            self.current.store(None);
        }
        ReadError::of_store(&self.settings.source, &self.settings.secret_id, error)
    }

    /// The error of an invalid secret. Clears the cache, so that all callers get it.
    fn invalid_secret(&self, problem: String) -> ReadError {
        self.current.store(None);
        ReadError::InvalidSecret { secret_id: self.settings.secret_id.clone(), problem }
    }

    fn no_token(&self, expired_at: Option<DateTime<Utc>>) -> ReadError {
        ReadError::NoToken { secret_id: self.settings.secret_id.clone(), expired_at }
    }
}

/// Continues to use the cached value after a read that gave no better one, and sets the time of the next read.
fn serve_stale<V>(before: Arc<Entry<V>>, now: DateTime<Utc>) -> Arc<Entry<V>> {
    let usable_until = before.usable_until();
    let retry_at = now + policy::retry_interval(usable_until, now, fastrand::f64());
    // A value that does not expire is used until the next read.
    before.renew(Times { refresh_from: retry_at, fresh_until: usable_until.unwrap_or(retry_at), usable_until });
    before
}
