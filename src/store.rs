//! What the protocol asks of a place that keeps secrets: versions, labels, put-if-absent and compare-and-swap, as AWS
//! Secrets Manager documents them. Knows nothing of OAuth.

use std::{fmt, future::Future};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

#[cfg(feature = "directory")]
pub mod directory;
#[cfg(feature = "secrets-manager")]
pub mod secrets_manager;
#[cfg(any(feature = "secrets-manager", feature = "extension"))]
mod service_error;
#[cfg(feature = "extension")]
pub(crate) use service_error::meaning as error_of_service;
#[cfg(feature = "directory")]
pub mod versions;

/// How many versions a secret may have: "Approximately 100", of which only unlabelled ones older than
/// 24 hours make room by themselves (Secrets Manager quotas, User Guide).
pub const VERSION_QUOTA: usize = 100;

/// For how long an unlabelled version is certain to be kept (Secrets Manager User Guide, "Secret version").
pub const UNLABELLED_KEPT: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The size limit of one version: 65,536 bytes (Secrets Manager quotas).
pub const MAX_VERSION_BYTES: usize = 65_536;

/// The id of one version of a secret: 32 to 64 characters, chosen by the writer (`ClientRequestToken`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(String);

impl VersionId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for VersionId {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The actions a store is asked for, as Secrets Manager and its policies name them.
pub mod action {
    /// Reads one version.
    pub const GET: &str = "secretsmanager:GetSecretValue";
    /// Puts a version.
    pub const PUT: &str = "secretsmanager:PutSecretValue";
    /// Moves a label.
    pub const MOVE: &str = "secretsmanager:UpdateSecretVersionStage";
    /// Lists versions.
    pub const LIST: &str = "secretsmanager:ListSecretVersionIds";

    /// How to allow an action on a secret: a policy statement for the role, or a word on files.
    #[must_use]
    pub fn permission(action: &str, secret_id: &str) -> String {
        if !action.contains(':') {
            return "check who owns the file and its folder".to_owned();
        }
        let resource = if action.starts_with("kms:") {
            "<ARN of the secret's KMS key>".to_owned()
        } else if secret_id.starts_with("arn:") {
            secret_id.to_owned()
        } else {
            format!("arn:aws:secretsmanager:*:*:secret:{secret_id}-??????")
        };
        let statement = serde_json::json!({"Effect": "Allow", "Action": action, "Resource": resource});
        format!("add to the function's role: {statement}")
    }
}

/// The staging labels this program uses. Never `AWSPENDING`: it belongs to rotation, and any ordinary write takes it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `AWSCURRENT`: the version that readers get.
    Current,
    /// `AWSPREVIOUS`: the version that readers got before; only read.
    Previous,
    /// `OAUTH_CLAIM`: the newest claim, or the newest recorded refusal.
    Claim,
    /// `OAUTH_STAGED`: the newest tokens obtained, current or about to be.
    Staged,
}

impl Label {
    /// The label as the service spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Previous => "AWSPREVIOUS",
            Self::Claim => "OAUTH_CLAIM",
            Self::Staged => "OAUTH_STAGED",
        }
    }
}

/// Which version to read.
#[derive(Clone, Copy, Debug)]
pub enum Selector<'a> {
    /// The version that carries this label.
    Label(Label),
    /// The version with this id.
    Id(&'a VersionId),
}

/// One version as read.
#[derive(Clone, Debug)]
pub struct Version {
    /// The secret's ARN (a directory store makes up one that is as unique).
    pub arn: String,
    /// The version's id.
    pub id: VersionId,
    /// When the version was made, by the store's clock.
    pub created: DateTime<Utc>,
    /// Its text.
    pub body: Secret,
}

/// What a version holds, for a reader that takes either.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// `SecretString`.
    Text(Secret),
    /// `SecretBinary`.
    Bytes(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Bytes(_) => "Bytes(..)",
        })
    }
}

/// One version as listed, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The version's id.
    pub id: VersionId,
    /// When the version was made, by the store's clock.
    pub created: DateTime<Utc>,
    /// Whether any staging label is on it.
    pub labelled: bool,
}

/// Why a store did not do what it was asked. `said` is the store's own text: it names no secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such secret, or no such version of it.
    NotFound {
        /** The store's text. */
        said: String,
    },
    /// The caller may not do this.
    AccessDenied {
        /** The action to allow. */
        action: &'static str,
        /** The store's text. */
        said: String,
    },
    /// A put: this version id is taken by other content.
    Exists,
    /// A move: the label is not where the caller last saw it.
    Moved,
    /// A put: there is no room for another version.
    Quota {
        /** The store's text. */
        said: String,
    },
    /// A read: the version holds bytes, not text.
    Binary,
    /// The store refused for good; asking again will not help.
    Rejected {
        /** The action refused. */
        action: &'static str,
        /** The store's text. */
        said: String,
    },
    /// Throttled, failing or out of reach, after retries. A write may have been done all the same.
    Unavailable {
        /** The action that failed. */
        action: &'static str,
        /** The store's text. */
        said: String,
    },
}

impl StoreError {
    /// The same error, with more in its text.
    #[must_use]
    pub fn adding(mut self, what: &str) -> Self {
        if let Self::NotFound { said }
        | Self::AccessDenied { said, .. }
        | Self::Quota { said }
        | Self::Rejected { said, .. }
        | Self::Unavailable { said, .. } = &mut self
        {
            *said = format!("{said}; {what}");
        }
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { said } | Self::Quota { said } => f.write_str(said),
            Self::AccessDenied { action, said } => write!(f, "not allowed to {action}: {said}"),
            Self::Exists => f.write_str("the version id is taken by other content"),
            Self::Moved => f.write_str("the label has moved meanwhile"),
            Self::Binary => f.write_str("the version holds bytes, not text"),
            Self::Rejected { action, said } | Self::Unavailable { action, said } => write!(f, "{action}: {said}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Reads and writes the versions of secrets. All operations are eventually consistent: a read may lag behind a write.
///
/// Errors are [`StoreError`]; each method says which ones have a meaning of their own there.
pub trait SecretStore: Send + Sync {
    /// Reads one version. [`StoreError::NotFound`] when the secret or the version is not there.
    fn get(&self, secret_id: &str, which: Selector<'_>) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// Puts a version under `id` and moves `label` (not [`Label::Current`]) to it; AWSCURRENT stays where it is.
    ///
    /// Put-if-absent: the same id with the same text again succeeds and changes nothing; with other text it fails with
    /// [`StoreError::Exists`]. No room for it: [`StoreError::Quota`].
    fn put(
        &self,
        secret_id: &str,
        id: &VersionId,
        label: Label,
        body: &Secret,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves AWSCURRENT from one version to another: compare-and-swap.
    ///
    /// [`StoreError::Moved`] when AWSCURRENT is not on `from`.
    fn move_current(
        &self,
        secret_id: &str,
        from: &VersionId,
        to: &VersionId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All versions, unlabelled ones too.
    fn list(&self, secret_id: &str) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send;
}
