//! The members of a token secret that have a meaning here: their two names, and how each kind is read.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};

use super::{
    SecretProblem,
    document::{Document, kind},
    time_form::TimeForm,
};
use crate::{
    sanitize::{is_visible, sanitize_line},
    secret::Secret,
};

/// In this year a number of seconds becomes so large that it would be read as milliseconds.
const FIRST_YEAR_WITHOUT_ROOM: i32 = 5138;

/// A member with a meaning. In order of the contract's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The current access token.
    AccessToken,
    /// The current refresh token.
    RefreshToken,
    /// Expiry of the access token.
    ExpiresAt,
    /// The provider's token endpoint.
    TokenEndpoint,
    /// The OAuth client.
    ClientId,
    /// The OAuth client's secret.
    ClientSecret,
    /// Another secret that holds the client.
    ClientCredentialsSecretId,
    /// How the client authenticates.
    TokenEndpointAuthMethod,
    /// Added to the form.
    ExtraParameters,
    /// Added to the request.
    ExtraHeaders,
    /// Another secret that gets what readers need.
    PublishTo,
    /// This secret's own margin.
    RefreshMarginSeconds,
    /// Lifetime to assume when the provider names none.
    DefaultLifetimeSeconds,
    /// `token_type` of the last answer.
    TokenType,
    /// `scope` of the last answer.
    Scope,
    /// When the refresh token itself ends.
    RefreshTokenExpiresAt,
    /// When the tokens were obtained.
    RefreshedAt,
    /// What else the provider answered.
    TokenResponse,
}

/// Which of its two names a member is written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `refreshToken`.
    CamelCase,
    /// `refresh_token`, as in RFC 6749.
    SnakeCase,
}

impl Style {
    /// The style of a token secret: that of its refresh token.
    pub(super) fn of(document: &Document) -> Result<Self, SecretProblem> {
        let found = Member::RefreshToken.find(document)?.or(Member::AccessToken.find(document)?);
        Ok(if found.is_some_and(|(name, _)| name.contains('_')) { Self::SnakeCase } else { Self::CamelCase })
    }
}

impl Member {
    /// The members that the refresher writes: the tokens and what belongs to them.
    pub const WRITTEN: [Self; 8] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::ExpiresAt,
        Self::TokenType,
        Self::Scope,
        Self::RefreshTokenExpiresAt,
        Self::RefreshedAt,
        Self::TokenResponse,
    ];

    /// The members that readers need: all that a published secret has.
    pub const PUBLISHED: [Self; 5] =
        [Self::AccessToken, Self::ExpiresAt, Self::TokenType, Self::Scope, Self::TokenResponse];

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::AccessToken => ("accessToken", "access_token"),
            Self::RefreshToken => ("refreshToken", "refresh_token"),
            Self::ExpiresAt => ("expiresAt", "expires_at"),
            Self::TokenEndpoint => ("tokenEndpoint", "token_endpoint"),
            Self::ClientId => ("clientId", "client_id"),
            Self::ClientSecret => ("clientSecret", "client_secret"),
            Self::ClientCredentialsSecretId => ("clientCredentialsSecretId", "client_credentials_secret_id"),
            Self::TokenEndpointAuthMethod => ("tokenEndpointAuthMethod", "token_endpoint_auth_method"),
            Self::ExtraParameters => ("extraParameters", "extra_parameters"),
            Self::ExtraHeaders => ("extraHeaders", "extra_headers"),
            Self::PublishTo => ("publishTo", "publish_to"),
            Self::RefreshMarginSeconds => ("refreshMarginSeconds", "refresh_margin_seconds"),
            Self::DefaultLifetimeSeconds => ("defaultLifetimeSeconds", "default_lifetime_seconds"),
            Self::TokenType => ("tokenType", "token_type"),
            Self::Scope => ("scope", "scope"),
            Self::RefreshTokenExpiresAt => ("refreshTokenExpiresAt", "refresh_token_expires_at"),
            Self::RefreshedAt => ("refreshedAt", "refreshed_at"),
            Self::TokenResponse => ("tokenResponse", "token_response"),
        }
    }

    /// The member's name in a style.
    #[must_use]
    pub const fn name(self, style: Style) -> &'static str {
        match style {
            Style::CamelCase => self.names().0,
            Style::SnakeCase => self.names().1,
        }
    }

    /// The name the member has in this document, or would have in this style.
    pub(super) fn name_in(self, document: &Document, style: Style) -> &'static str {
        self.find(document).ok().flatten().map_or(self.name(style), |(name, _)| name)
    }

    /// Whether this is one of the member's names.
    pub(super) fn is_called(self, name: &str) -> bool {
        let (camel, snake) = self.names();
        name == camel || name == snake
    }

    /// The JSON text of the member's value, under whichever name it has.
    pub(super) fn get(self, document: &Document) -> Option<&str> {
        self.find(document).ok().flatten().map(|(_, value)| value)
    }

    fn find(self, document: &Document) -> Result<Option<(&'static str, &str)>, SecretProblem> {
        let (camel, snake) = self.names();
        let both = camel != snake && document.get(camel).is_some() && document.get(snake).is_some();
        if both {
            return Err(SecretProblem::Twice(camel, snake));
        }
        for name in [camel, snake] {
            if document.count(name) > 1 {
                return Err(SecretProblem::Twice(name, name));
            }
            if let Some(value) = document.get(name) {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// Reads the member with `read`, which answers `None` where the value is not what it should be. Null is as good as
    /// missing.
    fn read<T>(
        self,
        document: &Document,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        match self.find(document)? {
            None | Some((_, "null")) => Ok(None),
            Some((name, value)) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(SecretProblem::WrongType { member: name.to_owned(), found: kind(value), wanted }),
            },
        }
    }

    /// A member of text; an empty one counts as missing.
    pub(super) fn text(self, document: &Document) -> Result<Option<Secret>, SecretProblem> {
        let text = self.read(document, "a string", |json| serde_json::from_str::<String>(json).ok())?;
        Ok(text.map(Secret::from).filter(|text| !text.expose().is_empty()))
    }

    /// A point in time and its form.
    pub(super) fn time(self, document: &Document) -> Result<Option<(DateTime<Utc>, TimeForm)>, SecretProblem> {
        const WANTED: &str = "milliseconds or seconds since the epoch (a number or a string of digits) or an RFC 3339 \
                              string such as \"2026-01-01T00:00:00Z\"";
        self.read(document, WANTED, |json| {
            // `refreshedAt` is always written later than it was: there must be room for that, in every form.
            TimeForm::read(json).filter(|(time, _)| self != Self::RefreshedAt || time.year() < FIRST_YEAR_WITHOUT_ROOM)
        })
    }

    /// A number of seconds.
    pub(super) fn seconds(self, document: &Document) -> Result<Option<Duration>, SecretProblem> {
        const WANTED: &str = "a whole number of seconds from 0 to 315576000 (ten years)";
        self.read(document, WANTED, |json| {
            let seconds: u64 = json.parse().ok()?;
            (seconds <= 315_576_000).then_some(Duration::from_secs(seconds))
        })
    }

    /// An object of strings, in order.
    pub(super) fn strings(self, document: &Document) -> Result<Option<Vec<(String, Secret)>>, SecretProblem> {
        let members = self.read(document, "an object of strings", |json| Document::parse(json).ok())?;
        let (Some(members), Some((found, _))) = (members, self.find(document)?) else { return Ok(None) };
        members
            .members()
            .map(|(name, value)| match serde_json::from_str::<String>(value) {
                Ok(text) => Ok((name.to_owned(), Secret::from(text))),
                Err(_) => Err(SecretProblem::WrongType {
                    member: format!("{found}.{}", sanitize_line(name, 64)),
                    found: kind(value),
                    wanted: "a string",
                }),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An object of whatever members.
    pub(super) fn object(self, document: &Document) -> Result<Option<Document>, SecretProblem> {
        self.read(document, "an object", |json| Document::parse(json).ok())
    }

    /// The name or ARN of another secret. It is shown in messages, where it could make up a line of the log.
    pub(super) fn secret_id(self, document: &Document) -> Result<Option<String>, SecretProblem> {
        let id = self.word(document, "a string of printable characters", |id| {
            id.chars().all(|c| c == ' ' || is_visible(c)).then(|| id.to_owned())
        })?;
        Ok(id.filter(|id| !id.is_empty()))
    }

    /// One of a few words, through `read`.
    pub(super) fn word<T>(
        self,
        document: &Document,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        self.read(document, wanted, |json| read(&serde_json::from_str::<String>(json).ok()?))
    }
}
