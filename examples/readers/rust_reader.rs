//! A Lambda function in Rust that calls an API with the access token of a token secret. It reads the token with this
//! crate's `Reader`.
//!
//! Features of this crate: `secrets-manager`, `invoke`, `reqwest`. With `extension` in place of `secrets-manager` it reads
//! through the AWS Parameters and Secrets Lambda Extension, and no AWS SDK is compiled in.
//!
//! Runtime provided.al2023, built with `cargo lambda build --release --arm64`, timeout 30 seconds or more. The role
//! needs:
//!
//! ```json
//! {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//! {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//! ```
//!
//! Environment variables:
//!
//! ```text
//! SECRET_ID           name or ARN of the secret to read
//! API_URL             start of every URL of the API
//! REFRESHER_FUNCTION  optional: name or ARN of the refresher, which is asked for a new token after a 401.
//!                     Only this needs the second statement
//! TOKEN_SECRET_ID     only if SECRET_ID is a published secret (`publishTo`): the token secret
//! ```
//!
//! Event: `{"paths": ["/v1/orders"]}`. The function sends a GET for each path, and returns the responses as a list.

use std::{env, process::ExitCode, time::Duration};

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::Value;
use token_refresher::{
    Reader,
    http_client::HttpClients,
    reader::{RefresherFunction, Source},
};

/// The timeout of a request to the API.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Event {
    paths: Vec<String>,
}

/// Created once in each process: the reader caches the token, the client keeps connections open.
struct Api {
    url: String,
    token: Reader,
    http: reqwest::Client,
}

impl Api {
    /// Sends a GET. After a 401, `send` repeats it once with a new token.
    async fn get(&self, path: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let url = format!("{}{path}", self.url);
        let response = self.token.send(self.http.get(&url).timeout(TIMEOUT)).await?;
        if !response.status().is_success() {
            let (status, secret) = (response.status().as_u16(), self.token.secret_id());
            return Err(format!("{url} answered {status} to the token of {secret}").into());
        }
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    async fn get_all(&self, event: LambdaEvent<Event>) -> Result<Vec<Value>, Diagnostic> {
        let mut responses = Vec::new();
        for path in &event.payload.paths {
            let response = self.get(path).await;
            responses.push(response.map_err(|error| Diagnostic {
                error_type: "RequestFailed".to_owned(),
                error_message: with_causes(&*error),
            })?);
        }
        Ok(responses)
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", with_causes(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

/// An environment variable. `None` if it is not set or empty.
fn optional(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str, meaning: &str) -> Result<String, Error> {
    optional(name).ok_or_else(|| format!("{name} is not set; {meaning}").into())
}

async fn run() -> Result<(), Error> {
    let secret_id =
        required("SECRET_ID", "set it to the name or ARN of the secret to read, such as myapp/prod/upwork")?;
    let url = required("API_URL", "set it to the start of every URL of the API, such as https://api.example.com")?;
    // `Source::extension_from_env()?` with that feature.
    let mut token = Reader::builder(Source::secrets_manager_from_env().await?, secret_id);
    if let Some(function) = optional("REFRESHER_FUNCTION") {
        let mut refresher = RefresherFunction::lambda(function)?;
        if let Some(token_secret_id) = optional("TOKEN_SECRET_ID") {
            refresher = refresher.of_secret(token_secret_id);
        }
        token = token.refresher(refresher);
    }
    // Any reqwest client works. This one uses the TLS of the reader, and keeps its connections between events.
    let http = HttpClients::new(|name| env::var(name).ok())?.store;
    let api = &Api { url, token: token.build(), http };
    lambda_runtime::run(service_fn(|event| api.get_all(event))).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `main` would print a returned error with `Debug`.
            eprintln!("{}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}
