//! What a run logs: one line, in JSON or in text, with its metrics, and never a token.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, log_lines},
    support::{
        provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
        runtime_api::{Function, RuntimeApi},
        secrets_manager::{Effect, Fault, PUT},
    },
};

/// All output of two successful runs and two failed ones.
async fn output_of(format: &str, level: &str) -> String {
    let provider = Provider::script([Response::Exchange, Response::recorded("upwork-invalid-grant")]);
    let bench = Bench::with(provider).await;
    bench.due_secret();
    let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format), ("AWS_LAMBDA_LOG_LEVEL", level)]).await;
    process.report("{}").await;
    process.report("{}").await;
    process.error(r#"{"forced":true}"#).await;
    process.error(r#"{"force":true}"#).await;
    process.function.output()
}

#[tokio::test]
async fn the_json_log_has_one_line_for_each_run_with_time_level_and_report() {
    let started = Utc::now();
    for level in ["", "INFO", "DEBUG", "TRACE"] {
        let output = output_of("JSON", level).await;
        let lines: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(lines.len(), 4, "{level}: {output}");
        for line in &lines {
            let time =
                DateTime::parse_from_rfc3339(line["timestamp"].as_str().expect("a timestamp")).expect("RFC 3339");
            let age = time.to_utc() - started;
            assert!((-1..60).contains(&age.num_seconds()), "{time}");
        }
        let text = |line: usize, name: &str| lines[line][name].as_str().unwrap_or_default().to_owned();
        for (line, outcome) in [(0, "refreshed"), (1, "skipped")] {
            assert_eq!((text(line, "level").as_str(), text(line, "outcome").as_str()), ("INFO", outcome));
            assert_eq!(text(line, "secretId"), SECRET);
            assert!(lines[line]["expiresInSeconds"].is_i64(), "{}", lines[line]);
        }
        for (line, error_type) in [(2, "InvalidEvent"), (3, "ReauthorizationRequired")] {
            assert_eq!((text(line, "level").as_str(), text(line, "errorType").as_str()), ("ERROR", error_type));
            assert!(!text(line, "message").is_empty());
        }
        assert_eq!(text(3, "secretId"), SECRET);
    }
}

#[tokio::test]
async fn the_text_log_has_one_line_for_each_run_and_one_line_of_metrics() {
    for format in ["", "Text"] {
        let output = output_of(format, "").await;
        let lines = log_lines(&output);
        assert_eq!((lines.len(), output.lines().count()), (4, 8), "{output}");
        for (line, parts) in lines.iter().zip([
            ["INFO", "refreshed", SECRET, "calls=5"],
            ["INFO", "skipped", SECRET, "calls=1"],
            ["ERROR", "InvalidEvent", "did you mean `force`?", "calls=0"],
            ["ERROR", "ReauthorizationRequired", "a person must consent again", "exchangeMilliseconds="],
        ]) {
            let time = line.split(' ').next().unwrap();
            assert!(DateTime::parse_from_rfc3339(time).is_ok(), "{line}");
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
            assert!(!line.contains('\u{1b}'), "no colours: {line}");
        }
    }
}

#[tokio::test]
async fn the_log_level_drops_lower_lines_but_no_metrics() {
    for (level, levels) in [
        ("INFO", ["INFO", "INFO", "ERROR", "ERROR"].as_slice()),
        ("WARN", &["ERROR", "ERROR"]),
        ("warn", &["ERROR", "ERROR"]),
        ("ERROR", &["ERROR", "ERROR"]),
        ("FATAL", &["ERROR", "ERROR"]),
    ] {
        let output = output_of("JSON", level).await;
        let lines: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        let messages = lines.iter().filter(|line| line.get("message").is_some());
        assert_eq!(messages.map(|line| line["level"].as_str().unwrap()).collect::<Vec<_>>(), levels, "{level}");
        let with_metrics: Vec<_> = lines.iter().filter(|line| line.get("_aws").is_some()).collect();
        assert_eq!(with_metrics.len(), 4, "{level}: {output}");
        let passes = |line: &Value| match level.to_uppercase().as_str() {
            "INFO" => true,
            "WARN" => ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap()),
            set => line["level"] == set,
        };
        assert!(with_metrics.iter().all(|line| passes(line)), "{level}: {output}");
    }
}

/// The name, value and dimension sets of each metric in a line.
fn metrics(line: &Value) -> Vec<(String, i64, Vec<String>)> {
    let mut metrics = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().expect("directives") {
        assert_eq!(directive["Namespace"], "TokenRefresher");
        let sets = directive["Dimensions"].as_array().expect("sets of dimensions").iter();
        let sets: Vec<String> = sets
            .map(|set| {
                let names = set.as_array().expect("a set").iter().map(|name| name.as_str().expect("a name"));
                names
                    .map(|name| format!("{name}={}", line[name].as_str().expect("its value")))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        for metric in directive["Metrics"].as_array().expect("metrics") {
            let name = metric["Name"].as_str().expect("a name");
            metrics.push((name.to_owned(), line[name].as_i64().expect("its value"), sets.clone()));
        }
    }
    metrics
}

#[tokio::test]
async fn the_metrics_of_a_run_have_its_outcome_and_the_time_until_expiry() {
    let started = Utc::now().timestamp_millis();
    let bench = Bench::with(Provider::script([Response::Exchange, Response::recorded("upwork-invalid-grant")])).await;
    bench.due_secret();
    let ends_soon = json!({
        "expiresAt": (Utc::now() + TimeDelta::hours(2)).timestamp_millis(),
        "refreshTokenExpiresAt": (Utc::now() + TimeDelta::days(5)).timestamp_millis(),
    });
    bench.secret("crm/ends-soon", bench.due_token_but(&ends_soon));
    let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", "JSON")]).await;
    process.report(r#"{"dryRun":true}"#).await;
    process.report("{}").await;
    process.report("{}").await;
    process.error(r#"{"force":true}"#).await;
    process.error(r#"{"secretId":"crm/none"}"#).await;
    process.report(r#"{"secretId":"crm/ends-soon"}"#).await;

    let output = process.function.output();
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [dry, refreshed, skipped, refused, missing, ends_soon] = &lines[..] else { panic!("{output}") };
    assert!(dry.get("_aws").is_none(), "{dry}");
    let function = "FunctionName=token-refresher".to_owned();
    let by = |more: &str| vec![function.clone(), format!("{function} {more}")];
    let by_secret = by(&format!("SecretId={SECRET}"));
    for (line, calls, expected) in [
        (
            refreshed,
            5,
            vec![
                ("Refreshed", 1, vec![function.clone()]),
                ("ExchangeMilliseconds", 0, vec![function.clone()]),
                ("SecondsUntilExpiry", 3600, by_secret.clone()),
            ],
        ),
        (skipped, 1, vec![("Skipped", 1, vec![function.clone()]), ("SecondsUntilExpiry", 3600, by_secret.clone())]),
        (
            refused,
            6,
            vec![
                ("Failed", 1, by("ErrorType=ReauthorizationRequired")),
                ("ReauthorizationRequired", 1, vec![function.clone()]),
                ("ExchangeMilliseconds", 0, vec![function.clone()]),
                ("SecondsUntilExpiry", 3600, by_secret.clone()),
            ],
        ),
        (missing, 1, vec![("Failed", 1, by("ErrorType=SecretNotFound"))]),
        (
            ends_soon,
            2,
            vec![
                ("Skipped", 1, vec![function.clone()]),
                ("SecondsUntilExpiry", 7200, by("SecretId=crm/ends-soon")),
                ("SecondsUntilRefreshTokenExpiry", 432_000, by("SecretId=crm/ends-soon")),
            ],
        ),
    ] {
        assert_eq!(line["calls"], calls, "{line}");
        assert!((0..10_000).contains(&line["durationMilliseconds"].as_i64().unwrap()), "{line}");
        let age = line["_aws"]["Timestamp"].as_i64().unwrap() - started;
        assert!((0..60_000).contains(&age), "{line}");
        let found = metrics(line);
        assert_eq!(found.len(), expected.len(), "{line}");
        for (name, value, sets) in expected {
            let found = found.iter().find(|found| found.0 == name).unwrap_or_else(|| panic!("{name}: {line}"));
            // Counts are exact. Times differ by the time that the test takes.
            let allowed = match name {
                "ExchangeMilliseconds" => 0..10_000,
                _ if name.starts_with("Seconds") => -60..1,
                _ => 0..1,
            };
            assert!(allowed.contains(&(found.1 - value)), "{name}: {line}");
            assert_eq!(found.2, sets, "{name}");
        }
    }
}

#[tokio::test]
async fn a_retried_write_of_new_tokens_is_logged_as_a_warning() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.fault(Fault::on(PUT, Effect::AccessDenied).after(1));
    let process = bench.process_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN"), ("AWS_LAMBDA_LOG_FORMAT", "JSON")]).await;
    process.report("{}").await;
    let output = process.function.output();
    let lines = log_lines(&output);
    assert_eq!(lines.len(), 1, "{output}");
    let line: Value = serde_json::from_str(lines[0]).expect("a line of JSON");
    assert_eq!((&line["level"], &line["secretId"]), (&json!("WARN"), &json!(SECRET)));
    assert!(
        line["message"].as_str().unwrap().starts_with("the new tokens are not written yet, trying again: "),
        "{line}"
    );
}

#[tokio::test]
async fn the_most_verbose_level_shows_no_secret_from_settings_secrets_or_responses() {
    for format in ["JSON", "Text"] {
        let bench = Bench::with(Provider::script([Response::recorded("auth0-refresh"), Response::Exchange])).await;
        let mut token = bench.due_token_but(&json!({"clientId": null, "clientSecret": null}));
        token["extraHeaders"] = json!({"X-Api-Key": "unseen-api-key-0123456789"});
        bench.secret(SECRET, token);
        let settings = [
            ("AWS_LAMBDA_LOG_FORMAT", format),
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
            ("RUST_LOG", "trace"),
            ("RUST_BACKTRACE", "full"),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
        ];
        bench.hide("an AWS secret access key");
        let process = bench.process_with(&settings).await;
        process.report("{}").await;
        // The provider did not issue the tokens of the recorded response.
        process.error(r#"{"force":true}"#).await;
        let output = process.function.output();
        assert_eq!(log_lines(&output).len(), 2, "{output}");
    }
}

#[tokio::test]
async fn names_in_an_event_cannot_forge_log_lines() {
    for format in ["JSON", "Text"] {
        let bench = Bench::new().await;
        let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format)]).await;
        let name = "crm\n2026-01-01T00:00:00.000Z  INFO run ended\r\u{1b}[31m";
        process.error(&json!({"secretId": name}).to_string()).await;
        process.error(&json!({name: true}).to_string()).await;
        process.error(&json!({"force": true, "ifVersionId": name, "secretId": "a"}).to_string()).await;
        let output = process.function.output();
        assert_eq!(log_lines(&output).len(), 3, "{format}: {output}");
        assert!(!output.contains('\u{1b}') && !output.contains('\r'), "{format}: {output:?}");
    }
}

#[tokio::test]
async fn the_output_of_processes_is_collected_for_the_search_of_all_output() {
    // `tests/check-no-secrets` fails if it does not find this text.
    let api = RuntimeApi::start().await;
    let canary = Function::spawn("/usr/bin/env", &api, &[("CANARY", "unseen-canary")]);
    assert!(canary.exited(Duration::from_secs(10)).await.expect("its end").success());
    assert!(canary.output().contains("CANARY=unseen-canary"));
}
