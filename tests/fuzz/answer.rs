//! Any response of a provider, in the form of the fixtures (`HTTP/1.1 200 OK`, headers, an empty line, a body). By a second
//! implementation of the rules it has tokens that can be written, or the error says in one line why not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use token_refresher::{
    oauth::response::{RefusalKind, TokenResponse, TransportError, read},
    secret::Secret,
    store::Limits,
    token_secret::{NewTokens, TokenSecret},
};

use crate::{support::output::assert_no_secret, text::assert_one_printable_line};

/// The secrets in the request. The seeds quote them.
const REFRESH_TOKEN: &str = "rt-Zm9vYmFyLXJlZnJlc2g/+~8157";
const CLIENT_SECRET: &str = "s3cr+t/=&%:xYz-of-the-seeds";

/// Both sides of each boundary between the meanings of a status. Every body is tried with each of these.
const BOUNDARIES: [u16; 15] = [200, 299, 300, 407, 408, 409, 424, 425, 426, 428, 429, 430, 499, 500, 599];

/// The longest lifetime that is believed.
const LONGEST: TimeDelta = TimeDelta::days(3_653);

/// The longest wait that is accepted.
const LONGEST_WAIT: TimeDelta = TimeDelta::days(36_525);

pub fn target(input: &[u8]) {
    let (status, retry_after, body) = parts(input);
    let secrets = [Secret::from(REFRESH_TOKEN), Secret::from(CLIENT_SECRET)];
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let members = members(body);
    let read = |status| read(status, retry_after.as_deref(), body, now, &[&secrets[0], &secrets[1]]);
    for status in BOUNDARIES {
        assert_classified(&read(status), status, members.as_ref(), body);
    }
    let response = read(status);
    match &response {
        TokenResponse::Issued(_) => assert!((200..300).contains(&status), "{status}"),
        TokenResponse::Refused(refusal) => assert_description(&refusal.to_string(), members.as_ref()),
        TokenResponse::Failed(TransportError::Busy { what, retry_after, .. }) => {
            assert_description(what, members.as_ref());
            assert!(retry_after.is_none() || status == 429);
            assert!(retry_after.unwrap_or_default() <= LONGEST_WAIT.to_std().unwrap(), "{retry_after:?}");
        }
        TokenResponse::Failed(TransportError::MaybeSpent { what, .. }) => assert_description(what, members.as_ref()),
        TokenResponse::Failed(error @ (TransportError::NotSent(_) | TransportError::NotSigned(_))) => {
            panic!("there was a response: {error:?}")
        }
        TokenResponse::Unreadable(kept) => {
            assert!((200..300).contains(&status), "{status}");
            // Names are compared by their ASCII letters.
            let letters: String = kept.text.expose().chars().filter(char::is_ascii_alphanumeric).collect();
            let letters = letters.to_ascii_lowercase();
            let names_tokens = ["token", "access", "refresh", "jwt"].iter().any(|name| letters.contains(name));
            assert!(names_tokens || kept.text.expose().contains("\\u"), "what is kept looks like tokens");
            kept.members.iter().for_each(|name| assert_one_printable_line(name, 42));
        }
    }
    assert_classified(&response, status, members.as_ref(), body);
    if let TokenResponse::Issued(issued) = response {
        let new = issued.into_new_tokens(now, Duration::from_hours(1));
        assert_stored(&new, now, members.as_ref());
    }
}

/// The status, the `Retry-After` header and the body of an input.
fn parts(input: &[u8]) -> (u16, Option<String>, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n").map(|at| (at, at + 2));
    let end = end.or(input.windows(4).position(|four| four == b"\r\n\r\n").map(|at| (at, at + 4)));
    let (head, body) = end.map_or((&b""[..], input), |(head, body)| (&input[..head], &input[body..]));
    let head = String::from_utf8_lossy(head);
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let mut headers = head.lines().rev().filter_map(|line| line.split_once(':'));
    let retry_after = headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    (status.unwrap_or(200), retry_after.map(|(_, value)| value.to_owned()), body)
}

/// The members of the body, in JSON or in a form. `None` if it is neither, or if this simple parser cannot decide.
fn members(body: &[u8]) -> Option<Map<String, Value>> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    let names: Option<Vec<&str>> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map(|(name, _)| name))
        .collect();
    let names = names?;
    let is_form = names.iter().any(|name| *name == "error" || name.to_ascii_lowercase().contains("token"))
        && names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.%[]+".contains(&byte)));
    if text.starts_with(['<', '[', '"']) || !is_form || text.split('&').count() > 256 {
        return None;
    }
    let pairs = form_urlencoded::parse(text.as_bytes());
    Some(pairs.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect())
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

/// Fails unless the description is one short line without a secret of the request or of the response.
fn assert_description(what: &str, members: Option<&Map<String, Value>>) {
    assert_one_printable_line(what, 450);
    // A provider can quote the request in the encodings of the request. Backslash escapes are only in the response.
    if !what.contains('\\') {
        assert_no_secret(what, &[REFRESH_TOKEN.to_owned(), CLIENT_SECRET.to_owned()]);
    }
    let Some(members) = members else { return };
    let code = text(members, "error").unwrap_or_default();
    for name in ["access_token", "refresh_token", "id_token"] {
        let token = text(members, name).filter(|token| token.chars().count() >= 12 && !code.contains(token));
        assert!(!token.is_some_and(|token| what.contains(token)), "the description shows the {name} of the response");
    }
}

/// Fails unless the response is classified by the rules, which this applies to the parsed body. It leaves out the words of an error.
fn assert_classified(response: &TokenResponse, status: u16, members: Option<&Map<String, Value>>, body: &[u8]) {
    let is_success = (200..300).contains(&status);
    if transient(status) {
        assert!(matches!(response, TokenResponse::Failed(_)), "{status} is transient: {response:?}");
        return;
    }
    if !is_success {
        let is_refused = matches!(response, TokenResponse::Refused(_) | TokenResponse::Failed(_));
        assert!(is_refused, "{status}: {response:?}");
    }
    let Some(members) = members else {
        // A page, or JSON that is not an object. (Other bodies may be compressed, or in UTF-16.)
        if body.trim_ascii().is_empty() {
            assert_eq!(matches!(response, TokenResponse::Refused(_)), !is_success && !timed_out(status));
        }
        return;
    };
    // In any style of writing; and no second refresh token, which may be one.
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let names_no_error = members.keys().all(|name| {
        let name_of = plain(name);
        !["error", "errors", "ok", "success", "status", "code"].contains(&name_of.as_str())
            && (!name_of.contains("refresh") || name == "refresh_token")
    }) && members.get("refresh_token").is_none_or(Value::is_string)
        && members.values().all(|value| !value.is_object() && !value.is_array());
    let is_printable = |value: &Value| {
        let is_printable = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        value.as_str().is_none_or(|text| is_printable(text) && text.trim_matches(' ') == text)
    };
    let access_token = text(members, "access_token");
    let are_printable = ["access_token", "refresh_token", "refreshToken"]
        .iter()
        .filter_map(|name| members.get(*name))
        .all(is_printable);
    if is_success && access_token.is_some() && names_no_error {
        let is_issued = matches!(response, TokenResponse::Issued(_));
        assert_eq!(is_issued, are_printable, "{response:?}");
    }
    // A code of RFC 6749 and nothing else: no words decide otherwise.
    let code = members.get("error").and_then(Value::as_str).map(str::trim).filter(|_| members.len() == 1);
    match code {
        Some("invalid_grant") => assert_refused(response, RefusalKind::ReauthorizationRequired),
        Some("invalid_client" | "unauthorized_client") => assert_refused(response, RefusalKind::ClientRejected),
        Some("invalid_scope" | "invalid_request") => assert_refused(response, RefusalKind::ProviderRejected),
        Some("temporarily_unavailable") => {
            assert!(matches!(response, TokenResponse::Failed(TransportError::Busy { .. })), "{response:?}");
        }
        Some("server_error") => assert!(matches!(response, TokenResponse::Failed(_)), "{response:?}"),
        _ => {}
    }
    // What looks like tokens is never dropped.
    if is_success && access_token.is_some() {
        let is_kept = matches!(response, TokenResponse::Issued(_) | TokenResponse::Unreadable(_));
        assert!(is_kept || !names_no_error, "{response:?}");
    }
}

fn transient(status: u16) -> bool {
    status == 429 || (500..600).contains(&status)
}

/// Transient too, unless the body says that the request was refused.
fn timed_out(status: u16) -> bool {
    matches!(status, 408 | 425)
}

fn assert_refused(response: &TokenResponse, kind: RefusalKind) {
    assert!(matches!(response, TokenResponse::Refused(refusal) if refusal.kind == kind), "{kind:?}: {response:?}");
}

/// Fails unless the tokens can be written into a secret, and the result has the values of the response.
fn assert_stored(new: &NewTokens, now: DateTime<Utc>, members: Option<&Map<String, Value>>) {
    assert!(new.expires_at > now && new.expires_at <= now + LONGEST, "{}", new.expires_at);
    let secret = TokenSecret::parse(r#"{"refreshToken":"r1","tokenResponse":{"kept":1.50}}"#).unwrap();
    let text = secret.with_new_tokens(new, Limits::SECRETS_MANAGER.version_bytes);
    let written = TokenSecret::parse(text.expose()).expect("the written text is a token secret");
    assert_eq!(written.tokens.access_token.as_ref(), Some(&new.access_token));
    assert_eq!(written.tokens.refresh_token(), new.refresh_token.as_ref().or(secret.tokens.refresh_token()));
    assert_eq!(written.expires_at, Some(new.expires_at));
    let Some(members) = members.filter(|members| members.contains_key("access_token")) else { return };
    let is_text = |name: &str| members.get(name).and_then(Value::as_str).filter(|token| !token.is_empty());
    let Some(access_token) = is_text("access_token") else { return };
    assert_eq!(access_token, new.access_token.expose());
    if let Some(refresh_token) = is_text("refresh_token") {
        assert_eq!(Some(refresh_token), new.refresh_token.as_ref().map(Secret::expose));
    }
    // Another member may say it in seconds.
    let others = ["expires_in_sec", "expires_in_secs", "expires_in_seconds", "expiresInSec", "expiresInSeconds"];
    let seconds = members
        .get("expires_in")
        .and_then(Value::as_i64)
        .filter(|seconds| (1..=LONGEST.num_seconds()).contains(seconds));
    if let Some(seconds) = seconds.filter(|_| !others.iter().any(|name| members.contains_key(*name))) {
        assert_eq!(new.expires_at, now + TimeDelta::seconds(seconds));
    }
    let Ok(Value::Object(stored)) = serde_json::from_str(text.expose()) else { return };
    let rest = stored["tokenResponse"].as_object().unwrap();
    assert!(rest.contains_key("kept"), "a member of an earlier response is missing");
    let all_kept = new.rest.is_empty() || rest.len() > 1 || members.contains_key("kept");
    assert!(
        all_kept || text.expose().len() + new.rest.to_text().expose().len() > Limits::SECRETS_MANAGER.version_bytes
    );
    for (name, value) in rest.iter().filter(|(name, _)| *name != "kept") {
        assert_eq!(members.get(name), Some(value), "{name} differs from the response");
    }
}
