//! The records that runs share through the store: claims and refusals (the newest has the label `OAUTH_CLAIM`) and kept responses
//! (`OAUTH_KEPT`). No IO.
//!
//! Their JSON is a format (`docs/compatibility.md`): `tests/vectors` pins it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::TokenKey;
use crate::{oauth::response::ErrorResponse, secret::Secret, token_secret::document::json_string};

/// A name for one run, different from every other's.
#[must_use]
pub fn holder() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}

/// A claim: only its holder may exchange the token until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which claim on the token it is, counted from 0.
    pub attempt: u32,
    /// When the lease ends, by the holder's clock.
    pub lease_ends_at: DateTime<Utc>,
    /// The client settings the holder used (a [`ClientDigest`](super::ids::ClientDigest) as text).
    pub client_settings: Option<String>,
}

/// How the run of a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimEnd {
    /// Not known: the run may still be running, or it crashed.
    Unknown,
    /// Without new tokens: nothing was sent, or the response was complete. The label `OAUTH_ENDED` is on the claim.
    WithoutTokens,
    /// With a refusal on record.
    Refused,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A claim.
    Claim(Claim),
    /// A refusal that followed the claim of this attempt.
    Refusal {
        /// The claim's number.
        attempt: u32,
        /// The error response.
        refusal: ErrorResponse,
    },
    /// A response that followed the claim of this attempt, and that could not be understood.
    Kept {
        /// The claim's number.
        attempt: u32,
        /// What the provider did: the continuation of a sentence that begins with its endpoint. The response itself is written
        /// beside it and never read back.
        detail: String,
    },
}

/// The result of reading a version as a record of some tokens.
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
    refusal: Option<ErrorResponse>,
    /// What the provider did, of a kept response.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    response_detail: Option<String>,
}

/// The members that show whose record it is. Only these are copied: the rest may contain tokens.
#[derive(Deserialize)]
struct RecordHead {
    #[serde(default)]
    token: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    v: Option<Value>,
}

/// A member that is there, also if it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

const ABOUT: &str = "token-refresher's own record, no token: see its README";
const ABOUT_KEPT: &str = "a provider's response that token-refresher could not understand: `response` may contain tokens; see its docs/errors.md";

impl Record {
    /// The record's text. `holder` is unique to the run: two runs that put the same claim must not look alike.
    #[must_use]
    pub fn to_text(&self, key: &TokenKey, holder: &str) -> Secret {
        self.to_text_with(key, holder, None)
    }

    /// The same, with the text of a kept response as the member `response`.
    #[must_use]
    pub fn to_text_with(&self, key: &TokenKey, holder: &str, response: Option<&Secret>) -> Secret {
        let (attempt, claim, refusal, response_detail) = match self {
            Self::Claim(claim) => (claim.attempt, Some(claim), None, None),
            Self::Refusal { attempt, refusal } => (*attempt, None, Some(refusal.clone()), None),
            Self::Kept { attempt, detail } => (*attempt, None, None, Some(detail.clone())),
        };
        let about = if response_detail.is_some() { ABOUT_KEPT } else { ABOUT };
        let text = RecordText {
            v: FORMAT_VERSION,
            about: about.to_owned(),
            token: key.to_string(),
            attempt,
            holder: Some(holder.to_owned()),
            lease_ends_at: claim.map(|claim| claim.lease_ends_at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            client_settings: claim.and_then(|claim| claim.client_settings.clone()),
            refusal,
            response_detail,
        };
        let text = serde_json::json!(text).to_string();
        let Some((response, start)) = response.zip(text.strip_suffix('}')) else { return Secret::from(text) };
        // Allocated once with enough room: a string that grows leaves unwiped copies in memory.
        let response = Secret::from(json_string(response.expose()));
        let mut whole = String::with_capacity(text.len() + response.expose().len() + 16);
        whole.extend([start, ",\"response\":", response.expose(), "}"]);
        Secret::from(whole)
    }

    /// Reads a record of these tokens.
    #[must_use]
    pub fn read(text: &Secret, key: &TokenKey) -> RecordRead {
        let Ok(head) = serde_json::from_str::<RecordHead>(text.expose()) else { return RecordRead::Other };
        if head.token.as_ref().and_then(Value::as_str).is_some_and(|token| token != key.to_string()) {
            return RecordRead::Other;
        }
        match head.v {
            None => {}
            Some(v) if v == FORMAT_VERSION => {}
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
        if let Some(detail) = text.response_detail {
            return Some(Self::Kept { attempt: text.attempt, detail });
        }
        let lease_ends_at = DateTime::parse_from_rfc3339(&text.lease_ends_at?).ok()?.to_utc();
        Some(Self::Claim(Claim { attempt: text.attempt, lease_ends_at, client_settings: text.client_settings }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth::grant::Grant,
        token_secret::{Tokens, client_settings::ClientSettings},
    };

    fn key_of(arn: &str) -> TokenKey {
        let tokens = Tokens {
            grant: Grant::RefreshToken("refresh".into()),
            access_token: Some("access".into()),
            refreshed_at: DateTime::from_timestamp_millis(1_767_225_600_000),
        };
        TokenKey::of(arn, &tokens, &ClientSettings::default())
    }

    #[test]
    fn a_record_is_read_with_the_same_tokens_only() {
        let key = key_of("arn");
        let other = key_of("other");
        let claim = Record::Claim(Claim {
            attempt: 3,
            lease_ends_at: DateTime::from_timestamp_millis(1_767_225_600_123).unwrap(),
            client_settings: Some("0a1b2c3d".to_owned()),
        });
        let refusal = Record::Refusal {
            attempt: 1,
            refusal: ErrorResponse {
                kind: crate::oauth::response::RefusalKind::ReauthorizationRequired,
                status: 400,
                error: Some("invalid_grant".to_owned()),
                description: None,
                location: None,
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
    fn a_claim_contains_no_token() {
        let key = key_of("arn");
        let claim =
            Claim { attempt: 0, lease_ends_at: DateTime::UNIX_EPOCH, client_settings: Some("0a1b2c3d".to_owned()) };
        let text = Record::Claim(claim).to_text(&key, &holder());
        for secret in ["\"refresh\"", "\"access\""] {
            assert!(!text.expose().contains(secret), "{secret}");
        }
    }
}
