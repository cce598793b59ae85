//! The end of a rotation that Secrets Manager has started. Its first step is an ordinary run ([`Mode::Rotation`](super::Mode)): the new
//! tokens are in a version of this program. The version that Secrets Manager has made for the rotation stays empty.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;

use super::{Error, Mode, Observation, Refresher, Run, decision};
use crate::store::{Label, Operation, SecretStore, StoreError, VersionId};

impl<S: SecretStore> Refresher<S> {
    /// Ends a rotation: takes AWSPENDING off its version. A rotation has succeeded if AWSPENDING is on no version, or on the current one
    /// (`RotateSecret`, Secrets Manager API Reference). The next one cannot start before that.
    ///
    /// # Errors
    ///
    /// [`Error`], if the label is still there.
    pub async fn finish_rotation(
        &self,
        secret_id: &str,
        pending: &VersionId,
        deadline: DateTime<Utc>,
        observation: &Observation,
    ) -> Result<(), Error> {
        let deadline = decision::deadline(deadline, self.clock.now());
        let run = Run { refresher: self, secret_id, mode: &Mode::Rotation, deadline, observation, shared: None };
        run.take_off_pending(pending).boxed().await
    }
}

impl<S: SecretStore> Run<'_, S> {
    async fn take_off_pending(&self, pending: &VersionId) -> Result<(), Error> {
        let Err(error) = self.remove_label(Label::Pending, pending).await else { return Ok(()) };
        let error = match error {
            StoreError::Moved { detail } => {
                let action = self.refresher.store.action(Operation::MoveLabel);
                StoreError::Unavailable { action, detail: format!("AWSPENDING cannot be taken off: {detail}") }
            }
            StoreError::NotFound { .. } | StoreError::Rejected { .. } => error,
            _ => return Err(self.store_error(error)),
        };
        // A step may come again: the label is off, then.
        let versions = self.list().await.map_err(|error| self.store_error(error))?;
        let is_there = versions.iter().any(|version| version.id == *pending && version.labels.has(Label::Pending));
        if is_there { Err(self.store_error(error)) } else { Ok(()) }
    }
}
