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
//! Events, and what the function returns:
//!
//! ```text
//! {"paths": ["/v1/orders"]}                         GET of each path: the responses, as a list
//! {"path": "/v1/orders", "body": {"item": "book"}}  POST of the body: the response
//! ```

use std::{env, process::ExitCode, time::Duration};

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use reqwest::RequestBuilder;
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
#[serde(untagged, expecting = "the event has neither \"paths\" (for GET) nor \"path\" and \"body\" (for POST)")]
enum Event {
    Get { paths: Vec<String> },
    Post { path: String, body: Value },
}

/// Created once in each process: the reader caches the token, the client keeps connections open.
struct Api {
    url: String,
    token: Reader,
    http: reqwest::Client,
}

impl Api {
    /// Sends a request. After a 401, `send` repeats it once with a new token.
    async fn call(&self, request: RequestBuilder) -> Result<Value, Diagnostic> {
        let failed = |error_message| Diagnostic { error_type: "RequestFailed".to_owned(), error_message };
        let response = self.token.send(request.timeout(TIMEOUT)).await.map_err(|error| failed(error.to_string()))?;
        let (status, url) = (response.status(), response.url().to_string());
        if !status.is_success() {
            let secret = self.token.secret_id();
            return Err(failed(format!("{url} answered {} to the token of {secret}", status.as_u16())));
        }
        let body = response.bytes().await.map_err(|_| failed(format!("the response of {url} broke off")))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| failed(format!("the response of {url} is not JSON: {error}")))
    }

    async fn handle(&self, event: LambdaEvent<Event>) -> Result<Value, Diagnostic> {
        match event.payload {
            Event::Get { paths } => {
                let mut responses = Vec::new();
                for path in paths {
                    responses.push(self.call(self.http.get(format!("{}{path}", self.url))).await?);
                }
                Ok(Value::Array(responses))
            }
            Event::Post { path, body } => {
                let request = self.http.post(format!("{}{path}", self.url));
                self.call(request.header("content-type", "application/json").body(body.to_string())).await
            }
        }
    }
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
    lambda_runtime::run(service_fn(|event| api.handle(event))).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `main` would print a returned error with `Debug`.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
