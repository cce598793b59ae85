//! How a run ends when it does not fail.

use chrono::{DateTime, Utc};

use crate::store::VersionId;

/// How a run ended. The names are a format (`docs/compatibility.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not due, or the named version is no longer current.
    Skipped,
    /// New tokens are current.
    Refreshed,
    /// Tokens that an earlier run had staged are now current; nothing was exchanged.
    Recovered,
    /// Another run holds the claim; nothing was exchanged.
    InProgress,
    /// Earlier attempts failed; `retry_at` is the time of the next.
    BackingOff,
    /// Somebody put other tokens into the secret meanwhile; those are current.
    Superseded,
    /// A dry run: a scheduled run would refresh.
    WouldRefresh,
    /// A dry run: a scheduled run would recover.
    WouldRecover,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Skipped,
        Self::Refreshed,
        Self::Recovered,
        Self::InProgress,
        Self::BackingOff,
        Self::Superseded,
        Self::WouldRefresh,
        Self::WouldRecover,
    ];

    /// The name, as reports have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Refreshed => "refreshed",
            Self::Recovered => "recovered",
            Self::InProgress => "in_progress",
            Self::BackingOff => "backing_off",
            Self::Superseded => "superseded",
            Self::WouldRefresh => "would_refresh",
            Self::WouldRecover => "would_recover",
        }
    }
}

/// Why a run acted, or did not. The names are a format (`docs/compatibility.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NotDue, Self::VersionNotCurrent, Self::Due, Self::Forced, Self::NotStoredBefore];

    /// The name, as reports have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::VersionNotCurrent => "version_not_current",
            Self::Due => "due",
            Self::Forced => "forced",
            Self::NotStoredBefore => "not_stored_before",
        }
    }
}

/// The result of a run that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The version that is current now, as far as this run knows.
    pub version_id: VersionId,
    /// The version that was current before, if this run moved AWSCURRENT.
    pub previous_version_id: Option<VersionId>,
    /// The version of these tokens in the secret that `publishTo` names.
    pub published_version_id: Option<VersionId>,
    /// When the current access token expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// When to try again: the end of the other run's lease, or of the back-off.
    pub retry_at: Option<DateTime<Utc>>,
    /// What a person should correct, in sentences.
    pub warnings: Vec<String>,
}
