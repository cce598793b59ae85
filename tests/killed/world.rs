//! The world of a path: the peers, the gateway in front of them, the situation before the run, and the processes.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::{
    bench::{Bench, LONG_AGO_MS, Process, SECRET},
    paths::{Before, Path, Trigger},
    store::{self, EDITED, NOTE},
    support::{
        gateway::{Gateway, InjectedFault, Observed, Upstreams, When},
        provider::{CLIENT_ID, CLIENT_SECRET, Provider},
        runtime_api::{Deadline, Outcome, RuntimeApi},
        secrets_manager::MOVE,
    },
};

const CLIENT: &str = "crm/client";
const PUBLISHED: &str = "crm/access";

pub struct World {
    pub bench: Bench,
    pub gateway: Gateway,
    pub path: &'static Path,
    event: String,
    /// How many exchanges the provider received before the run.
    exchanges_before: usize,
}

impl World {
    pub async fn new(path: &'static Path, provider: Provider) -> Self {
        let bench = Bench::with(provider).await;
        let gateway =
            Gateway::start(Upstreams { secrets_manager: bench.sm.url().to_owned(), provider: bench.provider.url() })
                .await;
        let mut world = Self { bench, gateway, path, event: "{}".to_owned(), exchanges_before: 0 };
        world.prepare().await;
        world.exchanges_before = world.bench.provider.exchanges();
        world.event = match path.trigger {
            Trigger::Schedule => "{}".to_owned(),
            Trigger::Force => r#"{"force":true}"#.to_owned(),
            Trigger::Reader => json!({"force": true, "ifVersionId": world.bench.sm.current(SECRET).0}).to_string(),
        };
        world.gateway.reset();
        world
    }

    async fn prepare(&self) {
        let mut token =
            self.bench.due_token_but(&json!({"tokenEndpoint": self.gateway.token_endpoint(), "note": NOTE}));
        match self.path.before {
            Before::NotDue => {
                token["expiresAt"] = (Utc::now() + TimeDelta::hours(1)).timestamp_millis().into();
                // A long lifetime, so that the margin is the default.
                token["refreshedAt"] = LONG_AGO_MS.into();
            }
            Before::DueWithClientSecret => {
                self.bench.secret(CLIENT, json!({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}));
                let members = token.as_object_mut().expect("an object");
                members.retain(|name, _| !["clientId", "clientSecret"].contains(&name.as_str()));
                members.insert("clientCredentialsSecretId".to_owned(), CLIENT.into());
            }
            Before::DueWithPublication => {
                self.bench.secret(PUBLISHED, json!({"accessToken": token["accessToken"]}));
                token["publishTo"] = PUBLISHED.into();
            }
            _ => {}
        }
        self.bench.secret(SECRET, &token);
        match self.path.before {
            Before::DeadClaim => self.run_and_kill_after("PutSecretValue OAUTH_CLAIM", 1).await,
            Before::TwoDeadClaims => {
                self.run_and_kill_after("PutSecretValue OAUTH_CLAIM", 1).await;
                self.age(TimeDelta::hours(1));
                self.run_and_kill_after("PutSecretValue OAUTH_CLAIM", 1).await;
            }
            Before::Staged | Before::StagedAndEdited => self.run_and_kill_after("PutSecretValue OAUTH_STAGED", 1).await,
            Before::EditedDuringRun => {
                token["note"] = EDITED.into();
                let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
                self.bench.sm.before(MOVE, 1, move |versions, now| {
                    versions.put(&id.to_string().into(), &token.to_string().into(), None, now).expect("room");
                });
                return;
            }
            Before::OldCopy => {
                for event in ["{}", r#"{"force":true}"#] {
                    assert_eq!(end(&self.run(event).await), "refreshed");
                }
                self.bench.sm.user_put(SECRET, &token);
            }
            Before::Withdrawn => self.bench.provider.withdraw_consent(),
            Before::RefusalRecorded => {
                self.bench.provider.withdraw_consent();
                assert_eq!(end(&self.run("{}").await), "ReauthorizationRequired");
            }
            Before::NotDue | Before::Due | Before::DueWithClientSecret | Before::DueWithPublication => {}
        }
        if self.path.before == Before::StagedAndEdited {
            token["note"] = EDITED.into();
            self.bench.sm.user_put(SECRET, &token);
        }
        self.age(TimeDelta::hours(1));
    }

    /// Starts a run, and kills it when the peer has processed the `nth` request of this name.
    async fn run_and_kill_after(&self, name: &str, nth: usize) {
        self.gateway.reset();
        self.gateway.inject(When::Named(name.to_owned(), nth), InjectedFault::HoldAfter);
        let process = self.process().await;
        self.run_until_faulted(&process, "{}").await;
        process.function.kill().await;
        self.gateway.reset();
    }

    /// A new process behind the gateway.
    pub async fn process(&self) -> Process {
        process_behind(&self.gateway, &self.bench, self.path.settings()).await
    }

    /// Sends the path's event to a process.
    pub async fn run_in(&self, process: &Process, deadline: Deadline) -> Outcome {
        process.invoke_until(&self.event, deadline).await
    }

    /// Starts a process for one run.
    pub async fn run(&self, event: &str) -> Outcome {
        let process = self.process().await;
        let outcome = process.invoke(event).await;
        process.function.kill().await;
        outcome
    }

    /// The event of a later run: a scheduled one, or the same event again if a reader sent it.
    pub fn next_event(&self) -> &str {
        if self.path.trigger == Trigger::Reader { &self.event } else { "{}" }
    }

    /// The outcome and the requests of the path's run, from its request for an event to the next such request.
    pub async fn record(&self) -> (Outcome, Vec<Observed>) {
        let process = self.process().await;
        let outcome = process.invoke(&self.event).await;
        self.gateway.until_seen("next", 2).await;
        (outcome, self.gateway.seen())
    }

    /// Runs the path until the gateway injects the fault, and kills the process.
    pub async fn run_and_kill(&self) {
        let process = self.process().await;
        self.run_until_faulted(&process, &self.event).await;
        process.function.kill().await;
    }

    /// Sends the event again and again: the last request of a run asks for the next event, and its response can be lost too.
    async fn run_until_faulted(&self, process: &Process, event: &str) {
        let repeated_events = async {
            loop {
                process.invoke(event).await;
            }
        };
        tokio::select! {
            () = self.gateway.until_faulted() => {}
            () = repeated_events => {}
        }
    }

    /// Makes all versions of the secret older.
    pub fn age(&self, by: TimeDelta) {
        store::age(&self.bench, by);
    }

    /// How often the path's run and the later runs have sent the token.
    pub fn sent(&self) -> usize {
        self.bench.provider.exchanges() - self.exchanges_before
    }

    /// Fails unless the store is as it must always be.
    pub fn assert_sound(&self, case: &str) {
        store::assert_sound(&self.bench, case);
        if self.path.before == Before::DueWithPublication {
            let published = self.bench.current(PUBLISHED);
            let issued = self.bench.provider.every_token_issued();
            assert!(
                issued.iter().any(|token| published["accessToken"] == token.as_str()),
                "{case}: an issued access token is published"
            );
            assert!(published.get("refreshToken").is_none(), "{case}: the refresh token is not published");
        }
    }

    /// Fails unless the current token is published, if the path publishes.
    pub fn assert_published(&self, case: &str) {
        if self.path.before == Before::DueWithPublication {
            let (published, current) = (self.bench.current(PUBLISHED), self.bench.current(SECRET));
            assert!(published["accessToken"] == current["accessToken"], "{case}: the current token is published");
        }
    }
}

/// A new process with its own Runtime API. All its requests go through the gateway.
pub async fn process_behind(gateway: &Gateway, bench: &Bench, settings: &[(&str, &str)]) -> Process {
    let api = Arc::new(RuntimeApi::start().await);
    let (runtime_api, secrets_manager) = (gateway.runtime_api(&api.address()), gateway.secrets_manager());
    let through =
        [("AWS_LAMBDA_RUNTIME_API", runtime_api.as_str()), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager)];
    bench.process_at(&api, &[settings, &through].concat())
}

/// The end of a run: its outcome, or the type of its error.
pub fn end(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Response(report) => report["outcome"].as_str().unwrap_or_default().to_owned(),
        Outcome::Error { error_type, .. } => error_type.clone(),
        Outcome::Gone => "gone".to_owned(),
    }
}
