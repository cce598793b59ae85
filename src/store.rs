//! What the protocol needs of a place that keeps secrets: versions, labels, put-if-absent and compare-and-swap, as AWS Secrets
//! Manager documents them. Knows nothing of OAuth, and no particular store.

use std::{fmt, future::Future};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{error::Advice, secret::Secret};

#[cfg(any(feature = "secrets-manager", feature = "extension"))]
pub mod aws;
#[cfg(feature = "directory")]
pub mod directory;
#[cfg(all(feature = "directory", feature = "secrets-manager"))]
pub mod named;
#[cfg(feature = "refresher")]
pub mod paced;
#[cfg(feature = "secrets-manager")]
pub mod secrets_manager;
#[cfg(feature = "directory")]
pub mod versions;

/// The id of one version of a secret: 32 to 64 characters, chosen by the writer (`ClientRequestToken`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(String);

impl VersionId {
    /// A new id, for a version that nobody else looks for.
    #[cfg(feature = "directory")]
    #[must_use]
    pub fn random() -> Self {
        uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string().into()
    }

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

/// The staging labels this program uses.
///
/// The names are a format (`docs/compatibility.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `AWSCURRENT`: the version that readers get.
    Current,
    /// `AWSPREVIOUS`: the version that readers got before; only read.
    Previous,
    /// `OAUTH_CLAIM`: the newest claim, or the newest recorded refusal.
    Claim,
    /// `OAUTH_STAGED`: the newest staged version, current or about to be.
    Staged,
    /// `OAUTH_ENDED`: the newest claim whose run ended without new tokens, before its lease.
    Ended,
    /// `OAUTH_KEPT`: the newest kept response, whose tokens are in an unknown form.
    Kept,
    /// `OAUTH_ENTERED`: a version that `tokenctl` has put and not promoted yet. The function does not look for it.
    Entered,
    /// `AWSPENDING`: the version of a rotation that has not ended. Secrets Manager sets it, and a put may remove it. This program only
    /// removes it, at the end of a rotation.
    Pending,
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
            Self::Ended => "OAUTH_ENDED",
            Self::Kept => "OAUTH_KEPT",
            Self::Entered => "OAUTH_ENTERED",
            Self::Pending => "AWSPENDING",
        }
    }
}

/// The staging labels of a version, those of other programs included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Whether this label is one of them.
    #[must_use]
    pub fn has(&self, label: Label) -> bool {
        self.0.iter().any(|name| name == label.as_str())
    }

    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromIterator<String> for Labels {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl<const N: usize> From<[Label; N]> for Labels {
    fn from(labels: [Label; N]) -> Self {
        labels.into_iter().map(|label| label.as_str().to_owned()).collect()
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
    /// The secret's ARN (a directory store makes one up that is as unique).
    pub arn: String,
    /// The version's id.
    pub id: VersionId,
    /// When the version was put, by the store's clock.
    pub created: DateTime<Utc>,
    /// Its labels.
    pub labels: Labels,
    /// Its text.
    pub body: Secret,
}

/// What a version holds, for a reader that accepts both.
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
    /// When the version was put, by the store's clock.
    pub created: DateTime<Utc>,
    /// Its labels.
    pub labels: Labels,
}

/// How many secrets one call reads: the limit of `BatchGetSecretValue` (Secrets Manager API Reference).
pub const BATCH: usize = 20;

/// A secret that a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name, or its ARN if the store returned only that.
    pub secret_id: String,
    /// Its current version. `None`: the store did not return it; [`SecretStore::get`] says why.
    pub version: Option<Version>,
}

/// One page of a search.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The secrets, at most [`BATCH`]; may be empty although more follow.
    pub found: Vec<Found>,
    /// The token of the next page; `None` on the last one.
    pub next: Option<String>,
}

/// How much a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many versions a secret may have. Unlabelled ones that are old enough make room for new ones by themselves.
    pub versions: usize,
    /// The size of one version, in bytes.
    pub version_bytes: usize,
    /// How long an unlabelled version is certain to be kept.
    pub unlabelled_kept: TimeDelta,
    /// How many different labels the versions of a secret may have together.
    pub labels: usize,
}

impl Limits {
    /// Those of Secrets Manager, which other stores keep to as well.
    ///
    /// "Approximately 100" versions, 65,536 bytes and 20 labels: Secrets Manager User Guide, "Quotas". 24 hours: "Secret version" there.
    pub const SECRETS_MANAGER: Self =
        Self { versions: 100, version_bytes: 65_536, unlabelled_kept: TimeDelta::hours(24), labels: 20 };
}

/// What a store does in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`SecretStore::get`].
    Get,
    /// [`SecretStore::put`].
    Put,
    /// [`SecretStore::move_label`].
    MoveLabel,
    /// [`SecretStore::list`].
    List,
    /// [`SecretStore::get_batch`] and [`SecretStore::find`].
    GetBatch,
}

/// Why a store did not do what was asked. `detail` is the store's own text: it contains no secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The secret, or this version of it, does not exist.
    NotFound {
        /** The store's text. */
        detail: String,
    },
    /// The caller may not do this.
    AccessDenied {
        /** The action to allow. */
        action: &'static str,
        /** The store's text. */
        detail: String,
    },
    /// A put: this version id exists with other content.
    Exists,
    /// A move: the label is not where the caller last saw it. Some stores report other refusals of a move in the same way.
    Moved {
        /** The store's text. */
        detail: String,
    },
    /// A put: there is no room for another version.
    Quota {
        /** The store's text. */
        detail: String,
    },
    /// A read: the version holds bytes, not text.
    Binary,
    /// The store refused for good; the same call will fail again.
    Rejected {
        /** The action refused. */
        action: &'static str,
        /** The store's text. */
        detail: String,
    },
    /// The caller's credentials or its signature were not accepted, also after another try.
    NotAuthenticated {
        /** The action refused. */
        action: &'static str,
        /** The store's text. */
        detail: String,
    },
    /// The caller has no usable settings to reach the store.
    NotConfigured {
        /** What is missing. */
        detail: String,
    },
    /// The store asks for fewer calls, after retries. An earlier try may have done the write.
    Throttled {
        /** The action that was refused. */
        action: &'static str,
        /** The store's text. */
        detail: String,
    },
    /// Failing or out of reach, after retries. A write may have been done all the same.
    Unavailable {
        /** The action that failed. */
        action: &'static str,
        /** The store's text. */
        detail: String,
    },
}

impl StoreError {
    /// The same error, with more in its text.
    #[must_use]
    pub fn adding(mut self, what: &str) -> Self {
        if let Self::NotFound { detail }
        | Self::AccessDenied { detail, .. }
        | Self::Quota { detail }
        | Self::Moved { detail }
        | Self::Rejected { detail, .. }
        | Self::NotAuthenticated { detail, .. }
        | Self::NotConfigured { detail }
        | Self::Throttled { detail, .. }
        | Self::Unavailable { detail, .. } = &mut self
        {
            *detail = format!("{detail}; {what}");
        }
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { detail } | Self::Quota { detail } | Self::NotConfigured { detail } => f.write_str(detail),
            Self::AccessDenied { action, detail } => write!(f, "not allowed to {action}: {detail}"),
            Self::Exists => f.write_str("the version id exists with other content"),
            Self::Moved { detail } => write!(f, "the label was moved meanwhile: {detail}"),
            Self::Binary => f.write_str("the version holds bytes, not text"),
            Self::Rejected { action, detail }
            | Self::NotAuthenticated { action, detail }
            | Self::Throttled { action, detail }
            | Self::Unavailable { action, detail } => write!(f, "{action}: {detail}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Reads and writes the versions of secrets. All operations are eventually consistent: a read may lag behind a write.
///
/// Errors are [`StoreError`]; each method names the ones with a meaning of their own. A new store passes the conformance suite
/// in `tests/store`: see `docs/adding-a-store.md`.
pub trait SecretStore: Send + Sync {
    /// How much the store keeps.
    fn limits(&self) -> Limits;

    /// The name of an operation in the store's own words, for messages: the action that a policy allows.
    fn action(&self, operation: Operation) -> &'static str;

    /// What to do about an error of this store.
    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice;

    /// Where its secrets are, for messages, such as "eu-west-1". Empty: the store has no name for it.
    fn place(&self) -> String {
        String::new()
    }

    /// Reads one version. [`StoreError::NotFound`] when the secret or the version does not exist.
    fn get(&self, secret_id: &str, which: Selector<'_>) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// Puts a version under `id` and moves `label` (not [`Label::Current`]) to it; AWSCURRENT does not move.
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

    /// Moves a label from one version to another: compare-and-swap. `from`: the version that has it now, `None` if none has it.
    ///
    /// [`StoreError::Moved`] when the label is elsewhere.
    fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves AWSCURRENT: [`Self::move_label`].
    fn move_current(
        &self,
        secret_id: &str,
        from: &VersionId,
        to: &VersionId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.move_label(secret_id, Label::Current, Some(from), to)
    }

    /// Removes a label from a version. [`StoreError::Moved`] when it is not there.
    fn remove_label(
        &self,
        secret_id: &str,
        label: Label,
        from: &VersionId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All versions, unlabelled ones too.
    fn list(&self, secret_id: &str) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send;

    /// Reads the current versions of at most [`BATCH`] secrets, in the order of their names. `None`: the store did not return that one;
    /// [`Self::get`] says why.
    fn get_batch(&self, secret_ids: &[&str]) -> impl Future<Output = Result<Vec<Option<Version>>, StoreError>> + Send {
        let none = vec![None; secret_ids.len()];
        async move { Ok(none) }
    }

    /// One page of the secrets whose names begin with `prefix`, with their current versions. `page`: the [`Page::next`] of the page
    /// before; `None` for the first.
    ///
    /// [`StoreError::Rejected`] from a store that cannot search.
    fn find(&self, prefix: &str, page: Option<&str>) -> impl Future<Output = Result<Page, StoreError>> + Send {
        let _ = (prefix, page);
        let action = self.action(Operation::GetBatch);
        async move { Err(StoreError::Rejected { action, detail: "this store cannot search for names".to_owned() }) }
    }

    /// Reads one version for a reader, which accepts text and bytes.
    ///
    /// Errors are those of [`Self::get`]; a store that keeps bytes returns them instead of [`StoreError::Binary`].
    fn read(
        &self,
        secret_id: &str,
        which: Selector<'_>,
    ) -> impl Future<Output = Result<(VersionId, Content), StoreError>> + Send {
        async move {
            let version = self.get(secret_id, which).await?;
            Ok((version.id, Content::Text(version.body)))
        }
    }
}
