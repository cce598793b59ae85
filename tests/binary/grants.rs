//! Grants without a refresh token, in the binary.

use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, outcome_of},
    support::{
        provider::Response,
        secrets_manager::{GET, LIST, MOVE, PUT},
    },
};

impl Bench {
    /// A document without any token, for the client itself.
    fn client_document(&self) -> Value {
        self.due_token_but(&json!({
            "accessToken": null, "refreshToken": null, "expiresAt": null, "grantType": "client_credentials",
            "extraParameters": {"scope": "orders.read"},
        }))
    }
}

#[tokio::test]
async fn a_document_without_any_token_gets_an_access_token() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.client_document());
    let process = bench.process().await;

    let dry = process.report(r#"{"dryRun": true}"#).await;
    assert_eq!((outcome_of(&dry), bench.provider.exchanges()), (("would_refresh", "due"), 0));
    bench.sm.reset_calls();
    let report = process.report("{}").await;

    assert_eq!((outcome_of(&report), report["expiresInSeconds"].as_i64()), (("refreshed", "due"), Some(3599)));
    assert_eq!(bench.sm.actions(), [GET, LIST, PUT, MOVE]);
    let current = bench.current(SECRET);
    assert!(current["accessToken"].is_string() && current.get("refreshToken").is_none(), "the wrong members");
    assert_eq!(
        (&current["grantType"], &current["extraParameters"]),
        (&json!("client_credentials"), &json!({"scope": "orders.read"}))
    );
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
    assert_eq!(outcome_of(&process.report(r#"{"force": true}"#).await), ("refreshed", "forced"));
}

#[tokio::test]
async fn the_grant_type_is_sent_as_it_is() {
    let response = r#"{"access_token": "unseen-access-of-a-client", "expires_in": 3600}"#;
    for (grant_type, sent) in [
        ("account_credentials", Some("account_credentials")),
        ("urn:example:grant-type:own", Some("urn:example:grant-type:own")),
        ("", None),
    ] {
        let bench = Bench::responding(Response::fixed(200, "application/json", response)).await;
        let mut document = bench.client_document();
        document["grantType"] = json!(grant_type);
        bench.secret(SECRET, document);
        let process = bench.process().await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{grant_type}");
        assert_eq!(bench.provider.requests()[0].field("grant_type"), sent, "{grant_type}");
    }
}

#[tokio::test]
async fn a_sweep_obtains_tokens_of_every_grant() {
    let bench = Bench::new().await;
    bench.secret("myapp/prod/client", bench.client_document());
    bench.secret("myapp/prod/consent", bench.due_token());
    bench.secret("myapp/prod/password", json!({"username": "crm", "password": "unseen-password-of-crm"}));
    let process = bench.process_with(&[("SECRET_ID", "myapp/prod/*")]).await;
    let report = process.report("{}").await;
    assert_eq!(
        (&report["secrets"], &report["refreshed"], &report["ignored"]),
        (&json!(3), &json!(2), &json!(1)),
        "{report}"
    );
    let report = process.report("{}").await;
    assert_eq!((&report["skipped"], &report["refreshed"]), (&json!(2), &json!(0)), "{report}");
}

#[tokio::test]
async fn eight_processes_at_once_leave_one_token_that_was_issued() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.client_document());
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(bench.process().await);
    }
    let reports = futures_util::future::join_all(processes.iter().map(|process| process.report("{}"))).await;
    let outcomes: Vec<&str> = reports.iter().map(|report| outcome_of(report).0).collect();
    assert!(outcomes.contains(&"refreshed"), "{outcomes:?}");
    let current = bench.current(SECRET)["accessToken"].as_str().unwrap().to_owned();
    assert!(bench.provider.every_token_issued().contains(&current), "the token was never issued");
    let process = bench.process().await;
    let last = process.report("{}").await;
    assert_eq!(outcome_of(&last), ("skipped", "not_due"), "{last} after {reports:#?} {:#?}", bench.sm.calls());
}

#[tokio::test]
async fn a_refusal_is_recorded_and_shown_without_the_word_consent() {
    let bench = Bench::responding(Response::fixed(401, "application/json", r#"{"error": "invalid_client"}"#)).await;
    bench.secret(SECRET, bench.client_document());
    let process = bench.process().await;
    for _ in 0..2 {
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ClientRejected");
        assert!(!message.contains("consent"), "{message}");
    }
    assert_eq!(bench.provider.exchanges(), 1);
}
