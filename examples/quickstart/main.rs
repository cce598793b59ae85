//! The whole story on this machine, without AWS: a small authorization server, a token in a directory store, and the real
//! handler driven through everything that can happen to it. Ends with exit code 1 where a step ends otherwise than told.
//!
//! Each run is a handler of its own, as if Lambda had started another instance. Time is moved, not waited for.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Instant,
};

use anyhow::Result;
use authorization_server::AuthorizationServer;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{
    clock::Clock,
    config::Config,
    error::Error,
    handler::Handler,
    http_client::HttpClients,
    oauth,
    report::{Outcome, Report},
    secret::Secret,
    store::{Label, SecretStore, Selector, directory::DirectoryStore},
};
use watched_store::WatchedStore;

mod authorization_server;
mod watched_store;

const SECRET_ID: &str = "quickstart/token";
const TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let mut story = Story::begin().await?;
    println!("{:<47} {:<26} {:>5} {:>9} {:>8} {:>5}", "step", "outcome", "calls", "exchanges", "versions", "ms");

    story.step("far from expiry", json!({}), "skipped", 0).await?;
    story.until_due();
    story.step("inside its margin", json!({}), "refreshed", 1).await?;
    story.step("forced by hand", json!({"force": true}), "refreshed", 1).await?;

    story.until_due();
    story.eight_at_once().await?;

    story.until_due();
    story.killed("a run killed after its claim", 2).await?;
    story.step("  the next run, within the lease", json!({}), "in_progress", 0).await?;
    story.pass(TimeDelta::seconds(63));
    story.step("  the next run, after the lease", json!({}), "refreshed", 1).await?;

    story.until_due();
    let old_copy = story.current().await?;
    story.killed("a run killed after staging the new tokens", 3).await?;
    story.step("  the next run puts them in place", json!({}), "recovered", 0).await?;

    story.store.put_value(SECRET_ID, &old_copy).await?;
    story.step("an old copy pasted back over them", json!({}), "recovered", 0).await?;

    story.until_due();
    story.provider.withdraw_consent();
    story.step("consent withdrawn", json!({}), "ReauthorizationRequired", 1).await?;
    story.pass(TimeDelta::minutes(5));
    story.step("  the next run does not ask again", json!({}), "ReauthorizationRequired", 0).await?;

    if story.surprises == 0 {
        println!("\nEvery step ended as told: no refresh token was spent twice, and none was lost.");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("\n{} steps ended otherwise than told.", story.surprises);
        Ok(ExitCode::FAILURE)
    }
}

struct Story {
    /// How far the story's time is ahead of the real one, in milliseconds.
    ahead: Arc<AtomicI64>,
    clock: Clock,
    http: reqwest::Client,
    provider: AuthorizationServer,
    store: DirectoryStore,
    surprises: usize,
    // Dropped last: the directory goes with it.
    _directory: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Result<Self> {
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = {
            let ahead = ahead.clone();
            Clock::new(move || Utc::now() + TimeDelta::milliseconds(ahead.load(SeqCst)), tokio::time::sleep)
        };
        let provider = AuthorizationServer::start().await?;
        let directory = tempfile::tempdir()?;
        let store = DirectoryStore::open(directory.path(), clock.clone())?;
        let token = json!({
            "refreshToken": provider.consent(),
            "expiresAt": (clock.now() + TOKEN_LIFETIME).timestamp_millis(),
            "tokenEndpoint": provider.url(),
            "clientId": "quickstart",
            "clientSecret": "quickstart's secret",
        });
        store.create(SECRET_ID, &Secret::from(token.to_string())).await?;
        let http = HttpClients::new(|_| None)?.provider;
        Ok(Self { ahead, clock, http, provider, store, surprises: 0, _directory: directory })
    }

    /// Handles one event as a fresh instance of the function would.
    async fn handle(&self, store: WatchedStore, event: Value) -> Result<Report, Error> {
        let config = Config::from_vars(|name| (name == "SECRET_ID").then(|| SECRET_ID.to_owned()))?;
        let (http, clock) = (self.http.clone(), self.clock.clone());
        let exchange = move |exchange| {
            let (http, clock) = (http.clone(), clock.clone());
            async move { oauth::exchange(&http, &clock, exchange).await }
        };
        let handler = Handler::new(store, exchange, self.clock.clone(), config);
        handler.handle(&event, self.deadline()).await
    }

    fn deadline(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::seconds(60)
    }

    /// One run, told how it ends.
    async fn step(&mut self, step: &str, event: Value, outcome: &str, exchanges: usize) -> Result<()> {
        let watch = self.watch().await?;
        let store = WatchedStore::new(&self.store);
        let result = self.handle(store.clone(), event).await;
        let seen = name(&result);
        self.tell(step, &seen, store.calls(), &watch, (outcome, exchanges)).await
    }

    /// Eight runs at once: whichever is first exchanges, the others find that out.
    async fn eight_at_once(&mut self) -> Result<()> {
        let watch = self.watch().await?;
        let store = WatchedStore::new(&self.store);
        let run = || self.handle(store.clone(), json!({}));
        let ended: [_; 8] = tokio::join!(run(), run(), run(), run(), run(), run(), run(), run()).into();
        let mut outcomes = BTreeMap::<String, usize>::new();
        for result in ended {
            // Who comes late finds the tokens staged, or in place.
            let name = match &result {
                Ok(Report { outcome: Outcome::Recovered | Outcome::Skipped | Outcome::InProgress, .. }) => "too late",
                _ => &name(&result),
            };
            *outcomes.entry(name.to_owned()).or_default() += 1;
        }
        let seen = outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ");
        self.tell("eight runs at once", &seen, store.calls(), &watch, ("1 refreshed, 7 too late", 1)).await
    }

    /// A run that dies right after its n-th call to the store.
    async fn killed(&mut self, step: &str, last_call: usize) -> Result<()> {
        let watch = self.watch().await?;
        let store = WatchedStore::killed_after(&self.store, last_call);
        let seen = tokio::select! {
            result = self.handle(store.clone(), json!({})) => name(&result),
            () = store.killed() => "killed".to_owned(),
        };
        let exchanges = usize::from(last_call > 2);
        self.tell(step, &seen, store.calls(), &watch, ("killed", exchanges)).await
    }

    async fn tell(&mut self, step: &str, seen: &str, calls: usize, watch: &Watch, told: (&str, usize)) -> Result<()> {
        let ms = watch.started.elapsed().as_millis();
        let exchanges = self.provider.exchanges() - watch.exchanges;
        let versions = self.store.list(SECRET_ID).await?.len() - watch.versions;
        let as_told = (seen, exchanges) == told;
        self.surprises += usize::from(!as_told);
        let surprise = if as_told { "" } else { "  <- not as told" };
        println!("{step:<47} {seen:<26} {calls:>5} {exchanges:>9} {versions:>8} {ms:>5}{surprise}");
        Ok(())
    }

    async fn watch(&self) -> Result<Watch> {
        Ok(Watch {
            started: Instant::now(),
            exchanges: self.provider.exchanges(),
            versions: self.store.list(SECRET_ID).await?.len(),
        })
    }

    async fn current(&self) -> Result<Secret> {
        Ok(self.store.get(SECRET_ID, Selector::Label(Label::Current)).await?.body)
    }

    /// Lets time pass until the token is due.
    fn until_due(&self) {
        self.pass(TOKEN_LIFETIME);
    }

    fn pass(&self, time: TimeDelta) {
        self.ahead.fetch_add(time.num_milliseconds(), SeqCst);
    }
}

/// What was there before a step.
struct Watch {
    started: Instant,
    exchanges: usize,
    versions: usize,
}

/// The outcome's or the error's name.
fn name(result: &Result<Report, Error>) -> String {
    match result {
        Ok(report) => json!(report.outcome).as_str().unwrap_or_default().to_owned(),
        Err(error) => error.error_type().to_owned(),
    }
}
