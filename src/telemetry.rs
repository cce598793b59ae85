//! The log: one line a run and one for each warning, to standard output, as Lambda's own settings want them; JSON lines have an
//! RFC 3339 `timestamp` and a `level`, which Lambda's log-level filters go by. Only this crate's lines are let through: no
//! dependency can log what it was given.
//!
//! The line of a run carries its [`metrics`]. They are printed in either format and at every level: a level that drops the
//! line leaves them, in a line of their own that the filter lets through, since alarms hang on them.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use tracing::{error, info, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::bad, error::Error, observation::Seen, report::Report};

pub mod metrics;

use metrics::{Metrics, seconds_until};

/// Lambda's levels, from the most to the least talkative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

/// How to log, once [`start`] has read it. Before that, runs are not logged.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Clone)]
struct Log {
    format: Format,
    /// What is below it is dropped, by us and by Lambda.
    level: Level,
    function_name: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What it answered.
    pub result: Result<&'a Report, Failure<'a>>,
    /// The token secret, where one is named.
    pub secret_id: Option<&'a str>,
    /// Whether it was a dry run: that is not measured.
    pub dry: bool,
    /// What was seen of it.
    pub seen: Seen,
    /// How long it took.
    pub took: TimeDelta,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// Why a run has no report.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Lambda's `errorType`.
    pub error_type: &'static str,
    /// What failed, and how to mend it.
    pub message: &'a str,
    /// The secret it happened to, where it is about one: the token's or its client's.
    pub secret_id: Option<&'a str>,
}

impl Ended<'_> {
    fn expires_in_seconds(&self) -> Option<i64> {
        self.seen.expires_at.map(|expires_at| seconds_until(expires_at, self.at))
    }
}

/// Starts logging as Lambda's own settings say: `AWS_LAMBDA_LOG_FORMAT` (`JSON` or `Text`, the default) and
/// `AWS_LAMBDA_LOG_LEVEL` (`TRACE` to `FATAL`, `INFO` by default). A second start (in tests) keeps the first one's settings.
///
/// # Errors
///
/// [`Error::InvalidConfiguration`] for another value.
pub fn start(var: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    let level = var("AWS_LAMBDA_LOG_LEVEL");
    let level = match level.as_ref().map(|level| level.to_uppercase()).as_deref() {
        None | Some("INFO") => Level::Info,
        Some("TRACE") => Level::Trace,
        Some("DEBUG") => Level::Debug,
        Some("WARN") => Level::Warn,
        Some("ERROR") => Level::Error,
        Some("FATAL") => Level::Fatal,
        Some(_) => {
            return Err(bad(
                "AWS_LAMBDA_LOG_LEVEL",
                &level.unwrap_or_default(),
                "TRACE, DEBUG, INFO, WARN, ERROR or FATAL",
            ));
        }
    };
    let format = var("AWS_LAMBDA_LOG_FORMAT");
    let format = match format.as_ref().map(|format| format.to_uppercase()).as_deref() {
        None | Some("TEXT") => Format::Text,
        Some("JSON") => Format::Json,
        Some(_) => return Err(bad("AWS_LAMBDA_LOG_FORMAT", &format.unwrap_or_default(), "JSON or Text")),
    };

    let lines = fmt::layer()
        .with_timer(fmt::time::ChronoUtc::new("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned()))
        .with_target(false)
        .with_ansi(false);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level.filter());
    let _ = tracing_subscriber::registry().with(lines.with_filter(own)).try_init();
    let function_name = var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
    let _ = LOG.set(Log { format, level, function_name });
    Ok(())
}

/// Logs how a run ended, with its metrics.
pub fn log_run(ended: &Ended<'_>) {
    let Some(log) = LOG.get() else { return };
    if log.format == Format::Text {
        tell(ended);
    }
    for line in log.lines(ended) {
        if let Ok(mut text) = serde_json::to_string(&line) {
            text.push('\n');
            // In one piece, so that no other line comes between. A log that cannot be written must not end the run.
            let _ = io::stdout().lock().write_all(text.as_bytes());
        }
    }
}

/// The line for people.
fn tell(ended: &Ended<'_>) {
    let (calls, duration) = (ended.seen.calls, ended.took.num_milliseconds());
    let exchange = ended.seen.exchange.map(|took| took.num_milliseconds());
    match ended.result {
        Ok(report) => {
            let report = serde_json::json!(report);
            let text = |name: &str| report.get(name).and_then(serde_json::Value::as_str);
            info!(
                outcome = text("outcome"),
                secretId = text("secretId"),
                versionId = text("versionId"),
                previousVersionId = text("previousVersionId"),
                publishedVersionId = text("publishedVersionId"),
                expiresAt = text("expiresAt"),
                expiresInSeconds = ended.expires_in_seconds(),
                reason = text("reason"),
                retryAt = text("retryAt"),
                durationMilliseconds = duration,
                exchangeMilliseconds = exchange,
                calls,
                "run ended"
            );
        }
        Err(Failure { error_type, message, secret_id }) => error!(
            errorType = error_type,
            secretId = secret_id,
            expiresInSeconds = ended.expires_in_seconds(),
            durationMilliseconds = duration,
            exchangeMilliseconds = exchange,
            calls,
            "{message}"
        ),
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: Level,
    #[serde(flatten)]
    run: Option<Run<'a>>,
    #[serde(flatten)]
    metrics: Option<Metrics<'a>>,
}

/// What a line tells of a run.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    message: &'a str,
    #[serde(flatten)]
    report: Option<&'a Report>,
    #[serde(flatten)]
    failed: Option<Failed<'a>>,
    duration_milliseconds: i64,
    calls: u32,
}

/// What a line tells in place of a report.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    error_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<i64>,
}

impl Log {
    /// The lines of JSON for a run: one, unless its level is one to drop.
    fn lines<'a>(&'a self, ended: &Ended<'a>) -> Vec<Line<'a>> {
        let level = if ended.result.is_ok() { Level::Info } else { Level::Error };
        let told = self.format == Format::Json && self.level.lets_through(level);
        let run = told.then(|| Run {
            message: ended.result.err().map_or("run ended", |failure| failure.message),
            report: ended.result.ok(),
            failed: ended.result.err().map(|failure| Failed {
                error_type: failure.error_type,
                secret_id: failure.secret_id,
                expires_in_seconds: ended.expires_in_seconds(),
            }),
            duration_milliseconds: ended.took.num_milliseconds(),
            calls: ended.seen.calls,
        });
        let metrics = (!ended.dry).then(|| Metrics::of(ended, &self.function_name));
        let timestamp = ended.at.to_rfc3339_opts(SecondsFormat::Millis, true);
        if run.is_some() && level >= self.level {
            return vec![Line { timestamp, level, run, metrics }];
        }
        let told = run.map(|run| Line { timestamp: timestamp.clone(), level, run: Some(run), metrics: None });
        // Lambda drops what is below the level set.
        let level = level.max(self.level);
        let measured = metrics.map(|metrics| Line { timestamp, level, run: None, metrics: Some(metrics) });
        told.into_iter().chain(measured).collect()
    }
}

impl Level {
    /// Whether a line of the other level is printed where this one is set. A run that failed is told in any case.
    fn lets_through(self, other: Self) -> bool {
        other >= self.min(Self::Error)
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error | Self::Fatal => LevelFilter::ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::{Outcome, Reason};

    const MESSAGE: &str = "secret `crm`: what failed; how to mend it";

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    fn report(outcome: Outcome) -> Report {
        Report {
            outcome,
            secret_id: "crm".to_owned(),
            version_id: "v2".into(),
            previous_version_id: None,
            published_version_id: None,
            expires_at: Some(now() + TimeDelta::hours(1)),
            expires_in_seconds: Some(3600),
            reason: Reason::Due,
            retry_at: None,
        }
    }

    fn failure(error_type: &'static str) -> Failure<'static> {
        Failure { error_type, message: MESSAGE, secret_id: Some("crm") }
    }

    fn ended<'a>(result: Result<&'a Report, Failure<'a>>) -> Ended<'a> {
        let seen = Seen {
            calls: 4,
            exchange: Some(TimeDelta::milliseconds(120)),
            expires_at: Some(now() + TimeDelta::hours(1)),
            refresh_token_expires_at: Some(now() + TimeDelta::days(30)),
        };
        Ended { result, secret_id: Some("crm"), dry: false, seen, took: TimeDelta::milliseconds(180), at: now() }
    }

    fn lines(format: Format, level: Level, ended: &Ended<'_>) -> Vec<Value> {
        let log = Log { format, level, function_name: "refresher".to_owned() };
        log.lines(ended).iter().map(|line| serde_json::to_value(line).unwrap()).collect()
    }

    #[test]
    fn a_run_is_one_line_that_tells_it_and_measures_it() {
        let report = report(Outcome::Refreshed);
        assert_eq!(
            lines(Format::Json, Level::Info, &ended(Ok(&report))),
            [json!({
                "timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "message": "run ended",
                "outcome": "refreshed", "secretId": "crm", "versionId": "v2", "reason": "due",
                "expiresAt": "2026-01-01T01:00:00Z", "expiresInSeconds": 3600, "durationMilliseconds": 180, "calls": 4,
                "_aws": {"Timestamp": 1_767_225_600_000_i64, "CloudWatchMetrics": [
                    {"Namespace": "TokenRefresher", "Dimensions": [["FunctionName"]], "Metrics": [
                        {"Name": "Refreshed", "Unit": "Count"}, {"Name": "ExchangeMilliseconds", "Unit": "Milliseconds"}]},
                    {"Namespace": "TokenRefresher", "Dimensions": [["FunctionName"], ["FunctionName", "SecretId"]], "Metrics": [
                        {"Name": "SecondsUntilExpiry", "Unit": "Seconds"},
                        {"Name": "SecondsUntilRefreshTokenExpiry", "Unit": "Seconds"}]},
                ]},
                "FunctionName": "refresher", "SecretId": "crm", "Refreshed": 1, "ExchangeMilliseconds": 120,
                "SecondsUntilExpiry": 3600, "SecondsUntilRefreshTokenExpiry": 2_592_000,
            })]
        );
    }

    #[test]
    fn a_failed_run_tells_its_error_and_is_counted_by_its_type() {
        let seen = Seen { calls: 1, expires_at: Some(now() - TimeDelta::seconds(5)), ..Seen::default() };
        assert_eq!(
            lines(Format::Json, Level::Info, &Ended { seen, ..ended(Err(failure("ProviderUnavailable"))) }),
            [json!({
                "timestamp": "2026-01-01T00:00:00.000Z", "level": "ERROR", "message": MESSAGE,
                "errorType": "ProviderUnavailable", "secretId": "crm", "expiresInSeconds": -5, "durationMilliseconds": 180,
                "calls": 1,
                "_aws": {"Timestamp": 1_767_225_600_000_i64, "CloudWatchMetrics": [
                    {"Namespace": "TokenRefresher", "Dimensions": [["FunctionName"], ["FunctionName", "ErrorType"]],
                        "Metrics": [{"Name": "Failed", "Unit": "Count"}]},
                    {"Namespace": "TokenRefresher", "Dimensions": [["FunctionName"], ["FunctionName", "SecretId"]],
                        "Metrics": [{"Name": "SecondsUntilExpiry", "Unit": "Seconds"}]},
                ]},
                "FunctionName": "refresher", "SecretId": "crm", "ErrorType": "ProviderUnavailable", "Failed": 1,
                "SecondsUntilExpiry": -5,
            })]
        );
    }

    /// The counts of the only line.
    fn counts(ended: &Ended<'_>) -> Vec<String> {
        let [line] = &lines(Format::Json, Level::Info, ended)[..] else { panic!("more or less than one line") };
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().cloned().unwrap_or_default();
        let metrics = directives.iter().flat_map(|directive| directive["Metrics"].as_array().unwrap());
        let counts = metrics.filter(|metric| metric["Unit"] == "Count").map(|metric| metric["Name"].as_str().unwrap());
        counts.inspect(|name| assert_eq!(line[name], 1, "{line}")).map(str::to_owned).collect()
    }

    #[test]
    fn each_way_to_end_has_its_count_and_a_dry_run_none() {
        for (outcome, expected) in [
            (Outcome::Skipped, "Skipped"),
            (Outcome::Refreshed, "Refreshed"),
            (Outcome::Recovered, "Recovered"),
            (Outcome::InProgress, "InProgress"),
            (Outcome::BackingOff, "BackingOff"),
            (Outcome::Superseded, "Superseded"),
        ] {
            assert_eq!(counts(&ended(Ok(&report(outcome)))), [expected]);
        }
        for (error_type, expected) in [
            ("ProviderUnavailable", ["Failed"].as_slice()),
            ("ReauthorizationRequired", &["Failed", "ReauthorizationRequired"]),
            ("TokenNotStored", &["Failed", "TokenNotStored"]),
        ] {
            assert_eq!(counts(&ended(Err(failure(error_type)))), expected);
        }
        let would = report(Outcome::WouldRefresh);
        for result in [Ok(&would), Err(failure("AccessDenied"))] {
            let dry = Ended { dry: true, ..ended(result) };
            let [line] = &lines(Format::Json, Level::Info, &dry)[..] else { panic!("more or less than one line") };
            assert!(line.get("_aws").is_none() && line.get("message").is_some(), "{line}");
        }
    }

    #[test]
    fn a_level_that_drops_the_line_leaves_the_metrics_at_a_level_that_passes() {
        let report = report(Outcome::Skipped);
        for (level, failed, expected) in [
            (Level::Trace, false, [("INFO", true, true)].as_slice()),
            (Level::Info, false, &[("INFO", true, true)]),
            (Level::Warn, false, &[("WARN", false, true)]),
            (Level::Error, false, &[("ERROR", false, true)]),
            (Level::Fatal, false, &[("FATAL", false, true)]),
            (Level::Warn, true, &[("ERROR", true, true)]),
            (Level::Error, true, &[("ERROR", true, true)]),
            (Level::Fatal, true, &[("ERROR", true, false), ("FATAL", false, true)]),
        ] {
            let result = if failed { Err(failure("AccessDenied")) } else { Ok(&report) };
            let found = lines(Format::Json, level, &ended(result));
            let has = |line: &Value, member: &str| line.get(member).is_some();
            let found: Vec<_> = found
                .iter()
                .map(|line| (line["level"].as_str().unwrap(), has(line, "message"), has(line, "_aws")))
                .collect();
            assert_eq!(found, expected, "{level:?}, failed: {failed}");
            // In text the line for people is another one.
            let text = lines(Format::Text, level, &ended(result));
            assert_eq!((text.len(), has(&text[0], "message"), has(&text[0], "_aws")), (1, false, true), "{level:?}");
        }
        let dry = Ended { dry: true, ..ended(Ok(&report)) };
        assert_eq!(lines(Format::Json, Level::Warn, &dry), [Value::Null; 0]);
        assert_eq!(lines(Format::Text, Level::Info, &dry), [Value::Null; 0]);
    }
}
