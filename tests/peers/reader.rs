//! The reader with moto, and with AWS's own agent in front of moto, while the real function refreshes with cargo-lambda's Runtime
//! API.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use serde_json::{Value, json};
use token_refresher::{
    Reader,
    http_client::{HttpClients, SdkHttpClient},
    reader::{AccessToken, ReadError, RefresherFunction, Remedy, SecretReader, Source},
};
use tokio::task::JoinSet;

use super::{functions::CargoLambda, peer, providers::Provider, secrets::Secrets, text};

/// The SDK configuration of a function, with this endpoint.
fn sdk(endpoint: &str) -> SdkConfig {
    let http = HttpClients::new(|_| None).expect("HTTP clients").store;
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "tests")))
        .endpoint_url(endpoint)
        .http_client(SdkHttpClient(http))
        .build()
}

fn moto() -> Source {
    Source::secrets_manager(&sdk(&peer("PEER_MOTO_URL"))).expect("a Region")
}

fn agent() -> Source {
    agent_with_token(&peer("PEER_AGENT_TOKEN"))
}

fn agent_with_token(token: &str) -> Source {
    let url = peer("PEER_AGENT_URL");
    Source::agent(url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"), token)
}

fn good_for_a_day(access_token: &str) -> Value {
    let expires_at = chrono::Utc::now() + chrono::TimeDelta::days(1);
    json!({"accessToken": access_token, "refreshToken": "unseen-r", "expiresAt": expires_at.timestamp_millis()})
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_agent_returns_the_secret_and_its_cache_can_be_bypassed() {
    let secrets = Secrets::connect();
    let name = "agent/crm+oauth";
    let v1 = secrets.create(name, &good_for_a_day("unseen-1")).await;
    let by_agent = Reader::new(agent(), name);
    let first = by_agent.access_token().await.unwrap();
    assert_eq!((first.expose(), first.version_id().as_str()), ("unseen-1", v1.as_str()));
    let directly = Reader::new(moto(), name).access_token().await.unwrap();
    assert_eq!((directly.expose(), directly.expires_at()), (first.expose(), first.expires_at()));

    let v2 = secrets.edit(name, &good_for_a_day("unseen-2")).await;
    assert_eq!(Reader::new(agent(), name).access_token().await.unwrap().expose(), "unseen-1", "the cache of the agent");
    by_agent.rejected(&first);
    let second = by_agent.access_token().await.unwrap();
    assert_eq!((second.expose(), second.version_id().as_str()), ("unseen-2", v2.as_str()));
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_agent_returns_bytes_and_its_errors_are_reported() {
    let secrets = Secrets::connect();
    secrets.create_binary("agent/binary", &[0, 159, 146, 150]).await;
    let bytes = SecretReader::bytes(agent(), "agent/binary").get().await.unwrap();
    assert_eq!(bytes.expose().as_slice(), [0, 159, 146, 150]);
    let error = Reader::new(agent(), "agent/binary").access_token().await.unwrap_err();
    assert!(matches!(error, ReadError::InvalidSecret { .. }), "{error}");
    let error = Reader::new(agent(), "agent/missing").access_token().await.unwrap_err();
    assert!(matches!(error, ReadError::SecretNotFound { .. }), "{error}");
    let error = Reader::new(agent_with_token("unseen-wrong"), "agent/binary").access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixSetting);
    assert!(error.to_string().contains("answered 403: Bad Token; its token is not the one that was sent"), "{error}");
    assert!(!error.to_string().contains("unseen-wrong"), "the token is shown");
}

/// The token that all readers get when they ask at the same time. Fails if they get different ones.
async fn token_of_all(readers: &[Reader]) -> AccessToken {
    let mut tasks = JoinSet::new();
    for reader in readers {
        let reader = reader.clone();
        tasks.spawn(async move { reader.access_token().await.unwrap() });
    }
    let tokens = tasks.join_all().await;
    assert!(tokens.iter().all(|token| token.expose() == tokens[0].expose()), "the readers have different tokens");
    tokens[0].clone()
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn readers_in_many_processes_with_a_401_cause_one_exchange_and_get_its_token() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let name = "readers/crm/oauth";
    // The token has expired: the first reader requests a refresh.
    secrets.create(name, &provider.secret(&tokens)).await;
    let function = CargoLambda::start(8, &secrets.url, name).await;
    let refresher = RefresherFunction::lambda_with("function-8", &sdk(&peer("PEER_LAMBDA_URL"))).unwrap();
    // Each reader has its own cache, like the processes of a function.
    let reader =
        |source| Reader::builder(source, name).refresher(refresher.clone()).patience(Duration::from_mins(1)).build();
    let readers: Vec<_> = (0..4).flat_map(|_| [reader(moto()), reader(agent())]).collect();

    let first = token_of_all(&readers).await;
    assert_eq!(first.expose(), text(&secrets.current(name).await, "accessToken"));
    assert_ne!(first.expose(), tokens.access);
    assert_eq!(first.member::<String>("clientId").unwrap().as_deref(), Some("basic"));
    assert_eq!(first.member::<String>("refreshToken").unwrap(), None);
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);

    let spent = text(&secrets.current(name).await, "refreshToken");
    for reader in &readers {
        reader.rejected(&first);
    }
    let second = token_of_all(&readers).await;
    assert_eq!(second.expose(), text(&secrets.current(name).await, "accessToken"));
    assert_ne!(second.expose(), first.expose());
    assert_eq!(provider.times_presented(&spent).await, 1);
    // The refresh token still works, so no token was used twice.
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn readers_of_a_published_secret_cause_a_refresh_of_the_token_secret_without_reading_it() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let (name, published) = ("readers/apart/oauth", "readers/apart/access");
    let mut document = provider.secret(&provider.log_in().await);
    document["publishTo"] = json!(published);
    secrets.create(name, &document).await;
    secrets.create_empty(published).await;
    let function = CargoLambda::start(7, &secrets.url, name).await;
    let refresher =
        RefresherFunction::lambda_with("function-7", &sdk(&peer("PEER_LAMBDA_URL"))).unwrap().of_secret(name);
    function.invoke_from_the_command_line("{}").await;
    let reader = |source| Reader::builder(source, published).refresher(refresher.clone()).build();
    let readers = [reader(moto()), reader(agent()), reader(moto())];

    let first = token_of_all(&readers).await;
    assert_eq!(first.member::<String>("clientId").unwrap(), None);
    let spent = text(&secrets.current(name).await, "refreshToken");
    for reader in &readers {
        reader.rejected(&first);
    }
    let second = token_of_all(&readers).await;
    assert_ne!(second.expose(), first.expose());
    assert_eq!(second.expose(), text(&secrets.current(name).await, "accessToken"));
    assert_eq!(second.version_id().as_str(), secrets.labelled(published, "AWSCURRENT").await.0);
    assert_eq!(provider.times_presented(&spent).await, 1);
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}
