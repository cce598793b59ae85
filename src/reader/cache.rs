//! One secret in memory: handed out without a lock while it is fresh, read again by at most one load at a time. Knows when a
//! load is needed; what it does is in `flight`.

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

/// A call that found loads cut short this often gives up: their runtimes ended, or the source panics.
const MAX_LOADS_PER_CALL: usize = 8;

/// An error is told to all who ask within about this time of it, without asking the source again.
const MEMORY_OF_ERRORS: TimeDelta = TimeDelta::seconds(1);

/// The cache; a clone is the same one.
pub(super) struct Cache<V>(Arc<Inner<V>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(super) struct Inner<V> {
    pub settings: Settings<V>,
    pub current: ArcSwapOption<Entry<V>>,
    /// The refresher is not asked for a first token before this time (milliseconds since the epoch).
    pub asks_from: AtomicI64,
    /// Nor for one in place of a rejected one before this time.
    pub replaces_from: AtomicI64,
    state: Mutex<State<V>>,
}

/// What to read, and how.
pub(super) struct Settings<V> {
    pub source: Source,
    pub secret_id: String,
    /// How the first read is asked for.
    pub first: Wanted,
    /// How it is read again.
    pub again: Wanted,
    pub decode: Decode<V>,
    pub refresher: Option<RefresherFunction>,
    /// For how long a new version is waited for.
    pub patience: Duration,
    pub clock: Clock,
}

/// Makes a value of what was read at a time, with a jitter from 0 to 1.
pub(super) type Decode<V> = Box<dyn Fn(Content, DateTime<Utc>, f64) -> Result<(V, Times), Unusable> + Send + Sync>;

/// Why what was read is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not what it should be.
    Invalid(String),
    /// A token secret without a token that is good now; it expired then.
    NoToken(Option<DateTime<Utc>>),
}

/// What a load comes to.
pub(super) type Outcome<V> = Result<Arc<Entry<V>>, ReadError>;

struct State<V> {
    /// The load under way.
    flight: Option<watch::Receiver<Option<Outcome<V>>>>,
    /// The last load's error, and until when it is told.
    failed: Option<(DateTime<Utc>, ReadError)>,
}

/// What a caller finds who must not go on by itself.
enum Joined<V> {
    Entry(Arc<Entry<V>>),
    Flight(watch::Receiver<Option<Outcome<V>>>),
    Failed(ReadError),
}

impl<V: Send + Sync + 'static> Cache<V> {
    pub fn new(settings: Settings<V>) -> Self {
        let state = Mutex::new(State { flight: None, failed: None });
        let [asks_from, replaces_from] = [i64::MIN; 2].map(AtomicI64::new);
        Self(Arc::new(Inner { settings, current: ArcSwapOption::empty(), asks_from, replaces_from, state }))
    }

    pub fn secret_id(&self) -> &str {
        &self.0.settings.secret_id
    }

    /// The value: from memory while it is fresh, else from the load that is under way or is started here.
    pub async fn get(&self) -> Outcome<V> {
        for _ in 0..MAX_LOADS_PER_CALL {
            if let Some((entry, takes_look)) = self.0.fresh() {
                if takes_look {
                    // Only started: whoever gets the token does not wait for it.
                    drop(self.join(true));
                }
                return Ok(entry);
            }
            let mut flight = match self.join(false) {
                Joined::Entry(entry) => return Ok(entry),
                Joined::Failed(error) => return Err(error),
                Joined::Flight(flight) => flight,
            };
            let outcome = match flight.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                // Cut short: the runtime that it ran on has ended, or the source panicked.
                Err(_) => None,
            };
            match outcome {
                Some(Ok(entry)) if entry.is_usable(self.0.settings.clock.now()) => return Ok(entry),
                Some(Err(error)) => return Err(error),
                // It began before the rejection, or the token expired while we waited.
                Some(Ok(_)) | None => {}
            }
        }
        let detail = format!("given up after {MAX_LOADS_PER_CALL} loads, each cut short or overtaken");
        Err(ReadError::Unavailable { secret_id: self.0.settings.secret_id.clone(), detail })
    }

    /// Takes the version for rejected by the provider, if it is the one in memory: the next call reads past the cache.
    pub fn reject(&self, version_id: &VersionId) {
        if let Some(entry) = self.0.current.load().as_ref().filter(|entry| entry.version_id == *version_id) {
            entry.reject(self.0.settings.clock.now());
        }
    }

    /// The load under way, or a new one. `to_look`: also where what is in memory is fresh.
    fn join(&self, to_look: bool) -> Joined<V> {
        let mut state = self.0.state();
        if let Some(flight) = &state.flight {
            return Joined::Flight(flight.clone());
        }
        if !to_look {
            // Perhaps a load has ended between the caller's look and the lock.
            if let Some((entry, _)) = self.0.fresh() {
                return Joined::Entry(entry);
            }
            if let Some((until, error)) = &state.failed
                && self.0.settings.clock.now() < *until
            {
                return Joined::Failed(error.clone());
            }
        }
        let (landing, flight) = watch::channel(None);
        let inner = Arc::clone(&self.0);
        let landing = Landing { inner: Some(Arc::clone(&inner)), outcome: landing };
        // A task of its own: the load goes on when the caller who started it goes away.
        tokio::spawn(async move {
            let outcome = inner.load().await;
            landing.land(outcome);
        });
        state.flight = Some(flight.clone());
        Joined::Flight(flight)
    }
}

impl<V> Inner<V> {
    /// What is in memory, if it is fresh, and whether this caller is to start a look in the background.
    fn fresh(&self) -> Option<(Arc<Entry<V>>, bool)> {
        let now = self.settings.clock.now().timestamp_millis();
        let current = self.current.load();
        let entry = current.as_ref().filter(|entry| entry.is_fresh(now))?;
        Some((Arc::clone(entry), entry.takes_look(now)))
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a load, however it ends: the place is free for the next one before those who wait are told.
struct Landing<V> {
    /// Taken when the load has landed.
    inner: Option<Arc<Inner<V>>>,
    outcome: watch::Sender<Option<Outcome<V>>>,
}

impl<V> Landing<V> {
    fn land(mut self, outcome: Outcome<V>) {
        let Some(inner) = self.inner.take() else { return };
        let now = inner.settings.clock.now();
        let mut state = inner.state();
        state.flight = None;
        state.failed = outcome.as_ref().err().map(|error| (now + MEMORY_OF_ERRORS, error.clone()));
        drop(state);
        self.outcome.send_replace(Some(outcome));
    }
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.state().flight = None;
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
