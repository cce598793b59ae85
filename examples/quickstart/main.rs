//! A demonstration on this machine, without AWS: a small authorization server, a token in a directory store, and the real handler,
//! in normal runs and with faults. Exits with 1 if any step has an unexpected outcome.
//!
//! Each run has its own handler, as if Lambda had started another instance. The clock is moved, so that no step waits.

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
    error::InvalidSetting,
    http_client::HttpClients,
    lambda::{
        handler::Handler,
        report::{Report, Response, SweepReport},
        settings::Settings,
    },
    oauth::exchanger::Exchanger,
    protocol::{Error, outcome::Outcome},
    secret::Secret,
    store::{Label, SecretStore, Selector, directory::DirectoryStore},
};
use watched_store::WatchedStore;

mod authorization_server;
mod watched_store;

const SECRET_ID: &str = "quickstart/token";
/// The tokens of the sweep, and the secrets of their clients.
const MANY: &str = "quickstart/customers/";
const CLIENTS: &str = "quickstart/clients/";
const TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let mut demo = Demonstration::start().await?;
    println!("{:<47} {:<26} {:>5} {:>9} {:>8} {:>5}", "step", "outcome", "calls", "exchanges", "versions", "ms");

    demo.step("far from expiry", json!({}), "skipped", 0).await?;
    demo.until_due();
    demo.step("inside its margin", json!({}), "refreshed", 1).await?;
    demo.step("forced by hand", json!({"force": true}), "refreshed", 1).await?;

    demo.until_due();
    demo.eight_at_once().await?;

    demo.until_due();
    demo.killed("a run killed after its claim", 3).await?;
    demo.step("  the next run, within the lease", json!({}), "in_progress", 0).await?;
    demo.pass(TimeDelta::seconds(63));
    demo.step("  the next run, after the lease", json!({}), "refreshed", 1).await?;

    demo.until_due();
    let old_copy = demo.current().await?;
    demo.killed("a run killed after staging the new tokens", 4).await?;
    demo.step("  the next run promotes them", json!({}), "recovered", 0).await?;

    demo.store.put_value(SECRET_ID, &old_copy).await?;
    demo.step("an old copy pasted back over them", json!({}), "recovered", 0).await?;

    demo.many_in_one_tick().await?;

    demo.until_due();
    demo.provider.withdraw_consent();
    demo.step("consent withdrawn", json!({}), "ReauthorizationRequired", 1).await?;
    demo.pass(TimeDelta::minutes(5));
    demo.step("  the next run does not ask again", json!({}), "ReauthorizationRequired", 0).await?;

    if demo.unexpected == 0 {
        println!("\nEvery step had the expected outcome: no refresh token was exchanged twice, and none was lost.");
        println!(
            "Next: `tests/run` runs all tests; \"Set it up\" in README.md leads to the first token and the deployed function."
        );
        Ok(ExitCode::SUCCESS)
    } else {
        println!("\n{} steps had an unexpected outcome.", demo.unexpected);
        Ok(ExitCode::FAILURE)
    }
}

struct Demonstration {
    /// How far this clock is ahead of the real one, in milliseconds.
    ahead: Arc<AtomicI64>,
    clock: Clock,
    http: reqwest::Client,
    provider: AuthorizationServer,
    store: DirectoryStore,
    unexpected: usize,
    /// Removed when it is dropped, after all other fields.
    _directory: tempfile::TempDir,
}

impl Demonstration {
    async fn start() -> Result<Self> {
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
        Ok(Self { ahead, clock, http, provider, store, unexpected: 0, _directory: directory })
    }

    /// Handles one event, like a new instance of the function.
    async fn handle(&self, store: WatchedStore, event: Value) -> Result<Report, Error> {
        let response = self.handler(store, SECRET_ID)?.handle(&event, self.deadline()).await?;
        Ok(response.into_report().expect("the settings name one secret"))
    }

    fn handler(&self, store: WatchedStore, secret_id: &str) -> Result<Handler<WatchedStore>, InvalidSetting> {
        let settings = Settings::from_vars(|name| (name == "SECRET_ID").then(|| secret_id.to_owned()))?;
        let exchanger = Exchanger::over_http(self.http.clone(), None, self.clock.clone());
        Ok(Handler::new(store, exchanger, self.clock.clone(), settings))
    }

    /// One tick for fifty tokens of five clients: a sweep.
    async fn many_in_one_tick(&mut self) -> Result<()> {
        for n in 0..5 {
            let client = json!({
                "tokenEndpoint": self.provider.url(),
                "clientId": format!("client {n}"),
                "clientSecret": format!("secret of client {n}"),
            });
            self.store.create(&format!("{CLIENTS}{n}"), &Secret::from(client.to_string())).await?;
        }
        for n in 0..50 {
            let token = json!({
                "refreshToken": self.provider.consent(),
                "clientCredentialsSecretId": format!("{CLIENTS}{}", n % 5),
            });
            self.store.create(&format!("{MANY}{n:02}"), &Secret::from(token.to_string())).await?;
        }
        let store = WatchedStore::new(&self.store);
        let handler = self.handler(store.clone(), &format!("{MANY}*"))?;
        for (step, expected, exchanges) in
            [("a sweep: fifty tokens of five clients", "50 refreshed", 50), ("  the next sweep", "50 skipped", 0)]
        {
            let calls = store.calls();
            let before = self.before().await?;
            let outcome = match handler.handle(&json!({}), self.deadline()).await {
                Ok(Response::Sweep(report)) => describe(&report),
                Ok(Response::Run(report)) => name(&Ok(*report)),
                Ok(Response::Event(report)) => format!("{report:?}"),
                Err(error) => name(&Err(error)),
            };
            self.print(step, &outcome, store.calls() - calls, &before, (expected, exchanges)).await?;
        }
        Ok(())
    }

    fn deadline(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::seconds(60)
    }

    /// Runs once, and compares the outcome and the number of exchanges with the expected ones.
    async fn step(&mut self, step: &str, event: Value, expected: &str, exchanges: usize) -> Result<()> {
        let before = self.before().await?;
        let store = WatchedStore::new(&self.store);
        let result = self.handle(store.clone(), event).await;
        let outcome = name(&result);
        self.print(step, &outcome, store.calls(), &before, (expected, exchanges)).await
    }

    /// Eight runs at once: the first one exchanges.
    async fn eight_at_once(&mut self) -> Result<()> {
        let before = self.before().await?;
        let store = WatchedStore::new(&self.store);
        let run = || Box::pin(self.handle(store.clone(), json!({})));
        let results: [_; 8] = tokio::join!(run(), run(), run(), run(), run(), run(), run(), run()).into();
        let mut outcomes = BTreeMap::<String, usize>::new();
        for result in results {
            // A late run finds the new tokens staged or current.
            let name = match &result {
                Ok(Report { outcome: Outcome::Recovered | Outcome::Skipped | Outcome::InProgress, .. }) => "too late",
                _ => &name(&result),
            };
            *outcomes.entry(name.to_owned()).or_default() += 1;
        }
        let outcome = outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ");
        self.print("eight runs at once", &outcome, store.calls(), &before, ("1 refreshed, 7 too late", 1)).await
    }

    /// Starts a run that is killed right after its n-th call to the store.
    async fn killed(&mut self, step: &str, last_call: usize) -> Result<()> {
        let before = self.before().await?;
        let store = WatchedStore::killed_after(&self.store, last_call);
        let outcome = tokio::select! {
            result = self.handle(store.clone(), json!({})) => name(&result),
            () = store.killed() => "killed".to_owned(),
        };
        let exchanges = usize::from(last_call > 3);
        self.print(step, &outcome, store.calls(), &before, ("killed", exchanges)).await
    }

    async fn print(
        &mut self,
        step: &str,
        outcome: &str,
        calls: usize,
        before: &Before,
        expected: (&str, usize),
    ) -> Result<()> {
        let ms = before.started.elapsed().as_millis();
        let exchanges = self.provider.exchanges() - before.exchanges;
        let versions = self.versions().await? - before.versions;
        let is_expected = (outcome, exchanges) == expected;
        self.unexpected += usize::from(!is_expected);
        let note = if is_expected { "" } else { "  <- unexpected" };
        println!("{step:<47} {outcome:<26} {calls:>5} {exchanges:>9} {versions:>8} {ms:>5}{note}");
        Ok(())
    }

    async fn before(&self) -> Result<Before> {
        Ok(Before { started: Instant::now(), exchanges: self.provider.exchanges(), versions: self.versions().await? })
    }

    /// The number of versions of all secrets.
    async fn versions(&self) -> Result<usize> {
        let (mut versions, mut page) = (0, None);
        loop {
            let found = self.store.find("quickstart/", page.as_deref()).await?;
            for secret in found.found {
                versions += self.store.list(&secret.secret_id).await?.len();
            }
            page = found.next;
            if page.is_none() {
                return Ok(versions);
            }
        }
    }

    async fn current(&self) -> Result<Secret> {
        Ok(self.store.get(SECRET_ID, Selector::Label(Label::Current)).await?.body)
    }

    /// Moves the clock until the token is due.
    fn until_due(&self) {
        self.pass(TOKEN_LIFETIME);
    }

    fn pass(&self, time: TimeDelta) {
        self.ahead.fetch_add(time.num_milliseconds(), SeqCst);
    }
}

/// The counts before a step.
struct Before {
    started: Instant,
    exchanges: usize,
    versions: usize,
}

/// The counts that are not zero.
fn describe(report: &SweepReport) -> String {
    let counts = [
        (report.refreshed.unwrap_or_default(), "refreshed"),
        (report.skipped, "skipped"),
        (report.failed, "failed"),
        (report.not_reached, "not reached"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// The outcome, or the error type.
fn name(result: &Result<Report, Error>) -> String {
    match result {
        Ok(report) => json!(report.outcome).as_str().unwrap_or_default().to_owned(),
        Err(error) => error.error_type().as_str().to_owned(),
    }
}
