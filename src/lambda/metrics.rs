//! A run's `CloudWatch` metrics in Embedded Metric Format: members of a log line from which `CloudWatch` Logs extracts metrics. The
//! function needs no permission for that (`CloudWatch` User Guide, "Specification: Embedded metric format"). No IO.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::log::RunEnd;
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
    /// The metrics of a run.
    pub(super) fn of(end: &RunEnd<'a>, function_name: &'a str) -> Self {
        let mut metrics = Self {
            metadata: Metadata { timestamp: end.at.timestamp_millis(), cloud_watch_metrics: Vec::with_capacity(3) },
            function_name,
            secret_id: None,
            error_type: None,
            values: BTreeMap::new(),
        };
        match end.result {
            Ok(report) => {
                if let Some(name) = counted_as(report.outcome) {
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
        ] {
            if let Some(time) = time {
                metrics.secret_id = end.secret_id;
                metrics.add(BY_SECRET, name, Unit::Seconds, seconds_until(time, end.at));
            }
        }
        metrics
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
