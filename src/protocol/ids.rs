//! The version ids that belong to one state of a token. Every id is derived from the tokens, so that all runs with the same
//! single-use token compute the same ids, whichever version they read it from. No IO.
//!
//! The ids are a format (`docs/compatibility.md`): `tests/vectors` pins them.
//!
//! | id | label | content |
//! |---|---|---|
//! | `claim(n)` | `OAUTH_CLAIM` | which run may exchange this token, and until when |
//! | `staged` | `OAUTH_STAGED` | the tokens it was exchanged for |
//! | `refusal` | `OAUTH_CLAIM` | the provider's refusal, for six hours |
//! | `kept` | `OAUTH_KEPT` | a response with tokens in an unknown form |
//! | `published` | `OAUTH_STAGED`, in the secret that `publishTo` names | what readers need of the tokens |

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest, Sha256};

use crate::{
    oauth::{client::Client, grant::Grant},
    secret::Secret,
    store::VersionId,
    token_secret::{
        Tokens,
        client_settings::{ClientSettings, TokenEndpointAuthMethod, TokenRequestFormat},
        document::Document,
        provider::{NamedProvider, ProfileSettings},
        signing::{JwtSettings, KeySetting, SigningAlgorithm},
    },
};

/// How long a recorded refusal holds. It ends by itself, so that an incident at the provider needs no person.
const REFUSAL_WINDOW_SECONDS: i64 = 6 * 3600;

/// One state of a token, as a number: SHA-256 over the secret's ARN, the grant, the access token and `refreshedAt`. If the grant is
/// not single-use, also over the client's settings in the token secret: a token that was obtained with other ones is another token.
///
/// Not over the version id: a person who edits another member, or pastes an old copy back, makes a new version with the same
/// single-use token. Not over the expiry: people set it to 0 to have a token refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// The key of these tokens in this secret. `client`: the client's settings in the token secret.
    #[must_use]
    pub fn of(arn: &str, tokens: &Tokens, client: &ClientSettings) -> Self {
        let refreshed_at = tokens.refreshed_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Nanos, true));
        let identity = tokens.grant.identity();
        let mut parts = vec![
            Some(arn),
            Some(&*identity),
            tokens.access_token.as_ref().map(Secret::expose),
            refreshed_at.as_deref(),
        ];
        if !tokens.grant.is_single_use() {
            let client = client.clone().with_profile();
            parts.extend(settings_parts(&client, &tokens.grant));
            return Self(digest(&parts));
        }
        Self(digest(&parts))
    }

    /// The id of the n-th claim on these tokens, counted from 0.
    #[must_use]
    pub fn claim(&self, attempt: u32) -> VersionId {
        self.id(&["claim", &attempt.to_string()])
    }

    /// The id of the staged version: the tokens that these were exchanged for.
    #[must_use]
    pub fn staged(&self) -> VersionId {
        self.id(&["successor"])
    }

    /// The id for tokens whose staged version turned out to exist with others: no issued token is dropped.
    #[must_use]
    pub fn staged_second(&self, body: &Secret) -> VersionId {
        self.id(&["other successor", body.expose()])
    }

    /// The id, in the published secret, of the publication of these tokens.
    #[must_use]
    pub fn published(&self, publication: &Secret) -> VersionId {
        self.id(&["published", publication.expose()])
    }

    /// The id of the refusal of these tokens to this client in the six hours (UTC) around `now`.
    #[must_use]
    pub fn refusal(&self, client: ClientDigest, now: DateTime<Utc>) -> VersionId {
        self.refusal_of(&client.to_string(), now)
    }

    /// The same, with the client's digest as a claim contains it.
    pub(super) fn refusal_of(&self, client: &str, now: DateTime<Utc>) -> VersionId {
        let window = now.timestamp().div_euclid(REFUSAL_WINDOW_SECONDS);
        self.id(&["refusal", client, &window.to_string()])
    }

    /// The id of a response to these tokens that could not be understood.
    #[must_use]
    pub fn kept(&self) -> VersionId {
        self.id(&["kept"])
    }

    /// The id for a second such response, after a person forced another exchange.
    #[must_use]
    pub fn kept_second(&self, text: &Secret) -> VersionId {
        self.id(&["other kept", text.expose()])
    }

    fn id(&self, parts: &[&str]) -> VersionId {
        let key = self.to_string();
        let parts: Vec<_> = std::iter::once(key.as_str()).chain(parts.iter().copied()).map(Some).collect();
        uuid(&digest(&parts))
    }
}

impl std::fmt::Display for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The id of a version with the members of one version and the tokens of another.
#[must_use]
pub fn merged(members_of: &VersionId, tokens_of: &VersionId) -> VersionId {
    uuid(&digest(&[Some("merged"), Some(members_of.as_str()), Some(tokens_of.as_str())]))
}

/// A digest of the client's settings, to see whether they have changed.
///
/// Four bytes: enough to see that a person changed something, too few to test guesses of the client's secret against. People who
/// may read the token but not that secret can see the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientDigest([u8; 4]);

impl ClientDigest {
    /// Stands for the client whose settings are in this secret, while that cannot be read.
    pub(super) fn of_unread_secret(secret_id: &str) -> Self {
        let [a, b, c, d, ..] = digest(&[Some(secret_id)]);
        Self([a, b, c, d])
    }

    #[cfg(test)]
    pub(crate) const fn for_test(number: u8) -> Self {
        Self([number; 4])
    }

    /// The digest of a client without its JWT claims: those often name the user of one token, and the client of many tokens is the same.
    #[must_use]
    pub fn without_jwt_claims(client: &Client) -> Self {
        let mut client = client.clone();
        if let Some(signer) = &mut client.signer {
            signer.claim_changes = Document::default();
        }
        Self::of(&client)
    }

    /// The digest of a client's settings.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        let mut parts = vec![
            Some(client.token_endpoint.as_str()),
            Some(client.client_id.expose()),
            client.client_secret.as_ref().map(Secret::expose),
            Some(method_text(client.auth_method)),
        ];
        parts.extend(request_parts([&client.extra_parameters, &client.extra_headers], client.request_format));
        parts.extend(profile_parts(&client.profile));
        if let Some(signer) = &client.signer {
            let algorithm = Some(signer.key.algorithm().name());
            parts.extend(signing_parts(
                Some(signer.key.text()),
                signer.key_id.as_deref(),
                algorithm,
                &signer.claim_changes,
            ));
        }
        let [a, b, c, d, ..] = digest(&parts);
        Self([a, b, c, d])
    }
}

impl std::fmt::Display for ClientDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Part of a stored format: never change one of these texts.
const fn method_text(method: TokenEndpointAuthMethod) -> &'static str {
    match method {
        TokenEndpointAuthMethod::ClientSecretPost => "ClientSecretPost",
        TokenEndpointAuthMethod::ClientSecretBasic => "ClientSecretBasic",
        TokenEndpointAuthMethod::ClientSecretBasicRaw => "ClientSecretBasicRaw",
        TokenEndpointAuthMethod::None => "None",
        TokenEndpointAuthMethod::PrivateKeyJwt => "PrivateKeyJwt",
        TokenEndpointAuthMethod::BearerJwt => "BearerJwt",
    }
}

/// How the request differs from an ordinary one. Part of stored formats.
fn request_parts(extras: [&[(String, Secret)]; 2], format: TokenRequestFormat) -> Vec<Option<&str>> {
    let mut parts = Vec::new();
    for extras in extras {
        parts.push(None);
        parts.extend(extras.iter().flat_map(|(name, value)| [Some(name.as_str()), Some(value.expose())]));
    }
    // A later setting is a part only where it is set: other clients keep their digest.
    if format == TokenRequestFormat::Json {
        parts.extend([None, Some("Json")]);
    }
    parts
}

/// What a token is requested with, as far as the token secret says it. Part of a stored format.
fn settings_parts<'a>(client: &'a ClientSettings, grant: &Grant) -> Vec<Option<&'a str>> {
    let extras = [&client.extra_parameters, &client.extra_headers].map(|extras| extras.as_deref().unwrap_or_default());
    let mut parts = vec![
        client.token_endpoint.as_ref().map(Secret::expose),
        client.client_id.as_ref().map(Secret::expose),
        client.client_secret.as_ref().map(Secret::expose),
        client.token_endpoint_auth_method.map(method_text),
        client.client_credentials_secret_id.as_deref(),
    ];
    parts.extend(request_parts(extras, client.token_request_format.unwrap_or_default()));
    if let Some(NamedProvider::Known(profile)) = &client.provider {
        parts.extend(profile_parts(profile));
    }
    // Other programs have members of these names, too.
    if grant.is_jwt_bearer() || client.token_endpoint_auth_method.is_some_and(TokenEndpointAuthMethod::needs_jwt) {
        let JwtSettings { key, key_id, algorithm, assertion_claims, .. } = &client.signing;
        let (key, algorithm) = (key.as_ref().map(KeySetting::text), algorithm.map(SigningAlgorithm::name));
        parts.extend(signing_parts(key, key_id.as_deref(), algorithm, assertion_claims));
    }
    parts
}

/// What a profile adds to requests. Part of stored formats.
fn profile_parts(profile: &ProfileSettings) -> Vec<Option<&str>> {
    let parts = [&profile.parameters, &profile.headers].map(|list| {
        let texts = list.iter().flat_map(|(name, value)| [Some(name.as_str()), Some(value.as_str())]);
        std::iter::once(None).chain(texts).collect::<Vec<_>>()
    });
    if profile.parameters.is_empty() && profile.headers.is_empty() { Vec::new() } else { parts.concat() }
}

/// How JWTs are made. Part of stored formats.
fn signing_parts<'a>(
    key: Option<&'a str>,
    key_id: Option<&'a str>,
    algorithm: Option<&'a str>,
    claims: &'a Document,
) -> Vec<Option<&'a str>> {
    let mut parts = vec![None, Some("Signing"), key, key_id, algorithm];
    parts.extend(claims.members().flat_map(|(name, value)| [Some(name), Some(value)]));
    parts
}

/// SHA-256 over a list of texts and gaps, each text preceded by its length, so that no two lists have the same input.
fn digest(parts: &[Option<&str>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        match part {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        }
    }
    hash.finalize().into()
}

/// A custom UUID (version 8, RFC 9562) of the hash's first half: `ClientRequestToken` should be a UUID.
fn uuid(hash: &[u8; 32]) -> VersionId {
    let [half, _] = [0, 16].map(|from| std::array::from_fn(|i| hash[from + i]));
    uuid::Builder::from_custom_bytes(half).into_uuid().to_string().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            grant: Grant::RefreshToken("refresh".into()),
            access_token: Some("access".into()),
            refreshed_at: DateTime::from_timestamp_millis(1_767_225_600_000),
        }
    }

    fn client(client_secret: &str) -> ClientDigest {
        let settings = ClientSettings {
            token_endpoint: Some("https://id.example/token".into()),
            client_id: Some("id".into()),
            client_secret: Some(client_secret.into()),
            ..ClientSettings::default()
        };
        ClientDigest::of(&Client::new(settings, &Grant::RefreshToken("r".into())).unwrap())
    }

    fn key_of(arn: &str, tokens: &Tokens) -> TokenKey {
        TokenKey::of(arn, tokens, &ClientSettings::default())
    }

    #[test]
    fn tokens_that_differ_in_anything_have_other_keys() {
        let keys = [
            key_of("arn", &tokens()),
            key_of("arn2", &tokens()),
            key_of("arn", &Tokens { grant: Grant::RefreshToken("other".into()), ..tokens() }),
            key_of("arn", &Tokens { access_token: Some("other".into()), ..tokens() }),
            key_of("arn", &Tokens { access_token: None, ..tokens() }),
            key_of("arn", &Tokens { access_token: Some("".into()), ..tokens() }),
            key_of("arn", &Tokens { refreshed_at: None, ..tokens() }),
            key_of("arn", &Tokens { refreshed_at: DateTime::from_timestamp_millis(1_767_225_600_001), ..tokens() }),
            // The same letters, shared out otherwise.
            key_of("arnr", &Tokens { grant: Grant::RefreshToken("efresh".into()), ..tokens() }),
            key_of(
                "arn",
                &Tokens {
                    grant: Grant::RefreshToken("refresha".into()),
                    access_token: Some("ccess".into()),
                    ..tokens()
                },
            ),
        ];
        let different: HashSet<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key_of("arn", &tokens()), keys[0], "the same tokens have the same key");
    }

    #[test]
    fn ids_are_uuids_and_no_two_meanings_share_one() {
        let key = key_of("arn", &tokens());
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let mut ids: Vec<VersionId> = (0..1000).map(|attempt| key.claim(attempt)).collect();
        ids.push(key.staged());
        ids.push(key.staged_second(&"body".into()));
        ids.push(key.refusal(client("s"), now));
        ids.push(key.kept());
        ids.push(key.kept_second(&"body".into()));
        ids.push(merged(&key.staged(), &key.claim(0)));
        ids.push(merged(&key.claim(0), &key.staged()));
        for id in &ids {
            let parsed = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(parsed.get_version_num(), 8, "{id}");
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn a_refusal_holds_for_six_hours_and_one_client() {
        let key = key_of("arn", &tokens());
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let window = 6 * 3600;
        let start = 81_816 * window;
        let id = key.refusal(client("s"), at(start));
        for (seconds, same) in [(start - 1, false), (start, true), (start + window - 1, true), (start + window, false)]
        {
            assert_eq!(key.refusal(client("s"), at(seconds)) == id, same, "{seconds}");
        }
        assert_ne!(key.refusal(client("other"), at(start)), id);
    }

    #[test]
    fn a_merged_version_is_known_by_both_it_is_made_of() {
        let [a, b, c] = ["a", "b", "c"].map(VersionId::from);
        assert_eq!(merged(&a, &b), merged(&a, &b));
        // Two answers merged with the same edit are two versions.
        assert_ne!(merged(&a, &b), merged(&a, &c));
        assert_ne!(merged(&a, &b), merged(&c, &b));
        assert_ne!(merged(&a, &b), merged(&b, &a));
    }
}
