//! The access token that callers get. Does not know its source.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::entry::Entry;
use crate::{
    secret::Secret,
    store::VersionId,
    token_secret::{SecretProblem, readable::ReadableToken},
};

/// The decoded token secret, with an access token.
pub(super) struct DecodedToken {
    pub access_token: Secret,
    pub secret: ReadableToken,
}

/// An access token, valid when it was returned. A clone shares the same text.
///
/// The text is wiped from memory when the cache and all clones have been dropped.
///
/// ```
/// # use token_refresher::{Reader, reader::{ReadError, SecretVersion, Source}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
/// let secret = r#"{"accessToken": "t0ps3cret", "expiresAt": "2099-01-01T00:00:00Z",
///                  "tokenResponse": {"instance_url": "https://eu.example"}}"#;
/// let reader = Reader::new(Source::from_fn(move |_| async move { Ok(SecretVersion::text("v1", secret)) }), "crm/oauth");
///
/// let token = reader.access_token().await?;
/// assert_eq!(token.expose(), "t0ps3cret");
/// assert_eq!(token.expires_at().unwrap().to_rfc3339(), "2099-01-01T00:00:00+00:00");
/// assert_eq!(token.version_id().as_str(), "v1");
/// assert_eq!(token.member::<String>("instance_url").unwrap().as_deref(), Some("https://eu.example"));
/// assert!(!format!("{token:?}").contains("t0ps3cret"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AccessToken(pub(super) Arc<Entry<DecodedToken>>);

impl AccessToken {
    /// The token's text, for the `Authorization` header.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.value.access_token.expose()
    }

    /// When it expires (`expiresAt`); `None` if the secret has no `expiresAt`.
    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.value.secret.expires_at
    }

    /// The version of the secret that contains it.
    #[must_use]
    pub fn version_id(&self) -> &VersionId {
        &self.0.version_id
    }

    /// Another member of the secret (`scope`, or one of your own). If the secret does not have it, the member of the provider's
    /// last response (`tokenResponse`: `instance_url`, `realmId`, …).
    ///
    /// `None` if it is missing or null. Also `None` for members that no reader needs, which are not kept: the refresh token, the
    /// client's secret, extra parameters and headers.
    ///
    /// # Errors
    ///
    /// [`SecretProblem::WrongType`] if the member is not a `T`.
    pub fn member<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SecretProblem> {
        self.0.value.secret.member(name)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("version_id", self.version_id())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}
