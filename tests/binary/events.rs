//! What each event does, and what the function returns.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, fixtures, outcome_of},
    support::{
        provider::{Provider, Response},
        runtime_api::Deadline,
        secrets_manager::{Effect, Fault, GET, LIST, MOVE},
    },
};

/// The secret that the fixtures name.
const NAMED: &str = "myapp/prod/upwork";

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test]
async fn every_documented_event_has_its_outcome_for_the_secret_it_names() {
    let expected = BTreeMap::from([
        ("empty-object", (SECRET, "refreshed", "due")),
        ("null", (SECRET, "refreshed", "due")),
        ("eventbridge-rule", (SECRET, "refreshed", "due")),
        ("scheduler-default", (SECRET, "refreshed", "due")),
        ("scheduler-constant-input", (NAMED, "refreshed", "due")),
        ("eventbridge-own-application", (NAMED, "refreshed", "forced")),
        ("force", (NAMED, "refreshed", "forced")),
        ("force-without-secret-id", (SECRET, "refreshed", "forced")),
        ("force-if-version-id", (NAMED, "skipped", "version_not_current")),
        ("dry-run", (NAMED, "would_refresh", "due")),
    ]);
    assert_eq!(fixtures("events"), expected.keys().copied().collect::<Vec<_>>(), "every fixture");

    for (name, (secret, outcome, reason)) in expected {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token());
        bench.secret(NAMED, bench.due_token());
        let process = bench.process().await;

        let report = process.report(&fixture(name)).await;

        assert_eq!((outcome_of(&report), report["secretId"].as_str()), ((outcome, reason), Some(secret)), "{name}");
        let refreshed = outcome == "refreshed";
        assert_eq!(bench.provider.exchanges(), usize::from(refreshed), "{name}");
        assert!(bench.sm.calls().iter().all(|call| call.secret_id == secret), "{name}");
        assert_eq!(bench.sm.version_count(secret), if refreshed { 3 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn an_invalid_event_returns_an_error_that_names_the_problem_and_does_nothing() {
    let expected = BTreeMap::from([
        ("array", "the event is an array, where a JSON object is wanted"),
        ("string", "the event is a string, where a JSON object is wanted"),
        ("unknown-member-forced", "the event's member `forced` is not understood; did you mean `force`?"),
        ("force-not-a-boolean", "the event's `force` is a string, where true or false is wanted"),
        ("force-and-dry-run", "the event has both `force` and `dryRun`; take one out"),
        ("if-version-id-without-force", "`ifVersionId` goes with `\"force\": true` only"),
        ("secret-id-number", "the event's `secretId` is a number, where a string is wanted"),
        (
            "eventbridge-rule-with-force",
            "the event has both `source` (EventBridge's envelope) and `force`; to say more than \"now\", give the \
             schedule a constant Input such as {\"secretId\": \"...\"}",
        ),
        (
            "eventbridge-warmup",
            "the event of `serverless-plugin-warmup` is not a schedule, and its `detail` is empty; put `secretId` or `force` \
             into `detail`",
        ),
        (
            "secrets-manager-other-event",
            "the event of `aws.secretsmanager` has the `detail-type` \"AWS Service Event via CloudTrail\"; allowed is \
             \"Secret Label Updated\"",
        ),
        (
            "secrets-manager-unknown-step",
            "the event's `Step` is \"rotateSecret\"; allowed are createSecret, setSecret, testSecret and finishSecret",
        ),
    ]);
    assert_eq!(fixtures("events/bad"), expected.keys().copied().collect::<Vec<_>>(), "every fixture");

    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process().await;
    for (name, message) in expected {
        let error = process.error(&fixture(&format!("bad/{name}"))).await;
        assert_eq!(error, ("InvalidEvent".to_owned(), message.to_owned()), "{name}");
    }
    assert!(bench.sm.actions().is_empty() && bench.provider.exchanges() == 0);
}

#[tokio::test]
async fn a_token_endpoint_never_comes_from_an_event() {
    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process().await;
    for name in ["tokenEndpoint", "token_endpoint", "clientSecret", "refreshToken", "TOKEN_ENDPOINT"] {
        let event = json!({"secretId": SECRET, "force": true, name: "https://evil.example/token"});
        let (error_type, message) = process.error(&event.to_string()).await;
        assert_eq!(error_type, "InvalidEvent", "{name}");
        assert!(message.contains(&format!("`{name}` is not understood")) && !message.contains("evil"), "{message}");
    }
    assert!(bench.sm.actions().is_empty());
}

#[tokio::test]
async fn the_secret_comes_from_the_event_or_else_from_secret_id() {
    let by_name = |name: &str| json!({"secretId": name}).to_string();
    for (setting, event, expected) in [
        (SECRET, "{}".to_owned(), Some(SECRET)),
        (SECRET, by_name(NAMED), Some(NAMED)),
        ("", by_name(NAMED), Some(NAMED)),
        ("", "{}".to_owned(), None),
        ("  ", "null".to_owned(), None),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token());
        bench.secret(NAMED, bench.due_token());
        let process = bench.process_with(&[("SECRET_ID", setting)]).await;
        if let Some(expected) = expected {
            let report = process.report(&event).await;
            assert_eq!(report["secretId"], expected, "{setting:?} {event}");
        } else {
            let expected = "no secret is named: set SECRET_ID to its name or ARN, or give the event a `secretId`";
            let error = process.error(&event).await;
            assert_eq!(error, ("InvalidConfiguration".to_owned(), expected.to_owned()), "{setting:?} {event}");
            assert!(bench.sm.actions().is_empty());
        }
    }
}

#[tokio::test]
async fn a_secret_may_be_named_by_its_arn() {
    let bench = Bench::new().await;
    bench.due_secret();
    let arn = bench.sm.arn(SECRET);
    let process = bench.process().await;

    let report = process.report(&json!({"secretId": arn}).to_string()).await;

    assert_eq!((outcome_of(&report), report["secretId"].as_str()), (("refreshed", "due"), Some(arn.as_str())));
    bench.assert_alive(SECRET);
    // Both names are of the same token.
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
}

#[tokio::test]
async fn force_refreshes_a_token_that_is_far_from_expiry_each_time() {
    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
    for _ in 0..2 {
        assert_eq!(outcome_of(&process.report(r#"{"force":true}"#).await), ("refreshed", "forced"));
    }
    assert_eq!((bench.provider.granted(), bench.provider.reuses()), (3, 0));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn only_the_first_of_several_readers_with_the_same_stale_version_causes_a_refresh() {
    let bench = Bench::new().await;
    let stale = bench.due_secret();
    let process = bench.process().await;
    let event = json!({"force": true, "ifVersionId": stale.as_str()}).to_string();

    let first = process.report(&event).await;
    assert_eq!(outcome_of(&first), ("refreshed", "forced"));
    for _ in 0..3 {
        let next = process.report(&event).await;
        assert_eq!(outcome_of(&next), ("skipped", "version_not_current"));
        assert_eq!(next["versionId"], first["versionId"], "the report names the version to read");
    }
    assert_eq!(bench.provider.exchanges(), 1);
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_exchanges_nothing() {
    for (expires_in_ms, expected, calls) in
        [(-1, ("would_refresh", "due"), [GET, LIST]), (3_600_000, ("skipped", "not_due"), [GET, GET])]
    {
        let bench = Bench::new().await;
        let expires_at = Utc::now().timestamp_millis() + expires_in_ms;
        bench.secret(SECRET, bench.due_token_but(&json!({"expiresAt": expires_at})));
        let process = bench.process().await;
        assert_eq!(outcome_of(&process.report(r#"{"dryRun":true}"#).await), expected);
        assert_eq!(bench.sm.actions(), calls);
        assert_eq!(bench.provider.exchanges(), 0);
    }
}

#[tokio::test]
async fn a_dry_run_returns_the_error_that_a_real_run_would_return() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.due_token_but(&json!({"clientSecret": null})));
    let process = bench.process().await;
    let (error_type, message) = process.error(r#"{"dryRun":true}"#).await;
    assert_eq!(error_type, "InvalidSecret");
    assert!(message.contains("`clientSecret`") && message.contains("CLIENT_SECRET"), "{message}");
}

/// The names of a report's members. Fails if one has the wrong type.
#[track_caller]
fn members(report: &Value) -> Vec<&str> {
    let members = report.as_object().expect("an object");
    for (name, value) in members {
        match name.as_str() {
            "expiresAt" | "retryAt" => {
                let text = value.as_str().expect("a text");
                assert!(text.ends_with('Z') && DateTime::parse_from_rfc3339(text).is_ok(), "{name}: {text}");
            }
            "expiresInSeconds" => assert!(value.is_i64(), "{name}: {value}"),
            _ => assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{name}: {value}"),
        }
    }
    members.keys().map(String::as_str).collect()
}

const ALWAYS: [&str; 6] = ["expiresAt", "expiresInSeconds", "outcome", "reason", "secretId", "versionId"];
const PROMOTED: [&str; 7] =
    ["expiresAt", "expiresInSeconds", "outcome", "previousVersionId", "reason", "secretId", "versionId"];
const WAITING: [&str; 7] = ["expiresAt", "expiresInSeconds", "outcome", "reason", "retryAt", "secretId", "versionId"];

#[tokio::test]
async fn a_refresh_reports_the_versions_and_the_new_expiry() {
    let bench = Bench::new().await;
    let before = bench.due_secret();
    let process = bench.process().await;

    let started = Utc::now();
    let refreshed = process.report("{}").await;
    assert_eq!((outcome_of(&refreshed), members(&refreshed)), (("refreshed", "due"), PROMOTED.to_vec()));
    assert_eq!(refreshed["previousVersionId"], before.as_str());
    assert_eq!(refreshed["versionId"], bench.sm.current(SECRET).0.as_str());
    let expires_at: DateTime<Utc> = refreshed["expiresAt"].as_str().unwrap().parse().unwrap();
    let off = (expires_at - started - TimeDelta::hours(1)).num_seconds().abs();
    assert!(off <= 10, "expires_in counts from the request: {expires_at}");
    assert!((3590..=3600).contains(&refreshed["expiresInSeconds"].as_i64().unwrap()), "{refreshed}");

    let skipped = process.report("{}").await;
    assert_eq!((outcome_of(&skipped), members(&skipped)), (("skipped", "not_due"), ALWAYS.to_vec()));
    assert_eq!(skipped["versionId"], refreshed["versionId"]);
    assert_eq!(skipped["expiresAt"], refreshed["expiresAt"]);
}

#[tokio::test]
async fn a_token_without_an_expiry_is_due_and_its_report_names_none() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.due_token_but(&json!({"expiresAt": null})));
    let process = bench.process().await;
    let report = process.report(r#"{"dryRun":true}"#).await;
    assert_eq!((outcome_of(&report), members(&report)), (("would_refresh", "due"), ALWAYS[2..].to_vec()));
}

#[tokio::test]
async fn a_recovery_reports_the_version_that_it_promoted() {
    let bench = Bench::new().await;
    let before = bench.due_secret();
    bench.sm.fault(Fault::on(MOVE, Effect::AccessDenied));
    let process = bench.process().await;
    assert_eq!(process.error("{}").await.0, "AccessDenied");
    let process = process.replaced(&bench, &[]).await;

    let recovered = process.report("{}").await;

    assert_eq!((outcome_of(&recovered), members(&recovered)), (("recovered", "due"), PROMOTED.to_vec()));
    assert_eq!(recovered["previousVersionId"], before.as_str());
    assert_eq!(recovered["versionId"], bench.sm.current(SECRET).0.as_str());
    assert_eq!(bench.provider.exchanges(), 1);
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn a_run_that_finds_a_claim_reports_when_to_retry() {
    let bench = Bench::responding(Response::NeverResponds).await;
    bench.due_secret();
    let (first, second) = (bench.process().await, bench.process().await);
    let started = Utc::now();
    let second_run = async {
        bench.provider.until_exchanges(1).await;
        second.report("{}").await
    };
    let (first, report) = tokio::join!(first.invoke_until("{}", Deadline::InMs(2_600)), second_run);

    assert!(matches!(first, crate::support::runtime_api::Outcome::Error { .. }), "{first:?}");
    assert_eq!((outcome_of(&report), members(&report)), (("in_progress", "due"), WAITING.to_vec()));
    // Three seconds after the holder's deadline, in whole seconds.
    let retry_at: DateTime<Utc> = report["retryAt"].as_str().unwrap().parse().unwrap();
    let lease = retry_at - started;
    assert!(lease > TimeDelta::milliseconds(4_500) && lease < TimeDelta::seconds(10), "{lease}");
}

#[tokio::test]
async fn the_report_after_failures_has_the_time_of_the_next_attempt_and_force_does_not_wait() {
    let provider = Provider::script(vec![Response::fixed(503, "text/html", ""); 3]);
    let bench = Bench::with(provider).await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(process.error("{}").await.0, "ProviderUnavailable", "the first attempt");
    assert_eq!(process.error("{}").await.0, "ProviderUnavailable", "the second, at once: the first was answered");

    let report = process.report("{}").await;
    assert_eq!((outcome_of(&report), members(&report)), (("backing_off", "due"), WAITING.to_vec()));
    let retry_at: DateTime<Utc> = report["retryAt"].as_str().unwrap().parse().unwrap();
    let wait = retry_at - Utc::now();
    assert!(wait > TimeDelta::zero() && wait < TimeDelta::minutes(1), "{wait}");
    assert_eq!(bench.provider.exchanges(), 2);

    assert_eq!(process.error(r#"{"force":true}"#).await.0, "ProviderUnavailable", "the third");
    assert_eq!(bench.provider.exchanges(), 3);
}

#[tokio::test]
async fn tokens_that_a_person_writes_during_a_run_stay_current() {
    let bench = Bench::new().await;
    bench.due_secret();
    let written = bench.due_token_but(&json!({"expiresAt": Utc::now().timestamp_millis() + 3_600_000}));
    let text = written.to_string();
    bench.sm.before(MOVE, 1, move |versions, now| {
        versions.put(&"0".repeat(36).into(), &text.into(), None, now).expect("a person's put");
    });
    let process = bench.process().await;

    let report = process.report("{}").await;

    assert_eq!((outcome_of(&report), members(&report)), (("superseded", "due"), ALWAYS.to_vec()));
    assert_eq!(report["versionId"], "0".repeat(36));
    assert_eq!(bench.current(SECRET), written);
    // The tokens of the run stay staged, so that no issued token is lost.
    let staged = bench.sm.labels(SECRET)["OAUTH_STAGED"].clone();
    let staged: Value = serde_json::from_str(&bench.sm.version(SECRET, &staged).unwrap()).unwrap();
    assert!(bench.provider.is_alive(staged["refreshToken"].as_str().unwrap()));
}
