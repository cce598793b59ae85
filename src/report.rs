//! What a run answers: the function's response. Never a token in it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::store::VersionId;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Far from expiry, or the version named is no longer current.
    Skipped,
    /// New tokens are current.
    Refreshed,
    /// Tokens that an earlier, interrupted run had obtained are now current; nothing was exchanged.
    Recovered,
    /// Another run holds the claim; nothing was exchanged.
    InProgress,
    /// Earlier attempts failed; `retry_at` says when the next is due.
    BackingOff,
    /// Someone put other tokens in place meanwhile; theirs stand.
    Superseded,
    /// A dry run: a scheduled run would refresh.
    WouldRefresh,
}

/// Why a run acted, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The access token is far from expiry.
    NotDue,
    /// The version that the event named is no longer current.
    VersionNotCurrent,
    /// The access token expires within the margin, or has expired.
    Due,
    /// The event forced it.
    Forced,
    /// An earlier invocation of this process could not write the tokens it had obtained.
    NotStoredBefore,
}

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
    /// The version that was current before, where this run moved AWSCURRENT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_version_id: Option<VersionId>,
    /// The version that tells readers of these tokens, in the secret that `publishTo` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_version_id: Option<VersionId>,
    /// When the current access token expires.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_rfc3339")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Seconds from now until then; negative once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Why.
    pub reason: Reason,
    /// When to try again: the end of the other run's lease, or of the back-off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_rfc3339")]
    pub retry_at: Option<DateTime<Utc>>,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn as_rfc3339<S: serde::Serializer>(time: &Option<DateTime<Utc>>, s: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).serialize(s)
}
