//! A folder with one secret whose token is due, a provider and a clock; and what must hold whatever happened to them.
//! Everything is in files, so that processes share it.

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

/// A clock that stands still but for pauses, and may jump once, when it has been looked at so often.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<Hand>>);

struct Hand {
    now: DateTime<Utc>,
    looks: usize,
    jump: Option<(usize, TimeDelta)>,
}

impl TestClock {
    pub fn new() -> Self {
        let now = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        Self(Arc::new(Mutex::new(Hand { now, looks: 0, jump: None })))
    }

    pub fn jumping(self, look: usize, by: TimeDelta) -> Self {
        self.hand().jump = Some((look, by));
        self
    }

    pub fn now(&self) -> DateTime<Utc> {
        let mut hand = self.hand();
        if let Some((look, by)) = hand.jump
            && look == hand.looks
        {
            hand.now += by;
        }
        hand.looks += 1;
        hand.now
    }

    pub fn looks(&self) -> usize {
        self.hand().looks
    }

    pub fn advance(&self, by: TimeDelta) {
        self.hand().now += by;
    }

    /// Pauses move it; a wait for a deadline, which is longer, never ends by itself.
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

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.0.lock().expect("no one panicked with it")
    }
}

/// A state file, as far as two runs of the same operations have it alike: each version's labels, and a digest of its
/// text, so that no failing test shows one.
pub type Shape = Vec<(Vec<String>, u64)>;

pub type TestRefresher = Refresher<DirectoryStore>;

/// The folder, and beside it the provider's book and what processes tell.
pub struct Scene {
    beside: PathBuf,
    _kept: Option<TempDir>,
}

impl Scene {
    /// No secret yet, nor its folder.
    pub fn empty() -> Self {
        // In memory where there is such a place: a disk that others keep busy takes its time for each `fsync`.
        let kept = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory");
        Self { beside: kept.path().canonicalize().expect("the directory"), _kept: Some(kept) }
    }

    /// As another process has made it.
    pub fn at(beside: &Path) -> Self {
        Self { beside: beside.to_owned(), _kept: None }
    }

    /// A secret with a previous version, a current one (2) whose token is due, and a staged one (3).
    pub async fn new() -> Self {
        let scene = Self::empty();
        let clock = TestClock::new();
        let store = scene.store(&clock);
        clock.advance(TimeDelta::hours(-2));
        let previous = store.create(NAME, &"previous".into()).await.expect("a secret");
        let document = document(&clock).to_string();
        store.put(NAME, &id(2), Label::Staged, &document.into()).await.expect("a version");
        store.move_current(NAME, &previous, &id(2)).await.expect("the current version");
        store.put(NAME, &id(3), Label::Staged, &"staged".into()).await.expect("a version");
        scene
    }

    /// Another scene like this one.
    pub fn copy(&self) -> Self {
        let copy = Self::empty();
        if !self.folder().exists() {
            return copy;
        }
        fs::DirBuilder::new().create(copy.folder()).expect("a folder");
        fs::set_permissions(copy.folder(), fs::Permissions::from_mode(0o700)).expect("its mode");
        for ending in ["json", "lock"] {
            if self.file(ending).exists() {
                fs::copy(self.file(ending), copy.file(ending)).expect("a copy");
            }
        }
        copy
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.beside.join(name)
    }

    pub fn folder(&self) -> PathBuf {
        self.beside("folder")
    }

    pub fn file(&self, ending: &str) -> PathBuf {
        self.folder().join(format!("{}.{ending}", NAME.replace('/', "%2F")))
    }

    pub fn open(&self, clock: &TestClock) -> Result<DirectoryStore, StoreError> {
        DirectoryStore::open(self.folder(), clock.clock())
    }

    pub fn store(&self, clock: &TestClock) -> DirectoryStore {
        self.open(clock).expect("a folder")
    }

    /// Refreshes with a provider that answers `refresh-N` with `refresh-N+1`, however often it is asked (a grace
    /// period), and writes down each request.
    pub fn refresher(&self, store: DirectoryStore, clock: &TestClock) -> TestRefresher {
        let (book, told_the_time) = (self.beside("book"), clock.clone());
        let exchanger = Exchanger::from_fn(move |exchange| {
            let (book, now) = (book.clone(), told_the_time.now());
            async move {
                let sent = exchange.grant.identity();
                let mut book = OpenOptions::new().create(true).append(true).open(book).expect("the book");
                book.write_all(format!("{sent} {}\n", std::process::id()).as_bytes()).expect("an entry");
                let next: u32 = sent.strip_prefix("refresh-").and_then(|n| n.parse().ok()).expect("a number");
                let answer = json!({
                    "access_token": format!("access-{}", next + 1),
                    "refresh_token": format!("refresh-{}", next + 1),
                    "token_type": "bearer",
                    "expires_in": 3600,
                });
                response::read(200, None, answer.to_string().as_bytes(), now, &[])
            }
        });
        let settings = Settings::from_vars(|_| None).expect("settings in order");
        Refresher::new(store, exchanger, clock.clock(), settings.options)
    }

    /// A scheduled run in this process, of a minute.
    pub async fn run(&self, clock: &TestClock) -> Result<Completed, Error> {
        run(&self.refresher(self.store(clock), clock), clock).await
    }

    /// How often this token was sent, and by which processes.
    pub fn senders_of(&self, token: &str) -> Vec<u32> {
        let book = fs::read_to_string(self.beside("book")).unwrap_or_default();
        let entries = book.lines().filter_map(|line| line.split_once(' '));
        entries.filter(|(sent, _)| *sent == token).map(|(_, by)| by.parse().expect("a process")).collect()
    }

    /// The secret as any reader gets it: whole. `None`: there is none yet.
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

    /// The number of the tokens in place.
    pub fn generation(&self) -> String {
        self.current().tokens.refresh_token.expose().to_owned()
    }

    /// Everything in the folder is for its owner alone, and nothing is there that does not belong there.
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
        assert!(found.is_empty(), "left behind: {found:?}");
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
                record["holder"] = "another at each run".into();
                record.to_string().hash(&mut digest);
            }
            _ => text.expose().hash(&mut digest),
        }
        (labels.collect(), digest.finish())
    };
    versions.list(true).iter().map(|listed| of(&listed.id)).collect()
}

/// Runs a future to its end, and what it has begun on other threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
}
