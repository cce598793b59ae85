//! The way from the browser back to this program.

use super::{
    failure::Failure,
    loopback::Loopback,
    server::{AuthorizationServer, LoginSettings},
};

/// The way back.
pub(super) enum Way {
    Loopback(Loopback),
    /// The person pastes the address that the browser ended at.
    Paste {
        redirect_uri: String,
    },
    Device(reqwest::Url),
}

impl Way {
    /// The way that the settings name, or a free port of this machine.
    pub(super) async fn choose(
        settings: &LoginSettings,
        server: &AuthorizationServer,
        secret_id: &str,
    ) -> Result<Self, Failure> {
        if settings.device {
            let endpoint = server.device_authorization_endpoint.clone();
            return endpoint.map(Self::Device).ok_or_else(|| {
                Failure::usage("no device authorization endpoint is known: pass --device-authorization-endpoint, or leave --device out")
            });
        }
        if server.authorization_endpoint.is_none() {
            return Err(Failure::usage(format!(
                "no authorization endpoint is known for `{secret_id}`: pass --provider, --issuer, or --authorization-endpoint and \
                 --token-endpoint"
            )));
        }
        match &settings.redirect_uri {
            None => Ok(Self::Loopback(Loopback::at_free_port().await?)),
            Some(redirect_uri) => Ok(match Loopback::at(redirect_uri).await? {
                Some(loopback) => Self::Loopback(loopback),
                None => Self::Paste { redirect_uri: redirect_uri.clone() },
            }),
        }
    }

    /// The redirect address; none in the device flow.
    pub(super) fn redirect_uri(&self) -> Option<&str> {
        match self {
            Self::Loopback(loopback) => Some(&loopback.redirect_uri),
            Self::Paste { redirect_uri } => Some(redirect_uri),
            Self::Device(_) => None,
        }
    }
}
