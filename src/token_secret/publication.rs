//! What readers may see of a token secret: its members for them, and of a provider's responses all that does not look like a refresh
//! token or a secret, at any depth. Every other value keeps its text.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    SecretProblem, TokenSecret,
    document::{Document, is_nothing, json_string, letters},
    member::{Member, Style, lenient_object},
};
use crate::{sanitize::sanitize_line, secret::Secret};

impl TokenSecret {
    /// The publication of this secret: the members that readers need, each with the same name and value as here. `None`: there is
    /// no access token yet.
    #[must_use]
    pub fn publication(&self) -> Option<Secret> {
        self.tokens.access_token.as_ref()?;
        let mut publication = Document::default();
        for member in Member::PUBLISHED {
            let Some(value) = self.layout.get(member) else { continue };
            if member != Member::TokenResponse {
                publication.set(self.published_name(member), value.to_string());
            }
        }
        if let Some(response) = self.published_response() {
            publication.set(self.published_name(Member::TokenResponse), response);
        }
        // The secret may have it under another name.
        if let Some(expires_at) = self.expires_at
            && self.layout.get(Member::ExpiresAt).is_none_or(|value| is_nothing(&value))
        {
            publication.set(self.published_name(Member::ExpiresAt), self.time_form.write(expires_at));
        }
        Some(publication.to_text())
    }

    /// The `tokenResponse` of a publication, with the members of responses that the secret has in other places.
    fn published_response(&self) -> Option<String> {
        let layout = &self.layout;
        // Also one that the grant does not use.
        let refresh_token = Member::RefreshToken.credential(layout).ok().flatten();
        let own = layout.get(Member::TokenResponse);
        let elsewhere =
            layout.response_members.iter().filter_map(|(name, place)| Some((name, place.get(&layout.document)?)));
        let elsewhere: Vec<_> = elsewhere.filter(|(_, value)| !is_nothing(value)).collect();
        if elsewhere.is_empty() {
            return own.map(|own| response_without_secrets(&own, refresh_token.as_ref()));
        }
        let mut response = Member::TokenResponse.object(layout).ok().flatten().unwrap_or_default();
        for (name, value) in elsewhere {
            response.set(name, value.to_string());
        }
        let response = layout.in_document_type(response.to_text().expose().to_owned());
        Some(response_without_secrets(&response, refresh_token.as_ref()))
    }

    /// The member's name in a publication: that in the secret if it is ours, or else ours in the secret's style.
    fn published_name(&self, member: Member) -> &'static str {
        let place = self.layout.place_of(member);
        let names = [Style::CamelCase, Style::SnakeCase].map(|style| member.name(style));
        let own = names.into_iter().find(|name| *name == place.last_name());
        own.unwrap_or_else(|| member.name(self.layout.style))
    }
}

/// Checks that a text is a publication or an empty object. No other content of a published secret is overwritten.
///
/// # Errors
///
/// The problem, in words that contain no value.
pub fn check_publication(text: &str) -> Result<(), String> {
    let document = Document::parse(text).map_err(|problem| SecretProblem::NotADocument(problem).to_string())?;
    let mut names = document.members().map(|(name, _)| name);
    match names.find(|name| !Member::PUBLISHED.iter().any(|member| member.has_name(name))) {
        None => Ok(()),
        Some(name) => Err(format!("it has a member `{}`, which is never published", sanitize_line(name, 64))),
    }
}

/// Deeper values are removed as a whole. Providers nest two or three levels.
const MAX_DEPTH: usize = 16;

/// The JSON text of a `tokenResponse` without its secrets. In a document of strings it is a string.
pub(super) fn response_without_secrets(json: &str, refresh_token: Option<&Secret>) -> String {
    match lenient_object(json) {
        Some(response) if json.starts_with('"') => {
            json_string(&without_secrets(response.to_text().expose(), refresh_token))
        }
        _ => without_secrets(json, refresh_token),
    }
}

/// The JSON text without members that look like a refresh token or a secret by their name, and without values that are the refresh
/// token. Text without such members is returned as it is.
fn without_secrets(json: &str, refresh_token: Option<&Secret>) -> String {
    filtered(json, refresh_token, MAX_DEPTH).unwrap_or_else(|| "null".to_owned())
}

/// The filtered text; `None` if the value itself must not be published.
fn filtered(json: &str, refresh_token: Option<&Secret>, depth: usize) -> Option<String> {
    let json = json.trim();
    let depth = depth.checked_sub(1)?;
    match json.as_bytes().first()? {
        b'{' => {
            let document = Document::parse(json).ok()?;
            let mut kept = Document::default();
            let mut is_whole = true;
            for (name, value) in document.members() {
                match (!is_secret(name)).then(|| filtered(value, refresh_token, depth)).flatten() {
                    Some(value) => kept.set(name, value),
                    None => is_whole = false,
                }
            }
            let is_unchanged = is_whole && kept.members().eq(document.members());
            Some(if is_unchanged { json.to_owned() } else { kept.to_text().expose().to_owned() })
        }
        b'[' => {
            let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let kept: Vec<_> = values.iter().filter_map(|value| filtered(value.get(), refresh_token, depth)).collect();
            let is_unchanged =
                kept.len() == values.len() && kept.iter().zip(&values).all(|(kept, value)| kept == value.get().trim());
            Some(if is_unchanged { json.to_owned() } else { format!("[{}]", kept.join(",")) })
        }
        b'"' => {
            let text = Zeroizing::new(serde_json::from_str::<String>(json).ok()?);
            // An empty token would be found in every text.
            let is_token =
                refresh_token.is_some_and(|token| !token.expose().is_empty() && text.contains(token.expose()));
            (!is_token).then(|| json.to_owned())
        }
        _ => Some(json.to_owned()),
    }
}

/// Whether a name is that of a refresh token, a secret, a password or a key: in any style of writing.
fn is_secret(name: &str) -> bool {
    let letters = letters(name);
    // The end of a refresh token is not a secret.
    let is_refresh_token = letters.contains("refresh")
        && letters.contains("token")
        && !letters.contains("expire")
        && !letters.contains("lifetime");
    is_refresh_token || ["secret", "password", "privatekey", "passphrase"].iter().any(|word| letters.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_looks_like_a_refresh_token_or_a_secret_is_published_at_any_depth() {
        for (response, published) in [
            (r#"{"instance_url":"https://x","n":1.50}"#, r#"{"instance_url":"https://x","n":1.50}"#),
            (
                r#"{"authed_user":{"id":"U1","access_token":"a","refresh_token":"r2"}}"#,
                r#"{"authed_user":{"id":"U1","access_token":"a"}}"#,
            ),
            (r#"{"refreshToken":"x","RefreshToken":"y","refresh-token":"z","ok":true}"#, r#"{"ok":true}"#),
            (r#"{"app":[{"client_secret":"s","id":1.0},{"id":2}]}"#, r#"{"app":[{"id":1.0},{"id":2}]}"#),
            (r#"{"copy":"the-refresh-token","list":["a","the-refresh-token"]}"#, r#"{"list":["a"]}"#),
            (r#"{"url":"https://x/?t=the-refresh-token"}"#, "{}"),
            (
                r#"{"refresh_token_expires_in":5,"refreshTokenExpiresAt":6}"#,
                r#"{"refresh_token_expires_in":5,"refreshTokenExpiresAt":6}"#,
            ),
            (r#"{"webhookSecret":"s","Password":"p","private_key":"k"}"#, "{}"),
            (r#"{ "kept" : [ 1, 2 ] }"#, r#"{ "kept" : [ 1, 2 ] }"#),
        ] {
            assert_eq!(without_secrets(response, Some(&"the-refresh-token".into())), published, "{response}");
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_is_not_published() {
        let nested = |depth: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        for (depth, is_kept) in [(MAX_DEPTH - 2, true), (MAX_DEPTH - 1, false)] {
            let published = without_secrets(&nested(depth), Some(&"r".into()));
            assert_eq!(published == nested(depth), is_kept, "{depth}: {published}");
        }
    }
}
