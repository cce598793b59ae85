//! The example that receives signed webhooks, in its own process, with its signing secrets in moto.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    readers::process::rust,
    secrets::Secrets,
    support::{
        output::assert_no_secret,
        runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    },
};

const BODY: &str = r#"{"type":"charge.succeeded","note":"Grüße"}"#;

struct Webhooks {
    api: RuntimeApi,
    function: Function,
}

impl Webhooks {
    async fn start(secrets: &Secrets, settings: &[(&str, &str)]) -> Self {
        let api = RuntimeApi::start().await;
        let mut environment = vec![
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets.url.as_str()),
        ];
        environment.extend(settings);
        let function = Function::run(rust("webhooks"), &api, &environment);
        Self { api, function }
    }

    /// The status and the text of the response.
    async fn post(&self, event: &Value) -> (u64, String) {
        match self.api.invoke(&event.to_string(), Deadline::InMs(60_000)).await {
            Outcome::Response(response) => {
                let text = response["body"].as_str().expect("a text").to_owned();
                (response["statusCode"].as_u64().expect("a status"), text)
            }
            other => panic!("{other:?}: {}", self.function.output()),
        }
    }
}

/// The signature of a text, in hexadecimal.
fn hmac(key: &str, signed: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key").chain_update(signed);
    hex::encode(mac.finalize().into_bytes())
}

/// The headers of a webhook, signed now.
fn headers(sender: &str, key: &str, body: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs();
    match sender {
        "stripe" => json!({"stripe-signature": format!("t={now},v1={}", hmac(key, &format!("{now}.{body}")))}),
        "slack" => json!({
            "x-slack-request-timestamp": now.to_string(),
            "x-slack-signature": format!("v0={}", hmac(key, &format!("v0:{now}:{body}"))),
        }),
        "github" => json!({"x-hub-signature-256": format!("sha256={}", hmac(key, body))}),
        _ => panic!("no sender {sender}"),
    }
}

/// The event that Function URLs and API Gateway's HTTP APIs send (payload 2.0).
fn event(sender: &str, key: &str, body: &str) -> Value {
    json!({
        "version": "2.0", "rawPath": format!("/{sender}"), "headers": headers(sender, key, body), "body": body,
        "isBase64Encoded": false,
    })
}

fn accepted() -> (u64, String) {
    (200, "accepted".to_owned())
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn webhooks_are_accepted_by_path_from_every_gateway() {
    let secrets = Secrets::connect();
    let keys = ["stripe", "slack", "github"].map(|sender| (sender, format!("unseen-key-of-{sender}")));
    for (sender, key) in &keys {
        secrets.create_text(&format!("webhooks/{sender}"), key).await;
    }
    let names = [
        ("STRIPE_SECRET_ID", "webhooks/stripe"),
        ("SLACK_SECRET_ID", "webhooks/slack"),
        ("GITHUB_SECRET_ID", "webhooks/github"),
    ];
    let webhooks = Webhooks::start(&secrets, &names).await;

    for (sender, key) in &keys {
        assert_eq!(webhooks.post(&event(sender, key, BODY)).await, accepted(), "{sender}");
        let mut encoded = event(sender, key, BODY);
        encoded["body"] = STANDARD.encode(BODY).into();
        encoded["isBase64Encoded"] = true.into();
        assert_eq!(webhooks.post(&encoded).await, accepted(), "{sender}, in base64");
        // API Gateway's REST APIs (payload 1.0): headers in the sender's case, and the stage before the path.
        let headers = headers(sender, key, BODY);
        let headers = headers.as_object().expect("headers").clone().into_iter();
        let headers: Value = headers.map(|(name, value)| (name.to_uppercase(), value)).collect();
        let rest = json!({
            "path": format!("/prod/{sender}"), "httpMethod": "POST", "headers": headers, "body": BODY,
            "isBase64Encoded": false,
        });
        assert_eq!(webhooks.post(&rest).await, accepted(), "{sender}, payload 1.0");

        let foreign = event(sender, "unseen-another-key", BODY);
        assert_eq!(webhooks.post(&foreign).await.0, 401, "{sender}, another's key");
        let mut changed = event(sender, key, BODY);
        changed["body"] = format!("{BODY} ").into();
        assert_eq!(webhooks.post(&changed).await.0, 401, "{sender}, another body");
        let mut unsigned = event(sender, key, BODY);
        unsigned["headers"] = Value::Null;
        assert_eq!(webhooks.post(&unsigned).await.0, 401, "{sender}, unsigned");
        let mut broken = event(sender, key, BODY);
        broken["isBase64Encoded"] = true.into();
        assert_eq!(webhooks.post(&broken).await.0, 400, "{sender}, no base64");
    }
    // The key of another sender is rejected.
    let mut elsewhere = event("stripe", &keys[0].1, BODY);
    elsewhere["rawPath"] = "/github".into();
    assert_eq!(webhooks.post(&elsewhere).await.0, 401);

    let question = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    assert_eq!(webhooks.post(&event("slack", &keys[1].1, question)).await, (200, "3eZbrw1a".to_owned()));
    assert_eq!(webhooks.post(&event("github", &keys[2].1, question)).await, accepted());
    assert_eq!(webhooks.post(&event("slack", "unseen-another-key", question)).await.0, 401);
    assert_no_secret(&webhooks.function.output(), &keys.map(|(_, key)| key));
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_old_signing_secret_is_accepted_while_it_is_replaced() {
    let secrets = Secrets::connect();
    let (before, now, name) = ("unseen-key-before", "unseen-key-now", "webhooks/replaced");
    let first = secrets.create_text(name, before).await;
    secrets.edit_text(name, now).await;
    assert_eq!(secrets.versions(name).await[&first], ["AWSPREVIOUS"]);
    let webhooks = Webhooks::start(&secrets, &[("GITHUB_SECRET_ID", name)]).await;
    for (key, status) in [(now, 200), (before, 200), ("unseen-another-key", 401)] {
        assert_eq!(webhooks.post(&event("github", key, BODY)).await.0, status);
    }
    assert_no_secret(&webhooks.function.output(), &[before.to_owned(), now.to_owned()]);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_webhook_of_an_unknown_sender_gets_404_and_one_without_a_readable_secret_gets_503() {
    let secrets = Secrets::connect();
    let webhooks = Webhooks::start(&secrets, &[("GITHUB_SECRET_ID", "webhooks/missing")]).await;
    assert_eq!(webhooks.post(&event("stripe", "unseen-key", BODY)).await.0, 404, "Stripe is not configured");
    for path in ["/", "/unknown", ""] {
        let mut elsewhere = event("github", "unseen-key", BODY);
        elsewhere["rawPath"] = path.into();
        assert_eq!(webhooks.post(&elsewhere).await.0, 404, "{path}");
    }
    assert_eq!(webhooks.post(&event("github", "unseen-key", BODY)).await.0, 503);
    assert!(webhooks.function.output().contains("`webhooks/missing`"), "{}", webhooks.function.output());
}
