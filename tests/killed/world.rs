//! A path's world: the peers, the gateway before them, what has come to pass, and processes that run and are killed.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::{
    bench::{Bench, LONG_AGO_MS, Process, SECRET},
    paths::{Asks, Before, Path},
    store::{self, EDITED, NOTE},
    support::{
        gateway::{Gateway, Observed, Strike, Upstreams, When},
        provider::{CLIENT_ID, CLIENT_SECRET, Provider},
        runtime_api::{Deadline, Outcome, RuntimeApi},
        secrets_manager::MOVE,
    },
};

const CLIENT: &str = "crm/client";
const READERS: &str = "crm/access";

pub struct World {
    pub bench: Bench,
    pub gateway: Gateway,
    pub path: &'static Path,
    event: String,
    /// How many requests the provider had before the run.
    sent_before: usize,
}

impl World {
    pub async fn new(path: &'static Path, provider: Provider) -> Self {
        let bench = Bench::with(provider).await;
        let gateway =
            Gateway::start(Upstreams { secrets_manager: bench.sm.url().to_owned(), provider: bench.provider.url() })
                .await;
        let mut world = Self { bench, gateway, path, event: "{}".to_owned(), sent_before: 0 };
        world.come_to_pass().await;
        world.sent_before = world.bench.provider.exchanges();
        world.event = match path.asks {
            Asks::Schedule => "{}".to_owned(),
            Asks::Force => r#"{"force":true}"#.to_owned(),
            Asks::Reader => json!({"force": true, "ifVersionId": world.bench.sm.current(SECRET).0}).to_string(),
        };
        world.gateway.mend();
        world
    }

    async fn come_to_pass(&self) {
        let mut token =
            self.bench.due_token_but(&json!({"tokenEndpoint": self.gateway.token_endpoint(), "note": NOTE}));
        match self.path.before {
            Before::NotDue => {
                token["expiresAt"] = (Utc::now() + TimeDelta::hours(1)).timestamp_millis().into();
                // So that it falls due only a quarter of an hour before that.
                token["refreshedAt"] = LONG_AGO_MS.into();
            }
            Before::DueWithClientApart => {
                self.bench.secret(CLIENT, json!({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}));
                let members = token.as_object_mut().expect("an object");
                members.retain(|name, _| !["clientId", "clientSecret"].contains(&name.as_str()));
                members.insert("clientCredentialsSecretId".to_owned(), CLIENT.into());
            }
            Before::DueWithReaders => {
                self.bench.secret(READERS, json!({"accessToken": token["accessToken"]}));
                token["publishTo"] = READERS.into();
            }
            _ => {}
        }
        self.bench.secret(SECRET, &token);
        match self.path.before {
            Before::DueAndYoung => self.age(-TimeDelta::hours(1)),
            Before::DeadClaim => self.killed_after("PutSecretValue OAUTH_CLAIM", 1).await,
            Before::TwoDeadClaims => {
                self.killed_after("PutSecretValue OAUTH_CLAIM", 1).await;
                self.age(TimeDelta::hours(1));
                self.killed_after("PutSecretValue OAUTH_CLAIM", 2).await;
            }
            Before::Staged | Before::StagedAndEdited => self.killed_after("PutSecretValue OAUTH_STAGED", 1).await,
            Before::EditedMeanwhile => {
                token["note"] = EDITED.into();
                let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
                self.bench.sm.before(MOVE, 1, move |versions, now| {
                    versions.put(&id.to_string().into(), &token.to_string().into(), None, now).expect("room");
                });
                return;
            }
            Before::PastedBack => {
                for event in ["{}", r#"{"force":true}"#] {
                    assert_eq!(end(&self.run(event).await), "refreshed");
                }
                self.bench.sm.human_put(SECRET, &token);
            }
            Before::Withdrawn => self.bench.provider.withdraw_consent(),
            Before::RefusalRecorded => {
                self.bench.provider.withdraw_consent();
                assert_eq!(end(&self.run("{}").await), "ReauthorizationRequired");
            }
            Before::NotDue | Before::Due | Before::DueWithClientApart | Before::DueWithReaders => {}
        }
        if self.path.before == Before::StagedAndEdited {
            token["note"] = EDITED.into();
            self.bench.sm.human_put(SECRET, &token);
        }
        if self.path.before != Before::DueAndYoung {
            self.age(TimeDelta::hours(1));
        }
    }

    /// A run that was killed when the peer had processed the `nth` request of this name.
    async fn killed_after(&self, name: &str, nth: usize) {
        self.gateway.mend();
        self.gateway.strike(When::Named(name.to_owned(), nth), Strike::HoldAfter);
        let process = self.process().await;
        self.run_until_struck(&process, "{}").await;
        process.function.kill().await;
        self.gateway.mend();
    }

    /// A new process, all its requests by way of the gateway.
    pub async fn process(&self) -> Process {
        process_by_way_of(&self.gateway, &self.bench, self.path.settings()).await
    }

    /// Lets a process run as the path has it, and end before its deadline.
    pub async fn run_in(&self, process: &Process, deadline: Deadline) -> Outcome {
        process.invoke_until(&self.event, deadline).await
    }

    /// Runs a process once, and ends it.
    pub async fn run(&self, event: &str) -> Outcome {
        let process = self.process().await;
        let outcome = process.invoke(event).await;
        process.function.kill().await;
        outcome
    }

    /// The event of a run that comes after the path's: the next scheduled one; but a reader asks again.
    pub fn next_event(&self) -> &str {
        if self.path.asks == Asks::Reader { &self.event } else { "{}" }
    }

    /// The requests of the path's run, from its first look for an event to the next one.
    pub async fn record(&self) -> (Outcome, Vec<Observed>) {
        let process = self.process().await;
        let outcome = process.invoke(&self.event).await;
        self.gateway.until_seen("next", 2).await;
        (outcome, self.gateway.seen())
    }

    /// Runs the path until a request meets the strike, and kills the process there.
    pub async fn run_and_kill(&self) {
        let process = self.process().await;
        self.run_until_struck(&process, &self.event).await;
        process.function.kill().await;
    }

    /// A second event waits, so that the answer to the last request, which asks for it, can be lost too.
    async fn run_until_struck(&self, process: &Process, event: &str) {
        let again_and_again = async {
            loop {
                process.invoke(event).await;
            }
        };
        tokio::select! {
            () = self.gateway.until_struck() => {}
            () = again_and_again => {}
        }
    }

    /// Time passes for all that is in the secret.
    pub fn age(&self, by: TimeDelta) {
        store::age(&self.bench, by);
    }

    /// How often the run and those after it have sent the token.
    pub fn sent(&self) -> usize {
        self.bench.provider.exchanges() - self.sent_before
    }

    /// Fails unless the store is as it must be at every moment.
    pub fn assert_sound(&self, case: &str) {
        store::assert_sound(&self.bench, case);
        if self.path.before == Before::DueWithReaders {
            let told = self.bench.current(READERS);
            let issued = self.bench.provider.every_token_issued();
            assert!(
                issued.iter().any(|token| told["accessToken"] == token.as_str()),
                "{case}: readers are told no token"
            );
            assert!(told.get("refreshToken").is_none(), "{case}: readers are told too much");
        }
    }

    /// Fails unless readers, if there are any, are told of the current token.
    pub fn assert_told(&self, case: &str) {
        if self.path.before == Before::DueWithReaders {
            let (told, current) = (self.bench.current(READERS), self.bench.current(SECRET));
            assert!(told["accessToken"] == current["accessToken"], "{case}: readers are told another token");
        }
    }
}

/// A new process, with a Runtime API of its own, all its requests by way of a gateway.
pub async fn process_by_way_of(gateway: &Gateway, bench: &Bench, settings: &[(&str, &str)]) -> Process {
    let api = Arc::new(RuntimeApi::start().await);
    let (runtime_api, secrets_manager) = (gateway.runtime_api(&api.address()), gateway.secrets_manager());
    let through =
        [("AWS_LAMBDA_RUNTIME_API", runtime_api.as_str()), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager)];
    bench.process_at(&api, &[settings, &through].concat())
}

/// What a run ended with: an outcome, or an error's type.
pub fn end(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Response(report) => report["outcome"].as_str().unwrap_or_default().to_owned(),
        Outcome::Error { error_type, .. } => error_type.clone(),
        Outcome::Gone => "gone".to_owned(),
    }
}
