//! Keeping: writes a response that looks like tokens and cannot be understood, so that what was issued is not lost. A person finds the
//! tokens in it. Until then, runs return the error again instead of sending a token that is spent.

use tracing::error;

use super::{
    Due, Error, Run,
    claim::Attempt,
    error::{History, ResponseLocation},
    ids::TokenKey,
    inventory::Inventory,
    observation::Observation,
    record::{self, Record, RecordRead},
};
use crate::{
    oauth::response::UnreadableTokens,
    secret::Secret,
    store::{Label, SecretStore, Selector, VersionId},
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

impl Kept {
    fn detail(&self) -> String {
        let members = if self.members.is_empty() {
            "it is not an object of JSON or of a form".to_owned()
        } else {
            format!("its members: {}", self.members.join(", "))
        };
        format!("answered {} with what looks like tokens and cannot be understood ({members})", self.status)
    }
}

/// A response that must be kept and is not in the store yet.
#[derive(Clone, Debug)]
pub(super) struct UnstoredResponse {
    /// The secret, as the event or `SECRET_ID` names it.
    secret_id: String,
    /// The secret's ARN.
    pub(super) arn: String,
    /// The token endpoint, without its query.
    endpoint: String,
    /// What the provider did.
    detail: String,
    /// The tokens that were sent.
    spent: TokenKey,
    label: Label,
    /// The record with the response.
    record: Secret,
}

impl UnstoredResponse {
    fn error(&self, response: ResponseLocation) -> Error {
        Error::Unusable {
            secret_id: self.secret_id.clone(),
            endpoint: self.endpoint.clone(),
            detail: self.detail.clone(),
            response,
            history: History::First,
        }
    }

    /// The error if it cannot be written.
    pub(super) fn not_stored(&self, problem: &str) -> Error {
        self.error(ResponseLocation::Memory { version_id: self.spent.kept(), problem: problem.to_owned() })
    }
}

impl<S: SecretStore> Run<'_, S> {
    /// Keeps a response. Returns the error that says where it is.
    pub(super) async fn keep(&self, due: &Due<'_>, attempt: &Attempt, response: UnreadableTokens) -> Error {
        let kept = Kept { status: response.status, members: response.members };
        self.keep_text(due, attempt, kept.detail(), kept, &response.text).await
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
        let mut detail =
            format!("issued tokens that are too long: the secret would have {bytes} bytes, and {limit} are allowed");
        let mut document = Document::default();
        if let Some(refresh_token) = &new.refresh_token {
            detail.push_str("; only its refresh token is kept");
            document.set("refresh_token", json_string(refresh_token.expose()));
        }
        let kept = Kept { status: 200, members: vec!["`refresh_token`".to_owned()] };
        self.keep_text(due, attempt, detail, kept, &document.to_text()).await
    }

    async fn keep_text(&self, due: &Due<'_>, attempt: &Attempt, detail: String, kept: Kept, text: &Secret) -> Error {
        let record = Record::Kept { attempt: attempt.number, kept };
        let response = UnstoredResponse {
            secret_id: self.secret_id.to_owned(),
            arn: due.current.arn.clone(),
            endpoint: due.client.endpoint_without_query(),
            detail,
            spent: due.key,
            label: attempt.label_of_kept,
            record: record.to_text_with(&due.key, &record::holder(), Some(text)),
        };
        let (length, limit) = (response.record.expose().len(), self.refresher.store.limits().version_bytes);
        if length > limit {
            self.end_claim(due, attempt).await;
            let problem = format!("it has {length} bytes, and {limit} are allowed");
            return response.error(ResponseLocation::Lost { problem });
        }
        let in_memory = self.refresher.unstored_responses.hold(response.clone());
        match self.put_response(&response).await {
            Ok(location) => {
                in_memory.done();
                self.end_claim(due, attempt).await;
                response.error(location)
            }
            Err(error) => error,
        }
    }

    async fn put_response(&self, response: &UnstoredResponse) -> Result<ResponseLocation, Error> {
        let UnstoredResponse { secret_id, spent, label, record, .. } = response;
        // An earlier forced run may have kept another response.
        let second = || spent.kept_second(record);
        let put = self.put_issued(secret_id, *label, &spent.kept(), second, record).await;
        put.map(ResponseLocation::Version).map_err(|problem| response.not_stored(&problem))
    }

    /// Writes the responses that earlier invocations of this process could not write, before anything else is sent.
    ///
    /// # Errors
    ///
    /// The response of this run's secret cannot be written.
    pub(super) async fn store_unstored_responses(&self) -> Result<(), Error> {
        for response in self.refresher.unstored_responses.all() {
            let separate = Observation::default();
            let run = self.for_unstored(&response.secret_id, &separate);
            match run.put_response(&response).await {
                Ok(_) => self.refresher.unstored_responses.forget(|other| other.record == response.record),
                Err(error) if response.secret_id == self.secret_id => return Err(error),
                Err(error) => error!(secretId = response.secret_id, "{error}"),
            }
        }
        Ok(())
    }

    /// The error of an earlier run that kept its response, if the list shows one.
    pub(super) async fn kept(&self, due: &Due<'_>, inventory: &Inventory) -> Result<Option<Error>, Error> {
        let first = due.key.kept();
        let labelled = inventory.version_with(Label::Kept);
        let first = Some(&first).filter(|id| inventory.contains(id) && labelled != Some(*id));
        // The label is on the newest one. That may be the response to other tokens.
        for id in labelled.into_iter().chain(first) {
            if let Some(error) = self.kept_as(due, id).await? {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// The same, if one was kept after the list was read.
    pub(super) async fn kept_since(&self, due: &Due<'_>) -> Result<Option<Error>, Error> {
        self.kept_as(due, &due.key.kept()).await
    }

    async fn kept_as(&self, due: &Due<'_>, id: &VersionId) -> Result<Option<Error>, Error> {
        let Some(version) = self.find(Selector::Id(id)).await? else { return Ok(None) };
        let RecordRead::Record(Record::Kept { kept, .. }) = Record::read(&version.body, &due.key) else {
            return Ok(None);
        };
        Ok(Some(Error::Unusable {
            secret_id: self.secret_id.to_owned(),
            endpoint: due.client.endpoint_without_query(),
            detail: kept.detail(),
            response: ResponseLocation::Version(version.id),
            history: History::Recorded,
        }))
    }
}
