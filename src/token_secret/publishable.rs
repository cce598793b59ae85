//! Removes from a provider's response what readers must not get: whatever looks like a refresh token or a secret, at any depth. Every
//! other value keeps its text.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    document::{Document, json_string},
    member::lenient_object,
};
use crate::secret::Secret;

/// Deeper values are removed as a whole. Providers nest two or three levels.
const MAX_DEPTH: usize = 16;

/// The JSON text of a `tokenResponse` without its secrets. In a document of strings it is a string.
pub(super) fn response_without_secrets(json: &str, refresh_token: &Secret) -> String {
    match lenient_object(json) {
        Some(response) if json.starts_with('"') => {
            json_string(&without_secrets(response.to_text().expose(), refresh_token))
        }
        _ => without_secrets(json, refresh_token),
    }
}

/// The JSON text without members that look like a refresh token or a secret by their name, and without values that are the refresh
/// token. Text without such members is returned as it is.
fn without_secrets(json: &str, refresh_token: &Secret) -> String {
    filtered(json, refresh_token, MAX_DEPTH).unwrap_or_else(|| "null".to_owned())
}

/// The filtered text; `None` if the value itself must not be published.
fn filtered(json: &str, refresh_token: &Secret, depth: usize) -> Option<String> {
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
            let is_token = !refresh_token.expose().is_empty() && text.contains(refresh_token.expose());
            (!is_token).then(|| json.to_owned())
        }
        _ => Some(json.to_owned()),
    }
}

/// Whether a name is that of a refresh token, a secret, a password or a key: in any style of writing.
fn is_secret(name: &str) -> bool {
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
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
            assert_eq!(without_secrets(response, &"the-refresh-token".into()), published, "{response}");
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_is_not_published() {
        let nested = |depth: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        for (depth, is_kept) in [(MAX_DEPTH - 2, true), (MAX_DEPTH - 1, false)] {
            let published = without_secrets(&nested(depth), &"r".into());
            assert_eq!(published == nested(depth), is_kept, "{depth}: {published}");
        }
    }
}
