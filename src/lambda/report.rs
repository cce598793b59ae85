//! The report of a run or of a sweep: the function's response. It never contains a token.
//!
//! Its JSON is a format (`docs/compatibility.md`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::{
    protocol::outcome::{Completed, Outcome, Reason},
    store::VersionId,
    sweep::summary::{Failure, Summary, TokenState},
};

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The secret, as the event or `SECRET_ID` names it.
    pub secret_id: String,
    /// The version that is current now, as far as this run knows.
    pub version_id: VersionId,
    /// The version that was current before, if this run moved AWSCURRENT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_version_id: Option<VersionId>,
    /// The version of these tokens in the secret that `publishTo` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_version_id: Option<VersionId>,
    /// When the current access token expires.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_rfc3339")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Seconds from now until then; negative after it has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Why.
    pub reason: Reason,
    /// When to try again: the end of the other run's lease, or of the back-off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_rfc3339")]
    pub retry_at: Option<DateTime<Utc>>,
    /// What a person should correct, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Report {
    /// The report of a run that ended at `now`.
    #[must_use]
    pub fn new(secret_id: &str, completed: Completed, now: DateTime<Utc>) -> Self {
        Self {
            outcome: completed.outcome,
            secret_id: secret_id.to_owned(),
            version_id: completed.version_id,
            previous_version_id: completed.previous_version_id,
            published_version_id: completed.published_version_id,
            expires_at: completed.expires_at,
            expires_in_seconds: completed.expires_at.map(|expires_at| (expires_at - now).num_seconds()),
            reason: completed.reason,
            retry_at: completed.retry_at,
            warnings: completed.warnings,
        }
    }
}

/// The report of an event of Secrets Manager that started no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum EventReport {
    /// Nothing had to be done.
    Ignored,
    /// A rotation has ended: AWSPENDING is on no version.
    Finished,
}

/// What the function returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// The report of a run for one secret.
    Run(Box<Report>),
    /// The report of a sweep.
    Sweep(Box<SweepReport>),
    /// The report of an event that started no run.
    Event(EventReport),
}

impl Response {
    /// The report, if it is that of a run for one secret.
    #[must_use]
    pub fn into_report(self) -> Option<Report> {
        match self {
            Self::Run(report) => Some(*report),
            Self::Sweep(_) | Self::Event(_) => None,
        }
    }
}

/// The report of a sweep. In a dry run `would_refresh` and `would_recover` are there in place of `refreshed` and `recovered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// "swept".
    pub outcome: &'static str,
    /// Whether nothing was done.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// All secrets; the sum of the following numbers.
    pub secrets: usize,
    /// Not due.
    pub skipped: usize,
    /// New tokens are current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<usize>,
    /// Tokens that an earlier run had staged are current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<usize>,
    /// A sweep would refresh them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_refresh: Option<usize>,
    /// A sweep would recover them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_recover: Option<usize>,
    /// Another run holds the claim.
    pub in_progress: usize,
    /// Earlier attempts failed.
    pub backing_off: usize,
    /// Somebody put other tokens into the secret.
    pub superseded: usize,
    /// Not token secrets.
    pub ignored: usize,
    /// Failed.
    pub failed: usize,
    /// Not started: no time was left, the endpoint was paused, or the client was rejected.
    pub not_reached: usize,
    /// 20 of the failures at most.
    pub failures: Vec<Failure>,
    /// Seconds until the first access token expires; negative if one has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soonest_expires_in_seconds: Option<i64>,
    /// The tokens of a dry run, 500 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<TokenState>>,
    /// What a person should correct, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl SweepReport {
    /// The report of a sweep that ended at `now`.
    #[must_use]
    pub fn new(summary: Summary, dry: bool, now: DateTime<Utc>) -> Self {
        let Summary { counts, earliest, failures, tokens, warnings, .. } = summary;
        Self {
            outcome: "swept",
            dry_run: dry,
            secrets: counts.secrets,
            skipped: counts.skipped,
            refreshed: (!dry).then_some(counts.refreshed),
            recovered: (!dry).then_some(counts.recovered),
            would_refresh: dry.then_some(counts.refreshed),
            would_recover: dry.then_some(counts.recovered),
            in_progress: counts.in_progress,
            backing_off: counts.backing_off,
            superseded: counts.superseded,
            ignored: counts.ignored,
            failed: counts.failed,
            not_reached: counts.not_reached,
            failures,
            soonest_expires_in_seconds: earliest.expires_at.map(|time| (time - now).num_seconds()),
            tokens: dry.then_some(tokens),
            warnings,
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn as_rfc3339<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).serialize(serializer)
}
