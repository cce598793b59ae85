//! A folder with one secret whose token is due, a provider and a clock; and the checks of what must always hold. All state is in
//! files, so that processes share it.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use token_refresher::{
    clock::Clock,
    lambda::settings::Settings,
    oauth::{exchanger::Exchanger, response},
    protocol::{Error, Mode, Refresher, Request, observation::Observation, outcome::Completed},
    store::{Label, SecretStore, StoreError, VersionId, directory::DirectoryStore, versions::Versions},
    token_secret::TokenSecret,
};

/// The secret of every test.
pub const NAME: &str = "crm/prod/oauth";

/// A clock that moves only during pauses. It can jump once, at a given read.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<ClockState>>);

struct ClockState {
    now: DateTime<Utc>,
    /// How often the clock was read.
    reads: usize,
    /// The number of the read at which the clock jumps, and by how much.
    jump: Option<(usize, TimeDelta)>,
}

impl TestClock {
    pub fn new() -> Self {
        let now = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        Self(Arc::new(Mutex::new(ClockState { now, reads: 0, jump: None })))
    }

    /// Jumps at the read with this number, counted from 0.
    pub fn jumping(self, read: usize, by: TimeDelta) -> Self {
        self.state().jump = Some((read, by));
        self
    }

    pub fn now(&self) -> DateTime<Utc> {
        let mut state = self.state();
        if let Some((read, by)) = state.jump
            && read == state.reads
        {
            state.now += by;
        }
        state.reads += 1;
        state.now
    }

    pub fn reads(&self) -> usize {
        self.state().reads
    }

    pub fn advance(&self, by: TimeDelta) {
        self.state().now += by;
    }

    /// Pauses move the clock. A wait for a deadline is longer than a pause, and never ends.
    pub fn clock(&self) -> Clock {
        let (reader, sleeper) = (self.clone(), self.clone());
        let sleep = move |duration| {
            let sleeper = sleeper.clone();
            async move {
                if duration > Duration::from_secs(2) {
                    std::future::pending::<()>().await;
                }
                sleeper.advance(TimeDelta::from_std(duration).expect("two seconds at most"));
                tokio::task::yield_now().await;
            }
        };
        Clock::new(move || reader.now(), sleep)
    }

    fn state(&self) -> MutexGuard<'_, ClockState> {
        self.0.lock().expect("no thread panicked with the lock")
    }
}

/// The parts of a state file that are the same after the same operations: each version's labels, and a digest of its text. A
/// digest, so that a failing test shows no secret.
pub type Shape = Vec<(Vec<String>, u64)>;

pub type TestRefresher = Refresher<DirectoryStore>;

/// A directory that holds the store's folder, the list of requests to the provider, and the results of processes.
pub struct World {
    directory: PathBuf,
    _kept: Option<TempDir>,
}

impl World {
    /// Without a secret, and without the store's folder.
    pub fn empty() -> Self {
        // In memory if possible: on a busy disk each `fsync` is slow.
        let kept = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory");
        Self { directory: kept.path().canonicalize().expect("the directory"), _kept: Some(kept) }
    }

    /// The world that another process has created in this directory.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), _kept: None }
    }

    /// With a secret that has a previous version, a current version (2) whose token is due, and a staged version (3).
    pub async fn new() -> Self {
        let world = Self::empty();
        let clock = TestClock::new();
        let store = world.store(&clock);
        clock.advance(TimeDelta::hours(-2));
        let previous = store.create(NAME, &"previous".into()).await.expect("a secret");
        let document = document(&clock).to_string();
        store.put(NAME, &id(2), Label::Staged, &document.into()).await.expect("a version");
        store.move_current(NAME, &previous, &id(2)).await.expect("the current version");
        store.put(NAME, &id(3), Label::Staged, &"staged".into()).await.expect("a version");
        world
    }

    /// A copy of this world.
    pub fn copy(&self) -> Self {
        let copy = Self::empty();
        if !self.folder().exists() {
            return copy;
        }
        fs::DirBuilder::new().create(copy.folder()).expect("a folder");
        fs::set_permissions(copy.folder(), fs::Permissions::from_mode(0o700)).expect("its mode");
        for extension in ["json", "lock"] {
            if self.file(extension).exists() {
                fs::copy(self.file(extension), copy.file(extension)).expect("a copy");
            }
        }
        copy
    }

    /// A path outside the store's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The store's folder.
    pub fn folder(&self) -> PathBuf {
        self.path("folder")
    }

    /// The secret's file with this extension.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.folder().join(format!("{}.{extension}", NAME.replace('/', "%2F")))
    }

    pub fn open(&self, clock: &TestClock) -> Result<DirectoryStore, StoreError> {
        DirectoryStore::open(self.folder(), clock.clock())
    }

    pub fn store(&self, clock: &TestClock) -> DirectoryStore {
        self.open(clock).expect("a folder")
    }

    /// A refresher whose provider returns `refresh-N+1` for `refresh-N`, any number of times (a grace period), and records each
    /// request in a file.
    pub fn refresher(&self, store: DirectoryStore, clock: &TestClock) -> TestRefresher {
        let (requests, provider_clock) = (self.path("requests"), clock.clone());
        let exchanger = Exchanger::from_fn(move |exchange| {
            let (requests, now) = (requests.clone(), provider_clock.now());
            async move {
                let sent = exchange.grant.identity();
                let mut requests = OpenOptions::new().create(true).append(true).open(requests).expect("the file");
                requests.write_all(format!("{sent} {}\n", std::process::id()).as_bytes()).expect("an entry");
                let next: u32 = sent.strip_prefix("refresh-").and_then(|n| n.parse().ok()).expect("a number");
                let response = json!({
                    "access_token": format!("access-{}", next + 1),
                    "refresh_token": format!("refresh-{}", next + 1),
                    "token_type": "bearer",
                    "expires_in": 3600,
                });
                response::read(200, None, response.to_string().as_bytes(), now, &[])
            }
        });
        let settings = Settings::from_vars(|_| None).expect("valid settings");
        Refresher::new(store, exchanger, clock.clock(), settings.options)
    }

    /// A scheduled run in this process, with a deadline in one minute.
    pub async fn run(&self, clock: &TestClock) -> Result<Completed, Error> {
        run(&self.refresher(self.store(clock), clock), clock).await
    }

    /// The process ids that sent this token, one for each request.
    pub fn senders_of(&self, token: &str) -> Vec<u32> {
        let requests = fs::read_to_string(self.path("requests")).unwrap_or_default();
        let entries = requests.lines().filter_map(|line| line.split_once(' '));
        entries.filter(|(sent, _)| *sent == token).map(|(_, by)| by.parse().expect("a process")).collect()
    }

    /// The secret in the state file, which must be whole and consistent. `None` if there is no secret yet.
    pub fn versions(&self) -> Option<Versions> {
        let text = match fs::read(self.file("json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            text => text.expect("a state file"),
        };
        let versions: Versions = serde_json::from_slice(&text).expect("the state file is whole");
        versions.check().expect("the state file is consistent");
        Some(versions)
    }

    pub fn shape(&self) -> Option<Shape> {
        self.versions().as_ref().map(shape)
    }

    pub fn current(&self) -> TokenSecret {
        let current = self.versions().expect("a secret").get(None, None).expect("a current version");
        TokenSecret::parse(current.body.expose()).expect("a token secret")
    }

    /// The current refresh token, such as `refresh-2`.
    pub fn generation(&self) -> String {
        self.current().tokens.refresh_token().expect("a refresh token").expose().to_owned()
    }

    /// Fails unless only the owner has access to the folder and its files, and the folder holds no other file.
    pub fn assert_private(&self, temporary_allowed: bool) {
        let mode = |path: &Path| fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(&self.folder()), 0o700);
        let mut found: BTreeSet<PathBuf> =
            fs::read_dir(self.folder()).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
        for path in &found {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        found.remove(&self.file("json"));
        found.remove(&self.file("lock"));
        if temporary_allowed {
            found.remove(&self.file("tmp"));
        }
        assert!(found.is_empty(), "other files: {found:?}");
    }
}

/// A token secret that is due.
fn document(clock: &TestClock) -> Value {
    json!({
        "note": "a person's own member",
        "accessToken": "access-1",
        "refreshToken": "refresh-1",
        "expiresAt": clock.now().timestamp_millis(),
        "tokenEndpoint": "http://127.0.0.1/token",
        "clientId": "client",
        "tokenEndpointAuthMethod": "none",
    })
}

pub async fn run(refresher: &TestRefresher, clock: &TestClock) -> Result<Completed, Error> {
    let deadline = clock.now() + TimeDelta::minutes(1);
    refresher.run(Request { secret_id: NAME, mode: &Mode::Scheduled, deadline }, &Observation::default()).await
}

pub fn id(n: usize) -> VersionId {
    format!("00000000-0000-4000-8000-{n:012}").into()
}

pub fn shape(versions: &Versions) -> Shape {
    let of = |id: &VersionId| {
        let labels = versions.labels().iter().filter(|(_, holder)| *holder == id).map(|(label, _)| label.clone());
        let text = versions.get(Some(id), None).expect("the version").body;
        let mut digest = DefaultHasher::new();
        match serde_json::from_str::<Value>(text.expose()) {
            Ok(mut record) if record.get("holder").is_some() => {
                // It differs in each run.
                record["holder"] = "a holder".into();
                record.to_string().hash(&mut digest);
            }
            _ => text.expose().hash(&mut digest),
        }
        (labels.collect(), digest.finish())
    };
    versions.list(true).iter().map(|listed| of(&listed.id)).collect()
}

/// Runs a future to its end. Work that it started on other threads finishes too.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
}
