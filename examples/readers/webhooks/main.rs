//! A Lambda function in Rust that receives signed webhooks of Stripe, Slack and GitHub, at the paths `/stripe`, `/slack`
//! and `/github`.
//!
//! Runtime provided.al2023, built with `cargo lambda build --release --arm64`, behind a Function URL (auth type NONE:
//! the signature authenticates the sender) or an API Gateway route. The role needs:
//!
//! ```json
//! {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": ["<each secret's ARN>"]}
//! ```
//!
//! Features of this crate: `secrets-manager`.
//!
//! Environment variables: `STRIPE_SECRET_ID`, `SLACK_SECRET_ID`, `GITHUB_SECRET_ID`, one for each sender that you use.
//! Each secret holds the sender's signing secret, as text.
//!
//! To replace a signing secret: put the new one into the secret, wait a minute, then change it at the sender. The old one
//! is accepted until you remove the label AWSPREVIOUS from it: `aws secretsmanager update-secret-version-stage
//! --secret-id … --version-stage AWSPREVIOUS --remove-from-version-id …`

mod signature;

use std::{
    collections::HashMap,
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};
use signature::{Refusal, Sender};
use token_refresher::reader::{ReadError, SecretReader, SecretText, Source};

/// How long a signing secret is cached.
const TTL: Duration = Duration::from_mins(1);

/// An HTTP request from a Function URL or from API Gateway, in either version of the payload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(alias = "path", default)]
    raw_path: String,
    headers: Option<HashMap<String, String>>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().flatten();
        headers.find(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The bytes that the sender has sent and signed. `None` if the base64 is invalid.
    fn body(&self) -> Option<Vec<u8>> {
        let body = self.body.as_deref().unwrap_or_default();
        if self.is_base64_encoded { STANDARD.decode(body).ok() } else { Some(body.as_bytes().to_vec()) }
    }
}

/// A sender's signing secret, and the previous one.
struct Keys {
    current: SecretReader<SecretText>,
    previous: SecretReader<SecretText>,
}

impl Keys {
    fn new(source: &Source, secret_id: &str) -> Self {
        let builder = SecretReader::builder(source.clone(), secret_id).ttl(TTL);
        Self { current: builder.clone().text(), previous: builder.previous().text() }
    }

    /// Whether the sender signed the body with one of the two keys.
    async fn verify(&self, sender: Sender, request: &Request, body: &[u8]) -> Result<Result<(), Refusal>, ReadError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let verify = |key: &SecretText| sender.verify(|name| request.header(name), body, &[key.as_bytes()], now);
        match verify(self.current.get().await?.expose()) {
            Err(Refusal::Signature) => match self.previous.get().await {
                Ok(previous) => Ok(verify(previous.expose())),
                Err(ReadError::SecretNotFound { .. }) => Ok(Err(Refusal::Signature)),
                Err(error) => Err(error),
            },
            verified => Ok(verified),
        }
    }
}

/// Handles a webhook: this example logs it. Respond within seconds, and do longer work elsewhere, for example through a
/// queue.
fn accept(sender: Sender, body: &[u8]) -> Value {
    println!("{sender:?} sent {} bytes", body.len());
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    match (sender, document["type"].as_str(), document["challenge"].as_str()) {
        // Slack sends this once, when you register the URL.
        (Sender::Slack, Some("url_verification"), Some(challenge)) => response(200, challenge),
        _ => response(200, "accepted"),
    }
}

async fn respond(webhooks: &HashMap<Sender, Keys>, request: &Request) -> Value {
    let Some((sender, keys)) = Sender::at(&request.raw_path).and_then(|sender| webhooks.get_key_value(&sender)) else {
        return response(404, "no webhook has this path");
    };
    let Some(body) = request.body() else { return response(400, "the body is not valid base64") };
    match keys.verify(*sender, request, &body).await {
        Ok(Ok(())) => accept(*sender, &body),
        Ok(Err(refusal)) => {
            println!("rejected a webhook of {sender:?}: {refusal:?}");
            response(401, "the signature is not valid")
        }
        // The sender retries after a 503.
        Err(error) => {
            println!("{error}");
            response(503, "try again later")
        }
    }
}

fn response(status: u16, text: &str) -> Value {
    json!({"statusCode": status, "headers": {"content-type": "text/plain"}, "body": text})
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let source = Source::secrets_manager_from_env().await?;
    let settings = [("STRIPE", Sender::Stripe), ("SLACK", Sender::Slack), ("GITHUB", Sender::GitHub)];
    let webhooks: HashMap<_, _> = settings
        .into_iter()
        .filter_map(|(name, sender)| Some((sender, Keys::new(&source, &env::var(format!("{name}_SECRET_ID")).ok()?))))
        .collect();
    let webhooks = &webhooks;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Request>| {
        Ok::<_, Error>(respond(webhooks, &event.payload).await)
    }))
    .await
}
