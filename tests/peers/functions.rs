//! The release binary as a running Lambda function: on a Runtime API of the tests' own, where the deadline can be chosen
//! and the process killed, or on cargo-lambda's.

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

/// More than any invocation here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The binary that is deployed: optimised and stripped. Without `tests/run`, the one cargo has built for the tests.
fn binary() -> PathBuf {
    std::env::var_os("TOKEN_REFRESHER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_token-refresher").into(), PathBuf::from)
}

/// An error as the invoker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub error_type: String,
    pub message: String,
}

/// A running function, and all it has ever said.
pub struct Lambda {
    api: RuntimeApi,
    function: Function,
    answers: Mutex<String>,
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
            // The most it can be made to say.
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ];
        all.extend(environment);
        let function = Function::spawn(binary(), &api, &all);
        Self { api, function, answers: Mutex::default() }
    }

    /// Invokes it with all the time it may want.
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
            Ok(report) => self.heard(event, &report.to_string()),
            Err(Failure { error_type, message }) => self.heard(event, &format!("{error_type}: {message}")),
        }
        result
    }

    /// Invokes it again and again for as long as another run's lease holds.
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
        tokio::time::timeout(PATIENCE, after).await.expect("a lease that ends")
    }

    /// Invokes it and kills its process at the moment `when` comes.
    pub async fn kill_during(self, event: &str, deadline: Deadline, when: impl Future<Output = ()>) {
        let killed = async {
            when.await;
            self.function.kill().await;
        };
        let (outcome, ()) = tokio::join!(self.api.invoke(event, deadline), killed);
        assert_eq!(outcome, Outcome::Gone);
    }

    fn output(&self) -> String {
        self.function.output()
    }

    fn heard(&self, event: &str, answer: &str) {
        // A transcript, where the test runner is asked for it (--nocapture).
        println!("{event} -> {answer}");
        self.answers.lock().expect("no one panicked").push_str(answer);
    }

    /// Fails if one of these can be read in any answer or in anything it printed, in any encoding.
    pub fn assert_kept(&self, secrets: &[String]) {
        assert!(!secrets.is_empty());
        let output = self.output();
        assert!(output.contains("\"level\""), "nothing was logged");
        assert_no_secret(&(self.answers.lock().expect("no one panicked").clone() + &output), secrets);
    }
}

/// A running function on cargo-lambda's Runtime API, and all that was ever said.
pub struct CargoLambda {
    name: String,
    lambda: Lambda,
    http: reqwest::Client,
}

impl CargoLambda {
    /// Functions are `function-1` to `function-8`; each test has its own.
    pub async fn start(number: u8, secrets_manager: &str, secret_id: &str) -> Self {
        let name = format!("function-{number}");
        let api = format!("{}/.rt/{name}", peer("PEER_LAMBDA_URL"));
        let environment =
            [("SECRET_ID", secret_id), ("AWS_LAMBDA_RUNTIME_API", &api), ("AWS_LAMBDA_FUNCTION_NAME", &name)];
        let lambda = Lambda::start(secrets_manager, &environment).await;
        Self { name, lambda, http: HttpClients::new(|_| None).expect("HTTP clients").provider }
    }

    /// The request that `aws lambda invoke` and the SDKs make.
    pub async fn invoke(&self, event: &str) -> Result<Value, Failure> {
        let url = format!("{}/2015-03-31/functions/{}/invocations", peer("PEER_LAMBDA_URL"), self.name);
        let answer = self.http.post(url).body(event.to_owned()).timeout(PATIENCE).send().await.expect("an answer");
        let status = answer.status();
        let body = answer.text().await.expect("a body");
        self.lambda.heard(event, &body);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        if status.is_success() {
            return Ok(body);
        }
        let member = |name: &str| body[name].as_str().expect("a text").to_owned();
        Err(Failure { error_type: member("errorType"), message: member("errorMessage") })
    }

    /// `cargo lambda invoke`: its exit code, what it printed and what it said on stderr.
    pub async fn invoke_from_the_command_line(&self, event: &str) -> (Option<i32>, String, String) {
        let url = peer("PEER_LAMBDA_URL");
        let port = url.rsplit(':').next().expect("a port");
        let mut command = tokio::process::Command::new(peer("PEER_CARGO_LAMBDA"));
        command.args(["lambda", "invoke", &self.name, "--invoke-address", "127.0.0.1", "--invoke-port", port]);
        command.args(["--data-ascii", event]).stdin(Stdio::null()).kill_on_drop(true);
        // It waits for ever where no function takes the event.
        let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("an end").expect("cargo-lambda");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        self.lambda.heard(event, &format!("{stdout}{stderr}"));
        (output.status.code(), stdout, stderr)
    }

    pub fn assert_kept(&self, secrets: &[String]) {
        self.lambda.assert_kept(secrets);
    }
}
