//! One invocation for many secrets.

use std::{collections::BTreeMap, time::Duration};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, Process, log_lines},
    support::{
        provider::{CLIENT_SECRET, Provider, Response},
        secrets_manager::{BATCH, Effect, Fault, GET, LIST, MOVE, PUT},
    },
};

const PREFIX: &str = "myapp/prod/";

impl Bench {
    /// A token secret whose access token expires in so many seconds.
    fn token_expiring_in(&self, seconds: i64) -> Value {
        let expires_at = (Utc::now() + TimeDelta::seconds(seconds)).timestamp_millis();
        self.due_token_but(&json!({"expiresAt": expires_at}))
    }

    /// Creates `myapp/prod/0000`, `0001`, …, whose access tokens expire in so many seconds.
    fn tokens(&self, count: usize, seconds: i64) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("{PREFIX}{n:04}")).collect();
        for name in &names {
            self.secret(name, self.token_expiring_in(seconds));
        }
        names
    }

    async fn sweeper(&self) -> Process {
        self.sweeper_with(&[]).await
    }

    async fn sweeper_with(&self, settings: &[(&str, &str)]) -> Process {
        let own = [("SECRET_ID", "myapp/prod/*"), ("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
        self.process_with(&[&own, settings].concat()).await
    }

    /// How often each action was called since the last time.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for action in self.sm.actions() {
            *calls.entry(action).or_default() += 1;
        }
        self.sm.reset_calls();
        calls
    }
}

fn calls<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.into_iter().map(|(action, count)| (action.to_owned(), count)).collect()
}

/// The counts of a report that are not zero.
fn counts(report: &Value) -> BTreeMap<String, u64> {
    let numbers = report.as_object().expect("a report").iter().filter(|(name, _)| *name != "soonestExpiresInSeconds");
    numbers.filter_map(|(name, value)| Some((name.clone(), value.as_u64().filter(|count| *count > 0)?))).collect()
}

fn of<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The metrics in a log: the sum of each name's values.
fn metrics(output: &str) -> BTreeMap<String, i64> {
    let mut metrics = BTreeMap::new();
    for line in output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
            for metric in directive["Metrics"].as_array().into_iter().flatten() {
                let name = metric["Name"].as_str().expect("a name");
                *metrics.entry(name.to_owned()).or_default() += line[name].as_i64().expect("a whole number");
            }
        }
    }
    metrics
}

#[tokio::test]
async fn tokens_far_from_expiry_cost_one_call_for_twenty() {
    for (count, batches) in [(1, 1), (19, 1), (20, 1), (21, 2), (40, 2), (41, 3), (1_000, 50)] {
        let bench = Bench::new().await;
        bench.tokens(count, 7200);
        let process = bench.sweeper().await;
        let report = process.report("{}").await;
        assert_eq!(bench.calls(), calls([(BATCH, batches)]), "{count}");
        let all = count as u64;
        assert_eq!(counts(&report), of([("secrets", all), ("skipped", all)]), "{count}");
        assert_eq!((report["outcome"].as_str(), report["failures"].clone()), (Some("swept"), json!([])));
    }
}

#[tokio::test]
async fn secrets_are_named_by_a_list_a_prefix_or_both_and_each_is_looked_at_once() {
    let bench = Bench::new().await;
    let names = bench.tokens(3, 7200);
    bench.secret("other", bench.token_expiring_in(7200));
    let arn = bench.sm.arn(&names[0]);
    for (setting, secrets, batches) in [
        (format!("{},other", names[0]), 2, 1),
        ("myapp/*".to_owned(), 3, 1),
        ("myapp/*,myapp/prod/*".to_owned(), 3, 1),
        ("other,myapp/prod/*".to_owned(), 4, 2),
        (format!("other,{arn},{}", names[1]), 3, 1),
        (format!("{arn},myapp/prod/*"), 3, 2),
    ] {
        let process = bench.process_with(&[("SECRET_ID", &setting)]).await;
        let report = process.report("{}").await;
        assert_eq!(counts(&report), of([("secrets", secrets), ("skipped", secrets)]), "{setting}");
        assert_eq!(bench.calls(), calls([(BATCH, batches)]), "{setting}");
    }
    let report = bench.process().await.report(r#"{"secretId": "myapp/prod/*"}"#).await;
    assert_eq!(counts(&report), of([("secrets", 3), ("skipped", 3)]));
}

#[tokio::test]
async fn a_name_twice_in_a_list_is_one_secret_and_has_the_report_of_one() {
    let bench = Bench::new().await;
    bench.secret("crm", bench.token_expiring_in(7200));
    let report = bench.process_with(&[("SECRET_ID", "crm,crm")]).await.report("{}").await;
    assert_eq!((report["outcome"].as_str(), report["secretId"].as_str()), (Some("skipped"), Some("crm")));
}

#[tokio::test]
async fn due_tokens_are_refreshed_the_soonest_expiry_first() {
    let bench = Bench::new().await;
    // More than one page, and not in the order of their names.
    let seconds = |n: i64| 1 + (n * 7) % 30;
    for n in 0..30 {
        bench.secret(&format!("{PREFIX}{n:04}"), bench.token_expiring_in(seconds(n)));
    }
    bench.secret("myapp/prod/far", bench.token_expiring_in(7200));
    let soonest_first: Vec<String> = {
        let mut order: Vec<i64> = (0..30).collect();
        order.sort_by_key(|n| seconds(*n));
        order
            .iter()
            .map(|n| bench.current(&format!("{PREFIX}{n:04}"))["refreshToken"].as_str().unwrap().to_owned())
            .collect()
    };
    let process = bench.sweeper_with(&[("WRITES_PER_SECOND", "50")]).await;

    let report = process.report("{}").await;

    assert_eq!(counts(&report), of([("secrets", 31), ("skipped", 1), ("refreshed", 30)]));
    let sent: Vec<String> =
        bench.provider.requests().iter().map(|request| request.field("refresh_token").unwrap().to_owned()).collect();
    // Up to eight at once, so the order is not exact.
    for (place, token) in sent.iter().enumerate() {
        let expected = soonest_first.iter().position(|other| other == token).expect("a token of this test");
        assert!(place.abs_diff(expected) <= 8, "the token at place {expected} was sent at place {place}");
    }
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (30, 0));
    assert_eq!(bench.calls(), calls([(BATCH, 2), (GET, 30), (LIST, 30), (PUT, 60), (MOVE, 30)]));
    for n in 0..30 {
        bench.assert_alive(&format!("{PREFIX}{n:04}"));
    }
    // What this function wrote needs no second look.
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 31), ("skipped", 31)]));
    assert_eq!(bench.calls(), calls([(BATCH, 2)]));
    let soonest = process.report("{}").await["soonestExpiresInSeconds"].as_i64().unwrap();
    assert!((3500..=3600).contains(&soonest), "{soonest}");
}

#[tokio::test]
async fn a_failing_secret_fails_alone_and_has_its_line_in_report_and_log() {
    let bench = Bench::new().await;
    bench.tokens(2, 60);
    bench.secret("myapp/prod/bad", r#"{"refreshToken": 5}"#);
    bench.secret("myapp/prod/broken", r#"{"refreshToken": "cut off"#);
    bench.secret("myapp/prod/dead", bench.due_token_but(&json!({"refreshToken": "never-issued-by-anyone"})));
    let process = bench.sweeper().await;

    let report = process.report("{}").await;

    assert_eq!(counts(&report), of([("secrets", 5), ("refreshed", 2), ("failed", 3)]));
    let mut failures: Vec<(&str, &str)> = report["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| (failure["secretId"].as_str().unwrap(), failure["errorType"].as_str().unwrap()))
        .collect();
    failures.sort_unstable();
    let expected = [
        ("myapp/prod/bad", "InvalidSecret"),
        ("myapp/prod/broken", "InvalidSecret"),
        ("myapp/prod/dead", "ReauthorizationRequired"),
    ];
    assert_eq!(failures, expected);
    assert!(report["failures"].to_string().contains("its member `refreshToken` is a number"), "{report}");

    let output = process.function.output();
    let lines: Vec<Value> = log_lines(&output).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<&str> = lines
        .iter()
        .filter(|line| line.get("errorType").is_some())
        .filter_map(|line| line["secretId"].as_str())
        .collect();
    assert_eq!(failed.len(), 3, "{output}");
    let refreshed = lines.iter().filter(|line| line["outcome"] == "refreshed").count();
    assert_eq!(refreshed, 2, "{output}");
    let swept: Vec<&Value> = lines.iter().filter(|line| line["outcome"] == "swept").collect();
    let [swept] = swept[..] else { panic!("one line for the sweep: {output}") };
    assert_eq!((swept["message"].as_str(), swept["failed"].as_u64()), (Some("sweep ended"), Some(3)));
    assert!(swept.get("failures").is_none() && swept["calls"].as_u64() > Some(0), "{swept}");
    assert_eq!(lines.len(), 6, "one line for each secret that was not merely skipped, and one for the sweep: {output}");
}

/// The secret and the error type of each failure.
fn failures(report: &Value) -> Vec<(String, String)> {
    let failures = report["failures"].as_array().expect("failures").iter();
    let text = |failure: &Value, name: &str| failure[name].as_str().expect("a text").to_owned();
    failures.map(|failure| (text(failure, "secretId"), text(failure, "errorType"))).collect()
}

#[tokio::test]
async fn what_a_batch_cannot_give_is_read_alone_and_has_its_own_error() {
    let bench = Bench::new().await;
    bench.secret("a", bench.token_expiring_in(7200));
    bench.sm.create_empty("empty");
    bench.sm.create_binary("binary", b"hunter2");
    bench.secret("deleted", bench.due_token());
    bench.sm.schedule_deletion("deleted");
    let process = bench.process_with(&[("SECRET_ID", "a,missing,empty,binary,deleted")]).await;

    let report = process.report("{}").await;

    assert_eq!(counts(&report), of([("secrets", 5), ("skipped", 1), ("failed", 4)]));
    let expected = [
        ("missing", "SecretNotFound"),
        ("empty", "SecretNotFound"),
        ("binary", "InvalidSecret"),
        ("deleted", "SecretNotFound"),
    ];
    assert_eq!(failures(&report), expected.map(|(name, error_type)| (name.to_owned(), error_type.to_owned())));
    assert!(report["failures"][3]["message"].as_str().unwrap().contains("restore-secret"), "{report}");
    assert_eq!(bench.calls(), calls([(BATCH, 1), (GET, 4)]));
}

#[tokio::test]
async fn without_the_permission_for_batches_named_secrets_are_read_one_by_one_and_a_prefix_fails() {
    let bench = Bench::new().await;
    bench.tokens(2, 7200);
    bench.sm.fault(Fault::on(BATCH, Effect::AccessDenied).always());
    let setting = format!("{PREFIX}0000,{PREFIX}0001");
    let report = bench.process_with(&[("SECRET_ID", &setting)]).await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 2), ("skipped", 2)]));
    assert_eq!(bench.calls(), calls([(BATCH, 1), (GET, 2)]));

    let (error_type, message) = bench.sweeper().await.error("{}").await;
    assert_eq!(error_type, "AccessDenied");
    assert!(
        message.contains("`myapp/prod/*`")
            && message.contains(r#"{"Action":["secretsmanager:BatchGetSecretValue","secretsmanager:ListSecrets"],"Effect":"Allow","Resource":"*"}"#),
        "{message}"
    );
    let setting = format!("{PREFIX}0000,myapp/prod/*");
    let report = bench.process_with(&[("SECRET_ID", &setting)]).await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 2), ("skipped", 1), ("failed", 1)]), "something could be looked at");
}

#[tokio::test]
async fn the_invocation_fails_only_where_nothing_could_be_looked_at() {
    let bench = Bench::new().await;
    let process = bench.process_with(&[("SECRET_ID", "missing,missing-too")]).await;
    let (error_type, message) = process.error("{}").await;
    assert_eq!((error_type.as_str(), message.contains("`missing`")), ("SecretNotFound", true));
    bench.secret("missing-too", r#"{"refreshToken": null}"#);
    let report = process.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 2), ("failed", 2)]));
}

#[tokio::test]
async fn nothing_under_a_prefix_is_a_warning_with_prefix_and_region() {
    let bench = Bench::new().await;
    let process = bench.sweeper().await;
    let report = process.report("{}").await;
    let warning = "no secret has the prefix `myapp/prod/` in the Region eu-west-1";
    assert_eq!((&report["secrets"], &report["warnings"]), (&json!(0), &json!([warning])));
    assert!(process.function.output().contains(warning), "the log has it, too");
}

#[tokio::test]
async fn under_a_prefix_what_is_not_a_token_secret_is_ignored() {
    let bench = Bench::new().await;
    let token = bench.token_expiring_in(7200);
    for (name, text) in [
        ("db", r#"{"username": "me", "password": "hunter2hunter2"}"#.to_owned()),
        ("published", r#"{"accessToken": "a-published-access-token", "expiresAt": 5}"#.to_owned()),
        ("empty-object", "{}".to_owned()),
        ("password", "correct horse battery staple".to_owned()),
        ("list", r#"["a"]"#.to_owned()),
        ("no-value-yet", r#"{"refreshToken": null, "clientId": "me"}"#.to_owned()),
    ] {
        bench.secret(&format!("{PREFIX}{name}"), text);
    }
    bench.sm.create_empty("myapp/prod/without-a-value");
    bench.sm.create_binary("myapp/prod/bytes", b"hunter2");
    bench.secret("myapp/prod/gone", &token);
    bench.sm.schedule_deletion("myapp/prod/gone");
    for (name, text) in [
        ("grant", r#"{"grantType": "client_credentials", "clientId": "me"}"#),
        ("grant_type", r#"{"grant_type": "password"}"#),
        ("misspelt", r#"{"grant_tpye": "client_credentials", "clientId": "me"}"#),
        ("cut-off", r#"{"refresh_token": "r", "#),
        ("twice", r#"{"refreshToken": "r", "refresh_token": "r"}"#),
        ("two-objects", r#"{"a": {"refresh_token": "r"}, "b": {"refresh_token": "s"}}"#),
    ] {
        bench.secret(&format!("{PREFIX}{name}"), text);
    }
    // Tokens in documents of other programs.
    let text = |name: &str| token[name].as_str().expect("a text");
    bench.secret(
        "myapp/prod/google",
        json!({"token": text("accessToken"), "refresh_token": text("refreshToken"), "expiry": "2099-01-01T00:00:00Z"}),
    );
    bench.secret(
        "myapp/prod/nested",
        json!({"oauth": {"refresh_token": text("refreshToken"), "expires_at": 4_000_000_000_u64}}),
    );

    // A setting for other documents changes nothing about those that have none of its members.
    let names = r#"{"refreshToken": "/confluence/refresh", "accessToken": "/confluence/access"}"#;
    let report = bench.sweeper_with(&[("MEMBER_NAMES", names)]).await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 16), ("skipped", 2), ("ignored", 8), ("failed", 6)]), "{report}");

    let report = bench.sweeper().await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 16), ("skipped", 2), ("ignored", 8), ("failed", 6)]), "{report}");
    let mut failed: Vec<String> = failures(&report).into_iter().map(|(name, _)| name.replace(PREFIX, "")).collect();
    // Two of them fail in runs at the same time.
    failed.sort();
    assert_eq!(failed, ["cut-off", "grant", "grant_type", "misspelt", "twice", "two-objects"]);
}

#[tokio::test]
async fn published_tokens_are_checked_in_batches_and_repaired_by_a_run() {
    let bench = Bench::new().await;
    for n in 0..20 {
        let published = format!("readers/{n:04}");
        bench.sm.create_empty(&published);
        bench.secret(&format!("{PREFIX}{n:04}"), bench.due_token_but(&json!({"publishTo": published})));
    }
    let process = bench.sweeper_with(&[("WRITES_PER_SECOND", "50")]).await;
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 20), ("refreshed", 20)]));
    bench.sm.reset_calls();

    assert_eq!(counts(&process.report("{}").await), of([("secrets", 20), ("skipped", 20)]));
    assert_eq!(bench.calls(), calls([(BATCH, 2)]));

    bench.sm.user_put("readers/0007", "{}");
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 20), ("skipped", 20)]));
    let calls = bench.calls();
    assert_eq!((calls[BATCH], calls[PUT], calls[MOVE]), (2, 1, 1), "{calls:?}");
    assert_eq!(bench.current("readers/0007")["accessToken"], bench.current("myapp/prod/0007")["accessToken"]);
}

#[tokio::test]
async fn the_secret_of_a_shared_client_is_read_once() {
    let bench = Bench::new().await;
    bench.secret(
        "myapp/client",
        json!({"clientId": crate::support::provider::CLIENT_ID, "clientSecret": CLIENT_SECRET}),
    );
    let shared = json!({"clientId": null, "clientSecret": null, "clientCredentialsSecretId": "myapp/client"});
    for n in 0..12 {
        bench.secret(&format!("{PREFIX}{n:04}"), bench.due_token_but(&shared));
    }
    let report = bench.sweeper().await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 12), ("refreshed", 12)]));
    let reads = bench.sm.calls().iter().filter(|call| call.action == GET && call.secret_id == "myapp/client").count();
    assert_eq!(reads, 1);
}

#[tokio::test]
async fn a_429_pauses_its_endpoint_and_no_other() {
    let bench = Bench::new().await;
    bench.tokens(5, 60);
    let busy = Provider::always(Response::fixed(429, "application/json", r#"{"error": "slow_down"}"#));
    for n in 0..30 {
        let token = bench.due_token_but(&json!({"tokenEndpoint": busy.url()}));
        bench.secret(&format!("{PREFIX}busy{n:04}"), token);
    }
    let process = bench.sweeper().await;
    let report = process.report_until("{}", 20_000).await;
    let counts = counts(&report);
    assert_eq!((counts["refreshed"], counts["secrets"]), (5, 35));
    // Those that were on their way when the first one was refused.
    assert!((1..=3).contains(&counts["failed"]), "{counts:?}");
    assert_eq!(counts["failed"] + counts["notReached"], 30);
    assert_eq!(busy.exchanges() as u64, counts["failed"]);
    // The pause outlasts the sweep. A dry run asks nobody, so it does not wait for it.
    let asked = busy.exchanges();
    let dry = process.report_until(r#"{"dryRun": true}"#, 20_000).await;
    assert_eq!((dry["notReached"].as_u64(), dry["tokens"].as_array().map(Vec::len)), (Some(0), Some(35)), "{dry}");
    let report = process.report_until("{}", 20_000).await;
    assert_eq!((busy.exchanges(), report["notReached"].as_u64()), (asked, Some(30)), "{report}");
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("30 tokens were not started") && warning.contains("429"), "{warning}");
    let line = process.function.output().lines().rfind(|line| line.contains("sweep ended")).map(str::to_owned).unwrap();
    assert!(line.contains(r#""level":"WARN""#), "{line}");
}

#[tokio::test]
async fn an_endpoint_that_names_a_short_pause_is_asked_again_in_the_same_sweep() {
    let bench = Bench::with(Provider::script([Response::RetryAfter429(1)])).await;
    bench.tokens(20, 60);
    let report = bench.sweeper().await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 20), ("refreshed", 20)]), "{report}");
}

#[tokio::test]
async fn a_client_that_is_rejected_three_times_in_a_row_is_stopped_for_the_sweep() {
    let bench = Bench::new().await;
    bench.tokens(4, 120);
    for n in 0..20 {
        bench.secret(
            &format!("{PREFIX}wrong{n:04}"),
            bench.due_token_but(&json!({"clientSecret": "a wrong secret, rolled out"})),
        );
    }
    let process = bench.sweeper().await;
    let report = process.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 24), ("refreshed", 4), ("failed", 3), ("notReached", 17)]));
    assert!(failures(&report).iter().all(|(_, error_type)| error_type == "ClientRejected"), "{report}");
    assert_eq!(bench.provider.exchanges(), 4 + 3);
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("17 tokens were not started: http://127.0.0.1:") && warning.contains("ClientRejected"),
        "{warning}"
    );
    // The next sweep begins with three others.
    let report = process.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 24), ("skipped", 4), ("failed", 3), ("notReached", 17)]));
    assert_eq!(bench.provider.exchanges(), 4 + 6);
    assert_eq!(bench.provider.reuses(), 0);
}

#[tokio::test]
async fn what_the_time_does_not_allow_is_not_started_and_is_first_in_the_next_sweep() {
    let bench =
        Bench::with(Provider::always(Response::Delay(Duration::from_secs(1), Box::new(Response::Exchange)))).await;
    for n in 0..40 {
        bench.secret(&format!("{PREFIX}{n:04}"), bench.token_expiring_in(100 + n));
    }
    let process = bench.sweeper().await;

    let first = process.report_until("{}", 8_000).await;

    let first = counts(&first);
    let refreshed = first["refreshed"];
    assert!((8..40).contains(&refreshed), "{first:?}");
    assert_eq!(first, of([("secrets", 40), ("refreshed", refreshed), ("notReached", 40 - refreshed)]));
    let is_refreshed = |n: u64| bench.sm.version_count(&format!("{PREFIX}{n:04}")) > 1;
    assert!((0..40).all(|n| is_refreshed(n) == (n < refreshed)), "those that expire first are refreshed");

    let before = bench.provider.exchanges();
    let next = format!("{PREFIX}{refreshed:04}");
    let next = bench.current(&next)["refreshToken"].as_str().unwrap().to_owned();
    assert_eq!(counts(&process.report_until("{}", 30_000).await)["refreshed"], 40 - refreshed);
    assert_eq!(bench.provider.requests()[before].field("refresh_token"), Some(next.as_str()));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (40, 0));
}

#[tokio::test]
async fn a_scan_that_the_time_did_not_allow_to_end_is_continued_by_the_next_sweep() {
    let bench = Bench::new().await;
    bench.tokens(65, 7200);
    bench.sm.fault(Fault::on(BATCH, Effect::DelayAfter(Duration::from_secs(1))).always());
    let process = bench.sweeper().await;
    // 2.5 s: two pages, and the third one is cut off.
    let report = process.report_until("{}", 3_000).await;
    assert_eq!(counts(&report), of([("secrets", 40), ("skipped", 40)]), "{report}");
    assert!(
        report["warnings"][0].as_str().unwrap().contains("after 40 secrets with the prefix `myapp/prod/`"),
        "{report}"
    );
    let report = process.report_until("{}", 4_000).await;
    assert_eq!(counts(&report), of([("secrets", 25), ("skipped", 25)]), "{report}");
    assert!(report["warnings"][0].as_str().unwrap().contains("continues where the last one ended"), "{report}");
    bench.sm.clear_faults();
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 65), ("skipped", 65)]));
    // A page that the store does not know any more: the scan starts again.
    bench.sm.fault(Fault::on(BATCH, Effect::DelayAfter(Duration::from_secs(1))).times(3));
    process.report_until("{}", 3_000).await;
    bench.sm.fault(Fault::on(BATCH, Effect::InvalidNextToken));
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 65), ("skipped", 65)]));
}

#[tokio::test]
async fn a_secret_that_was_not_started_is_one_secret_under_each_of_its_names() {
    let bench = Bench::new().await;
    let names = bench.tokens(3, 60);
    let setting = format!("{},myapp/prod/*", bench.sm.arn(&names[0]));
    let process = bench.process_with(&[("SECRET_ID", &setting)]).await;
    assert_eq!(counts(&process.report_until("{}", 3_000).await), of([("secrets", 3), ("notReached", 3)]));
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 3), ("refreshed", 3)]));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (3, 0));
}

#[tokio::test]
async fn with_too_little_time_nothing_is_started_and_the_report_says_why() {
    let bench = Bench::new().await;
    bench.tokens(2, 60);
    let process = bench.sweeper().await;
    let report = process.report_until("{}", 3_000).await;
    assert_eq!(counts(&report), of([("secrets", 2), ("notReached", 2)]));
    assert!(report["warnings"][0].as_str().unwrap().contains("raise the function's timeout"), "{report}");
    assert_eq!(bench.provider.exchanges(), 0);
}

#[tokio::test]
async fn throttled_writes_lose_nothing() {
    let bench = Bench::new().await;
    bench.tokens(12, 60);
    // Each try of a call counts, and the SDK tries three times.
    bench.sm.fault(Fault::on(PUT, Effect::Throttle).after(4).times(9));
    bench.sm.fault(Fault::on(MOVE, Effect::Throttle).after(2).times(5));
    let process = bench.sweeper().await;
    let report = process.report("{}").await;
    let refreshed = counts(&report)["refreshed"];
    assert!(refreshed >= 8, "{report}");
    assert_eq!(bench.sm.faults_left(), 0);
    while counts(&process.report("{}").await).contains_key("failed") {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(bench.provider.reuses(), 0);
    for n in 0..12 {
        bench.assert_alive(&format!("{PREFIX}{n:04}"));
    }
}

#[tokio::test]
async fn writes_keep_to_the_rate_of_the_setting() {
    let bench = Bench::new().await;
    bench.tokens(15, 60);
    let process = bench.sweeper_with(&[("WRITES_PER_SECOND", "10")]).await;
    let began = std::time::Instant::now();
    assert_eq!(counts(&process.report("{}").await)["refreshed"], 15);
    // 45 writes: the first ten are in the first second.
    assert!(began.elapsed() >= Duration::from_millis(3_400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn tokens_that_could_not_be_stored_are_stored_by_the_next_sweep() {
    let bench = Bench::new().await;
    bench.tokens(3, 60);
    bench.sm.fault(
        Fault::on(PUT, Effect::InternalError)
            .when(|call| {
                call.secret_id == "myapp/prod/0001"
                    && call.version_stages.as_deref() == Some(&["OAUTH_STAGED".to_owned()])
            })
            .always(),
    );
    let process = bench.sweeper().await;
    let report = process.report_until("{}", 12_000).await;
    assert_eq!(counts(&report), of([("secrets", 3), ("refreshed", 2), ("failed", 1)]), "{report}");
    assert_eq!(failures(&report), [("myapp/prod/0001".to_owned(), "TokenNotStored".to_owned())]);
    bench.sm.clear_faults();
    let report = process.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 3), ("skipped", 2), ("recovered", 1)]), "{report}");
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (3, 0));
    bench.assert_alive("myapp/prod/0001");
}

#[tokio::test]
async fn an_edited_version_is_checked_once_and_an_old_copy_is_recovered() {
    let bench = Bench::new().await;
    bench.tokens(3, 60);
    let process = bench.sweeper().await;
    process.report("{}").await;
    // Far from expiry, and put by a person: the same document, with a remark.
    let mut edited = bench.current("myapp/prod/0000");
    edited["remark"] = json!("edited");
    bench.sm.user_put("myapp/prod/0000", &edited);
    bench.sm.reset_calls();
    assert_eq!(counts(&process.report("{}").await)["skipped"], 3);
    assert_eq!(bench.calls(), calls([(BATCH, 1), (GET, 2)]));
    assert_eq!(counts(&process.report("{}").await)["skipped"], 3);
    assert_eq!(bench.calls(), calls([(BATCH, 1)]));
    // A copy from before a forced refresh.
    let old = bench.current("myapp/prod/0001");
    process.report(r#"{"secretId": "myapp/prod/0001", "force": true}"#).await;
    bench.sm.user_put("myapp/prod/0001", &old);
    let report = process.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 3), ("skipped", 2), ("recovered", 1)]));
    bench.assert_alive("myapp/prod/0001");
}

#[tokio::test]
async fn a_dry_run_shows_the_state_of_all_tokens_and_changes_nothing() {
    let bench = Bench::new().await;
    bench.tokens(3, 7200);
    bench.secret("myapp/prod/due", bench.token_expiring_in(60));
    bench.secret("myapp/prod/late", bench.token_expiring_in(-60));
    bench.secret("myapp/prod/bad", r#"{"refreshToken": 5}"#);
    bench.secret("myapp/prod/other", "{}");
    let process = bench.sweeper().await;

    let report = process.report(r#"{"dryRun": true}"#).await;

    let expected = of([("secrets", 7), ("skipped", 3), ("wouldRefresh", 2), ("failed", 1), ("ignored", 1)]);
    assert_eq!(counts(&report), expected);
    assert_eq!((&report["dryRun"], report.get("refreshed"), report.get("recovered")), (&json!(true), None, None));
    let tokens = report["tokens"].as_array().unwrap();
    let listed: Vec<(&str, &str)> = tokens
        .iter()
        .map(|token| {
            (token["secretId"].as_str().unwrap().trim_start_matches(PREFIX), token["outcome"].as_str().unwrap())
        })
        .collect();
    let expected = [
        ("bad", "failed"),
        ("late", "would_refresh"),
        ("due", "would_refresh"),
        ("0000", "skipped"),
        ("0001", "skipped"),
        ("0002", "skipped"),
    ];
    assert_eq!(listed, expected);
    assert_eq!((&tokens[0]["errorType"], tokens[0].get("expiresAt")), (&json!("InvalidSecret"), None));
    assert!(tokens[1]["expiresInSeconds"].as_i64() < Some(-58) && tokens[1]["expiresAt"].is_string(), "{report}");
    assert_eq!(bench.provider.exchanges(), 0);
    let calls = bench.calls();
    assert!(!calls.contains_key(PUT) && !calls.contains_key(MOVE), "{calls:?}");
    assert!(metrics(&process.function.output()).is_empty(), "a dry run has no metrics");
}

#[tokio::test]
async fn force_is_for_one_secret() {
    let bench = Bench::new().await;
    bench.tokens(1, 7200);
    let process = bench.sweeper().await;
    for (event, many) in [
        (r#"{"force": true}"#, "`myapp/prod/*`"),
        (r#"{"secretId": "a/*", "force": true}"#, "`a/*`"),
        (r#"{"force": true, "ifVersionId": "v1"}"#, "`myapp/prod/*`"),
    ] {
        let (error_type, message) = process.error(event).await;
        let expected = format!(
            "`force` needs one secret, but {many} can be several; name one: {{\"secretId\": \"...\", \"force\": true}}"
        );
        assert_eq!((error_type.as_str(), message), ("InvalidEvent", expected), "{event}");
    }
    let report = process.report(r#"{"secretId": "myapp/prod/0000", "force": true}"#).await;
    assert_eq!((report["outcome"].as_str(), report["reason"].as_str()), (Some("refreshed"), Some("forced")));
    assert_eq!(bench.sm.actions().iter().filter(|action| *action == BATCH).count(), 0);
}

#[tokio::test]
async fn a_bad_list_fails_at_start_with_what_is_allowed() {
    for (setting, problem) in [
        ("*", "SECRET_ID is \"*\"; it contains \"*\" alone"),
        ("a,,b", "SECRET_ID is \"a,,b\"; it contains an empty name"),
        ("a, b", "SECRET_ID is \"a, b\"; it contains white space"),
        ("a/*/b", "SECRET_ID is \"a/*/b\"; it contains a \"*\" that is not at the end of a name"),
    ] {
        let bench = Bench::new().await;
        let (error_type, message) = bench.process_with(&[("SECRET_ID", setting)]).await.init_error().await;
        assert_eq!(error_type, "InvalidConfiguration", "{setting}");
        assert!(message.starts_with(problem) && message.contains("allowed are names, ARNs and prefixes"), "{message}");
    }
}

#[tokio::test]
async fn metrics_are_for_the_sweep_as_a_whole_unless_the_setting_asks_for_each_secret() {
    for by_secret in [false, true] {
        let bench = Bench::new().await;
        bench.tokens(3, 7200);
        bench.secret("myapp/prod/due", bench.token_expiring_in(60));
        let ends = |days: i64| (Utc::now() + TimeDelta::days(days)).to_rfc3339();
        let token = json!({"refreshTokenExpiresAt": ends(30), "clientSecretExpiresAt": ends(10), "expiresAt": ends(1)});
        bench.secret("myapp/prod/ends", bench.due_token_but(&token));
        bench.secret("myapp/prod/dead", bench.due_token_but(&json!({"refreshToken": "never-issued-by-anyone"})));
        let setting = if by_secret { "true" } else { "false" };
        let process = bench.sweeper_with(&[("METRICS_BY_SECRET", setting)]).await;
        process.report("{}").await;

        let output = process.function.output();
        let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let with_metrics = || lines.iter().filter(|line| line.get("_aws").is_some());
        let has_dimension = |line: &Value| line["_aws"].to_string().contains("SecretId");
        assert_eq!(
            with_metrics().filter(|line| has_dimension(line)).count(),
            if by_secret { 6 } else { 0 },
            "{output}"
        );
        let sweep = with_metrics().find(|line| line.get("Secrets").is_some()).expect("the line of the sweep");
        let expected = [("Secrets", 6), ("Skipped", 4), ("Refreshed", 1), ("NotReached", 0), ("ExpiredTokens", 1)];
        for (name, count) in expected {
            assert_eq!(sweep[name], json!(count), "{name} {sweep}");
        }
        let near = |name: &str, days: i64| (sweep[name].as_i64().unwrap() - days * 86_400).abs() < 100;
        assert!(near("SecondsUntilRefreshTokenExpiry", 30) && near("SecondsUntilClientSecretExpiry", 10), "{sweep}");
        let sums = metrics(&output);
        assert_eq!((sums["Failed"], sums["ReauthorizationRequired"]), (1, 1), "{sums:?}");
        assert!(lines.iter().any(|line| line["ErrorType"] == "ReauthorizationRequired"));
    }
}

#[tokio::test]
async fn two_sweeps_at_once_refresh_each_token_once() {
    let bench = Bench::new().await;
    bench.tokens(10, 60);
    let (one, two) = (bench.sweeper().await, bench.sweeper().await);
    let (first, second) = tokio::join!(one.report("{}"), two.report("{}"));
    let refreshed = |report: &Value| counts(report).get("refreshed").copied().unwrap_or_default();
    assert_eq!(refreshed(&first) + refreshed(&second), 10, "{first} {second}");
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (10, 0));
    for n in 0..10 {
        bench.assert_alive(&format!("{PREFIX}{n:04}"));
    }
}

#[tokio::test]
async fn a_process_that_is_killed_within_a_sweep_holds_up_no_other_token() {
    let slow = Response::Delay(Duration::from_millis(500), Box::new(Response::Exchange));
    let bench = Bench::with(Provider::always(slow)).await;
    bench.tokens(12, 60);
    let process = bench.sweeper().await;
    let invoked = process.invoke("{}");
    tokio::select! {
        _ = invoked => panic!("the sweep ended before it was killed"),
        () = bench.provider.until_exchanges(1) => {}
    }
    let next = process.replaced(&bench, &[("SECRET_ID", "myapp/prod/*")]).await;
    let counts = counts(&next.report("{}").await);
    let waiting = counts.get("inProgress").copied().unwrap_or_default();
    assert!(waiting <= 8 && counts["refreshed"] + waiting == 12, "{counts:?}");
    assert_eq!(bench.provider.reuses(), 0);
}

#[tokio::test]
async fn a_shared_client_whose_secret_could_not_be_read_for_a_moment_keeps_its_limits() {
    for wrong in [true, false] {
        let bench = Bench::new().await;
        let busy = Provider::always(Response::fixed(429, "application/json", r#"{"error": "slow_down"}"#));
        let secret = if wrong { "a wrong secret, rolled out" } else { CLIENT_SECRET };
        let client = json!({"clientId": crate::support::provider::CLIENT_ID, "clientSecret": secret});
        bench.secret("clients/one", client);
        let endpoint = if wrong { bench.provider.url() } else { busy.url() };
        let token = json!({"clientId": null, "clientSecret": null, "clientCredentialsSecretId": "clients/one", "tokenEndpoint": endpoint});
        for n in 0..20 {
            bench.secret(&format!("{PREFIX}{n:04}"), bench.due_token_but(&token));
        }
        // The SDK tries three times.
        let fault = Fault::on(GET, Effect::InternalError).when(|call| call.secret_id == "clients/one").times(3);
        bench.sm.fault(fault);
        let process = bench.sweeper().await;
        // While it cannot be read, its tokens fail without being sent.
        let report = process.report_until("{}", 20_000).await;
        assert!(counts(&report)["failed"] >= 1, "{report}");
        let sent = || bench.provider.exchanges() + busy.exchanges();
        assert_eq!(sent(), 0, "{report}");
        // The pause of half a minute is over in the next process.
        let process = process.replaced(&bench, &[("SECRET_ID", "myapp/prod/*")]).await;
        process.report_until("{}", 20_000).await;
        assert!((1..=3).contains(&sent()), "{}", sent());
    }
}

#[tokio::test]
async fn secrets_that_hang_when_they_are_read_alone_do_not_hold_up_the_others() {
    let bench = Bench::new().await;
    bench.tokens(3, 60);
    for n in 0..8 {
        let name = format!("{PREFIX}hangs{n}");
        bench.secret(&name, bench.due_token());
        bench.sm.fault(
            Fault::on(GET, Effect::DelayBefore(Duration::from_mins(1)))
                .when(move |call| call.secret_id == name)
                .always(),
        );
    }
    bench.sm.hide_from_batches("myapp/prod/hangs");
    let report = bench.sweeper().await.report_until("{}", 25_000).await;
    assert_eq!(counts(&report), of([("secrets", 11), ("refreshed", 3), ("failed", 8)]), "{report}");
}

#[tokio::test]
async fn a_prefix_that_the_time_did_not_allow_is_the_first_one_of_the_next_sweep() {
    let bench = Bench::new().await;
    for n in 0..45 {
        bench.secret(&format!("a/{n:02}"), bench.token_expiring_in(7200));
    }
    bench.secret("b/0", bench.token_expiring_in(7200));
    bench.sm.fault(Fault::on(BATCH, Effect::DelayAfter(Duration::from_secs(1))).always());
    let process = bench.process_with(&[("SECRET_ID", "a/*,b/*")]).await;
    assert_eq!(counts(&process.report_until("{}", 3_000).await), of([("secrets", 40), ("skipped", 40)]));
    // The rest of `a/`, and `b/`.
    assert_eq!(counts(&process.report_until("{}", 5_000).await), of([("secrets", 6), ("skipped", 6)]));
    bench.sm.clear_faults();
    assert_eq!(counts(&process.report("{}").await), of([("secrets", 46), ("skipped", 46)]));
}

#[tokio::test]
async fn a_secret_that_fails_counts_once_although_two_targets_name_it() {
    let bench = Bench::new().await;
    bench.secret("a/ok", bench.token_expiring_in(7200));
    bench.sm.create_empty("a/empty");
    bench.sm.create_binary("a/bytes", b"hunter2");
    bench.secret("a/bad", r#"{"refreshToken": 5}"#);
    let report = bench.process_with(&[("SECRET_ID", "a/ok,a/empty,a/bad,a/bytes,a/*")]).await.report("{}").await;
    assert_eq!(counts(&report), of([("secrets", 4), ("skipped", 1), ("failed", 3)]), "{report}");
}

#[tokio::test]
async fn tokens_for_a_secret_that_was_deleted_do_not_take_the_time_of_the_sweep() {
    let bench = Bench::new().await;
    bench.tokens(2, 60);
    let is_staged = |call: &crate::support::secrets_manager::Call| {
        call.secret_id == "myapp/prod/0001" && call.version_stages.as_deref() == Some(&["OAUTH_STAGED".to_owned()])
    };
    bench.sm.fault(Fault::on(PUT, Effect::InternalError).when(is_staged).always());
    let process = bench.sweeper().await;
    assert_eq!(counts(&process.report_until("{}", 10_000).await)["failed"], 1);
    bench.sm.clear_faults();
    bench.sm.schedule_deletion("myapp/prod/0001");
    let began = std::time::Instant::now();
    let report = process.report("{}").await;
    assert_eq!(failures(&report), [("myapp/prod/0001".to_owned(), "TokenNotStored".to_owned())]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
