//! `tokenctl adopt`: stores tokens that another program has obtained.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use super::{
    Context,
    arguments::AdoptArguments,
    client::{client_settings, draft_of},
    confirm::{ask, confirm},
    failure::Failure,
    given::{Given, Pointers},
    rescue::rescued,
    store::Store,
    terminal::duration,
};
use crate::{
    oauth::{client::Client, grant::Grant},
    protocol::ids::TokenKey,
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError, Version, VersionId},
    token_secret::{
        TokenSecret,
        document::{Document, json_string},
        draft::Draft,
        member::Member,
    },
};

/// The most that is read from standard input.
const MAX_BYTES: usize = 64 * 1024;

/// How many versions are read at once.
const AT_ONCE: usize = 8;

/// Runs the command.
pub(super) async fn adopt(context: &Context, arguments: &AdoptArguments) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
    let store = Store::open(context).await?;
    let current = store.current(secret_id).await?;
    let now = context.clock.now();
    let kept = if arguments.kept { Some(kept(&store, secret_id).await?) } else { None };
    let text = match &kept {
        Some(kept) => kept.response.clone(),
        None => context.terminal.everything("the document", MAX_BYTES).await?,
    };
    let issued_at = kept.as_ref().map_or(now, |kept| kept.at);
    let given = match &arguments.access_token_at {
        Some(access_token) => {
            let refresh_token = arguments.refresh_token_at.as_deref();
            let lifetime = arguments.expires_in_seconds.map(|seconds| TimeDelta::seconds(seconds.into()));
            Given::at(&text, &Pointers { access_token, refresh_token, lifetime }, issued_at, now)?
        }
        None if arguments.kept => Given::of_kept(&text, issued_at, now)?,
        None => Given::read(&text, arguments.client_in_environment, now)?,
    };
    let old = current.as_ref().map(|version| draft_of(secret_id, version)).transpose()?;
    let token = parsed(secret_id, &render(&store, secret_id, &given, current.as_ref())?)?;
    check_client(&store, secret_id, &token, arguments.client_in_environment).await?;
    if let Some(old) = &old {
        check_not_older(secret_id, old, &token)?;
    }
    if let Some(current) = &current {
        check_not_spent(&store, secret_id, current, &token).await?;
    }
    let is_new = old.as_ref().is_none_or(|old| old.text(Member::RefreshToken).as_ref() != token.tokens.refresh_token());
    // The tokens are new, and the time of another refresh is not theirs: by it the function would take them for old ones.
    let given = match given {
        Given::Document(document) if is_new && document.tokens.refreshed_at.is_some() => {
            let mut draft =
                Draft::parse(document.to_text().expose()).map_err(|problem| Failure::unusable(secret_id, problem))?;
            draft.remove(Member::RefreshedAt).map_err(|problem| Failure::unusable(secret_id, problem))?;
            Given::Document(Box::new(parsed(secret_id, &draft.to_text())?))
        }
        given => given,
    };
    for warning in given.warnings(&token, old.as_ref()) {
        context.terminal.say(&format!("warning: {warning}"));
    }
    if let Some(old) = &old
        && !arguments.yes
        && !arguments.kept
    {
        let is_confirmed = confirm(context, &store, secret_id, current.as_ref(), old).await?;
        let lost = given.lost_members(old);
        if !is_confirmed && !lost.is_empty() {
            let what = format!("secret `{secret_id}` has members that the new document lacks ({})", lost.join(", "));
            ask(context, &what, "pass --yes to replace the document", "Replace the document?").await?;
        }
    }
    context.terminal.defer_interrupts();
    let start = old.as_ref().and_then(|old| old.text(Member::RefreshToken));
    let start_id = current.as_ref().map(|version| &version.id);
    // A whole document replaces all members, also those that others have just changed.
    let replaces_all = matches!(given, Given::Document(_));
    let written = store.write(context, secret_id, |current| {
        let now = current.map(|version| draft_of(secret_id, version)).transpose()?;
        let is_other = now.and_then(|now| now.text(Member::RefreshToken)) != start;
        if is_other || (replaces_all && current.map(|version| &version.id) != start_id) {
            return Err(Failure::later(format!(
                "secret `{secret_id}` was changed meanwhile: nothing was stored. Read it again, and run the command again"
            )));
        }
        render(&store, secret_id, &given, current)
    });
    let written = written.await;
    let written = match written {
        Ok(written) => written,
        // The person still has the document.
        Err(failure) if !arguments.kept => return Err(failure),
        Err(failure) => {
            let body = render(&store, secret_id, &given, current.as_ref());
            return Err(rescued(context, secret_id, &failure, body));
        }
    };
    if let Some(kept) = &kept {
        // It is not needed any more. If this fails, the label stays.
        let _ = store.secrets.remove_label(secret_id, Label::Kept, &kept.version).await;
    }
    let is_refresh_token = matches!(token.tokens.grant, Grant::RefreshToken(_));
    let expiry = match token.expires_at.map(|end| end - context.clock.now()) {
        Some(left) if left > TimeDelta::zero() => format!("Its access token expires in {}.", duration(left)),
        _ if is_refresh_token => "The next run of the function refreshes it.".to_owned(),
        _ => "The next run of the function obtains an access token.".to_owned(),
    };
    context.terminal.say(&format!("{} {expiry}", written.summary(secret_id)));
    if is_refresh_token {
        context.terminal.say("From now on, no other program may exchange this refresh token.");
    }
    Ok(())
}

fn render(store: &Store, secret_id: &str, given: &Given, current: Option<&Version>) -> Result<Secret, Failure> {
    let draft = current.map(|version| draft_of(secret_id, version)).transpose()?;
    let max_bytes = store.max_document_bytes();
    let rendered = given.rendered(draft.as_ref(), max_bytes);
    rendered.map_err(|problem| Failure::unusable(secret_id, problem))
}

fn parsed(secret_id: &str, text: &Secret) -> Result<TokenSecret, Failure> {
    TokenSecret::parse(text.expose()).map_err(|problem| Failure::unusable(secret_id, problem))
}

/// Checks the client as the function would before an exchange.
async fn check_client(
    store: &Store,
    secret_id: &str,
    token: &TokenSecret,
    client_in_environment: bool,
) -> Result<(), Failure> {
    let settings = client_settings(store, secret_id, token).await?;
    match Client::new(settings, &token.tokens.grant) {
        Err(problem) if !client_in_environment => Err(Failure::person(format!(
            "the document cannot be used: {problem}; if the function has that in its environment, pass --client-in-environment"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a document that is older than the one in the secret: its tokens are of an earlier login or refresh.
fn check_not_older(secret_id: &str, old: &Draft, token: &TokenSecret) -> Result<(), Failure> {
    let is_same = old.text(Member::RefreshToken).as_ref() == token.tokens.refresh_token();
    let before = TokenSecret::parse(old.to_text().expose()).ok().and_then(|old| old.tokens.refreshed_at);
    match (token.tokens.refreshed_at, before) {
        (Some(given), Some(before)) if given < before && !is_same => Err(Failure::person(format!(
            "the document is older than the one in secret `{secret_id}` (refreshedAt {given} and {before}): nothing was stored. If its tokens \
             are newer all the same, remove its `refreshedAt`"
        ))),
        _ => Ok(()),
    }
}

/// Refuses tokens that the function has exchanged already: the provider would revoke the tokens that came of them.
async fn check_not_spent(
    store: &Store,
    secret_id: &str,
    current: &Version,
    token: &TokenSecret,
) -> Result<(), Failure> {
    let Some(refresh_token) = token.tokens.refresh_token() else { return Ok(()) };
    let has_it = |version: &Version| {
        let token = TokenSecret::parse(version.body.expose()).ok()?;
        (token.tokens.refresh_token() == Some(refresh_token)).then_some(token)
    };
    if has_it(current).is_some() {
        return Ok(());
    }
    let listed = store.secrets.list(secret_id).await.map_err(|error| store.failure(secret_id, error))?;
    let exists = |id: &VersionId| listed.iter().any(|version| version.id == *id);
    let is_spent = |token: &TokenSecret| {
        let key = TokenKey::of(&current.arn, &token.tokens, &token.client);
        exists(&key.claim(0)) || exists(&key.staged())
    };
    let mut was_exchanged = is_spent(token);
    let reads = listed.iter().map(|version| store.secrets.get(secret_id, Selector::Id(&version.id)));
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some(read) = reads.next().await {
        match read {
            Ok(version) => was_exchanged |= has_it(&version).is_some_and(|token| is_spent(&token)),
            Err(StoreError::NotFound { .. } | StoreError::Binary) => {}
            Err(error) => return Err(store.failure(secret_id, error)),
        }
    }
    if was_exchanged {
        return Err(Failure::person(format!(
            "the function has already exchanged these tokens: an earlier version of secret `{secret_id}` holds them. Nothing was stored. \
             Start from the newest version"
        )));
    }
    Ok(())
}

/// A response that the function kept.
struct Kept {
    version: VersionId,
    response: Secret,
    at: DateTime<Utc>,
}

/// The newest response that the function kept, if it is the response to the tokens that are current.
async fn kept(store: &Store, secret_id: &str) -> Result<Kept, Failure> {
    let Some(current) = store.current(secret_id).await? else {
        return Err(Failure::person(format!("secret `{secret_id}` does not exist, or has no value")));
    };
    let version = store.secrets.get(secret_id, Selector::Label(Label::Kept)).await.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            Failure::person(format!("secret `{secret_id}` has no kept response (no version has the label OAUTH_KEPT)"))
        }
        error => store.failure(secret_id, error),
    })?;
    let token = parsed(secret_id, &current.body)?;
    let key = TokenKey::of(&current.arn, &token.tokens, &token.client);
    let record = Document::parse(version.body.expose()).ok();
    let text = |name: &str| record.as_ref().and_then(|record| record.get(name));
    let Some(response) = text("response") else {
        return Err(Failure::person(format!("version {} of secret `{secret_id}` has no response", version.id)));
    };
    if text("token") != Some(json_string(&key.to_string()).as_str()) {
        return Err(Failure::person(format!(
            "the kept response (version {}) is the response to other tokens than secret `{secret_id}` has now: somebody has consented or \
             refreshed since. Nothing was stored",
            version.id
        )));
    }
    // The record has the response as a text.
    let response = serde_json::from_str::<String>(response).map_or_else(|_| Secret::from(response), Secret::from);
    Ok(Kept { version: version.id, response, at: version.created })
}
