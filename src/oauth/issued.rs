//! The tokens in a response that grants them: where providers put them, and what is stored of them. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::{
    body::{MAX_MEMBERS, ascii_letters},
    lifetime::{self, End, HUNDRED_YEARS},
};
use crate::{
    secret::Secret,
    token_secret::{NewTokens, RefreshTokenExpiry, document::Document},
};

/// How deep a response is searched for tokens.
const MAX_DEPTH: usize = 8;

/// Tokens as the provider returned them.
#[derive(Debug)]
pub struct IssuedTokens {
    access_token: Secret,
    pub(super) refresh_token: Option<Secret>,
    token_type: Option<String>,
    scope: Option<String>,
    /// With the member that says so.
    access_token_end: Option<(&'static str, End)>,
    refresh_token_end: Option<End>,
    rest: Document,
}

impl IssuedTokens {
    /// The tokens ready to be written. Lifetimes count from when the request was sent, so that no expiry is too late.
    #[must_use]
    pub fn into_new_tokens(self, sent_at: DateTime<Utc>, default_lifetime: Duration) -> NewTokens {
        let default_lifetime = TimeDelta::from_std(default_lifetime).unwrap_or(HUNDRED_YEARS).min(HUNDRED_YEARS);
        let lifetime = match self.access_token_end {
            Some((_, end)) if lifetime::is_possible(end.lifetime(sent_at)) => end.lifetime(sent_at),
            Some(_) | None => default_lifetime,
        };
        NewTokens {
            access_token: self.access_token,
            refresh_token: self.refresh_token,
            token_type: self.token_type,
            scope: self.scope,
            refreshed_at: sent_at,
            expires_at: sent_at + lifetime,
            refresh_token_expires_at: match self.refresh_token_end {
                Some(End::In(lifetime)) if lifetime <= TimeDelta::zero() => RefreshTokenExpiry::Never,
                Some(end) if end.lifetime(sent_at) > TimeDelta::zero() => {
                    RefreshTokenExpiry::At(sent_at + end.lifetime(sent_at).min(HUNDRED_YEARS))
                }
                Some(_) | None => RefreshTokenExpiry::Unspecified,
            },
            rest: self.rest,
        }
    }

    /// The member whose lifetime is impossible, so that the default is assumed.
    #[must_use]
    pub fn impossible_lifetime(&self, sent_at: DateTime<Utc>) -> Option<&'static str> {
        match self.access_token_end {
            Some((member, end)) if !lifetime::is_possible(end.lifetime(sent_at)) => Some(member),
            Some(_) | None => None,
        }
    }

    /// Whether the tokens are printable ASCII (RFC 6749 appendix A.12 and A.17), with no blank at an end. Others cannot be sent in a
    /// header, and a token secret with them is refused.
    pub(super) fn can_be_stored(&self) -> bool {
        let is_printable = |token: &Secret| {
            let token = token.expose();
            token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && token.trim_matches(' ') == token
        };
        is_printable(&self.access_token) && self.refresh_token.as_ref().is_none_or(is_printable)
    }
}

/// A member whose name has one of these parts holds no token, though it is about tokens: `token_type`, `next_page_token`, `csrf_token`.
const NOT_TOKENS: [&str; 7] = ["type", "url", "uri", "page", "csrf", "expir", "request"];

/// Likewise with one of these at its end: `refresh_token_status`, `token_id`.
const NOT_TOKENS_AT_END: [&str; 10] =
    ["status", "state", "id", "at", "count", "left", "limit", "endpoint", "rotation", "hint"];

/// Members with these names hold tokens, too.
const SHORT_NAMES: [&str; 3] = ["access", "refresh", "jwt"];

/// With such a name, or in an object that is named like a token, a text of this length is one, unless it has blanks or is an address.
const MIN_UNCLEAR_BYTES: usize = 16;

/// What looks like a token in a response.
pub(super) struct FoundToken {
    pub token: Secret,
    name: TokenName,
}

/// What the name of a member says of its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenName {
    RefreshToken,
    Token,
    Other,
}

impl TokenName {
    /// What the name says, and how long a token with it is at least.
    fn of(name: &str) -> (Self, usize) {
        let letters = ascii_letters(name);
        let is_about_tokens = letters.contains("token")
            && !letters.starts_with("has")
            && !NOT_TOKENS.iter().any(|part| letters.contains(part))
            && !NOT_TOKENS_AT_END.iter().any(|end| letters.ends_with(end));
        let kind = if letters.contains("refresh") { Self::RefreshToken } else { Self::Token };
        match (is_about_tokens, SHORT_NAMES.contains(&letters.as_str())) {
            (true, _) => (kind, 1),
            (false, true) => (kind, MIN_UNCLEAR_BYTES),
            (false, false) => (Self::Other, MIN_UNCLEAR_BYTES),
        }
    }
}

impl FoundToken {
    pub(super) fn is_refresh_token(&self) -> bool {
        self.name == TokenName::RefreshToken
    }
}

/// What looks like a token by the name of its member, at any depth, also in arrays and in texts that are JSON.
pub(super) fn tokens_in(document: &Document) -> Vec<FoundToken> {
    let mut found = Vec::new();
    find_in_object(document, TokenName::Other, MAX_DEPTH, &mut found);
    found
}

fn find_in_object(document: &Document, around: TokenName, depth: usize, found: &mut Vec<FoundToken>) {
    for (name, value) in document.members().take(MAX_MEMBERS) {
        let (name, min_bytes) = TokenName::of(name);
        let name = match (around, name) {
            (around, TokenName::Other) | (around @ TokenName::RefreshToken, TokenName::Token) => around,
            (_, name) => name,
        };
        find_in_value(value, name, min_bytes, depth, found);
    }
}

fn find_in_value(value: &str, name: TokenName, min_bytes: usize, depth: usize, found: &mut Vec<FoundToken>) {
    let Some(depth) = depth.checked_sub(1).filter(|_| found.len() < MAX_MEMBERS) else { return };
    let is_plain = |text: &str| !text.contains(char::is_whitespace) && !text.contains("://");
    let is_long = |text: &str| text.len() >= min_bytes && (min_bytes == 1 || is_plain(text));
    match value.as_bytes().first() {
        Some(b'{') => {
            if let Ok(inner) = Document::parse(value) {
                find_in_object(&inner, name, depth, found);
            }
        }
        Some(b'[') => {
            let values = serde_json::from_str::<Vec<&RawValue>>(value).unwrap_or_default();
            values.into_iter().take(MAX_MEMBERS).for_each(|value| {
                find_in_value(value.get(), name, min_bytes, depth, found);
            });
        }
        Some(b'"') => {
            let Some(token) = text(value) else { return };
            match Document::parse(token.expose()) {
                Ok(inner) => find_in_object(&inner, name, depth, found),
                Err(_) if name != TokenName::Other && is_long(token.expose()) => {
                    found.push(FoundToken { token, name });
                }
                Err(_) => {}
            }
        }
        Some(b'0'..=b'9' | b'-') if name != TokenName::Other && value != "0" && is_long(value) => {
            found.push(FoundToken { token: value.into(), name });
        }
        _ => {}
    }
}

/// A text that says something: not blank, and not what some languages print for nothing.
fn text(json: &str) -> Option<Secret> {
    let text = Secret::from(serde_json::from_str::<String>(json).ok()?);
    Some(text).filter(|text| !text.expose().trim().is_empty() && text.expose() != "null")
}

/// The names of the members of RFC 6749 section 5.1, in its own style and in camelCase.
const ACCESS_TOKEN: [&str; 2] = ["access_token", "accessToken"];
const REFRESH_TOKEN: [&str; 2] = ["refresh_token", "refreshToken"];
const TOKEN_TYPE: [&str; 2] = ["token_type", "tokenType"];
const SCOPE: [&str; 1] = ["scope"];
/// Where there is no `access_token`.
const TOKEN: [&str; 1] = ["token"];

/// Whether a text that could not be parsed contains the name of an access token.
pub(super) fn names_access_token(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("access_token") || text.contains("accesstoken")
}

/// The tokens in a response: at the top, or in its one member that is an object with an access token.
pub(super) fn issued_tokens(document: &Document, is_error: bool, now: DateTime<Utc>) -> Option<IssuedTokens> {
    let has_access_token = |document: &Document| member(document, &ACCESS_TOKEN).is_some();
    let mut wrapped = document.members().filter_map(|(_, value)| Document::parse(value).ok()).filter(has_access_token);
    let (holder, names) = if has_access_token(document) {
        (document.clone(), &ACCESS_TOKEN[..])
    } else if let (Some(inner), None) = (wrapped.next(), wrapped.next()) {
        (inner, &ACCESS_TOKEN[..])
    } else if !is_error && member(document, &TOKEN).is_some() {
        (document.clone(), &TOKEN[..])
    } else {
        return None;
    };
    let access_token = member(&holder, names)?;
    let access_token_end = lifetime::access_token_end(&holder, now);
    let mut issued = IssuedTokens {
        access_token,
        refresh_token: member(&holder, &REFRESH_TOKEN),
        token_type: member(&holder, &TOKEN_TYPE).map(|text| text.expose().to_owned()),
        scope: member(&holder, &SCOPE).map(|text| text.expose().to_owned()).or_else(|| {
            // A few providers return a list.
            serde_json::from_str::<Vec<String>>(holder.get("scope")?).ok().map(|scopes| scopes.join(" "))
        }),
        access_token_end,
        refresh_token_end: lifetime::refresh_token_end(&holder),
        rest: Document::default(),
    };
    let mut rest = holder;
    for read in names
        .iter()
        .chain(&REFRESH_TOKEN)
        .chain(&TOKEN_TYPE)
        .chain(&SCOPE)
        .copied()
        .chain(lifetime::members_not_stored(access_token_end.map(|(member, _)| member)))
    {
        rest.remove(read);
    }
    if rest.members().count() <= MAX_MEMBERS {
        issued.rest = rest;
    }
    Some(issued)
}

/// The text of the first member of these names that has one.
fn member(document: &Document, names: &[&str]) -> Option<Secret> {
    names.iter().find_map(|name| document.get(name).and_then(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(body: &str) -> IssuedTokens {
        let document = Document::parse(body).unwrap();
        issued_tokens(&document, false, DateTime::UNIX_EPOCH).unwrap_or_else(|| panic!("no tokens: {body}"))
    }

    fn new_tokens(body: &str) -> NewTokens {
        issued(body).into_new_tokens(DateTime::UNIX_EPOCH, Duration::from_hours(1))
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
            (r#","expires_in":1e300"#, 3600),
            (r#","expires_in":315619200"#, 315_619_200),
            (r#","expires_in":315619201"#, 3600),
        ] {
            let tokens = new_tokens(&format!(r#"{{"access_token":"a"{expires_in}}}"#));
            assert_eq!(tokens.expires_at.timestamp(), seconds, "{expires_in}");
        }
    }

    #[test]
    fn the_end_of_the_refresh_token_is_read_and_zero_is_never() {
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
    fn other_members_are_stored_unchanged() {
        let tokens = new_tokens(r#"{"access_token":"a","instance_url":"https://x","n":1.50,"token_type":"Bearer"}"#);
        assert_eq!(tokens.rest.to_text().expose(), r#"{"instance_url":"https://x","n":1.50}"#);
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        for member in [
            "",
            r#","refresh_token":"""#,
            r#","refresh_token":" ""#,
            r#","refresh_token":"null""#,
            r#","refresh_token":null"#,
            r#","refresh_token":{"expires_in":5}"#,
        ] {
            assert_eq!(new_tokens(&format!(r#"{{"access_token":"a"{member}}}"#)).refresh_token, None, "{member}");
        }
    }

    #[test]
    fn an_impossible_lifetime_is_named() {
        for (members, named) in [
            (r#","expires_in":60"#, None),
            ("", None),
            (r#","expires_in":0"#, Some("expires_in")),
            (r#","expires_at":"1969-01-01T00:00:00Z""#, Some("expires_at")),
        ] {
            let body = format!(r#"{{"access_token":"a"{members}}}"#);
            assert_eq!(issued(&body).impossible_lifetime(DateTime::UNIX_EPOCH), named, "{body}");
        }
    }
}
