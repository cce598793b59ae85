//! One test's world: a Secrets Manager, a provider and the processes started against them. At its end all that the
//! processes said is searched for secrets.

use std::{
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{clock::Clock, store::VersionId};

use crate::support::{
    output::assert_no_secret,
    provider::{Answer, CLIENT_ID, CLIENT_SECRET, Provider},
    runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    secrets_manager::FakeSecretsManager,
};

/// The secret that `SECRET_ID` names.
pub const SECRET: &str = "crm/oauth";

/// A moment long ago.
pub const LONG_AGO_MS: i64 = 1_700_000_000_000;

/// The members of a secret that hold what nobody may see.
const HIDDEN_MEMBERS: [&str; 6] =
    ["accessToken", "access_token", "refreshToken", "refresh_token", "clientSecret", "client_secret"];

pub fn binary() -> String {
    env::var("TOKEN_REFRESHER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_token-refresher").to_owned())
}

/// Dropped, it fails the test if any process showed a secret: no test can forget it.
pub struct Bench {
    pub sm: FakeSecretsManager,
    pub provider: Provider,
    names: Mutex<Vec<String>>,
    hidden: Mutex<Vec<String>>,
    output: Arc<Mutex<String>>,
}

impl Bench {
    /// With a provider whose refresh tokens are one-time: a second use kills the family.
    pub async fn new() -> Self {
        Self::with(Provider::rotating()).await
    }

    /// With a provider that always answers this.
    pub async fn answering(answer: Answer) -> Self {
        Self::with(Provider::always(answer)).await
    }

    pub async fn with(provider: Provider) -> Self {
        Self::of(FakeSecretsManager::start().await, provider)
    }

    /// In a store whose clock is hours slow. No lease is longer than 15 minutes from its creation by that clock, so
    /// that each has ended when it begins: what comes after a lease, without waiting for it.
    pub async fn without_leases(provider: Provider) -> Self {
        Self::in_a_slow_store(provider, TimeDelta::hours(3)).await
    }

    /// The same, but only so slow that the minute of back-off after a second failure has not passed.
    pub async fn without_leases_but_back_off(provider: Provider) -> Self {
        Self::in_a_slow_store(provider, TimeDelta::seconds(15 * 60 + 1)).await
    }

    async fn in_a_slow_store(provider: Provider, slow: TimeDelta) -> Self {
        let clock = Clock::new(move || Utc::now() - slow, tokio::time::sleep);
        Self::of(FakeSecretsManager::start_with(clock).await, provider)
    }

    fn of(sm: FakeSecretsManager, provider: Provider) -> Self {
        let (names, hidden, output) = (Mutex::default(), Mutex::default(), Arc::default());
        Self { sm, provider, names, hidden, output }
    }

    /// A token secret that is due, with all that an exchange needs.
    pub fn due_token(&self) -> Value {
        let (access, refresh) = self.provider.issue();
        json!({
            "accessToken": access,
            "refreshToken": refresh,
            "expiresAt": LONG_AGO_MS,
            "tokenEndpoint": self.provider.url(),
            "clientId": CLIENT_ID,
            "clientSecret": CLIENT_SECRET,
        })
    }

    /// A due token secret with other values for some members; null takes one out.
    pub fn due_token_but(&self, changes: &Value) -> Value {
        let mut token = self.due_token();
        for (name, value) in changes.as_object().expect("an object") {
            token[name] = value.clone();
        }
        token.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        token
    }

    /// Makes a secret. It is hours old, so that a refresh need not look at the quota first.
    pub fn secret(&self, name: &str, text: impl std::fmt::Display) -> VersionId {
        self.names.lock().unwrap().push(name.to_owned());
        self.sm.create_aged(name, text, Duration::from_hours(1))
    }

    /// Makes the secret [`SECRET`], with a token that is due.
    pub fn due_secret(&self) -> VersionId {
        self.secret(SECRET, self.due_token())
    }

    /// Names something else that nobody may see.
    pub fn hide(&self, text: &str) {
        self.hidden.lock().unwrap().push(text.to_owned());
    }

    /// What stands in AWSCURRENT.
    pub fn current(&self, name: &str) -> Value {
        serde_json::from_str(&self.sm.current(name).1).expect("JSON")
    }

    /// Fails unless the current tokens are the provider's latest, alive.
    pub fn assert_alive(&self, name: &str) {
        let current = self.current(name);
        let text = |camel: &str, snake: &str| current.get(camel).or(current.get(snake)).and_then(Value::as_str);
        let refresh = text("refreshToken", "refresh_token").expect("a refresh token");
        assert!(self.provider.is_alive(refresh), "the refresh token in {name} is dead");
        let access = text("accessToken", "access_token").expect("an access token").to_owned();
        assert!(self.provider.every_token_issued().contains(&access), "the access token in {name} is not one issued");
    }

    /// Starts the function, its settings complete.
    pub async fn process(&self) -> Process {
        self.process_with(&[]).await
    }

    /// Starts the function with these settings besides; an empty one counts as not set.
    pub async fn process_with(&self, settings: &[(&str, &str)]) -> Process {
        self.process_at(&Arc::new(RuntimeApi::start().await), settings)
    }

    /// Starts the function at this Runtime API.
    pub fn process_at(&self, api: &Arc<RuntimeApi>, settings: &[(&str, &str)]) -> Process {
        Process::start(self, Arc::clone(api), settings)
    }

    /// All that is a secret here.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.provider.every_token_issued();
        secrets.push(CLIENT_SECRET.to_owned());
        secrets.extend(self.hidden.lock().unwrap().iter().cloned());
        for name in self.names.lock().unwrap().iter() {
            let texts = self.sm.edit(name, |versions, _| {
                let ids: Vec<_> = versions.list(true).into_iter().map(|listed| listed.id).collect();
                ids.iter().map(|id| versions.get(Some(id), None).expect("a version").body).collect::<Vec<_>>()
            });
            for text in texts {
                let members: Value = serde_json::from_str(text.expose()).unwrap_or_default();
                let values = HIDDEN_MEMBERS.iter().filter_map(|name| members.get(name)?.as_str());
                let extras =
                    ["extraParameters", "extraHeaders"].iter().filter_map(|name| members.get(name)?.as_object());
                let extras = extras.flat_map(|extras| extras.values().filter_map(Value::as_str));
                secrets.extend(values.chain(extras).filter(|text| text.len() >= 12).map(str::to_owned));
            }
        }
        secrets.sort();
        secrets.dedup();
        secrets
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_no_secret(&self.output.lock().unwrap(), &self.secrets());
        }
    }
}

/// A process of the function. All that it says is kept for its bench.
pub struct Process {
    api: Arc<RuntimeApi>,
    pub function: Function,
    output: Arc<Mutex<String>>,
}

impl Process {
    fn start(bench: &Bench, api: Arc<RuntimeApi>, settings: &[(&str, &str)]) -> Self {
        let url = bench.sm.url().to_owned();
        let mut environment = vec![
            ("SECRET_ID", SECRET),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "an AWS secret access key"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url),
        ];
        environment.extend(settings);
        let function = Function::spawn(binary(), &api, &environment);
        Self { api, function, output: Arc::clone(&bench.output) }
    }

    /// A new process in this one's place, as Lambda starts one after a crash.
    pub async fn replaced(self, bench: &Bench, settings: &[(&str, &str)]) -> Self {
        self.function.kill().await;
        Self::start(bench, Arc::clone(&self.api), settings)
    }

    pub async fn invoke(&self, event: &str) -> Outcome {
        self.invoke_until(event, Deadline::InMs(60_000)).await
    }

    pub async fn invoke_until(&self, event: &str, deadline: Deadline) -> Outcome {
        let outcome = self.api.invoke(event, deadline).await;
        let said = match &outcome {
            Outcome::Response(report) => report.to_string(),
            // The header is `lambda_runtime`'s own, the same for every error.
            Outcome::Error { error_type, message, .. } => format!("{error_type}: {message}\n"),
            Outcome::Gone => String::new(),
        };
        self.output.lock().unwrap().push_str(&said);
        outcome
    }

    /// Invokes it; there must be a report.
    pub async fn report(&self, event: &str) -> Value {
        report(self.invoke(event).await)
    }

    /// Invokes it; there must be an error. Its type and its message.
    pub async fn error(&self, event: &str) -> (String, String) {
        error(self.invoke(event).await)
    }

    /// Waits for the process to fail at its start: what it told Lambda.
    pub async fn init_error(&self) -> (String, String) {
        let status = self.function.exited(Duration::from_secs(10)).await.expect("the end of the process");
        assert!(!status.success(), "{status}");
        let error = self.api.init_error().expect("a report to init/error");
        let text = |name: &str| error[name].as_str().expect("a text").to_owned();
        assert!(self.function.output().contains(&text("errorMessage")), "the log says it, too");
        (text("errorType"), text("errorMessage"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.output.lock().unwrap().push_str(&self.function.output());
    }
}

/// The lines of a log but for those that hold metrics and nothing for people.
pub fn told(output: &str) -> Vec<&str> {
    let only_metrics = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line.get("_aws").is_some() && line.get("message").is_none()
    };
    output.lines().filter(|line| !only_metrics(line)).collect()
}

#[track_caller]
pub fn report(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Response(report) => report,
        other => panic!("no report: {other:?}"),
    }
}

#[track_caller]
pub fn error(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Error { error_type, message, .. } => (error_type, message),
        other => panic!("no error: {other:?}"),
    }
}

/// A report's outcome and reason.
pub fn ended(report: &Value) -> (&str, &str) {
    (report["outcome"].as_str().unwrap_or_default(), report["reason"].as_str().unwrap_or_default())
}

/// The names of the files in a folder of fixtures, without their ends.
pub fn fixtures(folder: &str) -> Vec<String> {
    let folder = format!("{}/tests/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let mut names: Vec<_> = paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
