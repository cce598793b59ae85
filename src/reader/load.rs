//! One load: a read; and where that gives no token that can be used, and a refresher function is named, a request for one and
//! the wait for the new version. At most one runs at a time; `cache` sees to that.

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
    refresher_function::{Occasion, RefresherFunction},
    source::{Query, Wanted},
};
use crate::store::{StoreError, VersionId};

/// How long one read may take. The SDK's own tries take at most nine seconds.
const READ_TIMEOUT: TimeDelta = TimeDelta::seconds(10);

/// For how long a version's rejections are not heeded after one that brought no new version, where only the store was asked;
/// and how often at most a refresher is.
const PAUSE_AFTER_READING: TimeDelta = TimeDelta::seconds(5);
const PAUSE_AFTER_ASKING: TimeDelta = TimeDelta::seconds(30);

/// How often at most a reader has a token replaced that the provider rejected: an API that refuses every token would otherwise
/// have one refresh forced after the other, until the secret has no room for more versions.
const PAUSE_AFTER_REPLACING: TimeDelta = TimeDelta::minutes(10);

/// The pauses between looks for a version that is to come.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A value that was read, with its version.
struct Found<V> {
    id: VersionId,
    value: Result<(V, Times), Unusable>,
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// Reads the secret again, and has the cache hold what came.
    pub(super) async fn load(&self) -> Outcome<V> {
        let before = self.current.load_full();
        match before.filter(|entry| entry.is_rejected()) {
            Some(rejected) => {
                let outcome = self.replace(&rejected).await;
                if outcome.as_ref().is_ok_and(|entry| !Arc::ptr_eq(entry, &rejected)) {
                    return outcome;
                }
                let asked = outcome.is_err() && self.settings.refresher.is_some();
                let pause = if asked { PAUSE_AFTER_ASKING } else { PAUSE_AFTER_READING };
                rejected.settle_rejection(self.settings.clock.now() + pause);
                outcome
            }
            None => self.look().await,
        }
    }

    /// An ordinary load. What is in memory bridges errors that pass.
    async fn look(&self) -> Outcome<V> {
        let before = self.current.load_full();
        let first = if before.is_none() { &self.settings.first } else { &self.settings.again };
        let mut found = self.read(first).await;
        if let Ok(Found { value: Err(Unusable::NoToken(_)), .. }) = &found
            && *first != self.settings.again
        {
            // A cache on the way may be behind.
            found = self.read(&self.settings.again).await;
        }
        let now = self.settings.clock.now();
        let before = before.filter(|entry| entry.is_usable(now));
        match found {
            Ok(Found { id, value: Ok((value, times)) }) => Ok(self.hold(id, value, times)),
            Ok(Found { value: Err(Unusable::Invalid(problem)), .. }) => Err(self.invalid(problem)),
            // What is current is not in force any more, what is in memory is: this read lags, or a person is at work.
            Ok(Found { id, value: Err(Unusable::NoToken(expired_at)) }) => match before {
                Some(before) => Ok(bridge(before, now)),
                None => self.first_token(&id, expired_at).await,
            },
            Err(error) => match (error, before) {
                (StoreError::Unavailable { .. }, Some(before)) => Ok(bridge(before, now)),
                (error, _) => Err(self.failed(error)),
            },
        }
    }

    /// Reads past the cache in place of a token that the provider has rejected. Where the version is still the same, a refresher
    /// is asked for another one, if there is one; if not, the same token is answered.
    async fn replace(&self, rejected: &Arc<Entry<V>>) -> Outcome<V> {
        let found = self.read(&self.settings.again).await.map_err(|error| self.failed(error))?;
        let now = self.settings.clock.now();
        match found.value {
            Ok((value, times)) if found.id != rejected.version_id => Ok(self.hold(found.id, value, times)),
            Ok(_) => match &self.settings.refresher {
                Some(refresher) if now.timestamp_millis() >= self.replaces_from.load(Relaxed) => {
                    let version_id = &rejected.version_id;
                    let replaced = self.ask(refresher, Occasion::Rejected(version_id), version_id).await;
                    // Where no refresh was tried, none has cost a version.
                    if matches!(
                        replaced,
                        Ok(_) | Err(ReadError::NotRefreshed { reason: NotRefreshed::Failed { .. }, .. })
                    ) {
                        self.replaces_from.store((now + PAUSE_AFTER_REPLACING).timestamp_millis(), Relaxed);
                    }
                    replaced
                }
                _ => Ok(Arc::clone(rejected)),
            },
            Err(Unusable::Invalid(problem)) => Err(self.invalid(problem)),
            Err(Unusable::NoToken(expired_at)) => self.first_token(&found.id, expired_at).await,
        }
    }

    /// There is no token that could be used, neither in memory nor in the secret.
    async fn first_token(&self, id: &VersionId, expired_at: Option<DateTime<Utc>>) -> Outcome<V> {
        let now = self.settings.clock.now();
        match &self.settings.refresher {
            Some(refresher) if now.timestamp_millis() >= self.asks_from.load(Relaxed) => {
                let outcome = self.ask(refresher, Occasion::NoToken, id).await;
                self.asks_from.store((now + PAUSE_AFTER_ASKING).timestamp_millis(), Relaxed);
                outcome
            }
            _ => Err(self.no_token(expired_at)),
        }
    }

    /// Asks the refresher once and waits for a version that is another than `old` and holds a token.
    async fn ask(&self, refresher: &RefresherFunction, occasion: Occasion<'_>, old: &VersionId) -> Outcome<V> {
        let clock = &self.settings.clock;
        let not_refreshed = |reason| ReadError::NotRefreshed {
            secret_id: refresher.secret_id(&self.settings.secret_id).to_owned(),
            function: refresher.name().to_owned(),
            reason,
        };
        let pending = || not_refreshed(NotRefreshed::Pending { seconds: self.settings.patience.as_secs() });
        let deadline = clock.now() + TimeDelta::from_std(self.settings.patience).unwrap_or(TimeDelta::days(1));
        let asked = clock.before(deadline, refresher.ask(&self.settings.secret_id, occasion)).await;
        let current = asked.ok_or_else(pending)?.map_err(not_refreshed)?.filter(|id| id != old);
        // Read by its id, the new version is in no cache, and no read of it lags.
        let wanted = current.map_or(self.settings.again.clone(), Wanted::Version);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.read(&wanted).await {
                Ok(Found { id, value: Ok((value, times)) }) if id != *old => return Ok(self.hold(id, value, times)),
                Ok(Found { value: Err(Unusable::Invalid(problem)), .. }) => return Err(self.invalid(problem)),
                // Not there yet.
                Ok(_) | Err(StoreError::Unavailable { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(error)),
            }
            let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            if clock.until(deadline) <= jittered {
                return Err(pending());
            }
            clock.sleep(jittered).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn read(&self, wanted: &Wanted) -> Result<Found<V>, StoreError> {
        let clock = &self.settings.clock;
        let query = Query { secret_id: self.settings.secret_id.clone(), wanted: wanted.clone() };
        let read = clock.before(clock.now() + READ_TIMEOUT, self.settings.source.read(query)).await;
        let version = read.unwrap_or_else(|| {
            let detail = format!("no answer within {} s", READ_TIMEOUT.num_seconds());
            Err(StoreError::Unavailable { action: self.settings.source.action(), detail })
        })?;
        Ok(Found { id: version.id, value: (self.settings.decode)(version.content, clock.now(), fastrand::f64()) })
    }

    /// Has the cache hold what was read. Versions never change: the same one again is only renewed.
    fn hold(&self, id: VersionId, value: V, times: Times) -> Arc<Entry<V>> {
        if let Some(entry) = self.current.load_full().filter(|entry| entry.version_id == id) {
            entry.renew(times);
            return entry;
        }
        let entry = Arc::new(Entry::new(value, id, times));
        self.current.store(Some(Arc::clone(&entry)));
        entry
    }

    /// An error that will not pass is told, whatever is in memory.
    fn failed(&self, error: StoreError) -> ReadError {
        if !matches!(error, StoreError::Unavailable { .. }) {
            self.current.store(None);
        }
        ReadError::of_store(&self.settings.source, &self.settings.secret_id, error)
    }

    fn invalid(&self, problem: String) -> ReadError {
        self.current.store(None);
        ReadError::InvalidSecret { secret_id: self.settings.secret_id.clone(), problem }
    }

    fn no_token(&self, expired_at: Option<DateTime<Utc>>) -> ReadError {
        ReadError::NoToken { secret_id: self.settings.secret_id.clone(), expired_at }
    }
}

/// What is in memory has to do a while longer.
fn bridge<V>(before: Arc<Entry<V>>, now: DateTime<Utc>) -> Arc<Entry<V>> {
    let usable_until = before.usable_until();
    let retry_at = now + policy::retry_interval(usable_until, now, fastrand::f64());
    // What has no end of its own is handed out until the next try.
    before.renew(Times { look_from: retry_at, fresh_until: usable_until.unwrap_or(retry_at), usable_until });
    before
}
