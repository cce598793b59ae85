//! Keeping: writes a response that looks like tokens and cannot be understood, so that what was issued is not lost. A person finds the
//! tokens in it. Until then, runs return the error again instead of sending a token that is spent.

use chrono::TimeDelta;

use super::{
    Due, Error, Run, claim::Attempt, decision, error::History, record::Record, record::RecordRead, stage::FIRST_PAUSE,
};
use crate::{
    oauth::response::UnreadableTokens,
    secret::Secret,
    store::{Label, Operation, SecretStore, Selector, StoreError, VersionId},
    token_secret::{
        NewTokens,
        document::{Document, json_string},
    },
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
        let limit = self.refresher.store.limits().version_bytes;
        let put = if text.expose().len() > limit {
            Err(format!("it has {} bytes, and {limit} are allowed", text.expose().len()))
        } else {
            self.put_kept(due, &text).await.map_err(|error| error.to_string())
        };
        match put {
            Ok(id) => self.unreadable(due, &kept, Ok(id), History::First),
            Err(problem) => {
                self.end_claim(due, attempt).await;
                self.unreadable(due, &kept, Err(&problem), History::First)
            }
        }
    }

    /// Keeps the refresh token of tokens that do not fit into the secret: without it, a person would have to consent again.
    pub(super) async fn keep_refresh_token(
        &self,
        due: &Due<'_>,
        attempt: &Attempt,
        new: &NewTokens,
        bytes: usize,
    ) -> Error {
        let limit = self.refresher.store.limits().version_bytes;
        let detail = format!(
            "issued tokens that are too long: the secret would have {bytes} bytes, and {limit} are allowed; its refresh token is kept"
        );
        let kept = Kept { status: 200, members: vec!["`refresh_token`".to_owned()] };
        let Some(refresh_token) = &new.refresh_token else {
            self.end_claim(due, attempt).await;
            let detail = detail.replace("; its refresh token is kept", "");
            return self.unusable(due, detail, None, History::First);
        };
        let mut document = Document::default();
        document.set("refresh_token", json_string(refresh_token.expose()));
        let record = Record::Kept { attempt: attempt.number, kept };
        let text = record.to_text_with(&due.key, &super::record::holder(), Some(&document.to_text()));
        match self.put_kept(due, &text).await {
            Ok(id) => self.unusable(due, detail, Some(id), History::First),
            Err(error) => {
                self.end_claim(due, attempt).await;
                let detail = detail.replace("is kept", &format!("could not be kept ({error})"));
                self.unusable(due, detail, None, History::First)
            }
        }
    }

    /// The error of an earlier run that kept its response, if one did.
    pub(super) async fn kept(&self, due: &Due<'_>) -> Result<Option<Error>, Error> {
        // The label is on the newest one. Another record may have taken it since.
        let id = due.key.kept();
        for which in [Selector::Label(Label::Claim), Selector::Id(&id)] {
            let Some(version) = self.find(which).await? else { continue };
            if let RecordRead::Record(Record::Kept { kept, .. }) = Record::read(&version.body, &due.key) {
                return Ok(Some(self.unreadable(due, &kept, Ok(version.id), History::Recorded)));
            }
        }
        Ok(None)
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
                    pause = (pause * 2).min(TimeDelta::seconds(1));
                }
            }
        }
    }

    /// The error. `version_id`: where the response is, or why it could not be kept.
    fn unreadable(
        &self,
        due: &Due<'_>,
        kept: &Kept,
        version_id: Result<VersionId, &String>,
        history: History,
    ) -> Error {
        let members = if kept.members.is_empty() {
            "it is not an object of JSON or of a form".to_owned()
        } else {
            format!("its members: {}", kept.members.join(", "))
        };
        let problem = version_id.as_ref().err().map(|problem| format!("; it could not be kept ({problem})"));
        let detail = format!(
            "answered {} with what looks like tokens and cannot be understood ({members}){}",
            kept.status,
            problem.unwrap_or_default()
        );
        self.unusable(due, detail, version_id.ok(), history)
    }

    fn unusable(&self, due: &Due<'_>, detail: String, kept: Option<VersionId>, history: History) -> Error {
        Error::Unusable {
            secret_id: self.secret_id.to_owned(),
            endpoint: due.client.endpoint_without_query(),
            detail,
            kept,
            history,
        }
    }
}
