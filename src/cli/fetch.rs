//! One request and its JSON response, bounded in time and size.

use std::time::Duration;

use reqwest::Request;

use super::failure::Failure;
use crate::{
    error::root_cause,
    http_client::read_bounded,
    sanitize::{redact, sanitize_line},
    secret::Secret,
    token_secret::document::Document,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 256 * 1024;

/// A response that is a JSON object.
pub(super) struct Fetched {
    pub status: u16,
    pub document: Document,
}

/// Sends a request and reads its response. `who`: the endpoint, for messages.
pub(super) async fn fetch(http: &reqwest::Client, request: Request, who: &str) -> Result<Fetched, Failure> {
    let work = async {
        let response = http.execute(request).await.map_err(|error| {
            // The address may have a key in its query.
            Failure::later(format!(
                "{who} did not answer: {}",
                sanitize_line(&root_cause(&error.without_url()).to_string(), 200)
            ))
        })?;
        let status = response.status().as_u16();
        let body =
            read_bounded(response, MAX_BYTES).await.map_err(|problem| Failure::later(format!("{who}: {problem}")))?;
        Ok::<_, Failure>((status, body))
    };
    let timeout = || Failure::later(format!("{who} did not answer within {} s", TIMEOUT.as_secs()));
    let (status, body) = tokio::time::timeout(TIMEOUT, work).await.map_err(|_| timeout())??;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    match Document::parse(text) {
        Ok(document) => Ok(Fetched { status, document }),
        Err(_) if (500..600).contains(&status) => Err(Failure::later(format!("{who} answered {status}"))),
        Err(_) => Err(Failure::person(format!("{who} answered {status} without a JSON object; check the address"))),
    }
}

/// The text of a member.
pub(super) fn text(document: &Document, name: &str) -> Option<Secret> {
    serde_json::from_str::<String>(document.get(name)?).ok().filter(|text| !text.is_empty()).map(Secret::from)
}

/// The text of a member that is printed.
pub(super) fn line(document: &Document, name: &str) -> Option<String> {
    text(document, name).map(|text| sanitize_line(text.expose(), 200))
}

/// `error` and `error_description` of an error response (RFC 6749 section 5.2, RFC 7591 section 3.2.2), without the secrets that were sent.
pub(super) fn error(fetched: &Fetched, sent: &[&Secret]) -> String {
    let text = |name: &str| text(&fetched.document, name).map(|text| redact(text.expose(), sent));
    let error = text("error").map(|error| format!(", {error}")).unwrap_or_default();
    let description = text("error_description").map(|text| format!(": {text}")).unwrap_or_default();
    format!("status {}{error}{description}", fetched.status)
}
