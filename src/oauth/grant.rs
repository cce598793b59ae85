//! The grant: what is exchanged for tokens (RFC 6749 section 1.3). It answers what its form contains, what identifies it, whether it
//! is single-use, and what to do when it is refused. Opens no socket; see `docs/adding-a-grant.md`.

use std::borrow::Cow;

pub use crate::token_secret::Grant;
use crate::{error::Advice, secret::Secret, token_secret::signing::JWT_BEARER};

impl Grant {
    /// Its parameters in the form.
    #[must_use]
    pub fn form(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::RefreshToken(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
            Self::Other(name) if name.is_empty() => Vec::new(),
            Self::Other(name) => vec![("grant_type", name)],
        }
    }

    /// What tells it from another grant of the same secret: part of the version ids.
    #[must_use]
    pub fn identity(&self) -> Cow<'_, str> {
        match self {
            Self::RefreshToken(token) => token.expose().into(),
            // No refresh token begins with a line break.
            Self::Other(name) => format!("\n{name}").into(),
        }
    }

    /// Whether it is a signed assertion (RFC 7523 section 2.1).
    #[must_use]
    pub fn is_jwt_bearer(&self) -> bool {
        matches!(self, Self::Other(name) if name == JWT_BEARER)
    }

    /// Whether the provider may accept it only once. Then a run claims it before it exchanges it, and a request that may have
    /// arrived is not sent again.
    #[must_use]
    pub const fn is_single_use(&self) -> bool {
        match self {
            // Not all providers rotate refresh tokens, but none announces it.
            Self::RefreshToken(_) => true,
            Self::Other(_) => false,
        }
    }

    /// What the provider knows of it and must not make us print.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        match self {
            Self::RefreshToken(token) => Some(token).into_iter(),
            Self::Other(_) => None.into_iter(),
        }
    }

    /// What to do when the provider refuses it for good. `secret_id`: the secret that has it.
    #[must_use]
    pub fn advice(&self, secret_id: &str) -> Advice {
        match self {
            Self::RefreshToken(_) => {
                Advice::new(format!("a person must consent again: `tokenctl login {secret_id}` (docs/first-token.md)"))
            }
            Self::Other(name) if name == JWT_BEARER => Advice::new(
                "check clientId, the key, keyId, signingAlgorithm and assertionClaims against the provider's console, and whether the \
                 client may act for this user there; if the key is new, wait some minutes, then run with `force`",
            ),
            Self::Other(_) => {
                Advice::new("correct the client's settings in the secret, or its permissions at the provider")
            }
        }
    }
}
