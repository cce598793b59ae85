//! Reads a token endpoint's response: tokens, an error response (RFC 6749 section 5.2) or neither. Tolerates what providers do
//! differently from RFC 6749. Opens no socket.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    sanitize::redact,
    secret::Secret,
    token_secret::{
        NewTokens, RefreshTokenExpiry,
        document::{Document, json_string},
    },
};

/// The longest lifetime and the longest wait that are accepted: a hundred years. No calculation with it overflows.
const MAX_LIFETIME: TimeDelta = TimeDelta::days(36_525);

/// A response with more members is hostile: then only the tokens are kept.
const MAX_MEMBERS: usize = 256;

/// The result of an exchange.
#[derive(Debug)]
pub enum TokenResponse {
    /// New tokens.
    Issued(IssuedTokens),
    /// A refusal: the same request will be refused again.
    Refused(ErrorResponse),
    /// No usable response; another try may succeed.
    Failed(TransportError),
}

/// Tokens as the provider returned them.
#[derive(Debug)]
pub struct IssuedTokens {
    access_token: Secret,
    refresh_token: Option<Secret>,
    token_type: Option<String>,
    scope: Option<String>,
    expires_in: Option<TimeDelta>,
    refresh_token_expires_in: Option<TimeDelta>,
    rest: Document,
}

impl IssuedTokens {
    /// The tokens ready to be written. Lifetimes count from when the request was sent, so that no expiry is too late.
    #[must_use]
    pub fn into_new_tokens(self, sent_at: DateTime<Utc>, default_lifetime: Duration) -> NewTokens {
        let default_lifetime = TimeDelta::from_std(default_lifetime).unwrap_or(MAX_LIFETIME).min(MAX_LIFETIME);
        let lifetime = self.expires_in.filter(|lifetime| *lifetime > TimeDelta::zero()).unwrap_or(default_lifetime);
        NewTokens {
            access_token: self.access_token,
            refresh_token: self.refresh_token,
            token_type: self.token_type,
            scope: self.scope,
            refreshed_at: sent_at,
            expires_at: sent_at + lifetime,
            refresh_token_expires_at: match self.refresh_token_expires_in {
                None => RefreshTokenExpiry::Unspecified,
                Some(lifetime) if lifetime <= TimeDelta::zero() => RefreshTokenExpiry::Never,
                Some(lifetime) => RefreshTokenExpiry::At(sent_at + lifetime),
            },
            rest: self.rest,
        }
    }
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
    /// The description. Of a redirect: the address that it leads to, without its query.
    pub description: Option<String>,
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
            Some(description) if self.redirect_target().is_none() => write!(f, ": {description}"),
            _ => Ok(()),
        }
    }
}

impl ErrorResponse {
    /// Where it leads, if it is a redirect.
    #[must_use]
    pub fn redirect_target(&self) -> Option<&str> {
        let is_redirect = (300..400).contains(&self.status) && self.error.is_none();
        self.description.as_deref().filter(|_| is_redirect)
    }
}

/// Why there is no usable response. Each text continues a sentence that begins with the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The request was not sent: the provider cannot have received it.
    NotSent(String),
    /// The provider asks to wait and has not spent the token.
    Busy {
        /// Its text.
        what: String,
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
            Self::NotSent(_) | Self::Busy { .. } => true,
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
    let document = document(body);
    let own = document.as_ref().map(tokens).unwrap_or_default();
    let secrets: Vec<&Secret> = secrets.iter().copied().chain(&own).collect();
    let error_text = document.as_ref().and_then(|document| error_text(document, &secrets));
    let meaning = error_text.as_ref().and_then(|error_text| error_text.meaning);
    // Some providers put into the body what others express by the status.
    let refused = matches!(meaning, Some(Meaning::Refused(_)));
    let busy = status == 429 || (status == 425 && !refused) || meaning == Some(Meaning::Busy);
    // A timeout or a failure of the server. It may have processed the request.
    let failed = (500..600).contains(&status) || (status == 408 && !refused) || meaning == Some(Meaning::Failed);
    if busy || failed {
        let mut what = format!("answered {status}");
        if let Some(error) = error_text.as_ref().and_then(|error_text| error_text.error.as_ref()) {
            what = format!("{what}, {error}");
        }
        if let Some(description) = error_text.as_ref().and_then(|error_text| error_text.description.as_ref()) {
            what = format!("{what}: {description}");
        }
        // A gateway may answer 5xx although the token endpoint behind it did its work.
        return TokenResponse::Failed(if busy {
            TransportError::Busy { what, retry_after: (status == 429).then(|| wait(retry_after, now)).flatten() }
        } else {
            TransportError::MaybeSpent { what, responded: true }
        });
    }
    if error_text.is_some() || !(200..300).contains(&status) {
        let error_text = error_text.unwrap_or_default();
        let kind = match meaning {
            Some(Meaning::Refused(kind)) => kind,
            _ => RefusalKind::ProviderRejected,
        };
        return TokenResponse::Refused(ErrorResponse {
            kind,
            status,
            error: error_text.error,
            description: error_text.description,
        });
    }
    match document.and_then(issued_tokens) {
        Some(issued_tokens) => TokenResponse::Issued(issued_tokens),
        None => TokenResponse::Failed(TransportError::MaybeSpent {
            what: format!("answered {status} without an access token that could be read"),
            responded: true,
        }),
    }
}

/// What an error code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The provider asks to wait; the token is not spent.
    Busy,
    /// The provider failed; the token may be spent.
    Failed,
    Refused(RefusalKind),
}

/// What a code means, if it is known: the codes of RFC 6749 section 5.2, then those of providers.
fn meaning(code: &str) -> Option<Meaning> {
    use RefusalKind::{ClientRejected, ProviderRejected, ReauthorizationRequired};
    Some(match code {
        "temporarily_unavailable"
        | "ratelimited" | "rate_limited" | "service_unavailable" // Slack
        => Meaning::Busy,
        "server_error"
        | "internal_error" | "fatal_error" // Slack
        => Meaning::Failed,
        "invalid_grant"
        | "bad_refresh_token" // GitHub
        | "BAD_REFRESH_TOKEN" // HubSpot
        | "invalid_refresh_token" | "token_expired" | "token_revoked" // Slack
        | "interaction_required" | "consent_required" | "login_required" // Entra
        => Meaning::Refused(ReauthorizationRequired),
        "invalid_client"
        | "unauthorized_client"
        | "incorrect_client_credentials" // GitHub
        | "invalid_client_id" | "bad_client_secret" // Slack
        => Meaning::Refused(ClientRejected),
        "invalid_request" | "invalid_scope" | "unsupported_grant_type" => Meaning::Refused(ProviderRejected),
        _ => return None,
    })
}

/// The body as an object: JSON, or form-encoded, whatever the content type (GitHub). `None`: neither.
fn document(body: &[u8]) -> Option<Document> {
    // Tokens are ASCII: text in another encoding beside them does no harm.
    let text = Zeroizing::new(String::from_utf8_lossy(body).into_owned());
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return Document::parse(text).ok();
    }
    // A page or a message may contain a link; it is not a form.
    if text.starts_with(['<', '[', '"']) {
        return None;
    }
    if !["access_token=", "error="].iter().any(|name| text.starts_with(name) || text.contains(&format!("&{name}"))) {
        return None;
    }
    let mut document = Document::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()).take(MAX_MEMBERS) {
        document.set(&name, json_string(&value));
    }
    Some(document)
}

/// The tokens in a response: an error response that contains some must not make us print them.
fn tokens(document: &Document) -> Vec<Secret> {
    let names = ["access_token", "refresh_token", "id_token"];
    names.into_iter().filter_map(|name| document.string(name)).map(|token| Secret::from(token.as_str())).collect()
}

/// The error members of a response, sanitized.
#[derive(Default)]
struct ErrorText {
    meaning: Option<Meaning>,
    error: Option<String>,
    description: Option<String>,
}

/// The error members; `None` if the response is not an error.
fn error_text(document: &Document, secrets: &[&Secret]) -> Option<ErrorText> {
    let text = |name: &str| document.string(name).filter(|text| !text.trim().is_empty());
    // HubSpot puts its code into `status`.
    let code = text("error").or_else(|| text("status").filter(|status| status.starts_with("BAD_")));
    let code = code.filter(|code| !NO_ERROR.contains(&code.trim()));
    // Errors of another kind than OAuth's (`{"error": {"code": 401}}`), and Slack's `"ok": false`.
    let other = document.get("error").map(without_white_space);
    let other = other.is_some_and(|error| !error.starts_with('"') && !NO_ERROR.contains(&error.as_str()));
    if code.is_none() && !other && document.get("ok") != Some("false") {
        return None;
    }
    let meaning = code.as_ref().and_then(|code| meaning(code.trim()));
    let error = code.map(|code| match meaning {
        // A known code is not a secret, even if a secret contains it.
        Some(_) => code.trim().to_owned(),
        None => redact(&code, secrets),
    });
    let description = ["error_description", "message", "reason"].into_iter().find_map(text);
    Some(ErrorText { meaning, error, description: description.map(|text| redact(&text, secrets)) })
}

/// What some providers put into `error` when there is no error.
const NO_ERROR: [&str; 6] = ["null", "false", "0", "{}", "[]", ""];

/// `{ }` is as empty as `{}`.
fn without_white_space(json: &str) -> String {
    json.split_ascii_whitespace().collect()
}

fn issued_tokens(document: Document) -> Option<IssuedTokens> {
    let text = |name: &str| document.string(name).filter(|text| !text.is_empty());
    let access_token = Secret::from(text("access_token")?.as_str());
    let refresh_token = text("refresh_token").map(|text| Secret::from(text.as_str()));
    let seconds = |name: &str| document.get(name).and_then(seconds);
    let lives_of_refresh_token = ["refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in"];
    let issued_tokens = IssuedTokens {
        access_token,
        refresh_token,
        token_type: text("token_type").map(|text| text.to_string()),
        scope: text("scope").map(|text| text.to_string()).or_else(|| {
            // A few providers return a list.
            serde_json::from_str::<Vec<String>>(document.get("scope")?).ok().map(|scopes| scopes.join(" "))
        }),
        expires_in: seconds("expires_in"),
        refresh_token_expires_in: lives_of_refresh_token.iter().find_map(|name| seconds(name)),
        rest: Document::default(),
    };
    let mut rest = document;
    for read in ["access_token", "refresh_token", "token_type", "scope", "expires_in"] {
        rest.remove(read);
    }
    for read in lives_of_refresh_token {
        rest.remove(read);
    }
    if rest.members().count() > MAX_MEMBERS {
        rest = Document::default();
    }
    Some(IssuedTokens { rest, ..issued_tokens })
}

/// A number of seconds, as a number or a string. Anything else is ignored: the tokens matter more.
fn seconds(json: &str) -> Option<TimeDelta> {
    let text: String = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let seconds: f64 = text.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and the value is capped")]
    Some(TimeDelta::seconds((seconds as i64).clamp(0, MAX_LIFETIME.num_seconds())))
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 section 10.2.3), at most a hundred years off.
fn wait(retry_after: Option<&str>, now: DateTime<Utc>) -> Option<Duration> {
    let text = retry_after?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return TimeDelta::seconds(seconds.into()).min(MAX_LIFETIME).to_std().ok();
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).min(MAX_LIFETIME).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_lifetime_is_read_from_numbers_and_strings_and_otherwise_assumed() {
        for (expires_in, seconds) in [
            ("", 3600),
            (r#","expires_in":86399"#, 86_399),
            (r#","expires_in":"3599""#, 3599),
            (r#","expires_in":3599.9"#, 3599),
            (r#","expires_in":0"#, 3600),
            (r#","expires_in":"0""#, 3600),
            (r#","expires_in":-1"#, 3600),
            (r#","expires_in":null"#, 3600),
            (r#","expires_in":"soon""#, 3600),
            (r#","expires_in":{}"#, 3600),
            (r#","expires_in":1e300"#, 36_525 * 86_400),
        ] {
            let tokens = new_tokens(&format!(r#"{{"access_token":"a"{expires_in}}}"#));
            assert_eq!(tokens.expires_at.timestamp(), seconds, "{expires_in}");
        }
    }

    #[test]
    fn the_refresh_tokens_own_end_has_three_names_and_zero_is_never() {
        for (member, expiry) in [
            ("", RefreshTokenExpiry::Unspecified),
            (r#","refresh_token_expires_in":5"#, RefreshTokenExpiry::At(DateTime::from_timestamp(5, 0).unwrap())),
            (r#","x_refresh_token_expires_in":"5""#, RefreshTokenExpiry::At(DateTime::from_timestamp(5, 0).unwrap())),
            (r#","refresh_expires_in":5"#, RefreshTokenExpiry::At(DateTime::from_timestamp(5, 0).unwrap())),
            (r#","refresh_expires_in":0"#, RefreshTokenExpiry::Never),
            (r#","refresh_token_expires_in":"0""#, RefreshTokenExpiry::Never),
        ] {
            let tokens = new_tokens(&format!(r#"{{"access_token":"a"{member}}}"#));
            assert_eq!(tokens.refresh_token_expires_at, expiry, "{member}");
            assert!(tokens.rest.is_empty(), "{member}");
        }
    }

    #[test]
    fn what_has_no_member_of_its_own_is_kept_as_it_was_said() {
        let tokens = new_tokens(r#"{"access_token":"a","instance_url":"https://x","n":1.50,"token_type":"Bearer"}"#);
        assert_eq!(tokens.rest.to_text().expose(), r#"{"instance_url":"https://x","n":1.50}"#);
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        for member in ["", r#","refresh_token":"""#, r#","refresh_token":null"#, r#","refresh_token":5"#] {
            assert_eq!(new_tokens(&format!(r#"{{"access_token":"a"{member}}}"#)).refresh_token, None, "{member}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_trouble() {
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
            (200, r#"{"error":{"code":401}}"#, Some((ProviderRejected, false))),
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
            (200, r#"<a href="/login?next=1&access_token=of-another">"#, None),
            (200, r#"<a href="/login?next=1&error=invalid_grant">"#, None),
            (404, r#"<a href="/login?next=1&error=invalid_grant">"#, Some((ProviderRejected, false))),
            (200, "", None),
            (200, "{}", None),
            (200, "[]", None),
            (200, r#"{"access_token":""}"#, None),
            (200, r#"{"access_token":5}"#, None),
            (200, r#"{"access_token":"a"#, None),
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
    fn a_refusal_shows_no_token_that_came_with_it() {
        let body =
            r#"{"error":"odd","access_token":"token-of-the-answer","error_description":"no token-of-the-answer"}"#;
        let TokenResponse::Refused(refusal) = answer(200, body) else { panic!("not refused") };
        assert_eq!(refusal.to_string(), "status 200, odd: no [redacted]");
    }
}
