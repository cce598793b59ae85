//! One cached secret: returned without a lock while it is fresh, and read again by at most one load at a time. Decides when a load
//! is needed; `load` contains its steps.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicI64},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::{
    entry::Entry,
    error::ReadError,
    policy::Times,
    refresher_function::RefresherFunction,
    source::{Source, Wanted},
};
use crate::{
    clock::Clock,
    store::{Content, VersionId},
};

/// A call gives up after this many loads that were cancelled (their runtime ended, or the source panicked) or outdated.
const MAX_LOADS_PER_CALL: usize = 8;

/// How long an error is returned to further callers before the source is read again.
const ERROR_TTL: TimeDelta = TimeDelta::seconds(1);

/// The cache. A clone shares the same content.
pub(super) struct Cache<V>(Arc<Inner<V>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(super) struct Inner<V> {
    pub settings: Settings<V>,
    pub current: ArcSwapOption<Entry<V>>,
    /// The earliest time of the next request to the refresher when there is no token (milliseconds since the epoch).
    pub no_first_request_before: AtomicI64,
    /// The earliest time of the next request to the refresher for a replacement of a rejected token (milliseconds since the epoch).
    pub no_replacement_before: AtomicI64,
    state: Mutex<State<V>>,
}

/// What to read, and how.
pub(super) struct Settings<V> {
    pub source: Source,
    pub secret_id: String,
    /// What the first read requests.
    pub first_read: Wanted,
    /// What all later reads request.
    pub later_reads: Wanted,
    pub decode: Decode<V>,
    pub refresher: Option<RefresherFunction>,
    /// How long to wait for a new version.
    pub patience: Duration,
    pub clock: Clock,
}

/// Decodes the content that was read at a time into a value, with a jitter from 0 to 1.
pub(super) type Decode<V> = Box<dyn Fn(Content, DateTime<Utc>, f64) -> Result<(V, Times), Unusable> + Send + Sync>;

/// Why a content could not be decoded into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The content is wrong. The text names the problem.
    Invalid(String),
    /// A token secret without a valid token. The time is when its token expired; `None` if it has none.
    NoToken(Option<DateTime<Utc>>),
}

/// The result of a load.
pub(super) type Outcome<V> = Result<Arc<Entry<V>>, ReadError>;

/// Receives the result of a running load.
type PendingLoad<V> = watch::Receiver<Option<Outcome<V>>>;

struct State<V> {
    running_load: Option<PendingLoad<V>>,
    /// The error of the last load, and until when it is returned.
    last_error: Option<(DateTime<Utc>, ReadError)>,
}

/// What a caller gets that needs a value.
enum LoadState<V> {
    Fresh(Arc<Entry<V>>),
    Running(PendingLoad<V>),
    Failed(ReadError),
}

impl<V: Send + Sync + 'static> Cache<V> {
    pub fn new(settings: Settings<V>) -> Self {
        let state = Mutex::new(State { running_load: None, last_error: None });
        let [no_first_request_before, no_replacement_before] = [i64::MIN; 2].map(AtomicI64::new);
        let current = ArcSwapOption::empty();
        Self(Arc::new(Inner { settings, current, no_first_request_before, no_replacement_before, state }))
    }

    pub fn secret_id(&self) -> &str {
        &self.0.settings.secret_id
    }

    /// Returns the cached value while it is fresh. Otherwise waits for the running load, or starts one.
    pub async fn get(&self) -> Outcome<V> {
        for _ in 0..MAX_LOADS_PER_CALL {
            if let Some((entry, must_start_refresh)) = self.0.fresh_entry() {
                if must_start_refresh {
                    // Not awaited: the caller gets the cached value at once.
                    drop(self.join_or_start_load(true));
                }
                return Ok(entry);
            }
            let mut load = match self.join_or_start_load(false) {
                LoadState::Fresh(entry) => return Ok(entry),
                LoadState::Failed(error) => return Err(error),
                LoadState::Running(load) => load,
            };
            let outcome = match load.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                // The load was cancelled: its runtime has ended, or the source panicked.
                Err(_) => None,
            };
            match outcome {
                Some(Ok(entry)) if entry.is_usable(self.0.settings.clock.now()) => return Ok(entry),
                Some(Err(error)) => return Err(error),
                // The load began before the rejection, or the token expired during the wait.
                Some(Ok(_)) | None => {}
            }
        }
        let detail = format!("gave up after {MAX_LOADS_PER_CALL} loads, each cancelled or outdated");
        Err(ReadError::Unavailable { secret_id: self.0.settings.secret_id.clone(), detail })
    }

    /// Marks the version as rejected by the provider if it is the cached one. The next call then bypasses the cache.
    pub fn reject(&self, version_id: &VersionId) {
        if let Some(entry) = self.0.current.load().as_ref().filter(|entry| entry.version_id == *version_id) {
            entry.reject(self.0.settings.clock.now());
        }
    }

    /// Joins the running load, or starts one. `in_background`: starts one even if the cached value is fresh.
    fn join_or_start_load(&self, in_background: bool) -> LoadState<V> {
        let mut state = self.0.state();
        if let Some(load) = &state.running_load {
            return LoadState::Running(load.clone());
        }
        if !in_background {
            // A load may have ended after the caller's check and before the lock.
            if let Some((entry, _)) = self.0.fresh_entry() {
                return LoadState::Fresh(entry);
            }
            if let Some((until, error)) = &state.last_error
                && self.0.settings.clock.now() < *until
            {
                return LoadState::Failed(error.clone());
            }
        }
        let (sender, load) = watch::channel(None);
        let inner = Arc::clone(&self.0);
        let guard = LoadGuard { inner: Some(Arc::clone(&inner)), outcome: sender };
        // A separate task: the load continues if the caller is dropped.
        tokio::spawn(async move {
            let outcome = inner.load().await;
            guard.finish(outcome);
        });
        state.running_load = Some(load.clone());
        LoadState::Running(load)
    }
}

impl<V> Inner<V> {
    /// The cached entry if it is fresh, and whether this caller must start a background refresh.
    fn fresh_entry(&self) -> Option<(Arc<Entry<V>>, bool)> {
        let now = self.settings.clock.now().timestamp_millis();
        let current = self.current.load();
        let entry = current.as_ref().filter(|entry| entry.is_fresh(now))?;
        Some((Arc::clone(entry), entry.try_start_refresh(now)))
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The single-flight guard: while it exists, no second load starts. It allows the next load before the waiting callers get the
/// result. If it is dropped unfinished (a cancelled load), it also allows the next load.
struct LoadGuard<V> {
    /// `None` once the load has finished.
    inner: Option<Arc<Inner<V>>>,
    outcome: watch::Sender<Option<Outcome<V>>>,
}

impl<V> LoadGuard<V> {
    fn finish(mut self, outcome: Outcome<V>) {
        let Some(inner) = self.inner.take() else { return };
        let now = inner.settings.clock.now();
        let mut state = inner.state();
        state.running_load = None;
        state.last_error = outcome.as_ref().err().map(|error| (now + ERROR_TTL, error.clone()));
        drop(state);
        self.outcome.send_replace(Some(outcome));
    }
}

impl<V> Drop for LoadGuard<V> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.state().running_load = None;
        }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { source, secret_id, refresher, .. } = &self.0.settings;
        let version_id = self.0.current.load().as_ref().map(|entry| entry.version_id.clone());
        f.debug_struct("Cache")
            .field("source", source)
            .field("secret_id", secret_id)
            .field("refresher", refresher)
            .field("version_id", &version_id)
            .finish()
    }
}
