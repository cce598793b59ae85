//! The grant: what is exchanged for tokens (RFC 6749 section 1.3). It answers what its form contains, what identifies it, whether it
//! is single-use, and what to do when it is refused. Opens no socket; see `docs/adding-a-grant.md`.

use crate::{error::Advice, secret::Secret, token_secret::TokenSecret};

/// What is exchanged for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A refresh token (RFC 6749 section 6).
    RefreshToken(Secret),
}

impl Grant {
    /// The grant of a token secret.
    #[must_use]
    pub fn of(token: &TokenSecret) -> Self {
        Self::RefreshToken(token.tokens.refresh_token.clone())
    }

    /// Its parameters in the form.
    #[must_use]
    pub fn form(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::RefreshToken(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
        }
    }

    /// What tells it from another grant of the same secret: part of the version ids.
    #[must_use]
    pub fn identity(&self) -> &str {
        match self {
            Self::RefreshToken(token) => token.expose(),
        }
    }

    /// Whether the provider may accept it only once. Then a run claims it before it exchanges it, and a request that may have
    /// arrived is not sent again.
    #[must_use]
    pub const fn is_single_use(&self) -> bool {
        match self {
            // Not all providers rotate refresh tokens, but none announces it.
            Self::RefreshToken(_) => true,
        }
    }

    /// What the provider knows of it and must not make us print.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        match self {
            Self::RefreshToken(token) => std::iter::once(token),
        }
    }

    /// What to do when the provider refuses it for good.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::RefreshToken(_) => Advice::new("a person must consent again and put the new tokens into the secret"),
        }
    }
}
