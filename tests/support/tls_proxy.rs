//! A TLS proxy in front of a server without TLS. It has its own certificate authority and one certificate, for 127.0.0.1 and perhaps
//! another host, and forwards the bytes of every connection.

use std::{net::Ipv4Addr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::NamedTempFile;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// The proxy. It stops when it is dropped.
pub struct TlsProxy {
    url: String,
    authority: NamedTempFile,
    serving: AbortHandle,
}

impl TlsProxy {
    /// Starts a proxy in front of the server at `plain_url` (`http://127.0.0.1:PORT/PATH`).
    pub async fn in_front_of(plain_url: &str) -> Self {
        Self::as_host("127.0.0.1", plain_url).await
    }

    /// The same with a certificate for another host.
    pub async fn as_host(host: &str, plain_url: &str) -> Self {
        let rest = plain_url.strip_prefix("http://").expect("a plain address");
        let (upstream, path) = rest.split_once('/').map_or((rest, String::new()), |(a, path)| (a, format!("/{path}")));
        let (config, authority) = certificates(host);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let upstream = upstream.to_owned();
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate disconnects here.
                    let Ok(mut client) = acceptor.accept(connection).await else { return };
                    let mut server = TcpStream::connect(upstream).await.expect("the server behind the proxy");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        let serving = serving.abort_handle();
        Self { url: format!("https://127.0.0.1:{port}{path}"), authority, serving }
    }

    /// The `https` address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A PEM file with the certificate authority to trust.
    pub fn authority_file(&self) -> &str {
        self.authority.path().to_str().expect("a path in UTF-8")
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn certificates(host: &str) -> (ServerConfig, NamedTempFile) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new([host.to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a server's configuration");
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), authority.pem()).expect("the authority's file");
    (config, file)
}
