//! The wire: one TLS configuration, two HTTP clients on it (one for the store, one for providers), and the AWS SDK made
//! to use the first. So one TLS stack is linked, and trust roots are loaded once.

use std::sync::Arc;

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use reqwest::{Response, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use zeroize::Zeroizing;

use crate::error::Error;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// No answer of Secrets Manager is longer: a page of 100 versions, or 64 KiB of text with every character escaped.
const MAX_STORE_ANSWER_BYTES: usize = 1024 * 1024;

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
    /// [`Error::InvalidConfiguration`] when that file cannot be used.
    pub fn new(var: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
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
                .map_err(|problem| Error::InvalidConfiguration {
                    problem: format!("no HTTP client can be made: {problem}"),
                })
        };
        Ok(Self {
            store: client(reqwest::Client::builder())?,
            provider: client(reqwest::Client::builder().pool_max_idle_per_host(0))?,
        })
    }
}

fn tls(roots_file: Option<&str>) -> Result<ClientConfig, Error> {
    let bad = |problem: String| Error::InvalidConfiguration { problem };
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = roots_file {
        let allowed = "allowed is a PEM file of trusted certificates";
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|problem| bad(format!("SSL_CERT_FILE is \"{path}\" ({problem}); {allowed}")))?;
        roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(bad(format!("SSL_CERT_FILE is \"{path}\", which holds no certificate; {allowed}")));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| bad(format!("no TLS configuration can be made: {problem}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The AWS SDK's HTTP client over reqwest: without it the SDK brings a second one.
#[derive(Clone, Debug)]
pub struct SdkHttpClient(pub reqwest::Client);

impl HttpClient for SdkHttpClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkHttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
    let (parts, body) = request.into_parts();
    let body = body.bytes().unwrap_or_default().to_vec();
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))
        .map_err(|e| ConnectorError::user(e.into()))?;
    let response = client.execute(request).await.map_err(|error| {
        let error = error.without_url();
        match (error.is_timeout(), error.is_connect()) {
            (true, _) => ConnectorError::timeout(error.into()),
            (false, true) => ConnectorError::io(error.into()).never_connected(),
            (false, false) => ConnectorError::io(error.into()),
        }
    })?;
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    let body = read_bounded(response, MAX_STORE_ANSWER_BYTES).await.map_err(|e| ConnectorError::io(e.into()))?;
    HttpResponse::try_from(head.map(|()| SdkBody::from(body.as_slice())))
        .map_err(|e| ConnectorError::other(e.into(), None))
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
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > body.capacity() {
                    // Not left to the vector: it would leave what was read so far behind, and nobody would wipe it.
                    let mut larger = Zeroizing::new(Vec::with_capacity(2 * (body.len() + chunk.len())));
                    larger.extend_from_slice(&body);
                    body = larger;
                }
                body.extend_from_slice(&chunk);
            }
            Err(_) => return Err("the answer broke off".to_owned()),
        }
    }
}
