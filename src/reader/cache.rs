//! One cached secret: returned without a lock while it is fresh, and read again by at most one load at a time. Decides when a load
//! is needed and what its result changes; `load` contains its steps, `single_flight` the rule of one load at a time.

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
    load::Loaded,
    pause::Pause,
    policy::Times,
    refresher_function::RefresherFunction,
    single_flight::{HEARTBEAT_INTERVAL, SingleFlight, is_late},
    source::{Source, Wanted},
};
use crate::{
    clock::Clock,
    store::{Content, VersionId},
};

/// A call gives up after this many loads that were cancelled (their runtime ended, or the source panicked) or outdated.
const MAX_LOADS_PER_CALL: usize = 8;

/// A frozen load begins again. It begins this many times at most, the first included.
const MAX_BEGINNINGS: usize = 10;

/// How long an error is returned to further callers before the source is read again.
const ERROR_TTL: TimeDelta = TimeDelta::seconds(1);

/// How many versions are remembered that were rejected and replaced: the newest ones. A cache in front of the source keeps one version
/// for five minutes (the extension) or an hour (the agent), and a version that was current before those is not in it.
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
    /// A version that was rejected earlier, and replaced: this read lags, or a cache in front of the source returned it.
    RejectedEarlier,
}

/// The result of a load.
pub(super) type Outcome<V> = Result<Arc<Entry<V>>, ReadError>;

/// Receives the result of a running load.
type PendingLoad<V> = watch::Receiver<Option<Outcome<V>>>;

struct State<V> {
    loads: SingleFlight<PendingLoad<V>>,
    /// The error of the last load, and how long it is returned.
    last_error: Option<(Pause, ReadError)>,
    /// The versions that were rejected and replaced, the oldest first.
    replaced: VecDeque<VersionId>,
    /// The version whose replacement was requested, and not answered yet.
    requested: Option<VersionId>,
}

/// What a caller that needs a value gets.
enum Joined<V> {
    Fresh(Arc<Entry<V>>),
    Running(PendingLoad<V>),
    Failed(ReadError),
}

impl<V> State<V> {
    fn remember_replaced(&mut self, id: &VersionId) {
        if self.replaced.contains(id) {
            return;
        }
        if self.replaced.len() == MAX_REPLACED {
            self.replaced.pop_front();
        }
        self.replaced.push_back(id.clone());
    }
}

impl<V: Send + Sync + 'static> Cache<V> {
    pub fn new(settings: Settings<V>) -> Self {
        let state = Mutex::new(State {
            loads: SingleFlight::new(),
            last_error: None,
            replaced: VecDeque::new(),
            requested: None,
        });
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
        if let Some(entry) = self.0.fresh_entry(clock.now()) {
            self.refresh_in_background(&entry);
            return Ok(entry);
        }
        // Longer than a load, so that the load's own error comes first.
        let mut polls_left = self.0.longest_load().as_millis() / HEARTBEAT_INTERVAL.as_millis() + 4;
        let mut loads_left = MAX_LOADS_PER_CALL;
        while polls_left > 0 && loads_left > 0 {
            let mut load = match self.join_or_start_load() {
                Joined::Fresh(entry) => return Ok(entry),
                Joined::Failed(error) => return Err(error),
                Joined::Running(load) => load,
            };
            // If the load is lost meanwhile, this caller starts another one.
            let Some(ended) = clock.within(HEARTBEAT_INTERVAL, load.wait_for(Option::is_some)).await else {
                polls_left -= 1;
                continue;
            };
            match ended.ok().and_then(|outcome| outcome.clone()) {
                Some(Ok(entry)) if entry.is_usable(clock.now()) => return Ok(entry),
                Some(Err(error)) => return Err(error),
                // The load was cancelled, or it began before the rejection, or the token expired during the wait.
                Some(Ok(_)) | None => loads_left -= 1,
            }
        }
        let detail = if polls_left == 0 {
            "no read ended in time".to_owned()
        } else {
            format!("{MAX_LOADS_PER_CALL} reads were cancelled or out of date at their end")
        };
        Err(ReadError::Unavailable { secret_id: self.0.settings.secret_id.clone(), detail })
    }

    /// Marks the version as rejected by the provider if it is the cached one. The next call then bypasses the cache.
    pub fn reject(&self, version_id: &VersionId) {
        match self.0.current.load().as_ref() {
            Some(entry) if entry.version_id == *version_id => entry.reject(self.0.settings.clock.now()),
            // Another version has replaced it. A read that lags must not bring it back.
            Some(_) => self.0.state().remember_replaced(version_id),
            None => {}
        }
    }

    /// Starts a load if one is due. The caller does not wait for it.
    fn refresh_in_background(&self, entry: &Entry<V>) {
        let now = self.0.settings.clock.now();
        if Handle::try_current().is_ok() && entry.try_start_refresh(now) {
            let state = self.0.state();
            if state.loads.join(now).is_none() {
                drop(self.start_load(state, now));
            }
        }
    }

    /// Joins the running load, or starts one if the cached value is not fresh and the last load has not just failed.
    fn join_or_start_load(&self) -> Joined<V> {
        let now = self.0.settings.clock.now();
        let state = self.0.state();
        // A load may have ended after the caller's check and before the lock, or a superseded one while the caller waited.
        if let Some(entry) = self.0.fresh_entry(now) {
            return Joined::Fresh(entry);
        }
        if let Some(load) = state.loads.join(now) {
            return Joined::Running(load);
        }
        if let Some((pause, error)) = &state.last_error
            && !pause.is_over(now)
        {
            return Joined::Failed(error.clone());
        }
        Joined::Running(self.start_load(state, now))
    }

    /// Starts a load.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    fn start_load(&self, mut state: MutexGuard<'_, State<V>>, now: DateTime<Utc>) -> PendingLoad<V> {
        let (sender, load) = watch::channel(None);
        let number = state.loads.start(now, load.clone());
        // A load that is dropped locks the state. `spawn` drops it at once outside a runtime, and at the end of one.
        drop(state);
        let running = RunningLoad { inner: Arc::clone(&self.0), number, outcome: sender };
        // A separate task: the load continues if the caller is dropped.
        tokio::spawn(running.run());
        load
    }
}

impl<V> Inner<V> {
    /// The cached entry if it is fresh.
    fn fresh_entry(&self, now: DateTime<Utc>) -> Option<Arc<Entry<V>>> {
        self.current.load().as_ref().filter(|entry| entry.is_fresh(now)).map(Arc::clone)
    }

    /// Whether the secret was never read.
    pub(super) fn is_first_read(&self) -> bool {
        self.state().loads.is_first()
    }

    /// Whether a replacement of this version may be requested. It may be requested again while there is no reply: all requests for one
    /// version together cause one refresh.
    pub(super) fn may_request_replacement(&self, id: &VersionId, now: DateTime<Utc>) -> bool {
        self.until_replacement.is_over(now) || self.state().requested.as_ref() == Some(id)
    }

    /// Notes whether a request for a replacement of this version has no reply yet.
    pub(super) fn set_requested(&self, id: Option<&VersionId>) {
        self.state().requested = id.cloned();
    }

    /// Whether this version was rejected and replaced.
    pub(super) fn was_replaced(&self, id: &VersionId) -> bool {
        self.state().replaced.contains(id)
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running load. If it is dropped unfinished (its runtime ended, or the source panicked), the next load may start.
struct RunningLoad<V> {
    inner: Arc<Inner<V>>,
    number: u64,
    outcome: watch::Sender<Option<Outcome<V>>>,
}

/// What a load has found, before it is cached.
struct Finished<V> {
    /// The version that it was to replace, because the provider has rejected it.
    rejected: Option<Arc<Entry<V>>>,
    result: Result<Loaded<V>, ReadError>,
}

impl<V: Send + Sync + 'static> RunningLoad<V> {
    /// Loads, caches the result, and gives it to the waiting callers. A superseded load changes nothing.
    async fn run(self) {
        let Some(finished) = self.load_with_heartbeat().await else { return };
        if let Some(outcome) = self.cache(finished) {
            self.outcome.send_replace(Some(outcome));
        }
    }

    /// Loads, with a heartbeat. Begins again after a freeze: connections may be dead, and time limits may have passed. `None`: it is
    /// superseded and has found nothing.
    async fn load_with_heartbeat(&self) -> Option<Finished<V>> {
        let clock = &self.inner.settings.clock;
        let mut beginnings_left = MAX_BEGINNINGS;
        'begin: loop {
            beginnings_left -= 1;
            let mut last_heartbeat = clock.now();
            // Before anything is read or requested: it may have waited for its runtime, and be superseded.
            if !self.inner.state().loads.heartbeat(self.number, last_heartbeat) {
                return None;
            }
            let rejected = self.inner.current.load_full().filter(|entry| entry.is_rejected());
            let mut load = pin!(self.inner.load(rejected.as_ref()));
            loop {
                let result = clock.within(HEARTBEAT_INTERVAL, &mut load).await;
                let now = clock.now();
                let is_running = self.inner.state().loads.heartbeat(self.number, now);
                let was_frozen = is_late(last_heartbeat, now) && beginnings_left > 0;
                last_heartbeat = now;
                match result {
                    // It was read a short time ago, however late this is: `read` has checked it.
                    Some(result @ Ok(Loaded::Version(..))) => {
                        return Some(Finished { rejected: rejected.clone(), result });
                    }
                    _ if !is_running => return None,
                    _ if was_frozen => continue 'begin,
                    Some(result) => return Some(Finished { rejected: rejected.clone(), result }),
                    None => {}
                }
            }
        }
    }

    /// Caches the result, and allows the next load. `None`: the load is superseded, and its result is not used.
    fn cache(&self, finished: Finished<V>) -> Option<Outcome<V>> {
        let inner = &self.inner;
        let now = inner.settings.clock.now();
        let Finished { rejected, result } = finished;
        // These two hold every value until the state is unlocked: a caller's type may use the reader when it is dropped.
        let loaded = result.map(|loaded| match loaded {
            Loaded::Cached(entry) => (entry, None),
            Loaded::Version(id, value, times) => (Arc::new(Entry::new(value, id, times, now)), Some(times)),
        });
        let old = inner.current.load_full();

        let mut state = inner.state();
        if !state.loads.end(self.number, loaded.is_ok()) {
            return None;
        }
        let outcome = match &loaded {
            Ok((entry, times)) => Ok(match (&old, times) {
                // The content of a version never changes.
                (Some(old), Some(times)) if old.version_id == entry.version_id => {
                    old.renew(*times, now);
                    Arc::clone(old)
                }
                _ => Arc::clone(entry),
            }),
            Err(error) => Err(error.clone()),
        };
        inner.current.store(match &outcome {
            Ok(entry) => Some(Arc::clone(entry)),
            // A permanent error clears the cache, so that all callers get it.
            Err(error) if error.is_permanent() => None,
            Err(_) => old.clone(),
        });
        let is_new = |old: &Entry<V>| outcome.as_ref().is_ok_and(|entry| entry.version_id != old.version_id);
        // An error that clears the cache must not bring the rejected version back, if there is a refresher to replace it.
        let is_forgotten = outcome.as_ref().is_err_and(ReadError::is_permanent) && inner.settings.refresher.is_some();
        if let Some(replaced) = old.as_deref().filter(|old| old.is_rejected() && (is_new(old) || is_forgotten)) {
            state.remember_replaced(&replaced.version_id);
        }
        if let Some(rejected) = rejected.as_deref().filter(|rejected| !is_new(rejected)) {
            rejected.clear_rejection(inner.rejections_ignored_for(outcome.is_err()), now);
        }
        state.last_error = outcome.as_ref().err().map(|error| (Pause::of(ERROR_TTL, now), error.clone()));
        drop(state);
        Some(outcome)
    }
}

impl<V> Drop for RunningLoad<V> {
    fn drop(&mut self) {
        self.inner.state().loads.cancel(self.number);
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
