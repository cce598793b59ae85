//! The environment of one test: a Secrets Manager, a provider, and the function's processes that use them. When it is dropped, all
//! output of the processes is searched for secrets.

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
    provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
    runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    secrets_manager::FakeSecretsManager,
};

/// The token secret that `SECRET_ID` names.
pub const SECRET: &str = "crm/oauth";

/// A time long ago.
pub const LONG_AGO_MS: i64 = 1_700_000_000_000;

/// The members of a secret that must not appear in any output.
const HIDDEN_MEMBERS: [&str; 6] =
    ["accessToken", "access_token", "refreshToken", "refresh_token", "clientSecret", "client_secret"];

pub fn binary() -> String {
    env::var("TOKEN_REFRESHER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_token-refresher").to_owned())
}

/// Fails the test when it is dropped, if any process showed a secret. So no test can forget this check.
pub struct Bench {
    pub sm: FakeSecretsManager,
    pub provider: Provider,
    names: Mutex<Vec<String>>,
    hidden: Mutex<Vec<String>>,
    output: Arc<Mutex<String>>,
}

impl Bench {
    /// With a provider whose refresh tokens are single-use: a second use revokes all tokens of the grant.
    pub async fn new() -> Self {
        Self::with(Provider::rotating()).await
    }

    /// With a provider that always sends this response.
    pub async fn responding(response: Response) -> Self {
        Self::with(Provider::always(response)).await
    }

    pub async fn with(provider: Provider) -> Self {
        Self::of(FakeSecretsManager::start().await, provider)
    }

    /// With a store whose clock is hours slow. A lease ends 15 minutes after its creation by that clock at the latest, so each
    /// lease has already ended when it begins. A test need not wait for the end of a lease.
    pub async fn without_leases(provider: Provider) -> Self {
        Self::in_a_slow_store(provider, TimeDelta::hours(3)).await
    }

    async fn in_a_slow_store(provider: Provider, slow: TimeDelta) -> Self {
        let clock = Clock::new(move || Utc::now() - slow, tokio::time::sleep);
        Self::of(FakeSecretsManager::start_with(clock).await, provider)
    }

    fn of(sm: FakeSecretsManager, provider: Provider) -> Self {
        let (names, hidden, output) = (Mutex::default(), Mutex::default(), Arc::default());
        Self { sm, provider, names, hidden, output }
    }

    /// A due token secret, with everything that an exchange needs.
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

    /// A due token secret with some members changed. Null removes a member.
    pub fn due_token_but(&self, changes: &Value) -> Value {
        let mut token = self.due_token();
        for (name, value) in changes.as_object().expect("an object") {
            token[name] = value.clone();
        }
        token.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        token
    }

    /// Creates a secret. It is an hour old, so that a refresh need not check the version quota first.
    pub fn secret(&self, name: &str, text: impl std::fmt::Display) -> VersionId {
        self.names.lock().unwrap().push(name.to_owned());
        self.sm.create_aged(name, text, Duration::from_hours(1))
    }

    /// Creates the secret [`SECRET`], with a due token.
    pub fn due_secret(&self) -> VersionId {
        self.secret(SECRET, self.due_token())
    }

    /// Adds a text that must not appear in any output.
    pub fn hide(&self, text: &str) {
        self.hidden.lock().unwrap().push(text.to_owned());
    }

    /// The document in AWSCURRENT.
    pub fn current(&self, name: &str) -> Value {
        serde_json::from_str(&self.sm.current(name).1).expect("JSON")
    }

    /// Fails unless the current tokens are the newest of the provider, and valid.
    pub fn assert_alive(&self, name: &str) {
        let current = self.current(name);
        let text = |camel: &str, snake: &str| current.get(camel).or(current.get(snake)).and_then(Value::as_str);
        let refresh = text("refreshToken", "refresh_token").expect("a refresh token");
        assert!(self.provider.is_alive(refresh), "the refresh token in {name} is not valid");
        let access = text("accessToken", "access_token").expect("an access token").to_owned();
        assert!(self.provider.every_token_issued().contains(&access), "the access token in {name} was never issued");
    }

    /// Starts the function with complete settings.
    pub async fn process(&self) -> Process {
        self.process_with(&[]).await
    }

    /// Starts the function with additional settings. An empty one counts as not set.
    pub async fn process_with(&self, settings: &[(&str, &str)]) -> Process {
        self.process_at(&Arc::new(RuntimeApi::start().await), settings)
    }

    /// Starts the function with this Runtime API.
    pub fn process_at(&self, api: &Arc<RuntimeApi>, settings: &[(&str, &str)]) -> Process {
        Process::start(self, Arc::clone(api), settings)
    }

    /// Fails if a text contains a secret.
    pub fn assert_shows_no_secret(&self, text: &str) {
        assert_no_secret(text, &self.secrets());
    }

    /// Every text that must not appear in any output.
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
                let keys = ["privateKey", "private_key"].iter().filter_map(|name| members.get(name)?.as_str());
                secrets.extend(keys.flat_map(lines_of_key));
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

/// A process of the function. Its bench collects all its output.
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

    /// Kills the process and starts a new one, as Lambda does after a crash.
    pub async fn replaced(self, bench: &Bench, settings: &[(&str, &str)]) -> Self {
        self.function.kill().await;
        Self::start(bench, Arc::clone(&self.api), settings)
    }

    pub async fn invoke(&self, event: &str) -> Outcome {
        self.invoke_until(event, Deadline::InMs(60_000)).await
    }

    pub async fn invoke_until(&self, event: &str, deadline: Deadline) -> Outcome {
        let outcome = self.api.invoke(event, deadline).await;
        let text = match &outcome {
            Outcome::Response(report) => report.to_string(),
            // The header comes from `lambda_runtime` and is the same for every error.
            Outcome::Error { error_type, message, .. } => format!("{error_type}: {message}\n"),
            Outcome::Gone => String::new(),
        };
        self.output.lock().unwrap().push_str(&text);
        outcome
    }

    /// Invokes the function and returns its report. Fails if it returns an error.
    pub async fn report(&self, event: &str) -> Value {
        report(self.invoke(event).await)
    }

    /// The same for an invocation that lasts so many milliseconds.
    pub async fn report_until(&self, event: &str, milliseconds: u64) -> Value {
        report(self.invoke_until(event, Deadline::InMs(milliseconds)).await)
    }

    /// Invokes the function and returns the type and the message of its error. Fails if it returns a report.
    pub async fn error(&self, event: &str) -> (String, String) {
        error(self.invoke(event).await)
    }

    /// Waits until the process fails at its start. Returns the error that it sent to Lambda.
    pub async fn init_error(&self) -> (String, String) {
        let status = self.function.exited(Duration::from_secs(10)).await.expect("the end of the process");
        assert!(!status.success(), "{status}");
        let error = self.api.init_error().expect("a report to init/error");
        let text = |name: &str| error[name].as_str().expect("a text").to_owned();
        assert!(self.function.output().contains(&text("errorMessage")), "the log has the message, too");
        (text("errorType"), text("errorMessage"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.output.lock().unwrap().push_str(&self.function.output());
    }
}

/// The lines of a private key that must not appear in any output.
pub fn lines_of_key(pem: &str) -> Vec<String> {
    let pem = pem.replace("\\n", "\n");
    pem.lines().filter(|line| line.len() >= 12 && !line.starts_with("-----")).map(str::to_owned).collect()
}

/// The lines of a log, without those that hold only metrics.
pub fn log_lines(output: &str) -> Vec<&str> {
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

/// The outcome and the reason in a report.
pub fn outcome_of(report: &Value) -> (&str, &str) {
    (report["outcome"].as_str().unwrap_or_default(), report["reason"].as_str().unwrap_or_default())
}

/// The names of the files in a folder of fixtures, without their extensions.
pub fn fixtures(folder: &str) -> Vec<String> {
    let folder = format!("{}/tests/fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    let mut names: Vec<_> = paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
