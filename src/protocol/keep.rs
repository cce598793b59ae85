//! Stores responses with tokens in an unknown form. A person takes the tokens out. Until then each run returns the same error, and does
//! not send the spent token again.

use tracing::{error, warn};

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

/// A response that must be kept and is not in the store yet.
#[derive(Clone, Debug)]
pub(super) struct UnstoredResponse {
    /// The secret, as the event or `SECRET_ID` names it.
    pub(super) secret_id: String,
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
    pub(super) record: Secret,
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
        let members = if response.members.is_empty() {
            "it is not an object of JSON or of a form".to_owned()
        } else {
            format!("its members: {}", response.members.join(", "))
        };
        let detail =
            format!("answered {} with what looks like tokens and cannot be understood ({members})", response.status);
        if !due.grant.is_single_use() {
            return self.unusable(due, detail, ResponseLocation::Repeatable, History::First);
        }
        let whole = self.unstored_response(due, attempt, detail.clone(), &response.text);
        if self.fits(&whole) || response.tokens.is_empty() {
            return self.keep_response(due, attempt, whole).await;
        }
        // The tokens matter more than what is beside them.
        let tokens: Vec<String> = response.tokens.iter().map(|token| json_string(token.expose())).collect();
        let tokens = Secret::from(format!("[{}]", tokens.join(",")));
        let detail = format!("{detail}; it is too long, so only what looks like tokens is kept");
        self.keep_response(due, attempt, self.unstored_response(due, attempt, detail, &tokens)).await
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
        let detail =
            format!("issued tokens that are too long: the secret would have {bytes} bytes, and {limit} are allowed");
        let spent = due.current.token.tokens.refresh_token();
        let Some(refresh_token) = new.refresh_token.as_ref().filter(|token| spent.is_some_and(|spent| *token != spent))
        else {
            self.end_claim(due, attempt).await;
            return self.unusable(due, detail, ResponseLocation::NotNeeded, History::First);
        };
        let mut document = Document::default();
        document.set("refresh_token", json_string(refresh_token.expose()));
        let detail = format!("{detail}; only its refresh token is kept");
        self.keep_response(due, attempt, self.unstored_response(due, attempt, detail, &document.to_text())).await
    }

    fn unstored_response(&self, due: &Due<'_>, attempt: &Attempt, detail: String, text: &Secret) -> UnstoredResponse {
        let record = Record::Kept { attempt: attempt.number, detail: detail.clone() };
        UnstoredResponse {
            secret_id: self.secret_id.to_owned(),
            arn: due.current.arn.clone(),
            endpoint: due.client.endpoint_without_query(),
            detail,
            spent: due.key,
            label: attempt.kept_label,
            record: record.to_text_with(&due.key, &record::holder(), Some(text)),
        }
    }

    fn fits(&self, response: &UnstoredResponse) -> bool {
        response.record.expose().len() <= self.refresher.store.limits().version_bytes
    }

    async fn keep_response(&self, due: &Due<'_>, attempt: &Attempt, response: UnstoredResponse) -> Error {
        if !self.fits(&response) {
            self.end_claim(due, attempt).await;
            let (length, limit) = (response.record.expose().len(), self.refresher.store.limits().version_bytes);
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

    /// Writes the responses that earlier invocations of this process could not write, before anything else is sent. Returns those
    /// that are written now, each with its error.
    ///
    /// # Errors
    ///
    /// The response of this run's secret cannot be written.
    pub(super) async fn store_unstored_responses(&self) -> Result<Vec<(TokenKey, Error)>, Error> {
        let mut written = Vec::new();
        // In a sweep each of them has a run of its own.
        let mut all = self.refresher.unstored_responses.all();
        all.retain(|response| self.shared.is_none() || response.secret_id == self.secret_id);
        for response in all {
            let separate = Observation::default();
            let run = self.for_unstored(&response.secret_id, &separate);
            match run.put_response(&response).await {
                Ok(location) => {
                    self.refresher.unstored_responses.forget(|other| other.record == response.record);
                    let error = response.error(location);
                    warn!(secretId = response.secret_id, "the response of an earlier run is written now: {error}");
                    written.push((response.spent, error));
                }
                Err(error) if response.secret_id == self.secret_id => return Err(error),
                Err(error) => error!(secretId = response.secret_id, "{error}"),
            }
        }
        Ok(written)
    }

    /// The error of the kept response to these tokens, if the list shows one.
    pub(super) async fn find_kept(&self, due: &Due<'_>, inventory: &Inventory) -> Result<Option<Error>, Error> {
        let first = due.key.kept();
        let labelled = inventory.version_with(Label::Kept);
        let first = Some(&first).filter(|id| inventory.contains(id) && labelled != Some(*id));
        // Where no label is free, a second response has this one.
        let claimed = inventory.version_with(Label::Claim).filter(|_| inventory.room_for_labels() == 0);
        // The label is on the newest one. That may be the response to other tokens.
        for id in labelled.into_iter().chain(first).chain(claimed) {
            if let Some(error) = self.read_kept(due, id).await? {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// The same without the list, which was read before the claim.
    pub(super) async fn find_kept_after_claim(&self, due: &Due<'_>) -> Result<Option<Error>, Error> {
        self.read_kept(due, &due.key.kept()).await
    }

    async fn read_kept(&self, due: &Due<'_>, id: &VersionId) -> Result<Option<Error>, Error> {
        let Some(version) = self.find(Selector::Id(id)).await? else { return Ok(None) };
        let detail = match Record::read(&version.body, &due.key) {
            RecordRead::Record(Record::Kept { detail, .. }) => detail,
            RecordRead::OfLaterVersion if version.id == due.key.kept() => {
                "sent a response that a later version of this program kept".to_owned()
            }
            _ => return Ok(None),
        };
        Ok(Some(self.unusable(due, detail, ResponseLocation::Version(version.id), History::Recorded)))
    }

    fn unusable(&self, due: &Due<'_>, detail: String, response: ResponseLocation, history: History) -> Error {
        let (secret_id, endpoint) = (self.secret_id.to_owned(), due.client.endpoint_without_query());
        Error::Unusable { secret_id, endpoint, detail, response, history }
    }
}
