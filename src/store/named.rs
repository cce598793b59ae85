//! A store named by text, for programs that let a person choose: `secretsmanager` or `dir:PATH`.

use super::{
    Content, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId,
    directory::DirectoryStore, secrets_manager::SecretsManager,
};
use crate::{
    clock::Clock,
    error::{Advice, InvalidSetting},
    secret::Secret,
};

/// A store of either kind.
#[derive(Clone, Debug)]
pub enum NamedStore {
    /// `secretsmanager`
    SecretsManager(SecretsManager),
    /// `dir:PATH`
    Directory(DirectoryStore),
}

impl NamedStore {
    /// Opens a store by its name. `secretsmanager` (or `secretsmanager:`) connects as the AWS SDK's own settings say; `dir:PATH` opens the directory, and
    /// creates it if it is missing.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for another name, and for a store that cannot be opened.
    pub async fn open(name: &str, http: reqwest::Client, clock: Clock) -> Result<Self, InvalidSetting> {
        if matches!(name, "secretsmanager" | "secretsmanager:") {
            return Ok(Self::SecretsManager(SecretsManager::from_env(http).await?));
        }
        Self::directory(name, clock)
    }

    /// Opens a directory by its name, `dir:PATH`, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for another name, and for a directory that cannot be opened.
    pub fn directory(name: &str, clock: Clock) -> Result<Self, InvalidSetting> {
        match name.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => match DirectoryStore::open(path, clock) {
                Ok(store) => Ok(Self::Directory(store)),
                Err(error) => Err(InvalidSetting::new(format!("the store \"{name}\" cannot be opened: {error}"))),
            },
            _ => Err(InvalidSetting::found("the store", name, "\"secretsmanager\" or \"dir:PATH\"")),
        }
    }

    /// Creates a secret with its first version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] or [`StoreError::Rejected`] if a secret of that name exists.
    #[cfg(feature = "cli")]
    pub async fn create(&self, name: &str, id: &VersionId, body: &Secret) -> Result<(), StoreError> {
        match self {
            Self::SecretsManager(store) => store.create(name, id, body).await,
            Self::Directory(store) => store.create_as(name, id, body).await,
        }
    }
}

/// Calls a method of the store that is inside.
macro_rules! delegate {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::SecretsManager($store) => $call,
            Self::Directory($store) => $call,
        }
    };
}

impl SecretStore for NamedStore {
    fn limits(&self) -> Limits {
        delegate!(self, store => store.limits())
    }

    fn action(&self, operation: Operation) -> &'static str {
        delegate!(self, store => store.action(operation))
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        delegate!(self, store => store.advice(error, secret_id))
    }

    fn place(&self) -> String {
        delegate!(self, store => store.place())
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        delegate!(self, store => store.get(secret_id, which).await)
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        delegate!(self, store => store.put(secret_id, id, label, body).await)
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        delegate!(self, store => store.move_label(secret_id, label, from, to).await)
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        delegate!(self, store => store.remove_label(secret_id, label, from).await)
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        delegate!(self, store => store.list(secret_id).await)
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        delegate!(self, store => store.get_batch(secret_ids).await)
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        delegate!(self, store => store.find(prefix, page).await)
    }

    async fn read(&self, secret_id: &str, which: Selector<'_>) -> Result<(VersionId, Content), StoreError> {
        delegate!(self, store => store.read(secret_id, which).await)
    }
}
