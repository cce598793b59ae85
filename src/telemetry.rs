//! The log: one JSON (or text) line an event, to standard output, with an RFC 3339 `timestamp` and a `level`, as Lambda's
//! log-level filters want them. Only this crate's lines are let through: no dependency can log what it was given.

use tracing::{Level, error, info, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::bad, error::Error, report::Report};

/// Starts logging as Lambda's own settings say: `AWS_LAMBDA_LOG_FORMAT` (`JSON` or `Text`, the default) and
/// `AWS_LAMBDA_LOG_LEVEL` (`TRACE` to `FATAL`, `INFO` by default).
///
/// # Errors
///
/// [`Error::InvalidConfiguration`] for another value.
pub fn start(var: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    let level = var("AWS_LAMBDA_LOG_LEVEL");
    let level = match level.as_ref().map(|level| level.to_uppercase()).as_deref() {
        None | Some("INFO") => Level::INFO,
        Some("TRACE") => Level::TRACE,
        Some("DEBUG") => Level::DEBUG,
        Some("WARN") => Level::WARN,
        Some("ERROR" | "FATAL") => Level::ERROR,
        Some(_) => {
            return Err(bad(
                "AWS_LAMBDA_LOG_LEVEL",
                &level.unwrap_or_default(),
                "TRACE, DEBUG, INFO, WARN, ERROR or FATAL",
            ));
        }
    };
    let lines = fmt::layer()
        .with_timer(fmt::time::ChronoUtc::new("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned()))
        .with_target(false)
        .with_ansi(false);
    let format = var("AWS_LAMBDA_LOG_FORMAT");
    let lines = match format.as_ref().map(|format| format.to_uppercase()).as_deref() {
        None | Some("TEXT") => lines.boxed(),
        Some("JSON") => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        Some(_) => return Err(bad("AWS_LAMBDA_LOG_FORMAT", &format.unwrap_or_default(), "JSON or Text")),
    };
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(level));
    // A second start (in tests) keeps the first one's settings.
    let _ = tracing_subscriber::registry().with(lines.with_filter(own)).try_init();
    Ok(())
}

/// Logs how a run ended.
pub fn log_run(result: &Result<Report, Error>) {
    match result {
        Ok(report) => {
            let report = serde_json::json!(report);
            let text = |name: &str| report.get(name).and_then(serde_json::Value::as_str);
            info!(
                outcome = text("outcome"),
                secretId = text("secretId"),
                versionId = text("versionId"),
                previousVersionId = text("previousVersionId"),
                expiresAt = text("expiresAt"),
                expiresInSeconds = report.get("expiresInSeconds").and_then(serde_json::Value::as_i64),
                reason = text("reason"),
                retryAt = text("retryAt"),
                "run ended"
            );
        }
        Err(error) => {
            error!(errorType = error.error_type(), secretId = error.secret_id(), "{error}");
        }
    }
}
