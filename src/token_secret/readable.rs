//! The part of a token secret that a reader needs. Reads a token secret or a published secret. Members that only the refresher
//! needs are wiped right after they are read.

use std::{any::type_name, fmt, time::Duration};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::{
    SecretProblem,
    document::{Document, kind},
    layout::Layout,
    member::{Member, Style},
    member_names::MemberNames,
};
use crate::{sanitize::sanitize_line, secret::Secret};

/// Members that a reader does not need and must not keep.
const NOT_FOR_READERS: [Member; 7] = [
    Member::AccessToken, // kept in a field of its own
    Member::RefreshToken,
    Member::ClientSecret,
    Member::ExtraParameters,
    Member::ExtraHeaders,
    Member::PrivateKey,
    Member::AssertionClaims,
];

/// The readable part of a token secret.
pub struct ReadableToken {
    /// The access token; missing before the first refresh.
    pub access_token: Option<Secret>,
    /// When it expires; `None` if no member shows it.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was obtained; `None` if the secret has no `refreshedAt`.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// The margin of the secret, if it has its own.
    pub refresh_margin: Option<Duration>,
    members: Document,
    /// The object with the tokens in it.
    inner: Option<Document>,
    token_response: Option<Document>,
}

impl ReadableToken {
    /// Reads the text of a secret.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is wrong. A missing access token is not an error.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        Self::parse_with(text, &MemberNames::default())
    }

    /// The same. `names` says where members are if the secret does not.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is wrong. A missing access token is not an error.
    pub fn parse_with(text: &str, names: &MemberNames) -> Result<Self, SecretProblem> {
        let members = Document::parse(text).map_err(SecretProblem::NotADocument)?;
        let mut layout = Layout::of_tokens(members, names)?;
        let access_token = Member::AccessToken.credential(&layout)?;
        let own_expiry = Member::ExpiresAt.time(&layout)?;
        let own_expiry = own_expiry.map(|(time, _)| time);
        let expires_at = own_expiry.or_else(|| layout.other_expiry().map(|(time, _)| time));
        let refreshed_at = Member::RefreshedAt.time(&layout)?.map(|(time, _)| time);
        let refresh_margin = Member::RefreshMarginSeconds.seconds(&layout)?;
        let token_response = Member::TokenResponse.object(&layout)?;
        for member in NOT_FOR_READERS {
            layout.remove(member);
        }
        let (mut members, mut inner) = layout.into_documents();
        // Also those that are ours by name, where `memberNames` or an inner object has others.
        for document in [Some(&mut members), inner.as_mut()].into_iter().flatten() {
            for member in NOT_FOR_READERS {
                document.remove(member.name(Style::CamelCase));
                document.remove(member.name(Style::SnakeCase));
            }
        }
        Ok(Self { access_token, expires_at, refreshed_at, refresh_margin, members, inner, token_response })
    }

    /// Another member of the secret, or else of its `tokenResponse`. Null counts as missing.
    ///
    /// # Errors
    ///
    /// [`SecretProblem::WrongType`] if the member is not a `T`.
    pub fn member<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SecretProblem> {
        let documents = [self.inner.as_ref(), Some(&self.members), self.token_response.as_ref()];
        let found =
            documents.into_iter().flatten().find_map(|document| document.get(name).filter(|value| *value != "null"));
        let Some(value) = found else { return Ok(None) };
        match serde_json::from_str(value) {
            Ok(read) => Ok(Some(read)),
            // serde's own text is not used: it quotes the value.
            Err(_) => Err(SecretProblem::WrongType {
                member: sanitize_line(name, 64),
                found: kind(value),
                wanted: type_name::<T>(),
            }),
        }
    }
}

impl fmt::Debug for ReadableToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadableToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_read_with_and_without_a_refresh_token() {
        for text in [
            r#"{"accessToken":"a","expiresAt":1767225600,"refreshedAt":"2025-12-31T23:00:00Z","refreshMarginSeconds":60}"#,
            r#"{"access_token":"a","expires_at":1767225600000,"refreshed_at":1767222000,"refresh_margin_seconds":60,
                "refresh_token":"r"}"#,
        ] {
            let token = ReadableToken::parse(text).unwrap();
            assert_eq!(token.access_token.unwrap().expose(), "a");
            assert_eq!(token.expires_at.unwrap().timestamp(), 1_767_225_600);
            assert_eq!(token.refreshed_at.unwrap().timestamp(), 1_767_222_000);
            assert_eq!(token.refresh_margin, Some(Duration::from_mins(1)));
        }
    }

    #[test]
    fn a_member_comes_from_the_secret_or_else_from_its_token_response() {
        let token = ReadableToken::parse(
            r#"{"accessToken":"a","region":"eu","scope":null,"limits":{"rate":5},
                "tokenResponse":{"instance_url":"https://eu.example","region":"us","scope":"read"}}"#,
        )
        .unwrap();
        let text = |name| token.member::<String>(name).unwrap();
        assert_eq!(text("instance_url").as_deref(), Some("https://eu.example"));
        assert_eq!(text("region").as_deref(), Some("eu"));
        assert_eq!(text("scope").as_deref(), Some("read"));
        assert_eq!(text("missing"), None);
        assert_eq!(token.member::<std::collections::BTreeMap<String, u8>>("limits").unwrap().unwrap()["rate"], 5);
        let problem = token.member::<u64>("instance_url").unwrap_err();
        assert_eq!(problem.to_string(), "its member `instance_url` is a string, where u64 is wanted");
    }

    #[test]
    fn documents_of_other_programs_are_read() {
        for (text, access_token, expires_at) in [
            (r#"{"token":"a","refresh_token":"r","expiry":"2026-01-01T00:00:00.123456Z"}"#, "a", Some(1_767_225_600)),
            (
                r#"{"token":{"access_token":"a","refresh_token":"r","expires_at":1767225600},"n":1}"#,
                "a",
                Some(1_767_225_600),
            ),
            (
                r#"{"access_token":"a","refresh_token":"r","created":1767222001,"expires_in":3599}"#,
                "a",
                Some(1_767_225_600),
            ),
            (r#"{"access_token":"a","refresh_token":"r","expires_in":3599}"#, "a", None),
            (
                r#"{"memberNames":{"accessToken":"/x/a","expiresAt":"/x/e"},"refreshToken":"r","x":{"a":"b","e":1767225600}}"#,
                "b",
                Some(1_767_225_600),
            ),
        ] {
            let token = ReadableToken::parse(text).unwrap();
            assert_eq!(token.access_token.unwrap().expose(), access_token, "{text}");
            assert_eq!(token.expires_at.map(|time| time.timestamp()), expires_at, "{text}");
        }
    }

    #[test]
    fn members_around_and_beside_tokens_in_an_object_are_read_and_no_refresh_token_is() {
        let token = ReadableToken::parse(
            r#"{"region":"eu","credentials":{"access_token":"a","refresh_token":"r","instance_url":"https://x","region":"us"}}"#,
        )
        .unwrap();
        let text = |name| token.member::<String>(name).unwrap();
        assert_eq!(text("instance_url").as_deref(), Some("https://x"));
        assert_eq!(text("region").as_deref(), Some("us"));
        assert_eq!(token.member::<serde_json::Value>("refresh_token").unwrap(), None);
        assert_eq!(token.member::<serde_json::Value>("credentials").unwrap(), None);
    }

    #[test]
    fn members_that_only_the_refresher_needs_cannot_be_read() {
        for (style, names) in [
            (
                r#"{"accessToken":"a","refreshToken":"r","clientId":"i","clientSecret":"s","extraHeaders":{"h":"x"},"privateKey":"k"}"#,
                ["accessToken", "refreshToken", "clientSecret", "extraHeaders", "privateKey"],
            ),
            (
                r#"{"access_token":"a","refresh_token":"r","client_secret":"s","extra_headers":{"h":"x"},"private_key":"k"}"#,
                ["access_token", "refresh_token", "client_secret", "extra_headers", "private_key"],
            ),
        ] {
            let token = ReadableToken::parse(style).unwrap();
            for name in names {
                assert_eq!(token.member::<serde_json::Value>(name).unwrap(), None, "{name}");
            }
        }
    }
}
