//! The Lambda binary: connects the library to the Lambda runtime.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use token_refresher::{
    crash,
    error::ErrorType,
    http_client::HttpClients,
    lambda::{
        handler::Handler,
        log::{self, Failure, RunEnd, RunMetrics, Sink},
        report::Response,
        start,
    },
    protocol::{Error, observation::Observed},
    store::SecretStore,
};

const NOT_IN_LAMBDA: &str = "\
token-refresher is an AWS Lambda function: it keeps OAuth tokens in AWS Secrets Manager alive, and Lambda starts it.
AWS_LAMBDA_RUNTIME_API is not set, so this is not Lambda. Run one of these instead:

  cargo run --example quickstart    a demonstration on this machine, without AWS
  cargo lambda watch                a Lambda on this machine (docs/try-locally.md has the settings)
  echo '{}' | aws lambda invoke --function-name token-refresher --payload fileb:///dev/stdin response.json
                                    the deployed function";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    crash::protect();
    let Some(runtime_api) = var("AWS_LAMBDA_RUNTIME_API").filter(|address| !address.is_empty()) else {
        eprintln!("{NOT_IN_LAMBDA}");
        return ExitCode::from(2);
    };
    let handler = match start::handler(var, Sink::Stdout).await {
        Ok(handler) => handler,
        Err(error) => return fail_at_start(&runtime_api, &error).await,
    };
    match lambda_runtime::run(service_fn(|event| respond(&handler, event))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the Lambda runtime ended: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn respond<S: SecretStore>(handler: &Handler<S>, event: LambdaEvent<Value>) -> Result<Response, Diagnostic> {
    let deadline = i64::try_from(event.context.deadline).ok().and_then(DateTime::from_timestamp_millis);
    let report = crash::catch(handler.handle(&event.payload, deadline.unwrap_or_default())).await;
    if let Some(report) = report {
        return report.map_err(|error| diagnostic(error.error_type(), error.to_string()));
    }
    let failure = Failure {
        error_type: ErrorType::Panicked,
        message: crash::PANIC_MESSAGE.to_owned(),
        remedy: None,
        secret_id: None,
    };
    log::log_run(&RunEnd {
        result: Err(&failure),
        secret_id: None,
        metrics: RunMetrics::OfOne { by_secret: true },
        is_quiet: false,
        observed: Observed::default(),
        duration: TimeDelta::zero(),
        at: Utc::now(),
    });
    Err(diagnostic(failure.error_type, failure.message))
}

fn diagnostic(error_type: ErrorType, error_message: String) -> Diagnostic {
    Diagnostic { error_type: error_type.to_string(), error_message }
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints what is wrong to the log and reports it to Lambda, whose response to the caller then contains it.
async fn fail_at_start(runtime_api: &str, error: &Error) -> ExitCode {
    eprintln!("{}: {error}", error.error_type());
    if let Err(error) = report_init_error(runtime_api, error).await {
        eprintln!("{error:#}");
    }
    ExitCode::FAILURE
}

async fn report_init_error(runtime_api: &str, error: &Error) -> anyhow::Result<()> {
    let body = serde_json::json!({
        "errorType": error.error_type().as_str(),
        "errorMessage": error.to_string(),
        "stackTrace": [],
    });
    let base = if runtime_api.contains("://") { runtime_api.to_owned() } else { format!("http://{runtime_api}") };
    let http = HttpClients::new(|_| None)?.store;
    http.post(format!("{}/2018-06-01/runtime/init/error", base.trim_end_matches('/')))
        .header("Lambda-Runtime-Function-Error-Type", error.error_type().as_str())
        .body(body.to_string())
        .timeout(std::time::Duration::from_secs(2))
        .send()
        .await
        .context("the error could not be reported to Lambda")?;
    Ok(())
}
