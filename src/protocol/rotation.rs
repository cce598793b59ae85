//! The end of a rotation that Secrets Manager has started. Its first step is an ordinary run ([`Mode::Rotation`](super::Mode)): the new
//! tokens are in a version of this program. The version that Secrets Manager has made for the rotation stays empty.

use futures_util::FutureExt;

use super::{Error, Observation, Refresher, Request, Run};
use crate::store::{Label, Operation, SecretStore, StoreError, VersionId};

impl<S: SecretStore> Refresher<S> {
    /// Ends a rotation: removes AWSPENDING from its version. A rotation has succeeded if AWSPENDING is on no version, or on the current
    /// one (`RotateSecret`, Secrets Manager API Reference). The next one cannot start before that.
    ///
    /// # Errors
    ///
    /// [`Error`], if the label is still there.
    pub async fn finish_rotation(
        &self,
        request: Request<'_>,
        pending: &VersionId,
        observation: &Observation,
    ) -> Result<(), Error> {
        self.start(None, request, observation).remove_pending(pending).boxed().await
    }
}

impl<S: SecretStore> Run<'_, S> {
    async fn remove_pending(&self, pending: &VersionId) -> Result<(), Error> {
        let Err(error) = self.remove_label(Label::Pending, pending).await else { return Ok(()) };
        let error = match error {
            StoreError::Moved { detail } => {
                let action = self.refresher.store.action(Operation::MoveLabel);
                StoreError::Unavailable { action, detail: format!("AWSPENDING was not removed: {detail}") }
            }
            StoreError::NotFound { .. } | StoreError::Rejected { .. } => error,
            _ => return Err(self.store_error(error)),
        };
        // Secrets Manager may send the step again. Then the label is already removed.
        let versions = self.list().await.map_err(|error| self.store_error(error))?;
        let is_there = versions.iter().any(|version| version.id == *pending && version.labels.has(Label::Pending));
        if is_there { Err(self.store_error(error)) } else { Ok(()) }
    }
}
