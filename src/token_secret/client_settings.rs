//! The settings of the OAuth client from one place: the token secret, the client's secret, or the environment. Each setting may be
//! missing. The caller merges the places in order of precedence.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    SecretProblem,
    document::Document,
    layout::Layout,
    member::{Member, Style},
    provider::NamedProvider,
    signing::{GoogleServiceAccount, JwtSettings},
};
use crate::secret::Secret;

/// How a client authenticates at the token endpoint (`token_endpoint_auth_method`, RFC 7591 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TokenEndpointAuthMethod {
    /// `client_id` and `client_secret` in the form.
    #[default]
    ClientSecretPost,
    /// Both, form-encoded, in an HTTP Basic header (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// Both in an HTTP Basic header, not form-encoded: not a registered method, but what some providers expect.
    ClientSecretBasicRaw,
    /// A public client: `client_id` in the form, no secret.
    None,
    /// A signed JWT in the form (RFC 7523 section 2.2).
    PrivateKeyJwt,
    /// A signed JWT in the header `Authorization`: not a registered method, but what GitHub expects of its Apps.
    BearerJwt,
}

impl TokenEndpointAuthMethod {
    /// The allowed names, for messages.
    pub const ALLOWED: &str = "one of \"client_secret_post\", \"client_secret_basic\", \"client_secret_basic_raw\", \"none\", \
                               \"private_key_jwt\", \"bearer_jwt\"";

    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ClientSecretPost,
        Self::ClientSecretBasic,
        Self::ClientSecretBasicRaw,
        Self::None,
        Self::PrivateKeyJwt,
        Self::BearerJwt,
    ];

    /// Reads the name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretBasicRaw => "client_secret_basic_raw",
            Self::None => "none",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::BearerJwt => "bearer_jwt",
        }
    }

    /// Whether the client's secret is in an HTTP Basic header.
    #[must_use]
    pub const fn is_basic(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretBasicRaw)
    }

    /// Whether it needs the client's secret.
    #[must_use]
    pub const fn needs_secret(self) -> bool {
        self.is_basic() || matches!(self, Self::ClientSecretPost)
    }

    /// Whether it needs a signed JWT.
    #[must_use]
    pub const fn needs_jwt(self) -> bool {
        matches!(self, Self::PrivateKeyJwt | Self::BearerJwt)
    }
}

/// The format of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TokenRequestFormat {
    /// Form-encoded (RFC 6749 section 6).
    #[default]
    Form,
    /// A JSON object, which some providers expect.
    Json,
}

impl TokenRequestFormat {
    /// The allowed names, for messages.
    pub const ALLOWED: &str = "\"form\" or \"json\"";

    /// Reads the name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        match name {
            "form" => Some(Self::Form),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The settings of the client from one place.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// The token endpoint, not yet checked.
    pub token_endpoint: Option<Secret>,
    /// The client's id.
    pub client_id: Option<Secret>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// Whether the client's secret is there and empty: a client that authenticates with an empty one, if no other place has one.
    pub has_empty_client_secret: bool,
    /// When the client's secret expires, if a person has written that.
    pub client_secret_expires_at: Option<DateTime<Utc>>,
    /// How the client authenticates.
    pub token_endpoint_auth_method: Option<TokenEndpointAuthMethod>,
    /// The format of the request's body.
    pub token_request_format: Option<TokenRequestFormat>,
    /// Parameters to add to the form.
    pub extra_parameters: Option<Vec<(String, Secret)>>,
    /// Headers to add to the request.
    pub extra_headers: Option<Vec<(String, Secret)>>,
    /// The lifetime of an access token if the provider names none.
    pub default_lifetime: Option<Duration>,
    /// The lifetime of an access token, whatever the provider names.
    pub lifetime: Option<Duration>,
    /// The provider that is named.
    pub provider: Option<NamedProvider>,
    /// What signs JWTs, and their claims.
    pub signing: JwtSettings,
    /// The name or ARN of the client's secret, which contains the settings that are missing here.
    pub client_credentials_secret_id: Option<String>,
    /// The members from a secret with another token endpoint than the one above. They must not be sent to the one above.
    pub bound_to_other_endpoint: Vec<&'static str>,
}

impl ClientSettings {
    /// Reads the settings in a client's secret, in either naming style.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is wrong.
    pub fn read(document: &Document) -> Result<Self, SecretProblem> {
        Self::of(&Layout::of_client(document.clone()))
    }

    pub(super) fn of(document: &Layout) -> Result<Self, SecretProblem> {
        let service_account = GoogleServiceAccount::of(document);
        let (email, token_uri) = service_account.map(|account| (account.client_email, account.token_uri)).unzip();
        let provider = NamedProvider::read(document)?;
        let of_profile = provider.as_ref().and_then(NamedProvider::token_endpoint);
        Ok(Self {
            token_endpoint: Member::TokenEndpoint.credential(document)?.or(token_uri.flatten()).or(of_profile),
            // The `client_id` of a service account is not the issuer of its assertions.
            client_id: email.map_or_else(|| Member::ClientId.credential(document), |email| Ok(Some(email)))?,
            client_secret: Member::ClientSecret.credential(document)?,
            has_empty_client_secret: Member::ClientSecret.is_empty_text(document),
            client_secret_expires_at: Member::ClientSecretExpiresAt.time_if_any(document),
            token_endpoint_auth_method: Member::TokenEndpointAuthMethod.parsed_string(
                document,
                TokenEndpointAuthMethod::ALLOWED,
                TokenEndpointAuthMethod::read,
            )?,
            token_request_format: Member::TokenRequestFormat.parsed_string(
                document,
                TokenRequestFormat::ALLOWED,
                TokenRequestFormat::read,
            )?,
            extra_parameters: Member::ExtraParameters.strings(document)?,
            extra_headers: Member::ExtraHeaders.strings(document)?,
            default_lifetime: Member::DefaultLifetimeSeconds.seconds(document)?,
            lifetime: Member::LifetimeSeconds.seconds(document)?.filter(|lifetime| !lifetime.is_zero()),
            provider,
            signing: JwtSettings::read(document),
            client_credentials_secret_id: Member::ClientCredentialsSecretId.secret_id(document)?,
            bound_to_other_endpoint: Vec::new(),
        })
    }

    /// These settings, and those of another secret for the missing ones.
    ///
    /// The settings in a secret belong to the token endpoint in the same secret. Otherwise a user with permission to write the
    /// token secret, but not to read the client's secret, could have the client's secret sent to their own server.
    #[must_use]
    pub fn or_from_other_secret(mut self, mut other: Self) -> Self {
        let endpoints_differ = self.token_endpoint.as_ref().is_some_and(|own| {
            let others = other.token_endpoint.as_ref();
            others.is_some_and(|others| others != own)
        });
        if endpoints_differ {
            let taken = [
                (Member::ClientSecret, self.client_secret.is_none() && other.client_secret.is_some()),
                (Member::ExtraParameters, self.extra_parameters.is_none() && other.extra_parameters.is_some()),
                (Member::ExtraHeaders, self.extra_headers.is_none() && other.extra_headers.is_some()),
                (Member::AssertionClaims, !other.signing.assertion_claims.is_empty()),
            ];
            let taken = taken.into_iter().filter(|(_, taken)| *taken);
            self.bound_to_other_endpoint.extend(taken.map(|(member, _)| member.name(Style::CamelCase)));
            // A JWT for one provider is as good as a password there.
            self.bound_to_other_endpoint.extend(other.signing.name_of_key().filter(|_| self.signing.key.is_none()));
            other.provider = None;
        }
        self.or(other)
    }

    /// Whether the token endpoint is that of the profile.
    #[must_use]
    pub fn is_at_profile(&self) -> bool {
        let of_profile = self.provider.as_ref().and_then(NamedProvider::token_endpoint);
        of_profile.is_some() && of_profile == self.token_endpoint
    }

    /// These settings, and those of the profile for the missing ones.
    #[must_use]
    pub fn with_profile(self) -> Self {
        let Some(NamedProvider::Known(profile)) = &self.provider else { return self };
        let settings = profile.settings.clone();
        self.or(settings)
    }

    /// These settings, and those of `fallback` for the missing ones.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            token_endpoint: self.token_endpoint.or(fallback.token_endpoint),
            client_id: self.client_id.or(fallback.client_id),
            // The end of a secret that is not used is of no interest.
            client_secret_expires_at: self.client_secret_expires_at.or(match &self.client_secret {
                None => fallback.client_secret_expires_at,
                Some(_) => None,
            }),
            client_secret: self.client_secret.or(fallback.client_secret),
            has_empty_client_secret: self.has_empty_client_secret || fallback.has_empty_client_secret,
            token_endpoint_auth_method: self.token_endpoint_auth_method.or(fallback.token_endpoint_auth_method),
            token_request_format: self.token_request_format.or(fallback.token_request_format),
            extra_parameters: self.extra_parameters.or(fallback.extra_parameters),
            extra_headers: self.extra_headers.or(fallback.extra_headers),
            default_lifetime: self.default_lifetime.or(fallback.default_lifetime),
            lifetime: self.lifetime.or(fallback.lifetime),
            provider: NamedProvider::merged(self.provider, fallback.provider),
            signing: self.signing.or(fallback.signing),
            client_credentials_secret_id: self.client_credentials_secret_id.or(fallback.client_credentials_secret_id),
            bound_to_other_endpoint: self.bound_to_other_endpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_clients_secret_is_a_time_and_other_values_are_ignored() {
        for (value, seconds) in [
            ("1767225600", Some(1_767_225_600)),
            ("1767225600000", Some(1_767_225_600)),
            (r#""2026-01-01T00:00:00Z""#, Some(1_767_225_600)),
            // RFC 7591 section 3.2.1: it does not expire.
            ("0", None),
            (r#""never""#, None),
            ("null", None),
            ("[]", None),
        ] {
            let document = Document::parse(&format!(r#"{{"client_secret_expires_at": {value}}}"#)).unwrap();
            let settings = ClientSettings::read(&document).unwrap();
            assert_eq!(settings.client_secret_expires_at.map(|time| time.timestamp()), seconds, "{value}");
        }
    }

    #[test]
    fn the_end_of_a_clients_secret_that_is_not_used_is_ignored() {
        let end = DateTime::from_timestamp(1_767_225_600, 0);
        let other = ClientSettings {
            client_secret: Some("other".into()),
            client_secret_expires_at: end,
            ..ClientSettings::default()
        };
        for (own_secret, expected) in [(None, end), (Some("own".into()), None)] {
            let own = ClientSettings { client_secret: own_secret, ..ClientSettings::default() };
            assert_eq!(own.or(other.clone()).client_secret_expires_at, expected);
        }
    }
}
