//! `tokenctl status`: how the tokens stand, from what is in the store. Sends nothing to a provider.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::{
    Context,
    arguments::StatusArguments,
    failure::{Exit, Failure},
    store::{Store, options},
    table::{self, Cell, Column},
    targets::{self, Target},
    terminal::duration,
};
use crate::{
    error::{Audience, ErrorType, Remedy},
    protocol::{Mode, Refresher, Request, observation::Observation, outcome::Outcome},
    sanitize::sanitize_line,
    store::{Label, SecretStore, Selector, StoreError, named::NamedStore},
    token_secret::{TokenSecret, check_publication, draft::Draft, member::Member, member_names::MemberNames},
};

/// How many secrets are looked at at once.
const AT_ONCE: usize = 8;

/// How long after its expiry a token counts as expired: until then the next run of the function may refresh it.
const LATE: TimeDelta = TimeDelta::minutes(10);

/// How long a look at one secret may take.
const TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// How a token stands. The names are a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// The access token is far from expiry.
    Fresh,
    /// The next run refreshes it.
    Due,
    /// The access token has expired some time ago, and nobody is at work.
    Expired,
    /// A run holds the claim.
    Claimed,
    /// Earlier attempts failed; the next run waits.
    BackingOff,
    /// New tokens are staged and not current yet: the next run promotes them.
    Staged,
    /// The provider has ended the grant.
    NeedsConsent,
    /// A person has to correct something.
    Failed,
    /// It is no token secret.
    NotAToken,
    /// The store did not say.
    Unknown,
}

impl State {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Claimed => "claimed",
            Self::BackingOff => "backing off",
            Self::Staged => "staged",
            Self::NeedsConsent => "needs consent",
            Self::Failed => "failed",
            Self::NotAToken => "not a token",
            Self::Unknown => "unknown",
        }
    }

    pub(super) const fn needs_person(self) -> bool {
        matches!(self, Self::Expired | Self::NeedsConsent | Self::Failed | Self::NotAToken)
    }

    fn style(self) -> Style {
        match self {
            Self::Fresh => AnsiColor::Green.on_default(),
            Self::Due | Self::Claimed | Self::BackingOff | Self::Staged => AnsiColor::Yellow.on_default(),
            Self::Expired | Self::NeedsConsent | Self::Failed | Self::NotAToken => AnsiColor::Red.on_default().bold(),
            Self::Unknown => AnsiColor::Magenta.on_default(),
        }
    }
}

/// What is known of one secret. Its JSON is a format.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    secret_id: String,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    refreshed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    refresh_token_expires_at: Option<DateTime<Utc>>,
    /// The next attempt, or the end of another run's lease.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    retry_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<usize>,
    version_limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<ErrorType>,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn rfc3339<S: serde::Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true)),
        None => serializer.serialize_none(),
    }
}

/// Runs the command.
pub(super) async fn status(context: &Context, arguments: &StatusArguments) -> Result<(), Failure> {
    let store = Store::open(context).await?;
    let options = options()?;
    let names = options.member_names.clone();
    let refresher = store.refresher(context, options);
    let look = || look(context, &store, &refresher, &names, &arguments.secrets);
    let Some(seconds) = arguments.watch else {
        let statuses = look().await?;
        print(context, arguments, &statuses).map_err(Failure::of_output)?;
        return verdict(arguments, &statuses);
    };
    loop {
        match look().await {
            Ok(statuses) => {
                // Nobody reads any more, if this fails.
                print(context, arguments, &statuses).map_err(Failure::of_output)?;
            }
            // It may pass.
            Err(failure) => context.terminal.say(&failure.message),
        }
        context.clock.sleep(Duration::from_secs(seconds.into())).await;
    }
}

async fn look(
    context: &Context,
    store: &Store,
    refresher: &Refresher<NamedStore>,
    names: &MemberNames,
    secrets: &[String],
) -> Result<Vec<Status>, Failure> {
    let targets = targets::find(store, secrets).await?;
    let looks = targets.iter().map(|target| status_of(context, store, refresher, names, target));
    Ok(stream::iter(looks).buffered(AT_ONCE).filter_map(std::future::ready).collect().await)
}

/// The exit code. What is wrong stands in the table.
fn verdict(arguments: &StatusArguments, statuses: &[Status]) -> Result<(), Failure> {
    if statuses.is_empty() {
        return Err(Failure::usage(format!("no token secret was found ({})", arguments.secrets.join(", "))));
    }
    if statuses.iter().any(|status| status.state.needs_person()) {
        return Err(Failure::silent(Exit::NeedsPerson));
    }
    if statuses.iter().any(|status| status.state == State::Unknown) {
        return Err(Failure::silent(Exit::NotDone));
    }
    Ok(())
}

/// Looks at one secret. `None`: it is of a prefix, and no token secret.
pub(super) async fn status_of(
    context: &Context,
    store: &Store,
    refresher: &Refresher<NamedStore>,
    names: &MemberNames,
    target: &Target,
) -> Option<Status> {
    let secret_id = target.secret_id.as_str();
    let mut status = Status {
        secret_id: secret_id.to_owned(),
        state: State::Unknown,
        provider: None,
        expires_at: None,
        expires_in_seconds: None,
        refreshed_at: None,
        refresh_token_expires_at: None,
        retry_at: None,
        versions: None,
        version_limit: store.secrets.limits().versions,
        error_type: None,
        message: None,
    };
    let version = match store.secrets.get(secret_id, Selector::Label(Label::Current)).await {
        Ok(version) => version,
        // The second was deleted since it was listed.
        Err(StoreError::Binary | StoreError::NotFound { .. }) if !target.is_named => return None,
        Err(error) => {
            if matches!(error, StoreError::NotFound { .. } | StoreError::Binary) {
                status.state = State::NotAToken;
            }
            status.message = Some(store.failure(secret_id, error).message);
            return Some(status);
        }
    };
    let text = version.body.expose();
    match TokenSecret::parse_with(text, names) {
        Ok(token) => {
            let provider = Draft::parse(text).ok().and_then(|draft| draft.text(Member::Provider));
            let endpoint = token.client.token_endpoint.as_ref().and_then(|url| reqwest::Url::parse(url.expose()).ok());
            let host = endpoint.and_then(|url| url.host_str().map(str::to_owned));
            status.provider =
                provider.map(|name| name.expose().to_owned()).or(host).map(|name| sanitize_line(&name, 64));
            status.expires_at = token.expires_at;
            status.refreshed_at = token.tokens.refreshed_at;
            status.refresh_token_expires_at = token.refresh_token_expires_at;
        }
        Err(problem) => {
            let is_token_secret = problem.is_of_token_secret(text);
            if !target.is_named && (!is_token_secret || check_publication(text).is_ok()) {
                return None;
            }
            status.state = if is_token_secret { State::Failed } else { State::NotAToken };
            status.message = Some(format!("secret `{secret_id}` cannot be used: {problem}"));
            return Some(status);
        }
    }
    let now = context.clock.now();
    let request = Request { secret_id, mode: &Mode::DryRun, deadline: now + TIMEOUT };
    match refresher.run(request, &Observation::default()).await {
        Ok(completed) => {
            // People write 0 for "refresh it at once".
            let end = completed.expires_at.filter(|end| *end > DateTime::UNIX_EPOCH);
            let has_expired = end.is_some_and(|end| end + LATE <= now);
            status.expires_at = completed.expires_at;
            status.retry_at = completed.retry_at;
            status.state = state_of(completed.outcome, has_expired);
            status.message = completed.warnings.first().cloned();
            if status.state == State::Expired {
                let refresh = context.store.command(&format!("refresh {secret_id}"));
                status.message = Some(format!(
                    "secret `{secret_id}`: its access token has expired, and nobody refreshes it; is the function running? By hand: `{refresh}`"
                ));
            }
        }
        Err(error) => {
            status.error_type = Some(error.error_type());
            status.state = match (error.error_type(), error.error_type().remedy()) {
                (ErrorType::ReauthorizationRequired, _) => State::NeedsConsent,
                (ErrorType::AccessDenied, _) | (_, Remedy::Wait) => State::Unknown,
                _ => State::Failed,
            };
            let advice = error.advice(Audience::CommandLine).map(|advice| format!("; {advice}")).unwrap_or_default();
            status.message = Some(format!("{}{advice}", error.message()));
        }
    }
    status.expires_in_seconds = status.expires_at.map(|end| (end - now).num_seconds());
    status.versions = store.secrets.list(secret_id).await.ok().map(|versions| versions.len());
    Some(status)
}

/// What a dry run says of a token.
const fn state_of(outcome: Outcome, has_expired: bool) -> State {
    match outcome {
        Outcome::WouldRefresh | Outcome::BackingOff if has_expired => State::Expired,
        Outcome::InProgress => State::Claimed,
        Outcome::BackingOff => State::BackingOff,
        Outcome::WouldRecover | Outcome::Recovered => State::Staged,
        Outcome::WouldRefresh => State::Due,
        Outcome::Skipped | Outcome::Refreshed | Outcome::Superseded => State::Fresh,
    }
}

const COLUMNS: [Column; 7] = [
    Column { title: "SECRET", rank: 0 },
    Column { title: "PROVIDER", rank: 3 },
    Column { title: "STATE", rank: 0 },
    Column { title: "EXPIRES IN", rank: 0 },
    Column { title: "REFRESHED", rank: 2 },
    Column { title: "REFRESH TOKEN ENDS", rank: 1 },
    Column { title: "VERSIONS", rank: 4 },
];

fn print(context: &Context, arguments: &StatusArguments, statuses: &[Status]) -> io::Result<()> {
    if arguments.json {
        let mut out = io::stdout();
        writeln!(out, "{}", serde_json::to_string_pretty(statuses)?)?;
        return out.flush();
    }
    if arguments.watch.is_some() && io::stdout().is_terminal() {
        write!(io::stdout(), "\u{1b}[H\u{1b}[2J\u{1b}[3J")?;
    }
    let mut out = anstream::stdout().lock();
    let now = context.clock.now();
    let rows: Vec<Vec<Cell>> = statuses.iter().map(|status| row(status, now)).collect();
    if !rows.is_empty() {
        for line in table::lines(&COLUMNS, &rows, context.terminal.width()) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    for message in statuses.iter().filter_map(|status| status.message.as_ref()) {
        context.terminal.say(message);
    }
    Ok(())
}

fn row(status: &Status, now: DateTime<Utc>) -> Vec<Cell> {
    let none = || "-".to_owned();
    let in_time = |time: Option<DateTime<Utc>>| match time.map(|time| time - now) {
        Some(left) if left > TimeDelta::zero() => duration(left),
        Some(left) => format!("{} ago", duration(-left)),
        None => none(),
    };
    let ago = status.refreshed_at.map_or_else(none, |time| format!("{} ago", duration(now - time)));
    let versions = status.versions.map_or_else(none, |used| format!("{used} of {}", status.version_limit));
    vec![
        Cell::from(status.secret_id.clone()),
        status.provider.clone().unwrap_or_else(none).into(),
        Cell { text: status.state.text().to_owned(), style: status.state.style() },
        in_time(status.expires_at).into(),
        ago.into(),
        in_time(status.refresh_token_expires_at).into(),
        versions.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_how_a_token_stands() {
        for (outcome, has_expired, expected) in [
            (Outcome::Skipped, false, State::Fresh),
            (Outcome::WouldRefresh, false, State::Due),
            (Outcome::WouldRefresh, true, State::Expired),
            (Outcome::InProgress, true, State::Claimed),
            (Outcome::BackingOff, false, State::BackingOff),
            (Outcome::BackingOff, true, State::Expired),
            (Outcome::WouldRecover, true, State::Staged),
        ] {
            assert_eq!(state_of(outcome, has_expired), expected, "{outcome:?} {has_expired}");
        }
    }
}
