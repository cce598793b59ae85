//! How the person's consent comes back to this program: by a redirect, or by the device flow.

use reqwest::Url;

use super::{
    failure::Failure,
    loopback::Loopback,
    server::{AuthorizationServer, LoginSettings},
};

/// A flow, with what it needs.
pub(super) enum Flow {
    /// The browser is redirected.
    Redirect {
        authorization_endpoint: Url,
        redirect_uri: String,
        /// Receives the redirect. `None`: the person pastes the URL that the browser ended at.
        listener: Option<Loopback>,
    },
    /// The person enters a code (RFC 8628).
    Device { endpoint: Url },
}

impl Flow {
    /// The flow that the settings name, or a free port of this machine.
    pub(super) async fn choose(
        settings: &LoginSettings,
        server: &AuthorizationServer,
        secret_id: &str,
    ) -> Result<Self, Failure> {
        if settings.device {
            let endpoint = server.device_authorization_endpoint.clone().ok_or_else(|| {
                Failure::usage(
                    "no device authorization endpoint is known: pass --device-authorization-endpoint, or leave --device out",
                )
            })?;
            return Ok(Self::Device { endpoint });
        }
        let authorization_endpoint = server.authorization_endpoint.clone().ok_or_else(|| {
            Failure::usage(format!(
                "no authorization endpoint is known for `{secret_id}`: pass --provider, --issuer, or --authorization-endpoint and \
                 --token-endpoint"
            ))
        })?;
        let listener = match &settings.redirect_uri {
            None => Some(Loopback::at_free_port().await?),
            Some(redirect_uri) => Loopback::at(redirect_uri).await?,
        };
        let own = listener.as_ref().map(|listener| listener.redirect_uri.clone());
        let redirect_uri = own.or_else(|| settings.redirect_uri.clone()).unwrap_or_default();
        Ok(Self::Redirect { authorization_endpoint, redirect_uri, listener })
    }

    /// The redirect URI; `None` in the device flow.
    pub(super) fn redirect_uri(&self) -> Option<&str> {
        match self {
            Self::Redirect { redirect_uri, .. } => Some(redirect_uri),
            Self::Device { .. } => None,
        }
    }
}
