//! A directory, an authorization server, and the commands that use them.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use token_refresher::{
    clock::Clock,
    store::{Label, SecretStore, Selector, VersionId, directory::DirectoryStore},
};
use tokio::process::Command;

use crate::{
    process::{Waiting, With, command},
    server::AuthorizationServer,
};

/// The secret of most tests.
pub const SECRET: &str = "myapp/prod/crm";

/// The settings of a public client.
pub const PUBLIC: [&str; 4] = ["--client-id", "public", "--token-endpoint-auth-method", "none"];

pub struct World {
    pub server: AuthorizationServer,
    directory: TempDir,
    pub store: DirectoryStore,
}

impl World {
    pub async fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let store = DirectoryStore::open(directory.path().join("tokens"), Clock::system()).expect("a store");
        Self { server: AuthorizationServer::start().await, directory, store }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, with the directory store.
    pub fn tokenctl(&self, arguments: &[&str]) -> Command {
        command(self.path()).with(["--store", "dir:tokens"]).with(arguments)
    }

    /// `tokenctl login` at the server.
    pub fn login(&self, arguments: &[&str]) -> Command {
        self.tokenctl(&["login", SECRET, "--issuer", &self.server.issuer]).with(arguments)
    }

    /// Starts a login of the public client, and waits for its address.
    pub async fn start(&self, arguments: &[&str]) -> Waiting {
        Waiting::start(self.login(&PUBLIC).with(arguments)).await
    }

    /// Creates the secret.
    pub async fn create(&self, document: &Value) -> VersionId {
        self.store.create(SECRET, &document.to_string().into()).await.expect("a new secret")
    }

    /// The current document.
    pub async fn document(&self) -> Value {
        let (document, labels) = self.document_with_labels().await;
        assert_eq!(labels, ["AWSCURRENT"], "a label of tokenctl stays");
        document
    }

    pub async fn document_with_labels(&self) -> (Value, Vec<String>) {
        let version = self.store.get(SECRET, Selector::Label(Label::Current)).await.expect("a current version");
        let document = serde_json::from_str(version.body.expose()).expect("a document");
        (document, version.labels.names().map(str::to_owned).collect())
    }

    pub async fn exists(&self) -> bool {
        self.store.get(SECRET, Selector::Label(Label::Current)).await.is_ok()
    }

    /// The files that a command has left behind, beside the store.
    pub fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path()).expect("the directory");
        let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
        names.filter(|name| name != "tokens").collect()
    }

    /// A token secret of the public client with other tokens.
    pub fn token(&self, changes: &Value) -> Value {
        let mut token = json!({
            "refreshToken": "unseen-old-refresh-token", "accessToken": "unseen-old-access-token", "expiresAt": 4_102_444_800_000_i64,
            "tokenEndpoint": format!("{}/token", self.server.issuer), "clientId": "public", "tokenEndpointAuthMethod": "none", "own": [1.10],
        });
        for (name, value) in changes.as_object().expect("an object") {
            token[name] = value.clone();
        }
        token
    }
}
