//! Keeping: writes a response that looks like tokens and cannot be understood, so that what was issued is not lost. A person finds the
//! tokens in it. Until then, runs return the error again instead of sending a token that is spent.

use tracing::warn;

use super::{
    Due, Error, Run, claim::Attempt, decision, error::History, record::Record, record::RecordRead, stage::FIRST_PAUSE,
};
use crate::{
    oauth::response::UnreadableTokens,
    secret::Secret,
    store::{Label, Operation, SecretStore, Selector, StoreError, VersionId},
};

/// What a record says of a response that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The HTTP status.
    pub status: u16,
    /// The names of its members, sanitized; empty if it is not an object.
    pub members: Vec<String>,
}

impl<S: SecretStore> Run<'_, S> {
    /// Keeps a response. Returns the error that says where it is.
    pub(super) async fn keep(&self, due: &Due<'_>, attempt: &Attempt, response: UnreadableTokens) -> Error {
        let kept = Kept { status: response.status, members: response.members };
        let record = Record::Kept { attempt: attempt.number, kept: kept.clone() };
        let text = record.to_text_with(&due.key, &super::record::holder(), Some(&response.text));
        match self.put_kept(due, &text).await {
            Ok(id) => self.unreadable(due, &kept, Some(id), History::First),
            Err(error) => {
                warn!(secretId = self.secret_id, "the response could not be kept: {error}");
                self.end_claim(due, attempt).await;
                self.unreadable(due, &kept, None, History::First)
            }
        }
    }

    /// The error of an earlier run that kept its response, if one did.
    pub(super) async fn kept(&self, due: &Due<'_>) -> Result<Option<Error>, Error> {
        let id = due.key.kept();
        let version = self.find(Selector::Id(&id)).await?;
        Ok(version.and_then(|version| match Record::read(&version.body, &due.key) {
            RecordRead::Record(Record::Kept { kept, .. }) => {
                Some(self.unreadable(due, &kept, Some(id), History::Recorded))
            }
            _ => None,
        }))
    }

    /// Puts the record, as staging puts tokens: again until the deadline.
    async fn put_kept(&self, due: &Due<'_>, text: &Secret) -> Result<VersionId, StoreError> {
        let give_up_at = self.deadline - decision::RESPONSE;
        let first = due.key.kept();
        let mut id = first.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let put = self.refresher.store.put(self.secret_id, &id, Label::Claim, text);
            match self.in_time_until(give_up_at, Operation::Put, put).await {
                // An earlier forced run has kept another response.
                Err(StoreError::Exists) if id == first => id = due.key.kept_second(text),
                Ok(()) | Err(StoreError::Exists) => return Ok(id),
                Err(error) if self.now() + pause >= give_up_at => return Err(error),
                Err(_) => {
                    self.sleep(pause).await;
                    pause = pause * 2;
                }
            }
        }
    }

    fn unreadable(&self, due: &Due<'_>, kept: &Kept, version_id: Option<VersionId>, history: History) -> Error {
        let members = if kept.members.is_empty() {
            "it is not an object of JSON or of a form".to_owned()
        } else {
            format!("its members: {}", kept.members.join(", "))
        };
        Error::Unusable {
            secret_id: self.secret_id.to_owned(),
            endpoint: due.client.endpoint_without_query(),
            detail: format!(
                "answered {} with what looks like tokens and cannot be understood ({members})",
                kept.status
            ),
            kept: version_id,
            history,
        }
    }
}
