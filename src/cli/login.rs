//! `tokenctl login`: a person consents, and the tokens are stored.

use std::sync::Arc;

use chrono::TimeDelta;
use reqwest::Url;

use super::{
    Context,
    arguments::LoginArguments,
    authorization::{Parts, Request},
    client::{
        Change, changed, changes_of, changes_of_registration, complete_client, draft_of, is_other_server, token_secret,
        without_server,
    },
    confirm::confirm,
    consent::{with_device, with_redirect},
    exchange::Exchanging,
    failure::Failure,
    finish::{Target, store_tokens},
    flow::Flow,
    page::Page,
    registration,
    server::{AuthorizationServer, LOGIN_SETTINGS, LoginSettings},
    store::{Store, options},
};
use crate::{
    oauth::grant::Grant,
    sanitize::sanitize_line,
    store::SecretStore,
    token_secret::{TokenSecret, document::json_string, draft::Draft, member::Member, member_names::MemberNames},
};

/// Runs the command.
pub(super) async fn login(context: &Context, arguments: &LoginArguments) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
    if options()?.member_names != MemberNames::default() {
        return Err(Failure::usage(
            "MEMBER_NAMES is set, and a login does not know it: take it out of the environment, and set `memberNames` in the secret",
        ));
    }
    let store = Store::open(context).await?;
    let current = store.current(secret_id).await?;
    let old = current.as_ref().map(|version| draft_of(secret_id, version)).transpose()?.unwrap_or_default();
    if let Some(version) = &current
        && let Ok(token) = TokenSecret::parse(version.body.expose())
        && let Grant::Other(grant_type) = &token.tokens.grant
    {
        return Err(Failure::person(format!(
            "secret `{secret_id}` has the `grantType` \"{grant_type}\", which needs no login; remove it to log in"
        )));
    }
    if !arguments.yes {
        confirm(context, &store, secret_id, current.as_ref(), &old).await?;
    }

    let Plan { mut changes, mut settings, server } = plan(context, arguments, &store, &old).await?;
    if current.is_none() && server.knows_no_flow() {
        let place = store.secrets.place();
        return Err(Failure::usage(format!(
            "secret `{secret_id}` does not exist in {place}: check the name, or pass --provider, --issuer, or --authorization-endpoint and \
             --token-endpoint to create it"
        )));
    }
    let flow = Flow::choose(&settings, &server, secret_id).await?;
    let is_device_endpoint_chosen = arguments.device_authorization_endpoint.is_some();

    let draft = changed(secret_id, &old, &changes)?;
    let has_client = draft.has(Member::ClientId) || draft.has(Member::ClientCredentialsSecretId);
    if let Some(endpoint) = server.registration_endpoint.as_ref().filter(|_| !has_client) {
        let registration = registration::register(context, &server, endpoint, flow.redirect_uri()).await?;
        let id = sanitize_line(registration.client_id.expose(), 200);
        let mut endpoint = endpoint.clone();
        endpoint.set_query(None);
        context.terminal.say(&format!("Registered the client {id} at {endpoint}"));
        changes.extend(changes_of_registration(registration));
        // It is registered for this very address.
        settings.redirect_uri = flow.redirect_uri().map(str::to_owned);
    }
    if settings != LoginSettings::default() || old.other(LOGIN_SETTINGS).is_some() {
        changes.push(Change::Other(LOGIN_SETTINGS, serde_json::to_string(&settings).unwrap_or_default()));
    }
    complete_client(context, arguments, &store, &server, &old, &mut changes).await?;

    let draft = changed(secret_id, &old, &changes)?;
    let token = token_secret(secret_id, &draft)?;
    let exchanging = Exchanging::new(context, &store, secret_id, &draft, &token, &server).await?;
    let ends_at = context.clock.now() + TimeDelta::seconds(arguments.timeout.into());
    let (consent, browser) = match flow {
        Flow::Device { endpoint } => {
            if !is_device_endpoint_chosen && !server.is_device_endpoint_of_profile {
                check_device_endpoint(&endpoint, &exchanging.client.token_endpoint)?;
            }
            (with_device(context, arguments, &exchanging, &endpoint, &server, ends_at).await?, None)
        }
        Flow::Redirect { authorization_endpoint, redirect_uri, listener } => {
            let request = Request::new(&Parts {
                authorization_endpoint: &authorization_endpoint,
                client_id: exchanging.client.client_id.expose(),
                redirect_uri: &redirect_uri,
                scope: &server.scope(),
                parameters: &server.parameters,
                uses_pkce: server.uses_pkce,
                issuer: server.issuer.as_deref(),
                requires_issuer: server.requires_iss,
            })?;
            with_redirect(context, arguments, Arc::new(request), listener, &exchanging, ends_at).await?
        }
    };
    let target = Target {
        secret_id,
        exchanging: &exchanging,
        server: &server,
        changes: &changes,
        token: &token,
        current: current.as_ref(),
    };
    let result = store_tokens(context, &store, &target, consent).await;
    if let Some(browser) = browser {
        browser.show(page(secret_id, &result)).await;
    }
    for line in result? {
        context.terminal.say(&line);
    }
    Ok(())
}

/// What a login changes in the document, and where it leads.
struct Plan {
    changes: Vec<Change>,
    settings: LoginSettings,
    server: AuthorizationServer,
}

async fn plan(context: &Context, arguments: &LoginArguments, store: &Store, old: &Draft) -> Result<Plan, Failure> {
    let secret_id = arguments.secret.as_str();
    let mut changes = changes_of(arguments, old)?;
    let mut settings = LoginSettings::of(old, secret_id)?;
    if settings == LoginSettings::default() {
        // A secret that another program made: the scopes that were granted are to be asked for again.
        settings.scope = old.scope();
    }
    let old_settings = settings.clone();
    let old_issuer = settings.issuer.clone();
    settings = settings.with(arguments);
    let mut server = AuthorizationServer::find(context, &settings, &changed(secret_id, old, &changes)?).await?;
    let of_issuer = server.token_endpoint.as_deref().filter(|_| arguments.token_endpoint.is_none());
    let of_old_client = match old.text(Member::ClientCredentialsSecretId) {
        Some(id) => store.client_secret(id.expose()).await?.with_profile().token_endpoint,
        None => None,
    };
    let issuers = [old_issuer.as_deref(), settings.issuer.as_deref()];
    if is_other_server(secret_id, old, &changes, issuers, of_issuer, of_old_client.as_ref())?
        || (!old.has(Member::TokenEndpoint) && has_other_authorization_endpoint(&old_settings, &server))
    {
        context
            .terminal
            .say("The secret was for another authorization server: tokenctl removes its client and its settings.");
        changes = without_server().into_iter().chain(changes).collect();
        settings = LoginSettings::default().with(arguments);
        server = AuthorizationServer::find(context, &settings, &changed(secret_id, old, &changes)?).await?;
    }
    if let Some(endpoint) = server.token_endpoint.as_ref().filter(|_| arguments.token_endpoint.is_none()) {
        changes.push(Change::Own(Member::TokenEndpoint, json_string(endpoint)));
    }
    Ok(Plan { changes, settings, server })
}

/// Whether the server that a secret was for, known only by where a login began, is at another origin.
fn has_other_authorization_endpoint(old: &LoginSettings, server: &AuthorizationServer) -> bool {
    let old = old.authorization_endpoint.as_ref().and_then(|old| Url::parse(old).ok());
    match (old, &server.authorization_endpoint) {
        (Some(old), Some(new)) => old.origin() != new.origin(),
        _ => false,
    }
}

/// The client authenticates at the device authorization endpoint, too: what the secret or metadata name must belong to the token endpoint.
fn check_device_endpoint(endpoint: &Url, token_endpoint: &Url) -> Result<(), Failure> {
    if endpoint.origin() == token_endpoint.origin() {
        return Ok(());
    }
    let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
    Err(Failure::usage(format!(
        "the device authorization endpoint is at {}, and the token endpoint at {}: if the client may authenticate there, pass \
         --device-authorization-endpoint",
        host(endpoint),
        host(token_endpoint)
    )))
}

fn page(secret_id: &str, result: &Result<Vec<String>, Failure>) -> Page {
    match result {
        Ok(_) => Page::Done { secret: secret_id.to_owned() },
        Err(failure) => Page::failed(failure),
    }
}
