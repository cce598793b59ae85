//! The token secret: a JSON object, ours or another program's. It is read into typed members, and written back with new tokens;
//! all other members are kept. Knows nothing about stores, clocks or providers.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::secret::Secret;

pub mod client_settings;
pub mod document;
#[cfg(feature = "cli")]
pub mod draft;
mod found;
mod layout;
pub mod member;
pub mod member_names;
#[cfg(feature = "refresher")]
mod misspelt;
pub mod place;
mod problem;
pub mod provider;
mod publication;
pub mod readable;
pub mod signing;
pub mod time_form;
mod write;

pub use problem::SecretProblem;
pub use publication::check_publication;

use client_settings::ClientSettings;
use document::{Document, is_nothing, letters};
use layout::Layout;
use member::Member;
use member_names::MemberNames;
#[cfg(feature = "refresher")]
use misspelt::misspelt_grant_type;
use signing::{GoogleServiceAccount, JWT_BEARER};
use time_form::TimeForm;

/// The lifetime of an access token if neither the provider nor the secret names one.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// The grant type that needs a refresh token.
const REFRESH_TOKEN: &str = "refresh_token";

/// A token secret as read.
#[derive(Clone, Debug)]
pub struct TokenSecret {
    layout: Layout,
    /// The form of the times that the document does not contain yet.
    time_form: TimeForm,
    own_expiry_form: Option<TimeForm>,
    refresh_token_expiry_form: Option<TimeForm>,
    /// The tokens in it.
    pub tokens: Tokens,
    /// When the access token expires. `None` (missing or null): the token is due now.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the refresh token expires, if that is known.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// The margin of this secret, if it has its own.
    pub refresh_margin: Option<Duration>,
    /// The published secret: it gets the members that readers need, and none that only the refresher needs.
    pub publish_to: Option<String>,
    /// The settings of the client that are in this secret.
    pub client: ClientSettings,
}

/// What is exchanged for tokens (RFC 6749 section 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A refresh token (RFC 6749 section 6).
    RefreshToken(Secret),
    /// A grant that is not single-use, by its type, such as `client_credentials` (RFC 6749 section 4.4). Empty: the request has no
    /// `grant_type`.
    Other(String),
}

/// The values that change with each refresh. The refresher derives version ids from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The current refresh token, or another grant.
    pub grant: Grant,
    /// The current access token; missing before the first refresh.
    pub access_token: Option<Secret>,
    /// When these tokens were obtained; later after each refresh. Missing before the first one.
    pub refreshed_at: Option<DateTime<Utc>>,
}

/// Tokens that a provider issued, ready to be written.
#[derive(Debug)]
pub struct NewTokens {
    /// The new access token.
    pub access_token: Secret,
    /// The new refresh token. `None`: the old one is kept (RFC 6749 section 6).
    pub refresh_token: Option<Secret>,
    /// `token_type`, if the response contains it.
    pub token_type: Option<String>,
    /// `scope`, if the response contains it.
    pub scope: Option<String>,
    /// When the tokens were requested.
    pub refreshed_at: DateTime<Utc>,
    /// When the access token expires.
    pub expires_at: DateTime<Utc>,
    /// When the refresh token expires.
    pub refresh_token_expires_at: RefreshTokenExpiry,
    /// The other members of the provider's response.
    pub rest: Document,
}

/// When the refresh token expires, according to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokenExpiry {
    /// The response does not contain it.
    Unspecified,
    /// It does not expire.
    Never,
    /// It expires at this time.
    At(DateTime<Utc>),
}

impl Tokens {
    /// The refresh token, if the grant is one.
    #[must_use]
    pub const fn refresh_token(&self) -> Option<&Secret> {
        match &self.grant {
            Grant::RefreshToken(refresh_token) => Some(refresh_token),
            Grant::Other(_) => None,
        }
    }
}

/// The grant of a document.
fn read_grant(layout: &Layout) -> Result<Grant, SecretProblem> {
    let refresh_token = Member::RefreshToken.credential(layout)?;
    let grant_type = match &refresh_token {
        None => Member::GrantType.grant_type(layout)?,
        // Many programs keep the parameters of their first request, which returned the refresh token.
        Some(_) => Member::GrantType.grant_type(layout).ok().flatten().filter(|name| !brings_refresh_tokens(name)),
    };
    match (refresh_token, grant_type) {
        (_, Some(grant_type)) if grant_type != REFRESH_TOKEN => Ok(Grant::Other(grant_type)),
        (Some(refresh_token), _) => Ok(Grant::RefreshToken(refresh_token)),
        // A service account's key file, as it is downloaded. Many programs keep theirs in a secret: only claims show that it is ours.
        (None, None) if GoogleServiceAccount::of(layout).is_some() => match layout.get(Member::AssertionClaims) {
            Some(claims) if !is_nothing(&claims) => Ok(Grant::Other(JWT_BEARER.to_owned())),
            _ => Err(SecretProblem::KeyFileWithoutClaims),
        },
        (None, grant_type) => Err(SecretProblem::NoRefreshToken {
            member: layout.place_of(Member::RefreshToken),
            is_named: layout.has_named_refresh_token,
            has_grant_type: grant_type.is_some(),
            misspelt_grant_type: misspelt_grant_type(layout),
            similar: problem::similar_tokens(&layout.document),
        }),
    }
}

/// Only the refresher has to know which documents are meant as token secrets.
#[cfg(not(feature = "refresher"))]
const fn misspelt_grant_type(_: &Layout) -> Option<String> {
    None
}

/// Whether a request with this grant type returns a refresh token. Letter case, hyphens and underscores do not matter. An empty one
/// counts too: it is a field of a form that was not filled in.
fn brings_refresh_tokens(grant_type: &str) -> bool {
    matches!(
        letters(grant_type).as_str(),
        "" | "refreshtoken" | "authorizationcode" | "password" | "urnietfparamsoauthgranttypedevicecode"
    )
}

impl TokenSecret {
    /// Reads a token secret.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        Self::parse_with(text, &MemberNames::default())
    }

    /// The same. `names` says where members are if the secret does not.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is missing or wrong.
    pub fn parse_with(text: &str, names: &MemberNames) -> Result<Self, SecretProblem> {
        let document = Document::parse(text).map_err(SecretProblem::NotADocument)?;
        let mut layout = Layout::of_tokens(document, names)?;
        let grant = read_grant(&layout)?;
        layout.writes_refresh_token = matches!(grant, Grant::RefreshToken(_));
        let refreshed_at = Member::RefreshedAt.time(&layout)?;
        let own_expiry = Member::ExpiresAt.time(&layout)?;
        let refresh_token_expiry = Member::RefreshTokenExpiresAt.time(&layout)?.filter(|_| layout.writes_refresh_token);
        // The refresher only writes these. A value of another type is not the refresher's: the parse fails, so the value is not
        // overwritten.
        Member::TokenType.text(&layout)?;
        Member::Scope.text_or_list(&layout)?;
        Member::TokenResponse.object(&layout)?;
        let other_expiry = layout.other_expiry();
        // Zero means "due now" and does not show its unit: users write it instead of milliseconds and of seconds.
        let shown = |(time, form): (DateTime<Utc>, TimeForm)| (time != DateTime::UNIX_EPOCH).then_some(form);
        let of_refreshed_at = refreshed_at.map(|(_, form)| form);
        let time_form = own_expiry.and_then(|own| shown(own).or(of_refreshed_at));
        let time_form = time_form.or_else(|| other_expiry.and_then(|(_, form)| form.or(of_refreshed_at)));
        Ok(Self {
            time_form: time_form.unwrap_or_else(|| TimeForm::of_style(layout.style, layout.is_all_text)),
            own_expiry_form: own_expiry.and_then(shown),
            refresh_token_expiry_form: refresh_token_expiry.and_then(shown),
            tokens: Tokens {
                grant,
                access_token: Member::AccessToken.credential(&layout)?,
                refreshed_at: refreshed_at.map(|(time, _)| time),
            },
            expires_at: own_expiry.map(|(time, _)| time).or(other_expiry.map(|(time, _)| time)),
            refresh_token_expires_at: refresh_token_expiry.map(|(time, _)| time),
            refresh_margin: Member::RefreshMarginSeconds.seconds(&layout)?,
            publish_to: Member::PublishTo.secret_id(&layout)?,
            client: ClientSettings::of(&layout)?,
            layout,
        })
    }

    /// The secret as text, with all members in their order.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        self.layout.document.to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_member_is_named_without_its_value() {
        for (secret, problem) in [
            ("", "it is empty"),
            ("hunter2", "it is not JSON (from line 1, column 1 on)"),
            ("[]", "it is an array, where a JSON object is wanted"),
            (
                "{}",
                "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
            ),
            (
                r#"{"refreshToken":null}"#,
                "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
            ),
            (
                r#"{"refreshToken":""}"#,
                "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
            ),
            (
                r#"{"access_token":"a"}"#,
                "its member `refresh_token` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
            ),
            (r#"{"refreshToken":5}"#, "its member `refreshToken` is a number, where a string is wanted"),
            (
                r#"{"refreshToken":"r","refresh_token":"s"}"#,
                "it has both `refreshToken` and `refresh_token`; take one out",
            ),
            (r#"{"refreshToken":"r","refreshToken":"s"}"#, "its member `refreshToken` is there twice; take one out"),
            (
                r#"{"refreshToken":"r","expires_at":"hunter2"}"#,
                "its member `expires_at` is a string, where milliseconds or seconds since the epoch (a number or a string \
                 of digits) or an RFC 3339 string such as \"2026-01-01T00:00:00Z\" is wanted",
            ),
            (
                r#"{"refreshToken":"r","refreshMarginSeconds":-1}"#,
                "its member `refreshMarginSeconds` is a number, where a whole number of seconds from 0 to 315576000 (ten \
                 years) is wanted",
            ),
            (
                r#"{"refreshToken":"r","tokenEndpointAuthMethod":"hunter2"}"#,
                "its member `tokenEndpointAuthMethod` is a string, where one of \"client_secret_post\", \
                 \"client_secret_basic\", \"client_secret_basic_raw\", \"none\", \"private_key_jwt\", \"bearer_jwt\" is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraHeaders":{"a":1}}"#,
                "its member `extraHeaders.a` is a number, where a string is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraHeaders":{"a\nb\u202e":1}}"#,
                "its member `extraHeaders.a?b?` is a number, where a string is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraParameters":[]}"#,
                "its member `extraParameters` is an array, where an object of strings is wanted",
            ),
        ] {
            assert_eq!(TokenSecret::parse(secret).unwrap_err().to_string(), problem, "{secret}");
        }
    }

    #[test]
    fn debug_prints_no_value() {
        let secret = TokenSecret::parse(
            r#"{"refreshToken":"hunter2","accessToken":"hunter3","clientSecret":"hunter4","clientId":"hunter5",
                "extraHeaders":{"key":"hunter6"},"tokenEndpoint":"https://hunter7"}"#,
        );
        let debug = format!("{:?}", secret.unwrap());
        assert!(!debug.contains("hunter"), "Debug prints a value");
    }
}
