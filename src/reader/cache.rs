//! One cached secret: returned without a lock while it is fresh, and read again by at most one load at a time. Decides when a load
//! is needed and what its result changes; `load` contains its steps, `flight` the rule of one load at a time.

use std::{
    collections::VecDeque,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{runtime::Handle, sync::watch};

use super::{
    entry::Entry,
    error::ReadError,
    flight::{BEAT, Beat, Flight},
    load::Loaded,
    pause::Pause,
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

/// A load that is frozen begins again, this many times at most.
const MAX_BEGINNINGS: usize = 10;

/// How long an error is returned to further callers before the source is read again.
const ERROR_TTL: TimeDelta = TimeDelta::seconds(1);

/// How many versions are remembered that were rejected and replaced. A reader replaces one in ten minutes; caches keep a version for an
/// hour at most.
const MAX_REPLACED: usize = 8;

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
    /// Until the next request to the refresher when there is no token.
    pub until_first_request: Pause,
    /// Until the next request to the refresher for a replacement of a rejected token.
    pub until_replacement: Pause,
    /// Locked for a moment only: no task is started, no value dropped and no function of the caller called meanwhile.
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
    /// A version that was rejected and replaced: this read lags, or a cache between the source and here returned it.
    Replaced,
}

/// The result of a load.
pub(super) type Outcome<V> = Result<Arc<Entry<V>>, ReadError>;

/// Receives the result of a running load.
type PendingLoad<V> = watch::Receiver<Option<Outcome<V>>>;

struct State<V> {
    flight: Flight<PendingLoad<V>>,
    /// The error of the last load, and how long it is returned.
    last_error: Option<(Pause, ReadError)>,
    /// The versions that were rejected and replaced, the oldest first.
    replaced: VecDeque<VersionId>,
}

/// What a caller gets that needs a value.
enum LoadState<V> {
    Fresh(Arc<Entry<V>>),
    Running(PendingLoad<V>),
    Failed(ReadError),
}

impl<V> State<V> {
    fn remember_replaced(&mut self, id: &VersionId) {
        if self.replaced.len() == MAX_REPLACED {
            self.replaced.pop_front();
        }
        self.replaced.push_back(id.clone());
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    pub fn new(settings: Settings<V>) -> Self {
        let state = Mutex::new(State { flight: Flight::new(), last_error: None, replaced: VecDeque::new() });
        let (until_first_request, until_replacement) = (Pause::over(), Pause::over());
        let current = ArcSwapOption::empty();
        Self(Arc::new(Inner { settings, current, until_first_request, until_replacement, state }))
    }

    pub fn secret_id(&self) -> &str {
        &self.0.settings.secret_id
    }

    /// Returns the cached value while it is fresh. Otherwise waits for the running load, or starts one.
    pub async fn get(&self) -> Outcome<V> {
        let clock = &self.0.settings.clock;
        let longest_load = self.0.longest_load();
        // A few more than a load can take: its own error says more than this caller's.
        let mut beats_left = longest_load.as_millis() / BEAT.as_millis() + 4;
        let mut loads_left = MAX_LOADS_PER_CALL;
        while beats_left > 0 && loads_left > 0 {
            if let Some((entry, must_start_refresh)) = self.0.fresh_entry(clock.now()) {
                if must_start_refresh && Handle::try_current().is_ok() {
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
            // One beat at a time: the load may be lost meanwhile. Then this caller starts another one.
            let Some(ended) = clock.within(BEAT, load.wait_for(Option::is_some)).await else {
                beats_left -= 1;
                continue;
            };
            match ended.ok().and_then(|outcome| outcome.clone()) {
                Some(Ok(entry)) if entry.is_usable(clock.now()) => return Ok(entry),
                Some(Err(error)) => return Err(error),
                // The load was cancelled, or it began before the rejection, or the token expired during the wait.
                Some(Ok(_)) | None => loads_left -= 1,
            }
        }
        let detail = if beats_left == 0 {
            format!("no load has ended within {} s", longest_load.as_secs())
        } else {
            format!("gave up after {MAX_LOADS_PER_CALL} loads, each cancelled or outdated")
        };
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
        let now = self.0.settings.clock.now();
        let mut state = self.0.state();
        if let Some(load) = state.flight.join(now) {
            return LoadState::Running(load);
        }
        if !in_background {
            // A load may have ended after the caller's check and before the lock.
            if let Some((entry, _)) = self.0.fresh_entry(now) {
                return LoadState::Fresh(entry);
            }
            if let Some((pause, error)) = &state.last_error
                && !pause.is_over(now)
            {
                return LoadState::Failed(error.clone());
            }
        }
        let (sender, load) = watch::channel(None);
        let number = state.flight.start(now, load.clone());
        // A load that is dropped locks the state. `spawn` drops it at once outside a runtime, and at the end of one.
        drop(state);
        let running = RunningLoad { inner: Arc::clone(&self.0), number, outcome: sender };
        // A separate task: the load continues if the caller is dropped.
        tokio::spawn(running.run());
        LoadState::Running(load)
    }
}

impl<V> Inner<V> {
    /// The cached entry if it is fresh, and whether this caller must start a background refresh.
    fn fresh_entry(&self, now: DateTime<Utc>) -> Option<(Arc<Entry<V>>, bool)> {
        let now = now.timestamp_millis();
        let current = self.current.load();
        let entry = current.as_ref().filter(|entry| entry.is_fresh(now))?;
        Some((Arc::clone(entry), entry.try_start_refresh(now)))
    }

    /// Whether this version was rejected and replaced.
    pub(super) fn was_replaced(&self, id: &VersionId) -> bool {
        self.state().replaced.contains(id)
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running load. Dropped unfinished (its runtime ended, or the source panicked), it allows the next load.
struct RunningLoad<V> {
    inner: Arc<Inner<V>>,
    number: u64,
    outcome: watch::Sender<Option<Outcome<V>>>,
}

impl<V: Send + Sync + 'static> RunningLoad<V> {
    /// Runs the load, caches its result, and gives it to the waiting callers.
    async fn run(self) {
        let Some((rejected, loaded)) = self.load().await else { return };
        if let Some(outcome) = self.finish(rejected.as_deref(), loaded) {
            self.outcome.send_replace(Some(outcome));
        }
    }

    /// Loads, and beats meanwhile. Begins again after a freeze: connections may be dead, and time limits over. Returns the rejected
    /// version that was to be replaced, and what was loaded. `None`: another load has taken over.
    async fn load(&self) -> Option<(Option<Arc<Entry<V>>>, Result<Loaded<V>, ReadError>)> {
        let clock = &self.inner.settings.clock;
        let mut beginnings_left = MAX_BEGINNINGS;
        loop {
            beginnings_left -= 1;
            let rejected = self.inner.current.load_full().filter(|entry| entry.is_rejected());
            let mut load = pin!(self.inner.load(rejected.as_ref()));
            loop {
                let loaded = clock.within(BEAT, &mut load).await;
                let now = clock.now();
                let beat = self.inner.state().flight.beat(self.number, now);
                match (loaded, beat) {
                    (_, Beat::Replaced) => return None,
                    (None | Some(Err(_)), Beat::Late) if beginnings_left > 0 => break,
                    (Some(loaded), _) => return Some((rejected.clone(), loaded)),
                    (None, _) => {}
                }
            }
        }
    }

    /// Caches the result, and allows the next load. `None`: another load has taken over.
    fn finish(&self, rejected: Option<&Entry<V>>, loaded: Result<Loaded<V>, ReadError>) -> Option<Outcome<V>> {
        let inner = &self.inner;
        let now = inner.settings.clock.now();
        let cached = inner.current.load_full();
        let outcome = loaded.map(|loaded| match loaded {
            Loaded::Cached(entry) => entry,
            Loaded::Version(id, value, times) => match cached.as_ref().filter(|entry| entry.version_id == id) {
                // The content of a version never changes.
                Some(entry) => {
                    entry.renew(times, now);
                    Arc::clone(entry)
                }
                None => Arc::new(Entry::new(value, id, times, now)),
            },
        });
        let new = match &outcome {
            Ok(entry) => Some(Arc::clone(entry)),
            // All callers get a permanent error.
            Err(error) if error.is_permanent() => None,
            Err(_) => cached.clone(),
        };
        let is_new = |old: &Entry<V>| outcome.as_ref().is_ok_and(|entry| entry.version_id != old.version_id);

        let mut state = inner.state();
        if !state.flight.end(self.number) {
            return None;
        }
        let old = inner.current.swap(new);
        if let Some(replaced) = old.as_deref().filter(|old| old.is_rejected() && is_new(old)) {
            state.remember_replaced(&replaced.version_id);
        }
        if let Some(rejected) = rejected.filter(|rejected| !is_new(rejected)) {
            rejected.clear_rejection(inner.pause_after_rejection(outcome.is_err()), now);
        }
        state.last_error = outcome.as_ref().err().map(|error| (Pause::until(now + ERROR_TTL, now), error.clone()));
        drop(state);
        drop(old);
        Some(outcome)
    }
}

impl<V> Drop for RunningLoad<V> {
    fn drop(&mut self) {
        self.inner.state().flight.end(self.number);
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
