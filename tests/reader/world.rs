//! A source and a refresher in this process, in simulated time. They record all requests.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{
    Reader,
    clock::Clock,
    reader::{
        AccessToken, NotRefreshed, Query, ReadError, ReaderBuilder, RefresherFunction, Reply, SecretVersion, Source,
        Wanted,
    },
    store::StoreError,
};
use tokio::time::Instant;

pub const SECRET_ID: &str = "crm/oauth";
/// The lifetime of a token, in seconds. A token is due 900 s before it expires, and is returned until 10 s before.
pub const LIFETIME: i64 = 3600;

/// The time so many seconds after the start of the simulation. By default tokens are issued at the start.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn unavailable() -> StoreError {
    StoreError::Unavailable { action: "read", detail: "no answer".to_owned() }
}

/// The text of a token secret: the token `name`, issued so many seconds after the start.
pub fn token(name: &str, obtained: i64) -> String {
    token_living(name, obtained, LIFETIME)
}

pub fn token_living(name: &str, obtained: i64, lifetime: i64) -> String {
    json!({
        "refreshToken": "r",
        "accessToken": name,
        "refreshedAt": at(obtained).timestamp_millis(),
        "expiresAt": at(obtained + lifetime).timestamp_millis(),
    })
    .to_string()
}

#[derive(Default)]
pub struct State {
    current: Option<SecretVersion>,
    /// Every version that was ever current. A read by id finds each of them.
    all: Vec<SecretVersion>,
    /// A cache in front of the source still returns this version for reads that do not bypass it.
    cached: Option<SecretVersion>,
    fault: Option<StoreError>,
    read_time: Duration,
    /// How far the clock was set forward; negative: back.
    clock_set: TimeDelta,
    panics: bool,
    pub queries: Vec<Query>,
    in_flight: usize,
    pub most_in_flight: usize,
    pub events: Vec<Value>,
}

#[derive(Clone)]
pub struct World {
    began: Instant,
    state: Arc<Mutex<State>>,
}

impl World {
    /// A world whose secret holds the token `v1`, issued now.
    pub fn new() -> Self {
        let world = Self { began: Instant::now(), state: Arc::default() };
        world.put("v1", token("v1", 0));
        world
    }

    pub fn clock(&self) -> Clock {
        let world = self.clone();
        Clock::new(move || at(0) + world.began.elapsed() + world.state().clock_set, tokio::time::sleep)
    }

    /// Sets the clock forward by so many seconds, or back. No timer notices.
    pub fn set_clock(&self, seconds: i64) {
        self.state().clock_set += TimeDelta::seconds(seconds);
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock().now()
    }

    /// Lets time pass until so many seconds after the start.
    pub async fn until(&self, seconds: u64) {
        tokio::time::sleep_until(self.began + Duration::from_secs(seconds)).await;
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn put(&self, id: &str, text: impl Into<String>) {
        self.put_version(SecretVersion::text(id, text.into()));
    }

    /// Puts a token that is issued now.
    pub fn put_new(&self, name: &str) {
        self.put(name, token(name, (self.now() - at(0)).num_seconds()));
    }

    pub fn put_version(&self, version: SecretVersion) {
        let mut state = self.state();
        state.all.push(version.clone());
        state.current = Some(version);
    }

    /// From now on a cache in front of the source returns the version that is current now.
    pub fn cache_current_version(&self) {
        let current = self.state().current.clone();
        self.state().cached = current;
    }

    pub fn fail_with(&self, fault: impl Into<Option<StoreError>>) {
        self.state().fault = fault.into();
    }

    /// Sets how long a read takes.
    pub fn set_read_time(&self, read_time: Duration) {
        self.state().read_time = read_time;
    }

    pub fn panic_from_now_on(&self) {
        self.state().panics = true;
    }

    pub fn reads(&self) -> usize {
        self.state().queries.len()
    }

    pub fn wanted(&self) -> Vec<Wanted> {
        self.state().queries.iter().map(|query| query.wanted.clone()).collect()
    }

    pub fn source(&self) -> Source {
        let world = self.clone();
        Source::from_fn(move |query| {
            let world = world.clone();
            async move { world.read(query).await }
        })
    }

    pub async fn read(&self, query: Query) -> Result<SecretVersion, StoreError> {
        assert_eq!(query.secret_id, SECRET_ID);
        let _in_flight = InFlight::of(self, query.clone());
        let read_time = self.state().read_time;
        assert!(!self.state().panics, "the source panics on purpose");
        tokio::time::sleep(read_time).await;
        let state = self.state();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let found = match &query.wanted {
            Wanted::Current => state.cached.as_ref().or(state.current.as_ref()),
            Wanted::CurrentNow => state.current.as_ref(),
            Wanted::Previous => state.all.iter().rev().nth(1),
            Wanted::Version(id) => state.all.iter().find(|version| version.id == *id),
        };
        found.cloned().ok_or_else(|| StoreError::NotFound { detail: "no such version".to_owned() })
    }

    pub fn reader(&self) -> Reader {
        self.builder().build()
    }

    pub fn builder(&self) -> ReaderBuilder {
        Reader::builder(self.source(), SECRET_ID).clock(self.clock())
    }

    /// A refresher that waits for `duration`, then calls `refresh` and returns its result.
    pub fn refresher(
        &self,
        duration: Duration,
        refresh: impl Fn(&World) -> Result<Reply, NotRefreshed> + Send + Sync + 'static,
    ) -> RefresherFunction {
        let (world, refresh) = (self.clone(), Arc::new(refresh));
        RefresherFunction::from_fn("token-refresher", move |event| {
            let (world, refresh) = (world.clone(), Arc::clone(&refresh));
            world.state().events.push(event);
            async move {
                tokio::time::sleep(duration).await;
                refresh(&world)
            }
        })
    }
}

/// Counts the reads in progress, including those that are dropped before their end.
struct InFlight(World);

impl InFlight {
    fn of(world: &World, query: Query) -> Self {
        let mut state = world.state();
        state.queries.push(query);
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        drop(state);
        Self(world.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).in_flight -= 1;
    }
}

/// The token, or the error message.
pub fn token_or_error(result: Result<AccessToken, ReadError>) -> String {
    result.map_or_else(|error| error.to_string(), |token| token.expose().to_owned())
}
