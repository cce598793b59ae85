//! Waits for the person's consent, and exchanges what it brings.

use std::{io::Write, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::Url;

use super::{
    Context,
    arguments::LoginArguments,
    authorization::{MAX_REDIRECT_BYTES, RedirectError, Request},
    device::DeviceAuthorization,
    exchange::{Consent, Exchanging},
    failure::Failure,
    loopback::{Browser, Loopback},
    page::Page,
    server::AuthorizationServer,
};

/// How long an error of the browser is waited for.
const BROWSER_TIMEOUT: Duration = Duration::from_millis(500);

/// By the device flow.
pub(super) async fn with_device(
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

/// By a redirect, which arrives at the listener or is pasted.
pub(super) async fn with_redirect(
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
