//! The release binary as a running Lambda function: with the Runtime API of the tests, which can set the deadline and kill the
//! process, or with that of cargo-lambda.

use std::{path::PathBuf, process::Stdio, sync::Mutex, time::Duration};

use serde_json::Value;
use token_refresher::http_client::HttpClients;

use super::{
    peer,
    support::{
        output::assert_no_secret,
        runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    },
};

/// Longer than any invocation in these tests.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The binary for deployment, optimised and stripped. Without `tests/run` it is the one that cargo built for the tests.
fn binary() -> PathBuf {
    std::env::var_os("TOKEN_REFRESHER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_token-refresher").into(), PathBuf::from)
}

/// An error as the invoker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub error_type: String,
    pub message: String,
}

/// A running function, and all its output.
pub struct Lambda {
    api: RuntimeApi,
    function: Function,
    results: Mutex<String>,
}

impl Lambda {
    pub async fn start(secrets_manager: &str, environment: &[(&str, &str)]) -> Self {
        let api = RuntimeApi::start().await;
        let mut all = vec![
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            // The most verbose level.
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ];
        all.extend(environment);
        let function = Function::spawn(binary(), &api, &all);
        Self { api, function, results: Mutex::default() }
    }

    /// Invokes the function with a deadline in one minute.
    pub async fn invoke(&self, event: &str) -> Result<Value, Failure> {
        self.invoke_until(event, Deadline::InMs(60_000)).await
    }

    pub async fn invoke_until(&self, event: &str, deadline: Deadline) -> Result<Value, Failure> {
        let result = match self.api.invoke(event, deadline).await {
            Outcome::Response(report) => Ok(report),
            Outcome::Error { error_type, message, .. } => Err(Failure { error_type, message }),
            Outcome::Gone => panic!("the function died: {}", self.output()),
        };
        match &result {
            Ok(report) => self.record(event, &report.to_string()),
            Err(Failure { error_type, message }) => self.record(event, &format!("{error_type}: {message}")),
        }
        result
    }

    /// Invokes the function repeatedly until no lease of another run applies.
    pub async fn invoke_after_the_lease(&self, event: &str) -> Result<Value, Failure> {
        let after = async {
            loop {
                let result = self.invoke(event).await;
                if !result.as_ref().is_ok_and(|report| report["outcome"] == "in_progress") {
                    return result;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, after).await.expect("a lease that ends")
    }

    /// Invokes the function, and kills its process when `moment` is complete.
    pub async fn kill_during(self, event: &str, deadline: Deadline, moment: impl Future<Output = ()>) {
        let killed = async {
            moment.await;
            self.function.kill().await;
        };
        let (outcome, ()) = tokio::join!(self.api.invoke(event, deadline), killed);
        assert_eq!(outcome, Outcome::Gone);
    }

    fn output(&self) -> String {
        self.function.output()
    }

    fn record(&self, event: &str, result: &str) {
        // A transcript: the test runner shows it with --nocapture.
        println!("{event} -> {result}");
        self.results.lock().expect("no thread panicked").push_str(result);
    }

    /// Fails if any result or any output contains one of these secrets, in any encoding.
    pub fn assert_no_secret_shown(&self, secrets: &[String]) {
        assert!(!secrets.is_empty());
        let output = self.output();
        assert!(output.contains("\"level\""), "nothing was logged");
        assert_no_secret(&(self.results.lock().expect("no thread panicked").clone() + &output), secrets);
    }
}

/// A running function with cargo-lambda's Runtime API, and all its output.
pub struct CargoLambda {
    name: String,
    lambda: Lambda,
    http: reqwest::Client,
}

impl CargoLambda {
    /// Starts `function-1` to `function-8`. Each test uses its own number.
    pub async fn start(number: u8, secrets_manager: &str, secret_id: &str) -> Self {
        let name = format!("function-{number}");
        let api = format!("{}/.rt/{name}", peer("PEER_LAMBDA_URL"));
        let environment =
            [("SECRET_ID", secret_id), ("AWS_LAMBDA_RUNTIME_API", &api), ("AWS_LAMBDA_FUNCTION_NAME", &name)];
        let lambda = Lambda::start(secrets_manager, &environment).await;
        Self { name, lambda, http: HttpClients::new(|_| None).expect("HTTP clients").provider }
    }

    /// Sends the request that `aws lambda invoke` and the SDKs send.
    pub async fn invoke(&self, event: &str) -> Result<Value, Failure> {
        let url = format!("{}/2015-03-31/functions/{}/invocations", peer("PEER_LAMBDA_URL"), self.name);
        let response = self.http.post(url).body(event.to_owned()).timeout(TIMEOUT).send().await.expect("a response");
        let status = response.status();
        let body = response.text().await.expect("a body");
        self.lambda.record(event, &body);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        if status.is_success() {
            return Ok(body);
        }
        let member = |name: &str| body[name].as_str().expect("a text").to_owned();
        Err(Failure { error_type: member("errorType"), message: member("errorMessage") })
    }

    /// Runs `cargo lambda invoke`. Returns its exit code, stdout and stderr.
    pub async fn invoke_from_the_command_line(&self, event: &str) -> (Option<i32>, String, String) {
        let url = peer("PEER_LAMBDA_URL");
        let port = url.rsplit(':').next().expect("a port");
        let mut command = tokio::process::Command::new(peer("PEER_CARGO_LAMBDA"));
        command.args(["lambda", "invoke", &self.name, "--invoke-address", "127.0.0.1", "--invoke-port", port]);
        command.args(["--data-ascii", event]).stdin(Stdio::null()).kill_on_drop(true);
        // It waits without end if no function fetches the event.
        let output = tokio::time::timeout(TIMEOUT, command.output()).await.expect("an end").expect("cargo-lambda");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        self.lambda.record(event, &format!("{stdout}{stderr}"));
        (output.status.code(), stdout, stderr)
    }

    pub fn assert_no_secret_shown(&self, secrets: &[String]) {
        self.lambda.assert_no_secret_shown(secrets);
    }
}
