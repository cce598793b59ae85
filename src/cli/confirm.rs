//! Questions before something in a secret is replaced.

use chrono::TimeDelta;

use super::{
    Context,
    failure::Failure,
    server::LOGIN_SETTINGS,
    store::{Store, options},
    terminal::duration,
};
use crate::{
    error::ErrorType,
    protocol::{Mode, Request, observation::Observation},
    sanitize::sanitize_line,
    store::Version,
    token_secret::{TokenSecret, draft::Draft, member::Member},
};

/// How long a dry run may take.
const DRY_RUN_TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// Asks before tokens that may still work, or a document of something else, are replaced. Returns whether it asked.
pub(super) async fn confirm(
    context: &Context,
    store: &Store,
    secret_id: &str,
    current: Option<&Version>,
    old: &Draft,
) -> Result<bool, Failure> {
    if !old.has(Member::RefreshToken) {
        return confirm_other_document(context, secret_id, old).await;
    }
    if has_recorded_refusal(context, store, secret_id).await {
        return Ok(false);
    }
    let expires_at = current.and_then(|version| TokenSecret::parse(version.body.expose()).ok()?.expires_at);
    let age = match expires_at.map(|end| end - context.clock.now()) {
        Some(left) if left > TimeDelta::zero() => format!(", and its access token is good for {}", duration(left)),
        Some(_) => ", and its access token has expired".to_owned(),
        None => String::new(),
    };
    let what = format!("secret `{secret_id}` has a refresh token{age}");
    ask(context, &what, "pass --yes to replace the tokens", "Replace the tokens?").await.map(|()| true)
}

/// Asks whether tokens are to be put into a document that seems to be for something else.
async fn confirm_other_document(context: &Context, secret_id: &str, old: &Draft) -> Result<bool, Failure> {
    let names = old.names();
    if names.is_empty() || names.iter().any(|name| Member::is_name(name) || name == LOGIN_SETTINGS) {
        return Ok(false);
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", sanitize_line(name, 40))).collect();
    let what = format!("secret `{secret_id}` has a document of something else ({})", names.join(", "));
    ask(context, &what, "pass --yes to write tokens into it", "Write tokens into it?").await.map(|()| true)
}

/// Asks a question about the secret, or fails where nobody can be asked.
pub(super) async fn ask(context: &Context, what: &str, instead: &str, question: &str) -> Result<(), Failure> {
    if !context.terminal.is_interactive() {
        return Err(Failure::usage(format!("{what}; {instead}")));
    }
    let what = what.replacen('s', "S", 1);
    if context.terminal.ask(&format!("{what}. {question}")).await? {
        Ok(())
    } else {
        Err(Failure::person("nothing was changed"))
    }
}

/// Whether the function has recorded that the provider refuses the tokens.
async fn has_recorded_refusal(context: &Context, store: &Store, secret_id: &str) -> bool {
    let Ok(options) = options() else { return false };
    let refresher = store.refresher(context, options);
    let deadline = context.clock.now() + DRY_RUN_TIMEOUT;
    let request = Request { secret_id, mode: &Mode::DryRun, deadline };
    let outcome = refresher.run(request, &Observation::default()).await;
    outcome.is_err_and(|error| error.error_type() == ErrorType::ReauthorizationRequired)
}
