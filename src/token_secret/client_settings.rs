//! The OAuth client and how to ask for it, as far as one place names it: the token secret, a secret that many share, or
//! the environment. Each value may be missing here; which place wins is decided elsewhere.

use std::time::Duration;

use super::{
    SecretProblem,
    document::Document,
    member::{Member, Style},
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
    /// A public client: `client_id` in the form, no secret.
    None,
}

impl TokenEndpointAuthMethod {
    /// What is allowed, for messages.
    pub const ALLOWED: &str = "one of \"client_secret_post\", \"client_secret_basic\", \"none\"";

    /// Reads the registered name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        match name {
            "client_secret_post" => Some(Self::ClientSecretPost),
            "client_secret_basic" => Some(Self::ClientSecretBasic),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// What one place says of the client.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// The token endpoint, not yet checked.
    pub token_endpoint: Option<Secret>,
    /// The client's id.
    pub client_id: Option<Secret>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// How the client authenticates.
    pub token_endpoint_auth_method: Option<TokenEndpointAuthMethod>,
    /// Parameters to add to the form.
    pub extra_parameters: Option<Vec<(String, Secret)>>,
    /// Headers to add to the request.
    pub extra_headers: Option<Vec<(String, Secret)>>,
    /// The lifetime to assume when the provider names none.
    pub default_lifetime: Option<Duration>,
    /// Another secret that holds what is missing here.
    pub client_credentials_secret_id: Option<String>,
    /// The members that were taken from a place which names another token endpoint than the one above: they are not to be
    /// sent there.
    pub for_another_endpoint: Vec<&'static str>,
}

impl ClientSettings {
    /// Reads the settings a secret holds, in either naming style.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is wrong.
    pub fn read(document: &Document) -> Result<Self, SecretProblem> {
        Ok(Self {
            token_endpoint: Member::TokenEndpoint.text(document)?,
            client_id: Member::ClientId.text(document)?,
            client_secret: Member::ClientSecret.text(document)?,
            token_endpoint_auth_method: Member::TokenEndpointAuthMethod.word(
                document,
                TokenEndpointAuthMethod::ALLOWED,
                TokenEndpointAuthMethod::read,
            )?,
            extra_parameters: Member::ExtraParameters.strings(document)?,
            extra_headers: Member::ExtraHeaders.strings(document)?,
            default_lifetime: Member::DefaultLifetimeSeconds.seconds(document)?,
            client_credentials_secret_id: Member::ClientCredentialsSecretId.secret_id(document)?,
            for_another_endpoint: Vec::new(),
        })
    }

    /// These settings, with another secret's for what they leave out.
    ///
    /// What a secret keeps beside an endpoint belongs to that endpoint: whoever may write a token secret could otherwise have
    /// its client's secret, which they may not read, sent to a server of theirs.
    #[must_use]
    pub fn or_of_another_secret(mut self, other: Self) -> Self {
        let elsewhere = self.token_endpoint.as_ref().is_some_and(|own| {
            let others = other.token_endpoint.as_ref();
            others.is_some_and(|others| others != own)
        });
        if elsewhere {
            let taken = [
                (Member::ClientSecret, self.client_secret.is_none() && other.client_secret.is_some()),
                (Member::ExtraParameters, self.extra_parameters.is_none() && other.extra_parameters.is_some()),
                (Member::ExtraHeaders, self.extra_headers.is_none() && other.extra_headers.is_some()),
            ];
            let taken = taken.into_iter().filter(|(_, taken)| *taken);
            self.for_another_endpoint.extend(taken.map(|(member, _)| member.name(Style::CamelCase)));
        }
        self.or(other)
    }

    /// These settings, with `fallback`'s for what they leave out.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            token_endpoint: self.token_endpoint.or(fallback.token_endpoint),
            client_id: self.client_id.or(fallback.client_id),
            client_secret: self.client_secret.or(fallback.client_secret),
            token_endpoint_auth_method: self.token_endpoint_auth_method.or(fallback.token_endpoint_auth_method),
            extra_parameters: self.extra_parameters.or(fallback.extra_parameters),
            extra_headers: self.extra_headers.or(fallback.extra_headers),
            default_lifetime: self.default_lifetime.or(fallback.default_lifetime),
            client_credentials_secret_id: self.client_credentials_secret_id.or(fallback.client_credentials_secret_id),
            for_another_endpoint: self.for_another_endpoint,
        }
    }
}
