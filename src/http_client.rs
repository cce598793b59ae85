//! The wire: one TLS configuration, two HTTP clients on it (one for the store, one for providers), and the AWS SDK made
//! to use the first. So one TLS stack is linked, and trust roots are loaded once.

use std::sync::Arc;

use reqwest::{Response, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use zeroize::Zeroizing;

use crate::{error::InvalidSetting, secret::append};

#[cfg(feature = "secrets-manager")]
mod sdk;
#[cfg(feature = "secrets-manager")]
pub use sdk::SdkHttpClient;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The two clients.
#[derive(Clone, Debug)]
pub struct HttpClients {
    /// For the store: keeps connections open from one invocation to the next; a request on one that has died meanwhile is
    /// sent again.
    pub store: reqwest::Client,
    /// For providers: a connection for each exchange. A refresh token that went out on a connection which died while the
    /// function was frozen might be spent or not.
    pub provider: reqwest::Client,
}

impl HttpClients {
    /// Makes both. `SSL_CERT_FILE`, where set, names a PEM file of the trust roots to use in place of Mozilla's, which
    /// are built in.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] when that file cannot be used.
    pub fn new(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let tls = tls(var("SSL_CERT_FILE").filter(|path| !path.is_empty()).as_deref())?;
        let client = |builder: reqwest::ClientBuilder| {
            builder
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                // A proxy that the environment names would get what goes to a loopback address, tokens and all, in the clear.
                .no_proxy()
                .user_agent(concat!("token-refresher/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|problem| InvalidSetting::new(format!("no HTTP client can be made: {problem}")))
        };
        Ok(Self {
            store: client(reqwest::Client::builder())?,
            provider: client(reqwest::Client::builder().pool_max_idle_per_host(0))?,
        })
    }
}

fn tls(roots_file: Option<&str>) -> Result<ClientConfig, InvalidSetting> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = roots_file {
        let allowed = "allowed is a PEM file of trusted certificates";
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|problem| InvalidSetting::new(format!("SSL_CERT_FILE is \"{path}\" ({problem}); {allowed}")))?;
        roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(InvalidSetting::new(format!(
                "SSL_CERT_FILE is \"{path}\", which holds no certificate; {allowed}"
            )));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| InvalidSetting::new(format!("no TLS configuration can be made: {problem}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Reads a body of at most `max_bytes`.
///
/// # Errors
///
/// What went wrong, in words that quote nothing of it.
pub async fn read_bounded(mut response: Response, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() > max_bytes => {
                return Err(format!("the answer is longer than {max_bytes} bytes"));
            }
            Ok(Some(chunk)) => append(&mut body, &chunk),
            Err(_) => return Err("the answer broke off".to_owned()),
        }
    }
}
