//! The ledger that runs share through the store: which version ids belong to one state of a token, and what the
//! records under them say. Every id is derived from the tokens, so that all who hold the same one-time token meet at the
//! same ids, whichever version they read it from. No IO.
//!
//! | id | put under | holds |
//! |---|---|---|
//! | `claim(n)` | `OAUTH_CLAIM` | who may exchange this token, and until when |
//! | `successor` | `OAUTH_STAGED` | the tokens it was exchanged for |
//! | `refusal` | `OAUTH_CLAIM` | the provider's refusal, for six hours |
//! | `published` | `OAUTH_STAGED`, in the secret that `publishTo` names | what readers need of the tokens |

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    oauth::{request::Client, response::Refusal},
    secret::Secret,
    store::VersionId,
    token_secret::{Tokens, client_settings::TokenEndpointAuthMethod},
};

/// How long a recorded refusal holds: a provider's incident must not need a person.
const REFUSAL_WINDOW_SECONDS: i64 = 6 * 3600;

/// One state of a token, as a number: SHA-256 over (secret ARN, refresh token, access token, `refreshedAt`).
///
/// Not over the version id: a person who edits another member, or pastes an old copy back, makes a new version that
/// holds the same one-time token. Not over the expiry: people set it to 0 to have a token refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// The key of these tokens in this secret.
    #[must_use]
    pub fn of(arn: &str, tokens: &Tokens) -> Self {
        let refreshed_at = tokens.refreshed_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Nanos, true));
        Self(digest(&[
            Some(arn),
            Some(tokens.refresh_token.expose()),
            tokens.access_token.as_ref().map(Secret::expose),
            refreshed_at.as_deref(),
        ]))
    }

    /// The id of the n-th claim on these tokens, counted from 0.
    #[must_use]
    pub fn claim(&self, attempt: u32) -> VersionId {
        self.id(&["claim", &attempt.to_string()])
    }

    /// The id of the version that holds what these tokens were exchanged for.
    #[must_use]
    pub fn successor(&self) -> VersionId {
        self.id(&["successor"])
    }

    /// An id for tokens obtained though `successor` turned out to hold others: nothing issued is dropped.
    #[must_use]
    pub fn other_successor(&self, body: &Secret) -> VersionId {
        self.id(&["other successor", body.expose()])
    }

    /// The id, in another secret, of the version that tells readers of these tokens.
    #[must_use]
    pub fn published(&self, publication: &Secret) -> VersionId {
        self.id(&["published", publication.expose()])
    }

    /// The id of the refusal of these tokens to this client in the six hours (UTC) around `now`.
    #[must_use]
    pub fn refusal(&self, client: ClientDigest, now: DateTime<Utc>) -> VersionId {
        let window = now.timestamp().div_euclid(REFUSAL_WINDOW_SECONDS);
        self.id(&["refusal", &client.to_string(), &window.to_string()])
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

/// The id of a version that holds the members of one version and the tokens of another.
#[must_use]
pub fn merged(members_of: &VersionId, tokens_of: &VersionId) -> VersionId {
    uuid(&digest(&[Some("merged"), Some(members_of.as_str()), Some(tokens_of.as_str())]))
}

/// Tells one set of client settings from another.
///
/// Four bytes: enough to see that a person changed something, too few to test guesses of the client's secret with, for
/// readers of the token who may not see that secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientDigest([u8; 4]);

impl ClientDigest {
    /// The digest of a client's settings.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        // Part of a stored format: never change one of these texts.
        let method = match client.auth_method {
            TokenEndpointAuthMethod::ClientSecretPost => "ClientSecretPost",
            TokenEndpointAuthMethod::ClientSecretBasic => "ClientSecretBasic",
            TokenEndpointAuthMethod::None => "None",
        };
        let mut parts = vec![
            Some(client.token_endpoint.as_str()),
            Some(client.client_id.expose()),
            client.client_secret.as_ref().map(Secret::expose),
            Some(method),
        ];
        for extras in [&client.extra_parameters, &client.extra_headers] {
            parts.push(None);
            parts.extend(extras.iter().flat_map(|(name, value)| [Some(name.as_str()), Some(value.expose())]));
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

/// SHA-256 over a list of texts and gaps, each with its length before it, so that no two lists look alike.
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

/// A UUID of the custom kind (version 8, RFC 9562) of the hash's first half: `ClientRequestToken` wants one.
fn uuid(hash: &[u8; 32]) -> VersionId {
    let [half, _] = [0, 16].map(|from| std::array::from_fn(|i| hash[from + i]));
    uuid::Builder::from_custom_bytes(half).into_uuid().to_string().into()
}

/// A name for one run, unlike any other's.
#[must_use]
pub fn holder() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}

/// A claim: its holder alone may exchange the token until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which claim on the token it is, counted from 0.
    pub attempt: u32,
    /// When the lease ends, by the holder's clock.
    pub lease_ends_at: DateTime<Utc>,
    /// The client settings the holder used ([`ClientDigest`] as text).
    pub client_settings: Option<String>,
}

/// What stands in a version under `OAUTH_CLAIM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A claim.
    Claim(Claim),
    /// A refusal that followed the claim of this attempt.
    Refusal {
        /// The claim's number.
        attempt: u32,
        /// What the provider answered.
        refusal: Refusal,
    },
}

/// What a version turned out to be that was read as a record of some tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordRead {
    /// A record of these tokens.
    Record(Record),
    /// A record that a later version of this program wrote: respected as a claim of unknown content.
    OfLaterVersion,
    /// A record of other tokens, or no record.
    Other,
}

/// The version of the record format that is written. A record without one is of version 1.
const FORMAT_VERSION: u32 = 1;

/// The JSON of a record. A person who sees one in the console should see what it is.
///
/// Members may be added without a new version: those that are not known are ignored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordText {
    #[serde(skip_deserializing)]
    v: u32,
    #[serde(default)]
    about: String,
    /// The [`TokenKey`].
    token: String,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lease_ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    client_settings: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    refusal: Option<Refusal>,
}

const ABOUT: &str = "token-refresher's own record, no token: see its README";

impl Record {
    /// The record's text. `holder` is unique to the run: two runs that put the same claim must not look alike.
    #[must_use]
    pub fn to_text(&self, key: &TokenKey, holder: &str) -> Secret {
        let (attempt, claim, refusal) = match self {
            Self::Claim(claim) => (claim.attempt, Some(claim), None),
            Self::Refusal { attempt, refusal } => (*attempt, None, Some(refusal.clone())),
        };
        let text = RecordText {
            v: FORMAT_VERSION,
            about: ABOUT.to_owned(),
            token: key.to_string(),
            attempt,
            holder: Some(holder.to_owned()),
            lease_ends_at: claim.map(|claim| claim.lease_ends_at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            client_settings: claim.and_then(|claim| claim.client_settings.clone()),
            refusal,
        };
        Secret::from(serde_json::json!(text).to_string())
    }

    /// Reads a record of these tokens.
    #[must_use]
    pub fn read(text: &Secret, key: &TokenKey) -> RecordRead {
        let Ok(members) = serde_json::from_str::<Map<String, Value>>(text.expose()) else { return RecordRead::Other };
        if members.get("token").and_then(Value::as_str).is_some_and(|token| token != key.to_string()) {
            return RecordRead::Other;
        }
        match members.get("v") {
            None => {}
            Some(v) if *v == FORMAT_VERSION => {}
            Some(_) => return RecordRead::OfLaterVersion,
        }
        Self::read_version_1(text, key).map_or(RecordRead::Other, RecordRead::Record)
    }

    fn read_version_1(text: &Secret, key: &TokenKey) -> Option<Self> {
        let text: RecordText = serde_json::from_str(text.expose()).ok()?;
        if text.token != key.to_string() {
            return None;
        }
        if let Some(refusal) = text.refusal {
            return Some(Self::Refusal { attempt: text.attempt, refusal });
        }
        let lease_ends_at = DateTime::parse_from_rfc3339(&text.lease_ends_at?).ok()?.to_utc();
        Some(Self::Claim(Claim { attempt: text.attempt, lease_ends_at, client_settings: text.client_settings }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::token_secret::client_settings::ClientSettings;

    fn tokens() -> Tokens {
        Tokens {
            refresh_token: "refresh".into(),
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
        ClientDigest::of(&Client::new(settings).unwrap())
    }

    #[test]
    fn tokens_that_differ_in_anything_have_other_keys() {
        let keys = [
            TokenKey::of("arn", &tokens()),
            TokenKey::of("arn2", &tokens()),
            TokenKey::of("arn", &Tokens { refresh_token: "other".into(), ..tokens() }),
            TokenKey::of("arn", &Tokens { access_token: Some("other".into()), ..tokens() }),
            TokenKey::of("arn", &Tokens { access_token: None, ..tokens() }),
            TokenKey::of("arn", &Tokens { access_token: Some("".into()), ..tokens() }),
            TokenKey::of("arn", &Tokens { refreshed_at: None, ..tokens() }),
            TokenKey::of(
                "arn",
                &Tokens { refreshed_at: DateTime::from_timestamp_millis(1_767_225_600_001), ..tokens() },
            ),
            // The same letters, shared out otherwise.
            TokenKey::of("arnr", &Tokens { refresh_token: "efresh".into(), ..tokens() }),
            TokenKey::of(
                "arn",
                &Tokens { refresh_token: "refresha".into(), access_token: Some("ccess".into()), ..tokens() },
            ),
        ];
        let different: HashSet<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(TokenKey::of("arn", &tokens()), keys[0], "the same tokens have the same key");
    }

    #[test]
    fn ids_are_uuids_and_no_two_meanings_share_one() {
        let key = TokenKey::of("arn", &tokens());
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let mut ids: Vec<VersionId> = (0..1000).map(|attempt| key.claim(attempt)).collect();
        ids.push(key.successor());
        ids.push(key.other_successor(&"body".into()));
        ids.push(key.refusal(client("s"), now));
        ids.push(merged(&key.successor(), &key.claim(0)));
        ids.push(merged(&key.claim(0), &key.successor()));
        for id in &ids {
            let parsed = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(parsed.get_version_num(), 8, "{id}");
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn a_refusal_holds_for_six_hours_and_one_client() {
        let key = TokenKey::of("arn", &tokens());
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
    fn records_are_read_back_by_those_who_hold_the_same_tokens_only() {
        let key = TokenKey::of("arn", &tokens());
        let other = TokenKey::of("other", &tokens());
        let claim = Record::Claim(Claim {
            attempt: 3,
            lease_ends_at: DateTime::from_timestamp_millis(1_767_225_600_123).unwrap(),
            client_settings: Some(client("s").to_string()),
        });
        let refusal = Record::Refusal {
            attempt: 1,
            refusal: Refusal {
                kind: crate::oauth::response::RefusalKind::ReauthorizationRequired,
                status: 400,
                error: Some("invalid_grant".to_owned()),
                description: None,
            },
        };
        for record in [claim, refusal] {
            let text = record.to_text(&key, &holder());
            assert_eq!(Record::read(&text, &key), RecordRead::Record(record.clone()));
            assert_eq!(Record::read(&text, &other), RecordRead::Other);
            assert_ne!(record.to_text(&key, &holder()), text, "two runs' records never look alike");
        }
        for garbage in ["", "{}", "[]", r#"{"refreshToken":"r"}"#] {
            assert_eq!(Record::read(&garbage.into(), &key), RecordRead::Other, "{garbage}");
        }
    }

    #[test]
    fn records_hold_no_token_and_no_client_secret() {
        let key = TokenKey::of("arn", &tokens());
        let claim = Claim {
            attempt: 0,
            lease_ends_at: DateTime::UNIX_EPOCH,
            client_settings: Some(client("hunter2").to_string()),
        };
        let text = Record::Claim(claim).to_text(&key, &holder());
        for secret in ["hunter2", "\"refresh\"", "\"access\""] {
            assert!(!text.expose().contains(secret), "{secret}");
        }
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
