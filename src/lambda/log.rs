//! The log: one line for each run and one for each warning, as Lambda's own settings want them. JSON lines have an RFC 3339
//! `timestamp` and a `level`, which Lambda's log-level filters use. Only this crate's lines are printed: no dependency can log what
//! it was given.
//!
//! The line of a run contains its [`metrics`](super::metrics). They are printed in both formats and at every level: if the level drops the line, they
//! get a line of their own that the filter lets through, since alarms depend on them.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use tracing::{error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{
    metrics::{Metrics, seconds_until},
    report::{Report, SweepReport},
};
use crate::{
    error::{Audience, ErrorType, InvalidSetting},
    protocol::{Error, observation::Observed},
    sweep::summary::Expiries,
};

/// Lambda's levels, from the most to the least verbose.
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

/// How to log, as [`start`] has read it. Before that, runs are not logged.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Clone)]
struct Log {
    format: Format,
    /// Lines below it are dropped, here and by Lambda.
    level: Level,
    function_name: String,
    sink: Sink,
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output, where Lambda reads it.
    Stdout,
    /// Standard error, for a program that prints its results to standard output.
    Stderr,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd<'a> {
    /// Its report, or why it has none.
    pub result: Result<&'a Report, &'a Failure<'a>>,
    /// The token secret, if one is named.
    pub secret_id: Option<&'a str>,
    /// Which metrics its line has.
    pub metrics: RunMetrics,
    /// Whether it has only metrics, and no line of its own: a skip in a sweep.
    pub is_quiet: bool,
    /// What was observed of it.
    pub observed: Observed,
    /// How long it took.
    pub duration: TimeDelta,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// Which metrics the line of a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMetrics {
    /// None: a dry run.
    None,
    /// Those of a run for one secret.
    OfOne {
        /// Whether there are metrics for the secret.
        by_secret: bool,
    },
    /// Those of a run in a sweep: the sweep's line counts the outcomes.
    InSweep {
        /// Whether there are metrics for each secret.
        by_secret: bool,
    },
}

/// How a sweep ended.
#[derive(Clone, Debug)]
pub struct SweepEnd<'a> {
    /// Its report.
    pub report: &'a SweepReport,
    /// The earliest expiries.
    pub earliest: Expiries,
    /// How many access tokens have expired.
    pub expired: usize,
    /// Calls to the store.
    pub calls: u64,
    /// How long it took.
    pub duration: TimeDelta,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// Why a run has no report.
#[derive(Clone, Debug)]
pub struct Failure<'a> {
    /// The error's type.
    pub error_type: ErrorType,
    /// What failed and what to do.
    pub message: String,
    /// What to do, by itself.
    pub remedy: Option<String>,
    /// The secret that failed, if the error is about one: the token secret, its client's secret or the published secret.
    pub secret_id: Option<&'a str>,
}

impl<'a> From<&'a Error> for Failure<'a> {
    fn from(error: &'a Error) -> Self {
        Self {
            error_type: error.error_type(),
            message: error.to_string(),
            remedy: error.advice(Audience::Function).map(Into::into),
            secret_id: error.secret_id(),
        }
    }
}

impl RunEnd<'_> {
    fn expires_in_seconds(&self) -> Option<i64> {
        self.observed.expires_at.map(|expires_at| seconds_until(expires_at, self.at))
    }
}

/// Starts logging as Lambda's own settings say: `AWS_LAMBDA_LOG_FORMAT` (`JSON` or `Text`, the default) and
/// `AWS_LAMBDA_LOG_LEVEL` (`TRACE` to `FATAL`, `INFO` by default). A second start (in tests) keeps the first one's settings.
///
/// # Errors
///
/// [`InvalidSetting`] for another value.
pub fn start(var: impl Fn(&str) -> Option<String>, sink: Sink) -> Result<(), InvalidSetting> {
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
            return Err(InvalidSetting::found(
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
        Some(_) => {
            return Err(InvalidSetting::found("AWS_LAMBDA_LOG_FORMAT", &format.unwrap_or_default(), "JSON or Text"));
        }
    };

    let lines = fmt::layer()
        .with_timer(fmt::time::ChronoUtc::new("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned()))
        .with_target(false)
        .with_ansi(false)
        .with_writer(sink);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level.filter());
    let _ = tracing_subscriber::registry().with(lines.with_filter(own)).try_init();
    let function_name = var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
    let _ = LOG.set(Log { format, level, function_name, sink });
    Ok(())
}

/// Logs how a run ended, with its metrics.
pub fn log_run(end: &RunEnd<'_>) {
    let Some(log) = LOG.get() else { return };
    if log.format == Format::Text && !end.is_quiet {
        log_text(end);
    }
    log.print(&log.lines(end));
}

/// Logs how a sweep ended, with its metrics.
pub fn log_sweep(end: &SweepEnd<'_>) {
    let Some(log) = LOG.get() else { return };
    if log.format == Format::Text {
        let report = end.report;
        info!(
            secrets = report.secrets,
            skipped = report.skipped,
            refreshed = report.refreshed,
            recovered = report.recovered,
            wouldRefresh = report.would_refresh,
            wouldRecover = report.would_recover,
            inProgress = report.in_progress,
            backingOff = report.backing_off,
            superseded = report.superseded,
            ignored = report.ignored,
            failed = report.failed,
            notReached = report.not_reached,
            soonestExpiresInSeconds = report.soonest_expires_in_seconds,
            durationMilliseconds = end.duration.num_milliseconds(),
            calls = end.calls,
            "sweep ended"
        );
        for warning in &report.warnings {
            warn!("{warning}");
        }
    }
    log.print(&log.sweep_lines(end));
}

/// The line of a run in text.
fn log_text(end: &RunEnd<'_>) {
    let (calls, duration) = (end.observed.calls, end.duration.num_milliseconds());
    let exchange = end.observed.exchange.map(|duration| duration.num_milliseconds());
    match end.result {
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
                expiresInSeconds = end.expires_in_seconds(),
                reason = text("reason"),
                retryAt = text("retryAt"),
                warnings = warnings(end),
                durationMilliseconds = duration,
                exchangeMilliseconds = exchange,
                calls,
                "run ended"
            );
        }
        Err(Failure { error_type, message, secret_id, .. }) => error!(
            errorType = error_type.as_str(),
            secretId = secret_id,
            expiresInSeconds = end.expires_in_seconds(),
            warnings = warnings(end),
            durationMilliseconds = duration,
            exchangeMilliseconds = exchange,
            calls,
            "{message}"
        ),
    }
}

fn warnings(end: &RunEnd<'_>) -> Option<String> {
    let warnings = &end.observed.warnings;
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: Level,
    #[serde(flatten)]
    run: Option<Ended<'a>>,
    #[serde(flatten)]
    metrics: Option<Metrics<'a>>,
}

/// The members of a line about a run or a sweep.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Ended<'a> {
    Run(Run<'a>),
    Sweep(Sweep<'a>),
}

/// The members of a line about a sweep. Each failure has a line of its own.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sweep<'a> {
    message: &'a str,
    #[serde(flatten)]
    report: serde_json::Value,
    duration_milliseconds: i64,
    calls: u64,
}

/// The members of a line about a run.
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

/// The members of a line in place of a report.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    error_type: ErrorType,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl Log {
    /// The lines of JSON for a run: one, unless the level drops it.
    fn lines<'a>(&'a self, end: &'a RunEnd<'a>) -> Vec<Line<'a>> {
        let level = if end.result.is_ok() { Level::Info } else { Level::Error };
        let is_logged = self.format == Format::Json && self.level.lets_through(level) && !end.is_quiet;
        let run = is_logged.then(|| {
            Ended::Run(Run {
                message: end.result.err().map_or("run ended", |failure| &failure.message),
                report: end.result.ok(),
                failed: end.result.err().map(|failure| Failed {
                    error_type: failure.error_type,
                    secret_id: failure.secret_id,
                    remedy: failure.remedy.as_deref(),
                    expires_in_seconds: end.expires_in_seconds(),
                    warnings: &end.observed.warnings,
                }),
                duration_milliseconds: end.duration.num_milliseconds(),
                calls: end.observed.calls,
            })
        });
        self.line_and_metrics(end.at, level, run, Metrics::of(end, &self.function_name))
    }

    /// The lines of JSON for a sweep: one, unless the level drops it. At level WARN if a person should read it.
    fn sweep_lines<'a>(&'a self, end: &SweepEnd<'a>) -> Vec<Line<'a>> {
        let needs_attention = !end.report.warnings.is_empty() || end.report.not_reached > 0;
        let level = if needs_attention { Level::Warn } else { Level::Info };
        let is_logged = self.format == Format::Json && self.level.lets_through(level);
        let run = is_logged.then(|| {
            let mut report = serde_json::json!(end.report);
            if let Some(members) = report.as_object_mut() {
                members.remove("failures");
                members.remove("tokens");
            }
            let (duration_milliseconds, calls) = (end.duration.num_milliseconds(), end.calls);
            Ended::Sweep(Sweep { message: "sweep ended", report, duration_milliseconds, calls })
        });
        self.line_and_metrics(end.at, level, run, Metrics::of_sweep(end, &self.function_name))
    }

    /// A line with its metrics, or both apart if the level drops the line.
    fn line_and_metrics<'a>(
        &self,
        at: DateTime<Utc>,
        level: Level,
        run: Option<Ended<'a>>,
        metrics: Option<Metrics<'a>>,
    ) -> Vec<Line<'a>> {
        let timestamp = at.to_rfc3339_opts(SecondsFormat::Millis, true);
        if run.is_some() && level >= self.level {
            return vec![Line { timestamp, level, run, metrics }];
        }
        let run_line = run.map(|run| Line { timestamp: timestamp.clone(), level, run: Some(run), metrics: None });
        // Lambda drops lines below the level that is set.
        let level = level.max(self.level);
        let metrics_line = metrics.map(|metrics| Line { timestamp, level, run: None, metrics: Some(metrics) });
        run_line.into_iter().chain(metrics_line).collect()
    }

    fn print(&self, lines: &[Line<'_>]) {
        for line in lines {
            if let Ok(mut text) = serde_json::to_string(line) {
                text.push('\n');
                // In one write, so that no other line comes between. A log that cannot be written must not end the run.
                let _ = { self.sink }.write_all(text.as_bytes());
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().lock().write(bytes),
            Self::Stderr => io::stderr().lock().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            Self::Stderr => io::stderr().lock().flush(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Level {
    /// Whether a line of the other level is printed if this one is set. A failed run is always logged.
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
    use crate::protocol::outcome::{Outcome, Reason};

    const MESSAGE: &str = "secret `crm`: what failed; what to do";

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
            warnings: Vec::new(),
        }
    }

    fn failure(error_type: ErrorType) -> Failure<'static> {
        let remedy = Some("what to do".to_owned());
        Failure { error_type, message: MESSAGE.to_owned(), remedy, secret_id: Some("crm") }
    }

    fn end<'a>(result: Result<&'a Report, &'a Failure<'a>>) -> RunEnd<'a> {
        let observed = Observed {
            calls: 4,
            exchange: Some(TimeDelta::milliseconds(120)),
            expires_at: Some(now() + TimeDelta::hours(1)),
            refresh_token_expires_at: Some(now() + TimeDelta::days(30)),
            client_secret_expires_at: None,
            client: None,
            has_recorded_refusal: false,
            grant_ends_at: None,
            warnings: Vec::new(),
        };
        RunEnd {
            result,
            secret_id: Some("crm"),
            metrics: RunMetrics::OfOne { by_secret: true },
            is_quiet: false,
            observed,
            duration: TimeDelta::milliseconds(180),
            at: now(),
        }
    }

    fn lines(format: Format, level: Level, end: &RunEnd<'_>) -> Vec<Value> {
        let log = Log { format, level, function_name: "refresher".to_owned(), sink: Sink::Stdout };
        log.lines(end).iter().map(|line| serde_json::to_value(line).unwrap()).collect()
    }

    #[test]
    fn a_run_is_one_line_with_its_report_and_its_metrics() {
        let report = report(Outcome::Refreshed);
        assert_eq!(
            lines(Format::Json, Level::Info, &end(Ok(&report))),
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
    fn the_line_of_a_failed_run_has_message_and_remedy_and_counts_it_by_type() {
        let observed = Observed { calls: 1, expires_at: Some(now() - TimeDelta::seconds(5)), ..Observed::default() };
        let failure = failure(ErrorType::ProviderUnavailable);
        assert_eq!(
            lines(Format::Json, Level::Info, &RunEnd { observed, ..end(Err(&failure)) }),
            [json!({
                "timestamp": "2026-01-01T00:00:00.000Z", "level": "ERROR", "message": MESSAGE,
                "errorType": "ProviderUnavailable", "secretId": "crm", "remedy": "what to do", "expiresInSeconds": -5, "durationMilliseconds": 180,
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
    fn counts(end: &RunEnd<'_>) -> Vec<String> {
        let [line] = &lines(Format::Json, Level::Info, end)[..] else { panic!("more or less than one line") };
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().cloned().unwrap_or_default();
        let metrics = directives.iter().flat_map(|directive| directive["Metrics"].as_array().unwrap());
        let counts = metrics.filter(|metric| metric["Unit"] == "Count").map(|metric| metric["Name"].as_str().unwrap());
        counts.inspect(|name| assert_eq!(line[name], 1, "{line}")).map(str::to_owned).collect()
    }

    #[test]
    fn each_outcome_has_its_count_and_a_dry_run_has_none() {
        for (outcome, expected) in [
            (Outcome::Skipped, "Skipped"),
            (Outcome::Refreshed, "Refreshed"),
            (Outcome::Recovered, "Recovered"),
            (Outcome::InProgress, "InProgress"),
            (Outcome::BackingOff, "BackingOff"),
            (Outcome::Superseded, "Superseded"),
        ] {
            assert_eq!(counts(&end(Ok(&report(outcome)))), [expected]);
        }
        for (error_type, expected) in [
            (ErrorType::ProviderUnavailable, ["Failed"].as_slice()),
            (ErrorType::ReauthorizationRequired, &["Failed", "ReauthorizationRequired"]),
            (ErrorType::TokenNotStored, &["Failed", "TokenNotStored"]),
        ] {
            assert_eq!(counts(&end(Err(&failure(error_type)))), expected);
        }
        let (would, denied) = (report(Outcome::WouldRefresh), failure(ErrorType::AccessDenied));
        for result in [Ok(&would), Err(&denied)] {
            let dry = RunEnd { metrics: RunMetrics::None, ..end(result) };
            let [line] = &lines(Format::Json, Level::Info, &dry)[..] else { panic!("more or less than one line") };
            assert!(line.get("_aws").is_none() && line.get("message").is_some(), "{line}");
        }
    }

    #[test]
    fn a_level_that_drops_the_line_leaves_the_metrics_at_a_level_that_passes() {
        let (report, failure) = (report(Outcome::Skipped), failure(ErrorType::AccessDenied));
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
            let result = if failed { Err(&failure) } else { Ok(&report) };
            let found = lines(Format::Json, level, &end(result));
            let has = |line: &Value, member: &str| line.get(member).is_some();
            let found: Vec<_> = found
                .iter()
                .map(|line| (line["level"].as_str().unwrap(), has(line, "message"), has(line, "_aws")))
                .collect();
            assert_eq!(found, expected, "{level:?}, failed: {failed}");
            // In text the line for people is another one.
            let text = lines(Format::Text, level, &end(result));
            assert_eq!((text.len(), has(&text[0], "message"), has(&text[0], "_aws")), (1, false, true), "{level:?}");
        }
        let dry = RunEnd { metrics: RunMetrics::None, ..end(Ok(&report)) };
        assert_eq!(lines(Format::Json, Level::Warn, &dry), [Value::Null; 0]);
        assert_eq!(lines(Format::Text, Level::Info, &dry), [Value::Null; 0]);
    }
}
