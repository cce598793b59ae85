//! `tokenctl login`: a person consents, and the tokens are stored.

use std::{io::Write, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;

use super::{
    Context,
    arguments::LoginArguments,
    authorization::{MAX_REDIRECT_BYTES, Parts, RedirectError, Request},
    client::{
        Change, changed, changes_of, changes_of_registration, complete_client, draft_of, is_other_server, token_secret,
        without_server,
    },
    device::DeviceAuthorization,
    exchange::{Consent, Exchanging},
    failure::Failure,
    flow::Flow,
    loopback::{Browser, Loopback},
    page::Page,
    registration,
    server::{AuthorizationServer, LOGIN_SETTINGS, LoginSettings},
    store::{self, Store},
};
use crate::{
    error::ErrorType,
    oauth::grant::Grant,
    protocol::{self, Mode, new_tokens, observation::Observation},
    sanitize::sanitize_line,
    secret::Secret,
    store::{SecretStore, Version},
    token_secret::{NewTokens, TokenSecret, document::json_string, draft::Draft, member::Member},
};

/// How long an error of the browser is waited for.
const BROWSER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a look at the secret may take.
const LOOK_TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// Runs the command.
pub(super) async fn login(context: &Context, arguments: &LoginArguments) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
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

    let mut changes = changes_of(arguments, &old)?;
    let mut settings = LoginSettings::of(&old, secret_id)?;
    if settings == LoginSettings::default() {
        // A secret that another program made: the scopes that were granted are to be asked for again.
        settings.scope = old.scope();
    }
    let old_issuer = settings.issuer.clone();
    settings = settings.with(arguments);
    let mut server = AuthorizationServer::find(context, &settings, &changed(secret_id, &old, &changes)?).await?;
    let of_issuer = server.token_endpoint.as_deref().filter(|_| arguments.token_endpoint.is_none());
    if is_other_server(secret_id, &old, &changes, [old_issuer.as_deref(), settings.issuer.as_deref()], of_issuer)? {
        context
            .terminal
            .say("The secret was for another authorization server: tokenctl removes its client and its settings.");
        changes = without_server().into_iter().chain(changes).collect();
        settings = LoginSettings::default().with(arguments);
        server = AuthorizationServer::find(context, &settings, &changed(secret_id, &old, &changes)?).await?;
    }
    if let Some(endpoint) = server.token_endpoint.as_ref().filter(|_| arguments.token_endpoint.is_none()) {
        changes.push(Change::Own(Member::TokenEndpoint, json_string(endpoint)));
    }
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
    let result =
        finish(context, &store, secret_id, &exchanging, &server, (&changes, &token, current.as_ref()), consent).await;
    if let Some(browser) = browser {
        browser.show(page(secret_id, &result)).await;
    }
    for line in result? {
        context.terminal.say(&line);
    }
    Ok(())
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

/// Asks whether tokens that may be in use are to be replaced.
pub(super) async fn confirm(
    context: &Context,
    store: &Store,
    secret_id: &str,
    current: Option<&Version>,
    old: &Draft,
) -> Result<(), Failure> {
    if !old.has(Member::RefreshToken) {
        return confirm_other_document(context, secret_id, old).await;
    }
    if needs_consent(context, store, secret_id).await {
        return Ok(());
    }
    let expires_at = current.and_then(|version| TokenSecret::parse(version.body.expose()).ok()?.expires_at);
    let age = match expires_at.map(|end| end - context.clock.now()) {
        Some(left) if left > TimeDelta::zero() => format!(", and its access token is good for {}", duration(left)),
        Some(_) => ", and its access token has expired".to_owned(),
        None => String::new(),
    };
    let what = format!("secret `{secret_id}` has a refresh token{age}");
    ask(context, &what, "pass --yes to replace the tokens", "Replace the tokens?").await
}

/// Asks whether tokens are to be put into a document that seems to be for something else.
async fn confirm_other_document(context: &Context, secret_id: &str, old: &Draft) -> Result<(), Failure> {
    let names = old.names();
    if names.is_empty() || names.iter().any(|name| Member::is_name(name) || name == LOGIN_SETTINGS) {
        return Ok(());
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", sanitize_line(name, 40))).collect();
    let what = format!("secret `{secret_id}` has a document of something else ({})", names.join(", "));
    ask(context, &what, "pass --yes to write tokens into it", "Write tokens into it?").await
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
async fn needs_consent(context: &Context, store: &Store, secret_id: &str) -> bool {
    let Ok((refresher, _)) = store.refresher(context) else { return false };
    let deadline = context.clock.now() + LOOK_TIMEOUT;
    let request = protocol::Request { secret_id, mode: &Mode::DryRun, deadline };
    let outcome = refresher.run(request, &Observation::default()).await;
    outcome.is_err_and(|error| error.error_type() == ErrorType::ReauthorizationRequired)
}

async fn with_device(
    context: &Context,
    arguments: &LoginArguments,
    exchanging: &Exchanging,
    endpoint: &Url,
    server: &AuthorizationServer,
    ends_at: DateTime<Utc>,
) -> Result<Consent, Failure> {
    let device = DeviceAuthorization::request(context, &exchanging.client, endpoint, &server.scope()).await?;
    context.terminal.say(&device.instructions());
    if let Some(address) = device.address() {
        show_address(context, arguments, &address).await;
    }
    context.terminal.wait_until("Waiting for your consent", ends_at.min(device.ends_at));
    let tokens = device.tokens(context, exchanging, ends_at).await;
    context.terminal.clear();
    let (issued, sent_at) = tokens?;
    context.terminal.defer_interrupts();
    Ok(Consent { issued, sent_at, parameters: Vec::new() })
}

async fn with_redirect(
    context: &Context,
    arguments: &LoginArguments,
    request: Arc<Request>,
    listener: Option<Loopback>,
    exchanging: &Exchanging,
    ends_at: DateTime<Utc>,
) -> Result<(Consent, Option<Browser>), Failure> {
    let mut arrivals = listener.map(|listener| listener.serve(Arc::clone(&request)));
    context.terminal.say("Open this address, log in and consent:");
    show_address(context, arguments, request.address.as_str()).await;
    let is_interactive = context.terminal.is_interactive();
    context.terminal.say(match (&arrivals, is_interactive) {
        (Some(_), true) => {
            "If the browser is on another machine, it ends at an error page: paste the address of that page here, and press Enter. It is \
             not shown."
        }
        (Some(_), false) => "Waiting for the browser on this machine.",
        (None, _) => "The browser ends at the redirect address. Paste the whole address here, and press Enter. It is not shown.",
    });
    context.terminal.say(
        "If the browser shows an error of the provider instead, press Ctrl-C, and compare client_id and redirect_uri in the address with \
         the provider's settings.",
    );
    // Without a terminal, standard input is read only if nothing else can bring the code.
    let mut pasted = (is_interactive || arrivals.is_none()).then(|| context.terminal.hidden_lines());
    context.terminal.wait_until("Waiting for your consent", ends_at);
    let arrived = loop {
        tokio::select! {
            Some(arrival) = async { arrivals.as_mut()?.recv().await }, if arrivals.is_some() => {
                break Ok((arrival.redirect, Some(arrival.browser)));
            }
            line = async { pasted.as_mut()?.recv().await }, if pasted.is_some() => {
                let Some(line) = line else {
                    pasted = None;
                    if arrivals.is_none() {
                        break Err(Failure::usage("the input ended before the address was pasted"));
                    }
                    continue;
                };
                if line.expose().trim().is_empty() {
                    continue;
                }
                if line.expose().len() > MAX_REDIRECT_BYTES {
                    context.terminal.say(&format!("What you pasted is longer than {MAX_REDIRECT_BYTES} bytes."));
                    continue;
                }
                if line.expose().contains("code_challenge=") {
                    context.terminal.say("This is the address to open. Paste the address of the last page.");
                    continue;
                }
                match request.read_pasted(line.expose()) {
                    Ok(redirect) => break Ok((Ok(redirect), None)),
                    Err(RedirectError::Denied(message)) => break Ok((Err(message), None)),
                    Err(RedirectError::Wrong(problem)) => {
                        let problem = problem.replacen("the redirect", "What you pasted", 1);
                        context.terminal.say(&format!("{problem}. Paste the whole address of the last page."));
                    }
                    Err(RedirectError::NotOfThisLogin) => context.terminal.say(
                        "This is not the address of this login: it has another `state`, or none. Paste the whole address of the last page.",
                    ),
                }
            }
            () = context.clock.sleep(context.clock.until(ends_at)) => {
                break Err(Failure::person(format!(
                    "nobody consented within {} s; run the command again. If the browser showed an error of the provider, compare client_id \
                     and redirect_uri in the address with the provider's settings",
                    arguments.timeout
                )));
            }
        }
    };
    context.terminal.clear();
    let (redirect, browser) = arrived?;
    let result = match redirect {
        Ok(redirect) => exchanging.code(context, &request, redirect).await,
        Err(message) => Err(Failure::person(format!("{message}; to try again, run the command again"))),
    };
    match (result, browser) {
        (Ok(consent), browser) => Ok((consent, browser)),
        (Err(failure), None) => Err(failure),
        (Err(failure), Some(browser)) => {
            browser.show(Page::failed(&failure)).await;
            Err(failure)
        }
    }
}

/// Prints the address on standard output, and opens it.
async fn show_address(context: &Context, arguments: &LoginArguments, address: &str) {
    // A reader that has closed its end is no reason to give up.
    let _ = writeln!(std::io::stdout(), "{address}");
    if arguments.no_browser {
        return;
    }
    let address = address.to_owned();
    // In a thread of its own: a browser in text mode ends when the person ends it.
    let opening = tokio::task::spawn_blocking(move || webbrowser::open(&address).is_ok());
    if let Ok(Ok(false)) = tokio::time::timeout(BROWSER_TIMEOUT, opening).await {
        context.terminal.say("(No browser could be opened on this machine.)");
    }
}

/// Stores the tokens. Returns what to tell the person.
async fn finish(
    context: &Context,
    store: &Store,
    secret_id: &str,
    exchanging: &Exchanging,
    server: &AuthorizationServer,
    (changes, token, current): (&[Change], &TokenSecret, Option<&Version>),
    consent: Consent,
) -> Result<Vec<String>, Failure> {
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
    let written = store.write(context, secret_id, |now| {
        check_same_server(secret_id, current, now)?;
        render(now)
    });
    let written = match written.await {
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

/// Fails if the secret is for another authorization server now: it must not get these tokens.
fn check_same_server(secret_id: &str, before: Option<&Version>, now: Option<&Version>) -> Result<(), Failure> {
    let endpoint = |version: &Version| {
        let draft = draft_of(secret_id, version)?;
        Ok::<_, Failure>(token_secret(secret_id, &draft)?.client.token_endpoint)
    };
    match (before, now) {
        (Some(_), None) => Err(Failure::person(format!("secret `{secret_id}` was deleted while you logged in"))),
        (Some(before), Some(now)) if endpoint(before)? != endpoint(now)? => Err(Failure::person(format!(
            "somebody has changed the authorization server of secret `{secret_id}` while you logged in"
        ))),
        _ => Ok(()),
    }
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

/// The failure of a write, with the place where the tokens are now: a consent must not be lost.
pub(super) fn rescued(context: &Context, secret_id: &str, failure: &Failure, body: Result<Secret, Failure>) -> Failure {
    let rescue = body.ok().map(|body| store::rescue(secret_id, &body));
    let what = match rescue {
        Some(Ok(path)) => {
            let file = path.display();
            let command = context.store.command(&format!("adopt {secret_id} --yes < {file}"));
            format!(
                "THE TOKENS ARE IN THE FILE {file}, which only you can read. When the cause is corrected, run this, and delete the file:\n  \
                 {command}"
            )
        }
        Some(Err(error)) => format!("the tokens could not be written to a file either ({error}): log in again"),
        None => "log in again".to_owned(),
    };
    Failure::person(format!("{}\n{what}", failure.message))
}

/// A length of time, for people.
pub(super) fn duration(length: TimeDelta) -> String {
    match length.num_seconds() {
        seconds @ ..120 => format!("{} s", seconds.max(0)),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
