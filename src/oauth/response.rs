//! Reads a token endpoint's response: tokens, an error response (RFC 6749 section 5.2) or neither. Tolerates what providers do
//! differently from RFC 6749. Opens no socket.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use super::issued::IssuedTokens;
use super::{
    body::Body,
    issued::{self, FoundToken},
    lifetime::HUNDRED_YEARS,
    refusal::ErrorText,
    words::{self, Meaning},
};
use crate::{
    kms::SigningError,
    sanitize::{redact, sanitize_line},
    secret::Secret,
    token_secret::document::Document,
};

/// How many members of a response a message names.
const MAX_NAMED_MEMBERS: usize = 12;

/// A longer token needs no redaction of its own: no message is that long, and a part of it is redacted as any long word is.
const MAX_PRINTED_TOKEN_BYTES: usize = 4096;

/// The result of an exchange.
#[derive(Debug)]
pub enum TokenResponse {
    /// New tokens.
    Issued(IssuedTokens),
    /// A refusal. [`ErrorResponse::is_final`]: whether asking again is useless.
    Refused(ErrorResponse),
    /// No usable response; another try may succeed.
    Failed(TransportError),
    /// What looks like tokens and cannot be understood: it must not be lost.
    Unreadable(UnreadableTokens),
}

/// A successful response that looks like tokens and cannot be understood.
#[derive(Debug)]
pub struct UnreadableTokens {
    /// The HTTP status.
    pub status: u16,
    /// The text of the response.
    pub text: Secret,
    /// The names of its members, sanitized; empty if it is not an object.
    pub members: Vec<String>,
    /// What looks like a token in it.
    pub tokens: Vec<Secret>,
}

/// An error response, sanitized. It is part of a stored format (`docs/compatibility.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorResponse {
    /// What it means.
    pub kind: RefusalKind,
    /// The HTTP status.
    pub status: u16,
    /// The error code; `None` for a bare status.
    pub error: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Where a redirect leads, without its query.
    #[serde(skip)]
    pub location: Option<String>,
}

/// What a refusal means for the person who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RefusalKind {
    /// The grant has ended: a person must consent again.
    ReauthorizationRequired,
    /// The client is unknown or not allowed.
    ClientRejected,
    /// Another refusal.
    ProviderRejected,
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        match &self.error {
            Some(error) => write!(f, ", {error}")?,
            None if (300..400).contains(&self.status) => write!(f, ", a redirect, which is not followed")?,
            None => write!(f, " without an OAuth error")?,
        }
        match &self.description {
            Some(description) => write!(f, ": {description}"),
            None => Ok(()),
        }
    }
}

impl ErrorResponse {
    /// Whether the same request will be refused again. Other refusals back off, and the request is sent again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let is_known = |code: &String| words::is_known_refusal(code);
        self.kind != RefusalKind::ProviderRejected || self.error.as_ref().is_some_and(is_known)
    }

    /// Whether the provider may expect JSON instead of a form: it says so by the status, or speaks of JSON.
    #[must_use]
    pub fn may_want_json(&self) -> bool {
        let mut texts = [&self.error, &self.description].into_iter().flatten();
        let says_json = |text: &String| text.to_ascii_lowercase().replace("json web token", "").contains("json");
        self.status == 415 || texts.any(says_json)
    }
}

/// Why there is no usable response. Each text continues a sentence that begins with the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The request was not sent: the provider cannot have received it.
    NotSent(String),
    /// The request was not sent, because its JWT could not be signed.
    NotSigned(SigningError),
    /// The provider asks to wait and has not spent the token.
    Busy {
        /// Its text.
        what: String,
        /// The HTTP status. 429 applies to the whole endpoint. Another status may apply to this token only.
        status: u16,
        /// How long to wait, if it names a time.
        retry_after: Option<Duration>,
    },
    /// The request was sent: the provider may have spent the token.
    MaybeSpent {
        /// What happened.
        what: String,
        /// Whether the provider has responded: then it is done with the request.
        responded: bool,
    },
}

impl TransportError {
    /// Whether nothing more can come of this attempt: nothing was sent, or the response was complete.
    #[must_use]
    pub const fn ends_attempt(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::NotSigned(_) | Self::Busy { .. } => true,
            Self::MaybeSpent { responded, .. } => *responded,
        }
    }
}

/// Reads a response. `secrets`: what the provider knows and must not make us print.
#[must_use]
pub fn read(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    now: DateTime<Utc>,
    secrets: &[&Secret],
) -> TokenResponse {
    let body = Body::read(body);
    let document = body.document.as_ref();
    let is_success = (200..300).contains(&status);
    let mut found = document.map(issued::tokens_in).unwrap_or_default();
    // The token that was sent is not a new one, even if the response repeats it.
    found.retain(|found| !secrets.contains(&&found.token));
    // A response that contains tokens must not make us print them.
    let printable =
        found.iter().map(|found| &found.token).filter(|token| token.expose().len() <= MAX_PRINTED_TOKEN_BYTES);
    let secrets: Vec<&Secret> = secrets.iter().copied().chain(printable).collect();
    let error_text = document.and_then(|document| ErrorText::read(document, &secrets)).unwrap_or_default();
    let ErrorText { meaning, is_explicit, is_denied, .. } = error_text;
    let is_known_error = is_denied || (is_explicit && meaning.is_some());
    // Beside an access token, a `message` alone is not an error: `{"access_token": …, "message": …}`.
    if is_success && let Some(issued) = document.and_then(|document| issued::issued_tokens(document, is_explicit, now))
    {
        let leaves_out_a_refresh_token =
            issued.refresh_token.is_none() && found.iter().any(FoundToken::is_refresh_token);
        return if issued.can_be_stored() && !leaves_out_a_refresh_token && !is_known_error {
            TokenResponse::Issued(issued)
        } else {
            TokenResponse::Unreadable(unreadable(status, &body, &secrets, &found))
        };
    }
    // A response that may contain new tokens must not be lost. A known error has issued none.
    let names_tokens = match document {
        Some(_) => !found.is_empty(),
        None => !body.is_page() && issued::names_access_token(&body.text),
    };
    if is_success && names_tokens && !is_known_error {
        return TokenResponse::Unreadable(unreadable(status, &body, &secrets, &found));
    }
    if let Some(error) = transport_error(status, &error_text, retry_after, now) {
        return TokenResponse::Failed(error);
    }
    let ErrorText { error, description, .. } = error_text;
    if !is_success || is_explicit || error.is_some() || description.is_some() {
        let kind = match meaning {
            Some(Meaning::Refused(kind)) => kind,
            _ => RefusalKind::ProviderRejected,
        };
        return TokenResponse::Refused(ErrorResponse { kind, status, error, description, location: None });
    }
    let names = document.map(|document| member_names(document, &secrets)).unwrap_or_default();
    let members = match names.join(", ") {
        _ if body.is_page() => " (it is a web page: is tokenEndpoint right?)".to_owned(),
        _ if body.text.is_empty() => " (it is empty)".to_owned(),
        names if names.is_empty() => String::new(),
        names => format!(" (its members: {names})"),
    };
    TokenResponse::Failed(TransportError::MaybeSpent {
        what: format!("answered {status} without an access token that could be read{members}"),
        responded: true,
    })
}

/// The error if another try may succeed. Some providers put into the body what others express by the status.
fn transport_error(
    status: u16,
    error_text: &ErrorText,
    retry_after: Option<&str>,
    now: DateTime<Utc>,
) -> Option<TransportError> {
    let meaning = error_text.meaning;
    let refused = matches!(meaning, Some(Meaning::Refused(_)));
    let busy = status == 429 || (status == 425 && !refused) || meaning == Some(Meaning::Busy);
    // A timeout or a failure of the server. It may have processed the request.
    let failed = (500..600).contains(&status) || (status == 408 && !refused) || meaning == Some(Meaning::Failed);
    let mut what = format!("answered {status}");
    if let Some(error) = &error_text.error {
        what = format!("{what}, {error}");
    }
    if let Some(description) = &error_text.description {
        what = format!("{what}: {description}");
    }
    if busy {
        let retry_after = (status == 429).then(|| wait(retry_after, now)).flatten();
        return Some(TransportError::Busy { what, status, retry_after });
    }
    // A gateway may answer 5xx although the token endpoint behind it did its work.
    failed.then_some(TransportError::MaybeSpent { what, responded: true })
}

fn unreadable(status: u16, body: &Body, secrets: &[&Secret], found: &[FoundToken]) -> UnreadableTokens {
    let members = body.document.as_ref().map(|document| member_names(document, secrets)).unwrap_or_default();
    let tokens = found.iter().map(|found| found.token.clone()).collect();
    UnreadableTokens { status, text: body.text.as_str().into(), members, tokens }
}

/// The names of the members, for a message. A name with more than a few digits may be a token.
fn member_names(document: &Document, secrets: &[&Secret]) -> Vec<String> {
    let names = document.members().take(MAX_NAMED_MEMBERS).map(|(name, _)| name.chars().take(64).collect::<String>());
    names
        .map(|name| match name.bytes().filter(u8::is_ascii_digit).count() {
            0..=3 => format!("`{}`", sanitize_line(&redact(&name, secrets), 40)),
            _ => "`…`".to_owned(),
        })
        .collect()
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 section 10.2.3), at most a hundred years off.
fn wait(retry_after: Option<&str>, now: DateTime<Utc>) -> Option<Duration> {
    let text = retry_after?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return TimeDelta::seconds(seconds.into()).min(HUNDRED_YEARS).to_std().ok();
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).min(HUNDRED_YEARS).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_secret::NewTokens;

    fn answer(status: u16, body: &str) -> TokenResponse {
        read(status, None, body.as_bytes(), DateTime::UNIX_EPOCH, &[&"refresh-token-so-far".into()])
    }

    fn new_tokens(body: &str) -> NewTokens {
        match answer(200, body) {
            TokenResponse::Issued(issued_tokens) => {
                issued_tokens.into_new_tokens(DateTime::UNIX_EPOCH, Duration::from_hours(1))
            }
            other => panic!("not issued_tokens: {other:?}"),
        }
    }

    #[test]
    fn each_response_is_a_refusal_or_a_failure() {
        use RefusalKind::{ClientRejected, ProviderRejected, ReauthorizationRequired};
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, Some((ReauthorizationRequired, true))),
            (200, r#"{"error":"invalid_grant"}"#, Some((ReauthorizationRequired, true))),
            (403, r#"{"error":"invalid_grant"}"#, Some((ReauthorizationRequired, true))),
            (401, r#"{"error":"invalid_client"}"#, Some((ClientRejected, true))),
            (400, r#"{"error":"unauthorized_client"}"#, Some((ClientRejected, true))),
            (400, r#"{"error":"invalid_scope"}"#, Some((ProviderRejected, true))),
            (400, "error=invalid_grant", Some((ReauthorizationRequired, true))),
            (200, r#"{"ok":false}"#, Some((ProviderRejected, false))),
            (200, r#"{"error":{"code":401}}"#, Some((ProviderRejected, true))),
            (200, r#"{"error":"invalid_code"}"#, Some((ReauthorizationRequired, true))),
            (
                200,
                r#"{"code":40105,"message":"refresh_token is invalid","data":{}}"#,
                Some((ReauthorizationRequired, true)),
            ),
            (
                200,
                r#"{"status":503,"body":{},"error":"Invalid Params: invalid refresh_token"}"#,
                Some((ReauthorizationRequired, true)),
            ),
            (200, r#"{"status":401,"body":{}}"#, Some((ProviderRejected, true))),
            (400, r#"{"message":"Bad Request","code":"E17"}"#, Some((ProviderRejected, true))),
            (400, r#"{"error":"access_denied","error_description":"Rate limit exceeded"}"#, None),
            (400, "", Some((ProviderRejected, false))),
            (404, "<html>", Some((ProviderRejected, false))),
            (302, "", Some((ProviderRejected, false))),
            (400, r#"{"error":"temporarily_unavailable"}"#, None),
            (400, r#"{"error":"server_error"}"#, None),
            (200, r#"{"error":"server_error"}"#, None),
            (429, r#"{"error":"invalid_grant"}"#, None),
            (500, r#"{"error":"invalid_grant"}"#, None),
            (503, "<html>", None),
            (200, "<html>", None),
            (200, r#"<html><a href="/login?next=1&access_token=of-another">"#, None),
            (200, r#"<a href="/login?next=1&error=invalid_grant">"#, None),
            (404, r#"<a href="/login?next=1&error=invalid_grant">"#, Some((ProviderRejected, false))),
            (200, "", None),
            (200, "{}", None),
            (200, "[]", None),
            (200, r#"{"access_token":""}"#, None),
        ] {
            match (answer(status, body), expected) {
                (TokenResponse::Refused(refusal), Some((kind, named))) => {
                    assert_eq!((refusal.kind, refusal.error.is_some()), (kind, named), "{status} {body}");
                }
                (TokenResponse::Failed(_), None) => {}
                (other, _) => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn empty_error_members_beside_tokens_are_no_refusal() {
        for error in ["null", "false", "0", "\"0\"", "\"\"", "{}", "[]", "{ }", "[\n]"] {
            new_tokens(&format!(r#"{{"access_token":"a","error":{error}}}"#));
        }
    }

    #[test]
    fn what_a_known_code_has_in_common_with_a_secret_changes_nothing() {
        for (secret, code, kind) in [
            ("old_refresh_token", "bad_refresh_token", Some(RefusalKind::ReauthorizationRequired)),
            ("grant", "invalid_grant", Some(RefusalKind::ReauthorizationRequired)),
            ("client", "invalid_client", Some(RefusalKind::ClientRejected)),
            ("unavailable", "temporarily_unavailable", None),
        ] {
            let body = format!(r#"{{"error":"{code}"}}"#);
            match (read(400, None, body.as_bytes(), DateTime::UNIX_EPOCH, &[&secret.into()]), kind) {
                (TokenResponse::Refused(refusal), Some(kind)) => {
                    assert_eq!((refusal.kind, refusal.error.as_deref()), (kind, Some(code)));
                }
                (TokenResponse::Failed(TransportError::Busy { .. }), None) => {}
                (other, _) => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn tokens_are_read_whatever_stands_beside_them() {
        for body in [
            &b"{\"access_token\":\"a\",\"name\":\"Jos\xe9\"}"[..],
            b"\xef\xbb\xbf{\"access_token\":\"a\"}",
            b"scope=read write&access_token=a",
            b"access_token=a&scope=read%20write&token_type=bearer",
        ] {
            let answer = read(200, None, body, DateTime::UNIX_EPOCH, &[]);
            assert!(matches!(answer, TokenResponse::Issued(_)), "{}: {answer:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn only_a_429_names_how_long_to_wait() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        for (status, retry_after, expected) in [
            (429, Some("7"), Some(7)),
            (429, Some("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10)),
            (429, Some("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0)),
            (429, Some("4294967295"), Some(36_525 * 86_400)),
            (429, Some("31 Dec 262142 23:59:60 GMT"), Some(36_525 * 86_400)),
            (429, Some("soon"), None),
            (429, None, None),
        ] {
            match read(status, retry_after, b"", now, &[]) {
                TokenResponse::Failed(TransportError::Busy { retry_after, .. }) => {
                    assert_eq!(retry_after, expected.map(Duration::from_secs));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            read(503, Some("7"), b"", now, &[]),
            TokenResponse::Failed(TransportError::MaybeSpent { responded: true, .. })
        ));
    }

    #[test]
    fn a_failure_says_whether_the_token_may_be_spent() {
        for (status, body, maybe_spent) in [
            (408, "", true),
            (425, "", false),
            (429, "", false),
            (500, "", true),
            (503, r#"{"error":"temporarily_unavailable"}"#, false),
            (400, r#"{"error":"temporarily_unavailable"}"#, false),
            (400, r#"{"error":"server_error"}"#, true),
            (200, r#"{"error":"internal_error"}"#, true),
        ] {
            match (answer(status, body), maybe_spent) {
                (TokenResponse::Failed(TransportError::MaybeSpent { responded: true, .. }), true)
                | (TokenResponse::Failed(TransportError::Busy { .. }), false) => {}
                (other, _) => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_shows_status_code_and_description_but_no_token() {
        let body = r#"{"error":"invalid_grant","error_description":"Token refresh-token-so-far\nis expired"}"#;
        let TokenResponse::Refused(refusal) = answer(400, body) else { panic!("not refused") };
        assert_eq!(refusal.to_string(), "status 400, invalid_grant: Token [redacted] is expired");
    }

    #[test]
    fn tokens_are_found_in_other_styles_and_in_one_wrapping_object() {
        for body in [
            r#"{"accessToken":"a","refreshToken":"r","expiresIn":60,"tokenType":"Bearer"}"#,
            r#"{"code":0,"message":"OK","data":{"access_token":"a","refresh_token":"r","expires_in":60,"token_type":"Bearer"}}"#,
            r#"{"token":"a","refresh_token":"r","expires_in":60,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r","expires_in":60,"token_type":"Bearer","error":"ok","message":"retry never"}"#,
            r#"{"access_token":"a","refresh_token":"r","expires_in":60,"token_type":"Bearer","error":"odd"}"#,
        ] {
            let tokens = new_tokens(body);
            let refresh_token = tokens.refresh_token.as_ref().map(Secret::expose);
            assert_eq!((tokens.access_token.expose(), refresh_token), ("a", Some("r")), "{body}");
            assert_eq!((tokens.expires_at.timestamp(), tokens.token_type.as_deref()), (60, Some("Bearer")), "{body}");
        }
        let tokens = new_tokens(r#"{"access_token":"a","refresh_token":{"expires_in":3600}}"#);
        assert_eq!(tokens.refresh_token, None);
    }

    #[test]
    fn what_looks_like_tokens_and_cannot_be_understood_is_kept() {
        for (body, members) in [
            (r#"{"access_token":"a","expires_in":NaN,"refresh_token":"r"}"#, ""),
            (r#"{"access_token":"a"#, ""),
            ("access_token: a", ""),
            (r#"{"newToken":"a","x":1}"#, "`newToken`, `x`"),
            (r#"{"result":{"tokens":{"userToken":"a"}}}"#, "`result`"),
            (r#"{"a":{"access_token":"a"},"b":{"access_token":"b"}}"#, "`a`, `b`"),
            (r#"{"access_token":"a\u0000"}"#, "`access_token`"),
            (r#"{"access_token":"a","refresh_token":"ü"}"#, "`access_token`, `refresh_token`"),
            (r#"{"error":"invalid_grant","access_token":"a"}"#, "`error`, `access_token`"),
            (r#"{"error":"odd","userToken":"a"}"#, "`error`, `userToken`"),
            (r#"{"newToken":"a","message":"please retry"}"#, "`newToken`, `message`"),
            (r#"{"access_token":"a","refresh_token":{"token":"r"}}"#, "`access_token`, `refresh_token`"),
            (r#"{"access_token":5}"#, "`access_token`"),
            (r#"{"access_token":"a","refresh_token":5}"#, "`access_token`, `refresh_token`"),
            (r#"{"data":{"access_token":"a"},"refresh_token":"r"}"#, "`data`, `refresh_token`"),
            (r#"{"access":{"access_token":"a"},"refresh":{"refresh_token":"r"}}"#, "`access`, `refresh`"),
            (r#"{"access_token":"a","data":{"refresh_token":"r"}}"#, "`access_token`, `data`"),
            (r#"{"data":[{"access_token":"a","refresh_token":"r"}]}"#, "`data`"),
            (r#"{"statusCode":200,"body":"{\"access_token\":\"a\"}"}"#, "`statusCode`, `body`"),
            ("<response><access_token>a</access_token></response>", ""),
            ("<r><AccessToken>a</AccessToken></r>", ""),
            (r#"{"session_token":"a","session_refresh_token":"r"}"#, "`session_token`, `session_refresh_token`"),
            (r#"{"access":"a-long-access-token","refresh":"a-long-refresh-token"}"#, "`access`, `refresh`"),
            (r#"{"tokens":{"a":"a-long-access-token"}}"#, "`tokens`"),
            (r#"{"access_token":"a","refresh":"a-long-refresh-token"}"#, "`access_token`, `refresh`"),
            (
                r#"{"access_token":"a","refresh_token":{"value":"a-long-refresh-token"}}"#,
                "`access_token`, `refresh_token`",
            ),
            (r#"{"access_token":"a","refresh_token":-12345678901234567890123.5}"#, "`access_token`, `refresh_token`"),
            (r#"{"access_token":"a","items":[{"refresh_token":"r"}]}"#, "`access_token`, `items`"),
            (r#"{"access_token":"a","data":"{\"refresh_token\":\"r\"}"}"#, "`access_token`, `data`"),
            (r#"{"access_token":"a","refresh_token":" r"}"#, "`access_token`, `refresh_token`"),
            (r#"{"token-of-4711-and-0815":"a"}"#, "`…`"),
        ] {
            match answer(200, body) {
                TokenResponse::Unreadable(kept) => {
                    assert_eq!((kept.members.join(", ").as_str(), kept.text.expose()), (members, body));
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        // Not a success, or nothing that looks like tokens.
        for (status, body) in [
            (400, r#"{"newToken":"a"}"#),
            (200, r#"<html><a href="?access_token=a">"#),
            (200, r#"{"token_type":"Bearer","csrf_token":"a","token_url":"b","next_page_token":"c"}"#),
            (200, r#"{"ok":false,"error":"ratelimited","old_token":"a"}"#),
            (200, r#"{"success":false,"message":"Session ended","token":"req-123"}"#),
            (200, r#"{"result":"denied","token":"refresh-token-so-far"}"#),
            (200, r#"<!DOCTYPE html><a href="?access_token=a">"#),
            (200, r#"<?xml version="1.0"?><!-- x --><html><a href="?access_token=a">"#),
            (200, r#"{"error":"quota","tokens_left":5}"#),
            (200, r#"{"message":"Token service unavailable","tokenStatus":"unavailable"}"#),
            (
                200,
                r#"{"access_token":"a","refresh_token_status":"approved","has_refresh_token":1,"refresh_token_id":"5"}"#,
            ),
            (200, r#"{"access_token":"a","refresh":3600,"refresh_url":"x"}"#),
            (200, r#"{"access_token":"a","refresh":"https://id.example/refresh"}"#),
            (200, r#"{"error":"invalid_grant","old_token":"a"}"#),
            (200, ""),
        ] {
            assert!(!matches!(answer(status, body), TokenResponse::Unreadable(_)), "{body}");
        }
    }

    #[test]
    fn a_member_that_is_named_like_a_secret_is_not_shown() {
        let TokenResponse::Failed(TransportError::MaybeSpent { what, .. }) =
            answer(200, r#"{"refresh-token-so-far":{"active":false},"a":1}"#)
        else {
            panic!("not failed")
        };
        assert!(what.ends_with("(its members: `[redacted]`, `a`)"), "{what}");
    }

    #[test]
    fn an_object_without_tokens_is_described_by_its_members() {
        let TokenResponse::Failed(TransportError::MaybeSpent { what, .. }) = answer(200, r#"{"a":1,"b\n":2}"#) else {
            panic!("not failed")
        };
        assert_eq!(what, "answered 200 without an access token that could be read (its members: `a`, `b`)");
    }

    #[test]
    fn a_refusal_shows_no_token_that_came_with_it() {
        let body =
            r#"{"error":"odd","access_token":"token-of-the-answer","error_description":"no token-of-the-answer"}"#;
        let TokenResponse::Refused(refusal) = answer(400, body) else { panic!("not refused") };
        assert_eq!(refusal.to_string(), "status 400, odd: no [redacted]");
    }
}
