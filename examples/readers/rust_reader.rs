//! A Lambda function in Rust that calls an API with the token kept by token-refresher, read with this crate's
//! `Reader`.
//!
//! Runtime provided.al2023, built with `cargo lambda build --release --arm64`, timeout 30 seconds or more. Its role
//! needs:
//!
//! ```json
//! {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//! {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//! ```
//!
//! Settings: `SECRET_ID`, `API_URL`, and, with the second statement, `REFRESHER_FUNCTION` (name or ARN), which is asked
//! for a new token when the API refuses the current one; where `SECRET_ID` is a secret that tokens are published to
//! (`publishTo`), `TOKEN_SECRET_ID` names the token secret. `{"paths": ["/v1/orders"]}` is answered with what the API
//! said to each.
//!
//! The crate's features: `secrets-manager`, `invoke`, `reqwest`. With `extension` in place of the first it reads
//! through the AWS Parameters and Secrets Lambda Extension, and no SDK is compiled in.

use std::{env, time::Duration};

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::Value;
use token_refresher::{
    Reader,
    http_client::HttpClients,
    reader::{RefresherFunction, Source},
};

/// How long the API may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Event {
    paths: Vec<String>,
}

/// One for the life of the process: the token stays in the reader, connections in the client.
struct Api {
    url: String,
    token: Reader,
    http: reqwest::Client,
}

impl Api {
    /// Asks the API, and once more with another token where it refuses the first one.
    async fn get(&self, path: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let url = format!("{}{path}", self.url);
        let answer = self.token.send(self.http.get(&url).timeout(PATIENCE)).await?;
        if !answer.status().is_success() {
            let (status, secret) = (answer.status().as_u16(), self.token.secret_id());
            return Err(format!("{url} answered {status} to the token of {secret}").into());
        }
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    async fn get_all(&self, event: LambdaEvent<Event>) -> Result<Vec<Value>, Diagnostic> {
        let mut answers = Vec::new();
        for path in &event.payload.paths {
            let answer = self.get(path).await;
            answers.push(answer.map_err(|error| Diagnostic {
                error_type: "NoAnswer".to_owned(),
                error_message: with_causes(&*error),
            })?);
        }
        Ok(answers)
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", with_causes(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // `Source::extension_from_env()?` with that feature.
    let mut token = Reader::builder(Source::secrets_manager_from_env().await?, env::var("SECRET_ID")?);
    if let Ok(function) = env::var("REFRESHER_FUNCTION") {
        let mut refresher = RefresherFunction::lambda(function)?;
        if let Ok(token_secret_id) = env::var("TOKEN_SECRET_ID") {
            refresher = refresher.of_secret(token_secret_id);
        }
        token = token.refresher(refresher);
    }
    // Any client of reqwest will do; this one has the reader's TLS and keeps its connections between events.
    let http = HttpClients::new(|name| env::var(name).ok())?.store;
    let api = &Api { url: env::var("API_URL")?, token: token.build(), http };
    lambda_runtime::run(service_fn(|event| api.get_all(event))).await
}
