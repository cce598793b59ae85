//! The client of a login: what the options, a registration and the person say is written into the document, and read from it again.

use super::{
    Context,
    arguments::LoginArguments,
    failure::Failure,
    registration::{self, Registration},
    server::{AuthorizationServer, LOGIN_SETTINGS},
    store::Store,
};
use crate::{
    oauth::{client, grant::Grant},
    providers::Profile,
    sanitize::sanitize_line,
    secret::Secret,
    store::Version,
    token_secret::{
        TokenSecret,
        client_settings::{ClientSettings, TokenEndpointAuthMethod},
        document::json_string,
        draft::Draft,
        member::Member,
    },
};

/// Stands in for the refresh token while only the settings are checked.
const NO_TOKEN_YET: &str = "none-yet";

/// The members with which a registered client can be changed and deleted (RFC 7592).
pub(super) const REGISTRATION: [&str; 2] = ["registrationClientUri", "registrationAccessToken"];

/// A change of the document.
pub(super) enum Change {
    Own(Member, String),
    Other(&'static str, String),
    /// Removes a member.
    Without(Member),
    WithoutOther(&'static str),
}

/// The document of a version.
pub(super) fn draft_of(secret_id: &str, version: &Version) -> Result<Draft, Failure> {
    Draft::parse(version.body.expose()).map_err(|problem| Failure::unusable(secret_id, problem))
}

/// What the options change in the document.
pub(super) fn changes_of(arguments: &LoginArguments, old: &Draft) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    let old_client = old.text(Member::ClientId);
    let is_other = matches!((&arguments.client_id, &old_client), (Some(new), Some(old)) if new != old.expose());
    if is_other || arguments.client_credentials_secret_id.is_some() {
        changes.extend(without_client());
    }
    if arguments.client_credentials_secret_id.is_some() {
        changes.push(Change::Without(Member::ClientId));
    }
    for (member, option) in [
        (Member::Provider, &arguments.provider),
        (Member::TokenEndpoint, &arguments.token_endpoint),
        (Member::ClientId, &arguments.client_id),
        (Member::ClientCredentialsSecretId, &arguments.client_credentials_secret_id),
        (Member::TokenEndpointAuthMethod, &arguments.token_endpoint_auth_method),
    ] {
        changes.extend(option.as_ref().map(|text| Change::Own(member, json_string(text))));
    }
    if !arguments.provider_parameter.is_empty() {
        let parameters: serde_json::Map<_, _> =
            arguments.provider_parameter.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        changes.push(Change::Own(Member::ProviderParameters, serde_json::Value::Object(parameters).to_string()));
    }
    if let Some(name) = &arguments.provider
        && Profile::named(&name.to_ascii_lowercase()).is_none()
    {
        let near = client::similar(name).map(|near| format!(" (is \"{near}\" meant?)")).unwrap_or_default();
        let name = sanitize_line(name, 64);
        return Err(Failure::usage(format!("the provider \"{name}\" is not one of those in docs/providers.md{near}")));
    }
    if let Some(endpoint) = &arguments.token_endpoint {
        client::endpoint(endpoint).map_err(|problem| Failure::usage(format!("the token endpoint {problem}")))?;
    }
    if let Some(method) = &arguments.token_endpoint_auth_method
        && TokenEndpointAuthMethod::read(method).is_none()
    {
        let allowed = TokenEndpointAuthMethod::ALLOWED;
        return Err(Failure::usage(format!("--token-endpoint-auth-method is \"{method}\"; allowed is {allowed}")));
    }
    Ok(changes)
}

/// Removes the client: what another client has is of no use to this one, and must not be sent for it.
fn without_client() -> Vec<Change> {
    [
        Member::ClientSecret,
        Member::ClientSecretExpiresAt,
        Member::ClientCredentialsSecretId,
        Member::TokenEndpointAuthMethod,
        Member::PrivateKey,
        Member::KeyId,
        Member::SigningAlgorithm,
        Member::SigningKmsKeyId,
        // They may authenticate the client.
        Member::ExtraParameters,
        Member::ExtraHeaders,
    ]
    .map(Change::Without)
    .into_iter()
    .chain(REGISTRATION.map(Change::WithoutOther))
    .collect()
}

/// Removes everything that belongs to an authorization server: another one must not get it.
pub(super) fn without_server() -> Vec<Change> {
    let of_server = [
        Member::Provider,
        Member::ProviderParameters,
        Member::TokenEndpoint,
        Member::ClientId,
        Member::TokenRequestFormat,
        Member::AssertionClaims,
        Member::DefaultLifetimeSeconds,
        Member::LifetimeSeconds,
        Member::Scope,
        Member::TokenResponse,
    ];
    let mut changes = without_client();
    changes.extend(of_server.map(Change::Without));
    changes.push(Change::WithoutOther(LOGIN_SETTINGS));
    changes
}

/// Whether the options name another authorization server than the document: their token endpoints differ.
pub(super) fn is_other_server(
    secret_id: &str,
    old: &Draft,
    changes: &[Change],
    [old_issuer, new_issuer]: [Option<&str>; 2],
    of_issuer: Option<&str>,
    of_old_client: Option<&Secret>,
) -> Result<bool, Failure> {
    if let (Some(old), Some(new)) = (old_issuer, new_issuer)
        && old != new
    {
        return Ok(true);
    }
    let endpoint =
        |draft: &Draft| Ok::<_, Failure>(token_secret(secret_id, draft)?.client.with_profile().token_endpoint);
    let named = match of_issuer {
        Some(endpoint) => Some(Secret::from(endpoint)),
        None => endpoint(&changed(secret_id, &Draft::new(), changes)?)?,
    };
    let old = endpoint(old)?.or_else(|| of_old_client.cloned()).or_else(|| of_other_program(old));
    Ok(matches!((named, old), (Some(named), Some(old)) if named != old))
}

/// The token endpoint as other programs name it: Google's `authorized_user` files, and some libraries.
fn of_other_program(old: &Draft) -> Option<Secret> {
    let names = ["token_uri", "tokenUri", "token_url", "tokenUrl"];
    let text = |name| serde_json::from_str::<String>(old.other(name)?).ok();
    names.into_iter().find_map(text).map(Secret::from)
}

pub(super) fn changes_of_registration(registration: Registration) -> Vec<Change> {
    let mut changes = vec![
        Change::Own(Member::ClientId, json_string(registration.client_id.expose())),
        Change::Own(Member::TokenEndpointAuthMethod, json_string(&registration.auth_method)),
    ];
    let secret = registration.client_secret.map(|secret| json_string(secret.expose()));
    changes.extend(secret.map(|secret| Change::Own(Member::ClientSecret, secret)));
    let ends = registration.client_secret_expires_at.map(|end| json_string(&end));
    changes.extend(ends.map(|end| Change::Own(Member::ClientSecretExpiresAt, end)));
    for (name, value) in REGISTRATION.into_iter().zip([registration.client_uri, registration.access_token]) {
        changes.extend(value.map(|value| Change::Other(name, json_string(value.expose()))));
    }
    changes
}

pub(super) fn changed(secret_id: &str, draft: &Draft, changes: &[Change]) -> Result<Draft, Failure> {
    let mut draft = draft.clone();
    for change in changes {
        match change {
            Change::Own(member, value) => draft.set(*member, value.clone()),
            Change::Other(name, value) => draft.set_other(name, value.clone()),
            Change::Without(member) => draft.remove(*member),
            Change::WithoutOther(name) => draft.remove_other(name),
        }
        .map_err(|problem| Failure::unusable(secret_id, problem))?;
    }
    Ok(draft)
}

/// The token secret of a draft. If it has no refresh token yet, another text stands in.
pub(super) fn token_secret(secret_id: &str, draft: &Draft) -> Result<TokenSecret, Failure> {
    let refresh_token = draft.text(Member::RefreshToken).unwrap_or_else(|| NO_TOKEN_YET.into());
    let token = draft.with_refresh_token(&refresh_token).map_err(|problem| Failure::unusable(secret_id, problem))?;
    match &token.tokens.grant {
        Grant::RefreshToken(_) => Ok(token),
        Grant::Other(grant_type) => Err(Failure::person(format!(
            "secret `{secret_id}` has the `grantType` \"{grant_type}\", which needs no login; remove it to log in"
        ))),
    }
}

/// Adds what is missing of the client: how it authenticates, and its secret.
pub(super) async fn complete_client(
    context: &Context,
    arguments: &LoginArguments,
    store: &Store,
    server: &AuthorizationServer,
    old: &Draft,
    changes: &mut Vec<Change>,
) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
    if arguments.client_secret_stdin {
        let secret = context.terminal.first_line("Client secret (it is not shown)").await?;
        // A blank at an end is of the paste.
        changes.push(Change::Own(Member::ClientSecret, json_string(secret.expose().trim())));
    }
    let is_own_client = arguments.client_id.is_some()
        && (arguments.client_secret_stdin || arguments.token_endpoint_auth_method.as_deref() == Some("none"));
    if is_own_client && arguments.client_credentials_secret_id.is_none() {
        // The options are a whole client: it takes the place of the shared one.
        changes.push(Change::Without(Member::ClientCredentialsSecretId));
    }
    let token = token_secret(secret_id, &changed(secret_id, old, changes)?)?;
    if let (Some(id), Some(other)) = (&arguments.client_id, &token.client.client_credentials_secret_id)
        && store.client_secret(other).await?.client_id.is_some_and(|shared| shared.expose() != id)
    {
        return Err(Failure::usage(format!(
            "secret `{other}`, which the token secret names for its client, has another client id; pass --client-secret-stdin or \
             --client-credentials-secret-id, too"
        )));
    }
    let settings = client_settings(store, secret_id, &token).await?;
    if settings.token_endpoint.is_none() {
        return Err(Failure::usage("no token endpoint is known: pass --token-endpoint"));
    }
    let Some(client_id) = &settings.client_id else {
        return Err(Failure::usage(
            "the client's id is missing: pass --client-id, or register a client at the provider first",
        ));
    };
    let method = settings.token_endpoint_auth_method;
    let needs_secret = method.is_none_or(TokenEndpointAuthMethod::needs_secret);
    let mut has_secret = settings.client_secret.is_some();
    if needs_secret && !has_secret && !settings.has_empty_client_secret {
        if !context.terminal.is_interactive() {
            return Err(Failure::usage(
                "no client secret: pass --client-secret-stdin or --client-credentials-secret-id; for a public client pass \
                 --token-endpoint-auth-method none",
            ));
        }
        let prompt = format!(
            "Secret of the client {} (it is not shown; leave it empty for a public client)",
            client_id.expose()
        );
        let secret = context.terminal.ask_secret(&prompt).await?;
        let secret = secret.expose().trim();
        has_secret = !secret.is_empty();
        if has_secret {
            changes.push(Change::Own(Member::ClientSecret, json_string(secret)));
        } else {
            changes.push(Change::Own(Member::TokenEndpointAuthMethod, json_string("none")));
            return Ok(());
        }
    }
    if method.is_none()
        && let Some(preferred) = registration::preferred_method(server, has_secret)
    {
        changes.push(Change::Own(Member::TokenEndpointAuthMethod, json_string(preferred)));
    }
    Ok(())
}

/// The settings of the client: the token secret's, then those of the client's secret, then the profile's.
pub(super) async fn client_settings(
    store: &Store,
    secret_id: &str,
    token: &TokenSecret,
) -> Result<ClientSettings, Failure> {
    let own = token.client.clone();
    client::check_provider(&own).map_err(|problem| Failure::unusable(secret_id, problem))?;
    let other = match &own.client_credentials_secret_id {
        Some(id) => store.client_secret(id).await?,
        None => ClientSettings::default(),
    };
    Ok(own.or_from_other_secret(other).with_profile())
}
