//! Two HTTP clients, one for the store and one for providers, with one TLS configuration. The AWS SDK uses the first. So only one
//! TLS stack is linked, and the trust roots are loaded once.

use std::sync::Arc;

use reqwest::{NoProxy, Proxy, Response, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};
use zeroize::Zeroizing;

use crate::{error::InvalidSetting, secret::append};

#[cfg(feature = "secrets-manager")]
mod sdk;
#[cfg(feature = "secrets-manager")]
pub use sdk::SdkHttpClient;

/// The timeout for opening a connection.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The two clients.
#[derive(Clone, Debug)]
pub struct HttpClients {
    /// For the store: keeps connections open between invocations. If a connection has died in the meantime, the request is sent
    /// again.
    pub store: reqwest::Client,
    /// For providers: opens a connection for each exchange. A kept connection may die while the function is frozen; then it is
    /// unknown whether the provider received the refresh token.
    pub provider: reqwest::Client,
}

impl HttpClients {
    /// Makes both. `SSL_CERT_FILE` names a PEM file with trust roots. Default: Mozilla's, which are built in. `HTTPS_PROXY` names a proxy
    /// for providers at `https` addresses, unless `NO_PROXY` excludes their host. The proxy is a tunnel (`CONNECT`): it sees no token.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if that file or that proxy cannot be used.
    pub fn new(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        set_default_crypto_provider();
        let tls = tls(var("SSL_CERT_FILE").filter(|path| !path.is_empty()).as_deref())?;
        let client = |builder: reqwest::ClientBuilder| {
            builder
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("token-refresher/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|problem| InvalidSetting::new(format!("no HTTP client can be made: {problem}")))
        };
        // Without the proxies that reqwest would read from the environment: requests to loopback addresses must not go there.
        let builder = || reqwest::Client::builder().no_proxy();
        let provider = builder().pool_max_idle_per_host(0);
        Ok(Self {
            store: client(builder())?,
            provider: client(match proxy(&var)? {
                Some(proxy) => provider.proxy(proxy),
                None => provider,
            })?,
        })
    }
}

/// The proxy for providers. Never for `http`, the scheme of loopback addresses: the proxy would receive the tokens unencrypted.
fn proxy(var: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, InvalidSetting> {
    let var = |name: &str| {
        [name.to_owned(), name.to_lowercase()].iter().find_map(|name| var(name).filter(|value| !value.is_empty()))
    };
    let Some(url) = var("HTTPS_PROXY") else { return Ok(None) };
    // The URL may contain a password.
    let invalid = || {
        InvalidSetting::new("HTTPS_PROXY is not the URL of a proxy; allowed is http://HOST:PORT or https://HOST:PORT")
    };
    let parsed = reqwest::Url::parse(&url).map_err(|_| invalid())?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(invalid());
    }
    let proxy = Proxy::https(parsed).map_err(|_| invalid())?;
    Ok(Some(proxy.no_proxy(var("NO_PROXY").as_deref().and_then(NoProxy::from_string))))
}

/// Makes ring the default crypto provider of this process for rustls, unless there is one. This crate builds reqwest without a provider.
/// Without a default one, `reqwest::Client::new()` panics.
pub(crate) fn set_default_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // Fails if another thread was faster.
        drop(ring::default_provider().install_default());
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

/// Reads a response body of at most `max_bytes`.
///
/// # Errors
///
/// The problem, in words that do not quote the body.
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
