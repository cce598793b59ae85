//! One token secret in one of the stores, one provider, one clock, and processes. The changes that a test makes itself are a
//! person's: they are not counted as steps.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use token_refresher::{
    clock::Clock,
    error::Advice,
    http_client::{HttpClients, SdkHttpClient},
    lambda::{handler::Handler, report::Report, settings::Settings},
    oauth::{
        exchanger::Exchanger,
        response::{TokenResponse, TransportError},
    },
    protocol::{Error, outcome::Outcome},
    secret::Secret,
    store::{
        Label, Limits, Listed, Operation, SecretStore, Selector, StoreError, Version, VersionId,
        directory::DirectoryStore, secrets_manager::SecretsManager, versions::Versions,
    },
    token_secret::{TokenSecret, document::Document},
};

use crate::{
    counting::{CountingStore, InjectedFault, Script, Step},
    support::{
        output::assert_no_secret,
        provider::{CLIENT_ID, CLIENT_SECRET, Provider},
        secrets_manager::FakeSecretsManager,
    },
};

/// The secret of every test.
pub const NAME: &str = "crm/prod/oauth";

/// The longest run, in real time.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A version of this age is old enough that the quota is not checked.
pub const LONG_AGO: TimeDelta = TimeDelta::hours(1);

pub fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

pub fn milliseconds(milliseconds: i64) -> TimeDelta {
    TimeDelta::milliseconds(milliseconds)
}

/// The store of a test.
#[derive(Clone, Copy, Debug)]
pub enum StoreKind {
    SecretsManager,
    Directory,
}

/// A clock that moves only when a test or a pause moves it. A wait for a deadline never ends by itself.
#[derive(Clone)]
pub struct TestClock {
    now: Arc<Mutex<DateTime<Utc>>>,
    /// Whether pauses move it. A wait of up to two seconds counts as a pause, a longer one as a wait for a deadline.
    pauses: Arc<AtomicBool>,
}

impl TestClock {
    fn new() -> Self {
        let now = "2026-01-01T00:00:00.250Z".parse().expect("a time");
        Self { now: Arc::new(Mutex::new(now)), pauses: Arc::new(AtomicBool::new(true)) }
    }

    pub fn now(&self) -> DateTime<Utc> {
        *self.now.lock().expect("no panic while locked")
    }

    pub fn advance(&self, by: TimeDelta) {
        *self.now.lock().expect("no panic while locked") += by;
    }

    pub fn set(&self, to: DateTime<Utc>) {
        *self.now.lock().expect("no panic while locked") = to;
    }

    /// From now on no pause ends. For runs with less than two seconds left, whose waits for the deadline are short too.
    pub fn stop_pauses(&self) {
        self.pauses.store(false, Ordering::Relaxed);
    }

    pub fn clock(&self) -> Clock {
        let (reader, sleeper) = (self.clone(), self.clone());
        Clock::new(
            move || reader.now(),
            move |duration| {
                let sleeper = sleeper.clone();
                async move {
                    if duration > Duration::from_secs(2) || !sleeper.pauses.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    sleeper.advance(TimeDelta::from_std(duration).expect("two seconds at most"));
                    tokio::task::yield_now().await;
                }
            },
        )
    }
}

/// The store as a person uses it, without a process.
#[derive(Clone)]
pub struct Vault(Arc<Backing>);

enum Backing {
    SecretsManager(FakeSecretsManager),
    Directory { root: TempDir, clock: TestClock },
}

impl Vault {
    async fn open(store: StoreKind, clock: &TestClock) -> Self {
        Self(Arc::new(match store {
            StoreKind::SecretsManager => Backing::SecretsManager(FakeSecretsManager::start_with(clock.clock()).await),
            StoreKind::Directory => {
                Backing::Directory { root: TempDir::new().expect("a directory"), clock: clock.clone() }
            }
        }))
    }

    fn store(&self, http: &reqwest::Client) -> Store {
        match &*self.0 {
            Backing::SecretsManager(fake) => {
                let config = SdkConfig::builder()
                    .behavior_version(BehaviorVersion::v2026_01_12())
                    .region(Region::new("eu-west-1"))
                    .endpoint_url(fake.url())
                    .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                        "test", "test", None, None, "test",
                    )))
                    .http_client(SharedHttpClient::new(SdkHttpClient(http.clone())))
                    .retry_config(
                        RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1)),
                    )
                    .build();
                Store::SecretsManager(Box::new(SecretsManager::new(&config).expect("a Region")))
            }
            Backing::Directory { root, clock } => {
                Store::Directory(DirectoryStore::open(root.path(), clock.clock()).expect("a directory"))
            }
        }
    }

    fn file(root: &Path, name: &str, ending: &str) -> PathBuf {
        root.canonicalize().expect("the directory").join(format!("{}.{ending}", name.replace('/', "%2F")))
    }

    pub fn create(&self, name: &str, json: &impl ToString, created: DateTime<Utc>) -> VersionId {
        self.create_empty(name);
        let id = random_id();
        self.edit(name, |versions, _| versions.put(&id, &json.to_string().into(), None, created).expect("room"));
        id
    }

    /// A secret that has no value yet.
    pub fn create_empty(&self, name: &str) {
        match &*self.0 {
            Backing::SecretsManager(fake) => fake.create_empty(name),
            Backing::Directory { root, .. } => {
                let path = Self::file(root.path(), name, "json");
                let empty = Versions::empty(format!("local:{}", path.display()));
                fs::write(path, serde_json::to_vec(&empty).expect("JSON")).expect("a file");
            }
        }
    }

    /// Changes a secret in any way.
    pub fn edit<T>(&self, name: &str, change: impl FnOnce(&mut Versions, DateTime<Utc>) -> T) -> T {
        match &*self.0 {
            Backing::SecretsManager(fake) => fake.edit(name, change),
            Backing::Directory { root, clock } => {
                let lock = Self::file(root.path(), name, "lock");
                let lock: File =
                    OpenOptions::new().create(true).truncate(false).write(true).open(lock).expect("a lock file");
                lock.lock().expect("the lock");
                let path = Self::file(root.path(), name, "json");
                let mut versions = serde_json::from_slice(&fs::read(&path).expect("the secret")).expect("its versions");
                let done = change(&mut versions, clock.now());
                // Replaced by a rename, because processes read without the lock.
                let new = path.with_extension("new");
                fs::write(&new, serde_json::to_vec(&versions).expect("JSON")).expect("a file");
                fs::rename(new, path).expect("the secret");
                done
            }
        }
    }

    pub fn versions(&self) -> Versions {
        match &*self.0 {
            Backing::SecretsManager(fake) => fake.edit(NAME, |versions, _| versions.clone()),
            Backing::Directory { root, .. } => {
                let text = fs::read(Self::file(root.path(), NAME, "json")).expect("the secret");
                serde_json::from_slice(&text).expect("its versions")
            }
        }
    }

    pub fn count(&self) -> usize {
        self.versions().list(true).len()
    }

    pub fn id(&self) -> VersionId {
        self.versions().get(None, None).expect("a current version").id
    }

    pub fn text(&self) -> String {
        self.versions().get(None, None).expect("a current version").body.expose().to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).expect("AWSCURRENT holds JSON")
    }

    /// The text of the version with this label.
    pub fn labelled(&self, label: &str) -> Option<String> {
        self.versions().get(None, Some(label)).ok().map(|version| version.body.expose().to_owned())
    }

    pub fn put(&self, json: &impl ToString) -> VersionId {
        let id = random_id();
        self.edit(NAME, |versions, now| versions.put(&id, &json.to_string().into(), None, now).expect("room"));
        id
    }

    /// Changes one member.
    pub fn set(&self, member: &str, value: impl Into<Value>) -> VersionId {
        let mut json = self.json();
        json[member] = value.into();
        self.put(&json)
    }

    /// Changes a part of the text, so that members keep their order.
    pub fn replace(&self, from: &str, to: &str) -> VersionId {
        let text = self.text();
        assert!(text.contains(from), "the text to replace is there");
        self.put(&text.replace(from, to))
    }

    /// The names of AWSCURRENT's members, in order.
    pub fn member_names(&self) -> Vec<String> {
        let document = Document::parse(&self.text()).expect("AWSCURRENT holds an object");
        document.members().map(|(name, _)| name.to_owned()).collect()
    }

    /// The fake Secrets Manager, to inject faults into its responses.
    pub fn fake(&self) -> Option<&FakeSecretsManager> {
        match &*self.0 {
            Backing::SecretsManager(fake) => Some(fake),
            Backing::Directory { .. } => None,
        }
    }

    pub fn roll_back(&self) -> VersionId {
        self.edit(NAME, |versions, _| versions.roll_back().expect("a previous version"))
    }
}

fn random_id() -> VersionId {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string().into()
}

pub enum Store {
    SecretsManager(Box<SecretsManager>),
    Directory(DirectoryStore),
}

impl SecretStore for Store {
    fn limits(&self) -> Limits {
        match self {
            Self::SecretsManager(store) => store.limits(),
            Self::Directory(store) => store.limits(),
        }
    }

    fn action(&self, operation: Operation) -> &'static str {
        match self {
            Self::SecretsManager(store) => store.action(operation),
            Self::Directory(store) => store.action(operation),
        }
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        match self {
            Self::SecretsManager(store) => store.advice(error, secret_id),
            Self::Directory(store) => store.advice(error, secret_id),
        }
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        match self {
            Self::SecretsManager(store) => store.get(secret_id, which).await,
            Self::Directory(store) => store.get(secret_id, which).await,
        }
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        match self {
            Self::SecretsManager(store) => store.put(secret_id, id, label, body).await,
            Self::Directory(store) => store.put(secret_id, id, label, body).await,
        }
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        match self {
            Self::SecretsManager(store) => store.move_label(secret_id, label, from, to).await,
            Self::Directory(store) => store.move_label(secret_id, label, from, to).await,
        }
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        match self {
            Self::SecretsManager(store) => store.remove_label(secret_id, label, from).await,
            Self::Directory(store) => store.remove_label(secret_id, label, from).await,
        }
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        match self {
            Self::SecretsManager(store) => store.list(secret_id).await,
            Self::Directory(store) => store.list(secret_id).await,
        }
    }
}

/// One process, with its memory.
pub struct Process {
    handler: Handler<CountingStore<Store>>,
    pub script: Arc<Script>,
    clock: TestClock,
    provider: Arc<Provider>,
    never_printed: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn inject(self, step: Step, nth: usize, fault: InjectedFault) -> Self {
        self.script.inject(step, nth, fault);
        self
    }

    pub fn before(self, step: Step, nth: usize, event: impl FnOnce() + Send + 'static) -> Self {
        self.inject(step, nth, InjectedFault::Before(Box::new(event)))
    }

    pub fn after(self, step: Step, nth: usize, event: impl FnOnce() + Send + 'static) -> Self {
        self.inject(step, nth, InjectedFault::After(Box::new(event)))
    }

    /// An invocation whose deadline is a minute ahead.
    pub async fn invoke(&self, event: Value) -> Result<Report, Error> {
        self.invoke_until(event, self.clock.now() + seconds(60)).await
    }

    pub async fn invoke_until(&self, event: Value, deadline: DateTime<Utc>) -> Result<Report, Error> {
        let ended = tokio::time::timeout(TEST_TIMEOUT, Box::pin(self.handler.handle(&event, deadline))).await;
        let result = ended.expect("the run ends").map(|response| response.into_report().expect("one secret"));
        self.assert_shows_no_secret(&result);
        result
    }

    pub async fn run(&self) -> Result<Report, Error> {
        self.invoke(json!({})).await
    }

    /// The outcome of a scheduled run, which must succeed.
    pub async fn outcome(&self) -> Outcome {
        self.run().await.expect("a report").outcome
    }

    /// A scheduled run in which an injected fault ends the process.
    pub async fn crash(self) {
        self.crash_on(json!({})).await;
    }

    pub async fn crash_on(self, event: Value) {
        tokio::select! {
            result = self.invoke(event) => panic!("the process did not crash: {result:?}"),
            () = self.script.crashed.notified() => {}
        }
        // A write that the directory store has started continues without its caller.
        tokio::task::yield_now().await;
    }

    /// The report or error contains no token and no client's secret.
    fn assert_shows_no_secret(&self, result: &Result<Report, Error>) {
        let output = match result {
            Ok(report) => format!("{report:?} {}", json!(report)),
            Err(error) => format!("{error} {error:?}"),
        };
        let mut secrets = self.provider.every_token_issued();
        secrets.extend(self.never_printed.lock().expect("no panic while locked").iter().cloned());
        assert_no_secret(&output, &secrets);
    }
}

/// The store, the clock and the provider of a test.
pub struct World {
    pub vault: Vault,
    pub clock: TestClock,
    pub provider: Arc<Provider>,
    http: HttpClients,
    /// The texts that no output may contain, besides the provider's tokens.
    never_printed: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub async fn new(store: StoreKind) -> Self {
        Self::with(store, Provider::rotating()).await
    }

    pub async fn with(store: StoreKind, provider: Provider) -> Self {
        let clock = TestClock::new();
        Self {
            vault: Vault::open(store, &clock).await,
            clock,
            provider: Arc::new(provider),
            http: HttpClients::new(|_| None).expect("HTTP clients"),
            never_printed: Arc::new(Mutex::new(vec![CLIENT_SECRET.to_owned()])),
        }
    }

    /// A world whose token is due, in an old version.
    pub async fn due(store: StoreKind) -> Self {
        let world = Self::new(store).await;
        world.seed(seconds(0), LONG_AGO);
        world
    }

    pub async fn due_with(store: StoreKind, provider: Provider) -> Self {
        let world = Self::with(store, provider).await;
        world.seed(seconds(0), LONG_AGO);
        world
    }

    /// A token secret with newly issued tokens, as after a person's consent.
    pub fn document(&self, expires_in: TimeDelta) -> Value {
        let (access, refresh) = self.provider.issue();
        json!({
            "note": "a person's own member",
            "accessToken": access,
            "refreshToken": refresh,
            "expiresAt": (self.clock.now() + expires_in).timestamp_millis(),
            "tokenEndpoint": self.provider.url(),
            "clientId": CLIENT_ID,
            "clientSecret": CLIENT_SECRET,
            "exact": 12_345_678,
        })
    }

    /// Creates the secret.
    pub fn seed(&self, expires_in: TimeDelta, age: TimeDelta) -> VersionId {
        self.vault.create(NAME, &self.document(expires_in), self.clock.now() - age)
    }

    pub fn never_print(&self, secret: &str) {
        self.never_printed.lock().expect("no panic while locked").push(secret.to_owned());
    }

    pub fn process(&self) -> Process {
        self.process_with(&[])
    }

    pub fn process_with(&self, settings: &[(&str, &str)]) -> Process {
        let var = |name: &str| match settings.iter().find(|(setting, _)| *setting == name) {
            Some((_, value)) => Some((*value).to_owned()),
            None => (name == "SECRET_ID").then(|| NAME.to_owned()),
        };
        let settings = Settings::from_vars(var).expect("valid settings");
        let script = Arc::new(Script::default());
        let store = CountingStore { store: self.vault.store(&self.http.store), script: Arc::clone(&script) };
        let (over_http, exchanger_script) =
            (Exchanger::over_http(self.http.provider.clone(), None, self.clock.clock()), Arc::clone(&script));
        let exchanger = Exchanger::from_fn(move |exchange| {
            let (over_http, script) = (over_http.clone(), Arc::clone(&exchanger_script));
            async move {
                let lost = |_| {
                    TokenResponse::Failed(TransportError::MaybeSpent {
                        what: "no response in time".to_owned(),
                        responded: false,
                    })
                };
                script.step(Step::Exchange, over_http.exchange(exchange), lost).await
            }
        });
        Process {
            handler: Handler::new(store, exchanger, self.clock.clock(), settings),
            script,
            clock: self.clock.clone(),
            provider: Arc::clone(&self.provider),
            never_printed: Arc::clone(&self.never_printed),
        }
    }

    /// The outcome of a scheduled run in a new process, which must succeed.
    pub async fn outcome(&self) -> Outcome {
        self.process().outcome().await
    }

    /// Refreshes this many times, and moves the clock by an hour after each.
    pub async fn refresh_times(&self, times: usize) {
        for _ in 0..times {
            assert_eq!(self.outcome().await, Outcome::Refreshed);
            self.clock.advance(seconds(3600));
        }
    }

    pub fn current(&self) -> TokenSecret {
        TokenSecret::parse(&self.vault.text()).expect("AWSCURRENT holds a token secret")
    }

    pub fn refresh_token(&self) -> String {
        self.current().tokens.refresh_token().expect("a refresh token").expose().to_owned()
    }

    /// The current refresh token is alive, and no refresh token was used twice.
    pub fn assert_sound(&self) {
        self.assert_current_is_alive();
        assert_eq!(self.provider.reuses(), 0, "a spent refresh token was sent");
    }

    pub fn assert_current_is_alive(&self) {
        assert!(self.provider.is_alive(&self.refresh_token()), "the refresh token in AWSCURRENT is dead");
    }
}

/// Runs each test over both stores.
#[macro_export]
macro_rules! over_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod over_secrets_manager {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::world::StoreKind::SecretsManager).await;
            })+
        }
        mod over_a_directory {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::world::StoreKind::Directory).await;
            })+
        }
    };
}
