//! What `tokenctl adopt` is given: a whole document, or only tokens. Every mistake is named. Reads no store.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::{client::REGISTRATION, failure::Failure, server::LOGIN_SETTINGS};
use crate::{
    oauth::{
        client,
        grant::Grant,
        response::{self, TokenResponse},
    },
    sanitize::sanitize_line,
    secret::Secret,
    token_secret::{
        DEFAULT_LIFETIME, NewTokens, RefreshTokenExpiry, SecretProblem, TokenSecret,
        document::{Document, json_string},
        draft::Draft,
        member::Member,
    },
};

/// How many mistakes of one document are named.
const MAX_PROBLEMS: usize = 10;

/// How many members of a response are named.
const MAX_NAMED: usize = 40;

/// What is stored.
pub(super) enum Given {
    /// A whole document. It replaces the one in the secret.
    Document(Box<TokenSecret>),
    /// Tokens for the document in the secret.
    Tokens(NewTokens),
    /// Only a refresh token for it.
    RefreshToken(Secret),
}

/// Where the tokens are in a response.
pub(super) struct Pointers<'a> {
    pub access_token: &'a str,
    pub refresh_token: Option<&'a str>,
    pub lifetime: Option<TimeDelta>,
}

impl Given {
    /// Reads a document. One with a refresh token and without a client has only tokens, unless the function has the client
    /// (`client_in_environment`).
    pub(super) fn read(text: &Secret, client_in_environment: bool, now: DateTime<Utc>) -> Result<Self, Failure> {
        let token = TokenSecret::parse(text.expose());
        let token = token.map_err(|problem| unusable(&problems(text, Some(problem))))?;
        let settings = &token.client;
        // What names the authorization server makes it a whole document.
        let has_client = settings.token_endpoint.is_some()
            || settings.provider.is_some()
            || settings.client_credentials_secret_id.is_some();
        let is_refresh_token = matches!(token.tokens.grant, Grant::RefreshToken(_));
        if has_client || client_in_environment || !is_refresh_token {
            if client::check_provider(settings).is_err()
                || client::check(&settings.clone().with_profile(), &token.tokens.grant, [None, None]).is_err()
            {
                return Err(unusable(&problems(text, None)));
            }
            return Ok(Self::Document(Box::new(token)));
        }
        // When they were issued is not known, so a lifetime alone says nothing.
        let expires_at = token.expires_at.unwrap_or(now);
        let new = match response::read(200, None, text.expose().as_bytes(), now, &[]) {
            TokenResponse::Issued(issued) => issued.into_new_tokens(now, DEFAULT_LIFETIME),
            _ => match &token.tokens.access_token {
                Some(access_token) => tokens(access_token.clone(), token.tokens.refresh_token().cloned(), now),
                None => {
                    return Ok(token
                        .tokens
                        .refresh_token()
                        .cloned()
                        .map_or(Self::Document(Box::new(token)), Self::RefreshToken));
                }
            },
        };
        Ok(Self::Tokens(NewTokens { expires_at, rest: without_own_members(&new.rest), ..new }))
    }

    /// Takes the tokens from their places.
    pub(super) fn at(
        text: &Secret,
        pointers: &Pointers<'_>,
        issued_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let token = |pointer: &str| {
            let found = at(text.expose(), pointer).filter(|token| !token.expose().is_empty());
            found.ok_or_else(|| Failure::person(format!("there is no string at {}", sanitize_line(pointer, 200))))
        };
        let refresh_token = pointers.refresh_token.map(token).transpose()?;
        let new = tokens(token(pointers.access_token)?, refresh_token, issued_at);
        let expires_at = pointers.lifetime.map_or(now, |lifetime| issued_at + lifetime);
        Ok(Self::Tokens(NewTokens { expires_at, ..new }))
    }

    /// The tokens of a kept response. Most are where the function does not look: then their places must be named.
    pub(super) fn of_kept(text: &Secret, issued_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<Self, Failure> {
        if let TokenResponse::Issued(issued) = response::read(200, None, text.expose().as_bytes(), now, &[]) {
            return Ok(Self::Tokens(issued.into_new_tokens(issued_at, DEFAULT_LIFETIME)));
        }
        let mut pointers = Vec::new();
        list(text.expose(), "", &mut pointers);
        Err(Failure::person(if pointers.is_empty() {
            "the kept response is not JSON: find the tokens in it, write a document with them (docs/errors.md, ProviderRejected), and store \
             it with `tokenctl adopt`"
                .to_owned()
        } else {
            format!(
                "tokenctl did not find the tokens in the response; name their places with --access-token-at and --refresh-token-at. Its strings:\n  {}",
                pointers.join("\n  ")
            )
        }))
    }

    /// The document to store. `draft`: the document in the secret.
    pub(super) fn rendered(&self, draft: Option<&Draft>, max_bytes: usize) -> Result<Secret, String> {
        if let Self::Document(token) = self {
            return Ok(token.to_text());
        }
        let Some(draft) = draft else {
            return Err("it does not exist, and these tokens have no client: add `clientId`, `clientSecret` and `tokenEndpoint` (or \
                        `provider`) to the document"
                .to_owned());
        };
        let problem = |problem: SecretProblem| problem.to_string();
        match self {
            Self::Document(token) => Ok(token.to_text()),
            Self::Tokens(new) => {
                let old = draft.text(Member::RefreshToken).or_else(|| new.refresh_token.clone());
                let Some(refresh_token) = old else { return Err("there is no refresh token".to_owned()) };
                let token = draft.with_refresh_token(&refresh_token).map_err(problem)?;
                Ok(token.with_new_tokens(new, max_bytes))
            }
            // The access token in the secret is of another grant.
            Self::RefreshToken(refresh_token) => {
                let mut draft = draft.clone();
                draft.remove(Member::RefreshedAt).map_err(problem)?;
                draft.set(Member::ExpiresAt, "0".to_owned()).map_err(problem)?;
                draft.with_refresh_token(refresh_token).map(|token| token.to_text()).map_err(problem)
            }
        }
    }

    /// What may go wrong although the document is right. `old`: the document in the secret.
    pub(super) fn warnings(&self, token: &TokenSecret, old: Option<&Draft>) -> Vec<String> {
        let mut warnings = token.warnings();
        if !matches!(self, Self::Document(_)) {
            return warnings;
        }
        if token.tokens.access_token.is_none() && matches!(token.tokens.grant, Grant::RefreshToken(_)) {
            warnings.push(
                "the document has no access token. If another program uses this document today, it exchanges the refresh token itself: \
                 change it to read `accessToken` (docs/readers.md), or the two will spend each other's tokens"
                    .to_owned(),
            );
        }
        let lost = old.map(|old| self.lost_members(old)).unwrap_or_default();
        if !lost.is_empty() {
            let lost = lost.join(", ");
            warnings
                .push(format!("the new document replaces the one in the secret, and these members are lost: {lost}"));
        }
        warnings
    }

    /// The members of the document in the secret that this one replaces and lacks, for a message.
    pub(super) fn lost_members(&self, old: &Draft) -> Vec<String> {
        let Self::Document(document) = self else { return Vec::new() };
        let new = Document::parse(document.to_text().expose()).unwrap_or_default();
        let lost = old.names().into_iter().filter(|name| new.get(name).is_none());
        lost.map(|name| format!("`{}`", sanitize_line(&name, 40))).collect()
    }
}

fn tokens(access_token: Secret, refresh_token: Option<Secret>, issued_at: DateTime<Utc>) -> NewTokens {
    NewTokens {
        access_token,
        refresh_token,
        token_type: None,
        scope: None,
        refreshed_at: issued_at,
        expires_at: issued_at,
        refresh_token_expires_at: RefreshTokenExpiry::Unspecified,
        rest: Document::default(),
    }
}

/// The members of a response, without those that a token secret has beside it.
fn without_own_members(rest: &Document) -> Document {
    let mut own = rest.clone();
    for (name, _) in rest.members() {
        if Member::is_name(name) || name == LOGIN_SETTINGS || REGISTRATION.contains(&name) {
            own.remove(name);
        }
    }
    own
}

/// Every mistake of a document that can be found: each is taken out, until nothing is wrong any more. `first`: that of the whole document,
/// if it is known.
pub(super) fn problems(text: &Secret, first: Option<SecretProblem>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut document = Document::parse(text.expose()).unwrap_or_default();
    for (name, what) in [
        (
            "SecretString",
            "it is the output of get-secret-value: add `--query SecretString --output text` to that command",
        ),
        ("error", "it is an error response of the provider, and has no tokens"),
        (
            "access_token",
            "it has an access token and no refresh token: the provider has issued none (docs/first-token.md)",
        ),
    ] {
        let has_token = document.get("refresh_token").is_some() || document.get("refreshToken").is_some();
        if document.get(name).is_some() && !has_token {
            return vec![what.to_owned()];
        }
    }
    let mut next = match first {
        Some(problem) => Err(problem),
        None => TokenSecret::parse(text.expose()),
    };
    while let Err(problem) = next {
        let member = member_of(&problem);
        found.push(problem.to_string());
        let Some(member) = member.filter(|_| found.len() < MAX_PROBLEMS) else { break };
        document.remove(member.split('.').next().unwrap_or(&member));
        if document.get("refreshToken").is_none() && document.get("refresh_token").is_none() {
            // The mistake was in the refresh token itself.
            document.set("refreshToken", json_string("-"));
        }
        next = TokenSecret::parse(document.to_text().expose());
        if next.as_ref().is_err_and(|problem| found.contains(&problem.to_string())) {
            break;
        }
    }
    // What is wrong with the client, as far as it is there.
    if let Ok(token) = TokenSecret::parse(document.to_text().expose()) {
        let settings = token.client.clone();
        found.extend(client::check_provider(&settings).err());
        found.extend(client::check(&settings.with_profile(), &token.tokens.grant, [None, None]).err());
    }
    found
}

/// The mistakes as one text.
fn unusable(problems: &[String]) -> Failure {
    Failure::person(match problems {
        [one] => format!("the document cannot be used: {one}"),
        many => format!("the document cannot be used:\n  - {}", many.join("\n  - ")),
    })
}

/// The member that a problem is about.
fn member_of(problem: &SecretProblem) -> Option<String> {
    match problem {
        SecretProblem::WrongType { member, .. }
        | SecretProblem::ProviderParameter { member, .. }
        | SecretProblem::WhiteSpace { member, .. }
        | SecretProblem::Duplicate(member, _) => Some(member.clone()),
        SecretProblem::MemberNames(_) => Some("memberNames".to_owned()),
        SecretProblem::NoRefreshToken { member, .. } => Some(member.to_string()),
        _ => None,
    }
}

/// The JSON pointers of all texts in a value, with their lengths.
fn list(json: &str, pointer: &str, pointers: &mut Vec<String>) {
    if pointers.len() >= MAX_NAMED {
        return;
    }
    match json.as_bytes().first() {
        Some(b'{') => {
            let Ok(document) = Document::parse(json) else { return };
            for (name, value) in document.members() {
                // A name with more than a few digits, or a long one, may be a token itself.
                let is_plain = name.len() <= 40 && name.bytes().filter(u8::is_ascii_digit).count() <= 3;
                let name = if is_plain { name.replace('~', "~0").replace('/', "~1") } else { "…".to_owned() };
                list(value, &format!("{pointer}/{name}"), pointers);
            }
        }
        Some(b'[') => {
            let values = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
            for (index, value) in values.into_iter().enumerate() {
                list(value.get(), &format!("{pointer}/{index}"), pointers);
            }
        }
        Some(b'"') => {
            let length =
                serde_json::from_str::<String>(json).map(Secret::from).map_or(0, |text| text.expose().chars().count());
            let pointer = sanitize_line(pointer, 80);
            pointers.push(format!("{pointer} ({length} characters)"));
        }
        _ => {}
    }
}

/// The text at a JSON pointer.
fn at(json: &str, pointer: &str) -> Option<Secret> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return pointer.is_empty().then(|| serde_json::from_str::<String>(json).ok().map(Secret::from)).flatten();
    };
    let (name, rest) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match json.as_bytes().first()? {
        b'{' => at(Document::parse(json).ok()?.get(&name)?, rest),
        b'[' => at(serde_json::from_str::<Vec<&RawValue>>(json).ok()?.get(name.parse::<usize>().ok()?)?.get(), rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_at_its_pointer() {
        const JSON: &str = r#"{"a": {"b/c": ["x", {"~": "found"}]}, "n": 1}"#;
        for (pointer, expected) in [
            ("/a/b~1c/1/~0", Some("found")),
            ("/a/b~1c/0", Some("x")),
            ("/a/b~1c/2", None),
            ("/a/b~1c/-", None),
            ("/n", None),
            ("/a", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(at(JSON, pointer).as_ref().map(Secret::expose), expected, "{pointer}");
        }
        let mut pointers = Vec::new();
        list(JSON, "", &mut pointers);
        assert_eq!(pointers, ["/a/b~1c/0 (1 characters)", "/a/b~1c/1/~0 (5 characters)"]);
    }

    #[test]
    fn every_mistake_is_named() {
        let text = Secret::from(
            r#"{"refreshToken":"r\n","clientId":" id","tokenEndpointAuthMethod":"basic","provider":"xero","providerParameters":{"x":"y"}}"#,
        );
        let problems = problems(&text, None).join("; ");
        for part in
            ["`refreshToken` has", "`clientId` has", "`tokenEndpointAuthMethod` is", "`providerParameters.x` is"]
        {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }
}
