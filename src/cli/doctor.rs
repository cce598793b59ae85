//! `tokenctl doctor`: checks everything that a refresh needs, and spends no token. The provider gets a request without credentials.

use std::{io::Write, time::Duration};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, Request, Url, header::DATE};

use super::{
    Context,
    arguments::DoctorArguments,
    client::client_settings,
    failure::{Exit, Failure},
    given::problems,
    status::{State, status_of},
    store::{self, Store},
    targets::Target,
    terminal::duration,
};
use crate::{
    error::root_cause,
    oauth::{client::Client, grant::Grant},
    protocol::{decision, options::Options},
    sanitize::sanitize_line,
    store::{Label, SecretStore, StoreError, Version, VersionId},
    token_secret::{TokenSecret, check_publication},
};

/// How long the provider has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A JWT is good for less than a minute around its issue (`docs/grants.md`).
const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(30);

/// An end that is nearer is a warning.
const SOON: TimeDelta = TimeDelta::days(7);

/// What a check has found, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    Good,
    /// It works, and a person should know it.
    Warning,
    /// It could not be checked.
    Unknown,
    Wrong,
}

impl Finding {
    fn word(self) -> (&'static str, Style) {
        match self {
            Self::Good => ("ok", AnsiColor::Green.on_default()),
            Self::Warning => ("warning", AnsiColor::Yellow.on_default()),
            Self::Unknown => ("unknown", AnsiColor::Magenta.on_default()),
            Self::Wrong => ("wrong", AnsiColor::Red.on_default().bold()),
        }
    }
}

/// The findings, printed as they come.
struct Checklist {
    worst: Finding,
}

impl Checklist {
    fn add(&mut self, finding: Finding, what: &str, text: &str) {
        self.worst = self.worst.max(finding);
        let (word, style) = finding.word();
        let text = sanitize_line(text, 2000);
        let _ = writeln!(anstream::stdout(), "{style}{word:<8}{style:#}{what:<15}{text}");
    }
}

/// Runs the command.
pub(super) async fn doctor(context: &Context, arguments: &DoctorArguments) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
    let store = Store::open(context).await?;
    let mut list = Checklist { worst: Finding::Good };
    check(context, arguments, &store, secret_id, &mut list).await?;
    match list.worst {
        Finding::Good | Finding::Warning => Ok(()),
        Finding::Unknown => Err(Failure::silent(Exit::NotDone)),
        Finding::Wrong => Err(Failure::silent(Exit::NeedsPerson)),
    }
}

async fn check(
    context: &Context,
    arguments: &DoctorArguments,
    store: &Store,
    secret_id: &str,
    list: &mut Checklist,
) -> Result<(), Failure> {
    let options = store::options()?;
    let names = &options.member_names;
    let refresher = store.refresher(context, options.clone());
    let Some(version) = store.current(secret_id).await? else {
        let place = store.secrets.place();
        return Err(Failure::person(format!("secret `{secret_id}` does not exist in {place}, or has no value")));
    };
    list.add(Finding::Good, "secret", &format!("version {} in {}", version.id, store.secrets.place()));
    let Some(token) = check_document(&version, names, list) else { return Ok(()) };
    let client = check_client(store, secret_id, &token, &options, list).await;
    if let Some(client) = &client {
        check_endpoint(context, &client.token_endpoint, list).await;
    }
    check_permissions(store, secret_id, arguments.write, &version, list).await;
    check_times(&token, &options, context.clock.now(), list);
    check_versions(store, secret_id, &token, &options, context.clock.now(), list).await;
    let target = Target { secret_id: secret_id.to_owned(), is_named: true };
    if let Some(status) = status_of(context, store, &refresher, names, &target).await {
        let finding = match status.state {
            State::Unknown => Finding::Unknown,
            state if state.needs_person() => Finding::Wrong,
            _ => Finding::Good,
        };
        let message = status.message.map(|message| format!(": {message}")).unwrap_or_default();
        list.add(finding, "state", &format!("{}{message}", status.state.text()));
    }
    list.add(
        Finding::Good,
        "not checked",
        "whether the provider accepts the tokens, how often the function runs, who else may read the secret",
    );
    Ok(())
}

fn check_document(
    version: &Version,
    names: &crate::token_secret::member_names::MemberNames,
    list: &mut Checklist,
) -> Option<TokenSecret> {
    match TokenSecret::parse_with(version.body.expose(), names) {
        Ok(token) => {
            let what = match &token.tokens.grant {
                Grant::RefreshToken(_) => "a token secret with a refresh token".to_owned(),
                Grant::Other(grant_type) => format!("a token secret with the grant `{grant_type}`"),
            };
            list.add(Finding::Good, "document", &what);
            for warning in token.warnings() {
                list.add(Finding::Warning, "document", &warning);
            }
            Some(token)
        }
        Err(_) if check_publication(version.body.expose()).is_ok() => {
            list.add(Finding::Wrong, "document", "it is a publication of the function: name the token secret instead");
            None
        }
        Err(problem) => {
            for problem in problems(&version.body, Some(problem)) {
                list.add(Finding::Wrong, "document", &problem);
            }
            None
        }
    }
}

async fn check_client(
    store: &Store,
    secret_id: &str,
    token: &TokenSecret,
    options: &Options,
    list: &mut Checklist,
) -> Option<Client> {
    let settings = match client_settings(store, secret_id, token).await {
        Ok(settings) => settings.or(options.client.clone()),
        Err(failure) => {
            list.add(Finding::Wrong, "client", &failure.message);
            return None;
        }
    };
    match Client::new(settings, &token.tokens.grant) {
        Ok(client) => {
            let method = client.auth_method.name();
            let text = format!("{}, authenticates by {method}", client.endpoint_without_query());
            list.add(Finding::Good, "client", &text);
            Some(client)
        }
        Err(problem) => {
            let text = format!("{problem} (the environment here may differ from the function's)");
            list.add(Finding::Wrong, "client", &text);
            None
        }
    }
}

/// Any answer shows that the way is open. A token endpoint rejects a GET.
async fn check_endpoint(context: &Context, endpoint: &Url, list: &mut Checklist) {
    let request = Request::new(Method::GET, endpoint.clone());
    let host = endpoint.host_str().unwrap_or_default();
    let answer = tokio::time::timeout(TIMEOUT, context.http.provider.execute(request)).await;
    match answer {
        Err(_) => {
            let text = format!("{host} did not answer within {} s", TIMEOUT.as_secs());
            list.add(Finding::Unknown, "endpoint", &text);
        }
        Ok(Err(error)) => {
            let text = format!("{host} cannot be reached: {}", root_cause(&error.without_url()));
            list.add(Finding::Unknown, "endpoint", &text);
        }
        Ok(Ok(response)) => {
            let secure = if endpoint.scheme() == "https" { "over TLS" } else { "on this machine" };
            list.add(
                Finding::Good,
                "endpoint",
                &format!("{host} answers {secure} (status {})", response.status().as_u16()),
            );
            let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            let Some(date) = date else { return };
            let difference = context.clock.now() - date.to_utc();
            let text = format!("this machine and {host} differ by {}", duration(difference.abs()));
            let is_near = difference.abs() <= MAX_CLOCK_DIFFERENCE;
            list.add(if is_near { Finding::Good } else { Finding::Warning }, "clock", &text);
        }
    }
}

async fn check_permissions(store: &Store, secret_id: &str, write: bool, version: &Version, list: &mut Checklist) {
    let mut add = |what: &str, result: Result<(), StoreError>| match result {
        Ok(()) => list.add(Finding::Good, "permission", &format!("may {what}")),
        Err(error) => {
            let finding = match &error {
                StoreError::AccessDenied { .. } => Finding::Wrong,
                _ => Finding::Unknown,
            };
            list.add(finding, "permission", &store.failure(secret_id, error).message);
        }
    };
    add("read the secret", Ok(()));
    add("list its versions", store.secrets.list(secret_id).await.map(drop));
    if !write {
        let text =
            "to write is not tried: pass --write, which puts one version with the same text beside the current one";
        list.add(Finding::Good, "permission", text);
        return;
    }
    let id = VersionId::random();
    let put = store.secrets.put(secret_id, &id, Label::Entered, &version.body).await;
    let is_put = put.is_ok();
    add("put a version", put);
    if is_put {
        add("move a label", store.secrets.remove_label(secret_id, Label::Entered, &id).await);
    }
}

fn check_times(token: &TokenSecret, options: &Options, now: DateTime<Utc>, list: &mut Checklist) {
    let interval = decision::refresh_interval(token, options.refresh_margin);
    match token.expires_at {
        None => list.add(Finding::Warning, "expiry", "no expiry is known: the next run refreshes the token"),
        Some(end) => {
            let text =
                if end > now { format!("in {}", duration(end - now)) } else { format!("{} ago", duration(now - end)) };
            list.add(
                Finding::Good,
                "expiry",
                &format!("{text}; a token is refreshed about every {}", duration(interval)),
            );
        }
    }
    for (what, end) in
        [("refresh token", token.refresh_token_expires_at), ("client secret", token.client.client_secret_expires_at)]
    {
        let Some(end) = end else { continue };
        let (finding, text) = match end - now {
            left if left <= TimeDelta::zero() => (Finding::Wrong, format!("ended {} ago", duration(-left))),
            left if left <= SOON => (Finding::Warning, format!("ends in {}", duration(left))),
            left => (Finding::Good, format!("ends in {}", duration(left))),
        };
        list.add(finding, what, &text);
    }
}

async fn check_versions(
    store: &Store,
    secret_id: &str,
    token: &TokenSecret,
    options: &Options,
    now: DateTime<Utc>,
    list: &mut Checklist,
) {
    let Ok(versions) = store.secrets.list(secret_id).await else { return };
    let limits = store.secrets.limits();
    let room = decision::room(&versions, limits, now);
    let (used, limit) = (versions.len(), limits.versions);
    let interval = decision::refresh_interval(token, options.refresh_margin).num_seconds().max(1);
    let of_refresh = if token.tokens.refresh_token().is_some() { 2 } else { 1 };
    let day = 86_400 / interval * of_refresh;
    let (finding, more) = if usize::try_from(day).is_ok_and(|day| day >= limit) {
        (Finding::Wrong, "; more than fit into a day: see CLAIM=never (docs/settings.md)")
    } else if room < 2 {
        (Finding::Wrong, "; there is no room for a refresh: versions make room 24 hours after they were written")
    } else {
        (Finding::Good, "")
    };
    let text = format!("{used} of {limit} used, room for {room} now; refreshes need about {day} a day{more}");
    list.add(finding, "versions", &text);
}
