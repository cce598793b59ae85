//! A run's calls to the store, each within the run's deadline, and what their errors mean.

use std::future::Future;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;

use super::{Error, Run, decision};
use crate::{
    secret::Secret,
    store::{Label, Listed, Operation, SecretStore, Selector, StoreError, Version, VersionId},
};

impl<S: SecretStore> Run<'_, S> {
    pub(super) async fn get(&self, which: Selector<'_>) -> Result<Version, StoreError> {
        self.in_time(Operation::Get, self.refresher.store.get(self.secret_id, which)).await
    }

    /// A version that may not exist.
    pub(super) async fn find(&self, which: Selector<'_>) -> Result<Option<Version>, Error> {
        match self.get(which).await {
            Ok(version) => Ok(Some(version)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.store_error(error)),
        }
    }

    pub(super) async fn put(&self, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        let put = self.refresher.store.put(self.secret_id, id, label, body);
        self.in_time(Operation::Put, put).await
    }

    pub(super) async fn move_label(
        &self,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        let moved = self.refresher.store.move_label(self.secret_id, label, from, to);
        self.in_time(Operation::MoveLabel, moved).await
    }

    pub(super) async fn remove_label(&self, label: Label, from: &VersionId) -> Result<(), StoreError> {
        let removed = self.refresher.store.remove_label(self.secret_id, label, from);
        self.in_time(Operation::MoveLabel, removed).await
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.in_time(Operation::List, self.refresher.store.list(self.secret_id)).await
    }

    pub(super) async fn in_time<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.in_time_until(self.deadline - decision::RESPONSE, operation, call).await
    }

    pub(super) async fn in_time_until<T>(
        &self,
        give_up_at: DateTime<Utc>,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.observation.call();
        // Boxed: otherwise the futures of a dozen calls, each as large as the SDK makes it, would all be part of the run's own.
        self.refresher.clock.before(give_up_at, call.boxed()).await.unwrap_or_else(|| {
            let action = self.refresher.store.action(operation);
            Err(StoreError::Unavailable { action, detail: "no answer before the deadline".to_owned() })
        })
    }

    pub(super) fn invalid(&self, problem: String) -> Error {
        Error::InvalidSecret { secret_id: self.secret_id.to_owned(), problem }
    }

    pub(super) fn store_error(&self, error: StoreError) -> Error {
        Error::of_store(&self.refresher.store, self.secret_id, error, None)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.refresher.clock.now()
    }

    pub(super) async fn sleep(&self, pause: TimeDelta) {
        self.refresher.clock.sleep(pause.to_std().unwrap_or_default()).await;
    }
}
