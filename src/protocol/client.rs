//! The client to exchange with, put together from the places that name it: the token secret, its client's secret, the environment.

use futures_util::FutureExt;

use super::{Error, Run, TokenVersion, decision, ids::ClientDigest};
use crate::{
    oauth::{
        client::{self, Client},
        grant::Grant,
    },
    store::{Label, Operation, SecretStore, Selector, StoreError},
    token_secret::{SecretProblem, client_settings::ClientSettings, document::Document},
};

impl<S: SecretStore> Run<'_, S> {
    /// The client to exchange with. The token secret comes before its client's secret, and that before the environment.
    pub(super) async fn client(&self, current: &TokenVersion) -> Result<Client, Error> {
        self.client_of(current.token.client.clone(), &current.token.tokens.grant).await
    }

    pub(super) async fn client_of(&self, own: ClientSettings, grant: &Grant) -> Result<Client, Error> {
        let mut environment = self.refresher.options.client.clone();
        // An assertion needs no client's secret: that of the environment is for the other secrets, unless it names the method, too.
        if grant.is_jwt_bearer() && environment.token_endpoint_auth_method.is_none() {
            environment.client_secret = None;
        }
        let shared_id = match &own.client_credentials_secret_id {
            Some(id) => Some(id.clone()),
            // The environment names one for what the secret leaves out. If it leaves nothing out, that one is not read.
            None if Client::new(own.clone(), grant).is_ok() => None,
            None => environment.client_credentials_secret_id.clone(),
        };
        let shared = match shared_id {
            None => ClientSettings::default(),
            Some(id) => self.shared_client(&id, grant).await?,
        };
        let settings = own.or_from_other_secret(shared).or(environment);
        self.observation.client_secret_expires_at(settings.client_secret_expires_at);
        let client = Client::new(settings, grant).map_err(|problem| self.invalid(problem))?;
        self.observation.client(client.endpoint_without_query(), ClientDigest::of(&client));
        Ok(client)
    }

    async fn shared_client(&self, secret_id: &str, grant: &Grant) -> Result<ClientSettings, Error> {
        let whose = format!("it is the clientCredentialsSecretId of `{}`", self.secret_id);
        let invalid = |problem: &str| Error::InvalidSecret {
            secret_id: secret_id.to_owned(),
            problem: format!("{problem} ({whose})"),
        };
        let read = async {
            let get = self.refresher.store.get(secret_id, Selector::Label(Label::Current));
            self.in_time(Operation::Get, get).await
        };
        let version = match self.shared {
            None => read.await,
            // The time that it waits for another run's read counts, too.
            Some(shared) => {
                let clock = &self.refresher.clock;
                let read = shared.client_secret(secret_id, clock, read).boxed();
                clock.before(self.deadline - decision::RESPONSE, read).await.unwrap_or_else(|| {
                    let action = self.refresher.store.action(Operation::Get);
                    Err(StoreError::Unavailable { action, detail: "no answer before the deadline".to_owned() })
                })
            }
        };
        let version = version.map_err(|error| match error {
            StoreError::Binary => invalid(&SecretProblem::Binary.to_string()),
            error => Error::of_store(&self.refresher.store, secret_id, error.adding(&whose), None),
        })?;
        let settings = Document::parse(version.body.expose()).map_err(SecretProblem::NotADocument);
        let settings = settings.and_then(|document| ClientSettings::read(&document));
        let settings = settings.map_err(|problem| invalid(&problem.to_string()))?;
        // An error here is about this secret, not about the token secret.
        client::check(&settings, grant).map_err(|problem| invalid(&problem))?;
        Ok(settings)
    }
}
