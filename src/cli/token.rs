//! `tokenctl token`: prints an access token for a script, and never one that has expired.

use std::io::{self, IsTerminal, Write};

use chrono::TimeDelta;

use super::{
    Context,
    arguments::TokenArguments,
    failure::Failure,
    store::{Store, options},
    terminal::duration,
};
use crate::{
    store::{Label, SecretStore, Selector},
    token_secret::readable::ReadableToken,
};

/// Runs the command.
pub(super) async fn token(context: &Context, arguments: &TokenArguments) -> Result<(), Failure> {
    if io::stdout().is_terminal() && !arguments.show {
        return Err(Failure::usage(
            "standard output is a terminal, which would show the token; pass --show if you want that",
        ));
    }
    let secret_id = arguments.secret.as_str();
    let store = Store::open(context).await?;
    let names = options()?.member_names;
    let version = store.secrets.get(secret_id, Selector::Label(Label::Current)).await;
    let version = version.map_err(|error| store.failure(secret_id, error))?;
    let token = ReadableToken::parse_with(version.body.expose(), &names)
        .map_err(|problem| Failure::unusable(secret_id, problem))?;
    let refresh = context.store.command(&format!("refresh {secret_id}"));
    let Some(access_token) = token.access_token else {
        return Err(Failure::person(format!("secret `{secret_id}` has no access token yet; run `{refresh}`")));
    };
    let min_ttl = TimeDelta::seconds(arguments.min_ttl.into());
    if let Some(end) = token.expires_at {
        let left = end - context.clock.now();
        if left <= TimeDelta::zero() {
            let ago = duration(-left);
            return Err(Failure::person(format!(
                "the access token of `{secret_id}` expired {ago} ago; run `{refresh}`"
            )));
        }
        if left < min_ttl {
            return Err(Failure::later(format!(
                "the access token of `{secret_id}` expires in {}, and {} are asked for; run `{}`",
                duration(left),
                duration(min_ttl),
                context.store.command(&format!("refresh {secret_id} --force"))
            )));
        }
    }
    let prefix = if arguments.header { "Authorization: Bearer " } else { "" };
    let mut out = io::stdout();
    let printed = writeln!(out, "{prefix}{}", access_token.expose()).and_then(|()| out.flush());
    printed.map_err(|error| Failure::later(format!("the token could not be printed: {error}")))
}
