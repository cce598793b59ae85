//! Any answer of a provider, in the form of the fixtures (`HTTP/1.1 200 OK`, headers, an empty line, a body): by a second
//! reading of the contract the tokens are granted and can be written, or it is told in one line why not.

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

/// What was sent; the seeds quote it.
const REFRESH_TOKEN: &str = "rt-Zm9vYmFyLXJlZnJlc2g/+~8157";
const CLIENT_SECRET: &str = "s3cr+t/=&%:xYz-of-the-seeds";

/// Both sides of each boundary of what a status means: whatever status a body comes with, it is tried with these.
const BOUNDARIES: [u16; 10] = [200, 299, 300, 428, 429, 430, 499, 500, 599, 600];

/// No lifetime is believed to be longer, nor a wait.
const LONGEST: TimeDelta = TimeDelta::days(36_525);

pub fn target(input: &[u8]) {
    let (status, retry_after, body) = parts(input);
    let secrets = [Secret::from(REFRESH_TOKEN), Secret::from(CLIENT_SECRET)];
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let members = members(body);
    let read = |status| read(status, retry_after.as_deref(), body, now, &[&secrets[0], &secrets[1]]);
    for status in BOUNDARIES {
        assert_classified(&read(status), status, members.as_ref(), body);
    }
    let answer = read(status);
    match &answer {
        TokenResponse::Issued(_) => assert!((200..300).contains(&status), "{status}"),
        TokenResponse::Refused(refusal) => assert_told(&refusal.to_string(), members.as_ref()),
        TokenResponse::Failed(TransportError::Busy { what, retry_after }) => {
            assert_told(what, members.as_ref());
            assert!(retry_after.is_none() || status == 429);
            assert!(retry_after.unwrap_or_default() <= LONGEST.to_std().unwrap(), "{retry_after:?}");
        }
        TokenResponse::Failed(TransportError::MaybeSpent(what)) => assert_told(what, members.as_ref()),
        TokenResponse::Failed(TransportError::NotSent(what)) => panic!("an answer came: {what}"),
    }
    assert_classified(&answer, status, members.as_ref(), body);
    if let TokenResponse::Issued(granted) = answer {
        let new = granted.into_new_tokens(now, Duration::from_hours(1));
        assert_stored(&new, now, members.as_ref());
    }
}

/// Status, `Retry-After` and body.
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

/// The body's members, JSON or form; `None` where it is neither, or where this simple reading does not tell.
fn members(body: &[u8]) -> Option<Map<String, Value>> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    let is_form = text.split('&').any(|pair| pair.starts_with("access_token=") || pair.starts_with("error="));
    if text.starts_with(['<', '[', '"']) || !is_form || text.split('&').count() > 256 {
        return None;
    }
    let pairs = form_urlencoded::parse(text.as_bytes());
    Some(pairs.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect())
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

/// One line, short and without a secret: ours, or one that came with the answer.
fn assert_told(what: &str, members: Option<&Map<String, Value>>) {
    assert_one_printable_line(what, 450);
    // The other encodings are those of the request, in which a clumsy provider quotes it; this one is of the answer.
    if !what.contains('\\') {
        assert_no_secret(what, &[REFRESH_TOKEN.to_owned(), CLIENT_SECRET.to_owned()]);
    }
    let Some(members) = members else { return };
    let code = text(members, "error").unwrap_or_default();
    for name in ["access_token", "refresh_token", "id_token"] {
        let token = text(members, name).filter(|token| token.chars().count() >= 12 && !code.contains(token));
        assert!(!token.is_some_and(|token| what.contains(token)), "the answer's own {name} is told");
    }
}

/// Section 6 of the contract, on the parsed body.
fn assert_classified(answer: &TokenResponse, status: u16, members: Option<&Map<String, Value>>, body: &[u8]) {
    let Some(members) = members else {
        // Not even this much may be made of a page, or of what is no object.
        if matches!(body.trim_ascii().first(), None | Some(b'<' | b'[' | b'"')) {
            assert!(!matches!(answer, TokenResponse::Issued(_)), "no tokens are in a page");
            assert_eq!(
                matches!(answer, TokenResponse::Refused(_)),
                !(200..300).contains(&status) && !transient(status)
            );
        }
        return;
    };
    let no_error = match members.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Number(number)) => number.as_u64() == Some(0),
        Some(Value::String(text)) => ["", "null", "false", "0", "{}", "[]"].contains(&text.trim()),
        Some(Value::Array(errors)) => errors.is_empty(),
        Some(Value::Object(error)) => error.is_empty(),
        Some(Value::Bool(true)) => false,
    };
    let code = text(members, "error").filter(|_| !no_error).map(str::trim);
    let hubspot = text(members, "error").is_none() && text(members, "status").is_some_and(|s| s.starts_with("BAD_"));
    let refused = !no_error || hubspot || members.get("ok") == Some(&Value::Bool(false));
    let granted =
        !refused && members.get("access_token").and_then(Value::as_str).is_some_and(|token| !token.is_empty());
    match (code, answer) {
        (_, TokenResponse::Failed(TransportError::Busy { .. })) if status == 429 => {}
        (_, TokenResponse::Failed(_)) if transient(status) => {}
        _ if transient(status) => panic!("{status} is transient: {answer:?}"),
        (Some("temporarily_unavailable" | "server_error"), answer) => {
            assert!(matches!(answer, TokenResponse::Failed(TransportError::Busy { .. })), "{answer:?}");
        }
        (Some("invalid_grant"), answer) => assert_refused(answer, RefusalKind::ReauthorizationRequired),
        (Some("invalid_client" | "unauthorized_client"), answer) => assert_refused(answer, RefusalKind::ClientRejected),
        (Some("invalid_scope" | "invalid_request"), answer) => assert_refused(answer, RefusalKind::ProviderRejected),
        // Providers' own codes: some are transient, some mean one of the above.
        (Some(_), answer) => {
            assert!(matches!(answer, TokenResponse::Refused(_) | TokenResponse::Failed(TransportError::Busy { .. })))
        }
        (None, answer) if refused || !(200..300).contains(&status) => {
            assert!(matches!(answer, TokenResponse::Refused(_)), "{answer:?}");
        }
        (None, answer) if granted => assert!(matches!(answer, TokenResponse::Issued(_)), "{answer:?}"),
        (None, answer) => assert!(matches!(answer, TokenResponse::Failed(TransportError::MaybeSpent(_))), "{answer:?}"),
    }
}

fn transient(status: u16) -> bool {
    status == 429 || (500..600).contains(&status)
}

fn assert_refused(answer: &TokenResponse, kind: RefusalKind) {
    assert!(matches!(answer, TokenResponse::Refused(refusal) if refusal.kind == kind), "{kind:?}: {answer:?}");
}

/// What was granted can be written into a secret, and reads as what came.
fn assert_stored(new: &NewTokens, now: DateTime<Utc>, members: Option<&Map<String, Value>>) {
    assert!(new.expires_at > now && new.expires_at <= now + LONGEST, "{}", new.expires_at);
    let secret = TokenSecret::parse(r#"{"refreshToken":"r1","tokenResponse":{"kept":1.50}}"#).unwrap();
    let text = secret.with_new_tokens(new, Limits::SECRETS_MANAGER.version_bytes);
    let written = TokenSecret::parse(text.expose()).expect("what was granted can be written and read");
    assert_eq!(written.tokens.access_token.as_ref(), Some(&new.access_token));
    assert_eq!(&written.tokens.refresh_token, new.refresh_token.as_ref().unwrap_or(&secret.tokens.refresh_token));
    assert_eq!(written.expires_at, Some(new.expires_at));
    let Some(members) = members else { return };
    assert_eq!(members.get("access_token").and_then(Value::as_str), Some(new.access_token.expose()));
    let refresh_token = members.get("refresh_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    assert_eq!(refresh_token, new.refresh_token.as_ref().map(Secret::expose));
    let seconds = members.get("expires_in").and_then(Value::as_i64).filter(|seconds| *seconds > 0);
    if let Some(seconds) = seconds {
        assert_eq!(new.expires_at, now + TimeDelta::seconds(seconds.min(LONGEST.num_seconds())));
    }
    let Ok(Value::Object(stored)) = serde_json::from_str(text.expose()) else { return };
    let rest = stored["tokenResponse"].as_object().unwrap();
    assert!(rest.contains_key("kept"), "what earlier answers said stays");
    let all_kept = new.rest.is_empty() || rest.len() > 1 || members.contains_key("kept");
    assert!(
        all_kept || text.expose().len() + new.rest.to_text().expose().len() > Limits::SECRETS_MANAGER.version_bytes
    );
    for (name, value) in rest.iter().filter(|(name, _)| *name != "kept") {
        assert_eq!(members.get(name), Some(value), "what else was answered is kept as it was said");
    }
}
