//! The access token as it is handed out. Knows not where it came from.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::entry::Entry;
use crate::{
    secret::Secret,
    store::VersionId,
    token_secret::{SecretProblem, readable::ReadableToken},
};

/// A token secret that has an access token.
pub(super) struct HeldToken {
    pub access_token: Secret,
    pub secret: ReadableToken,
}

/// An access token, good at the moment it was handed out. A clone is the same one: nothing is copied.
///
/// Its text is wiped from memory when the cache and everyone else has let go of it.
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
pub struct AccessToken(pub(super) Arc<Entry<HeldToken>>);

impl AccessToken {
    /// The token's text, for the `Authorization` header.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.value.access_token.expose()
    }

    /// When it expires (`expiresAt`); `None` where the secret does not say.
    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.value.secret.expires_at
    }

    /// The version of the secret that holds it.
    #[must_use]
    pub fn version_id(&self) -> &VersionId {
        &self.0.version_id
    }

    /// Another member of the secret (`scope`, one of your own), or else of the provider's last answer (`tokenResponse`:
    /// `instance_url`, `realmId`, …). `None` where it is missing or null, and for what no reader needs: the refresh token, the
    /// client's secret, extra parameters and headers are not kept.
    ///
    /// # Errors
    ///
    /// [`SecretProblem::WrongType`] where it is there and is no `T`.
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
