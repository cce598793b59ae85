//! The `CloudWatch` metrics of a run or a sweep in Embedded Metric Format: members of a log line from which `CloudWatch` Logs extracts
//! metrics. The function needs no permission for that (`CloudWatch` User Guide, "Specification: Embedded metric format"). No IO.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::log::{RunEnd, RunMetrics, SweepEnd};
use crate::{error::ErrorType, protocol::outcome::Outcome};

const NAMESPACE: &str = "TokenRefresher";

/// The metrics of one run, as members of a line.
#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metrics<'a> {
    #[serde(rename = "_aws")]
    metadata: Metadata,
    function_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
    #[serde(flatten)]
    values: BTreeMap<&'static str, i64>,
}

/// Which other members are metrics.
#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    /// Milliseconds since the epoch.
    timestamp: i64,
    cloud_watch_metrics: Vec<Directive>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    /// Sets of members; a metric is recorded once for each set.
    dimensions: &'static [&'static [&'static str]],
    metrics: Vec<Definition>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: Unit,
}

#[derive(Clone, Copy, Serialize)]
enum Unit {
    Count,
    Seconds,
    Milliseconds,
}

const BY_FUNCTION: &[&[&str]] = &[&["FunctionName"]];
const BY_SECRET: &[&[&str]] = &[&["FunctionName"], &["FunctionName", "SecretId"]];
const BY_ERROR_TYPE: &[&[&str]] = &[&["FunctionName"], &["FunctionName", "ErrorType"]];

impl<'a> Metrics<'a> {
    fn new(function_name: &'a str, at: DateTime<Utc>) -> Self {
        Self {
            metadata: Metadata { timestamp: at.timestamp_millis(), cloud_watch_metrics: Vec::with_capacity(3) },
            function_name,
            secret_id: None,
            error_type: None,
            values: BTreeMap::new(),
        }
    }

    /// The metrics of a run, if it has any.
    pub(super) fn of(end: &RunEnd<'a>, function_name: &'a str) -> Option<Self> {
        let (counts_outcome, by_secret) = match end.metrics {
            RunMetrics::None => return None,
            RunMetrics::OfOne { by_secret } => (true, by_secret),
            RunMetrics::InSweep { by_secret } => (false, by_secret),
        };
        let mut metrics = Self::new(function_name, end.at);
        match end.result {
            Ok(report) => {
                if let Some(name) = counted_as(report.outcome)
                    && counts_outcome
                {
                    metrics.add(BY_FUNCTION, name, Unit::Count, 1);
                }
            }
            Err(failure) => {
                metrics.error_type = Some(failure.error_type.as_str());
                metrics.add(BY_ERROR_TYPE, "Failed", Unit::Count, 1);
                // The two that have an alarm of their own.
                if let ErrorType::ReauthorizationRequired | ErrorType::TokenNotStored = failure.error_type {
                    metrics.add(BY_FUNCTION, failure.error_type.as_str(), Unit::Count, 1);
                }
            }
        }
        if let Some(duration) = end.observed.exchange {
            metrics.add(BY_FUNCTION, "ExchangeMilliseconds", Unit::Milliseconds, duration.num_milliseconds());
        }
        for (name, time) in [
            ("SecondsUntilExpiry", end.observed.expires_at),
            ("SecondsUntilRefreshTokenExpiry", end.observed.refresh_token_expires_at),
            ("SecondsUntilClientSecretExpiry", end.observed.client_secret_expires_at),
        ] {
            if let Some(time) = time
                && by_secret
            {
                metrics.secret_id = end.secret_id;
                metrics.add(BY_SECRET, name, Unit::Seconds, seconds_until(time, end.at));
            }
        }
        (!metrics.values.is_empty()).then_some(metrics)
    }

    /// The metrics of a sweep, none of them for one secret: a metric costs almost as much as a secret. Failures are counted in
    /// their own lines. `None`: a dry run.
    pub(super) fn of_sweep(end: &SweepEnd<'a>, function_name: &'a str) -> Option<Self> {
        let report = end.report;
        if report.dry_run {
            return None;
        }
        let mut metrics = Self::new(function_name, end.at);
        for (name, count) in [
            ("Secrets", report.secrets),
            ("Skipped", report.skipped),
            ("Refreshed", report.refreshed.unwrap_or_default()),
            ("Recovered", report.recovered.unwrap_or_default()),
            ("InProgress", report.in_progress),
            ("BackingOff", report.backing_off),
            ("Superseded", report.superseded),
            ("Ignored", report.ignored),
            ("NotReached", report.not_reached),
            ("ExpiredTokens", end.expired),
            // Each failure is counted in its own line. Without this 0, a sweep without failures would have no value, and an alarm on
            // several sweeps would take those of earlier ones.
            ("Failed", 0),
        ] {
            metrics.add(BY_FUNCTION, name, Unit::Count, i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (name, time) in [
            ("SecondsUntilExpiry", end.earliest.expires_at),
            ("SecondsUntilRefreshTokenExpiry", end.earliest.refresh_token_expires_at),
            ("SecondsUntilClientSecretExpiry", end.earliest.client_secret_expires_at),
        ] {
            if let Some(time) = time {
                metrics.add(BY_FUNCTION, name, Unit::Seconds, seconds_until(time, end.at));
            }
        }
        Some(metrics)
    }

    fn add(&mut self, dimensions: &'static [&'static [&'static str]], name: &'static str, unit: Unit, value: i64) {
        let directives = &mut self.metadata.cloud_watch_metrics;
        let definition = Definition { name, unit };
        match directives.iter_mut().find(|directive| directive.dimensions == dimensions) {
            Some(directive) => directive.metrics.push(definition),
            None => directives.push(Directive { namespace: NAMESPACE, dimensions, metrics: vec![definition] }),
        }
        self.values.insert(name, value);
    }
}

/// The metric that counts runs with this outcome. `None`: dry runs have no metrics.
const fn counted_as(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Skipped => Some("Skipped"),
        Outcome::Refreshed => Some("Refreshed"),
        Outcome::Recovered => Some("Recovered"),
        Outcome::InProgress => Some("InProgress"),
        Outcome::BackingOff => Some("BackingOff"),
        Outcome::Superseded => Some("Superseded"),
        Outcome::WouldRefresh | Outcome::WouldRecover => None,
    }
}

/// Negative after the time has passed.
pub(super) fn seconds_until(time: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (time - now).num_seconds()
}
