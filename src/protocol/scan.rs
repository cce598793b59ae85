//! The scan of a secret that was read together with others: whether it needs a run. A run reads it again.

use chrono::{DateTime, Utc};

use super::{
    Error, Refresher, Run,
    decision::Decision,
    ids::ClientDigest,
    observation::Observation,
    options::Mode,
    outcome::{Completed, Outcome, Reason},
    shared::Shared,
};
use crate::{
    oauth::grant::Grant,
    secret::Secret,
    store::{SecretStore, Version},
    token_secret::client_settings::ClientSettings,
};

/// What the scan of a secret shows.
#[derive(Debug)]
pub enum ScanResult {
    /// The token is far from expiry.
    Skip(Completed),
    /// The same, if the published secret holds this text.
    SkipIfPublished {
        /// The published secret.
        secret_id: String,
        /// The text that it should have.
        text: Secret,
        /// The result if it has it.
        completed: Completed,
    },
    /// The token is far from expiry, and later tokens may be staged: a run has to check that.
    Check,
    /// The token is due.
    Due {
        /// The client's settings in the token secret.
        client: Box<ClientSettings>,
        /// What is to be exchanged.
        grant: Grant,
    },
    /// It is not a token secret: neither a refresh token nor a `grantType` is in it.
    NotATokenSecret(Error),
}

impl<S: SecretStore> Refresher<S> {
    /// Scans a secret. `is_checked`: whether no later tokens are staged for this version; its argument says whether the document has no
    /// `refreshedAt`, so that the refresher has not written it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSecret`] for a token secret that is wrong.
    pub(crate) fn scan(
        &self,
        secret_id: &str,
        version: &Version,
        is_checked: impl FnOnce(bool) -> bool,
        observation: &Observation,
    ) -> Result<ScanResult, Error> {
        let mode = Mode::Scheduled;
        let run = self.reading_run(secret_id, &mode, observation, None, DateTime::<Utc>::MIN_UTC);
        let current = match run.token_version(version) {
            Ok(current) => current,
            Err(error) if run.is_token_secret(version) => return Err(error),
            Err(error) => return Ok(ScanResult::NotATokenSecret(error)),
        };
        observation.current(&current.token);
        if let Decision::Refresh(_) = run.decide(&current) {
            return Ok(ScanResult::Due { client: Box::new(current.token.client), grant: current.token.tokens.grant });
        }
        // Without the label, a person put the version, or later tokens were staged: these tokens may be spent.
        if !current.has_staged_label && !is_checked(current.token.tokens.refreshed_at.is_none()) {
            return Ok(ScanResult::Check);
        }
        let completed = run.completed(Outcome::Skipped, &current, Reason::NotDue);
        Ok(match (current.token.publish_to.clone(), current.token.publication()) {
            (Some(secret_id), Some(text)) => ScanResult::SkipIfPublished { secret_id, text, completed },
            _ => ScanResult::Skip(completed),
        })
    }

    /// The endpoint and the client of a token that is due. If the client's secret cannot be read now, that secret stands for both.
    /// `None`: the settings are wrong; the token's run says why.
    pub(crate) async fn client_of(
        &self,
        secret_id: &str,
        settings: ClientSettings,
        grant: &Grant,
        shared: &Shared,
        observation: &Observation,
        deadline: DateTime<Utc>,
    ) -> Option<(String, ClientDigest)> {
        let client_id = settings.client_credentials_secret_id.clone();
        let client_id = client_id.or_else(|| self.options.client.client_credentials_secret_id.clone());
        let mode = Mode::Scheduled;
        let run = self.reading_run(secret_id, &mode, observation, Some(shared), deadline);
        match (run.client_of(settings, grant).await, client_id) {
            (Ok(client), _) => Some((client.endpoint_without_query(), ClientDigest::without_jwt_claims(&client))),
            (Err(Error::StoreUnavailable { .. }), Some(id)) => {
                Some((format!("the endpoint in `{id}`"), ClientDigest::of_unread_secret(&id)))
            }
            (Err(_), _) => None,
        }
    }

    /// The secrets for which this process holds what could not be written yet: their names as given, and their ARNs.
    pub(crate) fn unstored_secrets(&self) -> Vec<(String, String)> {
        let tokens = self.unstored_tokens.all().into_iter().map(|unstored| (unstored.secret_id, unstored.arn));
        let responses = self.unstored_responses.all().into_iter().map(|unstored| (unstored.secret_id, unstored.arn));
        let mut secrets: Vec<_> = tokens.chain(responses).collect();
        secrets.sort();
        secrets.dedup();
        secrets
    }

    fn reading_run<'a>(
        &'a self,
        secret_id: &'a str,
        mode: &'a Mode,
        observation: &'a Observation,
        shared: Option<&'a Shared>,
        deadline: DateTime<Utc>,
    ) -> Run<'a, S> {
        Run { refresher: self, secret_id, mode, deadline, observation, shared }
    }
}
