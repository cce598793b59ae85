//! The report of a run: the function's response. It never contains a token.
//!
//! Its JSON is a format (`docs/compatibility.md`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::{
    protocol::outcome::{Completed, Outcome, Reason},
    store::VersionId,
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
