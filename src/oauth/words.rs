//! What the words and codes of an error mean: those of RFC 6749 and those of providers. Pure. `docs/errors.md` has the order of the
//! decision.

use super::response::RefusalKind;

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

/// Known codes, which are never redacted: the code, its meaning, where it was seen. [`meaning`] says when words come first.
const CODES: [(&str, Meaning, &str); 25] = {
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
const WAITING: [&str; 12] = [
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
const NOT_EXPIRED: [&str; 2] = ["not expired", "not yet expired"];

/// Words that promise another result later, wherever they stand.
const TRYING_AGAIN: [&str; 3] = ["try again", "retry", "temporarily"];

/// Whole phrases that say so, where the word lists below do not.
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

/// Words that say what is wrong with a refresh token, but not with a client.
const TOKEN_FAULTS: [&str; 7] = ["used", "reused", "reuse", "consumed", "stale", "rotated", "rejected"];

/// Words that say what is wrong with the refresh token or the client that they stand near.
const FAULTS: [&str; 29] = [
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

/// Words that name a fault only after a negation: "not found", "doesn't exist", "no longer valid", "not active".
const NEGATED_FAULTS: [&str; 13] = [
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

/// With `t`, which is what is left of "doesn't".
const NEGATIONS: [&str; 7] = ["not", "no", "never", "cannot", "t", "longer", "without"];

/// What follows "token" or "client" where the sentence is about something else: "the token request is invalid". With `x`, as in
/// "x-www-form-urlencoded".
const NOUNS_AFTER: [&str; 27] = [
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

/// If one of these follows a fault, the fault is theirs: "the client requested an invalid scope".
const NOUNS_AFTER_FAULT: [&str; 15] = [
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

/// Words that may stand between a fault and its noun: "an invalid or expired refresh token".
const FILLERS: [&str; 8] = ["or", "and", "a", "an", "the", "your", "this", "oauth"];

/// How far after its noun a word may stand.
const WORDS_AFTER: usize = 8;

/// Whether the code is in the table as a refusal.
pub(super) fn is_known_refusal(code: &str) -> bool {
    matches!(code_meaning(code), Some(Meaning::Refused(_)))
}

pub(super) fn code_meaning(code: &str) -> Option<Meaning> {
    let code = code.trim().to_ascii_lowercase();
    CODES.iter().find(|(known, ..)| *known == code).map(|(_, meaning, _)| *meaning)
}

/// What an error means. `texts` includes `codes`.
pub(super) fn meaning<'a>(texts: impl Iterator<Item = &'a str>, codes: &[String]) -> Option<Meaning> {
    let texts: Vec<String> = texts.map(plain).collect();
    let contain = |words: &[&str]| texts.iter().any(|text| words.iter().any(|word| text.contains(word)));
    let of_code = codes.iter().find_map(|code| code_meaning(code));
    let names_fault = |words: &[&str], is_noun: fn(&[&str], usize) -> bool| {
        let mut sentences = texts.iter().flat_map(|text| text.split('.')).map(|text| text.split_ascii_whitespace());
        sentences.any(|sentence| names_fault_of(&sentence.collect::<Vec<_>>(), words, is_noun))
    };
    let is_token_wrong = contain(&REFRESH_TOKEN_PHRASES) || names_fault(&TOKEN_FAULTS, is_refresh_token);
    if contain(&WAITING) || (contain(&NOT_EXPIRED) && !is_token_wrong) {
        return Some(Meaning::Busy);
    }
    // With this code, no word about a client or about trying again says otherwise: "client session not active" (Keycloak).
    if is_token_wrong || of_code == Some(Meaning::Refused(RefusalKind::ReauthorizationRequired)) {
        return Some(Meaning::Refused(RefusalKind::ReauthorizationRequired));
    }
    if contain(&CLIENT_PHRASES) || names_fault(&[], is_client) {
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

/// Whether the sentence names a fault of a noun. `is_noun(sentence, place)`: whether the noun ends at this place. `more`: faults besides
/// [`FAULTS`].
fn names_fault_of(sentence: &[&str], more: &[&str], is_noun: fn(&[&str], usize) -> bool) -> bool {
    (0..sentence.len()).filter(|at| is_noun(sentence, *at)).any(|at| {
        if sentence.get(at + 1).is_some_and(|next| NOUNS_AFTER.contains(next)) {
            return false;
        }
        let start = if at > 0 && ["refresh", "client"].contains(&sentence[at - 1]) { at - 1 } else { at };
        let is_fault = |place: usize| {
            let word = &sentence[place];
            if sentence.get(place + 1).is_some_and(|next| NOUNS_AFTER_FAULT.contains(next)) {
                return false;
            }
            let is_negated = sentence[place.saturating_sub(2)..place].iter().any(|word| NEGATIONS.contains(word));
            if is_negated { NEGATED_FAULTS.contains(word) } else { FAULTS.contains(word) || more.contains(word) }
        };
        let mut before = (0..start).rev().take_while(|place| is_fault(*place) || FILLERS.contains(&sentence[*place]));
        before.any(is_fault) || (at + 1..sentence.len().min(at + 1 + WORDS_AFTER)).any(is_fault)
    })
}

/// Whether the word at this place ends the name of a refresh token: "refresh token", or "token" where no other is meant.
fn is_refresh_token(sentence: &[&str], at: usize) -> bool {
    let before = |words: usize| at.checked_sub(words).map_or("", |place| sentence[place]);
    match sentence[at] {
        "refreshtoken" => true,
        // Not a noun in "could not refresh token" and "failed to refresh token". "grant type refresh_token" is about the type.
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
    use crate::{oauth::refusal::ErrorText, token_secret::document::Document};

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
}
