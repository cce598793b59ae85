//! The client to exchange with, put together from the places that name it: the token secret, its client's secret, the environment.

use futures_util::FutureExt;

use super::{Error, Run, TokenVersion, decision, ids::ClientDigest};
use crate::{
    oauth::{
        client::{self, Client},
        grant::Grant,
    },
    store::{Label, Operation, SecretStore, Selector, StoreError},
    token_secret::{
        SecretProblem,
        client_settings::{ClientSettings, TokenEndpointAuthMethod},
        document::Document,
        signing::JwtSettings,
    },
};

impl<S: SecretStore> Run<'_, S> {
    /// The client to exchange with. The token secret comes before its client's secret, and that before the environment.
    pub(super) async fn client(&self, current: &TokenVersion) -> Result<Client, Error> {
        self.client_of(current.token.client.clone(), &current.token.tokens.grant).await
    }

    pub(super) async fn client_of(&self, own: ClientSettings, grant: &Grant) -> Result<Client, Error> {
        let mut environment = self.refresher.options.client.clone();
        client::check_provider(&own).map_err(|problem| self.invalid(problem))?;
        let shared_id = match &own.client_credentials_secret_id {
            Some(id) => Some(id.clone()),
            // The environment names one for what the secret leaves out. If it leaves nothing out, that one is not read.
            None => environment.client_credentials_secret_id.clone().filter(|_| {
                let own = own.clone().with_profile();
                let method = own.token_endpoint_auth_method.or(environment.token_endpoint_auth_method);
                let own = ClientSettings { token_endpoint_auth_method: method, ..own };
                Client::new(own, grant).is_err()
            }),
        };
        let shared = match shared_id {
            None => ClientSettings::default(),
            Some(id) => {
                let of_profile = own.clone().with_profile().token_endpoint_auth_method;
                let after = of_profile.or(environment.token_endpoint_auth_method);
                let methods = [own.token_endpoint_auth_method, after];
                self.shared_client(&id, grant, methods, own.token_endpoint.is_some()).await?
            }
        };
        let settings = own.or_from_other_secret(shared).with_profile();
        let method = settings.token_endpoint_auth_method.or(environment.token_endpoint_auth_method);
        // An assertion needs no client's secret. That of the environment is for other grants, unless a method asks for it.
        let signs = client::signs(grant, settings.extra_parameters.as_deref().unwrap_or_default());
        if signs && method.is_none() {
            environment.client_secret = None;
        }
        // The client of the environment belongs to the endpoint of the environment.
        let differs =
            environment.token_endpoint.as_ref().is_some_and(|other| Some(other) != settings.token_endpoint.as_ref());
        if settings.is_at_profile() && differs {
            environment.client_secret = None;
            environment.signing = JwtSettings::default();
        }
        let settings = settings.or(environment);
        self.observation.client_secret_expires_at(settings.client_secret_expires_at);
        let client = Client::new(settings, grant).map_err(|problem| self.invalid(problem))?;
        self.observation.client(client.endpoint_without_query(), ClientDigest::without_jwt_claims(&client));
        Ok(client)
    }

    /// `methods`: those of the token secret and of the environment.
    async fn shared_client(
        &self,
        secret_id: &str,
        grant: &Grant,
        methods: [Option<TokenEndpointAuthMethod>; 2],
        has_endpoint: bool,
    ) -> Result<ClientSettings, Error> {
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
        if !has_endpoint {
            client::check_provider(&settings).map_err(|problem| invalid(&problem))?;
        }
        client::check(&settings.clone().with_profile(), grant, methods).map_err(|problem| invalid(&problem))?;
        Ok(settings)
    }
}
