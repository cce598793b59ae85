//! The settings for signed JWTs from one place: the key, its id, the algorithm, the claims. Reads no key and signs nothing.

use super::{
    SecretProblem,
    document::{Document, is_nothing},
    layout::Layout,
    member::{Member, Style},
};
use crate::secret::Secret;

/// The grant type of an assertion (RFC 7523 section 2.1).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How a JWT is signed (`alg`, RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlgorithm {
    /// The allowed names, for messages.
    pub const ALLOWED: &str = "one of \"RS256\", \"PS256\", \"ES256\", \"EdDSA\"";

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    /// Reads the registered name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Whom a JWT is about (`sub`, RFC 7519 section 4.1.2) if nothing says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Subject {
    /// The client.
    #[default]
    Client,
    /// It has no `sub`: for Google, that is a user on whose behalf a service account acts.
    None,
}

/// The key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetting {
    /// A private key in PEM, not yet checked.
    Private(Secret),
    /// A key in AWS KMS: its id, its ARN or its alias.
    Kms(String),
}

impl KeySetting {
    /// The text that names or is the key.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Private(pem) => pem.expose(),
            Self::Kms(id) => id,
        }
    }
}

/// The settings for signed JWTs from one place.
#[derive(Clone, Debug, Default)]
pub struct JwtSettings {
    /// The key.
    pub key: Option<KeySetting>,
    /// `kid` of the JWT's header (RFC 7515 section 4.1.4).
    pub key_id: Option<String>,
    /// The algorithm.
    pub algorithm: Option<SigningAlgorithm>,
    /// JWT claims to add or to replace; one with the value null is left out.
    pub assertion_claims: Document,
    /// Whom a JWT is about, unless `assertion_claims` says it.
    pub subject: Subject,
    /// What is wrong with these settings. It matters only if something is to be signed: documents of other programs may have members
    /// of the same names.
    pub problem: Option<SecretProblem>,
}

impl JwtSettings {
    pub(super) fn read(layout: &Layout) -> Self {
        Self::try_read(layout).unwrap_or_else(|problem| Self { problem: Some(problem), ..Self::default() })
    }

    fn try_read(layout: &Layout) -> Result<Self, SecretProblem> {
        let private_key = Member::PrivateKey.text(layout)?;
        let kms_key = Member::SigningKmsKeyId.kms_key(layout)?;
        let key = match (private_key, kms_key) {
            (Some(_), Some(_)) => {
                let [first, second] =
                    [Member::PrivateKey, Member::SigningKmsKeyId].map(|member| layout.place_of(member));
                return Err(SecretProblem::Duplicate(first.to_string(), second.to_string()));
            }
            (private_key, kms_key) => private_key.map(KeySetting::Private).or(kms_key.map(KeySetting::Kms)),
        };
        let mut settings = Self {
            key,
            key_id: Member::KeyId.credential(layout)?.map(|id| id.expose().to_owned()),
            algorithm: Member::SigningAlgorithm.parsed_string(
                layout,
                SigningAlgorithm::ALLOWED,
                SigningAlgorithm::read,
            )?,
            assertion_claims: Member::AssertionClaims.object(layout)?.unwrap_or_default(),
            subject: Subject::default(),
            problem: None,
        };
        if let Some(account) = GoogleServiceAccount::of(layout) {
            settings.key_id = settings.key_id.or(account.private_key_id);
            settings.subject = Subject::None;
        }
        Ok(settings)
    }

    /// These settings, and those of `fallback` for the missing ones. A key brings its id and its algorithm along.
    #[must_use]
    pub fn or(mut self, fallback: Self) -> Self {
        self.problem = self.problem.or(fallback.problem);
        for (name, value) in fallback.assertion_claims.members() {
            if self.assertion_claims.get(name).is_none() {
                self.assertion_claims.set(name, value.to_owned());
            }
        }
        if self.key.is_none() {
            self.key = fallback.key;
            self.subject = fallback.subject;
            self.key_id = self.key_id.or(fallback.key_id);
            self.algorithm = self.algorithm.or(fallback.algorithm);
        }
        self
    }

    /// The name of the member with the key, if there is a key.
    pub(super) fn name_of_key(&self) -> Option<&'static str> {
        Some(match self.key.as_ref()? {
            KeySetting::Private(_) => Member::PrivateKey.name(Style::CamelCase),
            KeySetting::Kms(_) => Member::SigningKmsKeyId.name(Style::CamelCase),
        })
    }
}

/// The key file of a service account of Google, as it is downloaded, beside its `private_key`, which is a member of ours.
/// <https://cloud.google.com/iam/docs/keys-create-delete> shows one.
pub(super) struct GoogleServiceAccount {
    pub client_email: Secret,
    pub token_uri: Option<Secret>,
    private_key_id: Option<String>,
}

impl GoogleServiceAccount {
    pub(super) fn of(layout: &Layout) -> Option<Self> {
        let document = &layout.document;
        let has_refresh_token = layout.get(Member::RefreshToken).is_some_and(|token| !is_nothing(&token));
        let text = |name| serde_json::from_str::<String>(document.get(name)?).ok().filter(|text| !text.is_empty());
        if text("type")? != "service_account" || has_refresh_token {
            return None;
        }
        Some(Self {
            client_email: text("client_email")?.into(),
            token_uri: text("token_uri").map(Secret::from),
            private_key_id: text("private_key_id"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> JwtSettings {
        JwtSettings::read(&Layout::of_client(Document::parse(json).unwrap()))
    }

    fn claims(settings: &JwtSettings) -> String {
        settings.assertion_claims.to_text().expose().to_owned()
    }

    #[test]
    fn a_key_brings_its_id_and_its_algorithm_along() {
        let of_client = r#"{"privateKey": "client's", "keyId": "k1", "signingAlgorithm": "PS256"}"#;
        for (own, key, key_id, algorithm) in [
            ("{}", KeySetting::Private("client's".into()), Some("k1"), Some(SigningAlgorithm::Ps256)),
            (r#"{"keyId": "k2"}"#, KeySetting::Private("client's".into()), Some("k2"), Some(SigningAlgorithm::Ps256)),
            (r#"{"private_key": "own"}"#, KeySetting::Private("own".into()), None, None),
            (
                r#"{"signingKmsKeyId": "alias/own", "signing_algorithm": "ES256"}"#,
                KeySetting::Kms("alias/own".to_owned()),
                None,
                Some(SigningAlgorithm::Es256),
            ),
        ] {
            let settings = settings(own).or(settings(of_client));
            assert_eq!((settings.key, settings.key_id.as_deref()), (Some(key), key_id), "{own}");
            assert_eq!(settings.algorithm, algorithm, "{own}");
        }
    }

    #[test]
    fn claims_are_merged_one_by_one() {
        let own = settings(r#"{"assertionClaims": {"sub": null, "aud": "own"}}"#);
        let other = settings(r#"{"assertion_claims": "{\"aud\": \"other\", \"scope\": \"a b\"}"}"#);
        assert_eq!(claims(&own.or(other)), r#"{"sub":null,"aud":"own","scope":"a b"}"#);
    }

    #[test]
    fn what_is_wrong_is_kept_until_something_is_signed() {
        for (json, problem) in [
            (r#"{"privateKey": 5}"#, "its member `privateKey` is a number, where a string is wanted"),
            (
                r#"{"private_key": "a", "signingKmsKeyId": "b"}"#,
                "it has both `private_key` and `signingKmsKeyId`; take one out",
            ),
            (
                r#"{"signingAlgorithm": "none"}"#,
                "its member `signingAlgorithm` is a string, where one of \"RS256\", \"PS256\", \"ES256\", \"EdDSA\" is wanted",
            ),
            (r#"{"assertionClaims": ["a"]}"#, "its member `assertionClaims` is an array, where an object is wanted"),
        ] {
            let found = settings(json).or(JwtSettings::default()).problem;
            assert_eq!(found.map(|problem| problem.to_string()).as_deref(), Some(problem), "{json}");
        }
    }

    #[test]
    fn a_key_file_of_google_has_its_own_key_id_and_no_subject() {
        let file = r#"{"type": "service_account", "client_email": "a@b", "private_key": "key", "private_key_id": "1f", "client_id": "117"}"#;
        let found = settings(file);
        assert_eq!((found.key_id.as_deref(), found.subject), (Some("1f"), Subject::None));
        let own = JwtSettings { key_id: Some("2f".to_owned()), ..JwtSettings::default() };
        let merged = own.or(found);
        assert_eq!((merged.key_id.as_deref(), merged.subject), (Some("2f"), Subject::None));
        for other in ["authorized_user", ""] {
            assert_eq!(settings(&file.replace("service_account", other)).key_id, None, "{other}");
        }
    }
}
