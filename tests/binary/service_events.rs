//! The events that Secrets Manager itself sends: a label has moved, and the steps of a rotation.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::store::VersionId;

use crate::{
    bench::{Bench, LONG_AGO_MS, Process, outcome_of},
    support::{
        provider::Response,
        secrets_manager::{Effect, Fault, GET, LIST, MOVE, PUT},
    },
};

const JSON: &str = "application/json";
const NAME: &str = "myapp/prod/upwork";
const PREFIX: (&str, &str) = ("SECRET_ID", "myapp/prod/*");
const NAMED: (&str, &str) = ("SECRET_ID", NAME);

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/events/secrets-manager/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).expect("JSON")
}

fn ignored() -> Value {
    json!({"outcome": "ignored"})
}

fn hours_from_now(hours: i64) -> i64 {
    (Utc::now() + TimeDelta::hours(hours)).timestamp_millis()
}

impl Bench {
    /// The event that Secrets Manager sends when a label of a secret has moved.
    fn label_updated(&self, name: &str, label: &str) -> String {
        let mut event = fixture("label-updated");
        event["resources"] = json!([self.sm.arn(name)]);
        event["detail"] = json!({"name": name, "labelUpdated": label, "versionId": self.sm.current(name).0});
        event.to_string()
    }

    /// The event of a step of the rotation that made this version.
    fn step(&self, name: &str, step: &str, pending: &VersionId) -> String {
        let mut event = fixture("create-secret");
        event["Step"] = json!(step);
        event["SecretId"] = json!(self.sm.arn(name));
        event["ClientRequestToken"] = json!(pending);
        event.to_string()
    }

    /// Starts a rotation as Secrets Manager does: it makes a version with AWSPENDING.
    fn start_rotation(&self, name: &str) -> VersionId {
        let pending = VersionId::from("0123456789abcdef0123456789abcdef");
        let labels = ["AWSPENDING".to_owned()];
        self.sm
            .edit(name, |versions, now| versions.put(&pending, &"{}".to_owned().into(), Some(&labels), now))
            .expect("a pending version");
        pending
    }

    /// A token secret whose tokens are an hour old, and not due.
    fn old_token(&self) -> Value {
        self.due_token_but(&json!({"expiresAt": hours_from_now(5), "refreshedAt": hours_from_now(-1)}))
    }

    /// A function for a secret with an old token, and the pending version of a rotation that has begun.
    async fn rotating(&self) -> (Process, VersionId) {
        self.secret(NAME, self.old_token());
        (self.process_with(&[NAMED]).await, self.start_rotation(NAME))
    }

    fn pending(&self, name: &str) -> Option<VersionId> {
        self.sm.labels(name).remove("AWSPENDING")
    }
}

/// Sends an event that must be ignored, and returns the calls of its run.
async fn calls_of_ignored(bench: &Bench, process: &Process, event: &str) -> Vec<String> {
    bench.sm.reset_calls();
    assert_eq!(process.report(event).await, ignored(), "{event}");
    assert_eq!(bench.provider.exchanges(), 0, "{event}");
    bench.sm.actions()
}

#[tokio::test]
async fn tokens_that_a_person_has_put_in_are_refreshed_if_due_and_published_at_once() {
    for setting in [NAMED, PREFIX, ("SECRET_ID", "other/*,myapp/prod/upwork")] {
        for (expires_at, outcome) in [(LONG_AGO_MS, "refreshed"), (hours_from_now(5), "skipped")] {
            let bench = Bench::new().await;
            let token = bench.due_token_but(&json!({"expiresAt": expires_at, "publishTo": "myapp/access/upwork"}));
            bench.secret(NAME, &token);
            bench.sm.create_empty("myapp/access/upwork");
            let process = bench.process_with(&[setting]).await;

            let report = process.report(&bench.label_updated(NAME, "AWSCURRENT")).await;

            assert_eq!((&report["outcome"], &report["secretId"]), (&json!(outcome), &json!(NAME)), "{setting:?}");
            let published = bench.current("myapp/access/upwork");
            assert_eq!(published["accessToken"], bench.current(NAME)["accessToken"], "{setting:?}");
        }
    }
}

#[tokio::test]
async fn the_report_has_the_name_by_which_secret_id_names_the_secret() {
    let bench = Bench::new().await;
    bench.secret(NAME, bench.old_token());
    let arn = bench.sm.arn(NAME);
    for secret_id in [NAME, &arn] {
        let process = bench.process_with(&[("SECRET_ID", secret_id)]).await;
        let report = process.report(&bench.label_updated(NAME, "AWSCURRENT")).await;
        assert_eq!((&report["outcome"], &report["secretId"]), (&json!("skipped"), &json!(secret_id)));
    }
}

#[tokio::test]
async fn the_functions_own_promotion_costs_one_call_and_starts_no_refresh() {
    let bench = Bench::new().await;
    bench.secret(NAME, bench.due_token_but(&json!({"publishTo": "myapp/access/upwork"})));
    bench.sm.create_empty("myapp/access/upwork");
    let process = bench.process_with(&[PREFIX]).await;
    process.report(&json!({"secretId": NAME}).to_string()).await;
    bench.sm.reset_calls();

    let report = process.report(&bench.label_updated(NAME, "AWSCURRENT")).await;

    assert_eq!((outcome_of(&report), bench.sm.actions()), (("skipped", "not_due"), vec![GET.to_owned()]));
    assert_eq!(bench.provider.exchanges(), 1);
}

#[tokio::test]
async fn a_function_for_many_secrets_has_no_metric_for_each_of_them() {
    for (settings, by_secret) in [
        (vec![NAMED], true),
        (vec![PREFIX], false),
        (vec![PREFIX, ("METRICS_BY_SECRET", "true")], true),
        (vec![("SECRET_ID", "myapp/prod/upwork,other")], false),
    ] {
        let bench = Bench::new().await;
        bench.secret(NAME, bench.due_token());
        let log = ("AWS_LAMBDA_LOG_FORMAT", "JSON");
        let process = bench.process_with(&[settings.clone(), vec![log]].concat()).await;
        process.report(&json!({"secretId": NAME, "force": true}).to_string()).await;
        process.report(&bench.label_updated(NAME, "AWSCURRENT")).await;
        let output = process.function.output();
        assert!(output.contains("\"Refreshed\"") && output.contains("\"Skipped\""), "{output}");
        assert_eq!(output.contains("SecretId"), by_secret, "{settings:?}");
    }
}

#[tokio::test]
async fn a_token_of_a_few_seconds_is_not_refreshed_again_and_again() {
    let response = r#"{"access_token": "unseen-access-2", "refresh_token": "unseen-refresh-2", "expires_in": 1}"#;
    let bench = Bench::responding(Response::fixed(200, JSON, response)).await;
    bench.secret(NAME, bench.due_token());
    let process = bench.process_with(&[PREFIX]).await;
    process.report(&json!({"secretId": NAME}).to_string()).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    bench.sm.reset_calls();

    assert_eq!(process.report(&bench.label_updated(NAME, "AWSCURRENT")).await, ignored());

    assert_eq!((bench.provider.exchanges(), bench.sm.actions()), (1, vec![GET.to_owned()]));
    // The schedule refreshes it.
    process.report(&json!({"secretId": NAME}).to_string()).await;
    assert_eq!(bench.provider.exchanges(), 2);
}

#[tokio::test]
async fn other_labels_other_secrets_and_secrets_that_are_not_token_secrets_are_ignored() {
    let bench = Bench::new().await;
    bench.secret(NAME, bench.due_token());
    bench.secret("other/prod/upwork", bench.due_token());
    bench.secret("myapp/prod/password", json!({"username": "crm", "password": "unseen-password-of-crm"}));
    bench.sm.create_binary("myapp/prod/bytes", b"\x00\xff");
    bench.secret("myapp/prod/publication", json!({"accessToken": "unseen-access-of-a-publication", "expiresAt": 5}));
    let process = bench.process_with(&[PREFIX]).await;
    for (name, label, calls) in [
        (NAME, "OAUTH_CLAIM", 0),
        (NAME, "OAUTH_STAGED", 0),
        (NAME, "MY_LABEL", 0),
        ("other/prod/upwork", "AWSCURRENT", 0),
        ("myapp/prod/password", "AWSCURRENT", 1),
        ("myapp/prod/bytes", "AWSCURRENT", 1),
        ("myapp/prod/publication", "AWSCURRENT", 1),
    ] {
        let actions = calls_of_ignored(&bench, &process, &bench.label_updated(name, label)).await;
        assert_eq!(actions, vec![GET.to_owned(); calls], "{name} {label}");
    }
    // It was deleted meanwhile.
    let deleted = bench.label_updated("myapp/prod/password", "AWSCURRENT").replace("password", "deleted");
    calls_of_ignored(&bench, &process, &deleted).await;
}

#[tokio::test]
async fn a_damaged_token_secret_is_an_error_and_so_is_a_named_secret_without_tokens() {
    let bench = Bench::new().await;
    bench.secret(NAME, r#"{"refreshToken": "unseen-refresh-of-a-damaged-secret", "#);
    bench.secret("myapp/prod/password", json!({"username": "crm", "password": "unseen-password-of-crm"}));
    for (setting, name) in
        [(PREFIX, NAME), (NAMED, NAME), (("SECRET_ID", "myapp/prod/password"), "myapp/prod/password")]
    {
        let process = bench.process_with(&[setting]).await;
        let (error_type, message) = process.error(&bench.label_updated(name, "AWSCURRENT")).await;
        assert_eq!(error_type, "InvalidSecret", "{setting:?}");
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
}

#[tokio::test]
async fn a_label_event_without_secret_id_is_an_error() {
    let bench = Bench::new().await;
    bench.secret(NAME, bench.due_token());
    let process = bench.process_with(&[("SECRET_ID", "")]).await;
    let (error_type, _) = process.error(&bench.label_updated(NAME, "AWSCURRENT")).await;
    assert_eq!(error_type, "InvalidConfiguration");
    assert_eq!(process.report(&bench.label_updated(NAME, "OAUTH_CLAIM")).await, ignored());
}

#[tokio::test]
async fn a_rotation_refreshes_once_and_leaves_awspending_on_no_version() {
    for setting in [NAMED, PREFIX, ("SECRET_ID", "")] {
        for steps in [
            ["createSecret", "setSecret", "testSecret", "finishSecret"],
            ["create_secret", "set_secret", "test_secret", "finish_secret"],
        ] {
            let bench = Bench::new().await;
            bench.secret(NAME, bench.old_token());
            let process = bench.process_with(&[setting]).await;
            let pending = bench.start_rotation(NAME);
            let secret_id = bench.sm.arn(NAME);

            let report = process.report(&bench.step(NAME, steps[0], &pending)).await;
            assert_eq!((outcome_of(&report), &report["secretId"]), (("refreshed", "due"), &json!(secret_id)));
            // Each step may come again.
            let report = process.report(&bench.step(NAME, steps[0], &pending)).await;
            assert_eq!(outcome_of(&report), ("skipped", "not_due"));
            bench.sm.reset_calls();
            for step in &steps[1..3] {
                assert_eq!(process.report(&bench.step(NAME, step, &pending)).await, ignored());
            }
            assert!(bench.sm.actions().is_empty());
            for calls in [vec![MOVE], vec![MOVE, LIST]] {
                bench.sm.reset_calls();
                let report = process.report(&bench.step(NAME, steps[3], &pending)).await;
                assert_eq!(
                    (report, bench.sm.actions()),
                    (json!({"outcome": "finished"}), calls.iter().map(|call| (*call).to_owned()).collect())
                );
                assert_eq!(bench.pending(NAME), None);
            }
            assert_eq!(bench.provider.exchanges(), 1);
            bench.assert_alive(NAME);
        }
    }
}

#[tokio::test]
async fn a_rotation_of_a_secret_with_the_same_name_in_another_account_or_region_is_not_for_this_one() {
    let bench = Bench::new().await;
    let (process, pending) = bench.rotating().await;
    for (from, to) in [("123456789012", "999999999999"), ("eu-west-1", "eu-west-2")] {
        for step in ["createSecret", "finishSecret"] {
            let event = bench.step(NAME, step, &pending).replace(from, to);
            assert_eq!(process.error(&event).await.0, "SecretNotFound", "{event}");
        }
    }
    assert_eq!((bench.provider.exchanges(), bench.pending(NAME)), (0, Some(pending)));
}

#[tokio::test]
async fn a_rotation_returns_a_recorded_refusal_as_its_error() {
    let bench = Bench::responding(Response::fixed(400, JSON, r#"{"error": "invalid_grant"}"#)).await;
    let (process, pending) = bench.rotating().await;
    for _ in 0..2 {
        let (error_type, _) = process.error(&bench.step(NAME, "createSecret", &pending)).await;
        assert_eq!(error_type, "ReauthorizationRequired");
    }
    assert_eq!(bench.provider.exchanges(), 1);
    assert_eq!(bench.pending(NAME), Some(pending));
}

#[tokio::test]
async fn a_rotation_waits_for_the_back_off_of_a_provider_that_fails() {
    let bench = Bench::responding(Response::fixed(400, JSON, r#"{"error": "odd"}"#)).await;
    let (process, pending) = bench.rotating().await;
    let step = bench.step(NAME, "createSecret", &pending);
    for _ in 0..2 {
        assert_eq!(process.error(&step).await.0, "ProviderRejected");
    }
    assert_eq!(process.report(&step).await["outcome"], "backing_off");
    assert_eq!(bench.provider.exchanges(), 2);
}

#[tokio::test]
async fn awspending_on_another_version_belongs_to_another_rotation() {
    let bench = Bench::new().await;
    let (process, pending) = bench.rotating().await;
    let earlier = VersionId::from("ffffffffffffffffffffffffffffffff");
    assert_eq!(process.report(&bench.step(NAME, "finishSecret", &earlier)).await, json!({"outcome": "finished"}));
    assert_eq!(bench.pending(NAME), Some(pending));
}

#[tokio::test]
async fn awspending_that_cannot_be_removed_is_an_error() {
    let bench = Bench::new().await;
    let (process, pending) = bench.rotating().await;
    bench.sm.fault(Fault::on(MOVE, Effect::AccessDenied));
    let (error_type, message) = process.error(&bench.step(NAME, "finishSecret", &pending)).await;
    assert_eq!(error_type, "AccessDenied");
    assert!(message.contains("secretsmanager:UpdateSecretVersionStage") && message.contains(NAME), "{message}");

    assert_eq!(process.report(&bench.step(NAME, "finishSecret", &pending)).await, json!({"outcome": "finished"}));
    // A list that lags behind still shows the label. Secrets Manager sends the step again.
    bench.sm.fault(Fault::on(LIST, Effect::StaleRead(1)));
    let (error_type, message) = process.error(&bench.step(NAME, "finishSecret", &pending)).await;
    assert_eq!(error_type, "StoreUnavailable");
    assert!(message.contains("AWSPENDING was not removed"), "{message}");

    let (error_type, _) = process.error(&bench.step(NAME, "finishSecret", &pending).replace("upwork", "gone")).await;
    assert_eq!(error_type, "SecretNotFound");
    assert_eq!(bench.sm.actions().iter().filter(|action| *action == PUT).count(), 0);
}
