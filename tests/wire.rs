//! TLS and proxies: which certificates the binary trusts, for Secrets Manager and for providers, and that it uses no proxy.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    runtime_api::{Deadline, Function, Outcome, RuntimeApi},
    secrets_manager::FakeSecretsManager,
    tls_proxy::TlsProxy,
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

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
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
