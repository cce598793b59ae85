//! What an error in a response means: the words and codes of RFC 6749 and of providers, and what is shown of them. Pure.
//!
//! The order of the decision: words of waiting, words about the refresh token, words about the client, words of trying again, and
//! then the table of codes. What is in none of them is refused by the provider, and asked again after a back-off.

use super::{body::MAX_MEMBERS, response::RefusalKind};
use crate::{sanitize::redact, secret::Secret, token_secret::document::Document};

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The provider asks to wait; the token is not spent.
    Busy,
    /// The provider failed; the token may be spent.
    Failed,
    /// The provider refused.
    Refused(RefusalKind),
}

/// Known codes, which are never redacted: the code, its meaning, where it was seen. Words decide before them.
pub const CODES: [(&str, Meaning, &str); 25] = {
    use Meaning::{Busy, Failed, Refused};
    use RefusalKind::{ClientRejected, ProviderRejected, ReauthorizationRequired};
    [
        ("invalid_grant", Refused(ReauthorizationRequired), "RFC 6749 section 5.2"),
        ("invalid_client", Refused(ClientRejected), "RFC 6749 section 5.2"),
        ("unauthorized_client", Refused(ClientRejected), "RFC 6749 section 5.2"),
        ("invalid_request", Refused(ProviderRejected), "RFC 6749 section 5.2"),
        ("invalid_scope", Refused(ProviderRejected), "RFC 6749 section 5.2"),
        ("unsupported_grant_type", Refused(ProviderRejected), "RFC 6749 section 5.2"),
        ("server_error", Failed, "RFC 6749 section 4.1.2.1"),
        ("temporarily_unavailable", Busy, "RFC 6749 section 4.1.2.1"),
        ("slow_down", Busy, "RFC 8628 section 3.5"),
        ("bad_refresh_token", Refused(ReauthorizationRequired), "GitHub, HubSpot"),
        ("incorrect_client_credentials", Refused(ClientRejected), "GitHub"),
        ("invalid_refresh_token", Refused(ReauthorizationRequired), "Slack"),
        ("token_expired", Refused(ReauthorizationRequired), "Slack, Firebase"),
        ("token_revoked", Refused(ReauthorizationRequired), "Slack"),
        ("account_inactive", Refused(ReauthorizationRequired), "Slack"),
        ("invalid_client_id", Refused(ClientRejected), "Slack"),
        ("bad_client_secret", Refused(ClientRejected), "Slack"),
        ("internal_error", Failed, "Slack"),
        ("fatal_error", Failed, "Slack"),
        ("service_unavailable", Busy, "Slack"),
        ("ratelimited", Busy, "Slack"),
        ("interaction_required", Refused(ReauthorizationRequired), "Entra ID"),
        ("consent_required", Refused(ReauthorizationRequired), "Entra ID"),
        ("login_required", Refused(ReauthorizationRequired), "Entra ID"),
        // In a refresh the code is the refresh token.
        ("invalid_code", Refused(ReauthorizationRequired), "Zoho"),
    ]
};

/// Words that ask to wait, wherever they stand.
pub const WAITING: [&str; 12] = [
    "too many requests",
    "rate limit",
    "ratelimit",
    "rate exceeded",
    "being processed",
    "in progress",
    "concurrent",
    "slow down",
    "throttl",
    "not yet valid",
    "not valid yet",
    "before issued",
];

/// The same, unless the text also says that the refresh token is wrong: "ensure that it has not expired".
pub const NOT_EXPIRED: [&str; 2] = ["not expired", "not yet expired"];

/// Words that promise another result later, wherever they stand.
pub const TRYING_AGAIN: [&str; 3] = ["try again", "retry", "temporarily"];

/// Phrases about a refresh token, and about a client, that no word below explains.
const REFRESH_TOKEN_PHRASES: [&str; 6] = [
    "refresh token authentication",
    "authenticating refresh token",
    "failed refresh token",
    "token cannot be reused",
    "token can not be reused",
    "no longer has requested consent",
];
const CLIENT_PHRASES: [&str; 3] =
    ["client authentication failed", "client authentication failure", "failed client authentication"];

/// What may be wrong with a refresh token only.
const WRONG_TOKEN: [&str; 7] = ["used", "reused", "reuse", "consumed", "stale", "rotated", "rejected"];

/// What may be wrong with a refresh token or a client, near its name.
const WRONG: [&str; 29] = [
    "invalid",
    "invalidated",
    "expired",
    "revoked",
    "unknown",
    "incorrect",
    "wrong",
    "bad",
    "malformed",
    "corrupt",
    "corrupted",
    "unrecognized",
    "unrecognised",
    "nonexistent",
    "inactive",
    "deactivated",
    "disabled",
    "deleted",
    "removed",
    "suspended",
    "blocked",
    "blacklisted",
    "cancelled",
    "canceled",
    "withdrawn",
    "mismatch",
    "mismatched",
    "unregistered",
    "undecryptable",
];

/// The same with a negation before it: "not found", "doesn't exist", "no longer valid", "not active".
const RIGHT: [&str; 13] = [
    "found",
    "valid",
    "exist",
    "exists",
    "recognized",
    "recognised",
    "active",
    "known",
    "accepted",
    "registered",
    "match",
    "matching",
    "enabled",
];

const NEGATIONS: [&str; 7] = ["not", "no", "never", "cannot", "t", "longer", "without"];

/// What follows "token" or "client" where the sentence is about something else: "the token request is invalid".
const OTHER_NOUNS: [&str; 27] = [
    "request",
    "requests",
    "endpoint",
    "type",
    "types",
    "url",
    "uri",
    "flow",
    "rotation",
    "lifetime",
    "scope",
    "scopes",
    "grant",
    "method",
    "format",
    "required",
    "exchange",
    "issuance",
    "issuing",
    "generation",
    "service",
    "server",
    "error",
    "errors",
    "json",
    "xml",
    "x",
];

/// What follows a word such as "invalid" where it is about that: "the client requested an invalid scope".
const NOUNS_OF_WRONG: [&str; 15] = [
    "scope",
    "scopes",
    "request",
    "response",
    "error",
    "errors",
    "parameter",
    "parameters",
    "grant",
    "type",
    "url",
    "uri",
    "redirect",
    "method",
    "value",
];

/// Tokens that are not refresh tokens.
const OTHER_TOKENS: [&str; 12] = [
    "access",
    "id",
    "csrf",
    "xsrf",
    "jwt",
    "bearer",
    "device",
    "request",
    "session",
    "security",
    "client",
    "verification",
];

/// What may stand between a word and the noun after it: "an invalid or expired refresh token".
const BESIDE: [&str; 8] = ["or", "and", "a", "an", "the", "your", "this", "oauth"];

/// How far after its noun a word may stand.
const WORDS_AFTER: usize = 8;

/// The error in a response.
#[derive(Default)]
pub(super) struct ErrorText {
    pub meaning: Option<Meaning>,
    /// The error code, sanitized.
    pub error: Option<String>,
    /// The description, sanitized.
    pub description: Option<String>,
    /// Whether a member reports an error explicitly: `error`, `errors`, `"ok": false`.
    pub is_explicit: bool,
    /// Whether a flag says that the request failed.
    pub is_denied: bool,
}

impl ErrorText {
    /// The error in a response. `None`: no member of it names one.
    pub fn read(document: &Document, secrets: &[&Secret]) -> Option<Self> {
        let mut found = Found::of(document);
        for text in found.codes.iter_mut().chain(&mut found.texts) {
            cut(text);
        }
        if found.codes.is_empty() && found.texts.is_empty() && !found.is_explicit {
            return None;
        }
        let meaning = meaning(found.codes.iter().chain(&found.texts).map(String::as_str), &found.codes);
        // A number says less than a word.
        let is_word = |code: &&String| !code.bytes().all(|byte| byte.is_ascii_digit());
        let code = found.codes.iter().find(is_word).or(found.codes.first());
        let error = code.map(|code| {
            // A known code is not a secret, even if a secret contains it.
            if code_meaning(code).is_some() { code.trim().to_owned() } else { redact(code, secrets) }
        });
        let mut texts: Vec<&str> = Vec::new();
        for text in &found.texts {
            let text = text.trim();
            if Some(text) != code.map(|code| code.trim()) && !texts.contains(&text) {
                texts.push(text);
            }
        }
        let description = (!texts.is_empty()).then(|| redact(&texts.join("; "), secrets));
        Some(Self { meaning, error, description, is_explicit: found.is_explicit, is_denied: found.is_denied })
    }
}

/// The codes and texts of an error, as they are.
#[derive(Default)]
struct Found {
    codes: Vec<String>,
    texts: Vec<String>,
    is_explicit: bool,
    /// `"ok": false`, `"success": false`.
    is_denied: bool,
}

/// What providers put into the members of an error when there is no error.
const NO_ERROR: [&str; 9] = ["null", "false", "0", "{}", "[]", "", "200", "ok", "success"];

/// Words that say only that there is an error.
const JUST_AN_ERROR: [&str; 5] = ["error", "err", "fail", "failed", "failure"];

/// How much of a text is searched for words and shown.
const MAX_TEXT_BYTES: usize = 4096;

fn cut(text: &mut String) {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
}

impl Found {
    fn of(document: &Document) -> Self {
        let found = Self::at_the_top(document);
        // `{"data": {"error_code": 10010, "description": "…"}, "message": "error"}` (TikTok)
        if found.codes.is_empty() && found.texts.iter().all(|text| is_just_an_error(text)) {
            let inner = document.members().filter_map(|(_, value)| Document::parse(value).ok());
            if let Some(inner) = inner.map(|inner| Self::at_the_top(&inner)).find(|inner| !inner.codes.is_empty()) {
                return Self { is_explicit: found.is_explicit || inner.is_explicit, ..inner };
            }
        }
        found
    }

    fn at_the_top(document: &Document) -> Self {
        let mut found = Self::default();
        let mut descriptions = Vec::new();
        let mut texts = Vec::new();
        for (name, value) in document.members().take(MAX_MEMBERS) {
            // `errorCode`, `error_code` and `ErrorCode` are one name.
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            let name = name.to_ascii_lowercase();
            found.is_denied |= ["ok", "success"].contains(&name.as_str()) && value == "false";
            if is_none(value) {
                continue;
            }
            match name.as_str() {
                "error" => found.read_error(value),
                "errors" => found.read_error(&first_of(value).unwrap_or_else(|| value.to_owned())),
                "errorcode" | "errcode" | "code" | "status" => match code(value) {
                    Some(code) if is_just_an_error(&code) => found.is_explicit = true,
                    Some(code) => found.codes.push(code),
                    None => {}
                },
                "errordescription" => descriptions.extend(text(value)),
                "message" | "msg" | "reason" | "detail" | "errormessage" | "errmsg" => texts.extend(text(value)),
                _ => {}
            }
        }
        found.is_explicit |= found.is_denied;
        found.texts.extend(if descriptions.is_empty() { texts } else { descriptions });
        found
    }

    /// The value of `error`, or the first of `errors`: a text, or an object.
    fn read_error(&mut self, json: &str) {
        if is_none(json) {
            return;
        }
        self.is_explicit = true;
        let Ok(object) = Document::parse(json) else {
            self.codes.extend(code(json).filter(|code| !is_just_an_error(code)));
            return;
        };
        for name in ["status", "code", "type", "error"] {
            self.codes.extend(object.get(name).and_then(code).filter(|code| !is_none(code)));
        }
        // "resource": "RefreshToken", "field": "refresh_token", "code": "invalid" (Strava)
        let place = ["resource", "field"].map(|name| object.get(name).and_then(text));
        if place.iter().any(Option::is_some) {
            let words = place.into_iter().chain([object.get("code").and_then(code)]).flatten();
            self.texts.push(words.collect::<Vec<_>>().join(" "));
        }
        for name in ["message", "msg", "description", "detail", "title", "reason"] {
            self.texts.extend(object.get(name).and_then(text));
        }
        // "refresh_token": ["is invalid"]
        for (name, value) in object.members().take(MAX_MEMBERS) {
            if let Some(text) = first_of(value).as_deref().and_then(text) {
                self.texts.push(format!("{name} {text}"));
            }
        }
    }
}

fn is_just_an_error(text: &str) -> bool {
    JUST_AN_ERROR.contains(&text.trim().to_ascii_lowercase().as_str())
}

/// Whether a member's value (JSON text, or the text in it) says that there is no error.
fn is_none(value: &str) -> bool {
    let value: String = value.split_ascii_whitespace().collect();
    NO_ERROR.contains(&value.trim_matches('"').to_lowercase().as_str())
}

fn first_of(array: &str) -> Option<String> {
    let values: Vec<&serde_json::value::RawValue> = serde_json::from_str(array).ok()?;
    values.first().map(|value| value.get().to_owned())
}

fn text(json: &str) -> Option<String> {
    let text: String = serde_json::from_str(json).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// A text or a whole number.
fn code(json: &str) -> Option<String> {
    text(json).or_else(|| json.parse::<i64>().ok().map(|number| number.to_string()))
}

/// Whether the code is in the table as a refusal.
pub(super) fn is_known_refusal(code: &str) -> bool {
    matches!(code_meaning(code), Some(Meaning::Refused(_)))
}

fn code_meaning(code: &str) -> Option<Meaning> {
    let code = code.trim().to_ascii_lowercase();
    CODES.iter().find(|(known, ..)| *known == code).map(|(_, meaning, _)| *meaning)
}

/// What these texts mean, and these codes, which are among the texts.
fn meaning<'a>(texts: impl Iterator<Item = &'a str>, codes: &[String]) -> Option<Meaning> {
    let texts: Vec<String> = texts.map(plain).collect();
    let contain = |words: &[&str]| texts.iter().any(|text| words.iter().any(|word| text.contains(word)));
    let of_code = codes.iter().find_map(|code| code_meaning(code));
    let is_wrong = |words: &[&str], is_noun: fn(&[&str], usize) -> bool| {
        let mut sentences = texts.iter().flat_map(|text| text.split('.')).map(|text| text.split_ascii_whitespace());
        sentences.any(|sentence| says_wrong(&sentence.collect::<Vec<_>>(), words, is_noun))
    };
    let is_token_wrong = contain(&REFRESH_TOKEN_PHRASES) || is_wrong(&WRONG_TOKEN, is_refresh_token);
    if contain(&WAITING) || (contain(&NOT_EXPIRED) && !is_token_wrong) {
        return Some(Meaning::Busy);
    }
    // With this code, no word about a client or about trying again says otherwise: "client session not active" (Keycloak).
    if is_token_wrong || of_code == Some(Meaning::Refused(RefusalKind::ReauthorizationRequired)) {
        return Some(Meaning::Refused(RefusalKind::ReauthorizationRequired));
    }
    if contain(&CLIENT_PHRASES) || is_wrong(&[], is_client) {
        return Some(Meaning::Refused(RefusalKind::ClientRejected));
    }
    if contain(&TRYING_AGAIN) {
        return Some(match of_code {
            Some(Meaning::Busy) => Meaning::Busy,
            _ => Meaning::Failed,
        });
    }
    of_code
}

/// In lower case, words separated by one blank, sentences by a dot. `refreshToken` is two words.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            plain.push(' ');
        }
        match c {
            '.' | ';' | '!' | '?' => plain.push_str(" . "),
            c if c.is_alphanumeric() => plain.extend(c.to_lowercase()),
            _ => plain.push(' '),
        }
        before = c;
    }
    plain.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a sentence says that something is wrong with what `is_noun` finds at a place. `more`: words that say so, besides [`WRONG`].
fn says_wrong(sentence: &[&str], more: &[&str], is_noun: fn(&[&str], usize) -> bool) -> bool {
    (0..sentence.len()).filter(|at| is_noun(sentence, *at)).any(|at| {
        if sentence.get(at + 1).is_some_and(|next| OTHER_NOUNS.contains(next)) {
            return false;
        }
        let start = if at > 0 && ["refresh", "client"].contains(&sentence[at - 1]) { at - 1 } else { at };
        let is_wrong = |place: usize| {
            let word = &sentence[place];
            if sentence.get(place + 1).is_some_and(|next| NOUNS_OF_WRONG.contains(next)) {
                return false;
            }
            let is_negated = sentence[place.saturating_sub(2)..place].iter().any(|word| NEGATIONS.contains(word));
            if is_negated { RIGHT.contains(word) } else { WRONG.contains(word) || more.contains(word) }
        };
        let mut before = (0..start).rev().take_while(|place| is_wrong(*place) || BESIDE.contains(&sentence[*place]));
        before.any(is_wrong) || (at + 1..sentence.len().min(at + 1 + WORDS_AFTER)).any(is_wrong)
    })
}

/// Whether the word at this place ends the name of a refresh token: "refresh token", or "token" where no other is meant.
fn is_refresh_token(sentence: &[&str], at: usize) -> bool {
    let before = |words: usize| at.checked_sub(words).map_or("", |place| sentence[place]);
    match sentence[at] {
        "refreshtoken" => true,
        // "Could not refresh token", "failed to refresh token".
        // And the grant type of that name.
        "token" | "tokens" if before(1) == "refresh" => !["to", "not", "cannot", "t", "type"].contains(&before(2)),
        "token" | "tokens" => !OTHER_TOKENS.contains(&before(1)),
        _ => false,
    }
}

fn is_client(sentence: &[&str], at: usize) -> bool {
    match sentence[at] {
        "client" | "clients" | "application" | "app" | "clientid" | "consumer" => true,
        "id" | "secret" | "credentials" | "key" => at > 0 && sentence[at - 1] == "client",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> Option<ErrorText> {
        ErrorText::read(&Document::parse(json).unwrap(), &[])
    }

    #[test]
    fn the_words_of_an_error_decide_before_its_code() {
        use Meaning::{Busy, Failed, Refused};
        use RefusalKind::{ClientRejected, ProviderRejected, ReauthorizationRequired};
        for (error_code, description, expected) in [
            // Words of waiting.
            ("access_denied", "Rate limit exceeded: access_token not expired", Some(Busy)),
            ("invalid_grant", "token request is already being processed", Some(Busy)),
            ("E1", "Too Many Requests", Some(Busy)),
            ("E1", "Rate exceeded", Some(Busy)),
            ("E1", "Token used before issued", Some(Busy)),
            (
                "invalid_request",
                "Failed to refresh token because of multiple concurrent requests using the same token which is not allowed.",
                Some(Busy),
            ),
            // The refresh token.
            ("unauthorized_client", "refresh_token is invalid", Some(Refused(ReauthorizationRequired))),
            ("invalid_request", "The refresh token was not found.", Some(Refused(ReauthorizationRequired))),
            ("E1", "refreshToken doesn't exist", Some(Refused(ReauthorizationRequired))),
            ("E1", "This token is no longer valid", Some(Refused(ReauthorizationRequired))),
            ("E1", "The refresh token that was sent has already been used", Some(Refused(ReauthorizationRequired))),
            ("E1", "Token has been expired or revoked.", Some(Refused(ReauthorizationRequired))),
            ("E1", "Unknown or invalid refresh token", Some(Refused(ReauthorizationRequired))),
            ("refresh_token_authentication_error", "", Some(Refused(ReauthorizationRequired))),
            ("REFRESH_TOKEN_EXPIRED", "", Some(Refused(ReauthorizationRequired))),
            ("RefreshTokenRevoked", "", Some(Refused(ReauthorizationRequired))),
            ("E1", "An invalid or expired token", Some(Refused(ReauthorizationRequired))),
            ("invalid_grant", "Client session not active", Some(Refused(ReauthorizationRequired))),
            (
                "invalid_grant",
                "Your session has expired. Please log in and try again.",
                Some(Refused(ReauthorizationRequired)),
            ),
            (
                "invalid_grant",
                "Refresh token is invalid. Ensure that it has not expired or been revoked.",
                Some(Refused(ReauthorizationRequired)),
            ),
            (
                "invalid_scope",
                "Client no longer has requested consent from user",
                Some(Refused(ReauthorizationRequired)),
            ),
            ("invalid_request", "This refresh token cannot be reused", Some(Refused(ReauthorizationRequired))),
            (
                "invalid_request",
                "The refresh_token parameter is invalid or expired",
                Some(Refused(ReauthorizationRequired)),
            ),
            ("account_inactive", "", Some(Refused(ReauthorizationRequired))),
            // The client.
            ("invalid_client", "JWT token is invalid", Some(Refused(ClientRejected))),
            (
                "unauthorized_client",
                "Grant type refresh_token is not enabled for this client",
                Some(Refused(ClientRejected)),
            ),
            ("E1", "Invalid OAuth client", Some(Refused(ClientRejected))),
            ("deleted_client", "The OAuth client was deleted.", Some(Refused(ClientRejected))),
            ("E1", "Client authentication failed", Some(Refused(ClientRejected))),
            ("E1", "The client_secret is incorrect", Some(Refused(ClientRejected))),
            ("E1", "unknown client", Some(Refused(ClientRejected))),
            ("E1", "This application has been suspended", Some(Refused(ClientRejected))),
            // Trying again.
            ("E1", "Could not refresh token, please try again", Some(Failed)),
            ("temporarily_unavailable", "try again later", Some(Busy)),
            // The table of codes.
            ("INVALID_GRANT", "Session not active", Some(Refused(ReauthorizationRequired))),
            ("invalid_code", "", Some(Refused(ReauthorizationRequired))),
            ("invalid_scope", "The refresh token request has an invalid scope", Some(Refused(ProviderRejected))),
            ("invalid_request", "Missing redirect_uri param is required.", Some(Refused(ProviderRejected))),
            ("server_error", "", Some(Failed)),
            ("invalid_scope", "The client requested an invalid scope.", Some(Refused(ProviderRejected))),
            ("invalid_request", "Content-Type application/json is not accepted", Some(Refused(ProviderRejected))),
            // Neither.
            ("E1", "Failed to generate token: unknown error", None),
            ("E1", "Error refreshing token: bad response from upstream", None),
            ("E1", "Token issuing is disabled during maintenance", None),
            ("E1", "Unknown application error", None),
            ("E1", "Client error: 400 Bad Request", None),
            ("internal_failure", "", None),
            ("unsupported_token_type", "", None),
            ("access_denied", "The resource owner denied the request", None),
            ("E1", "The access token is invalid", None),
            ("E1", "invalid redirect_uri for this refresh token", None),
            ("E1", "refresh_token is required", None),
            ("E1", "The token endpoint is disabled. Use another.", None),
            ("E1", "The client used an unsupported method", None),
            ("E1", "bad value client_secret=…", None),
        ] {
            let json = serde_json::json!({"error": error_code, "error_description": description}).to_string();
            assert_eq!(error(&json).unwrap().meaning, expected, "{json}");
        }
    }

    #[test]
    fn the_documentation_has_every_code_and_the_words_of_waiting_and_trying_again() {
        let page = include_str!("../../docs/errors.md");
        let rows = CODES.iter().map(|(code, meaning, seen_at)| {
            let meaning = match meaning {
                Meaning::Busy => "`ProviderUnavailable`; the token is not spent",
                Meaning::Failed => "`ProviderUnavailable`; the token may be spent",
                Meaning::Refused(RefusalKind::ReauthorizationRequired) => "`ReauthorizationRequired`",
                Meaning::Refused(RefusalKind::ClientRejected) => "`ClientRejected`",
                Meaning::Refused(RefusalKind::ProviderRejected) => "`ProviderRejected`",
            };
            format!("| `{code}` | {meaning} | {seen_at} |\n")
        });
        let table: String = rows.collect();
        assert!(page.contains(&table), "docs/errors.md must contain this table:\n{table}");
        for word in WAITING.iter().chain(&NOT_EXPIRED).chain(&TRYING_AGAIN) {
            assert!(page.contains(&format!("`{word}`")), "docs/errors.md must name `{word}`");
        }
    }

    #[test]
    fn an_error_is_found_wherever_a_provider_puts_it() {
        for (json, shown) in [
            (r#"{"error":"invalid_grant","error_description":"no"}"#, "invalid_grant: no"),
            (
                r#"{"error":{"code":400,"message":"TOKEN_EXPIRED","status":"INVALID_ARGUMENT"}}"#,
                "INVALID_ARGUMENT: TOKEN_EXPIRED",
            ),
            (r#"{"error":{"code":401}}"#, "401"),
            (
                r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
                "invalid: RefreshToken refresh_token invalid; Bad Request",
            ),
            (r#"{"errors":["bad things"]}"#, "bad things"),
            (r#"{"code":40105,"message":"refresh_token is invalid","data":{}}"#, "40105: refresh_token is invalid"),
            (
                r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}"#,
                "BAD_REFRESH_TOKEN: missing or unknown refresh token",
            ),
            (r#"{"errorCode":"E17","errorMessage":"no"}"#, "E17: no"),
            (r#"{"error":"invalid_grant","reason":"Invalid Token!"}"#, "invalid_grant: Invalid Token!"),
            (r#"{"message":"Bad Request","code":"E17"}"#, "E17: Bad Request"),
            (r#"{"status":401,"body":{}}"#, "401"),
            (r#"{"errcode":40030,"errmsg":"invalid refresh_token"}"#, "40030: invalid refresh_token"),
            (r#"{"ErrorCode":"invalid_request","Error":"Invalid refresh token"}"#, "invalid_request"),
            (
                r#"{"data":{"description":"x","error_code":10010,"msg":"Invalid refresh_token"},"message":"error"}"#,
                "10010: Invalid refresh_token",
            ),
            (r#"{"errors":{"refresh_token":["is invalid"]}}"#, ": refresh_token is invalid"),
            (r#"{"errors":"bad things"}"#, "bad things"),
            (r#"{"ok":false}"#, ""),
            (r#"{"status":"error","message":"no such thing"}"#, ": no such thing"),
        ] {
            let found = error(json).unwrap_or_else(|| panic!("{json}"));
            let description = found.description.map(|text| format!(": {text}")).unwrap_or_default();
            assert_eq!(found.error.unwrap_or_default() + &description, shown, "{json}");
        }
        for json in [
            "{}",
            r#"{"error":null}"#,
            r#"{"error":"0","errors":[],"code":0,"message":"OK"}"#,
            r#"{"error":{},"status":200}"#,
            r#"{"error":[ ],"ok":true,"success":true,"status":"success"}"#,
        ] {
            assert!(error(json).is_none(), "{json}");
        }
    }
}
