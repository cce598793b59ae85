//! The token requests of a login. Each is sent once: a code must not be used twice (RFC 6749 section 4.1.2).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Context,
    authorization::{Redirect, Request},
    client::client_settings,
    failure::Failure,
    rescue,
    server::AuthorizationServer,
    store::Store,
};
use crate::{
    error::Audience,
    oauth::{
        assertion::SignedJwts,
        client::Client,
        exchanger::{Exchange, Exchanger},
        grant::Grant,
        response::{IssuedTokens, RefusalKind, TokenResponse, TransportError},
    },
    secret::Secret,
    token_secret::{TokenSecret, document::json_string, draft::Draft},
};

/// How long the provider has to answer.
const TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// How often a request that was not sent is tried.
const MAX_TRIES: u32 = 3;

/// How a client names the grant of a code.
const AUTHORIZATION_CODE: &str = "authorization_code";

/// The tokens of a consent, before they are stored.
pub(super) struct Consent {
    pub issued: IssuedTokens,
    pub sent_at: DateTime<Utc>,
    /// The other parameters of the redirect.
    pub parameters: Vec<(String, String)>,
}

/// A client that exchanges what a consent has brought.
pub(super) struct Exchanging {
    pub client: Client,
    /// Where the function will refresh the tokens.
    pub refresh_endpoint: Option<Secret>,
    exchanger: Exchanger,
    /// The document with the settings, for a response that cannot be understood.
    draft: Draft,
}

impl Exchanging {
    pub(super) async fn new(
        context: &Context,
        store: &Store,
        secret_id: &str,
        draft: &Draft,
        token: &TokenSecret,
        server: &AuthorizationServer,
    ) -> Result<Self, Failure> {
        let settings = client_settings(store, secret_id, token).await?;
        let refresh_endpoint = settings.token_endpoint.clone();
        let mut client = Client::new(settings, &Grant::Other(AUTHORIZATION_CODE.to_owned()))
            .map_err(|problem| Failure::unusable(secret_id, problem))?;
        if let Some(endpoint) = &server.code_endpoint {
            client.token_endpoint = endpoint.clone();
        }
        // Those of the profile are for refreshes.
        client.profile.parameters = server.exchange_parameters.clone().into_iter().collect();
        let exchanger =
            Exchanger::over_http_once(context.http.provider.clone(), store.kms.clone(), context.clock.clone());
        let exchanging = Self { client, refresh_endpoint, exchanger, draft: draft.clone() };
        // A request that cannot be built is an error now, before the person consents.
        let parameters = ["code", "redirect_uri", "code_verifier"].map(|name| (name.to_owned(), "-".into()));
        let mut trial = exchanging.client.clone();
        trial.extra_parameters.extend(parameters);
        let grant = Grant::Other(AUTHORIZATION_CODE.to_owned());
        trial.request(&grant, &SignedJwts::default()).map_err(|problem| Failure::unusable(secret_id, problem))?;
        Ok(exchanging)
    }

    /// Sends one token request.
    pub(super) async fn send(
        &self,
        context: &Context,
        grant_type: &str,
        parameters: Vec<(String, Secret)>,
    ) -> TokenResponse {
        let mut client = self.client.clone();
        client.extra_parameters.extend(parameters);
        let deadline = context.clock.now() + TIMEOUT;
        let exchange = Exchange { client, grant: Grant::Other(grant_type.to_owned()), access_token: None, deadline };
        self.exchanger.exchange(exchange).await
    }

    /// Why a response brings no tokens.
    pub(super) fn failure(&self, response: TokenResponse) -> Failure {
        let who = self.client.endpoint_without_query();
        match response {
            TokenResponse::Refused(refusal) => {
                let method = self.client.auth_method.name();
                let advice = match refusal.kind {
                    RefusalKind::ReauthorizationRequired => {
                        "the code has expired or was used, or the redirect URI is not the registered one: run the command again".to_owned()
                    }
                    RefusalKind::ClientRejected => {
                        let advice = self.client.advice();
                        format!("{} (it was sent as {method})", advice.text(Audience::CommandLine))
                    }
                    RefusalKind::ProviderRejected => {
                        format!("check the token endpoint, and the client authentication, which is {method}")
                    }
                };
                Failure::person(format!("{who} refused the code ({refusal}); {advice}"))
            }
            TokenResponse::Failed(TransportError::NotSigned(error)) => {
                Failure::person(format!("{who} was not asked, because the JWT could not be signed ({error:?})"))
            }
            TokenResponse::Failed(
                TransportError::NotSent(what)
                | TransportError::Busy { what, .. }
                | TransportError::MaybeSpent { what, .. },
            ) => Failure::later(format!("{who} {what}; run the command again")),
            TokenResponse::Unreadable(unreadable) => {
                let members = unreadable.members.join(", ");
                // With the settings: a client that was registered just now is nowhere else.
                let mut draft = self.draft.clone();
                let _ = draft.set_other("unreadResponse", json_string(unreadable.text.expose()));
                let place = match rescue::write_file("response", &draft.to_text()) {
                    Ok(path) => format!(
                        "it is in the file {}, as `unreadResponse`, and only you can read that: find the tokens in it, set accessToken and \
                         refreshToken, store the file with `tokenctl adopt`, and delete it",
                        path.display()
                    ),
                    Err(error) => format!("it could not be written to a file ({error})"),
                };
                Failure::person(format!("{who} answered with tokens in an unknown form (members: {members}); {place}"))
            }
            TokenResponse::Issued(_) => Failure::later(format!("{who} issued tokens that were not expected")),
        }
    }

    /// Exchanges the code of a redirect.
    pub(super) async fn code(
        &self,
        context: &Context,
        request: &Request,
        redirect: Redirect,
    ) -> Result<Consent, Failure> {
        // The provider may issue tokens, which must be stored.
        context.terminal.defer_interrupts();
        let mut parameters = vec![
            ("code".to_owned(), redirect.code.clone()),
            ("redirect_uri".to_owned(), request.redirect_uri.as_str().into()),
        ];
        parameters.extend(request.verifier.clone().map(|verifier| ("code_verifier".to_owned(), verifier)));
        let mut tries = 1;
        loop {
            let sent_at = context.clock.now();
            match self.send(context, AUTHORIZATION_CODE, parameters.clone()).await {
                TokenResponse::Issued(issued) => {
                    return Ok(Consent { issued, sent_at, parameters: redirect.parameters });
                }
                TokenResponse::Failed(TransportError::NotSent(_)) if tries < MAX_TRIES => {
                    tries += 1;
                    context.clock.sleep(Duration::from_secs(1)).await;
                }
                response => return Err(self.failure(response)),
            }
        }
    }
}
