//! The end of a login: stores the tokens, also beside what others write meanwhile.

use super::{
    Context,
    client::{Change, changed, client_settings, draft_of, token_secret},
    exchange::{Consent, Exchanging},
    failure::Failure,
    rescue::rescued,
    server::AuthorizationServer,
    store::Store,
    terminal::duration,
};
use crate::{
    protocol::new_tokens,
    sanitize::sanitize_line,
    secret::Secret,
    store::Version,
    token_secret::{NewTokens, TokenSecret, client_settings::ClientSettings, document::json_string},
};

/// What the tokens of a consent are stored with.
pub(super) struct Target<'a> {
    pub secret_id: &'a str,
    pub exchanging: &'a Exchanging,
    pub server: &'a AuthorizationServer,
    pub changes: &'a [Change],
    /// The token secret with the changes, before the tokens.
    pub token: &'a TokenSecret,
    /// The version that was current when the login began.
    pub current: Option<&'a Version>,
}

/// Stores the tokens. Returns what to tell the person.
pub(super) async fn store_tokens(
    context: &Context,
    store: &Store,
    target: &Target<'_>,
    consent: Consent,
) -> Result<Vec<String>, Failure> {
    let Target { secret_id, exchanging, server, changes, token, current } = *target;
    let mut new = new_tokens(consent.issued, &exchanging.client, token, consent.sent_at);
    if new.refresh_token.is_none() {
        return Err(Failure::person(
            "the provider issued an access token, but no refresh token: nothing was stored. Many providers issue one only for the scope \
             offline_access, or with a parameter such as access_type=offline (--scope, --parameter); some only at the first consent: \
             withdraw it at the provider, and log in again",
        ));
    }
    let kept: Vec<(String, String)> =
        consent.parameters.into_iter().filter(|(name, _)| server.keep_from_redirect.contains(name)).collect();
    for (name, value) in &kept {
        new.rest.set(name, json_string(value));
    }
    let render = |current: Option<&Version>| render(secret_id, current, changes, &new, store.max_document_bytes());
    let written = match check_same_shared_client(store, target).await {
        Ok(()) => {
            let checked = |now: Option<&Version>| check_same_client(target, now).and_then(|()| render(now));
            store.write(context, secret_id, checked).await
        }
        Err(failure) => Err(failure),
    };
    let written = match written {
        Ok(written) => written,
        Err(failure) => return Err(rescued(context, secret_id, &failure, render(current))),
    };
    let expires_in = duration(new.expires_at - context.clock.now());
    let mut lines = vec![format!("{} Its access token expires in {expires_in}.", written.summary(secret_id))];
    if written.replaced.as_ref() != current.map(|version| &version.id) {
        lines.push(
            "warning: somebody else wrote the secret while you logged in. Its other members are kept, and its tokens are yours now."
                .to_owned(),
        );
    }
    lines.extend(not_granted(&server.scope(), new.scope.as_deref()));
    if !kept.is_empty() {
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        lines.push(format!("Stored from the redirect: {}.", names.join(", ")));
    }
    Ok(lines)
}

/// Fails if somebody has meanwhile set another authorization server or client than this login used: it must not get these tokens.
fn check_same_client(target: &Target<'_>, now: Option<&Version>) -> Result<(), Failure> {
    let secret_id = target.secret_id;
    let Some(now) = now else {
        return match target.current {
            Some(_) => Err(Failure::person(format!("secret `{secret_id}` was deleted while you logged in"))),
            None => Ok(()),
        };
    };
    let settings = |version: &Version| {
        let token = token_secret(secret_id, &draft_of(secret_id, version)?)?;
        Ok::<_, Failure>(token.client.with_profile())
    };
    let before = target.current.map(settings).transpose()?.unwrap_or_default();
    let now = settings(now)?;
    let used = target.token.client.clone().with_profile();
    let is_theirs = |of: fn(&ClientSettings) -> Option<&str>| {
        of(&now).is_some() && of(&now) != of(&before) && of(&now) != of(&used)
    };
    if is_theirs(|settings| settings.token_endpoint.as_ref().map(Secret::expose)) {
        return Err(changed_meanwhile(secret_id, "the authorization server"));
    }
    if is_theirs(|settings| settings.client_id.as_ref().map(Secret::expose))
        || is_theirs(|settings| settings.client_credentials_secret_id.as_deref())
    {
        return Err(changed_meanwhile(secret_id, "the client"));
    }
    Ok(())
}

/// The same for a client's secret that the token secret names.
async fn check_same_shared_client(store: &Store, target: &Target<'_>) -> Result<(), Failure> {
    let Target { secret_id, exchanging, token, .. } = *target;
    if token.client.client_credentials_secret_id.is_none() {
        return Ok(());
    }
    // What cannot be read now was read before the consent.
    let Ok(now) = client_settings(store, secret_id, token).await else { return Ok(()) };
    if now.token_endpoint != exchanging.refresh_endpoint {
        return Err(changed_meanwhile(secret_id, "the authorization server"));
    }
    if now.client_id.as_ref() != Some(&exchanging.client.client_id) {
        return Err(changed_meanwhile(secret_id, "the client"));
    }
    Ok(())
}

fn changed_meanwhile(secret_id: &str, what: &str) -> Failure {
    Failure::person(format!("somebody has changed {what} of secret `{secret_id}` while you logged in"))
}

/// A warning, if the provider has granted less than was asked for. Scopes of the login itself are not for APIs.
fn not_granted(requested: &str, granted: Option<&str>) -> Option<String> {
    let is_separator = |c: char| c.is_whitespace() || c == ',';
    let granted: Vec<&str> = granted?.split(is_separator).collect();
    let missing: Vec<String> = requested
        .split(is_separator)
        .filter(|scope| {
            !granted.contains(scope) && !matches!(*scope, "openid" | "offline_access" | "profile" | "email")
        })
        .map(|scope| format!("`{}`", sanitize_line(scope, 100)))
        .collect();
    let names = missing.join(", ");
    (!missing.is_empty()).then(|| format!("warning: the provider did not grant {names}: check the scopes"))
}

/// The document with the settings and the new tokens.
fn render(
    secret_id: &str,
    current: Option<&Version>,
    changes: &[Change],
    new: &NewTokens,
    max_bytes: usize,
) -> Result<Secret, Failure> {
    let draft = current.map(|version| draft_of(secret_id, version)).transpose()?.unwrap_or_default();
    let token = token_secret(secret_id, &changed(secret_id, &draft, changes)?)?;
    Ok(token.with_new_tokens(new, max_bytes))
}
