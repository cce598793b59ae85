//! TLS and proxies: which certificates the binary trusts, for Secrets Manager and for providers, and what it sends through a proxy.

mod support;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    secrets_manager::FakeSecretsManager,
    tls_proxy::TlsProxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const BINARY: &str = env!("CARGO_BIN_EXE_token-refresher");
const SECRET_ID: &str = "crm/oauth";

/// A Secrets Manager with a due token whose provider is at `token_endpoint`.
async fn secrets_manager(provider: &Provider, token_endpoint: &str) -> FakeSecretsManager {
    let secrets_manager = FakeSecretsManager::start().await;
    let (access_token, refresh_token) = provider.issue();
    let token = json!({
        "accessToken": access_token,
        "refreshToken": refresh_token,
        "expiresAt": 0,
        "tokenEndpoint": token_endpoint,
        "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET,
    });
    secrets_manager.create_aged(SECRET_ID, token, Duration::from_hours(1));
    secrets_manager
}

async fn invoke(secrets_manager: &str, more: &[(&str, &str)]) -> (Outcome, Option<Value>) {
    let api = RuntimeApi::start().await;
    let mut environment = vec![
        ("SECRET_ID", SECRET_ID),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager),
    ];
    environment.extend(more);
    let _function = Function::spawn(BINARY, &api, &environment);
    (api.invoke("{}", Deadline::InMs(60_000)).await, api.init_error())
}

#[tokio::test]
async fn a_refresh_works_over_tls_with_a_trusted_authority() {
    let provider = Provider::rotating();
    let provider_over_tls = TlsProxy::in_front_of(&provider.url()).await;
    let secrets_manager = secrets_manager(&provider, provider_over_tls.url()).await;
    let secrets_manager_over_tls = TlsProxy::in_front_of(secrets_manager.url()).await;
    let both = tempfile::NamedTempFile::new().unwrap();
    let authorities = [&provider_over_tls, &secrets_manager_over_tls]
        .map(|proxy| std::fs::read_to_string(proxy.authority_file()).unwrap());
    std::fs::write(both.path(), authorities.concat()).unwrap();
    let trusted = [("SSL_CERT_FILE", both.path().to_str().unwrap())];
    let (outcome, _) = invoke(secrets_manager_over_tls.url(), &trusted).await;
    match outcome {
        Outcome::Response(report) => assert_eq!(report["outcome"], "refreshed"),
        Outcome::Error { error_type, message, .. } => panic!("{error_type}: {message}"),
        Outcome::Gone => panic!("the function ended"),
    }
    assert_eq!(provider.exchanges(), 1);
}

#[tokio::test]
async fn a_provider_with_an_unknown_certificate_never_receives_the_token() {
    let provider = Provider::rotating();
    let over_tls = TlsProxy::in_front_of(&provider.url()).await;
    let secrets_manager = secrets_manager(&provider, over_tls.url()).await;
    let (outcome, _) = invoke(secrets_manager.url(), &[]).await;
    let Outcome::Error { error_type, message, .. } = outcome else { panic!("no error") };
    assert_eq!(error_type, "ProviderUnavailable");
    assert_eq!(
        message,
        format!(
            "secret `{SECRET_ID}`: {} could not be reached (invalid peer certificate: UnknownIssuer); the next run tries \
             again",
            over_tls.url()
        )
    );
    assert_eq!(provider.exchanges(), 0);
}

#[tokio::test]
async fn a_secrets_manager_with_an_unknown_certificate_is_not_read() {
    let provider = Provider::rotating();
    let secrets_manager = secrets_manager(&provider, &provider.url()).await;
    let over_tls = TlsProxy::in_front_of(secrets_manager.url()).await;
    let (outcome, _) = invoke(over_tls.url(), &[]).await;
    let Outcome::Error { error_type, message, .. } = outcome else { panic!("no error") };
    assert_eq!(error_type, "StoreUnavailable");
    assert!(message.contains("invalid peer certificate: UnknownIssuer"), "{message}");
    assert_eq!(secrets_manager.calls().len(), 0);
}

#[tokio::test]
async fn unusable_trust_roots_stop_the_start() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (path, problem) in [
        ("/no/such/file", "SSL_CERT_FILE is \"/no/such/file\" ("),
        (empty, "which holds no certificate; allowed is a PEM file of trusted certificates"),
    ] {
        let (outcome, init_error) = invoke("http://127.0.0.1:9", &[("SSL_CERT_FILE", path)]).await;
        assert!(matches!(outcome, Outcome::Gone), "{path}: the function started");
        let init_error = init_error.expect("an error sent to Lambda");
        assert_eq!(init_error["errorType"], "InvalidConfiguration");
        let message = init_error["errorMessage"].as_str().unwrap();
        assert!(message.contains(problem), "{message}");
    }
}

/// A proxy that tunnels (`CONNECT`). It records what it is asked and every byte from the function.
#[derive(Clone, Default)]
struct Tunnel {
    hosts: Arc<Mutex<Vec<String>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Tunnel {
    async fn start(&self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tunnel = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel.clone().serve(client));
            }
        });
        url
    }

    async fn serve(self, mut client: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("a whole request"));
        }
        let head = String::from_utf8(head).unwrap();
        let host = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a CONNECT").to_owned();
        self.hosts.lock().unwrap().push(host.clone());
        let server = TcpStream::connect(host).await.expect("the server");
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from_client.read(&mut piece).await {
            self.bytes.lock().unwrap().extend_from_slice(&piece[..length]);
            to_server.write_all(&piece[..length]).await.unwrap();
        }
        back.abort();
    }
}

#[tokio::test]
async fn a_proxy_is_a_tunnel_to_the_provider_and_sees_no_token() {
    for (no_proxy, is_used) in [("", true), ("id.example,127.0.0.1", false)] {
        let (provider, tunnel) = (Provider::rotating(), Tunnel::default());
        let provider_over_tls = TlsProxy::in_front_of(&provider.url()).await;
        let secrets_manager = secrets_manager(&provider, provider_over_tls.url()).await;
        let secrets_manager_over_tls = TlsProxy::in_front_of(secrets_manager.url()).await;
        let authorities = tempfile::NamedTempFile::new().unwrap();
        let both = [&provider_over_tls, &secrets_manager_over_tls]
            .map(|proxy| std::fs::read_to_string(proxy.authority_file()));
        std::fs::write(authorities.path(), both.map(Result::unwrap).concat()).unwrap();
        let url = tunnel.start().await;
        let (outcome, _) = invoke(
            secrets_manager_over_tls.url(),
            &[("SSL_CERT_FILE", authorities.path().to_str().unwrap()), ("HTTPS_PROXY", &url), ("NO_PROXY", no_proxy)],
        )
        .await;
        assert!(matches!(&outcome, Outcome::Response(report) if report["outcome"] == "refreshed"), "not refreshed");
        assert_eq!(provider.exchanges(), 1);
        // Secrets Manager is reached directly.
        let address = provider_over_tls.url().strip_prefix("https://").unwrap();
        let host = address.split('/').next().unwrap();
        let expected: &[&str] = if is_used { &[host] } else { &[] };
        assert_eq!(*tunnel.hosts.lock().unwrap(), expected, "NO_PROXY={no_proxy}");
        let bytes = tunnel.bytes.lock().unwrap();
        assert_eq!(bytes.is_empty(), !is_used);
        for secret in provider.every_token_issued().iter().map(String::as_str).chain([CLIENT_SECRET, CLIENT_ID]) {
            assert!(!bytes.windows(secret.len()).any(|piece| piece == secret.as_bytes()), "the proxy sees a secret");
        }
    }
}

#[tokio::test]
async fn an_unusable_proxy_stops_the_start_and_its_password_is_not_shown() {
    for url in ["proxy.example:3128", "socks5://user:unseen-password@proxy.example", "unseen-password", "http://"] {
        let (outcome, init_error) = invoke("http://127.0.0.1:9", &[("HTTPS_PROXY", url)]).await;
        assert!(matches!(outcome, Outcome::Gone), "{url}: the function started");
        assert_eq!(
            init_error.expect("an error sent to Lambda")["errorMessage"],
            "HTTPS_PROXY is not the URL of a proxy; allowed is http://HOST:PORT or https://HOST:PORT"
        );
    }
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used_for_a_plain_address() {
    let proxy = Provider::responding(200, "application/json", "{}");
    let provider = Provider::rotating();
    let secrets_manager = secrets_manager(&provider, &provider.url()).await;
    let url = proxy.url();
    let proxies =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, url.as_str()));
    let (outcome, _) = invoke(secrets_manager.url(), &proxies).await;
    assert!(matches!(&outcome, Outcome::Response(report) if report["outcome"] == "refreshed"), "not refreshed");
    assert_eq!((provider.exchanges(), proxy.requests().len()), (1, 0));
}
