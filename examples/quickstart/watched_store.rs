//! A store that counts its calls. It can stop after one of them, as if the process had been killed there.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use token_refresher::{
    error::Advice,
    secret::Secret,
    store::{
        Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId,
        directory::DirectoryStore,
    },
};
use tokio::sync::Notify;

/// The directory store, with a count of its calls.
#[derive(Clone)]
pub struct WatchedStore {
    pub inner: DirectoryStore,
    calls: Arc<AtomicUsize>,
    /// The number of the last call (counted from 1): it never returns.
    last_call: usize,
    killed: Arc<Notify>,
}

impl WatchedStore {
    pub fn new(inner: &DirectoryStore) -> Self {
        Self { inner: inner.clone(), calls: Arc::default(), last_call: usize::MAX, killed: Arc::default() }
    }

    /// For a run that is killed right after its n-th call.
    pub fn killed_after(inner: &DirectoryStore, last_call: usize) -> Self {
        Self { last_call, ..Self::new(inner) }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Waits until the last call is done.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    async fn watched<T>(&self, call: impl Future<Output = T>) -> T {
        let number = self.calls.fetch_add(1, SeqCst) + 1;
        let done = call.await;
        if number >= self.last_call {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
        done
    }
}

impl SecretStore for WatchedStore {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn action(&self, operation: Operation) -> &'static str {
        self.inner.action(operation)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        self.inner.advice(error, secret_id)
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        self.watched(self.inner.get(secret_id, which)).await
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        self.watched(self.inner.put(secret_id, id, label, body)).await
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        self.watched(self.inner.move_label(secret_id, label, from, to)).await
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        self.watched(self.inner.remove_label(secret_id, label, from)).await
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        self.watched(self.inner.list(secret_id)).await
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        self.watched(self.inner.get_batch(secret_ids)).await
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        self.watched(self.inner.find(prefix, page)).await
    }
}
