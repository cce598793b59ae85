//! Each store passes the same conformance suite. One line adds a store.

mod conformance;
#[path = "../support/secrets_manager.rs"]
mod secrets_manager;

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use conformance::Peer;
use secrets_manager::FakeSecretsManager;
use tempfile::TempDir;
use token_refresher::{
    clock::Clock,
    http_client::{HttpClients, SdkHttpClient},
    store::{VersionId, directory::DirectoryStore, named::NamedStore, secrets_manager::SecretsManager},
};

conforms!(directory, super::Directory::open());
conforms!(secrets_manager_over_the_sdk, super::Service::start());
conforms!(a_directory_opened_by_name, super::Named::open());

struct Directory {
    store: Arc<DirectoryStore>,
    _folder: TempDir,
}

impl Directory {
    #[expect(clippy::unused_async, reason = "`conforms!` awaits how every store is opened")]
    async fn open() -> Self {
        let folder = TempDir::new().expect("a folder");
        Self {
            store: Arc::new(DirectoryStore::open(folder.path(), Clock::system()).expect("a store")),
            _folder: folder,
        }
    }
}

impl Peer for Directory {
    type Store = DirectoryStore;

    fn store(&self) -> &Arc<DirectoryStore> {
        &self.store
    }

    async fn create(&self, name: &str, text: &str) -> VersionId {
        self.store.create(name, &text.into()).await.expect("a secret")
    }
}

/// The store over the AWS SDK, against a server that follows the documentation.
struct Service {
    store: Arc<SecretsManager>,
    server: FakeSecretsManager,
}

impl Service {
    async fn start() -> Self {
        let server = FakeSecretsManager::start().await;
        let credentials = Credentials::new("test", "test", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-west-1"))
            .endpoint_url(server.url())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(SharedHttpClient::new(SdkHttpClient(HttpClients::new(|_| None).expect("clients").store)))
            .build();
        Self { store: Arc::new(SecretsManager::new(&config).expect("a Region")), server }
    }
}

impl Peer for Service {
    type Store = SecretsManager;

    fn store(&self) -> &Arc<SecretsManager> {
        &self.store
    }

    async fn create(&self, name: &str, text: &str) -> VersionId {
        self.server.create(name, text)
    }
}

struct Named {
    store: Arc<NamedStore>,
    directory: DirectoryStore,
    _folder: TempDir,
}

impl Named {
    async fn open() -> Self {
        let folder = TempDir::new().expect("a folder");
        let http = HttpClients::new(|_| None).expect("clients").store;
        let name = format!("dir:{}", folder.path().display());
        let store = Arc::new(NamedStore::open(&name, http, Clock::system()).await.expect("a store"));
        let NamedStore::Directory(directory) = &*store else { panic!("{store:?} is not a directory") };
        let directory = directory.clone();
        Self { store, directory, _folder: folder }
    }
}

impl Peer for Named {
    type Store = NamedStore;

    fn store(&self) -> &Arc<NamedStore> {
        &self.store
    }

    async fn create(&self, name: &str, text: &str) -> VersionId {
        self.directory.create(name, &text.into()).await.expect("a secret")
    }
}

#[tokio::test]
async fn an_unknown_store_name_is_rejected_and_the_error_lists_the_valid_names() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let not_a_folder = format!("dir:{}", file.path().display());
    for (name, expected) in [
        ("", "the store is \"\"; allowed is \"secretsmanager\" or \"dir:PATH\""),
        ("dir:", "the store is \"dir:\"; allowed is \"secretsmanager\" or \"dir:PATH\""),
        ("Secretsmanager", "the store is \"Secretsmanager\"; allowed is \"secretsmanager\" or \"dir:PATH\""),
        ("secretsmanager:eu-west-1", "the store is \"secretsmanager:eu-west-1\"; allowed is"),
        ("vault:x", "the store is \"vault:x\"; allowed is \"secretsmanager\" or \"dir:PATH\""),
        (not_a_folder.as_str(), "cannot be opened"),
    ] {
        let http = HttpClients::new(|_| None).expect("clients").store;
        let error = NamedStore::open(name, http, Clock::system()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
