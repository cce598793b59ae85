//! Each source over real sockets and files: what it reads, its errors, and the effect of a cache in front of it.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{
    Credentials, SharedCredentialsProvider, StalledStreamProtectionConfig, retry::RetryConfig,
};
use token_refresher::{
    Reader,
    clock::Clock,
    http_client::{HttpClients, SdkHttpClient},
    reader::{ReadError, Remedy, SecretReader, Source},
    secret::Secret,
    store::directory::DirectoryStore,
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    extension::Extension,
    support::secrets_manager::{Effect, FakeSecretsManager, Fault, GET},
    world::token_or_error,
};

const SECRET_ID: &str = "crm/oauth";

/// A token secret whose token expires in a day.
fn token(name: &str) -> String {
    let expires_at = chrono::Utc::now() + chrono::TimeDelta::days(1);
    serde_json::json!({"accessToken": name, "refreshToken": "r", "expiresAt": expires_at.timestamp_millis()})
        .to_string()
}

pub fn secrets_manager(fake: &FakeSecretsManager) -> Source {
    let http = HttpClients::new(|_| None).expect("HTTP clients").store;
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(fake.url())
        .http_client(SdkHttpClient(http))
        .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1)))
        .sleep_impl(aws_smithy_sleep())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    Source::secrets_manager(&config.build()).expect("a Region")
}

fn aws_smithy_sleep() -> aws_sdk_secretsmanager::config::SharedAsyncSleep {
    aws_sdk_secretsmanager::config::SharedAsyncSleep::new(TokioSleep)
}

#[derive(Debug)]
struct TokioSleep;

impl aws_sdk_secretsmanager::config::AsyncSleep for TokioSleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_secretsmanager::config::Sleep {
        aws_sdk_secretsmanager::config::Sleep::new(tokio::time::sleep(duration))
    }
}

#[tokio::test]
async fn secrets_manager_is_read_by_label_and_again_after_a_401() {
    let fake = FakeSecretsManager::start().await;
    let v1 = fake.create(SECRET_ID, token("v1"));
    let reader = Reader::new(secrets_manager(&fake), SECRET_ID);
    let first = reader.access_token().await.unwrap();
    assert_eq!((first.expose(), first.version_id()), ("v1", &v1));
    fake.user_put(SECRET_ID, token("v2"));
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    reader.rejected(&first);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    let calls = fake.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!((call.action.as_str(), call.version_stage.as_deref()), (GET, Some("AWSCURRENT")));
    }
}

#[tokio::test]
async fn each_error_of_secrets_manager_has_its_remedy() {
    let fake = FakeSecretsManager::start().await;
    fake.create(SECRET_ID, token("v1"));
    fake.create_binary("binary", &[0, 159]);
    fake.create("deleted", token("v1"));
    fake.schedule_deletion("deleted");
    for (secret_id, fault, remedy, part) in [
        ("missing", None, Remedy::FixSetting, "was not found (ResourceNotFoundException"),
        ("deleted", None, Remedy::FixSetting, "was not found (InvalidRequestException"),
        ("binary", None, Remedy::FixSetting, "cannot be used: it is binary"),
        (SECRET_ID, Some(Effect::AccessDenied), Remedy::FixSetting, "not allowed to secretsmanager:GetSecretValue"),
        (SECRET_ID, Some(Effect::Throttle), Remedy::Wait, "cannot be read now (ThrottlingException: Rate exceeded)"),
        (SECRET_ID, Some(Effect::InternalError), Remedy::Wait, "cannot be read now (InternalServiceError"),
        (SECRET_ID, Some(Effect::DropBefore), Remedy::Wait, "cannot be read now (no answer"),
    ] {
        if let Some(effect) = fault {
            fake.fault(Fault::on(GET, effect).times(3));
        }
        let error = Reader::new(secrets_manager(&fake), secret_id).access_token().await.unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        while fake.faults_left() > 0 {
            let _ = Reader::new(secrets_manager(&fake), secret_id).access_token().await;
        }
    }
}

#[tokio::test]
async fn text_bytes_and_the_previous_version_are_read_from_secrets_manager() {
    let fake = FakeSecretsManager::start().await;
    fake.create("key", "one");
    fake.user_put("key", "two");
    fake.create_binary("bytes", &[0, 159, 146]);
    let source = secrets_manager(&fake);
    let text = |builder: token_refresher::reader::SecretReaderBuilder| async move {
        builder.text().get().await.unwrap().expose().to_string()
    };
    assert_eq!(text(SecretReader::builder(source.clone(), "key")).await, "two");
    assert_eq!(text(SecretReader::builder(source.clone(), "key").previous()).await, "one");
    let bytes = SecretReader::bytes(source, "bytes").get().await.unwrap();
    assert_eq!(bytes.expose().as_slice(), [0, 159, 146]);
}

#[tokio::test]
async fn a_directory_is_read_and_read_again_after_a_401() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = DirectoryStore::open(folder.path(), Clock::system()).unwrap();
    let reader = Reader::new(Source::directory(store.clone()), SECRET_ID);
    assert!(matches!(reader.access_token().await, Err(ReadError::SecretNotFound { .. })));
    store.create(SECRET_ID, &Secret::from(token("v1"))).await.unwrap();
    let reader = Reader::new(Source::directory(store.clone()), SECRET_ID);
    let first = reader.access_token().await.unwrap();
    assert_eq!(first.expose(), "v1");
    store.put_value(SECRET_ID, &Secret::from(token("v2"))).await.unwrap();
    reader.rejected(&first);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    let by_path = Reader::new(Source::directory(folder.path()), SECRET_ID);
    assert_eq!(token_or_error(by_path.access_token().await), "v2");
    let missing = folder.path().join("missing");
    let error = token_or_error(Reader::new(Source::directory(&missing), SECRET_ID).access_token().await);
    let expected = format!("secret `{SECRET_ID}` was not found ({}/crm%2Foauth.json: No such file", missing.display());
    assert!(error.starts_with(&expected), "{error}");
    assert!(!missing.exists(), "a reader created a directory");
    let previous = SecretReader::builder(Source::directory(store), SECRET_ID).previous().text().get().await.unwrap();
    assert!(previous.expose().contains("v1"));
}

#[tokio::test]
async fn the_extension_is_read_as_documented_and_its_cache_cannot_be_bypassed() {
    let fake = FakeSecretsManager::start().await;
    let v1 = fake.create(SECRET_ID, token("v1"));
    let extension = Extension::start(&fake, "session/token+with=signs").await;
    let reader = Reader::new(Source::extension(extension.port(), "session/token+with=signs"), SECRET_ID);
    let first = reader.access_token().await.unwrap();
    assert_eq!((first.expose(), first.version_id()), ("v1", &v1));
    fake.user_put(SECRET_ID, token("v2"));
    reader.rejected(&first);
    assert_eq!(token_or_error(reader.access_token().await), "v1", "the extension returns its stale cache");
    let path = "/secretsmanager/get?secretId=crm%2Foauth&versionStage=AWSCURRENT".to_owned();
    assert_eq!(extension.paths(), [path.clone(), path]);
}

#[tokio::test]
async fn a_version_that_the_refresher_names_is_read_by_its_id_from_the_extension() {
    let fake = std::sync::Arc::new(FakeSecretsManager::start().await);
    fake.create(SECRET_ID, token("v1"));
    let extension = Extension::start(&fake, "t").await;
    let refresher = token_refresher::reader::RefresherFunction::from_fn("token-refresher", {
        let fake = std::sync::Arc::clone(&fake);
        move |_| {
            let id = fake.user_put(SECRET_ID, token("v2"));
            async move {
                let report = serde_json::json!({"outcome": "refreshed", "versionId": id.as_str()});
                Ok(token_refresher::reader::Reply::Report(report))
            }
        }
    });
    let source = Source::extension(extension.port(), "t");
    let reader = Reader::builder(source, SECRET_ID).refresher(refresher).build();
    reader.rejected(&reader.access_token().await.unwrap());
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    assert!(extension.paths().last().unwrap().contains("versionId="));
}

#[tokio::test]
async fn each_error_of_the_extension_has_its_remedy() {
    let fake = FakeSecretsManager::start().await;
    fake.create(SECRET_ID, token("v1"));
    let extension = Extension::start(&fake, "t").await;
    let wrong = Reader::new(Source::extension(extension.port(), "hunter2"), SECRET_ID);
    let error = wrong.access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixSetting);
    assert!(error.to_string().contains("its token is not the one that was sent"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "the token is shown");

    let missing = Reader::new(Source::extension(extension.port(), "t"), "missing").access_token().await.unwrap_err();
    assert!(missing.to_string().contains("ResourceNotFoundException"), "{missing}");

    let unprintable = Reader::new(Source::extension(extension.port(), "a\nb"), SECRET_ID);
    let error = unprintable.access_token().await.unwrap_err().to_string();
    assert!(error.contains("cannot be called: its token has a character that no header may have"), "{error}");

    let port = extension.port();
    drop(extension);
    let gone = Reader::new(Source::extension(port, "t"), SECRET_ID).access_token().await.unwrap_err();
    assert_eq!(gone.remedy(), Remedy::Wait);
    assert!(gone.to_string().contains(&format!("the extension on port {port} cannot be reached")), "{gone}");
}

#[tokio::test]
async fn an_extension_that_is_starting_is_read_again() {
    let fake = FakeSecretsManager::start().await;
    fake.create(SECRET_ID, token("v1"));
    let extension = Extension::start(&fake, "t").await;
    extension.not_ready(2);
    assert_eq!(
        token_or_error(Reader::new(Source::extension(extension.port(), "t"), SECRET_ID).access_token().await),
        "v1"
    );
    assert_eq!(extension.paths().len(), 3);
    extension.not_ready(100);
    let error = token_or_error(Reader::new(Source::extension(extension.port(), "t"), SECRET_ID).access_token().await);
    assert!(error.contains("the extension on port") && error.contains("is not ready"), "{error}");
}

#[tokio::test]
async fn the_longest_secret_is_read_and_an_endless_response_is_cut_off() {
    let fake = FakeSecretsManager::start().await;
    // Each of its characters takes six bytes in JSON.
    fake.create("longest", "\u{1}".repeat(65_536));
    let extension = Extension::start(&fake, "t").await;
    let longest = SecretReader::text(Source::extension(extension.port(), "t"), "longest").get().await.unwrap();
    assert_eq!(longest.expose().len(), 65_536);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
        let mut sent = 0;
        while stream.write_all(&[b'x'; 16_384]).await.is_ok() {
            sent += 16_384;
        }
        sent
    });
    let error = token_or_error(Reader::new(Source::extension(port, "t"), SECRET_ID).access_token().await);
    assert!(error.contains(&format!("the extension on port {port} answered over 524288 bytes")), "{error}");
    assert!(endless.await.unwrap() < 100_000_000, "the response was read to its end");
}

#[tokio::test]
async fn the_agents_token_is_read_from_its_file_at_each_request() {
    let fake = FakeSecretsManager::start().await;
    fake.create(SECRET_ID, token("v1"));
    let agent = Extension::start(&fake, "second").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let source = Source::agent(agent.port(), format!("file://{}", file.path().display()));
    assert!(Reader::new(source.clone(), SECRET_ID).access_token().await.is_err());
    std::fs::write(file.path(), "second\n").unwrap();
    assert_eq!(token_or_error(Reader::new(source, SECRET_ID).access_token().await), "v1");
    let error = token_or_error(
        Reader::new(Source::agent(agent.port(), "file:///no/such/file"), SECRET_ID).access_token().await,
    );
    assert!(error.contains("the agent's token cannot be read from /no/such/file: No such file"), "{error}");
}
