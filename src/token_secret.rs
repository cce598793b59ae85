//! The token secret: a JSON object in either naming style, read into typed members and written back with new tokens,
//! everything else kept. Knows nothing of stores, clocks or providers.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};

use crate::secret::Secret;

pub mod client_settings;
pub mod document;
pub mod member;
pub mod time_form;

use client_settings::ClientSettings;
use document::{Document, NotADocument, json_string};
use member::{Member, Style};
use time_form::TimeForm;

/// The lifetime to assume where neither the provider nor the secret names one.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// A token secret as read.
#[derive(Clone, Debug)]
pub struct TokenSecret {
    document: Document,
    style: Style,
    time_form: TimeForm,
    /// The tokens it holds.
    pub tokens: Tokens,
    /// When the access token expires. `None` (missing or null): it is due now.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the refresh token itself ends, where that is known.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// This secret's own margin.
    pub refresh_margin: Option<Duration>,
    /// The client, as far as this secret names it.
    pub client: ClientSettings,
}

/// What tells one state of a token from the next: the refresher's ids are derived from these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The current refresh token.
    pub refresh_token: Secret,
    /// The current access token; missing before the first refresh.
    pub access_token: Option<Secret>,
    /// When these tokens were obtained; later for each refresh. Missing before the first one.
    pub refreshed_at: Option<DateTime<Utc>>,
}

/// What a provider granted, ready to be written.
#[derive(Debug)]
pub struct NewTokens {
    /// The new access token.
    pub access_token: Secret,
    /// The new refresh token; `None`: the old one stays (RFC 6749 section 6).
    pub refresh_token: Option<Secret>,
    /// `token_type`, where the answer names it.
    pub token_type: Option<String>,
    /// `scope`, where the answer names it.
    pub scope: Option<String>,
    /// When the tokens were asked for.
    pub refreshed_at: DateTime<Utc>,
    /// When the access token expires.
    pub expires_at: DateTime<Utc>,
    /// When the refresh token ends.
    pub refresh_token_expires_at: RefreshTokenExpiry,
    /// What else the provider answered.
    pub rest: Document,
}

/// What an answer says of the refresh token's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokenExpiry {
    /// Nothing.
    NotSaid,
    /// That it has none.
    Never,
    /// When it is.
    At(DateTime<Utc>),
}

/// Why a secret is no token secret (or no client's secret). Never shows a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretProblem {
    /// It is no JSON object at all.
    NotADocument(NotADocument),
    /// It holds bytes, not text.
    Binary,
    /// A member is not there, is null or is empty.
    Missing(&'static str),
    /// A member holds something else than it should.
    WrongType {
        /// The member's name, as it stands in the secret.
        member: String,
        /// What it is, with its article.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A member stands twice: under one name, or under both its names.
    Twice(&'static str, &'static str),
}

impl TokenSecret {
    /// Reads a token secret.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        let document = Document::parse(text).map_err(SecretProblem::NotADocument)?;
        let style = Style::of(&document)?;
        let refresh_token =
            Member::RefreshToken.text(&document)?.ok_or(SecretProblem::Missing(Member::RefreshToken.name(style)))?;
        let refreshed_at = Member::RefreshedAt.time(&document)?;
        let expires_at = Member::ExpiresAt.time(&document)?;
        // Zero says "due now" and nothing about its unit: people put it in place of milliseconds and seconds alike.
        let time_form = match (expires_at, refreshed_at) {
            (Some((time, form)), _) if time != DateTime::UNIX_EPOCH => form,
            (Some(_), Some((_, form))) => form,
            _ => TimeForm::DEFAULT,
        };
        Ok(Self {
            style,
            time_form,
            tokens: Tokens {
                refresh_token,
                access_token: Member::AccessToken.text(&document)?,
                refreshed_at: refreshed_at.map(|(time, _)| time),
            },
            expires_at: expires_at.map(|(time, _)| time),
            refresh_token_expires_at: Member::RefreshTokenExpiresAt.time(&document)?.map(|(time, _)| time),
            refresh_margin: Member::RefreshMarginSeconds.seconds(&document)?,
            client: ClientSettings::read(&document)?,
            document,
        })
    }

    /// The secret's text with these tokens in place of its own, in its own style and forms; all else as it was.
    ///
    /// `refreshedAt` is written later than the one before, whatever the clock says, so that no two states of a
    /// token look alike. Where what else the provider answered would make the text longer than `max_bytes`, it is left
    /// out: the tokens matter more.
    #[must_use]
    pub fn with_new_tokens(&self, new: &NewTokens, max_bytes: usize) -> Secret {
        let mut document = self.document.clone();
        let mut set = |member: Member, value: String| document.set(member.name_in(&self.document, self.style), value);
        set(Member::AccessToken, json_string(new.access_token.expose()));
        if let Some(refresh_token) = &new.refresh_token {
            set(Member::RefreshToken, json_string(refresh_token.expose()));
        }
        set(Member::ExpiresAt, self.time_form.write(new.expires_at));
        if let Some(token_type) = &new.token_type {
            set(Member::TokenType, json_string(token_type));
        }
        if let Some(scope) = &new.scope {
            set(Member::Scope, json_string(scope));
        }
        set(Member::RefreshedAt, self.time_form.write_later(new.refreshed_at, self.tokens.refreshed_at));
        let rotated = new.refresh_token.as_ref().is_some_and(|token| *token != self.tokens.refresh_token);
        match new.refresh_token_expires_at {
            RefreshTokenExpiry::At(time) => set(Member::RefreshTokenExpiresAt, self.time_form.write(time)),
            // What was known of another refresh token's end does not hold for this one.
            RefreshTokenExpiry::NotSaid if !rotated => {}
            RefreshTokenExpiry::NotSaid | RefreshTokenExpiry::Never => {
                if self.refresh_token_expires_at.is_some() {
                    set(Member::RefreshTokenExpiresAt, "null".to_owned());
                }
            }
        }
        let without_rest = document.to_text();
        if new.rest.is_empty() {
            return without_rest;
        }
        // Members of earlier answers stay: QuickBooks names its `realmId` at the consent and never again.
        let name = Member::TokenResponse.name_in(&self.document, self.style);
        let mut rest = document.get(name).and_then(|text| Document::parse(text).ok()).unwrap_or_default();
        for (name, value) in new.rest.members() {
            rest.set(name, value.to_owned());
        }
        document.set(name, rest.to_text().expose().to_owned());
        let text = document.to_text();
        if text.expose().len() > max_bytes { without_rest } else { text }
    }

    /// The secret's text with `other`'s tokens (and all that is written with them) in place of its own. `None`: nothing
    /// but those differs, so that `other` itself will do.
    #[must_use]
    pub fn with_tokens_of(&self, other: &Self) -> Option<Secret> {
        let others = |secret: &Self| {
            let mut rest = secret.document.clone();
            for member in Member::WRITTEN {
                rest.remove(member.name_in(&secret.document, secret.style));
            }
            rest.to_text()
        };
        if self.style == other.style && others(self) == others(other) {
            return None;
        }
        let mut document = self.document.clone();
        for member in Member::WRITTEN {
            match member.get(&other.document) {
                Some(value) => document.set(member.name_in(&self.document, self.style), value.to_owned()),
                None => document.remove(member.name_in(&self.document, self.style)),
            }
        }
        Some(document.to_text())
    }
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADocument(NotADocument::Empty) => write!(f, "it is empty"),
            Self::NotADocument(NotADocument::NotJson { line, column }) => {
                write!(f, "it is not JSON (from line {line}, column {column} on)")
            }
            Self::NotADocument(NotADocument::NotAnObject { found }) => {
                write!(f, "it is {found}, where a JSON object is wanted")
            }
            Self::Binary => write!(f, "it is binary, where text (SecretString) is wanted"),
            Self::Missing(member) => write!(f, "its member `{member}` is missing or empty"),
            Self::WrongType { member, found, wanted } => {
                write!(f, "its member `{member}` is {found}, where {wanted} is wanted")
            }
            Self::Twice(a, b) if a == b => write!(f, "its member `{a}` stands there twice; take one out"),
            Self::Twice(a, b) => write!(f, "it has both `{a}` and `{b}`; take one out"),
        }
    }
}

impl std::error::Error for SecretProblem {}
