//! The members of a token secret that the refresher uses: their two names, and how each type of value is read.

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

/// From this year on, a number of seconds is so large that it would be read as milliseconds.
const FIRST_AMBIGUOUS_YEAR: i32 = 5138;

/// A member of a token secret, in the order of the tables in `docs/token-secret.md`.
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
    /// The OAuth client's id.
    ClientId,
    /// The OAuth client's secret.
    ClientSecret,
    /// The name or ARN of the client's secret.
    ClientCredentialsSecretId,
    /// How the client authenticates.
    TokenEndpointAuthMethod,
    /// Parameters to add to the form.
    ExtraParameters,
    /// Headers to add to the request.
    ExtraHeaders,
    /// The name or ARN of the published secret.
    PublishTo,
    /// The margin of this secret.
    RefreshMarginSeconds,
    /// The lifetime of an access token if the provider names none.
    DefaultLifetimeSeconds,
    /// The lifetime of an access token, whatever the provider names.
    LifetimeSeconds,
    /// The format of the request's body.
    TokenRequestFormat,
    /// `token_type` of the last response.
    TokenType,
    /// `scope` of the last response.
    Scope,
    /// Expiry of the refresh token.
    RefreshTokenExpiresAt,
    /// When the tokens were obtained.
    RefreshedAt,
    /// The other members of the provider's responses.
    TokenResponse,
}

/// The naming style: which of its two names a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `refreshToken`.
    CamelCase,
    /// `refresh_token`, as in RFC 6749.
    SnakeCase,
}

impl Style {
    /// The style of a token secret: that of its refresh token, or else of its access token. Camel case if it has neither.
    pub(super) fn of(document: &Document) -> Result<Self, SecretProblem> {
        let found = Member::RefreshToken.find(document)?.or(Member::AccessToken.find(document)?);
        Ok(if found.is_some_and(|(name, _)| name.contains('_')) { Self::SnakeCase } else { Self::CamelCase })
    }
}

impl Member {
    /// The members that a refresh writes: the tokens and the values that belong to them.
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

    /// The members that readers need. A published secret has only these.
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
            Self::LifetimeSeconds => ("lifetimeSeconds", "lifetime_seconds"),
            Self::TokenRequestFormat => ("tokenRequestFormat", "token_request_format"),
            Self::TokenType => ("tokenType", "token_type"),
            Self::Scope => ("scope", "scope"),
            Self::RefreshTokenExpiresAt => ("refreshTokenExpiresAt", "refresh_token_expires_at"),
            Self::RefreshedAt => ("refreshedAt", "refreshed_at"),
            Self::TokenResponse => ("tokenResponse", "token_response"),
        }
    }

    /// The member's name in this style.
    #[must_use]
    pub const fn name(self, style: Style) -> &'static str {
        match style {
            Style::CamelCase => self.names().0,
            Style::SnakeCase => self.names().1,
        }
    }

    /// The member's name in this document. If it is missing there, its name in this style.
    pub(super) fn name_in(self, document: &Document, style: Style) -> &'static str {
        self.find(document).ok().flatten().map_or(self.name(style), |(name, _)| name)
    }

    /// Whether this is one of the member's two names.
    pub(super) fn has_name(self, name: &str) -> bool {
        let (camel, snake) = self.names();
        name == camel || name == snake
    }

    /// The JSON text of the member's value, under either name.
    pub(super) fn get(self, document: &Document) -> Option<&str> {
        self.find(document).ok().flatten().map(|(_, value)| value)
    }

    fn find(self, document: &Document) -> Result<Option<(&'static str, &str)>, SecretProblem> {
        let (camel, snake) = self.names();
        let both = camel != snake && document.get(camel).is_some() && document.get(snake).is_some();
        if both {
            return Err(SecretProblem::Duplicate(camel, snake));
        }
        for name in [camel, snake] {
            if document.count(name) > 1 {
                return Err(SecretProblem::Duplicate(name, name));
            }
            if let Some(value) = document.get(name) {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// Reads the member with `read`, which returns `None` if the value has a wrong type or form. Null counts as missing.
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

    /// Whether the member is an empty text.
    pub(super) fn is_empty_text(self, document: &Document) -> bool {
        self.get(document) == Some("\"\"")
    }

    /// A point in time and its form.
    pub(super) fn time(self, document: &Document) -> Result<Option<(DateTime<Utc>, TimeForm)>, SecretProblem> {
        const WANTED: &str = "milliseconds or seconds since the epoch (a number or a string of digits) or an RFC 3339 \
                              string such as \"2026-01-01T00:00:00Z\"";
        self.read(document, WANTED, |json| {
            // The next `refreshedAt` is later than this one: it must be possible to write it in every form.
            TimeForm::read(json).filter(|(time, _)| self != Self::RefreshedAt || time.year() < FIRST_AMBIGUOUS_YEAR)
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

    /// An object with any members.
    pub(super) fn object(self, document: &Document) -> Result<Option<Document>, SecretProblem> {
        self.read(document, "an object", |json| Document::parse(json).ok())
    }

    /// The name or ARN of another secret. Messages contain it: a line break in it could fake a line of the log.
    pub(super) fn secret_id(self, document: &Document) -> Result<Option<String>, SecretProblem> {
        let id = self.parsed_string(document, "a string of printable characters", |id| {
            id.chars().all(|c| c == ' ' || is_visible(c)).then(|| id.to_owned())
        })?;
        Ok(id.filter(|id| !id.is_empty()))
    }

    /// A string that `read` parses.
    pub(super) fn parsed_string<T>(
        self,
        document: &Document,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        self.read(document, wanted, |json| read(&serde_json::from_str::<String>(json).ok()?))
    }
}
