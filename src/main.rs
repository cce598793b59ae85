//! The Lambda entry: wiring only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod last_words;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use token_refresher::{
    clock::Clock,
    config::Config,
    error::Error,
    handler::Handler,
    http_client::HttpClients,
    oauth::{self, Exchange, response::Answer},
    observation::Seen,
    report::Report,
    store::{SecretStore, secrets_manager::SecretsManager},
    telemetry::{self, Ended, Failure},
};

const NOT_IN_LAMBDA: &str = "\
token-refresher is an AWS Lambda function: it keeps OAuth tokens in AWS Secrets Manager alive, and Lambda starts it.
AWS_LAMBDA_RUNTIME_API is not set, so this is not Lambda. Run one of these instead:

  cargo run --example quickstart    the whole story on this machine, without AWS
  cargo lambda watch                a Lambda on this machine
  aws lambda invoke --function-name token-refresher --cli-binary-format raw-in-base64-out \\
    --payload '{}' /dev/stdout      the deployed function";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    last_words::keep_short();
    let Some(runtime_api) = var("AWS_LAMBDA_RUNTIME_API").filter(|address| !address.is_empty()) else {
        eprintln!("{NOT_IN_LAMBDA}");
        return ExitCode::from(2);
    };
    let started = async {
        telemetry::start(var)?;
        let config = Config::from_vars(var)?;
        let http = HttpClients::new(var)?;
        let store = SecretsManager::from_env(http.store.clone()).await?;
        Ok((config, http, store))
    };
    let (config, http, store) = match started.await {
        Ok(started) => started,
        Err(error) => return fail_at_start(&runtime_api, &error).await,
    };

    let clock = Clock::system();
    let exchange = {
        let clock = clock.clone();
        move |exchange| {
            let (http, clock) = (http.provider.clone(), clock.clone());
            async move { oauth::exchange(&http, &clock, exchange).await }
        }
    };
    let handler = Handler::new(store, exchange, clock, config);
    let ran = lambda_runtime::run(service_fn(|event| answer(&handler, event)));
    match ran.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the Lambda runtime ended: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn answer<S, X, F>(handler: &Handler<S, X>, event: LambdaEvent<Value>) -> Result<Report, Diagnostic>
where
    S: SecretStore,
    X: Fn(Exchange) -> F + Send + Sync,
    F: Future<Output = Answer> + Send,
{
    let deadline = i64::try_from(event.context.deadline).ok().and_then(DateTime::from_timestamp_millis);
    let report = last_words::catch(handler.handle(&event.payload, deadline.unwrap_or_default())).await;
    if let Some(report) = report {
        return report.map_err(|error| diagnostic(error.error_type(), error.to_string()));
    }
    let failure = Failure { error_type: last_words::PANICKED, message: last_words::MEND, secret_id: None };
    telemetry::log_run(&Ended {
        result: Err(failure),
        secret_id: None,
        dry: false,
        seen: Seen::default(),
        took: TimeDelta::zero(),
        at: Utc::now(),
    });
    Err(diagnostic(failure.error_type, failure.message.to_owned()))
}

fn diagnostic(error_type: &str, error_message: String) -> Diagnostic {
    Diagnostic { error_type: error_type.to_owned(), error_message }
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says what is wrong in the log and, for whoever invokes the function, to Lambda itself.
async fn fail_at_start(runtime_api: &str, error: &Error) -> ExitCode {
    eprintln!("{}: {error}", error.error_type());
    if let Err(error) = report_init_error(runtime_api, error).await {
        eprintln!("{error:#}");
    }
    ExitCode::FAILURE
}

async fn report_init_error(runtime_api: &str, error: &Error) -> anyhow::Result<()> {
    let body = serde_json::json!({
        "errorType": error.error_type(),
        "errorMessage": error.to_string(),
        "stackTrace": [],
    });
    let base = if runtime_api.contains("://") { runtime_api.to_owned() } else { format!("http://{runtime_api}") };
    let http = HttpClients::new(|_| None)?.store;
    http.post(format!("{}/2018-06-01/runtime/init/error", base.trim_end_matches('/')))
        .header("Lambda-Runtime-Function-Error-Type", error.error_type())
        .body(body.to_string())
        .timeout(std::time::Duration::from_secs(2))
        .send()
        .await
        .context("Lambda could not be told")?;
    Ok(())
}
