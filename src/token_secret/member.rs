//! The members of a token secret that the refresher uses: their two names, and how each type of value is read.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};

use super::{
    SecretProblem,
    document::{Document, kind, unquoted},
    layout::Layout,
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
    /// Expiry of the client's secret, as a person has written it.
    ClientSecretExpiresAt,
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
    /// How tokens are obtained.
    GrantType,
    /// The name of a profile.
    Provider,
    /// The variables in the addresses of that profile.
    ProviderParameters,
    /// The private key that signs JWTs.
    PrivateKey,
    /// The id of the key that signs JWTs.
    KeyId,
    /// How JWTs are signed.
    SigningAlgorithm,
    /// The key in AWS KMS that signs JWTs.
    SigningKmsKeyId,
    /// Claims of the JWT.
    AssertionClaims,
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
    /// Where members are in a document with other names.
    MemberNames,
}

/// The naming style: which of its two names a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `refreshToken`.
    CamelCase,
    /// `refresh_token`, as in RFC 6749.
    SnakeCase,
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

    /// Whether only clients that sign JWTs have it.
    pub(super) const fn is_for_jwts(self) -> bool {
        matches!(
            self,
            Self::PrivateKey | Self::KeyId | Self::SigningAlgorithm | Self::SigningKmsKeyId | Self::AssertionClaims
        )
    }

    /// Whether other programs have members of this name, with other meanings.
    pub(super) const fn is_of_others_too(self) -> bool {
        self.is_for_jwts() || matches!(self, Self::Provider | Self::ProviderParameters)
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::AccessToken => ("accessToken", "access_token"),
            Self::RefreshToken => ("refreshToken", "refresh_token"),
            Self::ExpiresAt => ("expiresAt", "expires_at"),
            Self::TokenEndpoint => ("tokenEndpoint", "token_endpoint"),
            Self::ClientId => ("clientId", "client_id"),
            Self::ClientSecret => ("clientSecret", "client_secret"),
            Self::ClientSecretExpiresAt => ("clientSecretExpiresAt", "client_secret_expires_at"),
            Self::ClientCredentialsSecretId => ("clientCredentialsSecretId", "client_credentials_secret_id"),
            Self::TokenEndpointAuthMethod => ("tokenEndpointAuthMethod", "token_endpoint_auth_method"),
            Self::ExtraParameters => ("extraParameters", "extra_parameters"),
            Self::ExtraHeaders => ("extraHeaders", "extra_headers"),
            Self::PublishTo => ("publishTo", "publish_to"),
            Self::RefreshMarginSeconds => ("refreshMarginSeconds", "refresh_margin_seconds"),
            Self::DefaultLifetimeSeconds => ("defaultLifetimeSeconds", "default_lifetime_seconds"),
            Self::LifetimeSeconds => ("lifetimeSeconds", "lifetime_seconds"),
            Self::TokenRequestFormat => ("tokenRequestFormat", "token_request_format"),
            Self::GrantType => ("grantType", "grant_type"),
            Self::Provider => ("provider", "provider"),
            Self::ProviderParameters => ("providerParameters", "provider_parameters"),
            Self::PrivateKey => ("privateKey", "private_key"),
            Self::KeyId => ("keyId", "key_id"),
            Self::SigningAlgorithm => ("signingAlgorithm", "signing_algorithm"),
            Self::SigningKmsKeyId => ("signingKmsKeyId", "signing_kms_key_id"),
            Self::AssertionClaims => ("assertionClaims", "assertion_claims"),
            Self::TokenType => ("tokenType", "token_type"),
            Self::Scope => ("scope", "scope"),
            Self::RefreshTokenExpiresAt => ("refreshTokenExpiresAt", "refresh_token_expires_at"),
            Self::RefreshedAt => ("refreshedAt", "refreshed_at"),
            Self::TokenResponse => ("tokenResponse", "token_response"),
            Self::MemberNames => ("memberNames", "member_names"),
        }
    }

    /// All members.
    pub const ALL: [Self; 30] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::ExpiresAt,
        Self::TokenEndpoint,
        Self::ClientId,
        Self::ClientSecret,
        Self::ClientSecretExpiresAt,
        Self::ClientCredentialsSecretId,
        Self::TokenEndpointAuthMethod,
        Self::ExtraParameters,
        Self::ExtraHeaders,
        Self::PublishTo,
        Self::RefreshMarginSeconds,
        Self::DefaultLifetimeSeconds,
        Self::LifetimeSeconds,
        Self::TokenRequestFormat,
        Self::GrantType,
        Self::Provider,
        Self::ProviderParameters,
        Self::PrivateKey,
        Self::KeyId,
        Self::SigningAlgorithm,
        Self::SigningKmsKeyId,
        Self::AssertionClaims,
        Self::TokenType,
        Self::Scope,
        Self::RefreshTokenExpiresAt,
        Self::RefreshedAt,
        Self::TokenResponse,
        Self::MemberNames,
    ];

    /// Whether this is the name of a member, in either style.
    #[cfg(feature = "cli")]
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        Self::of_name(name).is_some()
    }

    /// The member with this name in one of the styles, and the name.
    pub(super) fn of_name(name: &str) -> Option<(Self, &'static str)> {
        Self::ALL.into_iter().find_map(|member| {
            let (camel, snake) = member.names();
            let name = if camel == name {
                camel
            } else if snake == name {
                snake
            } else {
                return None;
            };
            Some((member, name))
        })
    }

    /// The member's name in lower case, without separators: not computed, because each run compares other names with all of them.
    #[cfg(feature = "refresher")]
    pub(super) const fn letters(self) -> &'static str {
        match self {
            Self::AccessToken => "accesstoken",
            Self::RefreshToken => "refreshtoken",
            Self::ExpiresAt => "expiresat",
            Self::TokenEndpoint => "tokenendpoint",
            Self::ClientId => "clientid",
            Self::ClientSecret => "clientsecret",
            Self::ClientSecretExpiresAt => "clientsecretexpiresat",
            Self::ClientCredentialsSecretId => "clientcredentialssecretid",
            Self::TokenEndpointAuthMethod => "tokenendpointauthmethod",
            Self::ExtraParameters => "extraparameters",
            Self::ExtraHeaders => "extraheaders",
            Self::PublishTo => "publishto",
            Self::RefreshMarginSeconds => "refreshmarginseconds",
            Self::DefaultLifetimeSeconds => "defaultlifetimeseconds",
            Self::LifetimeSeconds => "lifetimeseconds",
            Self::TokenRequestFormat => "tokenrequestformat",
            Self::GrantType => "granttype",
            Self::Provider => "provider",
            Self::ProviderParameters => "providerparameters",
            Self::PrivateKey => "privatekey",
            Self::KeyId => "keyid",
            Self::SigningAlgorithm => "signingalgorithm",
            Self::SigningKmsKeyId => "signingkmskeyid",
            Self::AssertionClaims => "assertionclaims",
            Self::TokenType => "tokentype",
            Self::Scope => "scope",
            Self::RefreshTokenExpiresAt => "refreshtokenexpiresat",
            Self::RefreshedAt => "refreshedat",
            Self::TokenResponse => "tokenresponse",
            Self::MemberNames => "membernames",
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

    /// Whether this is one of the member's two names.
    pub(super) fn has_name(self, name: &str) -> bool {
        let (camel, snake) = self.names();
        name == camel || name == snake
    }

    /// Reads the member with `read`, which returns `None` if the value has a wrong type or form. Null counts as missing.
    fn read<T>(
        self,
        layout: &Layout,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        let Some((place, value)) = layout.find(self)? else { return Ok(None) };
        if &*value == "null" {
            return Ok(None);
        }
        let wrong = || SecretProblem::WrongType { member: place.to_string(), found: kind(&value), wanted };
        read(&value).map(Some).ok_or_else(wrong)
    }

    /// The same, and an empty text counts as missing.
    fn read_unless_empty<T>(
        self,
        layout: &Layout,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        let read = |json: &str| if json == "\"\"" { Some(None) } else { read(json).map(Some) };
        Ok(self.read(layout, wanted, read)?.flatten())
    }

    /// A member of text; an empty one counts as missing.
    pub(super) fn text(self, layout: &Layout) -> Result<Option<Secret>, SecretProblem> {
        self.read_unless_empty(layout, "a string", |json| {
            serde_json::from_str(json).ok().map(|text: String| text.into())
        })
    }

    /// A token, an id, a secret or an address: a text with no white space that cannot belong to it. It is often copied with some.
    pub(super) fn credential(self, layout: &Layout) -> Result<Option<Secret>, SecretProblem> {
        let text = if self == Self::ClientId {
            self.read_unless_empty(layout, "a string or a whole number", |json| {
                match serde_json::from_str::<String>(json) {
                    Ok(text) => Some(text.into()),
                    Err(_) => json.bytes().all(|byte| byte.is_ascii_digit()).then(|| Secret::from(json)),
                }
            })?
        } else {
            self.text(layout)?
        };
        if let Some(text) = &text
            && let Some(what) = misplaced_white_space(text.expose())
        {
            return Err(SecretProblem::WhiteSpace { member: layout.place_of(self).to_string(), what });
        }
        Ok(text)
    }

    /// Whether the member is an empty text.
    pub(super) fn is_empty_text(self, layout: &Layout) -> bool {
        layout.get(self).as_deref() == Some("\"\"")
    }

    /// A text, or a list of texts.
    pub(super) fn text_or_list(self, layout: &Layout) -> Result<(), SecretProblem> {
        self.read(layout, "a string or a list of strings", |json| {
            let is_one = serde_json::from_str::<IgnoredText>(json).is_ok();
            (is_one || serde_json::from_str::<Vec<IgnoredText>>(json).is_ok()).then_some(())
        })?;
        Ok(())
    }

    /// A point in time and its form.
    pub(super) fn time(self, layout: &Layout) -> Result<Option<(DateTime<Utc>, TimeForm)>, SecretProblem> {
        const WANTED: &str = "milliseconds or seconds since the epoch (a number or a string of digits) or an RFC 3339 \
                              string such as \"2026-01-01T00:00:00Z\"";
        self.read_unless_empty(layout, WANTED, |json| {
            // The next `refreshedAt` is later than this one: it must be possible to write it in every form.
            TimeForm::read(json).filter(|(time, _)| self != Self::RefreshedAt || time.year() < FIRST_AMBIGUOUS_YEAR)
        })
    }

    /// A time after 1970, in any form. Another value is ignored: RFC 7591 section 3.2.1 writes 0 for "never".
    pub(super) fn time_if_any(self, layout: &Layout) -> Option<DateTime<Utc>> {
        let (time, _) = TimeForm::read(&layout.get(self)?)?;
        (time > DateTime::UNIX_EPOCH).then_some(time)
    }

    /// A number of seconds, also as digits in a string.
    pub(super) fn seconds(self, layout: &Layout) -> Result<Option<Duration>, SecretProblem> {
        const WANTED: &str = "a whole number of seconds from 0 to 315576000 (ten years)";
        self.read_unless_empty(layout, WANTED, |json| {
            let digits = unquoted(json).unwrap_or(json);
            let seconds: u64 = digits.parse().ok()?;
            (seconds <= 315_576_000).then_some(Duration::from_secs(seconds))
        })
    }

    /// An object of strings, in order.
    pub(super) fn strings(self, layout: &Layout) -> Result<Option<Vec<(String, Secret)>>, SecretProblem> {
        let Some(members) = self.read_unless_empty(layout, "an object of strings", lenient_object)? else {
            return Ok(None);
        };
        members
            .members()
            .map(|(name, value)| match serde_json::from_str::<String>(value) {
                Ok(text) => Ok((name.to_owned(), Secret::from(text))),
                Err(_) => Err(SecretProblem::WrongType {
                    member: format!("{}.{}", layout.place_of(self), sanitize_line(name, 64)),
                    found: kind(value),
                    wanted: "a string",
                }),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An object with any members.
    pub(super) fn object(self, layout: &Layout) -> Result<Option<Document>, SecretProblem> {
        self.read_unless_empty(layout, "an object", lenient_object)
    }

    /// The name or ARN of another secret. Messages contain it: a line break in it could fake a line of the log.
    pub(super) fn secret_id(self, layout: &Layout) -> Result<Option<String>, SecretProblem> {
        self.parsed_string(layout, "a string of printable characters", |id| {
            id.chars().all(|c| c == ' ' || is_visible(c)).then(|| id.to_owned())
        })
    }

    /// The id, the ARN or the alias of a key in AWS KMS. It is sent to KMS, whose messages quote it: a private key must not get there.
    pub(super) fn kms_key(self, layout: &Layout) -> Result<Option<String>, SecretProblem> {
        self.parsed_string(layout, KMS_KEY, |id| is_kms_key(id).then(|| id.to_owned()))
    }

    /// A grant type: a text that may be empty, without white space.
    pub(super) fn grant_type(self, layout: &Layout) -> Result<Option<String>, SecretProblem> {
        self.read(layout, "a string of visible ASCII characters, such as \"client_credentials\"", |json| {
            let text = serde_json::from_str::<String>(json).ok()?;
            text.chars().all(|c| c.is_ascii_graphic()).then_some(text)
        })
    }

    /// A string that `read` parses. An empty one counts as missing.
    pub(super) fn parsed_string<T>(
        self,
        layout: &Layout,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SecretProblem> {
        self.read_unless_empty(layout, wanted, |json| read(&serde_json::from_str::<String>(json).ok()?))
    }
}

/// What [`is_kms_key`] allows, for messages.
pub const KMS_KEY: &str = "the id, the ARN or the alias of a key in AWS KMS, such as \"alias/refresher\"";

/// Whether the text can be the `KeyId` of a request to KMS ("Sign" in the AWS KMS API Reference).
#[must_use]
pub fn is_kms_key(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
    (1..=2048).contains(&text.len()) && text.bytes().all(is_allowed) && !text.contains("-----")
}

/// A JSON string that is not looked at.
struct IgnoredText;

impl<'de> serde::Deserialize<'de> for IgnoredText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer).map(|_| Self)
    }
}

/// An object, or its text in a string: the console's key/value form has no other values.
pub(super) fn lenient_object(json: &str) -> Option<Document> {
    if json.starts_with('"') {
        let text = Secret::from(serde_json::from_str::<String>(json).ok()?);
        return Document::parse(text.expose()).ok();
    }
    Document::parse(json).ok()
}

/// What is in a text that cannot belong to a token, an id or a secret (RFC 6749 appendix A), and where.
fn misplaced_white_space(text: &str) -> Option<String> {
    let kind = |c: char| match c {
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some("a line break"),
        '\t' => Some("a tab"),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => Some("a zero-width character"),
        _ => None,
    };
    // Within a secret, a blank is possible.
    let kind_at_end = |c: char| kind(c).or_else(|| c.is_whitespace().then_some("a blank"));
    let last = text.chars().next_back().and_then(kind_at_end).map(|kind| format!("{kind} at its end"));
    let first = || text.chars().next().and_then(kind_at_end).map(|kind| format!("{kind} at its start"));
    let within = || text.chars().find_map(kind).map(|kind| format!("{kind} in it"));
    last.or_else(first).or_else(within)
}
