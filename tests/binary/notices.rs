//! What the function puts on the event bus: once for each token, when it happens.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, Process, SECRET},
    support::{
        provider::{Provider, Request, Response},
        secrets_manager::{Effect, Fault, PUT},
    },
};

const JSON: &str = "application/x-amz-json-1.1";

/// An event bus that accepts every event.
fn event_bus() -> Provider {
    Provider::responding(200, JSON, r#"{"FailedEntryCount": 0, "Entries": []}"#)
}

impl Bench {
    async fn process_with_bus(&self, event_bus: &Provider, secret_id: &str) -> Process {
        let url = event_bus.url();
        self.process_with(&[("SECRET_ID", secret_id), ("AWS_ENDPOINT_URL_EVENTBRIDGE", &url)]).await
    }

    fn dead_token(&self, n: usize) -> Value {
        self.due_token_but(&json!({"refreshToken": format!("never-issued-by-anyone-{n}")}))
    }
}

/// The entries of all requests: source, type and detail.
fn events(event_bus: &Provider) -> Vec<(String, Value)> {
    let entries = |request: &Request| -> Vec<Value> {
        assert_eq!(request.header("x-amz-target"), Some("AWSEvents.PutEvents"));
        assert_eq!(request.header("content-type"), Some(JSON));
        let signature = request.header("authorization").expect("a signature");
        assert!(signature.starts_with("AWS4-HMAC-SHA256 ") && signature.contains("/eu-west-1/events/aws4_request"));
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        body["Entries"].as_array().expect("entries").clone()
    };
    let event = |entry: Value| {
        assert_eq!(entry["Source"], "token-refresher");
        let detail = serde_json::from_str(entry["Detail"].as_str().expect("a text")).expect("JSON");
        (entry["DetailType"].as_str().expect("a type").to_owned(), detail)
    };
    event_bus.requests().iter().flat_map(entries).map(event).collect()
}

#[tokio::test]
async fn a_refusal_that_is_recorded_is_one_event_without_any_secret() {
    let (bench, event_bus) = (Bench::new().await, event_bus());
    bench.secret(SECRET, bench.dead_token(1));
    let process = bench.process_with_bus(&event_bus, SECRET).await;
    for _ in 0..3 {
        let (error_type, _) = process.error("{}").await;
        assert_eq!(error_type, "ReauthorizationRequired");
    }
    let events = events(&event_bus);
    let [(detail_type, detail)] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(detail_type, "Reauthorization Required");
    assert_eq!((&detail["secretId"], &detail["errorType"]), (&json!(SECRET), &json!("ReauthorizationRequired")));
    assert!(detail["remedy"].as_str().unwrap().contains("consent again"), "{detail}");
    bench.assert_shows_no_secret(&event_bus.requests()[0].body);
    assert_eq!(event_bus.requests()[0].header("authorization").unwrap().matches("an AWS secret").count(), 0);
}

#[tokio::test]
async fn each_token_of_a_sweep_has_its_event_and_ten_fit_into_a_request() {
    let (bench, event_bus) = (Bench::new().await, event_bus());
    for n in 0..23 {
        bench.secret(&format!("myapp/{n:02}"), bench.dead_token(n));
    }
    let process = bench.process_with_bus(&event_bus, "myapp/*").await;
    let report = process.report("{}").await;
    assert_eq!(report["failed"], 23);
    let mut reported: Vec<String> =
        events(&event_bus).iter().map(|(_, detail)| detail["secretId"].as_str().unwrap().to_owned()).collect();
    reported.sort();
    assert_eq!(reported, (0..23).map(|n| format!("myapp/{n:02}")).collect::<Vec<_>>());
    process.report("{}").await;
    assert_eq!(events(&event_bus).len(), 23, "the refusals are on record");
}

#[tokio::test]
async fn tokens_that_cannot_be_stored_are_reported_once() {
    let (bench, event_bus) = (Bench::new().await, event_bus());
    bench.due_secret();
    bench.sm.fault(Fault::on(PUT, Effect::AccessDenied).after(1).always());
    let process = bench.process_with_bus(&event_bus, SECRET).await;
    for _ in 0..2 {
        let (error_type, _) = error_within(&process, 5_000).await;
        assert_eq!(error_type, "TokenNotStored");
    }
    let types: Vec<String> = events(&event_bus).into_iter().map(|(detail_type, _)| detail_type).collect();
    assert_eq!(types, ["Token Not Stored"]);
}

async fn error_within(process: &Process, milliseconds: u64) -> (String, String) {
    crate::bench::error(process.invoke_until("{}", crate::support::runtime_api::Deadline::InMs(milliseconds)).await)
}

#[tokio::test]
async fn a_grant_that_ends_is_reported_a_week_and_a_day_before() {
    let in_days = |days: i64| (Utc::now() + TimeDelta::days(days) + TimeDelta::hours(1)).timestamp_millis();
    for (ended_in_days, ends_in_days, refreshed_days_ago, is_reported) in [
        (Some(6), 6, 2, true),
        (Some(5), 5, 3, true),
        // Within a day, for the first time.
        (Some(0), 0, 2, true),
        // The first end that is known.
        (None, 6, 0, true),
        (None, 8, 0, false),
        // A refresh token of less than a day gets a new end with each refresh.
        (None, 0, 0, false),
        // Later than in a week.
        (Some(8), 8, 2, false),
        // The refresh before knew it.
        (Some(6), 6, 0, false),
        // Each refresh moves the end.
        (Some(4), 6, 2, false),
    ] {
        let members = json!({"refresh_token_expires_in": ends_in_days * 86_400 + 3_600});
        let bench = Bench::with(Provider::rotating().with_members(members)).await;
        let event_bus = event_bus();
        let times = json!({"refreshTokenExpiresAt": ended_in_days.map(in_days), "refreshedAt": (Utc::now() - TimeDelta::days(refreshed_days_ago)).timestamp_millis()});
        bench.secret(SECRET, bench.due_token_but(&times));
        let process = bench.process_with_bus(&event_bus, SECRET).await;
        assert_eq!(process.report("{}").await["outcome"], "refreshed");
        // The next refresh is not the first one.
        process.report(r#"{"force": true}"#).await;
        let events = events(&event_bus);
        let case = format!("{ended_in_days:?} {ends_in_days} {refreshed_days_ago}: {events:?}");
        assert_eq!(events.len(), usize::from(is_reported), "{case}");
        for (detail_type, detail) in events {
            assert_eq!(detail_type, "Grant Ends Soon", "{case}");
            assert!(detail["grantEndsAt"].as_str().unwrap().ends_with('Z'), "{case}");
        }
    }
}

#[tokio::test]
async fn without_the_permission_one_request_is_made_and_nothing_else_changes() {
    let bench = Bench::new().await;
    let denied = r#"{"__type": "AccessDeniedException", "Message": "not authorized to perform: events:PutEvents"}"#;
    let event_bus = Provider::responding(400, JSON, denied);
    for n in 0..5 {
        bench.secret(&format!("myapp/{n}"), bench.dead_token(n));
    }
    let process = bench.process_with_bus(&event_bus, "myapp/0").await;
    for n in 0..5 {
        let (error_type, _) = process.error(&json!({"secretId": format!("myapp/{n}")}).to_string()).await;
        assert_eq!(error_type, "ReauthorizationRequired");
    }
    assert_eq!(event_bus.exchanges(), 1);
    let output = process.function.output();
    assert_eq!(output.matches("events:PutEvents").count(), 1, "{output}");
    assert!(!output.contains(" WARN "), "{output}");
}

#[tokio::test]
async fn an_event_bus_that_fails_or_hangs_changes_nothing_but_the_log() {
    for (response, problem) in [
        (Response::fixed(500, JSON, "{}"), "EventBridge answered 500"),
        (
            Response::fixed(200, JSON, r#"{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]}"#),
            "InternalFailure",
        ),
        (Response::CloseBeforeProcessing, "EventBridge cannot be reached"),
        (Response::NeverResponds, "no answer in time"),
        (Response::Huge(1 << 20), "longer than"),
    ] {
        let bench = Bench::new().await;
        let event_bus = Provider::always(response);
        bench.secret(SECRET, bench.dead_token(1));
        let process = bench.process_with_bus(&event_bus, SECRET).await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ReauthorizationRequired");
        assert!(message.contains("invalid_grant"), "{message}");
        let output = process.function.output();
        assert!(output.contains(problem) && output.contains("could not be put"), "{output}");
    }
}

#[tokio::test]
async fn an_event_bus_that_hangs_holds_up_no_sweep_and_one_that_recovers_gets_all_events() {
    for (response, events_put) in [
        (Response::NeverResponds, 0),
        (Response::fixed(500, JSON, "{}"), 40),
        (Response::CloseBeforeProcessing, 40),
        (Response::fixed(200, JSON, r#"{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]}"#), 40),
    ] {
        let bench = Bench::new().await;
        let hangs = matches!(response, Response::NeverResponds);
        let event_bus = if hangs { Provider::always(response.clone()) } else { event_bus() };
        if !hangs {
            event_bus.respond_next(response);
        }
        for n in 0..40 {
            bench.secret(&format!("myapp/{n:02}"), bench.dead_token(n));
        }
        let process = bench.process_with_bus(&event_bus, "myapp/*").await;
        let began = std::time::Instant::now();
        assert_eq!(process.report("{}").await["failed"], 40);
        assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
        let lost = process.function.output().matches("could not be put").count();
        assert_eq!(lost, 40 - events_put);
    }
}

#[tokio::test]
async fn a_secrets_manager_at_another_address_alone_means_no_event_bus() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.dead_token(1));
    let process = bench.process().await;
    process.error("{}").await;
    assert!(!process.function.output().contains("EventBridge"));
    let (error_type, message) =
        bench.process_with(&[("AWS_ENDPOINT_URL_EVENTBRIDGE", "events")]).await.init_error().await;
    assert_eq!(error_type, "InvalidConfiguration");
    assert_eq!(message, "AWS_ENDPOINT_URL_EVENTBRIDGE is \"events\"; allowed is an https or http URL");
}
