//! Creates secrets, which only `tokenctl` does: the role of the function does not allow it.

use super::{SecretsManager, signed_again, store_error};
use crate::{
    secret::Secret,
    store::{StoreError, VersionId, aws},
};

impl SecretsManager {
    /// Creates a secret with its first version. With the same id and text it may be repeated.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if a secret of that name exists.
    pub async fn create(&self, name: &str, id: &VersionId, body: &Secret) -> Result<(), StoreError> {
        let call = self.client.create_secret().name(name).client_request_token(id.as_str());
        let call = call.secret_string(body.expose());
        match signed_again(|| call.clone().send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(store_error(aws::CREATE, &error, Some(body))),
        }
    }
}
